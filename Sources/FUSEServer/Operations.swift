internal import CFUSE
internal import Glibc
internal import MCFSCore
internal import MountFS

/// The callbacks of libfuse: each decodes, calls one method of `MountFS` or of its overlay, replies.
///
/// Node numbers of a mount without an overlay follow from the tree: there are no look-ups to count.
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

    /// Runs `body` with the request's context and its reply.
    static func serve(_ request: OpaquePointer?, _ body: (ServingContext, consuming Reply) -> Void) {
        guard let request else { return }
        let reply = Reply(request)
        guard let context = ServingContext.of(request) else { return reply.fail(errno: EIO) }
        body(context, reply)
    }

    /// Answers with what `body` returns, by `send`, or with its errno.
    static func answer<Value, Failure: RequestError>(
        _ reply: consuming Reply, _ body: () throws(Failure) -> Value, with send: (consuming Reply, Value) -> Void
    ) {
        let value: Value
        do throws(Failure) { value = try body() } catch { return reply.fail(error) }
        send(reply, value)
    }

    private static func addLookups(to operations: inout fuse_lowlevel_ops) {
        operations.lookup = { request, parent, name in
            Operations.serve(request) { context, reply in
                guard let name else { return reply.fail(errno: EINVAL) }
                let bytes = UnsafeRawBufferPointer(start: name, count: strlen(name))
                if let overlay = context.fileSystem.overlay {
                    return Operations.answer(context, reply) { () throws(Errno) in
                        try overlay.lookup(Array(bytes), in: Node(number: parent))
                    }
                }
                Operations.answer(reply) { () throws(MCFSError) in
                    try context.fileSystem.lookup(bytes, in: Node(number: parent))
                } with: {
                    $0.send(entry: $1)
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
                let node = Node(number: node)
                if let overlay = context.fileSystem.overlay {
                    return Operations.answer(reply) { () throws(Errno) in
                        try overlay.attributes(of: node)
                    } with: {
                        $0.send(attributes: $1)
                    }
                }
                Operations.answer(reply) { () throws(MCFSError) in
                    try context.fileSystem.attributes(of: node)
                } with: {
                    $0.send(attributes: $1)
                }
            }
        }
        operations.readlink = { request, node in
            Operations.serve(request) { context, reply in
                let node = Node(number: node)
                if let overlay = context.fileSystem.overlay {
                    return Operations.answer(reply) { () throws(Errno) in
                        try overlay.readLink(node)
                    } with: {
                        $0.send($1)
                    }
                }
                Operations.answer(reply) { () throws(MCFSError) in
                    try context.fileSystem.readLink(node)
                } with: {
                    $0.send($1)
                }
            }
        }
        operations.statfs = { request, _ in
            Operations.serve(request) { context, reply in
                if let overlay = context.fileSystem.overlay {
                    return Operations.answer(reply) { () throws(Errno) in
                        try overlay.usage()
                    } with: {
                        $0.send($1)
                    }
                }
                let usage = context.fileSystem.usage
                var result = statvfs()
                result.f_bsize = 4096
                result.f_frsize = 4096
                result.f_blocks = UInt(usage.bytes / 4096 + (usage.bytes % 4096 == 0 ? 0 : 1))
                result.f_files = UInt(usage.entries)
                result.f_namemax = UInt(TreePath.nameBytesMax)
                reply.send(result)
            }
        }
    }

    private static func addFiles(to operations: inout fuse_lowlevel_ops) {
        operations.open = { request, node, info in
            Operations.serve(request) { context, reply in
                guard let info = info?.pointee else { return reply.fail(errno: EINVAL) }
                let node = Node(number: node)
                let writes = info.opensForWriting || info.flags & O_TRUNC != 0
                guard writes else { return Operations.open(context, reply, node, info) }
                guard let overlay = context.fileSystem.overlay else { return reply.fail(errno: EROFS) }
                var change: Overlay.Change?
                if info.flags & O_TRUNC != 0 {
                    change = Overlay.Change()
                    change?.size = 0
                }
                Operations.afterCopyUp(overlay, context, reply, node, with: change) { reply, copy in
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
    }

    private static func open(
        _ context: ServingContext, _ reply: consuming Reply, _ node: Node, _ info: fuse_file_info,
        copy: OwnedDescriptor? = nil
    ) {
        switch context.open(node, flags: info.flags, copy: copy, by: caller(reply)) {
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
                let made = context.pending.add(reply.take()!)
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

    private static func addDirectories(to operations: inout fuse_lowlevel_ops) {
        operations.opendir = { request, node, info in
            Operations.serve(request) { context, reply in
                // The kernel then keeps all directories' listings by itself and sends neither OPENDIR nor RELEASEDIR.
                if context.canSkipOpendir { return reply.fail(errno: ENOSYS) }
                guard var info = info?.pointee else { return reply.fail(errno: EINVAL) }
                var listing: UInt64 = 0
                // What is as the tree has it changes through the kernel alone, which notices.
                var isPlain = true
                if let overlay = context.fileSystem.overlay {
                    do throws(Errno) { (listing, isPlain) = try overlay.openDirectory(Node(number: node)) } catch {
                        return reply.fail(error)
                    }
                }
                info.fh = listing
                info.cache_readdir = isPlain ? 1 : 0
                info.keep_cache = isPlain ? 1 : 0
                if !reply.send(openDirectory: info), listing != 0 {
                    context.fileSystem.overlay?.closeDirectory(listing)
                }
            }
        }
        operations.releasedir = { request, _, info in
            Operations.serve(request) { context, reply in
                if let listing = info?.pointee.fh, listing != 0 { context.fileSystem.overlay?.closeDirectory(listing) }
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

    /// - Parameter number: of an open directory of the overlay; 0: as the tree has it.
    private static func list(
        _ context: ServingContext, _ reply: consuming Reply, _ node: Node, listing number: UInt64, offset: off_t,
        size: Int, withAttributes: Bool
    ) {
        var reply: Reply? = consume reply
        // The kernel asks for a few pages; anything else would be an allocation of its choosing.
        let size = min(size, ThreadBuffer.size)
        let isDone: Void? = ThreadBuffer.with(size) { buffer in
            guard let request = reply?.request else { return }
            var listing = Listing(request: request, buffer: buffer, withAttributes: withAttributes)
            let position = UInt64(clamping: offset)
            if number != 0, let overlay = context.fileSystem.overlay {
                do throws(Errno) {
                    try overlay.list(number, node, from: position, withAttributes: withAttributes) {
                        listing.add($0, $1)
                    }
                    reply.take()?.send(UnsafeRawBufferPointer(rebasing: buffer[..<listing.used]))
                } catch {
                    reply.take()?.fail(error)
                }
                return
            }
            do throws(MCFSError) {
                try context.fileSystem.list(node, from: position) { listing.add($0, $1) }
                reply.take()?.send(UnsafeRawBufferPointer(rebasing: buffer[..<listing.used]))
            } catch {
                reply.take()?.fail(error)
            }
        }
        if isDone == nil { reply.take()?.fail(errno: ENOMEM) }
    }

    private static func addExtendedAttributes(to operations: inout fuse_lowlevel_ops) {
        operations.getxattr = { request, node, name, size in
            Operations.serve(request) { context, reply in
                guard let name else { return reply.fail(errno: EINVAL) }
                let node = Node(number: node)
                if let overlay = context.fileSystem.overlay {
                    return Operations.answer(reply) { () throws(Errno) in
                        try overlay.extendedAttribute(Operations.bytes(name), of: node)
                    } with: {
                        $0.send($1, room: size)
                    }
                }
                let requested = String(cString: name)
                // No access control lists, capabilities or labels: `ls` asks no more after this answer.
                guard requested.hasPrefix("user.") else { return reply.fail(errno: EOPNOTSUPP) }
                guard let attribute = MountFS.ExtendedAttribute(rawValue: requested) else {
                    return reply.fail(errno: ENODATA)
                }
                Operations.answer(reply) { () throws(MCFSError) in
                    try context.fileSystem.value(of: attribute, node)
                } with: { reply, value in
                    if let value { reply.send(value, room: size) } else { reply.fail(errno: ENODATA) }
                }
            }
        }
        operations.listxattr = { request, node, size in
            Operations.serve(request) { context, reply in
                let node = Node(number: node)
                if let overlay = context.fileSystem.overlay {
                    let caller = Operations.caller(reply)
                    return Operations.answer(reply) { () throws(Errno) in
                        try overlay.extendedAttributeNames(of: node, for: caller)
                    } with: {
                        $0.send($1, room: size)
                    }
                }
                Operations.answer(reply) { () throws(MCFSError) in
                    try context.fileSystem.extendedAttributeNames(node)
                } with: {
                    $0.send($1, room: size)
                }
            }
        }
    }
}

extension fuse_file_info {
    var opensForWriting: Bool { flags & O_ACCMODE != O_RDONLY }
}
