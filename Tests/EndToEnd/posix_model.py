"""A model of a file system: random operations are applied to a plain directory, the reference, and to a mount that began
with the same tree, and must have the same results, errors and traces in both.

    python posix_model.py REFERENCE MOUNT --seed 7 --operations 10000

REFERENCE is made a copy of what MOUNT shows where it is missing or empty. The operations follow from the seed and the
first tree alone. Needs root (owners, modes that no one else may write).
"""

import argparse
import collections
import contextlib
import ctypes
import errno
import fcntl
import mmap
import os
import random
import shutil
import stat
import struct
import sys
import time
from dataclasses import dataclass, field
from typing import NamedTuple

from trees import seeded

# The last ones: a name that leaves no room for a prefix, the mark of a deleted entry in layers, the name that is special
# at the root of an upper only, bytes that are no text.
NAMES = ("a", "b", "c", "d", "e", "grüße", "x" * 255, ".wh.a", os.fsdecode(b"raw-\xff"))
DEPTH = 4
SLOTS = 6
# Beyond so many entries, more is removed than made.
ENTRIES = 160
SIZES = (0, 1, 7, 100, 2000, 4095, 4096, 4097, 10_000, 65_536, 131_073)
OFFSETS = (0, 0, 0, 1, 100, 4096, 5000, 65_536, 100_000, 300_000)
MODES = (0o644, 0o600, 0o755, 0o777, 0o444, 0o400, 0o4755, 0o2755, 0o000)
DIRECTORY_MODES = (0o755, 0o700, 0o777, 0o1777, 0o2775, 0o500)
OWNERS = (0, 1, 1000, 65534)
# The reference's clock and the mount's differ by what an operation takes, so no time here is close to now.
TIMES = (0, 1_706_933_106_000_000_000, -86_400_000_000_000, 1_500_000_000_123_456_789, 4_000_000_000_000_000_000)
ATTRIBUTES = ("user.a", "user.b", "user.mcfs")
# What the mount says about a file, which is not the file's.
OWN_ATTRIBUTES = "user.mcfs."
NOW_SLACK = 2_000_000_000

RENAME_NOREPLACE, RENAME_EXCHANGE = 1, 2
KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE = 1, 2, 16
AT_FDCWD, AT_SYMLINK_FOLLOW = -100, 0x400

_libc = ctypes.CDLL(None, use_errno=True)
_libc.fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)


class Path(str):
    """Relative to the root of either tree; empty is the root."""

    @property
    def parent(self):
        return Path(self.rpartition("/")[0])

    def child(self, name):
        return Path(f"{self}/{name}" if self else name)

    @property
    def depth(self):
        return self.count("/") + 1 if self else 0

    def __repr__(self):
        return "'" + self.replace("x" * 255, "xxx…").encode(errors="backslashreplace").decode() + "'"


class Slot(int):
    """Where an open file or directory is kept."""

    def __repr__(self):
        return f"#{int(self)}"


class Data(NamedTuple):
    """Bytes, by what they are made of."""

    seed: int
    count: int

    @property
    def bytes(self):
        return seeded(self.seed, self.count)


class Operation(NamedTuple):
    name: str
    arguments: tuple

    @property
    def targets(self):
        """The paths and slots that it names."""
        return [argument for argument in self.arguments if isinstance(argument, (Path, Slot))]

    def __str__(self):
        return f"{self.name}({', '.join(map(repr, self.arguments))})"


@dataclass(frozen=True)
class Outcome:
    """What a call returned, or its errno."""

    value: object = None
    error: int | None = None

    def __str__(self):
        if self.error is not None:
            return errno.errorcode.get(self.error, str(self.error))
        text = repr(self.value)
        return text if len(text) <= 100 else f"{text[:80]}… ({len(self.value)})"


def outcome(function, *arguments):
    try:
        return Outcome(function(*arguments))
    except OSError as error:
        return Outcome(error=error.errno)


def _check(result):
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def attribute_names(where):
    """The user's extended attributes of a file or directory, sorted."""
    names = os.listxattr(where)
    return sorted(name for name in names if name.startswith("user.") and not name.startswith(OWN_ATTRIBUTES))


# The two trees


