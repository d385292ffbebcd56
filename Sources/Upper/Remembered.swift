internal import MCFSCore
internal import Synchronization

/// What the records of the log add up to: the folders with their marks, and what was changed of files of the tree.
/// A mount that replays its log and one that writes it change it by the same calls.
///
/// Thread safe; changed under `ChangeLog.alone`, or, where nothing is remembered of what moves, under the folders' `names`.
final class Remembered: Sendable {
    let root = UpperFolder()
    private let lower = Lock<[TreePath: LowerMetadata]>([:])

    /// Of files of the tree that have their bytes from there.
    var metadata: [TreePath: LowerMetadata] { lower.withLock { $0 } }

    var isEmpty: Bool { lower.withLock { $0.isEmpty } && !root.hasMarks }

    func apply(_ record: ChangeRecord) {
        switch record {
        case .whiteout(let path): _ = take(path.name, from: root.folder(at: path.parent), leaving: .whiteout)
        case .clear(let path): _ = take(path.name, from: root.folder(at: path.parent), leaving: nil)
        case .redirect(let path, let lower): root.folder(at: path.parent).setMark(.redirect(lower), path.name)
        case .metadata(let path, let value): setMetadata(value, path)
        case .rename(let rename):
            _ = move(
                (rename.from.name, root.folder(at: rename.from.parent), rename.fromMark),
                (rename.to.name, root.folder(at: rename.to.parent), rename.toMark), isExchange: rename.isExchange)
        case .done: break
        }
    }

    /// What stood at a name is gone. - Returns: the folder that was there.
    func take(_ name: [UInt8], from folder: UpperFolder, leaving mark: Mark?) -> UpperFolder? {
        folder.setMark(mark, name)
        return folder.detach(name)
    }

    typealias End = (name: [UInt8], folder: UpperFolder, mark: Mark?)

    /// What stood at `from` is at `to`, or both have changed places; the marks are those that are right then.
    /// - Returns: the folder that was replaced.
    func move(_ from: End, _ to: End, isExchange: Bool) -> UpperFolder? {
        from.folder.setMark(from.mark, from.name)
        to.folder.setMark(to.mark, to.name)
        let moved = from.folder.detach(from.name)
        let replaced = to.folder.detach(to.name)
        to.folder.attach(moved, to.name)
        guard isExchange else { return replaced }
        from.folder.attach(replaced, from.name)
        return nil
    }

    /// An empty value forgets what was remembered.
    func setMetadata(_ value: LowerMetadata, _ path: TreePath) {
        lower.withLock { $0[path] = value == LowerMetadata() ? nil : value }
    }

    /// What was moved shows at its new place alone, also where a damaged log has lost what hides it at the old one.
    func hideWhatMoved() {
        var moved: [TreePath: TreePath] = [:]
        root.forEachMark { place, mark in
            if case .redirect(let lower) = mark { moved[lower] = place }
        }
        for lower in moved.keys where !lower.isRoot {
            var place = TreePath.root
            var above = TreePath.root
            var isHidden = false
            for (depth, name) in lower.components.enumerated() {
                above = above.appending(name)
                let isLast = depth + 1 == lower.components.count
                if !isLast, let other = moved[above] {
                    place = other
                    isHidden = false
                    continue
                }
                place = place.appending(name)
                if case .redirect(above) = root.folder(at: place.parent).mark(name) { continue }
                if root.folder(at: place.parent).mark(name) != nil { isHidden = true }
            }
            if !isHidden, moved[lower] != place { root.folder(at: place.parent).setMark(.whiteout, place.name) }
        }
    }

    /// The shortest log that says the same.
    var records: [ChangeRecord] {
        var records: [ChangeRecord] = []
        root.forEachMark { path, mark in
            switch mark {
            case .whiteout: records.append(.whiteout(path))
            case .redirect(let lower): records.append(.redirect(path, to: lower))
            }
        }
        return records + metadata.map { .metadata($0.key, $0.value) }
    }
}
