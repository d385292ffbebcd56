import Testing

@testable import OCI

@Suite("Locations of redirects")
struct RegistryLocationTests {
    @Test("are kept byte for byte")
    func keepsBytes() {
        let signed = "https://s3.example/b/k?X-Amz-Signature=a%2Fb+c&X=%20"
        #expect(RegistryLocation(signed)?.description == signed)
        #expect(RegistryLocation("HTTPS://S3.Example:443/x#y")?.description == "https://s3.example/x")
        #expect(RegistryLocation("http://h")?.description == "http://h/")
        #expect(RegistryLocation("http://h?q")?.description == "http://h/?q")
    }

    @Test(
        "of other schemes, with user names or control characters are refused",
        arguments: [
            "file:///etc/passwd", "ftp://h/x", "http://", "https:///x", "http://u:p@h/", "http://h/a b",
            "http://h/\r\nX: y", "h/x",
            "", "http://h:99999/",
        ])
    func refuses(text: String) {
        #expect(RegistryLocation(text) == nil)
    }

    @Test(
        "are resolved against where they came from",
        arguments: [
            ("/c?d", "https://h:5000/c?d"), ("c", "https://h:5000/v2/c"), ("?z", "https://h:5000/v2/b?z"),
            ("//g/x", "https://g/x"), ("https://g/x", "https://g/x"),
        ])
    func resolves(reference: String, expected: String) {
        let base = RegistryLocation("https://h:5000/v2/b?q=1/2")
        #expect(base?.resolving(reference)?.description == expected)
    }

    @Test(
        "that lead to another scheme by a relative form, or to plain text, are refused",
        arguments: ["file:/etc/passwd", "javascript:x", "", "a b", "http://h:5000/v2/b"])
    func refusesRelative(reference: String) {
        #expect(RegistryLocation("https://h/v2/b")?.resolving(reference) == nil)
    }
}
