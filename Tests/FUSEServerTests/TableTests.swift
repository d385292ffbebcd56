import CFUSE
import Glibc
import MCFSCore
import Synchronization
import Testing

@testable import FUSEServer

@Suite struct TableTests {
    @Test("every error code has an errno that read(2) may give", arguments: MCFSError.Code.allCases)
    func errnos(code: MCFSError.Code) {
        #expect([EIO, EINVAL, ENOENT, EBUSY, ENOTCONN, EOPNOTSUPP].contains(code.errno))
    }

    @Test(
        "what concerns only the origin or the cache is an I/O error to a reader",
        arguments: [
            .corrupt, .originUnavailable, .timedOut, .changed, .unauthorized, .noSpace, .localIO,
        ] as [MCFSError.Code])
    func ioErrors(code: MCFSError.Code) { #expect(code.errno == EIO) }

    @Test("the mount's device numbers come from the last mount on a path")
    func mountinfo() {
        let text = """
            22 1 253:0 / / rw,relatime - ext4 /dev/vda rw
            40 22 0:50 / /mnt/with\\040space ro,nosuid - fuse.mcfs mcfs ro
            41 40 0:51 / /mnt/with\\040space ro,nosuid - fuse.mcfs mcfs ro
            42 22 broken / /mnt/other ro - fuse x ro
            """
        let mount = KernelMount(at: "/mnt/with space", mountinfo: text)
        #expect(mount?.major == 0)
        #expect(mount?.minor == 51)
        #expect(KernelMount(at: "/mnt/other", mountinfo: text) == nil)
        #expect(KernelMount(at: "/mnt", mountinfo: "") == nil)
    }

    @Test(
        "a source name cannot add mount options",
        arguments: [("a,b", "a\\,b"), ("a\\", "a\\\\"), ("oci://x/y:1", "oci://x/y:1"), ("", "mcfs"), ("a\nb", "ab")])
    func sourceNames(name: String, escaped: String) { #expect(MountSession.escape(name) == escaped) }

    @Test("only the first reply is patched, and only where it is INIT's success")
    func wireTap() {
        func flags(_ tap: WireTap, error: Int32, bodyCount: Int = 64) -> UInt32 {
            var header = [UInt8](repeating: 0, count: 16)
            header.withUnsafeMutableBytes { $0.storeBytes(of: error, toByteOffset: 4, as: Int32.self) }
            var body = [UInt8](repeating: 0, count: 64)
            header.withUnsafeMutableBytes { header in
                body.withUnsafeMutableBytes { body in
                    var vectors = [
                        iovec(iov_base: header.baseAddress, iov_len: 16),
                        iovec(iov_base: body.baseAddress, iov_len: bodyCount),
                    ]
                    _ = vectors.withUnsafeMutableBufferPointer { tap.patch($0) }
                }
            }
            return body.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: 12, as: UInt32.self) }
        }
        func tap(offered: Bool = true) -> WireTap {
            let tap = WireTap()
            tap.offersParallelDirectories.store(offered, ordering: .relaxed)
            return tap
        }
        let first = tap()
        #expect(flags(first, error: 0) == 1 << 18)
        #expect(flags(first, error: 0) == 0)
        #expect(flags(tap(), error: -71) == 0)
        #expect(flags(tap(), error: 0, bodyCount: 8) == 0)
        #expect(flags(tap(offered: false), error: 0) == 0)
    }

    @Test("a thread is being killed where SIGKILL is pending for it or its process")
    func killPending() {
        let quiet = "Name:\tcat\nSigPnd:\t0000000000002000\nShdPnd:\t0000000000000000\nSigBlk:\t0000000000000100\n"
        #expect(!KilledReaders.isKillPending(status: quiet))
        #expect(KilledReaders.isKillPending(status: quiet + "SigPnd:\t0000000000000100\n"))
        #expect(KilledReaders.isKillPending(status: quiet + "ShdPnd:\t0000000000002100\n"))
        #expect(!KilledReaders.isKillPending(status: "SigPnd:\tx\nSigPnd:\n"))
        #expect(!KilledReaders.isBeingKilled(getpid()))
        #expect(!KilledReaders.isBeingKilled(0))
        #expect(KilledReaders.isBeingKilled(pid_t.max))
    }

    @Test("a backing file is written into the reply to OPEN, and into nothing else")
    func backing() {
        /// The reply as it leaves: flags and backing file of `fuse_open_out`.
        func reply(_ backing: Int32, error: Int32 = 0, bodyCount: Int = 16) -> [UInt32] {
            let tap = WireTap()
            var header = [UInt8](repeating: 0, count: 16)
            header.withUnsafeMutableBytes { $0.storeBytes(of: error, toByteOffset: 4, as: Int32.self) }
            var body = [UInt8](repeating: 0, count: 24)
            header.withUnsafeMutableBytes { header in
                body.withUnsafeMutableBytes { body in
                    var vectors = [
                        iovec(iov_base: header.baseAddress, iov_len: 16),
                        iovec(iov_base: body.baseAddress, iov_len: bodyCount),
                    ]
                    vectors.withUnsafeMutableBufferPointer { vectors in
                        _ = tap.patch(UnsafeMutableBufferPointer(rebasing: vectors[..<1]))
                        WireTap.answeringOpen(withBacking: backing) { _ = tap.patch(vectors) }
                    }
                }
            }
            return body.withUnsafeBytes { body in
                [8, 12].map { body.loadUnaligned(fromByteOffset: $0, as: UInt32.self) }
            }
        }
        #expect(reply(7) == [1 << 7, 7])
        #expect(reply(0) == [0, 0])
        #expect(reply(7, error: -2) == [0, 0])
        #expect(reply(7, bodyCount: 24) == [0, 0])
    }

    @Test("a mountpoint that is not there is one sentence that names it")
    func noMountpoint() throws {
        let error = #expect(throws: MCFSError.self) {
            _ = try MountSession(try Fixture.fileSystem(FakeStore()), at: "/nonexistent/mcfs", options: .init()) {}
        }
        #expect(error?.code == .cannotCreate)
        #expect(error?.message.contains("/nonexistent/mcfs") == true)
    }
}
