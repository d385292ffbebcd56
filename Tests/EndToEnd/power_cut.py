"""Cuts the power of the cache's disk while files are read through a mount, again and again, and looks at what is left.

    .venv/bin/python Tests/EndToEnd/power_cut.py --rounds 300 --file-system ext4 --seed 1

The cache lies on a file system of its own, in a file. A round is: mount, read, prefetch and evict for a while, end (the
power is cut, the daemon is killed, or both go in order), mount again in the same boot or in another, offline, and read
everything. Then must hold:

- every byte that reads is right, also while the disk is dead;
- what is not local fails with EIO, at once, and `user.mcfs.local` says how much is;
- what readers were given longer ago than the cache takes to write it down is local, and so is what was local after an
  earlier cut. After an orderly end and after a kill alone that is all that readers were given.

In some rounds the cache's fsyncs fail, once or from some time on (Tests/Sweep/faults.c), and what was not written down must
not be believed.

Several workers do rounds at once, since a round is mostly waiting. Each is the first process of a pid namespace, in a mount
namespace: when it ends, for whatever reason, its daemon, mounts and loop device end with it. Needs root.
"""

import argparse
import collections
import contextlib
import dataclasses
import errno
import fnmatch
import itertools
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
import traceback

import images
import mcfs as mcfs_helper
import trees
from cut_workers import end_daemon, run_workers
from loop_disk import CUTS, LoopDisk
from servers import nginx
from servers.process import RecordedProcess, find

CHUNK = 64 << 10
# After so many seconds the cache has written down what a reader was given: it does that every 5 s.
FLUSH_SECONDS = 7.5
# Most seconds that a read of what is not local may take offline.
SOON_SECONDS = 3
BOOT_ID = "/proc/sys/kernel/random/boot_id"

# How a round ends, unless by one of CUTS.
KILL, ORDERLY = "kill", "orderly"
# What is done in it: nothing; reading what is local; anything; anything, and time for the cache to write it down.
NOTHING, WARM, SHORT, SETTLED = "nothing", "warm", "short", "settled"


@dataclasses.dataclass
class Round:
    work: str
    end: str
    is_other_boot: bool = False
    cache_size: str = "64MiB"
    # The first fsync that fails, and whether all after it do; 0: none.
    failing_sync: int = 0
    is_failing_on: bool = False

    @property
    def is_bounded(self):
        return self.cache_size != "64MiB"

    def __str__(self):
        boot = "another boot" if self.is_other_boot else "the same boot"
        text = f"{self.work}, {self.end}, {boot}"
        if self.is_bounded:
            text += f", at most {self.cache_size}"
        if self.failing_sync:
            text += f", fsync {self.failing_sync} fails" + (" and all after it" if self.is_failing_on else "")
        return text

    @staticmethod
    def random(generator):
        (work,) = generator.choices((NOTHING, WARM, SHORT, SETTLED), (1, 1, 6, 4))
        (end,) = generator.choices((*CUTS, KILL, ORDERLY), (1, 4, 4, 1, 1))
        # A killed daemon leaves the machine running.
        is_other_boot = end != KILL and generator.random() < 0.5
        is_bounded = work == SHORT and generator.random() < 0.3
        failing_sync = generator.randint(1, 6) if work == SETTLED and end in CUTS and generator.random() < 0.3 else 0
        return Round(
            work, end, is_other_boot, "3MiB" if is_bounded else "64MiB", failing_sync, generator.random() < 0.5)


SCENARIOS = {
    # What was written down once stays believed.
    "boots in which nothing is written": [
        Round(SETTLED, ORDERLY, True), Round(WARM, ORDERLY, True), Round(NOTHING, ORDERLY, True), Round(WARM, "log", True),
        Round(NOTHING, "cut", True)],
    # The boot id says nothing about a disk that went away and came back.
    "a disk that is lost and mounted again": [
        Round(SHORT, "log"), Round(SHORT, "cut"), Round(SHORT, "log"), Round(WARM, "log"), Round(SHORT, "log")],
    "fsyncs that fail": [
        Round(SETTLED, "log", True, failing_sync=1, is_failing_on=True),
        Round(SETTLED, "log", False, failing_sync=2, is_failing_on=True)],
}


