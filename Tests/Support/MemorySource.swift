package import MCFSCore
import Synchronization

/// A source in memory that counts its reads and fails as told.
package final class MemorySource: ByteSource {
    /// What happens to a read, in the order of the reads.
    package enum Fault: Sendable {
        case none
        /// Throws after so many bytes.
        case error(MCFSError, after: Int)
        /// Delivers fewer bytes and says nothing.
        case short(by: Int)
        /// Changes the first byte.
        case flip
    }

    package struct Record: Sendable, Equatable {
        package var range: ByteRange
    }

    private struct State {
        var reads: [ByteRange] = []
        var faults: [Fault] = []
        var lastingError: MCFSError?
        var isClosed = false
    }

    package let name = "memory"
    package let origin: String
    package let hasRandomAccess: Bool
    package let bytes: [UInt8]
    private let state = Guarded(State())
    /// Bytes of one `write` to the sink.
    private let pieceBytes: Int

    package init(_ bytes: [UInt8], hasRandomAccess: Bool = true, pieceBytes: Int = 3, origin: String = "") {
        self.bytes = bytes
        self.origin = origin
        self.hasRandomAccess = hasRandomAccess
        self.pieceBytes = pieceBytes
    }

    package var reads: [ByteRange] { state.withLock { $0.reads } }
    package var bytesRead: UInt64 { reads.reduce(0) { $0 + $1.count } }

    /// What the next reads do; the ones after these succeed.
    package func fail(_ faults: Fault...) { state.withLock { $0.faults += faults } }

    /// All reads fail from now on.
    package func fail(forever error: MCFSError) { state.withLock { $0.lastingError = error } }

    /// Reads block before their first byte until `open`.
    package func close() { state.update { $0.isClosed = true } }
    package func open() { state.update { $0.isClosed = false } }

    package func read(_ range: ByteRange, deadline: Deadline, into sink: any ByteSink) throws(MCFSError) {
        let fault = state.update { state -> Fault in
            state.reads.append(range)
            if let error = state.lastingError { return .error(error, after: 0) }
            return state.faults.isEmpty ? .none : state.faults.removeFirst()
        }
        _ = state.wait { $0.isClosed ? nil : true }
        guard range.upperBound <= bytes.count else {
            throw MCFSError(.originUnavailable, "a read beyond the end of the source")
        }
        var data = Array(bytes[Int(range.lowerBound)..<Int(range.upperBound)])
        var failure: MCFSError?
        switch fault {
        case .none: break
        case .error(let error, let count):
            data = Array(data.prefix(count))
            failure = error
        case .short(let count): data = Array(data.dropLast(count))
        case .flip: data[0] ^= 0xff
        }
        var start = 0
        while start < data.count {
            let piece = Array(data[start..<min(start + pieceBytes, data.count)])
            let result = piece.withUnsafeBytes { bytes in
                Result { () throws(MCFSError) in try sink.write(bytes) }
            }
            try result.get()
            start += piece.count
        }
        if let failure { throw failure }
    }
}
