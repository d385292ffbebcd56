import Testing

@testable import ControlAPI

@Suite struct DaemonMarkTests {
    @Test("what stands in the lock file reads as it was written, and an empty one is nobody's")
    func text() {
        for mark in [DaemonMark(process: 7, died: nil), DaemonMark(process: 7, died: 6)] {
            #expect(DaemonMark(bytes: Array(mark.text.utf8)) == mark)
        }
        #expect(DaemonMark(bytes: []) == nil && DaemonMark(bytes: Array("no number\n".utf8)) == nil)
    }

    @Test("a daemon has come to its end unless it holds the lock still, or the next one found that it did not")
    func end() {
        let before = DaemonMark(process: 7, died: nil)
        #expect(DaemonMark.hasEnded(before, now: nil))
        #expect(!DaemonMark.hasEnded(before, now: before))
        #expect(DaemonMark.hasEnded(before, now: DaemonMark(process: 8, died: nil)))
        #expect(!DaemonMark.hasEnded(before, now: DaemonMark(process: 8, died: 7)))
    }
}
