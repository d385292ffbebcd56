internal import MCFSCore

/// Finds the digests of small files of a layer and hands them to the cache, on a second thread while the walk goes on:
/// that takes as long as reading them. Where too much waits, or there is no second thread, the walk does it.
///
/// Used by one thread, and to be ended by it. The cache hears of the files in no certain order.
final class MemberStore: Sendable {
    private struct Item {
        /// Of its entry.
        let index: Int
        /// A part of the walk's window, which lives as long.
        let bytes: ArraySlice<UInt8>
        let isKept: Bool
    }

    private struct State {
        var waiting: [Item] = []
        /// Where in `waiting` the rest begins.
        var next = 0
        /// Bytes of those that wait.
        var bytes = 0
        var underWay = 0
        var identities: [(index: Int, id: BlobID)] = []
        var failure: MCFSError?
        var hasEnded = false
    }

    /// Bytes that wait at most, besides the windows that they are parts of.
    private static let bytesMax = 1 << 20

    private let content: any ContentSink
    private let state = Guarded(State())

    init(_ content: any ContentSink) {
        self.content = content
        _ = try? startThread("mcfs-members") { [self] in
            while let item = waitForItem() { store(item) }
        }
    }

    /// Takes the data of the entry at `index`.
    ///
    /// - Parameter isKept: whether the cache gets them; the digest is found in any case.
    /// - Throws: what an earlier file failed with.
    func add(_ bytes: ArraySlice<UInt8>, at index: Int, isKept: Bool) throws(MCFSError) {
        let (failure, isMuch) = state.withLock { state in
            state.waiting.append(Item(index: index, bytes: bytes, isKept: isKept))
            state.bytes += bytes.count
            return (state.failure, state.bytes > Self.bytesMax)
        }
        if let failure { throw failure }
        state.wakeOne()
        if isMuch, let item = state.withLock({ Self.take(&$0) }) { store(item) }
    }

    /// Waits until all is done.
    ///
    /// - Returns: the identities of all that was added.
    /// - Throws: what a file failed with.
    func finish() throws(MCFSError) -> [(index: Int, id: BlobID)] {
        while let item = state.withLock({ Self.take(&$0) }) { store(item) }
        let result = state.wait { state -> Result<[(index: Int, id: BlobID)], MCFSError>? in
            if let failure = state.failure { return .failure(failure) }
            return state.underWay == 0 ? .success(state.identities) : nil
        }
        return try result?.get() ?? []
    }

    /// Forgets what waits, and lets the thread go.
    func end() {
        state.update { state in
            state.waiting = []
            state.next = 0
            state.hasEnded = true
        }
    }

    private func waitForItem() -> Item? {
        state.wait { state -> Item?? in
            if state.hasEnded || state.failure != nil { return .some(nil) }
            return Self.take(&state).map { .some($0) }
        } ?? nil
    }

    private static func take(_ state: inout State) -> Item? {
        guard state.next < state.waiting.count, state.failure == nil else { return nil }
        let item = state.waiting[state.next]
        state.next += 1
        if state.next == state.waiting.count {
            state.waiting.removeAll(keepingCapacity: true)
            state.next = 0
        }
        state.bytes -= item.bytes.count
        state.underWay += 1
        return item
    }

    private func store(_ item: Item) {
        let result: Result<BlobID, MCFSError>
        do throws(MCFSError) {
            result = .success(try MemberWriter.store(item.bytes, in: item.isKept ? content : nil))
        } catch { result = .failure(error) }
        let isLast = state.withLock { state in
            state.underWay -= 1
            switch result {
            case .success(let id): state.identities.append((item.index, id))
            case .failure(let error): state.failure = state.failure ?? error
            }
            return state.underWay == 0 || state.failure != nil
        }
        if isLast { state.update { _ in } }
    }
}
