/// Columns for people: as wide as their widest cell, two spaces between them.
struct Table {
    enum Alignment { case left, right }

    private let alignments: [Alignment]
    private var rows: [[(text: String, width: Int)]] = []

    init(_ alignments: [Alignment]) { self.alignments = alignments }

    mutating func add(_ cells: String...) { rows.append(cells.map { ($0, $0.count) }) }

    var text: String {
        var widths = Array(repeating: 0, count: alignments.count)
        for row in rows { for (column, cell) in row.enumerated() { widths[column] = max(widths[column], cell.width) } }
        var text = ""
        for row in rows {
            if !text.isEmpty { text += "\n" }
            for (column, cell) in row.enumerated() {
                let padding = widths[column] - cell.width
                if column > 0 { text += "  " }
                if alignments[column] == .right { for _ in 0..<padding { text += " " } }
                text += cell.text
                if alignments[column] == .left, column < row.count - 1 { for _ in 0..<padding { text += " " } }
            }
        }
        return text
    }
}
