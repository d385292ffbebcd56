"""Kills the daemon under a stand-in of a service manager, again and again, while its mounts are read and written.

    .venv/bin/python Tests/EndToEnd/daemon_kills.py --rounds 500 --mounts 4 --seed 1

A round is: kill -9 at a moment of its own (also while the mounts are being made again), the stand-in starts the next daemon, and
every mount must be back. Then must hold:

- no byte that reads is wrong, before, during and after; calls may fail meanwhile;
- what was written to an upper and synced is there, whole;
- the mounts are those that were there, with their uppers and options.

Prints how long it took from the kill until the last mount was back. Needs root and /dev/fuse.
"""

import argparse
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import mcfs as mcfs_helper
import trees

FILES = [("small", 3000), ("middle", 700_000), ("large", 5_000_000)]


class Service:
    """Starts the daemon, and starts it again when it ends, as `Restart=always`."""

    def __init__(self, mcfs):
        self.mcfs = mcfs
        self.process = None
        self.isEnding = False
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        while not self.isEnding:
            log = open(os.path.join(self.mcfs.directory, "service.log"), "ab")
            with log:
                self.process = subprocess.Popen(
                    self.mcfs.command("daemon"), env=self.mcfs.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            self.process.wait()

    def end(self):
        self.isEnding = True
        self.process.kill()
        self.thread.join(30)


class Reader(threading.Thread):
    """Reads random ranges, and compares those that it gets."""

    def __init__(self, mountpoints, contents, seed):
        super().__init__(daemon=True)
        self.mountpoints, self.contents, self.random = mountpoints, contents, random.Random(seed)
        self.reads, self.failures, self.wrong, self.isEnding = 0, 0, [], False

    def run(self):
        while not self.isEnding:
            name, mountpoint = self.random.choice(list(self.contents)), self.random.choice(self.mountpoints)
            content = self.contents[name]
            offset = self.random.randrange(len(content))
            try:
                with open(f"{mountpoint}/{name}", "rb") as file:
                    got = os.pread(file.fileno(), 65536, offset)
            except OSError:
                self.failures += 1
                time.sleep(0.002)
                continue
            # A read that the end of the daemon cuts off has fewer bytes.
            if got != content[offset:offset + len(got)] or not got:
                self.wrong.append((mountpoint, name, offset, len(got)))
            elif len(got) < min(65536, len(content) - offset):
                self.failures += 1
            else:
                self.reads += 1


def is_back(mountpoint, contents):
    try:
        os.statvfs(mountpoint)
        with open(f"{mountpoint}/small", "rb") as file:
            return file.read() == contents["small"]
    except OSError:
        return False


def kill_rounds(mcfs, rounds, mounts, seed, say=lambda text: None):
    """Returns the seconds of each round. Fails where a byte is wrong or a mount does not come back in a minute."""
    chance = random.Random(seed)
    folder = os.path.join(mcfs.directory, "files")
    contents = {name: trees.seeded(number, size) for number, (name, size) in enumerate(FILES)}
    for name, content in contents.items():
        trees.write(f"{folder}/{name}", content)
    service = Service(mcfs)
    while not mcfs.run("status", code=None).code == 0 or service.process.pid not in mcfs.daemon_pids:
        time.sleep(0.02)
    # Half of them can be written to.
    mountpoints = [
        mcfs.mount(folder, options=("--read-only",) if number % 2 else ("--upper", make(f"{mcfs.directory}/upper{number}")))
        for number in range(mounts)]
    writable = mountpoints[::2]
    before = {mount["mountpoint"]: (mount["readOnly"], mount["upper"]) for mount in mcfs.status()["mounts"]}
    readers = [Reader(mountpoints, contents, seed + number) for number in range(2)]
    for reader in readers:
        reader.start()
    seconds, written = [], {}
    try:
        for number in range(rounds):
            for mountpoint in writable:
                path, data = f"{mountpoint}/written{number % 10}", trees.seeded(1000 + number, 20_000)
                with open(path, "wb") as file:
                    file.write(data)
                    os.fsync(file.fileno())
                written[path] = data
            time.sleep(chance.random() * 0.2)
            began = time.monotonic()
            os.kill(service.process.pid, signal.SIGKILL)
            if chance.random() < 0.2:
                # The next one as well, wherever it is by then.
                time.sleep(chance.random() * 0.1)
                began = time.monotonic()
                os.kill(service.process.pid, signal.SIGKILL)
            while not all(is_back(mountpoint, contents) for mountpoint in mountpoints):
                assert time.monotonic() < began + 60, f"round {number}: a mount did not come back"
                time.sleep(0.01)
            seconds.append(time.monotonic() - began)
            for path, data in written.items():
                with open(path, "rb") as file:
                    assert file.read() == data, f"round {number}: {path} is not what was written"
            assert not any(reader.wrong for reader in readers), [reader.wrong for reader in readers]
            if number % 50 == 49:
                say(f"{number + 1} rounds, median {statistics.median(seconds):.2f} s, longest {max(seconds):.2f} s")
        after = {mount["mountpoint"]: (mount["readOnly"], mount["upper"]) for mount in mcfs.status()["mounts"]}
        assert after == before
    finally:
        for reader in readers:
            reader.isEnding = True
        for reader in readers:
            reader.join(30)
        service.end()
    assert not any(reader.wrong for reader in readers), [reader.wrong for reader in readers]
    say(f"{sum(reader.reads for reader in readers)} reads were right, {sum(reader.failures for reader in readers)} failed, 0 were wrong")
    return seconds


def make(path):
    os.makedirs(path)
    return path


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=500)
    parser.add_argument("--mounts", type=int, default=4)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory, mcfs_helper.Mcfs(directory) as mcfs:
        seconds = kill_rounds(
            mcfs, arguments.rounds, arguments.mounts, arguments.seed, lambda text: print(text, flush=True))
    late = sum(second > 2 for second in seconds)
    print(f"{len(seconds)} rounds: median {statistics.median(seconds):.2f} s, longest {max(seconds):.2f} s, {late} above 2 s")


if __name__ == "__main__":
    main()
