internal import CFUSE
internal import Glibc
internal import MCFSCore
internal import MountFS

/// The callbacks of libfuse: each decodes, calls one method of `MountedFiles`, replies.
enum Operations {
    /// How long the kernel may keep names and attributes, in seconds: the tree never changes, and what is written over it
    /// changes through the kernel alone.
    static let validity: Double = 86_400

    static func table() -> fuse_lowlevel_ops {
        var operations = fuse_lowlevel_ops()
        operations.`init` = { userdata, connection in
            guard let connection else { return }
            ServingContext.of(userdata: userdata)?.initialize(&connection.pointee)
        }
        addLookups(to: &operations)
        addFiles(to: &operations)
        addDirectories(to: &operations)
        addExtendedAttributes(to: &operations)
        addChanges(to: &operations)
        return operations
    }

    // MARK: Parts

    /// Runs `body` with the request's context and its reply.
    static func serve(_ request: OpaquePointer?, _ body: (ServingContext, consuming Reply) -> Void) {
        guard let request else { return }
        let reply = Reply(request)
        guard let context = ServingContext.of(request) else { return reply.fail(errno: EIO) }
        body(context, reply)
    }

    /// Answers with what `body` returns, by `send`, or with its errno.
    static func answer<Value>(
        _ request: OpaquePointer?, _ body: (any MountedFiles) throws(Errno) -> Value,
        with send: (consuming Reply, Value) -> Void
    ) {
        serve(request) { context, reply in
            let value: Value
            do throws(Errno) { value = try body(context.files) } catch { return reply.fail(error) }
            send(reply, value)
        }
    }

    /// Answers with an entry that `body` has counted as looked up.
    static func answerEntry(
        _ context: ServingContext, _ reply: consuming Reply, _ body: () throws(Errno) -> NodeAttributes?
    ) {
        let entry: NodeAttributes?
        do throws(Errno) { entry = try body() } catch { return reply.fail(error) }
        if !reply.send(entry: entry, context), let entry { context.forget(entry.node, 1) }
    }

    static func answerAttributes(
        _ context: ServingContext, _ reply: consuming Reply, _ body: () throws(Errno) -> NodeAttributes
    ) {
        let attributes: NodeAttributes
        do throws(Errno) { attributes = try body() } catch { return reply.fail(error) }
        reply.send(attributes: attributes, context)
    }

    static func bytes(_ name: UnsafePointer<CChar>?) throws(Errno) -> [UInt8] {
        guard let name else { throw Errno(rawValue: EINVAL) }
        return Array(UnsafeRawBufferPointer(start: name, count: strlen(name)))
    }

    static func caller(_ request: OpaquePointer?) -> MountFS.Caller {
        guard let request, let context = fuse_req_ctx(request)?.pointee else { return .nobody }
        return MountFS.Caller(uid: context.uid, gid: context.gid, umask: UInt16(truncatingIfNeeded: context.umask))
    }

    // MARK: Names

    private static func addLookups(to operations: inout fuse_lowlevel_ops) {
        operations.lookup = { request, parent, name in
            Operations.serve(request) { context, reply in
                guard let name else { return reply.fail(errno: EINVAL) }
                Operations.answerEntry(context, reply) { () throws(Errno) in
                    try context.files.lookup(
                        UnsafeRawBufferPointer(start: name, count: strlen(name)), in: Node(number: parent))
                }
            }
        }
        operations.forget = { request, node, count in
            Operations.serve(request) { context, reply in
                context.forget(Node(number: node), count)
                reply.finish()
            }
        }
        operations.forget_multi = { request, count, forgotten in
            Operations.serve(request) { context, reply in
                for item in UnsafeBufferPointer(start: forgotten, count: count) {
                    context.forget(Node(number: item.ino), item.nlookup)
                }
                reply.finish()
            }
        }
        operations.getattr = { request, node, _ in
            Operations.serve(request) { context, reply in
                Operations.answerAttributes(context, reply) { () throws(Errno) in
                    try context.files.attributes(of: Node(number: node))
                }
            }
        }
        operations.readlink = { request, node in
            Operations.answer(request) { (files) throws(Errno) in
                try files.readLink(Node(number: node))
            } with: {
                $0.send($1)
            }
        }
        operations.statfs = { request, _ in
            Operations.answer(request) { (files) throws(Errno) in
                try files.usage()
            } with: {
                $0.send($1)
            }
        }
    }

    // MARK: Files

    private static func addFiles(to operations: inout fuse_lowlevel_ops) {
        operations.open = { request, node, info in
            Operations.serve(request) { context, reply in
                guard let info = info?.pointee else { return reply.fail(errno: EINVAL) }
                let node = Node(number: node)
                let truncates = info.flags & O_TRUNC != 0
                guard truncates || info.opensForWriting else { return Operations.open(context, reply, node, info) }
                var change: AttributeChange?
                if truncates {
                    change = AttributeChange()
                    change?.size = 0
                }
                Operations.afterCopyUp(context, reply, node, with: change) { reply, copy in
                    Operations.open(context, reply, node, info, copy: copy)
                }
            }
        }
        operations.release = { request, node, _ in
            Operations.serve(request) { context, reply in
                context.release(Node(number: node))
                reply.succeed()
            }
        }
        operations.read = { request, node, size, offset, info in
            Operations.serve(request) { context, reply in
                Operations.read(
                    context, reply, Node(number: node), handle: info?.pointee.fh ?? 0,
                    offset: UInt64(clamping: offset), count: size)
            }
        }
        operations.lseek = { request, node, offset, whence, _ in
            Operations.answer(request) { (files) throws(Errno) in
                try files.seek(Node(number: node), to: Int64(offset), whence: whence)
            } with: {
                $0.send(position: $1)
            }
        }
    }

