"""Bounds, pins, eviction, verification, prefetch, and what the daemon tells."""

import json
import os
import shutil
import subprocess

import pytest

import mcfs as mcfs_helper
import trees

pytestmark = pytest.mark.usefixtures("fuse")


@pytest.fixture
def files(tmp_path):
    folder = str(tmp_path / "files")
    for index in range(12):
        trees.write(f"{folder}/f{index:02}.bin", trees.seeded(index, 1_500_000))
    trees.write(f"{folder}/config.json", b"{}\n")
    return folder


def disk_bytes(cache):
    return sum(
        os.stat(os.path.join(parent, name)).st_blocks * 512
        for area in ("blobs", "partial", "tmp") for parent, _, names in os.walk(os.path.join(cache, area)) for name in names)


def test_the_bound_holds_while_more_is_read(mcfs, files):
    mountpoint = mcfs.mount(files, options=("--cache-size", "6MiB"))
    for name in sorted(os.listdir(mountpoint)):
        assert trees.first_difference(f"{files}/{name}", f"{mountpoint}/{name}") is None
        assert disk_bytes(mcfs.cache) <= 6 * 1024 * 1024 + 64 * 1024
    status = mcfs.status()["cache"]
    assert status["bytesUsed"] <= status["bytesMax"] == 6 * 1024 * 1024


def test_pins_stay_until_they_are_taken_back(mcfs, files):
    mcfs.pin(files, "--include", "f00.bin")
    mcfs.prefetch(files)
    assert mcfs.status()["cache"]["bytesPinned"] == 1_500_000
    mcfs.gc("--max-size", "0")
    assert mcfs.status()["cache"]["bytesUsed"] < 1_600_000
    local = {entry["path"]: entry["bytesLocal"] for entry in mcfs.ls(files)}
    assert local["f00.bin"] == 1_500_000 and local["f01.bin"] == 0
    mcfs.unpin(files)
    mcfs.gc("--max-size", "0")
    assert mcfs.status()["cache"]["bytesUsed"] == 0
    mcfs.unpin(files, code=mcfs_helper.NOT_FOUND)


def test_evict_drops_what_is_named(mcfs, files):
    mountpoint = mcfs.mount(files)
    mcfs.prefetch(mountpoint)
    mcfs.evict(f"{mountpoint}/f03.bin")
    local = {entry["path"]: entry["bytesLocal"] for entry in mcfs.ls(mountpoint)}
    assert local["f03.bin"] == 0 and local["f04.bin"] == 1_500_000
    assert trees.first_difference(f"{files}/f03.bin", f"{mountpoint}/f03.bin") is None


def test_prefetch_takes_what_is_chosen_and_says_how_far_it_is(mcfs, files):
    result = mcfs.run("prefetch", files, "--include", "*.bin", "--exclude", "f1*", json=True)
    last = result.json_lines[-1]
    assert last["done"] is True and last["files"] == 10 and last["bytes"] == 15_000_000 and last["seconds"] >= 0
    local = {entry["path"]: entry["bytesLocal"] for entry in mcfs.ls(files)}
    assert local["f00.bin"] == 1_500_000 and local["f10.bin"] == 0 and local["config.json"] == 0
    assert mcfs.prefetch(files)["files"] == 13


def test_prefetch_all_of_a_mount_goes_on_in_the_background(mcfs, files):
    mountpoint = mcfs.mount(files, options=("--prefetch", "all"))
    mcfs.prefetch(mountpoint)
    reference = mcfs.status()["mounts"][0]["references"][0]
    assert reference["bytesLocal"] == reference["bytesTotal"]


def test_verify_finds_a_damaged_file_and_repair_mends_it(mcfs, tmp_path):
    import images

    layout = images.Layout(tmp_path / "artifact")
    data = trees.seeded(4, 2_000_000)
    reference = layout.image([
        layout.blob(data, "application/vnd.cncf.model.weight.v1.raw", annotations={"org.cncf.model.filepath": "w"})
    ], artifactType="application/vnd.cncf.model.manifest.v1+json")
    mountpoint = mcfs.mount(reference)
    mcfs.prefetch(mountpoint)
    mcfs.verify()
    (name,) = [
        os.path.join(parent, name) for parent, _, names in os.walk(os.path.join(mcfs.cache, "blobs")) for name in names]

    def damage():
        with open(name, "r+b") as file:
            file.seek(1_000_000)
            file.write(b"damage")

    damage()
    result = mcfs.verify(code=mcfs_helper.CORRUPT, json=True).json
    assert len(result["findings"]) == 1
    mcfs.prefetch(mountpoint)
    damage()
    mcfs.verify("--repair")
    mcfs.verify()
    with open(f"{mountpoint}/w", "rb") as file:
        assert file.read() == data


