internal import CFUSE
internal import Glibc
internal import Synchronization

/// Stands between libfuse and /dev/fuse, for what the kernel's protocol can do and libfuse 3.14 cannot say. Now:
/// PARALLEL_DIROPS, which libfuse offers and forgets to send, so that the kernel would look up names in a directory one
/// at a time.
///
/// Layouts: `include/uapi/linux/fuse.h` of Linux, `fuse_out_header` and `fuse_init_out`.
final class WireTap: Sendable {
    /// Set by the INIT callback, before its reply passes here.
    let offersParallelDirectories = Atomic<Bool>(false)
    private let hasSeenReply = Atomic<Bool>(false)

    private static let parallelDirectoriesFlag: UInt32 = 1 << 18

    /// Puts the tap of `session`'s context between the two; to be called when `session` is mounted and before it serves.
    static func install(in session: OpaquePointer) -> CInt {
        var io = fuse_custom_io()
        io.read = mcfs_wire_read
        io.writev = { descriptor, vectors, count, userdata in
            if let context = ServingContext.of(userdata: userdata), let vectors {
                context.wire.patch(UnsafeMutableBufferPointer(start: vectors, count: Int(count)))
            }
            // Last: libfuse reads errno next.
            return writev(descriptor, vectors, count)
        }
        return fuse_session_custom_io(session, &io, fuse_session_fd(session))
    }

    func patch(_ vectors: UnsafeMutableBufferPointer<iovec>) {
        // The kernel asks nothing else before INIT is answered, so the first reply is INIT's.
        if hasSeenReply.load(ordering: .relaxed) || hasSeenReply.exchange(true, ordering: .relaxed) { return }
        guard vectors.count == 2, let header = vectors[0].iov_base, vectors[0].iov_len >= 16,
            header.loadUnaligned(fromByteOffset: 4, as: Int32.self) == 0,
            let body = vectors[1].iov_base, vectors[1].iov_len >= 24
        else { return }
        if offersParallelDirectories.load(ordering: .relaxed) {
            let flags = body.loadUnaligned(fromByteOffset: 12, as: UInt32.self) | Self.parallelDirectoriesFlag
            body.storeBytes(of: flags, toByteOffset: 12, as: UInt32.self)
        }
    }
}
