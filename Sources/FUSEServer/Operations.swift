internal import CFUSE
internal import Glibc
internal import MCFSCore
internal import MountFS

/// The callbacks of libfuse: each decodes, calls one method of `MountFS`, replies.
///
/// Node numbers follow from the tree, so there are no lookup counts to keep and FORGET has nothing to do.
enum Operations {
    /// How long the kernel may keep names and attributes, in seconds: the tree never changes.
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
        addRefusals(to: &operations)
        return operations
    }

    /// Runs `body` with the request's context and its reply.
    static func serve(_ request: OpaquePointer?, _ body: (ServingContext, consuming Reply) -> Void) {
        guard let request else { return }
        let reply = Reply(request)
        guard let context = ServingContext.of(request) else { return reply.fail(errno: EIO) }
        body(context, reply)
    }

    private static func addLookups(to operations: inout fuse_lowlevel_ops) {
        operations.lookup = { request, parent, name in
            Operations.serve(request) { context, reply in
                guard let name else { return reply.fail(errno: EINVAL) }
                do throws(MCFSError) {
                    let bytes = UnsafeRawBufferPointer(start: name, count: strlen(name))
                    let entry = try context.fileSystem.lookup(bytes, in: Node(number: parent))
                    reply.send(entry: entry)
                } catch {
                    reply.fail(error)
                }
            }
        }
        operations.forget = { request, _, _ in Operations.serve(request) { _, reply in reply.finish() } }
        operations.forget_multi = { request, _, _ in Operations.serve(request) { _, reply in reply.finish() } }
        operations.getattr = { request, node, _ in
            Operations.serve(request) { context, reply in
                do throws(MCFSError) {
                    let attributes = try context.fileSystem.attributes(of: Node(number: node))
                    reply.send(attributes: attributes)
                } catch {
                    reply.fail(error)
                }
            }
        }
        operations.readlink = { request, node in
            Operations.serve(request) { context, reply in
                do throws(MCFSError) {
                    let target = try context.fileSystem.readLink(Node(number: node))
                    reply.send(target)
                } catch {
                    reply.fail(error)
                }
            }
        }
        operations.statfs = { request, _ in
            Operations.serve(request) { context, reply in
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
                guard let info else { return reply.fail(errno: EINVAL) }
                guard info.pointee.flags & (O_ACCMODE | O_TRUNC) == O_RDONLY else { return reply.fail(errno: EROFS) }
                Operations.open(context, reply, Node(number: node), info)
            }
        }
        operations.release = { request, node, _ in
            Operations.serve(request) { context, reply in
                context.release(Node(number: node))
                reply.succeed()
            }
        }
        operations.read = { request, node, size, offset, _ in
            Operations.serve(request) { context, reply in
                Operations.read(context, reply, Node(number: node), offset: UInt64(clamping: offset), count: size)
            }
        }
    }

    private static func open(
        _ context: ServingContext, _ reply: consuming Reply, _ node: Node, _ info: UnsafeMutablePointer<fuse_file_info>
    ) {
        let file: (any ContentReading)?
        do throws(MCFSError) {
            file = try context.fileSystem.open(node)
        } catch {
            context.report(error, operation: "open", node: node.number)
            return reply.fail(error)
        }
        let (mode, dropsPages) = context.modes.open(node.number) {
            file?.completeFile.flatMap { context.passthrough.register($0) }
        }
        info.pointee.fh = 0
        // There is nothing to flush.
        info.pointee.noflush = 1
        let isTaken =
            switch mode {
            case .cached: reply.send(cachedOpen: info)
            case .passthrough(let file): reply.send(open: info, backing: file.identifier)
            }
        // No RELEASE comes for an open that was interrupted.
        if !isTaken { context.release(node) }
        if dropsPages { context.dropPages(of: node) }
    }

    private static func read(
        _ context: ServingContext, _ reply: consuming Reply, _ node: Node, offset: UInt64, count: Int
    ) {
        var reply: Reply? = consume reply
        var waiter: PendingReply?
        do throws(MCFSError) {
            let answer = try context.fileSystem.read(node, offset: offset, count: count) {
                // A second waiter for one read would be one that never comes to its reply.
                if let waiter { return waiter }
                let made = context.pending.add(reply.take()!)
                waiter = made
                return made
            }
            switch consume answer {
            case .pending: break
            case .end: reply.take()?.send([])
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
        operations.opendir = { request, _, info in
            Operations.serve(request) { context, reply in
                // The kernel then keeps all directories' listings by itself and sends neither OPENDIR nor RELEASEDIR.
                if context.canSkipOpendir { return reply.fail(errno: ENOSYS) }
                guard let info else { return reply.fail(errno: EINVAL) }
                info.pointee.fh = 0
                info.pointee.cache_readdir = 1
                _ = reply.send(cachedOpen: info)
            }
        }
        operations.releasedir = { request, _, _ in Operations.serve(request) { _, reply in reply.succeed() } }
        operations.readdir = { request, node, size, offset, _ in
            Operations.serve(request) { context, reply in
                Operations.list(context, reply, Node(number: node), offset: offset, size: size, withAttributes: false)
            }
        }
        operations.readdirplus = { request, node, size, offset, _ in
            Operations.serve(request) { context, reply in
                Operations.list(context, reply, Node(number: node), offset: offset, size: size, withAttributes: true)
            }
        }
    }

    private static func list(
        _ context: ServingContext, _ reply: consuming Reply, _ node: Node, offset: off_t, size: Int,
        withAttributes: Bool
    ) {
        var reply: Reply? = consume reply
        // The kernel asks for a few pages; anything else would be an allocation of its choosing.
        let size = min(size, ThreadBuffer.size)
        let isDone: Void? = ThreadBuffer.with(size) { buffer in
            guard let request = reply?.request else { return }
            var listing = Listing(request: request, buffer: buffer, withAttributes: withAttributes)
            do throws(MCFSError) {
                try context.fileSystem.list(node, from: UInt64(clamping: offset)) { listing.add($0, $1) }
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
                let requested = String(cString: name)
                // No access control lists, capabilities or labels: `ls` asks no more after this answer.
                guard requested.hasPrefix("user.") else { return reply.fail(errno: EOPNOTSUPP) }
                guard let attribute = MountFS.ExtendedAttribute(rawValue: requested) else {
                    return reply.fail(errno: ENODATA)
                }
                do throws(MCFSError) {
                    let value = try context.fileSystem.value(of: attribute, Node(number: node))
                    guard let value else { return reply.fail(errno: ENODATA) }
                    reply.send(value, room: size)
                } catch {
                    reply.fail(error)
                }
            }
        }
        operations.listxattr = { request, node, size in
            Operations.serve(request) { context, reply in
                do throws(MCFSError) {
                    let names = try context.fileSystem.extendedAttributeNames(Node(number: node))
                    reply.send(names, room: size)
                } catch {
                    reply.fail(error)
                }
            }
        }
    }

    /// The mount is read-only, so the kernel refuses these by itself, until somebody remounts it.
    private static func addRefusals(to operations: inout fuse_lowlevel_ops) {
        operations.setattr = { request, _, _, _, _ in Operations.refuse(request) }
        operations.mknod = { request, _, _, _, _ in Operations.refuse(request) }
        operations.mkdir = { request, _, _, _ in Operations.refuse(request) }
        operations.unlink = { request, _, _ in Operations.refuse(request) }
        operations.rmdir = { request, _, _ in Operations.refuse(request) }
        operations.symlink = { request, _, _, _ in Operations.refuse(request) }
        operations.rename = { request, _, _, _, _, _ in Operations.refuse(request) }
        operations.link = { request, _, _, _ in Operations.refuse(request) }
        operations.create = { request, _, _, _, _ in Operations.refuse(request) }
        operations.write = { request, _, _, _, _, _ in Operations.refuse(request) }
        operations.setxattr = { request, _, _, _, _, _ in Operations.refuse(request) }
        operations.removexattr = { request, _, _ in Operations.refuse(request) }
    }

    private static func refuse(_ request: OpaquePointer?) {
        Operations.serve(request) { _, reply in reply.fail(errno: EROFS) }
    }
}
