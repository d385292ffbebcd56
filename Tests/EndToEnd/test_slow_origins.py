"""Origins that ask to be left alone, that do not answer, or that are slow: who asks again, who waits, and who is told."""

import subprocess
import threading

import pytest

import trees
from servers import moody

pytestmark = pytest.mark.usefixtures("fuse")

KINDS = ["http", "hf", "oci", "s3"]


@pytest.fixture
def origin():
    server = moody.Moody(trees.seeded(5, 3_000_000))
    yield server
    server.mood = None
    server.close()


def cat(path):
    return subprocess.run(["cat", path], capture_output=True, timeout=100)


@pytest.mark.parametrize("kind, mood", [
    ("hf", moody.limited(429, RateLimit='"resolvers";r=0;t=300')), ("http", moody.limited(429, Retry_After=3600)),
    ("oci", moody.limited(429, Retry_After=3600)), ("s3", moody.limited(503, Retry_After=3600)),
], ids=KINDS[1:2] + KINDS[:1] + KINDS[2:])
def test_an_origin_that_asks_to_be_left_alone_is_left_alone(mcfs, origin, kind, mood):
    reference, environment = origin.reference(kind)
    mountpoint = mcfs.mount("--read-only", reference, environment=environment)
    origin.mood = mood
    for _ in range(3):
        got = cat(f"{mountpoint}/w.bin")
        assert got.returncode != 0 and b"Input/output error" in got.stderr
    # Also by those who come to fetch it by another way, and at once.
    got = mcfs.run("prefetch", mountpoint, code=69)
    assert "asked for no requests before" in got.stderr or "busy" in got.stderr or "limit" in got.stderr
    assert len(origin.asked) <= 3
    assert mcfs.status()["mounts"][0]["state"] == "degraded"
