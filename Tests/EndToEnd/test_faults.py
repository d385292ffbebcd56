"""What reads survive, and how they fail when nothing helps."""

import contextlib
import errno
import mmap
import os
import signal
import subprocess
import sys
import time

import pytest

import images
import mcfs as mcfs_helper
import trees

pytestmark = pytest.mark.usefixtures("fuse")

BYTES = 6_000_000


@pytest.fixture
def remote(nginx, fault_proxy, tmp_path):
    """A proxy of nginx, the URL of a folder with one file through it, and the file's bytes."""
    data = trees.seeded(17, BYTES)
    trees.write(f"{nginx.root}/{tmp_path.name}/weights.bin", data)
    proxy = fault_proxy(nginx.url)
    return proxy, f"{proxy.url}/files/{tmp_path.name}/weights.bin", data


def read(path, timeout=120):
    """Reads in a process of its own. - Returns: the bytes (None where it failed) and the seconds it took."""
    started = time.monotonic()
    result = subprocess.run(["cat", path], capture_output=True, timeout=timeout)
    return (result.stdout if result.returncode == 0 else None), time.monotonic() - started


@pytest.mark.parametrize("fault", [
    {"kind": "reset", "after": 100_000, "count": 3}, {"kind": "cut", "after": 100_000, "count": 3},
    {"kind": "length", "delta": -10, "count": 2}, {"kind": "whole", "count": 2}, {"kind": "status", "status": 500, "count": 3},
    {"kind": "status", "status": 503, "retry_after": 1, "count": 2}, {"kind": "status", "status": 429, "retry_after": 1, "count": 1},
    {"kind": "stall", "after": 50_000, "seconds": 2, "count": 1},
], ids=lambda fault: fault["kind"] + str(fault.get("status", "")))
def test_a_fault_that_passes_is_not_seen(mcfs, remote, fault):
    proxy, url, data = remote
    mountpoint = mcfs.mount(url)
    proxy.fault(fault | {"match": "weights.bin", "method": "GET"})
    got, _ = read(f"{mountpoint}/weights.bin")
    assert got == data


def test_an_origin_that_stays_away_fails_the_read_alone(mcfs, remote):
    proxy, url, data = remote
    mountpoint = mcfs.mount(url, options=("--read-deadline", "3"))
    proxy.fault({"kind": "status", "status": 503, "match": "weights.bin"})
    got, seconds = read(f"{mountpoint}/weights.bin")
    assert got is None and seconds < 15
    assert mcfs.status()["mounts"][0]["state"] == "degraded"
    proxy.heal()
    # Who asks at once might be the kernel, which does that before its reader hears of it.
    time.sleep(0.3)
    got, _ = read(f"{mountpoint}/weights.bin")
    assert got == data
    assert mcfs.status()["mounts"][0]["state"] == "ready"


def test_status_tells_that_an_origin_is_waited_for(mcfs, remote):
    proxy, url, data = remote
    mountpoint = mcfs.mount(url, options=("--read-deadline", "60"))
    proxy.fault({"kind": "status", "status": 503, "match": "weights.bin"})
    reader = subprocess.Popen(["cat", f"{mountpoint}/weights.bin"], stdout=subprocess.PIPE)
    try:
        deadline = time.monotonic() + 30
        while (mount := mcfs.status()["mounts"][0])["state"] != "degraded":
            assert mount["state"] == "ready" and time.monotonic() < deadline and reader.poll() is None
            time.sleep(0.05)
        assert "weights.bin is waited for" in mount["problems"][0] and mount["origin"]["retries"] > 0
        proxy.heal()
        assert reader.communicate(timeout=60)[0] == data
        assert mcfs.status()["mounts"][0]["state"] == "ready"
    finally:
        reader.kill()
        reader.wait()


