"""Each mistake gets one clear sentence, the documented exit code, and leaves nothing behind."""

import errno
import json
import os
import tarfile

import pytest

import images
import mcfs as mcfs_helper
import trees

pytestmark = pytest.mark.usefixtures("fuse")


def refuse(mcfs, reference, code, *words, at=None):
    mountpoint = at or mcfs.new_mountpoint()
    result = mcfs.run("mount", reference, mountpoint, code=code)
    assert len(result.stderr.strip().splitlines()) == 1 and result.stderr.startswith("mcfs: "), result.stderr
    for word in words:
        assert word in result.stderr, result.stderr
    assert not mcfs_helper.is_mounted(mountpoint)
    with open(os.path.join(mcfs.cache, "daemon.log"), "a+") as log:
        log.seek(0)
        assert "Fatal" not in log.read()
    return result


def test_references_that_are_none(mcfs):
    for reference, word in [
        ("gopher://x/y", "gopher"), ("oci://", "oci://"), ("oci://Host/UPPER:tag", "UPPER"), ("hf://one", "hf://"), ("s3://", "s3://"),
        ("http://", "http://"), ("oci-layout:", "oci-layout:"), ("oci://h/r@sha256:xyz", "sha256"),
    ]:
        refuse(mcfs, reference, mcfs_helper.USAGE, word)
    refuse(mcfs, "/no/such/folder", mcfs_helper.NOT_FOUND, "/no/such/folder")
    assert mcfs.run("mount", code=mcfs_helper.USAGE).stderr
    assert mcfs.run("frobnicate", code=mcfs_helper.USAGE).stderr


def test_mountpoints_that_cannot_be(mcfs, sample_tree, tmp_path):
    refuse(mcfs, sample_tree, mcfs_helper.NOT_FOUND, "nowhere", at=str(tmp_path / "nowhere"))
    (tmp_path / "file").write_text("x")
    refuse(mcfs, sample_tree, mcfs_helper.CANNOT_CREATE, "file", at=str(tmp_path / "file"))
    mountpoint = mcfs.mount(sample_tree)
    result = mcfs.run("mount", sample_tree, mountpoint, code=mcfs_helper.CANNOT_CREATE)
    assert mountpoint in result.stderr
    mcfs.umount(mountpoint)
    mcfs.umount(mountpoint, code=mcfs_helper.NOT_FOUND)


def test_an_empty_argument_is_no_path(mcfs, sample_tree):
    mountpoint = mcfs.mount(sample_tree)
    with open(f"{mountpoint}/written", "w") as file:
        file.write("mine")
    for arguments in (["upper", "reset", mountpoint, "", "--all", "-y"], ["umount", ""], ["mount", "--upper", "", mountpoint, "x"],
                      ["mount", "--upper=", mountpoint, "x"], ["prefetch", ""]):
        result = mcfs.run(*arguments, code=mcfs_helper.USAGE)
        assert "empty" in result.stderr or "no value" in result.stderr
    with open(f"{mountpoint}/written") as file:
        assert file.read() == "mine"


def test_the_cache_lies_neither_in_a_mountpoint_nor_in_an_upper(mcfs, sample_tree, tmp_path):
    mcfs.run("gc")
    above = os.path.dirname(os.path.abspath(mcfs.cache))
    link = tmp_path / "link"
    os.symlink(above, link)
    os.mkdir(f"{mcfs.cache}/inside")
    for place in (above, mcfs.cache, f"{mcfs.cache}/inside", link):
        for arguments in ([sample_tree, place], ["--upper", place, sample_tree, mcfs.new_mountpoint()]):
            result = mcfs.run("mount", *arguments, code=mcfs_helper.USAGE)
            assert "cache directory" in result.stderr, result.stderr
        assert not mcfs_helper.is_mounted(str(place))


def test_a_cache_directory_of_another_version_or_kind(mcfs, sample_tree):
    os.makedirs(mcfs.cache)
    with open(os.path.join(mcfs.cache, "VERSION"), "w") as file:
        file.write("mcfs cache 99\n")
    result = mcfs.run("mount", sample_tree, mcfs.new_mountpoint(), code=mcfs_helper.CONFIGURATION)
    assert "mcfs cache 99" in result.stderr
    mcfs.cache = __file__
    assert mcfs.run("mount", sample_tree, mcfs.new_mountpoint(), code=mcfs_helper.CANNOT_CREATE).stderr


def test_a_second_daemon_of_a_cache_directory_is_refused(mcfs, sample_tree):
    mcfs.mount(sample_tree)
    result = mcfs.run("mount", "--foreground", sample_tree, mcfs.new_mountpoint(), code=mcfs_helper.CANNOT_CREATE)
    assert "another daemon" in result.stderr


def test_a_damaged_catalog_is_set_aside(mcfs, sample_tree):
    mcfs.umount(mcfs.mount(sample_tree))
    mcfs.kill_daemon()
    with open(os.path.join(mcfs.cache, "catalog.db"), "wb") as file:
        file.write(b"not a database" * 1000)
    trees.compare(sample_tree, mcfs.mount(sample_tree))


