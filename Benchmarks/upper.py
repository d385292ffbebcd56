"""Rows about mounts that are written to: what is written goes to a plain directory on ext4, beside which they are measured."""

import contextlib
import itertools
import os
import shutil
import subprocess
import sys
import time

import peers
from measure import LOADS, MIB, Series, drop_names, drop_page_cache, fuse_requests, run, turns
from servers.process import clean_environment

NAMES = r"""
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
/* COUNT times in DIR: make a file, write 4 KiB, close it, rename it, delete it. Prints the seconds. */
int main(int argc, char **argv) {
    static char bytes[4096], name[4096], renamed[4096];
    int count = atoi(argv[2]);
    struct timespec from, to;
    clock_gettime(CLOCK_MONOTONIC, &from);
    for (int index = 0; index < count; index++) {
        snprintf(name, sizeof name, "%s/%d.tmp", argv[1], index);
        snprintf(renamed, sizeof renamed, "%s/%d", argv[1], index);
        int file = open(name, O_WRONLY | O_CREAT | O_EXCL, 0644);
        if (file < 0 || write(file, bytes, sizeof bytes) != sizeof bytes || close(file)) return 1;
        if (rename(name, renamed) || unlink(renamed)) return 1;
    }
    clock_gettime(CLOCK_MONOTONIC, &to);
    printf("%f\n", (to.tv_sec - from.tv_sec) + (to.tv_nsec - from.tv_nsec) / 1e9);
}
"""

BLOCKS = r"""
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
/* COUNT writes of 4 KiB all over a FILE of BLOCKS blocks, which is there. Prints the seconds. */
int main(int argc, char **argv) {
    static char bytes[4096];
    unsigned blocks = atoi(argv[2]), count = atoi(argv[3]), random = 1;
    struct timespec from, to;
    int file = open(argv[1], O_RDWR);
    if (file < 0) return 1;
    clock_gettime(CLOCK_MONOTONIC, &from);
    for (unsigned index = 0; index < count; index++) {
        random = random * 1664525 + 1013904223;
        if (pwrite(file, bytes, sizeof bytes, (off_t)((random >> 8) % blocks) * 4096) != sizeof bytes) return 1;
    }
    clock_gettime(CLOCK_MONOTONIC, &to);
    printf("%f\n", (to.tv_sec - from.tv_sec) + (to.tv_nsec - from.tv_nsec) / 1e9);
}
"""

# FIRST COUNT: a small kernel for each number from FIRST on. No GPU is needed.
KERNELS = '''
import sys

import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource


@triton.jit
def softmax(values, result, stride, columns, FACTOR: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0) * stride
    offsets = tl.arange(0, BLOCK)
    inside = offsets < columns
    powers = tl.load(values + row + offsets, mask=inside, other=-float("inf")) * FACTOR
    powers = tl.exp(powers - tl.max(powers, axis=0))
    tl.store(result + row + offsets, powers / tl.sum(powers, axis=0), mask=inside)


first, count = map(int, sys.argv[1:])
hits = []
triton.knobs.compilation.listener = lambda cache_hit, **_: hits.append(cache_hit)
signature = {
    "values": "*fp32", "result": "*fp32", "stride": "i32", "columns": "i32", "FACTOR": "constexpr", "BLOCK": "constexpr"}
for factor in range(first, first + count):
    source = ASTSource(softmax, signature, constexprs={"FACTOR": factor, "BLOCK": 1024})
    triton.compile(source, target=GPUTarget("cuda", 90, 32))
if any(hits):
    sys.exit("the kernels were there before")
'''

PLAIN, KERNEL, PEER, OWN, DAEMON = "ext4", "overlayfs", "fuse-overlayfs", "mcfs", "mcfs without passthrough"


