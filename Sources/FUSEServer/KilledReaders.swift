internal import Glibc
internal import MCFSCore
internal import Synchronization

/// Tells which of the readers that a signal reached are being killed, as opposed to those that handle it and go on.
///
/// The kernel says INTERRUPT once for a request, at the first signal of any kind, and then waits for the answer, also when
/// the process is killed. A read of a file that ends with EINTR breaks programs (a runtime's timer signal is enough), and a
/// page fault that does is SIGBUS. So only a reader that is being killed is answered early; one that got another signal is
/// watched, until its bytes come, for being killed later.
final class KilledReaders: Sendable {
    /// By number.
    private let watched = Lock<[UInt64: PendingReply]>([:])
    private let lookout: Lookout

    init(_ lookout: Lookout) {
        self.lookout = lookout
        lookout.add { [weak self] in self?.look() ?? false }
    }

    /// Watches the reader of a request until `forget`; ends its read once it is being killed.
    func watch(_ read: PendingReply) {
        watched.withLock { $0[read.number] = read }
        lookout.wake()
    }

    func forget(_ number: UInt64) {
        let read = watched.withLock { $0.isEmpty ? nil : $0.removeValue(forKey: number) }
        withExtendedLifetime(read) {}
    }

    /// - Returns: whether anybody is watched.
    private func look() -> Bool {
        let all = watched.withLock { $0 }
        for (number, read) in all where Self.isBeingKilled(read.thread) {
            forget(number)
            read.end(errno: EINTR)
        }
        return watched.withLock { !$0.isEmpty }
    }

    /// Whether SIGKILL is pending for a thread: the kernel sets it for each thread of a process that any fatal signal ends
    /// (proc(5): SigPnd, ShdPnd). A thread that cannot be seen, in another PID namespace, is not known to be.
    static func isBeingKilled(_ thread: pid_t) -> Bool {
        guard thread > 0 else { return false }
        do throws(Errno) {
            let file = try OwnedDescriptor.open("/proc/\(thread)/status", O_RDONLY)
            var buffer = [UInt8](repeating: 0, count: 4096)
            let count = try retryingOnInterrupt { read(file.rawValue, &buffer, buffer.count) }
            return isKillPending(status: String(decoding: buffer.prefix(count), as: UTF8.self))
        } catch {
            return error == .noEntry || error.rawValue == ESRCH
        }
    }

    static func isKillPending(status: String) -> Bool {
        status.split(separator: "\n").contains { line in
            guard line.hasPrefix("SigPnd:") || line.hasPrefix("ShdPnd:"),
                let digits = line.split(whereSeparator: \.isWhitespace).last, let mask = UInt64(digits, radix: 16)
            else { return false }
            return mask & (1 << UInt64(SIGKILL - 1)) != 0
        }
    }
}
