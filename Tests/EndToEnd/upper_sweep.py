"""Makes each disk call of the daemon on the upper fail, one after the other, while a script changes the mount, and looks at
what is left.

    .venv/bin/python Tests/EndToEnd/upper_sweep.py --every 7

Calls fail by Tests/Sweep/faults.c: once, or with all after it; with EIO or, where space is needed, ENOSPC; or the daemon is
killed in the place of the call. A try is: a daemon whose n-th call fails; mount; the script; the end, in order for odd numbers
and by a kill for even ones; the mount on a healthy disk. Then must hold:

- an operation that failed did nothing or all that it should (a write: a part of its bytes), and nothing else changed;
- it stays so, where the disk did not die for ever: what showed after the failure, and what was done before and after it, shows
  at the next mount, and at the one after that;
- the daemon did not end by itself, and no operation hung;
- the mount that could not be made leaves all as it was, and is made on the healthy disk.

Calls by the kernel for files that it writes itself are not among them: the mounts are without passthrough.
"""

import argparse
import collections
import concurrent.futures
import contextlib
import errno
import itertools
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
from crash_model import GONE, is_done_in_part
from posix_model import RENAME_EXCHANGE, RENAME_NOREPLACE, Data, Tree, copy_over, outcome
from servers.process import find
from tree_history import entries, groups
from upper_power_cut import operation

# A file is only made shorter by the daemon itself.
NEEDING_SPACE = "write,pwrite,copy,create,mkdir,make,rename,attribute,allocate,sync"
CALLS = NEEDING_SPACE + ",truncate,open,unlink,mode,owner,times,list,pread,stat"
FAULTS = {
    "EIO once": (errno.EIO, False, CALLS), "EIO for ever": (errno.EIO, True, CALLS),
    "ENOSPC once": (errno.ENOSPC, False, NEEDING_SPACE), "ENOSPC for ever": (errno.ENOSPC, True, NEEDING_SPACE),
    # Not the call fails, the daemon dies before it.
    "death": (-signal.SIGKILL, False, CALLS),
}
KINDS = ("state", "later", "errors", "hung", "crashed", "mount", "log")
HUNG_SECONDS = 20
# After the first operation that fails for ever so many more are done: each of them may be done or not.
OPERATIONS_AFTER = 2
CREATE, TRUNCATE, APPEND = os.O_CREAT, os.O_TRUNC, os.O_APPEND

TREE = {
    "conf": 3000, "other": 500, "third": 6000, "big": 300_000, "dir/one": 100, "dir/two": 9000, "dir/sub/deep": 50,
    "dir/sub/deeper": 60, "gone/x": 10, "gone/y": 20}
# What an earlier mount left: all kinds of records, and what is on the disk.
BEFORE = [
    operation("write", "conf", 100, Data(20, 1000), 0), operation("unlink", "gone/x"),
    operation("rename", "third", "dir/third", 0), operation("mkdir", "mine", 0o755),
    operation("write", "mine/own", 0, Data(21, 5000), CREATE), operation("chmod", "other", 0o640),
    operation("rename", "gone", "dir/moved", 0), operation("symlink", "conf", "mine/link")]
