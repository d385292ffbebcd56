"""Programs that write do their work on a writable mount; what they leave is good where mcfs is not."""

import base64
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import zipfile

import pytest

import trees
from servers.process import find


class Place:
    """A lower tree and the mountpoint that it is mounted on. What is written goes to the mountpoint's own directory."""

    def __init__(self, mcfs, lower):
        self.mcfs = mcfs
        self.lower = str(lower)
        self.path = mcfs.new_mountpoint()
        os.makedirs(self.lower)

    def mount(self):
        return self.mcfs.mount(self.lower, at=self.path)

    def umount(self):
        """From here on `path` holds what was written, and nothing else."""
        self.mcfs.umount(self.path)
        return self.path

    def remount(self):
        self.umount()
        return self.mount()


@pytest.fixture
def place(fuse, mcfs, tmp_path):
    return Place(mcfs, tmp_path / "lower")


def run(*command, cwd=None, timeout=300, **environment):
    """Runs a program that must succeed; its standard output."""
    command = [find(command[0]), *map(os.fspath, command[1:])]
    result = subprocess.run(
        command, cwd=cwd, env=os.environ | environment, capture_output=True, text=True, timeout=timeout, stdin=subprocess.DEVNULL)
    assert result.returncode == 0, f"{command} ended with {result.returncode}:\n{result.stdout[-4000:]}\n{result.stderr[-4000:]}"
    return result.stdout


def run_python(code, *arguments, **options):
    return run(sys.executable, "-c", code, *arguments, **options)


def files(folder):
    """The paths of all files below, sorted."""
    return sorted(os.path.join(parent, name) for parent, _, names in os.walk(folder) for name in names)


def run_together(*commands, timeout=300):
    """Runs programs at the same time; their standard outputs."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    processes = [subprocess.Popen(command, text=True, **pipes) for command in commands]
    outputs = []
    try:
        for process in processes:
            output, errors = process.communicate(timeout=timeout)
            assert process.returncode == 0, f"{process.args} ended with {process.returncode}:\n{output[-4000:]}\n{errors[-4000:]}"
            outputs.append(output)
    finally:
        for process in processes:
            process.kill()
            process.wait()
    return outputs


# Git

GIT_SETTINGS = {"user.name": "A", "user.email": "a@example.com", "safe.directory": "*", "init.defaultBranch": "main"}
# Nothing but these settings, whatever the user's are.
GIT = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull, "GIT_CONFIG_COUNT": str(len(GIT_SETTINGS))}
for index, (key, value) in enumerate(GIT_SETTINGS.items()):
    GIT |= {f"GIT_CONFIG_KEY_{index}": key, f"GIT_CONFIG_VALUE_{index}": value}


def git(folder, *arguments):
    return run("git", *arguments, cwd=folder, **GIT)


def commit(folder, name, data):
    trees.write(f"{folder}/{name}", data)
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", name)


def test_git_clones_commits_and_packs(place):
    project = f"{place.lower}/project"
    os.mkdir(project)
    git(project, "init", "--quiet")
    for index in range(20):
        commit(project, f"folder{index % 3}/file{index}", trees.seeded(index, 3000 * index))
    place.mount()
    below, clone = f"{place.path}/project", f"{place.path}/clone"
    # Objects are linked from below, where the clone is local.
    git(place.path, "clone", "--quiet", below, clone)
    for folder in (below, clone):
        assert git(folder, "status", "--porcelain") == ""
        for index in range(20, 25):
            commit(folder, f"folder{index % 3}/file{index}", trees.seeded(index, 3000 * index))
        git(folder, "mv", "folder0", "moved")
        git(folder, "commit", "--quiet", "--all", "--message", "moved")
        git(folder, "gc", "--quiet", "--prune=now")
        git(folder, "fsck", "--full", "--strict")
    assert not [name for name in os.listdir(f"{below}/.git/objects") if len(name) == 2]
    place.remount()
    for folder in (below, clone):
        assert git(folder, "status", "--porcelain") == ""
        git(folder, "fsck", "--full", "--strict")
        git(folder, "checkout", "--quiet", "HEAD~3")
        git(folder, "checkout", "--quiet", "main")
        assert git(folder, "status", "--porcelain") == ""
    place.umount()
    assert git(clone, "status", "--porcelain") == ""
    git(clone, "fsck", "--full", "--strict")
    assert git(clone, "rev-list", "--count", "HEAD").strip() == "26"


# SQLite

INSERT = """
import sqlite3, sys
path, who, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
database = sqlite3.connect(path, timeout=60, isolation_level=None)
for number in range(count):
    database.execute("BEGIN IMMEDIATE")
    database.execute("INSERT INTO entries VALUES (?, ?, ?)", (who, number, "x" * (number % 500)))
    database.execute("COMMIT")
