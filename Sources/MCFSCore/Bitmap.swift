/// A set of the integers below `count`, one bit each.
package struct Bitmap: Sendable, Equatable {
    package let count: Int
    private var words: [UInt64]
    /// How many are in the set.
    package private(set) var population = 0

    package init(count: Int) {
        self.count = count
        words = Array(repeating: 0, count: (count + 63) / 64)
    }

    package var isFull: Bool { population == count }

    package subscript(index: Int) -> Bool { words[index >> 6] & (1 << UInt64(index & 63)) != 0 }

    package func containsAll(_ range: Range<Int>) -> Bool { range.allSatisfy { self[$0] } }

    /// - Returns: whether it was new.
    @discardableResult
    package mutating func insert(_ index: Int) -> Bool {
        precondition(index >= 0 && index < count, "an index beyond the bitmap")
        if self[index] { return false }
        words[index >> 6] |= 1 << UInt64(index & 63)
        population += 1
        return true
    }

    package mutating func remove(_ index: Int) {
        guard self[index] else { return }
        words[index >> 6] &= ~(1 << UInt64(index & 63))
        population -= 1
    }

    package mutating func removeAll() { self = Bitmap(count: count) }

    /// Bit i is bit i & 7 of byte i >> 3.
    package var bytes: [UInt8] {
        (0..<(count + 7) / 8).map { UInt8(truncatingIfNeeded: words[$0 >> 3] >> UInt64(($0 & 7) * 8)) }
    }

    /// The byte of `bytes` that holds an index.
    package func byte(holding index: Int) -> UInt8 {
        UInt8(truncatingIfNeeded: words[index >> 6] >> UInt64((index >> 3 & 7) * 8))
    }

    /// nil where there are too few bytes. Bits at or above `count` are ignored.
    package init?(count: Int, bytes: some Collection<UInt8>) {
        guard bytes.count >= (count + 7) / 8 else { return nil }
        self.init(count: count)
        for (position, byte) in bytes.enumerated() where byte != 0 {
            for bit in 0..<8 where byte & (1 << UInt8(bit)) != 0 && position * 8 + bit < count {
                insert(position * 8 + bit)
            }
        }
    }
}
