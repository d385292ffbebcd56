"""What every call that takes a path refuses alike: each operation meets each condition."""

import os
from errno import EACCES, ELOOP, ENAMETOOLONG, ENOENT, ENOTDIR

from suite import *

# By name: what to do with a path, and which conditions beyond the common ones apply. `x`: the last name must exist;
# `f`: a symbolic link as the last name is followed; `w`: the directory is changed.
OPERATIONS = {
    "chdir": (os.chdir, "xf"),
    "chmod": (lambda path: os.chmod(path, 0o600), "xf"),
    "chown": (lambda path: os.chown(path, 1, 1), "xf"),
    "getxattr": (lambda path: os.getxattr(path, "user.name"), "xf"),
    "lchown": (lambda path: os.lchown(path, 1, 1), "x"),
    "link-source": (lambda path: os.link(path, "new"), "x"),
    "link-target": (lambda path: os.link("file", path), "w"),
    "listdir": (os.listdir, "xf"),
    "listxattr": (os.listxattr, "xf"),
    "lstat": (os.lstat, "x"),
    "mkdir": (os.mkdir, "w"),
    "mkfifo": (os.mkfifo, "w"),
    "mknod": (lambda path: os.mknod(path, 0o644 | 0o100000), "w"),
    "open": (lambda path: touch(path, os.O_RDONLY), "xf"),
    "open-create": (lambda path: touch(path, os.O_WRONLY | os.O_CREAT), "w"),
    "open-truncate": (lambda path: touch(path, os.O_WRONLY | os.O_TRUNC), "xf"),
    "readlink": (os.readlink, "x"),
    "removexattr": (lambda path: os.removexattr(path, "user.name"), "xf"),
    "rename-source": (lambda path: os.rename(path, "new"), "xw"),
    "rename-target": (lambda path: os.rename("file", path), "w"),
    "rmdir": (os.rmdir, "xw"),
    "setxattr": (lambda path: os.setxattr(path, "user.name", b"value"), "xf"),
    "stat": (os.stat, "xf"),
    "statvfs": (os.statvfs, "xf"),
    "symlink": (lambda path: os.symlink("anywhere", path), "w"),
    "truncate": (lambda path: os.truncate(path, 0), "xf"),
    "unlink": (os.unlink, "xw"),
    "utimensat": (lambda path: os.utime(path, (1, 1)), "xf"),
}

# The condition, the error, the path that meets it, what of the operation must hold for it, and who tries.
CONDITIONS = (
    ("name-missing", ENOENT, "missing", "x", None),
    ("prefix-missing", ENOENT, "missing/name", "", None),
    ("prefix-dangling", ENOENT, "dangling/name", "", None),
    ("prefix-is-file", ENOTDIR, "file/name", "", None),
    ("prefix-is-fifo", ENOTDIR, "fifo/name", "", None),
    ("prefix-loops", ELOOP, "loop/name", "", None),
    ("link-loops", ELOOP, "loop", "f", None),
    ("name-of-256-bytes", ENAMETOOLONG, "n" * 256, "", None),
    ("path-of-4096-bytes", ENAMETOOLONG, "./" * 2047 + "nn", "", None),
    ("prefix-not-searchable", EACCES, "closed/file", "", ALICE),
    ("directory-not-writable", EACCES, "guarded/new", "w", ALICE),
)

TREE = (
    directory(".", mode=0o777), file("file", owner=ALICE), fifo("fifo"), symlink("loop", "loop"),
    symlink("dangling", "nowhere"),
    directory("closed", mode=0o600), file("closed/file", mode=0o666),
    directory("guarded", mode=0o755), file("guarded/old", mode=0o666))

for operation, (call, traits) in OPERATIONS.items():
    for condition, number, path, needed, user in CONDITIONS:
        # A removal needs a name to remove; there, the guarded directory's own serves.
        if "w" in traits and "x" in traits and condition == "directory-not-writable":
            path = "guarded/old" if operation != "rmdir" else None
        if path and set(needed) <= set(traits):
            area, _, part = operation.partition("-")
            name = f"{part}-{condition}".lstrip("-")
            refused(area, TREE, (name, number, lambda call=call, path=path: call(path)), user=user)


