"""rename, and renameat2 with its flags."""

import os
from errno import EBUSY, EEXIST, EINVAL, EISDIR, ENOENT, ENOTDIR, ENOTEMPTY

from suite import *

TREE = (
    file("f"), file("g", content=b"g"), directory("empty"), directory("full"), file("full/x"), directory("full/sub"),
    file("full/sub/y"), symlink("l", "f"), symlink("to-full", "full"), symlink("dangling", "nowhere"), fifo("p"))

refused(
    "rename", TREE,
    ("over-nonempty-directory", ENOTEMPTY, lambda: os.rename("empty", "full")),
    ("over-its-parent", ENOTEMPTY, lambda: os.rename("full/sub", "full")),
    ("file-over-directory", EISDIR, lambda: os.rename("f", "empty")),
    ("link-over-directory", EISDIR, lambda: os.rename("l", "empty")),
    ("directory-over-file", ENOTDIR, lambda: os.rename("empty", "f")),
    ("directory-over-link-to-directory", ENOTDIR, lambda: os.rename("empty", "to-full")),
    ("directory-over-fifo", ENOTDIR, lambda: os.rename("empty", "p")),
    ("into-itself", EINVAL, lambda: os.rename("full", "full/new")),
    ("into-own-subdirectory", EINVAL, lambda: os.rename("full", "full/sub/new")),
    ("over-own-subdirectory", EINVAL, lambda: os.rename("full", "full/sub")),
    ("dot", EBUSY, lambda: os.rename("full/.", "new")),
    ("dots", EBUSY, lambda: os.rename("full/..", "new")),
    ("to-dot", EBUSY, lambda: os.rename("empty", "full/.")),
    ("to-dots", EBUSY, lambda: os.rename("empty", "full/sub/..")),
    ("file-to-name-with-slash", ENOTDIR, lambda: os.rename("f", "new/")),
    ("missing-over-file", ENOENT, lambda: os.rename("missing", "f")),
    ("missing-over-directory", ENOENT, lambda: os.rename("missing", "empty")),
    ("noreplace-over-file", EEXIST, lambda: renameat2("f", "g", RENAME_NOREPLACE)),
    ("noreplace-over-directory", EEXIST, lambda: renameat2("full/sub", "empty", RENAME_NOREPLACE)),
    ("noreplace-over-dangling-link", EEXIST, lambda: renameat2("f", "dangling", RENAME_NOREPLACE)),
    ("noreplace-over-itself", EEXIST, lambda: renameat2("f", "f", RENAME_NOREPLACE)),
    ("noreplace-missing", ENOENT, lambda: renameat2("missing", "new", RENAME_NOREPLACE)),
    ("exchange-with-missing", ENOENT, lambda: renameat2("f", "missing", RENAME_EXCHANGE)),
    ("exchange-of-missing", ENOENT, lambda: renameat2("missing", "f", RENAME_EXCHANGE)),
    ("exchange-with-own-subdirectory", EINVAL, lambda: renameat2("full", "full/sub", RENAME_EXCHANGE)),
    ("exchange-with-own-parent", EINVAL, lambda: renameat2("full/sub", "full", RENAME_EXCHANGE)),
    ("exchange-and-noreplace", EINVAL, lambda: renameat2("f", "g", RENAME_EXCHANGE | RENAME_NOREPLACE)),
    ("unknown-flag", EINVAL, lambda: renameat2("f", "new", 1 << 20)),
)

# What is moved, by name, and where to: a new name, beside, into another directory.
for what in ("f", "empty", "full", "l", "dangling", "p"):
    def check(what=what):
        before, kind_before, listing = inode(what), kind(what), tree_below(what)
        os.rename(what, "new")
        os.rename("new", "to/" + what)
        os.rename("to/" + what, "to/renamed")
        equal((inode("to/renamed"), kind("to/renamed"), tree_below("to/renamed")), (before, kind_before, listing))
        for gone in (what, "new", "to/" + what):
            with fails(ENOENT):
                os.lstat(gone)
        equal(names("to"), ["renamed"])
        assert what not in names()

    case(f"rename/moves-{what}", *TREE, directory("to"))(check)


