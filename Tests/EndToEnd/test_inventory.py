"""The kernel inventory: `index`, `list`, `prune` on folders and mounts, and `warm` with stand-ins for podman and docker."""

import base64
import fnmatch
import hashlib
import json
import os
import re
import shlex
import shutil
import signal
import stat
import subprocess
import tarfile
import threading
import time

import pytest

import mcfs as mcfs_helper
from servers.registry import run
from test_triton_versions import each_version, run_triton, TARGETS
from test_unprivileged import User, USER, user  # noqa: F401  (a fixture)
from test_upper import on_terminal
from test_upper_clients import compile_kernels  # noqa: F401  (a fixture)

FIXTURE = os.path.join(mcfs_helper.ROOT, "Tests/Fixtures/triton-cache")
if not os.path.isdir(FIXTURE):
    FIXTURE = os.path.join(os.path.dirname(mcfs_helper.ROOT), "shared/fixtures/triton-cache")

# What these tests prune is never a developer's own.
for name in ("MCFS_INVENTORY", "XDG_DATA_HOME"):
    os.environ.pop(name, None)

KEYS = {
    "arch", "backend", "bytes", "hash", "hits", "irBytes", "kind", "lastHit", "modified", "name", "numStages", "numWarps",
    "path", "problem", "root", "tritonVersion", "warpSize"}
IR = ("*.ttir", "*.ttgir", "*.llir", "*.source", "*.ptx", "*.amdgcn")
DAY = 86_400


def make_old(folder, seconds=3600):
    """Sets times back, as those of a cache that nobody writes to now."""
    then = time.time() - seconds
    for parent, folders, names in os.walk(folder, topdown=False):
        for name in [*names, *folders]:
            os.utime(os.path.join(parent, name), (then, then), follow_symlinks=False)
    os.utime(folder, (then, then))


def settle():
    """The time of the last change cannot be set back: what was changed within a second is looked at again."""
    time.sleep(1.1)


@pytest.fixture
def cache(tmp_path):
    """A Triton cache of twelve kernels and two launchers, an hour old."""
    folder = tmp_path / "triton"
    shutil.copytree(f"{FIXTURE}/cache", folder)
    make_old(folder)
    return str(folder)


def kernels(mcfs, *arguments):
    return mcfs.run("list", *arguments, json=True).json["kernels"]


def files(folder):
    return sorted(os.path.relpath(os.path.join(parent, name), folder) for parent, _, names in os.walk(folder) for name in names)


def is_ir(path):
    return any(fnmatch.fnmatch(path, pattern) for pattern in IR)


def check_entries(folder, count):
    """Each entry holds its binary and metadata, no IR, and a group record that lists exactly that."""
    groups = [path for path in files(folder) if "/__grp__" in path]
    assert len(groups) == count
    for group in groups:
        entry = os.path.dirname(group)
        names = set(os.listdir(f"{folder}/{entry}")) - {os.path.basename(group)}
        with open(f"{folder}/{group}") as file:
            assert set(json.load(file)["child_paths"]) == names
        assert any(name.endswith((".cubin", ".hsaco")) for name in names) and not any(map(is_ir, names))


# Folders

def test_kernels_of_a_folder_are_listed_with_what_scripts_rely_on(mcfs, cache):
    assert kernels(mcfs) == []
    assert "nothing was indexed" in mcfs.run("list").stderr
    result = mcfs.run("index", cache, json=True).json
    assert result == {"places": [{
        "added": 12, "bytes": result["places"][0]["bytes"], "changed": 0, "filesRead": 12, "kernels": 12, "place": cache,
        "removed": 0}]}
    listed = kernels(mcfs)
    assert len(listed) == 12 and all(set(kernel) == KEYS for kernel in listed)
    assert list(listed[0]) == sorted(KEYS)
    with open(f"{FIXTURE}/INDEX.tsv") as table:
        rows = [line.rstrip("\n").split("\t") for line in table if line.startswith("cache/")]
    expected = {
        (f"{cache}/{row[0].removeprefix('cache/')}", row[1], row[2], row[3], int(row[4])) for row in rows if row[2] != "-"}
    assert {(k["path"], k["name"], k["backend"], k["arch"], k["warpSize"]) for k in listed} == expected
    for kernel in listed:
        key = os.path.basename(kernel["path"])
        assert kernel["hash"] == base64.b32decode(key + "=" * (-len(key) % 8)).hex()
        assert kernel["modified"] == int(os.stat(kernel["path"]).st_mtime)
        sizes = {name: os.stat(f"{kernel['path']}/{name}").st_size for name in os.listdir(kernel["path"])}
        assert kernel["bytes"] == sum(sizes.values())
        assert kernel["irBytes"] == sum(size for name, size in sizes.items() if is_ir(name))
    text = mcfs.run("list").stdout.splitlines()
    assert len(text) == 14 and text[0].split()[0] == "NAME" and "KiB" in text[1] and text[-1].startswith("12 kernels, ")


def test_filters_and_orders(mcfs, cache):
    mcfs.run("index", cache)
    some = kernels(mcfs)[0]["path"]
    then = time.time() - 10 * DAY
    os.utime(some, (then, then))
    mcfs.run("index", cache)
    for arguments, count in [
        (("--name", "add_kernel"), 4), (("--name", "*max*"), 4), (("--name", "add"), 0), (("--backend", "cuda"), 9),
        (("--backend", "hip"), 3), (("--backend", "rocm"), 3), (("--arch", "sm_90"), 3), (("--arch", "90"), 3),
        (("--arch", "gfx942"), 3), (("--older-than", "1w"), 1), (("--older-than", "30m"), 12), (("--younger-than", "2d"), 11),
        (("--older-than", "12h", "--younger-than", "2w"), 1), (("--hits-below", "1"), 12), (("--hits-above", "0"), 0),
        (("--name", "*_kernel", "--backend", "cuda", "--arch", "80"), 3), ((cache,), 12), ((some,), 1), ((mcfs.directory,), 0),
    ]:
        assert len(kernels(mcfs, *arguments)) == count, arguments
    sizes = [kernel["bytes"] for kernel in kernels(mcfs, "--sort", "size")]
    assert sizes == sorted(sizes, reverse=True)
    assert kernels(mcfs, "--sort", "age")[-1]["path"] == some
    assert [k["path"] for k in kernels(mcfs, "--sort", "path")] == sorted(k["path"] for k in kernels(mcfs))
    for arguments in [
        ("list", "--older-than", "7"), ("list", "--backend", "metal"), ("list", "--sort", "color"),
        ("list", "--older-than", "2w", "--younger-than", "1d"), ("list", "--hits-below", "2", "--hits-above", "2"),
        ("prune", "--ir-only", "--full"), ("prune", "--deduplicate", "--incompatible"), ("prune", "--gpu", "sm_90"),
        ("prune", "oci://host/image:tag"), ("prune", "--incompatible", "--gpu", "Voodoo", cache), ("list", "--hits-below", "-1"),
        ("list", "--arch", "Voodoo"), ("prune", "--arch", "H1000", cache),
    ]:
        mcfs.run(*arguments, code=mcfs_helper.USAGE)
    mcfs.run("index", cache)
    assert kernels(mcfs, "--arch", "H100") == kernels(mcfs, "--arch", "sm_90") != []


