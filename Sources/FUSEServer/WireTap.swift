internal import CFUSE
internal import CLinux
internal import Glibc
internal import MCFSCore
internal import Synchronization

/// Stands between libfuse and /dev/fuse, for what the kernel's protocol can do and libfuse 3.14 cannot say:
///
/// - PARALLEL_DIROPS, which libfuse offers and forgets to send, so that the kernel would look up names in a directory one
///   at a time.
/// - PASSTHROUGH, in the answer to INIT and in those to OPEN and CREATE.
/// - HANDLE_KILLPRIV_V2: this server takes set-id bits from what is written to, so that the kernel need not look for
///   what to take before every write.
/// - SETXATTR_EXT: the kernel says who may not keep the set-group-ID bit of what they give an access control list.
///
/// Layouts: `include/uapi/linux/fuse.h` of Linux, `fuse_out_header`, `fuse_init_out` and `fuse_open_out`.
final class WireTap: Sendable {
    /// Set by the INIT callback, before its reply passes here.
    let offersParallelDirectories = Atomic<Bool>(false)
    let offersKillPrivileges = Atomic<Bool>(false)
    /// Whether the kernel speaks SETXATTR_EXT, which is asked of it together with HANDLE_KILLPRIV_V2.
    private let offersAttributeFlags = Atomic<Bool>(false)
    /// How many file systems may lie on top of each other from the mount down; 0: no passthrough.
    private let stackDepth = Atomic<UInt32>(0)
    private let hasSeenReply = Atomic<Bool>(false)

    private static let parallelDirectoriesFlag: UInt32 = 1 << 18
    private static let killPrivilegesFlag: UInt32 = 1 << 28
    private static let attributeFlagsFlag: UInt32 = 1 << 29
    /// Says that the second word of flags counts.
    private static let extendedFlag: UInt32 = 1 << 30
    private static let passthroughFlag: UInt32 = 1 << 5
    private static let openPassthroughFlag: UInt32 = 1 << 7

    /// Among the flags of SETXATTR, of which Linux has the lowest: the file loses its set-group-ID bit.
    static let dropsSetGroupID: CInt = 1 << 30

    /// The backing file of the open that the calling thread answers; 0 for none.
    private static let backingKey: pthread_key_t = {
        var key = pthread_key_t()
        let result = pthread_key_create(&key, nil)
        precondition(result == 0, "a process has room for one more thread-specific key")
        return key
    }()

    /// Puts the tap of `session`'s context between the two; to be called when `session` is mounted and before it serves.
    static func install(in session: OpaquePointer) -> CInt {
        var io = fuse_custom_io()
        io.read = { descriptor, buffer, size, userdata in
            let count = mcfs_read_request(descriptor, buffer, size, nil)
            guard count > 0, let buffer, let context = ServingContext.of(userdata: userdata) else { return count }
            return context.wire.translate(UnsafeMutableRawBufferPointer(start: buffer, count: count))
        }
        io.writev = { descriptor, vectors, count, userdata in
            guard let context = ServingContext.of(userdata: userdata), let vectors else {
                return writev(descriptor, vectors, count)
            }
            let isFirst = context.wire.patch(UnsafeMutableBufferPointer(start: vectors, count: Int(count)))
            let result = writev(descriptor, vectors, count)
            if isFirst {
                let error = errno
                context.markInitialized()
                // Libfuse reads it next.
                errno = error
            }
            return result
        }
        return fuse_session_custom_io(session, &io, fuse_session_fd(session))
    }

    /// Asks for passthrough to files of the file system that `sample` is on, and to those of an overlay if
    /// `alsoOnOverlay`; to be called before the session serves.
    func offerPassthrough(on sample: OwnedDescriptor, alsoOnOverlay: Bool) {
        // Two only where it must be: an overlay cannot be stacked on the mount then.
        let isOnOverlay = alsoOnOverlay || mcfs_is_on_overlay(sample.rawValue) != 0
        stackDepth.store(isOnOverlay ? 2 : 1, ordering: .relaxed)
    }

    var offersPassthrough: Bool { stackDepth.load(ordering: .relaxed) > 0 }

    /// Runs `body`, which answers one OPEN on this thread; the kernel then reads the file from the backing file.
    static func answeringOpen<R>(withBacking identifier: Int32, _ body: () -> R) -> R {
        pthread_setspecific(backingKey, UnsafeRawPointer(bitPattern: Int(identifier)))
        defer { pthread_setspecific(backingKey, nil) }
        return body()
    }

