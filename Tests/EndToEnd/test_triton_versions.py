"""Triton of every era uses a cache through the mount, at a path other than the one where the cache was made, and compiles
nothing. From 3.0 on it writes absolute paths into `__grp__NAME.json` and believes them."""

import json
import os
import subprocess
import sys

import pytest

import mcfs as mcfs_helper
import trees
from servers.process import clean_environment, find
from triton_versions import environments

pytestmark = pytest.mark.usefixtures("fuse")

HERE = os.path.dirname(os.path.abspath(__file__))
IMAGE = os.path.join(mcfs_helper.ROOT, "Tests/Fixtures/triton-cache-image")
TARGETS = ("cuda:80", "cuda:90", "hip:gfx942")
# What a GPU loads, and the text on the way to it.
BINARIES = {"cuda": "cubin", "hip": "hsaco"}
IR = (".ttir", ".ttgir", ".llir", ".source", ".ptx", ".amdgcn")
EVERY_GPU = ("--gpu", "sm_80,sm_90,gfx942")

each_version = pytest.mark.parametrize("version", environments.VERSIONS)
whole_and_slim = pytest.mark.parametrize("options", [(), ("--slim",)], ids=["whole", "slim"])


def triton_command(version, *targets):
    try:
        python = environments.python(version)
    except environments.NotInstallable as error:
        pytest.skip(f"Triton {version} is not to be had: {error}")
    return [python, "-B", f"{HERE}/triton_versions/compile.py", *targets]


def triton_environment(cache):
    settings = {name: value for name, value in clean_environment().items() if not name.startswith("TRITON_")}
    # Up to 3.4 Triton has no linker for AMD of its own; Swift's toolchain has one.
    return settings | {"TRITON_CACHE_DIR": cache, "TRITON_HIP_LLD_PATH": find("ld.lld")}


