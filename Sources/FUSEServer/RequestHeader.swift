/// What each request begins with: `fuse_in_header` of `include/uapi/linux/fuse.h` of Linux.
struct RequestHeader {
    /// Bytes.
    static let size = 40

    enum Operation: UInt32 {
        case forget = 2
        case open = 14
        case read = 15
        case release = 18
        case batchForget = 42
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
        operation = Operation(rawValue: request.loadUnaligned(fromByteOffset: 4, as: UInt32.self))
        unique = request.loadUnaligned(fromByteOffset: 8, as: UInt64.self)
        node = request.loadUnaligned(fromByteOffset: 16, as: UInt64.self)
        uid = request.loadUnaligned(fromByteOffset: 24, as: UInt32.self)
        gid = request.loadUnaligned(fromByteOffset: 28, as: UInt32.self)
        thread = request.loadUnaligned(fromByteOffset: 32, as: UInt32.self)
    }

    /// Whether the kernel sends it on its own, while whoever it is about goes on.
    var isUnawaited: Bool { operation == .release || operation == .forget || operation == .batchForget }
}
