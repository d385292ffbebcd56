internal import CFUSE
internal import Glibc
internal import MCFSCore
internal import MountFS

/// The callbacks that change something. A mount without an overlay is read-only, so the kernel refuses them by itself,
/// until somebody remounts it.
extension Operations {
    static func addChanges(to operations: inout fuse_lowlevel_ops) {
        addMaking(to: &operations)
        addRemoving(to: &operations)
        addWriting(to: &operations)
        addAttributeChanges(to: &operations)
    }

    // MARK: Parts

    /// Runs `body` with the overlay, or refuses.
    private static func change(
        _ request: OpaquePointer?, _ body: (Overlay, ServingContext, consuming Reply) -> Void
    ) {
        serve(request) { context, reply in
            guard let overlay = context.fileSystem.overlay else { return reply.fail(errno: EROFS) }
            ServingThreads.mayBlock()
            body(overlay, context, reply)
        }
    }

    /// Runs `body` and answers with success or its errno.
    private static func answer(_ reply: consuming Reply, _ body: () throws(Errno) -> Void) {
        answer(reply, body) { reply, _ in reply.succeed() }
    }

    /// Runs `body`, which waits for the disk, on a thread of its own, and answers as above.
    private static func onThread(
        _ context: ServingContext, _ reply: consuming Reply, _ body: @escaping @Sendable () throws(Errno) -> Void
    ) {
        let waiter = context.pending.add(reply)
        context.syncing.run {
            do throws(Errno) {
                try body()
                waiter.answer { $0.succeed() }
            } catch {
                waiter.answer { $0.fail(error) }
            }
        }
    }

    /// Answers with an entry that `body` has counted as looked up.
    static func answer(
        _ context: ServingContext, _ reply: consuming Reply, _ body: () throws(Errno) -> NodeAttributes?
    ) {
        answer(reply, body) { reply, entry in
            if !reply.send(entry: entry), let entry { context.forget(entry.node, 1) }
        }
    }

    /// Runs `body` once a file of the tree is in the upper: at once where no bytes are needed or it is there, else on a
    /// thread of its own. A reader that is killed meanwhile ends the copy.
    ///
    /// - Parameters:
    ///   - change: what the copy looks like; a size in it says how many bytes are needed, else all are.
    ///   - body: gets the copy where one was made with the change; else the change is still to be made.
    static func afterCopyUp(
        _ overlay: Overlay, _ context: ServingContext, _ reply: consuming Reply, _ node: Node,
        with change: Overlay.Change? = nil, _ body: @escaping @Sendable (consuming Reply, OwnedDescriptor?) -> Void
    ) {
        guard overlay.mustCopyUp(node) else { return body(reply, nil) }
        let caller = caller(reply)
        // What the kernel reads by itself cannot become another file under its readers.
        let keepsNode: @Sendable () -> Bool = { !context.modes.isPassedThrough(node.number) }
        if overlay.isCopiedAtOnce(node, size: change?.size) {
            let copy: OwnedDescriptor?
            do throws(Overlay.CopyError) {
                copy = try overlay.copyUp(
                    node, with: change, by: caller, keepsNode: keepsNode, isCancelled: { false })
            } catch {
                return reply.fail(errno: context.report(error, node: node.number))
            }
            return body(reply, copy)
        }
        let waiter = context.pending.add(reply)
        context.copying.run {
            do throws(Overlay.CopyError) {
                let copy = try overlay.copyUp(
                    node, with: change, by: caller, keepsNode: keepsNode, isCancelled: { waiter.hasEnded })
                waiter.answer { body($0, copy) }
            } catch {
                let errno = context.report(error, node: node.number)
                waiter.answer { $0.fail(errno: errno) }
            }
        }
    }

    static func bytes(_ name: UnsafePointer<CChar>) -> [UInt8] {
        Array(UnsafeRawBufferPointer(start: name, count: strlen(name)))
    }

    static func caller(_ reply: borrowing Reply) -> Overlay.Caller {
        guard let context = fuse_req_ctx(reply.request)?.pointee else { return .nobody }
        return Overlay.Caller(uid: context.uid, gid: context.gid, umask: UInt16(truncatingIfNeeded: context.umask))
    }

    // MARK: Names

    private static func addMaking(to operations: inout fuse_lowlevel_ops) {
        operations.mkdir = { request, parent, name, mode in
            Operations.make(request, parent, name, .directory(permissions: UInt16(mode & 0o7777)))
        }
        operations.mknod = { request, parent, name, mode, device in
            Operations.make(request, parent, name, .node(mode: mode, device: UInt64(device)))
        }
        operations.symlink = { request, target, parent, name in
            Operations.make(request, parent, name, .symlink(target: target.map(Operations.bytes) ?? []))
        }
        operations.link = { request, node, parent, name in
            Operations.change(request) { overlay, context, reply in
                guard let name = name.map(Operations.bytes) else { return reply.fail(errno: EINVAL) }
                Operations.afterCopyUp(overlay, context, reply, Node(number: node)) { reply, _ in
                    Operations.answer(context, reply) { () throws(Errno) in
                        try overlay.link(Node(number: node), name, in: Node(number: parent))
                    }
                }
            }
        }
        operations.create = { request, parent, name, mode, info in
            Operations.change(request) { overlay, context, reply in
                guard let name, let info else { return reply.fail(errno: EINVAL) }
                Operations.create(
                    overlay, context, reply, Operations.bytes(name), UInt16(mode & 0o7777), Node(number: parent),
                    info.pointee)
            }
        }
    }

