package import GPUCompat
internal import Logging
package import MCFSCore
internal import Synchronization

/// The GPUs of this host: looked for when somebody first asks, and again when told to. Thread safe.
final class HostGPUs: Sendable {
    /// A vendor's library that says nothing by then is left alone.
    private static let patience = Duration.seconds(10)

    /// What was found where nothing, or not all, could be looked at is believed for so long: drivers come up late.
    private static let doubt = Duration.seconds(60)

    private let known = Lock<(findings: GPUFindings, time: ContinuousClock.Instant)?>(nil)
    private let looking = Lock(())
    private let find: @Sendable () -> GPUFindings
    private let logger: Logger

    init(_ environment: Environment, logger: Logger) {
        let probe = GPUProbe(of: environment)
        find = { probe.find(within: Self.patience) }
        self.logger = logger
    }

    /// Blocks while it looks.
    func findings() -> GPUFindings {
        if let believed { return believed }
        return looking.withLock { _ in believed ?? look() }
    }

    private var believed: GPUFindings? {
        guard let (findings, time) = known.withLock({ $0 }) else { return nil }
        let isDoubtful = findings.gpus.isEmpty || !findings.isComplete
        return isDoubtful && ContinuousClock.now - time > Self.doubt ? nil : findings
    }

    @discardableResult
    func refresh() -> GPUFindings { looking.withLock { _ in look() } }

    private func look() -> GPUFindings {
        let found = find()
        known.withLock { $0 = (found, .now) }
        for problem in found.problems { logger.warning("GPUs", metadata: ["reason": "\(problem)"]) }
        logger.info(
            "looked for GPUs", metadata: ["gpus": "\(found.gpus.map(\.target).joined(separator: " "))"])
        return found
    }
}

extension GPUProbe {
    /// Of this host, or of what `MCFS_GPU_ROOT` holds in its place: `/sys` and `/proc` of another machine.
    package init(of environment: Environment) {
        self.init(root: environment["MCFS_GPU_ROOT"] ?? "/", environment: environment)
    }
}

/// By which GPUs kernels are judged.
enum GPUChoice: Sendable, Equatable {
    case host
    /// Everything shows.
    case none
    case these([GPU])

    /// - Parameters:
    ///   - specs: as in `ViewRequest.gpu`.
    ///   - configured: what `auto` stands for.
    /// - Throws: `usage` for what names no GPU.
    init(_ specs: [String], configured: [String]) throws(MCFSError) {
        switch specs {
        case ["auto"], []:
            if configured == ["auto"] || configured.isEmpty {
                self = .host
            } else {
                try self.init(configured, configured: [])
            }
        case ["none"]: self = .none
        default: self = .these(try GPUSpec.gpus(from: specs))
        }
    }

    /// May block, where GPUs are looked for.
    func gpus(of host: HostGPUs) -> [GPU] {
        switch self {
        case .host:
            // A GPU that could not be looked at may run what the others do not: nothing is hidden then.
            Self.certain(host.findings())
        case .none: []
        case .these(let gpus): gpus
        }
    }

    private static func certain(_ findings: GPUFindings) -> [GPU] { findings.isComplete ? findings.gpus : [] }
}
