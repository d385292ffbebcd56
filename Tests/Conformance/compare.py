#!/usr/bin/env python3
"""Runs the conformance list on several file systems in turns and tells where mcfs does worse than overlayfs.

    compare.py --mcfs .build/release/mcfs        all of them
    compare.py --on ext4,overlay --only 'rename/*'

ext4            the scratch directory itself
overlay         the overlayfs of the kernel, with what makes it most like a plain file system switched on
fuse-overlayfs  the program of that name
mcfs            a writable mount

Each runs in two modes: `fresh`, where the starting trees are made through the mount, over an empty lower directory, and
`prepared`, where they lie in the lower directory. The lower directory must be the same afterwards.

Needs root. Exit code 1 if mcfs fails what overlay passes.
"""

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import cases  # noqa: F401  (registers them)
from suite import CASES

HERE = os.path.dirname(os.path.abspath(__file__))
MODES = ("fresh", "prepared")
# The list ends by itself if all of it hangs; this is for when not even that works.
LIST_SECONDS = 1800
COMMAND_SECONDS = 30
LOWER_CHANGED = "the lower directory"


class FileSystem:
    """A context manager: mounted at `self.mountpoint` in the block, and gone after it, whatever happens."""

    def __init__(self, directory, lower, options):
        self.directory, self.lower, self.options = directory, lower, options
        self.upper, self.work, self.mountpoint, self.cache = (
            os.path.join(directory, name) for name in ("upper", "work", "mount", "cache"))
        self.connection = self.server = None

    def __enter__(self):
        for path in (self.upper, self.work, self.mountpoint, self.cache):
            os.makedirs(path)
        try:
            self.mount()
            self.connection = connection(self.mountpoint)
        except BaseException:
            self.end()
            raise
        return self

    def __exit__(self, *_):
        self.end()

    def mount(self):
        pass

    def unmount(self):
        command("umount", self.mountpoint)

    def end(self):
        """First as a user does, then by force."""
        if is_mounted(self.mountpoint):
            with contextlib.suppress(subprocess.SubprocessError):
                self.unmount()
        if is_mounted(self.mountpoint):
            abort(self.connection, self.directory)
            with contextlib.suppress(subprocess.SubprocessError):
                command("umount", "-l", self.mountpoint)
        if self.server:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.server.wait(5)
            self.server.kill()
            self.server.wait()


class Ext4(FileSystem):
    """No mount: the starting trees are used where they are."""

    def __enter__(self):
        os.makedirs(self.mountpoint)
        for name in os.listdir(self.lower):
            os.rename(os.path.join(self.lower, name), os.path.join(self.mountpoint, name))
        return self


class Overlay(FileSystem):
    def mount(self):
        command(
            "mount", "-t", "overlay", "overlay", "-o", f"lowerdir={self.lower},upperdir={self.upper},workdir={self.work},"
            "redirect_dir=on,index=on,xino=on,metacopy=off", self.mountpoint)


class FuseOverlayfs(FileSystem):
    def mount(self):
        self.server = subprocess.Popen(
            ["fuse-overlayfs", "-f", "-o", f"lowerdir={self.lower},upperdir={self.upper},workdir={self.work}",
             "-o", "allow_other,default_permissions,suid,dev", self.mountpoint],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 10
        while not is_mounted(self.mountpoint):
            if self.server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("fuse-overlayfs does not mount")
            time.sleep(0.02)


class Mcfs(FileSystem):
    def mount(self):
        command(self.options.mcfs, "mount", "--cache-dir", self.cache, "--upper", self.upper, "--allow-other", self.lower,
                self.mountpoint)

    def unmount(self):
        command(self.options.mcfs, "umount", "--cache-dir", self.cache, self.mountpoint)

    def end(self):
        super().end()
        # The daemon ends by itself when it has had nothing to do for a while; what this run started ends with this run.
        for pid in processes_naming(self.cache):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


FILE_SYSTEMS = {"ext4": Ext4, "overlay": Overlay, "fuse-overlayfs": FuseOverlayfs, "mcfs": Mcfs}


# Mounts

def command(*arguments):
    """Raises SubprocessError unless it ends well and in time. One that hangs is killed and not waited for."""
    process = subprocess.Popen(
        arguments, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        errors="backslashreplace")
    try:
        _, message = process.communicate(timeout=COMMAND_SECONDS)
    except BaseException:
        process.kill()
        raise
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, arguments, stderr=message)


