"""Cuts the power of the upper's disk while its mount is changed, again and again, and looks at what is left.

    .venv/bin/python Tests/EndToEnd/upper_power_cut.py --rounds 300 --file-system ext4 --seed 1

The upper lies on a file system of its own, in a file; the tree and the cache do not. A round is: random operations through
the mount, which is now and then taken away and mounted again or loses its daemon; the end (the power is cut, or the daemon is
killed, or both); the disk and the mount again. What is there then must be explained by a moment of the past: see
tree_history.py for the rule. With `--threads 3` three of them work at once, each in a directory of its own, and each
directory must be explained by the past of its thread.

`--plain` does the same to a directory of the disk without mcfs, and shows that the rule is one that the disk keeps.
`--scenario` does a short script; `--shrink` makes a script of each violation, as short as it gets, and prints it.

Needs root; see cut_workers.py.
"""

import argparse
import collections
import contextlib
import errno
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

import mcfs as mcfs_helper
from crash_model import GONE
from cut_workers import end_daemon, kill_daemon, run_workers
from loop_disk import CUTS, LoopDisk
from posix_model import (
    RENAME_EXCHANGE, Data, Generator, Operation, Outcome, Path, Tree, copy_over, make_lower)
from tree_history import History, empty

KILL = "kill"
# What calls on a dead disk, or of a dead daemon, end with.
DEAD = (*GONE, errno.EIO, errno.EROFS)
# What file systems say of a directory that is not empty.
ALIKE = {errno.EEXIST, errno.ENOTEMPTY}
# What happens to the mount between operations, not to the tree.
REMOUNT, REMOUNT_KILLED = "remount", "remount_killed"
HUNG_SECONDS = 60
# A file that nobody looks at.
BUSY = "busy"


def operation(name, *arguments):
    """`operation("unlink", "a")`; texts are paths, but for the first argument of symlink."""
    is_text = name == "symlink"
    return Operation(name, tuple(
        Path(each) if isinstance(each, str) and not (is_text and index == 0) and not (index == 1 and "xattr" in name) else each
        for index, each in enumerate(arguments)))


def _sync_all():
    return operation("sync_all")


# Trees and scripts that show one thing each: what is below, what is done, how it ends.
TREE = {"conf": b"tree's own", "dir/one": b"1 of the tree", "dir/two": b"2 of the tree", "other": b"other of the tree"}
_OVERWRITTEN = [operation("write", "conf", 0, Data(1, 5000), os.O_TRUNC), _sync_all()]
_MERGED = [operation("write", "dir/own", 0, Data(2, 3000), os.O_CREAT), _sync_all()]
# Makes the log so long that it is written anew.
_LONG = [operation("setxattr", "conf", "user.a", Data(number, 700), 0) for number in range(600)]
SCENARIOS = {
    "a file of the tree that was written to is removed": ([*_OVERWRITTEN, operation("unlink", "conf")], "log"),
    "a file that was written to is removed and answered for": (
        [*_OVERWRITTEN, operation("unlink", "conf"), operation("sync", "", False)], "cut"),
    "a directory with both is renamed": ([*_MERGED, operation("rename", "dir", "new", 0)], "log"),
    "a directory with both is renamed and answered for": (
        [*_MERGED, operation("rename", "dir", "new", 0), operation("sync", "", False)], "cut"),
    "a file of the tree is replaced by a rename": (
        [operation("write", "tmp", 0, Data(3, 4000), os.O_CREAT), _sync_all(), operation("rename", "tmp", "conf", 0)], "log"),
    "a directory of the tree is removed and made anew": (
        [operation("unlink", "dir/one"), operation("unlink", "dir/two"), operation("rmdir", "dir"),
         operation("mkdir", "dir", 0o755), operation("create", "dir/new", 0, 0o644)], "log"),
    "a file of the tree is removed, then one is made": (
        [operation("unlink", "conf"), operation("create", "new", 0, 0o644)], "log"),
    "a file of the tree is renamed, then one is made": (
        [operation("rename", "conf", "moved", 0), operation("create", "new", 0, 0o644)], "log"),
    "a mode is set, then a file is made": (
        [operation("chmod", "conf", 0o600), operation("create", "new", 0, 0o644)], "log"),
    "a long log": ([*_LONG, operation("create", "new", 0, 0o644)], "log"),
    "a long log, then a removal that is answered for": (
        [*_LONG, operation("unlink", "other"), operation("sync", "", False)], "cut"),
    "a removal, then a long log, answered for": (
        [operation("unlink", "other"), *_LONG, operation("sync", "conf", False)], "cut"),
    "a file of the tree is renamed, then the mode of another is set": (
        [operation("write", "new", 0, Data(9, 3000), os.O_CREAT), _sync_all(), operation("rename", "conf", "moved", 0),
         operation("chmod", "new", 0o600)], "log"),
    "two directories change places": (
        [*_MERGED, operation("mkdir", "mine", 0o755), operation("create", "mine/x", 0, 0o644), _sync_all(),
         operation("rename", "dir", "mine", RENAME_EXCHANGE)], "log"),
}


