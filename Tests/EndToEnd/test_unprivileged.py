"""mcfs run by a user who is not root, through fusermount3."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time

import pytest

import mcfs as mcfs_helper
import trees
from servers.process import find

pytestmark = pytest.mark.usefixtures("fuse")

USER = 65534


class User:
    """Runs commands as the user `nobody`, in a mount namespace where /dev/fuse is everybody's as it is on most hosts."""

    def __init__(self, directory):
        self.directory = directory
        self.executable = os.path.join(directory, "mcfs")
        shutil.copy(os.environ.get("MCFS") or os.path.join(mcfs_helper.ROOT, ".build/release/mcfs"), self.executable)
        os.chmod(self.executable, 0o755)
        for name in ("home", "mnt"):
            os.makedirs(os.path.join(directory, name))
            os.chown(os.path.join(directory, name), USER, USER)
        self.mountpoint = os.path.join(directory, "mnt")
        device = os.path.join(directory, "fuse")
        script = 'mknod "$1" c 10 229 && chmod 666 "$1" && mount --bind "$1" /dev/fuse && echo ready && exec sleep 600'
        self.holder = subprocess.Popen(
            ["unshare", "-m", "sh", "-c", script, "sh", device], stdout=subprocess.PIPE, text=True, start_new_session=True)
        assert self.holder.stdout.readline() == "ready\n"

    def command(self, *arguments):
        return [
            "nsenter", "-m", "-t", str(self.holder.pid), "setpriv", "--reuid", str(USER), "--regid", str(USER), "--clear-groups",
            "env", "-i", "PATH=/usr/local/bin:/usr/bin:/bin", f"HOME={self.directory}/home", *arguments]

    def run(self, *arguments, code=0):
        result = subprocess.run(
            self.command(*arguments), capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL, cwd="/")
        assert result.returncode == code, f"{arguments} ended with {result.returncode}:\n{result.stdout}{result.stderr}"
        return result

    def mcfs(self, *arguments, code=0):
        return self.run(self.executable, *arguments, code=code)

    @property
    def is_mounted(self):
        with open(f"/proc/{self.holder.pid}/mounts") as table:
            return any(line.split()[1] == self.mountpoint for line in table)

    @property
    def daemons(self):
        pids = []
        for name in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{name}/cmdline", "rb") as file:
                    arguments = file.read().split(b"\0")
                if b"daemon" in arguments and os.stat(f"/proc/{name}").st_uid == USER \
                        and os.readlink(f"/proc/{name}/exe") == self.executable:
                    pids.append(int(name))
            except OSError:
                continue
        return pids

    def kill_daemon(self):
        (pid,) = self.daemons
        os.kill(pid, signal.SIGKILL)
        deadline = time.monotonic() + 10
        while self.daemons:
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def close(self):
        for pid in self.daemons:
            os.kill(pid, signal.SIGKILL)
        # The namespace goes with its last process, and its mounts with it.
        os.killpg(self.holder.pid, signal.SIGKILL)
        self.holder.wait()


@pytest.fixture
def user():
    for name in ("unshare", "nsenter", "setpriv", "fusermount3"):
        find(name)
    directory = tempfile.mkdtemp(prefix="mcfs-user-")
    os.chmod(directory, 0o755)
    user = User(directory)
    try:
        yield user
    finally:
        user.close()
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def folder(user):
    path = os.path.join(user.directory, "files")
    trees.write(f"{path}/a.bin", trees.seeded(3, 3_000_001))
    os.chmod(path, 0o755)
    return path


def test_a_user_mounts_reads_and_unmounts(user, folder):
    user.mcfs("mount", folder, user.mountpoint)
    assert user.is_mounted
    digest = user.run("sha256sum", f"{user.mountpoint}/a.bin").stdout.split()[0]
    assert digest == hashlib.sha256(trees.seeded(3, 3_000_001)).hexdigest()
    status = json.loads(user.mcfs("status", "--json").stdout)
    # The kernel passes files through for root only.
    assert status["mounts"][0]["passthrough"] is False
    assert status["cache"]["directory"] == f"{user.directory}/home/.cache/mcfs"
    for name in ("", "/control.sock"):
        assert os.stat(status["cache"]["directory"] + name).st_mode & 0o077 == 0
    user.mcfs("umount", user.mountpoint)
    assert not user.is_mounted


def test_an_open_file_keeps_the_mount_and_force_ends_it(user, folder):
    user.mcfs("mount", folder, user.mountpoint)
    holder = subprocess.Popen(
        user.command("sh", "-c", f"exec 3<{user.mountpoint}/a.bin; echo open; read line"), stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "open\n"
    try:
        assert "--force" in user.mcfs("umount", user.mountpoint, code=mcfs_helper.CANNOT_CREATE).stderr
        user.mcfs("umount", "--force", user.mountpoint)
        assert not user.is_mounted
    finally:
        holder.stdin.close()
        holder.wait(10)


@pytest.mark.parametrize("remedy", ["mount", "umount"])
def test_a_mount_left_dead_is_taken_away(user, folder, remedy):
    user.mcfs("mount", folder, user.mountpoint)
    user.kill_daemon()
    assert user.is_mounted
    if remedy == "umount":
        user.mcfs("umount", user.mountpoint)
        assert not user.is_mounted
    else:
        user.mcfs("mount", folder, user.mountpoint)
        assert user.run("wc", "-c", f"{user.mountpoint}/a.bin").stdout.startswith("3000001 ")


def test_letting_others_in_needs_a_word_of_root(user, folder):
    with open("/etc/fuse.conf") as file:
        if any(line.strip() == "user_allow_other" for line in file):
            user.mcfs("mount", "--allow-other", folder, user.mountpoint)
            return
    result = user.mcfs("mount", "--allow-other", folder, user.mountpoint, code=mcfs_helper.CANNOT_CREATE)
    assert "user_allow_other" in result.stderr and "/etc/fuse.conf" in result.stderr
    assert not user.is_mounted
