import MCFSCore

/// The error that `body` throws; nil where it throws none.
func failure(_ body: () throws(MCFSError) -> Void) -> MCFSError? {
    do throws(MCFSError) {
        try body()
        return nil
    } catch {
        return error
    }
}
