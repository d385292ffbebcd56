/// The environment variables that the user of a mount had: where credentials, endpoints and proxies are looked up.
/// A value, so that the daemon can serve users with different ones, and tests need no process environment.
package struct Environment: Sendable {
    package var variables: [String: String]

    package init(_ variables: [String: String]) { self.variables = variables }

    /// nil for a variable that is unset or empty.
    package subscript(name: String) -> String? {
        guard let value = variables[name], !value.isEmpty else { return nil }
        return value
    }

    package var home: String { self["HOME"] ?? "/root" }
}
