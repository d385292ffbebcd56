"""What a case is made of: its registration, the tree it starts from, and the checks and system calls that cases share.

A case runs in a process of its own, as root, with umask 022; its working directory is the one that holds its tree.
Cases therefore use relative paths, and may change whatever belongs to the process: user, umask, limits, directory.
"""

import contextlib
import ctypes
import errno
import json
import os
import signal
import socket
import stat
import struct
import time
from dataclasses import dataclass

SECOND = 1_000_000_000
# The times of everything in a starting tree. Nothing a case does takes place at that time.
OLD = 1_000_000_000 * SECOND
CONTENT = b"content\n"
KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30


@dataclass(frozen=True)
class User:
    uid: int
    gid: int


# Users without names; a group of their own each, and one that they may share.
ROOT, ALICE, BOB = User(0, 0), User(12001, 12001), User(12002, 12002)
TEAM = 12010


# Starting trees

@dataclass(frozen=True)
class Node:
    kind: str
    path: str | bytes
    mode: int = 0
    owner: User = ROOT
    content: object = None
    size: int | None = None
    xattrs: tuple = ()


def file(path, content=CONTENT, mode=0o644, owner=ROOT, size=None, xattrs=None):
    """`content`: bytes, or bytes by offset with holes between; `size` extends or cuts."""
    return Node("file", path, mode, owner, content, size, tuple((xattrs or {}).items()))


def directory(path, mode=0o755, owner=ROOT, xattrs=None):
    """`directory(".")` is the directory of the case itself."""
    return Node("directory", path, mode, owner, xattrs=tuple((xattrs or {}).items()))


def symlink(path, target, owner=ROOT):
    return Node("symlink", path, owner=owner, content=target)


def link(path, to):
    """Another name of a file that comes before it in the tree."""
    return Node("link", path, content=to)


def fifo(path, mode=0o644, owner=ROOT):
    return Node("fifo", path, mode, owner)


def make(nodes):
    """Makes a starting tree in the working directory."""
    for node in nodes:
        if node.kind == "file":
            _write_pieces(node)
        elif node.kind == "directory" and node.path != ".":
            os.mkdir(node.path)
        elif node.kind == "symlink":
            os.symlink(node.content, node.path)
        elif node.kind == "link":
            os.link(node.content, node.path)
        elif node.kind == "fifo":
            os.mkfifo(node.path)
        if node.kind != "link":
            os.chown(node.path, node.owner.uid, node.owner.gid, follow_symlinks=False)
        if node.kind not in ("link", "symlink"):
            os.chmod(node.path, node.mode)
        for name, value in node.xattrs:
            os.setxattr(node.path, name, value)
    for path in [node.path for node in reversed(nodes)] + ["."]:
        os.utime(path, ns=(OLD, OLD), follow_symlinks=False)


