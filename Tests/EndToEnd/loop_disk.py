"""A file system of its own, in a file, whose power can be cut."""

import fcntl
import os
import struct
import subprocess
import time

SIZES = {"ext4": 128 << 20, "xfs": 320 << 20}
# The smallest journal and log: they are written in each of many rounds.
MAKE = {
    "ext4": ["mkfs.ext4", "-q", "-F", "-E", "nodiscard", "-J", "size=4"],
    "xfs": ["mkfs.xfs", "-q", "-f", "-K"],
}

# FS_IOC_SHUTDOWN, _IOR('X', 125, __u32), and its flags: from now on nothing reaches the disk and every call fails.
FS_IOC_SHUTDOWN = 0x8004587D
# All data is written first.
SYNCED = 0
# The journal is written first, data is not: names and sizes survive, bytes do not.
LOG_FLUSHED = 1
# Nothing is written.
CUT = 2
CUTS = {"synced": SYNCED, "log": LOG_FLUSHED, "cut": CUT}


class LoopDisk:
    """`make`, `mount`, `shut_down`, `unmount`, `mount` … The loop device goes with the mount."""

    def __init__(self, directory, kind):
        self.kind = kind
        self.image = os.path.join(directory, "disk.image")
        self.path = os.path.join(directory, "disk")
        os.makedirs(self.path, exist_ok=True)

    def make(self, *options):
        with open(self.image, "wb") as file:
            file.truncate(SIZES[self.kind])
        subprocess.run([*MAKE[self.kind], *options, self.image], check=True, stdout=subprocess.DEVNULL)

    def mount(self):
        subprocess.run(["mount", "-t", self.kind, "-o", "loop", self.image, self.path], check=True)

    def shut_down(self, flags):
        descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.ioctl(descriptor, FS_IOC_SHUTDOWN, struct.pack("=I", flags))
        finally:
            os.close(descriptor)

    def unmount(self, seconds=20):
        """Never lazily: the same image mounted twice would be a damage of the test's own making."""
        deadline = time.monotonic() + seconds
        while True:
            result = subprocess.run(["umount", self.path], capture_output=True, text=True)
            if result.returncode == 0:
                return
            if time.monotonic() > deadline:
                raise RuntimeError(f"{self.path} cannot be unmounted: {result.stderr}")
            time.sleep(0.02)
