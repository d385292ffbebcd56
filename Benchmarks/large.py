"""Rows about one large file, over the links that matter."""

import concurrent.futures
import json
import os
import statistics
import subprocess
import sys

import numpy
from safetensors.numpy import save_file

import peers
from measure import MIB, drop_page_cache, memory_of, page_cache_bytes, run, settle, turns
from servers.process import clean_environment
from stand import LIMITED_BYTES_PER_SECOND, ROUND_TRIP_MILLISECONDS


def read(path):
    return ["dd", f"if={path}", "of=/dev/null", "bs=1M"]


def download(url, path):
    """Downloads to a file as `curl -o` does, and removes it."""

    def timed():
        seconds = run(["curl", "-sf", "-o", path, url])
        os.remove(path)
        return seconds

    return timed


class Reader:
    """One side of a comparison: mounts `url` with a fresh cache, reads `name`, and clears away before the next round."""

    def __init__(self, stand, url, name, command=read, **environment):
        self.stand, self.url, self.path = stand, url, name
        self.command, self.environment = command, environment
        self.last = None

    def clear(self):
        if self.last:
            self.last.close()
            self.stand.empty(self.last)
        self.last = None

    def __call__(self):
        self.clear()
        from stand import Mcfs
        self.last = Mcfs(self.stand.directory("mcfs"), environment=self.environment)
        mountpoint = self.last.mount(self.url)
        return lambda: run(self.command(os.path.join(mountpoint, self.path)))


class PeerReader(Reader):
    """The same with a peer: `make(directory)` is its mount."""

    def __init__(self, stand, make, name, command=read):
        super().__init__(stand, None, name, command)
        self.make = make

    def clear(self):
        if self.last:
            self.last.__exit__()
        self.last = None

    def __call__(self):
        self.clear()
        self.last = self.make(self.stand.directory("peer")).__enter__()
        return lambda: run(self.command(os.path.join(self.last.mountpoint, self.path)))


def compare(stand, sides, memory):
    """Turns of `sides`; whatever they mounted is gone afterwards."""
    try:
        return turns(stand.rounds, sides, memory)
    finally:
        for side in sides.values():
            if isinstance(side, Reader):
                side.clear()


def cold(stand):
    """Cold sequential reads over bare loopback."""
    stand.served("large.bin", stand.large_bytes)
    folder = f"{stand.nginx.url}/files"
    result = compare(stand, {
        "curl": lambda: download(f"{folder}/large.bin", os.path.join(stand.workspace, "download")),
        "mcfs": Reader(stand, f"{folder}/large.bin", "large.bin"),
        "rclone": PeerReader(stand, lambda directory: peers.rclone_http(directory, folder), "large.bin"),
    }, 3 * stand.large_bytes)
    curl, mcfs, rclone = (result[name] for name in ("curl", "mcfs", "rclone"))
    ratio, peer = curl.median / mcfs.median, rclone.median / mcfs.median
    stand.row(
        f"cold sequential read of {stand.large_bytes // MIB} MiB, loopback",
        f"{mcfs}; curl -o {curl}: {ratio:.2f} x curl; rclone {rclone}: {peer:.1f} x rclone", ">= 0.9 x curl -o, >= 3 x rclone",
        ratio >= 0.9 and peer >= 3, seconds=vars(mcfs), curl=vars(curl), rclone=vars(rclone), ratio=ratio, ratioToRclone=peer)


