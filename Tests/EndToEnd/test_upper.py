"""Writing into a mount: where it goes, what is remembered of the tree, and what `status` and `upper list` tell."""

import ctypes
import errno
import fcntl
import json
import os
import pty
import random
import resource
import shutil
import signal
import stat
import struct
import subprocess
import threading
import time

import pytest

import mcfs as mcfs_helper
import trees
from faults import Faults
from loop_disk import LoopDisk
from test_unprivileged import User, USER, user  # noqa: F401  (a fixture)

pytestmark = pytest.mark.usefixtures("fuse")

BIG = 20_000_000
NOBODY = 65534


def read(path):
    with open(path, "rb") as file:
        return file.read()


def write(path, content, mode="wb"):
    with open(path, mode) as file:
        file.write(content)


@pytest.fixture
def lower(tmp_path):
    """A small tree: files, a large one, folders in folders, links of both kinds."""
    folder = tmp_path / "lower"
    trees.write(f"{folder}/config.json", b"{}\n")
    trees.write(f"{folder}/weights.safetensors", trees.seeded(1, BIG))
    trees.write(f"{folder}/a/b/c.txt", b"deep\n")
    trees.write(f"{folder}/a/other.txt", b"other\n")
    os.link(f"{folder}/config.json", f"{folder}/a/config.json")
    os.symlink("config.json", f"{folder}/link")
    return str(folder)


def changes(mcfs, mountpoint):
    listed = mcfs.run("upper", "list", mountpoint, json=True).json["changes"]
    return {change["path"]: change for change in listed}


def test_what_is_written_goes_to_the_directory_below_and_stays_there(mcfs, lower):
    mountpoint = mcfs.new_mountpoint()
    write(f"{mountpoint}/before", b"was there")
    write(f"{mountpoint}/config.json", b"mine")
    mcfs.mount(lower, at=mountpoint)
    assert sorted(os.listdir(mountpoint)) == ["a", "before", "config.json", "link", "weights.safetensors"]
    assert read(f"{mountpoint}/before") == b"was there" and read(f"{mountpoint}/config.json") == b"mine"
    write(f"{mountpoint}/a/new", b"new")
    write(f"{mountpoint}/a/b/c.txt", b"more\n", "ab")
    os.rename(f"{mountpoint}/before", f"{mountpoint}/after")
    mount = mcfs.status()["mounts"][0]
    assert mount["upper"] == mountpoint and mount["readOnly"] is False and mount["upperBytes"] > 0
    mcfs.umount(mountpoint)
    assert sorted(os.listdir(mountpoint)) == ["a", "after", "config.json"] or \
        sorted(os.listdir(mountpoint)) == [".mcfs-upper", "a", "after", "config.json"]
    assert read(f"{mountpoint}/a/new") == b"new" and read(f"{mountpoint}/a/b/c.txt") == b"deep\nmore\n"
    assert sorted(os.listdir(f"{mountpoint}/a")) == ["b", "new"]
    mcfs.mount(lower, at=mountpoint)
    assert read(f"{mountpoint}/a/b/c.txt") == b"deep\nmore\n" and read(f"{mountpoint}/a/other.txt") == b"other\n"


def test_what_is_deleted_and_moved_stays_so_and_is_remembered_in_one_place(mcfs, lower, tmp_path):
    upper = tmp_path / "upper"
    upper.mkdir()
    mountpoint = mcfs.mount(lower, options=("--upper", upper))
    os.unlink(f"{mountpoint}/weights.safetensors")
    os.rename(f"{mountpoint}/a", f"{mountpoint}/z")
    os.unlink(f"{mountpoint}/z/b/c.txt")
    os.mkdir(f"{mountpoint}/a")

    def check():
        assert sorted(os.listdir(mountpoint)) == ["a", "config.json", "link", "z"]
        assert os.listdir(f"{mountpoint}/a") == [] and os.listdir(f"{mountpoint}/z/b") == []
        assert sorted(os.listdir(f"{mountpoint}/z")) == ["b", "config.json", "other.txt"]
        # The place is not shown, not found, and nobody can make one.
        for attempt in (os.stat, os.listdir, os.unlink):
            with pytest.raises(FileNotFoundError):
                attempt(f"{mountpoint}/.mcfs-upper")
        with pytest.raises(PermissionError):
            os.mkdir(f"{mountpoint}/.mcfs-upper")
        with pytest.raises(PermissionError):
            os.rename(f"{mountpoint}/config.json", f"{mountpoint}/.mcfs-upper")

    check()
    mcfs.umount(mountpoint)
    # No marker stands among the entries.
    assert sorted(os.listdir(upper)) == [".mcfs-upper", "a", "z"] and os.listdir(upper / "a") == []
    mcfs.mount(lower, at=mountpoint, options=("--upper", upper))
    check()
    mcfs.kill_daemon(signal.SIGKILL)
    subprocess.run(["umount", "-l", mountpoint], check=True)
    mcfs.mount(lower, at=mountpoint, options=("--upper", upper))
    check()


def test_an_old_upper_is_a_tree_with_what_it_remembers(mcfs, lower, tmp_path):
    old = tmp_path / "old"
    old.mkdir()
    mountpoint = mcfs.mount(lower, options=("--upper", old))
    os.unlink(f"{mountpoint}/weights.safetensors")
    os.rename(f"{mountpoint}/a", f"{mountpoint}/z")
    os.rename(f"{mountpoint}/z/b/c.txt", f"{mountpoint}/c.txt")
    os.chmod(f"{mountpoint}/config.json", 0o640)
    write(f"{mountpoint}/z/new", b"new")
    mcfs.umount(mountpoint)

    def check(place):
        assert sorted(os.listdir(place)) == ["c.txt", "config.json", "link", "z"]
        assert sorted(os.listdir(f"{place}/z")) == ["b", "config.json", "new", "other.txt"]
        assert os.listdir(f"{place}/z/b") == [] and read(f"{place}/c.txt") == b"deep\n"
        assert os.stat(f"{place}/z/config.json").st_mode & 0o777 == 0o640

    new = tmp_path / "new"
    new.mkdir()
    top = mcfs.mount(lower, old, options=("--upper", new))
    check(top)
    os.rename(f"{top}/z", f"{top}/a")
    os.unlink(f"{top}/c.txt")
    mcfs.umount(top)
    # One over the other, below a folder, read only: nothing of either is changed.
    below = mcfs.mount(f"sub={lower}", f"sub={old}", f"sub={new}", f"other={lower}", options=("--read-only",))
    assert sorted(os.listdir(f"{below}/sub")) == ["a", "config.json", "link"]
    assert sorted(os.listdir(f"{below}/sub/a")) == ["b", "config.json", "new", "other.txt"]
    assert os.path.exists(f"{below}/other/weights.safetensors")
    check(mcfs.mount(lower, old, options=("--read-only",)))
    # Alone it is what was written, and says that there is more to it.
    alone = mcfs.new_mountpoint()
    result = mcfs.run("mount", "--read-only", old, alone)
    assert "name that tree before it" in result.stderr and ".mcfs-upper" not in os.listdir(alone)
    assert read(f"{alone}/z/new") == b"new"


