"""A name that was removed and is used again, for the same kind of thing or another: nothing of the old one shows."""

import os
import shutil
from errno import ENOENT, ENOTDIR

from suite import *

# What stands at the name first, and what of it must never be seen again.
BEFORE = {
    "file": (file("x", content=b"old", mode=0o751, owner=ALICE, xattrs={"user.old": b"old"}),),
    "directory": (
        directory("x", mode=0o751, owner=ALICE, xattrs={"user.old": b"old"}), file("x/old"), directory("x/sub"),
        file("x/sub/old")),
    "link": (symlink("x", "elsewhere", owner=ALICE),),
    "fifo": (fifo("x", mode=0o751, owner=ALICE),),
}


def make_file():
    write("x", b"new")


def make_directory():
    os.mkdir("x")


def make_link():
    os.symlink("new", "x")


def make_fifo():
    os.mkfifo("x")


def check_new(what):
    equal(owner("x"), (0, 0))
    if what == "file":
        equal((kind("x"), read("x"), mode("x"), links("x"), os.listxattr("x")), ("-", b"new", 0o644, 1, []))
    elif what == "directory":
        equal((kind("x"), names("x"), mode("x"), os.listxattr("x")), ("d", [], 0o755, []))
        for path in ("x/old", "x/sub/old", "x/sub"):
            with fails(ENOENT):
                os.lstat(path)
        os.mkdir("x/sub")
        write("x/old", b"new")
        equal((names("x/sub"), read("x/old")), ([], b"new"))
        os.unlink("x/old")
        os.rmdir("x/sub")
        equal(names("x"), [])
    elif what == "link":
        equal((kind("x"), os.readlink("x")), ("l", "new"))
    else:
        equal((kind("x"), mode("x")), ("p", 0o644))


def remove(path):
    shutil.rmtree(path) if kind(path) == "d" else os.unlink(path)


MAKE = {"file": make_file, "directory": make_directory, "link": make_link, "fifo": make_fifo}

for old, tree in BEFORE.items():
    for new, make_it in MAKE.items():
        def check(new=new, make_it=make_it):
            for _ in range(2):
                remove("x")
                equal((names(), exists("x")), ([], False))
                make_it()
                check_new(new)
                equal(names(), ["x"])

        def move(new=new, make_it=make_it):
            os.rename("x", "moved")
            make_it()
            check_new(new)
            equal(names(), ["moved", "x"])
            remove("x")
            os.rename("moved", "x")
            equal((owner("x"), names()), ((ALICE.uid, ALICE.gid), ["x"]))

        case(f"replace/removed-{old}-by-{new}", *tree)(check)
        case(f"replace/moved-{old}-by-{new}", *tree)(move)


@case("replace/file-by-file-through-rename", *BEFORE["file"])
def _():
    write("new", b"new")
    os.rename("new", "x")
    check_new("file")


@case("replace/removed-directory-is-no-way", *BEFORE["directory"], symlink("to-old", "x/sub/old"))
def _():
    remove("x")
    write("x", b"new")
    for path in ("x/old", "x/sub/old", "to-old"):
        with fails(ENOTDIR):
            os.stat(path)


@case("replace/what-was-removed-inside-stays-removed", *BEFORE["directory"])
def _():
    os.unlink("x/old")
    os.rename("x", "y")
    os.rename("y", "x")
    equal(names("x"), ["sub"])
    shutil.rmtree("x/sub")
    os.rename("x", "z")
    equal(names("z"), [])
    os.rmdir("z")


@case("replace/tree-by-tree-of-the-same-names", *BEFORE["directory"])
def _():
    os.makedirs("y/sub")
    write("y/sub/new", b"new")
    shutil.rmtree("x")
    os.rename("y", "x")
    equal((names("x"), names("x/sub"), read("x/sub/new")), (["sub"], ["new"], b"new"))


@case("replace/again-and-again", file("x"), directory("d"), file("d/old"))
def _():
    for number in range(20):
        os.unlink("x")
        write("x", b"%d" % number)
        shutil.rmtree("d")
        os.mkdir("d")
        equal(names("d"), [])
        write("d/old", b"%d" % number)
        equal((read("x"), read("d/old")), (b"%d" % number,) * 2)


@case("replace/looked-up-while-missing", file("x"))
def _():
    os.unlink("x")
    for _ in range(3):
        with fails(ENOENT):
            os.stat("x")
    elsewhere(lambda: make_file())
    equal(read("x"), b"new")
    os.mkdir("y")
    with fails(ENOENT):
        os.stat("y/z")
    os.rename("x", "y/z")
    equal(read("y/z"), b"new")


@case("replace/merged-directory", directory("d"), file("d/found"), directory("d/sub"), file("d/sub/found"))
def _():
    write("d/new", b"new")
    write("d/sub/new", b"new")
    equal((names("d"), names("d/sub")), (["found", "new", "sub"], ["found", "new"]))
    os.unlink("d/new")
    os.unlink("d/sub/found")
    equal((names("d"), names("d/sub")), (["found", "sub"], ["new"]))
    write("d/found", b"changed")
    equal((names("d"), read("d/found")), (["found", "sub"], b"changed"))


@case("replace/hard-link-over-a-removed-name", file("x"), file("f", content=b"f"))
def _():
    os.unlink("x")
    os.link("f", "x")
    equal((read("x"), links("f"), names()), (b"f", 2, ["f", "x"]))


@case("replace/whole-starting-tree", *BEFORE["directory"], file("f", mode=0o400, owner=BOB), symlink("l", "f"), fifo("p"),
      link("g", "f"))
def _():
    kinds = {"x": "d", "x/old": "-", "x/sub": "d", "f": "-", "l": "l", "p": "p", "g": "-"}
    equal({path: kind(path) for path in kinds}, kinds)
    equal({os.lstat(path).st_mtime_ns for path in kinds}, {OLD})
    equal((mode("x"), owner("x")), (0o751, (ALICE.uid, ALICE.gid)))
    equal((mode("f"), owner("f"), links("f")), (0o400, (BOB.uid, BOB.gid), 2))
    equal((os.getxattr("x", "user.old"), read("f"), os.readlink("l")), (b"old", CONTENT, "f"))
    for path in ("x", "f", "l", "p", "g"):
        remove(path)
    equal(names(), [])
