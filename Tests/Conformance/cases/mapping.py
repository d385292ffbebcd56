"""mmap: what is mapped and what is read are the same bytes."""

import mmap
import os
import random
import signal
from errno import EACCES, ENODEV

from suite import *

BLOB = random.Random(6).randbytes(50_001)
READ, WRITE = mmap.PROT_READ, mmap.PROT_READ | mmap.PROT_WRITE


def mapped(path, protection=WRITE, flags=mmap.MAP_SHARED, length=0):
    with opened(path, os.O_RDWR if protection == WRITE and flags == mmap.MAP_SHARED else os.O_RDONLY) as fd:
        return mmap.mmap(fd, length, flags, protection)


@case("mmap/reads", file("f", content=BLOB))
def _():
    assert mapped("f", READ)[:] == BLOB
    assert mapped("f", READ, mmap.MAP_PRIVATE)[:] == BLOB


@case("mmap/writes-are-read", file("f", content=BLOB))
def _():
    view = mapped("f")
    with opened("f") as fd:
        equal(os.pread(fd, 5, 20_000), BLOB[20_000:20_005])
        view[20_000:20_005] = b"fives"
        equal(os.pread(fd, 5, 20_000), b"fives")
    assert read("f") == BLOB[:20_000] + b"fives" + BLOB[20_005:]


@case("mmap/writes-last", file("f", content=BLOB))
def _():
    view = mapped("f")
    view[0:4] = b"head"
    view[-4:] = b"tail"
    view.flush()
    view.close()
    assert read("f") == b"head" + BLOB[4:-4] + b"tail"
    equal(elsewhere(lambda: read("f")[:4].decode()), "head")


@case("mmap/shows-later-writes", file("f", content=BLOB))
def _():
    view = mapped("f")
    with opened("f", os.O_WRONLY) as fd:
        os.pwrite(fd, b"fives", 20_000)
        equal(view[20_000:20_005], b"fives")


@case("mmap/read-only-mapping-shows-later-writes", file("f", content=BLOB))
def _():
    view = mapped("f", READ)
    equal(view[20_000:20_005], BLOB[20_000:20_005])
    with opened("f", os.O_WRONLY) as fd:
        os.pwrite(fd, b"fives", 20_000)
    equal(view[20_000:20_005], b"fives")


@case("mmap/two-mappings-agree", file("f", content=BLOB))
def _():
    one, two = mapped("f"), mapped("f")
    one[100] = 1
    two[101] = 2
    equal((two[100], one[101]), (1, 2))


@case("mmap/between-processes", file("f", content=bytes(4096)))
def _():
    view = mapped("f")

    def other():
        theirs = mapped("f")
        assert theirs[0] == 1
        theirs[1] = 2

    view[0] = 1
    elsewhere(other)
    equal(view[1], 2)


@case("mmap/private-changes-stay-private", file("f", content=BLOB))
def _():
    view = mapped("f", WRITE, mmap.MAP_PRIVATE)
    view[0:4] = b"mine"
    equal(view[0:4], b"mine")
    assert read("f") == BLOB


@case("mmap/outlives-descriptor-and-name", file("f", content=BLOB))
def _():
    view = mapped("f")
    os.unlink("f")
    write("f", b"other")
    view[0:4] = b"mine"
    assert view[:] == b"mine" + BLOB[4:]
    equal(read("f"), b"other")


@case("mmap/beyond-the-end-is-zeros", file("f", content=BLOB))
def _():
    with opened("f", os.O_RDWR) as fd:
        os.ftruncate(fd, 60_000)
        view = mmap.mmap(fd, 60_000)
        equal(view[50_001:], bytes(60_000 - 50_001))
        view[55_000] = 7
        equal(os.pread(fd, 3, 54_999), b"\0\7\0")


@case("mmap/grows-with-the-file", file("f", content=b"x" * 4096))
def _():
    with opened("f", os.O_RDWR) as fd:
        os.ftruncate(fd, 8192)
        view = mmap.mmap(fd, 8192)
        os.ftruncate(fd, 4096)
        os.ftruncate(fd, 8192)
        os.pwrite(fd, b"y", 8000)
        equal((view[0:1], view[8000:8001], view[4096:4100]), (b"x", b"y", bytes(4)))


@case("mmap/truncated-away-kills", file("f", content=BLOB))
def _():
    view = mapped("f")
    os.truncate("f", 100)
    if (pid := os.fork()) == 0:
        view[40_000]
        os._exit(0)
    equal(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), -signal.SIGBUS)
    equal(view[:100], BLOB[:100])


@case("mmap/written-through-a-mapping-and-read-after-it-is-gone", file("f", content=BLOB))
def _():
    with opened("f", os.O_RDWR) as fd:
        view = mmap.mmap(fd, 0)
        for offset in range(0, 50_000, 5000):
            view[offset:offset + 3] = b"map"
            os.pwrite(fd, b"put", offset + 1000)
        view.close()
    expected = bytearray(BLOB)
    for offset in range(0, 50_000, 5000):
        expected[offset:offset + 3], expected[offset + 1000:offset + 1003] = b"map", b"put"
    assert read("f") == expected


@case("mmap/updates-mtime", file("f", content=BLOB))
def _():
    with opened("f", os.O_RDWR) as fd:
        with updates("f", "mtime", "ctime"):
            view = mmap.mmap(fd, 0)
            view[0] = 1
            view.flush()
            view.close()
            os.fsync(fd)


@case("mmap/of-a-file-found-and-changed-before", file("f", content=BLOB))
def _():
    before = mapped("f", READ, mmap.MAP_PRIVATE)
    os.chmod("f", 0o600)
    append("f", b"more")
    view = mapped("f")
    assert view[:] == BLOB + b"more"
    assert before[:] == BLOB


refused(
    "mmap", [file("f"), directory("d")],
    ("shared-to-write-of-read-only-descriptor", EACCES, lambda: mmap.mmap(
        os.open("f", os.O_RDONLY), 4, mmap.MAP_SHARED, WRITE)),
    ("of-write-only-descriptor", EACCES, lambda: mmap.mmap(os.open("f", os.O_WRONLY), 4, mmap.MAP_SHARED, READ)),
    ("of-directory", ENODEV, lambda: mmap.mmap(os.open("d", os.O_RDONLY), 4096, mmap.MAP_SHARED, READ)),
)
