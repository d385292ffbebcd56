import ControlAPI
import Glibc
import MCFSCore
import MCFSTestSupport
import Testing

@testable import Daemon

@Suite struct MountRecordsTests {
    private let folder = TemporaryDirectory()

    private func record(_ mountpoint: String, references: [String] = ["file:/f"], _ environment: [String: String] = [:])
        -> MountRecord
    {
        MountRecord(
            MountRequest(
                references: references, mountpoint: mountpoint,
                caller: Caller(workingDirectory: "/", environment: environment)), [])
    }

    @Test("a record is there until it is forgotten, and each mountpoint has its own")
    func keeping() throws {
        let records = MountRecords(cacheDirectory: folder.path)
        #expect(records.all.isEmpty && !records.forget("/a"))
        for place in ["/b", "/a/b", "/a"] { try records.keep(record(place)) }
        #expect(records.all.map(\.request.mountpoint) == ["/a", "/a/b", "/b"])
        #expect(records.forget("/a") && !records.forget("/a"))
        #expect(records.record(of: "/a") == nil && records.record(of: "/b") != nil)
        records.freeze()
        #expect(!records.forget("/b"))
        #expect(MountRecords(cacheDirectory: folder.path).all.count == 2)
    }

    @Test("what is damaged, or lies under another name, is nobody's mount")
    func damage() throws {
        let records = MountRecords(cacheDirectory: folder.path)
        try records.keep(record("/a"))
        let names = try #require(try? DirectoryNames(folder.path + "/mounts").names)
        let path = folder.path + "/mounts/" + (try #require(names.first))
        #expect(link(path, folder.path + "/mounts/other.json") == 0)
        #expect(symlink(path, folder.path + "/mounts/link.json") == 0)
        #expect(records.all.count == 1)
        #expect(truncate(path, 10) == 0)
        #expect(records.all.isEmpty)
    }

    @Test("nothing that may be a credential is recorded")
    func secrets() throws {
        let kept = [
            "HOME": "/home/u", "AWS_PROFILE": "models", "AWS_ENDPOINT_URL": "http://s3:9000", "no_proxy": "local",
            "HF_ENDPOINT": "https://hub", "https_proxy": "http://proxy:3128",
        ]
        let secret = [
            "AWS_SECRET_ACCESS_KEY": "s", "AWS_ACCESS_KEY_ID": "s", "AWS_SESSION_TOKEN": "s", "HF_TOKEN": "s",
            "HUGGING_FACE_HUB_TOKEN": "s", "AWS_CONTAINER_AUTHORIZATION_TOKEN": "s",
            "HTTP_PROXY": "http://u:s@proxy", "AWS_ENDPOINT_URL_S3": "http://u:s@s3", "AWS_SOMETHING_NEW": "s",
        ]
        #expect(MountRecord.withoutSecrets(kept.merging(secret) { $1 }) == kept)
        #expect(record("/m").lacks == nil && record("/m", references: ["oci://r/a@sha256:1"]).lacks == nil)
        #expect(record("/m", references: ["http://u:s@h/d/"]).lacks != nil)
    }

    @Test(
        "three ends within a minute keep a mount from being made again",
        arguments: [
            ([], false), ([0, 1], false), ([0, 1, 2], true), ([0, 59, 61], false), ([0, 100, 101, 102], true),
        ] as [([Double], Bool)])
    func suspension(attempts: [Double], isSuspended: Bool) {
        var record = self.record("/m")
        record.attempts = attempts
        #expect(record.isSuspended == isSuspended && (record.hindrance != nil) == isSuspended)
    }
}

@Suite struct ServiceManagerTests {
    private let folder = TemporaryDirectory()

    @Test("a service manager that wants to be told is told", .timeLimit(.minutes(5)))
    func notifying() throws {
        #expect(ServiceManager(Environment([:])) == nil)
        #expect(ServiceManager(Environment(["NOTIFY_SOCKET": "vsock:1"])) == nil)
        let path = folder.path + "/notify"
        let listener = OwnedDescriptor(owning: socket(AF_UNIX, CInt(SOCK_DGRAM.rawValue), 0))
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: Array(path.utf8)) }
        let result = withUnsafePointer(to: address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(listener.rawValue, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
            }
        }
        #expect(result == 0)
        let manager = try #require(
            ServiceManager(
                Environment(["NOTIFY_SOCKET": path, "WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "7"]), process: 7))
        #expect(manager.watchdog == .seconds(3))
        manager.say("READY=1")
        var buffer = [UInt8](repeating: 0, count: 64)
        #expect(recv(listener.rawValue, &buffer, buffer.count, 0) == 7)
        #expect(buffer.starts(with: "READY=1".utf8))
        #expect(
            ServiceManager(
                Environment(["NOTIFY_SOCKET": path, "WATCHDOG_USEC": "3", "WATCHDOG_PID": "7"]), process: 8)?.watchdog
                == nil)
    }
}

private struct DirectoryNames {
    let names: [String]

    init(_ path: String) throws {
        guard let stream = opendir(path) else { throw Errno.current }
        defer { closedir(stream) }
        var names: [String] = []
        while let entry = readdir(stream) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) {
                $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            if name.hasSuffix(".json") { names.append(name) }
        }
        self.names = names
    }
}
