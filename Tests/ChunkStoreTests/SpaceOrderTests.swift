@testable import ChunkStore
import MCFSCore
import Testing

@Suite(.timeLimit(.minutes(5)))
struct SpaceOrderTests {
    private func key(_ number: Int, size: UInt64 = 1) -> ContentKey {
        ContentKey(BlobID(origin: "\(number)"), size: size)
    }

    private func scanned(_ bytesMax: UInt64 = 1 << 40, _ files: [CacheStart.File] = []) -> Space {
        let space = Space(bytesMax: bytesMax)
        space.scanned(files)
        return space
    }

    @Test("contents go in the order of their last use, whatever their number")
    func order() {
        let space = scanned()
        for number in 0..<20_000 { space.set(key(number), bytes: 1, diskBytes: 4096) }
        for number in 0..<10 { _ = space.touch(key(number)) }
        #expect(space.oldest(3) == [10, 11, 12].map { key($0) })
        space.isInUse(key(11))
        #expect(space.oldest(3) == [10, 12, 13].map { key($0) })
        for number in 10..<20_000 { space.set(key(number), bytes: 0, diskBytes: 0) }
        #expect(space.oldest(20) == (0..<10).map { key($0) })
        #expect(space.used == 10 * 4096 && space.evictableCount == 10)
    }

    @Test("what is pinned is not among what may go, whenever it was pinned and whenever it came")
    func pins() {
        let space = Space(bytesMax: 1 << 40)
        space.setPinned([key(1), key(2), key(7)])
        space.set(key(2), bytes: 20, diskBytes: 4096)
        let files = [1, 3, 4].map { CacheStart.File(key: key($0), local: 10, onDisk: 4096, used: Int64($0)) }
        space.scanned(files)
        #expect(space.oldest(9) == [3, 4].map { key($0) } && space.pinnedBytes == 30)
        space.set(key(7), bytes: 7, diskBytes: 4096)
        _ = space.touch(key(1))
        #expect(space.oldest(9) == [3, 4].map { key($0) } && space.pinnedBytes == 37)
        space.setPinned([key(3), key(7)])
        #expect(space.oldest(9).first == key(4) && space.evictableCount == 3 && space.pinnedBytes == 17)
        space.set(key(7), bytes: 0, diskBytes: 0)
        space.setPinned([])
        #expect(space.oldest(9).count == 4 && space.pinnedBytes == 0 && space.used == 4 * 4096)
        #expect(space.contents.count == 4)
    }

    @Test("after a start the order is that of the disk, and what was used since is younger")
    func scan() {
        let space = Space(bytesMax: 1 << 40)
        space.set(key(5), bytes: 1, diskBytes: 4096)
        space.set(key(6), bytes: 1, diskBytes: 4096)
        space.set(key(6), bytes: 0, diskBytes: 0)
        let files = [(1, 30), (2, 10), (3, 20), (5, 5), (6, 1)].map { number, used in
            CacheStart.File(key: key(number), local: 1, onDisk: 4096, used: Int64(used))
        }
        #expect(!space.isScanned && space.localBytes(key(1)) == nil && space.localBytes(key(6)) == 0)
        space.scanned(files)
        #expect(space.oldest(10) == [2, 3, 1, 5].map { key($0) })
        #expect(space.localBytes(key(9)) == 0)
    }

    @Test("the disk is told of a use once a minute, however often there is one")
    func told() {
        // Used two minutes ago, as the disk has it.
        let file = CacheStart.File(key: key(1), local: 1, onDisk: 4096, used: 1)
        let space = scanned(1 << 40, [file])
        #expect(space.touch(key(1)))
        for _ in 0..<100 { #expect(!space.touch(key(1))) }
    }

    @Test("contents of one identity and several sizes are told apart")
    func sizes() {
        let space = scanned()
        for size in 1...5 as ClosedRange<UInt64> { space.set(key(1, size: size), bytes: size, diskBytes: 4096) }
        space.set(key(1, size: 1), bytes: 0, diskBytes: 0)
        #expect(space.localBytes(key(1, size: 1)) == 0)
        for size in 2...5 as ClosedRange<UInt64> { #expect(space.localBytes(key(1, size: size)) == size) }
        #expect(Set(space.contents.map(\.key)) == Set((2...5).map { key(1, size: $0) }))
        #expect(space.used == 4 * 4096)
    }

    @Test("who reserves gets room once it is there, and none where nothing can go")
    func reservations() {
        let space = scanned(3 * 4096)
        let soon = Deadline(after: .seconds(20))
        var first: Reservation? = space.reserve(2 * 4096, until: soon)
        #expect(first != nil)
        #expect(space.reserve(4 * 4096, until: soon) == nil)
        space.evictedAllThereIs()
        #expect(space.reserve(2 * 4096, until: soon) == nil)
        first = nil
        #expect(space.reserve(2 * 4096, until: soon) != nil)
    }
}
