internal import CLinux
internal import Glibc

/// The last descriptors that the process may have. Files that are open in mounts take none of them: they are for the control
/// socket, for copies into uppers, and for what is asked of origins.
package enum DescriptorReserve {
    private static var first: Int {
        let all = Int(mcfs_open_files_max())
        return all - min(64, all / 4)
    }

    /// Whether `descriptor` is one of them: the system gives the lowest number that is free.
    package static func holds(_ descriptor: OwnedDescriptor) -> Bool { Int(descriptor.rawValue) >= first }

    /// Whether the next descriptor would be one of them. Two system calls.
    package static var isNext: Bool {
        let next = dup(2)
        // Without a standard error nothing can be told.
        guard next >= 0 else { return errno == EMFILE }
        close(next)
        return Int(next) >= first
    }
}