SCRIPT = [
    operation("write", "new", 0, Data(1, 5000), CREATE), operation("sync", "new", False), operation("chmod", "new", 0o600),
    operation("setxattr", "new", "user.a", Data(2, 30), 0), operation("utime", "new", 0, 1_500_000_000_123_456_789, True),
    operation("chown", "new", 1000, 1000, True),
    operation("write", "conf", 0, Data(3, 2000), APPEND), operation("truncate", "conf", 1000),
    operation("write", "big", 4096, Data(4, 100), 0),
    operation("chmod", "other", 0o600), operation("setxattr", "other", "user.a", Data(5, 30), 0),
    operation("chown", "other", 1000, 1, True), operation("utime", "other", 0, 0, True),
    operation("removexattr", "other", "user.a"),
    operation("sync", "other", False), operation("sync", "", False),
    operation("chmod", "dir/sub", 0o700), operation("truncate", "dir/two", 3), operation("unlink", "dir/one"),
    operation("create", "dir/one", os.O_EXCL, 0o644),
    operation("rename", "dir/third", "back", 0), operation("rename", "other", "dir/other", 0),
    operation("rename", "dir", "new dir", 0),
    operation("mkdir", "dir", 0o755), operation("write", "dir/fresh", 0, Data(6, 3000), CREATE),
    operation("rename", "new dir/sub", "dir/sub", 0), operation("rename", "conf", "mine/conf", 0),
    operation("rename", "new dir/two", "mine/own", 0), operation("rename", "big", "mine", RENAME_EXCHANGE),
    operation("rename", "new", "mine", RENAME_NOREPLACE), operation("rmdir", "dir"),
    operation("link", "back", "hard"), operation("write", "hard", 0, Data(7, 100), 0), operation("sync", "hard", True),
    operation("symlink", "nowhere", "sym"), operation("rename", "sym", "dir/sym", 0), operation("unlink", "dir/sym"),
    operation("unlink", "big/conf"), operation("unlink", "new dir/moved/y"), operation("rmdir", "new dir/moved"),
    operation("unlink", "new dir/one"), operation("unlink", "new dir/other"), operation("rmdir", "new dir"),
    operation("mkdir", "new dir", 0o755), operation("create", "new dir/z", 0, 0o644), operation("sync", "new dir", False),
    operation("rename", "new dir", "dir/sub", 0), operation("unlink", "dir/sub/deep"), operation("unlink", "dir/sub/deeper"),
    operation("rename", "new dir", "dir/sub", 0), operation("unlink", "new")]
# A rename back and forth, after which nothing is remembered.
BACK = [
    operation("rename", "dir", "e", 0), operation("write", "e/own", 0, Data(30, 3000), CREATE),
    operation("rename", "e", "dir", 0), operation("unlink", "dir/own"), operation("unlink", "conf"), operation("write", "conf", 0, Data(31, 3000), CREATE)]
# Makes the log so long that it is written anew, in the middle.
LONG = [
    *(operation("setxattr", "conf", "user.a", Data(number, 700), 0) for number in range(600)), operation("unlink", "other"),
    operation("rename", "third", "dir/third", 0), operation("sync", "", False), operation("chmod", "big", 0o600)]
# The disk refuses a rename of which the log already knows.
REFUSED = [
    operation("write", "dir/own", 0, Data(32, 3000), CREATE), operation("unlink", "dir/one"), operation("mkdir", "full", 0o755),
    operation("create", "full/x", 0, 0o644), operation("rename", "dir", "full", 0), operation("unlink", "conf")]
# What is done before the failing calls, what is done with them, and the kinds of calls that fail, where not all do.
SCRIPTS = {
    "everything": (BEFORE, SCRIPT, None), "back": ([], BACK, None), "refused": ([], REFUSED, None),
    "long": ([], LONG, "sync,rename,create,open,truncate")}
# What is done after the look at what is left, to see whether it is remembered.
LATER = [operation("rename", "dir", "last", 0), operation("create", "dir", 0, 0o644)]


def view(tree):
    found = entries(tree)
    contents = {path: tree.content(path) for path, entry in found.items() if entry.kind == "-"}
    return found, contents


def differences(seen, expected, loose=()):
    """Lines; what is seen comes first. `loose`: files whose bytes and times do not count."""
    (seen, seen_bytes), (expected, expected_bytes) = seen, expected
    lines = []
    for path in sorted(seen.keys() | expected.keys()):
        if path not in expected:
            lines.append(f"{path!r} is there and must not be ({seen[path]})")
        elif path not in seen:
            lines.append(f"{path!r} is missing ({expected[path]})")
        elif seen[path].name_fields != expected[path].name_fields or path and not seen[path].has_attributes_of(
                expected[path]._replace(time=None) if path in loose else expected[path]):
            lines.append(f"{path!r} is {seen[path]}, not {expected[path]}")
        elif path not in loose and seen_bytes.get(path) != expected_bytes.get(path):
            lines.append(f"{path!r} has other bytes: {len(seen_bytes[path])}, not {len(expected_bytes[path])}")
    if not lines:
        one, other = groups(seen), groups(expected)
        lines += [f"{sorted(each)} are one file" for each in one - other]
        lines += [f"{sorted(each)} are not one file" for each in other - one]
    return lines


