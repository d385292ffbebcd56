/// What of a tree a mount shall show: part of `MountRequest`.
package struct ViewRequest: Codable, Sendable, Equatable {
    /// `auto`: the GPUs of this host. `none`: everything shows as it is stored. Else what `--gpu` names.
    package var gpu: [String] = ["auto"]
    /// Which path the files get that hold paths of the mount: `auto`, the mountpoint; `none`, as they are stored; else an
    /// absolute path, where a container sees the mount.
    package var rebase = "auto"
    /// Leave files of intermediate representations out of the lists of files that engines read whole.
    package var slim = false

    package init() {}
}

/// `mcfs gpu --json`.
package struct GPUList: Codable, Sendable {
    package struct GPU: Codable, Sendable {
        package var index: Int
        /// `nvidia` or `amd`.
        package var vendor: String
        package var name: String
        /// Such as `sm_90` or `gfx942`.
        package var target: String
        package var warpSize: Int
        package var memoryBytes: UInt64
        package var uuid: String?
        package var driver: String?
        /// What the driver can run, such as `12.8`.
        package var cuda: String?

        package init(
            index: Int, vendor: String, name: String, target: String, warpSize: Int, memoryBytes: UInt64, uuid: String?,
            driver: String?, cuda: String?
        ) {
            self.index = index
            self.vendor = vendor
            self.name = name
            self.target = target
            self.warpSize = warpSize
            self.memoryBytes = memoryBytes
            self.uuid = uuid
            self.driver = driver
            self.cuda = cuda
        }
    }

    package var gpus: [GPU]
    /// What could not be looked at, a sentence each.
    package var problems: [String]

    package init(gpus: [GPU], problems: [String]) {
        self.gpus = gpus
        self.problems = problems
    }
}

/// Body of `/v1/check`.
package struct KernelRequest: Codable, Sendable {
    /// A reference as typed, or an absolute path below a mountpoint.
    package var target: String
    /// As in `ViewRequest`.
    package var gpu: [String]
    package var caller: Caller

    package init(target: String, gpu: [String], caller: Caller) {
        self.target = target
        self.gpu = gpu
        self.caller = caller
    }
}

/// `mcfs check --json`.
package struct KernelCheck: Codable, Sendable {
    package struct Kernel: Codable, Sendable {
        /// Of the entry, in the tree; of an image that was judged by its labels alone, empty.
        package var path: String
        package var name: String
        /// `cuda` or `hip`; empty where it is not known.
        package var backend: String
        /// Such as `sm_90`; empty where it is not known.
        package var target: String
        /// `compatible`, `incompatible` or `unknown`.
        package var verdict: String
        package var reason: String

        package init(path: String, name: String, backend: String, target: String, verdict: String, reason: String) {
            self.path = path
            self.name = name
            self.backend = backend
            self.target = target
            self.verdict = verdict
            self.reason = reason
        }
    }

    package var gpu: [String]
    package var entries: Int
    package var compatible: Int
    package var incompatible: Int
    package var unknown: Int
    package var kernels: [Kernel]
    /// What told: `labels`, `manifest` or `metadata`.
    package var from: String

    package init(
        gpu: [String], entries: Int, compatible: Int, incompatible: Int, unknown: Int, kernels: [Kernel], from: String
    ) {
        self.gpu = gpu
        self.entries = entries
        self.compatible = compatible
        self.incompatible = incompatible
        self.unknown = unknown
        self.kernels = kernels
        self.from = from
    }
}

/// `POST /v1/explain`.
package struct ExplainRequest: Codable, Sendable {
    /// Absolute, below a mountpoint.
    package var path: String

    package init(path: String) { self.path = path }
}

/// `mcfs explain --json`.
package struct Explanation: Codable, Sendable {
    package enum State: String, Codable, Sendable { case shown, hidden, missing }

    package struct Entry: Codable, Sendable {
        /// In the mount.
        package var path: String
        /// `triton`, `vllm`, `flashinfer`, `deepgemm`, `nim`.
        package var kind: String
        package var name: String?
        package var needs: String?
        package var verdict: String
        package var rule: String
        package var reason: String
        /// Of Triton, where its metadata has it.
        package var tritonVersion: String?
        package var bytes: UInt64
        package var bytesLocal: UInt64
        package var hits: UInt64

        package init(
            path: String, kind: String, verdict: String, rule: String, reason: String, bytes: UInt64,
            bytesLocal: UInt64,
            hits: UInt64
        ) {
            self.path = path
            self.kind = kind
            self.verdict = verdict
            self.rule = rule
            self.reason = reason
            self.bytes = bytes
            self.bytesLocal = bytesLocal
            self.hits = hits
        }
    }

    package struct Near: Codable, Sendable {
        package var path: String
        package var name: String?
        package var target: String?
        package var verdict: String
        /// What sets it apart from the name that was asked for, a sentence.
        package var differs: String

        package init(path: String, name: String?, target: String?, verdict: String, differs: String) {
            self.path = path
            self.name = name
            self.target = target
            self.verdict = verdict
            self.differs = differs
        }
    }

    package var path: String
    package var mountpoint: String
    package var state: State
    /// One sentence.
    package var reason: String
    package var gpu: [String]
    /// Whether it stands in the upper.
    package var isUpper: Bool
    package var origin: String?
    package var digest: String?
    /// The kernel that the path is or belongs to.
    package var entry: Entry?
    /// Of a name that is not there, best first.
    package var nearest: [Near]
    /// When the name was looked up in vain, last; seconds since 1970.
    package var missed: Int64?

    package init(path: String, mountpoint: String, state: State, reason: String, gpu: [String]) {
        self.path = path
        self.mountpoint = mountpoint
        self.state = state
        self.reason = reason
        self.gpu = gpu
        isUpper = false
        nearest = []
    }
}

/// `POST /v1/view/refresh`.
package struct ViewRefreshRequest: Codable, Sendable {
    /// nil: every mount.
    package var mountpoint: String?

    package init(mountpoint: String?) { self.mountpoint = mountpoint }
}

/// `mcfs view refresh --json`.
package struct ViewList: Codable, Sendable {
    package struct View: Codable, Sendable {
        package var mountpoint: String
        package var view: MountStatus.View

        package init(mountpoint: String, view: MountStatus.View) {
            self.mountpoint = mountpoint
            self.view = view
        }
    }

    package var views: [View]
    package init(views: [View]) { self.views = views }
}
