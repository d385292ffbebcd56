internal import Catalog
internal import Glibc
package import MCFSCore
internal import Upper

/// Going back to the tree. What is remembered is forgotten while nobody else changes anything; what was written is removed
/// directory by directory, and others change theirs in between.
extension Overlay {
    package struct Written: Sendable {
        package var files = 0
        package var folders = 0
        /// Of regular files.
        package var bytes: UInt64 = 0

        package init() {}
    }

    package struct Reset: Sendable {
        /// Names that were removed, moved or replaced, and files that looked different.
        package var forgotten = 0
        package var removed = Written()
        /// Files that have the number of the tree's and are open: the tree's cannot show there yet.
        package var open: [TreePath] = []
        /// What the kernel has to look up anew, children before parents, and nodes whose attributes and pages it has to forget.
        package var names: [(directory: Node, name: [UInt8])] = []
        package var nodes: Set<Node> = []

        package init() {}
    }

    /// What the upper has at a path and below.
    package func written(at path: TreePath) throws(Errno) -> Written {
        var written = Written()
        for directory in try directoriesOfUpper(at: path) {
            for entry in try upper.entries(of: directory.folder)
            where directory.only == nil || directory.only == entry.name {
                guard let status = try upper.status(entry.name, in: directory.folder) else { continue }
                written.count(status)
            }
        }
        return written
    }

    /// Goes back to the tree at a path and below.
    ///
    /// - Parameters:
    ///   - dropsWritten: what the upper has there goes, too; else what of it holds nothing that was written.
    ///   - reset: what was done, also where this throws.
    package func reset(at path: TreePath, dropsWritten: Bool, _ reset: inout Reset) throws(Errno) {
        try changingAlone { () throws(Errno) in try forget(at: path, &reset) }
        if !reset.open.isEmpty { return }
        for directory in try directoriesOfUpper(at: path).reversed() {
            try removeWritten(in: directory, dropsWritten: dropsWritten, path, &reset)
        }
    }

    // MARK: What is remembered

    private func forget(at path: TreePath, _ reset: inout Reset) throws(Errno) {
        let plan = ResetPlan(tree, upper.marks, at: path)
        let metadata = metadataAfter(plan)
        let vacated = try nodesToVacate(plan, &reset)
        if !reset.open.isEmpty { return }
        let remembered = upper.metadata
        var records = metadata.compactMap { entry, value -> (lower: TreePath, value: LowerMetadata)? in
            let lower = tree.path(of: entry)
            return remembered[lower] == nil ? nil : (lower, value ?? LowerMetadata())
        }
        if path.isRoot {
            // Of files that this version of the tree does not have.
            records += remembered.keys.filter { tree.entry(at: $0) == nil }.map { ($0, LowerMetadata()) }
        }
        if plan.cleared.isEmpty && metadata.isEmpty && records.isEmpty { return }
        let numbers = numbersOfFolders
        for place in plan.cleared.keys {
            for number in known(place.parent).flatMap({ numbers[ObjectIdentifier($0)] }) ?? [] {
                reset.names.append((Node(number: number), place.name))
                reset.nodes.insert(Node(number: number))
            }
        }
        try upper.forget(Set(plan.cleared.keys), metadata: records)
        reset.forgotten = plan.cleared.count + records.count
        for (entry, value) in metadata {
            lower.setMetadata(value, of: entry)
            reset.nodes.insert(Node(entry: entry))
        }
        for node in vacated { vacate(node, numbers, &reset) }
        try settleDirectories(numbers, &reset)
        for node in nodes.all {
            guard let entry = Node(number: node.number).entry(count: tree.count) else { continue }
            switch node.now {
            case .movedFile(let place?):
                if place.folder.mark(place.name) == nil { nodes.drop(node) }
            case .movedFile(nil), .removedDirectory:
                guard plan.place(of: tree.path(of: entry)) != nil else { continue }
                if node.now.isRemoved { lower.renew(entry) }
                nodes.drop(node)
            case .treeDirectory, .upperFile, .upperDirectory: break
            }
            if nodes.node(node.number) == nil { reset.nodes.insert(Node(number: node.number)) }
        }
        // What is deepest first: a name is found below the names above it.
        reset.names.reverse()
    }

