import MCFSCore
import MCFSTestSupport
import Synchronization
import Testing

@testable import Origins
@testable import Transport

@Suite("AWS credentials", .timeLimit(.minutes(5)))
struct AWSCredentialTests {
    let scratch = ScratchFolder()
    let http = HTTPClient()

    private func chain(
        _ variables: [String: String], config: String = "", credentials: String = "",
        now: @escaping @Sendable () -> Timestamp = S3Clock.now
    ) throws -> AWSCredentialChain {
        var all = ["AWS_EC2_METADATA_DISABLED": "true"].merging(variables) { _, new in new }
        all["AWS_CONFIG_FILE"] = try scratch.write("config", config)
        all["AWS_SHARED_CREDENTIALS_FILE"] = try scratch.write("credentials", credentials)
        let environment = Environment(all)
        return AWSCredentialChain(
            environment: environment, configuration: try AWSConfiguration(environment), http: http, now: now)
    }

    private func found(_ chain: AWSCredentialChain) throws(MCFSError) -> AWSCredentials? {
        try chain.credentials(deadline: Deadline(after: .seconds(20)))
    }

    static let files = """
        [default]
        aws_access_key_id = AKDEFAULT
        aws_secret_access_key = s/default+1=

        [other]
        aws_access_key_id=AKOTHER
        aws_secret_access_key=sother
        aws_session_token=tother
        [half]
        aws_access_key_id=AKHALF
        """

    @Test("variables come before files")
    func variables() throws {
        let credential = try found(
            chain(
                ["AWS_ACCESS_KEY_ID": "AKENV", "AWS_SECRET_ACCESS_KEY": "senv", "AWS_SESSION_TOKEN": "tenv"],
                credentials: Self.files))
        #expect(credential?.key == AWSSigner.Key(accessKeyID: "AKENV", secretAccessKey: "senv", sessionToken: "tenv"))
    }

    @Test("profiles are read from the credentials file, then from the config file")
    func profiles() throws {
        #expect(try found(chain([:], credentials: Self.files))?.key.secretAccessKey == "s/default+1=")
        #expect(try found(chain(["AWS_PROFILE": "other"], credentials: Self.files))?.key.sessionToken == "tother")
        let config = "[profile c]\naws_access_key_id=AKC\naws_secret_access_key=sc\n"
        #expect(try found(chain(["AWS_PROFILE": "c"], config: config))?.key.accessKeyID == "AKC")
    }

    @Test("nothing anywhere means anonymous")
    func anonymous() throws { #expect(try found(chain([:])) == nil) }

    @Test("half a credential is an error")
    func half() throws {
        let variables = try chain(["AWS_ACCESS_KEY_ID": "x"])
        #expect(refusal { () throws(MCFSError) in _ = try found(variables) }?.code == .configuration)
        let profile = try chain(["AWS_PROFILE": "half"], credentials: Self.files)
        #expect(refusal { () throws(MCFSError) in _ = try found(profile) }?.code == .configuration)
    }

    @Test("a credential_process is run without a shell and with the given variables only")
    func process() throws {
        let json = "{\"Version\":1,\"AccessKeyId\":\"AKP\",\"SecretAccessKey\":\"sp\",\"SessionToken\":\"tp\"}"
        let script = try scratch.write(
            "process.sh", "[ \"$1\" = 'two words;' ] && [ -z \"$HOME\" ] && printf '%s' '\(json)'\n")
        let config = "[default]\ncredential_process = /bin/sh \(script) \"two words;\"\n"
        let credential = try found(chain(["PATH": "/bin:/usr/bin"], config: config))
        #expect(credential?.key == AWSSigner.Key(accessKeyID: "AKP", secretAccessKey: "sp", sessionToken: "tp"))
        #expect(
            try found(chain(["PATH": "/nowhere:/bin:/usr/bin"], config: config.replacing("/bin/sh", with: "sh"))) != nil
        )
    }

