import Foundation
import Glibc
import MCFSCore
import MountFS
import Synchronization
import Testing

@testable import FUSEServer

/// What other processes see of a mount that this process serves.
@Suite(.serialized, .timeLimit(.minutes(5)), .enabled(if: Fixture.canMount, "needs root and /dev/fuse"))
struct MountedTests {
    @Test("bytes from files, from memory and from later answers arrive as they are")
    func contents() async throws {
        try await Fixture.with { fixture in
            let names = ["a.txt", "file.bin", "memory.bin", "late.bin"]
            _ = try fixture.writeReference(names)
            for name in names {
                let result = try await fixture.shell("cmp reference/\(name) $M/\(name)")
                #expect(result.status == 0, "\(name): \(result.output)")
            }
            let direct = try await fixture.shell(
                "dd if=$M/late.bin iflag=direct bs=1M 2>/dev/null | cmp - reference/late.bin")
            #expect(direct.status == 0, "\(direct.output)")
            #expect(fixture.fileSystem.reads.errors == 0)
            #expect(fixture.fileSystem.reads.misses > 0)
        }
    }

    @Test("a file that was read stays in the page cache over open and close")
    func pageCache() async throws {
        try await Fixture.with { fixture in
            _ = try await fixture.shell("cat $M/file.bin > first")
            let count = fixture.store.reads.load(ordering: .relaxed)
            let again = try await fixture.shell("cat $M/file.bin | cmp - first")
            #expect(again.status == 0, "\(again.output)")
            #expect(fixture.store.reads.load(ordering: .relaxed) == count)
        }
    }

