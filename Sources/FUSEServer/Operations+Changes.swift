internal import CFUSE
internal import Glibc
internal import MCFSCore
internal import MountFS

/// The callbacks that change something.
extension Operations {
    static func addChanges(to operations: inout fuse_lowlevel_ops) {
        addMaking(to: &operations)
        addRemoving(to: &operations)
        addWriting(to: &operations)
        addSyncing(to: &operations)
        addAttributeChanges(to: &operations)
    }

    // MARK: Parts

    /// As `answer`, for what may wait for the disk.
    private static func change<Value>(
        _ request: OpaquePointer?, _ body: (any MountedFiles) throws(Errno) -> Value,
        with send: (consuming Reply, Value) -> Void
    ) {
        ServingThreads.mayBlock()
        answer(request, body, with: send)
    }

    private static func change(_ request: OpaquePointer?, _ body: (any MountedFiles) throws(Errno) -> Void) {
        change(request, body) { reply, _ in reply.succeed() }
    }

    /// As `change`, on a thread of its own.
    private static func onThread<Value>(
        _ request: OpaquePointer?, _ body: @escaping @Sendable (any MountedFiles) throws(Errno) -> Value,
        with send: @escaping @Sendable (consuming Reply, Value) -> Void
    ) {
        serve(request) { context, reply in
            let waiter = context.pending.add(reply)
            context.syncing.run {
                do throws(Errno) {
                    let value = try body(context.files)
                    waiter.answer { send($0, value) }
                } catch {
                    waiter.answer { $0.fail(error) }
                }
            }
        }
    }

    private static func onThread(
        _ request: OpaquePointer?, _ body: @escaping @Sendable (any MountedFiles) throws(Errno) -> Void
    ) {
        onThread(request, body) { reply, _ in reply.succeed() }
    }

    /// Runs `body` once a file of the tree is in the upper: at once where no bytes are needed or it is there, else on a
    /// thread of its own. A reader that is killed meanwhile ends the copy.
    ///
    /// - Parameters:
    ///   - change: what the copy looks like; a size in it says how many bytes are needed, else all are.
    ///   - body: gets the copy where one was made with the change; else the change is still to be made.
    static func afterCopyUp(
        _ context: ServingContext, _ reply: consuming Reply, _ node: Node, with change: AttributeChange? = nil,
        _ body: @escaping @Sendable (consuming Reply, OwnedDescriptor?) -> Void
    ) {
        let files = context.files
        guard files.mustCopyUp(node) else { return body(reply, nil) }
        let caller = caller(reply.request)
        // What the kernel reads by itself cannot become another file under its readers.
        let keepsNode: @Sendable () -> Bool = { !context.modes.isPassedThrough(node.number) }
        if files.isCopiedAtOnce(node, size: change?.size) {
            let copy: OwnedDescriptor?
            do throws(FileError) {
                copy = try files.copyUp(
                    node, with: change, by: caller, keepsNode: keepsNode, isCancelled: { false })
            } catch {
                return reply.fail(context.report(failedCopy: error, node: node))
            }
            return body(reply, copy)
        }
        let waiter = context.pending.add(reply)
        context.copying.run(node, isLocal: context.fileSystem.isLocal(node)) {
            // Who was killed while others copied is gone.
            if waiter.hasEnded { return }
            do throws(FileError) {
                let copy = try files.copyUp(
                    node, with: change, by: caller, keepsNode: keepsNode, isCancelled: { waiter.hasEnded })
                waiter.answer { body($0, copy) }
            } catch {
                let errno = context.report(failedCopy: error, node: node)
                waiter.answer { $0.fail(errno) }
            }
        }
    }

    // MARK: Names

    private static func addMaking(to operations: inout fuse_lowlevel_ops) {
        operations.mkdir = { request, parent, name, mode in
            Operations.make(request, parent, name) { .directory(permissions: UInt16(mode & 0o7777)) }
        }
        operations.mknod = { request, parent, name, mode, device in
            Operations.make(request, parent, name) { .node(mode: mode, device: UInt64(device)) }
        }
        operations.symlink = { request, target, parent, name in
            Operations.make(request, parent, name) { () throws(Errno) in
                .symlink(target: try Operations.bytes(target))
            }
        }
        operations.link = { request, node, parent, name in
            Operations.serve(request) { context, reply in
                ServingThreads.mayBlock()
                guard let name = try? Operations.bytes(name) else { return reply.fail(errno: EINVAL) }
                Operations.afterCopyUp(context, reply, Node(number: node)) { reply, _ in
                    Operations.answerEntry(context, reply) { () throws(Errno) in
                        try context.files.link(Node(number: node), name, in: Node(number: parent))
                    }
                }
            }
        }
        operations.create = { request, parent, name, mode, info in
            Operations.serve(request) { context, reply in
                ServingThreads.mayBlock()
                guard let info else { return reply.fail(errno: EINVAL) }
                Operations.create(
                    context, reply, name, UInt16(mode & 0o7777), Node(number: parent), info.pointee)
            }
        }
    }

