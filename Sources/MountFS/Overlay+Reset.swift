internal import Catalog
internal import Glibc
package import MCFSCore
internal import Synchronization
internal import Upper

/// Going back to the tree. What is remembered is forgotten while nobody else changes anything; what was written is removed
/// directory by directory, and others change theirs in between.
///
/// A file of the tree that was copied up has the number that the tree's has, and gives it back before the tree's shows again:
///
/// 1. Who looks the copy up gets another number (`NodeTable.leave`); the old one still stands for the copy.
/// 2. The kernel forgets the names by which it knows the old one. No lock is held: it waits for those who are at the names.
/// 3. The node is dropped, and then it is looked whether the copy is open under its number: who opens a file looks for its
///    node after it is counted. If so, the node stays, and nothing is forgotten.
///
/// What has come about in between (copies, names that were moved) begins with 1.
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

        package init() {}
    }

    /// What the kernel has to forget.
    package struct Stale: Sendable {
        /// Names that it has to look up anew, children before parents.
        package var names: [(directory: Node, name: [UInt8])] = []
        /// Nodes whose attributes and pages it has to forget.
        package var nodes: Set<Node> = []
    }

    /// What the upper has at a path and below.
    package func written(at path: TreePath) throws(Errno) -> Written {
        var written = Written()
        try withDirectoriesOfUpper(at: path) { (directories, _) throws(Errno) in
            for directory in directories {
                for entry in try entries(of: directory)
                where directory.only == nil || directory.only == entry.name {
                    guard let status = try upper.status(entry.name, in: directory.folder) else { continue }
                    written.count(status)
                }
            }
        }
        return written
    }

    /// Goes back to the tree at a path and below.
    ///
    /// - Parameters:
    ///   - dropsWritten: what the upper has there goes, too; else what of it holds nothing that was written.
    ///   - reset: what was done, also where this throws.
    ///   - tell: makes the kernel forget something, and returns when it has. It waits for requests under way, and no lock is
    ///     held that they take; so all this is not for a thread that answers requests.
    package func reset(
        at path: TreePath, dropsWritten: Bool, _ reset: inout Reset, tell: (Stale) -> Void
    ) throws(Errno) {
        try resets.withLock { _ throws(Errno) in
            try resetAlone(at: path, dropsWritten: dropsWritten, &reset, tell)
        }
    }

    private func resetAlone(
        at path: TreePath, dropsWritten: Bool, _ reset: inout Reset, _ tell: (Stale) -> Void
    ) throws(Errno) {
        var run = Run(path: path, dropsWritten: dropsWritten)
        defer {
            for node in run.leaving.values { nodes.stay(node) }
            tell(run.stale)
        }
        try telling(&run, &reset, tell) { (run, reset) throws(Errno) in
            try changingAlone { () throws(Errno) in try forget(&run, &reset) }
        }
        if !reset.open.isEmpty { return }
        try telling(&run, &reset, tell) { (run, reset) throws(Errno) in
            try withDirectoriesOfUpper(at: path) { (directories, letGo) throws(Errno) in
                for directory in directories.reversed() {
                    try removeWritten(in: directory, &run, &reset, tell, letGo)
                }
            }
        }
    }

    /// What is known while the mount goes back to the tree.
    private struct Run {
        let path: TreePath
        let dropsWritten: Bool
        /// What the kernel is told at the end.
        var stale = Stale()
        /// Files that give back their numbers, by these, and the names of them that the kernel was told of.
        var leaving: [UInt64: OverlayNode] = [:]
        var told: [UInt64: Set<Place>] = [:]
        /// What it has to be told before they can.
        var untold = Stale()
    }

    private static let roundsMax = 20

    /// Runs `body` until the kernel was told of all that this wants it to be told of.
    private func telling(
        _ run: inout Run, _ reset: inout Reset, _ tell: (Stale) -> Void,
        _ body: (inout Run, inout Reset) throws(Errno) -> Void
    ) throws(Errno) {
        for _ in 1...Self.roundsMax {
            run.untold = Stale()
            reset.open = []
            try body(&run, &reset)
            if run.untold.nodes.isEmpty { return }
            tell(run.untold)
        }
        // Somebody renames or copies files faster than the kernel can be told.
        for node in run.leaving.values {
            guard let place = node.place else { continue }
            reset.open.append(place.folder.path.appending(place.name))
        }
    }

    // MARK: Numbers that are given back

    /// Whether the kernel has no name by which it knows the node. If not, it will be told, and none comes to it.
    private func isLeft(_ node: OverlayNode, _ run: inout Run, _ known: inout Known) -> Bool {
        nodes.leave(node)
        guard case .upperFile(let file) = node.now else { return true }
        let isSame = run.leaving[node.number] === node
        let told = isSame ? run.told[node.number] ?? [] : []
        run.leaving[node.number] = node
        if isSame && file.places.isSubset(of: told) { return true }
        for place in file.places {
            for number in known.numbers(of: place.folder) {
                run.untold.names.append((Node(number: number), place.name))
            }
        }
        run.untold.nodes.insert(Node(number: node.number))
        run.told[node.number] = told.union(file.places)
        return false
    }

    /// Whether somebody has the file open under its number. What the tree has there may be open.
    private func isOpen(_ node: OverlayNode) -> Bool {
        if case .upper = openFiles.known(node.number) { true } else { false }
    }

    // MARK: What is remembered

    private func forget(_ run: inout Run, _ reset: inout Reset) throws(Errno) {
        var known = Known(nodes)
        var names = NamesOfTree(tree)
        let plan = ResetPlan(upper.marks, at: run.path)
        let metadata = metadataAfter(plan, &names)
        var vacated: [OverlayNode] = []
        for (node, place, isCovered) in try nodesToVacate(plan, run, &names) {
            // What is covered is looked at again when what covers it is removed.
            if isOpen(node) {
                if !isCovered { reset.open.append(place) }
            } else if isLeft(node, &run, &known), !isCovered {
                vacated.append(node)
            }
        }
        // Then nothing is forgotten, and nobody needs to be told.
        if !reset.open.isEmpty { run.untold = Stale() }
        if !reset.open.isEmpty || !run.untold.nodes.isEmpty { return }
        let remembered = upper.metadata
        var records = metadata.compactMap { entry, value -> (lower: TreePath, value: LowerMetadata)? in
            let lower = tree.path(of: entry)
            return remembered[lower] == nil ? nil : (lower, value ?? LowerMetadata())
        }
        if run.path.isRoot {
            // Of files that this version of the tree does not have.
            records += remembered.keys.filter { tree.entry(at: $0) == nil }.map { ($0, LowerMetadata()) }
        }
        let emptied = emptied.withLock { $0 }
        if plan.cleared.isEmpty && metadata.isEmpty && records.isEmpty && emptied.isEmpty { return }
        var open: [OverlayNode] = []
        do throws(Errno) {
            try upper.forget(Set(plan.cleared.keys), metadata: records) { () throws(Errno) in
                for node in vacated {
                    nodes.drop(node)
                    if isOpen(node) { open.append(node) }
                }
                if !open.isEmpty { throw Errno(rawValue: EBUSY) }
            }
        } catch {
            for node in vacated { nodes.stay(node) }
            if open.isEmpty { throw error }
            reset.open = open.compactMap { node in
                node.entry(of: tree).flatMap { plan.place(of: tree.path(of: $0)) } ?? run.path
            }
            return
        }
        // From here on all goes to its end, whatever fails: nobody would see again that it is to be done.
        reset.forgotten += plan.cleared.count + records.count
        for node in vacated {
            run.leaving[node.number] = nil
            run.stale.nodes.insert(Node(number: node.number))
        }
        for (entry, value) in metadata {
            lower.setMetadata(value, of: entry)
            run.stale.nodes.insert(Node(entry: entry))
        }
        for place in plan.cleared.keys {
            for number in self.known(place.parent).map({ known.numbers(of: $0) }) ?? [] {
                run.stale.names.append((Node(number: number), place.name))
                run.stale.nodes.insert(Node(number: number))
            }
        }
        let problem = settleDirectories(emptied, &known, &run.stale)
        for node in nodes.all {
            guard let entry = node.entry(of: tree) else { continue }
            switch node.now {
            case .movedFile(let place?):
                if place.folder.mark(place.name) == nil { nodes.drop(node) }
            case .movedFile(nil), .removedDirectory:
                guard plan.place(of: tree.path(of: entry)) != nil else { continue }
                if node.now.isRemoved { lower.renew(entry) }
                nodes.drop(node)
            case .treeDirectory, .upperFile, .upperDirectory: break
            }
            if nodes.node(node.number) == nil { run.stale.nodes.insert(Node(number: node.number)) }
        }
        // What is deepest first: a name is found below the names above it.
        run.stale.names.reverse()
        if let problem { throw problem }
    }

    /// What is remembered of the files that show at the path and below, or show again.
    private func metadataAfter(
        _ plan: ResetPlan, _ namesOfTree: inout NamesOfTree
    ) -> [(entry: Tree.Index, value: LowerMetadata?)] {
        var changes: [(entry: Tree.Index, value: LowerMetadata?)] = []
        for entry in lower.changedEntries {
            guard let before = lower.metadata(of: entry) else { continue }
            let names = namesOfTree.names(of: entry)
            let places = names.compactMap { plan.place(of: tree.path(of: $0)) }
            let isMeant = places.contains { $0.removing(prefix: plan.path) != nil || plan.hasCleared(above: $0) }
            guard isMeant else { continue }
            guard places.count < names.count else {
                changes.append((entry, nil))
                continue
            }
            var after = LowerMetadata()
            after.linkCount = UInt32(places.count)
            after.changed = before.changed
            if before != after { changes.append((entry, after)) }
        }
        return changes
    }

    /// Files of the upper that have the numbers of files of the tree which will show again, each with where.
    ///
    /// - Returns: `isCovered`: the upper has something there that goes first.
    private func nodesToVacate(
        _ plan: ResetPlan, _ run: Run, _ names: inout NamesOfTree
    ) throws(Errno) -> [(node: OverlayNode, place: TreePath, isCovered: Bool)] {
        if plan.cleared.isEmpty && !run.dropsWritten { return [] }
        var found: [(node: OverlayNode, place: TreePath, isCovered: Bool)] = []
        for node in nodes.all {
            guard case .upperFile = node.now, let entry = node.entry(of: tree) else { continue }
            var covered: TreePath?
            var free: TreePath?
            for name in names.names(of: entry) {
                guard free == nil, let place = plan.place(of: tree.path(of: name)) else { continue }
                let isDropped = run.dropsWritten && place.removing(prefix: run.path) != nil
                guard isDropped || plan.hasCleared(above: place) else { continue }
                if let folder = known(place.parent), try upper.status(place.name, in: folder) != nil {
                    if isDropped { covered = place }
                } else if plan.hasCleared(above: place) {
                    free = place
                }
            }
            if let place = free ?? covered { found.append((node, place, isCovered: free == nil)) }
        }
        return found
    }

    /// What the kernel knows of folders: the numbers of their directories, and names in them of what has a node.
    private struct Known {
        private let nodes: NodeTable
        private lazy var numbers: [ObjectIdentifier: [UInt64]] = {
            var numbers: [ObjectIdentifier: [UInt64]] = [:]
            for node in nodes.all {
                if let folder = node.now.folder { numbers[ObjectIdentifier(folder), default: []].append(node.number) }
            }
            return numbers
        }()
        private lazy var names: [ObjectIdentifier: [[UInt8]]] = {
            var names: [ObjectIdentifier: [[UInt8]]] = [:]
            for node in nodes.all {
                switch node.now {
                case .upperFile(let file):
                    for place in file.places { names[ObjectIdentifier(place.folder), default: []].append(place.name) }
                case .movedFile(let place?): names[ObjectIdentifier(place.folder), default: []].append(place.name)
                case .movedFile(nil), .treeDirectory, .upperDirectory, .removedDirectory: break
                }
            }
            return names
        }()

        init(_ nodes: NodeTable) { self.nodes = nodes }

        mutating func numbers(of folder: UpperFolder) -> [UInt64] { numbers[ObjectIdentifier(folder)] ?? [] }

        mutating func names(in folder: UpperFolder) -> [[UInt8]] {
            (names[ObjectIdentifier(folder)] ?? []) + folder.knownNames
        }
    }

    /// All names of the files of a tree; those of files with several are looked for once.
    private struct NamesOfTree {
        private let tree: Tree
        private lazy var several: [Tree.Index: [Tree.Index]] = {
            var several: [Tree.Index: [Tree.Index]] = [:]
            for entry in 0..<Tree.Index(tree.count) where tree.attributes(of: entry).linkCount > 1 {
                several[tree.inode(of: entry), default: []].append(entry)
            }
            return several
        }()

        init(_ tree: Tree) { self.tree = tree }

        mutating func names(of entry: Tree.Index) -> [Tree.Index] {
            if tree.attributes(of: entry).linkCount <= 1 { return [entry] }
            return several[tree.inode(of: entry)] ?? [entry]
        }
    }

    /// The folder of a path; nil where nothing is known of it.
    private func known(_ path: TreePath) -> UpperFolder? {
        var folder: UpperFolder? = upper.root
        for name in path.components { folder = folder?.known(name) }
        return folder
    }

    // MARK: Directories after that

    /// Brings the nodes of all directories that something is known of to what their names say now, and removes those that
    /// were moved and hold nothing. Goes on past what the disk refuses.
    ///
    /// - Parameters:
    ///   - emptied: what an earlier reset could not remove.
    ///   - known: as it was before.
    /// - Returns: what the disk said first.
    private func settleDirectories(_ emptied: [UpperFolder], _ known: inout Known, _ stale: inout Stale) -> Errno? {
        var problem: Errno?
        var pending: [UInt64] = [Node.root.number]
        var settled: [OverlayNode] = []
        var emptied = emptied
        while let number = pending.popLast() {
            guard let directory = try? directory(Node(number: number)), let folder = directory.folder else { continue }
            let before = known.numbers(of: folder)
            folder.names.writing {
                for name in folder.knownNames {
                    guard let own = folder.known(name) else { continue }
                    let former = known.numbers(of: own)
                    let shown = former.compactMap { nodes.node($0)?.now.shown }
                    let found = settle(own, name, in: directory, &known, &problem)
                    let shows = found?.now.shown
                    if let found {
                        pending.append(found.number)
                        settled.append(found)
                    }
                    if found?.number == former.first && shows == shown.first { continue }
                    if found != nil && shows == nil && !shown.isEmpty { emptied.append(own) }
                    for number in before { stale.names.append((Node(number: number), name)) }
                    let names = known.names(in: own)
                    for number in former + (found.map { [$0.number] } ?? []) {
                        stale.nodes.insert(Node(number: number))
                        for name in names { stale.names.append((Node(number: number), name)) }
                    }
                }
            }
        }
        // What was moved is no more where it was moved to, unless something was written there.
        var left: [UpperFolder] = []
        var now = Known(nodes)
        for own in emptied.reversed() {
            do throws(Errno) { try removeEmptied(own, &now) } catch {
                problem = problem ?? error
                left.append(own)
            }
        }
        self.emptied.withLock { $0 = left.reversed() }
        // Those that nobody was told of.
        for node in settled.reversed() { nodes.forget(node.number, 0) }
        return problem
    }

    private func removeEmptied(_ own: UpperFolder, _ known: inout Known) throws(Errno) {
        guard let folder = own.parent, let number = known.numbers(of: folder).first else { return }
        let directory = try directory(Node(number: number))
        try holding([folder, own]) { () throws(Errno) in
            guard let (node, _) = try findWritten(own.name, in: directory), node.now.folder === own else { return }
            _ = try removeDirectory(node, own, own.name, in: directory, dropsWritten: true)
        }
    }

    /// - Parameter problem: set where the disk does not say what is there: it is as it was known then.
    /// - Returns: the directory at a name; nil where none is.
    private func settle(
        _ folder: UpperFolder, _ name: [UInt8], in parent: Directory, _ knownNow: inout Known, _ problem: inout Errno?
    ) -> OverlayNode? {
        guard let parentFolder = parent.folder else { return nil }
        var identity: DiskIdentity?
        var isCovered = false
        do throws(Errno) {
            let status = try upper.status(name, in: parentFolder)
            let isDirectory = status.map { $0.st_mode & S_IFMT == S_IFDIR }
            if isDirectory == true { identity = status.map { DiskIdentity($0) } }
            isCovered = isDirectory == false
        } catch {
            problem = problem ?? error
            // Nobody has looked at it: there is no node.
            if folder.identity == nil && knownNow.numbers(of: folder).isEmpty { return nil }
            identity = folder.identity
        }
        var below = lowerEntry(name, in: parent)
        if let entry = below, tree.attributes(of: entry).kind != .directory { below = nil }
        if let identity {
            folder.identity = identity
            let state = OverlayNode.State.upperDirectory(
                identity, folder: folder, shows: below, parent: parent.number)
            let known = nodes.node(identity)
            guard let below else {
                // It has the number of what it showed.
                if let known, !NodeTable.isDynamic(known.number) { nodes.drop(known) }
                let node = nodes.node(identity) { OverlayNode(number: $0, inode: $1, state) }
                node.become(state)
                return node
            }
            giveUp(Node(entry: below), unless: identity)
            if let known, !NodeTable.isDynamic(known.number), known.number != Node(entry: below).number {
                // It has the number of what it showed.
                nodes.drop(known)
            } else if let known {
                // Who knows it under the number that it had while it showed nothing of the tree goes on.
                known.become(state)
            }
            return nodes.become(state, ofEntry: Node(entry: below))
        }
        if !isCovered, let below {
            giveUp(Node(entry: below), unless: nil)
            let state = OverlayNode.State.treeDirectory(below, folder: folder, parent: parent.number)
            return nodes.become(state, ofEntry: Node(entry: below))
        }
        parentFolder.detach(name)
        release(folder, &knownNow)
        return nil
    }

    /// A directory of the upper, or one that was removed, has the number of an entry that shows elsewhere now.
    private func giveUp(_ entry: Node, unless identity: DiskIdentity?) {
        guard let node = nodes.node(entry.number) else { return }
        if node.now.isRemoved, let entry = entry.entry(count: tree.count) { lower.renew(entry) }
        if let other = node.now.identity, other != identity { nodes.drop(node) }
    }

    /// Nothing is at the folder's place any more, nor below.
    private func release(_ folder: UpperFolder, _ known: inout Known) {
        var pending = [folder]
        while let next = pending.popLast() {
            pending += next.knownNames.compactMap { next.known($0) }
            for number in known.numbers(of: next) {
                // It may have come to be another directory.
                if let node = nodes.node(number), node.now.folder === next { nodes.drop(node) }
            }
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

    /// Runs `body` with the directories of the upper at a path and below, parents before children. The first one is the one
    /// that the path is in, unless that is the root. They have their nodes meanwhile, or until `body` lets one go.
    private func withDirectoriesOfUpper(
        at path: TreePath, _ body: ([UpperPlace], _ letGo: (Node) -> Void) throws(Errno) -> Void
    ) throws(Errno) {
        var held: [UInt64] = []
        var gone: Set<UInt64> = []
        defer { for number in held.reversed() where !gone.contains(number) { nodes.release(number) } }
        func below(_ name: [UInt8], of place: UpperPlace) throws(Errno) -> UpperPlace? {
            try looking(in: place.node) { (directory) throws(Errno) -> UpperPlace? in
                guard let (node, _) = try findWritten(name, in: directory) else { return nil }
                guard let folder = node.now.folder else {
                    nodes.forget(node.number, 0)
                    return nil
                }
                nodes.count(node)
                held.append(node.number)
                return UpperPlace(
                    node: Node(number: node.number), folder: folder, path: place.path.appending(name), only: nil)
            }
        }
        var place = UpperPlace(node: .root, folder: upper.root, path: .root)
        for name in path.parent.components {
            guard let next = try below(name, of: place) else { return }
            place = next
        }
        if !path.isRoot { place.only = path.name }
        var places: [UpperPlace] = []
        var pending = [place]
        while let next = pending.popLast() {
            places.append(next)
            for entry in try entries(of: next) where next.only == nil || next.only == entry.name {
                if let inner = try below(entry.name, of: next) { pending.append(inner) }
            }
        }
        let all = Set(held)
        try body(places) { node in
            if all.contains(node.number), gone.insert(node.number).inserted { nodes.release(node.number) }
        }
    }

    /// What the upper has at a name; nil where it has nothing.
    private func findWritten(
        _ name: [UInt8], in directory: Directory
    ) throws(Errno) -> (node: OverlayNode, status: stat)? {
        guard let folder = directory.folder, !isHidden(name, in: directory),
            let status = try upper.status(name, in: folder)
        else { return nil }
        return (node(status, name, in: directory, folder), status)
    }

    /// None where it was removed since it was found.
    private func entries(of place: UpperPlace) throws(Errno) -> [UpperDirectory.Entry] {
        do throws(Errno) { return try upper.entries(of: place.folder) } catch {
            guard error == .noEntry else { throw error }
            return []
        }
    }

    /// How many names are removed before others may change something.
    private static let removalsAtOnce = 64

    private func removeWritten(
        in place: UpperPlace, _ run: inout Run, _ reset: inout Reset, _ tell: (Stale) -> Void,
        _ letGo: (Node) -> Void
    ) throws(Errno) {
        var names = try entries(of: place).map(\.name)[...]
        if let only = place.only { names = names.filter { $0 == only }[...] }
        while !names.isEmpty {
            let some = names.prefix(Self.removalsAtOnce)
            names = names.dropFirst(Self.removalsAtOnce)
            try changingAlone { () throws(Errno) in
                var known = Known(nodes)
                for name in some {
                    guard let directory = try? directory(place.node), directory.folder === place.folder,
                        let (node, status) = try findWritten(name, in: directory)
                    else { continue }
                    // It was found, and the kernel was told of nothing.
                    defer { nodes.forget(node.number, 0) }
                    let below = node.now.folder
                    try holding([place.folder] + (below.map { [$0] } ?? [])) { () throws(Errno) in
                        if let below {
                            guard
                                try removeDirectory(
                                    node, below, name, in: directory, dropsWritten: run.dropsWritten)
                            else { return }
                        } else {
                            guard run.dropsWritten,
                                try removeFile(node, status, name, in: directory, &run, &known, &reset)
                            else { return }
                        }
                        reset.removed.count(status)
                        run.stale.names.append((place.node, name))
                        run.stale.nodes.formUnion([place.node, Node(number: node.number)])
                    }
                }
            }
            // What the kernel knows still is held by a descriptor each.
            if run.stale.names.count >= Self.removalsAtOnce {
                tell(run.stale)
                for node in run.stale.nodes where nodes.node(node.number)?.now.isRemoved == true { letGo(node) }
                waitUntilForgotten(run.stale.nodes)
                run.stale = Stale()
            }
        }
    }

    /// The kernel says a moment after it has lost the last name of a node that it needs it no more; of one that somebody has
    /// open it does not.
    private func waitUntilForgotten(_ told: Set<Node>) {
        let deadline = Deadline(after: .milliseconds(100))
        func isHeld(_ node: Node) -> Bool {
            guard let known = nodes.node(node.number)?.now else { return false }
            switch known {
            case .upperFile(let file): return file.places.isEmpty && file.anchor != nil
            case .removedDirectory(_, let anchor, _): return anchor != nil
            case .movedFile, .treeDirectory, .upperDirectory: return false
            }
        }
        var held = told.filter(isHeld)
        while !held.isEmpty, !deadline.hasPassed {
            // FORGET comes by the threads that answer requests, which tell nobody here.
            usleep(500)
            held = held.filter(isHeld)
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
        _ node: OverlayNode, _ status: stat, _ name: [UInt8], in parent: Directory, _ run: inout Run,
        _ known: inout Known, _ reset: inout Reset
    ) throws(Errno) -> Bool {
        guard let folder = parent.folder else { return false }
        // What has the number of the file that shows then.
        let numbered = naturalEntry(name, in: parent).flatMap { nodes.node(Node(entry: tree.inode(of: $0)).number) }
        let vacated = numbered.flatMap { node in if case .upperFile = node.now { node } else { nil } }
        if let vacated {
            if isOpen(vacated) {
                reset.open.append(folder.path.appending(name))
                return false
            }
            guard isLeft(vacated, &run, &known), vacated !== node else { return false }
            nodes.drop(vacated)
            if isOpen(vacated) {
                nodes.stay(vacated)
                reset.open.append(folder.path.appending(name))
                return false
            }
        }
        let found = Found.upper(node, status)
        let place = Place(folder: folder, name: name)
        let anchor = leave(found, place)
        do throws(Errno) {
            try keepingTimes(of: folder) { () throws(Errno) in
                try upper.remove(name, in: folder, isOnDisk: true, isDirectory: false, mark: nil)
            }
        } catch {
            if let vacated { nodes.stay(vacated) }
            throw error
        }
        left(found, place, anchor)
        if let vacated { run.leaving[vacated.number] = nil }
        if let numbered {
            switch numbered.now {
            case .movedFile(nil), .removedDirectory: nodes.drop(numbered)
            case .movedFile, .upperFile, .treeDirectory, .upperDirectory: break
            }
            run.stale.nodes.insert(Node(number: numbered.number))
        }
        return true
    }
}

extension OverlayNode {
    /// nil for what has no number of the tree's.
    fileprivate func entry(of tree: Tree) -> Tree.Index? { Node(number: number).entry(count: tree.count) }
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
