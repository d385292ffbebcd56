internal import GPUCompat

/// How descriptions are kept: a mount reads thousands of them before it is there. Fields follow each other without names,
/// then a checksum.
extension KernelDescription {
    /// What `init(record:)` reads.
    package var record: [UInt8] {
        var writer = RecordWriter()
        for text in [name, hash, backend, tritonVersion, problem] { writer.write(text) }
        writer.write(numWarps)
        writer.write(numStages)
        for targets in [targets, narrowestTarget.map { [$0] } ?? []] {
            writer.write(targets.count)
            for target in targets { writer.write(target) }
        }
        return Self.sealed(writer.bytes)
    }

    /// With the checksum behind them.
    static func sealed(_ fields: [UInt8]) -> [UInt8] {
        var writer = RecordWriter(bytes: fields)
        writer.write(word: checksum(of: fields[...]))
        return writer.bytes
    }

    /// nil for anything but a whole record.
    package init?(record: [UInt8]) {
        do throws(Unreadable) {
            var reader = try RecordReader(record)
            try read(from: &reader)
            guard reader.isAtEnd else { return nil }
        } catch { return nil }
    }

    private mutating func read(from reader: inout RecordReader) throws(Unreadable) {
        name = try reader.text()
        hash = try reader.text()
        backend = try reader.text()
        tritonVersion = try reader.text()
        problem = try reader.text()
        numWarps = try reader.number()
        numStages = try reader.number()
        targets = try reader.targets()
        narrowestTarget = try reader.targets().first
    }
}

/// FNV-1a, 64 bits: it is there for damage, not for those who forge it.
private func checksum(of bytes: ArraySlice<UInt8>) -> UInt64 {
    var hash: UInt64 = 0xcbf2_9ce4_8422_2325
    for byte in bytes { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01b3 }
    return hash
}

/// Most numbers take one byte: these values of it say that there is none, or that 8 bytes follow.
private enum NumberMark {
    static let none: UInt8 = 0xff
    static let long: UInt8 = 0xfe
}

private struct RecordWriter {
    var bytes: [UInt8] = []

    mutating func write(_ number: Int?) {
        guard let number else { return bytes.append(NumberMark.none) }
        if 0..<Int(NumberMark.long) ~= number { return bytes.append(UInt8(number)) }
        bytes.append(NumberMark.long)
        write(word: UInt64(bitPattern: Int64(number)))
    }

    mutating func write(word: UInt64) { withUnsafeBytes(of: word.littleEndian) { bytes += $0 } }

    mutating func write(_ text: String?) {
        write(text?.utf8.count)
        if let text { bytes += text.utf8 }
    }

    mutating func write(_ target: KernelTarget) {
        switch target.architecture {
        case .cuda(let architecture):
            write(0)
            write(architecture.number)
            write(architecture.suffix.rawValue)
        case .gfx(let architecture):
            write(1)
            write(architecture.processor)
            write(architecture.xnack.map { $0 ? 1 : 0 })
            write(architecture.sramecc.map { $0 ? 1 : 0 })
        }
        switch target.form {
        case .tritonEntry: write(0)
        case .cubin: write(1)
        case .ptx(let isa):
            write(2)
            write(isa.major)
            write(isa.minor)
        case .codeObject(let genericVersion):
            write(3)
            write(genericVersion)
        }
        write(target.warpSize)
    }
}

private struct Unreadable: Error {}

private struct RecordReader {
    private static let checksumBytes = 8
    private let bytes: [UInt8]
    private var position = 0
    /// Of the fields.
    private var end: Int

    init(_ record: [UInt8]) throws(Unreadable) {
        bytes = record
        end = record.count
        guard end >= Self.checksumBytes else { throw Unreadable() }
        position = end - Self.checksumBytes
        let sum = try word()
        end -= Self.checksumBytes
        position = 0
        guard sum == checksum(of: record[..<end]) else { throw Unreadable() }
    }

    var isAtEnd: Bool { position == end }

    mutating func number() throws(Unreadable) -> Int? {
        switch bytes[try take(1).lowerBound] {
        case NumberMark.long: Int(Int64(bitPattern: try word()))
        case NumberMark.none: nil
        case let small: Int(small)
        }
    }

    private mutating func word() throws(Unreadable) -> UInt64 {
        bytes[try take(8)].reversed().reduce(0) { $0 << 8 | UInt64($1) }
    }

    mutating func text() throws(Unreadable) -> String? {
        guard let count = try number() else { return nil }
        return String(decoding: bytes[try take(count)], as: UTF8.self)
    }

    mutating func targets() throws(Unreadable) -> [KernelTarget] {
        var targets: [KernelTarget] = []
        // A target takes a byte at least.
        guard let count = try number(), 0...(end - position) ~= count else { throw Unreadable() }
        for _ in 0..<count { targets.append(try target()) }
        return targets
    }

    private mutating func target() throws(Unreadable) -> KernelTarget {
        let architecture: Architecture
        switch try number() {
        case 0:
            let number = try some(try number())
            let suffix = try some(CUDAArchitecture.Suffix(rawValue: try some(try text())))
            architecture = .cuda(CUDAArchitecture(number: number, suffix: suffix))
        case 1:
            architecture = .gfx(
                GFXArchitecture(
                    processor: try some(try text()), xnack: try number().map { $0 == 1 },
                    sramecc: try number().map { $0 == 1 }))
        default: throw Unreadable()
        }
        let form: KernelTarget.Form
        switch try number() {
        case 0: form = .tritonEntry
        case 1: form = .cubin
        case 2: form = .ptx(isa: PTXVersion(major: try some(try number()), minor: try some(try number())))
        case 3: form = .codeObject(genericVersion: try number())
        default: throw Unreadable()
        }
        return KernelTarget(architecture: architecture, form: form, warpSize: try number())
    }

    private mutating func take(_ count: Int) throws(Unreadable) -> Range<Int> {
        guard 0...(end - position) ~= count else { throw Unreadable() }
        defer { position += count }
        return position..<position + count
    }

    private func some<Value>(_ value: Value?) throws(Unreadable) -> Value {
        guard let value else { throw Unreadable() }
        return value
    }
}
