internal import MCFSCore
internal import Transport

/// An answer of an S3 server that is not the one asked for.
struct S3Error: Sendable {
    let status: Int
    /// As the server gave it; empty where the answer has no error document.
    let code: String
    /// Where the bucket is, as far as the answer tells.
    let region: String?
    /// The server's clock: seconds since 1970, from `Date`.
    let date: Int64?
    let location: String?
    let retryAfter: Duration?

    init(_ response: HTTPResponse) {
        status = response.status
        let document = try? XMLNode.parse(response.body)
        let error = document?.descendant("Error")
        code = String((error?["Code"] ?? "").prefix(64)).filter { $0.isLetter || $0.isNumber || $0 == "." || $0 == "_" }
        let region =
            response["x-amz-bucket-region"] ?? error?["Region"] ?? error?["Endpoint"].flatMap(Self.region(ofHost:))
        self.region = region.flatMap { Self.isRegion($0) ? $0 : nil }
        date = response["Date"].flatMap { HTTPDate.parse($0) }
        location = response["Location"]
        retryAfter = response.retryAfter
    }

    /// What a region may be called: it becomes part of a host name.
    static func isRegion(_ text: String) -> Bool {
        !text.isEmpty && text.utf8.count <= 64
            && text.utf8.allSatisfy {
                ($0 >= UInt8(ascii: "a") && $0 <= UInt8(ascii: "z"))
                    || ($0 >= UInt8(ascii: "0") && $0 <= UInt8(ascii: "9"))
                    || $0 == UInt8(ascii: "-")
            }
    }

    /// The region in `BUCKET.s3.REGION.amazonaws.com` and `BUCKET.s3-REGION.amazonaws.com`.
    private static func region(ofHost host: String) -> String? {
        let labels = host.split(separator: ".")
        guard let end = labels.lastIndex(of: "amazonaws"), end > 0 else { return nil }
        let label = labels[end - 1]
        if label.hasPrefix("s3-") { return String(label.dropFirst(3)) }
        return end > 1 && labels[end - 2] == "s3" ? String(label) : nil
    }

    /// Signed for the wrong region; the right one is in `region`.
    var isWrongRegion: Bool {
        switch status {
        case 301, 302, 307, 308: region != nil
        case 400, 403: region != nil && !isCredentialRefused && code != "AccessDenied"
        default: false
        }
    }

    /// The credential has expired or is not known (any more): another one may be.
    var isCredentialRefused: Bool {
        ["ExpiredToken", "ExpiredTokenException", "InvalidAccessKeyId", "InvalidToken", "TokenRefreshRequired"]
            .contains(code)
    }

    /// What servers answer to a request that is not signed and ought to be.
    var isSignatureWanted: Bool {
        status == 401 || status == 403
            || [
                "InvalidSecurity", "MissingAuthenticationToken", "MissingSecurityElement", "MissingSecurityHeader",
                "UnsupportedAlgorithm",
            ].contains(code)
    }

    var isClockSkewed: Bool { code == "RequestTimeTooSkewed" }

    var isTransient: Bool {
        switch status {
        case 429, 500, 502, 503, 504: true
        default:
            [
                "SlowDown", "ServiceUnavailable", "InternalError", "RequestTimeout", "RequestLimitExceeded",
                "BandwidthLimitExceeded", "Throttling", "ThrottlingException", "RequestThrottled",
                "TooManyRequestsException",
            ].contains(code)
        }
    }

    /// The error for the user.
    /// - Parameters:
    ///   - action: `read s3://bucket/key`, `list s3://bucket/prefix`.
    ///   - credential: where the credential came from, or where none was found.
    func error(cannot action: String, bucket: String, credential: String) -> MCFSError {
        let answer = code.isEmpty ? "HTTP \(status)" : "HTTP \(status) \(code)"
        func made(_ error: MCFSError.Code, _ why: String) -> MCFSError {
            MCFSError(error, "cannot \(action): \(answer): \(why)")
        }
        if isTransient {
            return MCFSError(
                .originUnavailable,
                "cannot \(action): \(answer): the server is busy or failing; it is worth trying again",
                isTransient: true, retryAfter: retryAfter)
        }
        switch code {
        case "NoSuchBucket":
            return made(.notFound, "there is no bucket '\(bucket)'; check its name and AWS_ENDPOINT_URL")
        case "NoSuchKey", "NoSuchVersion":
            return made(.notFound, "the object does not exist (any more); mount the reference again")
        case "AccessDenied", "AllAccessDisabled", "AccountProblem":
            return made(
                .unauthorized,
                "\(credential) may not do this in bucket '\(bucket)'; it needs s3:ListBucket and s3:GetObject")
        case "InvalidAccessKeyId":
            return made(.unauthorized, "the server does not know \(credential); check AWS_PROFILE and AWS_ENDPOINT_URL")
        case "SignatureDoesNotMatch":
            return made(.unauthorized, "the secret key of \(credential) is wrong; set it again")
        case "ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired":
            return made(.unauthorized, "\(credential) has expired; sign in again")
        case "InvalidToken":
            return made(.unauthorized, "the session token of \(credential) is not valid here; sign in again")
        case "InvalidObjectState":
            return made(
                .originUnavailable, "the object is archived; restore it (aws s3api restore-object) and mount again")
        case "RequestTimeTooSkewed":
            return made(.unauthorized, "this host's clock is wrong by more than 15 minutes; set it")
        case "PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException",
            "TemporaryRedirect":
            return made(
                .configuration,
                "bucket '\(bucket)' belongs to another region or endpoint; set AWS_REGION or AWS_ENDPOINT_URL")
        case "PreconditionFailed":
            return made(.changed, "the object was replaced since the mount; mount the reference again")
        case "InvalidRange":
            return made(.changed, "the object is shorter than at mount; mount the reference again")
        case "InvalidBucketName":
            return made(.usage, "'\(bucket)' is no valid bucket name")
        case "NotImplemented", "MethodNotAllowed":
            return made(
                .unsupported, "the server does not offer this request; it must speak ListObjectsV2 and GetObject")
        default: break
        }
        if isSignatureWanted {
            return made(
                .unauthorized, "\(credential) is not accepted for bucket '\(bucket)'; check it and its permissions")
        }
        switch status {
        case 301, 302, 303, 307, 308:
            return made(.configuration, "the server redirects; set AWS_REGION or AWS_ENDPOINT_URL to the bucket's own")
        case 404:
            return made(.notFound, "bucket '\(bucket)' or the object does not exist; check both and AWS_ENDPOINT_URL")
        case 412: return made(.changed, "the object was replaced since the mount; mount the reference again")
        case 416: return made(.changed, "the object is shorter than at mount; mount the reference again")
        default:
            return made(
                .originUnavailable, "the server refuses the request; check that AWS_ENDPOINT_URL is an S3 server")
        }
    }
}
