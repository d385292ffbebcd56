"""Runs mcfs as a user does: the executable, a private cache directory, and nothing left behind."""

import json
import os
import signal
import stat
import subprocess
import time
from dataclasses import dataclass, field

from servers.process import clean_environment

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

# Exit codes of the command line.
DONE, FAILED, USAGE, CORRUPT, NOT_FOUND, UNAVAILABLE = 0, 1, 64, 65, 66, 69
CANNOT_CREATE, LOCAL_IO, UNAUTHORIZED, CONFIGURATION = 73, 74, 77, 78


@dataclass
class Result:
    command: list
    code: int
    stdout: str
    stderr: str
    seconds: float = field(default=0.0)

    @property
    def json(self):
        return json.loads(self.stdout)

    @property
    def json_lines(self):
        return [json.loads(line) for line in self.stdout.splitlines() if line.strip()]

    def __str__(self):
        return f"{' '.join(self.command)}\nexit code {self.code}\n{self.stdout[-4000:]}\n{self.stderr[-4000:]}"


class Mcfs:
    """One cache directory and the daemon that serves it. A context manager: at its end the daemon is dead and nothing is
    mounted, whatever happened."""

    def __init__(self, directory, environment=None, executable=None):
        self.directory = os.fspath(directory)
        os.makedirs(self.directory, exist_ok=True)
        self.cache = os.path.join(self.directory, "cache")
        self.home = os.path.join(self.directory, "home")
        os.makedirs(self.home, exist_ok=True)
        path = executable or os.environ.get("MCFS") or os.path.join(ROOT, ".build/release/mcfs")
        self.executable = os.path.abspath(path)
        for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HOME", "HF_ENDPOINT", "DOCKER_CONFIG", "XDG_CACHE_HOME",
                     "XDG_DATA_HOME", "MCFS_INVENTORY"):
            os.environ.pop(name, None)
        self.environment = clean_environment(HOME=self.home, AWS_EC2_METADATA_DISABLED="true") | (environment or {})
        self.mountpoints = []
        self.processes = []
        self._count = 0

    # Commands

    def run(self, *arguments, code=DONE, timeout=120, environment=None, json=False, input=None):
        """Runs `mcfs VERB --cache-dir CACHE …`; fails unless it ends with `code` (None: whatever it ends with)."""
        command = self.command(*arguments, json=json)
        started = time.monotonic()
        process = subprocess.run(
            command, env=self.environment | (environment or {}), capture_output=True, text=True, errors="surrogateescape",
            timeout=timeout, input=input, stdin=subprocess.DEVNULL if input is None else None)
        result = Result(command, process.returncode, process.stdout, process.stderr, time.monotonic() - started)
        assert code is None or result.code == code, f"expected exit code {code} of\n{result}"
        return result

    def command(self, *arguments, json=False):
        words = [os.fspath(argument) for argument in arguments]
        # `upper list` and the like.
        verb, rest = (words[:2], words[2:]) if words[0] in ("upper", "view") else (words[:1], words[1:])
        return [self.executable, *verb, "--cache-dir", self.cache, *(["--json"] if json else []), *rest]

    def start(self, *arguments, environment=None, **options):
        """Starts a command that goes on (`daemon`, `mount --foreground`); it is killed at the end."""
        log = open(os.path.join(self.directory, f"log-{len(self.processes)}"), "wb")
        with log:
            process = subprocess.Popen(
                self.command(*arguments), env=self.environment | (environment or {}), stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, start_new_session=True, **options)
        self.processes.append(process)
        return process

    def new_mountpoint(self, name=None):
        """An empty directory that is unmounted at the end."""
        if name is None:
            self._count += 1
            name = f"mount{self._count}"
        path = os.path.join(self.directory, name)
        os.makedirs(path, exist_ok=True)
        self.mountpoints.append(path)
        return path

    def mount(self, *references, at=None, options=(), **run):
        """Mounts and returns the mountpoint. GPU views stay off unless `options` say otherwise."""
        mountpoint = at or self.new_mountpoint()
        if mountpoint not in self.mountpoints:
            self.mountpoints.append(mountpoint)
        self.run("mount", *options, *references, mountpoint, **run)
        if run.get("code", DONE) == DONE:
            assert is_mounted(mountpoint), f"mount reports success, but nothing is mounted at {mountpoint}"
        return mountpoint

    def umount(self, mountpoint, *options, **run):
        result = self.run("umount", *options, mountpoint, **run)
        if result.code == DONE:
            assert not is_mounted(mountpoint), f"umount reports success, but {mountpoint} is still mounted"
        return result

    def status(self, *mountpoint, **run):
        return self.run("status", *mountpoint, json=True, **run).json

    def ls(self, *arguments, **run):
        return self.run("ls", *arguments, json=True, **run).json["entries"]

    def prefetch(self, *arguments, **run):
        """The last line of its report: `done`, `bytes`, `files`, `seconds`."""
        return self.run("prefetch", *arguments, json=True, **run).json_lines[-1]

    def pin(self, *arguments, **run):
        return self.run("pin", *arguments, **run)

    def unpin(self, *arguments, **run):
        return self.run("unpin", *arguments, **run)

    def evict(self, *arguments, **run):
        return self.run("evict", *arguments, **run)

    def gc(self, *arguments, **run):
        return self.run("gc", *arguments, **run)

    def verify(self, *arguments, **run):
        return self.run("verify", *arguments, **run)

    # The daemon

    @property
    def daemon_pids(self):
        """Who holds the lock of the cache directory, and our executable's processes that name it."""
        pids = set()
        try:
            lock = os.stat(os.path.join(self.cache, "lock"))
            with open("/proc/locks") as locks:
                for line in locks:
                    fields = line.split()
                    if "FLOCK" in fields and fields[-3].endswith(f":{lock.st_ino}"):
                        pid = int(fields[-4])
                        # The table names who took the lock; that process may be gone and its number taken.
                        if any(_is_same(f"/proc/{pid}/fd/{fd}", lock) for fd in os.listdir(f"/proc/{pid}/fd")):
                            pids.add(pid)
        except (OSError, ValueError, IndexError):
            pass
        wanted = os.fsencode(self.cache)
        for name in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{name}/cmdline", "rb") as file:
                    arguments = file.read().split(b"\0")
                if os.path.basename(arguments[0]) == b"mcfs" and wanted in arguments:
                    pids.add(int(name))
            except OSError:
                continue
        # 0 and -1 stand for lock holders in other namespaces.
        return {pid for pid in pids if pid > 1 and pid != os.getpid()}

    def kill_daemon(self, number=signal.SIGKILL, seconds=10):
        """Ends the daemon and waits until it is gone."""
        for pid in self.daemon_pids:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                pass
        self.wait_daemon_gone(seconds)

    def wait_daemon_gone(self, seconds=30):
        deadline = time.monotonic() + seconds
        while pids := self.daemon_pids:
            for process in self.processes:
                process.poll()
            assert time.monotonic() < deadline, f"the daemon {pids} is still there after {seconds} s"
            time.sleep(0.02)

    # The end

    def close(self):
        """Unmounts and kills, in the order that frees a reader who hangs in the mount."""
        try:
            for pid in self.daemon_pids:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            for process in self.processes:
                if process.poll() is None:
                    try:
                        os.killpg(process.pid, signal.SIGKILL)
                    except ProcessLookupError:
                        pass
                    process.wait(10)
        finally:
            for path in reversed(mounts_below(self.directory) + [m for m in self.mountpoints if is_mounted(m)]):
                subprocess.run(["umount", "-l", path], capture_output=True, timeout=30)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def _is_same(path, status):
    try:
        return os.path.samestat(os.stat(path), status)
    except OSError:
        return False


def _mount_table():
    with open("/proc/self/mounts", encoding="utf-8", errors="surrogateescape") as table:
        for line in table:
            source, path, kind, *_ = line.split(" ")
            for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
                path = path.replace(code, character)
            yield source, path, kind


def is_mounted(path):
    """Whether something is mounted right at `path`. Asks the kernel's table, not the mount, which may hang."""
    path = os.path.abspath(path)
    return any(mounted == path for _, mounted, _ in _mount_table())


def mounts_below(directory):
    """In the order in which they were mounted."""
    return [path for _, path, _ in _mount_table() if path.startswith(os.path.abspath(directory) + "/")]


def mount_kind(path):
    """`fuse.mcfs` and the like; None where nothing is mounted."""
    return next((kind for _, mounted, kind in reversed(list(_mount_table())) if mounted == os.path.abspath(path)), None)


def drop_page_cache():
    """Makes the kernel forget what it read, where the tests may (root)."""
    os.sync()
    with open("/proc/sys/vm/drop_caches", "w") as file:
        file.write("3")


def has_fuse():
    try:
        return stat.S_ISCHR(os.stat("/dev/fuse").st_mode)
    except OSError:
        return False
