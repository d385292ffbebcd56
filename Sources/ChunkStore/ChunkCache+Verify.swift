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
        package var findings: [Finding] = []
    }

    /// Reads every complete content and compares it with its digest. What does not match is dropped, and fetched again on its
    /// next read. `progress` gets bytes.
    package func verify(
        progress: any ProgressReporter, isCancelled: () -> Bool = { false }
    ) throws(MCFSError) -> Verification {
        var result = Verification()
        // What is checked shall be what lasts.
        waitUntilSynced()
        let total = space.used
        for (key, _) in space.contents {
            if isCancelled() { throw MCFSError(.cancelled, "the verification was cancelled") }
            let use = table.use(key)
            // Without a digest there is nothing to compare with.
            guard key.id.kind != .origin, let file = use.blob.completeFile else { continue }
            result.checked += 1
            result.bytes += key.size
            if !((try? ContentHasher.matches(key.id, file.descriptor, size: key.size)) ?? false) {
                let message = "the local bytes of \(key.id) do not match their digest; they were dropped"
                result.findings.append(Finding(id: key.id, message: message))
                overflow.remove(key)
                use.blob.foundDamaged(file, MCFSError(.corrupt, message))
            }
            progress.report(phase: "verifying", done: result.bytes, total: total)
        }
        return result
    }
}
