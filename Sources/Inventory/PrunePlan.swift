internal import Catalog
package import GPUCompat
internal import KernelCaches
package import MCFSCore

/// What a prune would remove.
package struct PrunePlan: Sendable {
    /// What of each kernel goes.
    package enum Extent: Sendable {
        /// The text on the way to the binary; the kernel is found as before.
        case intermediates
        /// All of it.
        case full
    }

    /// Which of the kernels that the filter lets through go.
    package enum Choice: Sendable {
        case all
        /// Of those with the same bytes in one cache directory all but one; see `Duplicates`.
        case duplicates
        /// Those that none of these GPUs can run, surely.
        case foreign([GPU])
    }

    package struct Item: Sendable {
        package var kernel: IndexedKernel
        /// Bytes that go.
        package var bytes: UInt64
        /// Why it goes: what was chosen, and which filters it passed.
        package var reason: String
        /// The folder that was looked at.
        var root: String
        /// What was seen of it, and of what it is a duplicate of.
        var found: FolderKernels.Found
        var staying: FolderKernels.Found?
        /// Paths of the entries that lie in it.
        var parts: Set<[UInt8]>
        /// Of each directory in the folder that was looked at, by its path.
        var stamps: [[UInt8]: Folder.Stamp]
    }

    package var extent: Extent
    /// By their paths.
    package private(set) var items: [Item] = []
    /// Kernels that were meant and stay, as not all that is in them is certain to be theirs: a sentence each.
    package private(set) var kept: [String] = []
    /// What an earlier prune that was killed left: folder that was looked at, path.
    private(set) var leftovers: [(root: String, path: [UInt8])] = []

    package var bytes: UInt64 { items.clampedSum(\.bytes) }

    /// Looks at the folders themselves, whatever the inventory knows of them, and brings the inventory up to date.
    ///
    /// - Parameter folders: absolute, canonical.
    package init(
        _ extent: Extent, of choice: Choice, in folders: [String], _ filter: KernelFilter,
        inventory: KernelInventory, now: Timestamp = .now
    ) throws(MCFSError) {
        self.extent = extent
        for folder in folders {
            let kernels = try inventory.look(in: folder, now: now)
            var filter = filter
            filter.place = folder
            let wanted = Dictionary(
                try inventory.kernels(matching: filter, now: now).map { ($0.path, $0) }, uniquingKeysWith: { $1 })
            var candidates: [Int] = []
            for (position, found) in kernels.found.enumerated() {
                guard let found, wanted[found.kernel.path] != nil, Self.isPrunable(found.kernel, extent) else {
                    continue
                }
                candidates.append(position)
            }
            let chosen = choose(candidates, of: choice, kernels)
            for (position, choice) in chosen {
                guard let found = kernels.found[position] else { continue }
                let kernel = wanted[found.kernel.path] ?? found.kernel
                let reasons = [choice.reason] + filter.reasons(kernel, now: now.seconds)
                items.append(
                    Item(
                        kernel: kernel, bytes: extent == .full ? kernel.bytes : kernel.irBytes,
                        reason: reasons.joined(separator: ", "), root: folder, found: found,
                        staying: choice.staying.flatMap { kernels.found[$0] },
                        parts: Set(
                            kernels.survey.entries[position].parts.compactMap { kernels.found[$0]?.kernel.path }),
                        stamps: kernels.scan.stamps))
            }
            leftovers += kernels.scan.leftovers.map { (folder, $0) }
        }
        items.sort { $0.kernel.path.lexicographicallyPrecedes($1.kernel.path) }
        kept.sort()
    }

    private static func isPrunable(_ kernel: IndexedKernel, _ extent: Extent) -> Bool {
        switch extent {
        case .intermediates: kernel.kind == .triton && kernel.irBytes > 0
        // The bytes of NIM's engines lie among the blobs of a hub cache, which NIM looks after.
        case .full: kernel.kind != .nim
        }
    }

    /// Of the candidates those that go, and why; those of them that stay in doubt are noted in `kept`.
    private mutating func choose(
        _ candidates: [Int], of choice: Choice, _ kernels: FolderKernels
    ) -> [Int: (reason: String, staying: Int?)] {
        var chosen: [Int: (reason: String, staying: Int?)] = [:]
        switch choice {
        case .all:
            let reason = extent == .full ? "whole kernels were asked for" : "no hit needs its IR"
            for position in candidates { chosen[position] = (reason, nil) }
        case .duplicates:
            let certain = candidates.filter { kernels.doubt(of: $0, extent) == nil }
            for (position, staying) in Duplicates.find(among: certain, in: kernels) {
                let path = kernels.found[staying]?.kernel.pathText ?? ""
                chosen[position] = ("the same bytes as \(path), which stays", staying)
            }
        case .foreign(let gpus):
            let verdicts = kernels.survey.verdicts(kernels.descriptions, on: gpus)
            for position in candidates where verdicts[position].outcome == .foreign {
                chosen[position] = (verdicts[position].reason, nil)
            }
        }
        for position in chosen.keys {
            guard let doubt = kernels.doubt(of: position, extent) else { continue }
            chosen[position] = nil
            kept.append("\(kernels.found[position]?.kernel.pathText ?? ""): \(doubt)")
        }
        // What holds other kernels goes only with all of them.
        if extent == .full {
            for position in chosen.keys
            where !kernels.survey.entries[position].parts.allSatisfy({ chosen[$0] != nil }) { chosen[position] = nil }
        }
        return chosen
    }
}

extension FolderKernels {
    /// Why it is not certain that all that would go is the entry's own; nil where it is.
    func doubt(of position: Int, _ extent: PrunePlan.Extent) -> String? {
        guard let found = found[position] else { return nil }
        let entry = survey.entries[position]
        let items = scan.tree.children(of: entry.directory).map { child in
            let kind = scan.tree.attributes(of: child).kind
            return OwnContents.Item(
                name: scan.tree.withName(of: child) { Array($0) }, isFile: kind == .file, isFolder: kind == .directory)
        }
        return OwnContents(of: found, items, in: directory(of: entry)).doubt(items, extent)
    }
}
