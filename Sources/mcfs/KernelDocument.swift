internal import ControlAPI
internal import Inventory
internal import KernelCaches

/// `mcfs list --json`, as `JSON.document` would write it.
struct KernelDocument {
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
        field("root", roots.first { kernel.lies(in: $0.place) }?.place)
        field("tritonVersion", kernel.tritonVersion)
        field("warpSize", kernel.warpSize)
        add("\n    }")
    }

    private mutating func field(_ key: StaticString, _ value: String?, isFirst: Bool = false) {
        begin(key, isFirst)
        guard let value else { return add("null") }
        let isPlain = !value.utf8.contains { $0 < 0x20 || $0 == UInt8(ascii: "\"") || $0 == UInt8(ascii: "\\") }
        if !isPlain, let quoted = try? JSON.line(value) {
            bytes += quoted
        } else {
            add("\"")
            bytes += value.utf8
            add("\"")
        }
    }

    private mutating func field(_ key: StaticString, _ value: (some BinaryInteger)?) {
        begin(key, false)
        bytes += (value.map { String($0) } ?? "null").utf8
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
