internal import ControlAPI
internal import FlyingFox
internal import FlyingSocks
internal import FoundationEssentials
internal import Glibc
internal import Logging
internal import MCFSCore
internal import Synchronization

/// HTTP on the Unix socket of a cache directory. Answers come from `MountService`, on threads of their own.
final class ControlServer: Sendable {
    /// Where the system gave no descriptor for a connection, before the next ones are waited for.
    private static let pause = Duration.milliseconds(200)
    /// Longest request, in bytes: references, globs and environment variables.
    private static let requestBytesMax = 1 << 20
    /// No request is cut off by the server: jobs end by themselves.
    private static let requestTimeoutSeconds: Double = 365 * 24 * 3600

    private let service: MountService
    private let socket: ControlSocket
    private let answers = AnswersUnderWay()

    /// - Throws: `cannotCreate` where the path of the socket is too long even in its short form.
    init(_ service: MountService, cacheDirectory: String) throws(MCFSError) {
        self.service = service
        socket = try ControlSocket(cacheDirectory: cacheDirectory)
        // FlyingFox's own limit; `ControlSocket` gives a short address for anything longer.
        guard socket.address.utf8.count <= ControlSocket.pathBytesMax else {
            throw MCFSError(
                .cannotCreate, "the path of the control socket \(socket.path) is too long; give another --cache-dir")
        }
    }

