import ControlAPI
import Glibc
import Logging
import MCFSCore
import MCFSTestSupport
import Testing

@testable import Daemon

@Suite struct ControlServerTests {
    private let folder = TemporaryDirectory()

    private func server() throws -> ControlServer {
        let configuration = try Configuration.load(
            flags: [.cacheDir: Configuration.Setting(folder.path, place: "test")], environment: Environment([:]),
            isRoot: false, workingDirectory: "/")
        let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
        let service = try MountService(
            directory: CacheLock(folder.path), configuration: configuration, logger: logger, changed: {})
        return try ControlServer(service, cacheDirectory: folder.path)
    }

    @Test("a server that is stopped at any moment of its start ends, and leaves no socket", .timeLimit(.minutes(5)))
    func stopping() async throws {
        let server = try server()
        for microseconds in stride(from: UInt32(0), through: 3000, by: 100) {
            let task = Task { try await server.run {} }
            usleep(microseconds)
            await server.drain(seconds: 0)
            task.cancel()
            _ = await task.result
            #expect(access(folder.path + "/" + ControlSocket.name, F_OK) != 0)
        }
    }

    @Test("a socket that cannot be made is an error that names it and what to do", .timeLimit(.minutes(5)))
    func noSocket() async throws {
        let server = try server()
        // What is no socket's place cannot be unlinked either.
        mkdir(folder.path + "/" + ControlSocket.name, 0o700)
        let error = await #expect(throws: MCFSError.self) { try await server.run {} }
        #expect(error?.code == .cannotCreate)
        #expect(error?.message.contains("control.sock") == true)
        #expect(error?.message.contains("--cache-dir") == true)
    }
}

@Suite struct MakingErrorTests {
    @Test(
        "what a full, read-only or failing disk keeps from being made has a remedy and its own code",
        arguments: [
            (ENOSPC, MCFSError.Code.noSpace, "inodes"), (EDQUOT, .noSpace, "free space"),
            (EIO, .localIO, "look at its disk"),
            (EROFS, .cannotCreate, "writable"), (EACCES, .cannotCreate, "--cache-dir"),
        ])
    func remedies(errno: CInt, code: MCFSError.Code, remedy: String) {
        let error = MCFSError(making: "the lock", inCacheDirectory: "/c", Errno(rawValue: errno))
        #expect(error.code == code)
        #expect(error.message.contains(remedy))
    }
}

@Suite struct SpareRoomTests {
    private let folder = TemporaryDirectory()

    @Test("what is taken occupies the disk, and is given back whole")
    func room() throws {
        let room = SpareRoom(cacheDirectory: folder.path)
        room.take()
        room.take()
        #expect(DirectoryUsage.bytes(folder.path) >= UInt64(SpareRoom.fileCount * SpareRoom.fileBytes))
        room.give()
        #expect(DirectoryUsage.bytes(folder.path) == 0)
        room.give()
    }

    @Test("no link in its place is followed")
    func links() throws {
        let other = TemporaryDirectory()
        mkdir(folder.path + "/spare", 0o700)
        symlink(other.path + "/file", folder.path + "/spare/0")
        let room = SpareRoom(cacheDirectory: folder.path)
        room.take()
        #expect(access(other.path + "/file", F_OK) != 0)
        rmdir(folder.path + "/spare")
        unlink(folder.path + "/spare/0")
        rmdir(folder.path + "/spare")
        // The folder itself may be a link: what it leads to is nothing of ours.
        symlink(other.path, folder.path + "/spare")
        try "mine".write(to: other.path + "/0")
        room.give()
        room.take()
        #expect(access(other.path + "/0", F_OK) == 0)
        #expect(DirectoryUsage.bytes(other.path) < 8192)
    }
}

extension String {
    fileprivate func write(to path: String) throws {
        let file = try OwnedDescriptor.open(path, O_WRONLY | O_CREAT)
        try Array(utf8).withBytes { (bytes) throws(Errno) in try file.write(bytes, at: 0) }
    }
}
