internal import Glibc
package import MCFSCore

/// Bytes of one read that stay readable, and the same, until this value is gone.
package struct FileRegion: ~Copyable, Sendable {
    package enum Storage: @unchecked Sendable {
        /// At `offset` of an open file of the cache.
        case file(descriptor: CInt, offset: UInt64)
        /// In memory: the cache could not keep them. The pointer lives as long as `owner` below.
        case memory(UnsafeRawBufferPointer)
    }

    package let storage: Storage
    /// Bytes.
    package let count: Int
    /// Keeps the descriptor open, or the memory allocated. An evicted file is unlinked, never punched or rewritten: the
    /// bytes stay what they were for whoever still has it open.
    private let owner: any AnyObject & Sendable

    /// - Parameter owner: keeps what `storage` points at.
    init(storage: Storage, count: Int, owner: any AnyObject & Sendable) {
        self.storage = storage
        self.count = count
        self.owner = owner
    }

    init(_ file: StoredFile, _ range: ByteRange) {
        storage = .file(descriptor: file.descriptor.rawValue, offset: range.lowerBound)
        count = Int(range.count)
        owner = file
    }

    /// Bytes that no file of the cache has.
    package init(copying bytes: ArraySlice<UInt8>) {
        let memory = MemoryBuffer(count: bytes.count)
        memory.bytes.copyBytes(from: bytes)
        self.init(memory)
    }

    init(_ memory: MemoryBuffer) { self.init(memory, offset: 0, count: UInt64(memory.count)) }

    /// Calls `body` with the bytes, in memory during the call. nil where they cannot be read.
    package func withBytes<Result>(_ body: (UnsafeRawBufferPointer) -> Result) -> Result? {
        switch storage {
        case .memory(let bytes):
            return body(UnsafeRawBufferPointer(rebasing: bytes.prefix(count)))
        case .file(let descriptor, let offset):
            let buffer = MemoryBuffer(count: count)
            var done = 0
            while done < count {
                let got = pread(descriptor, buffer.bytes.baseAddress! + done, count - done, off_t(offset) + off_t(done))
                if got < 0, errno == EINTR { continue }
                guard got > 0 else { return nil }
                done += got
            }
            return body(UnsafeRawBufferPointer(buffer.bytes))
        }
    }

    /// A part of a buffer, which must hold it.
    init(_ memory: MemoryBuffer, offset: UInt64, count: UInt64) {
        let part = memory.bytes[Int(offset)..<Int(offset + count)]
        storage = .memory(UnsafeRawBufferPointer(rebasing: part))
        self.count = part.count
        owner = memory
    }
}

package enum ReadOutcome: ~Copyable, Sendable {
    /// The bytes are local.
    case region(FileRegion)
    /// The waiter will be completed, once, from another thread, at the read's deadline at the latest.
    case pending
}

/// Waits for bytes that are being fetched.
package protocol ReadWaiter: AnyObject, Sendable {
    func complete(_ result: consuming Result<FileRegion, MCFSError>)
}
