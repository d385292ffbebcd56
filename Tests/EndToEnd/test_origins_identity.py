"""Two versions, or two files, are never one: what origins without digests say of a version is all part of it."""

import contextlib
import gzip
import http.server
import os
import re
import threading
import urllib.parse

import pytest

import trees

pytestmark = pytest.mark.usefixtures("fuse")


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments):
        pass

    def respond(self, status, headers, body):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def respond_file(self, data, headers):
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if not asked:
            return self.respond(200, headers, data)
        first, last = int(asked[1]), min(int(asked[2]), len(data) - 1)
        self.respond(206, headers | {"Content-Range": f"bytes {first}-{last}/{len(data)}"}, data[first:last + 1])


@contextlib.contextmanager
def serving(respond):
    """A server on a free port whose GET requests `respond` answers. - Returns: its URL."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), type("Served", (Handler,), {"do_GET": respond}))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def read(path):
    with open(path, "rb") as file:
        return file.read()


def test_a_web_file_without_a_version_is_fetched_anew_by_each_mount_and_the_user_is_told(mcfs):
    content = [trees.seeded(1, 300_000)]
    with serving(lambda self: self.respond_file(content[0], {})) as url:
        first = mcfs.new_mountpoint()
        result = mcfs.run("mount", f"{url}/model.bin", first)
        assert "neither ETag nor Last-Modified" in result.stderr
        assert read(f"{first}/model.bin") == content[0]
        mcfs.umount(first)
        content[0] = trees.seeded(2, 300_000)
        assert read(f"{mcfs.mount(f'{url}/model.bin')}/model.bin") == content[0]


@pytest.mark.parametrize("parameter", ["file", "key", "token", "X-Amz-Signature"])
def test_two_urls_that_differ_in_their_query_are_two_files(mcfs, parameter):
    files = {"alphabet": trees.seeded(1, 200_000), "betamax": trees.seeded(2, 200_000)}

    def respond(self):
        query = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)
        self.respond_file(files[query[parameter][0]], {"Last-Modified": "Mon, 01 Jan 2024 00:00:00 GMT"})

    with serving(respond) as url:
        mounts = {name: mcfs.mount(f"{url}/model.bin?{parameter}={name}") for name in files}
        for name, mountpoint in mounts.items():
            assert read(f"{mountpoint}/model.bin") == files[name]
        said = mcfs.run("status", json=True).stdout + read(os.path.join(mcfs.cache, "daemon.log")).decode()
        assert ("alphabet" in said) == (parameter == "file")
        for mountpoint in mounts.values():
            mcfs.umount(mountpoint)
    for name in files:
        mountpoint = mcfs.mount(f"{url}/model.bin?{parameter}={name}", options=("--offline",))
        assert read(f"{mountpoint}/model.bin") == files[name]


def test_a_local_file_that_is_rewritten_in_place_with_its_time_kept_is_another_one(mcfs, tmp_path):
    folder = tmp_path / "folder"
    # Large enough to be passed through: of smaller ones the kernel keeps pages, which are right.
    old, new = trees.seeded(1, 400_000), trees.seeded(2, 400_000)
    trees.write(f"{folder}/weights.bin", old)
    before = os.stat(folder / "weights.bin")
    first = mcfs.mount(folder, options=("--read-only",))
    assert read(f"{first}/weights.bin") == old
    mcfs.umount(first)
    second = mcfs.mount(folder, options=("--read-only",))
    with open(folder / "weights.bin", "r+b") as file:
        file.write(new)
    os.utime(folder / "weights.bin", ns=(before.st_atime_ns, before.st_mtime_ns))
    # What is local is the version that was mounted.
    assert read(f"{second}/weights.bin") == old
    mcfs.evict(second, code=None)
    with pytest.raises(OSError):
        read(f"{second}/weights.bin")
    assert read(f"{mcfs.mount(folder, options=('--read-only',))}/weights.bin") == new


class Bucket:
    """An S3 server of one bucket, `b`, as some are: without ETags. `objects` are (bytes, seconds of the time)."""

    environment = {"AWS_ACCESS_KEY_ID": "AKIDTEST", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "us-east-1"}

    def __init__(self, **objects):
        self.objects = objects

    def respond(self, handler):
        url = urllib.parse.urlsplit(handler.path)
        key = url.path.removeprefix("/b").removeprefix("/")
        if not key:
            contents = "".join(
                f"<Contents><Key>{name}</Key><LastModified>2024-01-01T00:00:{seconds:02}.000Z</LastModified>"
                f"<Size>{len(data)}</Size></Contents>" for name, (data, seconds) in self.objects.items())
            body = f"<ListBucketResult><IsTruncated>false</IsTruncated>{contents}</ListBucketResult>"
            return handler.respond(200, {"Content-Type": "application/xml"}, body.encode())
        data, seconds = self.objects[key]
        self.respond_object(handler, data, {"Last-Modified": f"Mon, 01 Jan 2024 00:00:{seconds:02} GMT"})

    def respond_object(self, handler, data, headers):
        handler.respond_file(data, headers)


def test_an_object_without_an_etag_is_told_from_its_successor_by_its_time(mcfs):
    old, new = trees.seeded(1, 9_000_000), trees.seeded(2, 9_000_000)
    bucket = Bucket(weights=(old, 1))
    with serving(lambda self: bucket.respond(self)) as url:
        mcfs.environment.update(bucket.environment | {"AWS_ENDPOINT_URL": url})
        first = mcfs.mount("s3://b")
        descriptor = os.open(f"{first}/weights", os.O_RDONLY)
        try:
            assert os.pread(descriptor, 4096, 0) == old[:4096]
            bucket.objects["weights"] = (new, 2)
            with pytest.raises(OSError):
                for offset in range(0, len(old), 1 << 20):
                    assert os.pread(descriptor, 1 << 20, offset) == old[offset:offset + (1 << 20)]
        finally:
            os.close(descriptor)
        mcfs.umount(first)
        assert read(f"{mcfs.mount('s3://b')}/weights") == new


def test_an_object_that_the_server_would_decompress_is_read_as_it_is_stored(mcfs):
    plain = b"".join(b"%d token\n" % number for number in range(100_000))
    stored = gzip.compress(plain, mtime=0)

    class CloudStorage(Bucket):
        def respond_object(self, handler, data, headers):
            headers = headers | {"x-goog-stored-content-encoding": "gzip"}
            if "gzip" in handler.headers.get("Accept-Encoding", ""):
                return handler.respond_file(data, headers | {"Content-Encoding": "gzip"})
            handler.send_response(200)
            for name, value in (headers | {"Transfer-Encoding": "chunked"}).items():
                handler.send_header(name, value)
            handler.end_headers()
            for start in range(0, len(plain), 65536):
                piece = plain[start:start + 65536]
                handler.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            handler.wfile.write(b"0\r\n\r\n")

    bucket = CloudStorage(tokens=(stored, 1))
    with serving(lambda self: bucket.respond(self)) as url:
        mcfs.environment.update(bucket.environment | {"AWS_ENDPOINT_URL": url})
        assert read(f"{mcfs.mount('s3://b')}/tokens") == stored
