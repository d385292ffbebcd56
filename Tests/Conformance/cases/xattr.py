"""Extended attributes."""

import os
from errno import E2BIG, EACCES, EEXIST, ENODATA, EOPNOTSUPP, EPERM, ERANGE

from suite import *

CREATE, REPLACE = os.XATTR_CREATE, os.XATTR_REPLACE
FOUND = {"user.one": b"1", "user.two": b"second value"}
TREE = (file("f", xattrs=FOUND), directory("d", xattrs=FOUND), symlink("l", "f"), fifo("p"), file("bare"))

refused(
    "xattr", TREE,
    ("get-missing", ENODATA, lambda: os.getxattr("f", "user.three")),
    ("get-of-bare-file", ENODATA, lambda: os.getxattr("bare", "user.one")),
    ("remove-missing", ENODATA, lambda: os.removexattr("f", "user.three")),
    ("create-existing", EEXIST, lambda: os.setxattr("f", "user.one", b"x", CREATE)),
    ("replace-missing", ENODATA, lambda: os.setxattr("f", "user.three", b"x", REPLACE)),
    ("get-into-short-buffer", ERANGE, lambda: getxattr_into("f", "user.two", 5)),
    ("list-into-short-buffer", ERANGE, lambda: listxattr_into("f", 5)),
    ("name-too-long", ERANGE, lambda: os.setxattr("f", "user." + "n" * 251, b"x")),
    ("name-empty", ERANGE, lambda: os.setxattr("f", "", b"x")),
    ("value-over-64-kib", E2BIG, lambda: os.setxattr("f", "user.three", bytes(65537))),
    ("set-unknown-namespace", EOPNOTSUPP, lambda: os.setxattr("f", "nonsense.name", b"x")),
    ("get-unknown-namespace", EOPNOTSUPP, lambda: os.getxattr("f", "nonsense.name")),
    ("set-user-on-link", EPERM, lambda: os.setxattr("l", "user.one", b"x", follow_symlinks=False)),
    ("set-user-on-fifo", EPERM, lambda: os.setxattr("p", "user.one", b"x")),
)

refused(
    "xattr", [
        directory(".", mode=0o777), file("f", mode=0o600, xattrs=FOUND), directory("d", mode=0o1777),
        file("r", xattrs=FOUND)],
    ("get-not-readable", EACCES, lambda: os.getxattr("f", "user.one")),
    ("remove-not-writable", EACCES, lambda: os.removexattr("r", "user.one")),
    ("set-on-anothers-sticky-directory", EPERM, lambda: os.setxattr("d", "user.one", b"x")),
    ("remove-trusted", EPERM, lambda: os.removexattr("r", "trusted.one")),
    user=ALICE,
)


def attributes(path):
    return {name: os.getxattr(path, name) for name in os.listxattr(path) if name.startswith("user.")}


for path in ("f", "d"):
    def check(path=path):
        equal(attributes(path), FOUND)
        os.setxattr(path, "user.three", b"3", CREATE)
        os.setxattr(path, "user.one", b"replaced by something longer", REPLACE)
        os.setxattr(path, "user.two", b"")
        equal(attributes(path), {"user.one": b"replaced by something longer", "user.two": b"", "user.three": b"3"})
        os.removexattr(path, "user.two")
        os.removexattr(path, "user.one")
        equal(attributes(path), {"user.three": b"3"})
        with fails(ENODATA):
            os.getxattr(path, "user.one")
        os.setxattr(path, "user.one", b"again", CREATE)
        equal(os.getxattr(path, "user.one"), b"again")

    case(f"xattr/life-on-{'file' if path == 'f' else 'directory'}", *TREE)(check)


@case("xattr/sizes", *TREE)
def _():
    equal(getxattr_into("f", "user.two", 0), 12)
    equal(getxattr_into("f", "user.two", 12), 12)
    equal(getxattr_into("f", "user.two", 100), 12)
    assert listxattr_into("f", 0) >= len("user.one") + 1 + len("user.two") + 1
    equal([name for name in os.listxattr("bare") if name.startswith(("user.", "trusted."))], [])


for value_name, value in (
        ("empty", b""), ("zeros", bytes(50)), ("all-bytes", bytes(range(256))), ("of-3000-bytes", b"v" * 3000)):
    def check(value=value):
        for path in ("old", "new"):
            touch(path, os.O_WRONLY | os.O_CREAT)
            os.setxattr(path, "user.new", b"longer than nothing")
            os.setxattr(path, "user.new", value)
            equal(os.getxattr(path, "user.new"), value)
        equal(os.getxattr("old", "user.old"), value[:800])

    case(f"xattr/value-{value_name}", file("old", xattrs={"user.old": value[:800]}))(check)


@case("xattr/name-of-255-bytes", file("f", xattrs={"user." + "o" * 250: b"old"}))
def _():
    os.setxattr("f", "user." + "n" * 250, b"new")
    equal(attributes("f"), {"user." + "o" * 250: b"old", "user." + "n" * 250: b"new"})


