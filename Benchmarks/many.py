"""Rows about trees of many files from origins that know each file by itself: folders, buckets, repositories of the Hub."""

import os
import time

from measure import MIB, memory_of
from servers.process import RecordedProcess

FEW, MANY = 100_000, 1_000_000
FILES_IN_FOLDER = 1000


def folder(stand, count):
    """A folder of `count` files of a few bytes, made once."""
    root = os.path.join(stand.workspace, f"files-{count}")
    if not os.path.exists(root):
        for number in range(count):
            if number % FILES_IN_FOLDER == 0:
                directory = os.path.join(root, "data", f"d{number // FILES_IN_FOLDER:05}")
                os.makedirs(directory)
            with open(os.path.join(directory, f"file-{number:07}.bin"), "wb") as file:
                file.write(b"%d" % number)
    return root


def measured(stand, reference, environment):
    """Mounts with an empty cache, and again with a daemon that is new. - Returns: what that took."""
    result = {}
    with stand.mcfs(**environment) as mcfs:
        for turn in ("first", "second"):
            started = time.monotonic()
            at = mcfs.mount(reference, at=mcfs.mountpoints[0] if mcfs.mountpoints else None, timeout=900)
            result[f"{turn}Seconds"] = time.monotonic() - started
            # The answer comes before the memory that making the tree took is given back.
            time.sleep(1)
            (pid,) = mcfs.daemon_pids
            result[f"{turn}Bytes"], result[f"{turn}PeakBytes"] = memory_of(pid), memory_of(pid, "VmHWM")
            mcfs.umount(at)
            mcfs.kill_daemon()
    return result


def show(stand, what, few, many, goals):
    """Two rows: what an entry costs, and how long the mounts take."""
    own = {turn: (many[f"{turn}Bytes"] - few[f"{turn}Bytes"]) / (MANY - FEW) for turn in ("first", "second")}
    each, most = max(own.values()), max(many["firstBytes"], many["secondBytes"])
    if stand.is_quick:
        return stand.row(
            f"{what} of {FEW:,} files", f"{few['firstBytes'] / MIB:.0f} MiB, then {few['secondBytes'] / MIB:.0f} MiB; mounted in "
            f"{few['firstSeconds']:.1f} s, then in {few['secondSeconds']:.1f} s", section="many", **few)
    stand.row(
        f"daemon memory for each file of a {what} beyond {FEW:,}",
        f"{own['first']:.0f} bytes after the first mount, {own['second']:.0f} after the second; {MANY:,} files: "
        f"{many['firstBytes'] / MIB:.0f} and {many['secondBytes'] / MIB:.0f} MiB, at most {many['firstPeakBytes'] / MIB:.0f} and "
        f"{many['secondPeakBytes'] / MIB:.0f} MiB meanwhile",
        goals["memory"][0], goals["memory"][1](each, most), section="many", few=few, many=many)
    stand.row(
        f"mount of a {what} of {MANY:,} files",
        f"{many['firstSeconds']:.1f} s, with a new daemon that knows it {many['secondSeconds']:.1f} s",
        goals.get("seconds", ("", None))[0], goals["seconds"][1](many["secondSeconds"]) if "seconds" in goals else True,
        section="many")


EACH = ("<= 200 bytes", lambda each, most: each <= 200)


def folders(stand):
    """Folders of 100,000 and 1,000,000 files: memory and seconds of mounts."""
    few = measured(stand, folder(stand, FEW), {})
    many = few if stand.is_quick else measured(stand, folder(stand, MANY), {})
    show(stand, "folder", few, many, {"memory": EACH})


def listed(stand, count, reference, environment):
    with RecordedProcess("listing_stub.py", [str(count)], os.path.join(stand.workspace, "listing.log")) as server:
        return measured(stand, reference, {name: value.format(server.url) for name, value in environment.items()})


def buckets(stand):
    """Buckets of 100,000 and 1,000,000 objects: memory and seconds of mounts."""
    environment = {
        "AWS_ENDPOINT_URL": "{}", "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_REGION": "us-east-1"}
    few = listed(stand, FEW, "s3://many", environment)
    many = few if stand.is_quick else listed(stand, MANY, "s3://many", environment)
    show(stand, "bucket", few, many, {"memory": EACH})


def repositories(stand):
    """Hub repositories of 100,000 and 1,000,000 files: memory and seconds of mounts."""
    few = listed(stand, FEW, "hf://many/files", {"HF_ENDPOINT": "{}"})
    many = few if stand.is_quick else listed(stand, MANY, "hf://many/files", {"HF_ENDPOINT": "{}"})
    show(stand, "repository of the Hub", few, many, {
        "memory": ("<= 200 bytes, <= 300 MiB", lambda each, most: each <= 200 and most <= 300 * MIB),
        "seconds": ("second <= 2 s", lambda second: second <= 2)})


ROWS = {"tree-folder": folders, "tree-bucket": buckets, "tree-hub": repositories}
