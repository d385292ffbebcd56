"""What a mount does where the disk of its upper is full, slow or damaged, and with what disks refuse."""

import os
import shutil
import subprocess
import threading
import time

import pytest

import trees
from faults import Faults
from loop_disk import LoopDisk
from test_upper import changes, read, write

pytestmark = pytest.mark.usefixtures("fuse")


@pytest.fixture
def lower(tmp_path):
    folder = tmp_path / "lower"
    for number in range(40):
        trees.write(f"{folder}/files/{number}", b"of the tree")
    trees.write(f"{folder}/deep/er/file", b"deep")
    trees.write(f"{folder}/large", trees.seeded(3, 30_000_000))
    return str(folder)


@pytest.fixture(params=["ext4", "xfs"])
def disk(request, mcfs, tmp_path):
    disk = LoopDisk(str(tmp_path), request.param)
    disk.make()
    disk.mount()
    os.mkdir(f"{disk.path}/upper")
    try:
        yield disk
    finally:
        mcfs.close()
        disk.unmount()


def fill(path):
    """Until not a byte is left. - Returns: what fills it."""
    ballast = os.path.join(path, "ballast")
    with open(ballast, "wb", buffering=0) as file:
        for step in (1 << 20, 4096, 1):
            try:
                while file.write(bytes(step)) == step:
                    pass
            except OSError:
                pass
    return ballast


def test_on_a_full_disk_what_the_tree_has_can_be_deleted_and_renamed(mcfs, lower, disk):
    upper = f"{disk.path}/upper"
    mountpoint = mcfs.mount(lower, options=("--upper", upper))
    write(f"{mountpoint}/files/0", b"written over")
    fill(disk.path)
    # What takes room goes, and what the tree has there with it; of a directory that the upper does not have, too.
    os.remove(f"{mountpoint}/files/0")
    for number in range(1, 20):
        os.remove(f"{mountpoint}/files/{number}")
    os.remove(f"{mountpoint}/deep/er/file")
    assert not os.path.exists(f"{mountpoint}/files/0") and os.listdir(f"{mountpoint}/deep/er") == []
    mcfs.umount(mountpoint)
    mcfs.mount(lower, at=mountpoint, options=("--upper", upper))
    assert sorted(os.listdir(f"{mountpoint}/files"), key=int) == [str(number) for number in range(20, 40)]
    assert os.listdir(f"{mountpoint}/deep/er") == []
    # With room again, the directory comes to be in the upper as ever.
    os.remove(f"{disk.path}/ballast")
    write(f"{mountpoint}/deep/er/new", b"new")
    assert os.listdir(f"{mountpoint}/deep/er") == ["new"]
    mcfs.umount(mountpoint)


def test_changes_that_wait_for_the_disk_hold_up_no_other_directory(mcfs, lower, disk):
    mcfs.environment["MCFS_PASSTHROUGH"] = "false"
    upper = f"{disk.path}/upper"
    mountpoint = mcfs.mount(lower, options=("--upper", upper))
    for name in ("there", "here"):
        os.mkdir(f"{mountpoint}/{name}")
        write(f"{mountpoint}/{name}/file", b"of the upper")
    write(f"{mountpoint}/files/0", b"written over")
    works = [lambda number=number: write(f"{mountpoint}/here/{number}", b"x") for number in range(12)]
    works += [lambda: os.remove(f"{mountpoint}/files/0"), lambda: os.rename(f"{mountpoint}/files/1", f"{mountpoint}/files/x")]
    workers = [threading.Thread(target=work) for work in works]
    subprocess.run(["fsfreeze", "-f", disk.path], check=True)
    try:
        for worker in workers:
            worker.start()
        time.sleep(0.5)
        assert any(worker.is_alive() for worker in workers)
        for command in (
            ["cat", f"{mountpoint}/there/file"], ["ls", "-l", f"{mountpoint}/there"], ["cat", f"{mountpoint}/deep/er/file"],
            ["stat", f"{mountpoint}/deep/er/nothing"], ["ls", "-l", mountpoint],
        ):
            result = subprocess.run(command, timeout=10, capture_output=True)
            assert result.returncode == (1 if "nothing" in command[-1] else 0), result.stderr
        assert mcfs.run("status", json=True, timeout=30).json["mounts"][0]["mountpoint"] == mountpoint
    finally:
        subprocess.run(["fsfreeze", "-u", disk.path], check=True)
    for worker in workers:
        worker.join(20)
    assert not any(worker.is_alive() for worker in workers)
    mcfs.umount(mountpoint)