class Side:
    """A directory to write to, and the mount that it is, if it is one."""

    def __init__(self, stand, name, lower, stack):
        self.mcfs = self.peer = None
        self.lower = lower
        if name == PLAIN:
            self.path = stand.directory("plain")
        elif name in (OWN, DAEMON):
            self.mcfs = stack.enter_context(stand.mcfs(**({} if name == OWN else {"MCFS_PASSTHROUGH": "false"})))
            self.path = self.mcfs.mount(lower)
            (mount,) = self.mcfs.status()["mounts"]
            assert mount["passthrough"] == (name == OWN), f"{name}: passthrough is {mount['passthrough']}"
        else:
            make = {KERNEL: peers.Overlayfs, PEER: peers.fuse_overlayfs}[name]
            self.peer = stack.enter_context(make(stand.directory("peer"), lower))
            self.path = self.peer.mountpoint
        self._numbers = itertools.count()

    def new_directory(self):
        path = os.path.join(self.path, f"work{next(self._numbers)}")
        os.mkdir(path)
        return path

    def forget(self):
        """Neither the kernel nor the mount's program has names or attributes in memory then."""
        if self.mcfs:
            self.mcfs.umount(self.path)
            self.mcfs.mount(self.lower, at=self.path)
        elif self.peer:
            self.peer.__exit__()
            self.peer.__enter__()
        drop_names()


@contextlib.contextmanager
def sides(stand, *names):
    """Name -> Side, all over the same lower tree of one file; PLAIN is a directory of the disk that all write to."""
    lower = stand.directory("lower")
    with open(os.path.join(lower, "README"), "w") as file:
        file.write("below\n")
    with contextlib.ExitStack() as stack:
        yield {name: Side(stand, name, lower, stack) for name in names}


def program(stand, name, source):
    path = os.path.join(stand.directory("program"), name)
    with open(f"{path}.c", "w") as file:
        file.write(source)
    subprocess.run(["cc", "-O2", "-o", path, f"{path}.c"], check=True)
    return path


def seconds_of(*command):
    """What a program says that it took."""
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def speed(result, name, base=PLAIN):
    """How many times as fast as `base`."""
    return result[base].median / result[name].median


def shown(result, base=PLAIN):
    """mcfs first, then all others beside `base`."""
    return "; ".join(
        f"{name} {result[name]}" + ("" if name == base else f": {speed(result, name, base):.2f} x")
        for name in sorted(result, key=[OWN, DAEMON, PEER, KERNEL, PLAIN].index))


def details(result):
    return {name: vars(series) for name, series in result.items()}


def write(stand):
    """A large file written and read back, from memory and from the disk."""
    size = stand.large_bytes
    title, goal = f"{size // MIB} MiB written and read back", ">= 0.9 x ext4, >= 0.5 x without passthrough"

    def judge(what, result, **more):
        own, other = speed(result, OWN), speed(result, DAEMON)
        stand.row(
            f"{title}, {what}", shown(result), goal, own >= 0.9 and other >= 0.5, ratio=own, ratioWithoutPassthrough=other,
            seconds=details(result), **more)

    with sides(stand, PLAIN, PEER, OWN, DAEMON) as all_sides:
        def paths():
            return ((name, os.path.join(side.path, "large")) for name, side in all_sides.items())

        def read(path):
            return run(["dd", f"if={path}", "of=/dev/null", "bs=1M"])

        def written(path, work):
            def prepare():
                if os.path.exists(path):
                    os.remove(path)
                return work

            return prepare

        def writing(path, *options):
            return ["dd", "if=/dev/zero", f"of={path}", "bs=1M", f"count={size // MIB}", *options]

        def cold(path):
            def prepare():
                drop_page_cache()
                return lambda: read(path)

            return prepare

        judge("from memory", turns(
            stand.rounds, {name: written(path, lambda path=path: run(writing(path)) + read(path)) for name, path in paths()}, 3 * size))
        synced = turns(
            stand.rounds, {name: written(path, lambda path=path: run(writing(path, "conv=fsync"))) for name, path in paths()}, 3 * size)
        reads = turns(stand.rounds, {name: cold(path) for name, path in paths()}, 3 * size)
        judge(
            "with fsync, from the disk",
            {name: Series([sum(both) for both in zip(synced[name].seconds, reads[name].seconds)]) for name in synced},
            writes=details(synced), reads=details(reads))
        for _, path in paths():
            os.remove(path)


