import Foundation
import MCFSCore
import MCFSTestSupport
import Testing

@testable import Daemon

@Suite struct ConfigurationTests {
    private func load(
        _ yaml: String?, _ variables: [String: String] = [:], flags: [Configuration.Key: Configuration.Setting] = [:]
    )
        throws -> Configuration
    {
        let home = TemporaryDirectory()
        if let yaml {
            try FileManager.default.createDirectory(atPath: home.path + "/mcfs", withIntermediateDirectories: true)
            try yaml.write(toFile: home.path + "/mcfs/config.yaml", atomically: true, encoding: .utf8)
        }
        return try withExtendedLifetime(home) {
            try Configuration.load(
                flags: flags,
                environment: Environment(variables.merging(["XDG_CONFIG_HOME": home.path, "HOME": home.path]) { $1 }),
                isRoot: false, workingDirectory: "/work")
        }
    }

    @Test("flags win over variables, variables over files, files over defaults")
    func precedence() throws {
        #expect(try load(nil).cacheBytesMax == 50 << 30)
        #expect(try load("cacheSize: 1GiB\n").cacheBytesMax == 1 << 30)
        #expect(try load("cacheSize: 1GiB\n", ["MCFS_CACHE_SIZE": "2GiB"]).cacheBytesMax == 2 << 30)
        let flag = [Configuration.Key.cacheSize: Configuration.Setting("3GiB", place: "--cache-size")]
        #expect(try load("cacheSize: 1GiB\n", ["MCFS_CACHE_SIZE": "2GiB"], flags: flag).cacheBytesMax == 3 << 30)
    }

    @Test(
        "what cannot be used is one sentence that names where it stands",
        arguments: [
            ("cacheSise: 1GiB\n", "cacheSise"), ("cacheSize: many\n", "many"), ("- a\n", "mapping"),
            ("cacheSize: [1]\n", "cacheSize"),
            ("a: b: c\n", "YAML"), ("chunkSize: 5000\n", "power of two"), ("readDeadline: 0\n", "readDeadline"),
            ("fetchThreads: 0\n", "fetchThreads"), ("logLevel: loud\n", "loud"),
        ])
    func refused(yaml: String, word: String) throws {
        let error = #expect(throws: MCFSError.self) { try load(yaml) }
        #expect(error?.code == .configuration)
        #expect(error?.message.contains(word) == true, "\(error?.message ?? "")")
    }

    @Test("the cache directory follows who runs and what is set")
    func directory() throws {
        #expect(Configuration.defaultCacheDirectory(environment: Environment([:]), isRoot: true) == "/var/cache/mcfs")
        #expect(
            Configuration.defaultCacheDirectory(environment: Environment(["HOME": "/h"]), isRoot: false)
                == "/h/.cache/mcfs")
        #expect(
            Configuration.defaultCacheDirectory(environment: Environment(["XDG_CACHE_HOME": "/x"]), isRoot: false)
                == "/x/mcfs")
        #expect(try load(nil, ["MCFS_CACHE_DIR": "rel"]).cacheDirectory == "/work/rel")
    }
}

@Suite struct GlobTests {
    @Test(
        "patterns mean what a shell's do, and ** any depth",
        arguments: [
            ("*.json", "a/b/config.json", true), ("*.json", "config.jsonl", false), ("/a/*", "a/b", true),
            ("/a/*", "x/a/b", false), ("a/**/c", "a/c", true), ("a/**/c", "a/x/y/c", true), ("a", "a/b/c", true),
            ("[!a]*", "b", true), ("[!a]*", "a", false), ("model-0000?-of-*", "model-00001-of-00002.safetensors", true),
            ("\\*", "*", true), ("\\*", "a", false), ("**", "anything/at/all", true),
        ])
    func globs(pattern: String, path: String, expected: Bool) throws {
        #expect(Glob(pattern).matches(try TreePath(path)) == expected)
    }

    @Test("many stars cost no more than their product", .timeLimit(.minutes(5)))
    func hostile() throws {
        let path = try TreePath(String(repeating: "a", count: 200))
        #expect(!Glob(String(repeating: "*a", count: 60) + "b").matches(path))
        let deep = try TreePath(Array(repeating: "a", count: 100).joined(separator: "/"))
        #expect(!Glob(Array(repeating: "**/a", count: 40).joined(separator: "/") + "/b").matches(deep))
    }
}

@Suite struct CacheLockTests {
    @Test("a directory has one daemon; another version's is left alone")
    func lock() throws {
        let directory = TemporaryDirectory()
        let path = directory.path + "/cache"
        do {
            let first = try CacheLock(path)
            let error = #expect(throws: MCFSError.self) { try CacheLock(path) }
            #expect(error?.code == .busy)
            withExtendedLifetime(first) {}
        }
        _ = try CacheLock(path)
        try "mcfs cache 99\n".write(toFile: path + "/VERSION", atomically: true, encoding: .utf8)
        let error = #expect(throws: MCFSError.self) { try CacheLock(path) }
        #expect(error?.code == .configuration)
        #expect(try String(contentsOfFile: path + "/VERSION", encoding: .utf8) == "mcfs cache 99\n")
        withExtendedLifetime(directory) {}
    }
}
