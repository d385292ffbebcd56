internal import Catalog
internal import GPUCompat
internal import Glibc
internal import KernelCaches
internal import MCFSCore

/// The kernels below a local folder, as they are on its disk now. Reads their metadata, and never a group record, whose
/// openings count as hits.
struct FolderKernels {
    struct Found {
        var kernel: IndexedKernel
        /// What a later scan may pass over; nil where it must look again.
        var known: FolderScan.Known?
        /// Of its directory.
        var stamp: Folder.Stamp
        /// The file of metadata that was read; nil where none was.
        var metadata: Metadata?

        /// Its metadata file, where that says what it was built for.
        var described: [UInt8]? { kernel.problem == nil ? metadata?.name : nil }
    }

    struct Metadata {
        var name: [UInt8]
        var stamp: Folder.Stamp
        /// SHA-256 of its content without the hash.
        var signature: [UInt8]
    }

    private let path: String
    let scan: FolderScan
    let survey: KernelSurvey
    /// In the order of `survey.entries`; nil for those that lie above or beside the folder.
    let found: [Found?]
    let descriptions: [KernelDescription?]
    /// How many files of metadata were read.
    let filesRead: Int

    /// A directory that was changed so shortly before it was looked at may be changed again and have the same time.
    private static let settledAfterNanoseconds: Int64 = 1_000_000_000

    /// - Parameter now: nanoseconds since 1970.
    init(in path: String, known: [[UInt8]: FolderScan.Known], now: Int64) throws(MCFSError) {
        self.path = path
        scan = try FolderScan(path, known: known)
        let tree = scan.tree
        let survey = KernelSurvey(tree)
        let sizes = Sizes(survey, tree)
        var found: [Found?] = []
        var descriptions: [KernelDescription?] = []
        var filesRead = 0
        for (position, entry) in survey.entries.enumerated() {
            let place = [UInt8(ascii: "/")] + tree.path(of: entry.directory).bytes
            guard let stamp = scan.stamps[place] else {
                found.append(nil)
                descriptions.append(nil)
                continue
            }
            let read =
                entry.metadata.isEmpty
                ? nil
                : Self.directory(of: entry, tree, in: scan.folder, below: path).flatMap {
                    Self.metadata(of: entry, tree, in: $0)
                }
            if read != nil { filesRead += 1 }
            let description = KernelDescription(
                entry.kind, directoryName: tree.withName(of: entry.directory) { Array($0) }, metadata: read?.bytes)
            var kernel = IndexedKernel(
                path: place, kind: entry.kind, modified: sizes.modified[position], bytes: sizes.bytes[position],
                irBytes: sizes.irBytes[position])
            kernel.describe(description)
            var known: FolderScan.Known?
            if let read, !sizes.hasFolders[position],
                max(stamp.newest, read.stamp.newest) < now - Self.settledAfterNanoseconds
            {
                known = FolderScan.Known(file: read.name, stamps: stamp.bytes + read.stamp.bytes)
            }
            found.append(
                Found(
                    kernel: kernel, known: known, stamp: stamp,
                    metadata: read.map {
                        Metadata(
                            name: $0.name, stamp: $0.stamp,
                            signature: signature(of: $0.bytes, without: description.hash)
                        )
                    }))
            descriptions.append(description)
        }
        self.survey = survey
        self.found = found
        self.descriptions = descriptions
        self.filesRead = filesRead
    }

    /// The directory of an entry; nil where it is gone, or cannot be opened.
    func directory(of entry: KernelEntry) -> Folder? {
        Self.directory(of: entry, scan.tree, in: scan.folder, below: path)
    }

    private static func directory(of entry: KernelEntry, _ tree: Tree, in folder: Folder, below path: String) -> Folder?
    {
        guard let top = try? TreePath(path), let place = tree.path(of: entry.directory).removing(prefix: top)
        else { return nil }
        return try? folder.folder(at: place.bytes)
    }

    /// The first of an entry's files of metadata that can be read.
    private static func metadata(
        of entry: KernelEntry, _ tree: Tree, in directory: Folder
    ) -> (name: [UInt8], bytes: [UInt8], stamp: Folder.Stamp)? {
        for file in entry.metadata {
            let size = tree.attributes(of: file).size
            guard entry.metadataBytes != nil || size <= KernelDescription.metadataBytesMax else { continue }
            let name = tree.withName(of: file) { Array($0) }
            let bytesMax = entry.metadataBytes ?? KernelDescription.metadataBytesMax
            if let read = try? directory.read(name, bytesMax: Int(bytesMax)) {
                return (name, read.bytes, Folder.Stamp(read.status))
            }
        }
        return nil
    }
}

/// What the files of each entry take, each file counted once: for the innermost entry that it is in.
private struct Sizes {
    var bytes: [UInt64]
    var irBytes: [UInt64]
    /// Seconds since 1970: of a Triton entry its directory, which changes when a file comes or goes; of what is deeper
    /// the newest that is in it.
    var modified: [Int64]
    var hasFolders: [Bool]

    init(_ survey: KernelSurvey, _ tree: Tree) {
        bytes = Array(repeating: 0, count: survey.entries.count)
        irBytes = bytes
        hasFolders = Array(repeating: false, count: bytes.count)
        modified = survey.entries.map { tree.attributes(of: $0.directory).modified.seconds }
        for index in 0..<Tree.Index(tree.count) {
            let attributes = tree.attributes(of: index)
            let isFolder = attributes.kind == .directory
            guard index != Tree.root, let position = survey.entry(holding: isFolder ? tree.parent(of: index) : index)
            else { continue }
            if isFolder { hasFolders[position] = true }
            if attributes.kind == .file { bytes[position].addClamped(attributes.size) }
            if survey.entries[position].kind != .triton {
                modified[position] = max(modified[position], attributes.modified.seconds)
            } else if attributes.kind == .file, tree.withName(of: index, TritonFile.isIntermediate) {
                irBytes[position].addClamped(attributes.size)
            }
        }
    }
}

extension IndexedKernel {
    mutating func describe(_ description: KernelDescription) {
        hash = description.hash
        name = description.name
        backend = description.backend
        let archs = description.targets.map(\.architecture.inventoryText)
        arch = archs.isEmpty ? nil : archs.joined(separator: ",")
        warpSize = description.target?.warpSize
        tritonVersion = description.tritonVersion
        numWarps = description.numWarps
        numStages = description.numStages
        problem = description.problem
    }
}

/// Equal for metadata that differs in the hash only. Python writes the same values as the same bytes.
private func signature(of metadata: [UInt8], without hash: String?) -> [UInt8] {
    guard let hash = hash.map({ Array($0.utf8) }), !hash.isEmpty,
        let place = metadata.firstRange(of: hash)
    else { return Digest.sha256(of: metadata).bytes }
    return Digest.sha256(of: metadata[..<place.lowerBound] + metadata[place.upperBound...]).bytes
}
