internal import MCFSCore
internal import Transport

/// Places next to this host: the container's credential endpoint and the instance metadata.
extension AWSCredentialChain {
    /// The endpoint that ECS and EKS Pod Identity give a container.
    func fromContainer(deadline: Deadline) throws(MCFSError) -> AWSCredentials? {
        let url: String
        if let path = environment["AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"] {
            guard path.hasPrefix("/") else {
                throw MCFSError(.configuration, "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI does not begin with '/'")
            }
            url = "http://169.254.170.2\(path)"
        } else if let full = environment["AWS_CONTAINER_CREDENTIALS_FULL_URI"] {
            guard Self.isContainerEndpoint(full) else {
                throw MCFSError(
                    .configuration,
                    "AWS_CONTAINER_CREDENTIALS_FULL_URI is neither https nor on this host; credentials are not asked for there"
                )
            }
            url = full
        } else {
            return nil
        }
        var request = HTTPRequest("GET", url, headers: [("Accept", "application/json")], tls: configuration.tls)
        if let token = try containerToken() { request.headers.append(("Authorization", token)) }
        let response: HTTPResponse
        do throws(MCFSError) {
            response = try http.perform(request, deadline: Deadline(after: .seconds(5)).earlier(deadline))
        } catch {
            throw MCFSError(
                error.code, "cannot get a credential from the container endpoint: it does not answer", cause: error,
                isTransient: error.isTransient)
        }
        guard response.status == 200 else {
            throw MCFSError(
                response.status >= 500 ? .originUnavailable : .unauthorized,
                "cannot get a credential from the container endpoint: HTTP \(response.status); check the role of the pod or task",
                isTransient: response.status >= 500 || response.status == 429)
        }
        return try AWSCredentials(json: response.body, origin: "the container endpoint")
    }

    private func containerToken() throws(MCFSError) -> String? {
        let token: String
        if let file = environment["AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"] {
            guard let text = try AWSProfiles.read(file) else {
                throw MCFSError(
                    .unauthorized, "the container token file \(file) does not exist; check the pod's service account")
            }
            token = text.last?.isNewline == true ? String(text.dropLast()) : text
        } else if let value = environment["AWS_CONTAINER_AUTHORIZATION_TOKEN"] {
            token = value
        } else {
            return nil
        }
        guard !token.isEmpty, !token.unicodeScalars.contains(where: { $0.value < 32 || $0.value == 127 }) else {
            throw MCFSError(.configuration, "the container's authorisation token is empty or has line breaks")
        }
        return token
    }

    /// Plain HTTP is for this host and the addresses of ECS and EKS only.
    static func isContainerEndpoint(_ url: String) -> Bool {
        let lower = url.lowercased()
        guard lower.unicodeScalars.allSatisfy({ $0.value > 32 && $0.value < 127 && $0 != "\\" }) else { return false }
        let isTLS = lower.hasPrefix("https://")
        guard isTLS || lower.hasPrefix("http://") else { return false }
        let authority = lower.dropFirst(isTLS ? 8 : 7).prefix { $0 != "/" && $0 != "?" && $0 != "#" }
        guard !authority.isEmpty, !authority.contains("@") else { return false }
        if isTLS { return true }
        if authority.hasPrefix("[") {
            let rest = authority.drop { $0 != "]" }.dropFirst()
            guard rest.isEmpty || rest.first == ":" else { return false }
            return ["[::1]", "[fd00:ec2::23]"].contains(authority.dropLast(rest.count))
        }
        let host = String(authority.prefix { $0 != ":" })
        let labels = host.split(separator: ".", omittingEmptySubsequences: false)
        let isLoopback = labels.count == 4 && labels[0] == "127" && labels.allSatisfy { UInt8($0) != nil }
        return isLoopback || ["localhost", "169.254.170.2", "169.254.170.23"].contains(host)
    }

    /// The role of an EC2 instance, by version 2 of its metadata service. nil where there is no such service or no role.
    func fromInstance(deadline: Deadline) throws(MCFSError) -> AWSCredentials? {
        if environment["AWS_EC2_METADATA_DISABLED"]?.lowercased() == "true" { return nil }
        let base: String
        if let configured = environment["AWS_EC2_METADATA_SERVICE_ENDPOINT"] {
            base = try AWSConfiguration.endpoint(configured)
        } else if environment["AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE"]?.lowercased() == "ipv6" {
            base = "http://[fd00:ec2::254]"
        } else {
            base = "http://169.254.169.254"
        }
        let lifetime = [("x-aws-ec2-metadata-token-ttl-seconds", "21600")]
        guard let token = ask("PUT", base + "/latest/api/token", lifetime, deadline), Self.isHeaderValue(token) else {
            return nil
        }
        let headers = [("x-aws-ec2-metadata-token", token)]
        let roles = base + "/latest/meta-data/iam/security-credentials/"
        guard let role = ask("GET", roles, headers, deadline)?.split(whereSeparator: \.isNewline).first, !role.isEmpty,
            let answer = ask("GET", roles + AWSSigner.encoded(role.utf8), headers, deadline)
        else { return nil }
        return try AWSCredentials(json: Array(answer.utf8), origin: "the instance metadata")
    }

    private static func isHeaderValue(_ text: String) -> Bool {
        !text.isEmpty && text.utf8.count <= 4096 && text.utf8.allSatisfy { $0 > 32 && $0 < 127 }
    }

    /// One second is what the AWS tools wait: the service is on this host or it is not there.
    private func ask(_ method: String, _ url: String, _ headers: [(String, String)], _ deadline: Deadline) -> String? {
        let request = HTTPRequest(
            method, url, headers: headers.map { (name: $0.0, value: $0.1) }, body: method == "PUT" ? [] : nil)
        let limit = Deadline(after: .seconds(1)).earlier(deadline)
        guard let response = try? http.perform(request, deadline: limit), response.status == 200 else { return nil }
        return String(decoding: response.body.prefix(64 << 10), as: UTF8.self)
    }
}