class Candidate:
    """What the mount may be: a plain directory, and the files of which a part may be written."""

    def __init__(self, root, loose=()):
        self.tree, self.loose = Tree(root), set(loose)

    def copy(self, root):
        subprocess.run(["cp", "-a", self.tree.root, root], check=True)
        return Candidate(root, self.loose)

    def set_content(self, path, content):
        with open(self.tree.at(path), "r+b") as file:
            file.truncate(0)
            file.write(content)

    def apply(self, each, seen):
        """What the operation gives here. A write that was short there is as short here."""
        if each.name == "write" and seen.error is None and seen.value < each.arguments[2].count:
            path, offset, data, flags = each.arguments
            return outcome(self._write, path, offset, data.bytes[:seen.value], flags)
        return self.tree.apply(each)

    def _write(self, path, offset, data, flags):
        descriptor = os.open(self.tree.at(path), os.O_WRONLY | flags, 0o666)
        try:
            return os.pwrite(descriptor, data, offset)
        finally:
            os.close(descriptor)

    def differences(self, seen):
        return differences(seen, view(self.tree), self.loose)


class Try:
    """One run with one fault. `found` says what was wrong."""

    def __init__(self, sweep, directory, number, fault, script):
        self.sweep, self.directory, self.number = sweep, directory, number
        self.staged_upper, self.staged, self.script = *sweep.staged[script], SCRIPTS[script][1]
        self.error, self.is_forever, self.counted = FAULTS[fault]
        self.counted = sweep.counted or SCRIPTS[script][2] or self.counted
        self.found = []
        self.log = os.path.join(directory, "calls")
        self.upper = os.path.join(directory, "upper")
        self.copies = 0

    def violate(self, kind, text):
        self.found.append(f"{kind}: {text}")

    def run(self):
        subprocess.run(["cp", "-a", self.staged_upper, self.upper], check=True)
        self.candidates = [self.staged.copy(self._new_copy())]
        with mcfs_helper.Mcfs(os.path.join(self.directory, "mcfs"), {"MCFS_GPU": "none"}) as self.mcfs:
            self.mountpoint = self.mcfs.new_mountpoint("mount")
            self.tree = Tree(self.mountpoint)
            watchdog = threading.Timer(HUNG_SECONDS, self._free)
            watchdog.start()
            try:
                self._work()
                if not self.found:
                    self._look("state", "after the mount on a healthy disk")
                    self._go_on()
            except subprocess.TimeoutExpired as error:
                self.violate("hung", str(error))
            except AssertionError as error:
                self.violate("mount", str(error))
            except OSError as error:
                self.violate("errors", f"looking at the tree: {error}")
            finally:
                watchdog.cancel()
        return self.found

    def _new_copy(self):
        self.copies += 1
        return os.path.join(self.directory, f"candidate{self.copies}")

    def _free(self):
        self.violate("hung", f"after {HUNG_SECONDS} s")
        for process in self.mcfs.processes:
            process.kill()

    # The run with the fault

    def _work(self):
        daemon = self.mcfs.start("daemon", environment={
            "MCFS_PASSTHROUGH": "false", "LD_PRELOAD": self.sweep.library, "MCFS_FAULT_DIRECTORY": self.upper,
            "MCFS_FAULT_CALLS": self.counted, "MCFS_FAULT_AT": str(self.number), "MCFS_FAULT_FOREVER": str(int(self.is_forever)),
            "MCFS_FAULT_ERRNO": str(self.error), "MCFS_FAULT_LOG": self.log})
        deadline = time.monotonic() + HUNG_SECONDS
        while not os.path.exists(os.path.join(self.mcfs.cache, "control.sock")) or self.mcfs.run("status", code=None).code:
            assert time.monotonic() < deadline, "the daemon does not answer"
            time.sleep(0.01)
        result = self._mount(code=None)
        if result.code == mcfs_helper.DONE:
            self._do_script(self.script, may_fail=True)
        elif not self.has_failed:
            self.violate("mount", str(result))
        if self.error < 0 and self.has_failed:
            daemon.wait(HUNG_SECONDS)
        elif daemon.poll() is not None:
            self.violate("crashed", f"the daemon ended with {daemon.returncode}")
        elif self.number % 2:
            if mcfs_helper.is_mounted(self.mountpoint):
                # Now and then the kernel has not let go of what was looked at last.
                self.mcfs.umount(self.mountpoint, timeout=HUNG_SECONDS)
            daemon.send_signal(signal.SIGTERM)
            daemon.wait(HUNG_SECONDS)
        else:
            daemon.kill()
            daemon.wait()
        self._unmount()
        self._mount()

    @property
    def has_failed(self):
        with contextlib.suppress(FileNotFoundError), open(self.log) as file:
            return any(line.endswith(" !\n") for line in file)
        return False

    def _mount(self, **options):
        return self.mcfs.run(
            "mount", "--upper", self.upper, self.sweep.lower, self.mountpoint, timeout=HUNG_SECONDS, **options)

    def _unmount(self):
        while mcfs_helper.is_mounted(self.mountpoint):
            subprocess.run(["umount", "-l", self.mountpoint], capture_output=True)

    def _do_script(self, script, may_fail):
        left = None
        for number, each in enumerate(script, 1):
            if left == 0:
                break
            seen = self.tree.apply(each)
            if seen.error in GONE:
                if may_fail and self.error < 0 and self.has_failed:
                    self._fork(each)
                    break
                self.violate("crashed", f"{each} gives {seen}")
                break
            # On a disk that is dead the kernel and the daemon do not know what was done either.
            if may_fail and seen.error is not None and self.has_failed and (seen.error == self.error or left is not None):
                self._fork(each)
                if self.is_forever:
                    left = OPERATIONS_AFTER if left is None else left - 1
                elif not self._look("state", f"after {each} gave {seen}"):
                    break
                continue
            if left is not None:
                left -= 1
            # Those that do not agree were not it.
            agreeing, results = [], set()
            for candidate in self.candidates:
                expected = candidate.apply(each, seen)
                results.add(str(expected))
                if expected.error == seen.error:
                    agreeing.append(candidate)
            if not agreeing:
                self.violate("errors", f"{each} gives {seen}, not {' or '.join(sorted(results))}")
                break
            self.candidates = agreeing

    def _fork(self, each):
        """An operation failed: it was done, or not."""
        made = []
        for candidate in self.candidates:
            copy = candidate.copy(self._new_copy())
            if copy.tree.apply(each).error is None and each.name != "sync":
                made.append(copy)
                if each.name == "write":
                    path = each.arguments[0]
                    before = candidate.tree.content(path) if os.path.exists(candidate.tree.at(path)) else None
                    seen = self._content(path)
                    if self.is_forever or self.error < 0:
                        # Nobody can look at it now.
                        copy.loose.add(path)
                    if seen is None and before is None:
                        # It may have been made and not be written to, and the kernel not know it yet.
                        seen = b""
                    after = copy.tree.content(path)
                    if seen is not None and any(is_done_in_part(each.name, seen, base, after) for base in (before or b"", b"")):
                        copy.set_content(path, seen)
        self.candidates += made

    def _content(self, path):
        with contextlib.suppress(OSError):
            return self.tree.content(path)

    def _look(self, kind, when):
        """Leaves the candidates that are like what is seen. - Returns: whether there are any."""
        seen = view(self.tree)
        all_lines = [candidate.differences(seen) for candidate in self.candidates]
        fitting = [candidate for candidate, lines in zip(self.candidates, all_lines) if not lines]
        if not fitting:
            texts = ["; ".join(lines[:6]) for lines in sorted(all_lines, key=len)[:2]]
            self.violate(kind, f"{when}: " + " --- or, if it was done: ".join(texts))
            return False
        self.candidates = fitting
        for candidate in fitting:
            for path in candidate.loose & seen[1].keys():
                candidate.set_content(path, seen[1][path])
            candidate.loose.clear()
        return True

    # On the healthy disk

    def _go_on(self):
        if self.found:
            return
        listed = self.mcfs.run("upper", "list", self.mountpoint, code=None, timeout=HUNG_SECONDS)
        if listed.code != mcfs_helper.DONE:
            self.violate("log", str(listed))
        work = os.path.join(self.upper, ".mcfs-upper/work")
        if os.path.isdir(work) and os.listdir(work):
            self.violate("log", f"{os.listdir(work)} is left in the place for work")
        self._do_script(LATER, may_fail=False)
        self.mcfs.kill_daemon()
        self._unmount()
        self._mount()
        if not self.found:
            self._look("later", "after one more mount")


