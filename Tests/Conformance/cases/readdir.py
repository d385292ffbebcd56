"""Listing directories, also while they change."""

import os
import stat

from suite import *

MANY = [f"entry{number:04}" for number in range(600)]
CROWD = (directory("d"), *(file(f"d/{name}", content=b"") for name in MANY))


def remaining(stream):
    return [name for name, _, _ in stream if name not in (".", "..")]


@case("readdir/dots-and-types", directory("d"), file("d/f"), directory("d/s"), symlink("d/l", "f"), fifo("d/p"))
def _():
    touch("d/new")
    os.mkdir("d/new-directory")
    with Stream("d") as stream:
        found = {name: (number, kind) for name, number, kind in stream}
    equal(sorted(found), [".", "..", "f", "l", "new", "new-directory", "p", "s"])
    for name, (_, type_number) in found.items():
        wanted = stat.S_IFMT(os.lstat(f"d/{name}").st_mode) >> 12
        assert type_number in (0, wanted), f"type of {name}: {type_number} instead of {wanted}"


@case("readdir/inode-numbers", directory("d"), file("d/f"), directory("d/s"), symlink("d/l", "f"), file("d/changed"))
def _():
    append("d/changed", b"more")
    touch("d/new")
    with Stream("d") as stream:
        for name, number, _ in stream:
            equal(number, inode(f"d/{name}"), f"number of {name}")


@case("readdir/of-a-removed-directory-is-empty", directory("d"))
def _():
    with opened("d") as fd:
        os.rmdir("d")
        equal(os.listdir(fd), [])


@case("readdir/many-once-each", *CROWD)
def _():
    for number in range(600, 900):
        touch(f"d/entry{number:04}")
    for number in range(0, 600, 3):
        os.unlink(f"d/entry{number:04}")
    expected = [f"entry{number:04}" for number in range(900) if number >= 600 or number % 3]
    equal(names("d"), expected)
    with Stream("d") as stream:
        equal(sorted(remaining(stream)), expected)


@case("readdir/long-names", directory("d"), *(file(f"d/{number:03}" + "n" * 252, content=b"") for number in range(100)))
def _():
    equal(names("d"), [f"{number:03}" + "n" * 252 for number in range(100)])


@case("readdir/removed-as-they-come", *CROWD)
def _():
    seen = []
    with Stream("d") as stream:
        for name, _, _ in stream:
            if name not in (".", ".."):
                os.unlink(f"d/{name}")
                seen.append(name)
    equal(sorted(seen), MANY)
    os.rmdir("d")


@case("readdir/what-stays-is-listed-once-while-others-go", *CROWD)
def _():
    seen, stay = [], set(MANY[::2])
    with Stream("d") as stream:
        for _ in range(100):
            seen.append(stream.next()[0])
        for name in MANY[1::2]:
            os.unlink(f"d/{name}")
        seen += remaining(stream)
    equal(sorted(name for name in seen if name in stay), sorted(stay))


@case("readdir/what-stays-is-listed-once-while-others-come", *CROWD)
def _():
    seen, number = [], 0
    with Stream("d") as stream:
        for name, _, _ in stream:
            seen.append(name)
            if number < 500:
                touch(f"d/new{number}")
                number += 1
    equal(sorted(name for name in seen if name in set(MANY)), MANY)
    equal(len(seen), len(set(seen)), "names and different names")


@case("readdir/renamed-as-they-come", directory("d"), *(file(f"d/{name}", content=b"") for name in MANY[:200]))
def _():
    renamed = set()
    with Stream("d") as stream:
        for name, _, _ in stream:
            if name in MANY and name not in renamed:
                os.rename(f"d/{name}", f"d/renamed-{name}")
                renamed.add(name)
    equal(names("d"), [f"renamed-{name}" for name in MANY[:200]])


