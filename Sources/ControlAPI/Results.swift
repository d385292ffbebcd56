internal import MCFSCore

/// One entry of `mcfs ls --json`.
package struct ListedEntry: Codable, Sendable {
    package var path: String
    /// `directory`, `file`, `symlink`, `fifo`, `characterDevice`, `blockDevice`.
    package var type: String
    /// Bytes of a file, length of a link's target, 0 else.
    package var size: UInt64
    package var bytesLocal: UInt64
    /// Whether this host's GPUs can run it; null while nothing looks at kernels.
    package var verdict: String?
    /// Permission bits in octal.
    package var mode: String
    /// Seconds since 1970.
    package var modified: Int64
    /// Of a symbolic link.
    package var target: String?

    package init(
        path: String, type: String, size: UInt64, bytesLocal: UInt64, mode: String, modified: Int64, target: String?
    ) {
        self.path = path
        self.type = type
        self.size = size
        self.bytesLocal = bytesLocal
        self.mode = mode
        self.modified = modified
        self.target = target
    }

    /// Written out because `verdict` stands there as null.
    package func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encode(path, forKey: .path)
        try container.encode(type, forKey: .type)
        try container.encode(size, forKey: .size)
        try container.encode(bytesLocal, forKey: .bytesLocal)
        try container.encode(verdict, forKey: .verdict)
        try container.encode(mode, forKey: .mode)
        try container.encode(modified, forKey: .modified)
        try container.encodeIfPresent(target, forKey: .target)
    }
}

/// `mcfs ls --json`.
package struct Listing: Codable, Sendable {
    package var entries: [ListedEntry]
    package init(entries: [ListedEntry]) { self.entries = entries }
}

/// Last line of `mcfs prefetch --json`. `done` is false where the work goes on in the background.
package struct PrefetchResult: Codable, Sendable {
    package var done: Bool
    package var bytes: UInt64
    package var files: Int
    /// The job that goes on in the background.
    package var job: Int?
    package var seconds: Double

    package init(done: Bool, bytes: UInt64, files: Int, seconds: Double, job: Int? = nil) {
        self.job = job
        self.done = done
        self.bytes = bytes
        self.files = files
        self.seconds = seconds
    }
}

/// `mcfs pin --json` and `mcfs unpin --json`.
package struct PinResult: Codable, Sendable {
    package var references: [String]
    package var bytesPinned: UInt64

    package init(references: [String], bytesPinned: UInt64) {
        self.references = references
        self.bytesPinned = bytesPinned
    }
}

/// `GET /v1/pins`.
package struct PinList: Codable, Sendable {
    package struct Pin: Codable, Sendable {
        package var reference: String
        package var resolved: String
        package var include: [String]
        package var exclude: [String]

        package init(reference: String, resolved: String, include: [String], exclude: [String]) {
            self.reference = reference
            self.resolved = resolved
            self.include = include
            self.exclude = exclude
        }
    }
    package var pins: [Pin]
    package init(pins: [Pin]) { self.pins = pins }
}

/// `mcfs evict --json` and `mcfs gc --json`.
package struct EvictResult: Codable, Sendable {
    package var bytesFreed: UInt64
    package var bytesUsed: UInt64
    /// Bytes that were asked for and stay because they are pinned.
    package var bytesKept: UInt64

    package init(bytesFreed: UInt64, bytesUsed: UInt64, bytesKept: UInt64) {
        self.bytesFreed = bytesFreed
        self.bytesUsed = bytesUsed
        self.bytesKept = bytesKept
    }
}