def mount_line(mountpoint):
    """Of the kernel's table, which does not hang: device number, kind and so on; None where nothing is mounted."""
    with open("/proc/self/mountinfo", errors="surrogateescape") as table:
        lines = [line.split() for line in table]
    return next((line for line in reversed(lines) if line[4] == mountpoint), None)


def is_mounted(mountpoint):
    return mount_line(mountpoint) is not None


def connection(mountpoint):
    """The number of a FUSE mount's connection; None where it is not one."""
    line = mount_line(mountpoint)
    return line[2].split(":")[1] if line and any(word.startswith("fuse") for word in line[line.index("-"):]) else None


def abort(number, directory):
    """Makes every request to a FUSE server that does not answer fail."""
    if number is None:
        return
    control = "/sys/fs/fuse/connections"
    own = os.path.join(directory, "connections")
    if not os.path.exists(f"{control}/{number}"):
        os.makedirs(own, exist_ok=True)
        with contextlib.suppress(subprocess.SubprocessError):
            command("mount", "-t", "fusectl", "fusectl", own)
        control = own
    with contextlib.suppress(OSError), open(f"{control}/{number}/abort", "w") as file:
        file.write("1")
    if control == own:
        with contextlib.suppress(subprocess.SubprocessError):
            command("umount", own)


def processes_naming(path):
    """Processes with `path` among their arguments."""
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError), open(f"/proc/{name}/cmdline", "rb") as file:
            if os.fsencode(path) in file.read().split(b"\0") and int(name) != os.getpid():
                yield int(name)


def fingerprint(top):
    """Changes with everything that may be changed below `top`; the time of access may."""
    found = []
    for parent, folders, files, fd in os.fwalk(os.fsencode(top), follow_symlinks=False):
        for name in (b".", *folders, *files):
            status = os.stat(name, dir_fd=fd, follow_symlinks=False)
            found.append((parent, name, status.st_ino, status.st_mode, status.st_size, status.st_ctime_ns))
    return sorted(found)


# The runs

def posix(*arguments, **more):
    return subprocess.run([sys.executable, os.path.join(HERE, "posix.py"), *arguments], **more)


