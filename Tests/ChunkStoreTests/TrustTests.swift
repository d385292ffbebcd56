import ChunkStore
import Foundation
import Glibc
import MCFSCore
import MCFSTestSupport
import Testing

private let digits = Array("0123456789abcdefghij".utf8)

/// What is believed of what an earlier start left.
@Suite(.timeLimit(.minutes(5)))
struct TrustTests {
    private static func mount(_ number: Int) -> String { String(format: "%032d", number) }

    /// A cache whose file system is mounted the `number`th time, and that syncs only when told to.
    private func cache(_ fixture: inout CacheFixture, mount number: Int) throws -> ChunkCache {
        fixture.configuration.mountToken = Self.mount(number)
        fixture.configuration.syncInterval = .seconds(3600)
        return try fixture.open()
    }

    private func gone(_ content: FileContent) -> FileContent {
        FileContent(id: content.id, size: content.size, source: MemorySource([]), offset: 0)
    }

    @Test("what was synced stays over any number of mounts, also where one of them wrote nothing")
    func warmMiddle() throws {
        var fixture = CacheFixture()
        let contents = [
            CacheFixture.placed(MemorySource(digits)), CacheFixture.digested(MemorySource(digits)),
            CacheFixture.placed(MemorySource([7, 8, 9]), "small"),
        ]
        let first = try cache(&fixture, mount: 1)
        for content in contents { _ = try first.open(content).all }
        first.shutDown()
        for number in 2...4 {
            let later = try cache(&fixture, mount: number)
            for content in contents { _ = try later.open(gone(content)).all }
            later.shutDown()
        }
    }

    @Test("under the same mount a killed daemon loses nothing, synced or not")
    func sameMount() throws {
        var fixture = CacheFixture()
        let whole = CacheFixture.placed(MemorySource([1, 2, 3]), "whole")
        let part = CacheFixture.placed(MemorySource(digits), "part")
        let killed = try cache(&fixture, mount: 1)
        _ = try killed.open(whole).all
        _ = try killed.open(part).bytes(4, 8)
        let next = try cache(&fixture, mount: 1)
        defer {
            next.shutDown()
            killed.shutDown()
        }
        #expect(try next.open(gone(whole)).all == [1, 2, 3])
        #expect(try next.open(gone(part)).bytes(4, 8) == Array("4567".utf8))
        next.waitUntilScanned(Deadline(after: .seconds(10)))
        #expect(next.usage.bytesUsed > 0)
    }

    @Test("what was closed before a flush is synced like what is open")
    func closed() throws {
        var fixture = CacheFixture()
        let contents = (0..<3).map { CacheFixture.placed(MemorySource(digits), "\($0)") }
        let killed = try cache(&fixture, mount: 1)
        for content in contents { _ = try killed.open(content).bytes(4, 8) }
        killed.waitUntilSynced()
        _ = try killed.open(contents[0]).bytes(8, 12)
        let next = try cache(&fixture, mount: 2)
        defer {
            next.shutDown()
            killed.shutDown()
        }
        for content in contents { #expect(try next.open(gone(content)).bytes(4, 8) == Array("4567".utf8)) }
        #expect(throws: MCFSError.self) { try next.open(gone(contents[0])).bytes(8, 12) }
    }

    @Test(
        "after another mount a whole file that was not synced is hashed before it is used, or thrown away",
        arguments: [true, false])
    func lostPages(hasDigest: Bool) throws {
        var fixture = CacheFixture(chunkSize: 64)
        let source = MemorySource(digits)
        let content = hasDigest ? CacheFixture.digested(source) : CacheFixture.placed(source)
        let killed = try cache(&fixture, mount: 1)
        defer { killed.shutDown() }
        _ = try killed.open(content).all
        // The name and the size reached the disk, the bytes did not.
        let path = "\(fixture.directory.path)/fresh/\(Self.mount(1))/\(content.id)"
        #expect(truncate(path, 0) == 0 && truncate(path, off_t(digits.count)) == 0)
        let next = try cache(&fixture, mount: 2)
        defer { next.shutDown() }
        #expect(next.localBytes(of: content.id, size: content.size) == 0)
        #expect(try next.open(content).all == digits)
        #expect(source.reads.count == 2)
    }

    @Test("a whole file that was not synced and is right is believed after its hash")
    func provenRight() throws {
        var fixture = CacheFixture(chunkSize: 64)
        let content = CacheFixture.digested(MemorySource(digits))
        let killed = try cache(&fixture, mount: 1)
        defer { killed.shutDown() }
        _ = try killed.open(content).all
        for number in 2...3 {
            let next = try cache(&fixture, mount: number)
            #expect(try next.open(gone(content)).all == digits)
            next.shutDown()
        }
    }

    @Test(
        "of a partial content only what was synced is believed after another mount, at every start after that as well")
    func partial() throws {
        var fixture = CacheFixture()
        let content = CacheFixture.placed(MemorySource(digits))
        let killed = try cache(&fixture, mount: 1)
        defer { killed.shutDown() }
        _ = try killed.open(content).bytes(0, 4)
        killed.waitUntilSynced()
        _ = try killed.open(content).bytes(8, 12)
        for number in [2, 2, 3] {
            let next = try cache(&fixture, mount: number)
            #expect(try next.open(gone(content)).bytes(0, 4) == Array("0123".utf8))
            #expect(throws: MCFSError.self) { try next.open(gone(content)).bytes(8, 12) }
            next.shutDown()
        }
    }

    @Test("a digest that one start began is finished by the next", arguments: [false, true])
    func resumedHash(isWrong: Bool) throws {
        var fixture = CacheFixture()
        let source = MemorySource(digits)
        let content = CacheFixture.digested(source)
        let first = try cache(&fixture, mount: 1)
        _ = try first.open(content).bytes(0, 12)
        first.shutDown()
        if isWrong { source.fail(.flip) }
        let next = try cache(&fixture, mount: 2)
        defer { next.shutDown() }
        let file = next.open(content)
        if isWrong {
            #expect(throws: MCFSError.self) {
                _ = try file.bytes(12, 20)
                _ = try file.all
            }
        } else {
            #expect(try file.all == digits)
            next.waitUntilSynced()
            #expect(files(fixture, in: "blobs").count == 1)
        }
    }

