"""Measures mcfs beside what it replaces, in turns on one machine, and writes Benchmarks/results/ and docs/performance.md.

    scripts/bench [--rounds N] [--quick]

Servers listen on loopback. Every round begins with a fresh cache directory; the sides of a comparison take turns, so
that what else the machine does hits both. Figures are medians, with the lowest and the highest in brackets.
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "Tests/EndToEnd"))

import images  # noqa: E402
from mcfs import Mcfs  # noqa: E402
from servers import nginx as nginx_server  # noqa: E402
from servers import registry as registry_server  # noqa: E402
from servers.process import RecordedProcess  # noqa: E402

MIB = 1024 * 1024


def timed(command, **options):
    started = time.monotonic()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **options)
    return time.monotonic() - started


def memory(pid, field="VmRSS"):
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith(field))


class Bench:
    def __init__(self, workspace, rounds, large_bytes):
        self.workspace, self.rounds, self.large_bytes = workspace, rounds, large_bytes
        self.rows = []
        self.count = 0

    def fresh(self):
        self.count += 1
        return Mcfs(os.path.join(self.workspace, f"run{self.count}"))

    def done(self, mcfs):
        mcfs.close()
        shutil.rmtree(mcfs.directory, ignore_errors=True)

    def row(self, name, value, goal, met, **details):
        self.rows.append({"name": name, "value": value, "goal": goal, "met": met, **details})
        print(f"{name:58} {value:44} {goal:24} {'yes' if met else 'NO'}", flush=True)

    # Large file

    def large(self, nginx):
        path = os.path.join(nginx.root, "large.bin")
        with open(path, "wb") as file:
            for _ in range(self.large_bytes // (16 * MIB)):
                file.write(os.urandom(16 * MIB))
        url = f"{nginx.url}/files/large.bin"
        curl, cold, warm = [], [], []
        for _ in range(self.rounds):
            target = os.path.join(self.workspace, "curl.out")
            curl.append(timed(["curl", "-s", "-o", target, url]))
            os.remove(target)
            mcfs = self.fresh()
            mountpoint = mcfs.mount(url)
            cold.append(timed(["dd", f"if={mountpoint}/large.bin", "of=/dev/null", "bs=1M"]))
            warm.append(timed(["dd", f"if={mountpoint}/large.bin", "of=/dev/null", "bs=1M"]))
            self.done(mcfs)
        ratio = statistics.median(curl) / statistics.median(cold)
        size = f"{self.large_bytes // MIB} MiB"
        self.row(
            f"cold sequential read of {size}", f"{spread(cold)}; curl -o {spread(curl)}; {ratio:.2f} x curl", ">= 0.6 x curl -o",
            ratio >= 0.6, curlSeconds=curl, seconds=cold, ratio=ratio)
        self.row(f"warm sequential read of {size}, page cache", spread(warm), "", True, seconds=warm)
        mcfs = self.fresh()
        mountpoint = mcfs.mount(url)
        seconds = timed(["head", "-c", "4096", f"{mountpoint}/large.bin"])
        fetched = mcfs.status()["mounts"][0]["origin"]["bytes"]
        self.row(
            f"first 4 KiB of {size}", f"{fetched / MIB:.1f} MiB fetched in {seconds * 1000:.0f} ms", "<= 8 MiB",
            fetched <= 8 * MIB, bytes=fetched, seconds=seconds)
        self.done(mcfs)
        return url

    def readers(self, nginx):
        size = 256 * MIB
        with open(os.path.join(nginx.root, "shared.bin"), "wb") as file:
            file.write(os.urandom(size))
        mcfs = self.fresh()
        mountpoint = mcfs.mount(f"{nginx.url}/files/shared.bin")
        started = time.monotonic()
        readers = [
            subprocess.Popen(["dd", f"if={mountpoint}/shared.bin", "of=/dev/null", "bs=1M"], stderr=subprocess.DEVNULL)
            for _ in range(16)]
        assert not any(reader.wait() for reader in readers)
        seconds = time.monotonic() - started
        fetched = mcfs.status()["mounts"][0]["origin"]["bytes"]
        self.row(
            "16 processes read one cold 256 MiB file", f"{fetched / size:.3f} x its size in {seconds:.2f} s", "<= 1.05 x",
            fetched <= 1.05 * size, bytes=fetched, seconds=seconds)
        self.done(mcfs)

    # Small files

    def layer(self, registry, name, count, size):
        layout = images.Layout(os.path.join(self.workspace, name))
        data = os.urandom(size + 4096)
        members = [(f"d{index % 100:02}/{index:06}", data[index % 4096:index % 4096 + size]) for index in range(count)]
        layout.image([layout.blob(images.tar(*members), images.LAYER)])
        return images.push(layout.path, registry, name, "tar")

    def small(self, registry):
        self.layer(registry, "small", 10_000, 4096)
        proxy = RecordedProcess("fault_proxy.py", [registry.url], os.path.join(self.workspace, "proxy.log"))
        seconds, mounts, requests = [], [], 0
        for round in range(self.rounds):
            mcfs = self.fresh()
            started = time.monotonic()
            mountpoint = mcfs.mount(f"oci://{registry.host}/small:v1")
            mounts.append(time.monotonic() - started)
            seconds.append(timed(["cp", "-r", mountpoint, os.path.join(mcfs.directory, "copy")]))
            self.done(mcfs)
        with proxy:
            mcfs = self.fresh()
            mountpoint = mcfs.mount(f"oci://{proxy.url.removeprefix('http://')}/small:v1")
            timed(["cp", "-r", mountpoint, os.path.join(mcfs.directory, "copy")])
            requests = len(proxy.requests)
            self.done(mcfs)
        total = statistics.median(a + b for a, b in zip(seconds, mounts))
        self.row(
            "10,000 small files in one layer, cold: mount + cp -r",
            f"{total:.2f} s (mount {spread(mounts)}, cp -r {spread(seconds)}); {requests} requests", "<= 4 s, <= 120 requests",
            total <= 4 and requests <= 120, mountSeconds=mounts, seconds=seconds, requests=requests)

    def rss(self, registry, url):
        self.layer(registry, "entries", 100_000, 16)
        mcfs = self.fresh()
        mcfs.mount(f"oci://{registry.host}/entries:v1")
        mountpoint = mcfs.mount(url)
        (pid,) = mcfs.daemon_pids
        timed(["dd", f"if={mountpoint}/large.bin", "of=/dev/null", "bs=1M"])
        resident, peak = memory(pid), memory(pid, "VmHWM")
        self.row(
            f"daemon memory: 100,000 entries mounted, {self.large_bytes // MIB} MiB streamed",
            f"{resident / MIB:.0f} MiB resident, {peak / MIB:.0f} MiB at most", "<= 150 MiB", resident <= 150 * MIB,
            bytes=resident, peakBytes=peak)
        again = mcfs.new_mountpoint()
        started = time.monotonic()
        mcfs.mount(f"oci://{registry.host}/entries:v1", at=again)
        subprocess.run(["ls", again], check=True, stdout=subprocess.DEVNULL)
        self.row("second mount of 100,000 entries, to the first ls", f"{time.monotonic() - started:.2f} s", "", True)
        self.done(mcfs)

    def commands(self):
        mcfs = self.fresh()
        for arguments in (["--help"], ["status", "--cache-dir", mcfs.cache]):
            seconds = [timed([mcfs.executable, *arguments]) for _ in range(11)][1:]
            self.row(f"mcfs {arguments[0]}", f"{statistics.median(seconds) * 1000:.0f} ms", "", True, seconds=seconds)
        self.done(mcfs)


def spread(seconds):
    return f"{statistics.median(seconds):.2f} s [{min(seconds):.2f}-{max(seconds):.2f}]"


def machine():
    with open("/proc/meminfo") as file:
        total = int(file.readline().split()[1]) * 1024
    version = subprocess.run([os.path.join(ROOT, ".build/release/mcfs"), "--version"], capture_output=True, text=True).stdout
    return {
        "cpus": os.cpu_count(), "kernel": platform.release(), "memoryBytes": total, "mcfs": version.strip(),
        "curl": subprocess.run(["curl", "--version"], capture_output=True, text=True).stdout.split()[1],
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
    }


def document(facts, rows):
    """The table of docs/performance.md, between its marks."""
    path = os.path.join(ROOT, "docs/performance.md")
    with open(path) as file:
        text = file.read()
    begin, end = "<!-- bench -->\n", "<!-- /bench -->"
    lines = [
        f"Measured {facts['date']} on {facts['cpus']} cores, {facts['memoryBytes'] // 2**30} GiB, Linux {facts['kernel']}, "
        f"curl {facts['curl']}, all servers on the same machine.\n", "| work | measured | goal | met |", "|---|---|---|---|"]
    lines += [f"| {row['name']} | {row['value']} | {row['goal'] or '–'} | {'yes' if row['met'] else '**no**'} |" for row in rows]
    head, _, rest = text.partition(begin)
    _, _, tail = rest.partition(end)
    with open(path, "w") as file:
        file.write(head + begin + "\n".join(lines) + "\n" + end + tail)


def main():
    parser = argparse.ArgumentParser(prog="scripts/bench")
    parser.add_argument("--rounds", type=int, default=5, help="of each comparison (default 5)")
    parser.add_argument("--quick", action="store_true", help="smaller files, one round, nothing is written")
    arguments = parser.parse_args()
    workspace = tempfile.mkdtemp(prefix="mcfs-bench-")
    bench = Bench(workspace, 1 if arguments.quick else arguments.rounds, (128 if arguments.quick else 1024) * MIB)
    try:
        with nginx_server.nginx(os.path.join(workspace, "nginx")) as nginx, \
                registry_server.registry(os.path.join(workspace, "registry")) as registry:
            url = bench.large(nginx)
            bench.readers(nginx)
            bench.small(registry)
            bench.rss(registry, url)
            bench.commands()
    finally:
        shutil.rmtree(workspace, ignore_errors=True)
    if arguments.quick:
        return
    facts = machine()
    path = os.path.join(ROOT, f"Benchmarks/results/{facts['date']}-{facts['cpus']}cpu-{facts['kernel']}.json")
    with open(path, "w") as file:
        json.dump({"machine": facts, "rows": bench.rows}, file, indent=1, sort_keys=True)
        file.write("\n")
    document(facts, bench.rows)
    print(f"\nwritten: {os.path.relpath(path, ROOT)}, docs/performance.md")


main()
