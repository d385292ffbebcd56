"""Who may do what: classes of users, directories, the sticky bit."""

import os
from errno import EACCES, EPERM

from suite import *

# Modes and what a user then may do: r, w, x. The class of the user decides alone, even where another class may do more.
CLASSES = (
    ("owner", 0o700, ALICE, (), "rwx"), ("owner", 0o500, ALICE, (), "rx"), ("owner", 0o077, ALICE, (), ""),
    ("group", 0o070, BOB, (ALICE.gid,), "rwx"), ("group", 0o040, BOB, (ALICE.gid,), "r"),
    ("group", 0o707, BOB, (ALICE.gid,), ""),
    ("main-group", 0o060, User(BOB.uid, ALICE.gid), (), "rw"),
    ("others", 0o007, BOB, (TEAM,), "rwx"), ("others", 0o002, BOB, (), "w"), ("others", 0o770, BOB, (), ""),
)


def may(action):
    """Whether `action` succeeds rather than failing with EACCES."""
    try:
        action()
    except PermissionError as error:
        equal(error.errno, EACCES)
        return False
    return True


def allow(mode, user, groups, rights):
    def check_file():
        with acting(user, *groups):
            equal(may(lambda: touch("f", os.O_RDONLY)), "r" in rights, "may read")
            equal(may(lambda: touch("f", os.O_WRONLY)), "w" in rights, "may write")
            equal(may(lambda: touch("f", os.O_RDWR)), {"r", "w"} <= set(rights), "may read and write")
            for right, bit in zip("rwx", (os.R_OK, os.W_OK, os.X_OK)):
                equal(os.access("f", bit, effective_ids=True), right in rights, f"access {right}")

    def check_directory():
        with acting(user, *groups):
            equal(may(lambda: os.listdir("d")), "r" in rights, "may list")
            equal(may(lambda: os.stat("d/old")), "x" in rights, "may search")
            equal(may(lambda: os.mkdir("d/new")), {"w", "x"} <= set(rights), "may create")
            equal(may(lambda: os.unlink("d/old")), {"w", "x"} <= set(rights), "may remove")

    return check_file, check_directory


for who, bits, user, groups, rights in CLASSES:
    of_file, of_directory = allow(bits, user, groups, rights)
    case(f"permissions/file-{bits:03o}-for-{who}", file("f", mode=bits, owner=ALICE))(of_file)
    case(f"permissions/directory-{bits:03o}-for-{who}", directory("d", mode=bits, owner=ALICE), file("d/old"))(of_directory)


@case("permissions/root-needs-none", file("f", mode=0), directory("d", mode=0), file("d/f", mode=0))
def _():
    equal(read("d/f"), CONTENT)
    append("f", b"more")
    touch("d/new")
    equal(names("d"), ["f", "new"])


@case("permissions/root-cannot-execute-what-nobody-may", file("f", content=b"#!/bin/sh\n", mode=0o644))
def _():
    assert not os.access("f", os.X_OK)
    with fails(EACCES):
        elsewhere(lambda: os.execv("./f", ["f"]))


@case("permissions/execute", file("f", content=b"#!/bin/sh\nexit 7\n", mode=0o711), file("g", mode=0o766))
def _():
    equal(os.waitstatus_to_exitcode(os.system("./f")), 7)
    with acting(ALICE), fails(EACCES):
        elsewhere(lambda: os.execv("./g", ["g"]))


@case("permissions/change-takes-effect-at-once", file("f", mode=0o600))
def _():
    with acting(ALICE):
        assert not may(lambda: touch("f", os.O_RDONLY))
    os.chmod("f", 0o644)
    with acting(ALICE):
        assert may(lambda: touch("f", os.O_RDONLY))
    os.chmod("f", 0o600)
    with acting(ALICE):
        assert not may(lambda: touch("f", os.O_RDONLY))


@case("permissions/checked-when-opened", file("f", mode=0o666))
def _():
    with acting(ALICE):
        fd = os.open("f", os.O_RDWR)
        os.seteuid(0)
        os.chmod("f", 0)
        os.seteuid(ALICE.uid)
        os.pwrite(fd, b"C", 0)
        equal(os.pread(fd, 7, 0), b"Content")


@case("permissions/user-creates-own-files", directory("home", owner=ALICE))
def _():
    with acting(ALICE):
        write("home/f")
        os.mkdir("home/d")
        os.symlink("f", "home/l")
        os.mkfifo("home/p")
    for name in ("f", "d", "l", "p"):
        equal(owner(f"home/{name}"), (ALICE.uid, ALICE.gid), f"owner of {name}")


# The sticky bit

STICKY = (
    directory("tmp", mode=0o1777), file("tmp/hers", mode=0o666, owner=ALICE), file("tmp/his", mode=0o666, owner=BOB),
    directory("tmp/her-directory", mode=0o777, owner=ALICE), directory("tmp/his-directory", mode=0o777, owner=BOB),
    symlink("tmp/her-link", "hers", owner=ALICE), directory("open", mode=0o777), file("open/his", owner=BOB))

