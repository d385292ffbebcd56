"""What is left of a writable mount when the power of its upper's disk is cut. Only root can make a disk; see
upper_power_cut.py for more rounds."""

import os

import pytest

import upper_power_cut
from posix_model import Data, Tree
from tree_history import History
from upper_power_cut import operation

ROUNDS = int(os.environ.get("MCFS_POWER_CUT_ROUNDS", 24))


def check(tmp_path, **options):
    counts, violations = upper_power_cut.run(str(tmp_path), seed=7, **options)
    assert not violations, f"{dict(counts)}\n" + "\n".join(violations)
    assert counts["rounds"] and counts["checked"]


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_what_a_power_cut_leaves_is_a_moment_of_the_past(fuse, tmp_path, kind, threads):
    check(tmp_path, kind=kind, rounds=ROUNDS, threads=threads)


@pytest.mark.parametrize("scenario", upper_power_cut.SCENARIOS)
@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_a_power_cut_after(fuse, tmp_path, kind, scenario):
    check(tmp_path, kind=kind, rounds=1, jobs=1, scenario=scenario)


# The rule itself


@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_the_rule_is_what_the_disk_keeps(tmp_path, kind):
    check(tmp_path, kind=kind, rounds=ROUNDS, plain=True)


@pytest.fixture
def history(tmp_path):
    """The history of a few operations, and a tree that is like its end."""
    trees = [Tree(tmp_path / name) for name in ("reference", "seen")]
    for tree in trees:
        os.mkdir(tree.root)
        tree.write("old", 0, Data(1, 3000), os.O_CREAT)
    history, seen = History(trees[0]), trees[1]
    for each in (operation("write", "new", 0, Data(2, 2000), os.O_CREAT), operation("sync", "new", False),
                 operation("rename", "new", "old", 0), operation("mkdir", "folder", 0o755)):
        history.apply(each)
        seen.apply(each)
        if each.name == "sync":
            history.acknowledge(each)
    return history, seen


def test_each_moment_since_the_last_sync_explains_a_tree(history):
    history, seen = history
    assert history.bound == 1
    assert history.explain(seen)[:2] == (None, 4)
    os.rmdir(seen.at("folder"))
    assert history.explain(seen)[:2] == (None, 3)


@pytest.mark.parametrize(("change", "kind"), [
    (lambda seen: (os.unlink(seen.at("old")), os.rmdir(seen.at("folder"))), "names"),
    (lambda seen: os.mkdir(seen.at("other")), "names"),
    (lambda seen: os.chmod(seen.at("folder"), 0o700), "attributes"),
    (lambda seen: os.truncate(seen.at("old"), 0), "content"),
    (lambda seen: seen.write("old", 0, Data(1, 3000), 0), "content"),
    (lambda seen: (seen.write("old", 0, Data(1, 3000), 0), os.rmdir(seen.at("folder"))), "forgotten"),
    (lambda seen: (os.rmdir(seen.at("folder")), seen.write("old", 0, Data(3, 3000), os.O_TRUNC)), "content"),
])
def test_what_never_was_is_told(history, change, kind):
    history, seen = history
    change(seen)
    assert history.explain(seen).kind == kind


def test_what_was_answered_for_and_is_gone_is_told(history):
    history, seen = history
    history.acknowledge_all(*history.mark())
    os.rmdir(seen.at("folder"))
    assert history.explain(seen).kind == "forgotten"


def test_of_what_was_not_synced_each_block_may_be_of_any_time(tmp_path):
    trees = [Tree(tmp_path / name) for name in ("reference", "seen")]
    for tree in trees:
        os.mkdir(tree.root)
        tree.write("a", 0, Data(1, 5000), os.O_CREAT)
    history, seen = History(trees[0]), trees[1]
    history.apply(operation("write", "a", 0, Data(2, 9000), 0))
    with open(seen.at("a"), "r+b") as file:
        file.write(Data(2, 9000).bytes[:1024])
    assert history.explain(seen).kind is None
    os.truncate(seen.at("a"), 7000)
    assert history.explain(seen).kind is None
    with open(seen.at("a"), "r+b") as file:
        file.write(b"wrong")
    assert history.explain(seen).kind == "content"
    os.truncate(seen.at("a"), 4000)
    assert history.explain(seen).kind == "content"
