"""Times of access, modification and status change: which call sets which, and utimensat."""

import os
import time
from errno import EINVAL

from suite import *

BOTH = ("mtime", "ctime")
# Where an overlay may copy the file or directory first, which shows in the time of the status change.
NEITHER, NOT_MTIME = (), ("ctime?",)
TREE = (
    file("f"), directory("d"), file("d/f"), directory("d/empty"), symlink("d/l", "f"), directory("e"), file("e/g"),
    file("source", content=b"source"))


def _with(path, flags, action):
    with opened(path, flags) as fd:
        action(fd)


# The operation, what it touches, and which of its times it sets.
EFFECTS = (
    ("write", lambda: append("f", b"more"), "f", BOTH),
    ("write-in-the-middle", lambda: _with("f", os.O_WRONLY, lambda fd: os.pwrite(fd, b"x", 2)), "f", BOTH),
    ("write-nothing", lambda: _with("f", os.O_WRONLY, lambda fd: os.write(fd, b"")), "f", NOT_MTIME),
    ("open-to-write", lambda: touch("f", os.O_WRONLY), "f", NOT_MTIME),
    ("open-truncate", lambda: touch("f", os.O_WRONLY | os.O_TRUNC), "f", BOTH),
    ("truncate", lambda: os.truncate("f", 2), "f", BOTH),
    ("truncate-longer", lambda: os.truncate("f", 200), "f", BOTH),
    ("ftruncate", lambda: _with("f", os.O_WRONLY, lambda fd: os.ftruncate(fd, 2)), "f", BOTH),
    ("fallocate", lambda: _with("f", os.O_WRONLY, lambda fd: fallocate(fd, 0, 0, 99)), "f", BOTH),
    ("punch-hole", lambda: _with("f", os.O_WRONLY, lambda fd: fallocate(fd, KEEP_SIZE | PUNCH_HOLE, 0, 4)), "f", BOTH),
    ("copy_file_range", lambda: _with("source", os.O_RDONLY, lambda s: _with(
        "f", os.O_WRONLY, lambda fd: os.copy_file_range(s, fd, 6))), "f", BOTH),
    ("read", lambda: read("f"), "f", NEITHER),
    ("list", lambda: names("d"), "d", NEITHER),
    ("readlink", lambda: os.readlink("d/l"), "d/l", NEITHER),
    ("chmod", lambda: os.chmod("f", 0o600), "f", ("ctime",)),
    ("chmod-directory", lambda: os.chmod("d", 0o700), "d", ("ctime",)),
    ("chown", lambda: os.chown("f", 1, 1), "f", ("ctime",)),
    ("lchown", lambda: os.lchown("d/l", 1, 1), "d/l", ("ctime",)),
    ("setxattr", lambda: os.setxattr("f", "user.name", b"value"), "f", ("ctime",)),
    ("link", lambda: os.link("f", "g"), "f", ("ctime",)),
    ("link-directory", lambda: os.link("f", "d/g"), "d", BOTH),
    ("create", lambda: touch("d/new"), "d", BOTH),
    ("create-existing", lambda: touch("d/f", os.O_WRONLY | os.O_CREAT), "d", NOT_MTIME),
    ("mkdir", lambda: os.mkdir("d/new"), "d", BOTH),
    ("mkfifo", lambda: os.mkfifo("d/new"), "d", BOTH),
    ("symlink", lambda: os.symlink("f", "d/new"), "d", BOTH),
    ("unlink", lambda: os.unlink("d/f"), "d", BOTH),
    ("unlink-link", lambda: os.unlink("d/l"), "d", BOTH),
    ("rmdir", lambda: os.rmdir("d/empty"), "d", BOTH),
    ("rename-within", lambda: os.rename("d/f", "d/g"), "d", BOTH),
    ("rename-out", lambda: os.rename("d/f", "e/f"), "d", BOTH),
    ("rename-in", lambda: os.rename("e/g", "d/g"), "d", BOTH),
    ("rename-over", lambda: os.rename("e/g", "d/f"), "d", BOTH),
    ("rename-directory-in", lambda: os.rename("e", "d/e"), "d", BOTH),
    ("write-inside", lambda: append("d/f", b"more"), "d", NOT_MTIME),
    ("chmod-inside", lambda: os.chmod("d/f", 0o600), "d", NOT_MTIME),
    ("rename-same-name", lambda: os.rename("d/f", "d/f"), "d", NEITHER),
)

for operation, call, touched, expected in EFFECTS:
    def check(call=call, touched=touched, expected=expected):
        with updates(touched, *expected):
            call()

    case(f"times/{operation}", *TREE)(check)


@case("times/rename-keeps-mtime", *TREE)
def _():
    os.rename("d", "moved")
    os.rename("e/g", "moved/g")
    os.rename("moved/l", "m")
    equal([os.lstat(path).st_mtime_ns for path in ("moved/g", "m", "moved/f", "moved/empty")], [OLD] * 4)


@case("times/exchange-updates-both-directories", *TREE)
def _():
    with updates("d", *BOTH), updates("e", *BOTH):
        renameat2("d/f", "e/g", RENAME_EXCHANGE)


@case("times/unlink-of-one-of-two-names", file("f"), link("g", "f"))
def _():
    with updates("f", "ctime"):
        os.unlink("g")


