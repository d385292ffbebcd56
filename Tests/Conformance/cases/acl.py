"""POSIX access control lists: who may, and what new files inherit."""

import os
import struct
from errno import EACCES, EINVAL, ENODATA, EPERM

from suite import *

ACCESS, DEFAULT = "system.posix_acl_access", "system.posix_acl_default"
TAGS = {"u": 1, "user": 2, "g": 4, "group": 8, "mask": 16, "o": 32}


def acl(text):
    """The attribute for `u:6 user:12001:4 g:4 group:12010:6 mask:6 o:0`, its entries in this order."""
    result = struct.pack("<I", 2)
    for entry in text.split():
        tag, *identity, rights = entry.split(":")
        result += struct.pack("<HHI", TAGS[tag], int(rights), int(identity[0]) if identity else 0xFFFFFFFF)
    return result


GRANT = f"u:6 user:{ALICE.uid}:6 g:4 mask:6 o:0"
INHERIT = f"u:7 user:{ALICE.uid}:7 g:5 mask:7 o:0"


def may(flags, path="f"):
    try:
        touch(path, flags)
    except PermissionError:
        return False
    return True


@case("acl/set-and-read", file("f"), directory("d"))
def _():
    os.setxattr("f", ACCESS, acl(GRANT))
    os.setxattr("d", DEFAULT, acl(INHERIT))
    equal((os.getxattr("f", ACCESS), os.getxattr("d", DEFAULT), mode("f")), (acl(GRANT), acl(INHERIT), 0o660))
    assert ACCESS in os.listxattr("f") and DEFAULT in os.listxattr("d")
    os.removexattr("f", ACCESS)
    os.removexattr("d", DEFAULT)
    for path, name in (("f", ACCESS), ("d", DEFAULT)):
        with fails(ENODATA):
            os.getxattr(path, name)


FOUND = file("f", mode=0o600, xattrs={ACCESS: acl(GRANT)})


@case("acl/grants-to-a-user", FOUND)
def _():
    equal((mode("f"), os.getxattr("f", ACCESS)), (0o660, acl(GRANT)))
    with acting(ALICE):
        equal((may(os.O_RDONLY), may(os.O_WRONLY)), (True, True))
    with acting(BOB):
        equal((may(os.O_RDONLY), may(os.O_WRONLY)), (False, False))


@case("acl/denies-to-a-user", file("f", mode=0o666, xattrs={ACCESS: acl(f"u:6 user:{ALICE.uid}:0 g:6 mask:6 o:6")}))
def _():
    with acting(ALICE):
        equal((may(os.O_RDONLY), may(os.O_WRONLY)), (False, False))
    with acting(BOB):
        equal((may(os.O_RDONLY), may(os.O_WRONLY)), (True, True))


@case("acl/grants-to-a-group", file("f", mode=0o600, xattrs={ACCESS: acl(f"u:6 g:0 group:{TEAM}:4 mask:7 o:0")}))
def _():
    with acting(BOB, TEAM):
        equal((may(os.O_RDONLY), may(os.O_WRONLY)), (True, False))
    with acting(BOB):
        equal(may(os.O_RDONLY), False)


@case("acl/mask-limits", FOUND)
def _():
    os.setxattr("f", ACCESS, acl(GRANT.replace("mask:6", "mask:4")))
    with acting(ALICE):
        equal((may(os.O_RDONLY), may(os.O_WRONLY)), (True, False))
    equal(mode("f"), 0o640)


@case("acl/chmod-sets-the-mask", FOUND)
def _():
    os.chmod("f", 0o640)
    equal(os.getxattr("f", ACCESS), acl(GRANT.replace("mask:6", "mask:4")))
    with acting(ALICE):
        equal((may(os.O_RDONLY), may(os.O_WRONLY)), (True, False))
    os.chmod("f", 0o604)
    equal(os.getxattr("f", ACCESS), acl(GRANT.replace("mask:6", "mask:0").replace("o:0", "o:4")))


@case("acl/that-says-what-the-mode-says", file("f", mode=0o600))
def _():
    os.setxattr("f", ACCESS, acl("u:6 g:4 o:0"))
    equal(mode("f"), 0o640)
    with fails(ENODATA):
        os.getxattr("f", ACCESS)


@case("acl/change-takes-effect-at-once", file("f", mode=0o600))
def _():
    for allowed in (True, False, True):
        os.setxattr("f", ACCESS, acl(GRANT)) if allowed else os.removexattr("f", ACCESS)
        os.chmod("f", 0o660 if allowed else 0o600)
        with acting(ALICE):
            equal(may(os.O_RDONLY), allowed)


@case("acl/owner-may-set", file("f", owner=ALICE, mode=0o600))
def _():
    with acting(ALICE):
        os.setxattr("f", ACCESS, acl(f"u:6 user:{BOB.uid}:4 g:0 mask:4 o:0"))
    with acting(BOB):
        equal(may(os.O_RDONLY), True)


