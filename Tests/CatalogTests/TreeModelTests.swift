import Catalog
import MCFSCore
import Testing

/// What a tree is, said as simply as possible: what stands at each path. `nil` content: a directory.
private struct Model: Equatable {
    var entries: [String: String?] = [:]

    mutating func put(_ path: String, _ content: String?) {
        let parts = path.split(separator: "/")
        for depth in 1..<max(1, parts.count) {
            let parent = parts[..<depth].joined(separator: "/")
            if let there = entries[parent], there == nil { continue }
            entries[parent] = .some(nil)
        }
        if content != nil { removeBelow(path) }
        entries[path] = .some(content)
    }

    mutating func remove(_ path: String) {
        // Only below directories, which every proper prefix is.
        entries[path] = nil
        removeBelow(path)
    }

    mutating func removeBelow(_ path: String) {
        for other in entries.keys where other.hasPrefix(path + "/") { entries[other] = nil }
    }

    /// With the rules of layers: whiteouts, then opaque directories, then all else.
    mutating func apply(_ layer: [TreeEntry]) {
        let below = entries
        for entry in layer where entry.kind == .whiteout { remove(entry.path.description) }
        for entry in layer where entry.kind == .opaque {
            put(entry.path.description, nil)
            removeBelow(entry.path.description)
        }
        for entry in layer {
            switch entry.kind {
            case .directory: put(entry.path.description, nil)
            case .file(let content): put(entry.path.description, content.id.description)
            default: continue
            }
        }
        for entry in layer {
            guard case .hardLink(let target) = entry.kind else { continue }
            put(entry.path.description, (entries[target.description] ?? nil) ?? (below[target.description] ?? nil))
        }
    }

    mutating func merge(_ other: Model, at directory: String) {
        let prefix = directory.isEmpty ? "" : directory + "/"
        if !directory.isEmpty { put(directory, nil) }
        for (path, content) in other.entries.sorted(by: { $0.key < $1.key }) { put(prefix + path, content) }
    }
}

extension Model {
    fileprivate init(_ tree: Tree) {
        for entry in 1..<Tree.Index(tree.count) {
            let path = tree.path(of: entry).description
            entries[path] = .some(tree.content(of: entry)?.id.description)
        }
    }
}

@Suite struct TreeModelTests {
    private static let paths = ["a", "b", "a/a", "a/b", "b/a", "b/b", "a/a/a", "a/a/b", "b/b/a", "b/b/b", "c"]

    /// A layer without two entries at one path, nor a path through its own file.
    private func randomLayer(_ generator: inout SeededGenerator, below: Model, isMerged: Bool) -> [TreeEntry] {
        var taken: [String: Bool] = [:]
        var layer: [TreeEntry] = []
        for _ in 0..<Int.random(in: 0...6, using: &generator) {
            guard let name = Self.paths.randomElement(using: &generator) else { continue }
            let directories = name.split(separator: "/").indices.dropLast().map { end in
                name.split(separator: "/")[...end].joined(separator: "/")
            }
            let isFree = taken[name] == nil && directories.allSatisfy { taken[$0] != true }
            let hasChildren = taken.keys.contains { $0.hasPrefix(name + "/") }
            switch Int.random(in: 0..<10, using: &generator) {
            case 0 where !isMerged: layer.append(entry(name, .whiteout))
            case 1 where !isMerged:
                guard isFree || taken[name] == false, directories.allSatisfy({ taken[$0] != true }) else { continue }
                for directory in directories { taken[directory] = false }
                taken[name] = false
                layer.append(entry(name, .opaque))
            case 2, 3:
                guard isFree else { continue }
                for directory in directories { taken[directory] = false }
                taken[name] = false
                layer.append(directory(name))
            case 4 where !isMerged:
                let target = below.entries.filter { $0.value != nil && $0.key != name }.keys.sorted()
                    .randomElement(using: &generator)
                guard isFree, !hasChildren, let target, taken[target] == nil else { continue }
                guard !Self.paths.contains(where: { target.hasPrefix($0 + "/") && taken[$0] == true }) else { continue }
                for directory in directories { taken[directory] = false }
                taken[name] = true
                taken[target] = taken[target] ?? true
                layer.append(link(name, to: target))
            default:
                guard isFree, !hasChildren else { continue }
                for directory in directories { taken[directory] = false }
                taken[name] = true
                layer.append(file(name, "\(generator.next())"))
            }
        }
        return layer.shuffled(using: &generator)
    }

    @Test("random layers and merges make what a dictionary of paths makes") func againstModel() throws {
        let seed = UInt64.random(in: 0...UInt64.max)
        var generator = SeededGenerator(seed: seed)
        for round in 0..<2000 {
            var builder = TreeBuilder()
            var model = Model()
            var history: [String] = []
            for _ in 0..<Int.random(in: 1...5, using: &generator) {
                if Int.random(in: 0..<4, using: &generator) == 0 {
                    let layer = randomLayer(&generator, below: Model(), isMerged: true)
                    var other = Model()
                    other.apply(layer)
                    let place = ["", "b", "a/a"].randomElement(using: &generator) ?? ""
                    try builder.merge(layered(layer), at: path(place))
                    model.merge(other, at: place)
                    history.append("merge at '\(place)': \(layer.map { "\($0.path) \($0.kind)" })")
                } else {
                    let layer = randomLayer(&generator, below: model, isMerged: false)
                    try builder.apply(layer: layer, sources: oneSource)
                    model.apply(layer)
                    history.append("layer: \(layer.map { "\($0.path) \($0.kind)" })")
                }
            }
            let tree = try builder.build()
            guard Model(tree) == model else {
                Issue.record(
                    "seed \(seed), round \(round): \(tree.paths), expected \(model.entries.keys.sorted()); \(history)")
                return
            }
            let copy = try tree.serialized().withUnsafeBytes { try Tree.deserialize($0) }
            guard copy.presented == tree.presented, copy.sources == tree.sources else {
                Issue.record("seed \(seed), round \(round): the tree read back is another")
                return
            }
        }
    }
}
