/// A set of the integers below `count`, one bit each. It costs by what is in it, not by `count`: pages of which nothing is in
/// the set take no memory.
package struct Bitmap: Sendable {
    /// Bytes of a page: 32,768 numbers.
    package static let pageBytes = 4096
    private static let pageWords = pageBytes / 8
    private static let pageBits = pageBytes * 8

    package let count: Int
    /// How many are in the set.
    package private(set) var population = 0
    /// All of a set of at most 64 numbers, without an allocation; else unused.
    private var word: UInt64 = 0
    private var pages: [Int: [UInt64]] = [:]

    package init(count: Int) { self.count = count }

    package var isFull: Bool { population == count }

    private var isSmall: Bool { count <= 64 }

    private func word(holding index: Int) -> UInt64 {
        if isSmall { return word }
        return pages[index / Self.pageBits]?[index % Self.pageBits / 64] ?? 0
    }

    package subscript(index: Int) -> Bool { word(holding: index) & (1 << UInt64(index & 63)) != 0 }

    package func containsAll(_ range: Range<Int>) -> Bool { isFull || range.allSatisfy { self[$0] } }

    /// - Returns: whether it was new.
    @discardableResult
    package mutating func insert(_ index: Int) -> Bool {
        precondition(index >= 0 && index < count, "an index beyond the bitmap")
        if self[index] { return false }
        change(index) { $0 |= 1 << UInt64(index & 63) }
        population += 1
        return true
    }

    package mutating func remove(_ index: Int) {
        guard index >= 0, index < count, self[index] else { return }
        change(index) { $0 &= ~(1 << UInt64(index & 63)) }
        population -= 1
    }

    private mutating func change(_ index: Int, _ body: (inout UInt64) -> Void) {
        if isSmall { return body(&word) }
        body(
            &pages[index / Self.pageBits, default: Array(repeating: 0, count: Self.pageWords)][
                index % Self.pageBits / 64])
    }

    package mutating func removeAll() { self = Bitmap(count: count) }
}

// MARK: - As bytes: number i is bit i & 7 of byte i >> 3

extension Bitmap {
    /// Bytes that hold all numbers below `count`.
    package static func byteCount(_ count: Int) -> Int { count / 8 + (count % 8 == 0 ? 0 : 1) }

    /// The byte that holds a number.
    package func byte(holding index: Int) -> UInt8 {
        UInt8(truncatingIfNeeded: word(holding: index) >> UInt64((index >> 3 & 7) * 8))
    }

    /// Calls `body` with runs of bytes that hold all that is in the set, and where each run lies; between them are zeros.
    package func forEachRun<Failure: Error>(
        _ body: (_ offset: Int, _ bytes: [UInt8]) throws(Failure) -> Void
    ) throws(Failure) {
        let length = Self.byteCount(count)
        if isSmall {
            return try body(0, Self.bytes([word], length))
        }
        for (page, words) in pages {
            try body(page * Self.pageBytes, Self.bytes(words, min(Self.pageBytes, length - page * Self.pageBytes)))
        }
    }

    /// Keeps those that `isKept` says yes to.
    package func filter<Failure: Error>(_ isKept: (Int) throws(Failure) -> Bool) throws(Failure) -> Bitmap {
        var result = Bitmap(count: count)
        for page in isSmall ? [0] : pages.keys.sorted() {
            for (index, word) in (isSmall ? [word] : pages[page] ?? []).enumerated() where word != 0 {
                for bit in 0..<64 where word & (1 << UInt64(bit)) != 0 {
                    let number = page * Self.pageBits + index * 64 + bit
                    if try isKept(number) { result.insert(number) }
                }
            }
        }
        return result
    }

    private static func bytes(_ words: [UInt64], _ count: Int) -> [UInt8] {
        (0..<count).map { UInt8(truncatingIfNeeded: words[$0 >> 3] >> UInt64(($0 & 7) * 8)) }
    }

    /// Adds what a run of bytes says. Bits at or above `count` are ignored.
    package mutating func insert(bytes: some Sequence<UInt8>, at offset: Int) {
        for (position, byte) in bytes.enumerated() where byte != 0 {
            for bit in 0..<8 where byte & (1 << UInt8(bit)) != 0 {
                let index = (offset + position) * 8 + bit
                if index < count { insert(index) }
            }
        }
    }
}
