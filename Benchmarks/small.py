"""Rows about trees: many small files, listings, opens, what the daemon needs for them, and commands."""

import json
import os
import shutil
import statistics
import subprocess
import time

import peers
from measure import LOADS, MIB, fuse_requests, memory_of, run, turns
from servers.process import RecordedProcess
from stand import ROUND_TRIP_MILLISECONDS

OPENS = r"""
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
/* open + read 4 KiB + close of the files DIR/0 to DIR/COUNT-1 in turns; prints how many a second. */
int main(int argc, char **argv) {
    char bytes[4096], path[4096];
    int files = atoi(argv[2]), rounds = atoi(argv[3]);
    struct timespec from, to;
    clock_gettime(CLOCK_MONOTONIC, &from);
    for (int index = 0; index < rounds; index++) {
        snprintf(path, sizeof path, "%s/%d", argv[1], index % files);
        int file = open(path, O_RDONLY);
        if (file < 0 || read(file, bytes, sizeof bytes) != sizeof bytes) return 1;
        close(file);
    }
    clock_gettime(CLOCK_MONOTONIC, &to);
    printf("%f\n", rounds / ((to.tv_sec - from.tv_sec) + (to.tv_nsec - from.tv_nsec) / 1e9));
}
"""


def copy(stand):
    """A layer of 10,000 small files: mounted and copied out."""
    repository, _ = stand.layer("small", 10_000, 4096)
    reference = f"oci://{stand.registry.host}/{repository}"
    mounts, copies, totals = [], [], []
    for _ in range(stand.rounds):
        with stand.mcfs() as mcfs:
            started = time.monotonic()
            mountpoint = mcfs.mount(reference)
            mounts.append(time.monotonic() - started)
            copies.append(run(["cp", "-r", mountpoint, os.path.join(mcfs.directory, "copy")]))
            totals.append(mounts[-1] + copies[-1])
    with RecordedProcess("fault_proxy.py", [stand.registry.url], os.path.join(stand.workspace, "proxy.log")) as proxy:
        with stand.mcfs() as mcfs:
            mountpoint = mcfs.mount(f"oci://{proxy.url.removeprefix('http://')}/{repository}")
            run(["cp", "-r", mountpoint, os.path.join(mcfs.directory, "copy")])
        requests = len(proxy.requests)
    total = statistics.median(totals)
    stand.row(
        "10,000 small files in one layer, cold: mount + cp -r",
        f"{total:.2f} s [{min(totals):.2f}-{max(totals):.2f}] (mount {statistics.median(mounts):.2f} s, cp -r "
        f"{statistics.median(copies):.2f} s); {requests} requests", "<= 4 s, <= 120 requests", total <= 4 and requests <= 120,
        mountSeconds=mounts, copySeconds=copies, requests=requests)


def copy_distant(stand):
    repository, layer = stand.layer("small", 10_000, 4096)
    host = stand.distant(stand.registry)

    def own():
        def timed():
            with stand.mcfs() as mcfs:
                return run(["sh", "-c", 'mount=$1; "$2" mount --cache-dir "$3" "$4" "$1" && cp -r "$1" "$5"', "sh",
                            mcfs.new_mountpoint(), mcfs.executable, mcfs.cache, f"oci://{host}/{repository}",
                            os.path.join(mcfs.directory, "copy")], env=mcfs.environment)

        return timed

    result = turns(stand.rounds, {
        "curl": lambda: lambda: run(["curl", "-sf", "-o", os.path.join(stand.workspace, "layer"), f"http://{host}{layer}"]),
        "mcfs": own})
    curl, own = result["curl"], result["mcfs"]
    bound = 2 * curl.median + 2
    stand.row(
        f"10,000 small files in one layer, {ROUND_TRIP_MILLISECONDS} ms round trip: mount + cp -r", f"{own}; curl of the layer {curl}",
        f"<= 2 x curl + 2 s = {bound:.2f} s", own.median <= bound, seconds=vars(own), curl=vars(curl))


def entries(stand):
    """A tree of 100,000 entries."""
    count = 100_000
    large = f"oci://{stand.registry.host}/{stand.layer('entries', count, 16)[0]}"
    with stand.mcfs() as mcfs:
        small = os.path.join(stand.directory("folder"), "files")
        os.makedirs(small)
        with open(os.path.join(small, "config.json"), "w") as file:
            file.write("{}\n")
        mcfs.mount(small)
        (pid,) = mcfs.daemon_pids
        idle = memory_of(pid)
        stand.row("daemon memory with one small mount, idle", f"{idle / MIB:.0f} MiB", "<= 60 MiB", idle <= 60 * MIB, bytes=idle)
        mountpoint = mcfs.mount(large)
        again = []
        for _ in range(stand.rounds):
            at = mcfs.new_mountpoint()
            started = time.monotonic()
            mcfs.mount(large, at=at)
            run(["ls", at])
            again.append(time.monotonic() - started)
            mcfs.umount(at)
        median = statistics.median(again)
        stand.row(
            f"second mount of {count:,} entries, to the first ls", f"{median * 1000:.0f} ms", "<= 200 ms", median <= 0.2, seconds=again)

        plain = os.path.join(stand.directory("plain"), "tree")
        shutil.copytree(mountpoint, plain)
        run(["find", mountpoint]), run(["find", plain])
        result = turns(stand.rounds, {
            "ext4": lambda: lambda: run(["find", plain, "-size", "+1k"]),
            "mcfs": lambda: lambda: run(["find", mountpoint, "-size", "+1k"])}, MIB)
        ext4, own = result["ext4"], result["mcfs"]
        ratio = ext4.median / own.median
        stand.row(
            f"find over {count:,} entries with their sizes, second time", f"{own}; ext4 {ext4}: {ratio:.2f} x", ">= 0.5 x ext4",
            ratio >= 0.5, seconds=vars(own), ext4=vars(ext4), ratio=ratio)


