import MCFSCore
import Testing

@Suite struct ClampedSumTests {
    @Test("a sum that no number can hold is the greatest number") func overflow() {
        #expect(UInt64.max.addingClamped(1) == .max)
        #expect([UInt64.max - 1, 1, 1].clampedSum { $0 } == .max)
        #expect([UInt64]().clampedSum { $0 } == 0)
        #expect([1, 2, 3].clampedSum { UInt64($0) } == 6)
        var sum: UInt64 = 1 << 63
        sum.addClamped(1 << 63)
        #expect(sum == .max)
    }
}
