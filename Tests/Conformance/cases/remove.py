"""unlink and rmdir, and files that live on without a name."""

import os
import shutil
from errno import EINVAL, EISDIR, ENOENT, ENOTDIR, ENOTEMPTY

from suite import *

TREE = (
    file("f"), directory("empty"), directory("full"), file("full/x"), symlink("to-empty", "empty"), symlink("to-file", "f"),
    directory("nested"), directory("nested/empty"))

refused(
    "unlink", TREE,
    ("empty-directory", EISDIR, lambda: os.unlink("empty")),
    ("nonempty-directory", EISDIR, lambda: os.unlink("full")),
    ("link-to-directory-with-slash", ENOTDIR, lambda: os.unlink("to-empty/")),
)
refused(
    "rmdir", TREE,
    ("nonempty", ENOTEMPTY, lambda: os.rmdir("full")),
    ("with-empty-directory-inside", ENOTEMPTY, lambda: os.rmdir("nested")),
    ("file", ENOTDIR, lambda: os.rmdir("f")),
    ("link-to-directory", ENOTDIR, lambda: os.rmdir("to-empty")),
    ("link-to-directory-with-slash", ENOTDIR, lambda: os.rmdir("to-empty/")),
    ("dot", EINVAL, lambda: os.rmdir("empty/.")),
    ("dots", ENOTEMPTY, lambda: os.rmdir("nested/empty/..")),
)


@case("unlink/file", file("f"), file("g"))
def _():
    os.unlink("f")
    equal(names(), ["g"])
    for call in (os.lstat, os.unlink, read, lambda path: os.rename(path, "h")):
        with fails(ENOENT):
            call("f")


@case("unlink/link-keeps-its-target", file("f"), directory("d"), file("d/x"), symlink("l", "f"), symlink("m", "d"))
def _():
    os.unlink("l")
    os.unlink("m")
    equal((names(), names("d"), read("f")), (["d", "f"], ["x"], CONTENT))


@case("unlink/fifo-and-dangling-link", fifo("p"), symlink("l", "nowhere"))
def _():
    os.unlink("p")
    os.unlink("l")
    equal(names(), [])


@case("unlink/read-only-file", file("f", mode=0, owner=ALICE), directory("d", owner=BOB), file("d/f", mode=0, owner=ALICE))
def _():
    os.unlink("f")
    with acting(BOB):
        os.unlink("d/f")
    equal(names("d"), [])


@case("unlink/many", directory("d"), *(file(f"d/{number}") for number in range(200)))
def _():
    for number in range(0, 200, 2):
        os.unlink(f"d/{number}")
    equal(names("d"), sorted(str(number) for number in range(1, 200, 2)))
    for number in range(1, 200, 2):
        os.unlink(f"d/{number}")
    equal(names("d"), [])
    os.rmdir("d")


# Unlinked and open

def unlinked(name, *tree, flags=os.O_RDWR):
    """Registers a case whose action gets the descriptor of a file that was opened, then unlinked."""

    def register(action):
        def run():
            with opened("f", flags) as fd:
                os.unlink("f")
                action(fd)
                equal(exists("f"), False, "the name is back")

        return case(f"unlinked/{name}", file("f"), *tree)(run)

    return register


@unlinked("read")
def _(fd):
    equal(os.pread(fd, 99, 0), CONTENT)


@unlinked("read-through-read-only-descriptor", flags=os.O_RDONLY)
def _(fd):
    equal((os.pread(fd, 99, 0), os.fstat(fd).st_nlink), (CONTENT, 0))


@unlinked("write")
def _(fd):
    os.pwrite(fd, b"C", 0)
    os.pwrite(fd, b"x" * 100_000, 10)
    os.fsync(fd)
    equal((os.pread(fd, 8, 0), os.fstat(fd).st_size), (b"Content\n", 100_010))


@unlinked("fstat")
def _(fd):
    status = os.fstat(fd)
    equal((status.st_nlink, status.st_size, kind(fd), mode(fd)), (0, len(CONTENT), "-", 0o644))


@unlinked("ftruncate")
def _(fd):
    os.ftruncate(fd, 3)
    equal((os.pread(fd, 99, 0), size(fd)), (b"con", 3))
    os.ftruncate(fd, 5000)
    equal((os.pread(fd, 9, 0), size(fd)), (b"con" + bytes(6), 5000))


@unlinked("metadata")
def _(fd):
    os.fchmod(fd, 0o600)
    os.fchown(fd, 1, 2)
    os.utime(fd, ns=(3, 4))
    os.setxattr(fd, "user.name", b"value")
    equal((mode(fd), owner(fd), os.fstat(fd).st_mtime_ns), (0o600, (1, 2), 4))
    equal((os.getxattr(fd, "user.name"), os.listxattr(fd)), (b"value", ["user.name"]))


@unlinked("fallocate")
def _(fd):
    fallocate(fd, 0, 0, 10_000)
    equal((size(fd), os.pread(fd, 99, 0)[:8]), (10_000, CONTENT))


@unlinked("opened-again-through-proc")
def _(fd):
    with opened(f"/proc/self/fd/{fd}", os.O_RDWR) as again:
        os.pwrite(again, b"C", 0)
        equal((os.pread(fd, 7, 0), inode(again)), (b"Content", inode(fd)))
    os.truncate(f"/proc/self/fd/{fd}", 3)
    equal(size(fd), 3)