def memory(stand):
    """What an entry costs: a daemon with 100,000 and one with 300,000, restarted so that nothing of the mounting is left."""
    resident = {}
    for count in (100_000, 300_000):
        reference = f"oci://{stand.registry.host}/{stand.layer(f'entries{count}', count, 16)[0]}"
        with stand.mcfs() as mcfs:
            mcfs.umount(mcfs.mount(reference))
            mcfs.kill_daemon()
            mcfs.mount(reference, at=mcfs.mountpoints[0])
            (pid,) = mcfs.daemon_pids
            resident[count] = memory_of(pid)
    each = (resident[300_000] - resident[100_000]) / 200_000
    stand.row(
        "daemon memory for each entry beyond 100,000",
        f"{each:.0f} bytes ({resident[100_000] / MIB:.0f} MiB with 100,000, {resident[300_000] / MIB:.0f} MiB with 300,000)",
        "<= 300 bytes", each <= 300, bytes=resident)


def streamed(stand):
    """100,000 entries mounted and a large file streamed."""
    stand.served("large.bin", stand.large_bytes)
    with stand.mcfs() as mcfs:
        mcfs.mount(f"oci://{stand.registry.host}/{stand.layer('entries', 100_000, 16)[0]}")
        mountpoint = mcfs.mount(f"{stand.nginx.url}/files/large.bin")
        (pid,) = mcfs.daemon_pids
        run(["dd", f"if={mountpoint}/large.bin", "of=/dev/null", "bs=1M"])
        resident, peak = memory_of(pid), memory_of(pid, "VmHWM")
        stand.row(
            f"daemon memory: 100,000 entries mounted, {stand.large_bytes // MIB} MiB streamed",
            f"{resident / MIB:.0f} MiB resident, {peak / MIB:.0f} MiB at most", "<= 150 MiB", resident <= 150 * MIB, bytes=resident,
            peakBytes=peak)
        stand.empty(mcfs)


def opens(stand):
    """open + read + close of small local files."""
    directory = stand.directory("opens")
    source, program, plain = (os.path.join(directory, name) for name in ("opens.c", "opens", "files"))
    with open(source, "w") as file:
        file.write(OPENS)
    subprocess.run(["cc", "-O2", "-o", program, source], check=True)
    os.makedirs(plain)
    files = 1000
    for index in range(files):
        with open(os.path.join(plain, str(index)), "wb") as file:
            file.write(os.urandom(4096))

    def rate(path):
        command = [program, path, str(files), "20000"]
        return lambda: lambda: 1 / float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    with stand.mcfs() as mcfs, peers.fuse_overlayfs(stand.directory("peer"), plain) as overlay:
        mountpoint = mcfs.mount(plain)
        mcfs.prefetch(mountpoint)
        for path in (plain, mountpoint, overlay.mountpoint):
            rate(path)()()
        counted = fuse_requests(lambda: run([program, mountpoint, str(files), "500"]), mountpoint)
        # Nobody waits for the answer to RELEASE.
        waited = counted.total() - counted["RELEASE"]
        shown = f"{counted['RELEASE'] / 500:.2f} RELEASE, {waited / 500:.2f} waited" if counted else "not counted"
        for load, is_loaded in LOADS.items():
            with is_loaded():
                result = turns(stand.rounds, {
                    "ext4": rate(plain), "mcfs": rate(mountpoint), "fuse-overlayfs": rate(overlay.mountpoint)}, MIB)
            ext4, own, other = (1 / result[name].median for name in ("ext4", "mcfs", "fuse-overlayfs"))
            stand.row(
                f"open + read 4 KiB + close of small local files{load}",
                f"{own:,.0f}/s; fuse-overlayfs {other:,.0f}/s: {own / other:.1f} x; ext4 {ext4:,.0f}/s; requests for each: {shown}",
                ">= 1.5 x fuse-overlayfs, one request to wait for", own / other >= 1.5 and waited <= 1.02 * 500,
                perSecond=own, fuseOverlayfsPerSecond=other, ext4PerSecond=ext4, requests=counted)


def commands(stand):
    """Whole commands, by hyperfine."""
    with stand.mcfs() as mcfs:
        mcfs.mount(stand.directory("empty"))
        for arguments in (["--help"], ["status", "--cache-dir", mcfs.cache]):
            report = os.path.join(stand.workspace, "hyperfine.json")
            run([
                "hyperfine", "-N", "--warmup", "2", "--runs", "30", "--export-json", report,
                " ".join([mcfs.executable, *arguments])], env=mcfs.environment)
            with open(report) as file:
                median = json.load(file)["results"][0]["median"] * 1000
            stand.row(f"mcfs {arguments[0]}", f"{median:.0f} ms", "<= 60 ms", median <= 60, milliseconds=median)


ROWS = {
    "copy": copy, "copy-distant": copy_distant, "entries": entries, "memory": memory, "streamed": streamed, "opens": opens,
    "commands": commands,
}
