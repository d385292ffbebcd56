"""How few bytes and requests it takes."""

import os
import subprocess

import pytest

import images
import trees

pytestmark = pytest.mark.usefixtures("fuse")

MIB = 1024 * 1024


def test_the_first_bytes_of_a_large_file_cost_little_and_looking_costs_nothing(mcfs, nginx, fault_proxy, tmp_path):
    folder = f"{nginx.root}/{tmp_path.name}"
    trees.write(f"{folder}/large.bin", b"")
    os.truncate(f"{folder}/large.bin", 1024 * MIB)
    proxy = fault_proxy(nginx.url)
    mountpoint = mcfs.mount(f"{proxy.url}/files/{tmp_path.name}/")
    subprocess.run(["ls", "-lR", mountpoint], check=True, capture_output=True)
    subprocess.run(["find", mountpoint, "-size", "+1"], check=True, capture_output=True)
    origin = mcfs.status()["mounts"][0]["origin"]
    assert origin["bytes"] == origin["treeBytes"]
    subprocess.run(["head", "-c", "4096", f"{mountpoint}/large.bin"], check=True, capture_output=True)
    assert 0 < mcfs.status()["mounts"][0]["origin"]["bytes"] <= 8 * MIB


def test_large_members_of_a_layer_are_not_fetched_to_list_them(mcfs, registry, fault_proxy, tmp_path):
    layout = images.Layout(tmp_path / "image")
    members = [(f"model/part{index}.bin", bytes(8 * MIB)) for index in range(6)] + [("model/config.json", b"{}\n")]
    layout.image([layout.blob(images.tar(*members), images.LAYER)])
    images.push(layout.path, registry, "large", "tar")
    proxy = fault_proxy(registry.url)
    mountpoint = mcfs.mount(f"oci://{proxy.host}/large:v1")
    assert len(os.listdir(f"{mountpoint}/model")) == 7
    assert proxy.bytes <= 2 * MIB
    with open(f"{mountpoint}/model/part3.bin", "rb") as file:
        assert file.read() == bytes(8 * MIB)


def test_sixteen_readers_of_a_cold_file_fetch_it_once(mcfs, nginx, fault_proxy, tmp_path):
    size = 256 * MIB
    folder = f"{nginx.root}/{tmp_path.name}"
    os.makedirs(folder)
    with open(f"{folder}/shared.bin", "wb") as file:
        for index in range(16):
            file.write(trees.seeded(index, size // 16))
    expected = trees.digest(f"{folder}/shared.bin")
    proxy = fault_proxy(nginx.url)
    mountpoint = mcfs.mount(f"{proxy.url}/files/{tmp_path.name}/")
    proxy.forget()
    readers = [
        subprocess.Popen(["sha256sum", f"{mountpoint}/shared.bin"], stdout=subprocess.PIPE, text=True) for _ in range(16)]
    for reader in readers:
        out, _ = reader.communicate(timeout=120)
        assert reader.returncode == 0 and out.split()[0] == expected
    assert proxy.bytes <= 1.05 * size


def test_ten_thousand_small_files_cost_few_requests(mcfs, registry, fault_proxy, tmp_path):
    layout = images.Layout(tmp_path / "image")
    generator = trees.seeded(9, 4096 * 16)
    members = [
        (f"cache/{index % 100:02}/{index:05}.json", generator[index % 4096:index % 4096 + 2000 + index % 4000]) for index in range(10_000)]
    layout.image([layout.blob(images.tar(*members), images.LAYER)])
    images.push(layout.path, registry, "small", "tar")
    proxy = fault_proxy(registry.url)
    mountpoint = mcfs.mount(f"oci://{proxy.host}/small:v1")
    subprocess.run(["cp", "-r", f"{mountpoint}/cache", tmp_path / "copy"], check=True, timeout=120)
    for name, data in members:
        with open(tmp_path / "copy" / name.removeprefix("cache/"), "rb") as file:
            assert file.read() == data
    assert len(proxy.requests) <= 120
