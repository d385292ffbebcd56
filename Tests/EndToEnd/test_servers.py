"""Each server of the end-to-end tests works with its own clients, and misbehaves as asked."""

import http.client
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest
from botocore.exceptions import ClientError

import mcfs as mcfs_helper
import trees
from servers import nginx as nginx_server
from servers.process import find
from servers.registry import push_folder, run


def get(url, **headers):
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=20) as response:
            return response.status, response.headers, response.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()


# S3

def test_weed_checks_keys_ranges_and_versions(weed_s3):
    client = weed_s3.client()
    client.create_bucket(Bucket="judge")
    data = trees.seeded(1, 300_000)
    etag = client.put_object(Bucket="judge", Key="folder/räksmörgås x.bin", Body=data)["ETag"]
    answer = client.get_object(Bucket="judge", Key="folder/räksmörgås x.bin", Range="bytes=1000-1999", IfMatch=etag)
    assert answer["Body"].read() == data[1000:2000]
    with pytest.raises(ClientError) as refused:
        client.get_object(Bucket="judge", Key="folder/räksmörgås x.bin", IfMatch='"other"')
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 412
    assert [item["Key"] for item in client.list_objects_v2(Bucket="judge")["Contents"]] == ["folder/räksmörgås x.bin"]
    assert get(f"{weed_s3.url}/judge/folder/x")[0] == 403


def test_rclone_serves_a_folder_and_ignores_if_match(rclone_s3):
    trees.write(f"{rclone_s3.root}/bucket/file.bin", trees.seeded(2, 5000))
    client = rclone_s3.client()
    assert client.head_object(Bucket="bucket", Key="file.bin")["ContentLength"] == 5000
    answer = client.get_object(Bucket="bucket", Key="file.bin", IfMatch='"other"')
    assert answer["Body"].read() == trees.seeded(2, 5000)


def test_signed_requests_pass_the_proxy(weed_s3, fault_proxy):
    weed_s3.client().create_bucket(Bucket="proxied")
    proxy = fault_proxy(weed_s3.url)
    client = weed_s3.client(proxy.url)
    client.put_object(Bucket="proxied", Key="key", Body=b"0123456789")
    proxy.forget()
    assert client.get_object(Bucket="proxied", Key="key", Range="bytes=2-4")["Body"].read() == b"234"
    entry, = proxy.requests
    assert (entry["status"], entry["bytes"], entry["range"], entry["authorized"]) == (206, 3, "bytes=2-4", True)


# Registries

@pytest.fixture
def folder(tmp_path):
    return trees.make_plain(tmp_path / "folder", big_bytes=300_000)


@pytest.fixture
def pulled(tmp_path):
    """Unpacks an image of a registry and returns the folder."""

    def pull(registry, reference):
        layout, target = str(tmp_path / "pulled"), str(tmp_path / "unpacked")
        command = ["skopeo", "--insecure-policy", "copy", "--src-tls-verify=false"]
        if registry.user:
            command += ["--src-creds", f"{registry.user}:{registry.password}"]
        run([*command, f"docker://{reference}", f"oci:{layout}:v1"])
        run(["umoci", "raw", "unpack", "--rootless", "--image", f"{layout}:v1", target])
        return target

    return pull


@pytest.mark.parametrize("fixture", ["registry", "registry_auth", "registry_s3"])
def test_an_image_goes_into_the_registry_and_comes_back(request, fixture, folder, pulled, tmp_path):
    registry = request.getfixturevalue(fixture)
    reference = push_folder(registry, f"team/{fixture.replace('_', '-')}", "v1", folder, str(tmp_path))
    trees.compare(folder, pulled(registry, reference), modes=False, times=False)


def test_a_registry_with_a_password_refuses_strangers(registry_auth):
    status, headers, _ = get(registry_auth.url + "/v2/")
    assert status == 401 and headers["WWW-Authenticate"].startswith("Basic")


def test_a_registry_on_s3_redirects_to_a_signed_url(registry_s3, folder, tmp_path):
    push_folder(registry_s3, "team/redirected", "v1", folder, str(tmp_path))
    login = f"{registry_s3.user}:{registry_s3.password}"
    manifest = run([
        "curl", "-sf", "-u", login, "-H", "Accept: application/vnd.oci.image.manifest.v1+json",
        f"{registry_s3.url}/v2/team/redirected/manifests/v1"])
    digest = json.loads(manifest)["layers"][0]["digest"]
    head = run(["curl", "-s", "-u", login, "-o", "/dev/null", "-w", "%{http_code} %{redirect_url}",
                f"{registry_s3.url}/v2/team/redirected/blobs/{digest}"])
    status, location = head.split(" ", 1)
    assert status == "307" and "X-Amz-Signature=" in location
    assert get(location, Range="bytes=0-9")[0] == 206


# HTTP

@pytest.fixture
def big(nginx):
    data = trees.seeded(3, 2 * 1024 * 1024)
    trees.write(f"{nginx.root}/folder/big.bin", data)
    trees.write(f"{nginx.root}/folder/with space.txt", b"x")
    return data


def test_nginx_serves_ranges_lists_and_passwords(nginx, big):
    status, headers, body = get(f"{nginx.url}/files/folder/big.bin", Range="bytes=5-9")
    assert (status, body) == (206, big[5:10]) and headers["ETag"]
    assert b'href="with%20space.txt"' in get(f"{nginx.url}/files/folder/")[2]
    assert get(f"{nginx.url}/secret/folder/big.bin")[0] == 401
    assert run(["curl", "-sf", "-u", "reader:pass", f"{nginx.url}/secret/folder/with space.txt".replace(" ", "%20")]) == "x"


