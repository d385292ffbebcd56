internal import MCFSCore

extension MCFSError.Code {
    /// The exit code of a command that ends with this error (docs/cli.md#exit-codes).
    var exitCode: Int32 {
        switch self {
        case .usage: 64
        case .configuration: 78
        case .notFound: 66
        case .unauthorized: 77
        case .originUnavailable: 69
        // What was resolved is not to be had any more.
        case .changed: 69
        case .corrupt: 65
        case .noSpace: 74
        case .localIO: 74
        case .cannotCreate: 73
        // A mountpoint or cache directory that somebody has taken cannot be made ours.
        case .busy: 73
        case .timedOut: 69
        case .cancelled: 1
        case .unsupported: 1
        case .failed: 1
        }
    }
}
