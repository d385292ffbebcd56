internal import Glibc
internal import MCFSCore

/// Runs the command that a profile names in `credential_process`, and nothing else of the environment but its own.
struct CredentialProcess {
    /// Words of the command line, as a shell splits them.
    let arguments: [String]
    let environment: Environment

    /// Longest answer, in bytes.
    private static let answerBytesMax = 1 << 20

    /// - Throws: `configuration` for an open quote or no word at all.
    init(_ commandLine: String, environment: Environment) throws(MCFSError) {
        guard let words = Self.words(of: commandLine), !words.isEmpty else {
            throw MCFSError(.configuration, "credential_process is no command line; check its quotes")
        }
        arguments = words
        self.environment = environment
    }

    /// What the command wrote to its standard output. What it says on standard error is thrown away: it may hold a secret.
    /// - Throws: `unauthorized` where it cannot be started, fails or says too much; `timedOut` at the deadline.
    func run(deadline: Deadline) throws(MCFSError) -> [UInt8] {
        var ends: [CInt] = [-1, -1]
        // A pair of sockets, because a pipe cannot be made close-on-exec at once from here.
        guard socketpair(AF_UNIX, CInt(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0, &ends) == 0 else {
            throw MCFSError(localIO: "make a socket pair", Errno.current)
        }
        let output = OwnedDescriptor(owning: ends[0])
        let child: pid_t
        do throws(Errno) {
            defer { close(ends[1]) }
            child = try spawn(output: ends[1])
        } catch {
            throw MCFSError(
                .unauthorized, "cannot start '\(arguments[0])' of credential_process: \(error)", cause: error)
        }
        let answer = Self.read(output, deadline: deadline)
        // It has nothing to say any more, or too much, or too late.
        if case .failure = answer { kill(child, SIGKILL) }
        let ending = Self.wait(for: child, deadline: deadline)
        let bytes: [UInt8]
        do throws(MCFSError) { bytes = try answer.get() } catch {
            throw MCFSError(error.code, "'\(arguments[0])' of credential_process \(error.message)")
        }
        guard ending == 0 else {
            throw MCFSError(
                .unauthorized, "'\(arguments[0])' of credential_process failed; run it by hand to see why")
        }
        return bytes
    }

    private func spawn(output: CInt) throws(Errno) -> pid_t {
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
        posix_spawn_file_actions_adddup2(&actions, output, 1)
        posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0)
        let program = environment["PATH"].flatMap { path in
            arguments[0].contains("/")
                ? nil
                : path.split(separator: ":").map { "\($0)/\(arguments[0])" }.first { (file: String) in
                    access(file, X_OK) == 0
                }
        }
        var argv = arguments.map { strdup($0) } + [nil]
        var envp = environment.variables.map { strdup("\($0.key)=\($0.value)") } + [nil]
        defer { for pointer in argv + envp { free(pointer) } }
        var child: pid_t = 0
        let result = withChildAttributes {
            posix_spawnp(&child, program ?? arguments[0], &actions, $0, &argv, &envp)
        }
        guard result == 0 else { throw Errno(rawValue: result) }
        return child
    }

    private static func read(_ output: OwnedDescriptor, deadline: Deadline) -> Result<[UInt8], MCFSError> {
        var bytes: [UInt8] = []
        var piece = [UInt8](repeating: 0, count: 64 << 10)
        while true {
            var entry = pollfd(fd: output.rawValue, events: Int16(POLLIN), revents: 0)
            let ready = poll(&entry, 1, deadline.pollMilliseconds)
            if ready < 0 ? errno == EINTR : ready == 0 && !deadline.hasPassed { continue }
            guard ready > 0 else { return .failure(MCFSError(.timedOut, "did not answer in time")) }
            let count = Glibc.read(output.rawValue, &piece, piece.count)
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { return .success(bytes) }
            bytes += piece[..<count]
            guard bytes.count <= answerBytesMax else { return .failure(MCFSError(.unauthorized, "answered too much")) }
        }
    }

    /// The exit status as `waitpid` has it; the child is killed at the deadline.
    private static func wait(for child: pid_t, deadline: Deadline) -> CInt {
        var status: CInt = 0
        while true {
            let result = waitpid(child, &status, WNOHANG)
            if result == child { return status }
            if result < 0, errno != EINTR { return -1 }
            if deadline.hasPassed { kill(child, SIGKILL) }
            // The child closed its output, so it is about to end.
            poll(nil, 0, 5)
        }
    }

    /// nil where a quote stays open.
    static func words(of line: String) -> [String]? {
        var words: [String] = []
        var word: String?
        var quote: Character?
        var isEscaped = false
        for character in line {
            if isEscaped {
                word = (word ?? "") + String(character)
                isEscaped = false
            } else if character == "\\", quote != "'" {
                isEscaped = true
            } else if let open = quote {
                if character == open { quote = nil } else { word = (word ?? "") + String(character) }
            } else if character == "\"" || character == "'" {
                quote = character
                word = word ?? ""
            } else if character == " " || character == "\t" {
                if let finished = word { words.append(finished) }
                word = nil
            } else {
                word = (word ?? "") + String(character)
            }
        }
        guard quote == nil, !isEscaped else { return nil }
        if let word { words.append(word) }
        return words
    }
}
