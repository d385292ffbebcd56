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
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        if !input { posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0) }
        posix_spawn_file_actions_adddup2(&actions, 2, 1)
        var pointers: [UnsafeMutablePointer<CChar>?] = words.map { strdup($0) } + [nil]
        defer { for pointer in pointers { free(pointer) } }
        var process: pid_t = 0
        let code = withChildAttributes { posix_spawnp(&process, words[0], &actions, $0, &pointers, environ) }
        guard code == 0 else {
            throw MCFSError(.failed, "cannot run \(words[0]): \(Errno(rawValue: code))")
        }
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