    // MARK: Files that are not what they should be

    private enum Damage: CaseIterable { case cut, grown, link, pipe, folder, gone }

    private func damage(_ path: String, _ damage: Damage) throws {
        let size = try #require(FileManager.default.attributesOfItem(atPath: path)[.size] as? Int)
        switch damage {
        case .cut: #expect(truncate(path, off_t(size / 2)) == 0)
        case .grown: #expect(truncate(path, off_t(size + 5)) == 0)
        case .gone: #expect(unlink(path) == 0)
        case .link: #expect(unlink(path) == 0 && symlink("/etc/passwd", path) == 0)
        case .pipe: #expect(unlink(path) == 0 && mkfifo(path, 0o600) == 0)
        case .folder: #expect(unlink(path) == 0 && mkdir(path, 0o700) == 0)
        }
    }

    private func files(_ fixture: CacheFixture, in area: String) -> [String] {
        let root = fixture.directory.path + "/" + area
        let names = FileManager.default.enumerator(atPath: root)?.allObjects as? [String] ?? []
        return names.map { root + "/" + $0 }.filter { path in
            var status = stat()
            return lstat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFREG
        }
    }

    @Test(
        "a file of the cache that is no plain file of the right length is not believed",
        arguments: ["blobs", "partial"])
    func damaged(area: String) throws {
        for damage in Damage.allCases {
            for hasDigest in [true, false] {
                var fixture = CacheFixture()
                let source = MemorySource(digits)
                let content = hasDigest ? CacheFixture.digested(source) : CacheFixture.placed(source)
                let first = try cache(&fixture, mount: 1)
                _ = try first.open(content).bytes(4, area == "blobs" ? 20 : 8)
                if area == "blobs" { _ = try first.open(content).all }
                first.shutDown()
                for path in files(fixture, in: area) { try self.damage(path, damage) }
                let next = try cache(&fixture, mount: 1)
                #expect(try next.open(content).bytes(4, 8) == Array("4567".utf8), "\(damage) \(hasDigest)")
                #expect(try next.open(content).all == digits, "\(damage) \(hasDigest)")
                next.shutDown()
            }
        }
    }

