"""Names are bytes: every one but `/` and NUL may stand in them."""

import os
from errno import EEXIST, ENAMETOOLONG, ENOENT

from suite import *

NAMES = {
    "space": b" ", "newline": b"a\nb", "tab-and-bell": b"\t\a", "backslash": b"\\", "quotes": b"'\"`", "dash": b"-rf",
    "star": b"*?[]", "three-dots": b"...", "dot-and-more": b".. ", "hidden": b".hidden", "trailing-dot": b"name.",
    "trailing-space": b"name ", "colon": b"C:", "percent": b"%2f%00%s", "invalid-utf8": b"\xff\xfe\x80",
    "latin1": b"gr\xfc\xdfe",
    "utf8": "模型-🦊".encode(), "right-to-left": "\u202eabc".encode(), "byte-1": b"\x01", "byte-127": b"\x7f",
    "all-bytes-low": bytes(set(range(1, 128)) - {0x2F}), "all-bytes-high": bytes(range(128, 256)),
    "255-bytes-of-3": "模".encode() * 85, "whiteout-like": b".wh.name", "opaque-like": b".wh..wh..opq",
    "overlay-like": b"#1f", "work-like": b"work", "fuse-like": b".fuse_hidden0001", "nfs-like": b".nfs0001", "number": b"0",
}

for name_name, name in NAMES.items():
    def check(name=name):
        new = b"new/" + name
        equal(os.listdir(b"d"), [name])
        equal(read(b"d/" + name), name)
        os.mkdir("new")
        write(new, b"content")
        equal((os.listdir(b"new"), read(new)), ([name], b"content"))
        os.unlink(new)
        os.mkdir(new)
        os.symlink(name, b"new/" + b"link")
        equal((kind(new), os.readlink(b"new/link")), ("d", name))
        os.rename(b"d/" + name, new + b"/" + name)
        equal((os.listdir(b"d"), read(new + b"/" + name)), ([], name))
        os.rename(new, b"d/" + name)
        equal(os.listdir(b"d/" + name), [name])

    case(f"names/{name_name}", directory("d"), file(b"d/" + name, content=name))(check)


refused(
    "names", [file("f")],
    ("256-bytes-of-4", ENAMETOOLONG, lambda: touch("🦊" * 64)),
    ("256-bytes-rename", ENAMETOOLONG, lambda: os.rename("f", "n" * 256)),
    ("4000-bytes", ENAMETOOLONG, lambda: touch("n" * 4000)),
)


@case("names/case-matters", file("name", content=b"lower"))
def _():
    with fails(ENOENT):
        os.stat("NAME")
    write("NAME", b"upper")
    equal((names(), read("name"), read("NAME")), (["NAME", "name"], b"lower", b"upper"))


@case("names/composition-matters", file("é", content=b"composed"))
def _():
    with fails(ENOENT):
        os.stat("e\u0301")
    write("e\u0301", b"decomposed")
    equal((len(names()), read("é"), read("e\u0301")), (2, b"composed", b"decomposed"))


@case("names/prefixes-are-apart", file("a"), file("a."), file("ab"), directory("a-"), file("a-/b"))
def _():
    os.unlink("a")
    os.rename("ab", "a")
    equal(names(), ["a", "a-", "a."])


@case("names/of-removed-whiteouts", file("name"), file(".wh.name"))
def _():
    os.unlink("name")
    equal(names(), [".wh.name"])
    with fails(EEXIST):
        touch(".wh.name")
    os.unlink(".wh.name")
    equal(names(), [])
