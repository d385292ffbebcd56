"""Reading, writing, truncating."""

import hashlib
import mmap
import os
import random
import resource
import signal
from errno import EFBIG, EINVAL, EISDIR, ENXIO

from suite import *

# Larger than a page, and not a multiple of one.
BLOB = random.Random(1).randbytes(300_001)


@case("data/read-in-pieces", file("f", content=BLOB))
def _():
    for length in (1000, 4096, 65536, 1 << 20):
        pieces = []
        with opened("f") as fd:
            while piece := os.read(fd, length):
                pieces.append(piece)
            equal(os.read(fd, 10), b"")
        assert b"".join(pieces) == BLOB, f"in pieces of {length}"


@case("data/read-anywhere", file("f", content=BLOB))
def _():
    chance = random.Random(2)
    with opened("f") as fd:
        for _ in range(200):
            offset, length = chance.randrange(310_000), chance.choice((1, 4096, 50_000))
            assert os.pread(fd, length, offset) == BLOB[offset:offset + length], f"{length} bytes from {offset}"


@case("data/write-anywhere", file("f", content=BLOB))
def _():
    chance, model = random.Random(3), bytearray(BLOB)
    with opened("f", os.O_RDWR) as fd:
        for round in range(200):
            offset, piece = chance.randrange(310_000), chance.randbytes(chance.choice((1, 4096, 20_000)))
            equal(os.pwrite(fd, piece, offset), len(piece))
            model.extend(bytes(max(0, offset + len(piece) - len(model))))
            model[offset:offset + len(piece)] = piece
            if round % 20 == 0:
                length = chance.randrange(320_000)
                os.ftruncate(fd, length)
                model = model[:length] + bytes(max(0, length - len(model)))
        assert read_all(fd) == model
    equal(size("f"), len(model))
    assert read("f") == model


@case("data/one-byte-in-a-large-file", file("f", content=BLOB))
def _():
    with opened("f", os.O_WRONLY) as fd:
        os.pwrite(fd, b"!", 150_000)
    assert read("f") == BLOB[:150_000] + b"!" + BLOB[150_001:]


@case("data/8-mib-at-once")
def _():
    blob = random.Random(4).randbytes(8 * MIB + 5)
    write("f", blob)
    equal((size("f"), hashlib.sha256(read("f")).hexdigest()), (len(blob), hashlib.sha256(blob).hexdigest()))


@case("data/vectors", file("f", content=b""))
def _():
    with opened("f", os.O_RDWR) as fd:
        equal(os.writev(fd, [b"one", b"", b"two", b"three" * 2000]), 10_006)
        parts = [bytearray(3), bytearray(3), bytearray(9990)]
        equal(os.preadv(fd, parts, 0), 9996)
        equal((bytes(parts[0]), bytes(parts[1]), bytes(parts[2][:5])), (b"one", b"two", b"three"))
        equal(os.pwritev(fd, [b"ONE", b"TWO"], 0), 6)
    equal(read("f")[:9], b"ONETWOthr")


@case("data/gap-is-zeros", file("f"))
def _():
    with opened("f", os.O_WRONLY) as fd:
        os.pwrite(fd, b"end", 10_000)
    equal(read("f"), CONTENT + bytes(10_000 - len(CONTENT)) + b"end")


@case("data/write-of-nothing", file("f"))
def _():
    with opened("f", os.O_WRONLY) as fd:
        equal(os.pwrite(fd, b"", 10_000), 0)
    equal((size("f"), read("f")), (len(CONTENT), CONTENT))


@case("data/two-descriptors-agree", file("f", content=BLOB))
def _():
    with opened("f", os.O_RDWR) as one, opened("f", os.O_RDWR) as two:
        for offset in range(0, 300_000, 30_000):
            os.pwrite(one, b"1" * 5000, offset)
            equal(os.pread(two, 5000, offset), b"1" * 5000)
            os.pwrite(two, b"2" * 100, offset + 50)
            equal(os.pread(one, 200, offset), b"1" * 50 + b"2" * 100 + b"1" * 50)
            equal(os.fstat(one).st_size, os.fstat(two).st_size)


@case("data/another-process-sees-it-at-once", file("f"))
def _():
    with opened("f", os.O_WRONLY) as fd:
        for text in (b"first", b"second, longer", b"third"):
            os.ftruncate(fd, 0)
            os.pwrite(fd, text, 0)
            equal(elsewhere(lambda: [read("f").decode(), size("f")]), [text.decode(), len(text)])


@case("data/position-is-shared-with-children", file("f", content=b"0123456789"))
def _():
    with opened("f") as fd:
        equal(os.read(fd, 2), b"01")
        equal(elsewhere(lambda: os.read(fd, 3).decode()), "234")
        equal(os.read(fd, 2), b"56")


@case("data/positions", file("f", content=b"0123456789"))
def _():
    with opened("f") as fd:
        equal(os.lseek(fd, -3, os.SEEK_END), 7)
        equal(os.read(fd, 99), b"789")
        equal(os.lseek(fd, -5, os.SEEK_CUR), 5)
        equal(os.lseek(fd, 1 << 40, os.SEEK_SET), 1 << 40)
        equal(os.read(fd, 1), b"")
        for call in (lambda: os.lseek(fd, -1, os.SEEK_SET), lambda: os.lseek(fd, 0, 99)):
            with fails(EINVAL):
                call()


