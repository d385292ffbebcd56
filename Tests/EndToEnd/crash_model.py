"""Kills the daemon of a mount in the middle of random operations, again and again, and looks at what is left.

The daemon dies, not the machine: whatever it had written when it acknowledged an operation is there. So after the next
mount the tree must be what all acknowledged operations made of it, and the one that was under way is done, not done, or,
where it changes bytes, done for some of its pages.
"""

import collections
import errno
import os
import signal
import time
from contextlib import contextmanager

from posix_model import Model, Mount, Operation, Path, Tree, description_differences, outcome, snapshot_differences

PAGE = 4096
# What calls end with when the daemon that should answer them is gone.
GONE = (errno.ENOTCONN, errno.ECONNABORTED)
# Made of many calls, or not seen by the daemon at all.
LEFT_OUT = ("remove_tree", "map_read")
# Done page by page; `write` from the beginning to the end.
BY_PAGES = ("create", "open", "write", "map_write", "allocate", "copy_range", "truncate")
HARMLESS = ("read", "list", "readlink", "getxattr", "holes", "close", "lock", "lock_whole", "sync")


class KillableMount(Mount):
    """A mount whose daemon can be killed. `stop` also takes away what a killed daemon leaves, `start` mounts over it."""

    def daemons(self):
        """The process ids to kill."""
        raise NotImplementedError

    def wait_killed(self):
        """Returns when they are gone."""
        raise NotImplementedError


class GuardedTree(Tree):
    """Survives a daemon that dies while its file is mapped: SIGBUS kills a child."""

    def map_write(self, target, offset, data, sync):
        child = os.fork()
        if child == 0:
            signal.signal(signal.SIGBUS, signal.SIG_DFL)
            status = 255
            try:
                status = outcome(super().map_write, target, offset, data, sync).error or 0
            finally:
                os._exit(status)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if status:
            raise OSError(status if status > 0 else errno.ENOTCONN, "in the child")