def test_upper_list_tells_what_was_added_changed_and_removed(mcfs, lower, tmp_path):
    upper = tmp_path / "upper"
    upper.mkdir()
    mountpoint = mcfs.mount(lower, options=("--upper", upper))
    assert changes(mcfs, mountpoint) == {}
    write(f"{mountpoint}/new", b"four")
    write(f"{mountpoint}/config.json", b"changed")
    os.chmod(f"{mountpoint}/weights.safetensors", 0o600)
    os.rename(f"{mountpoint}/a/b", f"{mountpoint}/moved")
    os.unlink(f"{mountpoint}/link")
    told = changes(mcfs, mountpoint)
    assert {path: change["change"] for path, change in told.items()} == {
        "new": "added", "config.json": "changed", "a/config.json": "changed", "weights.safetensors": "changed", "moved": "added",
        "a/b": "removed", "link": "removed"}
    assert told["new"]["size"] == 4 and told["new"]["type"] == "file"
    assert told["moved"]["from"] == "a/b" and told["moved"]["type"] == "directory"
    assert told["weights.safetensors"]["metadataOnly"] is True and told["config.json"]["metadataOnly"] is False
    assert list(told) == sorted(told)
    text = mcfs.run("upper", "list", mountpoint).stdout
    assert "A  moved/  from a/b" in text and "D  link" in text and "M  weights.safetensors  (metadata)" in text
    mcfs.umount(mountpoint)
    mcfs.mount(lower, at=mountpoint, options=("--upper", upper))
    assert changes(mcfs, mountpoint) == told
    shown = mcfs.mount(lower, options=("--read-only",))
    mcfs.run("upper", "list", shown, code=mcfs_helper.USAGE)
    mcfs.run("upper", "list", tmp_path, code=mcfs_helper.NOT_FOUND)


def snapshot(folder, name="", without=()):
    """Names, types, modes, targets, bytes and times of files below a folder."""
    found = {}
    for entry in sorted(set(os.listdir(os.path.join(folder, name))) - set(without)):
        inner = os.path.join(name, entry)
        path = os.path.join(folder, inner)
        status = os.lstat(path)
        found[inner] = [oct(status.st_mode), status.st_nlink if stat.S_ISREG(status.st_mode) else 0]
        if stat.S_ISDIR(status.st_mode):
            found.update(snapshot(folder, inner))
        else:
            found[inner].append(os.readlink(path) if os.path.islink(path) else read(path))
            found[inner].append(status.st_mtime_ns)
    return found


def reset(mcfs, mountpoint, *arguments, **run):
    return mcfs.run("upper", "reset", mountpoint, *arguments, json=True, **run).json


def remounted(mcfs, mountpoint, *sources, options=()):
    mcfs.umount(mountpoint)
    return mcfs.mount(*sources, at=mountpoint, options=options)


def test_a_reset_goes_back_to_the_tree_and_keeps_what_was_written(mcfs, lower, tmp_path):
    upper = tmp_path / "upper"
    upper.mkdir()
    options = ("--upper", upper)
    mountpoint = mcfs.mount(lower, options=options)
    before = snapshot(mountpoint)
    assert mcfs.run("upper", "reset", mountpoint).stdout.strip() == "nothing to reset"
    os.chmod(f"{mountpoint}/weights.safetensors", 0o600)
    os.setxattr(f"{mountpoint}/weights.safetensors", "user.note", b"gone")
    os.utime(f"{mountpoint}/a/other.txt", (5, 5))
    os.rename(f"{mountpoint}/a/other.txt", f"{mountpoint}/moved.txt")
    os.rename(f"{mountpoint}/a", f"{mountpoint}/z")
    os.unlink(f"{mountpoint}/z/b/c.txt")
    os.rmdir(f"{mountpoint}/z/b")
    os.unlink(f"{mountpoint}/z/config.json")
    os.unlink(f"{mountpoint}/link")
    told = reset(mcfs, mountpoint)
    assert told["reset"] > 5 and told["files"] == 0
    assert snapshot(mountpoint) == before and changes(mcfs, mountpoint) == {}
    assert os.listxattr(f"{mountpoint}/weights.safetensors") == []
    assert not os.path.exists(f"{mountpoint}/z") and not os.path.exists(f"{mountpoint}/moved.txt")
    assert reset(mcfs, mountpoint)["reset"] == 0
    remounted(mcfs, mountpoint, lower, options=options)
    assert snapshot(mountpoint) == before
    # What was written stays, where it was written, and goes before the tree's.
    shutil.rmtree(f"{mountpoint}/a")
    os.mkdir(f"{mountpoint}/a")
    write(f"{mountpoint}/a/new", b"new")
    os.mkdir(f"{mountpoint}/a/b")
    write(f"{mountpoint}/a/b/c.txt", b"mine")
    write(f"{mountpoint}/config.json", b"changed")
    os.rename(f"{mountpoint}/config.json", f"{mountpoint}/written.json")
    os.unlink(f"{mountpoint}/link")
    assert reset(mcfs, mountpoint)["files"] == 0

    def check():
        assert read(f"{mountpoint}/a/new") == b"new" and read(f"{mountpoint}/a/b/c.txt") == b"mine"
        assert read(f"{mountpoint}/written.json") == b"changed" and read(f"{mountpoint}/config.json") == b"{}\n"
        assert read(f"{mountpoint}/a/config.json") == b"{}\n" and read(f"{mountpoint}/a/other.txt") == b"other\n"
        assert read(f"{mountpoint}/link") == b"{}\n"
        assert set(changes(mcfs, mountpoint)) == {"a/new", "a/b/c.txt", "written.json"}

    check()
    remounted(mcfs, mountpoint, lower, options=options)
    check()
    os.unlink(f"{mountpoint}/a/other.txt")
    told = reset(mcfs, mountpoint, "--all", "-y")
    assert told["reset"] == 1 and told["files"] == 3 and told["bytes"] == 14
    assert snapshot(mountpoint) == before and changes(mcfs, mountpoint) == {}
    mcfs.umount(mountpoint)
    assert os.listdir(upper) == []
    mcfs.mount(lower, at=mountpoint, options=options)
    assert snapshot(mountpoint) == before