def test_again_only_what_changed_is_read_and_what_is_gone_disappears(mcfs, cache):
    settle()
    mcfs.run("index", cache)
    again = mcfs.run("index", cache, json=True).json["places"][0]
    assert (again["filesRead"], again["added"], again["changed"], again["removed"], again["kernels"]) == (0, 0, 0, 0, 12)
    gone, changed = kernels(mcfs)[:2]
    shutil.rmtree(gone["path"])
    with open(f"{changed['path']}/{changed['name']}.json", "w") as file:
        file.write("{\"truncated")
    settle()
    third = mcfs.run("index", json=True).json["places"][0]
    assert (third["filesRead"], third["changed"], third["removed"], third["kernels"]) == (1, 1, 1, 11)
    listed = {kernel["path"]: kernel for kernel in kernels(mcfs)}
    assert gone["path"] not in listed and listed[changed["path"]]["name"] is None
    assert "not JSON" in listed[changed["path"]]["problem"] and "unknown" in mcfs.run("list").stdout
    shutil.rmtree(cache)
    assert "11 gone" in mcfs.run("index", cache).stdout and kernels(mcfs) == []
    mcfs.run("index", cache, code=mcfs_helper.NOT_FOUND)


def test_a_damaged_inventory_is_set_aside(mcfs, cache):
    mcfs.run("index", cache)
    database = f"{mcfs.home}/.local/share/mcfs/inventory.db"
    assert stat.S_IMODE(os.stat(os.path.dirname(database)).st_mode) == 0o700
    for suffix in ("-wal", "-shm"):
        if os.path.exists(database + suffix):
            os.remove(database + suffix)
    with open(database, "r+b") as file:
        file.write(b"damaged " * 1000)
    result = mcfs.run("list")
    assert "set aside" in result.stderr and os.path.exists(database + ".damaged-1")
    mcfs.run("index", cache)
    assert len(kernels(mcfs)) == 12
    elsewhere = {"MCFS_INVENTORY": f"{mcfs.directory}/a/b.db"}
    assert "nothing was indexed" in mcfs.run("list", environment=elsewhere).stderr
    assert os.path.exists(f"{mcfs.directory}/a/b.db")
    mcfs.run("list", environment={"XDG_DATA_HOME": f"{mcfs.directory}/data"})
    assert os.path.exists(f"{mcfs.directory}/data/mcfs/inventory.db")
    mcfs.run("list", environment={"MCFS_INVENTORY": "/proc/nothing.db"}, code=mcfs_helper.CANNOT_CREATE)


@pytest.mark.usefixtures("fuse")
def test_a_folder_that_may_not_be_listed_keeps_what_is_known_of_it(user, tmp_path):  # noqa: F811
    folder = f"{user.directory}/home/caches"
    shutil.copytree(f"{FIXTURE}/cache", f"{folder}/a")
    shutil.copytree(f"{FIXTURE}/more-targets", f"{folder}/b")
    make_old(folder)
    for parent, folders, names in os.walk(user.directory + "/home"):
        for name in [*folders, *names]:
            os.chown(f"{parent}/{name}", USER, USER)
            os.chmod(f"{parent}/{name}", 0o755)
    user.mcfs("index", folder)
    os.chmod(f"{folder}/b", 0)
    result = user.mcfs("index", folder)
    assert "cannot list" in result.stderr and "20 kernels" in result.stdout
    os.chmod(f"{folder}/b", 0o700)
    pruned = user.mcfs("prune", "-y", folder)
    check_entries(folder, 20)
    assert "20 kernels" in pruned.stdout
    # Nothing is counted as done that is not.
    for name in os.listdir(f"{folder}/b"):
        os.chown(f"{folder}/b/{name}", 0, 0)
    refused = user.mcfs("prune", "-y", "--full", f"{folder}/b", code=mcfs_helper.UNAUTHORIZED)
    assert "8 kernels could not be pruned" in refused.stderr and len(os.listdir(f"{folder}/b")) == 8


# Prune

def test_prune_removes_what_no_engine_needs(mcfs, cache):
    before = files(cache)
    plan = mcfs.run("prune", cache, "--dry-run", json=True).json
    assert plan["dryRun"] and plan["extent"] == "ir" and len(plan["kernels"]) == 12 and files(cache) == before
    # As every command that asks.
    mcfs.run("prune", cache, input="y\n", code=mcfs_helper.USAGE)
    for answer in (b"\n", b"yes please\n"):
        code, said = on_terminal(mcfs.command("prune", cache), answer, mcfs.environment)
        assert code == mcfs_helper.FAILED and "12 kernels" in said and "KiB" in said and files(cache) == before
    ages = {kernel["path"]: kernel["modified"] for kernel in kernels(mcfs)}
    code, said = on_terminal(mcfs.command("prune", cache), b"y\n", mcfs.environment)
    assert code == 0 and "pruned 12 kernels" in said
    check_entries(cache, 12)
    assert set(before) - set(files(cache)) == set(filter(is_ir, before))
    assert {kernel["path"]: kernel["modified"] for kernel in kernels(mcfs)} == ages
    assert {kernel["irBytes"] for kernel in kernels(mcfs)} == {0}
    assert "no kernel matches" in mcfs.run("prune", "-y").stdout


def test_prune_of_every_version_of_triton(mcfs, tmp_path):
    for version in os.listdir(f"{FIXTURE}/versions"):
        folder = tmp_path / version
        shutil.copytree(f"{FIXTURE}/versions/{version}/cache", folder)
        make_old(folder)
        done = mcfs.run("prune", "-y", folder, json=True).json
        check_entries(folder, 3 if version == "3.9.0" else 2)
        assert done["pruned"] == len(done["kernels"]) and done["kept"] == []


