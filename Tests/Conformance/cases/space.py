"""Holes, fallocate, copies within the file system, synchronisation, statvfs."""

import os
import random
from errno import EBADF, EFBIG, EINVAL, EISDIR, ENXIO, EOPNOTSUPP, ESPIPE

from suite import *

BLOB = random.Random(5).randbytes(300_001)


# SEEK_DATA and SEEK_HOLE

def truthful(fd):
    """Checks what is said of holes and data: they take turns and cover the file, and a hole holds zeros only. A file system
    may call zeros data."""
    length, offset = os.fstat(fd).st_size, 0
    while offset < length:
        try:
            data = os.lseek(fd, offset, os.SEEK_DATA)
        except OSError as error:
            equal(error.errno, ENXIO)
            data = length
        assert offset <= data <= length, f"data after {offset} at {data} of {length}"
        while offset < data:
            piece = os.pread(fd, min(MIB, data - offset), offset)
            assert piece and not any(piece), f"bytes other than zero in the hole from {offset} to {data}"
            offset += len(piece)
        if data == length:
            return
        hole = os.lseek(fd, data, os.SEEK_HOLE)
        assert data < hole <= length, f"hole after {data} at {hole} of {length}"
        offset = hole


LAYOUTS = {
    "empty": ({}, 0), "only-data": ({0: BLOB}, None), "only-hole": ({}, MIB), "hole-first": ({MIB: b"x" * 5000}, None),
    "hole-last": ({0: b"x" * 5000}, MIB), "hole-inside": ({0: b"x" * 5000, MIB: b"y"}, None),
    "stripes": ({number * 65536: b"x" for number in range(0, 40, 2)}, 3 * MIB), "tiny": ({0: b"x"}, None),
}

for layout_name, (pieces, length) in LAYOUTS.items():
    def check(pieces=pieces, length=length):
        with opened("f") as fd:
            truthful(fd)
        # Whatever it takes to write to a file that was found, the holes stay zeros and the data stay data.
        with opened("f", os.O_RDWR) as fd:
            os.pwrite(fd, b"written", 200_000)
            truthful(fd)
            for offset, piece in {**pieces, 200_000: b"written"}.items():
                if offset != 0 or len(piece) < 200_000:
                    equal(os.pread(fd, len(piece), offset), piece)
            equal(size(fd), max([length or 0, 200_007] + [offset + len(piece) for offset, piece in pieces.items()]))

    case(f"holes/{layout_name}", file("f", content=pieces, size=length))(check)


@case("holes/ends", file("f"), file("empty", content=b""))
def _():
    with opened("f") as fd:
        equal((os.lseek(fd, 3, os.SEEK_DATA), os.lseek(fd, 3, os.SEEK_HOLE)), (3, len(CONTENT)))
        for offset in (len(CONTENT), 1 << 40, -1):
            for whence in (os.SEEK_DATA, os.SEEK_HOLE):
                with fails(ENXIO):
                    os.lseek(fd, offset, whence)
    with opened("empty") as fd, fails(ENXIO):
        os.lseek(fd, 0, os.SEEK_DATA)


@case("holes/after-changes", file("f", content=BLOB))
def _():
    with opened("f", os.O_RDWR) as fd:
        os.ftruncate(fd, 4 * MIB)
        os.pwrite(fd, b"x" * 10, 2 * MIB)
        truthful(fd)
        os.ftruncate(fd, MIB)
        os.ftruncate(fd, 3 * MIB)
        truthful(fd)
        os.pwrite(fd, b"x", 3 * MIB - 1)
        truthful(fd)
        assert read_all(fd) == BLOB + bytes(3 * MIB - len(BLOB) - 1) + b"x"


@case("holes/data-not-yet-on-disk", file("f", content=b"", size=MIB))
def _():
    with opened("f", os.O_RDWR) as fd:
        os.pwrite(fd, b"fresh", 500_000)
        assert os.lseek(fd, 0, os.SEEK_DATA) <= 500_000
        equal(os.lseek(fd, 500_002, os.SEEK_DATA), 500_002)
    with opened("f") as fd:
        assert os.lseek(fd, 0, os.SEEK_DATA) <= 500_000
        truthful(fd)


@case("holes/copied-by-their-map", file("f", content={0: b"a" * 5000, MIB: b"b" * 5000, 3 * MIB: b"c"}, size=4 * MIB))
def _():
    """As cp and tar do."""
    with opened("f") as source, opened("g", os.O_RDWR | os.O_CREAT) as target:
        end, offset = os.fstat(source).st_size, 0
        os.ftruncate(target, end)
        while offset < end:
            try:
                data = os.lseek(source, offset, os.SEEK_DATA)
            except OSError as error:
                equal(error.errno, ENXIO)
                break
            offset = os.lseek(source, data, os.SEEK_HOLE)
            os.pwrite(target, os.pread(source, offset - data, data), data)
    assert read("f") == read("g")


