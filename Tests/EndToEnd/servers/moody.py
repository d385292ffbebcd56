"""The least of each kind of origin that a mount needs, and content that comes as the test wishes."""

import hashlib
import http.server
import json
import socketserver
import threading
import time
import urllib.parse


class Moody:
    """One server that is a web folder, a Hub, a registry and a bucket with the same file `w.bin`.

    mood: called with a handler for each GET of content; returns True where it has answered. asked: the paths of these GETs.
    """

    def __init__(self, data):
        self.data = data
        self.mood = None
        self.asked = []
        outer = self

        class Handler(_Handler):
            server_of = outer

        class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
            daemon_threads = True
            request_queue_size = 128

            def handle_error(self, *_):
                pass

        self.server = Server(("127.0.0.1", 0), Handler)
        self.host = f"127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def reference(self, kind):
        """A reference of the file's folder, and the environment that it needs."""
        return {
            "http": (f"http://{self.host}/web/", {}),
            "hf": ("hf://org/name", {"HF_ENDPOINT": f"http://{self.host}"}),
            "oci": (f"oci://{self.host}/models/m:v1", {}),
            "s3": ("s3://bucket", {
                "AWS_ENDPOINT_URL": f"http://{self.host}", "AWS_ACCESS_KEY_ID": "AKIDTEST", "AWS_SECRET_ACCESS_KEY": "secret",
                "AWS_REGION": "us-east-1"}),
        }[kind]

    def close(self):
        self.server.shutdown()
        self.server.server_close()


def limited(status, **headers):
    """A mood: the server asks to be left alone."""
    def answer(handler):
        handler.reply(status, b"", **headers)
        return True
    return answer


def silent(release):
    """A mood: it accepts, and answers once `release` is set."""
    def answer(handler):
        release.wait()
        return False
    return answer


def late(seconds):
    """A mood: nothing comes for so long, then all of it."""
    def answer(handler):
        time.sleep(seconds)
        return False
    return answer


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    commit = "1" * 40

    def log_message(self, *_):
        pass

    def reply(self, status, body, **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def content(self, **headers):
        outer = self.server_of
        if self.command == "GET":
            outer.asked.append(self.path)
            if outer.mood and outer.mood(self):
                return
        data = outer.data
        wanted = self.headers.get("Range")
        if not wanted:
            return self.reply(200, data, Accept_Ranges="bytes", **headers)
        first, last = wanted.removeprefix("bytes=").split("-")
        first, last = int(first), min(int(last or len(data) - 1), len(data) - 1)
        self.reply(206, data[first:last + 1], Content_Range=f"bytes {first}-{last}/{len(data)}", Accept_Ranges="bytes", **headers)

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        path = urllib.parse.urlsplit(self.path).path
        data = self.server_of.data
        etag = f'"{hashlib.md5(data).hexdigest()}"'
        if path.startswith("/web/"):
            if path == "/web/":
                return self.reply(200, b'<a href="w.bin">w.bin</a>', Content_Type="text/html")
            # Its size is asked for with a range of one byte.
            if self.headers.get("Range") == "bytes=0-0":
                return self.reply(206, data[:1], Content_Range=f"bytes 0-0/{len(data)}", Accept_Ranges="bytes", ETag=etag)
            return self.content(ETag=etag)
        if path.startswith("/api/models/org/name"):
            oid = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
            tree = [{"type": "file", "path": "w.bin", "size": len(data), "oid": oid}]
            answer = tree if "/tree/" in path else {"id": "org/name", "sha": self.commit, "gated": False}
            return self.reply(200, json.dumps(answer).encode(), Content_Type="application/json")
        if path.startswith("/org/name/resolve/"):
            return self.content(ETag='"x"', X_Repo_Commit=self.commit)
        if path.startswith("/v2/"):
            if "/blobs/" in path:
                return self.content()
            layer = {"mediaType": "application/octet-stream", "digest": "sha256:" + hashlib.sha256(data).hexdigest(),
                     "size": len(data), "annotations": {"org.opencontainers.image.title": "w.bin"}}
            manifest = json.dumps({
                "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "layers": [layer],
                "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": "sha256:" + hashlib.sha256(b"{}").hexdigest(), "size": 2},
            }).encode()
            return self.reply(200, manifest, Content_Type="application/vnd.oci.image.manifest.v1+json",
                              Docker_Content_Digest="sha256:" + hashlib.sha256(manifest).hexdigest())
        if path.rstrip("/") == "/bucket":
            entry = (f"<Contents><Key>w.bin</Key><LastModified>2024-01-01T00:00:00.000Z</LastModified><ETag>{etag.replace(chr(34), '&quot;')}</ETag>"
                     f"<Size>{len(data)}</Size></Contents>")
            return self.reply(
                200, f'<?xml version="1.0"?><ListBucketResult><Name>bucket</Name><EncodingType>url</EncodingType><KeyCount>1</KeyCount>'
                f"<IsTruncated>false</IsTruncated>{entry}</ListBucketResult>".encode(), Content_Type="application/xml")
        if path == "/bucket/w.bin":
            return self.content(ETag=etag, Last_Modified="Mon, 01 Jan 2024 00:00:00 GMT")
        self.reply(404, b"")
