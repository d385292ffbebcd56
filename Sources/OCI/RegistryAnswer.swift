internal import MCFSCore
internal import Transport

/// An answer that is not what was asked for, as a user should hear of it (distribution-spec "Error codes").
struct RegistryAnswer {
    let status: Int
    /// `MANIFEST_UNKNOWN` and the like; nil where the body has none.
    let code: String?
    let retryAfter: Duration?

    private struct Body: Decodable {
        struct Item: Decodable { var code: String? }
        var errors: [Item]?
    }

    init(_ response: HTTPResponse, body: [UInt8]) {
        status = response.status
        let item = (try? decodeJSON(Body.self, body, what: ""))?.errors?.first
        // Shown to users, so nothing but what the specification has.
        code = item?.code.flatMap { code in
            code.count <= 40 && code.allSatisfy { $0.isASCII && ($0.isUppercase || $0 == "_") } ? code : nil
        }
        retryAfter = response.retryAfter
    }

    private var shown: String { "HTTP \(status)" + (code.map { " (\($0))" } ?? "") }

    /// The error for an answer to `what`, "cannot …": a manifest or blob of `image`.
    func failure(_ what: String, of image: ImageReference, missing: String, notes: [String]) -> MCFSError {
        let hint = notes.isEmpty ? "" : " (\(notes.joined(separator: "; ")))"
        switch status {
        case 401:
            return MCFSError(
                .unauthorized,
                "\(what): \(shown); the repository is private or does not exist: add credentials with 'docker login \(image.host)' (~/.docker/config.json)\(hint)"
            )
        case 403:
            return MCFSError(
                .unauthorized,
                "\(what): \(shown); the credentials for \(image.host) may not pull from \(image.repository), ask its owner for access\(hint)"
            )
        case 404 where code == "NAME_UNKNOWN":
            return MCFSError(.notFound, "\(what): \(shown); \(image.host) has no repository '\(image.repository)'")
        case 404:
            return MCFSError(.notFound, "\(what): \(shown); \(image.name) has no \(missing)")
        default:
            return failure("\(what): \(shown)")
        }
    }

    /// The error for an answer that has nothing to do with names and credentials.
    func failure(_ what: String) -> MCFSError {
        switch status {
        case 429:
            return MCFSError(
                .originUnavailable, "\(what); too many requests, log in for a higher limit or wait", isTransient: true,
                retryAfter: retryAfter)
        case 408, 425, 500...599:
            return MCFSError(
                .originUnavailable, "\(what); the server cannot answer now", isTransient: true, retryAfter: retryAfter)
        default:
            return MCFSError(.originUnavailable, "\(what); the server does not answer as a registry does")
        }
    }
}
