internal import ArgumentParser
internal import ControlAPI
internal import Inventory
internal import KernelCaches
internal import MCFSCore

struct KernelListCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "list", abstract: "List the kernels of the inventory.",
        discussion: """
            As of the last 'mcfs index'; hits as of now where a daemon runs. A kernel is as old as its directory; its size is
            that of all its files.
            """)

    @OptionGroup var common: CommonOptions
    @OptionGroup var options: KernelFilterOptions

    @Argument(
        help: ArgumentHelp("Only what is in this folder, mountpoint or reference.", valueName: "folder|reference"))
    var place: String?

    @Option(help: "name, arch, path, size (largest first), age (youngest first), or hits (most first).")
    var sort: KernelOrder = .name

    func run() throws {
        let output = common.output
        let inventory = try KernelInventory.ofUser(output)
        try inventory.takeHits(from: Session(try common.configuration(), output))
        var filter = options.filter
        filter.place = try place.map { try KernelPlace($0).text }
        let kernels = try inventory.kernels(matching: filter, sortedBy: sort)
        let roots = try inventory.roots()
        if roots.isEmpty { output.warn("nothing was indexed yet; see 'mcfs index --help'") }
        output.result(document: KernelDocument(kernels, roots).bytes, text: Self.table(kernels, now: .now))
    }

    private static func table(_ kernels: [IndexedKernel], now: Timestamp) -> String {
        var table = Table([.left, .left, .left, .left, .right, .right, .right, .left])
        table.add("NAME", "BACKEND", "ARCH", "TRITON", "SIZE", "AGE", "HITS", "PATH")
        var bytes: UInt64 = 0
        for kernel in kernels {
            bytes &+= kernel.bytes
            table.add(
                ListCommand.shown(kernel.name ?? "unknown", isDirectory: false), kernel.backend ?? "-",
                kernel.arch ?? "-", kernel.tritonVersion ?? "-", ByteSize.text(kernel.bytes),
                Age(seconds: now.seconds - kernel.modified).description, "\(kernel.hits)",
                ListCommand.shown(kernel.pathText, isDirectory: false))
        }
        let summary = "\(count(kernels.count, "kernel")), \(ByteSize.text(bytes))"
        return kernels.isEmpty ? summary : table.text + "\n" + summary
    }
}

/// `mcfs list --json`, as `JSON.document` would write it.
private struct KernelDocument {
    private(set) var bytes: [UInt8] = []

    init(_ kernels: [IndexedKernel], _ roots: [KernelInventory.Root]) {
        bytes.reserveCapacity(600 * kernels.count)
        add("{\n  \"kernels\" : [")
        for (number, kernel) in kernels.enumerated() {
            add(number == 0 ? "\n" : ",\n")
            add(kernel, roots)
        }
        add(kernels.isEmpty ? "\n\n  ]\n}\n" : "\n  ]\n}\n")
    }

    private mutating func add(_ kernel: IndexedKernel, _ roots: [KernelInventory.Root]) {
        add("    {")
        field("arch", kernel.arch, isFirst: true)
        field("backend", kernel.backend)
        field("bytes", kernel.bytes)
        field("hash", kernel.hash)
        field("hits", kernel.hits)
        field("irBytes", kernel.irBytes)
        field("kind", kernel.kind.rawValue)
        field("lastHit", kernel.lastHit)
        field("modified", kernel.modified)
        field("name", kernel.name)
        field("numStages", kernel.numStages)
        field("numWarps", kernel.numWarps)
        field("path", kernel.pathText)
        field("problem", kernel.problem)
        field("root", roots.first { kernel.path.starts(with: $0.place.utf8) }?.place)
        field("tritonVersion", kernel.tritonVersion)
        field("warpSize", kernel.warpSize)
        add("\n    }")
    }

    private mutating func field(_ key: StaticString, _ value: String?, isFirst: Bool = false) {
        begin(key, isFirst)
        guard var value else { return add("null") }
        add("\"")
        value.withUTF8 { text in
            for byte in text {
                switch byte {
                case UInt8(ascii: "\""), UInt8(ascii: "\\"): bytes += [UInt8(ascii: "\\"), byte]
                case 0..<0x20:
                    let digits = String(byte, radix: 16)
                    bytes += "\\u00\(digits.count == 1 ? "0" : "")\(digits)".utf8
                default: bytes.append(byte)
                }
            }
        }
        add("\"")
    }

    private mutating func field(_ key: StaticString, _ value: (some BinaryInteger)?) {
        begin(key, false)
        bytes += (value.map { "\($0)" } ?? "null").utf8
    }

    private mutating func begin(_ key: StaticString, _ isFirst: Bool) {
        add(isFirst ? "\n      \"" : ",\n      \"")
        add(key)
        add("\" : ")
    }

    private mutating func add(_ text: StaticString) {
        bytes += UnsafeBufferPointer(start: text.utf8Start, count: text.utf8CodeUnitCount)
    }
}
