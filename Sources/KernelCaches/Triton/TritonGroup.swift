/// A `__grp__NAME.json`: which files make up an entry of Triton's cache.
///
/// Since Triton 3.0 it holds absolute paths, which are used as they are: an entry that lies elsewhere than it was made
/// hits only when they are rewritten. Before, and from Triton's remote caches, it holds names.
package struct TritonGroup: Hashable, Sendable {
    package struct Child: Hashable, Sendable {
        package var name: String
        /// Where the file is; of a relocatable group its name again.
        package var path: String
    }

    /// In the order of the file.
    package let childPaths: [Child]
    /// Holds names only, so it is right wherever it lies.
    package let isRelocatable: Bool

    private init(childPaths: [Child], isRelocatable: Bool) {
        self.childPaths = childPaths
        self.isRelocatable = isRelocatable
    }

    /// nil for what Triton would not take as a group, and for what could not be written again as it was: such a file is
    /// shown as it is. At most `KernelDescription.metadataBytesMax` bytes are looked at.
    package init?(_ bytes: [UInt8]) {
        guard bytes.count <= KernelDescription.metadataBytesMax,
            let value = try? JSONValue(bytes), let members = value.members, members.count == 1,
            let children = value["child_paths"]
        else { return nil }
        var childPaths: [Child] = []
        switch children {
        case .array(let elements):
            for element in elements {
                guard let name = element.string else { return nil }
                childPaths.append(Child(name: name, path: name))
            }
            isRelocatable = true
        case .object(let members):
            for member in members {
                guard let path = member.value.string else { return nil }
                childPaths.append(Child(name: member.key, path: path))
            }
            isRelocatable = false
        default: return nil
        }
        self.childPaths = childPaths
    }

    /// The group of the same entry, which now is `directory`: each path keeps its last component only.
    package func rebased(to directory: String) -> TritonGroup {
        guard !isRelocatable else { return self }
        let prefix = directory.hasSuffix("/") ? directory : directory + "/"
        let children = childPaths.map { child in
            let name = child.path.utf8.lastIndex(of: UInt8(ascii: "/")).map { child.path.utf8.index(after: $0) }
            return Child(name: child.name, path: prefix + child.path[(name ?? child.path.startIndex)...])
        }
        return TritonGroup(childPaths: children, isRelocatable: false)
    }

    /// Without the children of those names. What a view does not show must not be listed: Triton 3.8 compiles again
    /// where a listed file is missing.
    package func leavingOut(_ isLeftOut: (Substring) -> Bool) -> TritonGroup {
        TritonGroup(childPaths: childPaths.filter { !isLeftOut($0.name[...]) }, isRelocatable: isRelocatable)
    }

    /// As Python's `json.dumps` writes it, which is how Triton does.
    package func serialized() -> [UInt8] {
        var text: [UInt8] = Array("{\"child_paths\": ".utf8)
        text.append(UInt8(ascii: isRelocatable ? "[" : "{"))
        for (number, child) in childPaths.enumerated() {
            if number > 0 { text += ", ".utf8 }
            appendString(child.name, to: &text)
            if isRelocatable { continue }
            text += ": ".utf8
            appendString(child.path, to: &text)
        }
        text.append(UInt8(ascii: isRelocatable ? "]" : "}"))
        text.append(UInt8(ascii: "}"))
        return text
    }
}

/// In quotes, as JSON has it. All that is not ASCII is escaped.
func appendString(_ string: String, to text: inout [UInt8]) {
    text.append(UInt8(ascii: "\""))
    for unit in string.utf16 {
        switch unit {
        case 0x22, 0x5c: text += [UInt8(ascii: "\\"), UInt8(unit)]
        case 0x08: text += "\\b".utf8
        case 0x09: text += "\\t".utf8
        case 0x0a: text += "\\n".utf8
        case 0x0c: text += "\\f".utf8
        case 0x0d: text += "\\r".utf8
        case 0x20..<0x7f: text.append(UInt8(unit))
        default:
            let digits = String(unit, radix: 16)
            text += "\\u".utf8
            text += repeatElement(UInt8(ascii: "0"), count: 4 - digits.utf8.count)
            text += digits.utf8
        }
    }
    text.append(UInt8(ascii: "\""))
}