# fallocate

refused(
    "fallocate", [file("f"), fifo("p"), directory("d")],
    ("nothing", EINVAL, lambda: fallocate(os.open("f", os.O_RDWR), 0, 0, 0)),
    ("negative-offset", EINVAL, lambda: fallocate(os.open("f", os.O_RDWR), 0, -1, 10)),
    ("negative-length", EINVAL, lambda: fallocate(os.open("f", os.O_RDWR), 0, 0, -10)),
    ("read-only", EBADF, lambda: fallocate(os.open("f", os.O_RDONLY), 0, 0, 10)),
    ("fifo", ESPIPE, lambda: fallocate(os.open("p", os.O_RDWR), 0, 0, 10)),
    ("too-far", EFBIG, lambda: fallocate(os.open("f", os.O_RDWR), 0, (1 << 63) - 10, 100)),
    ("punch-hole-without-keep-size", EOPNOTSUPP, lambda: fallocate(os.open("f", os.O_RDWR), PUNCH_HOLE, 0, 4)),
)

# Mode, offset, length; then the size and the range of zeros that come of it.
for fallocate_name, bits, offset, length, new_size, zeros in (
        ("longer", 0, 290_000, 20_000, 310_000, None), ("within", 0, 10, 1000, 300_001, None),
        ("keep-size", KEEP_SIZE, 290_000, 100_000, 300_001, None), ("from-beyond-the-end", 0, 400_000, 10, 400_010, None),
        ("punch-hole", KEEP_SIZE | PUNCH_HOLE, 5000, 100_000, 300_001, (5000, 105_000)),
        ("punch-hole-of-a-few-bytes", KEEP_SIZE | PUNCH_HOLE, 5000, 7, 300_001, (5000, 5007)),
        ("punch-hole-over-the-end", KEEP_SIZE | PUNCH_HOLE, 299_000, 99_000, 300_001, (299_000, 300_001)),
        ("punch-whole-file", KEEP_SIZE | PUNCH_HOLE, 0, 1 << 20, 300_001, (0, 300_001)),
        ("zero-range", ZERO_RANGE, 5000, 100_000, 300_001, (5000, 105_000)),
        ("zero-range-longer", ZERO_RANGE, 299_000, 10_000, 309_000, (299_000, 309_000)),
        ("zero-range-keep-size", ZERO_RANGE | KEEP_SIZE, 299_000, 10_000, 300_001, (299_000, 300_001))):
    def check(bits=bits, offset=offset, length=length, new_size=new_size, zeros=zeros):
        with opened("f", os.O_RDWR) as fd, opened("f") as reader:
            equal(len(os.pread(reader, 1 << 20, 0)), len(BLOB))
            fallocate(fd, bits, offset, length)
            expected = bytearray(BLOB + bytes(new_size - len(BLOB)))
            if zeros:
                expected[slice(*zeros)] = bytes(zeros[1] - zeros[0])
            equal((size(fd), size("f")), (new_size, new_size))
            assert read_all(reader) == expected, "content through a descriptor that was open"
            truthful(fd)
        assert read("f") == expected

    case(f"fallocate/{fallocate_name}", file("f", content=BLOB))(check)


@case("fallocate/posix_fallocate", file("f"))
def _():
    with opened("f", os.O_RDWR) as fd:
        os.posix_fallocate(fd, 0, 100_000)
    equal((size("f"), read("f")), (100_000, CONTENT + bytes(100_000 - len(CONTENT))))


# copy_file_range and sendfile

refused(
    "copy_file_range", [file("f", content=BLOB), file("g"), directory("d"), fifo("p")],
    ("overlapping", EINVAL, lambda: copy_within("f", 0, 500, 1000)),
    ("to-append-only-descriptor", EBADF, lambda: os.copy_file_range(
        os.open("f", os.O_RDONLY), os.open("g", os.O_WRONLY | os.O_APPEND), 10)),
    ("to-read-only-descriptor", EBADF, lambda: os.copy_file_range(os.open("f", os.O_RDONLY), os.open("g", os.O_RDONLY), 10)),
    ("from-write-only-descriptor", EBADF, lambda: os.copy_file_range(
        os.open("f", os.O_WRONLY), os.open("g", os.O_WRONLY), 10)),
    ("from-directory", EISDIR, lambda: os.copy_file_range(os.open("d", os.O_RDONLY), os.open("g", os.O_WRONLY), 10)),
    ("from-fifo", EINVAL, lambda: os.copy_file_range(os.open("p", os.O_RDWR), os.open("g", os.O_WRONLY), 10)),
)


def copy_within(path, source, target, length):
    with opened(path, os.O_RDWR) as fd:
        return os.copy_file_range(fd, fd, length, source, target)


def copy_all(source, target, length):
    copied = 0
    while copied < length and (count := os.copy_file_range(source, target, length - copied)):
        copied += count
    return copied