def test_layers_that_lie(mcfs, tmp_path):
    good = images.tar(("a", b"x" * 3000), ("b", b"y" * 3000))
    long = tarfile.TarInfo("long")
    long.size = 10 ** 12
    header = long.tobuf(tarfile.GNU_FORMAT)
    for number, (data, coding, word) in enumerate([
        (images.tar(("../out", b"x")), "", ".."), (images.tar(("a/../../out", b"x")), "", ".."),
        (header, "", "long"), (good[:2000], "", "truncated"),
        (images.gzipped(images.tar(("../out", b"x"))), "+gzip", ".."), (images.gzipped(good)[:-20], "+gzip", ""),
        (b"\x1f\x8b" + b"garbage" * 100, "+gzip", ""),
    ]):
        layout = images.Layout(tmp_path / f"layout{number}")
        refuse(mcfs, layout.image([layout.blob(data, images.LAYER + coding)]), mcfs_helper.CORRUPT, word)


def test_names_that_come_twice_and_links_that_lead_outside_are_served_safely(mcfs, tmp_path):
    link = tarfile.TarInfo("link")
    link.type, link.linkname = tarfile.SYMTYPE, "../../etc/passwd"
    layout = images.Layout(tmp_path / "layout")
    data = images.tar(("twice", b"first"), ("twice", b"second"), ("/absolute", b"x"), link)
    mountpoint = mcfs.mount(layout.image([layout.blob(data, images.LAYER)]))
    with open(f"{mountpoint}/twice", "rb") as file:
        assert file.read() == b"second"
    assert sorted(os.listdir(mountpoint)) == ["absolute", "link", "twice"]
    assert os.readlink(f"{mountpoint}/link") == "../../etc/passwd"


def test_manifests_that_cannot_be(mcfs, tmp_path):
    layout = images.Layout(tmp_path / "huge")
    refuse(mcfs, layout.tag(layout.blob(b" " * (100 * 1024 * 1024) + b"{}", images.MANIFEST)), mcfs_helper.CORRUPT)
    layout = images.Layout(tmp_path / "garbage")
    refuse(mcfs, layout.tag(layout.blob(b"{not json", images.MANIFEST)), mcfs_helper.CORRUPT)
    layout = images.Layout(tmp_path / "size")
    descriptor = layout.blob(images.tar(("a", b"x")), images.LAYER)
    refuse(mcfs, layout.image([descriptor | {"size": 5}]), mcfs_helper.CORRUPT)
    layout = images.Layout(tmp_path / "digest")
    descriptor = layout.blob(images.gzipped(images.tar(("a", b"x"))), images.LAYER + "+gzip")
    with open(f"{layout.path}/blobs/sha256/{descriptor['digest'][7:]}", "r+b") as file:
        file.seek(30)
        file.write(b"\xff\xff")
    refuse(mcfs, layout.image([descriptor]), mcfs_helper.CORRUPT)
    layout = images.Layout(tmp_path / "missing")
    descriptor = layout.blob(b"x", images.LAYER)
    os.remove(f"{layout.path}/blobs/sha256/{descriptor['digest'][7:]}")
    refuse(mcfs, layout.image([descriptor]), mcfs_helper.NOT_FOUND)


def test_errors_are_json_where_that_was_asked(mcfs):
    result = mcfs.run("mount", "gopher://x", mcfs.new_mountpoint(), json=True, code=mcfs_helper.USAGE)
    error = json.loads(result.stdout)["error"]
    assert error["code"] == "usage" and "gopher" in error["message"]


def test_a_file_of_no_bytes_under_the_digest_of_some_is_an_error(mcfs, tmp_path):
    layout = images.Layout(tmp_path / "layout")

    def layer(name, data, **more):
        return layout.blob(data, "application/octet-stream", annotations={"org.opencontainers.image.title": name}, **more)

    lie = layer("lie", b"bytes") | {"size": 0}
    reference = layout.image([lie, layer("empty", b""), layer("some", b"some")])
    mountpoint = mcfs.mount(reference)
    for flags in (os.O_RDONLY, os.O_WRONLY | os.O_APPEND):
        with pytest.raises(OSError) as raised:
            os.close(os.open(f"{mountpoint}/lie", flags))
        assert raised.value.errno == errno.EIO
    for name in ("empty", "some"):
        with open(f"{mountpoint}/{name}", "ab+") as file:
            file.seek(0)
            assert file.read() == name.encode() * (name == "some")
    digest = lie["digest"].removeprefix("sha256:")
    with open(os.path.join(mcfs.cache, "daemon.log")) as log:
        assert digest in log.read()
    mcfs.run("prefetch", mountpoint, code=mcfs_helper.CORRUPT)
    findings = mcfs.verify(json=True, code=mcfs_helper.CORRUPT).json["findings"]
    assert [finding["blob"] for finding in findings] == [f"sha256-{digest}"]
    # Who writes all of it needs nothing of it.
    with open(f"{mountpoint}/lie", "wb") as file:
        file.write(b"new")
    with open(f"{mountpoint}/lie", "rb") as file:
        assert file.read() == b"new"