@case("readdir/in-two-streams", *CROWD)
def _():
    with Stream("d") as one, Stream("d") as two:
        pairs = list(zip(one, two))
    equal(sorted(a[0] for a, _ in pairs), sorted([".", "..", *MANY]))
    equal([a for a, _ in pairs], [b for _, b in pairs])


@case("readdir/positions-lead-back", *CROWD)
def _():
    with Stream("d") as stream:
        order, positions = [], []
        while True:
            positions.append(stream.tell())
            if (entry := stream.next()) is None:
                break
            order.append(entry[0])
        for index in (0, 1, 2, 300, 599, len(order) - 1, 17):
            stream.seek(positions[index])
            equal(stream.next()[0], order[index], f"entry {index}")
        stream.seek(positions[250])
        equal([name for name, _, _ in stream], order[250:])


@case("readdir/positions-survive-removals", *CROWD)
def _():
    with Stream("d") as stream:
        before = [stream.next()[0] for _ in range(200)]
        position = stream.tell()
        after = remaining(stream)
        for name in before[:150] + after[-100:]:
            if name in MANY:
                os.unlink(f"d/{name}")
        stream.seek(position)
        equal([name for name in remaining(stream) if name not in after[-100:]], after[:-100])


@case("readdir/rewind-shows-changes", directory("d"), file("d/f"), file("d/g"))
def _():
    with Stream("d") as stream:
        equal(sorted(remaining(stream)), ["f", "g"])
        touch("d/new")
        os.unlink("d/f")
        stream.rewind()
        equal(sorted(remaining(stream)), ["g", "new"])


@case("readdir/descriptor-set-to-the-start-shows-changes", directory("d"), file("d/f"))
def _():
    with opened("d") as fd:
        equal(os.listdir(fd), ["f"])
        touch("d/new")
        os.lseek(fd, 0, os.SEEK_SET)
        equal(sorted(os.listdir(fd)), ["f", "new"])


@case("readdir/every-change-shows-at-once", directory("d"), file("d/a"), directory("d/s"), directory("e"), file("e/moved"))
def _():
    equal(names("d"), ["a", "s"])
    for change, expected in (
            (lambda: touch("d/b"), ["a", "b", "s"]), (lambda: os.unlink("d/a"), ["b", "s"]),
            (lambda: os.rmdir("d/s"), ["b"]),
            (lambda: os.rename("d/b", "d/c"), ["c"]), (lambda: os.rename("e/moved", "d/m"), ["c", "m"]),
            (lambda: os.mkdir("d/s"), ["c", "m", "s"]), (lambda: os.symlink("x", "d/a"), ["a", "c", "m", "s"]),
            (lambda: os.link("d/c", "d/b"), ["a", "b", "c", "m", "s"]),
            (lambda: os.rename("d/m", "e/m"), ["a", "b", "c", "s"])):
        change()
        equal(names("d"), expected)
        equal(elsewhere(lambda: names("d")), expected)


@case("readdir/walk", *(directory(path) for path in ("a", "a/b", "a/b/c", "d")), file("a/f"), file("a/b/g"), file("a/b/c/h"))
def _():
    write("a/b/new")
    os.rename("a/b/c", "d/c")
    walked = [(parent, sorted(folders), sorted(files)) for parent, folders, files in os.walk(".")]
    equal(sorted(walked), [
        (".", ["a", "d"], []), ("./a", ["b"], ["f"]), ("./a/b", [], ["g", "new"]), ("./d", ["c"], []), ("./d/c", [], ["h"])])


@case("readdir/while-another-process-changes-it", directory("d"), *(file(f"d/{name}", content=b"") for name in MANY[:100]))
def _():
    def churn():
        touch("d/x", os.O_WRONLY | os.O_CREAT)
        os.rename("d/x", "d/y")
        os.unlink("d/y")

    with repeating(churn):
        for _ in range(50):
            found = names("d")
            equal([name for name in found if name not in ("x", "y")], MANY[:100])