def test_prune_of_whole_kernels(mcfs, cache, tmp_path):
    mcfs.run("index", cache)
    copy = f"{cache}/{hashlib.sha256(b'copy').hexdigest()}"
    original = kernels(mcfs, "--name", "add_kernel", "--arch", "80")[0]
    shutil.copytree(original["path"], copy)
    with open(f"{copy}/add_kernel.json", "r+") as file:
        text = file.read().replace(original["hash"], os.path.basename(copy))
        file.seek(0)
        file.write(text)
    make_old(copy, 1800)
    done = mcfs.run("prune", "-y", "--deduplicate", json=True).json
    assert [kernel["path"] for kernel in done["kernels"]] == [original["path"]] and done["pruned"] == 1
    assert not os.path.exists(original["path"]) and os.path.exists(copy)
    plan = mcfs.run("prune", "--dry-run", "--incompatible", "--gpu", "sm_90", json=True).json
    assert len(plan["kernels"]) == 9 and plan["extent"] == "full"
    mcfs.run("prune", "-y", "--incompatible", "--gpu", "sm_90,gfx942")
    assert {kernel["arch"] for kernel in kernels(mcfs)} == {"90", "gfx942"}
    mcfs.run("prune", "-y", "--full", "--backend", "rocm")
    assert {kernel["arch"] for kernel in kernels(mcfs)} == {"90"}
    # Without a GPU nothing is known to be of no use.
    mcfs.run("prune", "-y", "--incompatible", code=None)
    assert len(kernels(mcfs)) in (0, 3)
    mcfs.run("prune", "-y", "--full")
    # The launchers are no kernels.
    assert kernels(mcfs) == [] and len(os.listdir(cache)) == 2


def write(path, content):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(content)


def test_data_sets_and_caches_of_others_are_no_kernels_and_stay(mcfs, tmp_path):
    """Folders that are named by as many characters as a key of Triton, with JSON in them."""
    sha256, md5 = hashlib.sha256(b"data").hexdigest(), hashlib.md5(b"data").hexdigest()
    base32 = base64.b32encode(hashlib.sha256(b"data").digest()).decode().rstrip("=")
    home = tmp_path / "cache"
    info = json.dumps({"builder_name": "json", "dataset_name": "json", "features": {"text": {"dtype": "string"}}}).encode()
    for key in (sha256, md5, base32):
        # As `datasets` writes them.
        folder = f"{home}/huggingface/datasets/json/default-6c6a0b4e2f3d1a57/0.0.0/{key}"
        write(f"{folder}/dataset_info.json", info)
        write(f"{folder}/json-train.arrow", b"ARROW1" + os.urandom(1 << 16))
    for path in (
        f"tilelang/0.1.15/linux-x86_64/kernels/{sha256}/params.json", f"tilelang/0.1.15/linux-x86_64/kernels/{sha256}/manifest.json",
        f"tilelang/0.1.15/linux-x86_64/kernels/{sha256}/kernel.cubin", f"tilelang/0.1.15/linux-x86_64/kernels/{sha256}/kernel.py",
        f"tilelang/0.1.15/cuda-binaries/{sha256}/metadata.json", f"tilelang/0.1.15/cuda-binaries/{sha256}/kernel.cubin",
        f"vllm/flashinfer_autotune_cache/0.6.1/90a/{sha256}/autotune_configs.json", f"x/{sha256}/x.json", f"x/{sha256}/my.arrow",
        f"y/{sha256}/config.json", f"y/{sha256}/config.source",
    ):
        write(f"{home}/{path}", b"{}")
    # One looks like a kernel by its names alone. Of kernels, one holds a file that somebody put there.
    shutil.copytree(f"{FIXTURE}/cache", f"{home}/triton")
    mixed = next(path for path in files(f"{home}/triton") if "__grp__" in path)
    mixed = f"{home}/triton/{os.path.dirname(mixed)}"
    write(f"{mixed}/results.csv", b"mine")
    make_old(home, 40 * DAY)
    before = {path for path in files(home) if not path.startswith("triton/")}
    assert mcfs.run("index", home, json=True).json["places"][0]["kernels"] == 13
    plan = mcfs.run("prune", "--dry-run", "--full", "--older-than", "30d", json=True).json
    assert len(plan["kernels"]) == 11 and len(plan["kept"]) == 2
    assert {kernel["reason"] for kernel in plan["kernels"]} == {"whole kernels were asked for, changed 5w ago"}
    assert any("results.csv" in reason for reason in plan["kept"]) and any("no metadata of Triton" in r for r in plan["kept"])
    result = mcfs.run("prune", "-y", "--full", home)
    assert "pruned 11 kernels" in result.stdout and "2 kernels stay" in result.stdout
    assert "it holds results.csv, which is not known to be its own" in result.stderr
    for options in (("--deduplicate",), ("--incompatible", "--gpu", "gfx1030"), ("--ir-only",)):
        mcfs.run("prune", "-y", home, *options)
    assert before <= set(files(home)) and os.path.exists(f"{mixed}/results.csv")


def test_kernels_of_other_ranks_and_of_other_constants_are_no_duplicates(mcfs, cache, tmp_path):
    home = tmp_path / "tp8"
    entry = next(os.path.dirname(path) for path in files(cache) if "__grp__" in path)
    for rank in range(8):
        shutil.copytree(f"{cache}/{entry}", f"{home}/torch_compile_cache/0123456789/rank_{rank}_0/triton_cache/{entry}")
    # The same name, target, metadata and length: another constant.
    for number in range(4):
        copy = f"{home}/constants/{hashlib.sha256(bytes([number])).hexdigest()}"
        shutil.copytree(f"{cache}/{entry}", copy)
        source = next(f"{copy}/{name}" for name in os.listdir(copy) if name.endswith(".source"))
        with open(source, "r+b") as file:
            file.write(b"%d" % number)
    make_old(home)
    before = files(home)
    assert "no kernel matches" in mcfs.run("prune", "-y", "--deduplicate", home).stdout
    assert files(home) == before


def test_an_indexed_folder_that_a_link_took_the_place_of_is_passed_over(mcfs, cache, tmp_path):
    mcfs.run("index", cache)
    other = f"{tmp_path}/other"
    os.rename(cache, other)
    os.symlink(other, cache)
    before = files(other)
    result = mcfs.run("prune", "-y", "--full")
    assert f"{cache} is {other} now" in result.stderr and files(other) == before
    assert "pruned 12 kernels" in mcfs.run("prune", "-y", "--full", cache).stdout


