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
    /// `FILE.tmp.pid_…` before. Anything that may be one is: what is not Triton's is told by the two below.
    package static func isTemporary(_ name: some BidirectionalCollection<UInt8>) -> Bool {
        name.starts(with: temporaryPrefix.utf8) || temporary(name) != nil
    }

    /// Whether Triton gives this name to the directories in which it writes: `tmp.pid_<pid>_<uuid>`.
    package static func isTemporaryFolder(_ name: some BidirectionalCollection<UInt8>) -> Bool {
        name.starts(with: temporaryPrefix.utf8) && isWriter(name.dropFirst(temporaryPrefix.utf8.count))
    }

    /// FILE of `FILE.tmp.pid_<pid>_<uuid>`; nil for all else.
    static func fileName<Name: BidirectionalCollection<UInt8>>(ofWriters name: Name) -> Name.SubSequence? {
        guard let (file, writer) = temporary(name), isWriter(writer) else { return nil }
        return file
    }

    /// Of `FILE.tmp.pid_WRITER` both.
    private static func temporary<Name: BidirectionalCollection<UInt8>>(
        _ name: Name
    ) -> (file: Name.SubSequence, writer: Name.SubSequence)? {
        let mark = "." + temporaryPrefix
        var rest = name[...]
        while let dot = rest.firstIndex(of: UInt8(ascii: ".")) {
            if rest[dot...].starts(with: mark.utf8) { return (name[..<dot], rest[dot...].dropFirst(mark.utf8.count)) }
            rest = rest[rest.index(after: dot)...]
        }
        return nil
    }

    /// `<pid>_<uuid>`; up to Triton 2 a number instead of the UUID.
    private static func isWriter(_ text: some BidirectionalCollection<UInt8>) -> Bool {
        let process = text.prefix(while: isDigit)
        let rest = text.dropFirst(process.count)
        return !process.isEmpty && rest.count > 1 && rest.first == UInt8(ascii: "_")
            && rest.dropFirst().allSatisfy { isHexDigit($0) || $0 == UInt8(ascii: "-") }
    }

    private static let temporaryPrefix = "tmp.pid_"
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