def test_nginx_without_ranges_answers_200(nginx, big):
    status, _, body = get(f"{nginx.url}/whole/folder/big.bin", Range="bytes=5-9")
    assert (status, body) == (200, big)


def test_nginx_can_be_slow(nginx, big):
    started = time.monotonic()
    assert get(f"{nginx.url}/slow/folder/big.bin", Range=f"bytes=0-{1024 * 1024 - 1}")[2] == big[: 1024 * 1024]
    assert time.monotonic() - started > 0.5 * 1024 * 1024 / nginx_server.SLOW_BYTES_PER_SECOND


# Faults

@pytest.fixture
def proxied(nginx, big, fault_proxy):
    proxy = fault_proxy(nginx.url)
    return proxy, proxy.url + "/files/folder/big.bin"


def test_the_proxy_flips_a_byte_in_every_second_answer(nginx, big, flip_proxy):
    url = flip_proxy(nginx.url).url + "/files/folder/big.bin"
    answers = [get(url)[2] for _ in range(4)]
    assert answers[0] == answers[2] == big
    for answer in (answers[1], answers[3]):
        assert len(answer) == len(big) and sum(a != b for a, b in zip(answer, big)) == 1


def test_the_proxy_counts_requests_and_bytes(proxied):
    proxy, url = proxied
    get(url, Range="bytes=0-9")
    get(url, Range="bytes=10-29")
    report = proxy.report
    assert (report["count"], report["bytes"]) == (2, 30)
    proxy.forget()
    assert proxy.report["count"] == 0


def test_the_proxy_answers_errors_a_number_of_times(proxied, big):
    proxy, url = proxied
    proxy.fault({"kind": "status", "status": 503, "retry_after": 1, "count": 2})
    answers = [get(url) for _ in range(3)]
    assert [status for status, _, _ in answers] == [503, 503, 200]
    assert answers[0][1]["Retry-After"] == "1" and answers[2][2] == big


@pytest.mark.parametrize("rule", [{"kind": "cut", "after": 1000}, {"kind": "reset", "after": 1000}, {"kind": "length", "delta": 5}])
def test_the_proxy_breaks_bodies(proxied, rule):
    proxy, url = proxied
    proxy.fault(rule)
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        get(url)


def test_the_proxy_lies_about_the_length(proxied, big):
    proxy, url = proxied
    proxy.fault({"kind": "length", "delta": -5})
    assert get(url)[2] == big[:-5]


def test_the_proxy_answers_a_range_with_everything(proxied, big):
    proxy, url = proxied
    proxy.fault({"kind": "whole"})
    status, _, body = get(url, Range="bytes=5-9")
    assert (status, body) == (200, big)


def test_the_proxy_stalls_until_it_is_healed(proxied):
    proxy, url = proxied
    proxy.fault({"kind": "stall", "after": 1000})
    with pytest.raises(TimeoutError):
        with urllib.request.urlopen(url, timeout=0.5) as response:
            response.read()
    proxy.heal()
    assert get(url)[0] == 200


# What the tests themselves rest on

def test_a_tree_equals_its_copy_and_nothing_else(sample_tree, tmp_path):
    copy = tmp_path / "copy"
    subprocess.run(["cp", "-a", sample_tree, copy], check=True)
    trees.compare(sample_tree, copy)
    changes = {
        "bytes": lambda: flip(copy / "model-00001-of-00002.safetensors", 9_000_000),
        "size": lambda: os.truncate(copy / "aligned.bin", 100),
        "mode": lambda: os.chmod(copy / "config.json", 0o600),
        "time": lambda: os.utime(copy / "one.byte", (1, 1)),
        "target": lambda: (os.remove(copy / "unix/soft"), os.symlink("other", copy / "unix/soft")),
        "only in": lambda: os.remove(copy / "README.md"),
    }
    for word, change in changes.items():
        change()
        with pytest.raises(AssertionError, match=word):
            trees.compare(sample_tree, copy)


def flip(path, offset):
    with open(path, "r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 1]))


def test_the_helper_kills_whoever_holds_the_cache(tmp_path):
    script = tmp_path / "mcfs"
    script.write_text(
        f"#!{sys.executable}\nimport fcntl, os, sys, time\nos.makedirs(sys.argv[3])\n"
        "lock = open(sys.argv[3] + '/lock', 'w')\nfcntl.flock(lock, fcntl.LOCK_EX)\ntime.sleep(1000)\n")
    script.chmod(0o755)
    with mcfs_helper.Mcfs(tmp_path / "instance", executable=script) as instance:
        process = instance.start("daemon")
        deadline = time.monotonic() + 10
        while process.pid not in instance.daemon_pids and time.monotonic() < deadline:
            time.sleep(0.01)
        assert process.pid in instance.daemon_pids
        instance.kill_daemon()
        assert process.wait(5) == -9


def test_the_helper_unmounts_what_is_left(fuse, tmp_path):
    with mcfs_helper.Mcfs(tmp_path / "instance", executable=find("true")) as instance:
        mountpoint = instance.new_mountpoint()
        subprocess.run(["mount", "-t", "tmpfs", "none", mountpoint], check=True)
        assert mcfs_helper.is_mounted(mountpoint) and mcfs_helper.mount_kind(mountpoint) == "tmpfs"
    assert not mcfs_helper.is_mounted(mountpoint)
