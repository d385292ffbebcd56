import ChunkStore
import Glibc
import MCFSCore

/// Opens a cache again on a healthy disk.
struct Check {
    let directory: String
    let findings: Findings

    func run() {
        let cache: ChunkCache
        do throws(MCFSError) { cache = try Sample.open(directory) } catch {
            findings.add("lost", "the cache cannot be opened again: \(error.message)")
            return
        }
        cache.waitUntilScanned(Deadline(after: .seconds(20)))
        compareSpace(cache, "after it was opened")
        for sample in Sample.all(fails: true).values.sorted(by: { $0.name < $1.name }) { readLocal(sample, cache) }
        let samples = Sample.all(fails: false)
        for sample in samples.values.sorted(by: { $0.name < $1.name }) {
            let file = cache.open(sample.content)
            if let error = sample.read(file, 0, sample.bytes.count, findings) {
                findings.add("lost", "\(sample.name) cannot be read any more: \(error.message)")
            }
        }
        compareSpace(cache, "after everything was read")
        _ = cache.evict(samples.values.map(\.content.key))
        compareSpace(cache, "after everything was evicted")
        if cache.usage.bytesUsed != 0 {
            findings.add("space", "\(cache.usage.bytesUsed) bytes are counted after everything was evicted")
        }
        cache.shutDown()
    }

    /// What is said to be local reads without an origin, and nothing else does.
    private func readLocal(_ sample: Sample, _ cache: ChunkCache) {
        let said = cache.localBytes(of: sample.content.id, size: sample.content.size)
        let file = cache.open(sample.content)
        var found = 0
        for low in stride(from: 0, to: sample.bytes.count, by: Int(Sample.chunkSize)) {
            let high = min(low + Int(Sample.chunkSize), sample.bytes.count)
            if sample.read(file, low, high, findings) == nil { found += high - low }
        }
        if said != found {
            findings.add("misreported", "\(said) bytes of \(sample.name) were said to be local, \(found) read")
        }
    }

    /// The bound is kept by counting: what is counted is what is there.
    private func compareSpace(_ cache: ChunkCache, _ when: String) {
        let used = cache.usage.bytesUsed
        let found = Self.contentBytes(below: directory)
        if used != found { findings.add("space", "\(used) bytes are counted, \(found) are on the disk \(when)") }
    }

    /// Bytes on the disk in folders of the cache.
    private static func contentBytes(below directory: String, isTop: Bool = true) -> UInt64 {
        guard let stream = opendir(directory) else { return 0 }
        defer { closedir(stream) }
        var sum: UInt64 = 0
        while let entry = readdir(stream) {
            let name = withUnsafeBytes(of: &entry.pointee.d_name) { bytes in
                String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
            }
            var status = stat()
            let path = "\(directory)/\(name)"
            guard name != ".", name != "..", lstat(path, &status) == 0 else { continue }
            if status.st_mode & S_IFMT == S_IFDIR {
                sum += contentBytes(below: path, isTop: false)
            } else if !isTop {
                sum += UInt64(status.st_blocks) * 512
            }
        }
        return sum
    }
}
