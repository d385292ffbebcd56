"""The history of a tree: what it was after each of the operations that were done to it one after the other, and by which
moment of it the tree that a crash left is explained.

The rule is what ext4 and XFS promise:

- names, which of them are one file, kinds, targets of links, modes, owners, attributes and times that were set are those
  after the first k operations, for some k. What an fsync of a file or directory, or a sync, had answered for lies within
  the k;
- the bytes of a file that was synced are right. Of what was written to it since, each block of the disk and the length may be
  of any moment, and a block may be zero.
"""

import collections
import contextlib
import os
import shutil
import stat
from typing import NamedTuple

from posix_model import ATTRIBUTES, TIMES, Path, copy_over, difference

# The smallest blocks of a disk that small.
BLOCK = 1024
# Operations that change the bytes of a file.
WRITING = ("create", "write", "truncate")
# What is done to the whole tree and changes nothing in it.
NO_CHANGE = ("sync_all", "remount", "remount_killed")


class Entry(NamedTuple):
    """What a name leads to. Two kinds of things: which it is, and what is set of it."""

    kind: str
    target: str | None
    mode: int
    owner: tuple
    attributes: tuple
    # None where it is not one of those that are set. A directory's changes by more than what is done in it on XFS.
    time: int | None
    inode: int
    parent: int

    @property
    def name_fields(self):
        return self.kind, self.target

    def has_attributes_of(self, other):
        return self[2:5] == other[2:5] and (other.time is None or self.time == other.time)

    def __str__(self):
        target = f" to {self.target!r}" if self.target else ""
        attributes = {name: len(value) for name, value in self.attributes}
        return f"{self.kind}{target} {self.mode:o} {self.owner} {attributes} {self.time}"


def entries(tree):
    """All entries of a tree, by path."""
    found, inodes = {}, {}
    for path in (Path(), *(path for path, _ in tree.walk())):
        status, where = tree.status(path), tree.at(path)
        kind = stat.filemode(status.st_mode)[0]
        inodes[path] = status.st_ino
        attributes = ()
        if kind in "-d":
            names = set(os.listxattr(where))
            attributes = tuple((name, os.getxattr(where, name)) for name in ATTRIBUTES if name in names)
        time = status.st_mtime_ns if kind == "-" and status.st_mtime_ns in TIMES else None
        found[path] = Entry(
            kind, os.readlink(where) if kind == "l" else None, 0 if kind == "l" else stat.S_IMODE(status.st_mode),
            (status.st_uid, status.st_gid), attributes, time, status.st_ino, inodes[path.parent] if path else 0)
    return found


def groups(state):
    """The names of each file that has several."""
    names = collections.defaultdict(set)
    for path, entry in state.items():
        if entry.kind != "d":
            names[entry.inode].add(path)
    return {frozenset(each) for each in names.values() if len(each) > 1}


def empty(directory):
    for name in os.listdir(directory):
        path = os.path.join(directory, name)
        (shutil.rmtree if os.path.isdir(path) and not os.path.islink(path) else os.unlink)(path)
    for name in os.listxattr(directory):
        os.removexattr(directory, name)


class Explanation(NamedTuple):
    """What is wrong, None where nothing is: `names`, `attributes`, `content` or `forgotten`."""

    kind: str | None
    moment: int
    lines: list


