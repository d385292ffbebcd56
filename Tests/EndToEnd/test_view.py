"""What a mount shows of a cache of kernels: those that the host's GPUs run, and everything that is not surely foreign."""

import base64
import hashlib
import json
import os
import shutil
import signal
import subprocess
import time

import pytest

import images
import mcfs as mcfs_helper
import trees
from posix_model import RENAME_EXCHANGE, RENAME_NOREPLACE, Path, Tree

pytestmark = pytest.mark.usefixtures("fuse")

IMAGE = "oci-layout:" + os.path.join(mcfs_helper.ROOT, "Tests/Fixtures/triton-cache-image")


def metadata(folder):
    """The target of each kernel below a folder by the name of its directory."""
    targets = {}
    for parent, _, names in os.walk(folder):
        for name in names:
            if name.endswith(".json") and not name.startswith("__grp__"):
                with open(os.path.join(parent, name)) as file:
                    targets[os.path.basename(parent)] = json.load(file)["target"]
    return targets


def arches(folder):
    return sorted({str(target["arch"]) for target in metadata(folder).values()})


def wait_for(condition, seconds=20):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to be"
        time.sleep(0.05)


@pytest.fixture
def folder(mcfs, tmp_path):
    """The cache of the fixture as a plain folder: all kernels."""
    whole = mcfs.mount(IMAGE, options=("--gpu", "none", "--rebase", "none"))
    path = f"{tmp_path}/cache"
    shutil.copytree(whole, path, symlinks=True)
    mcfs.umount(whole)
    return path


def decided(mcfs, mountpoint):
    view = mcfs.status(mountpoint)["mounts"][0]["view"]
    return view["undecided"] == 0


def mount(mcfs, reference, *options, **more):
    mountpoint = mcfs.mount(reference, options=options, **more)
    wait_for(lambda: decided(mcfs, mountpoint))
    return mountpoint


# What shows

@pytest.mark.parametrize("gpu, shown", [
    ("sm_90", ["90"]), ("sm_90a", ["90"]), ("H100", ["90"]), ("gfx942", ["gfx942"]), ("MI300X", ["gfx942"]),
    ("sm_80,gfx942", ["80", "gfx942"]), ("sm_86", ["86"]), ("gfx1030", []),
])
def test_kernels_of_other_gpus_are_hidden_as_whole_entries(mcfs, folder, gpu, shown):
    mountpoint = mount(mcfs, folder, "--gpu", gpu)
    assert arches(mountpoint) == shown
    for name in os.listdir(mountpoint):
        assert sorted(os.listdir(f"{mountpoint}/{name}")) == sorted(os.listdir(f"{folder}/{name}"))
    # What has no target shows always.
    launchers = [name for name in os.listdir(folder) if name not in metadata(folder)]
    assert launchers and set(launchers) <= set(os.listdir(mountpoint))
    view = mcfs.status(mountpoint)["mounts"][0]["view"]
    assert view["hiddenEntries"] == len(metadata(folder)) - len(metadata(mountpoint))
    assert view["kernels"] == len(metadata(folder))


def test_without_a_gpu_everything_shows_with_a_warning(mcfs, folder):
    result = mcfs.run("gpu", json=True)
    if result.json["gpus"]:
        pytest.skip("this host has a GPU")
    mountpoint = mcfs.new_mountpoint()
    result = mcfs.run("mount", folder, mountpoint)
    assert "no GPU was found" in result.stderr
    assert sorted(os.listdir(mountpoint)) == sorted(os.listdir(folder))
    assert "warning" not in mcfs.run("mount", "--gpu", "none", folder, mcfs.new_mountpoint()).stderr


def test_an_unknown_gpu_is_a_usage_error(mcfs, folder):
    mountpoint = mcfs.new_mountpoint()
    result = mcfs.run("mount", "--gpu", "sm_9o", folder, mountpoint, code=mcfs_helper.USAGE)
    assert "sm_9o" in result.stderr
    assert not mcfs_helper.is_mounted(mountpoint)


def test_two_views_of_one_tree_share_every_byte(mcfs, folder):
    first = mount(mcfs, folder, "--gpu", "sm_80")
    second = mount(mcfs, folder, "--gpu", "sm_80,sm_90")
    assert set(os.listdir(first)) < set(os.listdir(second))
    name = next(name for name, target in metadata(first).items() if target["arch"] == 80)
    for file in os.listdir(f"{first}/{name}"):
        with open(f"{first}/{name}/{file}", "rb") as one:
            one.read()
    before = mcfs.status()["cache"]["bytesUsed"]
    for file in os.listdir(f"{second}/{name}"):
        with open(f"{second}/{name}/{file}", "rb") as two:
            two.read()
    assert mcfs.status()["cache"]["bytesUsed"] == before


