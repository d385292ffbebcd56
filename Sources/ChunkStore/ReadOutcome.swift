package import MCFSCore

/// Bytes of one read that stay readable until this value is gone: its deinit releases what eviction waits for.
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
    private let owner: any AnyObject & Sendable

    init(storage: Storage, count: Int, owner: any AnyObject & Sendable) {
        self.storage = storage
        self.count = count
        self.owner = owner
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
