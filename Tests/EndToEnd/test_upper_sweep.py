"""What a failing disk of the upper leaves of a writable mount; see upper_sweep.py for every call of it."""

import argparse
import os

import pytest

import mcfs as mcfs_helper
import upper_sweep

EVERY = int(os.environ.get("MCFS_UPPER_SWEEP_EVERY", 40))


def check(capsys, calls=None, **options):
    options = {"every": 1, "seed": 7, "fault": None, "script": None, "at": None, "jobs": 2} | options
    sweep = upper_sweep.Sweep(argparse.Namespace(**options))
    try:
        assert sweep.run(calls) == 0, capsys.readouterr().out
    finally:
        sweep.close()


@pytest.mark.parametrize("fault", upper_sweep.FAULTS)
def test_a_call_on_the_upper_that_fails_fails_one_operation_and_nothing_else(fuse, capsys, fault):
    check(capsys, every=EVERY, fault=[fault])


@pytest.mark.parametrize("calls", ["open", "pread", "stat"])
def test_a_mount_that_fails_leaves_what_is_remembered(fuse, capsys, calls):
    """The first calls are those of the mount itself."""
    check(capsys, calls, fault=["EIO once"], script=["everything"], at=[1, 2, 3, 4])


def test_what_is_done_after_a_log_could_not_be_written_anew_is_remembered(fuse, capsys):
    check(capsys, fault=["EIO once"], script=["long"])


def test_what_is_done_after_a_mount_finished_a_rename_is_remembered(fuse, capsys):
    check(capsys, every=3, fault=["death"], script=["back"])


def test_a_rename_that_the_disk_refuses_is_not_done_by_the_next_mount(fuse, capsys):
    check(capsys, every=2, fault=["death"], script=["refused"])


def test_a_log_of_another_version_is_refused_and_stays(fuse, mcfs, tmp_path, sample_tree):
    changes = tmp_path / "upper/.mcfs-upper/changes"
    changes.parent.mkdir(parents=True)
    changes.write_text("mcfs-upper 999\n")
    mcfs.mount(sample_tree, options=("--upper", tmp_path / "upper"), code=mcfs_helper.CONFIGURATION)
    assert changes.read_text() == "mcfs-upper 999\n"
