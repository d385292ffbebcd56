package import ControlAPI
internal import Glibc
internal import Logging
package import MCFSCore

/// Starts the daemon of a cache directory in the background where none runs.
///
/// The daemon writes to a pipe when it is ready, or why it is not. Two that are started at once race for the lock of
/// the directory: the one that loses says `busy`, and its starter goes on waiting for the other's socket.
package struct DaemonLauncher: Sendable {
    private static let startDeadline = Duration.seconds(30)
    /// A daemon that holds its directory is silent for as long as it opens its socket, or has no descriptor to do so.
    private static let answerPatience = Duration.seconds(10)
    /// `mcfs daemon --ready-descriptor`: the pipe in the child.
    package static let readyDescriptor: CInt = 3
    package static let readyLine = "ready\n"

    let configuration: Configuration
    /// What the child gets of this process's environment, besides where home and programs are: never a credential.
    private static let inherited = ["HOME", "LANG", "PATH", "TMPDIR", "TZ", "USER"]

    package init(_ configuration: Configuration) { self.configuration = configuration }

    /// Whether a daemon accepts connections.
    private var isRunning: Bool {
        (try? ControlSocket(cacheDirectory: configuration.cacheDirectory))?.isListening ?? false
    }

    /// nil where no daemon has the cache directory. One that starts, ends, or opens its socket anew is waited for: what it has mounted is
    /// there meanwhile.
    ///
    /// - Throws: `timedOut` where it lives and does not answer.
    package func runningClient() throws(MCFSError) -> ControlClient? {
        try CacheLock.checkOwner(configuration.cacheDirectory)
        let deadline = Deadline(after: Self.answerPatience)
        while true {
            if isRunning {
                _ = try ControlSocket(cacheDirectory: configuration.cacheDirectory).checkListener()
                let client = try ControlClient(cacheDirectory: configuration.cacheDirectory)
                if client.isHealthy() { return client }
            }
            if try !CacheLock.isHeld(configuration.cacheDirectory) { return nil }
            if deadline.hasPassed { throw silence }
            usleep(50_000)
        }
    }

    private var silence: MCFSError {
        let directory = configuration.cacheDirectory
        return MCFSError(
            .timedOut, "the daemon of \(directory) neither answers nor ends; look at \(directory)/\(LogFile.name)")
    }

    /// Returns once a daemon answers; whether it was started here.
    ///
    /// - Throws: the daemon's own error where it cannot start; `timedOut`.
    @discardableResult
    package func ensureRunning() throws(MCFSError) -> Bool {
        try CacheLock.checkOwner(configuration.cacheDirectory)
        if isRunning { return false }
        let deadline = Deadline(after: Self.startDeadline)
        while !deadline.hasPassed {
            do {
                try start(deadline: deadline)
                return true
            } catch {
                guard error.code == .busy else { throw error }
            }
            // Somebody else has the lock: it is starting, and will listen, or it is ending, and will give the lock back.
            for _ in 0..<20 {
                if isRunning { return false }
                usleep(10_000)
            }
        }
        throw silence
    }

    /// Starts one and waits until it is ready or has said why not.
    private func start(deadline: Deadline) throws(MCFSError) {
        // The log needs the directory; whether it can be used is the daemon's to judge.
        _ = try? CacheLock.makeDirectories(configuration.cacheDirectory)
        var ends: [CInt] = [0, 0]
        guard pipe(&ends) == 0 else { throw MCFSError(.failed, "cannot make a pipe: \(Errno.current)") }
        let reading = OwnedDescriptor(owning: ends[0])
        var writing: OwnedDescriptor? = OwnedDescriptor(owning: ends[1])
        Self.closeOnExec()
        let child = try spawn(ready: ends[1])
        // Only the child holds it now: its end shows as the end of the pipe.
        writing = nil
        _ = writing
        let said = Self.readAll(reading, deadline: deadline)
        if said == Self.readyLine { return }
        if let document = try? JSON.decode(ErrorDocument.self, Array(said.utf8)) {
            _ = ChildProcess.wait(for: child)
            throw document.error.error
        }
        if deadline.hasPassed {
            kill(child, SIGKILL)
            _ = ChildProcess.wait(for: child)
            throw MCFSError(.timedOut, "the daemon of \(configuration.cacheDirectory) did not become ready in time")
        }
        let status = ChildProcess.wait(for: child)
        throw MCFSError(
            .failed,
            "the daemon ended while it started (status \(status)); look at \(configuration.cacheDirectory)/\(LogFile.name)"
        )
    }

    /// A shell's other descriptors are not the daemon's: a pipe or lock among them would stay open for ever.
    private static func closeOnExec() {
        guard let stream = opendir("/proc/self/fd") else { return }
        defer { closedir(stream) }
        while let entry = readdir(stream) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) {
                $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            if let descriptor = CInt(name), descriptor > 2 { _ = fcntl(descriptor, F_SETFD, FD_CLOEXEC) }
        }
    }

    private func spawn(ready: CInt) throws(MCFSError) -> pid_t {
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        let log = configuration.cacheDirectory + "/" + LogFile.name
        posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
        posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0)
        // Before the pipe takes a number that the log may have.
        // A disk that is full or fails is told of by the daemon, not kept from it.
        let file = try? OwnedDescriptor.open(log, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_NONBLOCK)
        if let file, (try? file.status().st_mode).map({ $0 & S_IFMT == S_IFREG }) == true {
            posix_spawn_file_actions_adddup2(&actions, file.rawValue, 2)
        } else {
            posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0)
        }
        defer { withExtendedLifetime(file) {} }
        // dup2 to itself would keep the close-on-exec mark; the pipe's ends lie above 2, but may be 3.
        if ready == Self.readyDescriptor {
            posix_spawn_file_actions_adddup2(&actions, ready, 4)
            posix_spawn_file_actions_adddup2(&actions, 4, Self.readyDescriptor)
        } else {
            posix_spawn_file_actions_adddup2(&actions, ready, Self.readyDescriptor)
        }

        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        // POSIX_SPAWN_SETSID is a macro that Swift does not import: 0x80 in <spawn.h>.
        posix_spawnattr_setflags(&attributes, 0x80)

        var process: pid_t = 0
        let code = CStrings(arguments).withPointers { arguments in
            CStrings(environment).withPointers { environment in
                posix_spawn(&process, "/proc/self/exe", &actions, &attributes, arguments, environment)
            }
        }
        guard code == 0 else {
            throw MCFSError(
                .cannotCreate, "cannot start the daemon of \(configuration.cacheDirectory): \(Errno(rawValue: code))")
        }
        return process
    }

    private var arguments: [String] {
        [
            "mcfs", "daemon", "--ready-descriptor", "\(Self.readyDescriptor)",
            "--cache-dir", configuration.cacheDirectory, "--cache-size", "\(configuration.cacheBytesMax)",
            "--read-deadline", "\(configuration.readDeadline.inSeconds)", "--log-level",
            configuration.logLevel.rawValue,
        ]
    }

    /// Configuration and places, not credentials: those come with each request.
    private var environment: [String] {
        var result: [String] = []
        var next = environ
        while let entry = next.pointee {
            let text = String(cString: entry)
            let name = text.prefix { $0 != "=" }
            if Self.inherited.contains(String(name)) || name.hasPrefix("MCFS_") || name.hasPrefix("XDG_")
                || name.hasPrefix("HSA_")
            {
                result.append(text)
            }
            next += 1
        }
        return result
    }

    private static func readAll(_ pipe: OwnedDescriptor, deadline: Deadline) -> String {
        var bytes: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 4096)
        while bytes.count < 1 << 16 {
            var wait = pollfd(fd: pipe.rawValue, events: Int16(POLLIN), revents: 0)
            let count = poll(&wait, 1, CInt(clamping: deadline.remaining.milliseconds))
            if count < 0 && errno == EINTR { continue }
            if count <= 0 { break }
            let size = read(pipe.rawValue, &buffer, buffer.count)
            if size <= 0 { break }
            bytes += buffer.prefix(size)
        }
        return String(decoding: bytes, as: UTF8.self)
    }
}