def test_a_dry_run_says_why(mcfs, cache):
    entries = sorted({os.path.dirname(path) for path in files(cache) if "__grp__add_kernel" in path})
    copy = f"{cache}/{hashlib.sha256(b'copy').hexdigest()}"
    shutil.copytree(f"{cache}/{entries[0]}", copy)
    make_old(cache)
    plan = mcfs.run("prune", cache, "--dry-run", "--deduplicate", json=True).json
    assert [(kernel["path"], kernel["reason"]) for kernel in plan["kernels"]] == [
        (copy, f"the same bytes as {cache}/{entries[0]}, which stays")]
    text = mcfs.run("prune", cache, "--dry-run", "--incompatible", "--gpu", "sm_90").stdout
    assert "built for sm_80; " in text and "built for gfx942; " in text
    assert "no hit needs its IR" in mcfs.run("prune", cache, "--dry-run").stdout


def test_what_stays_is_named_as_far_as_there_is_room_for_it(mcfs, cache):
    """And a kernel of which nothing is known is among it."""
    entries = sorted({os.path.dirname(path) for path in files(cache) if "__grp__" in path})
    for entry in entries[1:]:
        write(f"{cache}/{entry}/notes.txt", b"mine")
    metadata = next(path for path in files(cache) if path.startswith(entries[0]) and "__grp__" in path).replace("__grp__", "")
    os.truncate(f"{cache}/{metadata}", 100)
    make_old(cache)
    before = files(cache)
    plan = mcfs.run("prune", "--dry-run", "--full", cache)
    assert plan.stderr.count("warning: ") == 11 and "and 2 more (--json lists all)" in plan.stderr
    assert "12 kernels stay" in plan.stdout
    assert len(mcfs.run("prune", "--dry-run", "--full", cache, json=True).json["kept"]) == 12
    shutil.rmtree(f"{cache}/{entries[1]}")
    done = mcfs.run("prune", "-y", "--full", f"{cache}/{entries[0]}")
    assert "its metadata is not JSON" in done.stderr and "1 kernel stays" in done.stdout
    assert set(files(cache)) == {path for path in before if not path.startswith(entries[1])}


def test_what_a_killed_writer_left_goes_with_its_kernel(mcfs, cache):
    groups = [path for path in files(cache) if "__grp__" in path]
    for group in groups:
        entry, name = group.split("/__grp__")
        write(f"{cache}/{entry}/tmp.pid_999999_e/{name}", b"half")
    make_old(cache, 40 * DAY)
    done = mcfs.run("prune", "-y", "--full", cache, json=True).json
    assert done["pruned"] == len(groups) == 12 and done["beingWritten"] == 0 and done["kept"] == []
    # The launchers.
    assert len(os.listdir(cache)) == 2


def test_what_is_being_written_stays(mcfs, cache):
    entries = sorted(path for path in os.listdir(cache) if any("__grp__" in name for name in os.listdir(f"{cache}/{path}")))
    os.mkdir(f"{cache}/{entries[0]}/tmp.pid_1_a")
    binary = next(name for name in os.listdir(f"{cache}/{entries[1]}") if name.endswith((".cubin", ".hsaco")))
    with open(f"{cache}/{entries[1]}/{binary}.tmp.pid_1_2", "w"):
        pass
    os.utime(f"{cache}/{entries[2]}/" + os.listdir(f"{cache}/{entries[2]}")[0])
    done = mcfs.run("prune", "-y", "--full", cache, json=True).json
    assert done["beingWritten"] == 3 and done["pruned"] == 9
    assert {entry for entry in entries if os.path.exists(f"{cache}/{entry}")} == set(entries[:3])


class Engine(threading.Thread):
    """Looks kernels up as Triton does, again and again: the group record, its children, then all of them."""

    def __init__(self, cache):
        super().__init__(daemon=True)
        self.cache, self.ending, self.problems, self.lookups, self.trimmed = cache, False, [], 0, 0

    def run(self):
        while not self.ending:
            for entry in os.listdir(self.cache):
                try:
                    self.look_up(f"{self.cache}/{entry}")
                except Exception as error:  # noqa: BLE001
                    self.problems.append(repr(error))
                    return

    def look_up(self, entry):
        try:
            group = next(name for name in os.listdir(entry) if name.startswith("__grp__"))
            with open(f"{entry}/{group}") as file:
                children = list(json.load(file)["child_paths"])
        except (FileNotFoundError, StopIteration):
            # A miss.
            return
        for child in children:
            os.stat(f"{entry}/{child}")
        time.sleep(0.05)
        for child in children:
            with open(f"{entry}/{child}", "rb") as file:
                assert file.read()
        self.lookups += 1
        self.trimmed += not any(map(is_ir, children))


@pytest.mark.parametrize("options", [(), ("--full",)])
def test_an_engine_that_runs_beside_finds_all_or_nothing(mcfs, cache, options):
    engine = Engine(cache)
    engine.start()
    while engine.lookups < 3:
        assert not engine.problems
        time.sleep(0.01)
    mcfs.run("prune", "-y", cache, *options)
    before = engine.lookups
    time.sleep(1)
    engine.ending = True
    engine.join()
    assert engine.problems == []
    assert engine.trimmed > 0 and engine.lookups > before if not options else engine.lookups == before


@each_version
def test_triton_finds_what_was_pruned(mcfs, tmp_path, version):
    folder = str(tmp_path / "cache")
    made = run_triton(version, folder, *TARGETS)
    make_old(folder)
    assert mcfs.run("prune", "-y", folder, json=True).json["pruned"] == len(TARGETS)
    check_entries(folder, len(TARGETS))
    for kernel, before in zip(run_triton(version, folder, *TARGETS), made):
        assert (kernel["compiled"], kernel["stored"]) == (0, 0)
        assert (kernel["key"], kernel["binary"]) == (before["key"], before["binary"])


def test_triton_compiles_again_what_was_removed(mcfs, compile_kernels, tmp_path):  # noqa: F811
    folder = str(tmp_path / "cache")
    made = compile_kernels(folder, 64, 128)
    make_old(folder)
    assert mcfs.run("prune", "-y", "--full", folder, json=True).json["pruned"] == 2
    assert compile_kernels(folder, 64, 128) == made
    assert compile_kernels(folder, 64, 128) == [kernel | {"hit": True} for kernel in made]


# Mounts

