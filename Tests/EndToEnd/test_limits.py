"""What happens where the process may have no more of something: threads, long files."""

import errno
import os
import resource
import signal

import pytest

import trees
from faults import Faults
from mcfs import UNAVAILABLE

pytestmark = pytest.mark.usefixtures("fuse")

MIB = 1 << 20
NO_THREADS = ("clone3:error=EAGAIN", "clone:error=EAGAIN")


@pytest.fixture
def folder(tmp_path):
    path = str(tmp_path / "files")
    for index in range(4):
        trees.write(f"{path}/small{index}", trees.seeded(index, 5000))
    trees.write(f"{path}/cold.bin", trees.seeded(10, 3 * MIB))
    trees.write(f"{path}/warm.bin", trees.seeded(11, 3 * MIB))
    return path


def contents(path):
    """None where it cannot be read."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        assert error.errno == errno.EIO
        return None


def test_where_no_thread_can_be_had_the_daemon_lives_and_does_what_it_can(mcfs, folder, tmp_path):
    mountpoint = mcfs.mount(folder, options=("--read-deadline", "3"))
    warm = contents(f"{mountpoint}/warm.bin")
    (pid,) = mcfs.daemon_pids
    with Faults([pid], NO_THREADS, tmp_path / "strace.log") as faults:
        # The first that asks for a thread.
        assert "thread" in mcfs.run("mount", folder, mcfs.new_mountpoint(), code=None).stderr
        assert faults.met
        assert contents(f"{mountpoint}/cold.bin") in (None, trees.seeded(10, 3 * MIB))
        assert contents(f"{mountpoint}/warm.bin") == warm
        assert len(os.listdir(mountpoint)) == 6
        # Copies of files that are local, and what waits for the disk.
        with open(f"{mountpoint}/warm.bin", "ab") as file:
            file.write(b"more")
            os.fsync(file.fileno())
        with open(f"{mountpoint}/new", "wb") as file:
            file.write(b"new")
            os.fsync(file.fileno())
        os.rename(f"{mountpoint}/new", f"{mountpoint}/newer")
    assert mcfs.daemon_pids == {pid}
    assert contents(f"{mountpoint}/warm.bin") == warm + b"more"
    assert contents(f"{mountpoint}/newer") == b"new"
    assert contents(f"{mountpoint}/cold.bin") == trees.seeded(10, 3 * MIB)
    second = mcfs.mount(folder)
    assert contents(f"{second}/small0") == trees.seeded(0, 5000)


def test_a_mount_that_gets_no_threads_fails_and_says_so(mcfs, folder, tmp_path):
    mountpoint = mcfs.mount(folder)
    (pid,) = mcfs.daemon_pids
    # The first ones are those of the request.
    for count in range(1, 7):
        with Faults([pid], [f"{call}:error=EAGAIN:when={count}+" for call in ("clone3", "clone")], tmp_path / "log"):
            result = mcfs.run("mount", folder, mcfs.new_mountpoint(), code=None)
        assert result.code == 0 or "thread" in result.stderr, str(result)
    assert mcfs.daemon_pids == {pid}
    assert contents(f"{mountpoint}/small0") == trees.seeded(0, 5000)


def test_a_limit_of_file_sizes_fails_the_one_write_or_read(mcfs, folder):
    mountpoint = mcfs.mount(folder, environment={"MCFS_PASSTHROUGH": "false"})
    (pid,) = mcfs.daemon_pids
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (2 * MIB, 2 * MIB))
    assert contents(f"{mountpoint}/cold.bin") in (None, trees.seeded(10, 3 * MIB))
    assert contents(f"{mountpoint}/small0") == trees.seeded(0, 5000)
    with open(f"{mountpoint}/new", "wb", buffering=0) as file:
        assert file.write(bytes(MIB)) == MIB
        with pytest.raises(OSError) as raised:
            os.pwrite(file.fileno(), b"x", 3 * MIB)
        assert raised.value.errno == errno.EFBIG
        with pytest.raises(OSError) as raised:
            os.ftruncate(file.fileno(), 3 * MIB)
        assert raised.value.errno == errno.EFBIG
    assert contents(f"{mountpoint}/new") == bytes(MIB)
    assert mcfs.daemon_pids == {pid}


def test_a_limit_of_file_sizes_does_not_end_a_mount_in_the_foreground(mcfs, folder):
    mountpoint = mcfs.new_mountpoint()
    process = mcfs.start(
        "mount", "--foreground", folder, mountpoint, environment={"MCFS_PASSTHROUGH": "false"},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (2 * MIB, 2 * MIB)))
    while not os.path.exists(f"{mountpoint}/small0"):
        assert process.poll() is None
    with open(f"{mountpoint}/new", "wb", buffering=0) as file, pytest.raises(OSError) as raised:
        os.pwrite(file.fileno(), b"x", 3 * MIB)
    assert raised.value.errno == errno.EFBIG
    assert contents(f"{mountpoint}/small0") == trees.seeded(0, 5000)
    assert process.poll() is None


def test_where_no_descriptor_is_left_for_a_connection_mounts_stay_and_commands_work_again(mcfs, folder, tmp_path):
    mountpoint = mcfs.mount(folder)
    (pid,) = mcfs.daemon_pids
    with Faults([pid], ("accept:error=EMFILE", "accept4:error=EMFILE"), tmp_path / "strace.log") as faults:
        # The daemon cannot take it, and listens anew.
        for command in (("status",), ("umount", mcfs.new_mountpoint())):
            result = mcfs.run(*command, code=UNAVAILABLE, timeout=60)
            assert "neither answers nor ends" in result.stderr and not result.stdout, str(result)
        assert faults.met
        assert contents(f"{mountpoint}/warm.bin") == trees.seeded(11, 3 * MIB)
    # The socket is opened anew meanwhile.
    assert mountpoint in mcfs.run("status").stdout
    assert mcfs.daemon_pids == {pid} and contents(f"{mountpoint}/small0") == trees.seeded(0, 5000)


def test_a_daemon_that_is_stopped_is_not_taken_for_none(mcfs, folder):
    mountpoint = mcfs.mount(folder)
    (pid,) = mcfs.daemon_pids
    os.kill(pid, signal.SIGSTOP)
    try:
        result = mcfs.run("status", code=UNAVAILABLE, timeout=60)
        assert "neither answers nor ends" in result.stderr, str(result)
    finally:
        os.kill(pid, signal.SIGCONT)
    assert mountpoint in mcfs.run("status").stdout
