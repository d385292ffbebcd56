internal import Glibc
internal import MCFSCore

/// Programs of the user's, found on PATH.
enum UserProgram {
    static func isOnPath(_ name: String, _ environment: Environment) -> Bool {
        (environment["PATH"] ?? "/usr/bin:/bin").split(separator: ":").contains { access("\($0)/\(name)", X_OK) == 0 }
    }

    /// Runs a program to its end; what it prints goes to standard error, because results are ours to print.
    ///
    /// - Returns: its exit status; 128 + signal where it was killed.
    static func run(_ words: [String], input: Bool) throws(MCFSError) -> CInt {
        try status(of: try start(words, input: input ? 0 : nil, output: 2), words)
    }

    /// Likewise a program that reads what another one prints.
    ///
    /// - Returns: its status, or the other's where only that one failed.
    static func run(_ words: [String], reading other: [String]) throws(MCFSError) -> CInt {
        let (writer, reader) = try connected(other, words)
        let status = try status(of: reader, words)
        let otherStatus = try Self.status(of: writer, other)
        return status == 0 ? otherStatus : status
    }

    /// Starts two programs, the first of which prints what the second reads.
    private static func connected(_ first: [String], _ second: [String]) throws(MCFSError) -> (pid_t, pid_t) {
        var ends: [CInt] = [-1, -1]
        guard pipe(&ends) == 0 else { throw MCFSError(.failed, "cannot make a pipe: \(Errno.current)") }
        // While an end is open elsewhere, the program at the other one does not see that its partner is gone.
        defer { for end in ends { close(end) } }
        for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
        return (
            try start(first, input: nil, output: ends[1]), try start(second, input: ends[0], output: 2)
        )
    }

    /// - Parameters:
    ///   - input: what it reads; nil for nothing.
    ///   - output: where its standard output goes. Its standard error is ours.
    private static func start(_ words: [String], input: CInt?, output: CInt) throws(MCFSError) -> pid_t {
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        if let input {
            posix_spawn_file_actions_adddup2(&actions, input, 0)
        } else {
            posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
        }
        posix_spawn_file_actions_adddup2(&actions, output, 1)
        var pointers: [UnsafeMutablePointer<CChar>?] = words.map { strdup($0) } + [nil]
        defer { for pointer in pointers { free(pointer) } }
        var process: pid_t = 0
        let code = withChildAttributes { posix_spawnp(&process, words[0], &actions, $0, &pointers, environ) }
        guard code == 0 else {
            throw MCFSError(.failed, "cannot run \(words[0]): \(Errno(rawValue: code))")
        }
        return process
    }

    private static func status(of process: pid_t, _ words: [String]) throws(MCFSError) -> CInt {
        var status: CInt = 0
        do { _ = try retryingOnInterrupt { waitpid(process, &status, 0) } } catch {
            throw MCFSError(.failed, "cannot wait for \(words[0]): \(error)", cause: error)
        }
        return status & 0x7f == 0 ? status >> 8 & 0xff : 128 + status & 0x7f
    }

    /// As a shell reads it back.
    static func quoted(_ words: [String]) -> String {
        words.map { word in
            let isPlain =
                !word.isEmpty
                && word.utf8.allSatisfy { byte in
                    byte < 128 && (Character(Unicode.Scalar(byte)).isLetter || Character(Unicode.Scalar(byte)).isNumber)
                        || "-_./:=@%+,".utf8.contains(byte)
                }
            return isPlain ? word : "'" + word.replacing("'", with: "'\\''") + "'"
        }.joined(separator: " ")
    }
}
