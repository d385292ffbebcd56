internal import FoundationEssentials
internal import GRDB

/// The rows at or below a place.
struct PathRange {
    let condition: String
    let arguments: StatementArguments

    /// - Parameter place: empty for all.
    init(_ place: String) {
        let bytes = Array(place.utf8)
        if bytes.isEmpty {
            condition = "TRUE"
            arguments = []
        } else {
            let start = bytes == [UInt8(ascii: "/")] ? bytes : bytes + [UInt8(ascii: "/")]
            condition = "path = ? OR (path >= ? AND path < ?)"
            // The byte after `/`.
            arguments = [Data(bytes), Data(start), Data(start.dropLast() + [UInt8(ascii: "0")])]
        }
    }
}