    @Test("listing, finding and stat of a large directory see every entry once and read nothing")
    func listings() async throws {
        try await Fixture.with { fixture in
            let found = try await fixture.shell(
                "find $M | sort | uniq | wc -l; find $M | wc -l; ls -lR $M | grep -c nnn")
            #expect(found.output == "1215\n1215\n1200\n")
            let again = try await fixture.shell("ls -U $M/many | wc -l; ls -la $M/many | tail -n +4 | wc -l")
            #expect(again.output == "1201\n1201\n")
            let stat = try await fixture.shell(
                "stat -c '%F %s %a %h %Y' $M/hard.txt $M/link.txt $M/many; stat -c %i $M/a.txt $M/hard.txt | uniq | wc -l; readlink $M/link.txt $M/many/deep/er/est"
            )
            #expect(
                stat.output == """
                    regular file 10 644 2 1700000000
                    symbolic link 5 644 1 1700000000
                    directory 0 755 3 1700000000
                    1
                    a.txt
                    ../../..

                    """)
            #expect(fixture.store.reads.load(ordering: .relaxed) == 0)
        }
    }

    @Test("a tree copied out is the tree")
    func copies() async throws {
        try await Fixture.with { fixture in
            let result = try await fixture.shell(
                "cp -r $M/many $M/a.txt $M/file.bin . && diff -r --no-dereference many $M/many && cmp file.bin $M/file.bin"
            )
            #expect(result.status == 0, "\(result.output)")
        }
    }

    @Test("a failed read is an I/O error for that read alone", arguments: ["broken.bin", "late-broken.bin"])
    func errors(name: String) async throws {
        try await Fixture.with { fixture in
            let result = try await fixture.shell("cat $M/\(name) > /dev/null; cat $M/a.txt | wc -c")
            #expect(result.output.contains("Input/output error"))
            #expect(result.output.hasSuffix("10\n"))
            #expect(fixture.fileSystem.reads.errors > 0)
        }
    }

    @Test("a name that is not there is not there, and writing is refused")
    func refusals() async throws {
        try await Fixture.with { fixture in
            let missing = try await fixture.shell("cat $M/none; cat $M/none; cat $M/many/none/x")
            #expect(missing.output.components(separatedBy: "No such file").count == 4)
            for command in [
                "touch $M/new", "rm $M/a.txt", "mkdir $M/x", "chmod 600 $M/a.txt", "echo x > $M/a.txt",
                "mv $M/a.txt $M/b",
            ] {
                let result = try await fixture.shell(
                    "sh -c '\(command.replacingOccurrences(of: "$M", with: fixture.mountpoint))'")
                #expect(result.output.contains("Read-only file system"), "\(command): \(result.output)")
            }
        }
    }

    @Test("extended attributes follow the rules of getxattr(2)")
    func extendedAttributes() async throws {
        try await Fixture.with { fixture in
            let list = try await fixture.shell("getfattr --absolute-names -d $M/a.txt | grep = | sort")
            #expect(
                list.output == "user.mcfs.local=\"10\"\nuser.mcfs.origin=\"test source\"\nuser.mcfs.verdict=\"any\"\n")
            let script = """
                import ctypes, os, sys
                c = ctypes.CDLL(None, use_errno=True)
                b = ctypes.create_string_buffer(100)
                p = sys.argv[1].encode()
                for n, s in ((b"user.mcfs.verdict", 2), (b"user.mcfs.verdict", 0), (b"user.mcfs.verdict", 3), (b"user.none", 9), (b"security.x", 9)):
                    r = c.getxattr(p, n, b, s)
                    print(r, ctypes.get_errno() if r < 0 else 0)
                print(c.listxattr(p, b, 3), ctypes.get_errno())
                """
            try script.write(toFile: fixture.directory + "/xattr.py", atomically: true, encoding: .utf8)
            let rules = try await fixture.shell("python3 xattr.py $M/a.txt")
            #expect(rules.output == "-1 \(ERANGE)\n3 0\n3 0\n-1 \(ENODATA)\n-1 \(EOPNOTSUPP)\n-1 \(ERANGE)\n")
        }
    }

    @Test("statfs shows the sizes of the tree, and the mount says what it is")
    func statfs() async throws {
        try await Fixture.with { fixture in
            let result = try await fixture.shell("stat -f -c '%S %b %f %c' $M; grep $M /proc/mounts")
            let blocks = (fixture.fileSystem.usage.bytes + 4095) / 4096
            #expect(result.output.hasPrefix("4096 \(blocks) 0 \(fixture.fileSystem.usage.entries)\n"))
            #expect(
                result.output.contains("test,source \(fixture.mountpoint) fuse.mcfs ro,nosuid,nodev"),
                "\(result.output)")
        }
    }

    @Test("a signal gets a reader out of a read that hangs")
    func interrupts() async throws {
        try await Fixture.with { fixture in
            // A buffered read: the kernel waits for O_DIRECT reads of FUSE without looking at signals.
            let reader = try Child(["cat", fixture.mountpoint + "/hang.bin"])
            await fixture.store.hangingRead()
            kill(reader.pid, SIGTERM)
            let result = await reader.result()
            #expect(result.status == 128 + SIGTERM)
            let alive = try await fixture.shell("cat $M/a.txt | wc -c")
            #expect(alive.output == "10\n")
        }
    }

    /// Faults in one page of `hang.bin`, alone, while a timer's signals are handled; prints its first byte.
    /// The timer is stopped before the end: an interpreter that ends gives SIGALRM its default action back, and
    /// would be killed by the next one.
    private static let mapsAPage = """
        import mmap, signal, sys
        signal.signal(signal.SIGALRM, lambda *_: None)
        file = open(sys.argv[1], "rb")
        pages = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
        pages.madvise(mmap.MADV_RANDOM)
        signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)
        first = pages[4096 * 100]
        signal.setitimer(signal.ITIMER_REAL, 0)
        print(first)
        """

    @Test("a signal that a reader handles leaves its read and its page fault waiting for their bytes")
    func handledSignals() async throws {
        try await Fixture.with { fixture in
            let reader = try Child(["python3", "-c", Self.mapsAPage, fixture.mountpoint + "/hang.bin"])
            await fixture.store.hangingRead()
            // Several signals come, and each would be one chance to fail.
            try await Task.sleep(for: .milliseconds(300))
            fixture.store.answerWaiting()
            let result = await reader.result()
            #expect(result.status == 0 && result.output == "\(4096 * 100 % 251)\n", "\(result)")
        }
    }

    @Test("a reader that is killed after a signal that it handled ends at once")
    func killedAfterSignals() async throws {
        try await Fixture.with { fixture in
            let reader = try Child(["python3", "-c", Self.mapsAPage, fixture.mountpoint + "/hang.bin"])
            await fixture.store.hangingRead()
            try await Task.sleep(for: .milliseconds(300))
            kill(reader.pid, SIGKILL)
            #expect(await reader.result().status == 128 + SIGKILL)
            #expect(try await fixture.shell("cat $M/a.txt | wc -c").output == "10\n")
        }
    }

    @Test("more reads hang than there are threads, and the mount still answers")
    func manyHang() async throws {
        try await Fixture.with(threads: 2) { fixture in
            var readers: [Child] = []
            for offset in 0..<6 {
                readers.append(
                    try Child([
                        "dd", "if=\(fixture.mountpoint)/hang.bin", "iflag=direct", "bs=4096", "count=1",
                        "skip=\(offset)",
                    ]))
                await fixture.store.hangingRead()
            }
            let alive = try await fixture.shell("cat $M/a.txt | wc -c; ls $M | wc -l")
            #expect(alive.output == "10\n11\n")
            #expect(throws: MCFSError.self) { try fixture.session.unmount(force: false) }
            try fixture.session.unmount(force: true)
            for reader in readers { #expect(await reader.result().status != 0) }
            await fixture.ended()
        }
    }

    @Test("threads that get stuck where none should wait hold up nobody, as long as there are others")
    func stuck() async throws {
        try await Fixture.with(threads: 4) { fixture in
            var readers: [Child] = []
            for count in 1...3 {
                readers.append(try Child(["cat", fixture.mountpoint + "/stuck.bin"]))
                fixture.store.stuckThreads(count)
                let alive = try await fixture.shell("cat $M/a.txt | wc -c; stat -c %s $M/file.bin; ls $M | wc -l")
                #expect(alive.output == "10\n5000123\n11\n")
            }
            fixture.store.letGo()
            for reader in readers { #expect(await reader.result().status == 0) }
        }
    }

    @Test("many programs that open, read, list and look at once all get what is right")
    func crowd() async throws {
        try await Fixture.with { fixture in
            _ = try fixture.writeReference(["a.txt", "file.bin", "late.bin"])
            let result = try await fixture.shell(
                "seq 60 | xargs -P 12 -n 1 sh -c 'for f in a.txt file.bin late.bin; do cmp reference/$f $M/$f; done; "
                    .replacingOccurrences(of: "$M", with: fixture.mountpoint)
                    + "ls \(fixture.mountpoint)/many | wc -l' | sort | uniq -c")
            #expect(result.output.split(separator: "\n").map { $0.split(separator: " ") } == [["60", "1201"]])
        }
    }

    @Test("a polite unmount refuses while a file is open, and succeeds when it is closed")
    func busy() async throws {
        try await Fixture.with { fixture in
            let reader = try Child(["cat", fixture.mountpoint + "/hang.bin"])
            await fixture.store.hangingRead()
            let error = #expect(throws: MCFSError.self) { try fixture.session.unmount(force: false) }
            #expect(error?.code == .busy)
            kill(reader.pid, SIGKILL)
            _ = await reader.result()
            // RELEASE follows the end of the process: the kernel may take a moment.
            var isDone = false
            while !isDone {
                do {
                    try fixture.session.unmount(force: false)
                    isDone = true
                } catch {
                    await Task.yield()
                }
            }
            await fixture.ended()
            let mounts = try await fixture.shell("grep -c $M /proc/mounts")
            #expect(mounts.output == "0\n")
        }
    }

    @Test("umount(8) from outside ends the session")
    func outside() async throws {
        try await Fixture.with { fixture in
            let result = try await fixture.shell("umount $M")
            #expect(result.status == 0, "\(result.output)")
            await fixture.ended()
            try fixture.session.unmount(force: false)
        }
    }
}