def test_a_hidden_name_can_be_made_and_shows_then_what_was_made(mcfs, folder):
    upper = mcfs.new_mountpoint("upper")
    mountpoint = mount(mcfs, folder, "--gpu", "sm_90", "--upper", upper)
    name = next(name for name, target in metadata(folder).items() if target["arch"] == 80)
    assert not os.path.exists(f"{mountpoint}/{name}")
    os.mkdir(f"{mountpoint}/{name}")
    assert os.listdir(f"{mountpoint}/{name}") == []
    assert name in os.listdir(mountpoint)
    trees.write(f"{mountpoint}/{name}/x", b"mine")
    mcfs.umount(mountpoint)
    assert open(f"{upper}/{name}/x").read() == "mine"
    # It is the user's from then on, whatever the view.
    again = mount(mcfs, folder, "--gpu", "sm_80", "--upper", upper)
    assert os.listdir(f"{again}/{name}") == ["x"]
    shutil.rmtree(f"{again}/{name}")
    assert not os.path.exists(f"{again}/{name}")


def test_a_hidden_name_is_free_for_renames(mcfs, folder):
    upper = mcfs.new_mountpoint("upper")
    mountpoint = mount(mcfs, folder, "--gpu", "sm_90", "--upper", upper)
    foreign = sorted(name for name, target in metadata(folder).items() if target["arch"] == 80)[:2]
    own = sorted(name for name, target in metadata(folder).items() if target["arch"] == 90)[:2]
    engine = Tree(mountpoint)
    with pytest.raises(FileNotFoundError):
        engine.rename(Path(own[0]), Path(foreign[0]), RENAME_EXCHANGE)
    with pytest.raises(FileNotFoundError):
        engine.rename(Path(foreign[0]), Path("elsewhere"), 0)
    engine.rename(Path(own[0]), Path(foreign[0]), RENAME_NOREPLACE)
    trees.write(f"{mountpoint}/{own[1]}.new/kernel", b"new")
    engine.rename(Path(f"{own[1]}.new"), Path(foreign[1]), 0)

    def check(mountpoint):
        assert not os.path.exists(f"{mountpoint}/{own[0]}")
        assert sorted(os.listdir(f"{mountpoint}/{foreign[0]}")) == sorted(os.listdir(f"{folder}/{own[0]}"))
        assert os.listdir(f"{mountpoint}/{foreign[1]}") == ["kernel"]

    check(mountpoint)
    mcfs.umount(mountpoint)
    # What was moved stays, whatever the view.
    for gpu in ("sm_90", "sm_80", "none"):
        mountpoint = mount(mcfs, folder, "--gpu", gpu, "--upper", upper)
        check(mountpoint)
        mcfs.umount(mountpoint)


def test_what_an_engine_writes_shows_whatever_it_is_for(mcfs, folder):
    mountpoint = mount(mcfs, folder, "--gpu", "sm_90")
    name = next(name for name, target in metadata(folder).items() if target["arch"] == 80)
    shutil.copytree(f"{folder}/{name}", f"{mountpoint}/{name}")
    assert arches(mountpoint) == ["80", "90"]
    mcfs.run("view", "refresh", mountpoint)
    assert arches(mountpoint) == ["80", "90"]


def test_a_folder_of_nothing_but_hidden_kernels_can_be_removed(mcfs, folder, tmp_path):
    os.makedirs(f"{tmp_path}/tree")
    os.rename(folder, f"{tmp_path}/tree/triton")
    for name in set(os.listdir(f"{tmp_path}/tree/triton")) - set(metadata(f"{tmp_path}/tree/triton")):
        shutil.rmtree(f"{tmp_path}/tree/triton/{name}")
    mountpoint = mount(mcfs, f"{tmp_path}/tree", "--gpu", "gfx1030")
    assert os.listdir(f"{mountpoint}/triton") == []
    os.rmdir(f"{mountpoint}/triton")
    assert os.listdir(mountpoint) == []


