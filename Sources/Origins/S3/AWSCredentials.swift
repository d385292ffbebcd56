internal import MCFSCore
internal import Transport

/// A credential and where it came from. Its description shows neither secret nor token.
struct AWSCredentials: Sendable, CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
    var key: AWSSigner.Key
    /// nil: does not expire.
    var expiration: Timestamp?
    /// For messages: `AWS_ACCESS_KEY_ID`, `profile 'x'`.
    var origin: String

    init(key: AWSSigner.Key, expiration: Timestamp? = nil, origin: String) {
        self.key = key
        self.expiration = expiration
        self.origin = origin
    }

    var description: String { "the credential of \(origin)" }
    var debugDescription: String { description }
    var customMirror: Mirror { Mirror(self, children: []) }

    /// From the answer of a container or instance endpoint, or of a `credential_process`.
    ///
    /// Formats: `AccessKeyId`, `SecretAccessKey`, `Token` or `SessionToken`, `Expiration`.
    /// - Throws: `unauthorized` where a part is missing. Nothing of the answer is in the message.
    init(json: [UInt8], origin: String) throws(MCFSError) {
        guard let answer = try? CredentialAnswer(json) else {
            throw MCFSError(
                .unauthorized, "\(origin) gave no usable credential; the answer is not the JSON that it should be")
        }
        if let code = answer.Code, code != "Success" {
            throw MCFSError(.unauthorized, "\(origin) gave no credential: it answered '\(code.prefix(40))'")
        }
        guard let id = answer.AccessKeyId, let secret = answer.SecretAccessKey, !id.isEmpty, !secret.isEmpty else {
            throw MCFSError(
                .unauthorized, "\(origin) gave no usable credential: AccessKeyId or SecretAccessKey is missing")
        }
        self.init(
            key: AWSSigner.Key(
                accessKeyID: id, secretAccessKey: secret, sessionToken: answer.Token ?? answer.SessionToken),
            expiration: answer.Expiration.flatMap { S3Time.timestamp(rfc3339: $0) }, origin: origin)
    }

    /// From the answer of STS.
    init(sts body: [UInt8], origin: String) throws(MCFSError) {
        guard let node = try? XMLNode.parse(body).descendant("Credentials"), let id = node["AccessKeyId"],
            let secret = node["SecretAccessKey"], !id.isEmpty, !secret.isEmpty
        else {
            throw MCFSError(.unauthorized, "\(origin) gave no usable credential: the answer of STS has none")
        }
        self.init(
            key: AWSSigner.Key(accessKeyID: id, secretAccessKey: secret, sessionToken: node["SessionToken"]),
            expiration: node["Expiration"].flatMap { S3Time.timestamp(rfc3339: $0) }, origin: origin)
    }
}
