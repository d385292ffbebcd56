"""mkdir, mkfifo, mknod, sockets, symbolic links: how they are made and what they are."""

import os
import socket
import stat
from errno import ECONNREFUSED, EEXIST, EINVAL, ELOOP, ENAMETOOLONG, ENOENT, ENXIO

from suite import *

TREE = (file("f"), directory("d"), symlink("l", "f"), symlink("dangling", "nowhere"), fifo("p"))
MAKERS = {
    "mkdir": os.mkdir, "mkfifo": os.mkfifo, "mknod": lambda path: os.mknod(path, stat.S_IFREG | 0o644),
    "mknod-device": lambda path: os.mknod(path, stat.S_IFCHR | 0o644, os.makedev(1, 3)),
    "symlink": lambda path: os.symlink("f", path), "link": lambda path: os.link("f", path),
}

for maker, make_it in MAKERS.items():
    area, _, part = maker.partition("-")
    refused(
        area, TREE,
        *((f"{part}-over-{what}".lstrip("-"), EEXIST, lambda make_it=make_it, path=path: make_it(path)) for what, path in (
            ("file", "f"), ("directory", "d"), ("link", "l"), ("dangling-link", "dangling"), ("fifo", "p"), ("dot", "."))))

# Modes that are asked for, the umask, and what comes of them.
for bits, mask in ((0o777, 0o022), (0o666, 0), (0o640, 0o077), (0o1777, 0o027), (0, 0o777), (0o777, 0o777)):
    def check(bits=bits, mask=mask):
        os.umask(mask)
        os.mkdir("d", bits)
        os.mkfifo("p", bits)
        os.mknod("n", stat.S_IFREG | bits)
        touch("f", mode=bits)
        equal([mode(name) & 0o777 for name in "dpnf"], [bits & 0o777 & ~mask] * 4, "modes of d, p, n, f")
        equal(mode("d") & 0o1000, bits & 0o1000, "sticky bit of d")

    case(f"umask/{mask:03o}-of-{bits:04o}")(check)


@case("umask/not-for-chmod-nor-links", file("f"))
def _():
    os.umask(0o777)
    os.chmod("f", 0o777)
    os.symlink("f", "l")
    equal((mode("f"), mode("l")), (0o777, 0o777))


# mkdir

@case("mkdir/empty", directory("d"))
def _():
    os.mkdir("d/new")
    equal((kind("d/new"), mode("d/new"), names("d/new"), owner("d/new")), ("d", 0o755, [], (0, 0)))
    equal(names("d"), ["new"])


@case("mkdir/many-and-nested")
def _():
    os.makedirs("a/b/c/d/e")
    for number in range(50):
        os.mkdir(f"a/b/{number}")
    equal(len(names("a/b")), 51)
    write("a/b/c/d/e/f")
    equal(read("a/b/../b/c/./d/e/f"), CONTENT)


@case("mkdir/relative-to-working-directory", directory("d"))
def _():
    os.chdir("d")
    os.mkdir("e")
    os.chdir("e")
    os.mkdir("../f")
    equal(names(".."), ["e", "f"])
    assert os.getcwd().endswith("/d/e")


# Fifos, devices, sockets

@case("mkfifo/carries-bytes", directory("d"))
def _():
    os.mkfifo("d/p", 0o600)
    equal((kind("d/p"), mode("d/p"), size("d/p")), ("p", 0o600, 0))

    def send():
        with opened("d/p", os.O_WRONLY) as fd:
            os.write(fd, b"through")

    if (pid := os.fork()) == 0:
        send()
        os._exit(0)
    equal(read("d/p"), b"through")
    os.waitpid(pid, 0)


@case("mkfifo/found-ones-carry-bytes", fifo("p", mode=0o622))
def _():
    equal((kind("p"), mode("p")), ("p", 0o622))
    with opened("p", os.O_RDONLY | os.O_NONBLOCK) as reader, opened("p", os.O_WRONLY) as writer:
        os.write(writer, b"through")
        equal(os.read(reader, 20), b"through")
    equal(size("p"), 0)


@case("mkfifo/renamed-and-linked", fifo("p"), directory("d"))
def _():
    os.link("p", "d/q")
    os.rename("p", "r")
    equal((links("r"), inode("r") == inode("d/q")), (2, True))
    with opened("r", os.O_RDONLY | os.O_NONBLOCK) as reader, opened("d/q", os.O_WRONLY) as writer:
        os.write(writer, b"through")
        equal(os.read(reader, 20), b"through")