def run(name, mode, directory, options):
    """The reason of each failure by case, None where it passed."""
    lower, report = os.path.join(directory, "lower"), os.path.join(directory, "report.json")
    os.makedirs(lower)
    if mode == "prepared":
        posix("prepare", "--only", options.only, lower, check=True)
    before = fingerprint(lower)
    with FILE_SYSTEMS[name](directory, lower, options) as mounted, open(os.path.join(directory, "log"), "w") as log:
        arguments = ["run", mounted.mountpoint, "--only", options.only, "--json", report]
        process = subprocess.Popen(
            [sys.executable, os.path.join(HERE, "posix.py"), *arguments, *(["--prepared"] if mode == "prepared" else [])],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            process.wait(LIST_SECONDS)
        finally:
            process.kill()
    with open(report) as file:
        results = json.load(file)
    if name != "ext4":
        results[LOWER_CHANGED] = "was changed" if fingerprint(lower) != before else None
    return results


def attempt(name, mode, scratch, options):
    directory = os.path.join(scratch, f"{name}-{mode}")
    os.makedirs(directory)
    started = time.monotonic()
    try:
        results = run(name, mode, directory, options)
    except (OSError, RuntimeError, ValueError, subprocess.SubprocessError) as error:
        results = {"the run itself": f"{error} {getattr(error, 'stderr', '') or ''}".strip()}
    finally:
        if not is_mounted(os.path.join(directory, "mount")):
            shutil.rmtree(directory, ignore_errors=True)
    failed = sum(1 for reason in results.values() if reason)
    seconds = time.monotonic() - started
    print(f"{name:15} {mode:9} {len(results) - failed:5} passed {failed:4} failed {seconds:6.0f} s", flush=True)
    return results


def starts_with_attributes(case):
    """Whether the starting tree has extended attributes, which the tree of a reference has not: a limit of mcfs that
    docs/semantics.md names. What mcfs does with attributes is judged where the tree is made through the mount."""
    return case in CASES and any(node.xattrs for node in CASES[case].tree)


def failures(results):
    return {case: reason for case, reason in results.items() if reason}


def mark(results, case):
    return "-" if case not in results else "FAILS" if results[case] else "passes"


def tell(results):
    """The table of failures; returns how many of mcfs overlay does not share."""
    names = list(dict.fromkeys(name for name, _ in results))
    failing = sorted({(case, mode) for (_, mode), found in results.items() for case in failures(found)})
    if failing:
        width = max(len(case) for case, _ in failing) + 2
        print("\n" + "failures".ljust(width) + "mode".ljust(10) + "".join(name.ljust(16) for name in names))
        for case, mode in failing:
            marks = (mark(results[name, mode], case) for name in names)
            print(case.ljust(width) + mode.ljust(10) + "".join(text.ljust(16) for text in marks).rstrip())
        print("\nreasons")
        for (name, mode), found in results.items():
            for case, reason in failures(found).items():
                print(f"{name} {mode} {case}: {reason.rstrip()}")
    if "mcfs" not in names:
        return 0
    worse = [
        (case, mode, reason) for mode in MODES for case, reason in failures(results["mcfs", mode]).items()
        if not results.get(("overlay", mode), {}).get(case)]
    expected = [(case, mode) for case, mode, _ in worse if mode == "prepared" and starts_with_attributes(case)]
    if expected:
        print(f"\n{len(expected)} of mcfs start from attributes in the lower tree, which it does not show")
    worse = [row for row in worse if row[:2] not in expected]
    print(f"\n{len(worse)} that mcfs fails and overlay does not")
    for case, mode, reason in worse:
        print(f"{mode} {case}: {reason.rstrip()}")
    return len(worse)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mcfs", metavar="EXECUTABLE", type=os.path.abspath)
    parser.add_argument("--on", metavar="NAMES", help="of " + ",".join(FILE_SYSTEMS))
    parser.add_argument("--only", metavar="GLOB", default="*", help="cases whose names match, as rename/*")
    parser.add_argument("--directory", metavar="DIR", help="for scratch space; on a file system that overlayfs accepts")
    parser.add_argument("--json", metavar="FILE", help="writes all results, by file system, mode and case")
    options = parser.parse_args()
    chosen = options.on.split(",") if options.on else [name for name in FILE_SYSTEMS if name != "mcfs" or options.mcfs]
    if unknown := set(chosen) - FILE_SYSTEMS.keys():
        parser.error(f"no such file system: {', '.join(unknown)}")
    if "mcfs" in chosen and not options.mcfs:
        parser.error("which mcfs? Name it with --mcfs.")
    if "fuse-overlayfs" in chosen and not shutil.which("fuse-overlayfs"):
        parser.error("fuse-overlayfs is missing: apt-get install fuse-overlayfs fuse3")
    if os.geteuid() != 0:
        parser.error("only root may mount and change users")
    # A signal ends the run as an error does, mounts and all.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))

    scratch = os.path.realpath(tempfile.mkdtemp(prefix="conformance-", dir=options.directory))
    try:
        results = {(name, mode): attempt(name, mode, scratch, options) for mode in MODES for name in chosen}
    finally:
        # What could not be unmounted must not be emptied.
        if not mounts_below(scratch):
            shutil.rmtree(scratch, ignore_errors=True)
    if options.json:
        with open(options.json, "w") as file:
            json.dump({name: {mode: results[name, mode] for mode in MODES} for name in chosen}, file, indent=1)
    return 1 if tell(results) else 0


def mounts_below(directory):
    with open("/proc/self/mountinfo", errors="surrogateescape") as table:
        return [line.split()[4] for line in table if line.split()[4].startswith(directory + "/")]


if __name__ == "__main__":
    sys.exit(main())