/// `mcfs verify --json`.
package struct VerifyResult: Codable, Sendable {
    package struct Finding: Codable, Sendable {
        package var blob: String
        package var message: String
        package var repaired: Bool

        package init(blob: String, message: String, repaired: Bool) {
            self.blob = blob
            self.message = message
            self.repaired = repaired
        }
    }
    /// Files whose origin gives no digest.
    package struct Place: Codable, Sendable {
        /// Where they come from, as `status` names it; nil: nothing that is mounted, pinned or known has them.
        package var reference: String?
        package var files: Int
        /// That are local.
        package var bytes: UInt64

        package init(reference: String?, files: Int, bytes: UInt64) {
            self.reference = reference
            self.files = files
            self.bytes = bytes
        }

        /// Written out because `reference` stands there as null.
        package func encode(to encoder: any Encoder) throws {
            var container = encoder.container(keyedBy: CodingKeys.self)
            try container.encode(reference, forKey: .reference)
            try container.encode(files, forKey: .files)
            try container.encode(bytes, forKey: .bytes)
        }
    }
    /// Complete contents that were compared with their digest.
    package var filesChecked: Int
    package var bytesChecked: UInt64
    /// Contents with a digest that are local in part: they are checked when they are complete.
    package var filesIncomplete: Int
    package var bytesIncomplete: UInt64
    /// Contents whose origin gives no digest, and where they come from.
    package var filesUnverifiable: Int
    package var bytesUnverifiable: UInt64
    package var unverifiable: [Place]
    package var findings: [Finding]

    package init(
        filesChecked: Int, bytesChecked: UInt64, incomplete: (files: Int, bytes: UInt64), unverifiable: [Place],
        findings: [Finding]
    ) {
        self.filesChecked = filesChecked
        self.bytesChecked = bytesChecked
        filesIncomplete = incomplete.files
        bytesIncomplete = incomplete.bytes
        filesUnverifiable = unverifiable.reduce(0) { $0 + $1.files }
        bytesUnverifiable = unverifiable.clampedSum(\.bytes)
        self.unverifiable = unverifiable
        self.findings = findings
    }
}

/// `GET /v1/jobs`, `mcfs jobs --json`.
package struct JobDocument: Codable, Sendable {
    package var jobs: [JobStatus]
    package init(jobs: [JobStatus]) { self.jobs = jobs }
}

/// `GET /v1/mounts`.
package struct MountList: Codable, Sendable {
    package var mounts: [MountStatus]
    package init(mounts: [MountStatus]) { self.mounts = mounts }
}

/// The answer of what has nothing to say.
package struct Empty: Codable, Sendable {
    package init() {}
}

/// `mcfs upper reset --json`.
package struct UpperReset: Codable, Sendable {
    package var mountpoint: String
    package var path: String
    /// Names that had been removed, moved or replaced, and files that had looked different: forgotten.
    package var reset: Int
    /// Of the upper: gone; what would go, of a dry run.
    package var files: Int
    package var folders: Int
    package var bytes: UInt64

    package init(mountpoint: String, path: String, reset: Int, files: Int, folders: Int, bytes: UInt64) {
        self.mountpoint = mountpoint
        self.path = path
        self.reset = reset
        self.files = files
        self.folders = folders
        self.bytes = bytes
    }
}

/// `mcfs upper list --json`: what was written over the tree.
package struct UpperChanges: Codable, Sendable {
    package struct Change: Codable, Sendable {
        package var path: String
        /// `added`, `changed` or `removed`.
        package var change: String
        /// As in `ListedEntry`, or `socket`.
        package var type: String
        /// Bytes of a file, 0 else.
        package var size: UInt64
        /// The path in the tree of what was moved here; its bytes are the tree's.
        package var from: String?
        /// Only owner, mode, times or attributes differ.
        package var metadataOnly: Bool
        /// A directory that shows nothing of the one in the tree.
        package var opaque: Bool

        package init(
            path: String, change: String, type: String, size: UInt64, from: String?, metadataOnly: Bool, opaque: Bool
        ) {
            self.path = path
            self.change = change
            self.type = type
            self.size = size
            self.from = from
            self.metadataOnly = metadataOnly
            self.opaque = opaque
        }
    }

    package var upper: String
    package var changes: [Change]

    package init(upper: String, changes: [Change]) {
        self.upper = upper
        self.changes = changes
    }
}