@case("mknod/regular-file")
def _():
    os.mknod("n", stat.S_IFREG | 0o640)
    equal((kind("n"), mode("n"), size("n")), ("-", 0o640, 0))
    write("n")
    equal(read("n"), CONTENT)


for type_name, letter, bits in (("character", "c", stat.S_IFCHR), ("block", "b", stat.S_IFBLK)):
    def check(letter=letter, bits=bits):
        os.mknod("n", bits | 0o640, os.makedev(260, 70000))
        status = os.lstat("n")
        equal((kind("n"), mode("n"), os.major(status.st_rdev), os.minor(status.st_rdev)), (letter, 0o640, 260, 70000))
        os.rename("n", "m")
        os.unlink("m")

    case(f"mknod/{type_name}-device")(check)


@case("mknod/socket", directory("d"))
def _():
    with bind("d/s") as listener:
        equal(kind("d/s"), "s")
        listener.listen()
        with socket.socket(socket.AF_UNIX) as client:
            client.connect("d/s")
            accepted, _ = listener.accept()
            client.send(b"through")
            equal(accepted.recv(10), b"through")
    with fails(ENXIO):
        os.open("d/s", os.O_RDONLY)
    with socket.socket(socket.AF_UNIX) as client, fails(ECONNREFUSED):
        client.connect("d/s")
    os.unlink("d/s")


@case("mknod/socket-survives-rename", directory("d"))
def _():
    with bind("s") as listener:
        listener.listen()
        os.rename("s", "d/t")
        os.chmod("d/t", 0o700)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect("d/t")


# Symbolic links

refused(
    "symlink", TREE,
    ("empty-target", ENOENT, lambda: os.symlink("", "new")),
    ("target-of-4096-bytes", ENAMETOOLONG, lambda: os.symlink("t" * 4096, "new")),
    ("readlink-of-file", EINVAL, lambda: os.readlink("f")),
    ("readlink-of-directory", EINVAL, lambda: os.readlink("d")),
    ("readlink-of-fifo", EINVAL, lambda: os.readlink("p")),
)

TARGETS = {
    "plain": b"target", "absolute": b"/no such/path", "dots": b"../.././x//y/", "bytes": bytes(range(1, 256)), "space": b" ",
    "of-4095-bytes": b"t/" * 2047 + b"t", "of-59-bytes": b"t" * 59, "of-60-bytes": b"t" * 60,
}

for target_name, target in TARGETS.items():
    def check(target=target):
        os.symlink(target, b"new")
        for path in (b"old", b"new"):
            equal(os.readlink(path), target)
            equal((kind(path), size(path), mode(path)), ("l", len(target), 0o777))

    case(f"symlink/target-{target_name}", symlink("old", target))(check)


@case("symlink/leads-to", directory("d"), file("d/f"), symlink("l", "d"), symlink("d/m", "../l/f"), symlink("n", "l/m"))
def _():
    for path in ("l/f", "d/m", "n", "l/../d/f"):
        equal(read(path), CONTENT)
    append("n", b"more")
    equal(read("d/f"), CONTENT + b"more")
    equal(os.stat("n").st_ino, inode("d/f"))
    equal(names("l"), ["f", "m"])
    os.mkdir("l/sub")
    equal(kind("d/sub"), "d")


@case("symlink/relative-to-where-it-lies", directory("a"), directory("b"), file("a/f", content=b"a"),
      file("b/f", content=b"b"), symlink("a/l", "f"))
def _():
    os.rename("a/l", "b/l")
    equal(read("b/l"), b"b")
    os.link("b/l", "a/m", follow_symlinks=False)
    equal(read("a/m"), b"a")


@case("symlink/owner-is-its-own", file("f"), symlink("l", "f", owner=ALICE))
def _():
    equal((owner("l"), owner("f")), ((ALICE.uid, ALICE.gid), (0, 0)))
    os.chown("l", BOB.uid, BOB.gid, follow_symlinks=False)
    equal((owner("l"), owner("f")), ((BOB.uid, BOB.gid), (0, 0)))
    os.chown("l", 7, 8)
    equal((owner("l"), owner("f")), ((BOB.uid, BOB.gid), (7, 8)))


@case("symlink/chain-of-40", file("l0"), *(symlink(f"l{number}", f"l{number - 1}") for number in range(1, 42)))
def _():
    equal(read("l40"), CONTENT)
    with fails(ELOOP):
        read("l41")


@case("symlink/replaced-target-is-seen", file("a", content=b"a"), file("b", content=b"b"), symlink("l", "a"))
def _():
    equal(read("l"), b"a")
    os.symlink("b", "new")
    os.rename("new", "l")
    equal((read("l"), os.readlink("l"), size("l")), (b"b", "b", 1))
