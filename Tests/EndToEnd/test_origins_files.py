"""Folders, HTTP servers and S3 servers, and several of them in one mount."""

import os
import subprocess

import pytest

import mcfs as mcfs_helper
import trees

pytestmark = pytest.mark.usefixtures("fuse")


def read(path):
    with open(path, "rb") as file:
        return file.read()


def cat(path):
    """Reads in a process of its own. - Returns: the bytes, and the exit code."""
    result = subprocess.run(["cat", path], capture_output=True, timeout=120)
    return result.stdout, result.returncode


def first_bytes(path):
    """The first page alone: one read of a buffered file takes a block of the file system, far more, and begins the
    read-ahead, which may have the whole file before the test has changed it."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return os.pread(descriptor, 4096, 0)
    finally:
        os.close(descriptor)


# Folders

def test_a_folder_is_itself(mcfs, sample_tree):
    trees.compare(sample_tree, mcfs.mount(sample_tree))


def test_several_references_merge_and_the_later_one_wins(mcfs, tmp_path):
    trees.write(f"{tmp_path}/a/both/x", b"a")
    trees.write(f"{tmp_path}/a/both/only-a", b"a")
    trees.write(f"{tmp_path}/b/both/x", b"b")
    trees.write(f"{tmp_path}/c/deep", b"c")
    mountpoint = mcfs.mount(f"{tmp_path}/a", f"{tmp_path}/b", f"sub/dir={tmp_path}/c")
    assert read(f"{mountpoint}/both/x") == b"b"
    assert read(f"{mountpoint}/both/only-a") == b"a"
    assert read(f"{mountpoint}/sub/dir/deep") == b"c"


def test_a_file_that_changed_after_the_mount_fails_rather_than_mix(mcfs, tmp_path):
    trees.write(f"{tmp_path}/a/x", trees.seeded(1, 3_000_000))
    mountpoint = mcfs.mount(f"{tmp_path}/a")
    trees.write(f"{tmp_path}/a/x", trees.seeded(2, 3_000_000), time=5_000_000_000)
    _, code = cat(f"{mountpoint}/x")
    assert code != 0


# HTTP

@pytest.fixture
def web(nginx, tmp_path):
    """A folder below nginx's root."""
    name = tmp_path.name
    trees.make_plain(f"{nginx.root}/{name}")
    return f"{nginx.root}/{name}", name


def test_an_index_page_is_a_folder(mcfs, nginx, web):
    folder, name = web
    trees.make_named(folder)
    # nginx lists no hidden files.
    os.remove(f"{folder}/names/.hidden")
    trees.compare(folder, mcfs.mount(f"{nginx.url}/files/{name}/"), modes=False, times=False)


def test_one_file_is_one_file(mcfs, nginx, web):
    folder, name = web
    mountpoint = mcfs.mount(f"{nginx.url}/files/{name}/model-00001-of-00002.safetensors")
    assert os.listdir(mountpoint) == ["model-00001-of-00002.safetensors"]
    assert read(f"{mountpoint}/{os.listdir(mountpoint)[0]}") == read(f"{folder}/model-00001-of-00002.safetensors")


def test_a_server_without_ranges_is_streamed_once(mcfs, nginx, web, fault_proxy):
    folder, name = web
    proxy = fault_proxy(nginx.url)
    mountpoint = mcfs.mount(f"{proxy.url}/whole/{name}/model-00001-of-00002.safetensors")
    path = f"{mountpoint}/model-00001-of-00002.safetensors"
    with open(path, "rb") as file:
        file.seek(5_000_000)
        assert file.read(10) == read(f"{folder}/model-00001-of-00002.safetensors")[5_000_000:5_000_010]
    assert read(path) == read(f"{folder}/model-00001-of-00002.safetensors")
    whole = [entry for entry in proxy.requests if entry["method"] == "GET" and entry["bytes"] >= trees.BIG_BYTES]
    assert len(whole) == 1