class CutGenerator(Generator):
    """Operations on names above all. What is made of several is given one by one."""

    WEIGHTS = {
        "create": 5, "write": 12, "truncate": 3, "sync": 7, "unlink": 6, "mkdir": 5, "rmdir": 4, "remove_tree": 2, "rename": 18,
        "link": 4, "symlink": 3, "chmod": 5, "chown": 2, "utime": 3, "setxattr": 4, "removexattr": 1, "save": 4, "replace": 2,
        "sync_all": 0.5, "remount": 0.15, "remount_killed": 0.3,
    }

    def __init__(self, seed, tree, without=()):
        super().__init__(seed, tree, without)
        self.queue = collections.deque()

    def next(self):
        while not self.queue:
            each = super().next()
            if each.name not in ("remove_tree", "save", "replace"):
                return each
            self.queue.extend(each.arguments)
        return self.queue.popleft()

    def sync_all(self):
        return ()

    remount = remount_killed = sync_all

    def remove_tree(self):
        """As `rm -r` does it."""
        top = self.path("directory")
        steps = []
        for path, kind in self.known:
            if path == top or path.startswith(top + "/"):
                steps.append(Operation("rmdir" if kind == "directory" else "unlink", (path,)))
        return steps[::-1]

    def save(self):
        """As editors and engines do it: a file is written beside the old one, synced, and put in its place."""
        path = self.path("file")
        new = path.parent.child("d")
        steps = [Operation("write", (new, 0, self.data(), os.O_CREAT | os.O_TRUNC)), Operation("sync", (new, self.chance(0.3))),
                 Operation("rename", (new, path, 0))]
        if self.chance(0.5):
            steps.append(Operation("sync", (path.parent, False)))
        return steps

    def replace(self):
        """A directory is removed, and another made in its place."""
        path = self.path("directory")
        inside = [entry for entry in self.known if entry[0].startswith(path + "/")]
        steps = [Operation("rmdir" if kind == "directory" else "unlink", (each,)) for each, kind in reversed(inside)]
        return [*steps, Operation("rmdir", (path,)), Operation("mkdir", (path, 0o755)),
                Operation("create", (path.child("a"), 0, 0o644))]


class Broken(Exception):
    """What comes after a violation would only be its consequence."""


