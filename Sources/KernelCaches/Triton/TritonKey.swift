internal import MCFSCore

extension TritonFile {
    /// What keys have of characters.
    package static let keyLengths = 32...64

    /// Whether a directory's name is a key that some version of Triton makes.
    ///
    /// | Triton | name |
    /// |---|---|
    /// | 2.1–2.3 | MD5, 32 hex digits |
    /// | 3.0, 3.1 | SHA-256, 64 hex digits |
    /// | 3.2 | SHA-256, 43 characters of url-safe base64 |
    /// | 3.3 and later | SHA-256, 52 characters of base32 |
    package static func isKey(_ name: some BidirectionalCollection<UInt8>) -> Bool {
        guard let last = name.last else { return false }
        switch name.count {
        case 32, 64: return name.allSatisfy { Alphabet.hex.value(of: $0) != nil }
        // The last character holds bits that the hash does not have: those are 0.
        case 43: return isText(name, of: .base64) && (Alphabet.base64.value(of: last) ?? 1) & 0b11 == 0
        case 52: return isText(name, of: .base32) && (Alphabet.base32.value(of: last) ?? 1) & 0b1111 == 0
        default: return false
        }
    }

    /// The `hash` of an entry's metadata, in hex digits, from its directory's name; nil for what is no key.
    package static func hash(ofKey name: some BidirectionalCollection<UInt8>) -> String? {
        guard isKey(name) else { return nil }
        switch name.count {
        case 43: return Alphabet.base64.decode(name).hex
        case 52: return Alphabet.base32.decode(name).hex
        default: return String(decoding: name, as: UTF8.self)
        }
    }

    /// Each name that a version of Triton gives to the directory of the entry with this `hash`, in hex digits: itself, and
    /// for a SHA-256 its base64 and base32. Empty for what is no hash.
    package static func keys(ofHash hash: String) -> [String] {
        guard isKey(hash.utf8), let bytes = [UInt8](hex: hash) else { return [] }
        return bytes.count == 32 ? [hash, Alphabet.base64.encode(bytes), Alphabet.base32.encode(bytes)] : [hash]
    }

    private static func isText(_ name: some Collection<UInt8>, of alphabet: Alphabet) -> Bool {
        name.allSatisfy { alphabet.value(of: $0) != nil }
    }
}

/// RFC 4648 encodings, without padding.
private struct Alphabet {
    let bitsPerCharacter: Int
    let characters: [UInt8]
    private let values: [UInt8?]

    static let hex = Alphabet(4, "0123456789abcdef")
    static let base32 = Alphabet(5, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567")
    static let base64 = Alphabet(6, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")

    private init(_ bitsPerCharacter: Int, _ characters: String) {
        self.bitsPerCharacter = bitsPerCharacter
        self.characters = Array(characters.utf8)
        var values = [UInt8?](repeating: nil, count: 256)
        for (value, character) in self.characters.enumerated() { values[Int(character)] = UInt8(value) }
        self.values = values
    }

    func value(of character: UInt8) -> UInt8? { values[Int(character)] }

    func encode(_ bytes: [UInt8]) -> String {
        let groups = regrouped(bytes, from: 8, to: bitsPerCharacter, keepingRest: true)
        return String(decoding: groups.map { characters[Int($0)] }, as: UTF8.self)
    }

    func decode(_ text: some Collection<UInt8>) -> [UInt8] {
        regrouped(text.map { value(of: $0) ?? 0 }, from: bitsPerCharacter, to: 8, keepingRest: false)
    }

    private func regrouped(_ groups: [UInt8], from: Int, to: Int, keepingRest: Bool) -> [UInt8] {
        var result: [UInt8] = []
        var bits: UInt32 = 0
        var count = 0
        for group in groups {
            bits = bits << UInt32(from) | UInt32(group)
            count += from
            while count >= to {
                count -= to
                result.append(UInt8(truncatingIfNeeded: bits >> UInt32(count)) & UInt8((1 << to) - 1))
            }
            bits &= (1 << UInt32(count)) - 1
        }
        if keepingRest, count > 0 { result.append(UInt8(truncatingIfNeeded: bits << UInt32(to - count))) }
        return result
    }
}