    private static func make(
        _ request: OpaquePointer?, _ parent: fuse_ino_t, _ name: UnsafePointer<CChar>?,
        _ making: () throws(Errno) -> Making
    ) {
        serve(request) { context, reply in
            ServingThreads.mayBlock()
            answerEntry(context, reply) { () throws(Errno) in
                try context.files.make(
                    try making(), try bytes(name), in: Node(number: parent), by: caller(request))
            }
        }
    }

    private static func create(
        _ context: ServingContext, _ reply: consuming Reply, _ name: UnsafePointer<CChar>?, _ permissions: UInt16,
        _ parent: Node, _ info: fuse_file_info
    ) {
        // Before there is a name.
        if DescriptorReserve.isNext { return reply.fail(context.noDescriptor()) }
        let caller = caller(reply.request)
        let made: (attributes: NodeAttributes, file: OwnedDescriptor)
        do throws(Errno) {
            let name = try bytes(name)
            // See `mcfs_read_request`.
            made =
                name == [UInt8(ascii: "/")]
                ? try context.files.createUnnamed(permissions: permissions, in: parent, by: caller)
                : try context.files.create(name, permissions: permissions, in: parent, by: caller)
        } catch {
            return reply.fail(error)
        }
        let node = made.attributes.node
        switch context.opening(.upper(made.file), of: node, flags: info.flags, by: caller) {
        case .failure(let error):
            context.forget(node, 1)
            reply.fail(error)
        case .success(let opening):
            let entry = fuse_entry_param(made.attributes, validity: context.validity(of: made.attributes))
            if !reply.send(opening, info, entry: entry) {
                context.release(node)
                context.forget(node, 1)
            }
        }
    }

    private static func addRemoving(to operations: inout fuse_lowlevel_ops) {
        operations.unlink = { request, parent, name in
            Operations.change(request) { (files) throws(Errno) in
                try files.remove(try Operations.bytes(name), in: Node(number: parent), isDirectory: false)
            }
        }
        operations.rmdir = { request, parent, name in
            Operations.change(request) { (files) throws(Errno) in
                try files.remove(try Operations.bytes(name), in: Node(number: parent), isDirectory: true)
            }
        }
        operations.rename = { request, parent, name, newParent, newName, flags in
            Operations.serve(request) { context, reply in
                ServingThreads.mayBlock()
                guard let name = try? Operations.bytes(name), let newName = try? Operations.bytes(newName) else {
                    return reply.fail(errno: EINVAL)
                }
                Operations.rename(
                    context, reply, (Node(number: parent), name), (Node(number: newParent), newName), flags)
            }
        }
    }

    private typealias Name = (parent: Node, name: [UInt8])

    private static func rename(
        _ context: ServingContext, _ reply: consuming Reply, _ from: Name, _ to: Name, _ flags: UInt32
    ) {
        let file: Node?
        do throws(Errno) {
            file = try context.files.rename(from.name, in: from.parent, to: to.name, in: to.parent, flags: flags)
        } catch {
            return reply.fail(error)
        }
        guard let file else { return reply.succeed() }
        // One at a time: each copy comes back here.
        afterCopyUp(context, reply, file) { reply, _ in rename(context, reply, from, to, flags) }
    }

    // MARK: Files

