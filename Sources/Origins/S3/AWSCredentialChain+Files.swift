internal import MCFSCore
internal import Transport

/// Places on this host: variables, the shared files, a command.
extension AWSCredentialChain {
    func fromEnvironment() throws(MCFSError) -> AWSCredentials? {
        let id = environment["AWS_ACCESS_KEY_ID"]
        let secret = environment["AWS_SECRET_ACCESS_KEY"]
        if id == nil, secret == nil { return nil }
        guard let id, let secret else {
            throw MCFSError(
                .configuration,
                "of AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY only one is set; set both or none")
        }
        return AWSCredentials(
            key: AWSSigner.Key(
                accessKeyID: id, secretAccessKey: secret, sessionToken: environment["AWS_SESSION_TOKEN"]),
            origin: "AWS_ACCESS_KEY_ID")
    }

    /// The keys of a profile, or what its `credential_process` says; the credentials file comes before the config file.
    func fromFiles(
        of profile: String, in profiles: AWSProfiles, deadline: Deadline
    ) throws(MCFSError) -> AWSCredentials? {
        for section in [profiles.credentials(of: profile), profiles.config(of: profile)] {
            guard let section else { continue }
            if let id = section["aws_access_key_id"] {
                guard let secret = section["aws_secret_access_key"], !secret.isEmpty, !id.isEmpty else {
                    throw MCFSError(
                        .configuration,
                        "profile '\(profile)' has aws_access_key_id and no aws_secret_access_key; add it")
                }
                return AWSCredentials(
                    key: AWSSigner.Key(
                        accessKeyID: id, secretAccessKey: secret, sessionToken: section["aws_session_token"]),
                    origin: "profile '\(profile)'")
            }
            if let command = section["credential_process"], !command.isEmpty {
                let process = try CredentialProcess(command, environment: environment)
                let answer = try process.run(deadline: Deadline(after: .seconds(60)).earlier(deadline))
                return try AWSCredentials(json: answer, origin: "credential_process of profile '\(profile)'")
            }
        }
        return nil
    }
}
