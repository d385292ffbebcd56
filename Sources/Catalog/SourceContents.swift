internal import MCFSCore

/// The contents of a tree in the order of their sources and offsets.
final class Placement: Sendable {
    /// Numbers of contents.
    let order: [UInt32]
    /// For each place in `order`, the greatest end of the contents of its source up to there. nil where no content
    /// reaches into the next one: then a content's own end is that.
    let ends: [UInt64]?

    init(_ contents: [Content]) {
        func precedes(_ a: Content, _ b: Content) -> Bool {
            a.source == b.source ? a.offset < b.offset : a.source < b.source
        }
        var order = Array(0..<UInt32(contents.count))
        if !zip(contents, contents.dropFirst()).allSatisfy({ !precedes($1, $0) }) {
            order.sort { precedes(contents[Int($0)], contents[Int($1)]) }
        }
        var overlap = false
        var ends: [UInt64] = []
        ends.reserveCapacity(order.count)
        for number in order {
            let content = contents[Int(number)]
            var end = content.offset + content.size
            if let last = ends.last, contents[Int(order[ends.count - 1])].source == content.source, last > end {
                end = last
                overlap = true
            }
            ends.append(end)
        }
        self.order = order
        self.ends = overlap ? ends : nil
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