def test_a_reset_of_a_path_leaves_the_rest(mcfs, lower, tmp_path):
    mountpoint = mcfs.mount(lower)
    before = snapshot(mountpoint)
    os.unlink(f"{mountpoint}/link")
    os.unlink(f"{mountpoint}/a/b/c.txt")
    os.chmod(f"{mountpoint}/a/other.txt", 0o600)
    os.chmod(f"{mountpoint}/weights.safetensors", 0o600)
    write(f"{mountpoint}/a/new", b"new")
    write(f"{mountpoint}/new", b"new")
    reset(mcfs, mountpoint, "a/b")
    assert read(f"{mountpoint}/a/b/c.txt") == b"deep\n" and os.stat(f"{mountpoint}/a/other.txt").st_mode & 0o777 == 0o600
    reset(mcfs, mountpoint, f"{mountpoint}/a", "--all", "-y")
    assert {name: what for name, what in snapshot(mountpoint).items() if name.startswith("a/")} == \
        {name: what for name, what in before.items() if name.startswith("a/")}
    assert set(changes(mcfs, mountpoint)) == {"link", "new", "weights.safetensors"}
    # Something that was moved into the path goes back to a place outside of it, which is free again.
    os.rename(f"{mountpoint}/weights.safetensors", f"{mountpoint}/a/b/w")
    reset(mcfs, mountpoint, "a/b")
    assert os.listdir(f"{mountpoint}/a/b") == ["c.txt"] and os.path.exists(f"{mountpoint}/weights.safetensors")
    # And what was moved out of it is back, and nowhere else.
    os.rename(f"{mountpoint}/a/b", f"{mountpoint}/out")
    write(f"{mountpoint}/out/mine", b"mine")
    reset(mcfs, mountpoint, "a/b")
    assert os.listdir(f"{mountpoint}/a/b") == ["c.txt"] and os.listdir(f"{mountpoint}/out") == ["mine"]
    mcfs.run("upper", "reset", mountpoint, "nowhere", code=mcfs_helper.NOT_FOUND)
    shutil.rmtree(f"{mountpoint}/a")
    mcfs.run("upper", "reset", mountpoint, "a/b", code=mcfs_helper.NOT_FOUND)
    reset(mcfs, mountpoint, "a")
    assert read(f"{mountpoint}/a/b/c.txt") == b"deep\n"
    remounted(mcfs, mountpoint, lower)
    assert set(changes(mcfs, mountpoint)) == {"link", "new", "out", "out/mine"}
    reset(mcfs, mountpoint, "--all", "-y")
    assert snapshot(mountpoint) == before
    shown = mcfs.mount(lower, options=("--read-only",))
    mcfs.run("upper", "reset", shown, code=mcfs_helper.USAGE)
    mcfs.run("upper", "reset", tmp_path, code=mcfs_helper.NOT_FOUND)


def change_at_random(mountpoint, dice):
    folders, files = [""], []
    for path, inner, names in os.walk(mountpoint):
        folders += [os.path.relpath(os.path.join(path, name), mountpoint) for name in inner]
        files += [os.path.relpath(os.path.join(path, name), mountpoint) for name in names]
    target = os.path.join(mountpoint, dice.choice(folders), dice.choice("abcxyz") + dice.choice(["", ".txt"]))
    source = os.path.join(mountpoint, dice.choice(folders + files))
    try:
        match dice.randrange(8):
            case 0 | 1 | 2:
                os.rename(source, target)
            case 3 if os.path.isdir(source) and source != f"{mountpoint}/":
                shutil.rmtree(source)
            case 4:
                os.chmod(source, 0o700)
            case 5:
                os.mkdir(target)
            case 6:
                write(dice.choice([source, target]), b"written", "ab")
            case _:
                os.unlink(source)
    except OSError:
        pass


@pytest.mark.parametrize("seed", range(4))
def test_resets_of_random_changes_lose_nothing_of_the_tree(mcfs, lower, seed):
    for name in ("p/q/r.txt", "p/q/s/t.txt", "p/u.txt", "x/y/z.txt"):
        trees.write(f"{lower}/{name}", name.encode())
    mountpoint = mcfs.mount(lower)
    dice = random.Random(seed)
    before = snapshot(mountpoint)

    for _ in range(12):
        for _ in range(dice.randrange(1, 12)):
            change_at_random(mountpoint, dice)
        told = list(changes(mcfs, mountpoint))
        if told and dice.random() < 0.7:
            # Part of it. A file of a folder that was moved is told where the tree has it: nothing may be there.
            path = dice.choice(told)
            result = mcfs.run("upper", "reset", mountpoint, dice.choice([path, os.path.dirname(path) or mountpoint]),
                              *dice.choice([(), ("--all", "-y")]), code=None)
            assert result.code in (mcfs_helper.DONE, mcfs_helper.NOT_FOUND), result
        elif dice.random() < 0.5:
            written = {path: read(f"{mountpoint}/{path}") for path, change in changes(mcfs, mountpoint).items()
                       if change["type"] == "file" and change["change"] != "removed" and not change.get("from")
                       and not change.get("metadataOnly")}
            reset(mcfs, mountpoint)
            assert {path: read(f"{mountpoint}/{path}") for path in written} == written
            assert {change["change"] for change in changes(mcfs, mountpoint).values()} <= {"added", "changed"}
            assert not [change for change in changes(mcfs, mountpoint).values() if change.get("from")]
        else:
            reset(mcfs, mountpoint, "--all", "-y")
            assert snapshot(mountpoint) == before
        shown, told = snapshot(mountpoint), changes(mcfs, mountpoint)
        remounted(mcfs, mountpoint, lower)
        assert snapshot(mountpoint) == shown and changes(mcfs, mountpoint) == told
    reset(mcfs, mountpoint, "--all", "-y")
    assert snapshot(mountpoint) == before


