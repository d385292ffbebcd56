"""Complete files are read by the kernel itself; everything else as ever."""

import mmap
import os
import subprocess

import pytest

import mcfs as mcfs_helper
import trees

pytestmark = pytest.mark.usefixtures("fuse")


@pytest.fixture
def folder(tmp_path):
    path = str(tmp_path / "files")
    trees.write(f"{path}/model.safetensors", trees.seeded(1, 6_000_001))
    trees.write(f"{path}/empty", b"")
    return path


def reads(mcfs):
    return mcfs.status()["mounts"][0]["reads"]["count"]


def test_a_complete_file_is_read_and_mapped_without_the_daemon(mcfs, folder):
    mountpoint = mcfs.mount(folder)
    assert mcfs.status()["mounts"][0]["passthrough"] is True
    mcfs.prefetch(mountpoint)
    mcfs_helper.drop_page_cache()
    trees.compare(folder, mountpoint)
    with open(f"{mountpoint}/model.safetensors", "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
        assert mapped[:] == trees.seeded(1, 6_000_001)
    direct = subprocess.run(
        ["dd", f"if={mountpoint}/model.safetensors", "iflag=direct", "bs=1M"], capture_output=True, check=True).stdout
    assert direct == trees.seeded(1, 6_000_001)
    assert reads(mcfs) == 0


def test_a_cold_file_is_passed_through_at_its_next_open(mcfs, folder):
    mountpoint = mcfs.mount(folder)
    trees.compare(folder, mountpoint)
    before = reads(mcfs)
    assert before > 0
    mcfs_helper.drop_page_cache()
    trees.compare(folder, mountpoint)
    assert reads(mcfs) == before


def test_what_is_open_or_mapped_keeps_its_bytes_when_it_is_evicted(mcfs, folder):
    mountpoint = mcfs.mount(folder)
    mcfs.prefetch(mountpoint)
    with open(f"{mountpoint}/model.safetensors", "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
        assert file.read(100) == trees.seeded(1, 6_000_001)[:100]
        mcfs.evict(mountpoint)
        mcfs_helper.drop_page_cache()
        # A new open of a file that is open is passed through to the same bytes, which no longer have a name.
        with open(f"{mountpoint}/model.safetensors", "rb") as again:
            assert again.read() == trees.seeded(1, 6_000_001)
        assert file.read() == trees.seeded(1, 6_000_001)[100:]
        assert mapped[:] == trees.seeded(1, 6_000_001)
        assert mcfs.status()["cache"]["bytesUsed"] == 0
        assert reads(mcfs) == 0
    trees.compare(folder, mountpoint)
    assert reads(mcfs) > 0


def test_two_mounts_share_the_pages_of_a_complete_file(mcfs, folder):
    first, second = mcfs.mount(folder), mcfs.mount(folder)
    mcfs.prefetch(first)
    for mountpoint in (first, second):
        trees.compare(folder, mountpoint)
    assert all(mount["reads"]["count"] == 0 for mount in mcfs.status()["mounts"])


def test_passthrough_can_be_turned_off(tmp_path, folder):
    with mcfs_helper.Mcfs(tmp_path / "off", environment={"MCFS_PASSTHROUGH": "false"}) as mcfs:
        mountpoint = mcfs.mount(folder)
        assert mcfs.status()["mounts"][0]["passthrough"] is False
        mcfs.prefetch(mountpoint)
        trees.compare(folder, mountpoint)
        assert reads(mcfs) > 0


def test_a_setting_that_is_neither_true_nor_false_is_refused(tmp_path, folder):
    with mcfs_helper.Mcfs(tmp_path / "bad", environment={"MCFS_PASSTHROUGH": "maybe"}) as mcfs:
        result = mcfs.run("mount", folder, mcfs.new_mountpoint(), code=mcfs_helper.CONFIGURATION)
        assert "MCFS_PASSTHROUGH" in result.stderr and "true or false" in result.stderr


def test_nothing_stays_open_after_the_last_close(mcfs, folder):
    mountpoint = mcfs.mount(folder)
    mcfs.prefetch(mountpoint)
    for _ in range(50):
        trees.compare(folder, mountpoint)
    (pid,) = mcfs.daemon_pids
    names = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
    assert not [name for name in names if "/blobs/" in name]
    mcfs.umount(mountpoint)
