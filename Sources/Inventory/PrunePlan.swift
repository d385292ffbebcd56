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
        /// Of those with the same name, target, metadata and size, all but the newest.
        case duplicates
        /// Those that none of these GPUs can run, surely.
        case foreign([GPU])
    }

    package struct Item: Sendable {
        package var kernel: IndexedKernel
        /// Bytes that go.
        package var bytes: UInt64
        /// The folder that was looked at.
        var root: String
        var stamp: Folder.Stamp
    }

    package var extent: Extent
    /// By their paths.
    package private(set) var items: [Item] = []
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
            let candidates = kernels.survey.entries.indices.filter { position in
                guard let found = kernels.found[position] else { return false }
                return wanted[found.kernel.path] != nil && Self.isPrunable(found.kernel, extent)
            }
            for position in Self.chosen(candidates, of: choice, kernels, extent) {
                guard let found = kernels.found[position] else { continue }
                items.append(
                    Item(
                        kernel: wanted[found.kernel.path] ?? found.kernel,
                        bytes: extent == .full ? found.kernel.bytes : found.kernel.irBytes, root: folder,
                        stamp: found.stamp))
            }
            leftovers += kernels.scan.leftovers.map { (folder, $0) }
        }
        items.sort { $0.kernel.path.lexicographicallyPrecedes($1.kernel.path) }
    }

    private static func isPrunable(_ kernel: IndexedKernel, _ extent: Extent) -> Bool {
        switch extent {
        case .intermediates: kernel.kind == .triton && kernel.irBytes > 0
        // The bytes of NIM's engines lie among the blobs of a hub cache, which NIM looks after.
        case .full: kernel.kind != .nim
        }
    }

    private static func chosen(
        _ candidates: [Int], of choice: Choice, _ kernels: FolderKernels, _ extent: Extent
    ) -> [Int] {
        var chosen: Set<Int>
        switch choice {
        case .all: chosen = Set(candidates)
        case .duplicates: chosen = duplicates(candidates, kernels)
        case .foreign(let gpus):
            let verdicts = kernels.survey.verdicts(kernels.descriptions, on: gpus)
            chosen = Set(candidates.filter { verdicts[$0].outcome == .foreign })
        }
        // What holds other kernels goes only with all of them.
        if extent == .full {
            for position in candidates where !kernels.survey.entries[position].parts.allSatisfy(chosen.contains) {
                chosen.remove(position)
            }
        }
        return Array(chosen)
    }

    private static func duplicates(_ candidates: [Int], _ kernels: FolderKernels) -> Set<Int> {
        struct Likeness: Hashable {
            var name: String?
            var backend: String?
            var arch: String?
            var signature: [UInt8]
            var bytes: UInt64
        }
        var groups: [Likeness: [(position: Int, kernel: IndexedKernel)]] = [:]
        for position in candidates {
            guard let found = kernels.found[position], let signature = found.signature, found.kernel.kind == .triton,
                found.kernel.name != nil
            else { continue }
            let kernel = found.kernel
            let likeness = Likeness(
                name: kernel.name, backend: kernel.backend, arch: kernel.arch, signature: signature, bytes: kernel.bytes
            )
            groups[likeness, default: []].append((position, kernel))
        }
        var duplicates: Set<Int> = []
        for group in groups.values {
            let newest = group.max { one, other in
                one.kernel.modified != other.kernel.modified
                    ? one.kernel.modified < other.kernel.modified
                    : one.kernel.path.lexicographicallyPrecedes(other.kernel.path)
            }
            duplicates.formUnion(group.map(\.position).filter { $0 != newest?.position })
        }
        return duplicates
    }
}
