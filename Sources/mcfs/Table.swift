/// Columns for people: as wide as their widest cell, two spaces between them.
struct Table {
    enum Alignment { case left, right }

    private let alignments: [Alignment]
    private var rows: [[String]] = []

    init(_ alignments: [Alignment]) { self.alignments = alignments }

    mutating func add(_ cells: String...) { rows.append(cells) }

    var text: String {
        let widths = alignments.indices.map { column in rows.map { $0.count > column ? $0[column].count : 0 }.max() ?? 0
        }
        return rows.map { row in
            var line = ""
            for (column, cell) in row.enumerated() {
                let padding = String(repeating: " ", count: max(0, widths[column] - cell.count))
                let isLast = column == row.count - 1
                line +=
                    (column == 0 ? "" : "  ")
                    + (alignments[column] == .right ? padding + cell : cell + (isLast ? "" : padding))
            }
            return line
        }.joined(separator: "\n")
    }
}