    /// What is remembered of the files that show at the path and below, or show again.
    private func metadataAfter(_ plan: ResetPlan) -> [(entry: Tree.Index, value: LowerMetadata?)] {
        lower.changedEntries.compactMap { entry in
            guard let before = lower.metadata(of: entry) else { return nil }
            let names = namesOfTree(entry)
            let places = names.compactMap { plan.place(of: tree.path(of: $0)) }
            let isMeant = places.contains { $0.removing(prefix: plan.path) != nil || plan.hasCleared(above: $0) }
            guard isMeant else { return nil }
            guard places.count < names.count else { return (entry, nil) }
            var after = LowerMetadata()
            after.linkCount = UInt32(places.count)
            after.changed = before.changed
            return before == after ? nil : (entry, after)
        }
    }

    /// Files of the upper that have the numbers of files of the tree which will show again.
    private func nodesToVacate(_ plan: ResetPlan, _ reset: inout Reset) throws(Errno) -> [OverlayNode] {
        if plan.cleared.isEmpty { return [] }
        var found: [OverlayNode] = []
        for node in nodes.all {
            guard case .upperFile = node.now, let entry = Node(number: node.number).entry(count: tree.count) else {
                continue
            }
            for name in namesOfTree(entry) {
                guard let place = plan.place(of: tree.path(of: name)), plan.hasCleared(above: place) else { continue }
                if let folder = known(place.parent), try upper.status(place.name, in: folder) != nil { continue }
                if openFiles.known(node.number) != nil { reset.open.append(place) }
                found.append(node)
                break
            }
        }
        return found
    }

    /// What has the number of an entry of the tree gets another one when it is looked up.
    ///
    /// - Parameter numbers: those of the folders' directories.
    private func vacate(_ node: OverlayNode, _ numbers: [ObjectIdentifier: [UInt64]], _ reset: inout Reset) {
        if case .upperFile(let file) = node.now {
            for place in file.places {
                for number in numbers[ObjectIdentifier(place.folder)] ?? [] {
                    reset.names.append((Node(number: number), place.name))
                }
            }
        }
        nodes.drop(node)
        reset.nodes.insert(Node(number: node.number))
    }

    /// The numbers of the directories of all folders.
    private var numbersOfFolders: [ObjectIdentifier: [UInt64]] {
        var numbers: [ObjectIdentifier: [UInt64]] = [:]
        for node in nodes.all {
            if let folder = node.now.folder { numbers[ObjectIdentifier(folder), default: []].append(node.number) }
        }
        return numbers
    }

    /// The folder of a path; nil where nothing is known of it.
    private func known(_ path: TreePath) -> UpperFolder? {
        var folder: UpperFolder? = upper.root
        for name in path.components { folder = folder?.known(name) }
        return folder
    }

    // MARK: Directories after that

    /// Brings the nodes of all directories that something is known of to what their names say now.
    ///
    /// - Parameter numbers: those of the folders' directories before.
    private func settleDirectories(_ numbers: [ObjectIdentifier: [UInt64]], _ reset: inout Reset) throws(Errno) {
        var pending: [UInt64] = [Node.root.number]
        var left: [(parent: UInt64, name: [UInt8])] = []
        while let number = pending.popLast() {
            let directory = try directory(Node(number: number))
            guard let folder = directory.folder else { continue }
            let before = numbers[ObjectIdentifier(folder)] ?? []
            try folder.names.writing { () throws(Errno) in
                for name in folder.knownNames {
                    guard let own = folder.known(name) else { continue }
                    let former = numbers[ObjectIdentifier(own)] ?? []
                    let shown = former.compactMap { nodes.node($0)?.now.shown }
                    let found = try settle(own, name, in: directory, former)
                    let shows = found.flatMap { nodes.node($0)?.now.shown }
                    if let found { pending.append(found) }
                    if found == former.first && shows == shown.first { continue }
                    if found != nil && shows == nil && !shown.isEmpty { left.append((number, name)) }
                    for number in before { reset.names.append((Node(number: number), name)) }
                    let names = try upper.entries(of: own).map(\.name) + own.knownNames
                    for number in former + (found.map { [$0] } ?? []) {
                        reset.nodes.insert(Node(number: number))
                        for name in names { reset.names.append((Node(number: number), name)) }
                    }
                }
            }
        }
        // What was moved is no more where it was moved to, unless something was written there.
        for (parent, name) in left.reversed() {
            let directory = try directory(Node(number: parent))
            guard let folder = directory.folder, let own = folder.known(name) else { continue }
            try holding([folder, own]) { () throws(Errno) in
                guard case .upper(let node, _) = try find(name, in: directory), node.now.folder === own else { return }
                _ = try removeDirectory(node, own, name, in: directory, dropsWritten: true)
            }
        }
    }

