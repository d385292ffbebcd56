internal import Foundation

/// The JSON in which container endpoints, instance metadata and credential processes hand over credentials. The names
/// are those of the format.
struct CredentialAnswer: Decodable {
    var Code: String?
    var AccessKeyId: String?
    var SecretAccessKey: String?
    var Token: String?
    var SessionToken: String?
    var Expiration: String?

    init(_ bytes: [UInt8]) throws {
        self = try JSONDecoder().decode(CredentialAnswer.self, from: Data(bytes))
    }
}