def tree_below(top):
    """Names, kinds and contents, by path below `top`."""
    if kind(top) != "d":
        return None
    found = {}
    for parent, folders, files in os.walk(top):
        for name in folders:
            found[os.path.relpath(os.path.join(parent, name), top)] = "directory"
        for name in files:
            found[os.path.relpath(os.path.join(parent, name), top)] = read(os.path.join(parent, name))
    return found


@case("rename/over-file", file("f", mode=0o640), file("g", content=b"g"), symlink("l", "g"))
def _():
    number = inode("f")
    os.rename("f", "g")
    equal((inode("g"), read("g"), mode("g"), names()), (number, CONTENT, 0o640, ["g", "l"]))
    os.rename("g", "l")
    equal((inode("l"), kind("l"), read("l"), names()), (number, "-", CONTENT, ["l"]))


@case("rename/over-fifo-and-dangling-link", file("f"), fifo("p"), symlink("dangling", "nowhere"))
def _():
    os.rename("f", "p")
    os.rename("p", "dangling")
    equal((names(), read("dangling")), (["dangling"], CONTENT))


@case("rename/over-empty-directory", directory("a", mode=0o700), file("a/f"), directory("b"), directory("b/c"))
def _():
    number = inode("a")
    os.rename("a", "b/c")
    equal((names("b/c"), inode("b/c"), mode("b/c"), names()), (["f"], number, 0o700, ["b"]))


@case("rename/over-emptied-directory", directory("a"), file("a/new"), directory("b"), file("b/old"), directory("b/sub"))
def _():
    os.unlink("b/old")
    os.rmdir("b/sub")
    os.rename("a", "b")
    equal((names("b"), names()), (["new"], ["b"]))
    write("b/old", b"again")
    equal(read("b/old"), b"again")


@case("rename/over-directory-that-is-not-quite-empty", directory("a"), directory("b"), file("b/x"), file("b/y"))
def _():
    os.unlink("b/x")
    with fails(ENOTEMPTY, EEXIST):
        os.rename("a", "b")
    equal((names("b"), names()), (["y"], ["a", "b"]))


@case("rename/to-itself", file("f"), directory("d"), file("d/x"))
def _():
    os.rename("f", "f")
    os.rename("d", "d")
    os.rename("d", "./d")
    equal((read("f"), names("d"), names()), (CONTENT, ["x"], ["d", "f"]))


@case("rename/to-another-name-of-itself-does-nothing", file("f"), directory("d"), link("d/g", "f"))
def _():
    os.rename("f", "d/g")
    equal((names(), names("d"), links("f")), (["d", "f"], ["g"], 2))


@case("rename/over-one-of-several-names", file("f"), link("g", "f"), file("h", content=b"h"))
def _():
    os.rename("h", "g")
    equal((read("f"), links("f"), read("g"), links("g")), (CONTENT, 1, b"h", 1))


@case("rename/one-of-several-names", file("f"), link("g", "f"), directory("d"))
def _():
    os.rename("g", "d/h")
    equal((links("d/h"), read("d/h"), inode("f") == inode("d/h")), (2, CONTENT, True))


@case("rename/chain", *(file(f"f{number}", content=b"%d" % number) for number in range(5)))
def _():
    for number in reversed(range(5)):
        os.rename(f"f{number}", f"f{number + 1}")
    equal([read(f"f{number + 1}") for number in range(5)], [b"%d" % number for number in range(5)])
    equal(len(names()), 5)


@case("rename/there-and-back", file("f"), directory("d"), file("d/x"), directory("d/sub"), file("d/sub/y"))
def _():
    before = tree_below(".")
    for _ in range(3):
        os.rename("f", "g")
        os.rename("d", "e")
        os.rename("e/sub", "e/bus")
        os.rename("e/bus", "e/sub")
        os.rename("e", "d")
        os.rename("g", "f")
    equal(tree_below("."), before)


@case("rename/swap-by-hand", file("f", content=b"f"), file("g", content=b"g"), directory("a"), file("a/x"), directory("b"))
def _():
    for one, two in (("f", "g"), ("a", "b")):
        os.rename(one, "spare")
        os.rename(two, one)
        os.rename("spare", two)
    equal((read("f"), read("g"), names("a"), names("b")), (b"g", b"f", [], ["x"]))


# Open files and directories

