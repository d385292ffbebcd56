/// One kernel in the tree of a reference, or in the part of it that a request means.
package struct KernelReport: Codable, Sendable {
    /// Of its directory, in the tree.
    package var path: String
    /// `triton`, `vllm`, `flashinfer`, `deepgemm`, `nim`.
    package var kind: String
    package var name: String?
    /// In hex digits.
    package var hash: String?
    /// As its metadata spells it.
    package var backend: String?
    /// `sm_90`, `gfx942`; several with commas between them.
    package var target: String?
    package var warpSize: Int?
    package var tritonVersion: String?
    package var numWarps: Int?
    package var numStages: Int?
    /// Why it is not known what it needs.
    package var problem: String?
    /// Seconds since 1970.
    package var modified: Int64
    /// Of its files, without those of kernels that lie in it.
    package var bytes: UInt64
    /// Of those among them that no hit needs.
    package var irBytes: UInt64
    package var bytesLocal: UInt64
    /// `compatible`, `incompatible` or `unknown`.
    package var verdict: String
    package var reason: String
    package var rule: String

    package init(
        path: String, kind: String, name: String?, hash: String?, backend: String?, target: String?, warpSize: Int?,
        tritonVersion: String?, numWarps: Int?, numStages: Int?, problem: String?, modified: Int64, bytes: UInt64,
        irBytes: UInt64, bytesLocal: UInt64, verdict: String, reason: String, rule: String
    ) {
        self.path = path
        self.kind = kind
        self.name = name
        self.hash = hash
        self.backend = backend
        self.target = target
        self.warpSize = warpSize
        self.tritonVersion = tritonVersion
        self.numWarps = numWarps
        self.numStages = numStages
        self.problem = problem
        self.modified = modified
        self.bytes = bytes
        self.irBytes = irBytes
        self.bytesLocal = bytesLocal
        self.verdict = verdict
        self.reason = reason
        self.rule = rule
    }
}

/// The answer to `POST /v1/kernels`, whose body is a `SelectionRequest`.
package struct KernelReports: Codable, Sendable {
    package var kernels: [KernelReport]
    package init(kernels: [KernelReport]) { self.kernels = kernels }
}

/// The answer to `POST /v1/kernels/hits`, whose body is an `UpperRequest`: how often engines found the kernels of a mount.
package struct KernelHits: Codable, Sendable {
    package struct Count: Codable, Sendable {
        /// Of the kernel's directory, below the mountpoint.
        package var path: String
        package var hits: UInt64
        /// Seconds since 1970.
        package var lastHit: Int64?

        package init(path: String, hits: UInt64, lastHit: Int64?) {
            self.path = path
            self.hits = hits
            self.lastHit = lastHit
        }
    }

    package var kernels: [Count]
    package init(kernels: [Count]) { self.kernels = kernels }
}