def on_terminal(command, answer, environment):
    """Runs a command on a terminal that answers its question. - Returns: its exit status, and what it said."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execvpe(command[0], command, environment)
    said = b""
    os.write(terminal, answer)
    while True:
        try:
            part = os.read(terminal, 4096)
        except OSError:
            break
        if not part:
            break
        said += part
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), said.decode()


def test_a_reset_of_much_needs_few_descriptors(mcfs, lower):
    mountpoint = mcfs.mount(lower)
    for pid in mcfs.daemon_pids:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (300, 300))
    for number in range(500):
        os.mkdir(f"{mountpoint}/{number}")
        write(f"{mountpoint}/{number}/file", b"written")
        write(f"{mountpoint}/a/{number}", b"written")
    mcfs.run("upper", "reset", mountpoint, "--all", "-y")
    assert sorted(os.listdir(mountpoint)) == ["a", "config.json", "link", "weights.safetensors"]
    assert sorted(os.listdir(f"{mountpoint}/a")) == ["b", "config.json", "other.txt"]


def test_a_reset_asks_before_it_removes_what_was_written(mcfs, lower):
    mountpoint = mcfs.mount(lower)
    # Nothing is there to ask about.
    mcfs.run("upper", "reset", mountpoint, "--all")
    write(f"{mountpoint}/new", b"12345")
    mcfs.run("upper", "reset", mountpoint, "--all", code=mcfs_helper.USAGE, input="y\n")
    command = mcfs.command("upper", "reset", mountpoint, "--all")
    code, said = on_terminal(command, b"n\n", mcfs.environment)
    assert code == 1 and "1 file with 5 B" in said and os.path.exists(f"{mountpoint}/new")
    code, said = on_terminal(command, b"y\n", mcfs.environment)
    assert code == 0 and not os.path.exists(f"{mountpoint}/new")


def test_open_files_go_on_over_a_reset(mcfs, lower):
    mountpoint = mcfs.mount(lower)
    before = snapshot(mountpoint)
    path = f"{mountpoint}/weights.safetensors"
    standing = os.open(f"{mountpoint}/a", os.O_RDONLY)
    with open(path, "rb") as reader, open(f"{mountpoint}/new", "w+b") as writer:
        assert reader.read(1000) == trees.seeded(1, BIG)[:1000]
        os.unlink(path)
        os.rename(f"{mountpoint}/a", f"{mountpoint}/z")
        writer.write(b"written")
        writer.flush()
        reset(mcfs, mountpoint, "--all", "-y")
        assert snapshot(mountpoint) == before
        assert reader.read() == trees.seeded(1, BIG)[1000:]
        writer.write(b" more")
        writer.flush()
        writer.seek(0)
        assert writer.read() == b"written more" and os.fstat(writer.fileno()).st_nlink == 0
        assert sorted(os.listdir(standing)) == ["b", "config.json", "other.txt"]
        write(f"{mountpoint}/new", b"another")
        assert os.fstat(writer.fileno()).st_size == 12
    os.unlink(f"{mountpoint}/new")
    # The kernel makes nothing in a directory that it saw removed, and knows it for as long as somebody has it open.
    shutil.rmtree(f"{mountpoint}/a")
    reset(mcfs, mountpoint)
    assert snapshot(mountpoint) == before
    with pytest.raises(OSError) as failed:
        os.listdir(standing)
    assert failed.value.errno == errno.EIO
    write(f"{mountpoint}/a/b/new", b"new")
    assert sorted(os.listdir(f"{mountpoint}/a/b")) == ["c.txt", "new"]
    os.unlink(f"{mountpoint}/a/b/new")
    os.close(standing)
    # A file of the tree that is being written to holds its place.
    with open(f"{mountpoint}/a/other.txt", "ab") as writer:
        writer.write(b"x")
        writer.flush()
        failed = mcfs.run("upper", "reset", mountpoint, "--all", "-y", code=mcfs_helper.CANNOT_CREATE)
        assert "other.txt" in failed.stderr and read(f"{mountpoint}/a/other.txt") == b"other\nx"
    reset(mcfs, mountpoint, "--all", "-y")
    assert snapshot(mountpoint) == before


def test_a_reset_and_writers_do_not_disturb_each_other(mcfs, lower):
    mountpoint = mcfs.mount(lower)
    before = snapshot(mountpoint)
    os.mkdir(f"{mountpoint}/busy")
    end, problems, done = threading.Event(), [], []

    def work(number):
        try:
            while not end.is_set():
                name = f"{mountpoint}/busy/{number}.{len(done)}"
                write(name, b"x" * 5000)
                os.rename(name, f"{name}.new")
                assert read(f"{name}.new") == b"x" * 5000
                os.unlink(f"{name}.new")
                done.append(name)
        except BaseException as problem:
            problems.append(problem)

    workers = [threading.Thread(target=work, args=(number,)) for number in range(2)]
    for worker in workers:
        worker.start()
    try:
        for round in range(15):
            os.rename(f"{mountpoint}/a", f"{mountpoint}/z")
            write(f"{mountpoint}/z/{round}", b"mine")
            os.unlink(f"{mountpoint}/z/other.txt")
            os.mkdir(f"{mountpoint}/a")
            for path in ("a", "z"):
                reset(mcfs, mountpoint, path, "--all", "-y")
            assert snapshot(mountpoint, without=["busy"]) == before
    finally:
        end.set()
        for worker in workers:
            worker.join()
    assert not problems and len(done) > 10
    reset(mcfs, mountpoint, "--all", "-y")
    assert snapshot(mountpoint) == before


def test_a_reset_that_the_disk_refuses_can_be_repeated(mcfs, lower, tmp_path):
    upper = tmp_path / "upper"
    upper.mkdir()
    mountpoint = mcfs.mount(lower, options=("--upper", upper))
    before = snapshot(mountpoint)
    for round, rule in enumerate(["fdatasync:error=EIO", "newfstatat:error=EIO"]):
        os.rename(f"{mountpoint}/a", f"{mountpoint}/z")
        with Faults(mcfs.daemon_pids, (rule,), tmp_path / f"strace.{round}") as faults:
            mcfs.run("upper", "reset", mountpoint, code=mcfs_helper.LOCAL_IO)
        assert faults.met
        # Nothing of it, or all.
        shown = snapshot(mountpoint)
        assert shown == before or {name.replace("z", "a", 1): what for name, what in shown.items()} == before
        reset(mcfs, mountpoint)
        assert snapshot(mountpoint) == before and changes(mcfs, mountpoint) == {}
        write(f"{mountpoint}/a/new", b"new")
        assert read(upper / "a" / "new") == b"new" and not os.path.exists(upper / "z")
        os.unlink(f"{mountpoint}/a/new")
        reset(mcfs, mountpoint)
        remounted(mcfs, mountpoint, lower, options=("--upper", upper))
        assert snapshot(mountpoint) == before


def test_owner_mode_times_and_attributes_change_without_a_copy(mcfs, lower, tmp_path):
    upper = tmp_path / "upper"
    upper.mkdir()
    mountpoint = mcfs.mount(lower, options=("--upper", upper))
    path = f"{mountpoint}/weights.safetensors"
    os.chmod(path, 0o640)
    os.chown(path, 12, 34)
    os.utime(path, ns=(1_500_000_000_000_000_000, 1_600_000_000_000_000_007))
    os.setxattr(path, "user.note", b"kept")
    os.rename(path, f"{mountpoint}/a/renamed.bin")

    def check():
        status = os.stat(f"{mountpoint}/a/renamed.bin")
        assert (status.st_mode & 0o7777, status.st_uid, status.st_gid) == (0o640, 12, 34)
        assert status.st_mtime_ns == 1_600_000_000_000_000_007 and status.st_size == BIG
        assert os.getxattr(f"{mountpoint}/a/renamed.bin", "user.note") == b"kept"

    check()
    mcfs.umount(mountpoint)
    # No bytes, and no file that stands for some.
    assert [name for _, _, names in os.walk(upper) for name in names] == ["changes"]
    mcfs.mount(lower, at=mountpoint, options=("--upper", upper))
    check()
    write(f"{mountpoint}/a/renamed.bin", b"end", "ab")
    mcfs.umount(mountpoint)
    copy = upper / "a" / "renamed.bin"
    status = os.stat(copy)
    assert read(copy) == trees.seeded(1, BIG) + b"end"
    assert (status.st_mode & 0o7777, status.st_uid, status.st_gid) == (0o640, 12, 34)
    assert os.getxattr(copy, "user.note") == b"kept"


def test_a_file_with_several_names_stays_one_file(mcfs, lower, tmp_path):
    upper = tmp_path / "upper"
    upper.mkdir()
    mountpoint = mcfs.mount(lower, options=("--upper", upper))
    inode = os.stat(f"{mountpoint}/config.json").st_ino
    write(f"{mountpoint}/a/config.json", b"both", "ab")
    for name in ("config.json", "a/config.json"):
        assert read(f"{mountpoint}/{name}") == b"{}\nboth"
        assert (os.stat(f"{mountpoint}/{name}").st_ino, os.stat(f"{mountpoint}/{name}").st_nlink) == (inode, 2)
    mcfs.umount(mountpoint)
    assert os.path.samefile(upper / "config.json", upper / "a" / "config.json")


def test_who_reads_a_large_local_file_keeps_what_it_was_when_another_writes_to_it(mcfs, lower):
    mountpoint = mcfs.mount(lower)
    path = f"{mountpoint}/weights.safetensors"
    # All of it is local and checked before it is opened: the kernel reads it by itself then.
    mcfs.prefetch(path)
    old = read(path)
    with open(path, "rb") as reader:
        inode = os.fstat(reader.fileno()).st_ino
        write(path, b"end", "ab")
        assert os.stat(path).st_size == BIG + 3 and os.stat(path).st_ino == inode
        assert reader.read() == old
        with open(path, "rb") as second:
            assert second.read() == old + b"end"
    assert read(path) == old + b"end"


def test_a_file_that_is_first_written_to_under_its_readers_stays_one_file(mcfs, lower):
    trees.write(f"{lower}/data.db", trees.seeded(2, 2 << 20))
    path = f"{mcfs.mount(lower)}/data.db"
    mcfs.prefetch(path)
    old = read(path)
    with open(path, "rb") as reader, open(path, "r+b") as writer:
        writer.write(b"begin")
        writer.flush()
        assert reader.read() == b"begin" + old[5:]
        fcntl.flock(reader, fcntl.LOCK_EX)
        with pytest.raises(BlockingIOError):
            fcntl.flock(writer, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.fchmod(reader.fileno(), 0o640)
        os.setxattr(reader.fileno(), "user.note", b"of the reader")
        for name in (path, writer.fileno()):
            assert os.stat(name).st_mode & 0o777 == 0o640 and os.getxattr(name, "user.note") == b"of the reader"
        os.close(os.open(f"/proc/self/fd/{reader.fileno()}", os.O_RDWR))
        os.ftruncate(writer.fileno(), 3)
        assert os.fstat(reader.fileno()).st_size == 3


def as_nobody(action):
    """Runs `action` in a process of the user nobody, in no group of root's."""
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
            action()
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(pid, 0)[1] == 0