def s3(stand):
    """The same from S3, which is where s3fs can be compared with."""
    size, bucket = stand.large_bytes // 4, "bench"
    client = stand.weed.client()
    client.create_bucket(Bucket=bucket)
    with open(stand.served("object.bin", size), "rb") as file:
        client.upload_fileobj(file, bucket, "object.bin")
    result = compare(stand, {
        "mcfs": Reader(stand, f"s3://{bucket}", "object.bin", **stand.weed.environment),
        "rclone": PeerReader(stand, lambda directory: peers.rclone_s3(directory, stand.weed, bucket), "object.bin"),
        "s3fs": PeerReader(stand, lambda directory: peers.s3fs(directory, stand.weed, bucket), "object.bin"),
    }, 3 * size)
    mcfs, rclone, s3fs = (result[name] for name in ("mcfs", "rclone", "s3fs"))
    stand.row(
        f"cold sequential read of {size // MIB} MiB from S3 (SeaweedFS)",
        f"{mcfs}; rclone {rclone}: {rclone.median / mcfs.median:.1f} x; s3fs {s3fs}: {s3fs.median / mcfs.median:.1f} x",
        seconds=vars(mcfs), rclone=vars(rclone), s3fs=vars(s3fs))


def first(stand):
    stand.served("large.bin", stand.large_bytes)
    with stand.mcfs() as mcfs:
        mountpoint = mcfs.mount(f"{stand.nginx.url}/files/large.bin")
        seconds = run(["head", "-c", "4096", f"{mountpoint}/large.bin"])
        fetched = mcfs.status()["mounts"][0]["origin"]["bytes"]
        stand.row(
            f"first 4 KiB of {stand.large_bytes // MIB} MiB", f"{fetched / MIB:.1f} MiB fetched in {seconds * 1000:.0f} ms",
            "<= 8 MiB", fetched <= 8 * MIB, bytes=fetched, seconds=seconds)


def readers(stand):
    size = stand.large_bytes // 4
    stand.served("shared.bin", size)
    with stand.mcfs() as mcfs:
        mountpoint = mcfs.mount(f"{stand.nginx.url}/files/shared.bin")
        settle(3 * size)
        processes = [
            subprocess.Popen(read(f"{mountpoint}/shared.bin"), stderr=subprocess.DEVNULL) for _ in range(16)]
        assert not any(process.wait() for process in processes)
        fetched = mcfs.status()["mounts"][0]["origin"]["bytes"]
        stand.row(
            f"16 processes read one cold {size // MIB} MiB file", f"{fetched / size:.3f} x its size fetched", "<= 1.05 x",
            fetched <= 1.05 * size, bytes=fetched)


def limited(stand):
    """A server that gives each connection 25 MB/s."""
    stand.served("large.bin", stand.large_bytes)
    folder = f"{stand.nginx.url}/slow"
    # Once: it takes what the limit makes of it.
    alone = run(["curl", "-sf", "-o", "/dev/null", f"{folder}/large.bin"])
    result = compare(stand, {
        "mcfs": Reader(stand, f"{folder}/large.bin", "large.bin"),
        "rclone": PeerReader(
            stand, lambda directory: peers.rclone_http(directory, folder, peers.RCLONE_TUNED), "large.bin"),
    }, 3 * stand.large_bytes)
    mcfs, rclone = result["mcfs"], result["rclone"]
    ratio, peer = alone / mcfs.median, alone / rclone.median
    stand.row(
        f"cold {stand.large_bytes // MIB} MiB, {LIMITED_BYTES_PER_SECOND // 1_000_000} MB/s a connection",
        f"{mcfs}: {ratio:.1f} x one curl ({alone:.1f} s); rclone with 16 streams {rclone}: {peer:.1f} x", ">= 14 x one curl",
        ratio >= 14, seconds=vars(mcfs), rclone=vars(rclone), curlSeconds=alone, ratio=ratio, ratioOfRclone=peer)


