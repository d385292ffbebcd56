"""Rows about the chunk cache itself: making room among many contents, and going on with a large one."""

import hashlib
import os
import signal
import statistics
import time

from measure import MIB, drop_page_cache
from stand import Mcfs, images

RECORDS = 200_000
RECORD_BYTES = 100
BLOCK_BYTES = 4096


def fill(cache, count):
    """Puts `count` small contents into a cache directory that no daemon has open."""
    for shard in range(256):
        os.makedirs(os.path.join(cache, "blobs", f"{shard:02x}"))
    for number in range(count):
        content = number.to_bytes(8, "little").ljust(RECORD_BYTES, b".")
        name = hashlib.sha256(content).hexdigest()
        with open(os.path.join(cache, "blobs", name[:2], f"sha256-{name}"), "xb") as file:
            file.write(content)


def first_bytes(path):
    """Milliseconds until a byte that is not local is there."""
    with open(path, "rb", buffering=0) as file:
        started = time.monotonic()
        assert file.read(1)
        return (time.monotonic() - started) * 1000


def figures(milliseconds):
    return f"{statistics.median(milliseconds):.1f} ms, {max(milliseconds):.1f} ms at most"


def making_room(stand):
    """Cold reads while a cache of 200,000 contents is full, beside reads where there is room."""
    count, files = stand.few(RECORDS), stand.few(100)
    os.makedirs(os.path.join(stand.nginx.root, "room"))
    for number in range(files):
        stand.served(f"room/{number:03}", MIB)
    sides = {}
    for name, size in (("full", count * BLOCK_BYTES + 2 * MIB), ("room", 100 << 30)):
        mcfs = stand.stack.enter_context(Mcfs(stand.directory("mcfs")))
        os.makedirs(mcfs.cache, exist_ok=True)
        fill(mcfs.cache, count)
        mountpoint = mcfs.mount(f"{stand.nginx.url}/files/room/", options=("--read-only", "--cache-size", str(size)))
        # Until all of it is counted.
        while mcfs.status()["cache"]["bytesUsed"] is None:
            time.sleep(0.1)
        sides[name] = mountpoint
    taken = {name: [] for name in sides}
    for number in range(files):
        for name, mountpoint in sides.items():
            taken[name].append(first_bytes(os.path.join(mountpoint, f"{number:03}")))
    added = statistics.median(full - room for full, room in zip(taken["full"], taken["room"]))
    most = max(taken["full"]) - max(taken["room"])
    stand.row(
        f"first byte of {files} cold files of 1 MiB, a full cache of {count:,} contents",
        f"{figures(taken['full'])}; with room {figures(taken['room'])}: {added:+.1f} ms, the slowest {most:+.1f} ms",
        "<= 20 ms added", max(added, most) <= 20, section="cache", milliseconds=taken)


def resuming(stand):
    """The next chunk of a file of 4 GiB with a digest that is 99 % local, after a start of the daemon, beside a fresh file."""
    size = stand.few(4096) * MIB
    part = size // 100 * 99 // MIB * MIB
    layout = images.Layout(os.path.join(stand.directory("image"), "weights"))
    layout.image([layout.blob(bytes(size), "application/vnd.cncf.model.weight.v1.raw", annotations={
        "org.cncf.model.filepath": "weights"})], artifactType="application/vnd.cncf.model.manifest.v1+json")
    images.push(layout.path, stand.registry, "weights")
    reference = f"oci://{stand.registry.host}/weights:v1"
    taken = {"resumed": [], "resumed after a kill": [], "fresh": []}

    def next_chunk(mountpoint, offset):
        with open(os.path.join(mountpoint, "weights"), "rb", buffering=0) as file:
            started = time.monotonic()
            assert len(os.pread(file.fileno(), 4096, offset)) == 4096
            return (time.monotonic() - started) * 1000

    for _ in range(stand.rounds):
        with stand.mcfs() as mcfs:
            mountpoint = mcfs.mount(reference, options=("--read-only",))
            taken["fresh"].append(next_chunk(mountpoint, part))
            with open(os.path.join(mountpoint, "weights"), "rb", buffering=0) as file:
                while file.tell() < part:
                    file.read(MIB)
            for name, end, offset in (
                    ("resumed", signal.SIGTERM, part + MIB), ("resumed after a kill", signal.SIGKILL, part + 3 * MIB)):
                if end == signal.SIGTERM:
                    mcfs.umount(mountpoint)
                mcfs.kill_daemon(end)
                drop_page_cache()
                mcfs.mount(reference, at=mountpoint, options=("--read-only",))
                taken[name].append(next_chunk(mountpoint, offset))
            stand.empty(mcfs)
    fresh = statistics.median(taken["fresh"])
    worst = max(statistics.median(values) for values in taken.values()) - fresh
    stand.row(
        f"next missing chunk of a file of {size // MIB} MiB with a digest, 99 % local, after a start of the daemon",
        f"{statistics.median(taken['resumed']):.1f} ms, after a kill {statistics.median(taken['resumed after a kill']):.1f} ms; "
        f"of a fresh file {fresh:.1f} ms: {worst:+.1f} ms",
        "<= 50 ms later than of a fresh file", worst <= 50, section="cache", milliseconds=taken)


ROWS = {"room": making_room, "resume": resuming}
