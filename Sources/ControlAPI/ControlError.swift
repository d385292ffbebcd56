package import MCFSCore

/// An error as it goes over the control socket and as `--json` prints it.
package struct ControlError: Codable, Sendable, Equatable {
    package var code: MCFSError.Code
    package var message: String

    package init(_ error: MCFSError) {
        code = error.code
        message = error.message
    }

    package var error: MCFSError { MCFSError(code, message) }
}

/// `{"error": {"code", "message"}}`.
package struct ErrorDocument: Codable, Sendable {
    package var error: ControlError

    package init(_ error: MCFSError) { self.error = ControlError(error) }
}