def test_a_file_with_names_in_shown_and_hidden_kernels_stays_one_file(mcfs, folder):
    targets = metadata(folder)
    shown = next(name for name, target in targets.items() if target["arch"] == 90)
    hidden = next(name for name, target in targets.items() if target["arch"] == 80)
    trees.write(f"{folder}/{shown}/shared.ttir", b"before")
    os.link(f"{folder}/{shown}/shared.ttir", f"{folder}/{hidden}/shared.ttir")
    upper = mcfs.new_mountpoint("upper")
    mountpoint = mount(mcfs, folder, "--gpu", "sm_90", "--upper", upper)
    with open(f"{mountpoint}/{shown}/shared.ttir", "ab") as file:
        file.write(b" after")
    mcfs.umount(mountpoint)
    again = mount(mcfs, folder, "--gpu", "none", "--upper", upper)
    for name in (shown, hidden):
        assert open(f"{again}/{name}/shared.ttir").read() == "before after"


def test_a_making_that_fails_takes_nothing_of_the_tree_away(mcfs, folder):
    name = next(name for name, target in metadata(folder).items() if target["arch"] == 80)
    upper = mcfs.new_mountpoint("upper")
    mount_tmpfs = ["mount", "-t", "tmpfs", "-o", "nr_inodes=8,size=4m", "tmpfs", upper]
    subprocess.run(mount_tmpfs, check=True)
    mountpoint = mount(mcfs, folder, "--gpu", "sm_90", "--upper", upper)
    made = 0
    with pytest.raises(OSError):
        for made in range(20):
            os.mkdir(f"{mountpoint}/filler{made}")
    with pytest.raises(OSError):
        os.mkdir(f"{mountpoint}/{name}")
    mcfs.umount(mountpoint)
    again = mount(mcfs, folder, "--gpu", "sm_80", "--upper", upper)
    assert name in os.listdir(again)


# Bad metadata

@pytest.mark.parametrize("text", [
    b"", b"{", b"[" * 100_000, b'{"target": {"backend": "cuda", "arch": 0}}', b'{"target": {"backend": "xpu", "arch": "pvc"}}',
    b'{"target": 5}', b"\xff\xfe\x00", b'{"target": {"backend": "cuda", "arch": 99999999999999999999}}',
])
def test_a_kernel_with_bad_metadata_shows_and_is_named(mcfs, folder, text):
    name = sorted(metadata(folder))[0]
    path = next(f"{folder}/{name}/{file}" for file in os.listdir(f"{folder}/{name}")
                if file.endswith(".json") and not file.startswith("__grp__"))
    trees.write(path, text)
    mountpoint = mcfs.mount(folder, options=("--gpu", "gfx1030"))
    wait_for(lambda: mcfs.status(mountpoint)["mounts"][0]["view"]["hiddenEntries"] == 19)
    assert name in os.listdir(mountpoint)
    check = mcfs.run("check", "--gpu", "gfx1030", folder, json=True, code=11).json
    unknown = [kernel for kernel in check["kernels"] if kernel["verdict"] == "unknown"]
    assert [kernel["path"] for kernel in unknown] == [name] and unknown[0]["reason"]


def test_metadata_of_a_gibibyte_is_not_read(mcfs, folder):
    name = sorted(metadata(folder))[0]
    path = next(f"{folder}/{name}/{file}" for file in os.listdir(f"{folder}/{name}")
                if file.endswith(".json") and not file.startswith("__grp__"))
    with open(path, "r+b") as file:
        file.truncate(1 << 30)
    mountpoint = mcfs.mount(folder, options=("--gpu", "gfx1030"))
    wait_for(lambda: mcfs.status(mountpoint)["mounts"][0]["view"]["hiddenEntries"] == 19)
    assert name in os.listdir(mountpoint)
    assert mcfs.status()["cache"]["bytesUsed"] < 4 << 20


# Live

def make_amd_gpu(root, version):
    """The kernel driver's description of a machine with one GPU of AMD."""
    node = f"{root}/sys/class/kfd/kfd/topology/nodes/1"
    trees.write(f"{node}/gpu_id", b"51110\n")
    trees.write(f"{node}/name", b"ip discovery\n")
    trees.write(f"{node}/properties", b"cpu_cores_count 0\nsimd_count 1216\nwave_front_size 64\ngfx_target_version %d\n"
                b"vendor_id 4098\ndevice_id 29857\nlocation_id 1280\ndomain 0\nunique_id 1234\n" % version)