class Contents:
    """What the origins hold, by the path in the mount: a Hub whose files have digests, a web server whose files have none,
    an image with a plain layer."""

    FOLDERS = ("hub", "web", "image")
    LARGE = (6 * CHUNK * 10 + 1234, 3 << 20, 2_500_000)

    def __init__(self, root):
        self.root = root
        self.files = {}
        for parent, _, names in os.walk(root):
            for name in names:
                path = os.path.join(parent, name)
                with open(path, "rb") as file:
                    self.files[os.path.relpath(path, root)] = file.read()

    @staticmethod
    def make(root):
        generator = random.Random("contents")
        for folder in Contents.FOLDERS:
            for number in range(16):
                size = generator.choice((1, 100, 4096, 20_000, CHUNK - 1, CHUNK))
                # Each name in its own right: the same bytes would be the same content.
                data = b"%s/%d;" % (folder.encode(), number) + generator.randbytes(size)
                kind = "safetensors" if number % 2 else "json"
                trees.write(f"{root}/{folder}/small{number}.{kind}", data[:max(size, 12)])
            for number, size in enumerate(Contents.LARGE):
                trees.write(f"{root}/{folder}/large{number}.safetensors", generator.randbytes(size))

    def chunks(self, path):
        return range((len(self.files[path]) + CHUNK - 1) // CHUNK)

    def chunk(self, path, number):
        return self.files[path][number * CHUNK:(number + 1) * CHUNK]


@contextlib.contextmanager
def origins(directory):
    """Starts the servers. Gives the folder of the contents, the references and the environment that leads there."""
    root = os.path.join(directory, "contents")
    Contents.make(root)
    # Each origin holds the folder that is named after it, so that all can be mounted as one tree.
    shutil.copytree(f"{root}/hub", os.path.join(directory, "repository/hub"))
    commit = {"folder": os.path.join(directory, "repository"), "large": ["*.safetensors"], "branches": ["main"]}
    description = os.path.join(directory, "hub.json")
    with open(description, "w") as file:
        json.dump({"tokens": {}, "repositories": [{"type": "model", "id": "org/model", "commits": [commit]}]}, file)
    layout = images.Layout(os.path.join(directory, "image"))
    members = []
    for name in sorted(os.listdir(f"{root}/image")):
        with open(f"{root}/image/{name}", "rb") as file:
            members.append((f"image/{name}", file.read()))
    image = layout.image([layout.blob(images.tar(*members), images.LAYER)])
    with RecordedProcess("hub_stub.py", [description], os.path.join(directory, "hub.log")) as hub, \
            nginx.nginx(os.path.join(directory, "nginx")) as web:
        shutil.copytree(f"{root}/web", f"{web.root}/served/web")
        yield root, ["hf://org/model", f"{web.url}/files/served/", image], {"HF_ENDPOINT": hub.url}


def spans(numbers):
    """`0-3 7 9-12`."""
    text, first, last = [], None, None
    for number in [*sorted(numbers), None]:
        if first is not None and number != last + 1:
            text.append(str(first) if first == last else f"{first}-{last}")
            first = None
        first, last = number if first is None else first, number
    return " ".join(text) or "none"


class Violation(Exception):
    """What must hold did not."""


class Worker:
    """Does rounds on one disk. `counts` and `violations` say what came out."""

    # A new disk after so many rounds.
    ROUNDS_PER_DISK = 12

    def __init__(self, plan):
        self.directory = plan["directory"]
        self.references = plan["references"]
        self.kind = plan["kind"]
        self.faults = plan["faults"]
        self.rounds = [Round(**each) for each in plan["scenario"]]
        self.round_count = plan["rounds"]
        self.until = plan["until"]
        self.seed = plan["seed"]
        self.random = random.Random(self.seed)
        self.contents = Contents(plan["contents"])
        self.environment = plan["environment"] | {
            "MCFS_CHUNK_SIZE": str(CHUNK), "MCFS_READ_DEADLINE": "20", "MCFS_GPU": "none"}
        self.counts = collections.Counter()
        self.violations = []
        self.boot = 0
        self.number = 0

    def run(self):
        self.disk = LoopDisk(self.directory, self.kind)
        boot_file = os.path.join(self.directory, "boot_id")
        with open(boot_file, "w") as file:
            file.write(f"{0:08x}-0000-4000-8000-000000000000\n")
        subprocess.run(["mount", "--bind", boot_file, BOOT_ID], check=True)
        rounds = iter(self.rounds or (Round.random(self.random) for _ in range(self.round_count)))
        for first in rounds:
            self._new_disk()
            with mcfs_helper.Mcfs(os.path.join(self.directory, "mcfs"), self.environment) as self.mcfs:
                self.mcfs.cache = os.path.join(self.disk.path, "cache")
                try:
                    self._first_mount()
                    for each in itertools.chain((first,), itertools.islice(rounds, self.ROUNDS_PER_DISK - 1)):
                        if self.until and time.time() > self.until:
                            return
                        self._do(each)
                except Violation:
                    pass
                except AssertionError as error:
                    self.violate("errors", str(error))
                except subprocess.TimeoutExpired as error:
                    self.violate("hung", str(error))
                finally:
                    self._end_daemon(signal.SIGKILL)
            self.disk.unmount()

    def _new_disk(self):
        self.disk.make()
        self.disk.mount()
        self.durable = {path: set() for path in self.contents.files}
        self.unsure = {path: set() for path in self.contents.files}

    def violate(self, kind, text):
        self.counts[kind] += 1
        self.is_broken = True
        self.violations.append(f"{self.kind}, seed {self.seed}, round {self.number} ({self.round}): {text}")

    # The daemon and the mount

    def _first_mount(self):
        """The references are known to the cache before its power is cut for the first time."""
        self.round = None
        self.mountpoint = self.mcfs.new_mountpoint("mount")
        self._mount()
        self._end_daemon(signal.SIGTERM)
        os.sync()

    def _mount(self, *options, cache_size="64MiB"):
        self.mcfs.mount(
            *self.references, at=self.mountpoint, timeout=60,
            options=("--read-only", "--cache-size", cache_size, *options))
        self.cache_size = cache_size

    def _end_daemon(self, number):
        end_daemon(self.mcfs, self.mountpoint, number)

    def _start_daemon_on_failing_disk(self):
        """The daemon that a mount starts does not get our environment. The catalog's own files are SQLite's business; where all
        fsyncs of contents fail, that of `state` does not: a cache that takes no notice signs for what is not there."""
        excepted = "catalog,trees,layers" + (",state" if self.round.is_failing_on else "")
        self.mcfs.start("daemon", "--cache-size", self.round.cache_size, environment={
            "LD_PRELOAD": self.faults, "MCFS_FAULT_DIRECTORY": self.mcfs.cache, "MCFS_FAULT_EXCEPT": excepted,
            "MCFS_FAULT_CALLS": "sync", "MCFS_FAULT_AT": str(self.round.failing_sync),
            "MCFS_FAULT_FOREVER": str(int(self.round.is_failing_on)), "MCFS_FAULT_ERRNO": str(errno.EIO)})
        deadline = time.monotonic() + 20
        while self.mcfs.run("status", code=None).code != mcfs_helper.DONE:
            assert time.monotonic() < deadline, "the daemon does not answer"
            time.sleep(0.05)

    def _set_boot(self, is_other):
        if is_other:
            self.boot += 1
            with open(os.path.join(self.directory, "boot_id"), "w") as file:
                file.write(f"{self.boot:08x}-0000-4000-8000-000000000000\n")

    # A round

    def _do(self, round):
        self.round = round
        self.number += 1
        self.counts["rounds"] += 1
        self.is_broken = False
        self.wrong = collections.defaultdict(set)
        self.acknowledged = []
        self.evicted = {}
        self.is_ending = threading.Event()
        if round.work != NOTHING:
            if mcfs_helper.is_mounted(self.mountpoint):
                self.mcfs.umount(self.mountpoint, timeout=60)
            if self.mcfs.daemon_pids and (
                    round.failing_sync or round.cache_size != self.cache_size or self.random.random() < 0.25):
                self._end_daemon(signal.SIGTERM)
            if round.failing_sync:
                self._start_daemon_on_failing_disk()
            self._mount(cache_size=round.cache_size)
        elif not mcfs_helper.is_mounted(self.mountpoint):
            self._mount(cache_size=round.cache_size)
        try:
            self._work_and_end()
            self._check()
        finally:
            for (path, how), numbers in sorted(self.wrong.items()):
                self.violate("wrong", f"{path} of {len(self.contents.chunks(path))} chunks gave {how} for {spans(numbers)}")
        if self.is_broken:
            # What comes after it would only be its consequence.
            raise Violation

    def _work_and_end(self):
        round, generator = self.round, self.random
        actors = []
        if round.work != NOTHING:
            readers = generator.choice((1, 2, 4))
            actors = [threading.Thread(target=self._guarded, args=(self._read_on, generator.random())) for _ in range(readers)]
        if round.work in (SHORT, SETTLED):
            actors.append(threading.Thread(target=self._guarded, args=(self._command_on, generator.random())))
        for actor in actors:
            actor.start()
        time.sleep({NOTHING: 0, WARM: 0.3}.get(round.work, generator.uniform(0.05, 1.5)))
        if round.work == SETTLED:
            time.sleep(FLUSH_SECONDS + 0.5)
        # What was under way at this moment may be either.
        self.cut_at = time.monotonic()
        self.is_ending.set()
        if round.end in CUTS:
            self.disk.shut_down(CUTS[round.end])
            # The daemon goes on for a moment on a dead disk, and its readers with it.
            time.sleep(generator.choice((0, 0.02, 0.2)))
        elif round.end == ORDERLY:
            for actor in actors:
                actor.join(60)
            self._end_daemon(signal.SIGTERM)
        self._end_daemon(signal.SIGKILL)
        for actor in actors:
            actor.join(60)
            if actor.is_alive():
                self.violate("hung", "a reader hangs")
                raise Violation
        if round.end != KILL:
            self.disk.unmount()
            self._set_boot(round.is_other_boot)
            self.disk.mount()

    def _guarded(self, body, seed):
        try:
            body(random.Random(seed))
        except Exception:
            self.violate("errors", f"an actor ended:\n{traceback.format_exc()}")

    # Actors

    def _read_on(self, generator):
        """Opens, reads, closes; keeps some files open for long."""
        kept = []
        paths = sorted(self.contents.files)
        if self.round.work == WARM:
            paths = [path for path in paths if self.durable[path]]
        last = None
        try:
            while paths and not self.is_ending.is_set():
                path = generator.choice(paths)
                if self.round.work == SETTLED and last and time.monotonic() - last > 1.5:
                    # The rest of the time is spent on little: most contents are closed and rest.
                    time.sleep(0.3)
                last = last or time.monotonic()
                try:
                    file = os.open(f"{self.mountpoint}/{path}", os.O_RDONLY)
                except OSError as error:
                    self._failed(path, None, error)
                    continue
                try:
                    # Exactly the chunks that are meant.
                    os.posix_fadvise(file, 0, 0, os.POSIX_FADV_RANDOM)
                    self._read_some(file, path, generator)
                    # The processors are for the other workers, too.
                    time.sleep(generator.choice((0, 0.002, 0.02)))
                finally:
                    kept.append(file)
                    if len(kept) > 3 or generator.random() < 0.7:
                        os.close(kept.pop(generator.randrange(len(kept))))
        finally:
            for file in kept:
                os.close(file)

    def _read_some(self, file, path, generator):
        chunks = self.contents.chunks(path)
        if self.round.work == WARM:
            wanted = sorted(self.durable[path])
        elif generator.random() < 0.3:
            wanted = list(chunks)
        else:
            start = generator.randrange(len(chunks))
            wanted = list(chunks[start:start + generator.choice((1, 1, 2, 8))])
        for number in wanted:
            if self.is_ending.is_set() and generator.random() < 0.5:
                return
            started = time.monotonic()
            try:
                data = os.pread(file, CHUNK, number * CHUNK)
            except OSError as error:
                self._failed(path, number, error)
                return
            self._compare(path, number, data)
            self.acknowledged.append((started, time.monotonic(), path, (number,)))

    def _failed(self, path, number, error):
        if not self.is_ending.is_set():
            self.violate("errors", f"chunk {number} of {path} could not be read: {error}")
            time.sleep(0.1)

    def _compare(self, path, number, data):
        self.counts["compared"] += 1
        expected = self.contents.chunk(path, number)
        if data != expected:
            how = "too few bytes" if len(data) < len(expected) else "zeros" if not data.strip(b"\0") else "wrong bytes"
            self.wrong[path, how].add(number)

    def _command_on(self, generator):
        while not self.is_ending.wait(generator.uniform(0.05, 0.6)):
            path = generator.choice(sorted(self.contents.files))
            started = time.monotonic()
            if generator.random() < 0.5:
                pattern = generator.choice((path, os.path.dirname(path) + "/small*"))
                command = ["prefetch", self.mountpoint, "--include", pattern]
                names = [name for name in self.contents.files if fnmatch.fnmatchcase(name, pattern)]
            elif self.round.work == SHORT or generator.random() < 0.3:
                command, names = ["evict", f"{self.mountpoint}/{path}"], [path]
            else:
                continue
            process = subprocess.Popen(
                self.mcfs.command(*command), env=self.mcfs.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT)
            if command[0] == "evict":
                # Until it is known to have ended.
                self.evicted[path] = float("inf")
            while process.poll() is None and not self.is_ending.is_set():
                time.sleep(0.01)
            if process.poll() is None and self.round.end in (KILL, *CUTS):
                process.kill()
            output = process.communicate()[0].decode(errors="replace")
            is_ending = self.is_ending.is_set()
            if command[0] == "evict":
                if process.returncode == 0:
                    self.evicted[path] = time.monotonic()
            elif process.returncode == 0:
                for name in names:
                    self.acknowledged.append((started, time.monotonic(), name, tuple(self.contents.chunks(name))))
            # A bound that is too small for what is wanted is an error of this model's making.
            if process.returncode != 0 and not is_ending and not self.round.is_bounded:
                self.violate("errors", f"mcfs {' '.join(command)} ended with {process.returncode}: {output}")

    # Afterwards

    def _expected(self):
        """What must be local now, by path."""
        # A content whose sync fails is thrown away, with what of it was synced before.
        if self.round.is_bounded or self.round.failing_sync:
            return {path: set() for path in self.contents.files}
        given = self.cut_at - FLUSH_SECONDS if self.round.end in CUTS else float("inf")
        expected = {path: set() if path in self.evicted else set(chunks) for path, chunks in self.durable.items()}
        for started, ended, path, chunks in self.acknowledged:
            # What was evicted may be read from the kernel's pages afterwards, which makes nothing local.
            if ended <= given and path not in self.evicted:
                weak = self.unsure[path] if self.round.end in CUTS else set()
                expected[path] |= set(chunks) - weak
        return expected

    def _check(self):
        expected = self._expected()
        self._mount("--offline", cache_size=self.round.cache_size)
        if self.round.is_bounded:
            # A start with a smaller bound than the one before makes room; what goes must not be counted first.
            deadline = time.monotonic() + 10
            while time.monotonic() < deadline:
                cache = self.mcfs.status()["cache"]
                if cache["bytesUsed"] is not None and cache["bytesUsed"] <= cache["bytesMax"]:
                    break
                time.sleep(0.02)
        found = {}
        for path in sorted(self.contents.files):
            found[path] = self._read_all(path)
            if missing := expected[path] - found[path]:
                self.violate(
                    "forgotten",
                    f"{path} of {len(self.contents.chunks(path))} chunks lost {spans(missing)}; local are "
                    f"{spans(found[path])}, after the round before {spans(self.durable[path])} were")
        self.counts["local"] += sum(map(len, found.values()))
        if self.round.is_bounded:
            # What is there beyond the bound goes at any time.
            self.durable = {path: set() for path in found}
            self.unsure = {path: set() for path in found}
        elif self.round.end == KILL:
            # Right for this mount of the disk. Whether the disk itself has it is another matter.
            self.unsure = {path: self.unsure[path] | found[path] - self.durable[path] for path in found}
            self.durable = {path: self.durable[path] & found[path] for path in found}
        else:
            self.durable, self.unsure = found, {path: set() for path in found}

    def _read_all(self, path):
        """The chunks of a file that read, offline."""
        name = f"{self.mountpoint}/{path}"
        said = int(os.getxattr(name, "user.mcfs.local"))
        found = set()
        file = os.open(name, os.O_RDONLY)
        try:
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_RANDOM)
            for number in self.contents.chunks(path):
                started = time.monotonic()
                try:
                    data = os.pread(file, CHUNK, number * CHUNK)
                except OSError as error:
                    if error.errno != errno.EIO:
                        self.violate("errors", f"chunk {number} of {path}, which is not local, gives {error}")
                    if time.monotonic() - started > SOON_SECONDS:
                        self.violate("hung", f"EIO for chunk {number} of {path} took {time.monotonic() - started:.1f} s")
                    continue
                self._compare(path, number, data)
                found.add(number)
        finally:
            os.close(file)
        if said != (bytes_local := sum(len(self.contents.chunk(path, number)) for number in found)):
            self.violate("misreported", f"user.mcfs.local of {path} was {said}, {bytes_local} could be read")
        return found