@case("copy_file_range/whole-file", file("f", content=BLOB))
def _():
    with opened("f") as source, opened("g", os.O_WRONLY | os.O_CREAT) as target:
        equal(copy_all(source, target, 1 << 30), len(BLOB))
        equal((os.lseek(source, 0, os.SEEK_CUR), os.lseek(target, 0, os.SEEK_CUR)), (len(BLOB),) * 2)
        equal(os.copy_file_range(source, target, 10), 0)
    assert read("g") == BLOB


@case("copy_file_range/between-found-files", file("f", content=BLOB), file("g", content=b"g" * 1000))
def _():
    with opened("f") as source, opened("g", os.O_RDWR) as target:
        equal(os.copy_file_range(source, target, 500, 100_000, 250), 500)
        equal((os.lseek(source, 0, os.SEEK_CUR), os.lseek(target, 0, os.SEEK_CUR)), (0, 0))
        equal(os.pread(target, 2000, 0), b"g" * 250 + BLOB[100_000:100_500] + b"g" * 250)
        equal(os.copy_file_range(source, target, 500, 300_000, 5000), 1)
        equal((size(target), os.pread(target, 9, 5000)), (5001, BLOB[-1:]))


@case("copy_file_range/within-a-file", file("f", content=BLOB))
def _():
    equal(copy_within("f", 0, 200_000, 1000), 1000)
    assert read("f") == BLOB[:200_000] + BLOB[:1000] + BLOB[201_000:]


@case("copy_file_range/to-an-unlinked-file", file("f", content=BLOB))
def _():
    with opened("f") as source, opened("g", os.O_RDWR | os.O_CREAT) as target:
        os.unlink("g")
        os.unlink("f")
        equal(copy_all(source, target, len(BLOB)), len(BLOB))
        assert read_all(target) == BLOB


@case("copy_file_range/of-what-was-just-written", file("f", content=BLOB), file("g", content=BLOB))
def _():
    with opened("f", os.O_RDWR) as source, opened("g", os.O_RDWR) as target:
        equal(os.pread(target, 10, 50), BLOB[50:60])
        os.pwrite(source, b"new", 50)
        equal(os.copy_file_range(source, target, 100, 0, 0), 100)
        equal(os.pread(target, 10, 50), b"new" + BLOB[53:60])


@case("copy_file_range/sendfile", file("f", content=BLOB))
def _():
    with opened("f") as source, opened("g", os.O_RDWR | os.O_CREAT) as target:
        offset = 0
        while count := os.sendfile(target, source, offset, 1 << 20):
            offset += count
        assert read_all(target) == BLOB


@case("copy_file_range/splice", file("f", content=BLOB))
def _():
    receive, send = os.pipe()
    with opened("f") as source, opened("g", os.O_RDWR | os.O_CREAT) as target:
        while count := os.splice(source, send, 65536):
            while count:
                count -= os.splice(receive, target, count)
        assert read_all(target) == BLOB


# Synchronisation

@case("sync/fsync", file("f"), directory("d"))
def _():
    for path, flags in (("f", os.O_RDWR), ("f", os.O_RDONLY), ("d", os.O_RDONLY), ("new", os.O_WRONLY | os.O_CREAT)):
        with opened(path, flags) as fd:
            if flags & os.O_ACCMODE:
                os.write(fd, b"C")
            os.fsync(fd)
            os.fdatasync(fd)
    equal((read("f"), read("new")), (b"C" + CONTENT[1:], b"C"))


@case("sync/syncfs", file("f"))
def _():
    append("f", b"more")
    with opened("f") as fd:
        syncfs(fd)
    equal(read("f"), CONTENT + b"more")


@case("sync/of-a-renamed-file-and-its-directory", directory("d"), file("d/f"))
def _():
    """How programs replace a file safely."""
    with opened("d/new", os.O_WRONLY | os.O_CREAT | os.O_EXCL) as fd:
        os.write(fd, b"new")
        os.fsync(fd)
        os.rename("d/new", "d/f")
        os.fsync(fd)
    with opened("d") as fd:
        os.fsync(fd)
    equal((read("d/f"), names("d")), (b"new", ["f"]))


@case("sync/fifo", fifo("p"))
def _():
    with opened("p", os.O_RDWR) as fd, fails(EINVAL):
        os.fsync(fd)


# statvfs

@case("statvfs/numbers-fit", file("f"), directory("d"))
def _():
    status = os.statvfs(".")
    assert status.f_bsize > 0 and status.f_frsize > 0
    assert status.f_blocks >= status.f_bfree >= status.f_bavail > 0, str(status)
    equal(status.f_namemax, 255)
    with opened("f") as fd:
        for other in (os.statvfs("f"), os.statvfs("d"), os.fstatvfs(fd)):
            equal((other.f_bsize, other.f_frsize, other.f_blocks), (status.f_bsize, status.f_frsize, status.f_blocks))