@pytest.mark.parametrize("how", ["refresh", "signal"])
def test_a_refresh_and_sighup_look_at_the_gpus_again(mcfs, folder, tmp_path, how):
    root = f"{tmp_path}/machine"
    make_amd_gpu(root, 90402)
    mcfs.kill_daemon(signal.SIGTERM)
    mcfs.environment["MCFS_GPU_ROOT"] = root
    assert [gpu["target"] for gpu in mcfs.run("gpu", json=True).json["gpus"]] == ["gfx942"]
    mountpoint = mount(mcfs, folder)
    assert arches(mountpoint) == ["gfx942"]
    descriptor = os.open(next(f"{mountpoint}/{name}/add_kernel.hsaco" for name in metadata(mountpoint)
                              if os.path.exists(f"{mountpoint}/{name}/add_kernel.hsaco")), os.O_RDONLY)
    make_amd_gpu(root, 90010)
    if how == "refresh":
        views = mcfs.run("view", "refresh", json=True).json["views"]
        assert [view["view"]["gpu"] for view in views] == [["gfx90a"]]
    else:
        for pid in mcfs.daemon_pids:
            os.kill(pid, signal.SIGHUP)
        wait_for(lambda: mcfs.status(mountpoint)["mounts"][0]["view"]["gpu"] == ["gfx90a"])
    wait_for(lambda: arches(mountpoint) == ["gfx90a"])
    # What was open is read on.
    assert os.pread(descriptor, 4, 0) == b"\x7fELF"
    os.close(descriptor)


# Prefetch

@pytest.mark.parametrize("how", ["mount", "path", "reference"])
def test_prefetch_fetches_what_shows_alone(mcfs, folder, how):
    if how == "reference":
        mcfs.prefetch(folder, "--gpu", "sm_90")
        mountpoint = mount(mcfs, folder, "--gpu", "none")
    elif how == "path":
        mountpoint = mount(mcfs, folder, "--gpu", "sm_90")
        mcfs.prefetch(mountpoint)
    else:
        mountpoint = mount(mcfs, folder, "--gpu", "sm_90", "--prefetch", "all")
        wait_for(lambda: mcfs.status(mountpoint)["jobs"] == [])
    listed = {entry["path"]: entry for entry in mcfs.ls("-R", mountpoint)}
    for name, target in metadata(folder).items():
        for file in os.listdir(f"{folder}/{name}"):
            entry = listed[f"{name}/{file}"]
            is_metadata = file.endswith(".json") and not file.startswith("__grp__")
            whole = target["arch"] == 90 or is_metadata
            assert entry["bytesLocal"] == (entry["size"] if whole else 0), (entry, target)


def test_metadata_that_does_not_come_holds_nothing_up(mcfs, folder, weed_s3, fault_proxy, tmp_path):
    proxy = fault_proxy(weed_s3.url)
    mcfs.environment.update(weed_s3.environment | {"AWS_ENDPOINT_URL": proxy.url})
    client, bucket = weed_s3.client(), "kernels"
    client.create_bucket(Bucket=bucket)
    for parent, _, names in os.walk(folder):
        for file in names:
            path = os.path.join(parent, file)
            client.upload_file(path, bucket, os.path.relpath(path, folder))
    proxy.fault({"kind": "stall", "match": ".json", "method": "GET"})
    started = time.monotonic()
    mountpoint = mcfs.mount(f"s3://{bucket}", options=("--gpu", "sm_90"))
    assert not decided(mcfs, mountpoint)
    # Nothing is known, so everything shows; other files are read and the GPUs looked at meanwhile.
    assert sorted(os.listdir(mountpoint)) == sorted(os.listdir(folder))
    name = next(iter(metadata(folder)))
    binary = next(file for file in os.listdir(f"{folder}/{name}") if file.endswith((".cubin", ".hsaco")))
    with open(f"{mountpoint}/{name}/{binary}", "rb") as seen, open(f"{folder}/{name}/{binary}", "rb") as stored:
        assert seen.read() == stored.read()
    mcfs.run("view", "refresh", mountpoint)
    mcfs.umount(mountpoint)
    assert time.monotonic() - started < 15
    proxy.heal()
    mountpoint = mount(mcfs, f"s3://{bucket}", "--gpu", "sm_90")
    assert arches(mountpoint) == ["90"]


