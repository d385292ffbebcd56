"""Other file systems, mounted beside mcfs. Each is a context manager with a `mountpoint`."""

import os
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "Tests/EndToEnd"))

from mcfs import is_mounted  # noqa: E402
from servers.process import clean_environment, find  # noqa: E402

START_SECONDS = 30


class Peer:
    """A mount by somebody else's program, which runs in the foreground until it is unmounted."""

    def __init__(self, directory, command, environment=None):
        self.mountpoint = os.path.join(directory, "mnt")
        os.makedirs(self.mountpoint, exist_ok=True)
        self.directory = directory
        self.command = [argument.replace("MOUNTPOINT", self.mountpoint) for argument in command]
        self.environment = clean_environment(**(environment or {}))

    def __enter__(self):
        with open(os.path.join(self.directory, "log"), "ab") as log:
            self.process = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.environment, start_new_session=True)
        deadline = time.monotonic() + START_SECONDS
        while not is_mounted(self.mountpoint):
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.__exit__()
                raise RuntimeError(f"{self.command[0]} does not mount; see {self.directory}/log")
            time.sleep(0.02)
        return self

    def __exit__(self, *_):
        if subprocess.run(["umount", self.mountpoint], capture_output=True).returncode and is_mounted(self.mountpoint):
            subprocess.run(["umount", "-l", self.mountpoint], capture_output=True)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


RCLONE = ["--vfs-cache-mode", "full", "--dir-cache-time", "1h", "--read-only", "--config", "/dev/null"]
# What its manual recommends for object storage: several connections for one file.
RCLONE_TUNED = ["--vfs-read-chunk-streams", "16", "--vfs-read-chunk-size", "8M", "--buffer-size", "0"]


def rclone_http(directory, url, options=()):
    """rclone over a web folder, with its disk cache."""
    os.makedirs(directory, exist_ok=True)
    return Peer(directory, [
        find("rclone"), "mount", f":http,url='{url}':", "MOUNTPOINT", "--cache-dir", os.path.join(directory, "cache"),
        *RCLONE, *options])


def rclone_s3(directory, server, bucket, options=()):
    os.makedirs(directory, exist_ok=True)
    return Peer(directory, [
        find("rclone"), "mount",
        f":s3,provider=SeaweedFS,access_key_id={server.access_key},secret_access_key={server.secret_key},endpoint='{server.url}':{bucket}",
        "MOUNTPOINT", "--cache-dir", os.path.join(directory, "cache"), *RCLONE, *options])


def s3fs(directory, server, bucket):
    os.makedirs(directory, exist_ok=True)
    password = os.path.join(directory, "password")
    with open(password, "w") as file:
        file.write(f"{server.access_key}:{server.secret_key}\n")
    os.chmod(password, 0o600)
    return Peer(directory, [
        find("s3fs"), bucket, "MOUNTPOINT", "-f", "-o",
        f"url={server.url},use_path_request_style,passwd_file={password},use_cache={directory}/cache,ro"])


def fuse_overlayfs(directory, lower):
    upper, work = (os.path.join(directory, name) for name in ("upper", "work"))
    for path in (upper, work):
        os.makedirs(path, exist_ok=True)
    return Peer(directory, [
        find("fuse-overlayfs"), "-f", "-o", f"lowerdir={lower},upperdir={upper},workdir={work}", "MOUNTPOINT"])


class Overlayfs:
    """The kernel's own."""

    def __init__(self, directory, lower):
        upper, work, self.mountpoint = (os.path.join(directory, name) for name in ("upper", "work", "mnt"))
        for path in (upper, work, self.mountpoint):
            os.makedirs(path, exist_ok=True)
        self.options = f"lowerdir={lower},upperdir={upper},workdir={work}"

    def __enter__(self):
        subprocess.run(["mount", "-t", "overlay", "overlay", "-o", self.options, self.mountpoint], check=True)
        return self

    def __exit__(self, *_):
        subprocess.run(["umount", self.mountpoint], check=True)
