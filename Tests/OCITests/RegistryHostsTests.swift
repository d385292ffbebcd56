import MCFSCore
import Testing
import Transport

@testable import OCI

@Suite("Registry hosts")
struct RegistryHostsTests {
    let folder: TemporaryFolder
    var environment: Environment { Environment(["MCFS_CERTS_DIR": folder.path, "HOME": folder.path]) }

    init() throws { folder = try TemporaryFolder() }

    @Test("without configuration are the registry itself, in plain HTTP on this machine only")
    func defaults() throws {
        func base(_ registry: String) throws -> String {
            let hosts = try RegistryHosts(registry: registry, environment: environment).hosts
            #expect(hosts.count == 1 && hosts[0].isUpstream)
            return hosts[0].base
        }
        #expect(try base("docker.io") == "https://registry-1.docker.io/v2")
        #expect(try base("r.example:5000") == "https://r.example:5000/v2")
        #expect(try base("localhost:5000") == "http://localhost:5000/v2")
        #expect(try base("127.0.0.1:5000") == "http://127.0.0.1:5000/v2")
        #expect(try base("[::1]:5000") == "http://[::1]:5000/v2")
        #expect(try base("localhost.example.com") == "https://localhost.example.com/v2")
        #expect(try base("127.example.com") == "https://127.example.com/v2")
    }

    @Test("are the mirrors in the order of the file, then the server")
    func mirrors() throws {
        try folder.write(
            """
            server = "https://registry-1.docker.io"
            ca = "root.pem"

            # [host."https://aaa.example"]
            [host."http://zzz.example:4001"]
              capabilities = ["pull"]
              skip_verify = true
              [host."http://zzz.example:4001".header]
                x-upstream = ["https://registry-1.docker.io"]

            [host."https://aaa.example/proxy/hub"]
              override_path = true
              ca = ["/etc/ca.pem"]
              client = [["/etc/c.cert", "/etc/c.key"]]

            [host."https://mmm.example/cache/v2/"]
              client = "both.pem"
            """, to: "docker.io/hosts.toml")
        let hosts = try RegistryHosts(registry: "docker.io", environment: environment).hosts
        #expect(
            hosts.map(\.base) == [
                "http://zzz.example:4001/v2", "https://aaa.example/proxy/hub", "https://mmm.example/cache/v2",
                "https://registry-1.docker.io/v2",
            ])
        #expect(hosts.map(\.isUpstream) == [false, false, false, true])
        #expect(hosts.map(\.credentialHost) == ["zzz.example:4001", "aaa.example", "mmm.example", "docker.io"])
        #expect(hosts[0].capabilities == [.pull])
        #expect(hosts[0].tls.skipsVerification)
        #expect(hosts[0].headers.map { "\($0.name)=\($0.value)" } == ["x-upstream=https://registry-1.docker.io"])
        #expect(hosts[1].tls.certificateAuthority == "/etc/ca.pem")
        #expect(hosts[1].tls.clientCertificate == "/etc/c.cert" && hosts[1].tls.clientKey == "/etc/c.key")
        #expect(hosts[2].tls.clientCertificate == "\(folder.path)/docker.io/both.pem")
        #expect(hosts[3].tls.certificateAuthority == "\(folder.path)/docker.io/root.pem")
        #expect(hosts[3].capabilities == [.pull, .resolve, .push])
    }

    @Test(
        "are found in every form that the name of the folder has",
        arguments: ["r.example_5000_", "r.example:5000", "_default"])
    func directories(name: String) throws {
        try folder.write("[host.\"http://mirror.example\"]\n", to: "\(name)/hosts.toml")
        let hosts = try RegistryHosts(registry: "r.example:5000", environment: environment).hosts
        #expect(hosts.map(\.base) == ["http://mirror.example/v2", "https://r.example:5000/v2"])
    }

    @Test("take certificates in Docker's form")
    func certificates() throws {
        for name in ["ca.crt", "me.cert", "me.key"] { try folder.write("", to: "r.example/\(name)") }
        let host = try #require(try RegistryHosts(registry: "r.example", environment: environment).hosts.first)
        #expect(host.tls.certificateAuthority == "\(folder.path)/r.example/ca.crt")
        #expect(host.tls.clientCertificate == "\(folder.path)/r.example/me.cert")
        #expect(host.tls.clientKey == "\(folder.path)/r.example/me.key")
    }

    @Test(
        "from a file that cannot be used are an error that names the file",
        arguments: [
            "server = ", "server = 5", "[host.\"ftp://x\"]", "[host.\"http://a b\"]",
            "[host.\"http://x\"]\ncapabilities = [\"fly\"]",
            "[host.\"http://x\"]\nskip_verify = \"yes\"", "[host]\nx = 5", "ca = [\"a\", \"b\"]",
            "[host.\"http://x\".header]\na = [\"b\\r\\nc\"]", "[host.\"http://x\"]\nheader = 1",
        ])
    func refuses(text: String) throws {
        try folder.write(text, to: "r.example/hosts.toml")
        let error = #expect(throws: MCFSError.self) {
            try RegistryHosts(registry: "r.example", environment: environment)
        }
        #expect(error?.code == .configuration)
        #expect(error?.message.contains("\(folder.path)/r.example/hosts.toml") == true)
    }
}