def test_prefetch_passes_over_blobs_to_which_only_hidden_engines_of_nim_lead(mcfs, tmp_path):
    model = tmp_path / "nim/ngc/hub/models--nim--meta--llama-3_1-8b-instruct"
    (model / "blobs").mkdir(parents=True)
    for version, files in {
        "0.11.1+ba20956e-h100x1-bf16-throughput.1": {"rank0.engine": "hopper", "config.json": "shared"},
        "0.11.1+ba20956e-l40sx1-bf16-throughput.1": {"rank0.engine": "ada", "config.json": "shared"},
        "hf-8c22764-b": {"model.safetensors": "weights"},
    }.items():
        snapshot = model / "snapshots" / version
        snapshot.mkdir(parents=True)
        for name, blob in files.items():
            (model / "blobs" / blob).write_bytes(blob.encode() * 100)
            (snapshot / name).symlink_to(f"../../blobs/{blob}")
    mountpoint = mount(mcfs, tmp_path / "nim", "--gpu", "H100", "--prefetch", "all")
    at = os.path.join(mountpoint, model.relative_to(tmp_path / "nim"))
    assert sorted(os.listdir(f"{at}/snapshots")) == ["0.11.1+ba20956e-h100x1-bf16-throughput.1", "hf-8c22764-b"]

    def local(blob):
        return int(os.getxattr(f"{at}/blobs/{blob}", "user.mcfs.local"))

    wait_for(lambda: all(local(blob) for blob in ("hopper", "shared", "weights")))
    assert local("ada") == 0
    with open(f"{at}/blobs/ada", "rb") as file:
        assert file.read() == b"ada" * 100


# Rebase

def test_the_stored_bytes_of_a_rebased_file_stay_as_they_were(mcfs, folder):
    mountpoint = mount(mcfs, folder, "--gpu", "none")
    name = sorted(metadata(folder))[0]
    group = next(file for file in os.listdir(f"{folder}/{name}") if file.startswith("__grp__"))
    path = f"{mountpoint}/{name}/{group}"
    with open(path, "rb") as file:
        shown = file.read()
    assert len(shown) == os.stat(path).st_size
    children = json.loads(shown)["child_paths"]
    assert children and all(value == f"{mountpoint}/{name}/{key}" for key, value in children.items())
    with open(f"{folder}/{name}/{group}") as file:
        assert all(value.startswith("/root/.triton/cache/") for value in json.load(file)["child_paths"].values())
    # Written to, it becomes what was shown.
    with open(path, "ab") as file:
        file.write(b"\n")
    assert json.load(open(path))["child_paths"] == children


def test_a_list_of_files_that_is_none_shows_as_it_is_stored(mcfs, folder):
    name = sorted(metadata(folder))[0]
    group = next(file for file in os.listdir(f"{folder}/{name}") if file.startswith("__grp__"))
    for text in (b"{", b"not json at all", b'{"child_paths": ["add_kernel.json"]}', b'{"child_paths": {"a": 5}}'):
        trees.write(f"{folder}/{name}/{group}", text)
        mountpoint = mcfs.mount(folder, options=("--gpu", "none"))
        with open(f"{mountpoint}/{name}/{group}", "rb") as file:
            shown = file.read()
        assert shown.rstrip(b" ") == text and len(shown) == os.stat(f"{mountpoint}/{name}/{group}").st_size
        mcfs.umount(mountpoint)


# Telling

def test_misses_and_hits_are_counted(mcfs, folder):
    mountpoint = mount(mcfs, folder, "--gpu", "sm_90")
    shown = sorted(metadata(mountpoint))[0]
    missing = "A" * 52
    hidden = next(name for name, target in metadata(folder).items() if target["arch"] == 80)
    for name in (missing, hidden, "unrelated"):
        assert not os.path.exists(f"{mountpoint}/{name}")
    group = next(file for file in os.listdir(f"{mountpoint}/{shown}") if file.startswith("__grp__"))
    for _ in range(3):
        with open(f"{mountpoint}/{shown}/{group}") as file:
            file.read()
    view = mcfs.status(mountpoint)["mounts"][0]["view"]
    assert view["kernelMisses"] == 2 and view["kernelHits"] == 3
    assert {missed["path"] for missed in view["missed"]} == {missing, hidden}
    assert all(abs(missed["time"] - time.time()) < 600 for missed in view["missed"])
    # An engine makes the directory first, and finds nothing in it.
    os.mkdir(f"{mountpoint}/{'B' * 52}")
    assert not os.path.exists(f"{mountpoint}/{'B' * 52}/__grp__add_kernel.json")
    assert mcfs.status(mountpoint)["mounts"][0]["view"]["kernelMisses"] == 3
    assert "not there" in mcfs.run("status").stdout


