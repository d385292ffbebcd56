internal import Catalog
internal import ControlAPI
internal import GPUCompat
internal import KernelCaches
internal import MCFSCore
internal import MountFS
internal import Synchronization

/// The kernels of a mount: what each needs, whether this host runs it, and so what of the tree shows.
///
/// A kernel that is not judged yet shows, and so does whatever is not surely foreign. Thread safe.
final class KernelView: Sendable {
    let survey: KernelSurvey
    let activity: KernelActivity
    private let tree: Tree
    private let state: Lock<State>
    /// Directories that hold kernels: names that are not there count as missed ones.
    private let folders: Set<TreePath>
    private let isInKernelFolder: Bool

    private struct State {
        var descriptions: [KernelDescription?]
        /// Positions of what nothing is known of.
        var undescribed: [Int]
        var gpus: [GPU] = []
        var verdicts: [Verdict]
        var hidden: Bitmap
    }

    /// Nothing is judged yet.
    ///
    /// - Parameter mountpoint: engines have their cache where its name says so, also where nothing is in it yet.
    init(
        _ tree: Tree, _ survey: KernelSurvey, _ descriptions: [KernelDescription?], _ activity: KernelActivity,
        mountpoint: String
    ) {
        isInKernelFolder = Self.namesKernels(mountpoint)
        self.tree = tree
        self.survey = survey
        self.activity = activity
        var parents: Set<Tree.Index> = []
        for entry in survey.entries where entry.directory != Tree.root {
            parents.insert(tree.parent(of: entry.directory))
        }
        folders = Set(parents.map { tree.path(of: $0) })
        let undescribed = Self.undescribed(descriptions)
        state = Lock(
            State(
                descriptions: descriptions, undescribed: undescribed,
                verdicts: Array(repeating: .noTarget, count: survey.entries.count),
                hidden: Bitmap(count: tree.count)))
    }

    /// Positions in the survey of what nothing is known of.
    var undescribed: [Int] { state.withLock { $0.undescribed } }

    func learn(_ found: [(Int, KernelDescription)]) {
        if found.isEmpty { return }
        state.withLock { state in
            for (position, description) in found { state.descriptions[position] = description }
            state.undescribed = Self.undescribed(state.descriptions)
        }
    }

    private static func undescribed(_ descriptions: [KernelDescription?]) -> [Int] {
        // Whether there is one, without a copy of it.
        descriptions.indices.filter { descriptions[$0]?.targets == nil }
    }

    /// Judges every kernel; one call at a time. - Returns: the entries to hide from now on, and those whose state changed by it.
    func judge(by gpus: [GPU]) -> (hidden: Bitmap, changed: [Tree.Index]) {
        // Outside of the lock, which threads take that answer requests.
        let (descriptions, before) = state.withLock { ($0.descriptions, $0.hidden) }
        let verdicts = survey.verdicts(descriptions, on: gpus)
        var hidden = Bitmap(count: tree.count)
        var changed: [Tree.Index] = []
        for (position, verdict) in verdicts.enumerated() {
            let directory = survey.entries[position].directory
            if verdict.outcome == .foreign && directory != Tree.root { hidden.insert(Int(directory)) }
            if hidden[Int(directory)] != before[Int(directory)] { changed.append(directory) }
        }
        state.withLock { state in
            state.gpus = gpus
            state.verdicts = verdicts
            state.hidden = hidden
        }
        return (hidden, changed)
    }

    var gpus: [GPU] { state.withLock { $0.gpus } }

    /// What is known of a kernel by its position in the survey.
    func knowledge(_ position: Int) -> (description: KernelDescription?, verdict: Verdict) {
        state.withLock { ($0.descriptions[position], $0.verdicts[position]) }
    }

    func hides(_ entry: Tree.Index) -> Bool { state.withLock { $0.hidden[Int(entry)] } }

    /// What is of no use here, as the verdicts are now: what is hidden, and files that nothing else leads to.
    var useless: @Sendable (Tree.Index) -> Bool {
        let hidden = state.withLock { $0.hidden }
        let files = survey.filesNamedOnly(byHidden: hidden)
        return { [tree] in hidden[Int($0)] || !files.isEmpty && files.contains(tree.inode(of: $0)) }
    }

    func report(in view: inout MountStatus.View) {
        state.withLock { state in
            var targets: [String] = []
            for gpu in state.gpus where !targets.contains(gpu.target) { targets.append(gpu.target) }
            view.gpu = targets
            view.hiddenEntries = state.hidden.population
            view.kernels = survey.entries.count
            view.undecided = state.undescribed.count
        }
        activity.report(in: &view)
    }
}

extension KernelView: ViewObserver {
    func isWatched(_ name: UnsafeRawBufferPointer) -> Bool {
        // Asked about every file that is opened: the first letter or the length tells of most that they are none of these.
        name.first == UInt8(ascii: "_") && TritonFile.isGroup(name)
            || TritonFile.keyLengths.contains(name.count) && TritonFile.isKey(name) || Self.isVLLMHash(name)
    }

    /// As vLLM names what it compiled for one configuration.
    private static func isVLLMHash(_ name: UnsafeRawBufferPointer) -> Bool {
        name.count == 10
            && name.allSatisfy {
                UInt8(ascii: "0")...UInt8(ascii: "9") ~= $0 || UInt8(ascii: "a")...UInt8(ascii: "f") ~= $0
            }
    }

    func missed(_ path: TreePath) {
        let folder = path.parent
        if TritonFile.isGroup(path.name) {
            if !folder.isRoot, isKernelFolder(folder.parent) { activity.missPart(of: folder) }
        } else if isKernelFolder(folder) {
            activity.miss(path)
        }
    }

    /// Names of 32 or 64 hexadecimal digits are common elsewhere.
    private func isKernelFolder(_ folder: TreePath) -> Bool {
        isInKernelFolder || folders.contains(folder) || Self.namesKernels(folder.description)
    }

    private static func namesKernels(_ path: String) -> Bool {
        path.split(separator: "/").contains {
            $0 == ".triton" || $0 == "triton" || $0 == "triton_cache" || $0 == "torch_compile_cache"
        }
    }

    func opened(_ path: TreePath) {
        if TritonFile.isGroup(path.name), !path.parent.isRoot { activity.hit(path.parent) }
    }

    func verdict(of entry: Tree.Index) -> String {
        guard let position = survey.entry(holding: entry) else { return "any" }
        return knowledge(position).verdict.outcome.shown
    }
}

extension Verdict.Outcome {
    /// As the commands show it.
    var shown: String {
        switch self {
        case .runs: "compatible"
        case .foreign: "incompatible"
        case .unknown: "unknown"
        }
    }
}
