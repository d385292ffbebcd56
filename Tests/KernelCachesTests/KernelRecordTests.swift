import GPUCompat
import MCFSTestSupport
import Testing

@testable import KernelCaches

@Suite("How descriptions are kept")
struct KernelRecordTests {
    /// Each field alone with what it can hold at its ends, and all of them.
    static let cases: [KernelDescription] = {
        let none = KernelDescription(.vllm, directoryName: [], metadata: nil)
        func with(_ change: (inout KernelDescription) -> Void) -> KernelDescription {
            var description = none
            description.hash = nil
            change(&description)
            return description
        }
        let texts: [WritableKeyPath<KernelDescription, String?>] = [
            \.name, \.hash, \.backend, \.tritonVersion, \.problem,
        ]
        let values = [
            "", "\0", "\u{0}a\u{0}", "\"\\/\n\u{7f}", "\u{e9}", "e\u{301}", "\u{ffff}", "\u{fffd}", "\u{10ffff}",
            "漢字", String(repeating: "x", count: 253), String(repeating: "x", count: 254),
            String(repeating: "x", count: 255), String(repeating: "\u{10000}", count: 255),
        ]
        let numbers = [0, 1, 4, 253, 254, 255, 256, 65_536, -1, .min, .max]
        let architectures: [Architecture] =
            CUDAArchitecture.Suffix.allCases.map { .cuda(CUDAArchitecture(number: 100, suffix: $0)) }
            + [nil, false, true].map { .gfx(GFXArchitecture(processor: "gfx90a", xnack: $0, sramecc: nil)) }
            + [nil, false, true].map { .gfx(GFXArchitecture(processor: "gfx9-4-generic", xnack: true, sramecc: $0)) }
        let forms: [KernelTarget.Form] = [
            .tritonEntry, .cubin, .ptx(isa: PTXVersion(major: 8, minor: 4)), .codeObject(genericVersion: nil),
            .codeObject(genericVersion: 1),
        ]
        let targets = architectures.flatMap { architecture in
            forms.map { KernelTarget(architecture: architecture, form: $0, warpSize: $0 == .cubin ? nil : 64) }
        }
        var cases = [with { _ in }]
        cases += texts.flatMap { field in values.map { value in with { $0[keyPath: field] = value } } }
        cases += numbers.flatMap { number in [with { $0.numWarps = number }, with { $0.numStages = number }] }
        cases += targets.flatMap { target in [with { $0.targets = [target] }, with { $0.narrowestTarget = target }] }
        cases.append(with { $0.targets = targets })
        cases.append(
            with { description in
                for (field, value) in zip(texts, values.reversed()) { description[keyPath: field] = value }
                description.numWarps = 8
                description.numStages = -3
                description.targets = targets
                description.narrowestTarget = targets.last
            })
        return cases
    }()

    @Test("what is kept reads back byte for byte", arguments: cases)
    func roundTrip(_ description: KernelDescription) {
        let read = KernelDescription(record: description.record)
        #expect(read == description)
        // Texts are equal to Swift where their bytes are not.
        #expect(read?.record == description.record)
    }

    @Test("descriptions that differ, if only in the bytes of a text, are kept differently")
    func distinct() {
        #expect(Set(Self.cases.map(\.record)).count == Self.cases.count)
    }

    @Test("a record that is cut, longer or has any byte changed is none")
    func damaged() throws {
        for record in [try #require(Self.cases.first).record, KernelDescriptionTests.triton(Self.metadata).record] {
            #expect(KernelDescription(record: record) != nil)
            #expect(KernelDescription(record: record + [0]) == nil)
            for position in record.indices {
                #expect(KernelDescription(record: Array(record[..<position])) == nil, "\(position) bytes")
                for value in UInt8.min...UInt8.max where value != record[position] {
                    var changed = record
                    changed[position] = value
                    if KernelDescription(record: changed) != nil { Issue.record("byte \(position) as \(value)") }
                }
            }
        }
    }

    @Test(
        "fields that are none, with a checksum that is right, are none",
        arguments: [
            ([], "nothing"), ([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0], "something behind them"),
            ([1], "a text that is cut"), ([0xfe, 0, 0, 0, 0], "a length that is cut"),
            ([0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], "a negative length"),
            ([0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f], "the greatest length"),
            ([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0], "no number of targets"),
            ([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 9, 0], "fewer targets than it says"),
            ([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 2, 90, 0, 0, 0xff, 0], "an architecture of no kind"),
            (
                [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 0, 0xff, 0, 0, 0xff, 0],
                "an architecture without a number"
            ),
            ([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 0, 90, 1, 0x62, 0, 0xff, 0], "a suffix that is none"),
            ([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 0, 90, 0, 4, 0xff, 0], "a form of no kind"),
            ([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 0, 90, 0, 2, 8, 0xff, 0xff, 0], "a PTX without a version"),
        ] as [([UInt8], String)])
    func noFields(_ fields: [UInt8], _ what: String) {
        #expect(KernelDescription(record: KernelDescription.sealed(fields)) == nil, "\(what)")
    }

    @Test("random fields with a checksum that is right read as something that reads the same, or not at all")
    func random() throws {
        let seed = UInt64.random(in: 0...UInt64.max)
        var random = SeededGenerator(seed: seed)
        let gpus = try [VerdictTests.gpu("sm_90"), VerdictTests.gpu("gfx90a:sramecc+:xnack-")]
        var read = 0
        for round in 0..<50_000 {
            var fields = Self.cases[Int.random(in: 0..<Self.cases.count, using: &random)].record.dropLast(8).map(\.self)
            for _ in 0..<Int.random(in: 1...4, using: &random) {
                let position = Int.random(in: 0..<max(1, fields.count), using: &random)
                switch Int.random(in: 0..<3, using: &random) {
                case 0: fields.removeSubrange(min(position, fields.count)...)
                case 1: fields.insert(UInt8.random(in: 0...255, using: &random), at: min(position, fields.count))
                default: if !fields.isEmpty { fields[position] = UInt8.random(in: 0...255, using: &random) }
                }
            }
            guard let description = KernelDescription(record: KernelDescription.sealed(fields)) else { continue }
            read += 1
            let again = KernelDescription(record: description.record)
            #expect(again?.record == description.record, "seed \(seed), round \(round)")
            for target in description.targets { _ = target.verdict(on: gpus) }
        }
        #expect(read > 1000)
    }

    private static let metadata =
        #"{"hash": "\#(KernelSurveyTests.key)", "name": "k", "num_warps": 4, "triton_version": "3.4.0", "target": {"backend": "cuda", "arch": 90, "warp_size": 32}}"#
}