class Tree:
    """A directory tree with its open files. Each public method that takes paths, slots or data is one operation."""

    def __init__(self, root, started=None):
        self.root = os.fspath(root)
        self.handles = {}
        self.started = started or time.time_ns()

    def apply(self, operation):
        return outcome(getattr(self, operation.name), *operation.arguments)

    def close_all(self):
        """Forgets what is open; a file that cannot be closed properly is closed all the same."""
        for descriptor in self.handles.values():
            with contextlib.suppress(OSError):
                os.close(descriptor)
        self.handles.clear()

    def at(self, target):
        """What the calls of `os` take: a path, or the descriptor in a slot."""
        if isinstance(target, Slot):
            if target not in self.handles:
                raise OSError(errno.EBADF, "nothing is open")
            return self.handles[target]
        return f"{self.root}/{target}" if target else self.root

    @staticmethod
    def _open(path, flags, mode=0o666):
        # A FIFO must not block, and what is in it does not count.
        descriptor = os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY, mode)
        try:
            if stat.S_ISFIFO(os.fstat(descriptor).st_mode):
                raise OSError(errno.ENXIO, "a FIFO")
        except OSError:
            os.close(descriptor)
            raise
        return descriptor

    @contextlib.contextmanager
    def _descriptor(self, target, flags, mode=0o666):
        where = self.at(target)
        if isinstance(target, Slot):
            yield where
            return
        descriptor = self._open(where, flags, mode)
        try:
            yield descriptor
        except BaseException:
            with contextlib.suppress(OSError):
                os.close(descriptor)
            raise
        # The close says what became of the writes.
        os.close(descriptor)

    # Files

    def create(self, path, flags, mode):
        with self._descriptor(path, os.O_WRONLY | os.O_CREAT | flags, mode):
            pass

    def write(self, target, offset, data, flags):
        with self._descriptor(target, os.O_WRONLY | flags) as descriptor:
            return os.pwrite(descriptor, data.bytes, offset)

    def read(self, target, offset, count):
        with self._descriptor(target, os.O_RDONLY) as descriptor:
            return os.pread(descriptor, count, offset)

    def truncate(self, target, size):
        os.truncate(self.at(target), size)

    def map_write(self, target, offset, data, sync):
        with self._descriptor(target, os.O_RDWR) as descriptor:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise OSError(errno.EISDIR, "no file")
            if status.st_size == 0:
                return
            offset %= status.st_size
            piece = data.bytes[:status.st_size - offset]
            with mmap.mmap(descriptor, status.st_size) as mapped:
                mapped[offset:offset + len(piece)] = piece
                if sync:
                    mapped.flush()

    def map_read(self, target):
        with self._descriptor(target, os.O_RDONLY) as descriptor:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode) or status.st_size == 0:
                return b""
            with mmap.mmap(descriptor, status.st_size, prot=mmap.PROT_READ) as mapped:
                return mapped[:]

    def allocate(self, target, mode, offset, count):
        with self._descriptor(target, os.O_RDWR) as descriptor:
            _check(_libc.fallocate(descriptor, mode, offset, count))

    def copy_range(self, source, target, source_offset, target_offset, count):
        with self._descriptor(source, os.O_RDONLY) as reader, self._descriptor(target, os.O_WRONLY) as writer:
            done = 0
            while done < count:
                piece = os.copy_file_range(reader, writer, count - done, source_offset + done, target_offset + done)
                if piece == 0:
                    break
                done += piece
            return done

    def holes(self, target):
        """Whether what is said to be holes is zero. Where they are is the file system's own affair."""
        with self._descriptor(target, os.O_RDONLY) as descriptor:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                return None
            offset, size = 0, os.fstat(descriptor).st_size
            while offset < size:
                try:
                    data = os.lseek(descriptor, offset, os.SEEK_DATA)
                except OSError as error:
                    if error.errno != errno.ENXIO:
                        raise
                    data = size
                if os.pread(descriptor, data - offset, offset).strip(b"\0"):
                    return False
                offset = os.lseek(descriptor, data, os.SEEK_HOLE) if data < size else size
            return True

    def sync(self, target, only_data):
        with self._descriptor(target, os.O_RDONLY) as descriptor:
            (os.fdatasync if only_data else os.fsync)(descriptor)

    # What is open

    def open(self, slot, path, flags):
        self.close(slot)
        self.handles[slot] = self._open(self.at(path), flags)

    def close(self, slot):
        descriptor = self.handles.pop(slot, None)
        if descriptor is not None:
            os.close(descriptor)

    def lock(self, slot, kind, start, count):
        fcntl.fcntl(self.at(slot), fcntl.F_OFD_SETLK, struct.pack("@hhqqi0q", kind, os.SEEK_SET, start, count, 0))

    def lock_whole(self, slot, kind):
        fcntl.flock(self.at(slot), kind | fcntl.LOCK_NB)

    def anonymous(self, slot, directory, flags):
        self.close(slot)
        self.handles[slot] = self._open(self.at(directory), os.O_TMPFILE | flags, 0o640)

    def link_open(self, slot, path):
        name = b"/proc/self/fd/%d" % self.at(slot)
        _check(_libc.linkat(AT_FDCWD, name, AT_FDCWD, os.fsencode(self.at(path)), AT_SYMLINK_FOLLOW))

    # Names

    def unlink(self, path):
        os.unlink(self.at(path))

    def mkdir(self, path, mode):
        os.mkdir(self.at(path), mode)

    def rmdir(self, path):
        os.rmdir(self.at(path))

    def remove_tree(self, path):
        """As `rm -r` does it, removing while it lists."""
        with os.scandir(self.at(path)) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    self.remove_tree(path.child(entry.name))
                else:
                    os.unlink(entry.path)
        os.rmdir(self.at(path))

    def rename(self, path, new, flags):
        names = os.fsencode(self.at(path)), os.fsencode(self.at(new))
        _check(_libc.renameat2(AT_FDCWD, names[0], AT_FDCWD, names[1], flags))

    def link(self, path, new):
        os.link(self.at(path), self.at(new), follow_symlinks=False)

    def symlink(self, text, path):
        os.symlink(text, self.at(path))

    def mkfifo(self, path, mode):
        os.mkfifo(self.at(path), mode)

    def readlink(self, path):
        return os.readlink(self.at(path))

    def list(self, target):
        with os.scandir(self.at(target)) as entries:
            return sorted((entry.name, self._kind(entry)) for entry in entries)

    @staticmethod
    def _kind(entry):
        """As the listing gives it, with no stat."""
        if entry.is_symlink():
            return "link"
        if entry.is_dir(follow_symlinks=False):
            return "directory"
        return "file" if entry.is_file(follow_symlinks=False) else "other"

    # Attributes

    def chmod(self, target, mode):
        os.chmod(self.at(target), mode)

    def chown(self, target, user, group, follow):
        os.chown(self.at(target), user, group, follow_symlinks=follow or isinstance(target, Slot))

    def utime(self, target, accessed, modified, follow):
        follow = follow or isinstance(target, Slot)
        os.utime(self.at(target), ns=(accessed, modified), follow_symlinks=follow)
        status = os.stat(self.at(target), follow_symlinks=follow)
        return status.st_atime_ns, status.st_mtime_ns

    def setxattr(self, target, name, data, flags):
        os.setxattr(self.at(target), name, data.bytes, flags)

    def getxattr(self, target, name):
        return os.getxattr(self.at(target), name)

    def removexattr(self, target, name):
        os.removexattr(self.at(target), name)

    # What can be seen

    def status(self, target):
        where = self.at(target)
        return os.fstat(where) if isinstance(target, Slot) else os.lstat(where)

    def describe(self, target, content=True):
        """Everything that must be the same in both trees. A time since the start is only `now`."""
        status = self.status(target)
        kind, where = stat.S_IFMT(status.st_mode), self.at(target)
        seen = {
            "kind": stat.filemode(status.st_mode)[0], "owner": (status.st_uid, status.st_gid), "time": self._time(status)}
        if kind != stat.S_IFDIR:
            seen["links"] = status.st_nlink
        if kind == stat.S_IFLNK:
            seen["target"] = os.readlink(where)
            return seen
        seen["mode"] = oct(stat.S_IMODE(status.st_mode))
        if kind in (stat.S_IFREG, stat.S_IFDIR):
            seen["attributes"] = {name: os.getxattr(where, name) for name in attribute_names(where)}
        if kind == stat.S_IFREG:
            seen["size"] = status.st_size
            if content:
                seen["content"] = self.content(target)
        return seen

    def content(self, target):
        """None where what is open is open for writing only."""
        where = self.at(target)
        if isinstance(target, Slot):
            readable = fcntl.fcntl(where, fcntl.F_GETFL) & os.O_ACCMODE != os.O_WRONLY
            return self._read_all(where) if readable else None
        descriptor = os.open(where, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            return self._read_all(descriptor)
        finally:
            os.close(descriptor)

    @staticmethod
    def _read_all(descriptor):
        pieces, offset = [], 0
        while piece := os.pread(descriptor, 1 << 20, offset):
            pieces.append(piece)
            offset += len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _time(self, status):
        if self.started - NOW_SLACK <= status.st_mtime_ns <= time.time_ns() + NOW_SLACK:
            return "now"
        return status.st_mtime_ns

    def walk(self, leave_out=frozenset()):
        """All paths and their kinds, sorted, the root aside; none below a path that is left out."""
        found = []

        def visit(directory):
            for name, kind in self.list(directory):
                path = directory.child(name)
                if path not in leave_out:
                    found.append((path, kind))
                    if kind == "directory":
                        visit(path)

        visit(Path())
        return found

    def snapshot(self, leave_out=frozenset(), slots=True):
        """Descriptions by path, and `same`: the names of each file that has several, those in slots among them."""
        descriptions, identities = {}, collections.defaultdict(set)
        for target in [path for path, _ in self.walk(leave_out)] + (list(self.handles) if slots else []):
            try:
                descriptions[target] = self.describe(target)
            except OSError as error:
                raise OSError(error.errno, error.strerror, repr(target)) from None
            if descriptions[target]["kind"] != "d":
                status = self.status(target)
                identities[status.st_dev, status.st_ino].add(target)
        return Snapshot(descriptions, {frozenset(names) for names in identities.values() if len(names) > 1})


@dataclass
class Snapshot:
    descriptions: dict
    same: set = field(default_factory=set)


# Comparison


def difference(name, left, right):
    """How two values of one field differ, in one line."""
    if isinstance(left, bytes) and isinstance(right, bytes):
        shorter = min(len(left), len(right))
        offset = next((index for index in range(shorter) if left[index] != right[index]), shorter)
        pieces = [f"{piece[offset:offset + 12].hex(' ') or 'its end'} ({len(piece)} bytes)" for piece in (left, right)]
        return f"{name} from {offset} on: {pieces[0]}, not {pieces[1]}"
    return f"{name} is {left!r}, not {right!r}"


def description_differences(name, seen, expected, ignore=frozenset()):
    """Lines; what the mount has comes first in each."""
    return [
        f"{name!r}: {difference(key, seen.get(key), expected.get(key))}"
        for key in sorted(seen.keys() | expected.keys()) if key not in ignore and seen.get(key) != expected.get(key)]


def snapshot_differences(seen, expected, ignore=lambda path: frozenset()):
    """Lines, at most some 20. `ignore` gives the fields of a path that do not count."""
    lines = []
    for path in sorted(seen.descriptions.keys() | expected.descriptions.keys(), key=str):
        if path not in expected.descriptions:
            lines.append(f"{path!r} is there and must not be")
        elif path not in seen.descriptions:
            lines.append(f"{path!r} is missing")
        else:
            lines += description_differences(path, seen.descriptions[path], expected.descriptions[path], ignore(path))
        if len(lines) >= 20:
            return lines
    if not lines and seen.same != expected.same and "links" not in ignore(Path()):
        lines += [f"{sorted(names, key=str)} are one file" for names in seen.same - expected.same]
        lines += [f"{sorted(names, key=str)} are not one file" for names in expected.same - seen.same]
    return lines


def upper_differences(upper, tree, lower, ignore=lambda path: frozenset()):
    """What an upper directory that is not mounted says wrongly of `tree`, all three as snapshots: whatever is in it must be
    in the tree and the same, and a file that is not in it, by any of its names, must have the bytes of a file of the lower
    tree."""
    present = upper.descriptions.keys() & tree.descriptions.keys()
    expected = Snapshot({path: tree.descriptions[path] for path in present})
    # A directory of the upper may be there for what is in it alone.
    lines = snapshot_differences(Snapshot(upper.descriptions), expected, ignore)
    below = {seen["content"] for seen in lower.descriptions.values() if seen["kind"] == "-"}
    named = present.union(*(names for names in tree.same if names & present))
    for path, seen in tree.descriptions.items():
        if seen["kind"] == "-" and path not in named and seen["content"] not in below:
            lines.append(f"{path!r} was written and is missing")
    return lines


# Operations at random


class Generator:
    """Random operations on what a tree holds now. Each method of the table makes the arguments of its operation."""

    WEIGHTS = {
        "create": 5, "write": 14, "read": 4, "truncate": 5, "map_write": 3, "map_read": 1, "allocate": 3, "copy_range": 3,
        "holes": 1, "sync": 3, "open": 5, "close": 2, "lock": 1, "lock_whole": 1, "anonymous": 1, "link_open": 1, "unlink": 5,
        "mkdir": 6, "rmdir": 4, "remove_tree": 0.5, "rename": 12, "link": 4, "symlink": 3, "mkfifo": 0.5, "readlink": 1,
        "list": 4, "chmod": 4, "chown": 3, "utime": 4, "setxattr": 3, "getxattr": 1, "removexattr": 1,
    }
    OPEN_FLAGS = (os.O_RDWR, os.O_RDWR, os.O_RDONLY, os.O_WRONLY, os.O_RDWR | os.O_CREAT, os.O_RDWR | os.O_APPEND,
                  os.O_RDWR | os.O_CREAT | os.O_EXCL, os.O_RDWR | os.O_TRUNC)
    WRITE_FLAGS = (0, 0, 0, os.O_APPEND, os.O_TRUNC, os.O_CREAT, os.O_CREAT | os.O_TRUNC, os.O_CREAT | os.O_EXCL, os.O_SYNC)
    REFRESH = 16

    def __init__(self, seed, tree, without=(), only_writable_handles=False):
        self.random = random.Random(seed)
        self.tree = tree
        self.weights = {name: weight for name, weight in self.WEIGHTS.items() if name not in without}
        self.open_flags = [flags for flags in self.OPEN_FLAGS if flags or not only_writable_handles]
        self.age = 0
        self.known = []
        self.opened = Path("a")

    def next(self):
        if self.age % self.REFRESH == 0:
            self.known = self.tree.walk()
            self.choices = dict(self.weights)
            if len(self.known) > ENTRIES:
                for name in ("create", "mkdir", "symlink", "link", "mkfifo"):
                    self.choices.pop(name, None)
                for name in ("unlink", "rmdir", "remove_tree"):
                    self.choices[name] = 4 * self.choices.get(name, 0)
            self.names_of_choices, self.weights_of_choices = list(self.choices), list(self.choices.values())
            # Renames pile directories up; a path must not come near PATH_MAX.
            self.deep = sorted((entry for entry in self.known if entry[0].depth > 2 * DEPTH), key=lambda entry: entry[0].depth)
        self.age += 1
        if self.deep and self.chance(0.5):
            path, kind = self.deep.pop()
            return Operation("rmdir" if kind == "directory" else "unlink", (path,))
        (name,) = self.random.choices(self.names_of_choices, self.weights_of_choices)
        return Operation(name, getattr(self, name)())

    # Arguments

    def chance(self, probability):
        return self.random.random() < probability

    def one(self, values):
        return values[int(self.random.random() * len(values))]

    def existing(self, *kinds):
        """A path that is likely to be of one of `kinds`, where there are any."""
        for _ in range(6):
            if self.known:
                path, kind = self.one(self.known)
                if kind in kinds or not kinds:
                    return path
        return self.fresh()

    def fresh(self):
        """A path that may or may not exist, in a directory that probably does."""
        directories = [path for path, kind in self.known if kind == "directory" and path.depth < DEPTH]
        directory = self.one(directories) if directories and self.chance(0.85) else Path()
        return directory.child(self.one(NAMES))

    def path(self, *kinds):
        return self.existing(*kinds) if self.chance(0.85) else self.fresh()

    def slot(self):
        return Slot(self.random.randrange(SLOTS))

    def used_slot(self):
        return self.one(sorted(self.tree.handles)) if self.tree.handles and self.chance(0.95) else self.slot()

    def target(self, *kinds):
        """Mostly a path, now and then what is open, which may have no name any more."""
        return self.used_slot() if self.tree.handles and self.chance(0.3) else self.path(*kinds)

    def any_target(self):
        """For what can be done to everything, the root as well."""
        return Path() if self.chance(0.03) else self.target()

    def data(self, sizes=SIZES):
        return Data(self.random.getrandbits(32), self.one(sizes))

    def create(self):
        return self.fresh() if self.chance(0.7) else self.path(), self.one((0, os.O_EXCL, os.O_TRUNC)), self.one(MODES)

    def write(self):
        return self.target("file"), self.one(OFFSETS), self.data(), self.one(self.WRITE_FLAGS)

    def read(self):
        return self.target("file"), self.one(OFFSETS), self.one(SIZES)

    def truncate(self):
        return self.target("file"), self.one(SIZES + OFFSETS)

    def map_write(self):
        target = self.target("file")
        # The close of a path writes back; what stays open would hide it from SEEK_DATA.
        return target, self.one(OFFSETS), self.data(), isinstance(target, Slot) or self.chance(0.8)

    def map_read(self):
        return (self.target("file"),)

    def allocate(self):
        mode = self.one((0, KEEP_SIZE, PUNCH_HOLE | KEEP_SIZE, PUNCH_HOLE | KEEP_SIZE, ZERO_RANGE, ZERO_RANGE | KEEP_SIZE))
        return self.target("file"), mode, self.one(OFFSETS), self.one(SIZES)

    def copy_range(self):
        return self.target("file"), self.target("file"), self.one(OFFSETS), self.one(OFFSETS), self.one(SIZES)

    def holes(self):
        return (self.target("file"),)

    def sync(self):
        return self.any_target(), self.chance(0.3)

    def open(self):
        if self.chance(0.15):
            return self.slot(), self.path("directory"), os.O_RDONLY | os.O_DIRECTORY
        # What is open twice can be locked against itself.
        if self.chance(0.75):
            self.opened = self.path("file")
        return self.slot(), self.opened, self.one(self.open_flags)

    def close(self):
        return (self.used_slot(),)

    def lock(self):
        kind = self.one((fcntl.F_RDLCK, fcntl.F_WRLCK, fcntl.F_UNLCK))
        return self.used_slot(), kind, self.one((0, 10, 20)), self.one((0, 5, 15))

    def lock_whole(self):
        return self.used_slot(), self.one((fcntl.LOCK_SH, fcntl.LOCK_EX, fcntl.LOCK_UN))

    def anonymous(self):
        return self.slot(), self.path("directory"), os.O_RDWR

    def link_open(self):
        return self.used_slot(), self.fresh()

    def unlink(self):
        return (self.path("file", "link", "other"),)

    def mkdir(self):
        return self.fresh(), self.one(DIRECTORY_MODES)

    def rmdir(self):
        return (self.path("directory"),)

    def remove_tree(self):
        return (self.path("directory"),)

    def rename(self):
        new = self.path() if self.chance(0.5) else self.fresh()
        return self.path(), new, self.one((0, 0, 0, RENAME_NOREPLACE, RENAME_EXCHANGE))

    def link(self):
        return self.path("file", "link"), self.fresh()

    def symlink(self):
        # None leads up: a link that is moved must not lead out of the tree.
        names = [self.one(NAMES) for _ in range(self.random.randint(1, 3))]
        return self.one(("/".join(names), "/".join(names), "./" + names[0], "/nowhere/at all")), self.fresh()

    def mkfifo(self):
        return self.fresh(), self.one(MODES)

    def readlink(self):
        return (self.path("link"),)

    def list(self):
        return (self.one((Path(), self.path("directory"), self.path("directory"))),)

    def chmod(self):
        return self.any_target(), self.one(MODES + DIRECTORY_MODES)

    def chown(self):
        user, group = self.one(OWNERS + (-1,)), self.one(OWNERS + (-1,))
        # Neither takes the set-id bits away on a plain file system, and a FUSE server does not even hear of it.
        return self.any_target(), 0 if user == group == -1 else user, group, self.chance(0.5)

    def utime(self):
        return self.any_target(), self.one(TIMES), self.one(TIMES), self.chance(0.5)

    def setxattr(self):
        flags = self.one((0, 0, os.XATTR_CREATE, os.XATTR_REPLACE))
        return self.any_target(), self.one(ATTRIBUTES), self.data((0, 1, 30, 300)), flags

    def getxattr(self):
        return self.any_target(), self.one(ATTRIBUTES)

    def removexattr(self):
        return self.any_target(), self.one(ATTRIBUTES)


# Both together


class Mismatch(AssertionError):
    pass


class Mount:
    """What is tested. Those that can be mounted again override `start` and `stop`; `upper` is the directory that is then
    looked at while nothing is mounted, `lower` the tree below."""

    def __init__(self, path, upper=None, lower=None):
        self.path, self.upper, self.lower = os.fspath(path), upper, lower

    def look_at_upper(self, started):
        """What whoever has no mcfs sees in the upper."""
        return Tree(self.upper, started).snapshot(leave_out={Path(".mcfs-upper")})

    def start(self):
        raise NotImplementedError

    def stop(self):
        raise NotImplementedError


class Model:
    """Applies operations to the reference and the mount.

    without: operations that are left out; ignore: fields of descriptions that are; only_writable_handles: no file is kept
    open for reading alone (a file system may give such a reader the bytes of the lower file for good).
    """

    HISTORY = 20

    def __init__(self, reference, mount, seed, *, without=(), ignore=(), only_writable_handles=False, tree=Tree):
        self.mount = mount
        self.seed = seed
        self.reference = Tree(reference)
        self.tree = tree(mount.path, self.reference.started)
        self.generator = Generator(seed, self.reference, without, only_writable_handles)
        # What is compared is chosen apart, so that the operations stay the same when that changes.
        self.random = random.Random(seed + 1)
        self.ignore = frozenset(ignore)
        self.timeless = set()
        self.number = 0
        self.history = collections.deque(maxlen=self.HISTORY)
        # What is below never changes.
        self.lower = Tree(mount.lower, self.reference.started).snapshot() if mount.lower else None
        self.compare_all()

    def run(self, operations, compare_every=100, remount_every=None):
        for _ in range(operations):
            self.step()
            if self.number % compare_every == 0:
                self.compare_all()
            if remount_every and self.number % remount_every == 0:
                self.remount()
        self.close()
        self.compare_all()

    def step(self):
        operation = self.generator.next()
        self.number += 1
        expected = self.reference.apply(operation)
        seen = self.tree.apply(operation)
        self.check_result(operation, seen, expected)
        if operation.name == "map_write" and not operation.arguments[-1] and expected.error is None:
            # When a mapped page is written back, and with it the time, is up to the kernel.
            self.timeless.add(self._reference_inode(operation.targets[0], follow=True))
        self._compare_targets(operation)

    def check_result(self, operation, seen, expected):
        self.history.append(f"{self.number}: {operation} → {expected}")
        if seen != expected:
            what = difference("the result", seen.value, expected.value) if seen.error is expected.error is None \
                else f"the result is {seen}, not {expected}"
            self.fail([what])

    def _compare_targets(self, operation):
        with_content = self.random.random() < 0.5
        targets = operation.targets
        for target in targets + [target.parent for target in targets if isinstance(target, Path) and target.parent]:
            seen = outcome(self.tree.describe, target, with_content)
            expected = outcome(self.reference.describe, target, with_content)
            if seen == expected:
                continue
            if seen.error is not None or expected.error is not None:
                self.fail([f"{target!r}: looking at it gives {seen}, not {expected}"])
            if lines := description_differences(target, seen.value, expected.value, self._ignored(target)):
                self.fail(lines)

    def compare_all(self):
        expected = self.reference.snapshot()
        try:
            seen = self.tree.snapshot()
        except OSError as error:
            self.fail([f"looking at the tree: {error}"])
        if lines := snapshot_differences(seen, expected, self._ignored):
            self.fail(lines)

    def close(self):
        self.tree.close_all()
        self.reference.close_all()

    def remount(self):
        """Unmounts, looks at the upper as a plain directory, and mounts again."""
        self.close()
        self.history.append(f"{self.number}: remounted")
        self.mount.stop()
        if self.mount.upper:
            self.check_upper()
        self.mount.start()
        self.compare_all()

    def check_upper(self):
        upper = self.mount.look_at_upper(self.reference.started)
        if lines := upper_differences(upper, self.reference.snapshot(), self.lower, self._ignored_of_upper):
            self.fail(["the upper directory by itself: " + line for line in lines])

    def _reference_inode(self, target, follow=False):
        try:
            where = self.reference.at(target)
            return os.stat(where, follow_symlinks=follow or isinstance(target, Slot)).st_ino
        except OSError:
            return None

    def _ignored(self, target):
        if target == "":
            # The mount keeps its own things in the upper's root.
            return self.ignore | {"time"}
        if isinstance(target, Slot) and self.reference.status(target).st_nlink == 0:
            # What is gone may have been emptied in its own way first.
            return self.ignore | {"time"}
        if self.timeless and self._reference_inode(target) in self.timeless:
            return self.ignore | {"time"}
        return self.ignore

    def _ignored_of_upper(self, path):
        # Other names of a file may be below only.
        return self._ignored(path) | {"links"}

    def fail(self, lines):
        history = "\n  ".join(self.history)
        listed = "\n  ".join(lines)
        raise Mismatch(
            f"{self.mount.path} is not like {self.reference.root} after operation {self.number} of seed {self.seed}:"
            f"\n  {listed}\nThe last operations and their results in the reference:\n  {history}")


def lacking(root):
    """Operations that a file system may do without: files that never had a name."""
    try:
        os.close(os.open(root, os.O_TMPFILE | os.O_RDWR, 0o600))
    except OSError as error:
        if error.errno == errno.EOPNOTSUPP:
            return ("anonymous",)
        raise
    return ()


# Trees to begin with


def make_lower(root, seed, entries=60, big_bytes=2_500_000, hard_links=True):
    """A random tree of the names that the operations use: files of many sizes, two of several chunks, links, modes, owners,
    times. Returns `root`, which must be missing or empty."""
    os.makedirs(root, exist_ok=True)
    made = random.Random(seed)
    tree = Tree(root)
    directories, files = [Path()], []
    for index in range(entries):
        directory = made.choice([path for path in directories if path.depth < DEPTH])
        path = directory.child(made.choice(NAMES))
        if os.path.lexists(tree.at(path)):
            continue
        kind = made.choices(("directory", "file", "symlink", "link"), (35, 50, 8, 7 if hard_links else 0))[0]
        if kind == "directory":
            tree.mkdir(path, 0o755)
            tree.chmod(path, made.choice(DIRECTORY_MODES))
            directories.append(path)
        elif kind == "symlink":
            tree.symlink(made.choice(NAMES), path)
        elif kind == "link" and files:
            tree.link(made.choice(files), path)
        else:
            big = index in (entries // 3, entries // 2)
            tree.write(path, 0, Data(seed * 1000 + index, big_bytes if big else made.choice(SIZES)), os.O_CREAT)
            tree.chmod(path, made.choice(MODES))
            files.append(path)
    for path, _ in reversed(tree.walk()):
        # A change of owner takes away set-user-id.
        mode = tree.status(path).st_mode
        tree.chown(path, made.choice(OWNERS), made.choice(OWNERS), False)
        if not stat.S_ISLNK(mode):
            tree.chmod(path, stat.S_IMODE(mode))
        tree.utime(path, TIMES[1], made.choice(TIMES), False)
    os.utime(root, ns=(TIMES[1],) * 2)
    return root


def copy_over(source, root):
    """Copies a tree into `root`, with modes, times, owners, attributes and hard links. Directories merge; anything else that
    is in the way goes. What an upper does to a lower tree, if it is copied over it."""
    os.makedirs(root, exist_ok=True)
    first_names, directories = {}, [(source, root)]

    def visit(source, target):
        for entry in sorted(os.scandir(source), key=lambda entry: entry.name):
            copy, is_directory = os.path.join(target, entry.name), entry.is_dir(follow_symlinks=False)
            if os.path.lexists(copy) and not (is_directory and os.path.isdir(copy) and not os.path.islink(copy)):
                (shutil.rmtree if os.path.isdir(copy) and not os.path.islink(copy) else os.unlink)(copy)
            status = entry.stat(follow_symlinks=False)
            if is_directory:
                os.makedirs(copy, exist_ok=True)
                directories.append((entry.path, copy))
                visit(entry.path, copy)
            elif status.st_ino in first_names:
                os.link(first_names[status.st_ino], copy, follow_symlinks=False)
            else:
                if stat.S_ISFIFO(status.st_mode):
                    os.mkfifo(copy)
                else:
                    shutil.copyfile(entry.path, copy, follow_symlinks=False)
                _copy_attributes(entry.path, copy)
                first_names[status.st_ino] = copy

    visit(source, root)
    for directory, copy in reversed(directories):
        _copy_attributes(directory, copy)
    return root


def _copy_attributes(source, target):
    status = os.lstat(source)
    os.chown(target, status.st_uid, status.st_gid, follow_symlinks=False)
    if not stat.S_ISLNK(status.st_mode):
        os.chmod(target, stat.S_IMODE(status.st_mode))
    if stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode):
        for name in attribute_names(source):
            os.setxattr(target, name, os.getxattr(source, name))
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns), follow_symlinks=False)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("reference", help="a directory; where it is missing or empty, the mount's tree is copied there")
    parser.add_argument("mount", help="the root of the tree that is tested")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1_000_000))
    parser.add_argument("--operations", type=int, default=2500)
    parser.add_argument("--without", default="", metavar="NAMES", help="operations to leave out, with commas between them")
    parser.add_argument("--ignore", default="", metavar="FIELDS", help="what is not compared: time, links, owner, …")
    parser.add_argument("--only-writable-handles", action="store_true")
    arguments = parser.parse_args()
    if not os.path.isdir(arguments.reference) or not os.listdir(arguments.reference):
        copy_over(arguments.mount, arguments.reference)
    started = time.monotonic()
    try:
        model = Model(
            arguments.reference, Mount(arguments.mount), arguments.seed, without=arguments.without.split(","),
            ignore=arguments.ignore.split(","), only_writable_handles=arguments.only_writable_handles)
        model.run(arguments.operations)
    except Mismatch as mismatch:
        sys.exit(str(mismatch))
    seconds = time.monotonic() - started
    print(f"seed {arguments.seed}: {arguments.operations} operations, {arguments.operations / seconds:.0f} each second")


if __name__ == "__main__":
    main()
