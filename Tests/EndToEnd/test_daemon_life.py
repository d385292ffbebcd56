"""The daemon goes on where it runs out of something, and ends as it should where it ends."""

import errno
import json
import os
import re
import resource
import signal
import subprocess
import sys
import threading
import time

import pytest

import trees
from daemon_kills import kill_rounds
from mcfs import CANNOT_CREATE, CONFIGURATION, FAILED, UNAUTHORIZED, is_mounted

pytestmark = pytest.mark.usefixtures("fuse")

LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (trace|debug|info|notice|warning|error|critical) \S")


@pytest.fixture
def folder(tmp_path):
    path = str(tmp_path / "files")
    for index in range(160):
        trees.write(f"{path}/small/{index}", trees.seeded(index, 3000))
    for index in range(150):
        trees.write(f"{path}/large/{index}", bytes(300_000))
    return path


def log(mcfs):
    with open(f"{mcfs.cache}/daemon.log") as file:
        return file.read().splitlines()


@pytest.mark.parametrize("kind", ["written", "small", "large"])
def test_files_that_are_open_leave_the_daemon_descriptors(mcfs, folder, kind):
    mountpoint = mcfs.mount(folder)
    (pid,) = mcfs.daemon_pids
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (160, 160))
    files, failures = [], set()
    for index in range(150):
        try:
            if kind == "written":
                files.append(os.open(f"{mountpoint}/new{index}", os.O_CREAT | os.O_RDWR))
            else:
                files.append(os.open(f"{mountpoint}/{kind}/{index}", os.O_RDONLY))
                # A file that is small takes a descriptor when it is read.
                assert len(os.read(files[-1], 10)) == 10
        except OSError as error:
            failures.add(error.errno)
    assert failures == (set() if kind == "small" else {errno.ENFILE}) and len(files) > 50
    # No file is left of a name that could not be opened.
    assert kind != "written" or len(os.listdir(mountpoint)) == 2 + len(files)
    # Commands, what others read, folders.
    assert mountpoint in mcfs.run("status").stdout
    with open(f"{mountpoint}/small/159", "rb") as file:
        assert file.read() == trees.seeded(159, 3000)
    assert len(os.listdir(f"{mountpoint}/small")) == 160
    for file in files:
        os.close(file)
    with open(f"{mountpoint}/large/149", "ab") as file:
        file.write(b"more")
    assert os.stat(f"{mountpoint}/large/149").st_size == 300_004
    assert mcfs.daemon_pids == {pid}


def test_all_that_is_logged_goes_to_the_bounded_log(mcfs, folder):
    mountpoint = mcfs.mount(folder)
    os.remove(f"{folder}/small/7")
    with pytest.raises(OSError) as raised:
        with open(f"{mountpoint}/small/7", "rb") as file:
            file.read()
    assert raised.value.errno == errno.EIO
    mcfs.umount(mountpoint)
    lines = log(mcfs)
    assert any("a request of the mount failed" in line and f"mount={mountpoint}" in line for line in lines)
    assert [line for line in lines if not LINE.match(line)] == []


def test_a_daemon_that_ends_by_a_fault_ends_at_once_and_prints_nothing_of_what_it_knows(mcfs, folder):
    mcfs.mount(folder)
    (pid,) = mcfs.daemon_pids
    with open(f"/proc/{pid}/limits") as file:
        assert re.search(r"Max core file size +0 +0 ", file.read())
    # Not dumpable: it belongs to root, and others of its user do not look into it.
    before = log(mcfs)
    mcfs.kill_daemon(signal.SIGSEGV)
    assert log(mcfs) == before


# Where the daemon ends all the same


