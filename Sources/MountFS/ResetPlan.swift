internal import Catalog
internal import MCFSCore
internal import Upper

/// Which marks go when the mount goes back to the tree at a path: those at the path and below, and those without which an
/// entry of the tree would show at two places, or at none.
///
/// A mark that goes may let others go: those below it, those of entries that it kept from their places, and those that keep
/// what it moved from its own. Each is looked for when that happens, so the time is that of the marks, not of their square.
struct ResetPlan {
    let path: TreePath
    /// What is remembered of names afterwards.
    private(set) var marks: [TreePath: Mark]
    private(set) var cleared: [TreePath: Mark] = [:]
    /// Where entries of the tree show that were moved, afterwards.
    private var moved: [TreePath: TreePath] = [:]

    /// Entries that were moved, by the mark that keeps them from where the tree has them.
    private var kept: [TreePath: [TreePath]] = [:]
    /// Entries that are to be looked at, because something on the way to where the tree has them changed.
    private var pending: [TreePath] = []
    private var marksBelow: PathIndex
    private let movedBelow: PathIndex
    /// How often it was looked what keeps an entry from its place.
    private(set) var looks = 0

    init(_ marks: [TreePath: Mark], at path: TreePath) {
        self.path = path
        self.marks = marks
        for (place, mark) in marks {
            if case .redirect(let lower) = mark { moved[lower] = place }
        }
        marksBelow = PathIndex(marks.keys)
        movedBelow = PathIndex(moved.keys)
        clear(marksBelow.take(at: path))
        if cleared.isEmpty { return }
        pending += moved.keys
        while let lower = pending.popLast() { settle(lower) }
    }

    private mutating func clear(_ places: [TreePath]) {
        for place in places {
            guard let mark = marks.removeValue(forKey: place) else { continue }
            cleared[place] = mark
            pending += kept.removeValue(forKey: place) ?? []
            guard case .redirect(let lower) = mark, moved[lower] == place else { continue }
            moved[lower] = nil
            pending.append(lower)
            // They are where it is again.
            pending += movedBelow.paths(below: lower)
        }
    }

    /// An entry that was moved, or was before the plan: it shows once.
    private mutating func settle(_ lower: TreePath) {
        while true {
            looks += 1
            let obstacle = obstacle(to: lower)
            if let place = moved[lower] {
                if let obstacle { return kept[obstacle, default: []].append(lower) }
                // It shows again where the tree has it.
                return clear(marksBelow.take(at: place))
            }
            guard let obstacle else { return }
            // What was remembered below something that was moved spoke of what was moved.
            clear(marksBelow.take(at: obstacle))
        }
    }

    /// Whether the mark of the place or of one above it goes.
    func hasCleared(above place: TreePath) -> Bool {
        var place = place
        while true {
            if cleared[place] != nil { return true }
            if place.isRoot { return false }
            place = place.parent
        }
    }

    /// Where an entry of the tree shows afterwards as far as marks say; nil: nowhere.
    func place(of lower: TreePath) -> TreePath? {
        if let place = moved[lower] { return place }
        return obstacle(to: lower) == nil ? naturalPlace(of: lower) : nil
    }

    /// Where an entry shows unless it was moved or hidden itself.
    func naturalPlace(of lower: TreePath) -> TreePath {
        var place = TreePath.root
        var above = TreePath.root
        for (depth, name) in lower.components.enumerated() {
            above = above.appending(name)
            let isLast = depth + 1 == lower.components.count
            place = (isLast ? nil : moved[above]) ?? place.appending(name)
        }
        return place
    }

    /// The mark that keeps an entry from where the tree has it.
    func obstacle(to lower: TreePath) -> TreePath? {
        var place = TreePath.root
        var above = TreePath.root
        for (depth, name) in lower.components.enumerated() {
            above = above.appending(name)
            if depth + 1 < lower.components.count, let other = moved[above] {
                place = other
                continue
            }
            place = place.appending(name)
            switch marks[place] {
            case nil: continue
            case .redirect(above): continue
            case .whiteout, .redirect: return place
            }
        }
        return nil
    }
}

/// Paths by what is above them.
private struct PathIndex {
    private var children: [TreePath: [TreePath]] = [:]
    private var paths: Set<TreePath>

    init(_ paths: some Sequence<TreePath>) {
        self.paths = Set(paths)
        for path in self.paths {
            var path = path
            while !path.isRoot {
                let parent = path.parent
                let isNew = children[parent] == nil
                children[parent, default: []].append(path)
                // Who was above is known, and so are those above them.
                if !isNew || self.paths.contains(parent) { break }
                path = parent
            }
        }
    }

    func paths(below path: TreePath) -> [TreePath] { nodes(below: path).filter(paths.contains) }

    /// Takes the paths out that are at a path or below.
    mutating func take(at path: TreePath) -> [TreePath] {
        let taken = nodes(below: path) + [path]
        for node in taken { children[node] = nil }
        return taken.filter { paths.remove($0) != nil }
    }

    private func nodes(below path: TreePath) -> [TreePath] {
        var found: [TreePath] = []
        var pending = [path]
        while let next = pending.popLast() {
            let below = children[next] ?? []
            found += below
            pending += below
        }
        return found
    }
}
