"""What is left after kills, restarts and without an origin."""

import os
import signal
import subprocess
import time

import pytest

import mcfs as mcfs_helper
import trees

pytestmark = pytest.mark.usefixtures("fuse")


@pytest.fixture
def remote(nginx, fault_proxy, tmp_path):
    folder = f"{nginx.root}/{tmp_path.name}"
    trees.write(f"{folder}/big.bin", trees.seeded(3, 120_000_000))
    for index in range(20):
        trees.write(f"{folder}/small/{index}", trees.seeded(index, 5000 + index))
    proxy = fault_proxy(nginx.url)
    return proxy, f"{proxy.url}/files/{tmp_path.name}/", folder


def test_what_was_read_reads_again_after_kill_9_with_the_origin_gone(mcfs, remote):
    proxy, url, folder = remote
    mountpoint = mcfs.mount(url)
    seen = {}
    for index in range(10):
        seen[f"small/{index}"] = open(f"{mountpoint}/small/{index}", "rb").read()
    with open(f"{mountpoint}/big.bin", "rb") as file:
        file.seek(20_000_000)
        part = file.read(3_000_000)
    reader = subprocess.Popen(["head", "-c", "10000000", f"{mountpoint}/big.bin"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(0.05)
    mcfs.kill_daemon(signal.SIGKILL)
    reader.wait(10)
    proxy.stop()
    with pytest.raises(OSError):
        os.listdir(mountpoint)

    mcfs.run("mount", url, mcfs.new_mountpoint(), code=mcfs_helper.UNAVAILABLE)
    # The dead mount is recognized and taken away.
    mcfs.mount(url, at=mountpoint, options=("--offline",))
    assert mcfs.status()["mounts"][0]["state"] == "offline"
    assert sorted(os.listdir(mountpoint)) == ["big.bin", "small"]
    for name, data in seen.items():
        assert open(f"{mountpoint}/{name}", "rb").read() == data == open(f"{folder}/{name}", "rb").read()
    with open(f"{mountpoint}/big.bin", "rb") as file:
        file.seek(20_000_000)
        assert file.read(3_000_000) == part == open(f"{folder}/big.bin", "rb").read()[20_000_000:23_000_000]
        # What was not read: an error, and soon.
        started = time.monotonic()
        with pytest.raises(OSError):
            file.seek(119_000_000)
            file.read(4096)
        assert time.monotonic() - started < 2


def test_umount_takes_away_a_dead_mount(mcfs, remote):
    _, url, _ = remote
    mountpoint = mcfs.mount(url)
    mcfs.kill_daemon(signal.SIGKILL)
    mcfs.umount(mountpoint)


def test_sigterm_unmounts_and_ends(mcfs, remote):
    _, url, folder = remote
    mountpoint = mcfs.mount(url)
    assert open(f"{mountpoint}/small/3", "rb").read() == open(f"{folder}/small/3", "rb").read()
    mcfs.kill_daemon(signal.SIGTERM)
    assert not mcfs_helper.is_mounted(mountpoint)


def test_the_daemon_ends_when_it_has_nothing_to_do(mcfs, remote):
    _, url, _ = remote
    mcfs.environment["MCFS_IDLE_SECONDS"] = "0.5"
    mcfs.umount(mcfs.mount(url))
    mcfs.wait_daemon_gone(10)
    with open(os.path.join(mcfs.cache, "daemon.log")) as log:
        assert "cannot" not in log.read()


def test_a_daemon_that_is_not_asked_anything_ends_at_once(mcfs, remote):
    _, url, _ = remote
    for _ in range(3):
        mcfs.umount(mcfs.mount(url))
        started = time.monotonic()
        mcfs.kill_daemon(signal.SIGTERM)
        assert time.monotonic() - started < 1


def test_a_mount_that_comes_while_the_daemon_ends_is_made(mcfs, remote):
    _, url, _ = remote
    mountpoint = mcfs.mount(url)
    for round in range(10):
        (pid,) = mcfs.daemon_pids
        os.kill(pid, signal.SIGTERM)
        time.sleep(round * 0.005)
        mcfs.mount(url, at=mountpoint if round % 2 else mcfs.new_mountpoint())
        assert os.listdir(mcfs.status()["mounts"][-1]["mountpoint"])


def test_a_request_under_way_is_answered_while_the_daemon_ends(mcfs, remote):
    proxy, url, _ = remote
    mcfs.umount(mcfs.mount(url))
    proxy.fault({"kind": "stall", "seconds": 1})
    waiting = mcfs.start("mount", url, mcfs.new_mountpoint())
    deadline = time.monotonic() + 20
    while not mcfs.status()["jobs"]:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    (pid,) = mcfs.daemon_pids - {waiting.pid}
    os.kill(pid, signal.SIGTERM)
    assert waiting.wait(30) != 0
    with open(os.path.join(mcfs.directory, f"log-{len(mcfs.processes) - 1}")) as log:
        assert "was given up" in log.read()


def test_a_restarted_daemon_serves_what_is_local(mcfs, remote):
    proxy, url, folder = remote
    mcfs.prefetch(url)
    mcfs.kill_daemon(signal.SIGTERM)
    mountpoint = mcfs.mount(url)
    proxy.forget()
    trees.compare(folder, mountpoint, modes=False, times=False)
    assert not [entry for entry in proxy.requests if entry["bytes"] > 1000]


def test_two_mounts_share_every_byte(mcfs, remote):
    proxy, url, folder = remote
    first, second = mcfs.mount(url), mcfs.mount(url)
    trees.compare(folder, first, modes=False, times=False)
    proxy.fault({"kind": "status", "status": 404})
    trees.compare(folder, second, modes=False, times=False)
    [origin] = [mount["origin"] for mount in mcfs.status()["mounts"] if mount["mountpoint"] == second]
    assert origin["requests"] == origin["treeRequests"]


def test_foreground_serves_until_it_is_told_to_end(mcfs, remote):
    _, url, folder = remote
    mountpoint = mcfs.new_mountpoint()
    process = mcfs.start("mount", "--foreground", url, mountpoint)
    deadline = time.monotonic() + 20
    while not mcfs_helper.is_mounted(mountpoint):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    assert open(f"{mountpoint}/small/3", "rb").read() == open(f"{folder}/small/3", "rb").read()
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0
    assert not mcfs_helper.is_mounted(mountpoint)
