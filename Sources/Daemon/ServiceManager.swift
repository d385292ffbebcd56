internal import Glibc
internal import MCFSCore

/// The service manager that started the process, as far as it wants to be told how it is: sd_notify(3).
struct ServiceManager: Sendable {
    private let address: sockaddr_un
    private let length: socklen_t
    /// Within which it wants a sign of life, and takes the process for stuck else; nil: it does not.
    let watchdog: Duration?

    /// nil where there is none that wants to be told.
    init?(_ environment: Environment, process: pid_t = getpid()) {
        guard let path = environment["NOTIFY_SOCKET"], path.hasPrefix("/") || path.hasPrefix("@") else { return nil }
        // An @ stands for a name that is no path.
        let bytes: [UInt8] = path.hasPrefix("@") ? [0] + Array(path.utf8.dropFirst()) : Array(path.utf8) + [0]
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        guard bytes.count <= MemoryLayout.size(ofValue: address.sun_path) else { return nil }
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: bytes) }
        self.address = address
        length = socklen_t(MemoryLayout<sa_family_t>.size + bytes.count)
        let isMeant = environment["WATCHDOG_PID"].map { pid_t($0) == process } ?? true
        let interval = environment["WATCHDOG_USEC"].flatMap { Int64($0) } ?? 0
        watchdog = isMeant && interval > 0 ? .microseconds(interval) : nil
    }

    /// Such as `READY=1`. A manager that is gone is no reason to fail.
    func say(_ state: String) {
        let descriptor = socket(AF_UNIX, CInt(SOCK_DGRAM.rawValue) | CInt(SOCK_CLOEXEC.rawValue), 0)
        guard descriptor >= 0 else { return }
        let owner = OwnedDescriptor(owning: descriptor)
        let bytes = Array(state.utf8)
        _ = withUnsafePointer(to: address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                // MSG_DONTWAIT, MSG_NOSIGNAL.
                sendto(owner.rawValue, bytes, bytes.count, 0x40 | 0x4000, $0, length)
            }
        }
    }
}
