"""Rows about caches of kernels: what a view costs, the inventory, and what a node downloads of an image for all GPUs.

Their kernels are those of Tests/Fixtures/triton-cache, made by Triton, under keys of their own and for eight architectures.
"""

import base64
import functools
import hashlib
import json
import os
import subprocess
import sys
import time

from measure import MIB, drop_names, run, turns
from stand import ROOT

# Modules of the end-to-end tests, which the stand has put on the path.
import images  # noqa: E402
from mcfs import is_mounted  # noqa: E402
from servers.process import RecordedProcess, clean_environment  # noqa: E402

FIXTURE = os.path.join(ROOT, "Tests/Fixtures/triton-cache")
ARCHES = (75, 80, 86, 89, 90, 100, 103, 120)
# This node's, out of them.
OWN = 90
ALL = ",".join(f"sm_{arch}" for arch in ARCHES)
WAIT_SECONDS = 120
TAR_BLOCK = 512


class Kernel:
    """An entry of Triton's cache. `files` are its files by name, `arch` is 90 and the like."""

    def __init__(self, number, arch, name, metadata, files):
        digest = hashlib.sha256(b"%d" % number).digest()
        self.number = number
        self.key, self.arch = base64.b32encode(digest).decode().rstrip("="), arch
        target = {"backend": "cuda", "arch": arch, "warp_size": 32}
        metadata = metadata | {"hash": digest.hex(), "name": name, "target": target, "arch": f"sm{arch}"}
        self.files = {f"{name}.{ending}": data for ending, data in files.items()}
        self.files[f"{name}.json"] = json.dumps(metadata).encode()
        paths = {file: f"/root/.triton/cache/{self.key}/{file}" for file in self.files}
        self.files[f"__grp__{name}.json"] = json.dumps({"child_paths": paths}).encode()

    def members(self, is_known=True):
        """Paths and data. `is_known`: under the names that make a kernel of them, not under others."""
        for file, data in self.files.items():
            yield f"{self.key}/{file}" if is_known else f"entry-{self.number:046}/{file.replace('__grp__', 'group-')}", data

    @property
    def bytes(self):
        return sum(map(len, self.files.values()))

    @property
    def tar_metadata_bytes(self):
        """What of a tar nobody can leave out who wants to know its files and what the kernel needs: headers, metadata."""
        metadata = next(data for file, data in self.files.items() if file.endswith(".json") and not file.startswith("__grp__"))
        return TAR_BLOCK * len(self.files) + -(-len(metadata) // TAR_BLOCK) * TAR_BLOCK


@functools.cache
def real():
    """Architecture -> its kernels in the fixture: name, metadata, files by their endings."""
    found = {arch: [] for arch in ARCHES}
    for parent in ("cache", "more-targets"):
        for key in sorted(os.listdir(os.path.join(FIXTURE, parent))):
            files = {}
            for file in os.listdir(os.path.join(FIXTURE, parent, key)):
                with open(os.path.join(FIXTURE, parent, key, file), "rb") as content:
                    files[file] = content.read()
            name = next((file.removesuffix(".cubin") for file in files if file.endswith(".cubin")), None)
            if name:
                metadata = json.loads(files[f"{name}.json"])
                found[metadata["target"]["arch"]].append((
                    name, metadata, {file.removeprefix(f"{name}."): data for file, data in files.items() if not file.endswith(".json")}))
    return found


def small(count, names=("add_kernel", "softmax_kernel", "matmul_kernel")):
    """Kernels as Triton makes them, 38 to 230 kB each, all architectures in turn. Of `names`, those that the fixture has for an
    architecture take turns."""
    for number in range(count):
        arch = ARCHES[number % len(ARCHES)]
        choice = [kernel for kernel in real()[arch] if kernel[0] in names]
        _, metadata, files = choice[number // len(ARCHES) % len(choice)]
        yield Kernel(number, arch, f"kernel_{number % 100}", metadata, files)


def large(count):
    """Kernels with a binary of 1 MiB and 256 KiB of text."""
    for number in range(count):
        arch = ARCHES[number % len(ARCHES)]
        _, metadata, _ = real()[arch][0]
        yield Kernel(number, arch, "kernel", metadata, {"cubin": os.urandom(MIB), "ttir": os.urandom(MIB // 4)})


@functools.cache
def folder(stand, is_known=True):
    """10,000 entries of the smallest kernel, 8 files each; or the same files under names that no kernel has."""
    path = stand.directory("triton")
    for kernel in small(stand.few(10_000), names=("add_kernel",)):
        for file, data in kernel.members(is_known):
            file = os.path.join(path, file)
            if not os.path.isdir(os.path.dirname(file)):
                os.mkdir(os.path.dirname(file))
            with open(file, "wb") as content:
                content.write(data)
    return path


@functools.cache
def packed(stand, is_known=True):
    """An image of the same. Lists and metadata alone have all their bytes: a mount reads no others."""
    layout = images.Layout(os.path.join(stand.directory("image"), "layout"))
    members = (
        (file, data if file.endswith(".json") else data[:16])
        for kernel in small(stand.few(10_000), names=("add_kernel",)) for file, data in kernel.members(is_known))
    return layout.image([layout.blob(images.tar(*members), images.LAYER)])


def wait_until(holds):
    deadline = time.monotonic() + WAIT_SECONDS
    while not holds():
        assert time.monotonic() < deadline, "it did not come to be"
        time.sleep(0.02)


def wait_judged(mcfs, mountpoint):
    """Waits until it is known of every kernel what it needs, and until nothing else is done."""
    def is_judged():
        status = mcfs.status(mountpoint)
        return status["mounts"][0]["view"]["undecided"] == 0 and status["jobs"] == []

    wait_until(is_judged)


def wait_quiet(pid):
    """Waits until a process does nothing for a while: it is told of every name that the kernel forgets."""
    def ticks():
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[11:13]

    def is_quiet():
        before = ticks()
        time.sleep(0.1)
        return ticks() == before

    wait_until(is_quiet)


def row(stand, *arguments, **details):
    stand.row(*arguments, section="kernels", **details)


def milliseconds(series):
    median, least, most = (1000 * seconds for seconds in (series.median, min(series.seconds), max(series.seconds)))
    return f"{median:.0f} ms [{least:.0f}-{most:.0f}]"


def beside(result, base):
    """All sides of a comparison, and how many times the time of `base` they take."""
    return "; ".join(
        f"{name} {milliseconds(series)}" + ("" if name == base else f": {ratio_of(result, name, base):.2f} x")
        for name, series in result.items())


def ratio_of(result, name, base):
    return result[name].median / result[base].median


def details(result):
    return {name: vars(series) for name, series in result.items()}


OFF, AGAIN, EVERY, ONE, OTHER = "--gpu none", "--gpu none again", "all eight shown", f"--gpu sm_{OWN}", "no kernels"


def mount(stand):
    """The mount of 10,000 kernels with a view, without one, and of the same files under names that no kernel has."""
    count = stand.few(10_000)

    def sides(make, side):
        return {OTHER: side(make(stand, False), "none"), OFF: side(make(stand), "none"), ONE: side(make(stand), f"sm_{OWN}")}

    def judge(what, result):
        for base, named in ((OFF, ""), (OTHER, ", beside the same files under names that no kernel has")):
            ratio = ratio_of(result, ONE, base)
            row(
                stand, f"mount of {count:,} kernels, {what}{named}", beside({name: result[name] for name in (base, ONE)}, base),
                f"<= 1.2 x {'the time of --gpu none' if base == OFF else 'the time of these'}", ratio <= 1.2, ratio=ratio,
                seconds=details(result))

    def cold(reference, gpu):
        def timed():
            with stand.mcfs() as mcfs:
                return run(mcfs.command("mount", "--gpu", gpu, reference, mcfs.new_mountpoint()), env=mcfs.environment)

        return lambda: timed

    judge("a folder, fresh cache directory (and the daemon's start)", turns(stand.rounds, sides(folder, cold)))
    # A mount of the image is short: more turns.
    for what, make, rounds in (("a folder", folder, stand.rounds), ("an image", packed, 2 * stand.rounds)):
        with stand.mcfs() as mcfs:
            # The daemon stays with it.
            mcfs.mount(stand.directory("empty"))
            at, judged = mcfs.new_mountpoint(), []

            def known(reference, gpu):
                started = time.monotonic()
                mcfs.mount(reference, at=at, options=("--gpu", gpu))
                wait_judged(mcfs, at)
                judged.append(time.monotonic() - started)
                kernels = mcfs.status(at)["mounts"][0]["view"]["kernels"]
                assert kernels == (count if reference == make(stand) else 0), f"{kernels} kernels were recognised"

                def prepare():
                    if is_mounted(at):
                        mcfs.umount(at)
                    return lambda: run(mcfs.command("mount", "--gpu", gpu, reference, at), env=mcfs.environment)

                mcfs.umount(at)
                return prepare

            ready = sides(make, known)
            judge(f"{what}, known before", turns(rounds, ready))
            # The first of kernels; all later ones know them.
            seconds = judged[list(ready).index(OFF)]
            row(stand, f"{count:,} kernels of {what}, never seen before: mounted and all judged", f"{seconds:.1f} s", seconds=seconds)


def find(stand):
    """find over 10,000 kernels, with a view that shows all and without one."""
    path, count = folder(stand), stand.few(10_000)
    shown = {OFF: count, EVERY: count, ONE: count // len(ARCHES), AGAIN: count}
    with stand.mcfs() as mcfs:
        works = {}
        for name, gpu in ((OFF, "none"), (EVERY, ALL), (ONE, f"sm_{OWN}"), (AGAIN, "none")):
            at = mcfs.mount(path, options=("--gpu", gpu))
            wait_judged(mcfs, at)
            assert len(os.listdir(at)) == shown[name], f"{name}: {len(os.listdir(at))} kernels show"
            works[name] = lambda at=at: run(["find", at, "-size", "+1k"])
        (pid,) = mcfs.daemon_pids

        def first(work):
            def prepare():
                drop_names()
                wait_quiet(pid)
                return work

            return prepare

        firsts = turns(stand.rounds, {name: first(work) for name, work in works.items()}, MIB)
        for work in works.values():
            work()
        seconds = turns(stand.rounds, {name: lambda work=work: work for name, work in works.items()}, MIB)
        for what, result in (("first time", firsts), ("second time", seconds)):
            ratio = ratio_of(result, EVERY, OFF)
            row(
                stand, f"find over {count:,} kernels with the sizes of {8 * count:,} files, {what}", beside(result, OFF),
                "all eight: <= 1.1 x the time of --gpu none", ratio <= 1.1, ratio=ratio, seconds=details(result))


def inventory(stand):
    """The inventory of 10,000 kernels: made, made again, listed."""
    path, count = folder(stand), stand.few(10_000)
    with stand.mcfs() as mcfs:
        def command(*arguments):
            return lambda: run(mcfs.command(*arguments), env=mcfs.environment)

        def fresh():
            mcfs.environment["MCFS_INVENTORY"] = os.path.join(stand.directory("inventory"), "inventory.db")
            return command("index", path)

        result = turns(stand.rounds, {
            "index": fresh, "again": lambda: command("index", path), "list": lambda: command("list"),
            "list --json": lambda: command("list", "--json")}, MIB)
        listed = len(mcfs.run("list", json=True).json["kernels"])
        assert listed == count, f"{listed} kernels are in the inventory"
    for name, seconds, goal in (("index", 3, "3 s"), ("again", 0.5, "0.5 s"), ("list", 0.1, "100 ms"), ("list --json", 0.1, "100 ms")):
        row(
            stand, f"mcfs {name} of {count:,} kernels" if name != "again" else "the same index again", milliseconds(result[name]),
            f"<= {goal}", result[name].median <= seconds, seconds=vars(result[name]))


def image(stand):
    """What a node with one architecture downloads of an image for eight."""
    for what, kernels in (
            ("1 MiB of binary and 256 KiB of text each", large(5 * len(ARCHES))), ("as Triton makes them", small(stand.few(1000)))):
        # Tools pack a folder in the order of its names.
        kernels = sorted(kernels, key=lambda kernel: kernel.key)
        layer = images.tar(*(
            (f"io.triton.cache/{kernel.key}/{file}", data) for kernel in kernels for file, data in kernel.files.items()))
        own = sum(kernel.bytes for kernel in kernels if kernel.arch == OWN)
        metadata = sum(kernel.tar_metadata_bytes for kernel in kernels)
        bound = 1.2 * own + metadata
        for how, labels in (("labelled", mcv_labels(kernels)), ("not labelled", {})):
            count, requests = downloaded(stand, layer, labels, own)
            row(
                stand, f"download of an image for 8 architectures by a node with one, {how}: {len(kernels)} kernels, {what}",
                f"{count / MIB:.1f} MiB of {len(layer) / MIB:.1f} MiB by {requests} requests; its own kernels {own / MIB:.1f} MiB: "
                f"{count / own:.2f} x",
                f"<= 1.2 x its own + {metadata / MIB:.1f} MiB of headers and metadata = {bound / MIB:.1f} MiB", count <= bound,
                bytes=count, requests=requests, ownBytes=own, metadataBytes=metadata, layerBytes=len(layer))


def mcv_labels(kernels):
    """As MCV writes them, by which mcfs knows that a layer holds kernels before it reads it."""
    summary = {"targets": [{"backend": "cuda", "arch": str(arch), "warp_size": 32} for arch in ARCHES]}
    return {"cache.triton.image/entry-count": str(len(kernels)), "cache.triton.image/summary": json.dumps(summary)}


def downloaded(stand, layer, labels, own):
    """Mounts an image with one layer and has everything fetched that shows. - Returns: bytes of all answers, and requests."""
    layout = images.Layout(os.path.join(stand.directory("image"), "layout"))
    layout.image([layout.blob(layer, images.LAYER)], labels=labels)
    images.push(layout.path, stand.registry, "kernels", "tar")
    log = os.path.join(stand.directory("proxy"), "log")
    with RecordedProcess("fault_proxy.py", [stand.registry.url], log) as proxy, stand.mcfs() as mcfs:
        host = proxy.url.removeprefix("http://")
        mountpoint = mcfs.mount(f"oci://{host}/kernels:v1", options=("--gpu", f"sm_{OWN}", "--prefetch", "all"))
        wait_judged(mcfs, mountpoint)
        local = sum(
            entry["bytesLocal"] for entry in mcfs.ls("-R", mountpoint) if entry["type"] == "file" and entry["verdict"] == "compatible")
        assert local == own, f"{local} of {own} bytes of the node's own kernels are local"
        return proxy.bytes, len(proxy.requests)


def hit(stand):
    """Triton finds a kernel: what it reads of it, with --slim and without."""
    path = stand.directory("compiled")
    script = os.path.join(ROOT, "Tests/EndToEnd/triton_versions/compile.py")

    def compile(cache):
        output = subprocess.run(
            [sys.executable, "-B", script, f"cuda:{OWN}"], env=clean_environment(TRITON_CACHE_DIR=cache), check=True, capture_output=True,
            text=True).stdout
        return json.loads(output)["compiled"]

    assert compile(path) == 1, "the kernel was there before"
    total = sum(os.path.getsize(os.path.join(parent, file)) for parent, _, files in os.walk(path) for file in files)
    local = {}
    for name, options in (("whole", ()), ("--slim", ("--slim",))):
        with stand.mcfs() as mcfs:
            mountpoint = mcfs.mount(path, options=("--gpu", f"sm_{OWN}", *options))
            assert compile(mountpoint) == 0, "the kernel was not found"
            local[name] = sum(
                int(os.getxattr(os.path.join(parent, file), "user.mcfs.local"))
                for parent, _, files in os.walk(mountpoint) for file in files)
    row(
        stand, "Triton finds a small kernel in a cache of nothing else: bytes that became local",
        f"{local['whole']:,}; with --slim {local['--slim']:,} (of {total:,})", localBytes=local, totalBytes=total)


ROWS = {"kernel-mount": mount, "kernel-find": find, "kernel-index": inventory, "kernel-image": image, "kernel-hit": hit}