    /// - Returns: the number of the directory at a name; nil where none is.
    private func settle(
        _ folder: UpperFolder, _ name: [UInt8], in parent: Directory, _ former: [UInt64]
    ) throws(Errno) -> UInt64? {
        guard let parentFolder = parent.folder else { return nil }
        let status = try upper.status(name, in: parentFolder)
        var below = lowerEntry(name, in: parent)
        if let entry = below, tree.attributes(of: entry).kind != .directory { below = nil }
        if let status, status.st_mode & S_IFMT == S_IFDIR {
            let identity = DiskIdentity(status)
            folder.identity = identity
            let state = OverlayNode.State.upperDirectory(
                identity, folder: folder, shows: below, parent: parent.number)
            let known = nodes.node(identity)
            guard let below else {
                // It has the number of what it showed.
                if let known, !NodeTable.isDynamic(known.number) { nodes.drop(known) }
                let node = nodes.node(identity) { OverlayNode(number: $0, inode: $1, state) }
                node.become(state)
                return node.number
            }
            giveUp(Node(entry: below), unless: identity)
            // Who knows it under the number that it had while it showed nothing of the tree goes on.
            if let known { known.become(state) }
            return nodes.become(state, ofEntry: Node(entry: below)).number
        }
        if status == nil, let below {
            giveUp(Node(entry: below), unless: nil)
            let state = OverlayNode.State.treeDirectory(below, folder: folder, parent: parent.number)
            return nodes.become(state, ofEntry: Node(entry: below)).number
        }
        parentFolder.detach(name)
        release(folder)
        return nil
    }

    /// A directory of the upper, or one that was removed, has the number of an entry that shows elsewhere now.
    private func giveUp(_ entry: Node, unless identity: DiskIdentity?) {
        guard let node = nodes.node(entry.number) else { return }
        if node.now.isRemoved, let entry = entry.entry(count: tree.count) { lower.renew(entry) }
        if let other = node.now.identity, other != identity { nodes.drop(node) }
    }

    /// Nothing is at the folder's place any more, nor below.
    private func release(_ folder: UpperFolder) {
        var gone: Set<ObjectIdentifier> = []
        var pending = [folder]
        while let next = pending.popLast() {
            gone.insert(ObjectIdentifier(next))
            pending += next.knownNames.compactMap { next.known($0) }
        }
        for node in nodes.all {
            guard let own = node.now.folder, gone.contains(ObjectIdentifier(own)) else { continue }
            nodes.drop(node)
        }
    }

    // MARK: What was written

    private struct UpperPlace {
        var node: Node
        var folder: UpperFolder
        var path: TreePath
        /// The name in it that is meant; nil: all of them.
        var only: [UInt8]?
    }

    /// The directories of the upper at a path and below, parents before children. The first one is the one that the path is in,
    /// unless that is the root.
    private func directoriesOfUpper(at path: TreePath) throws(Errno) -> [UpperPlace] {
        func below(_ name: [UInt8], of place: UpperPlace) throws(Errno) -> UpperPlace? {
            try looking(in: place.node) { (directory) throws(Errno) in
                guard case .upper(let node, _) = try find(name, in: directory) else { return nil }
                guard let folder = node.now.folder else {
                    nodes.forget(node.number, 0)
                    return nil
                }
                return UpperPlace(
                    node: Node(number: node.number), folder: folder, path: place.path.appending(name), only: nil)
            }
        }
        var place = UpperPlace(node: .root, folder: upper.root, path: .root)
        for name in path.parent.components {
            guard let next = try below(name, of: place) else { return [] }
            place = next
        }
        if !path.isRoot { place.only = path.name }
        var places: [UpperPlace] = []
        var pending = [place]
        while let next = pending.popLast() {
            places.append(next)
            for entry in try upper.entries(of: next.folder) where next.only == nil || next.only == entry.name {
                if let inner = try below(entry.name, of: next) { pending.append(inner) }
            }
        }
        return places
    }