@pytest.mark.usefixtures("fuse")
def test_a_mount_is_indexed_without_its_binaries(mcfs, cache):
    mountpoint = mcfs.mount(cache)
    mcfs.run("index", mountpoint)
    listed = kernels(mcfs, mountpoint)
    assert len(listed) == 12 and {kernel["root"] for kernel in listed} == {mountpoint}
    local = {entry["path"]: entry["bytesLocal"] for entry in mcfs.ls("-R", mountpoint) if entry["type"] == "file"}
    read = {path for path, count in local.items() if count}
    assert len(read) == 12 and all(path.endswith(".json") and "__grp__" not in path for path in read)
    again = mcfs.run("index", mountpoint, json=True).json["places"][0]
    assert again["filesRead"] == 0 and again["kernels"] == 12


@pytest.mark.usefixtures("fuse")
def test_hits_are_those_that_mounts_counted(mcfs, cache):
    mountpoint = mcfs.mount(cache, options=("--gpu", "none"))
    mcfs.run("index", mountpoint)
    assert {kernel["hits"] for kernel in kernels(mcfs)} == {0}
    used, other = (kernel["path"] for kernel in kernels(mcfs, "--name", "add_kernel", "--sort", "path")[:2])
    before = int(time.time())
    for _ in range(3):
        with open(f"{used}/__grp__add_kernel.json") as file:
            file.read()
    with open(f"{other}/__grp__add_kernel.json") as file:
        file.read()
    listed = {kernel["path"]: kernel for kernel in kernels(mcfs, "--hits-above", "0", "--sort", "hits")}
    assert [(path, kernel["hits"]) for path, kernel in listed.items()] == [(used, 3), (other, 1)]
    assert before <= listed[used]["lastHit"] <= time.time()
    # They stay without the mount, and when the folder is indexed again with it.
    mcfs.umount(mountpoint)
    assert len(kernels(mcfs, "--hits-above", "2")) == 1
    mcfs.mount(cache, at=mountpoint, options=("--gpu", "none"))
    mcfs.run("index", mountpoint)
    assert [kernel["path"] for kernel in kernels(mcfs, "--hits-above", "2")] == [used]
    pruned = mcfs.run("prune", "-y", "--full", "--hits-below", "1", mountpoint, json=True).json
    assert pruned["pruned"] == 10 and {kernel["path"] for kernel in kernels(mcfs)} == {used, other}


def test_a_reference_is_indexed_without_a_mount(mcfs):
    reference = "oci-layout:" + os.path.join(mcfs_helper.ROOT, "Tests/Fixtures/triton-cache-image")
    mcfs.run("index", reference)
    listed = kernels(mcfs)
    assert len(listed) == 20 and {kernel["root"] for kernel in listed} == {reference}
    assert all(kernel["path"].startswith(reference + "/") and kernel["bytes"] > kernel["irBytes"] > 0 for kernel in listed)
    assert {kernel["arch"] for kernel in listed} == {
        "75", "80", "86", "89", "90", "100", "103", "120", "gfx90a", "gfx942", "gfx950", "gfx1100"}
    assert len(kernels(mcfs, "--arch", "gfx942", reference)) == 3
    again = mcfs.run("index", json=True).json["places"][0]
    assert (again["place"], again["added"], again["removed"], again["changed"]) == (reference, 0, 0, 0)
    # There is no folder to prune.
    mcfs.run("prune", "-y", code=mcfs_helper.USAGE)
    mcfs.run("prune", "-y", reference, code=mcfs_helper.USAGE)
    mcfs.run("index", "oci-layout:/nothing", code=mcfs_helper.NOT_FOUND)


@pytest.mark.usefixtures("fuse")
def test_prune_on_a_mount_goes_through_its_upper(mcfs, cache):
    before = {path: os.stat(f"{cache}/{path}").st_mtime_ns for path in files(cache)}
    mountpoint = mcfs.mount(cache)
    done = mcfs.run("prune", "-y", mountpoint, json=True).json
    assert done["pruned"] == done["hidden"] == 12 and done["bytesFreed"] == 0 and done["kept"] == []
    check_entries(mountpoint, 12)
    changes = {c["path"]: c["change"] for c in mcfs.run("upper", "list", mountpoint, json=True).json["changes"]}
    removed = {path for path, change in changes.items() if change == "removed"}
    assert removed == set(filter(is_ir, before))
    assert {path for path in changes if "__grp__" in path and changes[path] == "changed"} == {
        path for path in before if "__grp__" in path}
    # Records without the text were written to the upper; that is all that goes from it.
    upper = mcfs.run("status", json=True).json["mounts"][0]["upperBytes"]
    plan = mcfs.run("prune", "--dry-run", "--full", "--backend", "cuda", mountpoint).stdout
    assert "9 of them on a mount, where they are hidden" in plan and "which frees" not in plan
    done = mcfs.run("prune", "-y", "--full", "--backend", "cuda", mountpoint, json=True).json
    assert done["pruned"] == done["hidden"] == 9
    assert 0 < done["bytesFreed"] == upper - mcfs.run("status", json=True).json["mounts"][0]["upperBytes"]
    assert {kernel["backend"] for kernel in kernels(mcfs)} == {"hip"}
    assert len(os.listdir(mountpoint)) == 5
    mcfs.umount(mountpoint)
    mcfs.mount(cache, at=mountpoint)
    assert len(os.listdir(mountpoint)) == 5
    mcfs.run("index", mountpoint)
    assert len(kernels(mcfs)) == 3
    # Nothing of the tree itself was touched.
    assert {path: os.stat(f"{cache}/{path}").st_mtime_ns for path in files(cache)} == before


@pytest.mark.usefixtures("fuse")
def test_a_directory_of_vllm_is_pruned_on_a_mount(mcfs, cache, tmp_path):
    folder = f"{tmp_path}/vllm/torch_compile_cache"
    shutil.copytree(cache, f"{folder}/0123456789/rank_0_0/triton_cache")
    write(f"{folder}/0123456789/rank_0_0/vllm_compile_cache.py", b"{}")
    python = f"0123456789/rank_0_0/inductor_cache/ab/cab{'x' * 49}.py"
    write(f"{folder}/{python}", b"x")
    write(f"{folder}/abcdef0123/rank_0_0/vllm_compile_cache.py", b"x")
    write(f"{folder}/abcdef0123/rank_0_0/backbone/computation_graph.py", b"x")
    write(f"{folder}/abcdef0123/rank_0_0/backbone/thesis.tex", b"mine")
    make_old(f"{tmp_path}/vllm")
    mountpoint = mcfs.mount(f"{tmp_path}/vllm", options=("--gpu", "none"))
    assert "rank_0_0/backbone/thesis.tex stays" in mcfs.run("prune", "--dry-run", "--full", mountpoint).stderr
    done = mcfs.run("prune", "-y", "--full", mountpoint, json=True).json
    assert done["pruned"] == 14 and done["beingWritten"] == 0 and len(done["kept"]) == 1
    assert files(f"{mountpoint}/torch_compile_cache") == ["abcdef0123/rank_0_0/backbone/thesis.tex"]
    assert os.listdir(f"{mountpoint}/torch_compile_cache") == ["abcdef0123"]
    assert os.path.exists(f"{folder}/{python}")