class Sweep:
    def __init__(self, options):
        self.options = options
        # Where calls that are not to fail do not, and nothing waits for a disk.
        self.root = tempfile.mkdtemp(prefix="mcfs-upper-sweep-", dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None)
        self.library = os.path.join(self.root, "faults.so")
        self.lower = os.path.join(self.root, "tree")
        # By script: the upper, and what its mount shows.
        self.staged = {}
        self.violations = collections.Counter()

    def prepare(self):
        subprocess.run(
            [shutil.which("cc") or find("clang"), "-O2", "-shared", "-fPIC", "-o", self.library,
             os.path.join(mcfs_helper.ROOT, "Tests/Sweep/faults.c"), "-ldl"], check=True)
        for number, (path, size) in enumerate(TREE.items()):
            place = os.path.join(self.lower, path)
            os.makedirs(os.path.dirname(place), exist_ok=True)
            with open(place, "wb") as file:
                file.write(Data(100 + number, size).bytes)
        for script, (before, _, _) in SCRIPTS.items():
            upper, shown = (os.path.join(self.root, f"{name} of {script}") for name in ("upper", "tree"))
            os.mkdir(upper)
            copy_over(self.lower, shown)
            self.staged[script] = upper, Candidate(shown)
            with mcfs_helper.Mcfs(os.path.join(self.root, "mcfs"), {"MCFS_GPU": "none"}) as mcfs:
                mountpoint = mcfs.mount(self.lower, options=("--upper", upper))
                for each in before:
                    seen, expected = Tree(mountpoint).apply(each), Tree(shown).apply(each)
                    assert seen == expected, f"{each} gives {seen}, not {expected}"
                mcfs.kill_daemon()

    def calls(self, fault, script):
        """The calls that count, in order, of a script without faults."""
        directory = os.path.join(self.root, "count")
        os.mkdir(directory)
        attempt = Try(self, directory, 0, fault, script)
        try:
            found = attempt.run()
            assert not found, f"without faults: {found}"
            with open(attempt.log) as file:
                return [line.rstrip("\n") for line in file]
        finally:
            shutil.rmtree(directory, ignore_errors=True)

    def try_one(self, fault, script, number, call):
        directory = os.path.join(self.root, f"{fault.replace(' ', '-')}-{number}")
        os.mkdir(directory)
        attempt = Try(self, directory, number, fault, script)
        try:
            found = attempt.run()
            with contextlib.suppress(FileNotFoundError), open(attempt.log) as file:
                # Threads may have changed the order: what really failed counts.
                call = next((line.rstrip(" !\n") for line in file if line.endswith(" !\n")), call)
            return call, found
        finally:
            shutil.rmtree(directory, ignore_errors=True)

    def run(self, counted=None):
        """Makes those calls fail that are kinds of the fault, or `counted`. - Returns: 0 where nothing was wrong."""
        self.counted = counted
        self.prepare()
        swept = 0
        with concurrent.futures.ThreadPoolExecutor(self.options.jobs) as pool:
            for fault, script in itertools.product(self.options.fault or FAULTS, self.options.script or SCRIPTS):
                calls = self.calls(fault, script)
                start = random.Random(self.options.seed).randrange(self.options.every)
                numbers = range(1 + start, len(calls) + 1, self.options.every)
                if self.options.at:
                    numbers = [number for number in self.options.at if number <= len(calls)]
                tries = {number: pool.submit(self.try_one, fault, script, number, calls[number - 1]) for number in numbers}
                for number, each in tries.items():
                    call, found = each.result()
                    swept += 1
                    for line in found:
                        self.violations[line.split(":")[0]] += 1
                        print(f"{fault}, {script}, call {number} of {len(calls)} ({call}): {line}", flush=True)
        total = sum(self.violations.values())
        details = ", ".join(f"{count} {kind}" for kind, count in sorted(self.violations.items()))
        print(f"{swept} calls swept, {total} violations" + (f": {details}" if total else ""))
        return 1 if total else 0

    def close(self):
        shutil.rmtree(self.root, ignore_errors=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--every", type=int, default=1, metavar="N", help="only every N-th call")
    parser.add_argument("--seed", type=int, default=None, help="with --every: which to begin with")
    parser.add_argument("--fault", action="append", choices=FAULTS, help="only this; can be given several times")
    parser.add_argument("--script", action="append", choices=SCRIPTS, help="only this; can be given several times")
    parser.add_argument("--at", action="append", type=int, metavar="NUMBER", help="only this call; can be given several times")
    parser.add_argument("--jobs", type=int, default=2, help="runs at once")
    sweep = Sweep(parser.parse_args())
    try:
        return sweep.run()
    finally:
        sweep.close()


if __name__ == "__main__":
    sys.exit(main())
