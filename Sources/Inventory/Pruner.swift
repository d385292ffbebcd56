internal import Glibc
package import MCFSCore

/// Removes what a plan says, as any user of the folder would, beside engines that run.
///
/// First no kernel of the plan is to be found any more as it was: its group record is replaced by one that does not list
/// what will go, or removed. Then engines that have read the old one get time to read the rest; then files go. What is
/// being written, or was changed since the plan was made, stays; so does what is not certain to be an entry's own.
package struct Pruner {
    /// Files that are younger may be some of several that are being written.
    static let youngSeconds: UInt64 = 60
    /// Temporaries of writers that were not written for as long are what a writer that was killed left.
    static let leftoverSeconds: UInt64 = 3600
    /// An engine reads an entry's files within milliseconds after its group record.
    static let grace = Duration.seconds(1)

    private let plan: PrunePlan
    private let now: Timestamp
    private let grace: Duration

    package init(_ plan: PrunePlan, now: Timestamp = .now) { self.init(plan, now: now, grace: Self.grace) }

    init(_ plan: PrunePlan, now: Timestamp, grace: Duration) {
        self.plan = plan
        self.now = now
        self.grace = grace
    }

    /// - Parameter onProgress: called with how many of the plan's bytes are done.
    package func run(onProgress: (UInt64) -> Void = { _ in }) -> PruneReport {
        var report = PruneReport()
        report.beingWritten = plan.beingWritten
        // What holds other entries is looked at before anything in it is changed.
        let begun = plan.items.compactMap { item in
            report.result(of: item.kernel) { try EntryRemoval(beginning: item, plan.extent, now: now) }
        }
        if !begun.isEmpty { sleep(for: grace) }
        var done: UInt64 = 0
        // What lies in another entry goes before it; where it stays the other does, too.
        var gone: Set<[UInt8]> = []
        for removal in begun.reversed() {
            let bytes = report.result(of: removal.item.kernel) {
                try removal.check(parts: gone)
                return try removal.finish(now: now)
            }
            if let bytes {
                gone.insert(removal.item.kernel.path)
                report.kernels += 1
                if removal.item.isOnMount { report.hidden += 1 } else { report.bytesFreed.addClamped(bytes) }
            }
            done.addClamped(removal.item.bytes)
            onProgress(done)
        }
        for leftover in plan.leftovers { try? Place(leftover.path, below: leftover.root).removeLeftover(now: now) }
        return report
    }
}

/// What a prune did.
package struct PruneReport: Sendable {
    package var kernels = 0
    /// Those of them that lie on mounts: what the tree has of them is there no less.
    package var hidden = 0
    /// Without what lies on mounts.
    package var bytesFreed: UInt64 = 0
    /// Kernels that stay because they are being written, or were changed in the meantime.
    package var beingWritten = 0
    /// Kernels that stay for another reason: a sentence each.
    package var kept: [String] = []
    /// The first failure.
    package var failure: Errno?

    /// What `body` returns; nil, and noted why, where the kernel stays or is gone already.
    fileprivate mutating func result<Value>(of kernel: IndexedKernel, _ body: () throws -> Value) -> Value? {
        do { return try body() } catch EntryRemoval.Stay.isWritten {
            beingWritten += 1
        } catch EntryRemoval.Stay.isKept(let reason) {
            kept.append("\(kernel.pathText): \(reason)")
        } catch {
            let error = error as? Errno ?? .io
            if error == .noEntry { return nil }
            kept.append("\(kernel.pathText): \(error)")
            failure = failure ?? error
        }
        return nil
    }
}

private func sleep(for duration: Duration) {
    let (seconds, attoseconds) = duration.components
    var left = timespec(tv_sec: Int(seconds), tv_nsec: Int(attoseconds / 1_000_000_000))
    var rest = left
    while nanosleep(&left, &rest) != 0, errno == EINTR { left = rest }
}