class Actor:
    """One thread's operations on its part of the mount, and their history."""

    def __init__(self, worker, scope, seed):
        self.worker = worker
        self.tree = Tree(os.path.join(worker.root, scope) if scope else worker.root)
        reference = os.path.join(worker.reference, scope) if scope else worker.reference
        self.history = History(Tree(reference, self.tree.started))
        without = () if worker.remounts else (REMOUNT, REMOUNT_KILLED)
        self.generator = CutGenerator(seed, self.history.tree, without)
        self.script = None
        self.done = 0
        # The error with which the disk or daemon showed that it is dead.
        self.last_error = None
        self.failure = None
        # What had been answered when a disk ended that keeps everything.
        self.kept = None

    def run(self):
        try:
            while not self.worker.is_over.is_set() and self.last_error is None:
                if self.script is None:
                    each = self.generator.next()
                elif self.done < len(self.script):
                    each = self.script[self.done]
                else:
                    break
                if not self.step(each):
                    break
        except Exception as error:
            self.failure = repr(error)
        finally:
            self.worker.progress.release()

    def step(self, each):
        """- Returns: false where nothing more can be done."""
        if each.name in (REMOUNT, REMOUNT_KILLED):
            try:
                self.worker.remount(is_killed=each.name == REMOUNT_KILLED)
            except AssertionError:
                if not self.worker.is_ending.is_set():
                    raise
                # Nothing may be done below what is not mounted.
                return False
            self.history.apply(each)
            self._count()
            return True
        if each.name == "sync_all":
            seen = self.worker.sync_all()
        else:
            seen = self.tree.apply(each)
        expected = self.history.apply(each) or Outcome()
        if seen.error != expected.error and not {seen.error, expected.error} <= ALIKE:
            if self.worker.is_ending.is_set() and seen.error in DEAD:
                self.last_error = seen.error
                return False
            before = "\n    ".join(map(str, self.history.operations[-30:]))
            self.failure = f"{each} gives {seen}, not {expected}; the operations up to it\n    {before}"
            return False
        # A sync that was under way when the disk died may answer what it likes.
        if seen.error is None and each.name in ("sync", "sync_all") and not self.worker.is_ending.is_set():
            self.history.acknowledge(each)
        self._count()
        return True

    def _count(self):
        self.done += 1
        self.worker.progress.release()


