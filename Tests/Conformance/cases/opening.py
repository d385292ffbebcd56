"""open: flags, what they refuse, descriptors that outlive names."""

import fcntl
import os
import shutil
import signal
from errno import EACCES, EBADF, EEXIST, EINVAL, EISDIR, ELOOP, ENOENT, ENOTDIR, ENXIO, ETXTBSY

from suite import *

R, W, RW, CREATE = os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_CREAT

TREE = (
    file("f"), directory("d"), symlink("to-file", "f"), symlink("to-directory", "d"), symlink("dangling", "nowhere"),
    symlink("loop", "loop"), fifo("fifo"))

refused(
    "open", TREE,
    ("exclusive-over-file", EEXIST, lambda: os.open("f", W | CREATE | os.O_EXCL)),
    ("exclusive-over-directory", EEXIST, lambda: os.open("d", R | CREATE | os.O_EXCL)),
    ("exclusive-over-link", EEXIST, lambda: os.open("to-file", W | CREATE | os.O_EXCL)),
    ("exclusive-over-dangling-link", EEXIST, lambda: os.open("dangling", W | CREATE | os.O_EXCL)),
    ("exclusive-over-fifo", EEXIST, lambda: os.open("fifo", W | CREATE | os.O_EXCL)),
    ("directory-to-write", EISDIR, lambda: os.open("d", W)),
    ("directory-to-read-and-write", EISDIR, lambda: os.open("d", RW)),
    ("directory-to-create", EISDIR, lambda: os.open("d", R | CREATE)),
    ("directory-to-truncate", EISDIR, lambda: os.open("d", W | os.O_TRUNC)),
    ("create-with-slash-behind", EISDIR, lambda: os.open("new/", W | CREATE)),
    ("nofollow-link", ELOOP, lambda: os.open("to-file", R | os.O_NOFOLLOW)),
    ("nofollow-dangling-link-to-create", ELOOP, lambda: os.open("dangling", W | CREATE | os.O_NOFOLLOW)),
    ("nofollow-link-to-directory", ENOTDIR, lambda: os.open("to-directory", R | os.O_NOFOLLOW | os.O_DIRECTORY)),
    ("directory-flag-on-file", ENOTDIR, lambda: os.open("f", R | os.O_DIRECTORY)),
    ("directory-flag-on-fifo", ENOTDIR, lambda: os.open("fifo", R | os.O_DIRECTORY)),
    ("dangling-link", ENOENT, lambda: os.open("dangling", R)),
    ("create-through-loop", ELOOP, lambda: os.open("loop", W | CREATE)),
    ("fifo-without-reader", ENXIO, lambda: os.open("fifo", W | os.O_NONBLOCK)),
    ("tmpfile-in-file", ENOTDIR, lambda: os.open("f", W | os.O_TMPFILE)),
    ("tmpfile-to-read", EINVAL, lambda: os.open("d", R | os.O_TMPFILE)),
)

refused(
    "open", [directory("d", mode=0o755)],
    ("create-in-directory-not-writable", EACCES, lambda: os.open("d/new", W | CREATE)),
    ("tmpfile-in-directory-not-writable", EACCES, lambda: os.open("d", RW | os.O_TMPFILE)),
    user=ALICE,
)


@case("open/create")
def _():
    with opened("new", RW | CREATE | os.O_EXCL, 0o640) as fd:
        status = os.fstat(fd)
        equal((status.st_size, status.st_nlink, mode(fd), owner(fd)), (0, 1, 0o640, (0, 0)))
        equal(os.read(fd, 10), b"")
    equal((kind("new"), read("new")), ("-", b""))


@case("open/create-existing-keeps-it", file("f", mode=0o640))
def _():
    before = inode("f")
    touch("f", W | CREATE, 0o777)
    equal((inode("f"), mode("f"), read("f")), (before, 0o640, CONTENT))


@case("open/create-read-only-file-to-write")
def _():
    with acting(ALICE), fails(EACCES):
        os.open("new", W | CREATE, 0o444)
    os.chmod(".", 0o777)
    with acting(ALICE):
        with opened("new", W | CREATE, 0o444) as fd:
            os.write(fd, b"written")
        equal(read("new"), b"written")
        with fails(EACCES):
            os.open("new", W)


