import Foundation
import Glibc
import MCFSCore
import Synchronization
import Testing

@testable import FUSEServer

/// What the kernel reads by itself. `file.bin` of the fixture can be passed through; a kernel that cannot fails these.
@Suite(.serialized, .timeLimit(.minutes(5)), .enabled(if: Fixture.canMount, "needs root and /dev/fuse"))
struct PassthroughTests {
    @Test("a complete file is read, mapped and sent without the server")
    func complete() async throws {
        try await Fixture.with(passthrough: true) { fixture in
            #expect(fixture.session.isPassingThrough)
            fixture.store.hasComplete.store(true, ordering: .relaxed)
            _ = try fixture.writeReference(["file.bin"])
            for script in [
                "cmp reference/file.bin $M/file.bin",
                "dd if=$M/file.bin iflag=direct bs=1M 2>/dev/null | cmp - reference/file.bin",
                "python3 -c \"import mmap,sys; f=open('$M/file.bin','rb'); sys.stdout.buffer.write(mmap.mmap(f.fileno(),0,prot=mmap.PROT_READ))\" | cmp - reference/file.bin",
                "cp $M/file.bin copy && cmp copy reference/file.bin",
            ] {
                let result = try await fixture.shell(script)
                #expect(result.status == 0, "\(script): \(result.output)")
            }
            #expect(fixture.store.reads.load(ordering: .relaxed) == 0)
        }
    }

    @Test(
        "a file that gets complete while it is open or mapped stays as it was opened, and is passed through afterwards")
    func completedWhileOpen() async throws {
        try await Fixture.with(passthrough: true) { fixture in
            let store = fixture.store
            _ = try fixture.writeReference(["file.bin"])
            // Holds a map after its descriptor is closed.
            try """
            import mmap, os, sys, time
            f = open(sys.argv[1], "rb")
            m = mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ)
            f.close()
            m[0]
            open("ready", "w")
            while not os.path.exists("go"): time.sleep(0.01)
            sys.stdout.buffer.write(m)
            """.write(toFile: fixture.directory + "/hold.py", atomically: true, encoding: .utf8)
            async let held = fixture.shell("python3 hold.py $M/file.bin | cmp - reference/file.bin")
            _ = try await fixture.shell("while [ ! -e ready ]; do sleep 0.01; done")
            store.hasComplete.store(true, ordering: .relaxed)
            let meanwhile = try await fixture.shell(
                "dd if=$M/file.bin iflag=direct bs=1M 2>/dev/null | cmp - reference/file.bin")
            #expect(meanwhile.status == 0, "\(meanwhile.output)")
            let readsWhileHeld = store.reads.load(ordering: .relaxed)
            #expect(readsWhileHeld > 0)
            _ = try await fixture.shell("touch go")
            #expect(try await held.status == 0)

            // The last RELEASE comes soon after the map is gone.
            var reads = -1
            for _ in 0..<500 where reads != store.reads.load(ordering: .relaxed) {
                reads = store.reads.load(ordering: .relaxed)
                let after = try await fixture.shell(
                    "dd if=$M/file.bin iflag=direct bs=1M 2>/dev/null | cmp - reference/file.bin")
                #expect(after.status == 0, "\(after.output)")
            }
            #expect(reads == store.reads.load(ordering: .relaxed))
        }
    }

    @Test("readers that open and close at once never see an error while the file gets complete and incomplete")
    func races() async throws {
        try await Fixture.with(passthrough: true) { fixture in
            let store = fixture.store
            _ = try fixture.writeReference(["file.bin"])
            async let readers = fixture.shell(
                "seq 400 | xargs -P 8 -n 1 sh -c 'head -c 70000 $M/file.bin | cmp -n 70000 - reference/file.bin || echo bad'"
                    .replacingOccurrences(of: "$M", with: fixture.mountpoint))
            let isDone = Flag()
            let switcher = Task.detached {
                while !isDone.isSet {
                    store.hasComplete.store(!store.hasComplete.load(ordering: .relaxed), ordering: .relaxed)
                    try? await Task.sleep(for: .milliseconds(3))
                }
            }
            let result = try await readers
            isDone.set()
            await switcher.value
            #expect(result.status == 0)
            #expect(result.output == "")
        }
    }

    @Test("pages that the kernel cached before go when a file is passed through")
    func pagesOnce() async throws {
        try await Fixture.with(passthrough: true) { fixture in
            _ = try await fixture.shell("cat $M/file.bin > /dev/null")
            #expect(fixture.store.reads.load(ordering: .relaxed) > 0)
            fixture.store.hasComplete.store(true, ordering: .relaxed)
            _ = try await fixture.shell("head -c 1 $M/file.bin > /dev/null")
            // Read through the server again: the pages of the first read are gone, once the dropper was there.
            fixture.store.hasComplete.store(false, ordering: .relaxed)
            var grows = false
            for _ in 0..<500 where !grows {
                let before = fixture.store.reads.load(ordering: .relaxed)
                _ = try await fixture.shell("cat $M/file.bin > /dev/null")
                grows = fixture.store.reads.load(ordering: .relaxed) > before
            }
            #expect(grows)
        }
    }

    @Test("without a file to try it on, everything goes through the server")
    func off() async throws {
        try await Fixture.with { fixture in
            fixture.store.hasComplete.store(true, ordering: .relaxed)
            #expect(!fixture.session.isPassingThrough)
            _ = try fixture.writeReference(["file.bin"])
            #expect(try await fixture.shell("cmp reference/file.bin $M/file.bin").status == 0)
            #expect(fixture.store.reads.load(ordering: .relaxed) > 0)
        }
    }
}