@pytest.mark.usefixtures("fuse")
def test_a_mount_that_cannot_be_written_is_not_pruned(mcfs, cache):
    mountpoint = mcfs.mount(cache, options=("--read-only",))
    result = mcfs.run("prune", "-y", mountpoint, code=mcfs_helper.LOCAL_IO)
    assert result.stderr.count("\n") == 1 and "is read-only; mount it without --read-only" in result.stderr
    mcfs.run("index", mountpoint)
    result = mcfs.run("prune", "-y", "--full")
    assert result.stderr.count("\n") == 1 and f"{mountpoint} is read-only and is passed over" in result.stderr
    assert len(kernels(mcfs)) == 12


# Warm

STAND_IN = """#!/bin/sh
# Records how it was called; `run` fills the volume as an engine would, and `build` unpacks what it is given.
[ "${FAILING:-}" != "$1" ] || exit 125
case $1 in
run) printf '%s\\n' "$@" > "$RECORD" ;;
build)
    printf '%s\\n' "$@" > "$RECORD.build"
    [ -z "${HANGING:-}" ] || exec sleep 60
    mkdir "$RECORD.context"; exec tar --extract --directory "$RECORD.context"
    ;;
*) printf '%s\\n' "$@" > "$RECORD.$1"; exit ;;
esac
tr '\\0' '\\n' < /proc/$$/environ | grep ^HF_TOKEN= > "$RECORD.token"
echo "loading the model"
previous=
for argument; do
    [ "$previous" != --volume ] || folder=${argument%%:*}
    previous=$argument
done
[ "${EMPTY:-}" = 1 ] || { mkdir -p "$folder/torch_compile_cache/0123456789" && echo artefact > "$folder/torch_compile_cache/0123456789/a"; }
[ -z "${FILL:-}" ] || cp -r "$FILL"/. "$folder"
exit "${STATUS:-0}"
"""


@pytest.fixture
def runtimes(tmp_path, mcfs):
    """Makes stand-ins of container runtimes; the folder for PATH."""

    def make(*names):
        folder = tmp_path / "-".join(("bin", *names))
        folder.mkdir()
        for name in names:
            (folder / name).write_text(STAND_IN)
            (folder / name).chmod(0o755)
        for tool in ("sh", "tr", "grep", "mkdir", "tar", "gzip", "cp", "sleep"):
            os.symlink(shutil.which(tool), folder / tool)
        return {"PATH": str(folder), "RECORD": str(tmp_path / "record"), "HF_TOKEN": "hf_secret"}

    return make


def recorded(tmp_path, verb=None):
    return (tmp_path / (f"record.{verb}" if verb else "record")).read_text().splitlines()


def pairs(words, option):
    return [value for name, value in zip(words, words[1:]) if name == option]


def test_warm_keeps_the_cache_that_a_container_fills(mcfs, runtimes, tmp_path):
    environment = runtimes("podman", "docker")
    result = mcfs.run(
        "warm", "--model", "org/model", "--image", "image:1", "--host-cache-dir", tmp_path, "--env", "A=b c", "--output",
        tmp_path / "warmed_cache.tar.gz", environment=environment, json=True)
    warmed = result.json
    assert os.path.dirname(warmed["directory"]) == str(tmp_path) and os.path.basename(warmed["directory"]).startswith("cache_")
    assert warmed["image"] == "image:1" and warmed["bytes"] > 0 and warmed["output"] == str(tmp_path / "warmed_cache.tar.gz")
    assert "loading the model" in result.stderr and "hf_secret" not in result.stdout + result.stderr
    words = recorded(tmp_path)
    assert words[:2] == ["run", "--rm"] and words[-1] == "image:1" and "--privileged" not in words and "--tty" not in words
    assert pairs(words, "--device") == ["nvidia.com/gpu=all"]
    assert pairs(words, "--env") == ["MODEL_NAME=org/model", "VLLM_CACHE_ROOT=/root/.cache/vllm", "HF_TOKEN", "A=b c"]
    assert pairs(words, "--volume") == [f"{warmed['directory']}:/root/.cache/vllm:Z"]
    assert (tmp_path / "record.token").read_text() == "HF_TOKEN=hf_secret\n"
    with tarfile.open(warmed["output"]) as tar:
        assert "./torch_compile_cache/0123456789/a" in tar.getnames()
    # What was warmed can be indexed.
    assert "1 kernel" in mcfs.run("index", warmed["directory"]).stdout


def test_warm_gives_the_devices_that_the_runtime_and_the_vendor_need(mcfs, runtimes, tmp_path):
    environment = runtimes("docker")
    del environment["HF_TOKEN"]
    dry = mcfs.run("warm", "--model", "it's a model", "--dry-run", environment=environment)
    words = shlex.split(dry.stdout)
    assert words[:5] == ["docker", "run", "--rm", "--gpus", "all"] and "MODEL_NAME=it's a model" in words
    assert "HF_TOKEN" not in words and not os.path.exists(tmp_path / "record")
    rocm = shlex.split(mcfs.run("warm", "--model", "m", "--rocm", "--dry-run", environment=environment).stdout)
    assert pairs(rocm, "--device") == ["/dev/kfd", "/dev/dri"] and "rocm" in rocm[-1]
    assert len(pairs(rocm, "--group-add")) == 1 and "--gpus" not in rocm
    podman = mcfs.run("warm", "--model", "m", "--runtime", "podman", "--output", "x y.tar.gz", "--dry-run", environment=environment)
    run, tar = podman.stdout.splitlines()
    assert run.startswith("podman run --rm --device nvidia.com/gpu=all") and "'x y.tar.gz'" in tar