def test_pythons_file_server_is_a_folder_too(mcfs, web):
    folder, _ = web
    server = subprocess.Popen(
        ["python3", "-u", "-m", "http.server", "--bind", "127.0.0.1", "--directory", folder, "0"],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        port = server.stdout.readline().split(" port ")[1].split()[0]
        trees.compare(folder, mcfs.mount(f"http://127.0.0.1:{port}/"), modes=False, times=False)
    finally:
        server.kill()
        server.wait()


def test_a_file_that_is_replaced_at_the_server_fails_rather_than_mix(mcfs, nginx, web):
    folder, name = web
    mountpoint = mcfs.mount(f"{nginx.url}/files/{name}/")
    path = "model-00001-of-00002.safetensors"
    old = read(f"{folder}/{path}")
    assert first_bytes(f"{mountpoint}/{path}") == old[:4096]
    trees.write(f"{folder}/{path}", trees.seeded(99, trees.BIG_BYTES), time=1_800_000_000_000_000_000)
    content, code = cat(f"{mountpoint}/{path}")
    assert code != 0 and old.startswith(content)
    assert mcfs.status()["mounts"][0]["state"] == "degraded"


def test_a_password_in_the_url_is_used_and_shown_nowhere(mcfs, nginx, web):
    folder, name = web
    url = nginx.url.replace("http://", "http://reader:pass@")
    mountpoint = mcfs.mount(f"{url}/secret/{name}/")
    assert read(f"{mountpoint}/config.json") == read(f"{folder}/config.json")
    said = mcfs.run("status", json=True).stdout + read(os.path.join(mcfs.cache, "daemon.log")).decode()
    assert "reader:pass" not in said and "/secret/" in said


def test_an_http_server_that_is_not_there_is_said(mcfs, nginx):
    mcfs.run("mount", f"{nginx.url}/files/nothing.bin", mcfs.new_mountpoint(), code=mcfs_helper.NOT_FOUND)
    mcfs.run("mount", "http://127.0.0.1:1/x", mcfs.new_mountpoint(), code=mcfs_helper.UNAVAILABLE)


# S3

@pytest.fixture(params=["weed", "rclone"])
def bucket(request, weed_s3, rclone_s3, mcfs, tmp_path):
    server = {"weed": weed_s3, "rclone": rclone_s3}[request.param]
    mcfs.environment.update(server.environment)
    name = "b" + "".join(character for character in tmp_path.name.lower() if character.isalnum())[-40:]
    client = server.client()
    client.create_bucket(Bucket=name)
    return name, client


def fill(client, bucket, folder, prefix=""):
    for parent, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(parent, name)
            client.put_object(Bucket=bucket, Key=prefix + os.path.relpath(path, folder), Body=read(path))


def test_a_bucket_is_the_tree_that_was_put_there(mcfs, bucket, tmp_path):
    name, client = bucket
    folder = trees.make_plain(tmp_path / "tree", big_bytes=3_000_000)
    fill(client, name, folder, "models/one/")
    trees.compare(folder, mcfs.mount(f"s3://{name}/models/one"), modes=False, times=False)
    single = mcfs.mount(f"s3://{name}/models/one/config.json")
    assert read(f"{single}/config.json") == read(f"{folder}/config.json")


def test_an_object_that_is_replaced_fails_rather_than_mix(mcfs, bucket):
    name, client = bucket
    old = trees.seeded(1, 9_000_000)
    client.put_object(Bucket=name, Key="x", Body=old)
    mountpoint = mcfs.mount(f"s3://{name}")
    assert first_bytes(f"{mountpoint}/x") == old[:4096]
    client.put_object(Bucket=name, Key="x", Body=trees.seeded(2, 9_000_000))
    content, code = cat(f"{mountpoint}/x")
    assert code != 0 and old.startswith(content)


def test_s3_errors_are_said(mcfs, weed_s3):
    mcfs.environment.update(weed_s3.environment)
    mcfs.run("mount", "s3://no-such-bucket", mcfs.new_mountpoint(), code=mcfs_helper.NOT_FOUND)
    weed_s3.client().create_bucket(Bucket="refused")
    result = mcfs.run(
        "mount", "s3://refused", mcfs.new_mountpoint(), code=mcfs_helper.UNAUTHORIZED,
        environment={"AWS_SECRET_ACCESS_KEY": "not the key"})
    assert "not the key" not in result.stderr


def test_a_listing_of_many_pages_is_whole(mcfs, weed_s3):
    mcfs.environment.update(weed_s3.environment)
    client = weed_s3.client()
    client.create_bucket(Bucket="many")
    for index in range(1050):
        client.put_object(Bucket="many", Key=f"d{index % 10}/{index:05}", Body=b"%d" % index)
    mountpoint = mcfs.mount("s3://many")
    assert sum(len(names) for _, _, names in os.walk(mountpoint)) == 1050