def until(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def states(mcfs, **run):
    return {mount["mountpoint"]: mount["state"] for mount in mcfs.status(**run)["mounts"]}


def restored(mcfs):
    """Starts a daemon as a service manager does, and waits until nothing is dead."""
    process = mcfs.start("daemon")
    until(lambda: "dead" not in states(mcfs, code=None).values() and mcfs.run("status", code=None).code == 0)
    return process


def test_what_was_mounted_comes_back_after_the_daemon_was_killed(mcfs, folder, tmp_path):
    upper = tmp_path / "upper"
    upper.mkdir()
    mountpoint = mcfs.mount(folder, options=("--upper", upper, "--allow-other"))
    inner = mcfs.mount(folder, options=("--read-only", "--offline"), environment={"HF_TOKEN": "hf_secret"})
    gone = mcfs.mount(folder)
    with open(f"{mountpoint}/mine", "wb") as file:
        file.write(b"mine")
    mcfs.umount(gone)
    mcfs.kill_daemon()
    # Without a daemon the commands say what is dead, and why; JSON too.
    result = mcfs.run("status", code=FAILED)
    assert f"{mountpoint}  dead" in result.stdout and "mcfs mount --all" in result.stdout, str(result)
    assert states(mcfs, code=FAILED) == {mountpoint: "dead", inner: "dead"}
    service = restored(mcfs)
    assert states(mcfs) == {mountpoint: "ready", inner: "offline"}
    with open(f"{mountpoint}/mine", "rb") as file:
        assert file.read() == b"mine"
    with open(f"{mountpoint}/small/3", "rb") as file:
        assert file.read() == trees.seeded(3, 3000)
    with pytest.raises(OSError) as raised:
        open(f"{inner}/new", "wb")
    assert raised.value.errno == errno.EROFS
    records = b"".join(open(f"{mcfs.cache}/mounts/{name}", "rb").read() for name in os.listdir(f"{mcfs.cache}/mounts"))
    assert b"hf_secret" not in records and b"HF_TOKEN" not in records
    # A service that is stopped comes back with its mounts; what is unmounted does not.
    mcfs.umount(inner)
    service.send_signal(signal.SIGTERM)
    assert service.wait(30) == 0 and not is_mounted(mountpoint)
    restored(mcfs)
    assert states(mcfs) == {mountpoint: "ready"}
    mcfs.umount(mountpoint)
    assert os.listdir(f"{mcfs.cache}/mounts") == []


def test_mount_all_and_umount_settle_what_is_dead(mcfs, folder):
    first, second = mcfs.mount(folder), mcfs.mount(folder)
    mcfs.kill_daemon()
    mcfs.run("umount", second)
    assert not is_mounted(second)
    assert set(states(mcfs, code=FAILED)) == {first}
    result = mcfs.run("mount", "--all")
    assert f"{first}: ready" in result.stdout
    # Who mounts there anew has what was asked for.
    mcfs.kill_daemon()
    mcfs.mount(folder, at=first, options=("--read-only",))
    assert mcfs.status()["mounts"][0]["readOnly"]


def test_what_ends_the_daemon_again_and_again_is_not_mounted_by_itself(mcfs, folder):
    bad, good = mcfs.mount(folder), mcfs.mount(folder)
    mcfs.kill_daemon()
    for name in os.listdir(f"{mcfs.cache}/mounts"):
        path = f"{mcfs.cache}/mounts/{name}"
        with open(path) as file:
            record = json.load(file)
        if record["request"]["mountpoint"] == bad:
            # As daemons leave it that end while they make the mount.
            record["attempts"] = [time.time() - seconds for seconds in (3, 2, 1)]
            with open(path, "w") as file:
                json.dump(record, file)
    mcfs.start("daemon")
    until(lambda: states(mcfs, code=None).get(good) == "ready")
    result = mcfs.run("status", bad, code=FAILED)
    assert "3 times within a minute" in result.stdout, str(result)
    assert f"{bad}: ready" in mcfs.run("mount", "--all").stdout
    assert states(mcfs) == {bad: "ready", good: "ready"}


def test_a_request_that_the_daemon_ends_over_is_not_sent_to_the_next(mcfs, nginx, fault_proxy):
    trees.write(f"{nginx.root}/life/a", b"a")
    proxy = fault_proxy(nginx.url)
    mcfs.umount(mcfs.mount(f"{proxy.url}/files/life/"))
    (pid,) = mcfs.daemon_pids
    proxy.fault({"kind": "stall", "seconds": 2})
    waiting = mcfs.start("mount", f"{proxy.url}/files/life/", mcfs.new_mountpoint())
    until(lambda: mcfs.status()["jobs"])
    os.kill(pid, signal.SIGKILL)
    assert waiting.wait(60) == FAILED
    with open(f"{mcfs.directory}/log-0") as file:
        assert "went away" in file.read()
    assert mcfs.daemon_pids == set()


# Mounts that are just ending, or go on elsewhere


def test_umount_and_mount_at_once_work_whatever_the_daemon_has_noticed(mcfs, folder):
    mountpoint = mcfs.mount(folder)
    (pid,) = mcfs.daemon_pids
    for _ in range(3):
        os.kill(pid, signal.SIGSTOP)
        # umount(8) itself may ask the mount.
        going_on = threading.Timer(0.2, os.kill, (pid, signal.SIGCONT))
        going_on.start()
        subprocess.run(["umount", mountpoint], check=True)
        waiting = mcfs.start("mount", folder, mountpoint)
        assert waiting.wait(30) == 0 and is_mounted(mountpoint)
        going_on.join()
    assert len(mcfs.status()["mounts"]) == 1


def test_a_mount_that_another_namespace_holds_goes_on_there(mcfs, folder):
    mcfs.environment["MCFS_IDLE_SECONDS"] = "0.5"
    mountpoint = mcfs.mount(folder, options=("--read-only",))
    script = f"mount --bind {mountpoint} {mountpoint}; echo; read line; cat {mountpoint}/small/5; read line"
    holder = subprocess.Popen(
        ["unshare", "-m", "--propagation", "private", "sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdout.readline() == b"\n"
    result = mcfs.umount(mountpoint)
    assert "goes on" in result.stderr
    (mount,) = mcfs.status()["mounts"]
    assert mount["state"] == "detached" and mount["heldBy"]
    # Another mount at the same place is another one.
    mcfs.mount(folder, at=mountpoint, options=("--read-only",))
    assert sorted(mount["state"] for mount in mcfs.status()["mounts"]) == ["detached", "ready"]
    mcfs.umount(mountpoint)
    time.sleep(1)
    holder.stdin.write(b"\n")
    holder.stdin.flush()
    assert holder.stdout.read(3000) == trees.seeded(5, 3000)
    holder.stdin.close()
    holder.wait(30)
    mcfs.wait_daemon_gone(30)


def test_options_change_while_a_mount_is_in_use(mcfs, folder, tmp_path):
    upper = tmp_path / "upper"
    trees.write(f"{upper}/mine", b"mine")
    mountpoint = mcfs.mount(folder, options=("--read-only", "--upper", upper))
    # The upper shows, and cannot be written to.
    assert open(f"{mountpoint}/mine", "rb").read() == b"mine"
    with pytest.raises(OSError) as raised:
        open(f"{mountpoint}/new", "wb")
    assert raised.value.errno == errno.EROFS
    assert mcfs.status()["mounts"][0]["readOnly"]
    helper = tmp_path / "mount.fuse.mcfs"
    helper.symlink_to(mcfs.executable)

    def remount(options, code=0):
        command = [helper, "source", mountpoint, "-o", f"{options},remount,cache_dir={mcfs.cache},user_id=0,group_id=0"]
        result = subprocess.run(command, env=mcfs.environment, capture_output=True, text=True)
        assert result.returncode == code, result.stderr
        with open("/proc/self/mounts") as table:
            return next(line.split()[3].split(",") for line in table if line.split()[1] == mountpoint)

    shown = remount("rw,nodiratime,noexec")
    assert {"rw", "nodiratime", "noexec"} <= set(shown)
    with open(f"{mountpoint}/new", "wb") as file:
        file.write(b"new")
        remount("ro", code=CANNOT_CREATE)
    assert "ro" in remount("ro,strictatime") and mcfs.status()["mounts"][0]["readOnly"]
    mcfs.umount(mountpoint)
    mcfs.mount(folder, at=mountpoint, options=("--read-only",))
    remount("rw", code=CANNOT_CREATE)
    assert {"nosuid", "nodev"} <= set(remount("ro,nosuid,nodev")) and "nosuid" not in remount("ro,nodev")


# Whose the cache directory is


@pytest.mark.parametrize("what", ["folder of another user", "folder for all", "linked lock", "lock of another user"])
def test_a_cache_directory_that_others_can_write_to_is_refused(mcfs, folder, tmp_path, what):
    os.mkdir(mcfs.cache, 0o700)
    other = tmp_path / "other"
    other.write_bytes(b"as it was")
    if what == "folder of another user":
        os.chown(mcfs.cache, 65534, 65534)
    elif what == "folder for all":
        os.chmod(mcfs.cache, 0o777)
    elif what == "linked lock":
        os.symlink(other, f"{mcfs.cache}/lock")
    else:
        open(f"{mcfs.cache}/lock", "w").close()
        os.chown(f"{mcfs.cache}/lock", 65534, 65534)
    result = mcfs.run("mount", folder, mcfs.new_mountpoint(), code=CONFIGURATION)
    assert mcfs.cache in result.stderr and other.read_bytes() == b"as it was", str(result)
    if "folder" in what:
        mcfs.run("status", code=CONFIGURATION)


def test_nothing_is_sent_to_another_user_s_socket(mcfs, folder):
    os.mkdir(mcfs.cache, 0o700)
    script = (
        "import os, socket, sys; s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); os.setuid(65534); s.listen();"
        "print(flush=True); c = s.accept()[0]; got = b''.join(iter(lambda: c.recv(1000), b'')); print(len(got), flush=True)")
    impostor = subprocess.Popen(
        [sys.executable, "-c", script, f"{mcfs.cache}/control.sock"], stdout=subprocess.PIPE, text=True)
    impostor.stdout.readline()
    result = mcfs.run("status", code=UNAUTHORIZED)
    assert "another user's" in result.stderr
    assert impostor.stdout.readline() == "0\n"
    impostor.wait(10)


def test_a_mountpoint_is_the_directory_that_it_was_when_it_was_asked_for(mcfs, nginx, fault_proxy, tmp_path):
    trees.write(f"{nginx.root}/place/a", b"a")
    proxy = fault_proxy(nginx.url)
    mountpoint, other = mcfs.new_mountpoint(), mcfs.new_mountpoint()
    proxy.fault({"kind": "stall", "seconds": 1})
    waiting = mcfs.start("mount", f"{proxy.url}/files/place/", mountpoint)
    until(lambda: mcfs.run("status", code=None).code == 0 and mcfs.status()["jobs"])
    os.rename(mountpoint, mountpoint + ".old")
    os.symlink(other, mountpoint)
    mcfs.mountpoints.append(mountpoint + ".old")
    waiting.wait(60)
    assert not is_mounted(other)


def test_rounds_of_kills_leave_every_mount_and_every_byte(mcfs):
    kill_rounds(mcfs, rounds=4, mounts=2, seed=1)
