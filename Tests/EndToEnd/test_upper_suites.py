"""A writable mount under suites that were not written for it, and under faults: calls of the daemon that fail, disks that are
full, origins that stop in the middle of a copy.

MCFS_SUITES=full takes more and longer suites and more faults.
"""

import contextlib
import errno
import os
import shutil
import signal
import subprocess
import time

import pytest

import mcfs as mcfs_helper
import trees
from faults import Faults
from posix_model import (
    KEEP_SIZE, RENAME_EXCHANGE, Data, Operation, Path, Slot, Tree, copy_over, snapshot_differences)
from servers.process import find

FULL = os.environ.get("MCFS_SUITES") == "full"
# Debian's, which its test suite belongs to; another Python may be first on PATH.
SYSTEM_PYTHON = "/usr/bin/python3"
CONNECTIONS = "/sys/fs/fuse/connections"
MIB = 1 << 20

pytestmark = pytest.mark.usefixtures("fuse")


# A mount that frees who hangs in it


class Place:
    """A lower tree, an upper directory, and where both are mounted. Who hangs in the mount is freed after a while, and that is
    a failure."""

    def __init__(self, mcfs, lower, upper):
        self.mcfs, self.lower, self.upper = mcfs, os.fspath(lower), os.fspath(upper)
        self.path = mcfs.new_mountpoint()
        os.makedirs(self.upper, exist_ok=True)

    def mount(self, *options):
        return self.mcfs.mount(self.lower, at=self.path, options=("--upper", self.upper, "--allow-other", *options))

    def umount(self):
        self.mcfs.umount(self.path)

    def remount(self):
        self.umount()
        return self.mount()

    @property
    def unfinished(self):
        """What stands where copies are made."""
        with contextlib.suppress(FileNotFoundError):
            return sorted(os.listdir(f"{self.upper}/.mcfs-upper/work"))
        return []


@pytest.fixture
def place(mcfs, tmp_path):
    os.mkdir(tmp_path / "lower")
    return Place(mcfs, tmp_path / "lower", tmp_path / "upper")


def connection(path):
    """What ends the connection of a mount when it is written to; None where the kernel's table is not mounted."""
    with open("/proc/self/mountinfo") as table:
        for line in table:
            _, _, device, _, mounted, *_ = line.split(" ")
            if mounted == os.path.abspath(path):
                abort = f"{CONNECTIONS}/{int(device.split(':')[1])}/abort"
                return abort if os.path.exists(abort) else None
    raise AssertionError(f"nothing is mounted at {path}")


@contextlib.contextmanager
def watched(place, seconds):
    """Ends the daemon and the mount's connection if the body is not done in time. Another process does it: a thread of ours may
    hang with Python's lock."""
    kill = f"kill -9 {' '.join(map(str, place.mcfs.daemon_pids))}"
    abort = connection(place.path)
    script = f"sleep {seconds}; {kill}; {f'echo 1 > {abort}' if abort else ':'}"
    watcher = subprocess.Popen(["sh", "-c", script], start_new_session=True)
    try:
        yield
        assert watcher.poll() is None, f"it hung for {seconds} s"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(watcher.pid, signal.SIGKILL)
        watcher.wait()


