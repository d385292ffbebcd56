internal import CLinux
package import Glibc

/// A file descriptor that closes when its owner goes. Calls retry on EINTR and are safe from any thread.
package final class OwnedDescriptor: Sendable {
    package let rawValue: CInt

    /// Takes ownership of an open descriptor.
    package init(owning descriptor: CInt) { rawValue = descriptor }

    deinit { close(rawValue) }

    /// `openat(2)`, always with `O_CLOEXEC`. `directory` nil stands for the working directory.
    package static func open(
        _ path: String, at directory: OwnedDescriptor? = nil, _ flags: CInt, mode: UInt32 = 0o600
    ) throws(Errno) -> OwnedDescriptor {
        let parent = directory?.rawValue ?? AT_FDCWD
        return OwnedDescriptor(
            owning: try retryingOnInterrupt { mcfs_openat(parent, path, flags | O_CLOEXEC, mode) })
    }

    /// Writes all of `bytes` at `offset`.
    package func write(_ bytes: UnsafeRawBufferPointer, at offset: UInt64) throws(Errno) {
        var done = 0
        while done < bytes.count {
            let written = try retryingOnInterrupt {
                pwrite(rawValue, bytes.baseAddress! + done, bytes.count - done, off_t(offset) + off_t(done))
            }
            done += written
        }
    }

    /// Reads at `offset` until `buffer` is full or the file ends; returns the number of bytes read.
    package func read(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(Errno) -> Int {
        var done = 0
        while done < buffer.count {
            let count = try retryingOnInterrupt {
                pread(rawValue, buffer.baseAddress! + done, buffer.count - done, off_t(offset) + off_t(done))
            }
            if count == 0 { break }
            done += count
        }
        return done
    }

    package func status() throws(Errno) -> stat {
        var result = stat()
        _ = try retryingOnInterrupt { fstat(rawValue, &result) }
        return result
    }
}
