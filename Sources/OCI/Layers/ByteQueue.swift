internal import MCFSCore

/// A bounded queue of bytes between the thread that a source delivers on and the one that uses them.
///
/// One writer, one reader. The writer never waits: a full queue says so by `isFull`. An empty one blocks the reader; the
/// failure of either wakes the other at once.
final class ByteQueue: ByteSink {
    private struct State {
        var pieces: [[UInt8]] = []
        var bytes = 0
        /// How writing ended.
        var ending: Result<Void, MCFSError>?
        var isCancelled = false
        /// Whom to tell that there is room again.
        var whenDrained: (@Sendable () -> Void)?
    }

    private let state = Guarded(State())
    private let name: String
    private let bytesMax: Int
    private let deadline: Deadline

    /// - Parameters:
    ///   - name: what messages call the source of the bytes.
    ///   - bytesMax: from so many bytes that wait in it on, it is full.
    init(name: String, bytesMax: Int, deadline: Deadline) {
        self.name = name
        self.bytesMax = bytesMax
        self.deadline = deadline
    }

    /// Appends a copy.
    ///
    /// - Throws: `cancelled` when the reader gave up.
    func write(_ piece: UnsafeRawBufferPointer) throws(MCFSError) {
        guard !piece.isEmpty else { return }
        let copy = Array(piece)
        let isTaken = state.update { state in
            if state.isCancelled { return false }
            state.pieces.append(copy)
            state.bytes += copy.count
            return true
        }
        if !isTaken { throw MCFSError(.cancelled, "nobody reads \(name) any more") }
    }

    func isFull(whenDrained: @escaping @Sendable () -> Void) -> Bool {
        state.withLock { state in
            guard state.bytes >= bytesMax else { return false }
            state.whenDrained = whenDrained
            return true
        }
    }

    /// Says that nothing more will be written, and why.
    func finish(_ result: Result<Void, MCFSError>) {
        state.update { state in
            state.ending = state.ending ?? result
            state.whenDrained = nil
        }
    }

    /// Says that nothing more will be read.
    func cancel() {
        state.update { state in
            state.isCancelled = true
            return Self.drain(&state).whenDrained
        }?()
    }

    /// All pieces that wait, in order; nil when the writer is done. Blocks while there is none.
    ///
    /// - Throws: how writing failed, once everything before is read; `timedOut` at the deadline.
    func next() throws(MCFSError) -> [[UInt8]]? {
        let found = state.wait(until: deadline) { state -> (pieces: [[UInt8]], whenDrained: (@Sendable () -> Void)?)? in
            state.pieces.isEmpty && state.ending == nil ? nil : Self.drain(&state)
        }
        guard let found else { throw MCFSError(.timedOut, "\(name) could not be read in time", isTransient: true) }
        found.whenDrained?()
        if !found.pieces.isEmpty { return found.pieces }
        try state.withLock { $0.ending }?.get()
        return nil
    }

    private static func drain(_ state: inout State) -> (pieces: [[UInt8]], whenDrained: (@Sendable () -> Void)?) {
        defer {
            state.pieces = []
            state.bytes = 0
            state.whenDrained = nil
        }
        return (state.pieces, state.whenDrained)
    }
}
