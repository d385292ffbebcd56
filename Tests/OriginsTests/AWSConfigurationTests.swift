import MCFSCore
import Testing

@testable import Origins

@Suite("AWS configuration")
struct AWSConfigurationTests {
    let scratch = ScratchFolder()

    private func configuration(_ variables: [String: String], config: String = "", credentials: String = "") throws
        -> AWSConfiguration
    {
        var variables = variables
        variables["AWS_CONFIG_FILE"] = try scratch.write("config", config)
        variables["AWS_SHARED_CREDENTIALS_FILE"] = try scratch.write("credentials", credentials)
        return try AWSConfiguration(Environment(variables))
    }

    @Test(
        "buckets are addressed as their endpoint and name allow",
        arguments: [
            ([:], "bkt", "https://bkt.s3.us-east-1.amazonaws.com/k%20y"),
            (["AWS_REGION": "eu-west-1"], "bkt", "https://bkt.s3.eu-west-1.amazonaws.com/k%20y"),
            (["AWS_DEFAULT_REGION": "cn-north-1"], "bkt", "https://bkt.s3.cn-north-1.amazonaws.com.cn/k%20y"),
            (
                ["AWS_REGION": "eu-west-1", "AWS_DEFAULT_REGION": "x"], "bkt",
                "https://bkt.s3.eu-west-1.amazonaws.com/k%20y"
            ),
            (["AWS_USE_DUALSTACK_ENDPOINT": "true"], "bkt", "https://bkt.s3.dualstack.us-east-1.amazonaws.com/k%20y"),
            (["AWS_USE_FIPS_ENDPOINT": "true"], "bkt", "https://bkt.s3-fips.us-east-1.amazonaws.com/k%20y"),
            ([:], "with.dots", "https://s3.us-east-1.amazonaws.com/with.dots/k%20y"),
            ([:], "Upper_case", "https://s3.us-east-1.amazonaws.com/Upper_case/k%20y"),
            (["AWS_ENDPOINT_URL": "http://minio.example:9000/"], "bkt", "http://minio.example:9000/bkt/k%20y"),
            (
                ["AWS_ENDPOINT_URL": "http://a", "AWS_ENDPOINT_URL_S3": "https://B.example/base/"], "bkt",
                "https://b.example/base/bkt/k%20y"
            ),
            (["AWS_ENDPOINT_URL": "http://127.0.0.1:9"], "bkt", "http://127.0.0.1:9/bkt/k%20y"),
            (["AWS_ENDPOINT_URL": "http://[::1]:9"], "bkt", "http://[::1]:9/bkt/k%20y"),
            (
                ["AWS_ENDPOINT_URL": "http://a", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true"], "bkt",
                "https://bkt.s3.us-east-1.amazonaws.com/k%20y"
            ),
        ] as [([String: String], String, String)])
    func addressing(variables: [String: String], bucket: String, url: String) throws {
        let configuration = try configuration(variables)
        #expect(configuration.url(bucket: bucket, key: "k y", region: configuration.signingRegion) == url)
    }

    static let file = """
        # comment
        [default]
        region = eu-north-1
        [profile "team"]
        region=ap-south-1
        services = local
        s3 =
            addressing_style = virtual
            other = 1
        not a setting
        [services local]
        s3 =
          endpoint_url = https://objects.example
        sqs =
          endpoint_url = https://queues.example
        [profile paths]
        endpoint_url = http://plain.example
        s3 =
          addressing_style = path
        [broken
        """

    @Test("profiles give region, endpoint and addressing style")
    func profiles() throws {
        let plain = try configuration([:], config: Self.file)
        #expect(plain.region == "eu-north-1" && plain.endpoint == nil && plain.profile == "default")
        let team = try configuration(["AWS_PROFILE": "team"], config: Self.file)
        #expect(team.region == "ap-south-1" && team.addressingStyle == .virtual)
        #expect(team.url(bucket: "bkt", key: nil, region: "r") == "https://bkt.objects.example/")
        #expect(team.url(bucket: "a.b", key: nil, region: "r") == "https://objects.example/a.b/")
        let paths = try configuration(["AWS_PROFILE": "paths"], config: Self.file)
        #expect(paths.url(bucket: "bkt", key: nil, region: "r") == "http://plain.example/bkt/")
        let over = try configuration(["AWS_PROFILE": "paths", "AWS_ENDPOINT_URL": "http://e"], config: Self.file)
        #expect(over.endpoint == "http://e")
    }

    @Test("a profile that is in no file is an error that names it")
    func missingProfile() throws {
        let error = #expect(throws: MCFSError.self) { try configuration(["AWS_PROFILE": "nobody"], config: Self.file) }
        #expect(error?.code == .configuration && error?.message.contains("'nobody'") == true)
        _ = try configuration(["AWS_PROFILE": "keys"], credentials: "[keys]\naws_access_key_id=a\n")
    }

    @Test(
        "values that cannot be used are errors, and are not repeated where they may hold a password",
        arguments: [
            ["AWS_REGION": "a/b"], ["AWS_REGION": "EU WEST"], ["AWS_ENDPOINT_URL": "minio:9000"],
            ["AWS_ENDPOINT_URL": "ftp://x"], ["AWS_ENDPOINT_URL": "http://"],
            ["AWS_ENDPOINT_URL": "http://user:pass@h"],
            ["AWS_ENDPOINT_URL": "http://h?x"], ["AWS_ENDPOINT_URL": "http://h\r\nX: y"],
        ])
    func bad(variables: [String: String]) throws {
        let error = #expect(throws: MCFSError.self) { try configuration(variables) }
        #expect(error?.code == .configuration && error?.message.contains("pass") == false)
    }

    @Test("files that are no such files do no harm")
    func oddFiles() throws {
        for text in ["[", "]", "[]", "=", "[a]\n=\n==\n k", "\u{0}\u{1}", "s3 =\n x=1", "[default]\nregion"] {
            _ = try configuration([:], config: text, credentials: text)
        }
        let error = #expect(throws: MCFSError.self) {
            try AWSConfiguration(Environment(["AWS_CONFIG_FILE": scratch.path]))
        }
        #expect(error?.code == .configuration)
    }
}
