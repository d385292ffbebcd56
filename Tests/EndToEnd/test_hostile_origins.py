"""Origins that lie; see hostile_origins.py for all of its cases."""

import os

import hostile_origins

EVERY = int(os.environ.get("MCFS_HOSTILE_EVERY", 60))
# What ended the daemon, or took its memory.
ALWAYS = (
    "index variant = 'v-9223372036854775808' of amd64", "layers.1.size = 9223372036854775807", "layers.2.size = 9223372036854775807",
    "Size = 9223372036854775807", "sizes whose sum is more than 2^64", f"a hundred kernels of {2**46}",
    "object: Content-Range: 'bytes 0-0/18446744073709551615'", "layer zstd window 41", "layer zstd bomb", "layer one name often",
    "listing: body tags", "listing: body deep link", "one layer 20000 times")


def test_no_lie_of_an_origin_ends_the_daemon_or_reaches_the_readers_of_another(fuse, capsys, tmp_path):
    cases = hostile_origins.table()
    names = {case.name for case in cases}
    missing = [name for name in ALWAYS if name not in names]
    assert not missing, missing
    quick = [case for case in cases if not case.is_slow]
    chosen = [case for case in quick if case.name in ALWAYS and case.protocol != "layout"] + quick[::EVERY]
    chosen += [case for case in hostile_origins.generated(100, seed=1)][::20]
    trial = hostile_origins.Trial(jobs=8, directory=tmp_path)
    try:
        assert trial.run(chosen) == 0, capsys.readouterr().out
        assert trial.counts["reads of the other mount"] > 0 and trial.counts["digests compared"] > 0
    finally:
        trial.close()