def test_a_file_that_many_open_for_writing_at_once_is_copied_once(mcfs, lower, disk):
    upper = f"{disk.path}/upper"
    mountpoint = mcfs.mount(lower, options=("--upper", upper))
    ballast = fill(disk.path)
    # Room for two copies, and not for three.
    with open(ballast, "r+b") as file:
        file.truncate(os.path.getsize(ballast) - 75_000_000)
    os.sync()
    files, errors = [], []

    def opened():
        try:
            files.append(os.open(f"{mountpoint}/large", os.O_RDWR))
        except OSError as error:
            errors.append(error)

    openers = [threading.Thread(target=opened) for _ in range(8)]
    for opener in openers:
        opener.start()
    for opener in openers:
        opener.join(60)
    assert len(files) == 8 and not errors
    os.pwrite(files[0], b"mine", 0)
    assert all(os.pread(file, 4, 0) == b"mine" for file in files)
    for file in files:
        os.close(file)
    mcfs.umount(mountpoint)


def test_a_file_whose_bytes_do_not_come_keeps_no_other_from_being_copied(mcfs, nginx, fault_proxy, lower):
    folder = f"{nginx.root}/copies"
    for name in ("slow", "other"):
        trees.write(f"{folder}/{name}", trees.seeded(5, 300_000))
    proxy = fault_proxy(nginx.url)
    mountpoint = mcfs.mount(f"{proxy.url}/files/copies/", lower)
    assert len(read(f"{mountpoint}/other")) == 300_000
    proxy.fault({"kind": "stall", "after": 1000, "match": "/slow", "method": "GET"})
    # More of them than there are threads for copies.
    openers = [subprocess.Popen(["sh", "-c", f"exec 3<>{mountpoint}/slow"]) for _ in range(20)]
    try:
        time.sleep(1)
        for name in ("large", "other", "files/3"):
            subprocess.run(["sh", "-c", f"exec 3<>{mountpoint}/{name}"], timeout=20, check=True)
        assert all(opener.poll() is None for opener in openers)
        openers[3].kill()
        assert openers[3].wait(10) == -9
        proxy.heal()
        assert [opener.wait(60) for opener in openers if opener is not openers[3]] == [0] * 19
    finally:
        for opener in openers:
            opener.kill()


def test_a_file_that_is_copied_shows_no_attributes_but_its_own(mcfs, lower, tmp_path):
    for number in range(150):
        trees.write(f"{lower}/secrets/{number}", b"secret")
    mountpoint = mcfs.mount(lower)
    stop, wrong, failed = threading.Event(), [], []

    def look(file, change):
        while not stop.is_set():
            # The kernel asks for the attributes anew after a read.
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
            os.pread(file, 6, 0)
            if os.fstat(file).st_uid != 1234:
                wrong.append(file)
            try:
                os.utime(file, ns=(1, 1))
            except OSError as error:
                failed.append(error)

    for number in range(150):
        path = f"{mountpoint}/secrets/{number}"
        os.chmod(path, 0o600)
        os.chown(path, 1234, 1234)
        file = os.open(path, os.O_RDONLY)
        stop.clear()
        looker = threading.Thread(target=look, args=(file, number))
        looker.start()
        try:
            time.sleep(0.003)
            os.close(os.open(path, os.O_RDWR))
            time.sleep(0.003)
        finally:
            stop.set()
            looker.join()
            os.close(file)
        status = os.stat(path)
        assert (status.st_uid, status.st_mode & 0o777) == (1234, 0o600), f"file {number}"
    assert not wrong and not failed


def test_what_is_owed_to_the_log_stays_when_a_later_record_is_taken_back(mcfs, lower, tmp_path):
    upper = tmp_path / "upper"
    upper.mkdir()
    mountpoint = mcfs.mount(lower, options=("--upper", upper))
    for name in ("1", "2"):
        write(f"{mountpoint}/files/{name}", b"mine")
    os.sync()
    # The log says that the name is moved, and cannot say that it was.
    with Faults(mcfs.daemon_pids, ("pwrite64:error=ENOSPC:when=2",), tmp_path / "first.log",
                f"{upper}/.mcfs-upper/changes"):
        os.rename(f"{mountpoint}/files/1", f"{mountpoint}/files/new")
    with Faults(mcfs.daemon_pids, ("unlinkat:error=EIO:when=1",), tmp_path / "second.log"):
        with pytest.raises(OSError):
            os.remove(f"{mountpoint}/files/2")
    os.rename(f"{mountpoint}/files/new", f"{mountpoint}/files/1")
    before = sorted(os.listdir(f"{mountpoint}/files"))
    assert "new" not in before and read(f"{mountpoint}/files/1") == b"mine"
    mcfs.umount(mountpoint)
    mcfs.mount(lower, at=mountpoint, options=("--upper", upper))
    assert sorted(os.listdir(f"{mountpoint}/files")) == before and read(f"{mountpoint}/files/1") == b"mine"