    private static func make(
        _ request: OpaquePointer?, _ parent: fuse_ino_t, _ name: UnsafePointer<CChar>?, _ making: Overlay.Making
    ) {
        change(request) { overlay, context, reply in
            guard let name else { return reply.fail(errno: EINVAL) }
            let caller = caller(reply)
            answer(context, reply) { () throws(Errno) in
                try overlay.make(making, bytes(name), in: Node(number: parent), by: caller)
            }
        }
    }

    private static func create(
        _ overlay: Overlay, _ context: ServingContext, _ reply: consuming Reply, _ name: [UInt8],
        _ permissions: UInt16, _ parent: Node, _ info: fuse_file_info
    ) {
        let caller = caller(reply)
        let made: (attributes: NodeAttributes, file: OwnedDescriptor)
        do throws(Errno) {
            // See `mcfs_read_request`.
            made =
                name == [UInt8(ascii: "/")]
                ? try overlay.createUnnamed(permissions: permissions, in: parent, by: caller)
                : try overlay.create(name, permissions: permissions, in: parent, by: caller)
        } catch {
            return reply.fail(error)
        }
        let node = made.attributes.node
        switch context.opening(.upper(made.file), of: node, writer: info.opensForWriting ? caller.uid : nil) {
        case .failure(let error):
            context.forget(node, 1)
            reply.fail(error)
        case .success(let opening):
            if !reply.send(opening, info, entry: made.attributes) {
                context.release(node)
                context.forget(node, 1)
            }
        }
    }

    private static func addRemoving(to operations: inout fuse_lowlevel_ops) {
        operations.unlink = { request, parent, name in
            Operations.change(request) { overlay, _, reply in
                guard let name else { return reply.fail(errno: EINVAL) }
                Operations.answer(reply) { () throws(Errno) in
                    try overlay.remove(Operations.bytes(name), in: Node(number: parent), isDirectory: false)
                }
            }
        }
        operations.rmdir = { request, parent, name in
            Operations.change(request) { overlay, _, reply in
                guard let name else { return reply.fail(errno: EINVAL) }
                Operations.answer(reply) { () throws(Errno) in
                    try overlay.remove(Operations.bytes(name), in: Node(number: parent), isDirectory: true)
                }
            }
        }
        operations.rename = { request, parent, name, newParent, newName, flags in
            Operations.change(request) { overlay, context, reply in
                guard let name, let newName else { return reply.fail(errno: EINVAL) }
                Operations.rename(
                    overlay, context, reply, (Node(number: parent), Operations.bytes(name)),
                    (Node(number: newParent), Operations.bytes(newName)), flags)
            }
        }
    }

    private typealias Name = (parent: Node, name: [UInt8])

    private static func rename(
        _ overlay: Overlay, _ context: ServingContext, _ reply: consuming Reply, _ from: Name, _ to: Name,
        _ flags: UInt32
    ) {
        let file: Node?
        do throws(Errno) {
            file = try overlay.rename(from.name, in: from.parent, to: to.name, in: to.parent, flags: flags)
        } catch {
            return reply.fail(error)
        }
        guard let file else { return reply.succeed() }
        // One at a time: each copy comes back here.
        afterCopyUp(overlay, context, reply, file) { reply, _ in
            rename(overlay, context, reply, from, to, flags)
        }
    }

    // MARK: Files

    private static func addWriting(to operations: inout fuse_lowlevel_ops) {
        operations.write = { request, node, bytes, size, offset, _ in
            Operations.change(request) { overlay, _, reply in
                let caller = Operations.caller(reply)
                Operations.answer(reply) { () throws(Errno) in
                    try overlay.write(
                        Node(number: node), UnsafeRawBufferPointer(start: bytes, count: size),
                        at: UInt64(clamping: offset), by: caller)
                } with: {
                    $0.send(written: $1)
                }
            }
        }
        operations.fsync = { request, node, dataOnly, _ in
            Operations.change(request) { overlay, context, reply in
                Operations.onThread(context, reply) { () throws(Errno) in
                    try overlay.sync(Node(number: node), dataOnly: dataOnly != 0)
                }
            }
        }
        operations.fsyncdir = { request, node, _, _ in
            Operations.change(request) { overlay, context, reply in
                Operations.onThread(context, reply) { () throws(Errno) in
                    try overlay.syncDirectory(Node(number: node))
                }
            }
        }
        operations.fallocate = { request, node, mode, offset, length, _ in
            Operations.change(request) { overlay, context, reply in
                let caller = Operations.caller(reply)
                Operations.onThread(context, reply) { () throws(Errno) in
                    try overlay.allocate(
                        Node(number: node), mode: mode, offset: Int64(offset), length: Int64(length), by: caller)
                }
            }
        }
        operations.copy_file_range = { request, from, fromOffset, _, to, toOffset, _, count, _ in
            Operations.change(request) { overlay, context, reply in
                let caller = Operations.caller(reply)
                let waiter = context.pending.add(reply)
                context.syncing.run {
                    do throws(Errno) {
                        let done = try overlay.copy(
                            Node(number: from), at: Int64(fromOffset), to: Node(number: to), at: Int64(toOffset),
                            count: count, by: caller)
                        waiter.answer { $0.send(written: done) }
                    } catch {
                        waiter.answer { $0.fail(error) }
                    }
                }
            }
        }
        operations.lseek = { request, node, offset, whence, _ in
            // The kernel then seeks by the size alone, for the whole mount.
            Operations.serve(request) { context, reply in
                guard let overlay = context.fileSystem.overlay else { return reply.fail(errno: ENOSYS) }
                Operations.answer(reply) { () throws(Errno) in
                    try overlay.seek(Node(number: node), to: Int64(offset), whence: whence)
                } with: {
                    $0.send(position: $1)
                }
            }
        }
    }