    private static func addWriting(to operations: inout fuse_lowlevel_ops) {
        operations.write = { request, node, bytes, size, offset, _ in
            Operations.change(request) { (files) throws(Errno) in
                try files.write(
                    Node(number: node), UnsafeRawBufferPointer(start: bytes, count: size),
                    at: UInt64(clamping: offset), by: Operations.caller(request))
            } with: {
                $0.send(written: $1)
            }
        }
        operations.fallocate = { request, node, mode, offset, length, _ in
            let caller = Operations.caller(request)
            Operations.onThread(request) { (files) throws(Errno) in
                try files.allocate(
                    Node(number: node), mode: mode, offset: Int64(offset), length: Int64(length), by: caller)
            }
        }
        operations.copy_file_range = { request, from, fromOffset, _, to, toOffset, _, count, _ in
            let caller = Operations.caller(request)
            Operations.onThread(request) { (files) throws(Errno) in
                try files.copy(
                    Node(number: from), at: Int64(fromOffset), to: Node(number: to), at: Int64(toOffset), count: count,
                    by: caller)
            } with: {
                $0.send(written: $1)
            }
        }
    }

    private static func addSyncing(to operations: inout fuse_lowlevel_ops) {
        operations.fsync = { request, node, dataOnly, info in
            let handle = info?.pointee.fh ?? 0
            Operations.onThread(request) { (files) throws(Errno) in
                try files.sync(Node(number: node), handle: handle, dataOnly: dataOnly != 0)
            }
        }
        operations.fsyncdir = { request, node, _, _ in
            Operations.onThread(request) { (files) throws(Errno) in try files.syncDirectory(Node(number: node)) }
        }
    }

    // MARK: Attributes

    private static func addAttributeChanges(to operations: inout fuse_lowlevel_ops) {
        operations.setattr = { request, node, status, fields, _ in
            Operations.serve(request) { context, reply in
                guard let status else { return reply.fail(errno: EINVAL) }
                Operations.setAttributes(
                    context, reply, Node(number: node), AttributeChange(status.pointee, fields: fields))
            }
        }
        operations.setxattr = { request, node, name, value, size, flags in
            let value = Array(UnsafeRawBufferPointer(start: value, count: size))
            Operations.changeAttribute(request, node, name, size: size) { (files, node, name) throws(Errno) in
                try value.withBytes { (value: UnsafeRawBufferPointer) throws(Errno) in
                    try files.setExtendedAttribute(
                        name, value, flags: flags & ~WireTap.dropsSetGroupID, of: node,
                        dropsSetGroupID: flags & WireTap.dropsSetGroupID != 0)
                }
            }
        }
        operations.removexattr = { request, node, name in
            Operations.changeAttribute(request, node, name, size: 0) { (files, node, name) throws(Errno) in
                try files.removeExtendedAttribute(name, of: node)
            }
        }
    }

    private static func setAttributes(
        _ context: ServingContext, _ reply: consuming Reply, _ node: Node, _ change: AttributeChange
    ) {
        ServingThreads.mayBlock()
        let caller = caller(reply.request)
        // What others write to, who should take the bits away by that, must not get them.
        if let permissions = change.permissions, permissions & 0o6000 != 0,
            context.modes.leavesSetID(node.number, whenWrittenByOthersThan: caller.uid)
        {
            return reply.fail(errno: EBUSY)
        }
        let answer: @Sendable (consuming Reply, OwnedDescriptor?) -> Void = { reply, copy in
            Operations.answerAttributes(context, reply) { () throws(Errno) in
                copy == nil
                    ? try context.files.change(node, change, by: caller)
                    : try context.files.attributes(ofUpper: node)
            }
        }
        guard context.files.mustCopyUp(node, for: change) else { return answer(reply, nil) }
        afterCopyUp(context, reply, node, with: change, answer)
    }

    /// Changes an extended attribute by `body`, to one with a value of `size` bytes.
    private static func changeAttribute(
        _ request: OpaquePointer?, _ node: fuse_ino_t, _ name: UnsafePointer<CChar>?, size: Int,
        _ body: @escaping @Sendable (any MountedFiles, Node, [UInt8]) throws(Errno) -> Void
    ) {
        serve(request) { context, reply in
            ServingThreads.mayBlock()
            guard let name = try? bytes(name) else { return reply.fail(errno: EINVAL) }
            let node = Node(number: node)
            let answer: @Sendable (consuming Reply, OwnedDescriptor?) -> Void = { reply, _ in
                do throws(Errno) { try body(context.files, node, name) } catch { return reply.fail(error) }
                reply.succeed()
            }
            guard context.files.mustCopyUp(node, forAttribute: name, size: size) else { return answer(reply, nil) }
            afterCopyUp(context, reply, node, answer)
        }
    }
}

extension AttributeChange {
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