    /// How many names are removed before others may change something.
    private static let removalsAtOnce = 64

    private func removeWritten(
        in place: UpperPlace, dropsWritten: Bool, _ path: TreePath, _ reset: inout Reset
    ) throws(Errno) {
        var names = try upper.entries(of: place.folder).map(\.name)[...]
        if let only = place.only { names = names.filter { $0 == only }[...] }
        while !names.isEmpty {
            let some = names.prefix(Self.removalsAtOnce)
            names = names.dropFirst(Self.removalsAtOnce)
            try changingAlone { () throws(Errno) in
                for name in some {
                    guard let directory = try? directory(place.node), directory.folder === place.folder,
                        case .upper(let node, let status) = try find(name, in: directory)
                    else { continue }
                    let below = node.now.folder
                    try holding([place.folder] + (below.map { [$0] } ?? [])) { () throws(Errno) in
                        if let below {
                            guard try removeDirectory(node, below, name, in: directory, dropsWritten: dropsWritten)
                            else {
                                return
                            }
                        } else {
                            guard dropsWritten, try removeFile(node, status, name, in: directory, &reset) else {
                                return
                            }
                        }
                        reset.removed.count(status)
                        reset.names.append((place.node, name))
                        reset.nodes.formUnion([place.node, Node(number: node.number)])
                    }
                }
            }
        }
    }

    private func removeDirectory(
        _ node: OverlayNode, _ folder: UpperFolder, _ name: [UInt8], in parent: Directory, dropsWritten: Bool
    ) throws(Errno) -> Bool {
        guard case .upperDirectory(let identity, _, let shows, _) = node.now, let parentFolder = parent.folder,
            shows != nil || dropsWritten, folder.marks.isEmpty, try upper.entries(of: folder).isEmpty
        else { return false }
        if let shows {
            try keepingTimes(of: parentFolder) { () throws(Errno) in
                try upper.removeDirectory(name, in: parentFolder)
            }
            nodes.forget(identity)
            node.become(.treeDirectory(shows, folder: folder, parent: parent.number))
        } else {
            let found = Found.upper(node, try status(of: node))
            let place = Place(folder: parentFolder, name: name)
            let anchor = leave(found, place)
            try keepingTimes(of: parentFolder) { () throws(Errno) in
                try upper.remove(name, in: parentFolder, isOnDisk: true, isDirectory: true, mark: nil)
            }
            left(found, place, anchor)
        }
        return true
    }

    private func removeFile(
        _ node: OverlayNode, _ status: stat, _ name: [UInt8], in parent: Directory, _ reset: inout Reset
    ) throws(Errno) -> Bool {
        guard let folder = parent.folder else { return false }
        // The file that shows then, and the one that goes, as far as they have a number of the tree.
        let natural = naturalEntry(name, in: parent).flatMap { nodes.node(Node(entry: tree.inode(of: $0)).number) }
        var numbered: [OverlayNode] = []
        if !NodeTable.isDynamic(node.number) { numbered.append(node) }
        if let natural, natural !== node { numbered.append(natural) }
        for node in numbered {
            guard case .upperFile = node.now, openFiles.known(node.number) != nil else { continue }
            reset.open.append(folder.path.appending(name))
            return false
        }
        let found = Found.upper(node, status)
        let place = Place(folder: folder, name: name)
        let anchor = leave(found, place)
        try keepingTimes(of: folder) { () throws(Errno) in
            try upper.remove(name, in: folder, isOnDisk: true, isDirectory: false, mark: nil)
        }
        left(found, place, anchor)
        for node in numbered {
            switch node.now {
            case .upperFile(let file): vacate(node, file.places.isEmpty ? [:] : numbersOfFolders, &reset)
            case .movedFile(nil), .removedDirectory: vacate(node, [:], &reset)
            case .movedFile, .treeDirectory, .upperDirectory: break
            }
        }
        return true
    }
}

extension Overlay.Written {
    fileprivate mutating func count(_ status: stat) {
        switch status.st_mode & S_IFMT {
        case S_IFDIR: folders += 1
        case S_IFREG:
            files += 1
            bytes.addClamped(UInt64(clamping: status.st_size))
        default: files += 1
        }
    }
}