    @Test("nothing outside of the cache directory is touched, wherever a link in it leads")
    func links() throws {
        for name in ["blobs", "fresh", "partial", "unproven", "tmp", "fresh/other", "blobs/ab", "partial/ab"] {
            for hasContents in [true, false] {
                var fixture = CacheFixture(chunkSize: 64)
                let source = MemorySource(digits)
                let contents = [CacheFixture.digested(source), CacheFixture.placed(source)]
                let elsewhere = TemporaryDirectory()
                let victims = ["passwd", "\(contents[0].id)", "\(contents[1].id)", "\(contents[1].id).20"]
                for victim in victims {
                    try Data("x".utf8).write(to: URL(fileURLWithPath: "\(elsewhere.path)/\(victim)"))
                }
                if hasContents {
                    let first = try cache(&fixture, mount: 1)
                    for content in contents { _ = try first.open(content).all }
                    first.shutDown()
                }
                let link = "\(fixture.directory.path)/\(name)"
                try? FileManager.default.removeItem(atPath: link)
                mkdir((link as NSString).deletingLastPathComponent, 0o700)
                #expect(symlink(elsewhere.path, link) == 0)
                for number in 1...2 {
                    let next = try cache(&fixture, mount: number)
                    for content in contents { #expect(try next.open(content).all == digits, "\(name)") }
                    next.waitUntilSynced()
                    _ = next.evict(contents.map(\.key))
                    next.shutDown()
                }
                let left = try FileManager.default.contentsOfDirectory(atPath: elsewhere.path)
                #expect(Set(left) == Set(victims), "\(name)")
            }
        }
    }

    @Test("a map vouches for no other file that has the name and the length of its own")
    func mapOfAnotherFile() throws {
        var fixture = CacheFixture()
        let content = CacheFixture.placed(MemorySource(digits))
        let first = try cache(&fixture, mount: 1)
        _ = try first.open(content).bytes(0, 12)
        first.shutDown()
        let map = try #require(files(fixture, in: "partial").first { $0.hasSuffix(".map") })
        let path = String(map.dropLast(4))
        // As a power cut leaves them that undoes the removal of one alone, and a copy of a folder that is being written.
        #expect(rename(path, path + ".old") == 0)
        try Data(count: digits.count).write(to: URL(fileURLWithPath: path))
        #expect(chmod(path, 0o600) == 0)
        for number in 1...2 {
            let next = try cache(&fixture, mount: number)
            defer { next.shutDown() }
            #expect(throws: MCFSError.self) { try next.open(gone(content)).bytes(8, 12) }
        }
    }

    @Test("a file that is in doubt takes its space until it is judged")
    func spaceInDoubt() throws {
        var fixture = CacheFixture(chunkSize: 64)
        let contents = [digits, Array(digits.reversed())].map { CacheFixture.digested(MemorySource($0)) }
        let killed = try cache(&fixture, mount: 1)
        defer { killed.shutDown() }
        for content in contents { _ = try killed.open(content).all }
        let next = try cache(&fixture, mount: 2)
        defer { next.shutDown() }
        next.waitUntilScanned(Deadline(after: .seconds(10)))
        #expect(next.usage.bytesUsed == 2 * 4096)
        _ = try next.open(gone(contents[0])).all
        #expect(next.usage.bytesUsed == 2 * 4096)
    }

    @Test("a hole is no chunk, whatever the map says", arguments: [true, false])
    func bitOfAHole(isForeign: Bool) throws {
        var fixture = CacheFixture(chunkSize: 4096)
        let source = MemorySource((0..<20 * 4096).map { UInt8(truncatingIfNeeded: $0 / 4096 + 1) })
        let content = CacheFixture.placed(source)
        let first = try cache(&fixture, mount: 1)
        for page in [0, 1, 7, 19] as [UInt64] { _ = try first.open(content).bytes(page * 4096, page * 4096 + 10) }
        first.shutDown()
        let path = try #require(files(fixture, in: "partial").first { $0.hasSuffix(".map") })
        let map = try #require(FileHandle(forUpdatingAtPath: path))
        // Both bitmaps: 20 chunks each.
        try map.seek(toOffset: 256)
        try map.write(contentsOf: Data([255, 255, 15, 255, 255, 15]))
        try map.close()
        let next = try cache(&fixture, mount: isForeign ? 2 : 1)
        defer { next.shutDown() }
        #expect(next.localBytes(of: content.id, size: content.size) == 4 * 4096)
        #expect(try next.open(content).all == source.bytes)
    }

    @Test("a map vouches for nothing but the file beside it")
    func mapWithoutFile() throws {
        var fixture = CacheFixture()
        let source = MemorySource(digits)
        let content = CacheFixture.placed(source)
        let first = try cache(&fixture, mount: 1)
        _ = try first.open(content).bytes(0, 12)
        first.shutDown()
        let map = try #require(files(fixture, in: "partial").first { $0.hasSuffix(".map") })
        #expect(unlink(String(map.dropLast(4))) == 0)
        let next = try cache(&fixture, mount: 1)
        #expect(try next.open(content).bytes(4, 8) == Array("4567".utf8))
        next.shutDown()
        let last = try cache(&fixture, mount: 1)
        defer { last.shutDown() }
        #expect(throws: MCFSError.self) { try last.open(gone(content)).bytes(8, 12) }
    }
}