@case("open/create-with-mode-0")
def _():
    os.chmod(".", 0o777)
    with acting(ALICE):
        with opened("new", RW | CREATE, 0) as fd:
            os.write(fd, b"written")
            equal(os.pread(fd, 10, 0), b"written")
        with fails(EACCES):
            os.open("new", R)


@case("open/create-through-dangling-link", directory("d"), symlink("l", "d/target"))
def _():
    touch("l", W | CREATE)
    equal((kind("l"), kind("d/target"), names("d")), ("l", "-", ["target"]))


@case("open/truncate", file("f", content=b"x" * 10000, mode=0o640))
def _():
    before = inode("f")
    with opened("f", RW | os.O_TRUNC) as fd:
        equal(os.fstat(fd).st_size, 0)
        os.write(fd, b"new")
    equal((read("f"), mode("f"), inode("f")), (b"new", 0o640, before))


@case("open/truncate-through-link", file("f"), symlink("l", "f"))
def _():
    touch("l", W | os.O_TRUNC)
    equal((read("f"), kind("l")), (b"", "l"))


@case("open/truncate-and-write-nothing", file("f", content=b"x" * 100000))
def _():
    touch("f", W | os.O_TRUNC)
    equal((size("f"), read("f")), (0, b""))


@case("open/append-writes-at-the-end", file("f"))
def _():
    with opened("f", W | os.O_APPEND) as one, opened("f", W | os.O_APPEND) as two:
        os.write(one, b"1")
        os.write(two, b"2")
        os.lseek(one, 0, os.SEEK_SET)
        os.write(one, b"3")
    equal(read("f"), CONTENT + b"123")


@case("open/append-set-later", file("f"))
def _():
    with opened("f", W) as fd:
        os.write(fd, b"C")
        fcntl.fcntl(fd, fcntl.F_SETFL, os.O_APPEND)
        os.write(fd, b"more")
    equal(read("f"), b"C" + CONTENT[1:] + b"more")


@case("open/append-in-two-processes", file("f", content=b""))
def _():
    def records(letter):
        with opened("f", W | os.O_APPEND) as fd:
            for _ in range(300):
                os.write(fd, letter * 7 + b"\n")

    if (pid := os.fork()) == 0:
        records(b"b")
        os._exit(0)
    records(b"a")
    os.waitpid(pid, 0)
    equal(sorted(read("f").splitlines()), [b"a" * 7] * 300 + [b"b" * 7] * 300)


@case("open/read-only-refuses-writes", file("f"))
def _():
    with opened("f", R) as fd:
        for call in (lambda: os.write(fd, b"x"), lambda: os.pwrite(fd, b"x", 0)):
            with fails(EBADF):
                call()
        with fails(EINVAL, EBADF):
            os.ftruncate(fd, 0)
    equal(read("f"), CONTENT)


@case("open/write-only-refuses-reads", file("f"))
def _():
    with opened("f", W) as fd, fails(EBADF):
        os.read(fd, 1)


@case("open/read-of-directory", directory("d"))
def _():
    with opened("d", R) as fd, fails(EISDIR):
        os.read(fd, 1)


@case("open/path-descriptor", file("f", mode=0), directory("d"), file("d/g"))
def _():
    with acting(ALICE):
        with opened("f", os.O_PATH) as fd:
            equal(os.fstat(fd).st_size, len(CONTENT))
            with fails(EBADF):
                os.read(fd, 1)
        with opened("d", os.O_PATH | os.O_DIRECTORY) as fd:
            equal(os.stat("g", dir_fd=fd).st_size, len(CONTENT))


@case("open/path-descriptor-of-a-link", symlink("l", "nowhere"))
def _():
    with opened("l", os.O_PATH | os.O_NOFOLLOW) as fd:
        equal(kind(fd), "l")
        equal(os.readlink("", dir_fd=fd), "nowhere")


@case("open/again-through-proc", file("f"))
def _():
    with opened("f", R) as fd, opened(f"/proc/self/fd/{fd}", W) as again:
        os.pwrite(again, b"C", 0)
        equal(os.pread(fd, 7, 0), b"Content")


@case("open/reader-sees-later-writes", file("f"))
def _():
    with opened("f", R) as reader:
        equal(os.pread(reader, 100, 0), CONTENT)
        append("f", b"more")
        equal(os.pread(reader, 100, 0), CONTENT + b"more")
        equal(os.fstat(reader).st_size, len(CONTENT) + 4)
        touch("f", W | os.O_TRUNC)
        equal(os.pread(reader, 100, 0), b"")