def distant(stand):
    """A server 20 ms away."""
    stand.served("large.bin", stand.large_bytes)
    url = f"http://{stand.distant(stand.nginx)}/files/large.bin"
    part = stand.large_bytes // 16

    def parallel():
        def timed():
            with concurrent.futures.ThreadPoolExecutor(16) as pool:
                list(pool.map(lambda index: run([
                    "curl", "-sf", "-r", f"{index * part}-{(index + 1) * part - 1}", "-o",
                    os.path.join(stand.workspace, f"part{index}"), url]), range(16)))

        return timed

    result = compare(stand, {"curl": parallel, "mcfs": Reader(stand, url, "large.bin")}, 3 * stand.large_bytes)
    curl, mcfs = result["curl"], result["mcfs"]
    ratio = curl.median / mcfs.median
    stand.row(
        f"cold {stand.large_bytes // MIB} MiB, {ROUND_TRIP_MILLISECONDS} ms round trip",
        f"{mcfs}; curl with 16 ranges in parallel {curl}: {ratio:.2f} x", ">= 0.9 x curl", ratio >= 0.9, seconds=vars(mcfs),
        curl=vars(curl), ratio=ratio)
    result = compare(stand, {
        "curl": lambda: lambda: run(["curl", "-sf", "-r", "0-4095", "-o", "/dev/null", url]),
        "mcfs": Reader(stand, url, "large.bin", lambda path: ["head", "-c", "4096", path]),
    }, MIB)
    curl, mcfs = (1000 * result[name].median for name in ("curl", "mcfs"))
    stand.row(
        f"first byte, {ROUND_TRIP_MILLISECONDS} ms round trip", f"{mcfs:.0f} ms; curl {curl:.0f} ms",
        f"<= curl + {ROUND_TRIP_MILLISECONDS + 10} ms", mcfs <= curl + ROUND_TRIP_MILLISECONDS + 10, milliseconds=mcfs,
        curlMilliseconds=curl)


def tensors(stand):
    """An engine's load of a cold model."""
    path = os.path.join(stand.nginx.root, "model.safetensors")
    count = stand.large_bytes // (16 * MIB)
    if not os.path.exists(path):
        save_file({f"layer.{index:03}.weight": numpy.frombuffer(os.urandom(16 * MIB), dtype=numpy.float16) for index in range(count)}, path)
    url = f"{stand.nginx.url}/files/model.safetensors"
    target = os.path.join(stand.workspace, "model.safetensors")

    def load(path):
        return [sys.executable, os.path.join(os.path.dirname(__file__), "load_safetensors.py"), path]

    def first_download():
        def timed():
            seconds = run(["curl", "-sf", "-o", target, url]) + run(load(target))
            os.remove(target)
            return seconds

        return timed

    result = compare(stand, {
        "download": first_download, "mcfs": Reader(stand, url, "model.safetensors", load)}, 3 * stand.large_bytes)
    download, mcfs = result["download"], result["mcfs"]
    ratio = mcfs.median / download.median
    stand.row(
        f"safetensors of {stand.large_bytes // MIB} MiB loaded, cold", f"{mcfs}; curl -o, then load {download}: {ratio:.2f} x its time",
        "<= 1.15 x", ratio <= 1.15, seconds=vars(mcfs), download=vars(download), ratio=ratio)


def warm(stand):
    """A file that is local, complete and checked."""
    stand.served("large.bin", stand.large_bytes)
    size = f"{stand.large_bytes // MIB} MiB"
    # As one would have it otherwise. How a file was written shows when it is mapped: large writes make large pages.
    plain = os.path.join(stand.directory("plain"), "large.bin")
    run(["curl", "-sf", "-o", plain, f"{stand.nginx.url}/files/large.bin"])
    with stand.mcfs() as mcfs:
        mountpoint = mcfs.mount(f"{stand.nginx.url}/files/large.bin")
        mcfs.prefetch(mountpoint)
        mounted = f"{mountpoint}/large.bin"
        # Both from memory: that is where a file is that was just fetched.
        run(read(plain)), run(read(mounted))
        result = turns(3 * stand.rounds, {"ext4": lambda: lambda: run(read(plain)), "mcfs": lambda: lambda: run(read(mounted))}, MIB)
        ext4, own = result["ext4"], result["mcfs"]
        ratio = ext4.median / own.median
        stand.row(
            f"warm sequential read of {size}, complete file", f"{own}; ext4 {ext4}: {ratio:.2f} x", ">= 0.95 x ext4", ratio >= 0.95,
            seconds=vars(own), ext4=vars(ext4), ratio=ratio)

        def mapped(path):
            command = [
                "fio", "--name=m", f"--filename={path}", "--readonly", "--rw=randread", "--bs=4k", "--ioengine=mmap", "--runtime=2",
                "--time_based", "--invalidate=0", f"--size={stand.large_bytes}", "--output-format=json"]

            def timed():
                output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
                return 1 / json.loads(output[output.index("{"):])["jobs"][0]["read"]["iops"]

            return lambda: timed

        result = turns(stand.rounds, {"ext4": mapped(plain), "mcfs": mapped(mounted)}, MIB)
        ext4, own = (1 / result[name].median for name in ("ext4", "mcfs"))
        stand.row(
            f"warm 4 KiB random reads by mmap, {size}", f"{own:,.0f}/s; ext4 {ext4:,.0f}/s: {own / ext4:.2f} x", ">= 0.95 x ext4",
            own / ext4 >= 0.95, perSecond=own, ext4PerSecond=ext4)
        drop_page_cache()
        before = page_cache_bytes()
        run(read(mounted))
        grown = page_cache_bytes() - before
        stand.row(
            f"page cache after reading a complete file of {size}", f"{grown / stand.large_bytes:.2f} x its size", "<= 1.1 x",
            grown <= 1.1 * stand.large_bytes, bytes=grown)