    @Test(
        "a credential_process that fails is an error without its output",
        arguments: [
            "/bin/sh -c 'echo SECRET; exit 1'", "/nowhere/program", "/bin/echo SECRET", "'open",
            "/bin/sh -c 'kill -9 $$'", "/bin/cat /dev/zero",
        ])
    func badProcess(command: String) throws {
        let chain = try chain([:], config: "[default]\ncredential_process = \(command)\n")
        let error = refusal { () throws(MCFSError) in _ = try found(chain) }
        #expect(error != nil && error?.message.contains("SECRET") == false)
    }

    @Test("a credential_process that hangs ends at the deadline")
    func hangingProcess() throws {
        let process = try CredentialProcess("/bin/cat /dev/tty0/nothing", environment: Environment([:]))
        #expect(refusal { () throws(MCFSError) in _ = try process.run(deadline: Deadline(after: .seconds(5))) } != nil)
        let hanging = try CredentialProcess("/bin/sleep 1000", environment: Environment([:]))
        let error = refusal { () throws(MCFSError) in _ = try hanging.run(deadline: Deadline(after: .milliseconds(20)))
        }
        #expect(error?.code == .timedOut)
    }

    @Test(
        "command lines are split as a shell does",
        arguments: [
            ("a b", ["a", "b"]), ("  a\t'b c' \"d 'e'\" f\\ g ", ["a", "b c", "d 'e'", "f g"]), ("'' x", ["", "x"]),
            ("\"a", nil), ("a\\", nil), ("", []),
        ] as [(String, [String]?)])
    func words(line: String, words: [String]?) { #expect(CredentialProcess.words(of: line) == words) }

    static let sts = """
        <AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleWithWebIdentityResult>
        <Credentials><AccessKeyId>ASSTS</AccessKeyId><SecretAccessKey>ssts</SecretAccessKey><SessionToken>tsts</SessionToken>
        <Expiration>2026-11-20T10:00:00Z</Expiration></Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>
        """

    @Test("a web identity token is exchanged, unsigned, and read again each time")
    func webIdentity() throws {
        let server = try ScriptedServer { _ in ScriptedServer.Answer(200, text: Self.sts) }
        let token = try scratch.write("token", "one/+=\n")
        let variables = [
            "AWS_WEB_IDENTITY_TOKEN_FILE": token, "AWS_ROLE_ARN": "arn:aws:iam::1:role/r",
            "AWS_ENDPOINT_URL_STS": server.url,
        ]
        let clock = TestClock(seconds: 1_795_168_800 - 3600)
        let chain = try chain(variables, now: { clock.now })
        #expect(
            try found(chain)?.key == AWSSigner.Key(accessKeyID: "ASSTS", secretAccessKey: "ssts", sessionToken: "tsts"))
        #expect(try found(chain)?.expiration == Timestamp(seconds: 1_795_168_800))
        #expect(server.requests.count == 1)
        try scratch.write("token", "two")
        clock.advance(3600 - 299)
        _ = try found(chain)
        let bodies = server.requests.map { String(decoding: $0.body, as: UTF8.self) }
        #expect(bodies.count == 2)
        #expect(bodies.first?.contains("WebIdentityToken=one%2F%2B%3D") == true)
        #expect(bodies.first?.contains("RoleArn=arn%3Aaws%3Aiam%3A%3A1%3Arole%2Fr") == true)
        #expect(bodies.last?.hasSuffix("WebIdentityToken=two") == true)
        #expect(server.requests.allSatisfy { $0["Authorization"] == nil && $0.method == "POST" })
    }

    @Test("a credential that cannot be renewed is used until it ends")
    func failedRenewal() throws {
        let isBroken = TestFlag()
        let server = try ScriptedServer { _ in
            isBroken.isSet
                ? ScriptedServer.Answer(
                    403, text: "<ErrorResponse><Error><Code>AccessDenied</Code></Error></ErrorResponse>")
                : ScriptedServer.Answer(200, text: Self.sts)
        }
        let clock = TestClock(seconds: 1_795_168_800 - 3600)
        let chain = try chain(
            [
                "AWS_WEB_IDENTITY_TOKEN_FILE": try scratch.write("token", "one"), "AWS_ROLE_ARN": "r",
                "AWS_ENDPOINT_URL_STS": server.url,
            ], now: { clock.now })
        _ = try found(chain)
        isBroken.set()
        clock.advance(3600 - 200)
        #expect(try found(chain)?.key.accessKeyID == "ASSTS")
        #expect(try found(chain)?.key.accessKeyID == "ASSTS")
        #expect(server.requests.count == 2)
        clock.advance(200)
        let error = refusal { () throws(MCFSError) in _ = try found(chain) }
        #expect(error?.code == .unauthorized && error?.message.contains("AccessDenied") == true)
    }

