internal import MCFSCore
internal import Transport

/// Roles that STS hands out for a web identity token or for another credential.
///
/// Formats: AssumeRole and AssumeRoleWithWebIdentity of the AWS Security Token Service API reference.
extension AWSCredentialChain {
    func fromWebIdentityVariables(deadline: Deadline) throws(MCFSError) -> AWSCredentials? {
        guard let file = environment["AWS_WEB_IDENTITY_TOKEN_FILE"] else { return nil }
        guard let role = environment["AWS_ROLE_ARN"] else {
            throw MCFSError(
                .configuration, "AWS_WEB_IDENTITY_TOKEN_FILE is set and AWS_ROLE_ARN is not; set it to the role")
        }
        return try assume(
            role, tokenFile: file, session: environment["AWS_ROLE_SESSION_NAME"], origin: "AWS_WEB_IDENTITY_TOKEN_FILE",
            deadline: deadline)
    }

    /// nil where the profile names no role.
    func fromRole(
        of profile: String, in profiles: AWSProfiles, visited: Set<String>, deadline: Deadline
    ) throws(MCFSError) -> AWSCredentials? {
        let merged = (profiles.config(of: profile) ?? [:]).merging(profiles.credentials(of: profile) ?? [:]) { _, new in
            new
        }
        guard let role = merged["role_arn"] else { return nil }
        let origin = "the role of profile '\(profile)'"
        let session = merged["role_session_name"]
        if let file = merged["web_identity_token_file"] {
            return try assume(role, tokenFile: file, session: session, origin: origin, deadline: deadline)
        }
        guard !visited.contains(profile) else {
            throw MCFSError(.configuration, "source_profile of profile '\(profile)' leads back to itself; correct it")
        }
        guard let source = try source(of: profile, merged, profiles, visited.union([profile]), deadline) else {
            throw MCFSError(
                .configuration,
                "profile '\(profile)' has a role_arn and nothing to assume it with; add source_profile, credential_source or web_identity_token_file"
            )
        }
        var fields = [("Action", "AssumeRole"), ("RoleArn", role), ("RoleSessionName", session ?? "mcfs")]
        if let external = merged["external_id"] { fields.append(("ExternalId", external)) }
        return try askSTS(fields, signedWith: source, origin: origin, deadline: deadline)
    }

    /// The credential that a profile's role is assumed with.
    private func source(
        of profile: String, _ section: AWSProfiles.Section, _ profiles: AWSProfiles, _ visited: Set<String>,
        _ deadline: Deadline
    ) throws(MCFSError) -> AWSCredentials? {
        if let source = section["source_profile"] {
            // A profile may name itself: then its own keys assume its role.
            if source != profile,
                let found = try fromRole(of: source, in: profiles, visited: visited, deadline: deadline)
            {
                return found
            }
            return try fromFiles(of: source, in: profiles, deadline: deadline)
        }
        switch section["credential_source"] {
        case "Environment": return try fromEnvironment()
        case "Ec2InstanceMetadata": return try fromInstance(deadline: deadline)
        case "EcsContainer": return try fromContainer(deadline: deadline)
        default: return nil
        }
    }

    private func assume(
        _ role: String, tokenFile: String, session: String?, origin: String, deadline: Deadline
    ) throws(MCFSError) -> AWSCredentials {
        // Read each time: whoever writes it replaces it before it expires.
        guard let text = try AWSProfiles.read(AWSProfiles.expanded(tokenFile, environment)) else {
            throw MCFSError(
                .unauthorized,
                "the web identity token file \(tokenFile) does not exist; check the pod's service account")
        }
        let token = text.filter { !$0.isWhitespace }
        return try askSTS(
            [
                ("Action", "AssumeRoleWithWebIdentity"), ("RoleArn", role), ("RoleSessionName", session ?? "mcfs"),
                ("WebIdentityToken", token),
            ], signedWith: nil, origin: origin, deadline: deadline)
    }

    private func askSTS(
        _ fields: [(String, String)], signedWith source: AWSCredentials?, origin: String, deadline: Deadline
    ) throws(MCFSError) -> AWSCredentials {
        let region = configuration.signingRegion
        let form = ([("Version", "2011-06-15")] + fields)
            .map { "\($0.0)=\(AWSSigner.encoded($0.1.utf8))" }.joined(separator: "&")
        var request = HTTPRequest(
            "POST", try stsEndpoint(region) + "/",
            headers: [("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")], body: Array(form.utf8),
            tls: configuration.tls)
        if let source {
            request = AWSSigner(key: source.key, region: region, service: "sts").signed(request, at: S3Clock.now())
        }
        let response = try http.perform(request, deadline: Deadline(after: .seconds(20)).earlier(deadline))
        guard response.status == 200 else {
            let refusal = S3Error(response)
            throw MCFSError(
                refusal.isTransient ? .originUnavailable : .unauthorized,
                "cannot assume \(origin): STS answered HTTP \(response.status) \(refusal.code); check role_arn and its trust policy",
                isTransient: refusal.isTransient, retryAfter: refusal.retryAfter)
        }
        return try AWSCredentials(sts: response.body, origin: origin)
    }

    private func stsEndpoint(_ region: String) throws(MCFSError) -> String {
        let isIgnored = environment["AWS_IGNORE_CONFIGURED_ENDPOINT_URLS"]?.lowercased() == "true"
        if !isIgnored, let configured = environment["AWS_ENDPOINT_URL_STS"] ?? environment["AWS_ENDPOINT_URL"] {
            return try AWSConfiguration.endpoint(configured)
        }
        return "https://sts.\(region).amazonaws.com\(region.hasPrefix("cn-") ? ".cn" : "")"
    }
}