def mode_alone(path):
    """As who asks the kernel for the mode and for nothing else sees it."""
    return subprocess.run(["stat", "-c", "%a", path], capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.parametrize("passthrough", ["true", "false"])
def test_who_writes_to_a_set_id_file_is_seen_to_take_the_bits_from_it(mcfs, lower, passthrough):
    mcfs.environment["MCFS_PASSTHROUGH"] = passthrough
    path = f"{mcfs.mount(lower, options=('--allow-other',))}/program"
    write(path, b"#!/bin/sh\n")
    os.chown(path, NOBODY, NOBODY)
    for change in (lambda file: os.pwrite(file, b"x", 0), lambda file: os.posix_fallocate(file, 0, 4096)):
        os.chmod(path, 0o6755)
        assert mode_alone(path) == "6755"
        with open(path, "r+b") as file:
            as_nobody(lambda: change(file.fileno()))
        assert mode_alone(path) == "755"

    # Nobody cannot come here by the path.
    folder = os.open(os.path.dirname(path), os.O_RDONLY)

    def open_and_be_given_bits():
        file = os.open("program", os.O_RDWR, dir_fd=folder)
        os.fchmod(file, 0o6755)
        os.pwrite(file, b"y", 0)

    # They may come while it is open, and are taken away by who has it open all the same.
    as_nobody(open_and_be_given_bits)
    os.close(folder)
    assert mode_alone(path) == "755"
    with open(path, "r+b") as file:
        os.chmod(path, 0o6755)
        file.write(b"root's")
    assert mode_alone(path) == "6755"


def test_who_is_not_in_the_group_loses_the_set_group_id_bit_with_an_access_list(mcfs, lower, tmp_path):
    upper = tmp_path / "upper"
    upper.mkdir()
    mountpoint = mcfs.mount(lower, options=("--upper", upper, "--allow-other"))
    everything = struct.pack("<I" + "HHI" * 3, 2, 1, 7, 2**32 - 1, 4, 7, 2**32 - 1, 32, 7, 2**32 - 1)
    for name, owner, group, expected in (("a", NOBODY, 0, 0o777), ("b", NOBODY, NOBODY, 0o2777), ("c", 0, 0, 0o2777)):
        path = f"{mountpoint}/{name}.program"
        write(path, b"#!/bin/sh\n")
        os.chown(path, owner, group)
        os.chmod(path, 0o2755)
        with open(path, "rb") as file:
            set_list = lambda: os.setxattr(file.fileno(), "system.posix_acl_access", everything)
            as_nobody(set_list) if owner else set_list()
        for place in (path, upper / f"{name}.program"):
            assert os.stat(place).st_mode & 0o7777 == expected


class Map:
    """Pages of a file that are mapped for writing, without a descriptor of their own."""

    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
    libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    libc.msync.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]

    def __init__(self, file, pages):
        self.pages, self.next = pages, 0
        self.address = self.libc.mmap(None, 4096 * pages, 3, 1, file, 0)
        assert self.address != ctypes.c_void_p(-1).value

    def write(self):
        """Into a page that was not written to: the file system notes the time then."""
        time.sleep(0.02)
        ctypes.memset(self.address + 4096 * self.next, 65, 1)
        self.next += 1

    def sync(self):
        assert self.libc.msync(self.address, 4096 * self.pages, 4) == 0

    def close(self):
        self.libc.munmap(self.address, 4096 * self.pages)


