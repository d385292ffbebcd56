"""chmod and chown, set-id bits, directories that hand on their group."""

import os
import stat
from errno import EPERM

from suite import *

HERS = (ALICE.uid, ALICE.gid)

for bits in (0, 0o400, 0o644, 0o755, 0o777, 0o1777, 0o2755, 0o4755, 0o7777):
    def check(bits=bits):
        for path in ("f", "d", "p"):
            os.chmod(path, bits)
            equal(mode(path), bits, f"mode of {path}")
        os.mkdir("new")
        os.chmod("new", bits)
        equal(mode("new"), bits)

    case(f"chmod/{bits:04o}", file("f"), directory("d"), fifo("p"))(check)


@case("chmod/keeps-the-rest", file("f", owner=ALICE, xattrs={"user.name": b"value"}), link("g", "f"))
def _():
    number = inode("f")
    with updates("f", "ctime"):
        os.chmod("f", 0o600)
    equal((read("f"), owner("f"), os.getxattr("f", "user.name"), links("f")), (CONTENT, HERS, b"value", 2))
    equal(inode("f"), number)


@case("chmod/follows-links", file("f"), symlink("l", "f"))
def _():
    os.chmod("l", 0o600)
    equal((mode("f"), mode("l")), (0o600, 0o777))


@case("chmod/through-a-descriptor", file("f"), directory("d"))
def _():
    with opened("f") as fd, opened("d") as dfd:
        os.fchmod(fd, 0o600)
        os.fchmod(dfd, 0o700)
        os.rename("f", "g")
        os.fchmod(fd, 0o640)
    equal((mode("g"), mode("d")), (0o640, 0o700))


@case("chmod/by-the-owner", file("f", owner=ALICE), directory("d", owner=ALICE))
def _():
    with acting(ALICE):
        os.chmod("f", 0o4711)
        os.chmod("d", 0o1700)
    equal((mode("f"), mode("d")), (0o4711, 0o1700))


@case("chmod/directory-keeps-entries", directory("d"), file("d/f"))
def _():
    os.chmod("d", 0o700)
    equal((names("d"), read("d/f")), (["f"], CONTENT))


@case("chown/user-and-group", file("f"), directory("d"), symlink("l", "nowhere"), fifo("p"))
def _():
    for path in ("f", "d", "l", "p"):
        os.chown(path, 123, 456, follow_symlinks=False)
        equal(owner(path), (123, 456), f"owner of {path}")
        os.chown(path, 789, -1, follow_symlinks=False)
        equal(owner(path), (789, 456), f"owner of {path}")
        os.chown(path, -1, 987, follow_symlinks=False)
        equal(owner(path), (789, 987), f"owner of {path}")


@case("chown/large-numbers", file("f"))
def _():
    os.chown("f", 4294967294, 2147483648)
    equal(owner("f"), (4294967294, 2147483648))


@case("chown/keeps-the-rest", file("f", mode=0o640))
def _():
    with updates("f", "ctime"):
        os.chown("f", 1, 2)
    equal((mode("f"), read("f")), (0o640, CONTENT))


@case("chown/through-a-descriptor", file("f"))
def _():
    with opened("f") as fd:
        os.rename("f", "g")
        os.fchown(fd, 1, 2)
        equal(owner(fd), (1, 2))
    equal(owner("g"), (1, 2))


@case("chown/owner-gives-to-own-group", file("f", owner=ALICE), file("g", owner=ALICE))
def _():
    with acting(ALICE, TEAM):
        os.chown("f", -1, TEAM)
        os.chown("g", ALICE.uid, TEAM)
    equal((owner("f"), owner("g")), ((ALICE.uid, TEAM),) * 2)


@case("chown/owner-loses-rights", file("f", owner=ALICE))
def _():
    os.chown("f", BOB.uid, -1)
    with acting(ALICE), fails(EPERM):
        os.chmod("f", 0o777)
    with acting(BOB):
        os.chmod("f", 0o600)
    equal(mode("f"), 0o600)


# Set-id bits go when someone without the right to keep them changes the file.

def _write(fd):
    os.pwrite(fd, b"C", 0)


