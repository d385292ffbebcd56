"""Images from layouts and registries, made and pushed by umoci and skopeo."""

import os
import shutil
import subprocess

import pytest

import images
import mcfs as mcfs_helper
import trees

pytestmark = pytest.mark.usefixtures("fuse")


@pytest.fixture(scope="session")
def layered(tmp_path_factory):
    """A layout of two layers and the tree that they make: the upper one removes, replaces and adds."""
    workspace = str(tmp_path_factory.mktemp("layered"))
    lower = trees.make(os.path.join(workspace, "lower"), big_bytes=3_000_000)
    upper = os.path.join(workspace, "upper")
    subprocess.run(["cp", "-a", lower, upper], check=True)
    os.remove(f"{upper}/README.md")
    shutil.rmtree(f"{upper}/many")
    trees.write(f"{upper}/many/other", b"instead\n")
    shutil.rmtree(f"{upper}/tokenizer")
    trees.write(f"{upper}/tokenizer", b"a file now\n")
    trees.write(f"{upper}/config.json", b"{}\n")
    for folder in (lower, upper):
        whole_seconds(folder)
    return images.from_folders(workspace, [lower, upper]), upper


def whole_seconds(folder):
    """umoci rounds times to seconds, up or down."""
    for parent, folders, names in os.walk(os.fsencode(folder), topdown=False):
        for name in folders + names:
            path = os.path.join(parent, name)
            time = os.lstat(path).st_mtime_ns // 1_000_000_000 * 1_000_000_000
            os.utime(path, ns=(time, time), follow_symlinks=False)


def test_an_image_layout_is_the_tree_that_was_packed(mcfs, layered):
    layout, tree = layered
    trees.compare(tree, mcfs.mount(f"oci-layout:{layout}:v1"))


@pytest.mark.parametrize("coding", ["tar", "gzip", "zstd"])
def test_a_registry_image_is_the_tree_that_was_packed(mcfs, layered, registry, coding):
    layout, tree = layered
    reference = images.push(layout, registry, f"trees/{coding}", coding)
    mountpoint = mcfs.mount(f"oci://{reference}")
    trees.compare(tree, mountpoint)
    assert mcfs.status()["mounts"][0]["state"] == "ready"


@pytest.mark.parametrize("coding", ["tar", "gzip"])
def test_a_password_and_signed_urls_of_a_storage_are_used_where_they_belong(mcfs, layered, registry_s3, coding):
    layout, tree = layered
    reference = images.push(layout, registry_s3, f"private/{coding}", coding)
    refused = mcfs.run("mount", f"oci://{reference}", mcfs.new_mountpoint(), code=mcfs_helper.UNAUTHORIZED)
    assert registry_s3.host in refused.stderr
    registry_s3.login(os.path.join(mcfs.home, ".docker"))
    trees.compare(tree, mcfs.mount(f"oci://{reference}"))
    with open(os.path.join(mcfs.cache, "daemon.log")) as log:
        said = log.read()
    assert registry_s3.password not in said and "X-Amz-Signature" not in said


def test_the_second_mount_of_a_digest_asks_for_no_layer(mcfs, layered, registry, fault_proxy):
    layout, tree = layered
    images.push(layout, registry, "again/zstd", "zstd")
    proxy = fault_proxy(registry.url)
    mcfs.umount(mcfs.mount(f"oci://{proxy.host}/again/zstd:v1"))
    proxy.fault({"kind": "status", "status": 404, "match": "/blobs/"})
    mountpoint = mcfs.mount(f"oci://{proxy.host}/again/zstd:v1")
    subprocess.run(["ls", "-lR", mountpoint], check=True, capture_output=True)
    origin = mcfs.status()["mounts"][0]["origin"]
    assert origin["requests"] == origin["treeRequests"] and origin["treeBytes"] < 100_000
    proxy.heal()
    trees.compare(tree, mountpoint)


def test_single_file_layers_are_files(mcfs, tmp_path):
    layout = images.Layout(tmp_path / "artifact")
    weights = trees.seeded(5, 2_500_000)
    raw = "application/vnd.cncf.model.weight.v1.raw"
    reference = layout.image([
        layout.blob(weights, raw, annotations={"org.cncf.model.filepath": "sub/model.safetensors"}),
        # ORAS calls plain files tar layers.
        layout.blob(b"{}\n", images.LAYER, annotations={"org.opencontainers.image.title": "config.json"}),
    ], artifactType="application/vnd.cncf.model.manifest.v1+json")
    mountpoint = mcfs.mount(reference)
    with open(f"{mountpoint}/sub/model.safetensors", "rb") as file:
        assert file.read() == weights
    with open(f"{mountpoint}/config.json", "rb") as file:
        assert file.read() == b"{}\n"


def test_an_image_with_kernel_cache_labels_is_its_payload(mcfs, tmp_path):
    layout = images.Layout(tmp_path / "mcv")
    data = images.tar(("io.triton.cache/ABC/add.cubin", b"\x7fELF"), ("io.triton.manifest/manifest.json", b"{}"))
    labels = {"cache.triton.image/summary": '{"targets":[]}', "cache.triton.image/entry-count": "1"}
    reference = layout.image([layout.blob(images.gzipped(data), images.LAYER + "+gzip")], labels=labels)
    mountpoint = mcfs.mount(reference)
    assert os.listdir(mountpoint) == ["ABC"]
    with open(f"{mountpoint}/ABC/add.cubin", "rb") as file:
        assert file.read() == b"\x7fELF"


def test_what_is_missing_is_said(mcfs, layered, registry):
    layout, _ = layered
    images.push(layout, registry, "there", "gzip")
    for reference, code, word in [
        (f"oci://{registry.host}/there:v9", mcfs_helper.NOT_FOUND, "v9"),
        (f"oci://{registry.host}/nowhere:v1", mcfs_helper.NOT_FOUND, "nowhere"),
        ("oci://127.0.0.1:1/there:v1", mcfs_helper.UNAVAILABLE, "127.0.0.1:1"),
        (f"oci-layout:{layout}:v9", mcfs_helper.NOT_FOUND, "v9"),
        ("oci-layout:/nowhere", mcfs_helper.NOT_FOUND, "/nowhere"),
    ]:
        mountpoint = mcfs.new_mountpoint()
        result = mcfs.run("mount", reference, mountpoint, code=code)
        assert word in result.stderr and len(result.stderr.strip().splitlines()) == 1, result.stderr
        assert not mcfs_helper.is_mounted(mountpoint)