# Which changes keep the list.
for change_name, change in {
    "write": lambda: append("f", b"more"), "rename": lambda: (os.rename("f", "g"), os.rename("g", "f")),
    "link": lambda: os.link("f", "g"), "chown": lambda: os.chown("f", BOB.uid, BOB.gid),
    "truncate": lambda: os.truncate("f", 0),
}.items():
    def check(change=change):
        change()
        equal((os.getxattr("f", ACCESS), mode("f")), (acl(GRANT), 0o660))
        with acting(ALICE):
            equal(may(os.O_WRONLY), True)

    case(f"acl/kept-by-{change_name}", FOUND)(check)


# Defaults

SHARED = directory("d", mode=0o777, xattrs={DEFAULT: acl(INHERIT)})


@case("acl/new-files-inherit", SHARED)
def _():
    os.umask(0o077)
    touch("d/f", mode=0o666)
    os.mknod("d/n", 0o100640)
    os.mkfifo("d/p", 0o660)
    for name, mask, bits in (("f", 6, 0o660), ("n", 4, 0o640), ("p", 6, 0o660)):
        # The mode that was asked for limits what is inherited; the umask does not.
        equal((mode(f"d/{name}"), os.getxattr(f"d/{name}", ACCESS)), (
            bits, acl(f"u:6 user:{ALICE.uid}:7 g:5 mask:{mask} o:0")), f"mode and list of {name}")
    with acting(ALICE):
        equal((may(os.O_RDWR, "d/f"), may(os.O_RDONLY, "d/n"), may(os.O_WRONLY, "d/n")), (True, True, False))


@case("acl/new-directories-inherit-and-hand-on", SHARED)
def _():
    os.umask(0o077)
    os.mkdir("d/e", 0o750)
    equal((os.getxattr("d/e", DEFAULT), mode("d/e")), (acl(INHERIT), 0o750))
    equal(os.getxattr("d/e", ACCESS), acl(INHERIT.replace("mask:7", "mask:5")))
    os.mkdir("d/e/e", 0o777)
    touch("d/e/e/f", mode=0o600)
    equal((mode("d/e/e"), mode("d/e/e/f"), os.getxattr("d/e/e", DEFAULT)), (0o770, 0o600, acl(INHERIT)))


@case("acl/default-that-is-only-a-mode", directory("d", xattrs={DEFAULT: acl("u:7 g:7 o:0")}))
def _():
    os.umask(0o077)
    touch("d/f", mode=0o666)
    os.mkdir("d/e", 0o777)
    equal((mode("d/f"), mode("d/e")), (0o660, 0o770))
    with fails(ENODATA):
        os.getxattr("d/f", ACCESS)


@case("acl/links-and-moved-files-do-not-inherit", SHARED, file("f"), directory("e"))
def _():
    os.symlink("f", "d/l")
    os.rename("f", "d/f")
    os.rename("e", "d/e")
    for name, attribute in (("f", ACCESS), ("e", ACCESS), ("e", DEFAULT)):
        with fails(ENODATA):
            os.getxattr(f"d/{name}", attribute)
    equal((mode("d/f"), mode("d/e"), mode("d/l")), (0o644, 0o755, 0o777))


@case("acl/tmpfile-inherits", SHARED)
def _():
    os.umask(0o077)
    with opened("d", os.O_RDWR | os.O_TMPFILE, 0o666) as fd:
        equal((mode(fd), os.getxattr(fd, ACCESS)), (0o660, acl(f"u:6 user:{ALICE.uid}:7 g:5 mask:6 o:0")))


@case("acl/default-does-not-rule-the-directory-itself", SHARED)
def _():
    os.chmod("d", 0o700)
    equal(os.getxattr("d", DEFAULT), acl(INHERIT))
    with acting(ALICE), fails(EACCES):
        os.listdir("d")


refused(
    "acl", [file("f"), directory("d"), symlink("l", "f")],
    ("malformed", EINVAL, lambda: os.setxattr("f", ACCESS, acl(GRANT)[:-3])),
    ("without-owner", EINVAL, lambda: os.setxattr("f", ACCESS, acl("g:4 o:4"))),
    ("named-user-without-mask", EINVAL, lambda: os.setxattr("f", ACCESS, acl(f"u:6 user:{ALICE.uid}:6 g:4 o:0"))),
    ("default-of-a-file", EACCES, lambda: os.setxattr("f", DEFAULT, acl(INHERIT))),
    ("get-none", ENODATA, lambda: os.getxattr("f", ACCESS)),
    ("get-no-default", ENODATA, lambda: os.getxattr("d", DEFAULT)),
)
refused(
    "acl", [file("f", mode=0o666)],
    ("set-by-another", EPERM, lambda: os.setxattr("f", ACCESS, acl(GRANT))),
    user=ALICE,
)
