internal import FoundationEssentials
package import MCFSCore

/// The one way that mcfs writes and reads its own JSON: sorted keys, slashes as they are.
package enum JSON {
    /// One line, without the newline.
    package static func line(_ value: some Encodable) throws(MCFSError) -> [UInt8] { try encode(value, []) }

    /// For people: indented.
    package static func document(_ value: some Encodable) throws(MCFSError) -> [UInt8] {
        try encode(value, [.prettyPrinted])
    }

    private static func encode(
        _ value: some Encodable, _ extra: JSONEncoder.OutputFormatting
    ) throws(MCFSError) -> [UInt8] {
        let encoder = JSONEncoder()
        encoder.outputFormatting = extra.union([.sortedKeys, .withoutEscapingSlashes])
        do { return Array(try encoder.encode(value)) } catch {
            throw MCFSError(.failed, "cannot write \(type(of: value)) as JSON: \(error)")
        }
    }

    /// - Throws: `usage` where the bytes are no such value; the message does not repeat them.
    package static func decode<Value: Decodable>(_ type: Value.Type, _ bytes: [UInt8]) throws(MCFSError) -> Value {
        do { return try JSONDecoder().decode(type, from: Data(bytes)) } catch {
            throw MCFSError(.usage, "not a valid \(type) in JSON: \(Self.explain(error))")
        }
    }

    /// Says where, never what: a request holds the user's environment.
    private static func explain(_ error: any Error) -> String {
        func place(_ context: DecodingError.Context) -> String {
            context.codingPath.isEmpty ? "" : " at '\(context.codingPath.map(\.stringValue).joined(separator: "."))'"
        }
        switch error as? DecodingError {
        case .keyNotFound(let key, let context): return "the key '\(key.stringValue)' is missing\(place(context))"
        case .typeMismatch(_, let context): return "a value has another type than expected\(place(context))"
        case .valueNotFound(_, let context): return "a value is null\(place(context))"
        case .dataCorrupted(let context): return "it cannot be parsed\(place(context))"
        default: return "it cannot be parsed"
        }
    }
}
