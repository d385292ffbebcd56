internal import MCFSCore
internal import Transport

/// Why the Hub did not give what was asked for, as one sentence with its remedy.
///
/// The codes are those of `X-Error-Code`; the Hub's own client judges answers by the same ones.
struct HubRefusal {
    /// What was asked for: `resolve hf://org/name`.
    var operation: String
    var repository: HubRepository
    var revision: String
    /// A file or folder in it.
    var path: String?
    /// Of the Hub, without a slash at its end.
    var endpoint: String
    var hasToken: Bool

    func error(_ response: HTTPResponse) -> MCFSError {
        let code = response["X-Error-Code"] ?? ""
        let message = response["X-Error-Message"] ?? ""
        let page = endpoint + repository.path
        switch (response.status, code) {
        case (404, "RevisionNotFound"):
            return failure(
                .notFound,
                "\(repository.description) has no revision '\(revision)'; name a branch, tag or commit after '@'")
        case (404, "EntryNotFound"):
            return failure(.notFound, "there is no '\(path ?? "")' in \(repository.description)@\(revision)")
        case (401, "GatedRepo"), (403, "GatedRepo"):
            return failure(
                .unauthorized,
                "access to it must be granted first; request it at \(page), then set HF_TOKEN to a token of that account"
            )
        case (403, _) where message.hasPrefix("Access to this resource is disabled"):
            return failure(.unauthorized, "the Hub has disabled \(repository.description); see \(page)")
        case (401, _) where message.firstRange(of: "Invalid credentials in Authorization header") != nil:
            return failure(
                .unauthorized, "the Hub does not know the token; set HF_TOKEN to a valid one, or run 'hf auth login'")
        case (401, _), (404, "RepoNotFound"):
            return failure(
                .notFound,
                hasToken
                    ? "there is no such repository, or this token may not see it; check the name and HF_TOKEN"
                    : "there is no such repository, or it is private; check the name, or set HF_TOKEN to a token that may read it"
            )
        case (403, _):
            return failure(
                .unauthorized,
                hasToken
                    ? "the token does not have the scope for it; set HF_TOKEN to one that may read \(repository.description)"
                    : "the Hub answered HTTP 403; set HF_TOKEN to a token that may read \(repository.description)")
        case (404, _):
            return failure(.notFound, "the Hub answered HTTP 404; check the name, the revision and HF_ENDPOINT")
        case (416, _):
            return failure(.changed, "the file is shorter than its listing says; mount the reference again")
        case (429, _):
            return failure(
                .originUnavailable,
                "the Hub limits the rate of requests"
                    + (hasToken ? "; try again later" : "; try again later, or set HF_TOKEN for a higher limit"),
                isTransient: true, retryAfter: response.retryAfter)
        case (408, _), (500..., _):
            return failure(
                .originUnavailable, "the Hub answered HTTP \(response.status); try again later", isTransient: true,
                retryAfter: response.retryAfter)
        default:
            return failure(
                .originUnavailable, "the Hub answered HTTP \(response.status), which is not expected; check HF_ENDPOINT"
            )
        }
    }

    func failure(
        _ code: MCFSError.Code, _ why: String, isTransient: Bool = false, retryAfter: Duration? = nil
    ) -> MCFSError {
        MCFSError(code, "cannot \(operation): \(why)", isTransient: isTransient, retryAfter: retryAfter)
    }
}