def names(stand):
    """create + write 4 KiB + rename + unlink, one process."""
    count, slices = stand.few(20_000), 10
    command = program(stand, "names", NAMES)

    def work(side):
        def prepare():
            directory = side.new_directory()
            return lambda: seconds_of(command, directory, str(count // slices))

        return prepare

    with sides(stand, PLAIN, KERNEL, PEER, OWN, DAEMON) as all_sides:
        # How long two processes take to wake each other depends on what else runs: short turns, so that it hits all sides alike.
        results = {}
        for load, is_loaded in LOADS.items():
            with is_loaded():
                results[load] = turns(slices * stand.rounds, {name: work(side) for name, side in all_sides.items()}, MIB)
        requests = {}
        for name in (OWN, DAEMON, PEER):
            directory = all_sides[name].new_directory()
            counted = fuse_requests(lambda: run([command, directory, "500"]), directory)
            requests[name] = {kind: number / 500 for kind, number in counted.items()}
    each = ", ".join(f"{sum(kinds.values()):.1f} {name}" for name, kinds in requests.items() if kinds)
    for load, result in results.items():
        own, other = (speed(result, name, PEER) for name in (OWN, DAEMON))
        stand.row(
            f"create + write 4 KiB + rename + unlink, {count:,} times in turns of {count // slices:,}{load}",
            f"{shown(result, PEER)}; requests for each: {each or 'not counted'}", ">= 1 x fuse-overlayfs", own >= 1 and other >= 1,
            ratio=own, ratioWithoutPassthrough=other, seconds=details(result), requests=requests)


def triton(stand):
    """Triton's compile cache: eight processes at once."""
    processes, count = 8, stand.few(200)
    script = os.path.join(stand.directory("program"), "kernels.py")
    with open(script, "w") as file:
        file.write(KERNELS)
    caches = []

    def work(side):
        def prepare():
            caches.append(side.new_directory())
            environment = clean_environment(TRITON_CACHE_DIR=caches[-1])

            def timed():
                running = [
                    subprocess.Popen(
                        [sys.executable, script, str(1 + index * count), str(count)], env=environment, stdout=subprocess.DEVNULL)
                    for index in range(processes)]
                failed = sum(process.wait() != 0 for process in running)
                assert not failed, f"{failed} of {processes} processes failed"

            return timed

        return prepare

    with sides(stand, PLAIN, OWN, DAEMON) as all_sides:
        result = turns(stand.rounds, {name: work(side) for name, side in all_sides.items()}, 1024 * MIB)
        for cache in caches:
            kernels = sum(any(file.endswith(".cubin") for file in files) for _, _, files in os.walk(cache))
            assert kernels == processes * count, f"{kernels} kernels in {cache}"
    own = 1 / speed(result, OWN)
    stand.row(
        f"Triton: {processes} processes compile {count} kernels each", f"{shown(result)}; no errors", "<= 1.1 x the time of ext4",
        own <= 1.1, ratio=own, ratioWithoutPassthrough=1 / speed(result, DAEMON), seconds=details(result))


def lookups(stand):
    """find over 10,000 files in the upper with their sizes."""
    folders, files = 100, stand.few(100)
    with sides(stand, PLAIN, KERNEL, PEER, OWN) as all_sides:
        for side in all_sides.values():
            for folder in range(folders):
                directory = side.new_directory()
                for index in range(files):
                    with open(os.path.join(directory, str(index)), "wb") as file:
                        file.write(bytes(index))

        def find(side):
            return run(["find", side.path, "-size", "+1k"])

        def first(side):
            def prepare():
                side.forget()
                return lambda: find(side)

            return prepare

        for what, result in (
                ("first time", turns(stand.rounds, {name: first(side) for name, side in all_sides.items()}, MIB)),
                ("second time", turns(stand.rounds, {
                    name: lambda side=side: lambda: find(side) for name, side in all_sides.items()}, MIB))):
            stand.row(
                f"find over {folders * files:,} files of the upper with their sizes, {what}", shown(result), ratio=speed(result, OWN),
                seconds=details(result))


def links(stand):
    """Names for one file, as many as ext4 allows."""
    count = stand.few(64_990)

    def seconds(side):
        directory = side.new_directory()
        file = os.path.join(directory, "file")
        with open(file, "w"):
            pass
        started = time.monotonic()
        for number in range(count):
            os.link(file, os.path.join(directory, str(number)))
        linked = time.monotonic() - started
        shutil.rmtree(directory)
        return linked

    with sides(stand, PLAIN, OWN) as all_sides:
        plain, own = (seconds(all_sides[name]) for name in (PLAIN, OWN))
    stand.row(
        f"{count:,} names for one file", f"mcfs {own:.1f} s; ext4 {plain:.1f} s", "<= 2 x the time of ext4 + 5 s", own <= 2 * plain + 5,
        seconds={"mcfs": own, "ext4": plain})


def blocks(stand):
    """Writes of 4 KiB all over an open file."""
    size, count = 64 * MIB, stand.few(50_000)
    command = program(stand, "blocks", BLOCKS)
    with sides(stand, PLAIN, KERNEL, PEER, OWN, DAEMON) as all_sides:
        works, requests = {}, {}
        for name, side in all_sides.items():
            path = os.path.join(side.path, "blocks")
            run(["dd", "if=/dev/zero", f"of={path}", "bs=1M", f"count={size // MIB}"])
            works[name] = lambda path=path: lambda: seconds_of(command, path, str(size // 4096), str(count))
            requests[name] = fuse_requests(lambda: run([command, path, str(size // 4096), "1000"]), side.path).total() / 1000
        each = ", ".join(f"{requests[name]:.2f} {name}" for name in (OWN, DAEMON, PEER))
        for load, is_loaded in LOADS.items():
            with is_loaded():
                result = turns(stand.rounds, works, MIB)
            stand.row(
                f"{count:,} writes of 4 KiB to an open file of {size // MIB} MiB{load}", f"{shown(result)}; requests for each: {each}",
                ratio=speed(result, OWN), ratioWithoutPassthrough=speed(result, DAEMON), seconds=details(result), requests=requests)


def copy_up(stand):
    """A large file of the lower tree is opened to be appended to."""
    size = stand.large_bytes
    lower = stand.directory("lower")
    file, copy = os.path.join(lower, "large"), os.path.join(stand.directory("plain"), "large")
    run(["dd", "if=/dev/urandom", f"of={file}", "bs=1M", f"count={size // MIB}"])
    with stand.mcfs() as mcfs:
        mountpoint = mcfs.mount(lower)
        mcfs.prefetch(mountpoint)

        def own():
            mcfs.umount(mountpoint)
            for name in os.listdir(mountpoint):
                path = os.path.join(mountpoint, name)
                shutil.rmtree(path) if os.path.isdir(path) else os.remove(path)
            mcfs.mount(lower, at=mountpoint)
            return lambda: run(["sh", "-c", ': >> "$1"', "sh", os.path.join(mountpoint, "large")])

        def other():
            if os.path.exists(copy):
                os.remove(copy)
            return lambda: run(["cp", "--reflink=auto", file, copy])

        result = turns(stand.rounds, {"cp": other, OWN: own}, 2 * size)
        mcfs.umount(mountpoint)
        assert os.path.getsize(os.path.join(mountpoint, "large")) == size, "the file was not copied"
        stand.empty(mcfs)
    os.remove(copy)
    ratio = speed(result, OWN, "cp")
    stand.row(
        f"{size // MIB} MiB of a complete file copied up", f"mcfs {result[OWN]}; cp --reflink=auto {result['cp']}: {ratio:.2f} x",
        ratio=ratio, seconds=details(result))


ROWS = {
    "write": write, "names": names, "triton": triton, "lookups": lookups, "links": links, "blocks": blocks, "copy-up": copy_up}
