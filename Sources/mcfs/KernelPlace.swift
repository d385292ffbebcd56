internal import ControlAPI
internal import Daemon
internal import Glibc
internal import Inventory
internal import MCFSCore

/// What the commands on kernels are given: a folder, a mountpoint among them, or a reference.
struct KernelPlace {
    /// An absolute, canonical path; or the reference as it was typed.
    let text: String
    let isReference: Bool

    init(_ argument: String) throws(MCFSError) {
        let directory = Configuration.currentDirectory()
        var status = stat()
        if argument.hasPrefix("file:") || stat(argument, &status) == 0 {
            let path = argument.hasPrefix("file:") ? String(argument.dropFirst("file:".utf8.count)) : argument
            text = UserPath.canonical(path, relativeTo: directory)
            isReference = false
        } else {
            let target = try Target.text(argument)
            isReference = !target.hasPrefix("/")
            text = isReference && target.hasSuffix("/") ? String(target.dropLast()) : target
        }
    }

    /// - Throws: `usage` for a reference.
    static func folder(_ argument: String, for what: String) throws(MCFSError) -> String {
        let place = try KernelPlace(argument)
        if place.isReference {
            throw MCFSError(.usage, "\(argument) cannot be \(what): it is no folder; mount it and name the mountpoint")
        }
        return place.text
    }
}

extension KernelInventory {
    /// The user's: `$MCFS_INVENTORY`, else `mcfs/inventory.db` in `$XDG_DATA_HOME` or `~/.local/share`.
    static func ofUser(_ output: Output) throws(MCFSError) -> KernelInventory {
        let environment = Environment.ofThisProcess
        let path =
            environment["MCFS_INVENTORY"]
            ?? (environment["XDG_DATA_HOME"] ?? environment.home + "/.local/share") + "/mcfs/inventory.db"
        let inventory = try KernelInventory(
            path: UserPath.lexical(path, relativeTo: Configuration.currentDirectory()))
        for warning in inventory.warnings { output.warn(warning) }
        return inventory
    }

    /// Brings in what mounts have counted since, where a daemon runs; none is started.
    func takeHits(from session: Session) throws(MCFSError) {
        do {
            guard let client = try session.runningClient else { return }
            let folders = try roots().filter { !$0.isReference }.map(\.place)
            for mount in try client.status().mounts {
                let mountpoint = mount.mountpoint
                guard folders.contains(where: { $0.lies(in: mountpoint) || mountpoint.lies(in: $0) }) else { continue }
                let counted: KernelHits = try client.call(
                    "POST", "/v1/kernels/hits", UpperRequest(mountpoint: mountpoint))
                try record(
                    hits: counted.kernels.map { (Array("\(mountpoint)/\($0.path)".utf8), $0.hits, $0.lastHit) })
            }
        } catch  where error.code == .notFound {
            // Unmounted just now, or a daemon that counts nothing.
        } catch {
            session.output.warn("hits are as of the last time: \(error.message)")
        }
    }
}

extension String {
    fileprivate func lies(in folder: String) -> Bool {
        self == folder || hasPrefix(folder.hasSuffix("/") ? folder : folder + "/")
    }
}
