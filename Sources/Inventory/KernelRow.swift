internal import FoundationEssentials
internal import GRDB
internal import KernelCaches

/// A kernel as a row of the database.
enum KernelRow {
    /// In the order in which both functions below have them.
    static let columns = """
        path, kind, hash, name, backend, arch, warpSize, tritonVersion, numWarps, numStages, problem, modified, bytes, \
        irBytes, hits, lastHit
        """

    /// Keeps the hits of a row that is there.
    static let upsert = """
        INSERT INTO kernel (\(columns), file, stamps) VALUES (\(Array(repeating: "?", count: 18).joined(separator: ", ")))
        ON CONFLICT (path) DO UPDATE SET kind = excluded.kind, hash = excluded.hash, name = excluded.name,
            backend = excluded.backend, arch = excluded.arch, warpSize = excluded.warpSize,
            tritonVersion = excluded.tritonVersion, numWarps = excluded.numWarps, numStages = excluded.numStages,
            problem = excluded.problem, modified = excluded.modified, bytes = excluded.bytes, irBytes = excluded.irBytes,
            file = excluded.file, stamps = excluded.stamps
        """

    static func arguments(_ kernel: IndexedKernel, _ known: FolderScan.Known?) -> StatementArguments {
        let values: [(any DatabaseValueConvertible)?] = [
            Data(kernel.path), kernel.kind.rawValue, kernel.hash, kernel.name, kernel.backend, kernel.arch,
            kernel.warpSize, kernel.tritonVersion, kernel.numWarps, kernel.numStages, kernel.problem, kernel.modified,
            Int64(clamping: kernel.bytes), Int64(clamping: kernel.irBytes), Int64(clamping: kernel.hits),
            kernel.lastHit, (known?.file).map { Data($0) }, (known?.stamps).map { Data($0) },
        ]
        return StatementArguments(values)
    }

    /// nil for a kind that is not known.
    static func kernel(_ row: Row) -> IndexedKernel? {
        guard let kind = KernelEntry.Kind(rawValue: row[1]),
            // Without a copy in between: thousands are read at once.
            let path = try? row.withUnsafeData(atIndex: 0, { [UInt8]($0 ?? Data()) })
        else { return nil }
        var kernel = IndexedKernel(
            path: path, kind: kind, modified: row[11], bytes: UInt64(clamping: row[12] as Int64),
            irBytes: UInt64(clamping: row[13] as Int64))
        kernel.hash = row[2]
        kernel.name = row[3]
        kernel.backend = row[4]
        kernel.arch = row[5]
        kernel.warpSize = row[6]
        kernel.tritonVersion = row[7]
        kernel.numWarps = row[8]
        kernel.numStages = row[9]
        kernel.problem = row[10]
        kernel.hits = UInt64(clamping: row[14] as Int64)
        kernel.lastHit = row[15]
        return kernel
    }
}