@contextmanager
def killer(pids, delay):
    """Gives a function after whose call the processes live for `delay` seconds more. A process of its own does it: a thread
    would wait for Python's lock, and for the moment that we want to hit."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(writer)
            if os.read(reader, 1):
                if delay:
                    time.sleep(delay)
                for pid in pids:
                    os.kill(pid, signal.SIGKILL)
        finally:
            os._exit(0)
    os.close(reader)
    try:
        yield lambda: os.write(writer, b"!")
    finally:
        os.close(writer)
        os.waitpid(child, 0)


class CrashModel(Model):
    """`run(rounds)`: operations until the daemon dies, and a look at what is left."""

    # Operations before the kill, and after it until somebody must have noticed.
    OPERATIONS = (20, 300)
    PATIENCE = 3000

    def __init__(self, reference, mount, seed, *, without=(), **options):
        super().__init__(reference, mount, seed, without=(*LEFT_OUT, *without), tree=GuardedTree, **options)
        self.synced = {}
        self.explanations = collections.Counter()

    def run(self, rounds):
        for number in range(rounds):
            operation, result = self._run_until_killed()
            self._recover(operation, result, take_away=number % 2 == 0)
        self.close()
        self.mount.stop()
        if self.mount.upper:
            self.check_upper()
        if self.mount.lower:
            lower = Tree(self.mount.lower, self.reference.started).snapshot()
            if lines := snapshot_differences(lower, self.lower):
                self.fail(["the tree below was changed: " + line for line in lines])
        self.mount.start()
        self.compare_all()

    # Until the kill

    def _run_until_killed(self):
        """The operation that was not acknowledged in full, and what it gave."""
        earliest = self.number + self.random.randint(*self.OPERATIONS)
        names, weights = zip(*self.generator.weights.items())
        (fatal,) = self.random.choices(names, weights)
        # Most operations are short; copying a big file is not.
        delay = self.random.choice((0, 0.01 * self.random.random() ** 4))
        pids = self.mount.daemons()
        assert pids, "there is no daemon to kill"
        is_killed = False
        with killer(pids, delay) as kill:
            for _ in range(self.OPERATIONS[1] + self.PATIENCE):
                operation = self._next()
                if not is_killed and self.number >= earliest and (operation.name == fatal or self.number > earliest + 100):
                    # What is wrong already is not the kill's doing.
                    self.compare_all()
                    self.history.append(f"{self.number}: killing {pids} after {delay * 1e6:.0f} µs")
                    kill()
                    is_killed = True
                seen = self.tree.apply(operation)
                if is_killed and is_cut_short(operation, seen):
                    self.history.append(f"{self.number}: {operation} → cut short ({seen})")
                    return operation, seen
                self.check_result(operation, seen, self.reference.apply(operation))
                self._note(operation, seen)
        self.fail(["the daemon was killed and operations go on"])

    def _next(self):
        operation = self.generator.next()
        self.number += 1
        if operation.name == "map_write":
            # What is mapped and not synced may be lost.
            operation = Operation(operation.name, (*operation.arguments[:-1], True))
        return operation

    def _note(self, operation, seen):
        """Which files were changed last before an fsync; only for the message."""
        for target in operation.targets:
            inode = self._reference_inode(target, follow=True)
            if operation.name == "sync" and seen.error is None:
                self.synced[inode] = self.number
            elif operation.name not in HARMLESS:
                self.synced.pop(inode, None)

    # After it

    def _recover(self, operation, result, take_away):
        self.tree.close_all()
        self.mount.wait_killed()
        upper = None
        if take_away:
            self.mount.stop()
            upper = self.mount.look_at_upper(self.reference.started) if self.mount.upper else None
        self.mount.start()
        seen = self.tree.snapshot()
        before, inodes = self.reference.snapshot(slots=False), self._concerned(operation)
        after = before
        lines = self._differences(seen, before, inodes)
        if not lines and not result.value:
            self._explain(operation, "not done")
        else:
            self.reference.apply(operation)
            inodes |= self._concerned(operation)
            after = self.reference.snapshot(slots=False)
            if not self._differences(seen, after, inodes):
                self._explain(operation, "done")
            elif operation.name in BY_PAGES and self._is_in_part(operation, seen, before, after, inodes):
                self._explain(operation, "done in part")
            else:
                self.fail(["after the kill; compared with the operation not done:", *(lines or ["what it wrote is lost"])])
        self.reference.close_all()
        self._adopt(seen, inodes)
        self.compare_all()
        if upper:
            self._check_upper_after_kill(upper, (seen, before, after))

    def _explain(self, operation, how):
        self.explanations[how] += 1
        self.history.append(f"{self.number}: {operation} was {how}; mounted again")

    def _concerned(self, operation):
        """The inodes, in the reference, whose times the operation may have changed: what it names and the directories above,
        which it may have had to copy."""
        inodes, root = set(), os.path.realpath(self.reference.root)
        for target in operation.targets:
            inodes |= {self._reference_inode(target), self._reference_inode(target, follow=True)}
            if isinstance(target, Path):
                # By its name, and where a link that is that name leads.
                place = self.reference.at(target)
                for directory in (os.path.realpath(os.path.dirname(place)), os.path.dirname(os.path.realpath(place))):
                    while directory.startswith(root + "/"):
                        inodes.add(self._reference_inode(Path(os.path.relpath(directory, root))))
                        directory = os.path.dirname(directory)
        return inodes - {None}

    def _differences(self, seen, expected, inodes):
        return self._with_fsyncs(snapshot_differences(seen, expected, self._ignoring(inodes)))

    def _ignoring(self, inodes):
        return lambda path: self._ignored(path) | ({"time"} if self._reference_inode(path) in inodes else set())

    def _with_fsyncs(self, lines):
        """With a word on each that is about what had been acknowledged by an fsync."""
        marks = {}
        for path, _ in self.reference.walk():
            if (number := self.synced.get(self._reference_inode(path))) is not None:
                marks[repr(path)] = f" (fsync was acknowledged as operation {number})"
        return [line + next((mark for path, mark in marks.items() if line.startswith(path)), "") for line in lines]

    def _is_in_part(self, operation, seen, before, after, inodes):
        """Whether the operation was done for some pages of its file, and nothing else changed."""
        ignoring = self._ignoring(inodes)
        for path in seen.descriptions.keys() | before.descriptions.keys() | after.descriptions.keys():
            found, old, new = (each.descriptions.get(path) for each in (seen, before, after))
            if found is None or new is None:
                return False
            if any(each and not description_differences(path, found, each, ignoring(path)) for each in (old, new)):
                continue
            if found["kind"] != "-" or description_differences(path, found, new, ignoring(path) | {"time", "size", "content"}):
                return False
            bases = [b""] + ([old["content"]] if old is not None and old["kind"] == "-" else [])
            if not any(is_done_in_part(operation.name, found["content"], base, new["content"]) for base in bases):
                return False
        return True

    def _adopt(self, seen, inodes):
        """Makes what the operation concerned in the reference what it is in the mount."""
        now = time.time_ns()
        reference = self.reference.snapshot(slots=False)
        for path, found in sorted(seen.descriptions.items(), reverse=True):
            if path not in reference.descriptions or found == reference.descriptions[path]:
                continue
            status = self.reference.status(path)
            if found["kind"] == "-" and found["content"] != reference.descriptions[path]["content"]:
                with open(self.reference.at(path), "r+b") as file:
                    file.truncate(0)
                    file.write(found["content"])
                inodes = inodes | {status.st_ino}
            if status.st_ino in inodes:
                self.reference.utime(path, now, now if found["time"] == "now" else found["time"], False)

    def _check_upper_after_kill(self, upper, explanations):
        """Every file in it is whole: as it was before the operation that was under way, after it, or as the mount shows it."""
        ignored = {"time", "links"} | self.ignore
        lines = []
        for path, found in upper.descriptions.items():
            expected = [each.descriptions[path] for each in explanations if path in each.descriptions]
            fields = ignored | {"mode", "owner", "attributes"} if found["kind"] == "d" else ignored
            if not any(not description_differences(path, found, each, fields) for each in expected):
                lines += description_differences(path, found, expected[0], fields) if expected else [f"{path!r} is foreign"]
        if lines:
            self.fail(["the upper directory after the kill: " + line for line in lines])


def is_cut_short(operation, result):
    """Whether an operation ended because the daemon did."""
    if operation.name == "write" and result.error is None:
        return result.value < operation.arguments[2].count
    return result.error in GONE or result.error == errno.EIO


def is_done_in_part(name, found, old, new):
    """Whether `found` is `old` with some pages of `new`; for a `write`, with the first of those that differ."""
    if not min(len(old), len(new)) <= len(found) <= max(len(old), len(new)):
        return False
    is_new = []
    for start in range(0, len(found), PAGE):
        page, old_page, new_page = (content[start:start + PAGE] for content in (found, old, new))
        if old_page == new_page == page:
            continue
        if page not in (old_page, new_page):
            return False
        is_new.append(page == new_page)
    return name != "write" or is_new == sorted(is_new, reverse=True)
