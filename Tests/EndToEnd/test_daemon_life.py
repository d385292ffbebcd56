"""The daemon goes on where it runs out of something, and ends as it should where it ends."""

import errno
import os
import re
import resource
import signal

import pytest

import trees

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