@pytest.mark.parametrize("passthrough", ["true", "false"])
@pytest.mark.parametrize("name", ["new", "a/other.txt"])
def test_times_of_a_file_that_is_written_to_through_a_map_show_at_once(mcfs, lower, tmp_path, name, passthrough):
    mcfs.environment["MCFS_PASSTHROUGH"] = passthrough
    upper = tmp_path / "upper"
    upper.mkdir()
    path = f"{mcfs.mount(lower, options=('--upper', upper))}/{name}"
    if name == "new":
        write(path, b"")
    os.stat(path)
    file = os.open(path, os.O_RDWR)
    os.ftruncate(file, 8 * 4096)
    written = Map(file, 8)

    def check():
        before = os.stat(path).st_mtime_ns
        written.write()
        # Where the daemon writes, it is what is written back that changes the file.
        if passthrough == "false":
            written.sync()
        assert os.stat(path).st_mtime_ns > before

    check()
    check()
    os.close(file)
    # The map outlives the descriptor.
    time.sleep(0.2)
    check()
    check()
    with open(path, "rb") as reader:
        reader.read(1)
        check()
    written.close()
    assert os.stat(path).st_mtime_ns == os.stat(upper / name).st_mtime_ns


def test_the_kernel_keeps_attributes_of_files_that_nobody_writes_to(mcfs, lower, tmp_path):
    upper = tmp_path / "upper"
    upper.mkdir()
    path = f"{mcfs.mount(lower, options=('--upper', upper))}/new"
    write(path, b"x")
    time.sleep(0.2)
    os.close(os.open(path, os.O_RDWR))
    time.sleep(0.2)
    os.stat(path)
    kept = os.stat(path)
    # What nobody may do shows whether the kernel asks.
    os.utime(upper / "new", (1, 1))
    time.sleep(1.2)
    assert os.stat(path).st_mtime_ns == kept.st_mtime_ns
    # Who can map it can change it without the kernel's notice.
    with open(path, "r+b"):
        assert os.stat(path).st_mtime == 1


@pytest.mark.parametrize("passthrough", ["true", "false"])
@pytest.mark.parametrize("how", ["noatime", "O_NOATIME"])
def test_who_asks_for_it_leaves_access_times_as_they_are(mcfs, lower, tmp_path, how, passthrough):
    mcfs.environment["MCFS_PASSTHROUGH"] = passthrough
    upper = tmp_path / "upper"
    upper.mkdir()
    helper, mountpoint = tmp_path / "mount.fuse.mcfs", mcfs.new_mountpoint()
    os.symlink(mcfs.executable, helper)
    options = f"cache_dir={mcfs.cache},upperdir={upper}" + (",noatime" if how == "noatime" else "")
    subprocess.run([helper, lower, mountpoint, "-o", options], check=True, env=mcfs.environment)
    assert mcfs.status()["mounts"][0]["passthrough"] is (passthrough == "true")
    for number, flags in enumerate((os.O_NOATIME if how == "O_NOATIME" else 0, 0)):
        path = upper / f"file{number}"
        write(f"{mountpoint}/{path.name}", b"x" * 10_000)
        os.utime(f"{mountpoint}/{path.name}", (1_000_000_000, os.stat(path).st_mtime))
        mcfs_helper.drop_page_cache()
        file = os.open(f"{mountpoint}/{path.name}", os.O_RDONLY | flags)
        assert len(os.read(file, 10_000)) == 10_000
        os.close(file)
        assert (os.stat(path).st_atime == 1_000_000_000) == (how == "noatime" or flags != 0)