def test_explain_names_the_entry_the_rule_and_the_nearest(mcfs, folder):
    mountpoint = mount(mcfs, folder, "--gpu", "sm_90")
    targets = metadata(folder)
    hidden = next(name for name, target in targets.items() if target["arch"] == 80)
    shown = next(name for name, target in targets.items() if target["arch"] == 90)
    told = mcfs.run("explain", f"{mountpoint}/{hidden}/add_kernel.cubin", json=True).json
    assert told["state"] == "hidden" and told["entry"]["path"] == hidden and told["entry"]["rule"] == "triton-exact"
    assert "sm_80" in told["reason"] and "sm_90" in told["reason"]
    told = mcfs.run("explain", f"{mountpoint}/{shown}", json=True).json
    assert told["state"] == "shown" and told["entry"]["verdict"] == "compatible" and told["gpu"] == ["sm_90"]
    assert told["entry"]["bytes"] > 0 and told["entry"]["name"] and told["origin"]
    wanted = hidden[:20] + "A" * 32
    assert not os.path.exists(f"{mountpoint}/{wanted}")
    told = mcfs.run("explain", f"{mountpoint}/{wanted}", json=True).json
    assert told["state"] == "missing" and told["missed"] and told["nearest"][0]["path"] == hidden
    assert told["nearest"][0]["differs"]
    assert "not there" in mcfs.run("explain", f"{mountpoint}/{wanted}").stdout
    os.mkdir(f"{mountpoint}/new")
    told = mcfs.run("explain", f"{mountpoint}/new", json=True).json
    assert told["state"] == "shown" and told["isUpper"]
    shutil.rmtree(f"{mountpoint}/{shown}")
    assert "removed" in mcfs.run("explain", f"{mountpoint}/{shown}", json=True).json["reason"]
    mcfs.run("explain", "/nowhere", code=mcfs_helper.NOT_FOUND)


def test_verdicts_are_shown_by_ls_and_an_attribute(mcfs, folder):
    mountpoint = mount(mcfs, folder, "--gpu", "sm_90")
    targets = metadata(folder)
    listed = {entry["path"]: entry["verdict"] for entry in mcfs.ls(mountpoint)}
    for name, target in targets.items():
        assert listed[name] == ("compatible" if target["arch"] == 90 else "incompatible")
    for name in set(listed) - set(targets):
        assert listed[name] is None
    shown = sorted(metadata(mountpoint))[0]
    assert os.getxattr(f"{mountpoint}/{shown}", "user.mcfs.verdict") == b"compatible"
    assert os.getxattr(mountpoint, "user.mcfs.verdict") == b"any"


@pytest.mark.parametrize("gpu, code, compatible", [
    ("sm_90", 11, 3), ("gfx1030", 10, 0), ("sm_75,sm_80,sm_86,sm_89,sm_90,sm_100,sm_103,sm_120,gfx942,gfx90a,gfx950,gfx1100", 0, 20),
])
def test_check_ends_with_what_it_found(mcfs, folder, gpu, code, compatible):
    check = mcfs.run("check", "--gpu", gpu, folder, json=True, code=code).json
    assert check["entries"] == 20 == len(check["kernels"])
    assert check["compatible"] == compatible and check["incompatible"] == 20 - compatible and check["unknown"] == 0
    assert {kernel["path"] for kernel in check["kernels"]} == set(metadata(folder))
    assert "kernels for" in mcfs.run("check", "--gpu", gpu, folder, code=code).stdout


# Images

ARCHES = (75, 80, 86, 89, 90, 100, 103, 120)
MIB = 1 << 20


