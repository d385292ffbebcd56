internal import CLinux
internal import Glibc
internal import MCFSCore
internal import MountFS

/// Answers whoever opens files for reading and closes them, past libfuse: that allocates and lists each request under locks,
/// which only requests that wait for something need. Opening and closing a file costs little more than these two requests.
///
/// Layouts: `include/uapi/linux/fuse.h` of Linux, `fuse_open_in` and `fuse_open_out`.
struct DirectAnswers: Sendable {
    private static let keepCacheFlag: UInt32 = 1 << 1
    private static let noFlushFlag: UInt32 = 1 << 5
    private static let passthroughFlag: UInt32 = 1 << 7

    let context: ServingContext
    /// /dev/fuse of the session.
    let device: CInt

    /// - Returns: false for other requests: nothing was done.
    func answer(_ header: RequestHeader, _ request: UnsafeRawBufferPointer) -> Bool {
        let node = Node(number: header.node)
        switch header.operation {
        case .release:
            context.release(node)
            mcfs_answer_request(device, header.unique, 0, nil, 0)
            return true
        case .open where request.count >= RequestHeader.size + 8:
            let flags = CInt(bitPattern: request.loadUnaligned(fromByteOffset: RequestHeader.size, as: UInt32.self))
            guard flags & (O_ACCMODE | O_TRUNC) == O_RDONLY else { return false }
            switch context.open(node, flags: flags, by: MountFS.Caller(uid: header.uid, gid: header.gid)) {
            case .failure(let error): mcfs_answer_request(device, header.unique, -error.rawValue, nil, 0)
            case .success(let opening): answer(header.unique, node, opening)
            }
            return true
        default: return false
        }
    }

    private func answer(_ unique: UInt64, _ node: Node, _ opening: IOModes.Opening) {
        // There is nothing to flush in what is only read.
        var answer: (handle: UInt64, flags: UInt32, backing: Int32) = (opening.handle, Self.noFlushFlag, 0)
        switch opening.mode {
        // The kernel keeps what it has in its page cache: nobody else changes content.
        case .cached: if opening.keepsPages { answer.flags |= Self.keepCacheFlag }
        case .passthrough(let file):
            answer.flags |= Self.passthroughFlag
            answer.backing = file.identifier
        }
        // No RELEASE comes for an open that was interrupted.
        if mcfs_answer_request(device, unique, 0, &answer, MemoryLayout.size(ofValue: answer)) < 0 {
            context.release(node)
        }
        if opening.dropsPages { context.dropPages(of: node) }
    }
}
