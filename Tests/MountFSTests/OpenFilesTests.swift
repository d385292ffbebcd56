import Glibc
import MCFSCore
import Testing

@testable import MountFS

@Suite struct OpenFilesTests {
    @Test("bytes that did not get to the disk are told once to each open that was there, and to none that came later")
    func failures() throws {
        let files = OpenFiles()
        let file = try OwnedDescriptor.open("/dev/null", O_RDWR)
        func open() throws(Errno) -> UInt64 {
            _ = try files.open(7) { () throws(Errno) in .upper(file) }
            return files.newHandle()
        }
        func sync(_ handle: UInt64, fails: Bool = false) throws(Errno) {
            try files.sync(7, handle: handle) { (_) throws(Errno) in if fails { throw .io } }
        }
        let first = try open()
        let second = try open()
        try sync(first)
        #expect(throws: Errno.io) { try sync(first, fails: true) }
        let third = try open()
        try sync(first)
        try sync(third)
        #expect(throws: Errno.io) { try sync(second) }
        try sync(second)
        // Another one is told anew, to all.
        #expect(throws: Errno.io) { try sync(third, fails: true) }
        #expect(throws: Errno.io) { try sync(first) }
        #expect(throws: Errno.io) { try sync(second) }
        for handle in [first, second, third] { try sync(handle) }
        for _ in 0..<3 { files.release(7) }
        #expect(files.count == 0)
    }
}
