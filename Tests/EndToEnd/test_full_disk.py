"""The disk of the cache directory is full, can only be read, or fails: mounts are made all the same, and a daemon starts that can make
room."""

import os
import signal
import subprocess

import pytest

import trees
from loop_disk import CUT, LoopDisk
from mcfs import CANNOT_CREATE, LOCAL_IO, NOT_FOUND

pytestmark = pytest.mark.usefixtures("fuse")

MIB = 1 << 20


@pytest.fixture
def folders(tmp_path):
    """Two references."""
    for number, name in enumerate(("known", "new")):
        for index in range(4):
            trees.write(f"{tmp_path}/{name}/small{index}", trees.seeded(10 * number + index, 5000))
            trees.write(f"{tmp_path}/{name}/large{index}", trees.seeded(100 + 10 * number + index, 3 * MIB))
    return str(tmp_path / "known"), str(tmp_path / "new")


@pytest.fixture
def disk(request, tmp_path, mcfs):
    """Of a kind, with options of mkfs; the cache is on it."""
    kind, *options = request.param
    disk = LoopDisk(str(tmp_path), kind)
    disk.make(*options)
    disk.mount()
    mcfs.cache = f"{disk.path}/cache"
    yield disk
    mcfs.close()
    disk.unmount()


DISKS = pytest.mark.parametrize(
    "disk", [("ext4",), ("xfs",), ("ext4", "-N", "512")], indirect=True, ids=["ext4", "xfs", "inodes"])


def fill(path):
    """What is left of the disk, to the last block, and of its inodes."""
    with open(f"{path}/filler", "ab", buffering=0) as file:
        for size in (MIB, 4096):
            try:
                while True:
                    file.write(bytes(size))
                    if size == 4096:
                        os.fsync(file.fileno())
            except OSError:
                pass
    os.sync()


def use_inodes(path):
    os.makedirs(f"{path}/inodes", exist_ok=True)
    number = len(os.listdir(f"{path}/inodes"))
    try:
        while True:
            os.close(os.open(f"{path}/inodes/{number}", os.O_CREAT | os.O_EXCL))
            number += 1
    except OSError:
        pass


def check(folder, mountpoint):
    for name in os.listdir(folder):
        assert trees.first_difference(f"{folder}/{name}", f"{mountpoint}/{name}") is None


@DISKS
def test_on_a_full_disk_mounts_are_made_and_room_can_be_made(mcfs, folders, disk, request):
    def use_up():
        use_inodes(disk.path) if "inodes" in request.node.name else fill(disk.path)

    known, new = folders
    mountpoint = mcfs.mount(known, options=("--read-only",))
    check(known, mountpoint)
    mcfs.umount(mountpoint)
    mcfs.kill_daemon(signal.SIGTERM)
    # However the daemon ended, the next one starts.
    for end in (signal.SIGTERM, signal.SIGKILL, signal.SIGTERM):
        use_up()
        mcfs.mount(known, at=mountpoint, options=("--read-only",))
        use_up()
        check(known, mountpoint)
        mcfs.umount(mountpoint)
        mcfs.mount(known, at=mountpoint, options=("--read-only", "--offline"))
        check(known, mountpoint)
        mcfs.umount(mountpoint)
        mcfs.kill_daemon(end)
    mcfs.mount(known, at=mountpoint, options=("--read-only",))
    use_up()
    # Its tree is a file more than there is room for.
    other = mcfs.new_mountpoint()
    result = mcfs.run("mount", "--read-only", new, other)
    assert result.stderr.count("is not kept") == 1, str(result)
    check(new, other)
    assert len(mcfs.status()["mounts"]) == 2
    pinned = mcfs.pin(new, code=LOCAL_IO)
    assert "free space" in pinned.stderr, str(pinned)
    mcfs.umount(other)
    mcfs.umount(mountpoint)
    assert mcfs.gc("--max-size", "1MiB", json=True).json["bytesFreed"] > MIB
    mcfs.pin(new)


@pytest.mark.parametrize("disk", [("ext4",), ("xfs",)], indirect=True, ids=["ext4", "xfs"])
def test_where_the_disk_fails_under_a_daemon_mounts_are_made_and_read(mcfs, folders, disk):
    known, new = folders
    mountpoint = mcfs.mount(known, options=("--read-only",))
    disk.shut_down(CUT)
    other = mcfs.new_mountpoint()
    result = mcfs.run("mount", "--read-only", new, other)
    assert result.stderr.count("is not kept") == 1, str(result)
    check(new, other)
    check(known, mountpoint)
    assert len(mcfs.status()["mounts"]) == 2
    assert mcfs.pin(new, code=None).code == LOCAL_IO
    mcfs.umount(other)
    mcfs.umount(mountpoint)


@pytest.mark.parametrize("disk", [("ext4",), ("xfs",)], indirect=True, ids=["ext4", "xfs"])
def test_a_prefetch_that_does_not_fit_on_the_disk_says_so(mcfs, folders, disk):
    known, new = folders
    mcfs.prefetch(known)
    fill(disk.path)
    for reference in (new, mcfs.mount(new, options=("--read-only",))):
        result = mcfs.run("prefetch", reference, code=LOCAL_IO, timeout=30)
        assert "No space left" in result.stderr and disk.path in result.stderr, str(result)
    os.remove(f"{disk.path}/filler")
    assert mcfs.prefetch(new)["done"]


@pytest.mark.parametrize("disk", [("ext4",)], indirect=True, ids=["ext4"])
def test_a_disk_that_can_only_be_read_is_named(mcfs, folders, disk):
    mountpoint = mcfs.mount(folders[0], options=("--read-only",))
    mcfs.umount(mountpoint)
    mcfs.kill_daemon(signal.SIGTERM)
    subprocess.run(["mount", "-o", "remount,ro", disk.path], check=True)
    for command in (("mount", folders[0], mountpoint), ("gc",)):
        result = mcfs.run(*command, code=CANNOT_CREATE)
        assert result.stderr.count("\n") == 1 and "can only be read" in result.stderr, str(result)
    assert mcfs.status()["mounts"] == []
    mcfs.run("umount", mountpoint, code=NOT_FOUND)


def test_a_full_disk_on_which_nothing_was_begun_is_named(mcfs, folders, tmp_path):
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", small], check=True)
    try:
        fill(small)
        mcfs.cache = str(small / "cache")
        result = mcfs.run("mount", folders[0], mcfs.new_mountpoint(), code=LOCAL_IO)
        assert result.stderr.count("\n") == 1 and "free space" in result.stderr, str(result)
    finally:
        mcfs.close()
        subprocess.run(["umount", "-l", small], check=True)