def ordinary(stand):
    """The path of kernels without passthrough: a new mount, whose file is local and in the page cache, reads through the daemon."""
    stand.served("large.bin", stand.large_bytes)
    folder = f"{stand.nginx.url}/files"
    with stand.mcfs(MCFS_PASSTHROUGH="false") as mcfs:
        mountpoint = mcfs.mount(folder + "/")
        mcfs.prefetch(mountpoint, "--include", "large.bin")
        cache = stand.directory("peer")
        with peers.rclone_http(cache, folder) as rclone:
            run(read(f"{rclone.mountpoint}/large.bin"))
        last = []

        def own():
            mcfs.umount(mountpoint)
            mcfs.mount(folder + "/", at=mountpoint)
            return lambda: run(read(f"{mountpoint}/large.bin"))

        def other():
            while last:
                last.pop().__exit__()
            last.append(peers.rclone_http(cache, folder).__enter__())
            return lambda: run(read(f"{last[0].mountpoint}/large.bin"))

        try:
            result = turns(stand.rounds, {"mcfs": own, "rclone": other}, 2 * stand.large_bytes)
        finally:
            while last:
                last.pop().__exit__()
        own, other = result["mcfs"], result["rclone"]
        rate, ratio = stand.large_bytes / own.median / 1e9, other.median / own.median
        stand.row(
            f"local {stand.large_bytes // MIB} MiB through the daemon, first read of a mount",
            f"{own}, {rate:.1f} GB/s; rclone {other}: {ratio:.1f} x rclone", ">= 1.5 GB/s, >= 2 x rclone", rate >= 1.5 and ratio >= 2,
            seconds=vars(own), rclone=vars(other), ratio=ratio)


def streaming(stand):
    """Memory of the daemon while eight files are read at once."""
    size = stand.large_bytes // 4
    for index in range(8):
        stand.served(f"stream{index}.bin", size)
    with stand.mcfs() as mcfs:
        mountpoint = mcfs.mount(f"{stand.nginx.url}/files/")
        (pid,) = mcfs.daemon_pids
        processes = [
            subprocess.Popen(read(f"{mountpoint}/stream{index}.bin"), stderr=subprocess.DEVNULL) for index in range(8)]
        assert not any(process.wait() for process in processes)
        peak = memory_of(pid, "VmHWM")
        stand.row(
            f"daemon memory at most while 8 files of {size // MIB} MiB are streamed at once", f"{peak / MIB:.0f} MiB", "<= 200 MiB",
            peak <= 200 * MIB, bytes=peak)
        stand.empty(mcfs)


ROWS = {
    "cold": cold, "s3": s3, "first": first, "readers": readers, "limited": limited, "distant": distant, "tensors": tensors,
    "warm": warm, "ordinary": ordinary, "streaming": streaming,
}