    private func makeServer() -> HTTPServer {
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        let bytes = Array(socket.address.utf8)
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: bytes) }
        return HTTPServer(
            config: HTTPServer.Configuration(
                address: address, timeout: Self.requestTimeoutSeconds, logger: .disabled),
            handler: Router(service: service, answers: answers))
    }

    /// Serves until its task is cancelled, which cuts off what is under way; on `onListening` requests are accepted.
    ///
    /// A socket that is there is a dead daemon's: whoever calls this holds the cache directory's lock. A server ends where it cannot
    /// take a connection, because descriptors are short, and another takes its place: mounts must not end with it.
    /// - Throws: where it never listened.
    func run(onListening: @escaping @Sendable () -> Void) async throws(MCFSError) {
        let hasListened = Guarded(false)
        defer { unlink(socket.address) }
        while !Task.isCancelled {
            let server = makeServer()
            unlink(socket.address)
            let waiter = Task { [socket] in
                try await server.waitUntilListening()
                chmod(socket.address, 0o600)
                let isFirst = hasListened.withLock { hasListened in
                    defer { hasListened = true }
                    return !hasListened
                }
                if isFirst { onListening() }
            }
            defer { waiter.cancel() }
            do { try await server.run() } catch {
                // What the server waits in ends with an error when it is cancelled.
                if Task.isCancelled { return }
                guard hasListened.withLock({ $0 }) else { throw self.error(error) }
                service.logger.warning("the control socket is opened anew", metadata: ["reason": "\(error)"])
            }
            try? await Task.sleep(for: Self.pause)
        }
    }

    private func error(_ error: any Error) -> MCFSError {
        guard case .failed(_, let errno, _)? = error as? SocketError else {
            return MCFSError(.cannotCreate, "cannot serve the control socket \(socket.path): \(error)")
        }
        return MCFSError(
            making: "the control socket \(ControlSocket.name)", inCacheDirectory: service.configuration.cacheDirectory,
            Errno(rawValue: errno))
    }

    /// Nobody finds the socket any more; answers under way get `seconds` to end.
    func drain(seconds: Double) async {
        unlink(socket.address)
        await answers.wait(Deadline(after: .milliseconds(Int64(seconds * 1000))))
    }

    /// One handler for all paths: fewer moving parts than a table of routes, and unknown paths get our own error.
    private struct Router: HTTPHandler {
        let service: MountService
        let answers: AnswersUnderWay

        func handleRequest(_ request: HTTPRequest) async throws -> HTTPResponse {
            let note = answers.begin()
            service.noteRequest()
            do {
                return try await answer(request).response(note)
            } catch let error as MCFSError {
                return Answer(error).response(note)
            } catch {
                return Answer(MCFSError(.failed, "the request failed: \(error)")).response(note)
            }
        }

        private func answer(_ request: HTTPRequest) async throws -> Answer {
            let service = service
            switch (request.method, request.path) {
            case (.GET, "/healthz"):
                return Answer(text: "ok\n", type: "text/plain; charset=utf-8")
            case (.GET, "/metrics"):
                let text = try await WorkerThread.run { () throws(MCFSError) in service.metrics() }
                return Answer(text: text, type: "text/plain; version=0.0.4; charset=utf-8")
            case (.GET, "/v1/status"):
                return try Answer(document: try await WorkerThread.run { () throws(MCFSError) in service.status() })
            case (.GET, "/v1/mounts"):
                return try Answer(
                    document: try await WorkerThread.run { () throws(MCFSError) in
                        MountList(mounts: service.status().mounts)
                    })
            case (.GET, "/v1/jobs"):
                return try Answer(document: service.jobList)
            case (.GET, "/v1/pins"):
                return try Answer(document: try await WorkerThread.run { () throws(MCFSError) in try service.pins() })
            default:
                return try await work(request)
            }
        }

        private func work(_ request: HTTPRequest) async throws -> Answer {
            let service = service
            switch (request.method, request.path) {
            case (.POST, "/v1/mounts"):
                let body: MountRequest = try await decode(request)
                return try await stream(
                    service.begin("mount", body.mountpoint) { job throws(MCFSError) in try service.mount(body, job: job)
                    })
            case (.DELETE, "/v1/mounts"):
                let body: UnmountRequest = try await decode(request)
                return try await stream(
                    service.begin("umount", body.mountpoint, endsWithCaller: false) { job throws(MCFSError) -> Empty in
                        try service.unmount(body, job: job)
                        return Empty()
                    })
            case (.POST, "/v1/mounts/restore"):
                let body: RestoreRequest = try await decode(request)
                return try await stream(
                    service.begin("restore-all", service.configuration.cacheDirectory) { job throws(MCFSError) in
                        try service.restore(body, job: job)
                    })
            case (.POST, "/v1/mounts/remount"):
                let body: RemountRequest = try await decode(request)
                return try await stream(
                    service.begin("remount", body.mountpoint) { _ throws(MCFSError) in try service.remount(body) })
            case (.POST, "/v1/jobs/wait"):
                let body: JobRequest = try await decode(request)
                return try await stream(
                    service.begin(MountService.waitKind, "\(body.id)") { job throws(MCFSError) in
                        try service.wait(for: body, job: job)
                    })
            case (.DELETE, "/v1/jobs"):
                let body: JobRequest = try await decode(request)
                return try await stream(
                    service.begin("cancel", "\(body.id)") { _ throws(MCFSError) in try service.cancel(body) })
            case (.POST, "/v1/ls"):
                return try await selection(request, "ls") { body, job throws(MCFSError) in
                    try service.list(body, job: job)
                }
            case (.POST, "/v1/prefetch"):
                return try await selection(request, "prefetch") { body, job throws(MCFSError) in
                    try service.prefetch(body, job: job)
                }
            case (.POST, "/v1/pins"):
                return try await selection(request, "pin") { body, job throws(MCFSError) in
                    try service.pin(body, job: job)
                }
            case (.DELETE, "/v1/pins"):
                return try await selection(request, "unpin") { body, _ throws(MCFSError) in try service.unpin(body) }
            case (.POST, "/v1/evict"):
                return try await selection(request, "evict") { body, job throws(MCFSError) in
                    try service.evict(body, job: job)
                }
            case (.POST, "/v1/upper/list"):
                let body: UpperRequest = try await decode(request)
                return try await stream(
                    service.begin("upper-list", body.mountpoint) { _ throws(MCFSError) in
                        try service.upperChanges(body)
                    })
            case (.POST, "/v1/upper/reset"):
                let body: UpperResetRequest = try await decode(request)
                return try await stream(
                    service.begin("upper-reset", body.mountpoint) { _ throws(MCFSError) in
                        try service.resetUpper(body)
                    })
            case (.POST, "/v1/check"):
                let body: KernelRequest = try await decode(request)
                return try await stream(
                    service.begin("check", body.target) { job throws(MCFSError) in try service.check(body, job: job) })
            case (.POST, "/v1/explain"):
                let body: ExplainRequest = try await decode(request)
                return try await stream(
                    service.begin("explain", body.path) { _ throws(MCFSError) in try service.explain(body) })
            case (.POST, "/v1/kernels"):
                return try await selection(request, "kernels") { body, job throws(MCFSError) in
                    try service.kernels(body, job: job)
                }
            case (.POST, "/v1/kernels/hits"):
                let body: UpperRequest = try await decode(request)
                return try await stream(
                    service.begin("hits", body.mountpoint) { _ throws(MCFSError) in try service.kernelHits(body) })
            case (.POST, "/v1/view/refresh"):
                let body: ViewRefreshRequest = try await decode(request)
                return try await stream(
                    service.begin("view", body.mountpoint ?? "all mounts") { _ throws(MCFSError) in
                        try service.refreshViews(body)
                    })
            case (.POST, "/v1/gc"):
                let body: CollectRequest = try await decode(request)
                return try await stream(
                    service.begin("gc", service.configuration.cacheDirectory) { _ throws(MCFSError) in
                        service.collect(body)
                    })
            case (.POST, "/v1/verify"):
                let body: VerifyRequest = try await decode(request)
                return try await stream(
                    service.begin("verify", service.configuration.cacheDirectory) { job throws(MCFSError) in
                        try service.verify(body, job: job)
                    })
            default:
                throw MCFSError(.notFound, "there is no \(request.method.rawValue) \(request.path) here")
            }
        }

        private func selection<Value: Codable & Sendable>(
            _ request: HTTPRequest, _ kind: String,
            _ work: @escaping @Sendable (SelectionRequest, Job) throws(MCFSError) -> Value
        ) async throws -> Answer {
            let body: SelectionRequest = try await decode(request)
            return try await stream(
                service.begin(kind, body.target) { job throws(MCFSError) in try work(body, job) })
        }

        private func decode<Body: Decodable>(_ request: HTTPRequest) async throws -> Body {
            guard let count = request.bodySequence.count, count <= ControlServer.requestBytesMax else {
                throw MCFSError(.usage, "the request is longer than \(ControlServer.requestBytesMax) bytes")
            }
            return try JSON.decode(Body.self, Array(try await request.bodyData))
        }

        /// The answer begins with the first event, so that a request that fails at once has the status of its error.
        private func stream(_ events: AsyncStream<Job.Output>) async throws -> Answer {
            var iterator = events.makeAsyncIterator()
            switch await iterator.next() {
            case .failure(let error): return Answer(error)
            case nil: throw MCFSError(.failed, "the request ended without an answer")
            case .line(let first): return Answer(first: first, rest: events)
            }
        }
    }
}