    @Test("a profile's role is assumed with a token file, or signed by its source profile")
    func roles() throws {
        let server = try ScriptedServer { _ in ScriptedServer.Answer(200, text: Self.sts) }
        let token = try scratch.write("token", "tok")
        let config = """
            [profile web]
            role_arn = arn:web
            web_identity_token_file = \(token)
            [profile role]
            role_arn = arn:role
            source_profile = default
            [profile loop]
            role_arn = arn:x
            source_profile = loop2
            [profile loop2]
            role_arn = arn:x
            source_profile = loop
            [profile nothing]
            role_arn = arn:x
            """
        let sts = ["AWS_ENDPOINT_URL_STS": server.url]
        #expect(
            try found(chain(sts.merging(["AWS_PROFILE": "web"]) { $1 }, config: config))?.key.accessKeyID == "ASSTS")
        let role = try chain(sts.merging(["AWS_PROFILE": "role"]) { $1 }, config: config, credentials: Self.files)
        #expect(try found(role)?.key.accessKeyID == "ASSTS")
        #expect(server.requests.last?["Authorization"]?.contains("Credential=AKDEFAULT/") == true)
        #expect(server.requests.last?["Authorization"]?.contains("/us-east-1/sts/aws4_request") == true)
        for name in ["loop", "nothing"] {
            let chain = try chain(sts.merging(["AWS_PROFILE": name]) { $1 }, config: config)
            #expect(refusal { () throws(MCFSError) in _ = try found(chain) }?.code == .configuration)
        }
    }

    static let json =
        "{\"AccessKeyId\":\"ASC\",\"SecretAccessKey\":\"sc\",\"Token\":\"tc\",\"Expiration\":\"2026-11-20T10:00:00Z\"}"

    @Test("the container endpoint is asked with the token that its file holds now")
    func container() throws {
        let server = try ScriptedServer { _ in ScriptedServer.Answer(200, text: Self.json) }
        let variables = [
            "AWS_CONTAINER_CREDENTIALS_FULL_URI": server.url + "/v1/credentials",
            "AWS_CONTAINER_AUTHORIZATION_TOKEN": "variable",
            "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": try scratch.write("token", "first\n"),
        ]
        let chain = try chain(variables)
        let credential = try found(chain)
        #expect(credential?.key == AWSSigner.Key(accessKeyID: "ASC", secretAccessKey: "sc", sessionToken: "tc"))
        try scratch.write("token", "second")
        chain.discard(credential)
        _ = try found(chain)
        #expect(server.requests.map { $0["Authorization"] } == ["first", "second"])
        #expect(server.requests.first?.path == "/v1/credentials")
        try scratch.write("token", "a\r\nInjected: b")
        chain.discard(credential)
        #expect(refusal { () throws(MCFSError) in _ = try found(chain) }?.code == .configuration)
    }

    @Test(
        "plain HTTP credential endpoints are on this host or its link only",
        arguments: [
            ("http://127.0.0.1/x", true), ("http://127.1.2.3:80/x", true), ("http://localhost:9/x", true),
            ("http://[::1]:8/x", true),
            ("http://169.254.170.2/x", true), ("http://169.254.170.23/v1", true), ("http://[fd00:ec2::23]/v1", true),
            ("https://anything.example/x", true), ("http://evil.example/x", false),
            ("http://127.0.0.1@evil.example/", false),
            ("http://127.0.0.1.evil.example/", false), ("http://169.254.169.254/", false),
            ("http://[::1].evil/", false), ("ftp://127.0.0.1", false),
            ("http://evil.example\\@127.0.0.1/", false), ("http:///x", false), ("", false),
            ("http://127.0.0.1 .evil/", false),
            ("http://127.0.0.1#@evil.example/", true),
        ])
    func containerHosts(url: String, isAllowed: Bool) {
        #expect(AWSCredentialChain.isContainerEndpoint(url) == isAllowed)
    }

    @Test("instance metadata is asked by its version 2")
    func instance() throws {
        let server = try ScriptedServer { request in
            if request.method == "PUT" {
                return request["x-aws-ec2-metadata-token-ttl-seconds"] == "21600"
                    ? ScriptedServer.Answer(200, text: "TOKEN") : ScriptedServer.Answer(400)
            }
            guard request["x-aws-ec2-metadata-token"] == "TOKEN" else { return ScriptedServer.Answer(401) }
            switch request.path {
            case "/latest/meta-data/iam/security-credentials/": return ScriptedServer.Answer(200, text: "my-role\n")
            case "/latest/meta-data/iam/security-credentials/my-role":
                return ScriptedServer.Answer(200, text: Self.json)
            default: return ScriptedServer.Answer(404)
            }
        }
        let variables = ["AWS_EC2_METADATA_SERVICE_ENDPOINT": server.url + "/", "AWS_EC2_METADATA_DISABLED": "false"]
        #expect(try found(chain(variables))?.key.accessKeyID == "ASC")
        #expect(server.requests.count == 3)
        let disabled = variables.merging(["AWS_EC2_METADATA_DISABLED": "TRUE"]) { $1 }
        #expect(try found(chain(disabled)) == nil)
        #expect(server.requests.count == 3)
    }

    @Test(
        "metadata services that are none, or silent, mean no credential",
        arguments: [
            ScriptedServer.Answer(404), ScriptedServer.Answer(403), ScriptedServer.Answer(200, text: ""),
            ScriptedServer.Answer(200, text: "a\r\nb: c"), ScriptedServer.Answer(200).delivered(.closeAtOnce),
            ScriptedServer.Answer(200).delivered(.stallAtOnce),
        ])
    func noInstance(answer: ScriptedServer.Answer) throws {
        let server = try ScriptedServer { _ in answer }
        let chain = try chain(["AWS_EC2_METADATA_SERVICE_ENDPOINT": server.url, "AWS_EC2_METADATA_DISABLED": "false"])
        #expect(try found(chain) == nil)
    }

    @Test(
        "answers without a credential are errors that repeat nothing",
        arguments: ["", "{}", "[]", "{\"AccessKeyId\":\"SECRETX\"}", "{\"Code\":\"Failed\"}", "\u{0}"])
    func badAnswers(text: String) {
        let error = refusal { () throws(MCFSError) in _ = try AWSCredentials(json: Array(text.utf8), origin: "x") }
        #expect(error?.code == .unauthorized && error?.message.contains("SECRET") == false)
        #expect(refusal { () throws(MCFSError) in _ = try AWSCredentials(sts: Array(text.utf8), origin: "x") } != nil)
    }

    @Test("no description shows a secret")
    func redacted() {
        let credential = AWSCredentials(
            key: AWSSigner.Key(accessKeyID: "AKID", secretAccessKey: "SECRET", sessionToken: "TOKEN"),
            origin: "profile 'x'")
        var dumped = ""
        dump(credential, to: &dumped)
        for text in ["\(credential)", String(reflecting: credential), "\([credential])", dumped] {
            #expect(!text.contains("SECRET") && !text.contains("TOKEN"))
        }
    }
}

private final class TestClock: Sendable {
    private let seconds: Lock<Int64>
    init(seconds: Int64) { self.seconds = Lock(seconds) }
    var now: Timestamp { Timestamp(seconds: seconds.withLock { $0 }) }
    func advance(_ count: Int64) { seconds.withLock { $0 += count } }
}

private final class TestFlag: Sendable {
    private let value = Lock(false)
    var isSet: Bool { value.withLock { $0 } }
    func set() { value.withLock { $0 = true } }
}
