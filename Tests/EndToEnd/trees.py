"""Sample trees and their comparison, byte for byte."""

import hashlib
import os
import random
import stat

BIG_BYTES = 9 * 1024 * 1024 + 4321
# 2024-02-03T04:05:06Z; before 1970; with nanoseconds; after 2038.
TIMES_NANOSECONDS = (1_706_933_106_000_000_000, -86_400_000_000_000, 1_500_000_000_123_456_789, 4_000_000_000_000_000_000)


def seeded(seed, count):
    """`count` bytes that depend on the seed alone."""
    return random.Random(seed).randbytes(count)


def write(path, data=b"", mode=0o644, time=TIMES_NANOSECONDS[0]):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(data)
    os.chmod(path, mode)
    os.utime(path, ns=(time, time))


def make_plain(root, big_bytes=BIG_BYTES):
    """Files and folders only, with names that every origin can carry: small, empty, big, nested."""
    root = os.fspath(root)
    write(f"{root}/config.json", b'{"model_type": "test"}\n')
    write(f"{root}/README.md", b"# A model\n" * 50)
    write(f"{root}/empty.txt")
    write(f"{root}/one.byte", b"x")
    write(f"{root}/tokenizer/vocab.txt", b"\n".join(b"token%d" % i for i in range(3000)))
    write(f"{root}/model-00001-of-00002.safetensors", seeded(1, big_bytes))
    # One byte on either side of a chunk's end.
    write(f"{root}/model-00002-of-00002.safetensors", seeded(2, 1024 * 1024 + 1))
    write(f"{root}/aligned.bin", seeded(3, 1024 * 1024))
    write(f"{root}/almost.bin", seeded(4, 1024 * 1024 - 1))
    deep = "/".join(f"level{i}" for i in range(20))
    write(f"{root}/{deep}/leaf", b"deep\n")
    for i in range(40):
        write(f"{root}/many/file{i:03}", seeded(100 + i, i * 37))
    return root


def make_named(root):
    """Names in UTF-8 that need care in URLs, listings and shells."""
    root = os.fspath(root)
    for name in ODD_NAMES:
        write(f"{root}/names/{name}", name.encode())
        write(f"{root}/names/in {name}/inside", name.encode())
    return root


ODD_NAMES = (
    "with space", "plus+plus", "per%cent", "per%20cent", "hash#hash", "question?mark", "amp&amp", "equals=x", "colon:x",
    "semi;colon", "comma,x", "quote'x", 'double"quote', "back\\slash", "brackets[x]", "braces{x}", "caret^x", "tilde~x",
    "at@x", "dollar$x", "star*x", "pipe|x", "less<greater>", "grüße", "模型", "emoji-🦊", "e\u0301-decomposed", "é-composed",
    ".hidden", "-dash", "trailing.", "n" * 200,
)


def make_unix(root):
    """What only file systems and layers carry: links, modes, times, raw bytes in names, an empty folder."""
    root = os.fspath(root)
    write(f"{root}/unix/target", b"target\n")
    os.link(f"{root}/unix/target", f"{root}/unix/hard")
    os.makedirs(f"{root}/unix/other", exist_ok=True)
    os.link(f"{root}/unix/target", f"{root}/unix/other/hard")
    os.symlink("target", f"{root}/unix/soft")
    os.symlink("../unix/target", f"{root}/unix/roundabout")
    os.symlink("/nowhere/at all", f"{root}/unix/dangling")
    os.symlink("other", f"{root}/unix/folder")
    os.makedirs(f"{root}/unix/empty", exist_ok=True)
    for mode in (0o400, 0o444, 0o600, 0o755, 0o777, 0o4755, 0o2755):
        write(f"{root}/unix/mode{mode:o}", b"%o" % mode, mode)
    for index, time in enumerate(TIMES_NANOSECONDS):
        write(f"{root}/unix/time{index}", b"time", time=time)
    raw = os.fsencode(root) + b"/unix/raw-\xff\xfe-\x01-\n-end"
    with open(raw, "wb") as file:
        file.write(b"raw")
    os.makedirs(f"{root}/unix/private", exist_ok=True)
    write(f"{root}/unix/private/x", b"x")
    os.chmod(f"{root}/unix/private", 0o700)
    os.chmod(f"{root}/unix/empty", 0o1777)
    for parent, folders, _ in os.walk(root, topdown=False):
        for folder in folders:
            path = os.path.join(parent, folder)
            if not os.path.islink(path):
                os.utime(path, ns=(TIMES_NANOSECONDS[0],) * 2)
    return root


