"""What is left of the cache when its disk's power is cut. Only root can make a disk; see power_cut.py for more rounds."""

import os

import pytest

import power_cut

pytestmark = pytest.mark.usefixtures("fuse")

ROUNDS = int(os.environ.get("MCFS_POWER_CUT_ROUNDS", 24))


def check(tmp_path, **options):
    counts, violations = power_cut.run(str(tmp_path), seed=7, **options)
    assert not violations, f"{dict(counts)}\n" + "\n".join(violations)
    assert counts["rounds"] and counts["compared"]
    return counts


@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_no_power_cut_brings_a_wrong_byte_or_forgets_what_was_written_down(tmp_path, kind):
    assert check(tmp_path, kind=kind, rounds=ROUNDS)["local"]


@pytest.mark.parametrize("scenario", power_cut.SCENARIOS)
def test_the_cache_survives(tmp_path, scenario):
    counts = check(tmp_path, kind="ext4", jobs=1, scenario=power_cut.SCENARIOS[scenario])
    # A content whose sync failed is thrown away.
    assert counts["local"] or scenario == "fsyncs that fail"