def run_triton(version, cache, *targets, within=()):
    """What compile.py tells of each target's kernel."""
    command = [*within, *triton_command(version, *targets)]
    result = subprocess.run(command, env=triton_environment(cache), capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, f"{command} ended with {result.returncode}:\n{result.stdout}\n{result.stderr[-4000:]}"
    return [json.loads(line) for line in result.stdout.splitlines()]


class Cache:
    """A cache that Triton made elsewhere: `folder` is where it is now, `kernels` and `folders` what is in it by target."""

    def __init__(self, version, directory):
        made = f"{directory}/made/here"
        self.version, self.folder = version, f"{directory}/moved"
        self.kernels = {kernel["target"]: kernel for kernel in run_triton(version, made, *TARGETS)}
        assert all(kernel["compiled"] == 1 for kernel in self.kernels.values())
        os.rename(made, self.folder)
        by_key = {json.loads(_read(path))["hash"]: os.path.basename(os.path.dirname(path))
                  for path in files(self.folder) if path.endswith("/add_kernel.json")}
        self.folders = {target: by_key[kernel["key"]] for target, kernel in self.kernels.items()}
        self.digests = digests(self.folder)
        assert all(made in _read(path).decode() for path in groups(self.folder))

    def found(self, *targets, slim=False):
        """What compile.py tells when it finds the kernels in the cache."""
        kernels = [self.kernels[target] | {"compiled": 0, "stored": 0} for target in targets]
        for kernel in kernels if slim else ():
            kernel["stages"] = [BINARIES[kernel["target"].split(":")[0]]]
        return kernels


@pytest.fixture(scope="module")
def cache_of(tmp_path_factory):
    """Makes the cache of a version, once: `cache_of(version)`."""
    made = {}

    def cache_of(version):
        if version not in made:
            made[version] = Cache(version, str(tmp_path_factory.mktemp(f"triton-{version}")))
        return made[version]

    yield cache_of
    for cache in made.values():
        assert digests(cache.folder) == cache.digests, f"the cache of {cache.version} is not as Triton made it"


@pytest.fixture
def mount(mcfs, tmp_path):
    """Mounts a cache at a path that JSON must escape: `mount(folder, options…)`; mountpoint and upper."""
    def mount(reference, *options):
        upper = tmp_path / f"upper-{len(mcfs.mountpoints)}"
        upper.mkdir()
        at = mcfs.new_mountpoint(f'the "mount" é {len(mcfs.mountpoints)}')
        return mcfs.mount(reference, at=at, options=("--upper", upper, *options)), str(upper)

    return mount


def written(mcfs, mountpoint, upper):
    """The folders of the cache in which something was written over the tree."""
    listed = {change["path"].split("/")[0] for change in mcfs.run("upper", "list", mountpoint, json=True).json["changes"]}
    assert listed == set(os.listdir(upper)) - {".mcfs-upper"}
    return listed


def files(folder):
    return sorted(os.path.join(parent, name) for parent, _, names in os.walk(folder) for name in names)


def groups(folder):
    return [path for path in files(folder) if os.path.basename(path).startswith("__grp__")]


def digests(folder):
    return {os.path.relpath(path, folder): trees.digest(path) for path in files(folder)}


def _read(path):
    with open(path, "rb") as file:
        return file.read()


@each_version
@whole_and_slim
def test_triton_finds_its_kernels_where_they_were_not_made(mcfs, mount, cache_of, version, options):
    cache = cache_of(version)
    mountpoint, upper = mount(cache.folder, *EVERY_GPU, *options)
    assert run_triton(version, mountpoint, *TARGETS) == cache.found(*TARGETS, slim="--slim" in options)
    assert written(mcfs, mountpoint, upper) == set()
    # All the text is there, but only without --slim was it read.
    for path in files(mountpoint):
        if path.endswith(IR):
            local = int(os.getxattr(path, "user.mcfs.local"))
            assert local == (0 if "--slim" in options else os.path.getsize(path)), path
    shown = digests(mountpoint)
    assert shown.keys() == cache.digests.keys()
    assert [path for path in sorted(shown) if shown[path] != cache.digests[path]] == [
        os.path.relpath(path, cache.folder) for path in groups(cache.folder)]


@each_version
def test_triton_compiles_all_again_where_paths_are_left_as_they_are(mcfs, mount, cache_of, version):
    cache = cache_of(version)
    mountpoint, upper = mount(cache.folder, *EVERY_GPU, "--rebase", "none")
    assert digests(mountpoint) == cache.digests
    assert [kernel["compiled"] for kernel in run_triton(version, mountpoint, *TARGETS)] == [1, 1, 1]
    assert written(mcfs, mountpoint, upper) == set(cache.folders.values())
    # What it wrote names the files where they are now.
    again = run_triton(version, mountpoint, *TARGETS)
    assert [kernel["compiled"] for kernel in again] == [0, 0, 0]


@each_version
def test_triton_makes_the_kernels_that_another_gpu_needs(mcfs, mount, cache_of, version):
    cache = cache_of(version)
    mountpoint, upper = mount(cache.folder, "--gpu", "sm_80")
    assert os.listdir(mountpoint) == [cache.folders["cuda:80"]]
    assert run_triton(version, mountpoint, "cuda:80") == cache.found("cuda:80")
    assert written(mcfs, mountpoint, upper) == set()
    made, = run_triton(version, mountpoint, "cuda:90")
    assert made["compiled"] == 1 and made["key"] == cache.kernels["cuda:90"]["key"]
    assert run_triton(version, mountpoint, "cuda:90", "cuda:80") == [
        made | {"compiled": 0, "stored": 0}, *cache.found("cuda:80")]
    assert written(mcfs, mountpoint, upper) == {cache.folders["cuda:90"]}


@pytest.mark.parametrize("version", ["3.0.0", "3.9.0"])
@whole_and_slim
def test_groups_name_the_files_where_they_are(mount, cache_of, version, options):
    cache = cache_of(version)
    mountpoint, _ = mount(cache.folder, *EVERY_GPU, *options)
    assert len(groups(mountpoint)) == len(TARGETS)
    for path in groups(mountpoint):
        size = os.stat(path).st_size
        data = _read(path)
        assert len(data) == size == os.stat(path).st_size
        folder = os.path.dirname(path)
        names = [name for name in json.loads(_read(path.replace(mountpoint, cache.folder)))["child_paths"]
                 if not (options and name.endswith(IR))]
        assert json.loads(data) == {"child_paths": {name: f"{folder}/{name}" for name in names}}
        with open(path, "rb") as file:
            for offset in (size + 1, size - 1, size // 2, 7, 0):
                assert os.pread(file.fileno(), 100, offset) == data[offset:offset + 100]


@pytest.mark.parametrize("version", ["3.0.0", "3.9.0"])
def test_groups_name_the_files_where_a_container_has_them(mcfs, mount, cache_of, tmp_path, version):
    cache = cache_of(version)
    inside = tmp_path / "inside"
    inside.mkdir()
    # A container sees the folder at another path, and nothing at the mountpoint.
    script = 'mount --bind "$1" "$2" && mount -t tmpfs none "$1" && shift 2 && exec "$@"'
    namespace = ["unshare", "--mount", *(() if os.geteuid() == 0 else ("--user", "--map-root-user"))]

    def run_inside(mountpoint):
        return run_triton(version, str(inside), *TARGETS, within=[*namespace, "sh", "-c", script, "sh", mountpoint, str(inside)])

    mountpoint, upper = mount(cache.folder, *EVERY_GPU, "--rebase", inside)
    assert run_inside(mountpoint) == cache.found(*TARGETS)
    assert written(mcfs, mountpoint, upper) == set()
    mountpoint, upper = mount(cache.folder, *EVERY_GPU)
    assert [kernel["compiled"] for kernel in run_inside(mountpoint)] == [1, 1, 1]


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="the image was made with the Triton for Python 3.11")
@whole_and_slim
def test_triton_finds_the_kernels_of_an_image_from_elsewhere(mcfs, mount, options):
    mountpoint, upper = mount(f"oci-layout:{IMAGE}", "--gpu", "sm_80,sm_90", *options)
    kernels = run_triton("3.6.0", mountpoint, "cuda:80", "cuda:90")
    assert [(kernel["compiled"], kernel["stored"]) for kernel in kernels] == [(0, 0), (0, 0)]
    assert written(mcfs, mountpoint, upper) == set()
