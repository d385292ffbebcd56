"""Hard links: one file, several names."""

import os
from errno import EPERM

from suite import *

refused(
    "link", [directory("d"), directory("d/e"), symlink("l", "d")],
    ("directory", EPERM, lambda: os.link("d", "new")),
    ("directory-into-itself", EPERM, lambda: os.link("d", "d/e/new")),
)


@case("link/second-name", file("f"), directory("d"))
def _():
    os.link("f", "d/g")
    equal((links("f"), links("d/g"), inode("f") == inode("d/g")), (2, 2, True))
    equal((read("d/g"), names(), names("d")), (CONTENT, ["d", "f"], ["g"]))


@case("link/of-a-new-file", directory("d"))
def _():
    write("f")
    os.link("f", "d/g")
    equal((links("f"), inode("f") == inode("d/g"), read("d/g")), (2, True, CONTENT))


@case("link/content-is-shared", file("f"), directory("d"))
def _():
    os.link("f", "d/g")
    append("f", b"1")
    append("d/g", b"2")
    equal((read("f"), read("d/g")), (CONTENT + b"12",) * 2)
    os.truncate("d/g", 3)
    equal((read("f"), size("f")), (b"con", 3))


@case("link/metadata-is-shared", file("f"))
def _():
    os.link("f", "g")
    os.chmod("f", 0o600)
    os.chown("g", 1, 2)
    os.utime("f", ns=(3, 4))
    os.setxattr("g", "user.name", b"value")
    equal((mode("g"), owner("f"), os.stat("g").st_mtime_ns, os.getxattr("f", "user.name")), (0o600, (1, 2), 4, b"value"))
    equal(os.stat("f"), os.stat("g"))


@case("link/each-name-may-go", file("f"))
def _():
    for name in ("g", "h", "i"):
        os.link("f", name)
    equal(links("f"), 4)
    for left, name in ((3, "f"), (2, "h"), (1, "g")):
        os.unlink(name)
        equal((links("i"), read("i")), (left, CONTENT))


@case("link/link-of-a-link", file("f"))
def _():
    os.link("f", "g")
    os.link("g", "h")
    os.unlink("g")
    equal((links("h"), inode("h") == inode("f")), (2, True))


@case("link/found-links-are-one-file", file("f"), directory("d"), link("d/g", "f"), link("h", "f"))
def _():
    equal([links(path) for path in ("f", "d/g", "h")], [3, 3, 3])
    equal({inode(path) for path in ("f", "d/g", "h")}, {inode("f")})
    equal([read(path) for path in ("f", "d/g", "h")], [CONTENT] * 3)


@case("link/found-links-stay-one-file", file("f"), directory("d"), link("d/g", "f"))
def _():
    append("f", b"more")
    equal((read("d/g"), links("d/g"), inode("f") == inode("d/g")), (CONTENT + b"more", 2, True))
    os.chmod("d/g", 0o600)
    equal(mode("f"), 0o600)


@case("link/found-links-are-counted-down", file("f"), link("g", "f"), link("h", "f"))
def _():
    os.unlink("f")
    equal((links("g"), links("h")), (2, 2))
    os.unlink("h")
    equal((links("g"), read("g")), (1, CONTENT))


@case("link/found-links-are-counted-up", file("f"), link("g", "f"))
def _():
    os.link("g", "h")
    equal([links(path) for path in ("f", "g", "h")], [3, 3, 3])
    equal(inode("h"), inode("f"))


@case("link/found-links-through-an-open-descriptor", file("f"), link("g", "f"))
def _():
    with opened("f") as reader, opened("g", os.O_WRONLY | os.O_APPEND) as writer:
        os.write(writer, b"more")
        equal(os.pread(reader, 99, 0), CONTENT + b"more")


@case("link/of-fifo-and-symbolic-link", fifo("p"), file("f"), symlink("l", "f"))
def _():
    os.link("p", "q")
    os.link("l", "m", follow_symlinks=False)
    equal((kind("q"), links("p"), kind("m"), links("l"), links("f")), ("p", 2, "l", 2, 1))
    equal((inode("l"), os.readlink("m")), (inode("m"), "f"))


@case("link/follows-when-told", file("f"), symlink("l", "f"))
def _():
    linkat(AT_FDCWD, "l", "g", AT_SYMLINK_FOLLOW)
    equal((kind("g"), inode("g"), links("f")), ("-", inode("f"), 2))


@case("link/of-an-open-file", file("f"))
def _():
    with opened("f", os.O_RDWR | os.O_APPEND) as fd:
        os.link("f", "g")
        equal(os.fstat(fd).st_nlink, 2)
        os.unlink("f")
        os.write(fd, b"more")
        equal((read("g"), os.fstat(fd).st_nlink), (CONTENT + b"more", 1))


@case("link/in-a-renamed-directory", directory("d"), file("d/f"))
def _():
    os.link("d/f", "d/g")
    os.rename("d", "e")
    equal((links("e/f"), inode("e/f") == inode("e/g")), (2, True))
    os.link("e/g", "h")
    append("h", b"more")
    equal((links("h"), read("e/f")), (3, CONTENT + b"more"))


@case("link/many", file("f"), directory("d"))
def _():
    for number in range(500):
        os.link("f", f"d/{number}")
    equal(links("d/77"), 501)
    for number in range(500):
        os.unlink(f"d/{number}")
    equal(links("f"), 1)


# Inode numbers

@case("inode/differs-between-files", *(file(f"f{number}") for number in range(20)), directory("d"), symlink("l", "f0"),
      fifo("p"))
def _():
    write("new")
    os.mkdir("d/new")
    paths = names() + ["d/new"]
    equal(len({inode(path) for path in paths}), len(paths))


CHANGES = {
    "write": lambda: append("f", b"more"), "truncate": lambda: os.truncate("f", 0), "chmod": lambda: os.chmod("f", 0o600),
    "chown": lambda: os.chown("f", 1, 1), "utime": lambda: os.utime("f"),
    "rename": lambda: (os.rename("f", "g"), os.rename("g", "f")),
    "link": lambda: (os.link("f", "g"), os.unlink("g")), "setxattr": lambda: os.setxattr("f", "user.name", b"value"),
    "open": lambda: touch("f", os.O_RDWR), "siblings": lambda: (touch("new"), os.unlink("other")),
}

for change_name, change in CHANGES.items():
    def check(change=change):
        before, parent = inode("f"), inode(".")
        with opened("f") as fd:
            change()
            equal((inode("f"), inode(fd), inode(".")), (before, before, parent))

    case(f"inode/kept-by-{change_name}", file("f"), file("other"))(check)


@case("inode/of-directory-kept", directory("d"), file("d/f"), directory("e"))
def _():
    number = inode("d")
    with opened("d") as fd:
        touch("d/new")
        os.unlink("d/f")
        os.chmod("d", 0o700)
        os.rename("d", "e/d")
        equal((inode("e/d"), inode(fd), inode("e/d/.")), (number,) * 3)


@case("inode/one-device", file("f"), directory("d"), file("d/g"), symlink("l", "f"))
def _():
    append("f", b"more")
    touch("new")
    equal({os.lstat(path).st_dev for path in (".", "f", "d", "d/g", "l", "new")}, {os.lstat(".").st_dev})


@case("inode/same-for-all-who-ask", file("f"), directory("d"))
def _():
    for path in ("f", "d"):
        here, there = os.lstat(path), elsewhere(lambda path=path: [os.lstat(path).st_ino, os.lstat(path).st_dev])
        equal([here.st_ino, here.st_dev], there)
        with opened(path) as fd:
            equal(inode(fd), here.st_ino)
