import MCFSCore
import Synchronization
import Testing

@testable import Origins

@Suite struct LayersUnderWayTests {
    private final class Progress: ProgressReporter, Sendable {
        let reported = Lock<[UInt64]>([])
        func report(phase: String, done: UInt64, total: UInt64?) { reported.withLock { $0.append(done) } }
        func warn(_ message: String) {}
    }

    private static let digest = Digest.sha256(of: [1])
    private static let table = LayerTable(coding: .plain, entries: [])
    private let layers = LayersUnderWay()

    /// Asks for the layer on a thread of its own. - Returns: how that ended, once it did.
    private func ask(
        _ progress: Progress, _ deadline: Deadline = Deadline(after: .seconds(60)),
        _ read: @escaping @Sendable (any ProgressReporter, Deadline) throws(MCFSError) -> LayerTable
    ) throws -> Guarded<Result<LayerTable, MCFSError>?> {
        let outcome = Guarded<Result<LayerTable, MCFSError>?>(nil)
        try startThread("asking") { [layers] in
            let result = Result { () throws(MCFSError) in
                try layers.table(of: Self.digest, progress: progress, deadline: deadline, read)
            }
            outcome.update { $0 = result }
        }
        return outcome
    }

    @Test("who comes while a layer is read waits for that, sees its progress, and may leave") func shared() throws {
        let isStarted = Guarded(false)
        let mayEnd = Guarded(false)
        let reads = Atomic<Int>(0)
        let read: @Sendable (any ProgressReporter, Deadline) throws(MCFSError) -> LayerTable = { progress, deadline in
            reads.add(1, ordering: .relaxed)
            isStarted.update { $0 = true }
            mayEnd.wait(until: deadline) { $0 ? true : nil }
            progress.report(phase: "", done: 7, total: nil)
            return Self.table
        }
        let (first, second) = (Progress(), Progress())
        let firstCancellation = Cancellation()
        let one = try ask(first, Deadline(after: .seconds(60), cancellation: firstCancellation), read)
        isStarted.wait { $0 ? true : nil }
        let other = try ask(second, Deadline(after: .seconds(60)), read)
        // Whoever reads tells the second one as well once it is there.
        while !layers.isAwaited(Self.digest, by: 2) {}
        firstCancellation.cancel()
        #expect(throws: MCFSError.self) { try one.wait { $0 }?.get() }
        mayEnd.update { $0 = true }
        #expect(try other.wait { $0 }?.get() == Self.table)
        #expect(second.reported.withLock { $0 } == [7] && first.reported.withLock { $0 } == [])
        #expect(reads.load(ordering: .relaxed) == 1)
    }

    @Test("what nobody waits for any more is given up, and who comes then begins anew") func givenUp() throws {
        let cancellation = Cancellation()
        let isStarted = Guarded(false)
        let wasCancelled = Guarded(false)
        let one = try ask(Progress(), Deadline(after: .seconds(3600), cancellation: cancellation)) {
            (_, deadline) throws(MCFSError) in
            isStarted.update { $0 = true }
            deadline.sleep(.seconds(3600))
            wasCancelled.update { $0 = deadline.hasPassed }
            throw MCFSError(.timedOut, "late")
        }
        isStarted.wait { $0 ? true : nil }
        cancellation.cancel()
        #expect(throws: MCFSError.self) { try one.wait { $0 }?.get() }
        #expect(try ask(Progress()) { _, _ in Self.table }.wait { $0 }?.get() == Self.table)
        #expect(wasCancelled.wait { $0 ? true : nil } == true)
    }

    @Test("a refusal is of who was refused: the next one asks by itself; other errors are everybody's")
    func refused() throws {
        for (code, isAskedAgain) in [(MCFSError.Code.unauthorized, true), (.corrupt, false)] {
            let isStarted = Guarded(false)
            let mayEnd = Guarded(false)
            let one = try ask(Progress()) { (_, _) throws(MCFSError) in
                isStarted.update { $0 = true }
                mayEnd.wait { $0 ? true : nil }
                throw MCFSError(code, "no")
            }
            isStarted.wait { $0 ? true : nil }
            let other = try ask(Progress()) { _, _ in Self.table }
            while !layers.isAwaited(Self.digest, by: 2) {}
            mayEnd.update { $0 = true }
            #expect(throws: MCFSError.self) { try one.wait { $0 }?.get() }
            let outcome = other.wait { $0 }
            #expect((try? outcome?.get()) == (isAskedAgain ? Self.table : nil))
        }
    }
}