    /// Changes one request on its way. - Returns: its bytes.
    private func translate(_ request: UnsafeMutableRawBufferPointer) -> Int {
        switch RequestHeader.Operation(UnsafeRawBufferPointer(request)) {
        case .initialize where request.count >= RequestHeader.size + 16:
            let flags = request.loadUnaligned(fromByteOffset: RequestHeader.size + 12, as: UInt32.self)
            offersAttributeFlags.store(flags & Self.attributeFlagsFlag != 0, ordering: .relaxed)
        case .setAttribute where request.count >= RequestHeader.size + 16 && speaksAttributeFlags:
            // fuse_setxattr_in: size, flags, and what libfuse does not know: more flags, padding.
            let flagsAt = RequestHeader.size + 4
            let more = request.loadUnaligned(fromByteOffset: flagsAt + 4, as: UInt32.self)
            if more & 1 != 0 {
                let flags = request.loadUnaligned(fromByteOffset: flagsAt, as: CInt.self) | Self.dropsSetGroupID
                request.storeBytes(of: flags, toByteOffset: flagsAt, as: CInt.self)
            }
            let rest = UnsafeRawBufferPointer(rebasing: request[(flagsAt + 12)...])
            UnsafeMutableRawBufferPointer(rebasing: request[(flagsAt + 4)...]).copyMemory(from: rest)
            request.storeBytes(of: UInt32(request.count - 8), as: UInt32.self)
            return request.count - 8
        default: break
        }
        return request.count
    }

    private var speaksAttributeFlags: Bool {
        offersAttributeFlags.load(ordering: .relaxed) && offersKillPrivileges.load(ordering: .relaxed)
    }

    /// Changes one reply on its way. - Returns: whether it is the one to INIT, the kernel's first request.
    func patch(_ vectors: UnsafeMutableBufferPointer<iovec>) -> Bool {
        // The kernel asks nothing else before INIT is answered, so the first reply is INIT's.
        let isFirst = !hasSeenReply.load(ordering: .relaxed) && !hasSeenReply.exchange(true, ordering: .relaxed)
        let backing = pthread_getspecific(Self.backingKey)
        guard isFirst || backing != nil, vectors.count == 2, let header = vectors[0].iov_base,
            vectors[0].iov_len >= 16, header.loadUnaligned(fromByteOffset: 4, as: Int32.self) == 0,
            let body = vectors[1].iov_base
        else { return isFirst }
        if isFirst {
            patchInitialization(UnsafeMutableRawBufferPointer(start: body, count: vectors[1].iov_len))
        } else if vectors[1].iov_len >= 16 {
            // The answer to CREATE tells of the entry first.
            let open = body + (vectors[1].iov_len - 16)
            let flags = open.loadUnaligned(fromByteOffset: 8, as: UInt32.self) | Self.openPassthroughFlag
            open.storeBytes(of: flags, toByteOffset: 8, as: UInt32.self)
            open.storeBytes(of: Int32(Int(bitPattern: backing)), toByteOffset: 12, as: Int32.self)
        }
        return isFirst
    }

    private func patchInitialization(_ body: UnsafeMutableRawBufferPointer) {
        guard body.count >= 24 else { return }
        var flags = body.loadUnaligned(fromByteOffset: 12, as: UInt32.self)
        if offersParallelDirectories.load(ordering: .relaxed) { flags |= Self.parallelDirectoriesFlag }
        if offersKillPrivileges.load(ordering: .relaxed) { flags |= Self.killPrivilegesFlag }
        if speaksAttributeFlags { flags |= Self.attributeFlagsFlag }
        let depth = stackDepth.load(ordering: .relaxed)
        if depth > 0, body.count >= 40 {
            // Kernels that do not know a flag pass over it; `Passthrough.start` finds out.
            flags |= Self.extendedFlag
            let more = body.loadUnaligned(fromByteOffset: 32, as: UInt32.self) | Self.passthroughFlag
            body.storeBytes(of: more, toByteOffset: 32, as: UInt32.self)
            body.storeBytes(of: depth, toByteOffset: 36, as: UInt32.self)
        }
        body.storeBytes(of: flags, toByteOffset: 12, as: UInt32.self)
    }
}
