import MCFSCore
import Testing
import Transport

@testable import OCI

@Suite("Authentication challenges")
struct AuthChallengeTests {
    @Test("are read with quoted and bare values, several in one header or in many")
    func parses() {
        let challenges = AuthChallenge.parse([
            #"BEARER realm="https://auth.example/token",service=registry.example , scope="repository:a/b:pull,push""#,
            #"Basic realm="a \"quoted\" realm", Negotiate, Digest a=b"#,
        ])
        #expect(challenges.map(\.scheme) == ["bearer", "basic", "negotiate", "digest"])
        #expect(challenges[0].parameters["realm"] == "https://auth.example/token")
        #expect(challenges[0].parameters["service"] == "registry.example")
        #expect(challenges[0].parameters["scope"] == "repository:a/b:pull,push")
        #expect(challenges[1].parameters["realm"] == #"a "quoted" realm"#)
    }

    @Test(
        "that are no challenges give no parameters and no crash",
        arguments: [
            "", ",", "=", "\"", "Bearer realm=\"x", "Bearer =x", "Bearer realm=", "a=b", "Bearer,,,=,", "Bearer \u{0}",
        ])
    func survives(header: String) {
        for challenge in AuthChallenge.parse([header]) { #expect(challenge.parameters["realm"]?.isEmpty != false) }
    }

    @Test("ask for a token by query, each scope by itself, and for one by refresh token with a form")
    func tokenRequests() throws {
        let realm = try #require(RegistryLocation("https://auth.example/token?a=b"))
        let request = RegistryAuth.tokenRequest(
            realm: realm, service: "r.example:5000", scope: "repository:a/b:pull repository:c:pull",
            credential: .basic(user: "u", password: "p"))
        #expect(
            request.url
                == "https://auth.example/token?a=b&service=r.example%3A5000&scope=repository%3Aa%2Fb%3Apull&scope=repository%3Ac%3Apull"
        )
        #expect(request.headers.contains { $0.name == "Authorization" && $0.value == "Basic dTpw" })
        let refresh = RegistryAuth.tokenRequest(
            realm: realm, service: "s", scope: "x y", credential: .refreshToken("t+"))
        #expect(refresh.method == "POST")
        #expect(
            String(decoding: try #require(refresh.body), as: UTF8.self)
                == "grant_type=refresh_token&refresh_token=t%2B&client_id=mcfs&service=s&scope=x%20y")
    }

    @Test("end in a token from either field, which lasts a minute where the server does not say")
    func tokens() throws {
        let realm = try #require(RegistryLocation("https://auth.example/"))
        func token(_ text: String) throws(MCFSError) -> (value: String, lifetime: Duration) {
            try RegistryAuth.token(in: Array(text.utf8), from: realm)
        }
        #expect(try token(#"{"token":"a"}"#).value == "a")
        #expect(try token(#"{"token":"a"}"#).lifetime == .seconds(48))
        #expect(try token(#"{"access_token":"b","expires_in":300}"#) == ("b", .seconds(240)))
        #expect(try token(#"{"token":"","access_token":"b","expires_in":-1e300}"#) == ("b", .seconds(48)))
        #expect(try token(#"{"token":"a","expires_in":1e300}"#).lifetime == .seconds(69120))
        for bad in ["", "[]", "{}", #"{"token":5}"#, #"{"token":"a\r\nX-Evil: 1"}"#] {
            #expect(throws: MCFSError.self) { try token(bad) }
        }
    }
}