    // MARK: Attributes

    private static func addAttributeChanges(to operations: inout fuse_lowlevel_ops) {
        operations.setattr = { request, node, status, fields, _ in
            Operations.change(request) { overlay, context, reply in
                guard let status else { return reply.fail(errno: EINVAL) }
                let node = Node(number: node)
                let change = Overlay.Change(status.pointee, fields: fields)
                let caller = Operations.caller(reply)
                // What others write to, who should take the bits away by that, must not get them.
                if let permissions = change.permissions, permissions & 0o6000 != 0,
                    context.modes.isWrittenThrough(node.number, byOthersThan: caller.uid)
                {
                    return reply.fail(errno: EBUSY)
                }
                let answer: @Sendable (consuming Reply, OwnedDescriptor?) -> Void = { reply, copy in
                    Operations.answer(reply) { () throws(Errno) in
                        copy == nil
                            ? try overlay.change(node, change, by: caller) : try overlay.attributes(ofUpper: node)
                    } with: {
                        $0.send(attributes: $1)
                    }
                }
                guard overlay.mustCopyUp(node, for: change) else { return answer(reply, nil) }
                Operations.afterCopyUp(overlay, context, reply, node, with: change, answer)
            }
        }
        operations.setxattr = { request, node, name, value, size, flags in
            Operations.change(request) { overlay, context, reply in
                guard let name = name.map(Operations.bytes) else { return reply.fail(errno: EINVAL) }
                let node = Node(number: node)
                let value = Array(UnsafeRawBufferPointer(start: value, count: size))
                let answer: @Sendable (consuming Reply, OwnedDescriptor?) -> Void = { reply, _ in
                    Operations.answer(reply) { () throws(Errno) in
                        try value.withBytes { (value: UnsafeRawBufferPointer) throws(Errno) in
                            try overlay.setExtendedAttribute(name, value, flags: flags, of: node)
                        }
                    }
                }
                guard overlay.mustCopyUp(node, forAttribute: name, size: size) else { return answer(reply, nil) }
                Operations.afterCopyUp(overlay, context, reply, node, answer)
            }
        }
        operations.removexattr = { request, node, name in
            Operations.change(request) { overlay, context, reply in
                guard let name = name.map(Operations.bytes) else { return reply.fail(errno: EINVAL) }
                let node = Node(number: node)
                let answer: @Sendable (consuming Reply, OwnedDescriptor?) -> Void = { reply, _ in
                    Operations.answer(reply) { () throws(Errno) in
                        try overlay.removeExtendedAttribute(name, of: node)
                    }
                }
                guard overlay.mustCopyUp(node, forAttribute: name, size: 0) else { return answer(reply, nil) }
                Operations.afterCopyUp(overlay, context, reply, node, answer)
            }
        }
    }
}

extension Overlay.Change {
    /// - Parameter fields: of `FUSE_SET_ATTR_…`.
    fileprivate init(_ status: stat, fields: CInt) {
        self.init()
        func has(_ field: CInt) -> Bool { fields & field != 0 }
        if has(FUSE_SET_ATTR_MODE) { permissions = UInt16(status.st_mode & 0o7777) }
        if has(FUSE_SET_ATTR_UID) { uid = status.st_uid }
        if has(FUSE_SET_ATTR_GID) { gid = status.st_gid }
        if has(FUSE_SET_ATTR_SIZE) { size = UInt64(clamping: status.st_size) }
        if has(FUSE_SET_ATTR_ATIME) { accessed = .at(Timestamp(status.st_atim)) }
        if has(FUSE_SET_ATTR_MTIME) { modified = .at(Timestamp(status.st_mtim)) }
        if has(FUSE_SET_ATTR_ATIME_NOW) { accessed = .now }
        if has(FUSE_SET_ATTR_MTIME_NOW) { modified = .now }
    }
}

extension Timestamp {
    fileprivate init(_ time: timespec) {
        self.init(seconds: Int64(time.tv_sec), nanoseconds: UInt32(clamping: time.tv_nsec))
    }
}
