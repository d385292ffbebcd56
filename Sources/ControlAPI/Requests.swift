/// What is fetched ahead of reads once a mount is there.
package enum PrefetchMode: String, Codable, Sendable, CaseIterable {
    /// Nothing.
    case none
    /// Small files: what engines look at before they read weights or kernels.
    case auto
    /// Everything.
    case all
}

/// Whose request it is: where relative folders start and where credentials are looked up. The daemon keeps the
/// variables in memory only, as long as the mount or the job lives.
package struct Caller: Codable, Sendable {
    /// Absolute.
    package var workingDirectory: String
    package var environment: [String: String]

    package init(workingDirectory: String, environment: [String: String]) {
        self.workingDirectory = workingDirectory
        self.environment = environment
    }
}

/// `POST /v1/mounts`.
package struct MountRequest: Codable, Sendable {
    /// As the user typed them: `[SUBDIR=]REFERENCE`.
    package var references: [String]
    /// Absolute.
    package var mountpoint: String
    package var prefetch: PrefetchMode
    /// The answer comes once what is to be fetched ahead is local; where that fails, nothing stays mounted. nil: false.
    package var wait: Bool?
    package var offline: Bool
    package var allowOther: Bool
    /// Nothing can be written. With an `upper` that shows over the tree, without one nothing does.
    package var readOnly: Bool
    /// Absolute; nil: the directory that the mountpoint already is.
    package var upper: String?
    /// What the table of mounts shows as the device; nil: `mcfs`.
    package var fsname: String?
    /// Of the kernel's, such as `noexec`.
    package var kernelOptions: [String]
    /// nil: as the host is, with the paths of the mount.
    package var view: ViewRequest?
    package var caller: Caller

    package init(
        references: [String], mountpoint: String, prefetch: PrefetchMode = .none, offline: Bool = false,
        allowOther: Bool = false, readOnly: Bool = false, upper: String? = nil, fsname: String? = nil,
        kernelOptions: [String] = [], view: ViewRequest? = nil, caller: Caller
    ) {
        self.references = references
        self.mountpoint = mountpoint
        self.prefetch = prefetch
        self.offline = offline
        self.allowOther = allowOther
        self.readOnly = readOnly
        self.upper = upper
        self.fsname = fsname
        self.kernelOptions = kernelOptions
        self.view = view
        self.caller = caller
    }
}

/// `POST /v1/mounts/restore`: what was mounted when the last daemon ended.
package struct RestoreRequest: Codable, Sendable {
    /// Whose credentials are used where the mounts' own are not known any more.
    package var caller: Caller

    package init(caller: Caller) { self.caller = caller }
}

/// `POST /v1/mounts/remount`.
package struct RemountRequest: Codable, Sendable {
    package var mountpoint: String
    package var readOnly: Bool
    /// Of the kernel's, such as `noexec`.
    package var kernelOptions: [String]

    package init(mountpoint: String, readOnly: Bool, kernelOptions: [String]) {
        self.mountpoint = mountpoint
        self.readOnly = readOnly
        self.kernelOptions = kernelOptions
    }
}

/// `DELETE /v1/mounts`.
package struct UnmountRequest: Codable, Sendable {
    package var mountpoint: String
    package var lazy: Bool
    package var force: Bool

    package init(mountpoint: String, lazy: Bool = false, force: Bool = false) {
        self.mountpoint = mountpoint
        self.lazy = lazy
        self.force = force
    }
}

/// A reference, or a path below a mountpoint, and which of its files are meant. Body of `/v1/ls`, `/v1/prefetch`,
/// `/v1/pins`, `/v1/evict`.
package struct SelectionRequest: Codable, Sendable {
    /// A reference as typed, or an absolute path.
    package var target: String
    /// Globs on paths below the target; empty: everything.
    package var include: [String]
    package var exclude: [String]
    package var caller: Caller
    /// `/v1/ls`: everything below, not only the children.
    package var recursive: Bool
    /// `/v1/prefetch`: answer at once, work on.
    package var background: Bool
    /// `/v1/prefetch`: seconds without a byte after which it is given up; nil: 300.
    package var stallSeconds: Double?
    /// `/v1/prefetch`: leave kernels away that none of these runs, as in `ViewRequest`; nil: of a mount what does not show.
    package var gpu: [String]?

    package init(
        target: String, include: [String] = [], exclude: [String] = [], caller: Caller, recursive: Bool = false,
        background: Bool = false, stallSeconds: Double? = nil, gpu: [String]? = nil
    ) {
        self.stallSeconds = stallSeconds
        self.target = target
        self.include = include
        self.exclude = exclude
        self.caller = caller
        self.recursive = recursive
        self.background = background
        self.gpu = gpu
    }
}

/// `POST /v1/gc`.
package struct CollectRequest: Codable, Sendable {
    /// Bytes to go down to; nil: the cache's own bound.
    package var bytesMax: UInt64?

    package init(bytesMax: UInt64?) { self.bytesMax = bytesMax }
}

/// `POST /v1/verify`.
package struct VerifyRequest: Codable, Sendable {
    package var repair: Bool
    package var caller: Caller

    package init(repair: Bool, caller: Caller) {
        self.repair = repair
        self.caller = caller
    }
}

/// `POST /v1/jobs/wait`, `DELETE /v1/jobs`.
package struct JobRequest: Codable, Sendable {
    package var id: Int

    package init(id: Int) { self.id = id }
}

/// `POST /v1/upper/list`.
package struct UpperRequest: Codable, Sendable {
    package var mountpoint: String

    package init(mountpoint: String) { self.mountpoint = mountpoint }
}

/// `POST /v1/upper/reset`.
package struct UpperResetRequest: Codable, Sendable {
    package var mountpoint: String
    /// From the mountpoint; empty: all of it.
    package var path: String
    /// What was written goes, too.
    package var all: Bool
    /// Only tells what of the upper would go with `all`.
    package var dryRun: Bool

    package init(mountpoint: String, path: String, all: Bool, dryRun: Bool) {
        self.mountpoint = mountpoint
        self.path = path
        self.all = all
        self.dryRun = dryRun
    }
}