    private static func open(
        _ context: ServingContext, _ reply: consuming Reply, _ node: Node, _ info: fuse_file_info,
        copy: OwnedDescriptor? = nil
    ) {
        switch context.open(node, flags: info.flags, copy: copy, by: caller(reply.request)) {
        case .failure(let error): reply.fail(error)
        case .success(let opening):
            // No RELEASE comes for an open that was interrupted.
            if !reply.send(opening, info) { context.release(node) }
            if opening.dropsPages { context.dropPages(of: node) }
        }
    }

    private static func read(
        _ context: ServingContext, _ reply: consuming Reply, _ node: Node, handle: UInt64, offset: UInt64, count: Int
    ) {
        var reply: Reply? = consume reply
        var waiter: PendingReply?
        do throws(MCFSError) {
            let answer = try context.fileSystem.read(node, handle: handle, offset: offset, count: count) {
                // A second waiter for one read would be one that never comes to its reply.
                if let waiter { return waiter }
                let made = context.pending.add(reply.take()!, reading: node)
                waiter = made
                return made
            }
            switch consume answer {
            case .pending: break
            case .end: reply.take()?.send([])
            case .upper(let file, let offset, let count):
                switch reply.take()?.send(upTo: count, of: file, at: offset) {
                case .success(let sent): context.fileSystem.readSucceeded(bytes: sent)
                case .failure: context.fileSystem.readFailed()
                case nil: break
                }
            case .region(let region):
                if let reply = reply.take() {
                    if let error = reply.send(region) {
                        context.fileSystem.readFailed()
                        context.report(error, operation: "read", node: node.number)
                    }
                } else {
                    waiter?.complete(.success(region))
                }
            }
        } catch {
            if let reply = reply.take() {
                context.report(error, operation: "read", node: node.number)
                reply.fail(error)
            } else {
                waiter?.complete(.failure(error))
            }
        }
    }

    // MARK: Directories

    private static func addDirectories(to operations: inout fuse_lowlevel_ops) {
        operations.opendir = { request, node, info in
            Operations.serve(request) { context, reply in
                // The kernel then keeps all directories' listings by itself and sends neither OPENDIR nor RELEASEDIR.
                if context.canSkipOpendir { return reply.fail(errno: ENOSYS) }
                guard var info = info?.pointee else { return reply.fail(errno: EINVAL) }
                do throws(Errno) { info.fh = try context.files.openDirectory(Node(number: node)) } catch {
                    return reply.fail(error)
                }
                // What is in it changes through the kernel alone, which notices.
                info.cache_readdir = 1
                info.keep_cache = 1
                let listing = info.fh
                if !reply.send(openDirectory: info) { context.files.closeDirectory(listing) }
            }
        }
        operations.releasedir = { request, _, info in
            Operations.serve(request) { context, reply in
                if let listing = info?.pointee.fh { context.files.closeDirectory(listing) }
                reply.succeed()
            }
        }
        operations.readdir = { request, node, size, offset, info in
            Operations.serve(request) { context, reply in
                Operations.list(
                    context, reply, Node(number: node), listing: info?.pointee.fh ?? 0, offset: offset, size: size,
                    withAttributes: false)
            }
        }
        operations.readdirplus = { request, node, size, offset, info in
            Operations.serve(request) { context, reply in
                Operations.list(
                    context, reply, Node(number: node), listing: info?.pointee.fh ?? 0, offset: offset, size: size,
                    withAttributes: true)
            }
        }
    }

    private static func list(
        _ context: ServingContext, _ reply: consuming Reply, _ node: Node, listing number: UInt64, offset: off_t,
        size: Int, withAttributes: Bool
    ) {
        var reply: Reply? = consume reply
        // The kernel asks for a few pages; anything else would be an allocation of its choosing.
        let size = min(size, ThreadBuffer.size)
        let isDone: Void? = ThreadBuffer.with(size) { buffer in
            guard let request = reply?.request else { return }
            var listing = Listing(request: request, buffer: buffer, withAttributes: withAttributes, context)
            do throws(Errno) {
                try context.files.list(
                    number, node, from: UInt64(clamping: offset), withAttributes: withAttributes
                ) { listing.add($0, $1) }
                reply.take()?.send(UnsafeRawBufferPointer(rebasing: buffer[..<listing.used]))
            } catch {
                reply.take()?.fail(error)
            }
        }
        if isDone == nil { reply.take()?.fail(errno: ENOMEM) }
    }

    // MARK: Extended attributes

    private static func addExtendedAttributes(to operations: inout fuse_lowlevel_ops) {
        operations.getxattr = { request, node, name, size in
            Operations.answer(request) { (files) throws(Errno) in
                try files.extendedAttribute(try Operations.bytes(name), of: Node(number: node))
            } with: {
                $0.send($1, room: size)
            }
        }
        operations.listxattr = { request, node, size in
            Operations.answer(request) { (files) throws(Errno) in
                try files.extendedAttributeNames(of: Node(number: node), for: Operations.caller(request))
            } with: {
                $0.send($1, room: size)
            }
        }
    }
}

extension fuse_file_info {
    var opensForWriting: Bool { flags & O_ACCMODE != O_RDONLY }
}
