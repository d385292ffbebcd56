"""What the cache remembers of layers: only what was read to its end, and never a guess."""

import glob
import hashlib
import os
import signal
import struct
import subprocess
import time

import pytest

import images
import trees

pytestmark = pytest.mark.usefixtures("fuse")

FILES = {f"shard-{number:02}.bin": 512 * 1024 for number in range(24)}


def make_image(tmp_path, registry, repository):
    """An image with one gzip layer of 12 MiB. - Returns: its reference below the registry, the layer, the files."""
    files = {name: trees.seeded(100 + number, size) for number, (name, size) in enumerate(FILES.items())}
    layout = images.Layout(tmp_path / "layout")
    layer = layout.blob(images.gzipped(images.tar(*files.items())), images.LAYER + "+gzip")
    layout.image([layer])
    images.push(layout.path, registry, repository)
    return f"{repository}:v1", layer, files


def compare(mountpoint, files):
    for name, data in files.items():
        with open(f"{mountpoint}/{name}", "rb") as file:
            assert file.read() == data, f"{name} has other bytes than the image"


def wait_for(what, condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not happen within {seconds} s"
        time.sleep(0.05)


def test_an_interrupted_mount_leaves_no_table_that_lies(mcfs, registry, fault_proxy, tmp_path):
    name, layer, files = make_image(tmp_path, registry, "tables/interrupted")
    proxy = fault_proxy(registry.url)
    reference = f"oci://{proxy.host}/{name}"
    proxy.fault({"kind": "stall", "after": 5_000_000, "match": f"/blobs/{layer['digest']}", "method": "GET"})
    mountpoint = mcfs.new_mountpoint()
    first = mcfs.start("mount", reference, mountpoint)
    wait_for("the transfer", lambda: any(entry["bytes"] >= 4_000_000 for entry in proxy.requests))
    first.send_signal(signal.SIGINT)
    assert first.wait(30) in (130, -signal.SIGINT)
    # What was held back comes now, to whoever still listens.
    proxy.heal()
    wait_for("the end of the job", lambda: not mcfs.status()["jobs"])
    compare(mcfs.mount(reference, at=mountpoint), files)
    mcfs.umount(mountpoint)
    mcfs.kill_daemon()
    compare(mcfs.mount(reference, at=mountpoint), files)
    assert "right" in mcfs.verify().stdout


@pytest.mark.parametrize(("phase", "how"), [
    ("resolving", "interrupt"), ("first bytes", "interrupt"), ("streaming", "interrupt"), ("streaming", "kill"),
    ("streaming", "umount"), ("streaming", "jobs --cancel"), ("resolving", "umount")])
def test_a_mount_that_is_given_up_gives_its_place_back_while_its_origin_hangs(
        mcfs, registry, fault_proxy, tmp_path, phase, how):
    name, layer, files = make_image(tmp_path, registry, f"tables/hanging-{phase[0]}-{how[0]}")
    proxy = fault_proxy(registry.url)
    reference = f"oci://{proxy.host}/{name}"
    match = "/manifests/" if phase == "resolving" else f"/blobs/{layer['digest']}"
    rule = {"kind": "stall", "after": 1_000_000 if phase == "streaming" else 0, "match": match}
    proxy.fault(rule if phase == "resolving" else rule | {"method": "GET"})
    mountpoint = mcfs.new_mountpoint()
    first = mcfs.start("mount", reference, mountpoint)
    seen = 900_000 if phase == "streaming" else 0
    wait_for("the transfer", lambda: any(match in entry["path"] and entry["bytes"] >= seen for entry in proxy.requests))
    started = time.monotonic()
    if how == "umount":
        mcfs.umount(mountpoint)
    elif how == "jobs --cancel":
        (job,) = mcfs.status()["jobs"]
        mcfs.run("jobs", "--cancel", str(job["id"]))
    else:
        first.send_signal(signal.SIGINT if how == "interrupt" else signal.SIGKILL)
    assert first.wait(30) != 0
    # Nobody heals it: the transfer would hang for as long as a stall may last, and then be tried again.
    wait_for("the end of the job", lambda: not mcfs.status()["jobs"], seconds=10)
    print(f"{phase}, given up by {how}: over after {time.monotonic() - started:.2f} s")
    compare(mcfs.mount(f"oci://{registry.host}/{name}", at=mountpoint), files)


def test_mounts_of_one_image_at_the_same_time_stream_its_layer_once(mcfs, registry, fault_proxy, tmp_path):
    name, layer, files = make_image(tmp_path, registry, "tables/together")
    proxy = fault_proxy(registry.url)
    reference = f"oci://{proxy.host}/{name}"
    mountpoints = [mcfs.new_mountpoint() for _ in range(10)]
    # Held back until all are there.
    proxy.fault({"kind": "stall", "after": 1_000_000, "match": f"/blobs/{layer['digest']}", "method": "GET"})
    running = [mcfs.start("mount", "--read-only", reference, mountpoint) for mountpoint in mountpoints]
    wait_for("all of them", lambda: len(
        [job for job in mcfs.status()["jobs"] if job["progress"]["phase"].startswith("indexing")]) == 10)
    # One of them is given up, and takes nothing from the others.
    running[0].send_signal(signal.SIGINT)
    assert running[0].wait(30) in (130, -signal.SIGINT)
    proxy.heal()
    assert [process.wait(60) for process in running[1:]] == [0] * 9
    for mountpoint in mountpoints[1:]:
        compare(mountpoint, files)
    sent = sum(entry["bytes"] for entry in proxy.requests if layer["digest"] in entry["path"])
    print(f"ten mounts at once: {sent / layer['size']:.3f} times the layer's bytes were sent")
    assert sent <= 1.02 * layer["size"]


# Files of the cache as mcfs 0.1 wrote them (docs/cache-format.md#container)

def sections_of(data):
    count = struct.unpack_from("<I", data, 44)[0]
    rows = [struct.unpack_from("<QQ", data, 48 + 16 * number) for number in range(count)]
    return [data[start:start + length] for start, length in rows]


def container(magic, version, sections):
    table, body, start = b"", b"", 48 + 16 * len(sections)
    for section in sections:
        table += struct.pack("<QQ", start + len(body), len(section))
        body += section + bytes(-len(section) % 8)
    checked = struct.pack("<II", version, len(sections)) + table + body
    return magic + hashlib.sha256(checked).digest() + checked


def rewrite(path, change):
    with open(path, "rb") as file:
        data = file.read()
    with open(path, "wb") as file:
        file.write(change(data))


def poisoned_layer(data):
    """Version 1: no coding."""
    entries, *rest = sections_of(data)
    return container(b"mcfsLAYR", 1, [entries[:8], *rest])


def first_sources(layer):
    """One layer that passes for a plain tar, as version 1 of a tree has its sources."""
    properties = {
        "kind": "oci-layer", "digest": layer["digest"], "size": str(layer["size"]), "mediaType": layer["mediaType"],
        "coding": "tar"}
    fields = struct.pack("<II", 1, len(properties))
    for text in (text for row in sorted(properties.items()) for text in row):
        fields += struct.pack("<I", len(text)) + text.encode()
    return fields


def poisoned_tree(layer):
    """Every file is known by its place, and the layer passes for a plain tar."""
    def change(data):
        sections = sections_of(data)[:20]
        sections[14] = bytes([3]) * len(sections[14])
        return container(b"mcfsTREE", 1, [*sections[:19], first_sources(layer)])
    return change


def test_a_cache_whose_tables_lie_is_mended_at_the_next_start(mcfs, registry, tmp_path):
    name, layer, files = make_image(tmp_path, registry, "tables/poisoned")
    reference = f"oci://{registry.host}/{name}"
    mountpoint = mcfs.mount(reference)
    mcfs.umount(mountpoint)
    mcfs.kill_daemon()
    for path in glob.glob(f"{mcfs.cache}/layers/*.layer"):
        rewrite(path, poisoned_layer)
    for path in glob.glob(f"{mcfs.cache}/trees/*.tree"):
        rewrite(path, poisoned_tree(layer))
    subprocess.run(f"rm -rf {mcfs.cache}/blobs/*/* {mcfs.cache}/fresh/*/* {mcfs.cache}/partial/*/*", shell=True, check=True)
    compare(mcfs.mount(reference, at=mountpoint), files)
    with open(os.path.join(mcfs.cache, "daemon.log")) as log:
        said = log.read()
    assert "do not say how their layers are coded" in said and "took a compressed layer for a plain tar" in said
    assert "right" in mcfs.verify().stdout
    mcfs.umount(mountpoint)
    mcfs.kill_daemon()
    compare(mcfs.mount(reference, at=mountpoint, options=("--offline",)), files)


def test_a_tree_of_an_earlier_format_that_is_right_stays_usable_offline(mcfs, tmp_path):
    data = trees.seeded(7, 300_000)
    layout = images.Layout(tmp_path / "plain")
    layer = layout.blob(images.tar(("weights.bin", data)), images.LAYER)
    reference = layout.image([layer])
    mountpoint = mcfs.mount(reference)
    compare(mountpoint, {"weights.bin": data})
    mcfs.umount(mountpoint)
    mcfs.kill_daemon()
    for path in glob.glob(f"{mcfs.cache}/layers/*.layer"):
        rewrite(path, poisoned_layer)

    def first_format(tree):
        return container(b"mcfsTREE", 1, [*sections_of(tree)[:19], first_sources(layer)])

    for path in glob.glob(f"{mcfs.cache}/trees/*.tree"):
        rewrite(path, first_format)
    compare(mcfs.mount(reference, at=mountpoint, options=("--offline",)), {"weights.bin": data})
