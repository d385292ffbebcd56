"""Origins that ask to be left alone, that do not answer, or that are slow: who asks again, who waits, and who is told."""

import signal
import subprocess
import threading
import time

import pytest

import mcfs as mcfs_helper
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


@pytest.fixture
def hanging(origin):
    """It accepts requests for content and does not answer until it is released."""
    release = threading.Event()
    origin.mood = moody.silent(release)
    yield release
    release.set()


def wait_for(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return value


def test_status_and_log_tell_who_waits_for_a_hanging_origin(mcfs, origin, hanging):
    reference, environment = origin.reference("hf")
    mountpoint = mcfs.mount("--read-only", "--read-deadline", "3", reference, environment=environment)
    reader = subprocess.Popen(["cat", f"{mountpoint}/w.bin"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        waiting = wait_for(lambda: mcfs.status()["mounts"][0]["waiting"])[0]
        assert waiting["path"] == "w.bin" and waiting["pid"] == reader.pid and waiting["seconds"] >= 1
        assert f"process {reader.pid}" in mcfs.run("status").stdout
        assert reader.wait(60) != 0
    finally:
        reader.kill()
        reader.wait()
    mount = mcfs.status()["mounts"][0]
    assert mount["state"] == "degraded" and origin.host in mount["problems"][0] and mount["waiting"] == []
    assert f'mcfs_mount_ready{{mountpoint="{mountpoint}"}} 0' in metrics(mcfs)
    with open(f"{mcfs.cache}/daemon.log") as log:
        assert any("op=read" in line and "path=w.bin" in line for line in log)
    hanging.set()
    wait_for(lambda: cat(f"{mountpoint}/w.bin").stdout == origin.data)
    assert mcfs.status()["mounts"][0]["state"] == "ready"


def test_a_prefetch_tells_what_it_waits_for_and_gives_up(mcfs, origin, hanging):
    reference, environment = origin.reference("oci")
    # Its range is asked for anew every two seconds.
    result = mcfs.run("prefetch", "--json", "--stall-timeout", "7", reference, code=69,
                      environment=environment | {"MCFS_READ_DEADLINE": "2"})
    lines = result.json_lines
    assert any(line["phase"].startswith(f"waiting for {origin.host}") for line in lines[:-1])
    assert [line for line in lines if "done" in line] == lines[-1:]
    assert lines[-1]["done"] is True and "no bytes came for 7 s" in lines[-1]["error"]["message"]
    hanging.set()
    assert mcfs.prefetch(reference, environment=environment)["bytes"] == len(origin.data)


def test_work_in_the_background_is_listed_waited_for_and_ended(mcfs, origin, hanging):
    reference, environment = origin.reference("s3")
    number = mcfs.prefetch("--background", reference, environment=environment)["job"]
    [job] = mcfs.run("jobs", json=True).json["jobs"]
    assert job["id"] == number and job["kind"] == "prefetch" and job["target"] == reference
    assert reference in mcfs.run("jobs").stdout
    waiting = mcfs.start("jobs", "--wait", str(number))
    mcfs.run("jobs", "--cancel", str(number))
    assert waiting.wait(60) == 1
    assert mcfs.run("jobs", json=True).json["jobs"] == []
    mcfs.run("jobs", "--cancel", "1000", code=66)

    # What a mount fetches ahead ends with it.
    mountpoint = mcfs.mount("--prefetch", "all", "--read-only", reference, environment=environment)
    assert [job["target"] for job in mcfs.run("jobs", json=True).json["jobs"]] == [mountpoint]
    mcfs.umount(mountpoint)
    wait_for(lambda: mcfs.run("jobs", json=True).json["jobs"] == [])


def test_a_mount_can_wait_for_its_prefetch_and_is_not_there_where_that_fails(mcfs, origin):
    reference, environment = origin.reference("http")
    origin.mood = moody.limited(503, Retry_After=3600)
    mountpoint = mcfs.mount("--prefetch", "all", "--wait", "--read-only", reference, environment=environment, code=69)
    assert not mcfs_helper.is_mounted(mountpoint)
    mcfs.kill_daemon(signal.SIGTERM)
    origin.mood = None
    mcfs.mount("--prefetch", "all", "--wait", "--read-only", reference, at=mountpoint, environment=environment)
    [mount] = mcfs.status()["mounts"]
    assert mount["references"][0]["bytesLocal"] == len(origin.data)
    # Where the reference leads and what is there had to be asked as well.
    assert mount["origin"]["treeRequests"] >= 2 and mount["origin"]["treeBytes"] > 0
    assert mount["origin"]["requests"] > mount["origin"]["treeRequests"]
    assert mount["origin"]["bytes"] >= len(origin.data) + mount["origin"]["treeBytes"]
    text = metrics(mcfs)
    assert f'mcfs_origin_received_bytes_total{{kind="content"}} {len(origin.data)}' in text
    assert f'mcfs_origin_requests_total{{kind="tree"}} {mount["origin"]["treeRequests"]}' in text


def metrics(mcfs):
    return subprocess.run(
        ["curl", "-s", "--unix-socket", f"{mcfs.cache}/control.sock", "http://localhost/metrics"], capture_output=True, text=True,
        check=True).stdout


@pytest.mark.parametrize("command", ["mount", "ls", "prefetch"])
@pytest.mark.parametrize("kind", ["http", "hf"])
def test_a_listing_that_is_given_up_ends_while_its_origin_hangs(
        mcfs, nginx, hub, fault_proxy, tmp_path, kind, command):
    if kind == "http":
        trees.write(f"{nginx.root}/{tmp_path.name}/sub/file", b"x")
        proxy = fault_proxy(nginx.url)
        reference, match = f"{proxy.url}/files/{tmp_path.name}/", "/sub/"
    else:
        proxy = fault_proxy(hub.url)
        mcfs.environment |= {"HF_ENDPOINT": proxy.url}
        reference, match = "hf://org/many", "/tree/"
    proxy.fault({"kind": "stall", "match": match})
    running = mcfs.start(command, reference, *([mcfs.new_mountpoint()] if command == "mount" else []))
    wait_for(lambda: any(match in entry["path"] for entry in proxy.requests))
    started = time.monotonic()
    running.send_signal(signal.SIGINT)
    assert running.wait(30) in (130, -signal.SIGINT)
    # It would hang for as long as a listing may take.
    wait_for(lambda: not mcfs.status()["jobs"], seconds=10)
    print(f"{command} of {kind}, listing, interrupted: over after {time.monotonic() - started:.2f} s")
