/// What the names of Triton's cache mean: files of an entry, keys. Names are bytes, and case counts.
package enum TritonFile {
    /// Text on the way to the binary, which a hit needs in no version: the entry hits without it once its group record
    /// does not list it.
    package static func isIntermediate(_ name: some BidirectionalCollection<UInt8>) -> Bool {
        intermediates.contains { hasEnding(name, $0) }
    }

    /// What is loaded into the GPU.
    package static func isBinary(_ name: some BidirectionalCollection<UInt8>) -> Bool {
        binaries.contains { hasEnding(name, $0) }
    }

    /// What the kernel was compiled from: its text, with types and constants.
    package static func isSource(_ name: some BidirectionalCollection<UInt8>) -> Bool {
        hasEnding(name, ".source") || hasEnding(name, ".ttir")
    }

    /// NAME of `NAME.cubin`, `NAME.ttir` and the like: beside a `NAME.json` only Triton writes them. nil for all else.
    package static func kernelName(of name: some BidirectionalCollection<UInt8>) -> [UInt8]? {
        (intermediates + binaries).first { hasEnding(name, $0) }.map { Array(name.dropLast($0.utf8.count)) }
    }

    /// `__grp__NAME.json`: the files of an entry. Written last; the entry is complete when it is there.
    package static func isGroup(_ name: some BidirectionalCollection<UInt8>) -> Bool {
        name.starts(with: groupPrefix.utf8) && name.count > groupPrefix.utf8.count + ".json".utf8.count
            && hasEnding(name, ".json")
    }

    /// `NAME.json`: what an entry is and needs, as far as its name can say.
    package static func isMetadata(_ name: some BidirectionalCollection<UInt8>) -> Bool {
        hasEnding(name, ".json") && !name.starts(with: groupPrefix.utf8) && !hasEnding(name, ".autotune.json")
    }

    /// A Python extension for the host: bound to Python and the CPU, and to no GPU.
    package static func isLauncher(_ name: some BidirectionalCollection<UInt8>) -> Bool {
        hasEnding(name, ".so") && launchers.contains { name.starts(with: $0.utf8) }
    }

    /// A write that is under way, or was when its process was killed: `tmp.pid_…` directories since Triton 3.2,
    /// `FILE.tmp.pid_…` before.
    package static func isTemporary(_ name: some BidirectionalCollection<UInt8>) -> Bool {
        name.starts(with: "tmp.pid_".utf8) || fileName(ofTemporary: name) != nil
    }

    /// FILE of `FILE.tmp.pid_…`; nil for all else.
    static func fileName<Name: BidirectionalCollection<UInt8>>(ofTemporary name: Name) -> Name.SubSequence? {
        var rest = name[...]
        while let dot = rest.firstIndex(of: UInt8(ascii: ".")) {
            if rest[dot...].starts(with: ".tmp.pid_".utf8) { return name[..<dot] }
            rest = rest[rest.index(after: dot)...]
        }
        return nil
    }

    static let groupPrefix = "__grp__"

    private static let intermediates = [".ttir", ".ttgir", ".llir", ".source", ".ptx", ".amdgcn", ".glir"]
    private static let binaries = [".cubin", ".hsaco"]
    private static let launchers = ["__triton_launcher", "cuda_utils", "hip_utils"]

    /// Whether `name` is something and then `ending`.
    private static func hasEnding(_ name: some BidirectionalCollection<UInt8>, _ ending: String) -> Bool {
        var position = name.endIndex
        for byte in ending.utf8.reversed() {
            guard position > name.startIndex else { return false }
            position = name.index(before: position)
            guard name[position] == byte else { return false }
        }
        return position > name.startIndex
    }
}
