internal import MCFSCore

/// Takes a layer's tar as it passes by, in pieces of any size: collects its entries and hands its files to the cache.
struct TarStream {
    private let content: any ContentSink
    private var parser: TarParser
    private var table: LayerEntries
    /// Of the next byte that comes.
    private var offset: UInt64 = 0
    private var block: [UInt8] = []
    private var file: (writer: MemberWriter, missing: UInt64)?

    /// - Parameters:
    ///   - name: what messages call the layer.
    ///   - budget: of all layers of the image.
    init(name: String, digest: Digest, content: any ContentSink, budget: MetadataBudget) {
        self.content = content
        parser = TarParser(name: name, size: nil)
        table = LayerEntries(name: name, digest: digest, budget: budget)
        block.reserveCapacity(TarHeader.byteCount)
    }

    var hasEnded: Bool { parser.hasEnded }
    var entries: [TreeEntry] { table.entries }

    /// Takes the bytes at `offset`. What follows the tar's end is ignored.
    mutating func take(_ bytes: UnsafeRawBufferPointer) throws(MCFSError) {
        var rest = bytes[...]
        while !rest.isEmpty, !parser.hasEnded {
            let count: Int
            if var open = file.take() {
                count = Int(min(open.missing, UInt64(rest.count)))
                try open.writer.write(UnsafeRawBufferPointer(rebasing: rest.prefix(count)))
                open.missing -= UInt64(count)
                if open.missing > 0 {
                    file = open
                } else {
                    table.identifyLast(as: try open.writer.commit())
                }
            } else if offset < parser.offset {
                count = Int(min(parser.offset - offset, UInt64(rest.count)))
            } else {
                count = min(TarHeader.byteCount - block.count, rest.count)
                block.append(contentsOf: rest.prefix(count))
                if block.count == TarHeader.byteCount { try takeBlock() }
            }
            offset += UInt64(count)
            rest = rest.dropFirst(count)
        }
    }

    /// Says that nothing more comes.
    ///
    /// - Throws: `corrupt` where more had to.
    func finish() throws(MCFSError) { try parser.finish(at: offset) }

    private mutating func takeBlock() throws(MCFSError) {
        let step = try parser.take(block)
        block.removeAll(keepingCapacity: true)
        guard case .member(let member) = step, let content = try table.add(member) else { return }
        file = (try MemberWriter(self.content, size: content.size), content.size)
    }
}