@case("open/reader-sees-later-mode-and-owner", file("f"))
def _():
    with opened("f", R) as reader:
        os.chmod("f", 0o600)
        os.chown("f", ALICE.uid, ALICE.gid)
        equal((mode(reader), owner(reader)), (0o600, (ALICE.uid, ALICE.gid)))


@case("open/writer-keeps-position-in-each-descriptor", file("f"))
def _():
    with opened("f", RW) as one, opened("f", RW) as two:
        equal(os.read(one, 3), b"con")
        os.write(two, b"CON")
        equal(os.read(one, 4), b"tent")
        same = os.dup(two)
        equal(os.read(same, 4), b"tent")
        equal(os.lseek(two, 0, os.SEEK_CUR), 7)


@case("open/many-descriptors", directory("d"), *(file(f"d/{number}", content=b"%d" % number) for number in range(300)))
def _():
    fds = [os.open(f"d/{number}", RW) for number in range(300)]
    for number, fd in enumerate(fds):
        os.pwrite(fd, b"+", 0)
    for number, fd in enumerate(fds):
        equal(os.pread(fd, 10, 0), b"+" + (b"%d" % number)[1:])


# O_TMPFILE

@case("tmpfile/has-no-name", directory("d"))
def _():
    with opened("d", RW | os.O_TMPFILE, 0o600) as fd:
        os.write(fd, b"hidden")
        equal((links(fd), mode(fd), size(fd), kind(fd)), (0, 0o600, 6, "-"))
        equal(os.pread(fd, 10, 0), b"hidden")
        equal(names("d"), [])


@case("tmpfile/linked-to-a-name", directory("d"))
def _():
    with opened("d", RW | os.O_TMPFILE, 0o640) as fd:
        os.write(fd, b"shown")
        linkat(AT_FDCWD, f"/proc/self/fd/{fd}", "d/f", AT_SYMLINK_FOLLOW)
        equal((links(fd), inode("d/f") == inode(fd)), (1, True))
        os.write(fd, b" later")
    equal((read("d/f"), mode("d/f"), names("d")), (b"shown later", 0o640, ["f"]))


@case("tmpfile/linked-by-descriptor", directory("d"))
def _():
    with opened("d", RW | os.O_TMPFILE) as fd:
        os.write(fd, b"shown")
        linkat(fd, "", "d/f", AT_EMPTY_PATH)
    equal(read("d/f"), b"shown")


@case("tmpfile/linked-over-a-name", directory("d"), file("d/f"))
def _():
    with opened("d", RW | os.O_TMPFILE) as fd, fails(EEXIST):
        linkat(fd, "", "d/f", AT_EMPTY_PATH)
    equal(read("d/f"), CONTENT)


@case("tmpfile/exclusive-is-never-linked", directory("d"))
def _():
    with opened("d", RW | os.O_TMPFILE | os.O_EXCL) as fd, fails(ENOENT):
        linkat(fd, "", "d/f", AT_EMPTY_PATH)


@case("tmpfile/belongs-to-its-user", directory("d", mode=0o777))
def _():
    with acting(ALICE):
        with opened("d", RW | os.O_TMPFILE) as fd:
            equal(owner(fd), (ALICE.uid, ALICE.gid))


# ETXTBSY

SLEEP = shutil.which("sleep")


def runs_busy(path):
    def sleeper():
        os.closerange(3, 64)
        os.execv(path, [path, "60"])

    if (pid := os.fork()) == 0:
        sleeper()
    try:
        while os.path.basename(os.readlink(f"/proc/{pid}/exe")) != os.path.basename(path):
            pause()
        with fails(ETXTBSY):
            os.open(path, W)
        with fails(ETXTBSY):
            os.truncate(path, 0)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    touch(path, W)


@case("open/running-executable-to-write")
def _():
    shutil.copyfile(SLEEP, "program")
    os.chmod("program", 0o755)
    runs_busy("./program")


with open(SLEEP, "rb") as _program:
    @case("open/running-executable-to-write-as-found", file("program", content=_program.read(), mode=0o755))
    def _():
        runs_busy("./program")


@case("open/execute-what-is-being-written", file("program", content=b"#!/bin/sh\nexit 3\n", mode=0o755))
def _():
    with opened("program", W), fails(ETXTBSY):
        elsewhere(lambda: os.execv("./program", ["program"]))
    equal(os.waitstatus_to_exitcode(os.system("./program")), 3)
