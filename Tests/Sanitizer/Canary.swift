/// What the thread sanitizer must report and what it must not, by the first argument. Compiled with MCFSCore's `Lock`, so that
/// an upgrade of the compiler that blinds it to our locks or atomics, or to races, is noticed.
import Glibc
import Synchronization

final class Shared: @unchecked Sendable {
    var plain = 0
    let flag = Atomic<Bool>(false)
    let count = Lock(0)
    // Without a size: the address of the value must be nobody else's.
    let order = Lock(())
}

@main struct Canary {
    /// Runs `body` on two threads and waits for both.
    static func twice(_ body: @escaping @Sendable (_ isFirst: Bool) -> Void) {
        final class Start: Sendable {
            let body: @Sendable () -> Void
            init(_ body: @escaping @Sendable () -> Void) { self.body = body }
        }
        let threads = [true, false].map { isFirst in
            var thread = pthread_t()
            pthread_create(
                &thread, nil,
                { argument in
                    Unmanaged<Start>.fromOpaque(argument!).takeRetainedValue().body()
                    return nil
                }, Unmanaged.passRetained(Start { body(isFirst) }).toOpaque())
            return thread
        }
        for thread in threads { pthread_join(thread, nil) }
    }

    static func main() {
        let shared = Shared()
        switch CommandLine.arguments.last {
        case "race": twice { _ in for _ in 0..<1000 { shared.plain += 1 } }
        case "lock": twice { _ in for _ in 0..<1000 { shared.count.withLock { $0 += 1 } } }
        case "empty-lock": twice { _ in for _ in 0..<1000 { shared.order.withLock { _ in shared.plain += 1 } } }
        case "published", "unpublished":
            let isOrdered = CommandLine.arguments.last == "published"
            twice { isFirst in
                if isFirst {
                    shared.plain = 1
                    if isOrdered {
                        shared.flag.store(true, ordering: .releasing)
                    } else {
                        shared.flag.store(true, ordering: .relaxed)
                    }
                } else {
                    while !(isOrdered ? shared.flag.load(ordering: .acquiring) : shared.flag.load(ordering: .relaxed)) {
                        sched_yield()
                    }
                    shared.plain += 1
                }
            }
        default: exit(64)
        }
    }
}
