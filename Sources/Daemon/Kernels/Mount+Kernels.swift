internal import Catalog
internal import ChunkStore
internal import ControlAPI
internal import FUSEServer
internal import GPUCompat
internal import KernelCaches
internal import MCFSCore
internal import MountFS
internal import Synchronization

extension Mount {
    /// - Returns: false where somebody reads them already.
    func beginReadingKernels() -> Bool {
        isReadingKernels.withLock { isReading in
            defer { isReading = true }
            return !isReading
        }
    }

    func endReadingKernels() { isReadingKernels.update { $0 = false } }

    /// Blocks until nobody reads them, or for as long as that. - Returns: whether nobody does.
    @discardableResult
    func waitForKernels(_ patience: Duration) -> Bool {
        isReadingKernels.wait(until: Deadline(after: patience)) { isReading in isReading ? nil : true } ?? false
    }

    /// Judges by what is known, reads the rest, and judges again as it comes. Blocks.
    func readKernels(
        _ reader: KernelReader, host: HostGPUs, progress: any ProgressReporter,
        isCancelled: @escaping @Sendable () -> Bool
    ) throws(MCFSError) {
        if kernels.survey.entries.isEmpty { return }
        kernels.learn(reader.fromManifests(kernels.undescribed, isCancelled: isCancelled))
        judgeKernels(host)
        try reader.read(kernels.undescribed, progress: progress, isCancelled: isCancelled) { [self] found in
            kernels.learn(found)
            judgeKernels(host)
        }
    }

    /// By the GPUs as they are known now. What changes by it, the kernel looks up anew.
    func judgeKernels(_ host: HostGPUs) {
        let gpus = gpuChoice.gpus(of: host)
        // One at a time, with what follows from it: a refresh may come while metadata is being read.
        let changed = judging.withLock { _ in
            let (hidden, changed) = kernels.judge(by: gpus)
            if !changed.isEmpty { fileSystem.view.hide(hidden) }
            return changed
        }
        if changed.isEmpty { return }
        let tree = merged.tree
        session.withLock { $0 }?.forgetNames(
            changed.map { entry in (tree.parent(of: entry), tree.withName(of: entry) { Array($0) }) })
    }

    var view: MountStatus.View {
        var view = MountStatus.View()
        kernels.report(in: &view)
        return view
    }

    /// The directory that hides an entry, itself or above it.
    func hiddenDirectory(of entry: Tree.Index) -> Tree.Index? {
        var entry = entry
        while true {
            if kernels.hides(entry) { return entry }
            if entry == Tree.root { return nil }
            entry = merged.tree.parent(of: entry)
        }
    }

    // MARK: explain

    /// - Throws: `localIO` where the upper cannot be looked at.
    func explain(_ path: TreePath) throws(MCFSError) -> Explanation {
        let full = path.isRoot ? mountpoint : "\(mountpoint)/\(path)"
        let shown: MountFS.Shown
        do throws(Errno) { shown = try fileSystem.shown(at: path) } catch {
            throw MCFSError(localIO: "look at \(full)", error)
        }
        var explanation = Explanation(path: full, mountpoint: mountpoint, state: .shown, reason: "", gpu: view.gpu)
        explanation.missed = kernels.activity.lastMiss(of: path)
        var entry = merged.tree.entry(at: path)
        switch shown {
        case .upper:
            explanation.isUpper = true
            explanation.reason = "it stands in the upper, which always shows"
        case .tree(let found):
            entry = found
            explanation.reason = "it belongs to no kernel, so it always shows"
        case .hidden(let directory):
            explanation.state = .hidden
            entry = entry ?? directory
            explanation.reason = "a kernel that no GPU here runs is hidden"
        case .removed:
            explanation.state = .missing
            explanation.reason = "it was removed through the mount; the tree still has it"
        case .nothing:
            explanation.state = .missing
            explanation.reason =
                "neither the tree nor the upper has this name: an engine that asks for a kernel by it compiles anew"
            explanation.nearest = nearest(to: path)
        }
        if let entry {
            explanation.origin = fileSystem.text(of: .origin, entry)
            explanation.digest = fileSystem.text(of: .digest, entry)
            if let position = kernels.survey.entry(holding: entry) {
                let described = described(position)
                explanation.entry = described
                if case .tree = shown {
                    explanation.reason =
                        explanation.gpu.isEmpty
                        ? "kernels are not judged here: no GPU was found or given"
                        : described.verdict == "unknown"
                            ? "it is not surely foreign: \(described.reason)" : described.reason
                } else if case .hidden = shown {
                    explanation.reason = described.reason
                }
            }
        }
        return explanation
    }

    private func described(_ position: Int) -> Explanation.Entry {
        let entry = kernels.survey.entries[position]
        let (description, verdict) = kernels.knowledge(position)
        let path = merged.tree.path(of: entry.directory)
        let content = KernelContent(entry.directory, merged.tree, kernels.survey, cache)
        var result = Explanation.Entry(
            path: path.description, kind: entry.kind.rawValue, verdict: verdict.outcome.shown, rule: verdict.rule,
            reason: description?.problem ?? verdict.reason, bytes: content.bytes,
            bytesLocal: content.bytesLocal,
            hits: kernels.activity.hits(of: path))
        result.name = description?.name
        result.needs = description?.target.map { "\($0.architecture)" }
        result.tritonVersion = description?.tritonVersion
        return result
    }

    /// Kernels beside a name that is not there, with what sets them apart from what this host asks for.
    private func nearest(to path: TreePath) -> [Explanation.Near] {
        let tree = merged.tree
        guard let parent = tree.entry(at: path.parent) else { return [] }
        let wanted = path.name
        let hash = TritonFile.hash(ofKey: wanted)
        var ranked: [(common: Int, position: Int)] = []
        for (position, entry) in kernels.survey.entries.enumerated()
        where entry.directory != Tree.root && tree.parent(of: entry.directory) == parent {
            let common = tree.withName(of: entry.directory) { name in
                hash != nil && TritonFile.hash(ofKey: Array(name)) == hash
                    ? Int.max : zip(name, wanted).prefix { $0 == $1 }.count
            }
            ranked.append((common, position))
        }
        return ranked.sorted { ($0.common, $1.position) > ($1.common, $0.position) }.prefix(5).map { common, position in
            let (description, verdict) = kernels.knowledge(position)
            return Explanation.Near(
                path: tree.path(of: kernels.survey.entries[position].directory).description, name: description?.name,
                target: description?.target.map { "\($0.architecture)" }, verdict: verdict.outcome.shown,
                differs: differs(description, verdict, isSameKey: common == .max))
        }
    }

    private func differs(_ description: KernelDescription?, _ verdict: Verdict, isSameKey: Bool) -> String {
        if isSameKey { return "it is the same kernel, named as another version of Triton names it" }
        guard let description else { return "it is not known yet what it needs" }
        let made = description.tritonVersion.map { "made by Triton \($0)" } ?? "made by a Triton that left no version"
        if verdict.outcome == .foreign { return "\(verdict.reason); \(made)" }
        return "another source, option or version: \(made)"
    }
}
