import ChunkStore
import Glibc
import Logging
import MCFSCore

/// The chunk cache without a mount, for `scripts/sweep`, which makes its disk fail.
///
///     sweep work DIRECTORY      uses a cache in every way, then ends without closing it
///     sweep check DIRECTORY     opens it again and looks at what is left
///
/// Prints a line for each thing that should not be. Exit code 0: nothing should be different; 3: something should.
@main struct Sweep {
    static func main() {
        let arguments = CommandLine.arguments
        guard arguments.count == 3 else { exit(64) }
        let findings = Findings()
        switch arguments[1] {
        case "work": Workload(directory: arguments[2], findings: findings).run()
        case "check": Check(directory: arguments[2], findings: findings).run()
        default: exit(64)
        }
        fflush(nil)
        // No destructors: what is not closed stays so, as in a daemon that is killed.
        _exit(findings.isEmpty ? 0 : 3)
    }
}

/// What should not be.
final class Findings: Sendable {
    private let lines = Guarded(0)

    var isEmpty: Bool { lines.withLock { $0 == 0 } }

    /// - Parameter kind: one word by which the driver counts.
    func add(_ kind: String, _ text: String) {
        lines.withLock { $0 += 1 }
        print("\(kind): \(text)")
    }
}

/// The contents of the workload: below, at and above one chunk, with and without a digest, alone and in a layer.
struct Sample: Sendable {
    static let chunkSize: UInt64 = 4096

    let name: String
    let bytes: [UInt8]
    let source: MemorySource
    let content: FileContent

    private init(_ name: String, _ size: Int, seed: UInt64, hasDigest: Bool, fails: Bool) {
        var generator = SeededGenerator(seed: seed)
        self.name = name
        bytes = Array((0...size / 8).flatMap { _ in withUnsafeBytes(of: generator.next()) { Array($0) } }.prefix(size))
        source = MemorySource(bytes, pieceBytes: 1500)
        if fails { source.fail(forever: MCFSError(.originUnavailable, "the origin is gone")) }
        let id = hasDigest ? BlobID(Digest.sha256(of: bytes)) : BlobID(origin: "sweep", name)
        guard let id else { preconditionFailure("a SHA-256 is an identity") }
        content = FileContent(id: id, size: UInt64(size), source: source, offset: 0)
    }

    /// - Parameter fails: their sources are gone; only what is local can be read.
    static func all(fails: Bool) -> [String: Sample] {
        let chunk = Int(chunkSize)
        let samples = [
            ("large", 5 * chunk + 100, true), ("large-placed", 6 * chunk, false), ("small", 3000, true),
            ("small-placed", chunk, false), ("prefetched", 24 * chunk + 1, true), ("passing", 9000, true),
            ("passing-large", (1 << 20) + 5000, true), ("begun", 3 * chunk, true), ("late", 3 * chunk, true),
            ("late-placed", 3 * chunk, false),
        ]
        let made = samples.enumerated().map { index, each in
            Sample(each.0, each.1, seed: UInt64(index + 1), hasDigest: each.2, fails: fails)
        }
        return Dictionary(uniqueKeysWithValues: made.map { ($0.name, $0) })
    }

    static func configuration() -> CacheConfiguration {
        var configuration = CacheConfiguration()
        configuration.chunkSize = chunkSize
        configuration.bytesMax = 4 << 20
        configuration.readDeadline = .seconds(5)
        // One thread of each kind: the calls come in the same order each time.
        configuration.fetchThreads = 1
        configuration.storeThreads = 1
        configuration.syncInterval = .seconds(3600)
        return configuration
    }

    static func open(_ directory: String) throws(MCFSError) -> ChunkCache {
        try ChunkCache(
            directory: directory, configuration: configuration(),
            logger: Logger(label: "sweep", factory: { _ in SwiftLogNoOpLogHandler() }))
    }

    /// Reads and compares. - Returns: the error of a read that failed.
    func read(_ file: CachedFile, _ low: Int, _ high: Int, _ findings: Findings) -> MCFSError? {
        let waiter = Waiter()
        let range = ByteRange(UInt64(low), UInt64(high))
        do throws(MCFSError) {
            switch try file.read(range, makeWaiter: { waiter }) {
            case .region(let region): waiter.complete(.success(region))
            case .pending: break
            }
            let seen = try waiter.value.get()
            if seen != Array(bytes[low..<high]) {
                let how = seen.allSatisfy { $0 == 0 } ? "zeros" : "wrong"
                findings.add("wrong", "bytes \(low) to \(high) of \(name) are \(how)")
            }
            return nil
        } catch {
            if error.code == .timedOut {
                findings.add("stalled", "bytes \(low) to \(high) of \(name): \(error.message)")
            }
            return error
        }
    }
}

/// Waits for one read.
final class Waiter: ReadWaiter {
    private let result = Guarded(Result<[UInt8], MCFSError>?.none)

    func complete(_ result: consuming Result<FileRegion, MCFSError>) {
        let bytes: Result<[UInt8], MCFSError>
        switch consume result {
        case .success(let region):
            // A failing disk may fail here as well: the region is a piece of a file.
            let copy = region.withBytes { Array($0) }
            bytes = copy.map { .success($0) } ?? .failure(MCFSError(.localIO, "a region cannot be read"))
        case .failure(let error): bytes = .failure(error)
        }
        self.result.update { $0 = bytes }
    }

    var value: Result<[UInt8], MCFSError> {
        result.wait(until: Deadline(after: .seconds(30))) { $0 } ?? .failure(MCFSError(.timedOut, "nobody answered"))
    }
}

final class Silence: ProgressReporter {
    func report(phase: String, done: UInt64, total: UInt64?) {}
}
