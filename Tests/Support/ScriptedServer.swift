internal import Glibc
internal import Synchronization
import MCFSCore

/// An HTTP/1.1 server on a loopback port (or a Unix socket) that answers what a closure says, faults included, and
/// records what it was asked. One thread per connection; connections are kept alive. Stops when it is dropped.
///
///     let server = try ScriptedServer { request in .file(content, for: request, etag: "\"v1\"") }
///     … server.url + "/name" … #expect(server.requests.count == 1)
package final class ScriptedServer: Sendable {
    package typealias Handler = @Sendable (Request) -> Answer

    package struct Failure: Error { let call: String, code: CInt }

    /// 0 for a Unix socket.
    package let port: UInt16
    private let state: State
    private let acceptor: pthread_t

    /// `unixSocket`: the path to listen on; a loopback port is taken without it.
    package init(unixSocket: String? = nil, _ handler: @escaping Handler) throws {
        let listener: CInt
        if let unixSocket {
            listener = try Self.listen(unixSocket: unixSocket)
            port = 0
        } else {
            (listener, port) = try Self.listenOnLoopback()
        }
        state = State(listener: listener, handler: handler)
        acceptor = try startThread { [state] in state.accept() }
    }

    deinit { stop() }

    /// `http://127.0.0.1:PORT`, no slash at the end.
    package var url: String { "http://127.0.0.1:\(port)" }

    /// All complete requests so far, in the order in which they came in.
    package var requests: [Request] { state.shared.withLock { $0.requests } }

    /// How many connections were accepted so far.
    package var connectionCount: Int { state.shared.withLock { $0.accepted } }

    /// Cuts all connections and waits for the server's threads. May be called more than once.
    package func stop() {
        guard state.beginStop() else { return }
        pthread_join(acceptor, nil)
        state.joinConnections()
    }

    private static func listenOnLoopback() throws -> (CInt, UInt16) {
        let listener = socket(AF_INET, CInt(SOCK_STREAM.rawValue) | CInt(SOCK_CLOEXEC.rawValue), 0)
        guard listener >= 0 else { throw Failure(call: "socket", code: errno) }
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = in_addr_t(0x7f00_0001).bigEndian
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let result = withUnsafeMutablePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { address in
                bind(listener, address, length) == 0 && Glibc.listen(listener, 128) == 0
                    && getsockname(listener, address, &length) == 0
            }
        }
        guard result else {
            let code = errno
            close(listener)
            throw Failure(call: "bind", code: code)
        }
        return (listener, UInt16(bigEndian: address.sin_port))
    }

    private static func listen(unixSocket path: String) throws -> CInt {
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        let bytes = Array(path.utf8)
        guard bytes.count < MemoryLayout.size(ofValue: address.sun_path) else {
            throw Failure(call: "bind", code: ENAMETOOLONG)
        }
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: bytes) }
        let listener = socket(AF_UNIX, CInt(SOCK_STREAM.rawValue) | CInt(SOCK_CLOEXEC.rawValue), 0)
        guard listener >= 0 else { throw Failure(call: "socket", code: errno) }
        unlink(path)
        let result = withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { address in
                bind(listener, address, socklen_t(MemoryLayout<sockaddr_un>.size)) == 0
                    && Glibc.listen(listener, 128) == 0
            }
        }
        guard result else {
            let code = errno
            close(listener)
            throw Failure(call: "bind", code: code)
        }
        return listener
    }
}

/// What the threads of one server share.
private final class State: Sendable {
    struct Shared {
        var requests: [ScriptedServer.Request] = []
        var connections: Set<CInt> = []
        var threads: [pthread_t] = []
        var accepted = 0
        var isStopping = false
    }

    let shared = Lock(Shared())
    private let listener: CInt
    private let handler: ScriptedServer.Handler

    init(listener: CInt, handler: @escaping ScriptedServer.Handler) {
        self.listener = listener
        self.handler = handler
    }

    deinit { close(listener) }

    /// - Returns: false where it was called before.
    func beginStop() -> Bool {
        shared.withLock { shared in
            if shared.isStopping { return false }
            shared.isStopping = true
            shutdown(listener, CInt(SHUT_RDWR))
            for connection in shared.connections { shutdown(connection, CInt(SHUT_RDWR)) }
            return true
        }
    }

    func joinConnections() {
        for thread in shared.withLock({ $0.threads }) { pthread_join(thread, nil) }
    }

    func accept() {
        while true {
            let connection = Glibc.accept(listener, nil, nil)
            if connection < 0 {
                if errno == EINTR || errno == ECONNABORTED { continue }
                return
            }
            _ = fcntl(connection, F_SETFD, FD_CLOEXEC)
            var noDelay: CInt = 1
            setsockopt(connection, CInt(IPPROTO_TCP), TCP_NODELAY, &noDelay, socklen_t(MemoryLayout<CInt>.size))
            let started = shared.withLock { shared in
                guard !shared.isStopping, let thread = try? startThread({ [self] in serve(connection) }) else {
                    return false
                }
                shared.connections.insert(connection)
                shared.threads.append(thread)
                shared.accepted += 1
                return true
            }
            if !started { close(connection) }
        }
    }

    private func serve(_ descriptor: CInt) {
        let connection = ScriptedConnection(descriptor)
        while let request = connection.readRequest() {
            shared.withLock { $0.requests.append(request) }
            if !connection.send(handler(request), to: request) { break }
        }
        // Under the lock, so that `beginStop` never shuts down a descriptor that was closed and taken by others.
        shared.withLock { shared in
            shared.connections.remove(descriptor)
            close(descriptor)
        }
    }
}

/// Starts a thread to be joined. The closure is its whole life.
func startThread(_ body: @escaping @Sendable () -> Void) throws -> pthread_t {
    final class Box: Sendable {
        let body: @Sendable () -> Void
        init(_ body: @escaping @Sendable () -> Void) { self.body = body }
    }
    var thread = pthread_t()
    let box = Unmanaged.passRetained(Box(body))
    let code = pthread_create(
        &thread, nil,
        { argument in
            if let argument { Unmanaged<Box>.fromOpaque(argument).takeRetainedValue().body() }
            return nil
        }, box.toOpaque())
    guard code == 0 else {
        box.release()
        throw ScriptedServer.Failure(call: "pthread_create", code: code)
    }
    return thread
}