class History:
    """Wraps the reference: a plain directory to which operations are applied after they were applied to what is tested."""

    def __init__(self, reference):
        self.tree = reference
        self.operations = []
        self.states = [entries(reference)]
        # Of each file: its bytes after each change, and the index of the first that may still be seen.
        self.versions = {}
        self.synced = collections.Counter()
        # Of each inode: the last operation that changed its names or what is set of it.
        self.touched = collections.Counter()
        # So many operations are answered for.
        self.bound = 0
        for path, entry in self.states[0].items():
            if entry.kind == "-" and entry.inode not in self.versions:
                self.versions[entry.inode] = [reference.content(path)]

    @property
    def count(self):
        return len(self.operations)

    def apply(self, operation):
        """- Returns: what the reference says."""
        if operation.name in NO_CHANGE:
            self.operations.append(operation)
            self.states.append(self.states[-1])
            return None
        result = self.tree.apply(operation)
        self.operations.append(operation)
        if operation.name in WRITING and result.error is None:
            # A file system may do so where not a byte changed.
            with contextlib.suppress(OSError):
                os.utime(self.tree.at(operation.arguments[0]))
        self._note_states()
        if operation.name in WRITING:
            self._note_bytes(operation)
        return result

    def acknowledge(self, operation):
        """A sync has answered. (A write with O_SYNC answers for what it wrote alone.)"""
        if operation.name == "sync_all":
            self.acknowledge_all(*self.mark())
            return
        path = operation.arguments[0]
        inode = self._inode(path)
        if inode in self.versions:
            self.synced[inode] = len(self.versions[inode]) - 1
        if operation.name == "sync" and not operation.arguments[1]:
            self.bound = max(self.bound, self.touched[inode])

    def mark(self):
        """What was done until now; for `acknowledge_all`. May be called while another thread applies operations."""
        versions = {inode: len(versions) - 1 for inode, versions in list(self.versions.items())}
        return self.count, versions

    def acknowledge_all(self, count, versions):
        self.bound = max(self.bound, count)
        for inode, version in versions.items():
            self.synced[inode] = max(self.synced[inode], version)

    def _inode(self, path):
        with contextlib.suppress(OSError):
            return os.stat(self.tree.at(path)).st_ino

    def _note_states(self):
        before, after = self.states[-1], entries(self.tree)
        self.states.append(after)
        old, new = (
            {(entry.parent, path.rpartition("/")[2]): entry for path, entry in state.items()} for state in (before, after))
        for place in old.keys() | new.keys():
            was, now = old.get(place), new.get(place)
            if was == now:
                continue
            if was is None or now is None or was.inode != now.inode:
                self.touched[place[0]] = self.count
            for entry in (was, now):
                if entry:
                    self.touched[entry.inode] = self.count

    def _note_bytes(self, operation):
        path = operation.arguments[0]
        inode = self._inode(path)
        if inode is None or not os.path.isfile(self.tree.at(path)):
            return
        content = self.tree.content(os.path.relpath(os.path.realpath(self.tree.at(path)), os.path.realpath(self.tree.root)))
        versions = self.versions.setdefault(inode, [])
        flags = {"write": 3, "create": 1}.get(operation.name)
        if not versions or flags and operation.arguments[flags] & os.O_TRUNC:
            versions.append(b"")
        if versions[-1] != content:
            versions.append(content)

    # Afterwards

    def explain(self, tree):
        """What of the tree's past explains what is seen of it now."""
        seen = entries(tree)
        contents = {path: tree.content(path) for path, entry in seen.items() if entry.kind == "-"}
        by_names, by_content, explained = [], [], []
        for moment in range(self.count, -1, -1):
            state = self.states[moment]
            if seen.keys() != state.keys() or any(seen[path].name_fields != state[path].name_fields for path in seen):
                continue
            by_names.append(moment)
            has_attributes = groups(seen) == groups(state) and all(seen[path].has_attributes_of(state[path]) for path in seen)
            has_content = not any(self._content_differences(state, contents))
            if has_content:
                by_content.append(moment)
            if has_attributes and has_content:
                explained.append(moment)
                break
        if explained:
            moment = explained[0]
            if moment >= self.bound:
                return Explanation(None, moment, [])
            return Explanation(
                "forgotten", moment, [
                    f"is as after operation {moment}, {self.bound} were answered for",
                    *self._differences(self.bound, seen, contents)])
        for kind, moments in (("attributes", by_content), ("content", by_names)):
            if moments:
                # The moment that comes nearest.
                moment = min(moments, key=lambda moment: (
                    moment < self.bound, len(self._differences(moment, seen, contents)), -moment))
                return Explanation(kind, moment, self._differences(moment, seen, contents))
        moment = min(
            range(self.count, -1, -1),
            key=lambda moment: (sum(1 for _ in self._name_differences(self.states[moment], seen)), moment < self.bound))
        return Explanation("names", moment, self._differences(moment, seen, contents))

    def _differences(self, moment, seen, contents):
        state = self.states[moment]
        lines = list(self._name_differences(state, seen))
        lines += [
            f"{path!r} is {seen[path]}, not {state[path]}" for path in sorted(seen.keys() & state.keys())
            if seen[path].name_fields == state[path].name_fields and not seen[path].has_attributes_of(state[path])]
        if seen.keys() == state.keys():
            lines += [f"{sorted(names)} are one file" for names in groups(seen) - groups(state)]
            lines += [f"{sorted(names)} are not one file" for names in groups(state) - groups(seen)]
        return lines + list(self._content_differences(state, contents))

    @staticmethod
    def _name_differences(state, seen):
        for path in sorted(state.keys() | seen.keys()):
            if path not in state:
                yield f"{path!r} is there and must not be ({seen[path]})"
            elif path not in seen:
                yield f"{path!r} is missing ({state[path]})"
            elif seen[path].name_fields != state[path].name_fields:
                yield f"{path!r} is {seen[path]}, not {state[path]}"

    def _content_differences(self, state, contents):
        for path, content in contents.items():
            if path not in state or state[path].kind != "-":
                continue
            inode = state[path].inode
            if why := self._difference(inode, content):
                yield f"{path!r} {why}{self._origin(inode, content)}"

    def _difference(self, inode, content):
        versions = self.versions[inode][self.synced[inode]:]
        if content in versions:
            return None
        if len(versions) == 1:
            return "is not what was answered for: " + difference("content", content, versions[0])
        sizes = [len(version) for version in versions]
        if not min(sizes) <= len(content) <= max(sizes):
            return f"has {len(content)} bytes and had {sizes}"
        for start in range(0, len(content), BLOCK):
            block = content[start:start + BLOCK]
            if block.strip(b"\0") and not any(
                    version[start:start + BLOCK].ljust(BLOCK, b"\0")[:len(block)] == block for version in versions):
                return f"has {len(content)} bytes, of which those from {start} on were never there: {block[:12].hex(' ')}"
        return None

    def _origin(self, inode, content):
        """Which other file it is, or which old version; for the message."""
        if content and content in self.versions[inode]:
            return f": it is its version {self.versions[inode].index(content)} of {len(self.versions[inode])}"
        for other, versions in self.versions.items():
            if content and content in versions:
                names = {path for state in self.states for path, entry in state.items() if entry.inode == other}
                return f": it is what {sorted(map(repr, names))[0]} had" if names else ""
        return ""

    def restart(self, tree):
        """Makes the reference like what is seen now, which is on the disk."""
        empty(self.tree.root)
        copy_over(tree.root, self.tree.root)
        self.__init__(self.tree)
