internal import Glibc
package import MCFSCore

/// The daemon's Unix socket in a cache directory.
package struct ControlSocket: Sendable {
    package static let name = "control.sock"

    /// Longest path that fits in `sockaddr_un`, in bytes, without the closing NUL.
    package static let pathBytesMax = 107

    package let cacheDirectory: String
    /// Where it is, for people.
    package let path: String
    /// What to hand to bind or connect: `path`, or a short name of the same through an open descriptor.
    package let address: String
    /// Keeps the descriptor in `address` open.
    private let directory: OwnedDescriptor?

    /// - Throws: `notFound` where the directory is missing, `localIO` where it cannot be opened.
    package init(cacheDirectory: String) throws(MCFSError) {
        self.cacheDirectory = cacheDirectory
        path = cacheDirectory + "/" + Self.name
        if path.utf8.count <= Self.pathBytesMax {
            address = path
            directory = nil
            return
        }
        do {
            let opened = try OwnedDescriptor.open(cacheDirectory, O_RDONLY | O_DIRECTORY)
            directory = opened
            address = "/proc/self/fd/\(opened.rawValue)/\(Self.name)"
        } catch {
            if error == .noEntry { throw MCFSError(.notFound, "there is no cache directory \(cacheDirectory)") }
            throw MCFSError(localIO: "open the cache directory \(cacheDirectory)", error)
        }
    }

    /// Whether somebody accepts connections there now.
    package var isListening: Bool { connection != nil }

    /// Looks who listens there: what is sent may hold credentials.
    ///
    /// - Returns: false where nobody does.
    /// - Throws: `unauthorized` where it is neither root nor the user of this process.
    package func checkListener() throws(MCFSError) -> Bool {
        guard let connection else { return false }
        // struct ucred of unix(7).
        var peer: (process: Int32, user: UInt32, group: UInt32) = (0, .max, .max)
        var length = socklen_t(MemoryLayout.size(ofValue: peer))
        guard getsockopt(connection.rawValue, SOL_SOCKET, SO_PEERCRED, &peer, &length) == 0 else { return false }
        if peer.user == 0 || peer.user == geteuid() { return true }
        throw MCFSError(
            .unauthorized,
            "the daemon at \(path) is another user's (uid \(peer.user)), and is sent nothing; give another --cache-dir")
    }

    private var connection: OwnedDescriptor? {
        guard let address = socketAddress() else { return nil }
        let descriptor = socket(AF_UNIX, CInt(SOCK_STREAM.rawValue) | CInt(SOCK_CLOEXEC.rawValue), 0)
        guard descriptor >= 0 else { return nil }
        let owner = OwnedDescriptor(owning: descriptor)
        let result = withUnsafePointer(to: address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                connect(owner.rawValue, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
            }
        }
        return result == 0 ? owner : nil
    }

    /// nil where even the short name does not fit.
    private func socketAddress() -> sockaddr_un? {
        let bytes = Array(address.utf8)
        guard bytes.count <= Self.pathBytesMax else { return nil }
        var result = sockaddr_un()
        result.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &result.sun_path) { $0.copyBytes(from: bytes) }
        return result
    }
}