def kernel(number, arch, binary_bytes):
    """One Triton entry of an image: its members, and the bytes of them that are data of the kernel."""
    digest = hashlib.sha256(b"%d" % number).digest()
    key = base64.b32encode(digest).decode().rstrip("=")
    target = {"backend": "cuda", "arch": arch, "warp_size": 32}
    files = {
        "kernel.cubin": trees.seeded(number, binary_bytes), "kernel.ttir": trees.seeded(number + 1, binary_bytes // 4),
        "kernel.json": json.dumps({"hash": digest.hex(), "name": "kernel", "target": target, "num_warps": 4}).encode()}
    paths = {name: f"/root/.triton/cache/{key}/{name}" for name in files}
    files["__grp__kernel.json"] = json.dumps({"child_paths": paths}).encode()
    return [(f"io.triton.cache/{key}/{name}", data) for name, data in files.items()]


def labels(entries, arches):
    targets = [{"backend": "cuda", "arch": str(arch), "warp_size": 32} for arch in arches]
    return {"cache.triton.image/entry-count": str(entries), "cache.triton.image/summary": json.dumps({"targets": targets})}


@pytest.fixture(params=["labelled"])
def kernel_image(registry, fault_proxy, tmp_path, request):
    """An image of kernels for eight architectures, in a registry behind a proxy that counts: proxy, reference, and the
    bytes of the entries of each architecture."""
    layout = images.Layout(tmp_path / "image")
    entries = [(arch, kernel(number, arch, MIB)) for number, arch in enumerate(ARCHES * 5)]
    members = [member for _, files in entries for member in files]
    rows = [{"hash": json.loads(files[2][1])["hash"], "backend": "cuda", "arch": str(arch), "warp_size": 32}
            for arch, files in entries]
    members.append(("io.triton.manifest/manifest.json", json.dumps({"triton": rows}).encode()))
    said = labels(len(entries), ARCHES) if request.param == "labelled" else {}
    layout.image([layout.blob(images.tar(*members), images.LAYER)], labels=said)
    images.push(layout.path, registry, "kernels", "tar")
    proxy = fault_proxy(registry.url)
    sizes = {arch: sum(len(data) for a, files in entries for _, data in files if a == arch) for arch in ARCHES}
    return proxy, f"oci://{proxy.host}/kernels:v1", sizes


@pytest.mark.parametrize("kernel_image", ["labelled", "plain"], indirect=True)
def test_a_node_downloads_its_own_architecture_out_of_an_image_for_eight(mcfs, kernel_image):
    proxy, reference, sizes = kernel_image
    mountpoint = mount(mcfs, reference, "--gpu", "sm_90", "--prefetch", "all")
    wait_for(lambda: mcfs.status(mountpoint)["jobs"] == [])
    # Without labels an image is shown as it is.
    packed = f"{mountpoint}/io.triton.cache"
    assert len(os.listdir(packed if os.path.isdir(packed) else mountpoint)) == 5
    for entry in mcfs.ls("-R", mountpoint):
        if entry["type"] == "file" and entry["verdict"] == "compatible":
            assert entry["bytesLocal"] == entry["size"]
    print(f"{proxy.bytes} bytes for {sizes[90]} bytes of kernels, of {sum(sizes.values())}")
    assert proxy.bytes <= 1.2 * sizes[90] + 40 * 4096


def test_check_answers_from_labels_before_any_layer_is_fetched(mcfs, kernel_image):
    proxy, reference, _ = kernel_image
    check = mcfs.run("check", "--gpu", "gfx942", reference, json=True, code=10).json
    assert check["from"] == "labels" and check["entries"] == check["incompatible"] == 40
    assert proxy.bytes < MIB // 4
    # One match passes no whole image: where labels name several targets, each entry is looked at, in the manifest.
    mcfs.ls(reference)
    mcfs.evict(reference)
    proxy.forget()
    check = mcfs.run("check", "--gpu", "sm_90", reference, json=True, code=11).json
    assert proxy.bytes < MIB // 4
    assert check["from"] == "manifest" and check["compatible"] == 5 and check["incompatible"] == 35
    assert all(kernel["name"] == "kernel" for kernel in check["kernels"])


def test_a_manifest_hides_nothing_that_its_metadata_says_runs(mcfs, registry, fault_proxy, tmp_path):
    layout = images.Layout(tmp_path / "image")
    members = kernel(1, 90, 4096)
    row = {"hash": json.loads(members[2][1])["hash"], "backend": "cuda", "arch": "80", "warp_size": 32}
    members.append(("io.triton.manifest/manifest.json", json.dumps({"triton": [row]}).encode()))
    layout.image([layout.blob(images.tar(*members), images.LAYER)], labels=labels(1, [80, 90]))
    images.push(layout.path, registry, "lying", "tar")
    mountpoint = mount(mcfs, f"oci://{fault_proxy(registry.url).host}/lying:v1", "--gpu", "sm_90")
    assert len(os.listdir(mountpoint)) == 1
