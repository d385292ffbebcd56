internal import CLinux
package import ControlAPI
internal import ChunkStore
internal import Glibc
package import Logging
package import MCFSCore
internal import Synchronization

/// The daemon in the calling process: from taking the cache directory's lock to giving it back.
package final class DaemonProcess: Sendable {
    private let lock: CacheLock
    private let spareRoom: SpareRoom
    private let service: MountService
    private let server: ControlServer
    private let logger: Logger
    private let manager: ServiceManager?
    private let isService: Bool
    private let serverError = Lock<MCFSError?>(nil)

    private enum Phase { case starting, listening, failed }
    private let phase = Lock(Phase.starting)

    private static let stopSeconds: Double = 2
    /// Between two times that counts are kept.
    private static let keepInterval = Duration.seconds(60)

    /// Blocks signals, so it must come before the first thread is started. Takes the lock and reads the cache.
    ///
    /// - Parameter isService: whoever asks it to end means to start it again: what is mounted then comes back.
    /// - Throws: `busy` where another daemon has the cache directory, `cannotCreate`, `configuration`.
    package init(_ configuration: Configuration, logger: Logger, isService: Bool = false) throws(MCFSError) {
        self.isService = isService
        manager = isService ? ServiceManager(configuration.environment) : nil
        // It was started as /proc/self/exe, and would be listed as that.
        mcfs_name_thread("mcfs")
        // It has the credentials of all callers.
        mcfs_keep_secrets()
        // What the daemon makes is its user's alone.
        umask(0o077)
        // Two heaps, not eight for each core: what one thread frees another can use. Buffers of chunks would leave holes there.
        mcfs_limit_heaps(2, 1 << 20)
        // Each file that is open in a mount is one here, or two.
        mcfs_raise_open_files()
        lock = try CacheLock(configuration.cacheDirectory)
        spareRoom = SpareRoom(cacheDirectory: configuration.cacheDirectory)
        spareRoom.give()
        self.logger = logger
        service = try MountService(directory: lock, configuration: configuration, logger: logger) { Signals.wake() }
        server = try ControlServer(service, cacheDirectory: configuration.cacheDirectory)
    }

    /// Serves until a signal, or until there is nothing to do.
    ///
    /// - Parameters:
    ///   - first: a mount that this process is for: it is made once the socket listens, and the process ends with it.
    ///   - onReady: called once requests are accepted and `first` is mounted.
    /// - Throws: what kept it from starting, or `first`'s error; nothing is left mounted then.
    package func run(
        signals: consuming ProcessSignals, first: (MountRequest, @Sendable (Event<MountStatus>) -> Void)? = nil,
        onReady: @escaping @Sendable (MountStatus?) -> Void
    ) throws(MCFSError) {
        var signals = signals.signals
        let task = Task { [server, self] in
            do throws(MCFSError) {
                try await server.run { [self] in
                    phase.withLock { $0 = .listening }
                    Signals.wake()
                }
            } catch {
                serverError.withLock { $0 = error }
                phase.withLock { $0 = .failed }
                Signals.wake()
            }
        }
        while phase.withLock({ $0 == .starting }) {
            if case .end = signals.wait(milliseconds: 1000) { return stop(task) }
        }
        if let error = serverError.withLock({ $0 }) { throw error }
        spareRoom.take()
        logger.info("the daemon listens", metadata: ["cache": "\(lock.path)", "pid": "\(getpid())"])

        var mountpoint: String?
        if let (request, onEvent) = first {
            do {
                let status = try makeFirst(request, onEvent, &signals)
                mountpoint = request.mountpoint
                onReady(status)
            } catch {
                stop(task)
                throw error
            }
        } else {
            service.beginRestoring()
            onReady(nil)
        }
        manager?.say("READY=1")
        rest(&signals, until: mountpoint)
        manager?.say("STOPPING=1")
        stop(task)
        if let error = serverError.withLock({ $0 }) { throw error }
    }

    /// Waits for the end: a signal, idleness, or that the mount which the process is for is gone.
    private func rest(_ signals: inout Signals, until mountpoint: String?) {
        var kept = ContinuousClock.now
        let watchdog = manager?.watchdog
        while true {
            if watchdog != nil { manager?.say("WATCHDOG=1") }
            let isQuiet = service.mounts.isEmpty && service.jobs.isEmpty
            let event = signals.wait(
                milliseconds: min(isQuiet ? 100 : 1000, watchdog.map { max(1, Int(($0 / 3).milliseconds)) } ?? 1000))
            if ContinuousClock.now - kept > Self.keepInterval {
                for mount in service.mounts.all { service.keepUses(mount) }
                kept = .now
            }
            if case .end = event { return logger.notice("the daemon was asked to end") }
            if phase.withLock({ $0 == .failed }) { return }
            if case .refresh = event { service.refreshViews() }
            if case .timeout = event { for job in service.jobs.all { job.heartbeat() } }
            if let mountpoint {
                if service.mounts.mount(at: mountpoint) == nil, service.mounts.isEmpty { return }
            } else if manager == nil, service.isIdle, service.mounts.closeIfEmpty() {
                return logger.info("the daemon ends: nothing is mounted and nobody asked for anything")
            }
        }
    }

    private func makeFirst(
        _ request: MountRequest, _ onEvent: @escaping @Sendable (Event<MountStatus>) -> Void, _ signals: inout Signals
    ) throws(MCFSError) -> MountStatus {
        let box = OutcomeBox()
        let events = try service.begin("mount", request.mountpoint) { [service] job throws(MCFSError) in
            try service.mount(request, isRecorded: false, job: job)
        }
        let reader = Task {
            for await output in events {
                switch output {
                case .failure(let error): box.set(.failure(error))
                case .line(let line):
                    guard let event = try? JSON.decode(Event<MountStatus>.self, line) else { continue }
                    if let status = event.result { box.set(.success(status)) } else { onEvent(event) }
                }
            }
            Signals.wake()
        }
        defer { reader.cancel() }
        var isRefreshWanted = false
        while true {
            if let result = box.value {
                let status = try result.get()
                if isRefreshWanted { service.refreshViews() }
                return status
            }
            switch signals.wait(milliseconds: 1000) {
            case .end: throw MCFSError(.cancelled, "the mount at \(request.mountpoint) was given up")
            case .refresh: isRefreshWanted = true
            case .wake, .timeout: break
            }
        }
    }

    private func stop(_ task: Task<Void, Never>) {
        service.unmountAll(keepsRecords: isService)
        let done = OutcomeBox()
        Task { [server] in
            await server.drain(seconds: Self.stopSeconds)
            // What is left is idle connections, and the wait for new ones.
            task.cancel()
            await task.value
            done.set(.failure(MCFSError(.cancelled, "stopped")))
            Signals.wake()
        }
        done.waitBriefly(seconds: Self.stopSeconds + 1)
        service.cache.shutDown()
        lock.giveBack()
    }
}

/// Proof that the signals were blocked before any thread was started.
package struct ProcessSignals: ~Copyable {
    fileprivate var signals: Signals

    package init() { signals = Signals() }
}

/// A result that one thread waits for.
private final class OutcomeBox: Sendable {
    private let state = Lock<Result<MountStatus, MCFSError>?>(nil)

    var value: Result<MountStatus, MCFSError>? { state.withLock { $0 } }

    func set(_ result: Result<MountStatus, MCFSError>) { state.withLock { $0 = $0 ?? result } }

    /// Only at the end of the process, where nothing else is left to do.
    func waitBriefly(seconds: Double) {
        let deadline = Deadline(after: .milliseconds(Int64(seconds * 1000)))
        while value == nil && !deadline.hasPassed { usleep(5000) }
    }
}
