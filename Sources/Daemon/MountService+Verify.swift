internal import Catalog
internal import ChunkStore
internal import ControlAPI
internal import Logging
internal import MCFSCore
internal import Origins

extension MountService {
    /// Checks what is local. With `repair`, what was bad is fetched again where a mount or a pin knows from where.
    func verify(_ request: VerifyRequest, job: Job) throws(MCFSError) -> VerifyResult {
        let local = cache.localContents
        let verification = try cache.verify(progress: job, isCancelled: { job.isCancelled })
        let findings = verification.findings
        var repaired: Set<BlobID> = []
        if request.repair, !findings.isEmpty {
            let bad = Set(findings.map(\.id))
            let sources = repairSources(of: bad, caller: request.caller, job: job)
            do throws(MCFSError) {
                try cache.prefetch(sources, progress: job, isCancelled: { job.isCancelled })
            } catch {
                job.warn("not everything could be fetched again: \(error.message)")
            }
            for content in sources where cache.localBytes(of: content.id, size: content.size) == content.size {
                repaired.insert(content.id)
            }
        }
        let found =
            findings.map {
                VerifyResult.Finding(
                    blob: $0.id.description, message: $0.message, repaired: repaired.contains($0.id))
            } + impossibleContents()
        for finding in found {
            logger.error("found bad bytes", metadata: ["blob": "\(finding.blob)", "reason": "\(finding.message)"])
        }
        let checkable = local.filter { $0.id.kind != .origin }
        let bytes = checkable.clampedSum(\.bytes)
        return VerifyResult(
            filesChecked: verification.checked, bytesChecked: verification.bytes,
            incomplete: (max(0, checkable.count - verification.checked), bytes - min(bytes, verification.bytes)),
            unverifiable: places(of: local.filter { $0.id.kind == .origin }),
            findings: found)
    }

    /// What mounts have of no bytes under the digest of some.
    private func impossibleContents() -> [VerifyResult.Finding] {
        var found: [BlobID: String] = [:]
        for loaded in mounts.all.flatMap(\.references) {
            for content in loaded.tree.contents where !content.id.fits(size: content.size) {
                found[content.id] =
                    "\(loaded.origin.reference) lists \(content.id) with \(content.size) bytes, which it cannot have"
            }
        }
        return found.map { VerifyResult.Finding(blob: $0.description, message: $1, repaired: false) }
            .sorted { $0.blob < $1.blob }
    }

    /// Where contents come from, by the trees that are mounted, then by those that the catalog has, of which no more are
    /// read than are needed. What several have counts for the first.
    private func places(of contents: [(id: BlobID, bytes: UInt64)]) -> [VerifyResult.Place] {
        var left = Dictionary(contents.map { ($0.id, $0.bytes) }) { first, _ in first }
        var places: [VerifyResult.Place] = []
        func take(_ tree: Tree, _ reference: String) {
            var found = Unverifiable()
            for content in tree.contents where content.id.kind == .origin {
                if let bytes = left.removeValue(forKey: content.id) { found.add(bytes) }
            }
            // Files that the tree does not show.
            for content in tree.sources.kernelManifests {
                if let bytes = left.removeValue(forKey: content.id) { found.add(bytes) }
            }
            if found.files == 0 { return }
            if let index = places.firstIndex(where: { $0.reference == reference }) {
                places[index].files += found.files
                places[index].bytes.addClamped(found.bytes)
            } else {
                places.append(VerifyResult.Place(reference: reference, files: found.files, bytes: found.bytes))
            }
        }
        for loaded in mounts.all.flatMap(\.references) where !left.isEmpty {
            take(loaded.tree, loaded.origin.reference)
        }
        // In the order of their use, which reading them notes.
        var keys: Set<String> = []
        for known in (try? catalog.resolutions()) ?? [] where !left.isEmpty && keys.insert(known.treeKey).inserted {
            if let tree = try? catalog.tree(known.treeKey) { take(tree, known.reference) }
        }
        if !left.isEmpty {
            places.append(
                VerifyResult.Place(reference: nil, files: left.count, bytes: left.values.clampedSum { $0 }))
        }
        return places
    }

    private func repairSources(of bad: Set<BlobID>, caller: Caller, job: Job) -> [FileContent] {
        let everything = PathFilter(include: [], exclude: [])
        var selections = mounts.all.filter { !$0.request.offline }.compactMap {
            try? $0.selection(at: .root, filter: everything)
        }
        for pin in (try? catalog.pins()) ?? [] {
            let request = SelectionRequest(target: pin.reference, caller: caller)
            if let pinned = try? selection(request, mode: .catalogFirst, job: job) { selections.append(pinned) }
        }
        var found: [BlobID: FileContent] = [:]
        for selection in selections {
            for content in selection.fileContents(where: { bad.contains($0.id) && found[$0.id] == nil }) {
                found[content.id] = content
            }
        }
        return Array(found.values)
    }
}