def test_a_stalled_origin_never_wedges_the_mount(mcfs, remote):
    proxy, url, _ = remote
    mountpoint = mcfs.mount(url, options=("--read-deadline", "4"))
    proxy.fault({"kind": "stall", "match": "weights.bin"})
    reader = subprocess.Popen(["cat", f"{mountpoint}/weights.bin"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    time.sleep(0.5)
    assert os.stat(f"{mountpoint}/weights.bin").st_size == BYTES
    assert reader.wait(20) != 0
    assert b"Input/output error" in reader.stderr.read()
    started = time.monotonic()
    mcfs.umount(mountpoint)
    assert time.monotonic() - started < 5


def test_umount_with_force_frees_a_hanging_reader(mcfs, remote):
    proxy, url, _ = remote
    mountpoint = mcfs.mount(url)
    proxy.fault({"kind": "stall", "match": "weights.bin"})
    reader = subprocess.Popen(["cat", f"{mountpoint}/weights.bin"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(0.5)
    mcfs.umount(mountpoint, code=mcfs_helper.CANNOT_CREATE)
    started = time.monotonic()
    mcfs.umount(mountpoint, "--force")
    assert reader.wait(10) != 0
    assert time.monotonic() - started < 5


def test_a_signal_ends_a_hanging_reader(mcfs, remote):
    proxy, url, _ = remote
    mountpoint = mcfs.mount(url)
    proxy.fault({"kind": "stall", "match": "weights.bin"})
    reader = subprocess.Popen(["cat", f"{mountpoint}/weights.bin"], stdout=subprocess.DEVNULL)
    time.sleep(0.5)
    reader.send_signal(signal.SIGTERM)
    assert reader.wait(5) == -signal.SIGTERM


def test_flipped_bytes_are_right_bytes_or_an_error(mcfs, registry, flip_proxy, tmp_path):
    layout = images.Layout(tmp_path / "artifact")
    small, large = trees.seeded(1, 300_000), trees.seeded(2, 5_000_000)
    raw = "application/vnd.cncf.model.weight.v1.raw"
    layout.image([
        layout.blob(data, raw, annotations={"org.cncf.model.filepath": name}) for name, data in (("small", small), ("large", large))
    ], artifactType="application/vnd.cncf.model.manifest.v1+json")
    images.push(layout.path, registry, "flipped")
    proxy = flip_proxy(registry.url, match="/blobs/")
    mountpoint = mcfs.mount(f"oci://{proxy.host}/flipped:v1")
    wrong = 0
    for name, data in (("small", small), ("large", large)):
        for _ in range(3):
            got, _ = read(f"{mountpoint}/{name}")
            assert got is None or got == data, f"{name}: wrong bytes without an error"
            wrong += got is None
    status = mcfs.status()
    assert wrong == 0 or status["cache"]["problems"]
    proxy.heal()
    # After two mismatches reads are refused for a while rather than fetched for ever.
    deadline = time.monotonic() + 60
    while read(f"{mountpoint}/large")[0] != large:
        assert time.monotonic() < deadline
        time.sleep(1)


def raw_artifact(registry, tmp_path, name, data):
    """An artifact with one file, which is its layer, as it is."""
    layout = images.Layout(tmp_path / name)
    layout.image([layout.blob(data, "application/vnd.cncf.model.weight.v1.raw", annotations={
        "org.cncf.model.filepath": "large"})], artifactType="application/vnd.cncf.model.manifest.v1+json")
    images.push(layout.path, registry, name)


@pytest.mark.parametrize("then", ["evicted", "prefetched", "evicted while open"])
def test_no_page_of_a_wrong_fetch_outlives_it(mcfs, registry, fault_proxy, tmp_path, then):
    # The kernel keeps pages of what a reader saw before the digest of the whole file could be known.
    data = trees.seeded(3, 6_000_000)
    raw_artifact(registry, tmp_path, "stale", data)
    proxy = fault_proxy(registry.url)
    mountpoint = mcfs.mount(f"oci://{proxy.host}/stale:v1")
    path = f"{mountpoint}/large"
    proxy.fault({"kind": "flip", "method": "GET", "match": "/blobs/", "at": 100})
    with open(path, "rb", buffering=0) as first:
        assert first.read(4096) != data[:4096]
        proxy.heal()
        if then == "evicted while open":
            mcfs.evict(path)
    if then == "evicted":
        mcfs.evict(path)
    if then == "prefetched":
        # What is wrong is found now, with nobody reading, and is fetched anew.
        mcfs.run("prefetch", f"oci://{proxy.host}/stale:v1", code=None)
    deadline = time.monotonic() + 60
    while (got := read(path)[0]) is None:
        assert time.monotonic() < deadline
        time.sleep(0.5)
    assert got == data


def test_bytes_of_a_wrong_fetch_do_not_get_into_the_upper_by_a_page(mcfs, registry, fault_proxy, tmp_path):
    data = trees.seeded(3, 900_001)
    raw_artifact(registry, tmp_path, "written", data)
    upper = tmp_path / "upper"
    upper.mkdir()
    proxy = fault_proxy(registry.url)
    mountpoint = mcfs.mount(
        f"oci://{proxy.host}/written:v1", options=("--upper", upper),
        environment={"MCFS_PASSTHROUGH": "false", "MCFS_CHUNK_SIZE": "64KiB"})
    path = f"{mountpoint}/large"
    proxy.fault({"kind": "flip", "method": "GET", "match": "/blobs/", "at": 100})
    with open(path, "rb", buffering=0) as file:
        assert file.read(4096) != data[:4096]
    proxy.heal()
    mcfs.evict(path)
    with open(path, "r+b") as file, mmap.mmap(file.fileno(), 0) as pages:
        pages[0] = data[0] ^ 0xFF
        pages.flush()
        os.fsync(file.fileno())
    with open(upper / "large", "rb") as file:
        assert file.read() == bytes([data[0] ^ 0xFF]) + data[1:]


@pytest.mark.parametrize("passthrough", ["true", "false"])
def test_what_verify_found_to_be_damaged_is_not_read_from_pages(mcfs, registry, tmp_path, passthrough):
    data = trees.seeded(3, 900_001)
    raw_artifact(registry, tmp_path, "damaged", data)
    mountpoint = mcfs.mount(f"oci://{registry.host}/damaged:v1", environment={"MCFS_PASSTHROUGH": passthrough})
    path = f"{mountpoint}/large"
    assert read(path)[0] == data
    mcfs.run("verify")
    (blob,) = (tmp_path / "mcfs/cache/blobs").glob("*/sha256-*")
    with open(blob, "r+b") as file:
        file.seek(500_000)
        file.write(b"damaged")
    subprocess.run(["sh", "-c", "echo 3 > /proc/sys/vm/drop_caches"], check=True)
    assert read(path)[0] != data
    mcfs.run("verify", "--repair")
    assert read(path)[0] == data


@pytest.mark.parametrize("passthrough", ["true", "false"])
def test_who_keeps_a_file_open_that_was_wrong_gets_errors_and_others_get_the_file(
        mcfs, registry, fault_proxy, tmp_path, passthrough):
    data = trees.seeded(3, 3_000_001)
    raw_artifact(registry, tmp_path, "kept", data)
    proxy = fault_proxy(registry.url)
    mountpoint = mcfs.mount(f"oci://{proxy.host}/kept:v1", environment={"MCFS_PASSTHROUGH": passthrough})
    path = f"{mountpoint}/large"
    proxy.fault({"kind": "flip", "method": "GET", "match": "/blobs/", "at": 100, "count": 1})
    with open(path, "rb", buffering=0) as victim:
        os.posix_fadvise(victim.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
        assert os.pread(victim.fileno(), 4096, 0) != data[:4096]
        # The one that completes it is told.
        read(path)
        deadline = time.monotonic() + 20
        while read(path)[0] != data:
            assert time.monotonic() < deadline
            time.sleep(0.2)
        subprocess.run(["sh", "-c", "echo 3 > /proc/sys/vm/drop_caches"], check=True)
        with pytest.raises(OSError):
            os.pread(victim.fileno(), 4096, 2_500_000)


def test_what_the_kernel_reads_by_itself_and_is_damaged_is_not_opened_again(mcfs, registry, tmp_path):
    data = trees.seeded(3, 3_000_001)
    raw_artifact(registry, tmp_path, "open", data)
    mountpoint = mcfs.mount(f"oci://{registry.host}/open:v1", options=("--read-only",))
    path = f"{mountpoint}/large"
    assert read(path)[0] == data
    mcfs.run("verify")
    (blob,) = (tmp_path / "mcfs/cache/blobs").glob("*/sha256-*")
    with open(path, "rb"):
        with open(blob, "r+b") as file:
            file.write(b"damaged")
        mcfs.run("verify", "--repair")
        # The kernel has one file for all who have it open: the damaged one.
        assert read(path)[0] in (None, data)
    assert read(path)[0] == data


# An origin that does not answer

WAYS = {
    "pread": "os.pread(file, 4096, 3 << 20)",
    "map": "mmap.mmap(file, 0, prot=mmap.PROT_READ)[3 << 20]",
    "direct": "os.preadv(os.open(sys.argv[1], os.O_RDONLY | os.O_DIRECT), [mmap.mmap(-1, 4096)], 3 << 20)",
}
READS_ONCE = """
import mmap, os, sys
file = os.open(sys.argv[1], os.O_RDONLY)
try: {way}
except OSError as error: sys.exit(error.errno)
"""


@contextlib.contextmanager
def stopped(server):
    """The server takes connections and answers nothing."""
    os.killpg(server.process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.killpg(server.process.pid, signal.SIGCONT)


@pytest.mark.parametrize("way", WAYS)
def test_nobody_waits_longer_than_the_read_deadline(mcfs, remote, way):
    proxy, url, _ = remote
    mountpoint = mcfs.mount(url, options=("--read-deadline", "3"))
    with stopped(proxy):
        started = time.monotonic()
        reader = subprocess.run(
            [sys.executable, "-c", READS_ONCE.format(way=WAYS[way]), f"{mountpoint}/weights.bin"], timeout=60)
        seconds = time.monotonic() - started
    assert reader.returncode == (-signal.SIGBUS if way == "map" else errno.EIO)
    assert seconds < 5


@pytest.mark.parametrize("way", WAYS)
def test_readers_of_one_page_do_not_wait_for_each_other(mcfs, remote, way):
    # The kernel lets one of them ask at a time, and each of the others when that one was refused.
    proxy, url, _ = remote
    mountpoint = mcfs.mount(url, options=("--read-deadline", "3"))
    with stopped(proxy):
        started = time.monotonic()
        readers = [
            subprocess.Popen([sys.executable, "-c", READS_ONCE.format(way=WAYS[way]), f"{mountpoint}/weights.bin"])
            for _ in range(12)]
        codes = {reader.wait(60) for reader in readers}
        seconds = time.monotonic() - started
    assert codes == {-signal.SIGBUS if way == "map" else errno.EIO}
    assert seconds < 6


READS_MANY = """
import os, sys, threading
def read(index):
    # Each by an open of its own, not at the beginning: all of it is read-ahead that the kernel waits for in no reader's name.
    try: os.pread(os.open(sys.argv[1], os.O_RDONLY), 65536, (index << 22) + (1 << 20))
    except OSError: pass
for index in range(int(sys.argv[2])): threading.Thread(target=read, args=[index]).start()
"""


def test_reads_that_hang_hold_up_no_read_of_local_bytes(mcfs, nginx, fault_proxy, tmp_path):
    count, name = 170, tmp_path.name
    trees.write(f"{nginx.root}/{name}/local.bin", trees.seeded(18, BYTES))
    trees.write(f"{nginx.root}/{name}/cold.bin")
    os.truncate(f"{nginx.root}/{name}/cold.bin", count << 22)
    proxy = fault_proxy(nginx.url)
    mountpoint = mcfs.mount(f"{proxy.url}/files/{name}/", environment={"MCFS_PASSTHROUGH": "false"})
    assert read(f"{mountpoint}/local.bin")[0] == trees.seeded(18, BYTES)
    mcfs_helper.drop_page_cache()
    with stopped(proxy):
        readers = subprocess.Popen([sys.executable, "-c", READS_MANY, f"{mountpoint}/cold.bin", str(count)])
        try:
            # As many as the kernel lets through to the daemon.
            misses, deadline = 0, time.monotonic() + 10
            while misses < count and time.monotonic() < deadline:
                time.sleep(0.1)
                misses = mcfs.status()["mounts"][0]["reads"]["misses"]
            assert read(f"{mountpoint}/local.bin", timeout=20)[0] == trees.seeded(18, BYTES)
        finally:
            readers.kill()
    readers.wait(30)