def _copy(fd):
    with opened("source") as source:
        os.copy_file_range(source, fd, 4)


CHANGES = {
    "write": _write, "write-at-the-end": lambda fd: os.pwrite(fd, b"more", 100), "ftruncate": lambda fd: os.ftruncate(fd, 3),
    "truncate": lambda fd: os.truncate("f", 3), "open-truncate": lambda fd: touch("f", os.O_WRONLY | os.O_TRUNC),
    "chgrp": lambda fd: os.chown("f", -1, TEAM), "fallocate": lambda fd: fallocate(fd, 0, 0, 100), "copy_file_range": _copy,
}

for change_name, change in CHANGES.items():
    def check(change=change):
        with acting(ALICE, TEAM):
            with opened("f", os.O_RDWR) as fd:
                change(fd)
                equal(mode(fd), 0o777)
        equal(mode("f"), 0o777)

    case(f"setid/cleared-by-{change_name}", file("f", mode=0o6777, owner=ALICE), file("source"))(check)


@case("setid/kept-by-the-writes-of-root", file("f", mode=0o6755, owner=ALICE))
def _():
    append("f", b"more")
    os.truncate("f", 3)
    equal(mode("f"), 0o6755)


@case("setid/cleared-by-the-chown-of-root", file("f", mode=0o6755), file("g", mode=0o6755), directory("d", mode=0o6755))
def _():
    os.chown("f", 1, -1)
    os.chown("g", -1, 1)
    os.chown("d", 1, 1)
    equal((mode("f"), mode("g"), mode("d")), (0o755, 0o755, 0o6755))


@case("setid/kept-by-reads-links-and-renames", file("f", mode=0o6755, owner=ALICE), directory("d", owner=ALICE))
def _():
    with acting(ALICE):
        read("f")
        os.link("f", "d/g")
        os.rename("d/g", "d/h")
        os.utime("f")
    equal((mode("f"), mode("d/h")), (0o6755, 0o6755))


@case("setid/group-bit-refused-to-who-is-not-in-the-group", file("f", mode=0o755, owner=User(ALICE.uid, TEAM)))
def _():
    with acting(ALICE):
        os.chmod("f", 0o6755)
        equal(mode("f"), 0o4755)
    with acting(ALICE, TEAM):
        os.chmod("f", 0o6755)
        equal(mode("f"), 0o6755)


# Directories with the set-group-id bit

SHARED = directory("shared", mode=0o2777, owner=User(0, TEAM))


@case("setgid-directory/hands-on-its-group", SHARED)
def _():
    with acting(ALICE):
        write("shared/f")
        os.mkdir("shared/d")
        os.symlink("f", "shared/l")
        os.mkfifo("shared/p")
        os.mknod("shared/n", stat.S_IFREG | 0o644)
        touch("shared/d/f")
    for name in ("f", "d", "l", "p", "n", "d/f"):
        equal(owner(f"shared/{name}"), (ALICE.uid, TEAM), f"owner of {name}")
    equal((mode("shared/f"), mode("shared/d")), (0o644, 0o2755))


@case("setgid-directory/not-to-what-is-moved-in", SHARED, file("f"), directory("d"))
def _():
    os.rename("f", "shared/f")
    os.rename("d", "shared/d")
    equal((owner("shared/f"), owner("shared/d"), mode("shared/d")), ((0, 0), (0, 0), 0o755))


@case("setgid-directory/tmpfile", SHARED)
def _():
    with acting(ALICE):
        with opened("shared", os.O_RDWR | os.O_TMPFILE) as fd:
            equal(owner(fd), (ALICE.uid, TEAM))


@case("setgid-directory/strips-the-bit-from-files-of-strangers", SHARED)
def _():
    with acting(ALICE):
        touch("shared/f", mode=0o2755)
    equal(mode("shared/f"), 0o755)


@case("setgid-directory/without-it-the-group-of-the-process", directory("d", mode=0o777, owner=User(0, TEAM)))
def _():
    with acting(ALICE):
        touch("d/f")
        os.mkdir("d/e")
    equal((owner("d/f"), owner("d/e"), mode("d/e")), (HERS, HERS, 0o755))
