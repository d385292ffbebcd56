internal import Glibc
internal import MCFSCore

/// A program `docker-credential-SUFFIX` (docker/docker-credential-helpers: the server's address on stdin, JSON on stdout).
struct CredentialHelper: Sendable {
    private let name: String
    private let environment: Environment

    /// How long one may take; those of clouds make requests of their own.
    static let timeout = Duration.seconds(10)
    private static let outputBytesMax = 1 << 20

    init(suffix: String, environment: Environment) {
        name = "docker-credential-\(suffix)"
        self.environment = environment
    }

    private struct Output: Decodable {
        var username: String
        var secret: String
        enum CodingKeys: String, CodingKey {
            case username = "Username"
            case secret = "Secret"
        }
    }

    /// nil where the helper has nothing for the server.
    /// - Throws: `configuration` where the program is missing, fails or answers nonsense. Its output is in no message.
    func get(_ server: String, deadline: Deadline) throws(MCFSError) -> RegistryCredential? {
        guard let program = search() else {
            throw MCFSError(
                .configuration, "the credential helper \(name) is not in PATH; install it or log in without it")
        }
        let deadline = deadline.earlier(Deadline(after: Self.timeout))
        let (status, output) = try run(program, input: Array(server.utf8), deadline: deadline)
        guard status == 0 else {
            let text = String(decoding: output.prefix(4096), as: UTF8.self)
            if text.contains("credentials not found") { return nil }
            throw MCFSError(
                .configuration,
                "the credential helper \(name) failed (exit status \(status)); run it by hand to see why")
        }
        let answer: Output
        do {
            answer = try decodeJSON(Output.self, output, what: "the answer of \(name)")
        } catch {
            throw MCFSError(.configuration, error.message)
        }
        if answer.username.isEmpty, answer.secret.isEmpty { return nil }
        return answer.username == "<token>"
            ? .refreshToken(answer.secret) : .basic(user: answer.username, password: answer.secret)
    }

    /// In the PATH of the mount's user, which is not that of this process.
    private func search() -> String? {
        guard !name.contains("/") else { return nil }
        let path = environment["PATH"] ?? "/usr/local/bin:/usr/bin:/bin"
        return path.split(separator: ":").map { "\($0)/\(name)" }.first { access($0, X_OK) == 0 }
    }

    /// - Returns: the exit status (128 + signal where one ended it) and what was written to stdout.
    private func run(
        _ program: String, input: [UInt8], deadline: Deadline
    ) throws(MCFSError) -> (status: Int, output: [UInt8]) {
        let stdin = try pipe()
        let stdout = try pipe()
        // Before the program runs: a pipe takes an address whole, and with both ends still open here nothing raises SIGPIPE.
        guard write(stdin.write.rawValue, input, input.count) == input.count else {
            throw MCFSError(localIO: "write to \(name)", .current)
        }
        let process = try spawn(program, stdin: stdin.read, stdout: stdout.write)
        let child = Child(process)
        return try collect(child, stdin: consume stdin, stdout: consume stdout, deadline: deadline)
    }

    private func collect(
        _ child: Child, stdin: consuming Pipe, stdout: consuming Pipe, deadline: Deadline
    ) throws(MCFSError) -> (status: Int, output: [UInt8]) {
        // The program sees the end of its input, and its own end as the end of the output, once these are closed here.
        let reading = stdout.read
        _ = consume stdin
        _ = consume stdout
        var output: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 4096)
        while true {
            guard !deadline.hasPassed else {
                throw MCFSError(
                    .configuration, "the credential helper \(name) did not answer in time; run it by hand to see why")
            }
            var waiting = pollfd(fd: reading.rawValue, events: Int16(POLLIN), revents: 0)
            let ready = poll(&waiting, 1, deadline.pollMilliseconds)
            if ready < 0, Errno.current != .interrupted { throw MCFSError(localIO: "read from \(name)", .current) }
            guard ready > 0 else { continue }
            let count = Glibc.read(reading.rawValue, &buffer, buffer.count)
            if count < 0 {
                if Errno.current == .interrupted { continue }
                throw MCFSError(localIO: "read from \(name)", .current)
            }
            if count == 0 { break }
            output += buffer.prefix(count)
            guard output.count <= Self.outputBytesMax else {
                throw MCFSError(
                    .configuration, "the credential helper \(name) wrote more than \(Self.outputBytesMax) bytes")
            }
        }
        guard let status = child.wait(until: deadline) else {
            throw MCFSError(
                .configuration, "the credential helper \(name) did not end in time; run it by hand to see why")
        }
        return (status, output)
    }

    private struct Pipe: ~Copyable {
        let read: OwnedDescriptor
        let write: OwnedDescriptor
    }

    private func pipe() throws(MCFSError) -> Pipe {
        var ends: [CInt] = [-1, -1]
        guard Glibc.pipe(&ends) == 0 else { throw MCFSError(localIO: "make a pipe for \(name)", .current) }
        for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
        return Pipe(read: OwnedDescriptor(owning: ends[0]), write: OwnedDescriptor(owning: ends[1]))
    }

    private func spawn(_ program: String, stdin: OwnedDescriptor, stdout: OwnedDescriptor) throws(MCFSError) -> pid_t {
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_adddup2(&actions, stdin.rawValue, 0)
        posix_spawn_file_actions_adddup2(&actions, stdout.rawValue, 1)
        posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0)

        var arguments: [UnsafeMutablePointer<CChar>?] = [strdup(program), strdup("get"), nil]
        var variables: [UnsafeMutablePointer<CChar>?] =
            environment.variables.map { strdup("\($0.key)=\($0.value)") } + [nil]
        defer { (arguments + variables).forEach { free($0) } }
        var process: pid_t = 0
        let result = withChildAttributes(ownGroup: true) {
            posix_spawn(&process, program, &actions, $0, &arguments, &variables)
        }
        guard result == 0 else {
            throw MCFSError(.configuration, "cannot run \(program): \(Errno(rawValue: result))")
        }
        return process
    }

    /// A started program, ended and reaped when its owner goes.
    private final class Child {
        private let process: pid_t
        private var isReaped = false

        init(_ process: pid_t) { self.process = process }

        deinit {
            guard !isReaped else { return }
            kill(-process, SIGKILL)
            kill(process, SIGKILL)
            var status: CInt = 0
            while waitpid(process, &status, 0) < 0, Errno.current == .interrupted {}
        }

        /// nil where it still runs at the deadline.
        func wait(until deadline: Deadline) -> Int? {
            while true {
                var status: CInt = 0
                let result = waitpid(process, &status, WNOHANG)
                if result == process || (result < 0 && Errno.current != .interrupted) {
                    isReaped = true
                    let signal = Int(status & 0x7f)
                    return signal == 0 ? Int(status >> 8 & 0xff) : 128 + signal
                }
                if deadline.hasPassed { return nil }
                // Its output has ended, so this is a matter of moments.
                usleep(1000)
            }
        }
    }
}