@unlinked("cannot-be-linked-again", flags=os.O_RDONLY)
def _(fd):
    with fails(ENOENT):
        linkat(AT_FDCWD, f"/proc/self/fd/{fd}", "g", AT_SYMLINK_FOLLOW)


@unlinked("new-file-of-that-name-is-another", directory("d"))
def _(fd):
    write("f", b"new")
    assert inode("f") != inode(fd)
    os.pwrite(fd, b"OLD", 0)
    equal((read("f"), os.pread(fd, 3, 0)), (b"new", b"OLD"))
    os.rename("f", "d/f")


@unlinked("in-another-process")
def _(fd):
    elsewhere(lambda: os.pwrite(fd, b"C", 0))
    equal(os.pread(fd, 7, 0), b"Content")


@case("unlinked/other-names-remain", file("f"), link("g", "f"))
def _():
    with opened("f", os.O_RDWR) as fd:
        os.unlink("f")
        equal(os.fstat(fd).st_nlink, 1)
        os.pwrite(fd, b"C", 0)
        equal(read("g"), b"C" + CONTENT[1:])
        os.unlink("g")
        equal((os.fstat(fd).st_nlink, os.pread(fd, 7, 0)), (0, b"Content"))


@case("unlinked/created-written-unlinked-in-its-parent-too", directory("d"))
def _():
    with opened("d/f", os.O_RDWR | os.O_CREAT) as fd:
        os.write(fd, b"first")
        os.unlink("d/f")
        os.rmdir("d")
        os.write(fd, b" second")
        equal(os.pread(fd, 99, 0), b"first second")


@case("unlinked/after-chmod-and-rename", file("f"))
def _():
    with opened("f", os.O_RDWR) as fd:
        os.chmod("f", 0)
        os.rename("f", "g")
        os.unlink("g")
        os.write(fd, b"C")
        equal((os.pread(fd, 7, 0), mode(fd)), (b"Content", 0))


# rmdir

@case("rmdir/empty", directory("d"), directory("e"))
def _():
    os.rmdir("d")
    equal(names(), ["e"])
    for call in (os.lstat, os.rmdir, os.listdir, lambda path: touch(path + "/f")):
        with fails(ENOENT):
            call("d")


@case("rmdir/emptied", directory("d"), file("d/f"), symlink("d/l", "f"), fifo("d/p"), directory("d/sub"), file("d/sub/x"))
def _():
    with fails(ENOTEMPTY):
        os.rmdir("d")
    for name in ("f", "l", "p", "sub/x"):
        os.unlink(f"d/{name}")
    with fails(ENOTEMPTY):
        os.rmdir("d")
    os.rmdir("d/sub")
    os.rmdir("d")
    equal(names(), [])


@case("rmdir/emptied-by-renames", directory("d"), file("d/f"), directory("d/sub"), directory("e"))
def _():
    os.rename("d/f", "e/f")
    os.rename("d/sub", "e/sub")
    os.rmdir("d")
    equal((names(), names("e")), (["e"], ["f", "sub"]))


@case("rmdir/anothers-empty-directory", directory("d", owner=ALICE), directory("d/theirs", owner=BOB, mode=0))
def _():
    with acting(ALICE):
        os.rmdir("d/theirs")
    equal(names("d"), [])


@case("rmdir/open-directory", directory("d"), file("d/f"))
def _():
    with opened("d") as fd:
        os.unlink("d/f")
        os.rmdir("d")
        equal(os.listdir(fd), [])
        with fails(ENOENT):
            os.mkdir("new", dir_fd=fd)
        with fails(ENOENT):
            os.open("new", os.O_WRONLY | os.O_CREAT, dir_fd=fd)
        equal(kind(fd), "d")


@case("rmdir/working-directory", directory("d"))
def _():
    os.chdir("d")
    os.rmdir("../d")
    for call in (os.getcwd, lambda: os.mkdir("new"), lambda: touch("new"), lambda: os.symlink("a", "b")):
        with fails(ENOENT):
            call()


@case("rmdir/tree", *(directory(path) for path in ("t", "t/a", "t/a/b", "t/c")), file("t/f"), file("t/a/g"), file("t/a/b/h"),
      symlink("t/c/l", "../f"))
def _():
    shutil.rmtree("t")
    equal(names(), [])
    os.mkdir("t")
    equal(names("t"), [])


@case("rmdir/link-count-of-its-parent", directory("d"), directory("d/a"), directory("d/b"), file("d/f"))
def _():
    def counts():
        """Its own two and one for each subdirectory, or 1 where these are not counted: find and others go by that."""
        assert links("d") in (1, 2 + sum(kind(f"d/{name}") == "d" for name in names("d"))), f"{links('d')} for {names('d')}"

    counts()
    for change in (
            lambda: os.rmdir("d/a"), lambda: os.mkdir("d/c"), lambda: os.rename("d/c", "c"), lambda: os.unlink("d/f"),
            lambda: os.rename("c", "d/a"), lambda: os.rmdir("d/b")):
        change()
        counts()