@case("times/rename-over-one-of-two-names", file("f"), link("g", "f"), file("h"))
def _():
    with updates("f", "ctime"):
        os.rename("h", "g")


@case("times/of-new-ones-are-now", directory("d"))
def _():
    since = time.time_ns()
    write("d/f")
    os.mkdir("d/d")
    os.symlink("f", "d/l")
    os.mkfifo("d/p")
    for name in ("f", "d", "l", "p"):
        status = os.lstat(f"d/{name}")
        for value in (status.st_atime_ns, status.st_mtime_ns, status.st_ctime_ns):
            recent(value, since)


@case("times/write-shows-in-an-open-descriptor", file("f"))
def _():
    with opened("f") as reader, opened("f", os.O_WRONLY) as writer:
        with updates(reader, *BOTH):
            os.write(writer, b"C")
        equal(os.fstat(reader).st_mtime_ns, os.stat("f").st_mtime_ns)


@case("times/last-write-counts-after-close", file("f"))
def _():
    with opened("f", os.O_WRONLY) as fd:
        os.write(fd, b"C")
        written = os.fstat(fd).st_mtime_ns
        pause()
    pause()
    equal(os.stat("f").st_mtime_ns, written)


@case("times/set-while-open-to-write", file("f"))
def _():
    with opened("f", os.O_WRONLY) as fd:
        os.write(fd, b"C")
        os.utime(fd, ns=(OLD, OLD + 1))
    equal((os.stat("f").st_atime_ns, os.stat("f").st_mtime_ns), (OLD, OLD + 1))


# utimensat

TIMES = {
    "nanoseconds": (1_234_567_890_123_456_789, 1_321_098_765_987_654_321), "epoch": (0, 0),
    "before-1970": (-1, -86_400 * SECOND), "after-2038": ((1 << 31) * SECOND, ((1 << 32) + 5) * SECOND),
    "2300": (10_413_792_000 * SECOND,) * 2,
}

for times_name, (accessed, modified) in TIMES.items():
    def check(times=(accessed, modified)):
        for path in ("f", "d", "l", "p"):
            since = time.time_ns()
            os.utime(path, ns=times, follow_symlinks=False)
            status = os.lstat(path)
            equal((status.st_atime_ns, status.st_mtime_ns), times, f"times of {path}")
            recent(status.st_ctime_ns, since)

    case(f"utimensat/{times_name}", file("f"), directory("d"), symlink("l", "nowhere"), fifo("p"))(check)

# What is asked for access and modification, and whether each becomes now (+), stays (=) or is set (1).
for times_name, accessed, modified, expected in (
        ("now-now", (0, UTIME_NOW), (0, UTIME_NOW), "++"), ("now-omit", (0, UTIME_NOW), (0, UTIME_OMIT), "+="),
        ("omit-now", (0, UTIME_OMIT), (0, UTIME_NOW), "=+"), ("omit-set", (0, UTIME_OMIT), SECOND, "=1"),
        ("set-omit", SECOND, (0, UTIME_OMIT), "1="), ("set-now", SECOND, (0, UTIME_NOW), "1+")):
    def check(accessed=accessed, modified=modified, expected=expected):
        since = time.time_ns()
        utimensat("f", accessed, modified)
        status = os.stat("f")
        for value, wanted in zip((status.st_atime_ns, status.st_mtime_ns), expected):
            if wanted == "+":
                recent(value, since)
            else:
                equal(value, OLD if wanted == "=" else SECOND)
        recent(status.st_ctime_ns, since)

    case(f"utimensat/{times_name}", file("f"))(check)


@case("utimensat/omit-omit-changes-nothing", file("f", owner=ALICE))
def _():
    with updates("f"), acting(BOB):
        utimensat("f", (0, UTIME_OMIT), (0, UTIME_OMIT))


@case("utimensat/owner-may-set-without-write-permission", file("f", mode=0, owner=ALICE))
def _():
    with acting(ALICE):
        os.utime("f", ns=(1, 2))
        os.utime("f")
    recent(os.stat("f").st_mtime_ns, time.time_ns() - SECOND)


@case("utimensat/who-may-write-may-set-to-now", file("f", mode=0o666))
def _():
    since = time.time_ns()
    with acting(ALICE):
        os.utime("f")
    recent(os.stat("f").st_mtime_ns, since)


@case("utimensat/links-are-followed-unless-told", file("f"), symlink("l", "f"))
def _():
    os.utime("l", ns=(1, 2))
    equal((os.stat("f").st_mtime_ns, os.lstat("l").st_mtime_ns), (2, OLD))
    os.utime("l", ns=(3, 4), follow_symlinks=False)
    equal((os.stat("f").st_mtime_ns, os.lstat("l").st_mtime_ns), (2, 4))


@case("utimensat/through-a-read-only-descriptor", file("f"))
def _():
    with opened("f") as fd:
        os.unlink("f")
        os.utime(fd, ns=(1, 2))
        equal(os.fstat(fd).st_mtime_ns, 2)


refused(
    "utimensat", [file("f")],
    ("too-many-nanoseconds", EINVAL, lambda: utimensat("f", (0, SECOND), (0, 0))),
    ("negative-nanoseconds", EINVAL, lambda: utimensat("f", (0, 0), (0, -1))),
)