def test_warm_reports_what_went_wrong(mcfs, runtimes, tmp_path):
    environment = runtimes("podman")
    options = ("--model", "m", "--host-cache-dir", tmp_path)
    failed = mcfs.run("warm", *options, environment=environment | {"STATUS": "42"}, code=mcfs_helper.FAILED)
    assert "ended with status 42" in failed.stderr
    time.sleep(1)
    empty = mcfs.run("warm", *options, environment=environment | {"EMPTY": "1"}, code=mcfs_helper.FAILED)
    assert "left nothing" in empty.stderr
    mcfs.run("warm", *options, environment=runtimes(), code=mcfs_helper.NOT_FOUND)
    time.sleep(1)
    full = mcfs.run(
        "warm", *options, "--output", tmp_path / "missing" / "x.tar.gz", environment=environment, code=mcfs_helper.LOCAL_IO)
    assert "is kept" in full.stderr
    for arguments in [
        ("--push", "oci://host.example"), ("--push", "oci://host.example/Repo"), ("--push", "s3://bucket/folder"),
        ("--push", f"oci://host.example/repo@sha256:{'0' * 64}"), ("--push=--all",), ("--image", "--privileged"),
        ("--host-cache-dir", "/tmp/a:b"), ("--engine-cache-dir", "/a\nb"),
    ]:
        mcfs.run("warm", "--model", "m", *arguments, "--dry-run", environment=environment, code=mcfs_helper.USAGE)
    mcfs.run("warm", environment=environment, code=mcfs_helper.USAGE)


LINES = [
    r"tar --create --transform 's,^\.,cache,S' --directory FOLDER . --directory FOLDER.image Dockerfile manifest"
    " | RUNTIME build OPTIONS--tag localhost:5000/team/cache:v1 -",
    "RUNTIME push TLSlocalhost:5000/team/cache:v1"]


@pytest.mark.parametrize("runtime", ["podman", "docker"])
def test_warm_pushes_an_image_of_the_cache(mcfs, runtimes, tmp_path, runtime):
    environment = runtimes(runtime)
    options = ("--model", "m", "--host-cache-dir", tmp_path, "--push", "oci://localhost:5000/team/cache:v1")
    dry = mcfs.run("warm", *options, "--output", "x.tar.gz", "--dry-run", environment=environment, json=True).json["commands"]
    assert len(dry) == 4 and dry[1].startswith("tar ") and not os.path.exists(tmp_path / "record")
    folder = re.search("--directory ([^ ]*) ", dry[2])[1]
    for line, expected in zip(dry[2:], LINES):
        for word, value in [
            ("FOLDER", folder), ("RUNTIME", runtime), ("OPTIONS", "--layers=false " if runtime == "podman" else ""),
            ("TLS", "--tls-verify=false " if runtime == "podman" else ""),
        ]:
            expected = expected.replace(word, value)
        assert line == expected

    result = mcfs.run(
        "warm", *options, "--output", tmp_path / "x.tar.gz", environment=environment | {"FILL": f"{FIXTURE}/versions/3.6.0"},
        json=True)
    warmed = result.json
    assert warmed["pushed"] == "oci://localhost:5000/team/cache:v1" and os.path.exists(warmed["output"])
    assert recorded(tmp_path, "build") == shlex.split(dry[2].split("|")[1])[1:]
    assert recorded(tmp_path, "push") == shlex.split(dry[3])[1:]
    context = tmp_path / "record.context"
    assert sorted(os.listdir(context)) == ["Dockerfile", "cache", "manifest"]
    assert files(context / "cache") == files(warmed["directory"])
    with open(context / "manifest/manifest.json") as file:
        assert json.load(file) == {"vllm": [{"vllmHash": "0123456789", "cacheFormat": "binary", "triton": []}]}
    dockerfile = (context / "Dockerfile").read_text().splitlines()
    assert dockerfile[:5] == [
        "FROM scratch AS image", "COPY cache /io.vllm.cache/", "COPY manifest /io.vllm.manifest/", "FROM scratch",
        "COPY --from=image / /"]
    labels = dict(shlex.split(line)[1].split("=", 1) for line in dockerfile[5:])
    size = sum(os.path.getsize(f"{warmed['directory']}/{path}") for path in files(warmed["directory"]))
    assert labels == {
        "cache.vllm.image/entry-count": "1", "cache.vllm.image/cache-size-bytes": str(size),
        # The artefact is for a GPU that nobody can tell.
        "cache.vllm.image/summary": '{"targets":[]}', "cache.vllm.image/format": "binary",
        "io.kserve.km/framework": "vllm", "io.kserve.km/cache-type": "torch-compile",
        "io.kserve.km/cache-hash": "0123456789", "io.kserve.km/cache-mount-subpath": "torch_compile_cache",
        "io.kserve.km/cache-root-env": "VLLM_CACHE_ROOT=/root/.cache/vllm"}
    assert "hf_secret" not in "".join(path.read_text() for path in tmp_path.glob("record.[bp]*") if path.is_file())
    assert not list(tmp_path.glob("cache_*.image"))


def test_warm_keeps_what_could_not_be_pushed(mcfs, runtimes, tmp_path):
    environment = runtimes("podman")
    options = ("warm", "--model", "m", "--host-cache-dir", tmp_path, "--push", "quay.io/team/cache")

    def kept(result):
        folders = list(tmp_path.glob("cache_*"))
        assert len(folders) == 1 and str(folders[0]) in result.stderr
        assert "mcfs: cannot" in result.stderr and result.stdout == ""
        shutil.rmtree(folders[0])

    result = mcfs.run(*options, environment=environment | {"FAILING": "build"}, code=mcfs_helper.FAILED)
    assert "build or tar ended with status 125" in result.stderr and not (tmp_path / "record.push").exists()
    kept(result)
    result = mcfs.run(*options, environment=environment | {"FAILING": "push"}, code=mcfs_helper.FAILED)
    assert "'podman push quay.io/team/cache:latest' ended with status 125" in result.stderr
    assert "podman login quay.io" in result.stderr
    kept(result)
    shutil.rmtree(tmp_path / "record.context")
    # A folder without kernels is no cache that anybody could use.
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "model.bin").write_text("weights")
    result = mcfs.run(
        *options, environment=environment | {"EMPTY": "1", "FILL": str(tmp_path / "weights")}, code=mcfs_helper.FAILED)
    assert "holds no kernels of vLLM or Triton" in result.stderr
    kept(result)


def test_warm_that_is_interrupted_leaves_the_cache_and_nothing_else(mcfs, runtimes, tmp_path):
    process = mcfs.start(
        "warm", "--model", "m", "--host-cache-dir", tmp_path, "--push", "quay.io/team/cache",
        environment=runtimes("podman") | {"HANGING": "1"})
    deadline = time.monotonic() + 20
    while not (tmp_path / "record.build").exists():
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.01)
    assert len(list(tmp_path.glob("cache_*.image"))) == 1
    # As a terminal does it: to all of them.
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(10) == mcfs_helper.FAILED
    left = [path.name for path in tmp_path.glob("cache_*")]
    assert len(left) == 1 and not left[0].endswith(".image")


