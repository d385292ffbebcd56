internal import MCFSCore

/// An element of a small XML document: an S3 listing, an S3 or STS answer. Attributes are passed over.
///
/// Made for answers that cannot be trusted, and read by hand for that reason: Foundation's parser traps on some of them.
/// Document types are refused (with them all entities but the five of XML), nothing outside of the document is looked
/// at, and size, depth and number of elements are bounded.
final class XMLNode {
    /// Without a namespace prefix.
    let name: String
    fileprivate(set) var text = ""
    fileprivate(set) var children: [XMLNode] = []

    fileprivate init(name: String) { self.name = name }

    /// Longest document, in bytes: 1000 keys of 1024 bytes, percent-encoded, take a quarter of it.
    static let documentBytesMax = 16 << 20
    fileprivate static let depthMax = 32
    fileprivate static let elementsMax = 200_000

    /// The text of the first element at `path` below this one.
    subscript(path: String...) -> String? {
        var node = self
        for name in path {
            guard let child = node.children.first(where: { $0.name == name }) else { return nil }
            node = child
        }
        return node.text
    }

    /// The first element called `name` at any depth, this one included.
    func descendant(_ name: String) -> XMLNode? {
        if self.name == name { return self }
        for child in children { if let found = child.descendant(name) { return found } }
        return nil
    }

    /// The root element.
    /// - Throws: `corrupt` for anything that is not one complete, bounded document in UTF-8. The message does not quote it.
    static func parse(_ bytes: [UInt8]) throws(MCFSError) -> XMLNode {
        guard bytes.count <= documentBytesMax else {
            throw MCFSError(.corrupt, "the XML answer is longer than \(documentBytesMax >> 20) MiB")
        }
        var reader = XMLReader(bytes)
        guard let root = reader.document() else {
            throw MCFSError(.corrupt, "the XML answer is malformed, cut short, or of a kind that no S3 server sends")
        }
        return root
    }
}

/// Reads one document from its first byte to its last. Everything returns nil or false at the first thing that is wrong.
private struct XMLReader {
    private let bytes: [UInt8]
    private var position = 0
    private var elementCount = 0

    init(_ bytes: [UInt8]) { self.bytes = bytes }

    mutating func document() -> XMLNode? {
        _ = take("\u{FEFF}")
        if starts(with: "<?xml") { guard let declaration = until("?>"), isPlain(declaration) else { return nil } }
        var root: XMLNode?
        var open: [XMLNode] = []
        while position < bytes.count {
            if bytes[position] != UInt8(ascii: "<") {
                guard let text = text() else { return nil }
                if let node = open.last {
                    node.text += text
                } else if !text.allSatisfy({ $0.isWhitespace }) {
                    return nil
                }
            } else if take("<!--") {
                guard until("-->") != nil else { return nil }
            } else if take("<![CDATA[") {
                guard let node = open.last, let data = until("]]>"), let text = String(validating: data, as: UTF8.self)
                else {
                    return nil
                }
                node.text += text
            } else if take("<?") {
                guard until("?>") != nil else { return nil }
            } else if take("</") {
                guard let end = until(">"), let node = open.popLast(), Self.localName(end) == node.name else {
                    return nil
                }
            } else {
                // A second root, a document type ('!' begins no name), or an element.
                guard !(open.isEmpty && root != nil), take("<"), let (node, isEmpty) = element() else { return nil }
                elementCount += 1
                guard elementCount <= XMLNode.elementsMax, open.count < XMLNode.depthMax else { return nil }
                open.last?.children.append(node)
                if root == nil { root = node }
                if !isEmpty { open.append(node) }
            }
        }
        return open.isEmpty ? root : nil
    }

    /// What follows `<` up to the `>` that no quote hides.
    private mutating func element() -> (XMLNode, isEmpty: Bool)? {
        let start = position
        var quote: UInt8?
        while position < bytes.count {
            let byte = bytes[position]
            if let open = quote {
                if byte == open { quote = nil }
            } else if byte == UInt8(ascii: "\"") || byte == UInt8(ascii: "'") {
                quote = byte
            } else if byte == UInt8(ascii: "<") {
                return nil
            } else if byte == UInt8(ascii: ">") {
                var tag = bytes[start..<position]
                position += 1
                let isEmpty = tag.last == UInt8(ascii: "/")
                if isEmpty { tag.removeLast() }
                return Self.localName(tag).map { (XMLNode(name: $0), isEmpty) }
            }
            position += 1
        }
        return nil
    }

    /// The name at the start of a tag, without its prefix; nil where it is none.
    private static func localName(_ tag: ArraySlice<UInt8>) -> String? {
        let name = tag.prefix { $0 > 32 && $0 != UInt8(ascii: "/") }
        guard let first = name.first,
            first == UInt8(ascii: "_") || first >= 0x80 || (first | 0x20 >= 0x61 && first | 0x20 <= 0x7a)
        else { return nil }
        let local = name.lastIndex(of: UInt8(ascii: ":")).map { name[($0 + 1)...] } ?? name
        return local.isEmpty ? nil : String(validating: local, as: UTF8.self)
    }

    /// Text up to the next `<`, its references replaced.
    private mutating func text() -> String? {
        let end = bytes[position...].firstIndex(of: UInt8(ascii: "<")) ?? bytes.count
        defer { position = end }
        var result: [UInt8] = []
        var rest = bytes[position..<end]
        while let byte = rest.popFirst() {
            if byte == 0 { return nil }
            guard byte == UInt8(ascii: "&") else {
                result.append(byte)
                continue
            }
            // The longest reference is that of the last character, in hex.
            guard let mark = rest.prefix(12).firstIndex(of: UInt8(ascii: ";")),
                let character = Self.character(String(decoding: rest[..<mark], as: UTF8.self))
            else { return nil }
            result += Array(String(character).utf8)
            rest = rest[(mark + 1)...]
        }
        return String(validating: result, as: UTF8.self)
    }

    private static func character(_ reference: String) -> Character? {
        switch reference {
        case "amp": "&"
        case "lt": "<"
        case "gt": ">"
        case "quot": "\""
        case "apos": "'"
        default:
            number(reference).flatMap { $0 == 0 ? nil : Unicode.Scalar($0) }.map { Character($0) }
        }
    }

    private static func number(_ reference: String) -> UInt32? {
        if reference.hasPrefix("#x") { return UInt32(reference.dropFirst(2), radix: 16) }
        return reference.hasPrefix("#") ? UInt32(reference.dropFirst()) : nil
    }

    /// Whether the declaration names no encoding, or one in which the bytes are UTF-8.
    private func isPlain(_ declaration: ArraySlice<UInt8>) -> Bool {
        let text = String(decoding: declaration, as: UTF8.self).lowercased()
        guard let mark = text.firstRange(of: "encoding") else { return true }
        let value = text[mark.upperBound...].filter { !$0.isWhitespace && $0 != "=" }.dropFirst()
        return value.hasPrefix("utf-8") || value.hasPrefix("utf8") || value.hasPrefix("us-ascii")
    }

    private func starts(with text: String) -> Bool { bytes[position...].starts(with: text.utf8) }

    private mutating func take(_ text: String) -> Bool {
        guard starts(with: text) else { return false }
        position += text.utf8.count
        return true
    }

    /// What comes before `end`, which is passed too.
    private mutating func until(_ end: String) -> ArraySlice<UInt8>? {
        let start = position
        while position < bytes.count {
            if starts(with: end) {
                defer { position += end.utf8.count }
                return bytes[start..<position]
            }
            position += 1
        }
        return nil
    }
}
