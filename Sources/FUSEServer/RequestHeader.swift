/// What each request begins with: `fuse_in_header` of `include/uapi/linux/fuse.h` of Linux.
struct RequestHeader {
    /// Bytes.
    static let size = 40

    enum Operation: UInt32 {
        case forget = 2
        case setAttributes = 4
        case symlink = 6
        case makeNode = 8
        case makeDirectory = 9
        case unlink = 10
        case removeDirectory = 11
        case rename = 12
        case link = 13
        case open = 14
        case read = 15
        case write = 16
        case release = 18
        case setAttribute = 21
        case removeAttribute = 24
        case initialize = 26
        case create = 35
        case batchForget = 42
        case rename2 = 45

        /// nil for fewer bytes than a header has, and for all that nobody here looks for.
        init?(_ request: UnsafeRawBufferPointer) {
            guard request.count >= RequestHeader.size else { return nil }
            self.init(rawValue: request.loadUnaligned(fromByteOffset: 4, as: UInt32.self))
        }
    }

    /// nil for all that nobody here looks for.
    let operation: Operation?
    let unique: UInt64
    let node: UInt64
    let uid: UInt32
    let gid: UInt32
    /// The thread that asks; 0 where it cannot be seen from here, or is none.
    let thread: UInt32

    /// nil for fewer bytes than it has.
    init?(_ request: UnsafeRawBufferPointer) {
        guard request.count >= Self.size else { return nil }
        operation = Operation(request)
        unique = request.loadUnaligned(fromByteOffset: 8, as: UInt64.self)
        node = request.loadUnaligned(fromByteOffset: 16, as: UInt64.self)
        uid = request.loadUnaligned(fromByteOffset: 24, as: UInt32.self)
        gid = request.loadUnaligned(fromByteOffset: 28, as: UInt32.self)
        thread = request.loadUnaligned(fromByteOffset: 32, as: UInt32.self)
    }

    /// Whether it may wait for the disk that is written to: what is opened for reading is answered elsewhere.
    var isChange: Bool {
        switch operation {
        case .setAttributes, .symlink, .makeNode, .makeDirectory, .unlink, .removeDirectory, .rename, .link, .open,
            .write,
            .setAttribute, .removeAttribute, .create, .rename2:
            true
        case .forget, .read, .release, .initialize, .batchForget, nil: false
        }
    }

    /// Whether the kernel sends it on its own, while whoever it is about goes on.
    var isUnawaited: Bool { operation == .release || operation == .forget || operation == .batchForget }
}