def test_with_the_disk_full_reads_go_on(mcfs, files, tmp_path):
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", small], check=True)
    try:
        mcfs.cache = str(small / "cache")
        mountpoint = mcfs.mount(files)
        for name in sorted(os.listdir(mountpoint)):
            assert trees.first_difference(f"{files}/{name}", f"{mountpoint}/{name}") is None
        mcfs.umount(mountpoint)
    finally:
        mcfs.close()
        subprocess.run(["umount", "-l", small], check=True)


def test_the_socket_answers_health_metrics_and_status(mcfs, files):
    mountpoint = mcfs.mount(files)
    with open(f"{mountpoint}/config.json", "rb") as file:
        file.read()

    def get(path):
        socket = os.path.join(mcfs.cache, "control.sock")
        return subprocess.run(
            ["curl", "-sS", "--unix-socket", socket, "http://mcfs" + path], capture_output=True, text=True, check=True).stdout

    assert get("/healthz") == "ok\n"
    metrics = get("/metrics")
    assert f'mcfs_mount_reads_total{{mountpoint="{mountpoint}"}} 1' in metrics
    status = json.loads(get("/v1/status"))
    assert status["mounts"][0]["mountpoint"] == mountpoint
    assert list(status) == sorted(status)
    mount = status["mounts"][0]
    assert mount["upper"] == mountpoint and mount["readOnly"] is False and mount["passthrough"] is True
    assert mount["upperBytes"] == 0
    assert set(mount["reads"]) == {"count", "bytes", "hits", "misses", "errors"}
    assert set(mount["origin"]) == {"requests", "bytes", "retries", "errors", "treeRequests", "treeBytes"}


def test_every_entry_tells_where_it_comes_from(mcfs, files):
    mountpoint = mcfs.mount(files)
    path = f"{mountpoint}/f00.bin"
    assert os.getxattr(path, "user.mcfs.local") == b"0"
    with open(path, "rb") as file:
        file.read()
    assert os.getxattr(path, "user.mcfs.local") == b"1500000"
    assert os.fsencode(files) in os.getxattr(path, "user.mcfs.origin")
    assert os.getxattr(path, "user.mcfs.verdict") == b"any"


def test_verify_and_status_name_what_cannot_be_checked(mcfs, files):
    mountpoint = mcfs.mount(files)
    mcfs.prefetch(mountpoint)
    total = 12 * 1_500_000 + 3
    expected = {"files": 13, "bytes": total}
    result = mcfs.verify(json=True).json
    assert result["filesChecked"] == 0 and result["filesUnverifiable"] == 13 and result["bytesUnverifiable"] == total
    assert result["unverifiable"] == [{"reference": f"file:{files}"} | expected]
    status = mcfs.status()
    assert status["cache"]["unverifiable"] == status["mounts"][0]["references"][0]["unverifiable"] == expected
    for text in (mcfs.verify().stdout, mcfs.run("status").stdout):
        assert "13 files (17.2 MiB)" in text and "cannot be checked" in text and "is right" not in text

    # The name of what is not mounted is known as long as the cache knows the tree.
    mcfs.umount(mountpoint)
    assert mcfs.verify(json=True).json["unverifiable"][0]["reference"] == f"file:{files}"
    mcfs.kill_daemon()
    shutil.rmtree(f"{mcfs.cache}/trees")
    assert mcfs.verify(json=True).json["unverifiable"] == [{"reference": None} | expected]
    assert "of other contents have no digest" in mcfs.verify().stdout


def test_verify_says_what_is_not_complete(mcfs, tmp_path):
    import images

    layout = images.Layout(tmp_path / "artifact")
    reference = layout.image([
        layout.blob(
            trees.seeded(5, 40_000_000), "application/vnd.cncf.model.weight.v1.raw",
            annotations={"org.cncf.model.filepath": "w"})
    ], artifactType="application/vnd.cncf.model.manifest.v1+json")
    assert mcfs.verify().stdout.strip() == "nothing is local"
    mountpoint = mcfs.mount(reference)
    with open(f"{mountpoint}/w", "rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
        assert len(os.pread(file.fileno(), 4096, 20_000_000)) == 4096
    result = mcfs.verify(json=True).json
    assert result["filesIncomplete"] == 1 and 0 < result["bytesIncomplete"] < 40_000_000 and not result["unverifiable"]
    assert "everything that is local is right" not in mcfs.verify().stdout
    mcfs.prefetch(mountpoint)
    assert mcfs.verify().stdout.strip() == "everything that is local is right"
