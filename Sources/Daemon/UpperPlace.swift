internal import Catalog
internal import ControlAPI
internal import Glibc
internal import MCFSCore
internal import Upper

/// Which directory a mount writes to.
enum UpperPlace {
    /// Refuses a mount whose mountpoint or upper holds the cache directory, or lies in it: the daemon would reach its own files
    /// through the mount, and a reset of the upper would remove them.
    static func keepApart(_ request: MountRequest, fromCache cache: String) throws(MCFSError) {
        let places = [("mountpoint", request.mountpoint)] + (request.upper.map { [("upper", $0)] } ?? [])
        for (what, place) in places {
            if isInside(cache, place) || isInside(place, cache) {
                throw MCFSError(
                    .usage,
                    "the \(what) \(place) and the cache directory \(cache) must not lie in each other; give another \(what), or another --cache-dir"
                )
            }
        }
    }

    /// Whether a directory is another one, or below it, by whatever path. False for what is not there.
    private static func isInside(_ path: String, _ other: String) -> Bool {
        do throws(Errno) {
            let wanted = DiskIdentity(try status(of: other))
            var directory = try OwnedDescriptor.open(path, O_RDONLY | O_DIRECTORY)
            var last: DiskIdentity?
            while true {
                let identity = DiskIdentity(try directory.status())
                if identity == wanted { return true }
                if identity == last { return false }
                last = identity
                directory = try OwnedDescriptor.open(bytes: Array("..".utf8), at: directory, O_RDONLY | O_DIRECTORY)
            }
        } catch { return false }
    }

    /// Opens and takes the upper of a mount that is about to be made, while its mountpoint is still the directory below.
    ///
    /// - Parameter directory: at the mountpoint.
    static func take(
        _ request: MountRequest, _ references: [LoadedReference], directory: OwnedDescriptor
    ) throws(MCFSError) -> UpperDirectory {
        let path = request.upper ?? request.mountpoint
        let descriptor: OwnedDescriptor
        let status: stat
        do throws(Errno) {
            descriptor =
                request.upper == nil
                ? try OwnedDescriptor.open(".", at: directory, O_RDONLY | O_DIRECTORY)
                : try OwnedDescriptor.open(path, O_RDONLY | O_DIRECTORY)
            status = try descriptor.status()
        } catch {
            if error == .noEntry {
                throw MCFSError(.notFound, "the upper \(path) does not exist; make it with mkdir first", cause: error)
            }
            throw MCFSError(
                .cannotCreate, "cannot use \(path) as the upper: \(error); give another --upper, or --read-only",
                cause: error)
        }
        if request.mountpoint != path, request.mountpoint.hasPrefix(path == "/" ? path : path + "/") {
            throw MCFSError(
                .usage,
                "the mountpoint \(request.mountpoint) lies in its own upper \(path); give an --upper that does not hold it"
            )
        }
        for reference in references {
            guard let path = reference.localPath, let below = try? Self.status(of: path) else { continue }
            if below.st_dev == status.st_dev && below.st_ino == status.st_ino {
                throw MCFSError(
                    .usage,
                    "\(path) cannot be the upper of itself: what is written would change the origin; give another "
                        + "--upper, or --read-only")
            }
        }
        return try UpperDirectory(descriptor, path: path)
    }

    private static func status(of path: String) throws(Errno) -> stat {
        try OwnedDescriptor.open(path, O_RDONLY | O_DIRECTORY).status()
    }
}
