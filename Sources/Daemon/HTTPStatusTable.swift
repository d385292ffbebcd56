internal import FlyingFox
internal import MCFSCore

extension MCFSError.Code {
    /// The status of an answer that is this error.
    var httpStatus: HTTPStatusCode {
        switch self {
        case .usage: .badRequest
        case .configuration: .internalServerError
        case .notFound: .notFound
        // Not 401: the control socket itself asks for no credential.
        case .unauthorized: .forbidden
        case .originUnavailable: .badGateway
        case .changed: .conflict
        case .corrupt: .unprocessableContent
        case .noSpace: HTTPStatusCode(507, phrase: "Insufficient Storage")
        case .localIO: .internalServerError
        case .cannotCreate: .conflict
        case .busy: .conflict
        case .timedOut: .gatewayTimeout
        case .cancelled: .serviceUnavailable
        case .unsupported: .notImplemented
        case .failed: .internalServerError
        }
    }
}
