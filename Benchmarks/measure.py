"""How long commands take, on a machine that does other things as well."""

import collections
import contextlib
import mmap
import os
import re
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field

MIB = 1 << 20
MADV_POPULATE_WRITE = 23
# How much memory a hypervisor took back since boot, where the kernel tells (free page reporting).
REPORTED = "/sys/module/page_reporting/parameters/reported_kib"
# More than this taken back while something is measured, and it is measured again.
REPORTED_KIB_MAX = 64 * 1024
TRIES = 6
# In longer rounds it always does, and matters little.
LONG_SECONDS = 2


def settle(count):
    """Touches `count` bytes of memory and gives them back. On a virtual machine whose hypervisor takes back free pages, the
    first touch of each costs more than all that is measured here: it is paid before, for every side alike."""
    # What earlier rounds wrote must not be written to the disk, or slow writers down, while something else is measured.
    os.sync()
    memory = mmap.mmap(-1, count, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    # Huge pages: files are written into large runs of memory, not into what lies about in single pages.
    memory.madvise(mmap.MADV_HUGEPAGE)
    memory.madvise(MADV_POPULATE_WRITE)
    memory.close()


def reported():
    try:
        with open(REPORTED) as file:
            return int(file.read())
    except OSError:
        return 0


def run(command, **options):
    """Runs a command to its success. - Returns: seconds."""
    options = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL} | options
    started = time.monotonic()
    subprocess.run(command, check=True, **options)
    return time.monotonic() - started


@dataclass
class Series:
    """What one side of a comparison took, round by round, in seconds."""

    seconds: list = field(default_factory=list)
    # Rounds that were measured again because the hypervisor took memory back meanwhile.
    disturbed: int = 0

    @property
    def median(self):
        return statistics.median(self.seconds)

    def __str__(self):
        return f"{self.median:.2f} s [{min(self.seconds):.2f}-{max(self.seconds):.2f}]"


def turns(rounds, sides, memory=256 * MIB):
    """Measures several sides in turns (A B A B …), so that what else the machine does hits all of them.

    `sides`: name -> a function that makes everything ready and returns one to be timed; what that returns, if anything, counts as its
    seconds. `memory`: bytes that a side will touch. - Returns: name -> Series.
    """
    series = {name: Series() for name in sides}
    for _ in range(rounds):
        for name, prepare in sides.items():
            for attempt in range(TRIES):
                timed = prepare()
                settle(memory)
                before = reported()
                started = time.monotonic()
                seconds = timed()
                seconds = time.monotonic() - started if seconds is None else seconds
                isDisturbed = reported() - before > REPORTED_KIB_MAX and seconds < LONG_SECONDS
                if not isDisturbed or attempt == TRIES - 1:
                    break
                series[name].disturbed += 1
            series[name].seconds.append(seconds)
    return series


@contextlib.contextmanager
def _busy_core():
    core = max(os.sched_getaffinity(0))
    # In a session of its own, as another service would be: the kernel shares processors out between sessions.
    loop = subprocess.Popen(
        [sys.executable, "-c", "while True: pass"], preexec_fn=lambda: os.sched_setaffinity(0, {core}), start_new_session=True)
    try:
        yield
    finally:
        loop.kill()
        loop.wait()


# What else the machine does, for work whose time is that of processes waking each other: on a quiet machine every wake-up
# rouses a core that sleeps, on a busy one it waits for its turn. What is added to the names of rows, and a context manager.
LOADS = {"": contextlib.nullcontext, " (one core kept busy)": _busy_core}


def memory_of(pid, name="VmRSS"):
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith(name))


def page_cache_bytes():
    with open("/proc/meminfo") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("Cached:"))


def drop_page_cache():
    os.sync()
    with open("/proc/sys/vm/drop_caches", "w") as file:
        file.write("3")


def drop_names():
    """Makes the kernel forget names and attributes, but not what it has read of the disk."""
    os.sync()
    with open("/proc/sys/vm/drop_caches", "w") as file:
        file.write("2")


def fuse_requests(work, path):
    """Kind -> how many requests the kernel sends about the FUSE mount of `path` during `work`. By the tracepoints of Linux 6.11;
    empty where there are none."""
    event = "/sys/kernel/tracing/events/fuse/fuse_request_send"
    connection = f"connection {os.minor(os.stat(path).st_dev)} "
    try:
        with open(os.path.join(event, "enable"), "w") as file:
            file.write("1")
    except OSError:
        return collections.Counter()
    try:
        with open("/sys/kernel/tracing/trace", "w"):
            pass
        work()
        with open("/sys/kernel/tracing/trace") as file:
            return collections.Counter(
                found[1] for line in file if connection in line and (found := re.search(r"opcode \d+ \(FUSE_(\w+)\)", line)))
    finally:
        with open(os.path.join(event, "enable"), "w") as file:
            file.write("0")
