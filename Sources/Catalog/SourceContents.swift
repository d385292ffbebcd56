internal import MCFSCore

/// The contents of a tree in the order of their sources and offsets.
final class Placement: Sendable {
    /// Numbers of contents.
    let order: [UInt32]
    /// For each place in `order`, the greatest end of the contents of its source up to there. nil where no content
    /// reaches into the next one: then a content's own end is that.
    let ends: [UInt64]?

    /// All sources of `contents` are less than `sourceCount`.
    init(_ contents: [Content], sourceCount: Int) {
        order = Self.order(contents, sourceCount)
        ends = Self.ends(contents, order)
    }

    /// Source by source, each sorted by itself: a million sources of one content each take no comparison.
    private static func order(_ contents: [Content], _ sourceCount: Int) -> [UInt32] {
        var next = [UInt32](repeating: 0, count: sourceCount + 1)
        for content in contents { next[content.source + 1] += 1 }
        for source in 0..<sourceCount { next[source + 1] += next[source] }
        var order = [UInt32](repeating: 0, count: contents.count)
        for (number, content) in contents.enumerated() {
            order[Int(next[content.source])] = UInt32(number)
            next[content.source] += 1
        }
        // Each is where the next one begins now.
        var start = 0
        for source in 0..<sourceCount {
            let end = Int(next[source])
            let places = order[start..<end]
            if !zip(places, places.dropFirst()).allSatisfy({ contents[Int($0)].offset <= contents[Int($1)].offset }) {
                order[start..<end].sort { contents[Int($0)].offset < contents[Int($1)].offset }
            }
            start = end
        }
        return order
    }

    private static func ends(_ contents: [Content], _ order: [UInt32]) -> [UInt64]? {
        func end(_ number: UInt32) -> UInt64 { contents[Int(number)].offset + contents[Int(number)].size }
        func isOneSource(_ a: UInt32, _ b: UInt32) -> Bool { contents[Int(a)].source == contents[Int(b)].source }
        let overlap = zip(order, order.dropFirst()).contains { isOneSource($0, $1) && end($0) > end($1) }
        if !overlap { return nil }
        var ends: [UInt64] = []
        ends.reserveCapacity(order.count)
        for (place, number) in order.enumerated() {
            let isFirst = place == 0 || !isOneSource(order[place - 1], number)
            ends.append(isFirst ? end(number) : max(end(number), ends[place - 1]))
        }
        return ends
    }
}

/// The contents of one source.
final class SourceContents: SourceLayout {
    private let tree: Tree
    private let placement: Placement
    private let places: Range<Int>

    init(tree: Tree, placement: Placement, source: Int) {
        self.tree = tree
        self.placement = placement
        let contents = tree.columns.contents
        let all = 0..<placement.order.count
        let start = firstIndex(in: all) { contents[Int(placement.order[$0])].source >= source }
        let end = firstIndex(in: start..<all.upperBound) { contents[Int(placement.order[$0])].source > source }
        places = start..<end
    }

    func contents(overlapping range: ByteRange) -> [Content] {
        guard !range.isEmpty else { return [] }
        let start = firstIndex(in: places) { end(at: $0) > range.lowerBound }
        var result: [Content] = []
        for place in start..<places.upperBound {
            let content = content(at: place)
            if content.offset >= range.upperBound { break }
            if content.size > 0, content.offset + content.size > range.lowerBound { result.append(content) }
        }
        return result
    }

    private func content(at place: Int) -> Content { tree.columns.contents[Int(placement.order[place])] }

    private func end(at place: Int) -> UInt64 {
        if let ends = placement.ends { return ends[place] }
        let content = content(at: place)
        return content.offset + content.size
    }
}

/// The first index of `range` that fulfils what all later ones fulfil too; its end where none does.
private func firstIndex(in range: Range<Int>, where holds: (Int) -> Bool) -> Int {
    var low = range.lowerBound
    var high = range.upperBound
    while low < high {
        let middle = low + (high - low) / 2
        if holds(middle) { high = middle } else { low = middle + 1 }
    }
    return low
}
