import ChunkStore
import Glibc
import MCFSCore

/// Uses a cache in every way, while its disk may fail. Whatever fails, the workload goes on; the origin never fails, so a
/// read whose bytes the disk cannot keep is answered all the same.
struct Workload {
    let directory: String
    let findings: Findings
    private let samples = Sample.all(fails: false)

    init(directory: String, findings: Findings) {
        self.directory = directory
        self.findings = findings
    }

    func run() {
        guard let first = open() else { return }
        // In parts; closed between them.
        read("large", first, 0..<1)
        read("large-placed", first, 1..<3)
        read("large", first, 2..<4)
        read("small", first)
        read("small-placed", first)
        // Whole, then again from the disk.
        read("large", first)
        read("large", first)
        evict("small", first)
        read("small", first)
        pass("passing", first, announced: true)
        pass("passing-large", first, announced: false)
        read("passing-large", first, 3..<5)
        // Passing by what is begun.
        read("begun", first, 1..<2)
        pass("begun", first, announced: true)
        // What no disk keeps cannot be made local: it would wait for that.
        let patience = Deadline(after: .seconds(1))
        try? first.prefetch(
            [content("prefetched"), content("large-placed")], progress: Silence(), isCancelled: { patience.hasPassed })
        _ = try? first.verify(progress: Silence())
        evict("large", first)
        _ = first.collect(downTo: 1 << 20)
        read("prefetched", first)
        first.shutDown()

        // What the first one left is read, and added to; nobody closes it.
        guard let second = open() else { return }
        for name in samples.keys.sorted() where !["late", "late-placed", "passing-large"].contains(name) {
            read(name, second)
        }
        read("passing-large", second, 3..<5)
        read("late", second, 0..<1)
        read("late-placed", second, 1..<2)
        read("late", second, 1..<3)
    }

    private func open() -> ChunkCache? {
        do throws(MCFSError) { return try Sample.open(directory) } catch {
            // Said to whoever starts the daemon.
            print("cannot open: \(error.message)")
            return nil
        }
    }

    private func content(_ name: String) -> FileContent { sample(name).content }

    private func sample(_ name: String) -> Sample {
        guard let sample = samples[name] else { preconditionFailure("there is no sample \(name)") }
        return sample
    }

    /// Opens, reads these chunks one by one (nil: everything at once), closes.
    private func read(_ name: String, _ cache: ChunkCache, _ chunks: Range<Int>? = nil) {
        let sample = sample(name)
        let file = cache.open(sample.content)
        let chunk = Int(Sample.chunkSize)
        let ranges = chunks.map { $0.map { ($0 * chunk, min(($0 + 1) * chunk, sample.bytes.count)) } }
        for (low, high) in ranges ?? [(0, sample.bytes.count)] {
            if let error = sample.read(file, low, high, findings) { print("failed: \(name): \(error.message)") }
        }
    }

    private func evict(_ name: String, _ cache: ChunkCache) { _ = cache.evict([content(name).key]) }

    /// As a reader of a compressed layer comes by a file.
    private func pass(_ name: String, _ cache: ChunkCache, announced: Bool) {
        let sample = sample(name)
        do throws(MCFSError) {
            let writer = try cache.beginContent(
                id: announced ? sample.content.id : nil, size: UInt64(sample.bytes.count))
            var rest = sample.bytes[...]
            while !rest.isEmpty {
                let piece = Array(rest.prefix(60_000))
                let result = piece.withUnsafeBytes { bytes in
                    Result { () throws(MCFSError) in try writer.write(bytes) }
                }
                try result.get()
                rest = rest.dropFirst(60_000)
            }
            let id = try writer.commit()
            if id != sample.content.id { findings.add("wrong", "\(name) passed by and was called \(id)") }
        } catch {
            print("failed: \(name) passing by: \(error.message)")
        }
    }
}
