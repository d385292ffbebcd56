import MCFSCore
import Testing

@testable import OCI

@Suite("Image references")
struct ImageReferenceTests {
    static let digest = "sha256:" + String(repeating: "ab", count: 32)

    @Test(
        "are read and completed as Docker does",
        arguments: [
            ("oci://registry.example.com/team/cache:v1", "registry.example.com", "team/cache", "v1"),
            ("oci://registry.example.com/team/cache", "registry.example.com", "team/cache", "latest"),
            ("localhost:5000/x:1.0", "localhost:5000", "x", "1.0"),
            ("oci://localhost/x", "localhost", "x", "latest"),
            ("oci://127.0.0.1:5000/a/b__c/d-e.f", "127.0.0.1:5000", "a/b__c/d-e.f", "latest"),
            ("oci://[::1]:5000/x:y", "[::1]:5000", "x", "y"),
            ("busybox", "docker.io", "library/busybox", "latest"),
            ("oci://docker.io/busybox:1", "docker.io", "library/busybox", "1"),
            ("team/app", "docker.io", "team/app", "latest"),
            ("index.docker.io/team/app", "docker.io", "team/app", "latest"),
            ("registry.ollama.ai/llama3:8b", "registry.ollama.ai", "library/llama3", "8b"),
            ("oci://hf.co/Org/Name-GGUF:Q4_K_M", "hf.co", "Org/Name-GGUF", "Q4_K_M"),
            ("Registry.Example.com/x", "registry.example.com", "x", "latest"),
        ])
    func parses(text: String, host: String, repository: String, tag: String) throws {
        let reference = try ImageReference(text)
        #expect(reference.host == host)
        #expect(reference.repository == repository)
        #expect(reference.tag == tag)
        #expect(reference.digest == nil)
    }

    @Test("with a digest need no tag, and their resolved form can be typed back")
    func digests() throws {
        let reference = try ImageReference("oci://r.example/a/b@\(Self.digest)")
        #expect(reference.tag == nil)
        #expect(reference.manifestReference == Self.digest)
        let tagged = try ImageReference("oci://r.example:5000/a/b:v1@\(Self.digest)")
        #expect(tagged.tag == "v1")
        #expect(tagged.manifestReference == Self.digest)
        let resolved = tagged.resolved(to: try #require(tagged.digest))
        #expect(resolved == "oci://r.example:5000/a/b@\(Self.digest)")
        #expect(try ImageReference(resolved).digest == tagged.digest)
        let hub = try ImageReference("busybox@\(Self.digest)")
        #expect(try ImageReference(hub.resolved(to: #require(hub.digest))).repository == "library/busybox")
    }

    @Test(
        "that break the grammar are refused as usage errors",
        arguments: [
            "", "oci://", "oci:///x", "oci://r.example", "oci://localhost:5000", "oci://r.example/",
            "oci://r.example/A",
            "oci://r.example/a//b", "oci://r.example/a/", "oci://r.example/-a", "oci://r.example/a_-b",
            "oci://r.example/a___b", "oci://r.example/a..b", "oci://r.example/../etc", "oci://r.example/a:",
            "oci://r.example/a:.x",
            "oci://r.example/a:x y", "oci://r.example/a@sha256:12", "oci://r.example/a@", "oci://r.example:0/a",
            "oci://r.example:+5/a", "oci://r.example:99999/a", "oci://user@r.example/a", "oci://r..example/a",
            "oci://-r.example/a", "oci://[::1/a", "oci://[]:1/a", "oci://r.example/a b", "oci://r.example/a?x=y",
            "oci://r.example/" + String(repeating: "a", count: 300),
            "oci://r.example/a:" + String(repeating: "a", count: 129), "oci://r.example/\u{0}", "oci://r.example/é",
        ])
    func refuses(text: String) {
        let error = #expect(throws: MCFSError.self) { try ImageReference(text) }
        #expect(error?.code == .usage)
        #expect(error?.message.contains("oci://registry.example.com/team/cache:v1") == true)
    }
}
