internal import ControlAPI
internal import Daemon
internal import Glibc
internal import MCFSCore

extension Environment {
    static var ofThisProcess: Environment {
        var variables: [String: String] = [:]
        var next = environ
        while let entry = next.pointee {
            let text = String(cString: entry)
            if let mark = text.firstIndex(of: "="), mark != text.startIndex {
                variables[String(text[..<mark])] = String(text[text.index(after: mark)...])
            }
            next += 1
        }
        return Environment(variables)
    }

    private static let names: Set<String> = [
        "DOCKER_CONFIG", "HOME", "MCFS_CERTS_DIR", "MCFS_ZSTD_WINDOW_LOG", "PATH", "REGISTRY_AUTH_FILE", "TMPDIR",
        "USER",
    ]
    private static let prefixes = ["AWS_", "HF_", "HUGGING_FACE_", "HUGGINGFACE_", "SSL_CERT_", "XDG_"]
    private static let suffixes = ["_proxy", "_PROXY"]

    /// What origins look at: credentials, endpoints, proxies, and where the user's files are. Nothing else of the user's
    /// environment reaches the daemon.
    var forOrigins: [String: String] {
        variables.filter { name, _ in
            Self.names.contains(name) || Self.prefixes.contains { name.hasPrefix($0) }
                || Self.suffixes.contains { name.hasSuffix($0) }
        }
    }
}

extension Caller {
    static var ofThisProcess: Caller {
        Caller(
            workingDirectory: Configuration.currentDirectory(), environment: Environment.ofThisProcess.forOrigins)
    }
}

/// A REFERENCE or PATH as the daemon gets it: whatever looks like a path is made absolute here, where the user is.
enum Target {
    private static let schemes = ["oci://", "oci-layout:", "s3://", "hf://", "https://", "http://", "file:"]

    static func text(_ argument: String) throws(MCFSError) -> String {
        if argument.isEmpty { throw MCFSError(.usage, "an empty text is no reference and no path") }
        if schemes.contains(where: argument.hasPrefix) || argument.contains("://") || argument.contains("=") {
            return argument
        }
        return UserPath.canonical(argument, relativeTo: Configuration.currentDirectory())
    }
}