# The driver

VIOLATIONS = ("wrong", "forgotten", "misreported", "hung", "errors")


def run(directory, *, kind, rounds=0, seconds=None, seed=1, jobs=6, scenario=()):
    """Does the rounds with `jobs` workers, for at most `seconds`. - Returns: counts and a list of what did not hold."""
    faults = os.path.join(directory, "faults.so")
    subprocess.run(
        [shutil.which("cc") or find("clang"), "-O2", "-shared", "-fPIC", "-o", faults,
         os.path.join(mcfs_helper.ROOT, "Tests/Sweep/faults.c"), "-ldl"], check=True)
    with origins(os.path.join(directory, "origins-" + kind)) as (contents, references, environment):
        plans = []
        for index in range(jobs):
            folder = os.path.join(directory, f"{kind}-{index}")
            os.makedirs(folder)
            plans.append({
                "directory": folder, "contents": contents, "references": references, "environment": environment,
                "kind": kind, "faults": faults, "rounds": (rounds + jobs - 1 - index) // jobs, "seed": f"{seed}-{index}",
                "until": time.time() + seconds if seconds else None,
                "scenario": [dataclasses.asdict(each) for each in scenario]})
        return run_workers(__file__, plans)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--seconds", type=float, help="end after these, whatever --rounds says")
    parser.add_argument("--file-system", choices=("ext4", "xfs"), default="ext4")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=6, help="rounds at once")
    parser.add_argument("--scenario", choices=SCENARIOS, help="these rounds, by one worker")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        worker = Worker(json.loads(options.worker))
        worker.run()
        print(json.dumps({"counts": worker.counts, "violations": worker.violations}))
        return 0
    with tempfile.TemporaryDirectory(prefix="mcfs-power-cut-") as directory:
        counts, violations = run(
            directory, kind=options.file_system, rounds=options.rounds, seconds=options.seconds, seed=options.seed,
            jobs=1 if options.scenario else options.jobs, scenario=SCENARIOS.get(options.scenario, ()))
    for text in violations:
        print(text)
    print(f"{options.file_system}: {counts['rounds']} rounds, {counts['compared']} chunks compared, "
          f"{counts['local']} were local afterwards; " + ", ".join(f"{counts[kind]} {kind}" for kind in VIOLATIONS))
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