@case("data/direct", file("f", content=BLOB[:65536]))
def _():
    buffer = mmap.mmap(-1, 8192)
    with opened("f", os.O_RDWR | os.O_DIRECT) as fd:
        equal(os.preadv(fd, [buffer], 4096), 8192)
        assert buffer[:] == BLOB[4096:12288]
        buffer[:] = b"d" * 8192
        equal(os.pwritev(fd, [buffer], 16384), 8192)
    assert read("f") == BLOB[:16384] + b"d" * 8192 + BLOB[24576:65536]


@case("data/synchronous", file("f"))
def _():
    for flag in (os.O_SYNC, os.O_DSYNC):
        with opened("f", os.O_WRONLY | os.O_APPEND | flag) as fd:
            os.write(fd, b"s")
    equal(read("f"), CONTENT + b"ss")


@case("data/file-size-limit", file("f"))
def _():
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
    with opened("f", os.O_WRONLY) as fd:
        equal(os.pwrite(fd, b"x" * 200, 4000), 96)
        for call in (lambda: os.pwrite(fd, b"x", 4096), lambda: os.ftruncate(fd, 4097), lambda: os.truncate("f", 4097)):
            with fails(EFBIG):
                call()
    equal(size("f"), 4096)


# Beyond 4 GiB

@case("data/beyond-4-gib", file("f"))
def _():
    with opened("f", os.O_RDWR) as fd:
        for offset in ((1 << 32) - 3, (1 << 33) + 7, 5 * GIB):
            os.pwrite(fd, b"across", offset)
            equal(os.pread(fd, 6, offset), b"across")
        equal(os.pread(fd, 8, 0), CONTENT)
        equal(os.pread(fd, 4, 3), b"tent")
        equal(os.lseek(fd, 0, os.SEEK_END), (1 << 33) + 13)
    equal(size("f"), (1 << 33) + 13)


@case("data/found-beyond-4-gib", file("f", content={0: b"start", 5 * GIB: b"far", (1 << 32) - 2: b"across"}))
def _():
    equal(size("f"), 5 * GIB + 3)
    with opened("f") as fd:
        equal((os.pread(fd, 5, 0), os.pread(fd, 9, 5 * GIB), os.pread(fd, 6, (1 << 32) - 2)), (b"start", b"far", b"across"))
        equal(os.pread(fd, 5, 1 << 32), b"ross\0")


@case("data/append-beyond-4-gib", file("f"))
def _():
    os.truncate("f", 5 * GIB)
    append("f", b"end")
    with opened("f") as fd:
        equal((os.pread(fd, 9, 5 * GIB - 1), size(fd)), (b"\0end", 5 * GIB + 3))


# truncate

refused(
    "truncate", [file("f"), directory("d"), fifo("p"), symlink("l", "d")],
    ("directory", EISDIR, lambda: os.truncate("d", 0)),
    ("link-to-directory", EISDIR, lambda: os.truncate("l", 0)),
    ("fifo", EINVAL, lambda: os.truncate("p", 0)),
    ("negative", EINVAL, lambda: os.truncate("f", -1)),
    ("too-long", EFBIG, lambda: os.truncate("f", (1 << 63) - 1)),
)

for length in (0, 1, 4095, 4096, 4097, 300_000, 300_001, 300_002, 400_000):
    def check(length=length):
        os.truncate("f", length)
        with opened("g", os.O_RDWR) as fd:
            os.ftruncate(fd, length)
            equal(os.fstat(fd).st_size, length)
        for path in ("f", "g"):
            equal(size(path), length)
            assert read(path) == BLOB[:length] + bytes(max(0, length - len(BLOB))), f"content of {path}"

    case(f"truncate/to-{length}", file("f", content=BLOB), file("g", content=BLOB))(check)


@case("truncate/what-was-cut-off-does-not-come-back", file("f", content=BLOB))
def _():
    for length in (5000, 4096, 10):
        os.truncate("f", length)
        os.truncate("f", len(BLOB))
        assert read("f") == BLOB[:length] + bytes(len(BLOB) - length), f"cut to {length}"


@case("truncate/to-the-same-length", file("f"))
def _():
    os.truncate("f", len(CONTENT))
    equal(read("f"), CONTENT)


@case("truncate/follows-links", file("f"), symlink("l", "f"))
def _():
    os.truncate("l", 3)
    equal((read("f"), os.readlink("l")), (b"con", "f"))


@case("truncate/seen-by-open-descriptors", file("f", content=BLOB))
def _():
    with opened("f") as reader, opened("f", os.O_WRONLY) as writer:
        equal(len(os.pread(reader, 1 << 20, 0)), len(BLOB))
        os.truncate("f", 10)
        equal((os.pread(reader, 99, 0), size(reader)), (BLOB[:10], 10))
        os.pwrite(writer, b"!", 20)
        equal(os.pread(reader, 99, 0), BLOB[:10] + bytes(10) + b"!")


@case("truncate/writer-goes-on-where-it-stood", file("f"))
def _():
    with opened("f", os.O_WRONLY) as fd:
        os.write(fd, b"12345")
        os.truncate("f", 0)
        os.write(fd, b"6")
    equal(read("f"), bytes(5) + b"6")


@case("truncate/to-1-tib", file("f"))
def _():
    os.truncate("f", 1 << 40)
    equal(size("f"), 1 << 40)
    with opened("f") as fd:
        equal(os.pread(fd, 10, (1 << 40) - 5), bytes(5))
        with fails(ENXIO):
            os.lseek(fd, 1 << 40, os.SEEK_DATA)
