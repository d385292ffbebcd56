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
        /// Whether it lies on a mount, where what goes is hidden.
        package var isOnMount: Bool
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
    /// Kernels that go, and something in them that is not certain to be theirs stays: a sentence each.
    package private(set) var keptInPart: [String] = []
    /// Kernels that were meant and stay because something in them is being written.
    package private(set) var beingWritten = 0
    /// What an earlier prune that was killed left: folder that was looked at, path.
    private(set) var leftovers: [(root: String, path: [UInt8])] = []

    package var bytes: UInt64 { items.clampedSum(\.bytes) }
    /// Those of them that lie on mounts, where they are hidden and not freed.
    package var bytesOnMounts: UInt64 { items.filter(\.isOnMount).clampedSum(\.bytes) }

    /// Looks at the folders themselves, whatever the inventory knows of them, and brings the inventory up to date.
    ///
    /// - Parameters:
    ///   - folders: absolute, canonical.
    ///   - mountpoints: of mcfs, likewise.
    package init(
        _ extent: Extent, of choice: Choice, in folders: [String], _ filter: KernelFilter,
        inventory: KernelInventory, mountpoints: [String] = [], now: Timestamp = .now
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
            let chosen = choose(candidates, of: choice, kernels, now: now)
            for (position, choice) in chosen {
                guard let found = kernels.found[position] else { continue }
                let kernel = wanted[found.kernel.path] ?? found.kernel
                let reasons = [choice.reason] + filter.reasons(kernel, now: now.seconds)
                items.append(
                    Item(
                        kernel: kernel, bytes: choice.bytes ?? kernel.bytes, reason: reasons.joined(separator: ", "),
                        isOnMount: mountpoints.contains(where: kernel.lies), root: folder, found: found,
                        staying: choice.staying.flatMap { kernels.found[$0] },
                        parts: Set(
                            kernels.survey.entries[position].parts.compactMap { kernels.found[$0]?.kernel.path }),
                        stamps: kernels.scan.stamps))
            }
            leftovers += kernels.scan.leftovers.map { (folder, $0) }
        }
        items.sort { $0.kernel.path.lexicographicallyPrecedes($1.kernel.path) }
        kept.sort()
        keptInPart.sort()
    }

    private static func isPrunable(_ kernel: IndexedKernel, _ extent: Extent) -> Bool {
        switch extent {
        case .intermediates: kernel.kind == .triton && kernel.irBytes > 0
        // The bytes of NIM's engines lie among the blobs of a hub cache, which NIM looks after.
        case .full: kernel.kind != .nim
        }
    }

    private struct Chosen {
        var reason: String
        var staying: Int?
        /// That go; nil: all.
        var bytes: UInt64?
    }

    /// Of the candidates those that go, and why; those of them that stay are noted.
    private mutating func choose(
        _ candidates: [Int], of choice: Choice, _ kernels: FolderKernels, now: Timestamp
    ) -> [Int: Chosen] {
        var chosen: [Int: Chosen] = [:]
        switch choice {
        case .all:
            let reason = extent == .full ? "whole kernels were asked for" : "no hit needs its IR"
            for position in candidates { chosen[position] = Chosen(reason: reason) }
        case .duplicates:
            let certain = candidates.filter {
                if case .goes = kernels.prospect(of: $0, extent, now: now) { true } else { false }
            }
            for (position, staying) in Duplicates.find(among: certain, in: kernels) {
                let path = kernels.found[staying]?.kernel.pathText ?? ""
                chosen[position] = Chosen(reason: "the same bytes as \(path), which stays", staying: staying)
            }
        case .foreign(let gpus):
            let verdicts = kernels.survey.verdicts(kernels.descriptions, on: gpus)
            for position in candidates where verdicts[position].outcome == .foreign {
                chosen[position] = Chosen(reason: verdicts[position].reason)
            }
        }
        var remainders: [Int: String] = [:]
        for position in chosen.keys {
            switch kernels.prospect(of: position, extent, now: now) {
            case .goes(let bytes, let remainder):
                chosen[position]?.bytes = bytes
                remainders[position] = remainder
            case .hasNothing: chosen[position] = nil
            case .isWritten:
                chosen[position] = nil
                beingWritten += 1
            case .stays(let doubt):
                chosen[position] = nil
                kept.append(kernels.sentence(position, doubt))
            }
        }
        // What holds other kernels goes only with all of them.
        if extent == .full {
            for position in chosen.keys
            where !kernels.survey.entries[position].parts.allSatisfy({ chosen[$0] != nil }) {
                chosen[position] = nil
                kept.append(kernels.sentence(position, EntryRemoval.partsStay))
            }
        }
        for (position, remainder) in remainders where chosen[position] != nil {
            keptInPart.append(kernels.sentence(position, remainder))
        }
        return chosen
    }
}

extension FolderKernels {
    /// What would become of an entry now, as `EntryRemoval` does it.
    enum Prospect {
        /// - bytes: that go; nil: all.
        /// - remainder: what stays of it, a sentence.
        case goes(bytes: UInt64?, remainder: String?)
        case hasNothing
        case isWritten
        case stays(String)
    }

    func prospect(of position: Int, _ extent: PrunePlan.Extent, now: Timestamp) -> Prospect {
        guard let found = found[position] else { return .hasNothing }
        if let doubt = found.kernel.doubt { return .stays(doubt) }
        let entry = survey.entries[position]
        guard let folder = directory(of: entry) else { return .goes(bytes: nil, remainder: nil) }
        do {
            let prospect: Prospect
            if entry.kind == .triton {
                let own = try OwnContents(of: found, in: folder)
                if let doubt = own.doubt(extent) { return .stays(doubt) }
                let bytes = extent == .full ? nil : own.intermediates.clampedSum { $0.stamp.size }
                if bytes == 0 { return .hasNothing }
                prospect = .goes(bytes: bytes, remainder: nil)
            } else {
                let parts = Set(entry.parts.compactMap { self.found[$0]?.kernel.path })
                let own = try OwnTree(of: entry.kind, in: folder, at: found.kernel.path, but: parts)
                if let doubt = own.doubt { return .stays(doubt) }
                prospect = .goes(bytes: own.bytes, remainder: own.remainder)
            }
            try EntryRemoval.checkIsQuiet(folder, now: now)
            return prospect
        } catch EntryRemoval.Stay.isWritten {
            return .isWritten
        } catch {
            return .stays("it cannot be looked at: \(error)")
        }
    }

    fileprivate func sentence(_ position: Int, _ text: String) -> String {
        "\(found[position]?.kernel.pathText ?? ""): \(text)"
    }
}
