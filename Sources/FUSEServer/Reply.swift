internal import CFUSE
internal import CLinux
internal import ChunkStore
internal import Glibc
internal import MCFSCore
internal import MountFS

/// Owns one kernel request until exactly one answer is sent. Dropping it answers EIO: a bug, but never a hung process.
///
/// May be used from any thread. An answer that the kernel does not take (the reader is gone, the mount ended) is lost
/// without harm: libfuse frees the request all the same.
// @unchecked: libfuse lets any thread answer a request, and only the owner of this value does.
struct Reply: ~Copyable, @unchecked Sendable {
    /// `fuse_req_t`.
    let request: OpaquePointer

    init(_ request: OpaquePointer) { self.request = request }

    deinit { fuse_reply_err(request, EIO) }

    consuming func fail(errno: CInt) {
        fuse_reply_err(request, errno)
        discard self
    }

    consuming func fail(_ error: some RequestError) { fail(errno: error.errno) }

    /// Success without data.
    consuming func succeed() { fail(errno: 0) }

    /// For requests that have no answer (FORGET).
    consuming func finish() {
        fuse_reply_none(request)
        discard self
    }

    consuming func send(_ bytes: UnsafeRawBufferPointer) {
        fuse_reply_buf(request, bytes.baseAddress?.assumingMemoryBound(to: CChar.self), bytes.count)
        discard self
    }

    consuming func send(_ bytes: [UInt8]) {
        let request = request
        bytes.withUnsafeBytes { buffer in
            _ = fuse_reply_buf(request, buffer.baseAddress?.assumingMemoryBound(to: CChar.self), buffer.count)
        }
        discard self
    }

    /// Sends the bytes of `region`, all or none.
    ///
    /// A region of a file is copied through the thread's buffer. Splicing its pages instead would hand them to the
    /// reader before they are read, while eviction may punch them out.
    /// - Returns: nil where the bytes were sent, else what was answered instead.
    consuming func send(_ region: borrowing FileRegion) -> MCFSError? {
        switch region.storage {
        case .memory(let bytes):
            send(UnsafeRawBufferPointer(rebasing: bytes.prefix(region.count)))
            return nil
        case .file(let descriptor, let offset):
            let count = region.count
            let request = request
            let failure: MCFSError?? = ThreadBuffer.with(count) { buffer in
                do throws(Errno) {
                    let done = try Self.read(descriptor, into: buffer, at: offset)
                    guard done == count else {
                        return MCFSError(.localIO, "a file of the cache ended \(count - done) bytes early")
                    }
                } catch {
                    return MCFSError(localIO: "read a file of the cache", error)
                }
                fuse_reply_buf(request, buffer.baseAddress?.assumingMemoryBound(to: CChar.self), count)
                return nil
            }
            guard let failure = failure ?? MCFSError(localIO: "read a file of the cache", Errno(rawValue: ENOMEM))
            else {
                discard self
                return nil
            }
            fail(failure)
            return failure
        }
    }

    /// Sends at most `count` bytes of a file at `offset`: fewer where it ends.
    /// - Returns: how many were sent, or what was answered instead.
    consuming func send(upTo count: Int, of file: OwnedDescriptor, at offset: UInt64) -> Result<Int, Errno> {
        let request = request
        let result: Result<Int, Errno>? = ThreadBuffer.with(count) { buffer in
            do throws(Errno) {
                let done = try Self.read(file.rawValue, into: buffer, at: offset)
                fuse_reply_buf(request, buffer.baseAddress?.assumingMemoryBound(to: CChar.self), done)
                return .success(done)
            } catch {
                return .failure(error)
            }
        }
        guard case .success? = result else {
            let error = if case .failure(let error)? = result { error } else { Errno(rawValue: ENOMEM) }
            fail(errno: error.rawValue)
            return .failure(error)
        }
        discard self
        return result!
    }

    private static let cachedBytesMax = 64 << 10

    private static func read(
        _ descriptor: CInt, into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64
    ) throws(Errno) -> Int {
        guard let start = buffer.baseAddress else { return 0 }
        var done = 0
        // A little that is in memory, as a small file that was just fetched, is no reason for another thread to take over; it is
        // for larger reads, of which the kernel has the next one ready.
        if buffer.count <= cachedBytesMax {
            done = max(0, mcfs_read_cached(descriptor, start, buffer.count, off_t(clamping: offset)))
            if done == buffer.count { return done }
        }
        ServingThreads.mayBlock()
        while done < buffer.count {
            let count = try retryingOnInterrupt {
                pread(descriptor, start + done, buffer.count - done, off_t(clamping: offset) + off_t(done))
            }
            if count == 0 { break }
            done += count
        }
        return done
    }
}
