internal import Glibc
package import MCFSCore

extension MCFSError.Code {
    /// What a reader of the mount sees. Everything that only concerns where bytes come from is EIO: the error of a
    /// disk, which programs report and do not work around.
    package var errno: CInt {
        switch self {
        case .usage: EINVAL
        case .configuration: EIO
        // A node or name that is not there. An origin that lost an object reports `changed` or `originUnavailable`.
        case .notFound: ENOENT
        // Not EACCES: that speaks of the file's mode and of the reader's rights, which are as they were at open(2).
        case .unauthorized: EIO
        case .originUnavailable: EIO
        case .changed: EIO
        case .corrupt: EIO
        // Not ENOSPC: who only reads has no space to make.
        case .noSpace: EIO
        case .localIO: EIO
        case .cannotCreate: EIO
        case .busy: EBUSY
        // Not ETIMEDOUT: it is no answer of read(2) that programs expect.
        case .timedOut: EIO
        // The mount ends under the reader, as the kernel itself answers from then on.
        case .cancelled: ENOTCONN
        case .unsupported: EOPNOTSUPP
        case .failed: EIO
        }
    }
}

/// What a request can fail with.
protocol RequestError: Error {
    /// What its caller sees.
    var errno: CInt { get }
}

extension Errno: RequestError {
    var errno: CInt { rawValue }
}

extension MCFSError: RequestError {
    var errno: CInt { code.errno }
}
