package import ControlAPI
package import MCFSCore

/// Unmounting where no daemon of the cache directory runs.
package enum Unmounting {
    /// What was mounted there does not come back.
    ///
    /// - Throws: `notFound` where nothing of mcfs is mounted, `busy` where files are open and no flag says to go on.
    package static func withoutDaemon(_ request: UnmountRequest, cacheDirectory: String) throws(MCFSError) {
        let wasRecorded = MountRecords(cacheDirectory: cacheDirectory).forget(request.mountpoint)
        do { try MountService.unmountForeign(request) } catch {
            guard wasRecorded, error.code == .notFound else { throw error }
        }
    }
}