@case("paths/255-bytes-in-a-name", file("n" * 255), directory("d" * 255))
def _():
    equal(read("n" * 255), CONTENT)
    os.rename("n" * 255, "d" * 255 + "/" + "m" * 255)
    equal(names("d" * 255), ["m" * 255])
    os.unlink("d" * 255 + "/" + "m" * 255)
    os.mkdir("e" * 255)
    equal(names(), ["d" * 255, "e" * 255])


@case("paths/4095-bytes-in-a-path", file("f"))
def _():
    equal(read("./" * 2047 + "f"), CONTENT)


@case("paths/trailing-slash-of-directory", directory("d"))
def _():
    equal(os.stat("d/").st_ino, inode("d"))
    os.mkdir("e/")
    os.rename("d/", "f/")
    os.rmdir("e/")
    equal(names(), ["f"])


@case("paths/dots", directory("a"), directory("a/b"), file("a/f"))
def _():
    equal(os.stat("a/b/..").st_ino, inode("a"))
    equal(os.stat("a/.").st_ino, inode("a"))
    equal(read("a/b/../././f"), CONTENT)


DEEP = ["level%02d" % number for number in range(60)]


@case("paths/deep", *(directory("/".join(DEEP[:depth])) for depth in range(1, 61)), file("/".join(DEEP) + "/leaf"))
def _():
    leaf = "/".join(DEEP) + "/leaf"
    append(leaf, b"more")
    equal(read(leaf), CONTENT + b"more")
    os.rename(DEEP[0], "moved")
    equal(read("/".join(["moved"] + DEEP[1:]) + "/leaf"), CONTENT + b"more")


@case("paths/deeper-than-a-path-can-tell", directory("top"))
def _():
    os.chdir("top")
    for _ in range(40):
        os.mkdir("d" * 250)
        os.chdir("d" * 250)
    write("leaf", b"deep")
    os.rename("leaf", "moved")
    os.mkdir("sub")
    equal(read("moved"), b"deep")
    equal(names(), ["moved", "sub"])
    for _ in range(40):
        os.chdir("..")
    equal(names(), ["d" * 250])


@case("paths/relative-to-a-descriptor", directory("d"), file("d/f"), directory("e"))
def _():
    with opened("d") as d, opened("e") as e:
        os.rename("d", "moved")
        os.rename("f", "g", src_dir_fd=d, dst_dir_fd=e)
        os.mkdir("sub", dir_fd=d)
        os.symlink("x", "l", dir_fd=d)
        equal(os.stat("g", dir_fd=e).st_size, len(CONTENT))
        os.unlink("g", dir_fd=e)
    equal(names("moved"), ["l", "sub"])
    equal(names("e"), [])


refused(
    "paths", [file("f"), directory("d"), symlink("l", "f")],
    ("empty-stat", ENOENT, lambda: os.stat("")),
    ("empty-mkdir", ENOENT, lambda: os.mkdir("")),
    ("empty-rename-target", ENOENT, lambda: os.rename("f", "")),
    ("slash-behind-file-stat", ENOTDIR, lambda: os.stat("f/")),
    ("slash-behind-file-open", ENOTDIR, lambda: os.open("f/", os.O_RDONLY)),
    ("slash-behind-file-unlink", ENOTDIR, lambda: os.unlink("f/")),
    ("slash-behind-file-rename-source", ENOTDIR, lambda: os.rename("f/", "g")),
    ("slash-behind-file-rename-target", ENOTDIR, lambda: os.rename("f", "g/")),
    ("slash-behind-link-stat", ENOTDIR, lambda: os.stat("l/")),
    ("slash-behind-link-unlink", ENOTDIR, lambda: os.unlink("l/")),
    ("slash-behind-new-symlink", ENOENT, lambda: os.symlink("f", "m/")),
    ("slash-behind-new-link", ENOENT, lambda: os.link("f", "m/")),
    ("dot-behind-file", ENOTDIR, lambda: os.stat("f/.")),
    ("dots-behind-file", ENOTDIR, lambda: os.stat("f/..")),
)