@case("xattr/odd-names", file("f", xattrs={"user.with space": b"1", "user.ünï": b"2", "user.a.b.c": b"3"}))
def _():
    os.setxattr("f", b"user.\xff\x01", b"4")
    equal({os.fsencode(name) for name in attributes("f")}, {
        b"user.with space", "user.ünï".encode(), b"user.a.b.c", b"user.\xff\x01"})
    equal(os.getxattr("f", b"user.\xff\x01"), b"4")


@case("xattr/many", file("f", xattrs={f"user.{number}": b"%d" % number for number in range(30)}))
def _():
    for number in range(30, 60):
        os.setxattr("f", f"user.{number}", b"%d" % number)
    for number in range(0, 60, 2):
        os.removexattr("f", f"user.{number}")
    equal(attributes("f"), {f"user.{number}": b"%d" % number for number in range(1, 60, 2)})


# What else happens to the file, and the attributes stay.
for change_name, change in {
    "write": lambda: append("f", b"more"), "truncate": lambda: os.truncate("f", 0), "chmod": lambda: os.chmod("f", 0o600),
    "chown": lambda: os.chown("f", 1, 1), "utime": lambda: os.utime("f"), "link": lambda: os.link("f", "g"),
    "rename": lambda: (os.rename("f", "x"), os.rename("x", "f")), "open-truncate": lambda: write("f", b""),
    "rename-of-its-directory": lambda: (os.rename("d", "e"), os.rename("e", "d")),
}.items():
    def check(change=change):
        change()
        equal((attributes("f"), attributes("d")), (FOUND, FOUND))
        os.setxattr("f", "user.one", b"set after it")
        equal(attributes("f"), FOUND | {"user.one": b"set after it"})

    case(f"xattr/kept-by-{change_name}", *TREE)(check)


@case("xattr/not-inherited-nor-left-behind", *TREE)
def _():
    os.unlink("f")
    touch("f")
    touch("d/new")
    equal(attributes("d/new"), {})
    os.unlink("d/new")
    os.rmdir("d")
    os.mkdir("d")
    equal((attributes("f"), attributes("d")), ({}, {}))


@case("xattr/go-with-the-file-that-replaces", *TREE)
def _():
    os.setxattr("bare", "user.own", b"x")
    os.rename("bare", "f")
    equal(attributes("f"), {"user.own": b"x"})


@case("xattr/through-descriptors", *TREE)
def _():
    with opened("f") as fd, opened("d") as dfd:
        os.rename("f", "g")
        os.setxattr(fd, "user.one", b"through")
        os.removexattr(fd, "user.two")
        os.setxattr(dfd, "user.three", b"3")
        equal((attributes(fd), sorted(attributes(dfd))), ({"user.one": b"through"}, ["user.one", "user.three", "user.two"]))
    equal(attributes("g"), {"user.one": b"through"})


@case("xattr/follow-links", *TREE)
def _():
    os.setxattr("l", "user.one", b"through")
    equal(os.getxattr("f", "user.one"), b"through")
    equal([name for name in os.listxattr("l", follow_symlinks=False) if name.startswith("user.")], [])


@case("xattr/owner-may", file("f", owner=ALICE, mode=0o600, xattrs=FOUND))
def _():
    with acting(ALICE):
        os.setxattr("f", "user.one", b"hers")
        os.removexattr("f", "user.two")
        equal(attributes("f"), {"user.one": b"hers"})


@case("xattr/trusted-is-for-root", file("f", mode=0o666, xattrs={"trusted.one": b"1", "user.one": b"1"}), symlink("l", "f"))
def _():
    os.setxattr("f", "trusted.two", b"2")
    os.setxattr("l", "trusted.link", b"3", follow_symlinks=False)
    equal((os.getxattr("f", "trusted.one"), os.getxattr("f", "trusted.two")), (b"1", b"2"))
    equal(os.getxattr("l", "trusted.link", follow_symlinks=False), b"3")
    assert {"trusted.one", "trusted.two"} <= set(os.listxattr("f"))
    with acting(ALICE):
        equal([name for name in os.listxattr("f") if name.startswith("trusted.")], [])
        with fails(ENODATA, EPERM):
            os.getxattr("f", "trusted.one")


# cap_net_bind_service, as setcap writes it.
CAPABILITY = bytes.fromhex("0100000200040000000000000000000000000000")


@case("xattr/capabilities", file("f", mode=0o755, xattrs={"security.capability": CAPABILITY}), file("g", mode=0o755))
def _():
    equal(os.getxattr("f", "security.capability"), CAPABILITY)
    os.setxattr("g", "security.capability", CAPABILITY)
    os.chmod("f", 0o700)
    os.rename("g", "h")
    equal((os.getxattr("f", "security.capability"), os.getxattr("h", "security.capability")), (CAPABILITY,) * 2)


for change_name, change in {
    "write": lambda: append("f", b"more"), "truncate": lambda: os.truncate("f", 3), "chown": lambda: os.chown("f", 1, -1),
}.items():
    def check(change=change):
        change()
        with fails(ENODATA):
            os.getxattr("f", "security.capability")

    case(f"xattr/capabilities-lost-by-{change_name}",
         file("f", mode=0o755, xattrs={"security.capability": CAPABILITY}))(check)