def test_attributes_that_no_disk_would_take_are_refused_at_once(mcfs, lower, tmp_path):
    mountpoint = mcfs.mount(lower)
    path = f"{mountpoint}/files/0"
    with pytest.raises(OSError):
        os.setxattr(path, "user.", b"x")
    try:
        os.setxattr(path, "user.large", bytes(30_000))
    except OSError as error:
        # The disk has no room for so much; the file can be written to all the same.
        assert os.listxattr(path) == [], error
    for number in range(20):
        os.setxattr(path, f"user.number{number}", bytes(120))
    write(path, b"!", "ab")
    assert read(path) == b"of the tree!" and os.getxattr(path, "user.number7") == bytes(120)
    with open(path, "r+b"):
        pass


def test_a_file_capability_survives_the_copy(mcfs, lower):
    if not shutil.which("setcap"):
        pytest.skip("setcap is not here")
    mountpoint = mcfs.mount(lower)
    path = f"{mountpoint}/files/0"
    subprocess.run(["setcap", "cap_net_raw+ep", path], check=True)
    os.link(path, f"{mountpoint}/files/another")
    assert "cap_net_raw" in subprocess.run(["getcap", path], check=True, capture_output=True, text=True).stdout


def test_a_garbled_line_of_the_log_costs_what_it_says_and_is_told(mcfs, lower):
    mountpoint = mcfs.mount(lower)
    for number in range(40):
        os.remove(f"{mountpoint}/files/{number}")
    mcfs.umount(mountpoint)
    log = f"{mountpoint}/.mcfs-upper/changes"
    content = bytearray(read(log))
    content[content.index(b"files/7 ") + 2] ^= 1
    write(log, content)
    mounted = mcfs.run("mount", lower, mountpoint)
    assert "changes.damaged-1" in mounted.stderr
    assert os.listdir(f"{mountpoint}/files") == ["7"]
    (mount,) = mcfs.status()["mounts"]
    assert any("changes.damaged-1" in problem for problem in mount["problems"])
    mcfs.umount(mountpoint)
    assert read(f"{mountpoint}/.mcfs-upper/changes.damaged-1") == bytes(content)


def test_directories_may_be_nested_deeper_than_anybody_counts(mcfs, lower):
    mountpoint = mcfs.mount(lower)
    maker = (
        "import os, sys\nos.chdir(sys.argv[1])\n"
        "for _ in range(5_000):\n    os.mkdir('d')\n    os.chdir('d')\nopen('end', 'w').close()\nos.remove('end')\n")
    subprocess.run(["python3", "-c", maker, mountpoint], check=True)
    mcfs.umount(mountpoint)
    other = mcfs.mount(lower)
    assert os.path.exists(f"{other}/large")
    # `rm` goes by descriptors.
    subprocess.run(["rm", "-rf", f"{mountpoint}/d"], check=True)


def test_upper_list_goes_on_while_directories_come_and_go(mcfs, lower):
    mountpoint = mcfs.mount(lower)
    ended = threading.Event()

    def change():
        number = 0
        while not ended.is_set():
            number += 1
            os.makedirs(f"{mountpoint}/new/{number % 7}/in", exist_ok=True)
            os.rename(f"{mountpoint}/new/{number % 7}", f"{mountpoint}/new/other")
            shutil.rmtree(f"{mountpoint}/new/other")

    worker = threading.Thread(target=change)
    worker.start()
    try:
        for _ in range(40):
            assert "files/0" not in changes(mcfs, mountpoint)
    finally:
        ended.set()
        worker.join(20)


def test_the_root_keeps_its_times_where_something_below_is_remembered(mcfs, lower, tmp_path):
    upper = tmp_path / "upper"
    upper.mkdir()
    os.utime(upper, (1_000_000_000, 1_000_000_000))
    mountpoint = mcfs.mount(lower, options=("--upper", upper))
    os.chmod(f"{mountpoint}/files/0", 0o600)
    assert os.stat(upper).st_mtime == 1_000_000_000
    mcfs.umount(mountpoint)
    assert os.stat(upper).st_mtime == 1_000_000_000
