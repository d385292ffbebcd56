"""What a failing disk of the upper leaves of a writable mount; see upper_sweep.py for every call of it."""

import argparse
import os

import pytest

import mcfs as mcfs_helper
import upper_sweep

EVERY = int(os.environ.get("MCFS_UPPER_SWEEP_EVERY", 24))


@pytest.mark.parametrize("fault", upper_sweep.FAULTS)
def test_a_call_on_the_upper_that_fails_fails_one_operation_and_nothing_else(fuse, capsys, fault):
    sweep = upper_sweep.Sweep(argparse.Namespace(every=EVERY, seed=7, fault=[fault], at=None, jobs=2))
    try:
        assert sweep.run() == 0, capsys.readouterr().out
    finally:
        sweep.close()


@pytest.mark.parametrize("calls", ["open", "pread", "stat"])
def test_a_mount_that_fails_leaves_what_is_remembered(fuse, capsys, calls):
    """The first calls are those of the mount itself."""
    sweep = upper_sweep.Sweep(argparse.Namespace(every=1, seed=7, fault=["EIO once"], at=[1, 2, 3, 4], jobs=2))
    try:
        assert sweep.run(calls) == 0, capsys.readouterr().out
    finally:
        sweep.close()


def test_a_log_of_another_version_is_refused_and_stays(fuse, mcfs, tmp_path, sample_tree):
    changes = tmp_path / "upper/.mcfs-upper/changes"
    changes.parent.mkdir(parents=True)
    changes.write_text("mcfs-upper 2\n")
    mcfs.mount(sample_tree, options=("--upper", tmp_path / "upper"), code=mcfs_helper.CONFIGURATION)
    assert changes.read_text() == "mcfs-upper 2\n"
