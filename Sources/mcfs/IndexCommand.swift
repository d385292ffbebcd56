internal import ArgumentParser
internal import ControlAPI
internal import GPUCompat
internal import Inventory
internal import KernelCaches
internal import MCFSCore

struct IndexCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "index", abstract: "Enter the kernels of a cache into the inventory that list and prune use.",
        discussion: """
            Triton's, vLLM's, Inductor's, FlashInfer's and DeepGEMM's caches and NIM's engines are recognised, wherever they
            are in the folder. Only metadata is read. Again, only what changed is read; what is gone is forgotten, and
            hits stay. The inventory is $MCFS_INVENTORY, else $XDG_DATA_HOME/mcfs/inventory.db or
            ~/.local/share/mcfs/inventory.db.
            """)

    @OptionGroup var common: CommonOptions

    @Argument(
        help: ArgumentHelp(
            "Folders, mountpoints or references (default: what was indexed before).", valueName: "folder|reference"))
    var places: [String] = []

    func run() throws {
        let output = common.output
        let session = Session(try common.configuration(), output)
        let inventory = try KernelInventory.ofUser(output)
        var reports: [IndexReport] = []
        for place in try places.isEmpty ? inventory.roots().map(\.place) : places {
            let place = try KernelPlace(place)
            let report =
                place.isReference
                ? try inventory.record(try Self.kernels(of: place.text, session), of: place.text)
                : try inventory.index(folder: place.text)
            for warning in report.warnings { output.warn(warning) }
            reports.append(report)
        }
        try inventory.takeHits(from: session)
        try output.result(IndexResult(places: reports), text: reports.map(Self.text).joined(separator: "\n"))
    }

    private static func kernels(of reference: String, _ session: Session) throws(MCFSError) -> [IndexedKernel] {
        let reports: KernelReports = try session.call(
            "POST", "/v1/kernels", SelectionRequest(target: reference, caller: .ofThisProcess, recursive: true))
        return reports.kernels.compactMap { IndexedKernel($0, of: reference) }
    }

    private static func text(_ report: IndexReport) -> String {
        let changes = [(report.added, "new"), (report.changed, "changed"), (report.removed, "gone")]
            .filter { $0.0 > 0 }.map { "\($0.0) \($0.1)" }
        return "\(report.place): \(count(report.kernels, "kernel")), \(ByteSize.text(report.bytes))"
            + (changes.isEmpty ? "" : "; " + changes.joined(separator: ", "))
    }
}

/// `1 kernel`, `2 kernels`; `1 entry`, `2 entries` with that as the plural.
func count(_ number: Int, _ noun: String, plural: String? = nil) -> String {
    "\(number) \(number == 1 ? noun : plural ?? noun + "s")"
}

/// `mcfs index --json`.
private struct IndexResult: Encodable {
    struct Place: Encodable {
        var added: Int
        var bytes: UInt64
        var changed: Int
        var filesRead: Int
        var kernels: Int
        var place: String
        var removed: Int
    }

    var places: [Place]

    init(places: [IndexReport]) {
        self.places = places.map {
            Place(
                added: $0.added, bytes: $0.bytes, changed: $0.changed, filesRead: $0.filesRead, kernels: $0.kernels,
                place: $0.place, removed: $0.removed)
        }
    }
}

extension IndexedKernel {
    /// nil for a kind that this mcfs does not know.
    fileprivate init?(_ report: KernelReport, of reference: String) {
        guard let kind = KernelEntry.Kind(rawValue: report.kind) else { return nil }
        self.init(
            path: Array("\(reference)/\(report.path)".utf8), kind: kind, modified: report.modified, bytes: report.bytes,
            irBytes: report.irBytes)
        hash = report.hash
        name = report.name
        backend = report.backend
        arch = report.target.map { targets in
            targets.split(separator: ",").map { Architecture($0)?.inventoryText ?? String($0) }.joined(separator: ",")
        }
        warpSize = report.warpSize
        tritonVersion = report.tritonVersion
        numWarps = report.numWarps
        numStages = report.numStages
        problem = report.problem
    }
}
