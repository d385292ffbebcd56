internal import Catalog

extension KernelSurvey {
    /// Entries that someone may have meant who asked for one that is not there: of the same key in another version's
    /// encoding, then those whose directory or kernel begins with the name, then those whose kernel contains it. Letters
    /// compare without case.
    ///
    /// - Parameters:
    ///   - descriptions: of each entry, as far as they are known.
    ///   - limit: the most that are told.
    package func entries(
        near name: [UInt8], _ descriptions: [KernelDescription?], limit: Int = 5
    ) -> [Int] {
        precondition(descriptions.count == entries.count, "there is a description, or nil, for each entry")
        guard !name.isEmpty else { return [] }
        let hash = TritonFile.hash(ofKey: name)
        let wanted = String(decoding: name, as: UTF8.self).lowercased()
        var found: [[Int]] = [[], [], []]
        for (position, entry) in entries.enumerated() {
            let directory = tree.withName(of: entry.directory) { Array($0) }
            let kernel = descriptions[position]?.name?.lowercased() ?? ""
            if hash != nil, hash == TritonFile.hash(ofKey: directory) {
                found[0].append(position)
            } else if kernel.hasPrefix(wanted)
                || String(decoding: directory, as: UTF8.self).lowercased().hasPrefix(wanted)
            {
                found[1].append(position)
            } else if kernel.contains(wanted) {
                found[2].append(position)
            }
        }
        return Array(found.joined().prefix(limit))
    }
}
