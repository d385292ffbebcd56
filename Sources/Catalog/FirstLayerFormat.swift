internal import MCFSCore

/// Takes away what version 1 of the layer file may have made wrong.
///
/// It did not say how its layer is coded. That was guessed from how the members were identified, and a table whose making
/// was interrupted made a compressed layer look like a plain tar: the tree then presents compressed bytes as files.
enum FirstLayerFormat {
    /// What is left is right: layer files of a later version, and trees whose sources and contents agree.
    ///
    /// - Returns: what was thrown away, a sentence each.
    static func mend(layers: RecordFolder, trees: RecordFolder) throws(MCFSError) -> [String] {
        var old: [String] = []
        for name in try layers.list() {
            guard let head = try? layers.read(name, countMax: headBytes, isUse: false) else { continue }
            if LayerFile.version(of: head) == 1 { old.append(name) }
        }
        guard !old.isEmpty else { return [] }
        var warnings = [
            "\(old.count) layer tables that do not say how their layers are coded were thrown away; "
                + "a layer is read again when an image of it is mounted that this cache does not know"
        ]
        // Trees first: a daemon that is killed in between does the rest at its next start.
        for name in try trees.list() {
            guard let bytes = try? trees.read(name, isUse: false),
                let tree = try? bytes.withUnsafeBytes({ try Tree.deserialize($0) }), !isTrusted(tree)
            else { continue }
            trees.remove(name)
            let digest = tree.sources.lazy.compactMap { $0["digest"] }.first ?? "unknown"
            warnings.append(
                "the tree of an image with the layer \(digest) took a compressed layer for a plain tar and was thrown "
                    + "away; mount the image again, with its registry at hand")
        }
        for name in old { layers.remove(name) }
        return warnings
    }

    private static let headBytes = 48

    private static func isTrusted(_ tree: Tree) -> Bool {
        let layers = tree.sources.map(Layer.init)
        return tree.columns.contents.allSatisfy { layers[$0.source].mayHold($0) }
    }

    /// A source of a stored tree.
    private struct Layer {
        /// What the tree calls its coding; empty for what is no layer.
        let coding: String
        let mediaType: String
        let size: UInt64

        init(_ source: SourceDescriptor) {
            coding = source["kind"] == "oci-layer" ? source["coding"] ?? "" : ""
            mediaType = source["mediaType"] ?? ""
            size = source["size"].flatMap { OutsideNumber.byteCount($0) } ?? 0
        }

        /// Whether the content can be a file of the layer: those of a plain tar are known by their place and lie in it,
        /// those of a compressed one by their digest.
        func mayHold(_ content: Content) -> Bool {
            if content.size == 0 { return true }
            switch coding {
            case "tar":
                return content.id.kind == .origin && !mediaType.hasSuffix("gzip") && !mediaType.hasSuffix("zstd")
                    && content.offset.addingClamped(content.size) <= size
            case "gzip", "zstd", "compressed": return content.id.kind != .origin
            default: return true
            }
        }
    }
}