refused(
    "sticky", STICKY,
    ("unlink-anothers-file", EPERM, lambda: os.unlink("tmp/hers")),
    ("unlink-anothers-link", EPERM, lambda: os.unlink("tmp/her-link")),
    ("rmdir-anothers-directory", EPERM, lambda: os.rmdir("tmp/her-directory")),
    ("rename-anothers-file", EPERM, lambda: os.rename("tmp/hers", "tmp/new")),
    ("rename-anothers-file-out", EPERM, lambda: os.rename("tmp/hers", "open/new")),
    ("rename-anothers-directory", EPERM, lambda: os.rename("tmp/her-directory", "tmp/new")),
    ("rename-over-anothers-file", EPERM, lambda: os.rename("tmp/his", "tmp/hers")),
    ("rename-over-anothers-directory", EPERM, lambda: os.rename("tmp/his-directory", "tmp/her-directory")),
    ("rename-in-over-anothers-file", EPERM, lambda: os.rename("open/his", "tmp/hers")),
    ("exchange-with-anothers-file", EPERM, lambda: renameat2("tmp/his", "tmp/hers", RENAME_EXCHANGE)),
    user=BOB,
)


@case("sticky/owner-of-the-file-may", *STICKY)
def _():
    with acting(ALICE):
        os.rename("tmp/hers", "tmp/renamed")
        os.unlink("tmp/renamed")
        os.rmdir("tmp/her-directory")
    equal(names("tmp"), ["her-link", "his", "his-directory"])


@case("sticky/owner-of-the-directory-may", directory("tmp", mode=0o1777, owner=ALICE), file("tmp/his", owner=BOB))
def _():
    with acting(ALICE):
        os.rename("tmp/his", "tmp/renamed")
        os.unlink("tmp/renamed")


@case("sticky/without-it-the-directory-decides", directory("d", mode=0o777), file("d/hers", owner=ALICE, mode=0o600))
def _():
    with acting(BOB):
        os.unlink("d/hers")
    equal(names("d"), [])


@case("sticky/content-is-not-its-matter", *STICKY)
def _():
    with acting(BOB):
        append("tmp/hers", b"his")
    equal(read("tmp/hers"), CONTENT + b"his")


# Calls that ask for more than permission bits

OWNED = (
    directory(".", mode=0o777), file("f", mode=0o666), file("r", mode=0o644), directory("d", mode=0o777),
    file("a", owner=ALICE, mode=0o4755))

refused(
    "permissions", OWNED,
    ("chmod-anothers-file", EPERM, lambda: os.chmod("f", 0o600)),
    ("chmod-anothers-directory", EPERM, lambda: os.chmod("d", 0o700)),
    ("chown-anothers-file", EPERM, lambda: os.chown("f", ALICE.uid, ALICE.gid)),
    ("chown-own-file-away", EPERM, lambda: os.chown("a", BOB.uid, -1)),
    ("chgrp-own-file-to-foreign-group", EPERM, lambda: os.chown("a", -1, TEAM)),
    ("utimes-anothers-file", EPERM, lambda: os.utime("f", (1, 1))),
    ("utimes-now-of-a-file-not-writable", EACCES, lambda: os.utime("r")),
    ("utimes-one-now-one-kept-of-anothers-file", EPERM, lambda: utimensat("f", (0, UTIME_NOW), (0, UTIME_OMIT))),
    ("truncate-not-writable", EACCES, lambda: os.truncate("r", 0)),
    ("open-truncate-not-writable", EACCES, lambda: os.open("r", os.O_WRONLY | os.O_TRUNC)),
    ("setxattr-not-writable", EACCES, lambda: os.setxattr("r", "user.name", b"value")),
    ("setxattr-trusted", EPERM, lambda: os.setxattr("a", "trusted.name", b"value")),
    ("noatime-of-anothers-file", EPERM, lambda: os.open("f", os.O_RDONLY | os.O_NOATIME)),
    ("mknod-device", EPERM, lambda: os.mknod("new", 0o020666, os.makedev(1, 3))),
    user=ALICE,
)

MOVES = (
    directory(".", mode=0o777), directory("from", mode=0o777), directory("from/d", mode=0o755), directory("from/f"),
    directory("to", mode=0o777), directory("guarded", mode=0o755), file("guarded/f", mode=0o666), file("mine", owner=ALICE))

refused(
    "permissions", MOVES,
    ("rename-out-of-guarded", EACCES, lambda: os.rename("guarded/f", "to/f")),
    ("rename-into-guarded", EACCES, lambda: os.rename("mine", "guarded/g")),
    ("rename-within-guarded", EACCES, lambda: os.rename("guarded/f", "guarded/g")),
    ("move-directory-not-writable", EACCES, lambda: os.rename("from/d", "to/d")),
    ("link-into-guarded", EACCES, lambda: os.link("mine", "guarded/g")),
    user=ALICE,
)


@case("permissions/rename-directory-not-writable-in-place", *MOVES)
def _():
    with acting(ALICE):
        os.rename("from/d", "from/e")
    equal(names("from"), ["e", "f"])