PODMAN = """#!/bin/sh
# Runs no container: there is no engine here. All else is podman's.
[ "$1" = run ] || exec {podman} "$@"
for argument; do
    [ "${{previous:-}}" != --volume ] || folder=${{argument%%:*}}
    previous=$argument
done
exec cp -r "$FILL"/. "$folder"
"""


@pytest.fixture
def podman(tmp_path, mcfs):
    """The real podman with a storage of its own; the environment in which mcfs finds it."""
    real = shutil.which("podman")
    assert real, "podman is missing; scripts/setup tests installs it"
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "podman").write_text(PODMAN.format(podman=real))
    (folder / "podman").chmod(0o755)
    storage = {"driver": "vfs", "graphroot": f"{tmp_path}/storage", "runroot": f"{tmp_path}/run"}
    (tmp_path / "storage.conf").write_text(
        "[storage]\n" + "".join(f"{name} = {json.dumps(value)}\n" for name, value in storage.items()))
    yield {
        "PATH": f"{folder}:{os.environ['PATH']}", "CONTAINERS_STORAGE_CONF": f"{tmp_path}/storage.conf",
        "TMPDIR": str(tmp_path), "XDG_RUNTIME_DIR": f"{tmp_path}/run"}


@pytest.mark.usefixtures("fuse")
def test_what_podman_pushed_is_checked_and_mounted(mcfs, podman, registry, tmp_path):
    # First a folder as vLLM 0.9 leaves it, then one of Triton's, for several GPUs.
    mcfs.run("index", f"{FIXTURE}/cache")
    entries = kernels(mcfs, "--arch", "90")
    assert len(entries) == 3
    for entry in entries:
        name = os.path.basename(entry["path"])
        shutil.copytree(entry["path"], tmp_path / "vllm/torch_compile_cache/0123456789/rank_0_0/triton_cache" / name)
    (tmp_path / "vllm/modelinfos").mkdir()
    (tmp_path / "vllm/modelinfos/link").symlink_to("../nothing")

    def warm(folder, name):
        reference = f"oci://{registry.host}/warm/{name}:v1"
        result = mcfs.run(
            "warm", "--model", "m", "--image", "none", "--host-cache-dir", tmp_path, "--push", reference, json=True,
            environment=podman | {"FILL": str(folder)})
        assert result.json["pushed"] == reference and not list(tmp_path.glob("cache_*.image"))
        return reference, result.json["directory"]

    reference, folder = warm(tmp_path / "vllm", "vllm")
    manifest = json.loads(run(["skopeo", "inspect", "--raw", "--tls-verify=false", reference.replace("oci:", "docker:")]))
    assert [layer["mediaType"] for layer in manifest["layers"]] == ["application/vnd.oci.image.layer.v1.tar+gzip"]
    for gpu, code, count in [("sm_90", mcfs_helper.DONE, "compatible"), ("gfx942", 10, "incompatible")]:
        check = mcfs.run("check", "--gpu", gpu, reference, code=code, json=True).json
        assert check["from"] == "labels" and check["entries"] == check[count] == 1
    mountpoint = mcfs.mount(reference, options=("--gpu", "sm_90", "--read-only"))
    assert files(mountpoint) == files(folder)
    for path in files(folder):
        if "__grp__" not in path and not os.path.islink(f"{folder}/{path}"):
            with open(f"{folder}/{path}", "rb") as stored, open(f"{mountpoint}/{path}", "rb") as shown:
                assert stored.read() == shown.read()
    assert os.readlink(f"{mountpoint}/modelinfos/link") == "../nothing"
    foreign = mcfs.mount(reference, options=("--gpu", "gfx942", "--read-only"))
    assert not os.path.exists(f"{foreign}/torch_compile_cache/0123456789")

    time.sleep(1)
    reference, folder = warm(f"{FIXTURE}/cache", "triton")
    # Its layer streams by once, and then metadata is local and needs no manifest.
    mcfs.ls(reference)
    mcfs.evict(reference)
    check = mcfs.run("check", "--gpu", "sm_90", reference, code=11, json=True).json
    assert check["from"] == "manifest" and (check["compatible"], check["incompatible"], check["unknown"]) == (3, 9, 0)
    mountpoint = mcfs.mount(reference, options=("--gpu", "sm_90", "--read-only"))
    shown = {os.path.basename(entry["path"]) for entry in entries}
    hidden = {os.path.basename(kernel["path"]) for kernel in kernels(mcfs)} - shown
    assert set(os.listdir(mountpoint)) == set(os.listdir(folder)) - hidden and len(hidden) == 9


# Many

@pytest.fixture
def ten_thousand(tmp_path):
    """A cache of ten thousand kernels: each with metadata of its own, binaries and text are links to a few files."""
    folder = f"{tmp_path}/many"
    shutil.copytree(f"{FIXTURE}/cache", f"{tmp_path}/few")
    sources = sorted(os.path.dirname(path) for path in files(f"{tmp_path}/few") if "__grp__" in path)
    for number in range(10_000):
        source = f"{tmp_path}/few/{sources[number % len(sources)]}"
        digest = hashlib.sha256(str(number).encode())
        entry = f"{folder}/{base64.b32encode(digest.digest()).decode().rstrip('=')}"
        os.makedirs(entry)
        for name in os.listdir(source):
            (shutil.copyfile if name.endswith(".json") else os.link)(f"{source}/{name}", f"{entry}/{name}")
    yield folder
    shutil.rmtree(folder)


def test_ten_thousand_kernels(mcfs, ten_thousand):
    folder = ten_thousand
    settle()
    times = {}
    times["index"] = mcfs.run("index", folder).seconds
    again = mcfs.run("index", folder, json=True)
    times["index again"] = again.seconds
    place = again.json["places"][0]
    assert place["kernels"] == 10_000 and place["filesRead"] == 0
    times["list"] = mcfs.run("list").seconds
    listed = mcfs.run("list", json=True)
    times["list --json"] = listed.seconds
    assert len(listed.json["kernels"]) == 10_000
    times["prune --dry-run"] = mcfs.run("prune", "--dry-run").seconds
    print({name: round(seconds, 3) for name, seconds in times.items()})