def test_each_read_changes_the_access_time_where_that_is_wanted(mcfs, lower, tmp_path):
    upper = tmp_path / "upper"
    upper.mkdir()
    mountpoint = mcfs.mount(lower, options=("--upper", upper, "--kernel-option", "strictatime"))
    write(f"{mountpoint}/file", b"x" * 10_000)
    seen = set()
    for _ in range(3):
        time.sleep(0.05)
        assert len(read(f"{mountpoint}/file")) == 10_000
        seen.add(os.stat(f"{mountpoint}/file").st_atime_ns)
    assert len(seen) == (3 if mcfs.status()["mounts"][0]["passthrough"] else len(seen))


def test_writers_that_wait_for_the_disk_hold_nobody_else_up(mcfs, lower, tmp_path):
    mcfs.environment["MCFS_PASSTHROUGH"] = "false"
    disk = LoopDisk(str(tmp_path), "ext4")
    disk.make()
    disk.mount()
    try:
        upper = f"{disk.path}/upper"
        os.mkdir(upper)
        mountpoint = mcfs.mount(lower, options=("--upper", upper))
        write(f"{mountpoint}/there", b"of the upper")
        files = [os.open(f"{mountpoint}/file{number}", os.O_RDWR | os.O_CREAT) for number in range(24)]
        writers = [threading.Thread(target=os.pwrite, args=(file, bytes(4096), 0)) for file in files]
        subprocess.run(["fsfreeze", "-f", disk.path], check=True)
        try:
            for writer in writers:
                writer.start()
            time.sleep(0.5)
            assert all(writer.is_alive() for writer in writers)
            for command in (
                ["stat", f"{mountpoint}/a/b/c.txt"], ["cat", f"{mountpoint}/a/other.txt"], ["ls", "-l", f"{mountpoint}/a"],
                ["cat", f"{mountpoint}/there"], ["stat", "-f", mountpoint], ["cat", f"{mountpoint}/weights.safetensors"],
            ):
                subprocess.run(command, check=True, timeout=5, stdout=subprocess.DEVNULL)
        finally:
            subprocess.run(["fsfreeze", "-u", disk.path], check=True)
        for writer in writers:
            writer.join(20)
        assert not any(writer.is_alive() for writer in writers)
        for file in files:
            assert os.pread(file, 5000, 0) == bytes(4096)
            os.close(file)
        mcfs.umount(mountpoint)
    finally:
        mcfs.close()
        disk.unmount()


def test_one_upper_belongs_to_one_mount(mcfs, lower, tmp_path):
    upper = tmp_path / "upper"
    upper.mkdir()
    mountpoint = mcfs.mount(lower, options=("--upper", upper))
    refused = mcfs.run("mount", "--upper", upper, lower, mcfs.new_mountpoint(), code=mcfs_helper.CANNOT_CREATE)
    assert "belongs to another mount" in refused.stderr
    other = mcfs_helper.Mcfs(tmp_path / "other")
    with other:
        other.run("mount", "--upper", upper, lower, other.new_mountpoint(), code=mcfs_helper.CANNOT_CREATE)
    mcfs.umount(mountpoint)
    mcfs.mount(lower, at=mountpoint, options=("--upper", upper))


def test_uppers_that_cannot_be_are_refused(mcfs, lower, tmp_path):
    mountpoint = mcfs.new_mountpoint()
    inside = os.path.join(mcfs.directory, "mount-inside")
    os.makedirs(inside)
    for upper, code in [
        (tmp_path / "missing", mcfs_helper.NOT_FOUND), (f"{lower}/config.json", mcfs_helper.CANNOT_CREATE),
        (lower, mcfs_helper.USAGE),
    ]:
        result = mcfs.run("mount", "--upper", upper, lower, mountpoint, code=code)
        assert len(result.stderr.strip().splitlines()) == 1
    mcfs.run("mount", lower, lower, code=mcfs_helper.USAGE)
    mcfs.run("mount", "--upper", mcfs.directory, lower, inside, code=mcfs_helper.USAGE)
    mcfs.run("mount", "--upper", tmp_path, "--read-only", lower, mountpoint, code=mcfs_helper.USAGE)
    newer = tmp_path / "newer"
    os.makedirs(newer / ".mcfs-upper")
    write(newer / ".mcfs-upper" / "changes", b"mcfs-upper 99\n")
    result = mcfs.run("mount", "--upper", newer, lower, mountpoint, code=mcfs_helper.CONFIGURATION)
    assert "another version" in result.stderr
    assert not mcfs_helper.is_mounted(mountpoint)


@pytest.mark.parametrize("tail", [b"whiteout conf", b"\0" * 40, b"whiteout config.json 123456\n"])
def test_a_log_that_was_cut_off_loses_its_end_and_nothing_else(mcfs, lower, tmp_path, tail):
    upper = tmp_path / "upper"
    upper.mkdir()
    mountpoint = mcfs.mount(lower, options=("--upper", upper))
    os.unlink(f"{mountpoint}/link")
    mcfs.umount(mountpoint)
    write(upper / ".mcfs-upper" / "changes", tail, "ab")
    mcfs.mount(lower, at=mountpoint, options=("--upper", upper))
    assert sorted(os.listdir(mountpoint)) == ["a", "config.json", "weights.safetensors"]
    os.unlink(f"{mountpoint}/config.json")
    mcfs.umount(mountpoint)
    mcfs.mount(lower, at=mountpoint, options=("--upper", upper))
    assert sorted(os.listdir(mountpoint)) == ["a", "weights.safetensors"]


def test_a_rename_that_was_cut_off_is_finished_once(mcfs, lower, tmp_path):
    upper = tmp_path / "upper"
    upper.mkdir()
    mountpoint = mcfs.mount(lower, options=("--upper", upper))
    log = upper / ".mcfs-upper" / "changes"
    write(f"{mountpoint}/config.json", b"mine")
    os.rename(f"{mountpoint}/config.json", f"{mountpoint}/b.json")
    mcfs.umount(mountpoint)
    # As a daemon leaves it that is killed right after it wrote down what it was about to do.
    lines = read(log).splitlines(keepends=True)
    assert lines[-1].startswith(b"done")
    write(log, b"".join(lines[:-1]))
    os.rename(upper / "b.json", upper / "config.json")
    mcfs.mount(lower, at=mountpoint, options=("--upper", upper))
    assert read(f"{mountpoint}/b.json") == b"mine" and not os.path.exists(f"{mountpoint}/config.json")
    os.rename(f"{mountpoint}/b.json", f"{mountpoint}/config.json")
    mcfs.umount(mountpoint)
    mcfs.mount(lower, at=mountpoint, options=("--upper", upper))
    assert read(f"{mountpoint}/config.json") == b"mine" and not os.path.exists(f"{mountpoint}/b.json")