@case("rename/open-file-goes-along", file("f"), directory("d"))
def _():
    with opened("f", os.O_RDWR) as fd:
        os.rename("f", "d/g")
        os.pwrite(fd, b"C", 0)
        equal((read("d/g"), inode(fd)), (b"C" + CONTENT[1:], inode("d/g")))


@case("rename/over-open-file", file("f"), file("g", content=b"goes away"))
def _():
    with opened("g", os.O_RDWR) as fd:
        os.rename("f", "g")
        equal((os.pread(fd, 99, 0), links(fd), read("g")), (b"goes away", 0, CONTENT))
        os.pwrite(fd, b"G", 0)
        os.ftruncate(fd, 4)
        equal((os.pread(fd, 99, 0), os.fstat(fd).st_size, read("g")), (b"Goes", 4, CONTENT))


@case("rename/directory-with-open-file", directory("d"), directory("d/sub"), file("d/sub/f"))
def _():
    with opened("d/sub/f", os.O_RDWR | os.O_APPEND) as fd:
        os.rename("d", "e")
        os.write(fd, b"more")
        equal(read("e/sub/f"), CONTENT + b"more")
        os.rename("e/sub", "s")
        os.write(fd, b"!")
        equal((read("s/f"), inode("s/f")), (CONTENT + b"more!", inode(fd)))


@case("rename/dots-lead-to-the-new-parent", directory("a"), directory("a/d"), directory("a/d/e"), directory("b"),
      file("b/f"))
def _():
    os.chdir("a/d")
    os.rename("../../a/d", "../../b/d")
    equal(inode(".."), inode("../../b"))
    equal(names(".."), ["d", "f"])
    equal(read("../f"), CONTENT)
    os.chdir("e")
    equal(read("../../f"), CONTENT)
    assert os.getcwd().endswith("/b/d/e")
    with Stream("..") as entries:
        equal({name: number for name, number, _ in entries}[".."], inode("../.."))


@case("rename/working-directory-goes-along", directory("d"), file("d/f"))
def _():
    os.chdir("d")
    os.rename("../d", "../e")
    write("g")
    append("f", b"more")
    equal((names("../e"), read("../e/f")), (["f", "g"], CONTENT + b"more"))


@case("rename/open-directory-goes-along", directory("d"), file("d/f"))
def _():
    with opened("d") as fd:
        os.rename("d", "e")
        os.rename("f", "g", src_dir_fd=fd, dst_dir_fd=fd)
        equal((sorted(os.listdir(fd)), names("e")), (["g"], ["g"]))


@case("rename/directory-replaced-while-open", directory("a"), file("a/f"), directory("b"))
def _():
    with opened("b") as fd:
        os.rename("a", "b")
        equal((os.listdir(fd), names("b")), ([], ["f"]))
        with fails(ENOENT):
            os.mkdir("new", dir_fd=fd)


# What is inside a renamed directory

INSIDE = (
    directory("d"), file("d/f"), file("d/gone"), directory("d/sub"), file("d/sub/deep"), file("d/sub/also-gone"),
    symlink("d/l", "f"), directory("d/bare"))


@case("rename/directory-with-changes-inside", *INSIDE)
def _():
    os.unlink("d/gone")
    os.unlink("d/sub/also-gone")
    append("d/f", b"more")
    os.mkdir("d/new")
    os.rmdir("d/bare")
    write("d/sub/new")
    os.rename("d", "e")
    equal(tree_below("e"), {
        "f": CONTENT + b"more", "sub": "directory", "sub/deep": CONTENT, "sub/new": CONTENT, "l": CONTENT + b"more",
        "new": "directory"})


@case("rename/changes-after-it", *INSIDE)
def _():
    os.rename("d", "e")
    os.unlink("e/gone")
    append("e/f", b"more")
    os.rename("e/sub", "e/bus")
    os.unlink("e/bus/also-gone")
    os.rename("e/bus/deep", "deep")
    equal(tree_below("e"), {
        "f": CONTENT + b"more", "bus": "directory", "l": CONTENT + b"more", "bare": "directory"})
    equal(read("deep"), CONTENT)


