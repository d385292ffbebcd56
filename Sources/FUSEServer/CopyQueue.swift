internal import MCFSCore
internal import MountFS
internal import Synchronization

/// Copies into the upper: one at a time of each file. Who wants a file that is being copied holds no thread meanwhile; it is
/// their turn when the copy is there, or has failed.
final class CopyQueue: Sendable {
    typealias Work = @Sendable () -> Void

    /// Wait for the network, or for the disk alone.
    private let fetching = WaitingThreads("mcfs-copy")
    private let local = WaitingThreads("mcfs-copy")
    /// What comes after the copy that is under way, for each file of which there is one.
    private let waiting = Lock<[UInt64: [Work]]>([:])

    func start() throws(Errno) {
        try fetching.start()
        try local.start()
    }

    func end() {
        waiting.withLock { $0 = [:] }
        fetching.end()
        local.end()
    }

    /// - Parameters:
    ///   - isLocal: the bytes of the file are in the cache: nobody who waits for others' bytes is before it.
    ///   - work: copies, if nobody has by then.
    func run(_ node: Node, isLocal: Bool, _ work: @escaping Work) {
        let isFirst = waiting.withLock { waiting in
            guard waiting[node.number] == nil else {
                waiting[node.number]?.append(work)
                return false
            }
            waiting[node.number] = []
            return true
        }
        guard isFirst else { return }
        (isLocal ? local : fetching).run { [self] in
            var works = [work]
            while !works.isEmpty {
                for work in works { work() }
                works = waiting.withLock { waiting in
                    let next = waiting[node.number] ?? []
                    waiting[node.number] = next.isEmpty ? nil : []
                    return next
                }
            }
        }
    }
}