def run(*command, cwd=None, timeout=300, code=0, **environment):
    """Runs a program; what it printed. It and what it started are killed if it takes too long."""
    command = [command[0] if command[0].startswith("/") else find(command[0]), *map(os.fspath, command[1:])]
    process = subprocess.Popen(
        command, cwd=cwd, env=os.environ | environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        errors="surrogateescape", stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        output, _ = process.communicate(timeout=timeout)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(30)
    assert code is None or process.returncode == code, f"{command} ended with {process.returncode}:\n{output[-6000:]}"
    return output


def content(path):
    with open(path, "rb") as file:
        return file.read()


# Suites


def test_python_tests_its_files_here(place):
    """The tests of CPython that work on files, as Debian has them (libpython3.11-testsuite)."""
    modules = (
        "test_os test_shutil test_tempfile test_mmap test_posix test_fcntl test_zipfile test_tarfile test_pathlib test_glob "
        "test_stat test_filecmp test_fileio test_largefile test_genericpath test_posixpath test_dbm test_shelve test_mailbox")
    if FULL:
        modules += " test_file test_io test_fileinput test_zipfile64 test_gzip test_bz2 test_lzma"
    # Some of it works on directories that are below.
    folder = f"{place.lower}/folder"
    os.mkdir(folder)
    place.mount()
    folder = f"{place.path}/folder"
    options = ("-j", "2") if not FULL else ("-u", "largefile")
    with watched(place, 900 if FULL else 280):
        run(SYSTEM_PYTHON, "-m", "test", "-q", *options, "--timeout", "200", "--tempdir", folder, *modules.split(), cwd=folder,
            timeout=880 if FULL else 270, TMPDIR=folder)
        assert os.listdir(folder) == []
    place.remount()
    assert os.listdir(folder) == []
    assert place.unfinished == []


# Those that are about other things than files and directories, or open and make as many as there can be.
NO_STRESSORS = (
    "bind-mount,binderfs,eventfd,procfs,fanotify,mknod,open,getdent,dnotify,inotify,handle,dirdeep,verity,chattr,inode-flags,"
    "fiemap,lease")
# Those that reach little of the mount's own.
LESSER_STRESSORS = "chdir,dup,fcntl,file-ioctl,flock,fsize,io,ioprio,locka,lockf,lockofd,sync-file"


def test_stress_ng(place):
    os.mkdir(f"{place.lower}/folder")
    place.mount()
    which = ["-x", NO_STRESSORS, "--timeout", "4s"] if FULL else ["-x", f"{NO_STRESSORS},{LESSER_STRESSORS}", "--timeout", "1s"]
    with watched(place, 900):
        output = run(
            "stress-ng", "--temp-path", f"{place.path}/folder", "--seq", "2" if FULL else "1", "--class", "filesystem", *which,
            "--verify", "--metrics-brief", cwd="/", timeout=880)
        assert " fail: " not in output and "unsuccessful" not in output, output[-6000:]
        assert os.listdir(f"{place.path}/folder") == []
    place.remount()
    assert os.listdir(f"{place.path}/folder") == []


def test_dbench(place):
    os.mkdir(f"{place.lower}/folder")
    place.mount()
    with watched(place, 200):
        output = run("dbench", "-t", "30" if FULL else "3", "-D", f"{place.path}/folder", "2", timeout=180)
        assert "Throughput" in output and "failed" not in output.lower(), output[-3000:]
        listed = Tree(place.path).snapshot(slots=False)
    place.remount()
    assert not snapshot_differences(Tree(place.path).snapshot(slots=False), listed)


FIO = {
    "psync": ("--rw=randwrite", "--verify=crc32c", "--ioengine=psync"),
    "mmap": ("--rw=randrw", "--verify=sha256", "--ioengine=mmap"),
}


def fio(*arguments, **options):
    return run(
        "fio", "--name=v", "--bs=4k", "--verify_fatal=1", "--do_verify=1", "--verify_state_save=0", *arguments, **options)


@pytest.mark.parametrize("engine", FIO)
def test_fio_reads_back_what_it_wrote(place, engine):
    place.mount()
    file = f"--filename={place.path}/new"
    size = "--size=256m" if FULL else "--size=32m"
    with watched(place, 300):
        fio(file, size, *FIO[engine])
        if FULL:
            jobs = ("--numjobs=3", "--thread", f"--directory={place.path}", "--size=64m")
            fio(*jobs, *FIO[engine])
    written = content(f"{place.path}/new")
    place.remount()
    assert content(f"{place.path}/new") == written
    place.umount()
    assert content(f"{place.upper}/new") == written


@pytest.mark.parametrize("engine", FIO)
def test_fio_changes_parts_of_a_file_that_is_below(place, engine):
    block, blocks, changed = 4096, 8192, 2048
    below = trees.seeded(1, block * blocks)
    trees.write(f"{place.lower}/file", below)
    place.mount()
    path = f"{place.path}/file"
    _, verify, engine_option = FIO[engine]
    job = (f"--filename={path}", f"--size={block * blocks}", f"--io_size={block * changed}", "--rw=randwrite", verify,
           engine_option, "--randseed=7")
    with watched(place, 300):
        fio(*job)
        seen = content(path)
    assert len(seen) == len(below)
    different = [start for start in range(0, len(seen), block) if seen[start:start + block] != below[start:start + block]]
    # Each block of fio's begins with its mark.
    foreign = [start for start in different if seen[start:start + 2] != b"\xca\xac"]
    assert not foreign, f"at {foreign[:10]} stands what is neither below nor written"
    assert len(different) == changed
    place.remount()
    assert content(path) == seen
    with watched(place, 300):
        fio(*job, "--verify_only")
    place.umount()
    assert content(f"{place.lower}/file") == below
    assert content(f"{place.upper}/file") == seen


# xfs_io beside a plain directory

SIZE = 300_000
XFS_IO = {
    "pwrite": ["pwrite -q -S 0x11 5000 20000", "pwrite -q -S 0x12 299000 5000", "pread -v 4990 30", "stat"],
    "pwrite-beyond": ["pwrite -q -S 0x21 1000000 100", "pread -v 999990 110", "seek -a 0"],
    "pwrite-vectors": ["pwrite -q -V 7 -b 4096 -S 0x31 12345 100000", "pread -v 12340 16"],
    "pwrite-backwards": ["pwrite -q -B -b 8192 -S 0x32 4096 200000"],
    "fpunch": ["fpunch 8192 65536", "seek -a 0", "fpunch 100000 100", "seek -a 0", "pread -v 99990 120"],
    "fpunch-end": ["fpunch 262144 1000000", "seek -a 0", "stat -r"],
    "fpunch-all": ["fpunch 0 1000000", "seek -d 0", "seek -h 0"],
    "fzero": ["fzero 4096 10000", "pread -v 4090 16", "fzero 290000 100000"],
    "fzero-keep": ["fzero -k 290000 100000", "pread -v 289990 16"],
    "falloc": ["falloc 0 1000000", "pread -v 300000 16"],
    "falloc-keep": ["falloc -k 0 1000000", "pwrite -q -S 0x41 500000 10"],
    "truncate-down": ["truncate 12345", "truncate 20000", "pread -v 12340 20", "seek -a 0"],
    "truncate-up": ["truncate 5000000", "pwrite -q -S 0x51 4999999 1", "seek -a 0"],
    "truncate-0": ["truncate 0", "pwrite -q -S 0x52 100 100", "pread -v 90 20"],
    "copy-within": ["copy_range -s 0 -d 400000 -l 50000 file", "copy_range -s 10000 -d 100000 -l 8192 file", "seek -a 0"],
    "copy-from-below": ["copy_range -s 4096 -d 8192 -l 100000 other", "pread -v 8190 16"],
    "copy-beyond": ["copy_range -s 190000 -d 1000000 -l 100000 other", "seek -a 0"],
    "mmap": ["mmap -rw 0 200000", "mwrite -S 0x61 4000 10000", "pread -v 3990 20", "msync -s 0 200000", "munmap",
             "pread -v 13990 20"],
    "mmap-private": ["mmap -rwp 0 100000", "mwrite -S 0x62 0 100000", "munmap", "pread -v 0 16"],
    "mmap-then-write": ["mmap -rw 0 100000", "mread -v 5000 16", "pwrite -q -S 0x63 5000 8", "mread -v 4990 32",
                        "mwrite -S 0x64 5004 2", "pread -v 4996 16", "munmap"],
    "mmap-then-truncate": ["mmap -rw 0 100000", "mwrite -S 0x65 0 100000", "truncate 50001", "truncate 100000",
                           "pread -v 49990 20", "mread -v 50000 16", "munmap"],
    "mmap-then-punch": ["mmap -rw 0 100000", "mwrite -S 0x66 0 100000", "fpunch 4096 8192", "mread -v 4090 16",
                        "pread -v 12280 16", "munmap"],
    "sync": ["pwrite -q -S 0x71 0 10000", "fsync", "pwrite -q -S 0x72 5000 10000", "fdatasync", "sync_range 0 10000"],
    "seek": ["truncate 1048576", "pwrite -q -S 0x73 524288 4096", "fsync", "seek -a -r 0", "seek -d 600000", "seek -h 524288"],
    "advice": ["fadvise -d 0 0", "pwrite -q -S 0x74 100 100", "readahead 0 100000", "fadvise -d 0 0", "pread -v 90 20"],
    # What the kernel refuses for every FUSE file system, ext4 need not: only that nothing is changed.
    "fcollapse": ["fcollapse 4096 4096"],
    "finsert": ["finsert 4096 4096"],
}
OPENINGS = {"": (), "append": ("-a",), "direct": ("-d",), "sync": ("-s",), "truncate": ("-t",)}
NOT_OF_FUSE = ("fcollapse", "finsert")


def without_what_differs(output):
    """What xfs_io printed, without inode numbers, devices, blocks and times."""
    lines = output.splitlines()
    return [line for line in lines if "ops;" not in line and not line.startswith((
        "fd.path", "stat.ino", "stat.blocks", "stat.blksize", "stat.dev_", "stat.atime", "stat.mtime", "stat.ctime", "fsxattr.",
        "dioattr.", "xfsctl", "FS_IOC"))]


@pytest.mark.parametrize("opening", OPENINGS)
def test_xfs_io_does_what_it_does_on_a_plain_disk(place, tmp_path, opening):
    """On files from below and on new ones: what is printed and what is left are the same."""
    flags = OPENINGS[opening]
    plain = str(tmp_path / "plain")
    started = time.time_ns()

    def snapshot(root):
        return Tree(root, started).snapshot()

    cases = {name: commands for name, commands in XFS_IO.items() if not (opening == "append" and name.startswith("copy"))}
    if opening == "direct":
        cases = {
            "pwrite": ["pwrite -q -S 0x11 -b 4096 8192 65536", "pread -v 8192 512", "pwrite -q -S 0x12 -b 4096 1048576 4096"],
            "mixed": ["mmap -rw 0 65536", "mwrite -S 0x13 0 8192", "msync -s 0 65536", "pwrite -q -S 0x14 -b 4096 4096 8192",
                      "mread -v 4090 16", "munmap", "pread -v 0 512"],
            "truncate": ["truncate 4096", "pwrite -q -S 0x15 -b 4096 4096 4096", "fpunch 0 4096", "seek -a 0"],
        }
    for name in cases:
        for kind in ("below", "new"):
            folder = f"{place.lower}/{name}/{kind}"
            trees.write(f"{folder}/other", trees.seeded(2, 200_000))
            if kind == "below":
                trees.write(f"{folder}/file", trees.seeded(3, SIZE))
    lower = snapshot(copy_over(place.lower, str(tmp_path / "kept")))
    copy_over(place.lower, plain)
    place.mount()
    problems = []
    with watched(place, 200):
        for name, commands in cases.items():
            for kind in ("below", "new"):
                printed = {}
                for root in (place.path, plain):
                    create = ("-f",) if kind == "new" else ()
                    script = [word for command in commands for word in ("-c", command)]
                    prefill = ["-c", f"pwrite -q -S 0x01 0 {SIZE // 4096 * 4096}"] if kind == "new" else []
                    output = run(
                        "xfs_io", *create, *flags, *prefill, *script, "file", cwd=f"{root}/{name}/{kind}", code=None)
                    printed[root] = without_what_differs(output)
                if name not in NOT_OF_FUSE and printed[place.path] != printed[plain]:
                    problems.append(f"{name} {kind}: printed {printed[place.path]}, not {printed[plain]}")
        for name in set(NOT_OF_FUSE) & set(cases):
            for kind in ("below", "new"):
                seen, expected = (f"{root}/{name}/{kind}/file" for root in (place.path, plain))
                if content(seen) != content(expected):
                    # It was refused: then nothing of it happened.
                    below = b"" if opening == "truncate" else trees.seeded(3, SIZE)
                    assert content(seen) == (below if kind == "below" else b"\1" * (SIZE // 4096 * 4096))
                    shutil.copy2(seen, expected)
        expected = snapshot(plain)
        problems += snapshot_differences(snapshot(place.path), expected)
    assert not problems, "\n".join(problems)
    place.remount()
    assert snapshot_differences(snapshot(place.path), expected) == []
    assert place.unfinished == []
    assert snapshot_differences(snapshot(place.lower), lower) == []


# Faults of the daemon's calls


def make_sample(root, seed):
    """A lower tree for `script`."""
    trees.write(f"{root}/file", trees.seeded(seed, 9000), mode=0o640)
    trees.write(f"{root}/big", trees.seeded(seed + 1, 300_000))
    trees.write(f"{root}/linked", trees.seeded(seed + 2, 5000))
    os.link(f"{root}/linked", f"{root}/linked-too")
    trees.write(f"{root}/several/a")
    for name in "bc":
        os.link(f"{root}/several/a", f"{root}/several/{name}")
    os.makedirs(f"{root}/elsewhere")
    os.link(f"{root}/linked", f"{root}/elsewhere/linked-as-well")
    trees.write(f"{root}/folder/inner/file", trees.seeded(seed + 3, 4000))
    trees.write(f"{root}/folder/other", b"other")
    os.link(f"{root}/linked", f"{root}/folder/inner/linked-again")
    for name in "abcd":
        trees.write(f"{root}/merged/{name}", name.encode() * 100)
    os.mkdir(f"{root}/empty")
    os.symlink("folder/other", f"{root}/link")
    os.utime(f"{root}/link", ns=(trees.TIMES_NANOSECONDS[0],) * 2, follow_symlinks=False)
    os.chown(f"{root}/file", 1000, 1000)
    for parent, folders, _ in os.walk(root, topdown=False):
        os.utime(parent, ns=(trees.TIMES_NANOSECONDS[0],) * 2)
        for name in folders:
            os.chown(f"{parent}/{name}", 1000, 100)


def script(seed):
    """Operations that go through every part of the upper, each of few system calls."""

    def operation(name, *arguments):
        return Operation(name, tuple(Path(each) if isinstance(each, str) and each != "user.a" else each for each in arguments))

    write = os.O_RDWR
    create = os.O_RDWR | os.O_CREAT
    one, two = Slot(0), Slot(1)
    return [
        # Files from below
        operation("open", one, "file", write), operation("write", one, 100, Data(seed, 3000), 0), operation("sync", one, False),
        operation("close", one),
        operation("truncate", "folder/inner/file", 10), operation("truncate", "big", 0),
        operation("chmod", "folder/other", 0o4755), operation("chown", "merged/a", 5, 6, False),
        operation("utime", "merged/b", 1_500_000_000_000_000_000, 1_500_000_000_000_000_000, False),
        operation("setxattr", "merged/b", "user.a", Data(seed, 30), 0), operation("chown", "link", 7, 8, False),
        # New ones
        operation("mkdir", "folder/inner/made", 0o755), operation("open", two, "folder/inner/made/new", create),
        operation("write", two, 0, Data(seed + 1, 4000), 0), operation("truncate", two, 5000), operation("sync", two, True),
        operation("close", two), operation("symlink", Path("new"), "folder/inner/made/link"),
        operation("mkfifo", "folder/fifo", 0o600), operation("chmod", "folder/inner/made/new", 0o600),
        operation("chown", "folder/inner/made/new", 3, 4, False),
        operation("setxattr", "folder/inner/made/new", "user.a", Data(1, 9), 0),
        operation("copy_range", "folder/inner/made/new", "file", 0, 9000, 3000),
        operation("copy_range", "merged/d", "folder/inner/made/new", 0, 1000, 100),
        operation("allocate", "folder/inner/made/new", KEEP_SIZE, 0, 20_000),
        # After what may fail when the time is changed already.
        operation("utime", "folder/inner/made/new", 1_400_000_000_000_000_000, 1_400_000_000_000_000_000, False),
        # Names
        operation("link", "linked", "merged/third"), operation("link", "folder/inner/made/new", "folder/inner/made/newer"),
        operation("unlink", "several/b"), operation("unlink", "merged/c"), operation("unlink", "folder/inner/made/new"),
        operation("rename", "merged/a", "merged/moved", 0), operation("rename", "merged/b", "folder/b", 0),
        operation("rename", "folder/inner/made/newer", "merged/d", 0), operation("rename", "merged", "empty/merged", 0),
        operation("rename", "file", "folder/other", RENAME_EXCHANGE), operation("rename", "elsewhere", "merged", 0),
        operation("rename", "folder/other", "merged/linked-as-well", 0), operation("unlink", "linked-too"),
        operation("chmod", "empty", 0o700), operation("unlink", "empty/merged/third"), operation("unlink", "empty/merged/d"),
        operation("unlink", "empty/merged/moved"), operation("rmdir", "empty/merged"), operation("rmdir", "empty"),
        operation("mkdir", "empty", 0o711), operation("mkdir", "merged", 0o711), operation("sync", "folder", False),
        operation("rename", "folder", "empty/folder", 0), operation("rename", "empty/folder", "folder", 0),
        operation("unlink", "link"),
    ]


class FaultyRounds:
    """Runs `script` in folders of the mount and of a plain copy, one each round, while something makes calls of the daemon
    fail. An operation of the mount either does what it does in the copy, or fails and does nothing."""

    def __init__(self, place, reference, rounds, ignore=lambda path: frozenset()):
        """ignore: gives the fields that are not compared of what the copy has at a path."""
        self.place, self.reference, self.ignore = place, reference, ignore
        self.names = [f"round{number:03}" for number in range(rounds)]
        for number, name in enumerate(self.names):
            make_sample(f"{place.lower}/{name}", 10 * number)
        self.lower = copy_over(place.lower, reference + "-lower")
        copy_over(place.lower, reference)
        self.started = time.time_ns()
        self.labels = {}
        self.told = {}
        self.problems = {}

    def run(self, name, errors=(), label=None):
        """Runs the script in a folder, and looks at it if it must not fail.

        errors: what an operation may fail with though it succeeds in the copy.
        """
        if name in self.problems:
            return
        self.labels[name] = label or self.labels.get(name, "")
        told = self.told[name] = []
        expected_tree, seen_tree = self._trees(name)
        for operation in script(int(name[5:])):
            seen = seen_tree.apply(operation)
            # The close of a file that could not be opened has nothing to say.
            if seen.error in errors and operation.name != "close":
                told.append(f"{operation} → {seen}")
                continue
            expected = expected_tree.apply(operation)
            if seen != expected:
                self._problem(name, [f"{operation} → {seen}, not {expected}"])
                break
        seen_tree.close_all()
        expected_tree.close_all()

    def _trees(self, name):
        return Tree(f"{self.reference}/{name}", self.started), Tree(f"{self.place.path}/{name}", self.started)

    def _problem(self, name, lines):
        failed = f"  ({self.labels[name]} let fail: {', '.join(self.told[name])})"
        self.problems[name] = [f"{name}: {line}" for line in lines] + [failed]

    def compare(self, names=None, when=""):
        """Compares what has had no problem yet."""
        for name in names or self.names:
            if name in self.problems:
                continue
            expected, seen = self._trees(name)
            try:
                lines = snapshot_differences(
                    seen.snapshot(), expected.snapshot(), lambda path: self.ignore(expected.at(path)))
            except OSError as error:
                lines = [f"looking at it: {error}"]
            if lines:
                self._problem(name, [f"{when}{line}" for line in lines])

    def finish(self):
        """Mounts again, looks at everything, runs everything again, and fails if there was a problem."""
        if unfinished := self.place.unfinished:
            self.problems[""] = [f"{unfinished} was left behind"]
        self.compare()
        self.place.remount()
        self.compare(when="after a remount, ")
        for name in self.names:
            self.run(name)
        self.compare(when="without faults, ")
        self.place.remount()
        self.compare(when="after the last remount, ")
        self.place.umount()
        lower = snapshot_differences(
            Tree(self.place.lower, self.started).snapshot(), Tree(self.lower, self.started).snapshot())
        if lower:
            self.problems["below"] = [f"what is below was changed: {line}" for line in lower]
        lines = [line for problem in self.problems.values() for line in problem]
        assert not lines, f"{len(self.problems)} of {len(self.names)} rounds went wrong:\n" + "\n".join(lines)


def no_times_of_folders(path):
    """Where times cannot be set, those of directories may say that something was made in them, or not say it."""
    return frozenset(["time"]) if os.path.isdir(path) else frozenset()


# The call, and what else must fail for the call to be made.
CALLS = {
    "openat": (), "renameat,renameat2": (), "pwrite64": ("copy_file_range:error=EXDEV",), "log": (), "mkdirat": (),
    "unlinkat": (), "linkat": (), "ftruncate,truncate": (), "fchown,fchownat": (), "chmod,fchmod,fchmodat": (), "utimensat": (),
    "fsync": (), "fdatasync": (), "copy_file_range": (), "symlinkat": (), "mknodat": (), "fallocate": (),
    "fsetxattr,lsetxattr,setxattr": (),
}
# What is called on the log alone.
ONLY_LOG = {"log": "pwrite64"}
ERRORS = ("EIO", "ENOSPC", "EMFILE") if FULL else ("EIO", "EMFILE")
COUNTS = ("1", "2", "3", "4", "5", "1+2", "2+2", "1+3", "2+3", "3+3", "1+") if FULL else ("1", "2", "3", "1+2", "1+")


@pytest.mark.parametrize("call", CALLS)
def test_a_call_of_the_daemon_that_fails_fails_the_operation_alone(place, tmp_path, call):
    cases = [(error, count) for error in ERRORS for count in COUNTS]
    ignore = {"ignore": no_times_of_folders} if call in ("openat", "utimensat") else {}
    rounds = FaultyRounds(place, str(tmp_path / "reference"), len(cases), **ignore)
    place.mount()
    met = 0
    calls = ONLY_LOG.get(call, call)
    with watched(place, 600 if FULL else 240):
        for name, (error, count) in zip(rounds.names, cases):
            rules = [f"{calls}:error={error}:when={count}", *CALLS[call]]
            path = f"{place.upper}/.mcfs-upper/changes" if call in ONLY_LOG else None
            with Faults(place.mcfs.daemon_pids, rules, tmp_path / "strace.log", path) as faults:
                # What cannot be read of the tree below is EIO to whoever asks.
                rounds.run(name, {getattr(errno, error), errno.EIO}, label=rules[0])
            met += sum(f" {name}(" in line for line in faults.met for name in calls.split(","))
            rounds.compare([name])
        rounds.finish()
    assert met, f"no {call} was made to fail"


# Full disks


@contextlib.contextmanager
def small_disk(kind, path, mib):
    os.makedirs(path)
    if kind == "tmpfs":
        run("mount", "-t", "tmpfs", "-o", f"size={mib}m", "tmpfs", path)
    else:
        image = f"{path}.img"
        with open(image, "wb") as file:
            file.truncate(mib * MIB)
        run("mkfs.ext4", "-q", "-m", "0", image)
        run("mount", "-o", "loop", image, path)
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", path], capture_output=True)


@pytest.fixture(params=["tmpfs", "ext4"] if FULL else ["tmpfs"])
def small_place(request, mcfs, tmp_path):
    """An upper on a disk of 64 MiB."""
    os.mkdir(tmp_path / "lower")
    with small_disk(request.param, str(tmp_path / "disk"), 64) as disk:
        place = Place(mcfs, tmp_path / "lower", f"{disk}/upper")
        yield place
        # The disk is busy while it is an upper.
        mcfs.close()


def free_bytes(path):
    os.sync()
    usage = os.statvfs(path)
    return usage.f_bavail * usage.f_frsize


def fill(path, leave=0):
    """Writes until nothing more fits, and then takes `leave` bytes back."""
    size, piece = 0, 1 << 20
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
    try:
        while piece:
            try:
                done = os.pwrite(descriptor, b"f" * piece, size)
                os.fsync(descriptor)
                size += done
            except OSError as error:
                assert error.errno == errno.ENOSPC
                piece //= 2
        os.ftruncate(descriptor, max(0, size - leave))
    finally:
        os.close(descriptor)


def test_a_copy_that_does_not_fit_leaves_the_file_as_it_was(small_place):
    place = small_place
    data = trees.seeded(1, 70 * MIB)
    trees.write(f"{place.lower}/folder/large", data, mode=0o640)
    os.chown(f"{place.lower}/folder/large", 1000, 1000)
    trees.write(f"{place.lower}/small", b"small")
    place.mount()
    path = f"{place.path}/folder/large"
    status = os.stat(path)
    before = free_bytes(place.upper)
    with watched(place, 120):
        for flags in (os.O_RDWR, os.O_WRONLY | os.O_APPEND):
            with pytest.raises(OSError) as caught:
                os.open(path, flags)
            assert caught.value.errno == errno.ENOSPC
        for change in (lambda: os.truncate(path, 69 * MIB), lambda: os.link(path, f"{place.path}/name")):
            with pytest.raises(OSError) as caught:
                change()
            assert caught.value.errno == errno.ENOSPC
        assert os.stat(path) == status
        assert content(path) == data
        assert sorted(os.listdir(place.path)) == ["folder", "small"] and os.listdir(f"{place.path}/folder") == ["large"]
        assert place.unfinished == []
        assert free_bytes(place.upper) > before - 200_000, "what was copied takes space"
        # Others fit, and so does a part of it.
        with open(f"{place.path}/small", "ab") as file:
            file.write(b"er")
        os.chmod(path, 0o600)
        os.truncate(path, 1000)
        assert content(path) == data[:1000]
    place.remount()
    assert content(path) == data[:1000] and content(f"{place.path}/small") == b"smaller"
    assert os.stat(path).st_mode & 0o777 == 0o600


def test_a_write_that_does_not_fit_is_short_or_fails(small_place):
    place = small_place
    trees.write(f"{place.lower}/file", b"below")
    place.mount()
    free = free_bytes(place.upper)
    data = trees.seeded(1, 100 * MIB)
    done = 0
    with watched(place, 120), open(f"{place.path}/new", "wb", buffering=0) as file:
        with pytest.raises(OSError) as caught:
            while done < len(data):
                written = os.pwrite(file.fileno(), data[done:done + 3_000_001], done)
                assert written
                done += written
        assert caught.value.errno == errno.ENOSPC
        # Not more than a write may be left of the one that failed.
        seen = content(f"{place.path}/new")
        assert len(seen) >= done and seen == data[:len(seen)]
        os.ftruncate(file.fileno(), done)
        assert content(f"{place.path}/new") == data[:done]
    os.unlink(f"{place.path}/new")
    # The space is there when the kernel has told that nobody has the file any more.
    deadline = time.monotonic() + 10
    while free_bytes(place.upper) < free - MIB:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    with open(f"{place.path}/file", "ab") as file:
        file.write(b"!")
    place.remount()
    assert content(f"{place.path}/file") == b"below!" and not os.path.exists(f"{place.path}/new")


def test_a_full_disk_fails_operations_and_no_more(small_place, tmp_path):
    place = small_place
    leaves = (0, 1, 4096, 8192, 20_000, 100_000)
    rounds = FaultyRounds(place, str(tmp_path / "reference"), len(leaves))
    place.mount()
    filler = f"{os.path.dirname(place.upper)}/filler"
    with watched(place, 200):
        for name, leave in zip(rounds.names, leaves):
            fill(filler, leave)
            rounds.run(name, {errno.ENOSPC}, label=f"a disk with {leave} bytes")
            assert rounds.told[name] or leave > 10_000
            rounds.compare([name])
            os.unlink(filler)
        rounds.finish()


def test_mounting_again_on_a_full_disk(small_place, tmp_path):
    place = small_place
    rounds = FaultyRounds(place, str(tmp_path / "reference"), 1)
    place.mount()
    filler = f"{os.path.dirname(place.upper)}/filler"
    rounds.run("round000")
    fill(filler)
    rounds.compare(when="on a full disk, ")
    place.remount()
    rounds.compare(when="mounted again on a full disk, ")
    os.unlink(filler)
    rounds.finish()


# Origins that fail in the middle of a copy

BYTES = 6_000_000
DEADLINE = 3

OPEN = "import os, sys; os.close(os.open(sys.argv[1], os.O_RDWR))"
TRUNCATE = f"import os, sys; os.truncate(sys.argv[1], {BYTES - 1000})"
LINK = "import os, sys; os.link(sys.argv[1], sys.argv[1] + '-name')"


class RemotePlace(Place):
    """A file of an HTTP server behind a proxy that can fail."""

    def __init__(self, mcfs, upper, nginx, proxy, name):
        self.data = trees.seeded(17, BYTES)
        trees.write(f"{nginx.root}/{name}/weights.bin", self.data)
        self.proxy = proxy
        super().__init__(mcfs, f"{proxy.url}/files/{name}/weights.bin", upper)
        self.lower = f"{proxy.url}/files/{name}/weights.bin"
        self.file = f"{self.path}/weights.bin"

    def start(self, code):
        """Starts a process that does something with the file."""
        return subprocess.Popen(
            [SYSTEM_PYTHON, "-c", code, self.file], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True)


@pytest.fixture
def remote(mcfs, nginx, fault_proxy, tmp_path):
    place = RemotePlace(mcfs, tmp_path / "upper", nginx, fault_proxy(nginx.url), tmp_path.name)
    started = []
    start = place.start

    def start_and_remember(code):
        started.append(start(code))
        return started[-1]

    place.start = start_and_remember
    yield place
    place.proxy.heal()
    mcfs.close()
    for process in started:
        process.kill()
        process.wait(20)
        process.stderr.close()


def stop_in_the_middle(proxy, kind):
    """The first request is answered for a part, then there is no answer any more."""
    first = {"kind": kind, "after": 700_000, "match": "weights.bin", "method": "GET"}
    after = {"stall": first, "cut": {"kind": "status", "status": 503, "match": "weights.bin"}}[kind]
    proxy.fault(first | {"count": 1}, after | {"after": 0})


@pytest.mark.parametrize("kind", ["stall", "cut"])
@pytest.mark.parametrize("code", [OPEN, TRUNCATE, LINK], ids=["open", "truncate", "link"])
def test_a_copy_whose_origin_fails_leaves_the_file_as_it_was(remote, kind, code):
    place = remote
    place.mount("--read-deadline", str(DEADLINE))
    status = os.stat(place.file)
    stop_in_the_middle(place.proxy, kind)
    with watched(place, 90):
        started = time.monotonic()
        writer = place.start(code)
        time.sleep(0.3)
        # Nobody else waits for it.
        assert os.stat(place.file) == status and os.listdir(place.path) == ["weights.bin"]
        with open(f"{place.path}/new", "w") as file:
            file.write("new")
        assert writer.wait(60) != 0
        seconds = time.monotonic() - started
        assert b"[Errno 5]" in writer.stderr.read()
        assert seconds < 3 * DEADLINE + 5, f"it failed after {seconds:.1f} s"
        assert os.stat(place.file) == status
        assert sorted(os.listdir(place.path)) == ["new", "weights.bin"]
        assert place.unfinished == [] and not os.path.exists(f"{place.upper}/weights.bin")
        place.proxy.heal()
        assert content(place.file) == place.data
        with open(place.file, "r+b") as file:
            file.write(b"changed")
        assert content(place.file) == b"changed" + place.data[7:]
    place.remount()
    assert content(place.file) == b"changed" + place.data[7:]
    assert content(f"{place.path}/new") == b"new"


def test_a_writer_that_waits_for_its_copy_can_be_killed(remote):
    place = remote
    place.mount()
    stop_in_the_middle(place.proxy, "stall")
    with watched(place, 90):
        for number in (signal.SIGKILL, signal.SIGTERM):
            writer = place.start(OPEN)
            time.sleep(1)
            assert writer.poll() is None
            writer.send_signal(number)
            assert writer.wait(5) == -number
        deadline = time.monotonic() + 10
        while place.unfinished:
            assert time.monotonic() < deadline, "the copy goes on for nobody"
            time.sleep(0.1)
        place.proxy.heal()
        with open(place.file, "r+b") as file:
            file.write(b"changed")
    assert content(place.file) == b"changed" + place.data[7:]


def test_umount_with_force_frees_a_writer_that_waits_for_its_copy(remote):
    place = remote
    place.mount()
    stop_in_the_middle(place.proxy, "stall")
    writer = place.start(OPEN)
    time.sleep(1)
    place.mcfs.umount(place.path, code=mcfs_helper.CANNOT_CREATE)
    started = time.monotonic()
    place.mcfs.umount(place.path, "--force")
    assert writer.wait(10) != 0
    assert time.monotonic() - started < 5
    assert not os.path.exists(f"{place.upper}/weights.bin")
    place.proxy.heal()
    # The upper is free at once.
    place.mount()
    assert place.unfinished == []
    with open(place.file, "r+b") as file:
        file.write(b"changed")
    assert content(place.file) == b"changed" + place.data[7:]


def test_writers_that_wait_for_one_copy_all_get_it(remote):
    place = remote
    place.mount()
    place.proxy.fault({"kind": "stall", "after": 700_000, "seconds": 2, "count": 1, "match": "weights.bin", "method": "GET"})
    write = "import os, sys; f = os.open(sys.argv[1], os.O_RDWR); os.pwrite(f, sys.argv[1][-1:].encode(), {})"
    with watched(place, 90):
        writers = [place.start(write.format(1000 * number)) for number in range(6)]
        for writer in writers:
            assert writer.wait(60) == 0, writer.stderr.read()
    expected = bytearray(place.data)
    for number in range(6):
        expected[1000 * number:1000 * number + 1] = b"n"
    assert content(place.file) == expected
    place.umount()
    assert content(f"{place.upper}/weights.bin") == expected
