import Glibc
import MCFSCore
import MCFSTestSupport
import Testing

@testable import Daemon

@Suite struct CacheLockHolderTests {
    private let folder = TemporaryDirectory()

    @Test("a lock is held from its making until its owner goes, and looking at it takes it from nobody")
    func holding() throws {
        #expect(try !CacheLock.isHeld(folder.path + "/none"))
        #expect(try !CacheLock.isHeld(folder.path))
        var lock: CacheLock? = try CacheLock(folder.path)
        #expect(try CacheLock.isHeld(folder.path))
        let error = #expect(throws: MCFSError.self) { try CacheLock(folder.path) }
        #expect(error?.code == .busy)
        #expect(error?.message.contains("(process \(getpid()))") == true)
        withExtendedLifetime(lock) {}
        lock = nil
        #expect(try !CacheLock.isHeld(folder.path))
        _ = try CacheLock(folder.path)
    }

    @Test("where that cannot be told it is an error, not a no") func unknown() throws {
        #expect(symlink("lock", folder.path + "/lock") == 0)
        let error = #expect(throws: MCFSError.self) { try CacheLock.isHeld(folder.path) }
        #expect(error?.code == .localIO)
    }
}
