internal import Synchronization

/// What the entries of one reference may take while its tree is made, however many layers or pages they come in: who lists
/// must not be able to use up the memory of a node. Thread safe.
package final class MetadataBudget: Sendable {
    /// Most entries of a tree.
    package static let entriesMax = 4_000_000
    /// Most bytes of its names, links and versions while they are collected.
    package static let bytesMax = 1 << 30

    private let entriesMax: Int
    private let bytesMax: Int
    private let used = Lock((entries: 0, bytes: 0))

    package init(entriesMax: Int = MetadataBudget.entriesMax, bytesMax: Int = MetadataBudget.bytesMax) {
        self.entriesMax = entriesMax
        self.bytesMax = bytesMax
    }

    /// - Parameter name: of the reference or layer, for the message.
    /// - Throws: `unsupported` where there were too many or too large ones.
    package func take(entries: Int, bytes: Int, of name: @autoclosure () -> String) throws(MCFSError) {
        let (tooMany, tooLarge) = used.withLock { used in
            used.entries = min(used.entries, entriesMax) + entries
            used.bytes = min(used.bytes, bytesMax) + bytes
            return (used.entries > entriesMax, used.bytes > bytesMax)
        }
        if tooMany {
            throw MCFSError(.unsupported, "\(name()) has more than \(entriesMax) entries; mount a part of it")
        }
        if tooLarge {
            throw MCFSError(.unsupported, "\(name()) has too many and too long names; mount a part of it")
        }
    }
}
