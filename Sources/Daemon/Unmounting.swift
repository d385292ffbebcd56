package import ControlAPI
package import MCFSCore

/// Unmounting where no daemon of the cache directory runs.
package enum Unmounting {
    /// - Throws: `notFound` where nothing of mcfs is mounted, `busy` where files are open and no flag says to go on.
    package static func withoutDaemon(_ request: UnmountRequest) throws(MCFSError) {
        try MountService.unmountForeign(request)
    }
}