@case("rename/old-name-is-free", *INSIDE)
def _():
    os.rename("d", "e")
    os.mkdir("d")
    equal(names("d"), [])
    write("d/f", b"another")
    os.mkdir("d/sub")
    equal((names("d/sub"), read("d/f"), read("e/f"), read("e/sub/deep")), ([], b"another", CONTENT, CONTENT))


@case("rename/old-name-for-a-file", *INSIDE)
def _():
    os.rename("d", "e")
    write("d", b"file")
    equal((read("d"), read("e/sub/deep")), (b"file", CONTENT))


@case("rename/twice-and-its-parent", directory("a"), directory("a/b"), directory("a/b/c"), file("a/b/c/f"), directory("z"))
def _():
    os.rename("a/b/c", "a/b/d")
    os.rename("a/b", "a/e")
    os.rename("a", "z/a")
    os.rename("z/a/e/d", "z/d")
    os.rename("z", "y")
    equal(tree_below("y"), {"a": "directory", "a/e": "directory", "d": "directory", "d/f": CONTENT})


@case("rename/children-swap-with-parents", directory("a"), directory("a/b"), file("a/f"), file("a/b/g"))
def _():
    os.rename("a/b", "b")
    os.rename("a", "b/a")
    equal(tree_below("b"), {"g": CONTENT, "a": "directory", "a/f": CONTENT})


@case("rename/name-is-taken-over-by-another", directory("a"), file("a/only-a"), directory("b"), file("b/only-b"))
def _():
    os.rename("a", "c")
    os.rename("b", "a")
    os.rename("c", "b")
    equal((names("a"), names("b"), names()), (["only-b"], ["only-a"], ["a", "b"]))


@case("rename/many-files", directory("d"), directory("e"),
      *(file(f"d/f{number}", content=b"%d" % number) for number in range(100)))
def _():
    for number in range(100):
        os.rename(f"d/f{number}", f"e/g{number}")
    equal((names("d"), len(names("e"))), ([], 100))
    equal([read(f"e/g{number}") for number in range(100)], [b"%d" % number for number in range(100)])


@case("rename/target-is-never-missing", file("f", content=b"0"))
def _():
    with repeating(lambda: read("f")):
        for number in range(200):
            write("new", b"%d" % number)
            os.rename("new", "f")


@case("rename/target-is-never-missing-for-a-reader-of-a-link", file("a"), file("b"), symlink("l", "a"))
def _():
    with repeating(lambda: equal(read("l"), CONTENT)):
        for number in range(200):
            os.symlink("ab"[number % 2], "new")
            os.rename("new", "l")


# renameat2

@case("rename/noreplace", file("f"), directory("d"), directory("e"))
def _():
    renameat2("f", "g", RENAME_NOREPLACE)
    renameat2("d", "e/d", RENAME_NOREPLACE)
    os.unlink("g")
    touch("h")
    renameat2("h", "g", RENAME_NOREPLACE)
    equal((names(), names("e")), (["e", "g"], ["d"]))


# Which are exchanged: names of things in this tree.
for one, two in (("f", "g"), ("f", "empty"), ("f", "full"), ("empty", "full"), ("l", "full"), ("f", "p"), ("f", "full/sub"),
                 ("full/sub/y", "full/x"), ("full/x", "l")):
    def check(one=one, two=two):
        before = [(inode(path), kind(path), tree_below(path)) for path in (one, two)]
        renameat2(one, two, RENAME_EXCHANGE)
        equal([(inode(path), kind(path), tree_below(path)) for path in (two, one)], before)
        renameat2(one, two, RENAME_EXCHANGE)
        equal([(inode(path), kind(path), tree_below(path)) for path in (one, two)], before)

    case("rename/" + f"exchange-{one}-and-{two}".replace("/", "-"), *TREE)(check)


@case("rename/exchange-leads-dots-to-the-new-parents", directory("a"), directory("a/x"), directory("b"), directory("b/y"))
def _():
    renameat2("a/x", "b/y", RENAME_EXCHANGE)
    equal((inode("a/x/.."), inode("b/y/..")), (inode("a"), inode("b")))


@case("rename/exchange-then-remove", directory("d"), file("d/x"), file("f"))
def _():
    renameat2("d", "f", RENAME_EXCHANGE)
    os.unlink("d")
    equal(names(), ["f"])
    os.mkdir("d")
    equal((names("d"), names("f")), ([], ["x"]))
