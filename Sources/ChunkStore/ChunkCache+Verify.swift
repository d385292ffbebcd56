import Glibc
package import MCFSCore

extension ChunkCache {
    /// A content whose local bytes are not what they should be.
    package struct Finding: Sendable {
        package var id: BlobID
        /// One sentence.
        package var message: String
    }

    /// What `verify` did.
    package struct Verification: Sendable {
        package var checked = 0
        package var bytes: UInt64 = 0
        /// Complete contents whose identity is no digest: there is nothing to compare them with.
        package var unverifiable = 0
        package var findings: [Finding] = []
    }

    /// Reads every complete content and compares it with its digest. What does not match is dropped, and fetched again on its
    /// next read. `progress` gets bytes.
    package func verify(
        progress: any ProgressReporter, isCancelled: () -> Bool = { false }
    ) throws(MCFSError) -> Verification {
        var result = Verification()
        let total = index.used
        for id in index.ids.sorted(by: { $0.description < $1.description }) {
            if isCancelled() { throw MCFSError(.cancelled, "the verification was cancelled") }
            guard let file = try? directory.openIfThere(CacheDirectory.complete(id), O_RDONLY),
                let status = try? file.status()
            else { continue }
            let size = UInt64(status.st_size)
            guard id.kind != .origin else {
                result.unverifiable += 1
                continue
            }
            result.checked += 1
            result.bytes += size
            if !((try? ContentHasher.matches(id, file, size: size)) ?? false) {
                result.findings.append(
                    Finding(id: id, message: "the local bytes of \(id) do not match their digest; they were dropped"))
                _ = evict([id])
            }
            progress.report(phase: "verifying", done: result.bytes, total: total)
        }
        return result
    }
}