def _write_pieces(node):
    pieces = node.content if isinstance(node.content, dict) else {0: node.content}
    fd = os.open(node.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    for offset, piece in pieces.items():
        os.pwrite(fd, piece, offset)
    if node.size is not None:
        os.ftruncate(fd, node.size)
    os.close(fd)


# Registration

@dataclass(frozen=True)
class Case:
    name: str
    tree: tuple
    action: object

    @property
    def slug(self):
        """The name of the directory that the case runs in."""
        return self.name.replace("/", ".")


CASES = {}


def case(name, *tree):
    """Registers the function as a case that starts from `tree`."""

    def register(action):
        assert name not in CASES, f"two cases are named {name}"
        CASES[name] = Case(name, tree, action)
        return action

    return register


def refused(area, tree, *rows, user=None):
    """A case for each row `(name, errno, operation)`: the operation fails so, and leaves the tree as it was."""
    for name, number, operation in rows:
        case(f"{area}/{name}", *tree)(_refusal(number, operation, user))


def _refusal(number, operation, user):
    def action():
        before = snapshot()
        with acting(user) if user else contextlib.nullcontext(), fails(number):
            operation()
        equal(snapshot(), before, "the tree after the refused call")

    return action


def snapshot(top="."):
    """What a refused call must not change, by path."""
    found = {}
    for parent, folders, files, fd in os.fwalk(top, follow_symlinks=False):
        for name in (*folders, *files, "."):
            status = os.stat(name, dir_fd=fd, follow_symlinks=False)
            is_directory = stat.S_ISDIR(status.st_mode)
            found[os.path.normpath(os.path.join(parent, name))] = (
                stat.filemode(status.st_mode), status.st_uid, status.st_gid, status.st_mtime_ns,
                None if is_directory else (status.st_size, status.st_nlink),
                os.readlink(name, dir_fd=fd) if stat.S_ISLNK(status.st_mode) else None)
    return found


# Checks

def equal(actual, expected, what="value"):
    if actual == expected:
        return
    if isinstance(actual, dict) and isinstance(expected, dict):
        keys = [key for key in actual.keys() | expected.keys() if actual.get(key) != expected.get(key)]
        actual, expected = ({key: side.get(key) for key in sorted(keys)} for side in (actual, expected))
    raise AssertionError(f"{what}: {_short(actual)} instead of {_short(expected)}")


def _short(value):
    text = repr(value)
    return text if len(text) <= 400 else f"{text[:200]} … {text[-200:]}"


@contextlib.contextmanager
def fails(*numbers):
    """The block must raise OSError with one of the `numbers`."""
    wanted = " or ".join(errno.errorcode[number] for number in numbers)
    try:
        yield
    except OSError as error:
        if error.errno not in numbers:
            got = errno.errorcode.get(error.errno, error.errno)
            raise AssertionError(f"fails with {got} instead of {wanted}") from error
    else:
        raise AssertionError(f"succeeds instead of failing with {wanted}")


@contextlib.contextmanager
def updates(path, *changed):
    """Of `mtime` and `ctime` of `path` (or descriptor), the block sets those in `changed` to now and keeps the others; one
    with a question mark, as `ctime?`, may stay or change."""
    status = _lstat(path)
    pause()
    started = time.time_ns()
    yield
    after = _lstat(path)
    for name in ("mtime", "ctime"):
        old, new = (getattr(side, f"st_{name}_ns") for side in (status, after))
        if name in changed:
            assert new > old, f"{name} of {path} was not updated"
            recent(new, started)
        elif f"{name}?" not in changed:
            assert new == old, f"{name} of {path} changed by {(new - old) / SECOND:.6f} s"


def _lstat(path):
    return os.fstat(path) if isinstance(path, int) else os.lstat(path)


def recent(nanoseconds, since):
    """The time lies between `since` and now; file systems may take it from a clock that ticks 100 times a second."""
    slack = SECOND // 50
    assert since - slack <= nanoseconds <= time.time_ns() + slack, f"{(nanoseconds - since) / SECOND:.6f} s after the call"


def pause():
    """Longer than a tick of the clock that files get their times from."""
    time.sleep(0.025)


# Looking at files

def mode(path):
    return stat.S_IMODE(_lstat(path).st_mode)


def kind(path):
    """`-`, `d`, `l`, `p`, `s`, `c` or `b`."""
    return stat.filemode(_lstat(path).st_mode)[0]


def owner(path):
    status = _lstat(path)
    return status.st_uid, status.st_gid


def inode(path):
    return _lstat(path).st_ino


def links(path):
    return _lstat(path).st_nlink


def size(path):
    return _lstat(path).st_size


def read(path):
    with open(path, "rb") as opened:
        return opened.read()


def write(path, content=CONTENT):
    """Writes a file anew."""
    with opened(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC) as fd:
        write_all(fd, content)


def write_all(fd, content):
    view = memoryview(content)
    while view:
        view = view[os.write(fd, view):]


def read_all(fd):
    """From the start, wherever the descriptor stands."""
    pieces, offset = [], 0
    while piece := os.pread(fd, MIB, offset):
        pieces.append(piece)
        offset += len(piece)
    return b"".join(pieces)


def append(path, content):
    with opened(path, os.O_WRONLY | os.O_APPEND) as fd:
        write_all(fd, content)


def exists(path):
    return os.path.lexists(path)


def names(path="."):
    return sorted(os.listdir(path))


@contextlib.contextmanager
def opened(path, flags=os.O_RDONLY, mode=0o644):
    fd = os.open(path, flags, mode)
    try:
        yield fd
    finally:
        os.close(fd)


def touch(path, flags=os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode=0o644):
    """Opens with `flags` (to create, unless told) and closes."""
    os.close(os.open(path, flags, mode))


# Users and processes

@contextlib.contextmanager
def acting(user, *groups):
    """The block runs with the rights of `user`, who is in `groups` as well."""
    os.setgroups(groups)
    os.setegid(user.gid)
    os.seteuid(user.uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups([])


def elsewhere(action):
    """Calls `action` in a forked process and returns what it returned; raises its OSError."""
    receive, send = os.pipe()
    if (pid := os.fork()) == 0:
        try:
            answer = {"value": action()}
        except OSError as error:
            answer = {"errno": error.errno}
        except BaseException as error:
            answer = {"failure": f"{type(error).__name__}: {error}"}
        os.write(send, json.dumps(answer).encode())
        os._exit(0)
    os.close(send)
    with open(receive, "rb") as pipe:
        answer = json.loads(pipe.read() or b'{"failure": "the other process died"}')
    os.waitpid(pid, 0)
    if "errno" in answer:
        raise OSError(answer["errno"], os.strerror(answer["errno"]))
    assert "failure" not in answer, answer.get("failure")
    return answer["value"]


@contextlib.contextmanager
def meanwhile(action):
    """Another process has done `action` before the block starts, and lives on until it ends."""
    ready, done = os.pipe(), os.pipe()
    if (pid := os.fork()) == 0:
        os.close(done[1])
        try:
            action()
            os.write(ready[1], b"+")
            os.read(done[0], 1)
        finally:
            os._exit(0)
    os.close(ready[1])
    os.close(done[0])
    try:
        assert os.read(ready[0], 1) == b"+", "the other process failed"
        yield pid
    finally:
        os.close(done[1])
        os.close(ready[0])
        os.waitpid(pid, 0)


@contextlib.contextmanager
def repeating(action):
    """Another process repeats `action` while the block runs; its first failure fails the case."""
    ready, result = os.pipe(), os.pipe()
    if (pid := os.fork()) == 0:
        stop = []
        signal.signal(signal.SIGTERM, lambda *_: stop.append(True))
        os.write(ready[1], b"+")
        try:
            while not stop:
                action()
        except BaseException as error:
            os.write(result[1], f"{type(error).__name__}: {error}".encode())
        os._exit(0)
    os.read(ready[0], 1)
    os.close(result[1])
    try:
        yield
    finally:
        os.kill(pid, signal.SIGTERM)
        os.waitpid(pid, 0)
    with open(result[0]) as pipe:
        failure = pipe.read()
    assert not failure, f"in the other process: {failure}"


# System calls that Python lacks

AT_FDCWD, AT_EMPTY_PATH, AT_SYMLINK_FOLLOW, AT_SYMLINK_NOFOLLOW = -100, 0x1000, 0x400, 0x100
RENAME_NOREPLACE, RENAME_EXCHANGE = 1, 2
UTIME_NOW, UTIME_OMIT = (1 << 30) - 1, (1 << 30) - 2
KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE = 0x01, 0x02, 0x10

_libc = ctypes.CDLL(None, use_errno=True)
_long = ctypes.c_long


def _call(name, *arguments):
    function = getattr(_libc, name)
    function.restype = _long if name in ("syscall", "getxattr", "llistxattr") else ctypes.c_int
    result = function(*arguments)
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def renameat2(source, target, flags):
    _call("renameat2", AT_FDCWD, os.fsencode(source), AT_FDCWD, os.fsencode(target), ctypes.c_uint(flags))


def linkat(fd, path, target, flags):
    _call("linkat", fd, os.fsencode(path), AT_FDCWD, os.fsencode(target), flags)


def utimensat(path, accessed, modified, flags=0):
    """Times are nanoseconds since 1970, or UTIME_NOW and UTIME_OMIT as `(0, UTIME_NOW)`."""
    pairs = [time if isinstance(time, tuple) else divmod(time, SECOND) for time in (accessed, modified)]
    _call("utimensat", AT_FDCWD, os.fsencode(path), (_long * 4)(*pairs[0], *pairs[1]), flags)


def fallocate(fd, mode, offset, length):
    _call("fallocate", fd, mode, _long(offset), _long(length))


def syncfs(fd):
    _call("syncfs", fd)


def getxattr_into(path, name, length):
    """The size that getxattr reports for a buffer of `length` bytes."""
    return _call("getxattr", os.fsencode(path), name.encode(), ctypes.create_string_buffer(max(1, length)), length)


def listxattr_into(path, length):
    return _call("llistxattr", os.fsencode(path), ctypes.create_string_buffer(max(1, length)), length)


def bind(path):
    """Makes a socket and returns it."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    return listener


class Stream:
    """A directory stream of the C library, with its positions."""

    def __init__(self, path):
        for name, result, *arguments in (
                ("opendir", ctypes.c_void_p, ctypes.c_char_p), ("readdir", ctypes.c_void_p, ctypes.c_void_p),
                ("telldir", _long, ctypes.c_void_p), ("seekdir", None, ctypes.c_void_p, _long),
                ("rewinddir", None, ctypes.c_void_p), ("closedir", ctypes.c_int, ctypes.c_void_p)):
            function = getattr(_libc, name)
            function.restype, function.argtypes = result, arguments
        self._stream = _libc.opendir(os.fsencode(path))
        if not self._stream:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

    def next(self):
        """`(name, inode, type)` of the next entry, dots included; None at the end."""
        ctypes.set_errno(0)
        entry = _libc.readdir(self._stream)
        if not entry:
            if number := ctypes.get_errno():
                raise OSError(number, os.strerror(number))
            return None
        inode, _, _, kind = struct.unpack("=QqHB", ctypes.string_at(entry, 19))
        return os.fsdecode(ctypes.string_at(entry + 19)), inode, kind

    def __iter__(self):
        return iter(self.next, None)

    def tell(self):
        return _libc.telldir(self._stream)

    def seek(self, position):
        _libc.seekdir(self._stream, position)

    def rewind(self):
        _libc.rewinddir(self._stream)

    def close(self):
        _libc.closedir(self._stream)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
