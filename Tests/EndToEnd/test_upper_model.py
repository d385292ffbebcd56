"""A writable mount beside a plain directory: the same operations have the same results, whoever kills the daemon."""

import os

import pytest

from crash_model import CrashModel, KillableMount, is_done_in_part
from posix_model import (
    RENAME_NOREPLACE, Mismatch, Model, Mount, Tree, copy_over, lacking, make_lower, snapshot_differences)

SEEDS = int(os.environ.get("MCFS_MODEL_SEEDS", 3))
OPERATIONS = int(os.environ.get("MCFS_MODEL_OPERATIONS", 2500))
ROUNDS = int(os.environ.get("MCFS_CRASH_ROUNDS", 10))


# What a tree does not have, and what it counts in its own way: attributes; names of a file that stand on both sides.
NOT_OF_A_TREE = {"attributes", "links"}


class WritableMount(KillableMount):
    """A lower tree mounted on an upper directory; it is mounted when it is made."""

    def __init__(self, mcfs, lower, path, upper):
        super().__init__(path, upper, lower)
        self.mcfs = mcfs
        self.options = () if upper == path else ("--upper", upper)
        self.start()

    def start(self):
        self.mcfs.mount(self.lower, at=self.path, options=self.options)

    def stop(self):
        self.mcfs.umount(self.path)

    def daemons(self):
        return self.mcfs.daemon_pids

    def wait_killed(self):
        self.mcfs.wait_daemon_gone()


@pytest.fixture(params=["on-its-mountpoint", "elsewhere"])
def writable(request, fuse, mcfs, tmp_path):
    """Mounts for a seed: `writable(seed)` is the reference and the mount. One kind of upper is the directory of the mountpoint,
    with files in it; the other is a directory of its own that is empty at first."""

    def make(seed):
        path = mcfs.new_mountpoint()
        is_on_mountpoint = request.param == "on-its-mountpoint"
        # A file below that keeps some of its names and loses others to the upper may count its names either way.
        lower = make_lower(str(tmp_path / "lower"), seed, hard_links=not is_on_mountpoint)
        reference = copy_over(lower, str(tmp_path / "reference"))
        upper = path if is_on_mountpoint else str(tmp_path / "upper")
        if is_on_mountpoint:
            make_lower(upper, seed + 1000, entries=20, big_bytes=200_000)
        else:
            os.mkdir(upper)
        # The root itself is the upper's in any case.
        copy_over(upper, reference)
        return reference, WritableMount(mcfs, lower, path, upper)

    return make


@pytest.mark.parametrize("seed", range(1, SEEDS + 1))
def test_random_operations_match_a_plain_directory(writable, seed):
    reference, mount = writable(seed)
    model = Model(reference, mount, seed, without=lacking(mount.path))
    model.run(OPERATIONS, remount_every=500)
    model.remount()
    model.close()
    mount.stop()
    # What was written, with what is remembered of the tree below it, is a tree like any other.
    again = mount.mcfs.mount(mount.lower, mount.upper, options=["--read-only"])
    seen = Tree(again, model.reference.started).snapshot()
    assert not snapshot_differences(seen, model.reference.snapshot(), lambda path: NOT_OF_A_TREE | model.ignore)


def test_a_killed_daemon_loses_nothing_that_was_acknowledged(writable):
    reference, mount = writable(7)
    model = CrashModel(reference, mount, seed=7, without=lacking(mount.path))
    model.run(ROUNDS)


# The model itself


class ForgetfulTree(Tree):
    def chmod(self, target, mode):
        os.stat(self.at(target))


class CutTree(Tree):
    def write(self, target, offset, data, flags):
        written = super().write(target, offset, data, flags)
        status = os.stat(self.at(target))
        if written and status.st_size > offset + written > 4096:
            os.truncate(self.at(target), offset + written)
        return written


class LaxTree(Tree):
    def rename(self, path, new, flags):
        super().rename(path, new, flags & ~RENAME_NOREPLACE)


class CopyingTree(Tree):
    """Makes a copy where a link is wanted."""

    def link(self, path, new):
        if os.path.isfile(self.at(path)) and not os.path.islink(self.at(path)) and not os.path.lexists(self.at(new)):
            with open(self.at(new), "xb") as file:
                file.write(self.content(path))
        else:
            super().link(path, new)


@pytest.fixture
def plain(tmp_path):
    """A directory that is a copy of another."""
    lower = make_lower(str(tmp_path / "lower"), 1)
    return copy_over(lower, str(tmp_path / "reference")), copy_over(lower, str(tmp_path / "copy"))


def test_a_directory_matches_itself(plain):
    reference, copy = plain
    Model(reference, Mount(copy), 1).run(1000)


@pytest.mark.parametrize(("tree", "what"), [
    (ForgetfulTree, "mode is"), (CutTree, "size is"), (LaxTree, "not EEXIST"), (CopyingTree, "links is")])
def test_the_model_notices_a_deviation(plain, tree, what):
    reference, copy = plain
    with pytest.raises(Mismatch, match=what) as caught:
        Model(reference, Mount(copy), 1, tree=tree).run(2000)
    assert "of seed 1" in str(caught.value)


def test_the_model_repeats_itself(plain, tmp_path):
    reference, copy = plain
    again = copy_over(copy, str(tmp_path / "again"))
    first, second = Model(reference, Mount(copy), 5), Model(again, Mount(again), 5)
    first_operations = []
    for _ in range(500):
        first.step()
        first_operations.append(first.history[-1].split(" → ")[0])
    for expected in first_operations:
        operation = second.generator.next()
        second.number += 1
        second.reference.apply(operation)
        assert f"{second.number}: {operation}" == expected
    first.close()
    second.close()


@pytest.mark.parametrize("operation", ["write", "map_write"])
def test_a_write_that_was_cut_short_is_a_beginning(operation):
    old, new = b"a" * 20_000, b"b" * 20_000
    assert is_done_in_part(operation, new[:4096] + old[4096:], old, new)
    assert is_done_in_part(operation, new[:8192], b"", new)
    assert is_done_in_part(operation, old[:4096] + new[4096:], old, new) == (operation == "map_write")
    assert not is_done_in_part(operation, b"c" * 20_000, old, new)
    assert not is_done_in_part(operation, new[:4000] + old[4000:], old, new)
    assert not is_done_in_part(operation, new[:8192] + bytes(1000), old, new)
