import Foundation
import MCFSCore
import Testing

@testable import OCI

@Suite("Credentials of Docker and Podman")
struct DockerCredentialsTests {
    let folder: TemporaryFolder
    var environment: Environment {
        Environment([
            "HOME": folder.path, "XDG_RUNTIME_DIR": "\(folder.path)/run", "PATH": "\(folder.path)/bin:/usr/bin:/bin",
            "TOKEN_OF_USER": "s3cret",
        ])
    }

    init() throws { folder = try TemporaryFolder() }

    private func answer(_ host: String, _ repository: String = "a/b") throws(MCFSError) -> DockerCredentials.Answer {
        try DockerCredentials(environment: environment)
            .answer(for: host, repository: repository, deadline: Deadline(after: .seconds(20)))
    }

    @Test("are nothing where there are no files")
    func none() throws {
        #expect(try answer("r.example") == DockerCredentials.Answer())
    }

    @Test("are found under every form of a registry's name")
    func names() throws {
        try folder.write(
            """
            {"auths": {
              "https://index.docker.io/v1/": {"auth": "aHVi OnA="},
              "https://two.example/v2/": {"auth": "dTpwOnE="},
              "three.example:5000": {"username": "u3", "password": "p3"},
              "four.example": {"identitytoken": "refresh", "auth": "dTo="},
              "five.example": {"registrytoken": "ready"},
              "six.example": {}
            }}
            """.replacingOccurrences(of: "aHVi OnA=", with: "aHViOnA="), to: ".docker/config.json")
        #expect(try answer("docker.io").credential == .basic(user: "hub", password: "p"))
        #expect(try answer("two.example").credential == .basic(user: "u", password: "p:q"))
        #expect(try answer("three.example:5000").credential == .basic(user: "u3", password: "p3"))
        #expect(try answer("three.example").credential == nil)
        #expect(try answer("four.example").credential == .refreshToken("refresh"))
        #expect(try answer("five.example").credential == .bearer("ready"))
        #expect(try answer("six.example").credential == nil)
    }

    @Test("of Podman may be for a part of a registry, the most specific first")
    func prefixes() throws {
        try folder.write("", to: ".docker/config.json")
        try folder.write(
            #"{"auths":{"r.example":{"auth":"YTph"},"r.example/team":{"auth":"Yjpi"},"r.example/team/x":{"auth":"Yzpj"}}}"#,
            to: "run/containers/auth.json")
        #expect(try answer("r.example", "team/x").credential == .basic(user: "c", password: "c"))
        #expect(try answer("r.example", "team/y").credential == .basic(user: "b", password: "b"))
        #expect(try answer("r.example", "teams").credential == .basic(user: "a", password: "a"))
    }

    @Test("are read again for every answer")
    func readAgain() throws {
        #expect(try answer("r.example").credential == nil)
        try folder.write(#"{"auths":{"r.example":{"auth":"YTph"}}}"#, to: ".docker/config.json")
        #expect(try answer("r.example").credential == .basic(user: "a", password: "a"))
    }

    @Test("come from helpers, which get the user's environment and the server on stdin", .timeLimit(.minutes(5)))
    func helpers() throws {
        try folder.write(
            """
            #!/bin/sh
            server=$(cat)
            [ "$1" = get ] || exit 1
            case "$server" in
              token.example) printf '{"ServerURL":"x","Username":"<token>","Secret":"%s"}' "$TOKEN_OF_USER" ;;
              https://index.docker.io/v1/) echo '{"Username":"hub","Secret":"p"}' ;;
              *) echo 'credentials not found in native keychain'; exit 1 ;;
            esac
            """, to: "bin/docker-credential-fake", executable: true)
        try folder.write(
            #"{"credHelpers":{"token.example":"fake"},"credsStore":"fake","auths":{"r.example":{"auth":"YTph"}}}"#,
            to: ".docker/config.json")
        #expect(try answer("token.example").credential == .refreshToken("s3cret"))
        #expect(try answer("docker.io").credential == .basic(user: "hub", password: "p"))
        #expect(try answer("r.example").credential == .basic(user: "a", password: "a"))
        #expect(try answer("other.example") == DockerCredentials.Answer())
    }

    @Test(
        "of a helper that fails are a note without its output, and others are still asked", .timeLimit(.minutes(5)),
        arguments: ["exit 3", "echo SECRET", "kill -9 $$", "head -c 3000000 /dev/zero", "echo '{}'"])
    func failingHelpers(script: String) throws {
        try folder.write("#!/bin/sh\n\(script)\n", to: "bin/docker-credential-bad", executable: true)
        try folder.write(
            #"{"credsStore":"bad","auths":{"r.example":{"auth":"YTph"}}}"#, to: ".docker/config.json")
        let answer = try answer("r.example")
        #expect(answer.credential == .basic(user: "a", password: "a"))
        #expect(answer.notes.count == 1)
        #expect(answer.notes.first?.contains("docker-credential-bad") == true)
        #expect(answer.notes.first?.contains("SECRET") == false)
    }

    @Test("of a helper that is not there or never ends are a note", .timeLimit(.minutes(5)))
    func hangingHelpers() throws {
        try folder.write(#"{"credsStore":"absent"}"#, to: ".docker/config.json")
        #expect(try answer("r.example").notes.first?.contains("docker-credential-absent is not in PATH") == true)
        try folder.write("#!/bin/sh\nsleep 100\n", to: "bin/docker-credential-slow", executable: true)
        try folder.write(#"{"credsStore":"slow"}"#, to: ".docker/config.json")
        let answer = try DockerCredentials(environment: environment)
            .answer(for: "r.example", repository: "a", deadline: Deadline(after: .milliseconds(200)))
        #expect(answer.notes.first?.contains("did not answer in time") == true)
    }

    @Test(
        "in a malformed file are an error that names the file and no secret",
        arguments: [
            "{", "[]", #"{"auths": 5}"#, #"{"auths":{"r.example":{"auth":"%%%SECRET"}}}"#,
            #"{"auths":{"r.example":{"auth":"U0VDUkVU"}}}"#, #"{"credsStore":["SECRET"]}"#,
        ])
    func malformed(text: String) throws {
        try folder.write(text, to: ".docker/config.json")
        let error = #expect(throws: MCFSError.self) { try answer("r.example") }
        #expect(error?.code == .configuration)
        #expect(error?.message.contains("\(folder.path)/.docker/config.json") == true)
        #expect(error?.message.contains("SECRET") == false)
    }
}