def make(root, big_bytes=BIG_BYTES):
    """All of it. Returns `root`, which is made where it is missing."""
    make_plain(root, big_bytes)
    make_named(root)
    return make_unix(root)


def compare(a, b, modes=True, times=True, owners=False):
    """Compares two trees, the root itself aside.

    Kinds, names, sizes, bytes, link targets and which names are one file; with `modes` permission bits, with `times`
    modification times of files, folders and links (to the second where one side has whole seconds only), with `owners` uid and gid.
    Raises AssertionError with the differences, at most 20.
    """
    differences = []
    left, right = _scan(a), _scan(b)
    for path in sorted(left.keys() | right.keys()):
        name = os.fsdecode(path)
        if path not in left or path not in right:
            differences.append(f"{name!r} only in {a if path in left else b}")
            continue
        differences += [f"{name!r}: {what}" for what in _differences(left[path], right[path], modes, times, owners)]
        if len(differences) >= 20:
            break
    if not differences:
        groups_left, groups_right = _hard_links(left), _hard_links(right)
        differences += [f"hard links {sorted(group)} only on one side" for group in groups_left ^ groups_right]
    assert not differences, f"{a} and {b} differ:\n  " + "\n  ".join(differences[:20])


def _scan(root):
    found = {}
    top = os.fsencode(root)

    def walk(folder):
        with os.scandir(folder) as entries:
            for entry in entries:
                found[os.path.relpath(entry.path, top)] = (entry.path, os.lstat(entry.path))
                if entry.is_dir(follow_symlinks=False):
                    walk(entry.path)

    walk(top)
    return found


def _differences(left, right, modes, times, owners):
    (path_a, a), (path_b, b) = left, right
    if stat.S_IFMT(a.st_mode) != stat.S_IFMT(b.st_mode):
        yield f"kind {stat.filemode(a.st_mode)} and {stat.filemode(b.st_mode)}"
        return
    is_link = stat.S_ISLNK(a.st_mode)
    if modes and not is_link and stat.S_IMODE(a.st_mode) != stat.S_IMODE(b.st_mode):
        yield f"mode {stat.S_IMODE(a.st_mode):o} and {stat.S_IMODE(b.st_mode):o}"
    if owners and (a.st_uid, a.st_gid) != (b.st_uid, b.st_gid):
        yield f"owner {a.st_uid}:{a.st_gid} and {b.st_uid}:{b.st_gid}"
    if times and not _same_time(a.st_mtime_ns, b.st_mtime_ns):
        yield f"time {a.st_mtime_ns} and {b.st_mtime_ns}"
    if is_link:
        targets = os.readlink(path_a), os.readlink(path_b)
        if targets[0] != targets[1]:
            yield f"target {targets[0]!r} and {targets[1]!r}"
    elif stat.S_ISREG(a.st_mode):
        if a.st_size != b.st_size:
            yield f"size {a.st_size} and {b.st_size}"
        elif (offset := first_difference(path_a, path_b)) is not None:
            yield f"bytes from {offset}"


def _same_time(a, b):
    second = 1_000_000_000
    if a % second and b % second:
        return a == b
    return a // second == b // second


def first_difference(path_a, path_b):
    """The offset of the first byte that differs; None where there is none. A shorter file differs at its end."""
    offset = 0
    with open(path_a, "rb") as a, open(path_b, "rb") as b:
        while True:
            piece_a, piece_b = a.read(1 << 20), b.read(1 << 20)
            if piece_a != piece_b:
                for index, (x, y) in enumerate(zip(piece_a, piece_b)):
                    if x != y:
                        return offset + index
                return offset + min(len(piece_a), len(piece_b))
            if not piece_a:
                return None
            offset += len(piece_a)


def _hard_links(scanned):
    groups = {}
    for path, (_, status) in scanned.items():
        if stat.S_ISREG(status.st_mode) and status.st_nlink > 1:
            groups.setdefault((status.st_dev, status.st_ino), set()).add(path)
    return {frozenset(group) for group in groups.values() if len(group) > 1}


def digest(path):
    """SHA-256 of a file."""
    result = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(1 << 20):
            result.update(piece)
    return result.hexdigest()