def test_a_mount_that_only_reads_leaves_nothing_in_the_upper(mcfs, lower, tmp_path):
    upper = tmp_path / "upper"
    upper.mkdir()
    mountpoint = mcfs.mount(lower, options=("--upper", upper))
    assert read(f"{mountpoint}/a/b/c.txt") == b"deep\n"
    os.unlink(f"{mountpoint}/link")
    os.symlink("config.json", f"{mountpoint}/link")
    os.unlink(f"{mountpoint}/link")
    mcfs.umount(mountpoint)
    assert os.listdir(upper) == [".mcfs-upper"]
    shutil.rmtree(upper / ".mcfs-upper")
    mcfs.mount(lower, at=mountpoint, options=("--upper", upper))
    assert os.readlink(f"{mountpoint}/link") == "config.json"
    mcfs.umount(mountpoint)
    assert os.listdir(upper) == []


def test_deleting_and_writing_for_long_holds_no_descriptors(mcfs, tmp_path):
    lower = tmp_path / "lower"
    for number in range(400):
        trees.write(f"{lower}/d{number}/f", b"x")
    mountpoint = mcfs.mount(lower)
    (pid,) = mcfs.daemon_pids
    before = len(os.listdir(f"/proc/{pid}/fd"))
    for number in range(400):
        write(f"{mountpoint}/d{number}/f", b"y", "ab")
    shutil.rmtree(mountpoint, ignore_errors=True)
    assert os.listdir(mountpoint) == []
    mcfs_helper.drop_page_cache()
    # The kernel says what it forgets, and waits for no answer.
    deadline = time.monotonic() + 30
    while len(os.listdir(f"/proc/{pid}/fd")) >= before + 50 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert len(os.listdir(f"/proc/{pid}/fd")) < before + 50


# mount(8)

@pytest.fixture
def helper(mcfs):
    """The executable under the name that mount(8) looks for."""
    path = "/sbin/mount.fuse.mcfs"
    assert not os.path.lexists(path), f"{path} is there already"
    os.symlink(mcfs.executable, path)
    try:
        yield path
    finally:
        os.unlink(path)


def run(*command, code=0, **environment):
    result = subprocess.run(
        command, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL, env=os.environ | environment)
    assert result.returncode == code, f"{command} ended with {result.returncode}:\n{result.stdout}{result.stderr}"
    return result


def test_mount_knows_the_type(mcfs, helper, lower, tmp_path):
    mountpoint = mcfs.new_mountpoint()
    result = run("mount", "-t", "fuse.mcfs", lower, mountpoint, "-o", f"cache_dir={mcfs.cache},allow_other,noexec")
    assert result.stdout == result.stderr == ""
    write(f"{mountpoint}/new", b"new")
    with open("/proc/mounts") as table:
        line = next(line for line in table if line.split()[1] == mountpoint)
    assert "fuse.mcfs" in line and "noexec" in line and "allow_other" in line
    run("umount", mountpoint)
    run("mount", "-t", "fuse.mcfs", lower, mountpoint, "-o", f"ro,cache_dir={mcfs.cache},x-systemd.automount,nofail")
    with pytest.raises(OSError):
        write(f"{mountpoint}/new", b"new")
    run("umount", mountpoint)
    result = run("mount", "-t", "fuse.mcfs", lower, mountpoint, "-o", f"cache_dir={mcfs.cache},bogus=1", code=64)
    assert result.stderr.strip() == "mcfs: mcfs has no mount option 'bogus'"


def test_mount_takes_the_options_of_overlays(mcfs, helper, lower, tmp_path):
    top, upper, work = tmp_path / "top", tmp_path / "upper", tmp_path / "work"
    trees.write(f"{top}/config.json", b"top\n")
    upper.mkdir()
    work.mkdir()
    mountpoint = mcfs.new_mountpoint()
    options = f"cache_dir={mcfs.cache},lowerdir={top}:{lower},upperdir={upper},workdir={work}"
    run("mount", "-t", "fuse.mcfs", "over", mountpoint, "-o", options)
    assert read(f"{mountpoint}/config.json") == b"top\n" and read(f"{mountpoint}/a/other.txt") == b"other\n"
    write(f"{mountpoint}/new", b"new")
    with open("/proc/mounts") as table:
        assert any(line.split()[:3] == ["over", mountpoint, "fuse.mcfs"] for line in table)
    run("umount", mountpoint)
    assert read(upper / "new") == b"new"


# Users

def test_a_user_writes_into_a_mount(user):  # noqa: F811
    folder = os.path.join(user.directory, "lower")
    trees.write(f"{folder}/a/b/c.txt", b"deep\n")
    trees.write(f"{folder}/closed/file", b"closed\n")
    os.chmod(f"{folder}/closed", 0o555)
    for parent, _, _ in os.walk(folder):
        os.chmod(parent, os.stat(parent).st_mode | 0o555)
    user.mcfs("mount", "--read-deadline", "5", folder, user.mountpoint)
    script = """
        set -e
        cd "$1"
        echo more >> a/b/c.txt
        echo new > a/new
        mv a/b z
        chmod u+w closed
        rm -r closed
        mkdir closed
        ln a/new a/hard
        cat z/c.txt a/hard
    """
    assert user.run("sh", "-c", script, "sh", user.mountpoint).stdout == "deep\nmore\nnew\n"
    user.mcfs("umount", user.mountpoint)
    listed = user.run("sh", "-c", 'cd "$1"; find . -not -path "./.mcfs-upper*" | sort | tr "\\n" " "', "sh", user.mountpoint)
    assert listed.stdout.strip() == ". ./a ./a/hard ./a/new ./closed ./z ./z/c.txt"
    assert os.stat(f"{user.mountpoint}/z/c.txt").st_uid == USER
    user.mcfs("mount", folder, user.mountpoint)
    assert user.run("cat", f"{user.mountpoint}/z/c.txt").stdout == "deep\nmore\n"
    user.mcfs("umount", user.mountpoint)
