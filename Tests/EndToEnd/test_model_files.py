"""What weight files tell of themselves is used to fetch ahead."""

import json
import os
import struct
import time

import pytest

import trees

pytestmark = pytest.mark.usefixtures("fuse")

MIB = 1 << 20
TENSOR_BYTES = 20 * MIB


def safetensors(seed, tensors=2):
    """A file of the format, and where its data begins."""
    header = json.dumps({
        f"layer.{index}": {"dtype": "U8", "shape": [TENSOR_BYTES], "data_offsets": [index * TENSOR_BYTES, (index + 1) * TENSOR_BYTES]}
        for index in range(tensors)}).encode()
    return struct.pack("<Q", len(header)) + header + trees.seeded(seed, tensors * TENSOR_BYTES), 8 + len(header)


@pytest.fixture
def model(nginx):
    """A folder at a web server: two shards, and the first one under a name that tells nothing."""
    folder = os.path.join(nginx.root, "model")
    first, start = safetensors(1)
    trees.write(f"{folder}/model-00001-of-00002.safetensors", first)
    trees.write(f"{folder}/model-00002-of-00002.safetensors", safetensors(2)[0])
    trees.write(f"{folder}/plain.bin", first)
    return f"{nginx.url}/files/model/", folder, start


def local(mcfs, path):
    return mcfs.ls(path)[0]["bytesLocal"]


def wait_until_local(mcfs, path, count, seconds=20):
    deadline = time.monotonic() + seconds
    while (found := local(mcfs, path)) < count:
        assert time.monotonic() < deadline, f"{found} bytes of {path} are local, not {count}"
        time.sleep(0.05)


def read(path, offset, count):
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return os.pread(descriptor, count, offset)
    finally:
        os.close(descriptor)


def test_the_beginning_of_a_tensor_brings_the_rest_of_it(mcfs, model):
    url, folder, start = model
    mountpoint = mcfs.mount(url)
    shard, plain = f"{mountpoint}/model-00001-of-00002.safetensors", f"{mountpoint}/plain.bin"
    offset = start + TENSOR_BYTES
    descriptors = [os.open(path, os.O_RDONLY) for path in (shard, plain)]
    for descriptor in descriptors:
        with open(f"{folder}/plain.bin", "rb") as file:
            assert os.pread(descriptor, 8, 0) == file.read(8)
            # The header is understood a moment after its reader has it.
            time.sleep(0.5)
            file.seek(offset)
            assert os.pread(descriptor, 4096, offset) == file.read(4096)
    wait_until_local(mcfs, shard, TENSOR_BYTES)
    # Nothing of the first tensor was asked for, and nothing more of a file that tells nothing.
    assert local(mcfs, shard) <= TENSOR_BYTES + 3 * MIB
    assert local(mcfs, plain) <= 4 * MIB
    for descriptor in descriptors:
        os.close(descriptor)


def test_a_random_reader_of_tensors_fetches_what_it_reads(mcfs, model):
    url, folder, start = model
    mountpoint = mcfs.mount(url)
    shard = f"{mountpoint}/model-00001-of-00002.safetensors"
    for offset in (start + 5 * MIB, start + 15 * MIB, start + TENSOR_BYTES + 9 * MIB):
        with open(f"{folder}/plain.bin", "rb") as file:
            file.seek(offset)
            assert read(shard, offset, 4096) == file.read(4096)
    time.sleep(0.5)
    assert local(mcfs, shard) <= 8 * MIB


def test_who_reads_one_shard_finds_the_next_begun(mcfs, model):
    url, folder, _ = model
    mountpoint = mcfs.mount(url)
    names = [f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]
    assert local(mcfs, f"{mountpoint}/{names[1]}") == 0
    assert trees.first_difference(f"{folder}/{names[0]}", f"{mountpoint}/{names[0]}") is None
    wait_until_local(mcfs, f"{mountpoint}/{names[1]}", 32 * MIB)
    assert trees.first_difference(f"{folder}/{names[1]}", f"{mountpoint}/{names[1]}") is None
