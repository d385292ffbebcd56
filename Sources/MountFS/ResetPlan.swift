internal import Catalog
internal import MCFSCore
internal import Upper

/// Which marks go when the mount goes back to the tree at a path: those at the path and below, and those without which an
/// entry of the tree would show at two places, or at none.
struct ResetPlan {
    let path: TreePath
    private let tree: Tree
    /// What is remembered of names afterwards.
    private(set) var marks: [TreePath: Mark]
    private(set) var cleared: [TreePath: Mark] = [:]
    /// Where entries of the tree show that were moved, afterwards.
    private var moved: [TreePath: TreePath] = [:]

    init(_ tree: Tree, _ marks: [TreePath: Mark], at path: TreePath) {
        self.tree = tree
        self.path = path
        self.marks = marks
        for (place, mark) in marks {
            if case .redirect(let lower) = mark { moved[lower] = place }
        }
        for place in marks.keys where place.removing(prefix: path) != nil { clear(place) }
        while spread() {}
    }

    private mutating func clear(_ place: TreePath) {
        guard let mark = marks.removeValue(forKey: place) else { return }
        cleared[place] = mark
        if case .redirect(let lower) = mark, moved[lower] == place { moved[lower] = nil }
    }

    /// - Returns: false where everything shows at one place.
    private mutating func spread() -> Bool {
        let before = cleared.count
        if before == 0 { return false }
        // What was remembered below something that was moved spoke of what was moved.
        for place in marks.keys where hasCleared(above: place) { clear(place) }
        // What was moved away from below shows there again.
        for (lower, place) in moved where marks[place] != nil && obstacle(to: lower) == nil { clear(place) }
        for case .redirect(let lower) in cleared.values where moved[lower] == nil {
            while let place = obstacle(to: lower) { clear(place) }
        }
        return cleared.count > before
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
    private func obstacle(to lower: TreePath) -> TreePath? {
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
