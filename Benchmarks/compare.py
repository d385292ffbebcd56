"""Measures two executables of mcfs in turns, such as before and after a change. Prints, and writes nothing.

    scripts/setup bench && .venv/bin/python Benchmarks/compare.py OLD NEW [--rounds N] [--only ROW,…]
"""

import argparse
import contextlib
import itertools
import os
import statistics
import subprocess
import time

import peers
import small
import upper
from large import read
from measure import LOADS, MIB, memory_of, run, settle, turns
from stand import Mcfs, Stand

LARGE = 1024 * MIB


class Comparison:
    """Two executables and what they are measured on."""

    def __init__(self, stand, executables, rounds):
        self.stand, self.executables, self.rounds = stand, executables, rounds

    def mcfs(self, side, **environment):
        return Mcfs(self.stand.directory("mcfs"), environment=environment, executable=self.executables[side])

    def each(self, measured):
        """`measured(side)` in turns. - Returns: side -> values."""
        values = {side: [] for side in self.executables}
        for _ in range(self.rounds):
            for side in self.executables:
                settle(256 * MIB)
                values[side].append(measured(side))
        return values

    def show(self, name, values, unit):
        """Values of which less is better."""
        old, new = (statistics.median(values[side]) for side in ("old", "new"))
        sides = "; ".join(
            f"{side} {statistics.median(own):.4g} {unit} [{min(own):.4g}-{max(own):.4g}]" for side, own in values.items())
        print(f"{name}: {sides}; new {new / old:.2f} x old, of {self.rounds} rounds", flush=True)

    def cold(self):
        """A cold sequential read of 1 GiB over loopback."""
        self.stand.served("large.bin", LARGE)

        def seconds(side):
            with self.mcfs(side) as mcfs:
                mountpoint = mcfs.mount(f"{self.stand.nginx.url}/files/large.bin")
                taken = run(read(f"{mountpoint}/large.bin"))
                self.stand.empty(mcfs)
                return taken

        self.show("cold sequential read of 1 GiB", self.each(seconds), "s")

    def copy(self):
        """10,000 small files of one layer: mounted and copied out."""
        repository, _ = self.stand.layer("small", 10_000, 4096)

        def seconds(side):
            with self.mcfs(side) as mcfs:
                started = time.monotonic()
                mountpoint = mcfs.mount(f"oci://{self.stand.registry.host}/{repository}")
                run(["cp", "-r", mountpoint, os.path.join(mcfs.directory, "copy")])
                return time.monotonic() - started

        self.show("10,000 small files, cold: mount + cp -r", self.each(seconds), "s")

    def ordinary(self):
        """A local file of 1 GiB through the daemon, by a new mount."""
        self.stand.served("large.bin", LARGE)
        url = f"{self.stand.nginx.url}/files/large.bin"
        with contextlib.ExitStack() as stack:
            sides = {side: stack.enter_context(self.mcfs(side, MCFS_PASSTHROUGH="false")) for side in self.executables}
            for mcfs in sides.values():
                mcfs.prefetch(url)

            def seconds(side):
                mountpoint = sides[side].mount(url)
                taken = run(read(f"{mountpoint}/large.bin"))
                sides[side].umount(mountpoint)
                return taken

            self.show("local 1 GiB through the daemon", self.each(seconds), "s")

    def streaming(self):
        """Most memory of the daemon while eight files of 256 MiB are read at once."""
        os.makedirs(os.path.join(self.stand.nginx.root, "streams"), exist_ok=True)
        for number in range(8):
            self.stand.served(f"streams/{number}.bin", LARGE // 4)

        def mebibytes(side):
            with self.mcfs(side) as mcfs:
                mountpoint = mcfs.mount(f"{self.stand.nginx.url}/files/streams/")
                readers = [
                    subprocess.Popen(read(f"{mountpoint}/{number}.bin"), stderr=subprocess.DEVNULL) for number in range(8)]
                assert not any(reader.wait() for reader in readers)
                (pid,) = mcfs.daemon_pids
                most = memory_of(pid, "VmHWM") / MIB
                self.stand.empty(mcfs)
                return most

        self.show("most memory while 8 files are streamed", self.each(mebibytes), "MiB")

    def opens(self):
        """open + read + close of small local files, beside fuse-overlayfs."""
        plain, program = self.stand.directory("files"), os.path.join(self.stand.directory("program"), "opens")
        for number in range(1000):
            with open(f"{plain}/{number}", "wb") as file:
                file.write(os.urandom(4096))
        subprocess.run(["cc", "-O2", "-x", "c", "-o", program, "-"], input=small.OPENS, text=True, check=True)
        with contextlib.ExitStack() as stack:
            places = {"fuse-overlayfs": stack.enter_context(peers.fuse_overlayfs(self.stand.directory("peer"), plain)).mountpoint}
            for side in self.executables:
                mcfs = stack.enter_context(self.mcfs(side))
                places[side] = mcfs.mount(plain)
                mcfs.prefetch(places[side])

            def microseconds(place, count=20_000):
                output = subprocess.run([program, place, "1000", str(count)], check=True, capture_output=True, text=True).stdout
                return 1e6 / float(output)

            for place in places.values():
                microseconds(place)
            for load, busy in LOADS.items():
                with busy():
                    series = turns(2 * self.rounds, {
                        side: lambda place=place: lambda: microseconds(place) for side, place in places.items()}, MIB)
                self.show(f"open + read 4 KiB + close{load}", {side: own.seconds for side, own in series.items()}, "µs")


    @contextlib.contextmanager
    def uppers(self):
        """Side -> a directory of a mount that is written to; and fuse-overlayfs over the same."""
        lower = self.stand.directory("lower")
        with open(os.path.join(lower, "README"), "w") as file:
            file.write("below\n")
        with contextlib.ExitStack() as stack:
            peer = stack.enter_context(peers.fuse_overlayfs(self.stand.directory("peer"), lower))
            yield {side: stack.enter_context(self.mcfs(side)).mount(lower) for side in self.executables} | {
                "fuse-overlayfs": peer.mountpoint}

    def names(self):
        """create + write 4 KiB + rename + unlink."""
        command, count = upper.program(self.stand, "names", upper.NAMES), 2000
        with self.uppers() as places:
            numbers = itertools.count()

            def work(place):
                def prepare():
                    directory = os.path.join(place, f"work{next(numbers)}")
                    os.mkdir(directory)
                    return lambda: upper.seconds_of(command, directory, str(count)) * 1e6 / count

                return prepare

            for load, busy in LOADS.items():
                with busy():
                    series = turns(4 * self.rounds, {side: work(place) for side, place in places.items()}, MIB)
                self.show(
                    f"create + write 4 KiB + rename + unlink{load}", {side: own.seconds for side, own in series.items()}, "µs")

    def find(self):
        """find over 10,000 files of the upper with their sizes, again and again."""
        with self.uppers() as places:
            for place in places.values():
                for number in range(10_000):
                    folder = os.path.join(place, f"folder{number // 100}")
                    os.makedirs(folder, exist_ok=True)
                    with open(os.path.join(folder, str(number)), "wb") as file:
                        file.write(bytes(number % 100))

            def work(place):
                def prepare():
                    # The kernel keeps some attributes for a second.
                    time.sleep(1.1)
                    return lambda: run(["find", place, "-size", "+1k"])

                return prepare

            for place in places.values():
                run(["find", place, "-size", "+1k"])
            series = turns(self.rounds, {side: work(place) for side, place in places.items()}, MIB)
            self.show("find over 10,000 files of the upper", {side: own.seconds for side, own in series.items()}, "s")

    def again(self):
        """Files of the upper opened for reading and writing, and written to, again."""
        with self.uppers() as places:
            def seconds(place):
                started = time.monotonic()
                for number in range(2000):
                    with open(os.path.join(place, f"again{number}"), "r+b", buffering=0) as file:
                        file.write(b"x")
                return time.monotonic() - started

            for place in places.values():
                for number in range(2000):
                    with open(os.path.join(place, f"again{number}"), "wb") as file:
                        file.write(bytes(4096))
            series = turns(self.rounds, {
                side: lambda place=place: lambda: seconds(place) for side, place in places.items()}, MIB)
            self.show("2,000 files opened again and written to", {side: own.seconds for side, own in series.items()}, "s")


ROWS = ("cold", "copy", "ordinary", "streaming", "opens", "names", "find", "again")


def main():
    parser = argparse.ArgumentParser(prog="Benchmarks/compare.py")
    parser.add_argument("old")
    parser.add_argument("new")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", default=",".join(ROWS), help=f"of {', '.join(ROWS)}")
    arguments = parser.parse_args()
    executables = {side: os.path.abspath(getattr(arguments, side)) for side in ("old", "new")}
    with Stand(LARGE, arguments.rounds) as stand:
        comparison = Comparison(stand, executables, arguments.rounds)
        for row in arguments.only.split(","):
            if row not in ROWS:
                parser.error(f"there is no row {row}")
            getattr(comparison, row)()


if __name__ == "__main__":
    main()