class Worker:
    """Does rounds on one disk. `counts` and `violations` say what came out."""

    # A new disk after so many rounds.
    ROUNDS_PER_DISK = 6
    OPERATIONS = (3, 120)

    def __init__(self, plan):
        self.plan = plan
        self.directory = plan["directory"]
        self.kind = plan["kind"]
        self.threads = plan["threads"]
        self.is_plain = plan["plain"]
        self.seed = plan["seed"]
        self.remounts = self.threads == 1 and not self.is_plain
        self.random = random.Random(self.seed)
        self.counts = collections.Counter()
        self.violations = []
        self.number = 0
        self.lower = os.path.join(self.directory, "tree")
        self.reference = os.path.join(self.directory, "reference")

    def run(self):
        os.makedirs(self.reference)
        # In memory: it is looked at after each operation.
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", self.reference], check=True)
        self.disk = LoopDisk(self.directory, self.kind)
        if self.plan["scenario"]:
            for _ in range(self.plan["rounds"]):
                if self._play(*SCENARIOS[self.plan["scenario"]], self._make_small_lower):
                    break
            return
        while self.number < self.plan["rounds"]:
            if self.plan["until"] and time.time() > self.plan["until"]:
                return
            with self._new_disk(self._make_lower):
                for _ in range(1 if self.plan["shrink"] else self.ROUNDS_PER_DISK):
                    if self.number == self.plan["rounds"] or self.plan["until"] and time.time() > self.plan["until"]:
                        break
                    self.number += 1
                    if not self._guarded(self._random_round):
                        break
            if self.plan["shrink"] and self.violations and self.threads == 1:
                self._shrink()
                return

    def _play(self, script, end, make_lower):
        """Does a script and cuts the power when it is done. - Returns: the violation, or None."""
        self.violations.clear()
        with self._new_disk(make_lower):
            self.number += 1
            self._guarded(lambda: self._round(end, script))
        return self.violations[0] if self.violations else None

    def _shrink(self):
        """Leaves out of the operations of the last round what does not matter, and prints what is left."""
        first, end = self.violations[0], self.description.split(",")[0]
        script, seed = self.actors[0].history.operations, self.lower_seed
        kind = next(iter(self.counts.keys() & VIOLATIONS))
        counts, number = dict(self.counts), self.number

        def fails(operations):
            found = self._play(operations, end, lambda: self._make_lower(seed))
            return found if found and f": {kind}: " in found else None

        found, size = fails(script), max(1, len(script) // 2)
        while found and size:
            start = 0
            while start < len(script):
                shorter = script[:start] + script[start + size:]
                if shorter and (again := fails(shorter)):
                    script, found = shorter, again
                else:
                    start += size
            size //= 2
        self.counts, self.number = collections.Counter(counts), number
        listed = "\n    ".join(map(str, script))
        shortest = f"the shortest, with the end {end}\n    {listed}\n  {found}" if found else "it does not repeat"
        self.violations = [f"{first}\n  {shortest}"]

    def _guarded(self, body):
        """- Returns: whether nothing was wrong."""
        self.description = "mounting"
        count = len(self.violations)
        try:
            body()
        except Broken:
            pass
        except (AssertionError, OSError) as error:
            self.violate("errors", str(error))
        except subprocess.TimeoutExpired as error:
            self.violate("hung", str(error))
        return len(self.violations) == count

    def violate(self, kind, text):
        self.counts[kind] += 1
        self.violations.append(f"{self.kind}, seed {self.seed}, round {self.number} ({self.description}): {kind}: {text}")

    # The disk and the mount

    def _make_lower(self, seed=None):
        self.lower_seed = seed = seed or self.random.randrange(1 << 30)
        scopes = [""] if self.threads == 1 else [f"t{index}" for index in range(self.threads)]
        if self.threads > 1:
            with open(os.path.join(self.lower, BUSY), "wb") as file:
                file.write(b"busy")
        for index, scope in enumerate(scopes):
            make_lower(
                os.path.join(self.lower, scope), seed + index, entries=60 // len(scopes) + 10, big_bytes=150_000,
                hard_links=False)

    def _make_small_lower(self):
        for path, data in TREE.items():
            place = os.path.join(self.lower, path)
            os.makedirs(os.path.dirname(place), exist_ok=True)
            with open(place, "wb") as file:
                file.write(data)

    @contextlib.contextmanager
    def _new_disk(self, make_lower):
        shutil.rmtree(self.lower, ignore_errors=True)
        os.makedirs(self.lower)
        make_lower()
        self.disk.make()
        self.disk.mount()
        self.upper = os.path.join(self.disk.path, "upper")
        os.mkdir(self.upper)
        with contextlib.ExitStack() as stack:
            if self.is_plain:
                self.root = self.upper
                copy_over(self.lower, self.upper)
            else:
                self.mcfs = stack.enter_context(mcfs_helper.Mcfs(os.path.join(self.directory, "mcfs"), {"MCFS_GPU": "none"}))
                self.root = self.mountpoint = self.mcfs.new_mountpoint("mount")
            self._sync_disk()
            try:
                self._mount()
                empty(self.reference)
                copy_over(self.root, self.reference)
                yield
            finally:
                self._end_daemon(signal.SIGKILL)
        self.disk.unmount()

    def _mount(self):
        if not self.is_plain:
            self.mcfs.mount(self.lower, at=self.mountpoint, options=("--upper", self.upper), timeout=HUNG_SECONDS)

    def _kill_daemon(self):
        if not self.is_plain:
            kill_daemon(self.mcfs)

    def _end_daemon(self, number):
        if not self.is_plain:
            end_daemon(self.mcfs, self.mountpoint, number)

    def remount(self, is_killed):
        self._end_daemon(signal.SIGKILL if is_killed else signal.SIGTERM)
        self._mount()

    def _sync_disk(self):
        subprocess.run(["sync", "-f", self.disk.path], check=True)

    def sync_all(self):
        """What sync(2) does, of what concerns us."""
        try:
            for path in (self.root, self.disk.path):
                subprocess.run(["sync", "-f", path], check=True, capture_output=True)
        except subprocess.CalledProcessError:
            return Outcome(error=errno.EIO)
        return Outcome()

    # A round

    def _random_round(self):
        generator = self.random
        (end,) = generator.choices((*CUTS, KILL), (1, 5, 4, 1))
        if self.is_plain and end == KILL:
            end = "log"
        self._round(self.plan["end"] or end)

    def _round(self, end, script=None):
        generator = self.random
        self.counts["rounds"] += 1
        self.description = end
        scopes = [""] if self.threads == 1 else [f"t{index}" for index in range(self.threads)]
        self.is_ending, self.is_over, self.progress = threading.Event(), threading.Event(), threading.Semaphore(0)
        self.actors = [Actor(self, scope, generator.randrange(1 << 30)) for scope in scopes]
        wanted = generator.randint(*self.OPERATIONS) * len(self.actors)
        if script is not None:
            self.actors[0].script = script
            wanted = len(script) - self.plan["early"]
        threads = [threading.Thread(target=actor.run) for actor in self.actors]
        if script is None and generator.random() < 0.7:
            threads.append(threading.Thread(target=self._weather, args=(random.Random(generator.random()),)))
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + HUNG_SECONDS
        while wanted and any(thread.is_alive() for thread in threads[:len(self.actors)]):
            if self.progress.acquire(timeout=0.05):
                wanted -= 1
                deadline = time.monotonic() + HUNG_SECONDS
            elif time.monotonic() > deadline:
                break
        if script is None or self.plan["early"]:
            time.sleep(generator.choice((0, 0, 0.02)) * generator.random())
        kill_first = not self.is_plain and generator.random() < 0.25
        self._end(end, kill_first)
        self.is_over.set()
        if end in CUTS and not kill_first and not self.is_plain:
            # The daemon goes on for a moment on a dead disk.
            time.sleep(generator.choice((0, 0.02, 0.1)))
        # Whoever still works must not get to what is below the mount.
        self._kill_daemon()
        for thread in threads:
            thread.join(HUNG_SECONDS)
            if thread.is_alive():
                self.violate("hung", "an operation hangs")
                raise Broken
        self._end_daemon(signal.SIGKILL)
        for actor in self.actors:
            self.counts["operations"] += actor.history.count
            if actor.failure:
                self.violate("errors", actor.failure)
                raise Broken
        if end in CUTS:
            self.disk.unmount()
            self.disk.mount()
            if not self.is_plain and (self.plan["cut_mounts"] or script is None and generator.random() < 0.25):
                self.description += ", cut again at the mount"
                self._cut_mount()
        self._mount()
        for actor in self.actors:
            self._check(actor)
        self._sync_disk()

    def _end(self, end, kill_first):
        if end == KILL:
            self._stop_counting(True)
            return
        self._stop_counting(end == "synced")
        if kill_first:
            self._kill_daemon()
        self.disk.shut_down(CUTS[end])

    def _cut_mount(self):
        """The power is cut while the upper is made ready for a mount, or soon after it."""
        mounting = threading.Thread(target=self._try_mount)
        mounting.start()
        if self.random.random() < 0.3:
            mounting.join(HUNG_SECONDS)
        else:
            time.sleep(0.06 * self.random.random())
        self.disk.shut_down(CUTS[self.random.choice(("log", "cut"))])
        mounting.join(HUNG_SECONDS)
        self._end_daemon(signal.SIGKILL)
        self.disk.unmount()
        self.disk.mount()

    def _try_mount(self):
        # What a dead disk makes of a mount is no matter.
        with contextlib.suppress(AssertionError, subprocess.TimeoutExpired):
            self._mount()

    def _stop_counting(self, keeps_everything):
        """From now on errors are nobody's fault. What was answered before is kept in some ends."""
        self.is_ending.set()
        if keeps_everything:
            for actor in self.actors:
                actor.kept = actor.history.mark()

    def _weather(self, generator):
        """What goes to the disk by itself in longer times: the journal for others' sake, and bytes of some files."""
        is_busy = self.threads > 1 and generator.random() < 0.5
        with contextlib.suppress(OSError):
            while not self.is_over.wait(0.001 if is_busy else generator.choice((0.005, 0.02, 0.1))):
                if generator.random() < 0.4:
                    descriptor = os.open(os.path.join(self.disk.path, "somebody else's"), os.O_WRONLY | os.O_CREAT, 0o600)
                    try:
                        os.write(descriptor, b"x")
                        os.fsync(descriptor)
                    finally:
                        os.close(descriptor)
                if is_busy:
                    # Makes the log so long that it is written anew every few moments.
                    for _ in range(40):
                        os.setxattr(os.path.join(self.root, BUSY), "user.a", generator.randbytes(700))

    # Afterwards

    def _check(self, actor):
        history = actor.history
        if actor.kept:
            history.acknowledge_all(*actor.kept)
        found = history.explain(actor.tree)
        self.counts["checked"] += len(history.states[0])
        self.counts["moments"] += history.count - found.moment
        if found.kind:
            numbered = [f"{number}: {each}" for number, each in enumerate(history.operations, 1)]
            shown = numbered[max(0, found.moment - 6):][:12]
            self.violate(
                found.kind,
                f"nearest is the state after {found.moment} of {history.count} operations ({history.bound} answered for); "
                f"there\n    " + "\n    ".join(found.lines[:12]) + "\n  the operations from there\n    " + "\n    ".join(shown))
            raise Broken
        history.restart(actor.tree)


# The driver

VIOLATIONS = ("names", "attributes", "content", "forgotten", "hung", "errors")


def run(
        directory, *, kind, rounds=0, seconds=None, seed=1, jobs=2, threads=1, plain=False, shrink=False, end=None,
        cut_mounts=False, early=0, scenario=None):
    """Does the rounds with `jobs` workers, for at most `seconds`. - Returns: counts and a list of what did not hold."""
    plans = []
    for index in range(jobs):
        folder = os.path.join(directory, f"{kind}-{index}")
        os.makedirs(folder)
        plans.append({
            "directory": folder, "kind": kind, "rounds": (rounds + jobs - 1 - index) // jobs, "seed": f"{seed}-{index}",
            "until": time.time() + seconds if seconds else None, "threads": threads, "plain": plain, "shrink": shrink, "end": end,
            "cut_mounts": cut_mounts, "early": early, "scenario": scenario})
    return run_workers(__file__, plans)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--rounds", type=int, help="default: 100, of a scenario one")
    parser.add_argument("--seconds", type=float, help="end after these, whatever --rounds says")
    parser.add_argument("--file-system", choices=("ext4", "xfs"), default="ext4")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2, help="rounds at once")
    parser.add_argument("--threads", type=int, default=1, help="threads that work at once, each in a directory of its own")
    parser.add_argument("--plain", action="store_true", help="without mcfs")
    parser.add_argument("--shrink", action="store_true", help="look for the cause of each worker's first violation")
    parser.add_argument("--end", choices=(*CUTS, KILL), help="only this")
    parser.add_argument("--cut-mounts", action="store_true", help="cut the power again at each mount after a cut")
    parser.add_argument(
        "--early", type=int, default=0, metavar="N", help="end a script while its last N operations are under way")
    parser.add_argument("--scenario", choices=SCENARIOS, help="this script, by one worker")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        worker = Worker(json.loads(options.worker))
        worker.run()
        print(json.dumps({"counts": worker.counts, "violations": worker.violations}))
        return 0
    with tempfile.TemporaryDirectory(prefix="mcfs-upper-cut-") as directory:
        counts, violations = run(
            directory, kind=options.file_system, rounds=options.rounds or (1 if options.scenario else 100), seconds=options.seconds, seed=options.seed,
            jobs=1 if options.scenario else options.jobs, threads=options.threads, plain=options.plain, shrink=options.shrink,
            end=options.end, cut_mounts=options.cut_mounts, early=options.early, scenario=options.scenario)
    for text in violations:
        print(text)
    print(f"{options.file_system}, seed {options.seed}: {counts['rounds']} rounds, {counts['operations']} operations, "
          f"{counts['checked']} entries compared, {counts['moments']} operations were lost; "
          + ", ".join(f"{counts[kind]} {kind}" for kind in VIOLATIONS))
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
