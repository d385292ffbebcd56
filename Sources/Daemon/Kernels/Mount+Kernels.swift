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
    /// Judges by what is known, reads the rest, and judges again as it comes. Blocks.
    func readKernels(
        _ reader: KernelReader, host: HostGPUs, progress: any ProgressReporter,
        isCancelled: @escaping @Sendable () -> Bool
    ) throws(MCFSError) {
        if kernels.survey.entries.isEmpty { return }
        let gpus = gpuChoice.gpus(of: host)
        kernels.learn(reader.fromManifests(kernels.undescribed))
        judgeKernels(by: gpus)
        try reader.read(kernels.undescribed, progress: progress, isCancelled: isCancelled) { [self] found in
            kernels.learn(found)
            judgeKernels(by: gpus)
        }
    }

    /// What changes by it, the kernel looks up anew.
    func judgeKernels(by gpus: [GPU]) {
        let (hidden, changed) = kernels.judge(by: gpus)
        if changed.isEmpty { return }
        fileSystem.view.hide(hidden)
        let tree = merged.tree
        session.withLock { $0 }?.forgetNames(
            changed.map { entry in (tree.parent(of: entry), tree.withName(of: entry) { Array($0) }) })
    }

    var view: MountStatus.View {
        var view = MountStatus.View()
        kernels.report(in: &view)
        return view
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
        var near: [(common: Int, Explanation.Near)] = []
        for (position, entry) in kernels.survey.entries.enumerated()
        where entry.directory != Tree.root && tree.parent(of: entry.directory) == parent {
            let common = tree.withName(of: entry.directory) { name in zip(name, wanted).prefix { $0 == $1 }.count }
            let (description, verdict) = kernels.knowledge(position)
            let isSameKey =
                hash != nil && tree.withName(of: entry.directory) { TritonFile.hash(ofKey: Array($0)) } == hash
            near.append(
                (
                    isSameKey ? .max : common,
                    Explanation.Near(
                        path: tree.path(of: entry.directory).description, name: description?.name,
                        target: description?.target.map { "\($0.architecture)" }, verdict: verdict.outcome.shown,
                        differs: differs(description, verdict, isSameKey: isSameKey))
                ))
        }
        return near.sorted { ($0.common, $1.1.path) > ($1.common, $0.1.path) }.prefix(5).map(\.1)
    }

    private func differs(_ description: KernelDescription?, _ verdict: Verdict, isSameKey: Bool) -> String {
        if isSameKey { return "it is the same kernel, named as another version of Triton names it" }
        guard let description else { return "it is not known yet what it needs" }
        let made = description.tritonVersion.map { "made by Triton \($0)" } ?? "made by a Triton that left no version"
        if verdict.outcome == .foreign { return "\(verdict.reason); \(made)" }
        return "another source, option or version: \(made)"
    }
}