"""


@pytest.mark.parametrize("journal", ["wal", "delete"])
def test_two_processes_write_an_sqlite_database(place, journal):
    with sqlite3.connect(f"{place.lower}/data.db") as database:
        database.execute("CREATE TABLE entries (who TEXT, number INTEGER, text TEXT, PRIMARY KEY (who, number))")
        database.executemany("INSERT INTO entries VALUES ('below', ?, ?)", [(number, "y" * 300) for number in range(5000)])
    database.close()
    place.mount()
    path = f"{place.path}/data.db"
    database = sqlite3.connect(path)
    assert database.execute(f"PRAGMA journal_mode={journal}").fetchone() == (journal,)
    run_together(*([sys.executable, "-c", INSERT, path, who, "200"] for who in ("first", "second")))
    expected = [("below", 5000), ("first", 200), ("second", 200)]
    counts = "SELECT who, count(*) FROM entries GROUP BY who ORDER BY who"
    # The connection from before sees what both wrote.
    assert database.execute(counts).fetchall() == expected
    database.execute("DELETE FROM entries WHERE who = 'below' AND number % 2")
    database.commit()
    database.execute("VACUUM")
    database.close()
    expected[0] = ("below", 2500)
    for path in (path, f"{place.remount()}/data.db", f"{place.umount()}/data.db"):
        database = sqlite3.connect(path)
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert database.execute(counts).fetchall() == expected
        database.close()


# Python

def make_wheel(folder, version):
    """A package `example` with a module, data in a folder, and a command."""
    os.makedirs(folder, exist_ok=True)
    name = f"{folder}/example-{version}-py3-none-any.whl"
    information = f"example-{version}.dist-info"
    files = {
        "example/__init__.py": f"VERSION = {version!r}\n\n\ndef main():\n    print(VERSION)\n",
        f"example/only_in_{version[0]}.py": "",
        "example/data/table.txt": f"{version}\n" * 1000,
        f"{information}/METADATA": f"Metadata-Version: 2.1\nName: example\nVersion: {version}\n",
        f"{information}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{information}/entry_points.txt": "[console_scripts]\nexample = example:main\n",
    }
    files[f"{information}/RECORD"] = "".join(f"{path},,\n" for path in (*files, f"{information}/RECORD"))
    with zipfile.ZipFile(name, "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
    return name


def install(wheel, target, *options):
    run(sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index", "--no-deps", *options,
        "--target", target, wheel)


def test_pip_installs_and_upgrades(place, tmp_path):
    older = make_wheel(tmp_path / "wheels", "1.0")
    newer = make_wheel(tmp_path / "wheels", "2.0")
    install(older, f"{place.lower}/site")
    place.mount()
    site = f"{place.path}/site"
    show = "import example, os; print(example.VERSION, sorted(os.listdir(os.path.dirname(example.__file__))))"
    assert "1.0" in run_python(show, PYTHONPATH=site)
    install(newer, site, "--upgrade")
    install(newer, f"{place.path}/fresh")
    seen = run_python(show, PYTHONPATH=site)
    assert "2.0" in seen and "only_in_2.py" in seen and "only_in_1.py" not in seen
    assert run(sys.executable, f"{site}/bin/example", PYTHONPATH=site) == "2.0\n"
    place.remount()
    assert run_python(show, PYTHONPATH=site) == seen
    plain = str(tmp_path / "plain")
    install(older, plain)
    install(newer, plain, "--upgrade")
    assert [os.path.relpath(path, site) for path in files(site)] == [os.path.relpath(path, plain) for path in files(plain)]
    place.umount()
    for target in (site, f"{place.path}/fresh"):
        assert run_python(show, PYTHONPATH=target) == seen


def test_python_compiles_what_is_below(place):
    for index in range(60):
        trees.write(f"{place.lower}/package/part{index % 6}/module{index}.py", b"VALUE = %d\n" % index)
    place.mount()
    run(sys.executable, "-m", "compileall", "-q", "-j", "2", f"{place.path}/package")
    check = "import sys; sys.path.insert(0, sys.argv[1]); import module7; assert module7.VALUE == 7; print(module7.__cached__)"
    compiled = run_python(check, f"{place.path}/package/part1").strip()
    assert os.path.isfile(compiled)
    written = os.stat(compiled).st_mtime_ns
    place.remount()
    # Its source has the same time and size, so it is not compiled again.
    assert run_python(check, f"{place.path}/package/part1").strip() == compiled
    assert os.stat(compiled).st_mtime_ns == written
    place.umount()
    found = [name for _, _, names in os.walk(f"{place.path}/package") for name in names]
    assert len(found) == 60 and all(name.endswith(".pyc") for name in found)


# Copies

# Times are the same only to the nanosecond.
RSYNC = ("rsync", "--archive", "--hard-links", "--delete", "--modify-window=-1")


def test_rsync_copies_both_ways(place, sample_tree, tmp_path):
    # Much of it is below already, some of that older, some too much.
    shutil.copytree(sample_tree, f"{place.lower}/tree", symlinks=True)
    trees.write(f"{place.lower}/tree/config.json", b"older\n", time=1)
    trees.write(f"{place.lower}/tree/surplus/folder/file", b"too much\n")
    os.remove(f"{place.lower}/tree/README.md")
    place.mount()
    tree, back = f"{place.path}/tree", str(tmp_path / "back")
    run(*RSYNC, "--checksum", f"{sample_tree}/", tree)
    trees.compare(sample_tree, tree)
    place.remount()
    trees.compare(sample_tree, tree)
    assert run(*RSYNC, "--dry-run", "--itemize-changes", f"{sample_tree}/", tree) == ""
    run(*RSYNC, f"{tree}/", back)
    trees.compare(sample_tree, back)
    # All of it is new.
    run(*RSYNC, f"{sample_tree}/", f"{place.path}/fresh")
    place.umount()
    trees.compare(sample_tree, f"{place.path}/fresh")


def test_tar_packs_and_unpacks(place, sample_tree, tmp_path):
    shutil.copytree(f"{sample_tree}/unix", f"{place.lower}/unix", symlinks=True)
    place.mount()
    archive = f"{place.path}/archive.tar"
    run("tar", "--create", "--file", archive, "--directory", sample_tree, ".")
    # Over what is there, and into an empty folder.
    os.mkdir(f"{place.path}/fresh")
    for target in (place.path, f"{place.path}/fresh"):
        run("tar", "--extract", "--preserve-permissions", "--file", archive, "--directory", target)
    trees.compare(sample_tree, f"{place.path}/fresh")
    os.mkdir(f"{place.path}/later")
    place.remount()
    shutil.rmtree(f"{place.path}/later")
    run("tar", "--create", "--file", tmp_path / "back.tar", "--directory", f"{place.path}/fresh", ".")
    os.mkdir(tmp_path / "back")
    run("tar", "--extract", "--preserve-permissions", "--file", tmp_path / "back.tar", "--directory", tmp_path / "back")
    trees.compare(sample_tree, str(tmp_path / "back"))
    os.remove(archive)
    shutil.rmtree(f"{place.path}/fresh")
    trees.compare(sample_tree, place.path)
    place.umount()


# Hugging Face

DOWNLOAD = """
import sys
from huggingface_hub import snapshot_download
print(snapshot_download(sys.argv[1], revision=sys.argv[2] if len(sys.argv) > 2 else None))
"""


def test_the_hub_client_keeps_its_cache_there(hub, place):
    def download(home, *arguments, offline=False):
        environment = {"HF_HOME": home, "HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_TELEMETRY": "1"}
        environment["HF_HUB_OFFLINE"] = "1" if offline else "0"
        return run_python(DOWNLOAD, *arguments, **environment).strip()

    # An older revision is below, and shares most of its files.
    download(place.lower, "org/model", "v1")
    place.mount()
    hub.forget()
    trees.compare(hub.folders["model-old"], _resolved(download(place.path, "org/model", "v1")), modes=False, times=False)
    assert not [entry for entry in hub.requests if entry["port"] == "content"]
    snapshot = download(place.path, "org/model")
    trees.compare(hub.folders["model"], _resolved(snapshot), modes=False, times=False)
    assert not [entry for entry in hub.requests if entry["port"] == "content"], "the large files are below already"
    many = download(place.path, "org/many")
    trees.compare(hub.folders["many"], _resolved(many), modes=False, times=False)
    place.remount()
    assert download(place.path, "org/model", offline=True) == snapshot
    trees.compare(hub.folders["model"], _resolved(snapshot), modes=False, times=False)
    place.umount()
    assert download(place.path, "org/many", offline=True) == many
    trees.compare(hub.folders["many"], _resolved(many), modes=False, times=False)


def _resolved(snapshot):
    """A copy with files in place of links."""
    copy = snapshot + "-copy"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(snapshot, copy)
    return copy


# Triton

COMPILE = '''
"""Compiles kernels, one for each number, and prints for each whether it was in the cache and what it is."""

import hashlib
import json
import sys

import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource


@triton.jit
def add(x, y, result, count, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = offsets < count
    tl.store(result + offsets, tl.load(x + offsets, mask=inside) + tl.load(y + offsets, mask=inside), mask=inside)


hits = []
triton.knobs.compilation.listener = lambda cache_hit, **_: hits.append(cache_hit)
signature = {"x": "*fp32", "y": "*fp32", "result": "*fp32", "count": "i32", "BLOCK": "constexpr"}
for block in map(int, sys.argv[1:]):
    kernel = triton.compile(ASTSource(add, signature, constexprs={"BLOCK": block}), target=GPUTarget("cuda", 90, 32))
    digest = hashlib.sha256(kernel.asm["cubin"]).hexdigest()
    print(json.dumps({"hit": hits[-1], "key": kernel.hash, "cubin": digest}))
'''


@pytest.fixture
def compile_kernels(tmp_path):
    script = tmp_path / "kernels.py"
    script.write_text(COMPILE)

    def command(cache, *blocks):
        return ["env", f"TRITON_CACHE_DIR={cache}", sys.executable, str(script), *map(str, blocks)]

    def compile_kernels(cache, *blocks, processes=1):
        outputs = run_together(*[command(cache, *blocks)] * processes)
        return [json.loads(line) for output in outputs for line in output.splitlines()]

    return compile_kernels


def test_triton_finds_what_is_below_and_adds_what_is_not(place, compile_kernels):
    # The cache names its files by their absolute paths: it is made where it will be mounted.
    below = compile_kernels(place.path, 64, 128)
    assert [kernel["hit"] for kernel in below] == [False, False]
    for name in os.listdir(place.path):
        shutil.move(f"{place.path}/{name}", place.lower)
    place.mount()

    found = compile_kernels(place.path, 64, 128)
    assert found == [kernel | {"hit": True} for kernel in below]
    written = compile_kernels(place.path, 256)
    assert not written[0]["hit"]
    assert compile_kernels(place.path, 256, 64) == [written[0] | {"hit": True}, found[0]]
    # All compile, or find what another compiled.
    together = compile_kernels(place.path, 512, processes=8)
    assert len({(kernel["key"], kernel["cubin"]) for kernel in together}) == 1
    assert not all(kernel["hit"] for kernel in together)
    all_of_them = compile_kernels(place.path, 64, 128, 256, 512)
    assert all(kernel["hit"] for kernel in all_of_them)
    assert not _temporary(place.path)

    place.remount()
    assert compile_kernels(place.path, 64, 128, 256, 512) == all_of_them
    place.umount()
    # What was below is not there without the mount; what was written is.
    assert compile_kernels(place.path, 256, 512) == all_of_them[2:]
    assert not _temporary(place.path)
    assert {kernel["key"] for kernel in written + together} <= _kernels_with_files(place.path)
    assert not {kernel["key"] for kernel in below} & _kernels_with_files(place.path)


def test_triton_replaces_a_kernel_that_is_below(place, compile_kernels):
    kernel, = compile_kernels(place.path, 64)
    names = os.listdir(place.path)
    for name in names:
        shutil.move(f"{place.path}/{name}", place.lower)
    lower_before = {path: trees.digest(path) for path in files(place.lower)}
    place.mount()
    # A kernel without its group is compiled again, over the files that are left.
    groups = [path for path in files(place.path) if "__grp__" in path]
    for path in groups:
        os.remove(path)
    assert compile_kernels(place.path, 64) == [kernel]
    assert compile_kernels(place.path, 64) == [kernel | {"hit": True}]
    place.umount()
    assert compile_kernels(place.path, 64) == [kernel | {"hit": True}]
    assert {path: trees.digest(path) for path in files(place.lower)} == lower_before



def _temporary(cache):
    return [f"{parent}/{name}" for parent, folders, _ in os.walk(cache) for name in folders if name.startswith("tmp.pid")]


def _kernels_with_files(cache):
    """The keys of the folders that hold a cubin. Their names are the keys in base 32."""
    def key(folder):
        return base64.b32decode(folder + "=" * (-len(folder) % 8)).hex()

    return {key(name) for name in os.listdir(cache) if len(name) == 52 and any(
        file.endswith(".cubin") for file in os.listdir(f"{cache}/{name}"))}
