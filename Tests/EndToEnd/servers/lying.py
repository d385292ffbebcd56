"""Origins that lie: one server for each protocol, each of whose places answers as its case says. Standard library only.

A place is the first part of a path: the repository `place/NAME` of a registry or of the Hub, the bucket NAME, the web folder
NAME. Its case is a `Site`: what is true there, and how answers are changed on their way out.
"""

import hashlib
import io
import json
import re
import socket
import socketserver
import tarfile
import threading
import urllib.parse
from dataclasses import dataclass, field, replace

COMMIT = "0123456789abcdef0123456789abcdef01234567"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
TAR = "application/vnd.oci.image.layer.v1.tar"
RAW = "application/vnd.cncf.model.weight.v1.raw"


def pattern(count, seed=1):
    unit = hashlib.sha256(b"%d" % seed).digest()
    return (unit * (count // len(unit) + 1))[:count]


FILES = {"config.json": b'{"model_type": "honest"}\n', "weights/model.bin": pattern(300_000), "weights/empty": b""}


class Token:
    """Stands in a document for bytes that JSON has no value for."""

    def __init__(self, text):
        self.text = text


def dumps(document):
    """JSON, with tokens as they are."""
    tokens = []

    def hold(token):
        tokens.append(token.text)
        return f"\x01{len(tokens) - 1}\x01"

    text = json.dumps(document, default=hold)
    return re.sub(r'"\\u0001(\d+)\\u0001"', lambda match: tokens[int(match[1])], text).encode("utf-8", "surrogatepass")


def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def tar(files):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


@dataclass
class Answer:
    """`pace`: ("stall", AT), ("cut", AT), ("reset", AT), ("drip", BYTES, SECONDS); AT counts bytes of the body. `raw`: all that is
    sent in place of a head and a body."""

    body: bytes = b""
    status: object = 200
    headers: list = field(default_factory=list)
    kind: str = ""
    pace: tuple = ()
    raw: bytes = None
    version: str = "HTTP/1.1"

    def set(self, name, value):
        """Replaces a header; None removes it."""
        kept = [(old, text) for old, text in self.headers if old.lower() != name.lower()]
        return replace(self, headers=kept + ([] if value is None else [(name, value)]))


class Site:
    """What a place holds: path → Answer, without the query. `lie(answer, path, query)` gives what is sent."""

    def __init__(self, answers, lie=None):
        self.answers = answers
        self.lie = lie or (lambda answer, path, query: answer)


# What is true

def registry_site(name, change=lambda document: document, layer=None, index=None, lie=None):
    """An image with a tar and two layers that are files. `change` alters its manifest; `index` makes an index of the manifest's
    descriptor."""
    layer = tar(FILES) if layer is None else layer
    config = dumps({"architecture": "amd64", "os": "linux", "config": {"Labels": {}}})
    raw = pattern(90_000, 7)
    document = {
        "schemaVersion": 2, "mediaType": MANIFEST, "config": {"mediaType": CONFIG, "digest": digest(config), "size": len(config)},
        "layers": [
            {"mediaType": TAR, "digest": digest(layer), "size": len(layer)},
            {"mediaType": RAW, "digest": digest(raw), "size": len(raw), "annotations": {"org.cncf.model.filepath": "raw/weights.bin"}},
            {"mediaType": RAW, "digest": digest(b"two"), "size": 3, "annotations": {
                "org.cncf.model.filepath": "kernel.x.abcdef/kernel.cubin",
                "org.cncf.model.file.metadata+json": '{"mode": 420, "mtime": "2024-01-02T03:04:05Z"}'}},
        ]}
    manifest = dumps(change(document))
    answers = {}
    for blob in (config, layer, raw, b"two"):
        answers[f"/v2/place/{name}/blobs/{digest(blob)}"] = Answer(blob, kind="blob", headers=[("Content-Type", "application/octet-stream")])
    top, media = manifest, MANIFEST
    if index:
        top, media = dumps(index({"mediaType": MANIFEST, "digest": digest(manifest), "size": len(manifest)})), INDEX
    for data, kind in ((manifest, MANIFEST), (top, media)):
        answer = Answer(data, kind="manifest", headers=[("Content-Type", kind), ("Docker-Content-Digest", digest(data))])
        answers[f"/v2/place/{name}/manifests/{digest(data)}"] = answer
    answers[f"/v2/place/{name}/manifests/v1"] = answer
    return Site(answers, lie)


def bucket_page(objects, **more):
    """Values are put in as they are."""
    items = "".join(
        "<Contents>" + "".join(f"<{tag}>{value}</{tag}>" for tag, value in entry.items()) + "</Contents>" for entry in objects)
    tags = {"Name": "b", "Prefix": "", "KeyCount": len(objects), "MaxKeys": 1000, "EncodingType": "url", "IsTruncated": "false"} | more
    return ('<?xml version="1.0" encoding="UTF-8"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
            + "".join(f"<{tag}>{value}</{tag}>" for tag, value in tags.items()) + items + "</ListBucketResult>"
            ).encode("utf-8", "surrogatepass")


def bucket_objects():
    return [
        {"Key": urllib.parse.quote(key), "LastModified": "2024-02-03T04:05:06.000Z", "Size": len(data),
         "ETag": f"&quot;{hashlib.md5(data).hexdigest()}&quot;"} for key, data in FILES.items()]


def bucket_site(name, objects=None, page=None, lie=None, **more):
    """`page`: the listing itself."""
    page = bucket_page(bucket_objects() if objects is None else objects, **more) if page is None else page
    answers = {f"/{name}": Answer(page, kind="listing", headers=[("Content-Type", "application/xml")])}
    for key, data in FILES.items():
        answers[f"/{name}/{key}"] = Answer(data, kind="object", headers=[
            ("ETag", f'"{hashlib.md5(data).hexdigest()}"'), ("Last-Modified", "Sat, 03 Feb 2024 04:05:06 GMT")])
    return Site(answers, lie)


def hub_entries():
    entries = [{"type": "directory", "oid": COMMIT, "size": 0, "path": "weights"}]
    for path, data in FILES.items():
        entry = {"type": "file", "size": len(data), "path": path, "oid": hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest(),
                 "lastCommit": {"id": COMMIT, "date": "2024-02-03T04:05:06.000Z"}}
        if path.endswith(".bin"):
            entry["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}
        entries.append(entry)
    return entries


def hub_site(name, entries=None, revision=None, lie=None):
    base = f"/api/models/place/{name}"
    json_type = [("Content-Type", "application/json")]
    answers = {
        f"{base}/revision/main": Answer(dumps(revision or {"sha": COMMIT, "gated": False}), kind="revision", headers=json_type),
        f"{base}/tree/{COMMIT}": Answer(dumps(hub_entries() if entries is None else entries), kind="listing", headers=json_type)}
    for path, data in FILES.items():
        answers[f"/place/{name}/resolve/{COMMIT}/{path}"] = Answer(data, kind="object", headers=[
            ("X-Repo-Commit", COMMIT), ("Content-Type", "application/octet-stream")])
    return Site(answers, lie)


def web_page(links):
    return "<html><body>" + "".join(f'<a href="{link}">x</a>\n' for link in links) + "</body></html>"


def web_site(name, links=("config.json", "weights/"), page=None, lie=None):
    html = [("Content-Type", "text/html")]
    page = web_page(links) if page is None else page
    answers = {
        f"/{name}/": Answer(page if isinstance(page, bytes) else page.encode("utf-8", "surrogatepass"), kind="listing", headers=html),
        f"/{name}/weights/": Answer(web_page(["model.bin", "empty"]).encode(), kind="listing", headers=html)}
    for path, data in FILES.items():
        answers[f"/{name}/{path}"] = Answer(data, kind="object", headers=[
            ("ETag", f'"{hashlib.md5(data).hexdigest()}"'), ("Last-Modified", "Sat, 03 Feb 2024 04:05:06 GMT"),
            ("Accept-Ranges", "bytes"), ("Content-Type", "application/octet-stream")])
    return Site(answers, lie)


# How it is sent

class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 256

    def __init__(self, protocol):
        super().__init__(("127.0.0.1", 0), Handler)
        self.protocol = protocol
        self.sites = {}
        self.requests = 0
        self.host = f"127.0.0.1:{self.server_address[1]}"
        self.url = f"http://{self.host}"
        self.ended = threading.Event()
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    def find(self, path):
        """The site and its answer."""
        if path.rstrip("/") == "/v2":
            return None, Answer(kind="ping")
        parts = path.strip("/").split("/")
        name = parts[parts.index("place") + 1] if "place" in parts[:4] and len(parts) > parts.index("place") + 1 else parts[0]
        site = self.sites.get(name)
        if not site:
            return None, Answer(b"nothing\n", 404)
        found = site.answers.get(path) or (site.answers.get(path.rstrip("/")) if self.protocol == "s3" else None)
        return site, found or Answer(b"nothing\n", 404)

    def close(self):
        self.ended.set()
        self.shutdown()
        self.server_close()

    def handle_error(self, request, client_address):
        pass


class Handler(socketserver.BaseRequestHandler):
    def handle(self):
        self.request.settimeout(60)
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        received = b""
        while True:
            while b"\r\n\r\n" not in received:
                piece = self.request.recv(65536)
                if not piece or len(received) > 1 << 20:
                    return
                received += piece
            head, _, received = received.partition(b"\r\n\r\n")
            if not self.answer(head.decode("latin-1")):
                return

    def answer(self, head):
        """Whether the connection stays."""
        lines = head.split("\r\n")
        method, target = (lines[0].split(" ") + ["", ""])[:2]
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
        parts = urllib.parse.urlsplit(target)
        path = urllib.parse.unquote(parts.path)
        query = dict(urllib.parse.parse_qsl(parts.query, keep_blank_values=True))
        self.server.requests += 1
        site, answer = self.server.find(path)
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", headers.get("range", ""))
        if wanted and answer.status == 200 and answer.kind in ("object", "blob"):
            first, last = int(wanted[1]), min(int(wanted[2]), len(answer.body) - 1)
            if first >= len(answer.body):
                answer = replace(answer, status=416, body=b"").set("Content-Range", f"bytes */{len(answer.body)}")
            else:
                whole = len(answer.body)
                answer = replace(answer, status=206, body=answer.body[first:last + 1]).set("Content-Range", f"bytes {first}-{last}/{whole}")
        answer = answer.set("Content-Length", str(len(answer.body)))
        if site:
            answer = site.lie(answer, path, query)
        return self.send(answer, method)

    def send(self, answer, method):
        if answer.raw is not None:
            self.request.sendall(answer.raw)
            return False
        lines = [f"{answer.version} {answer.status} x"] + [f"{name}: {value}" for name, value in answer.headers]
        head = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace")
        body = b"" if method == "HEAD" else answer.body
        how, *more = answer.pace or ("",)
        if how == "drip":
            step, pause = more
            data = head + body
            for start in range(0, len(data), step):
                self.request.sendall(data[start:start + step])
                if self.server.ended.wait(pause):
                    break
            return False
        if how in ("stall", "cut", "reset"):
            at, = more
            self.request.sendall(head[:at] if at < 0 else head + body[:at])
            if how == "stall":
                self.server.ended.wait(60)
            elif how == "reset":
                self.request.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            return False
        self.request.sendall(head + body)
        # What is longer or shorter than it says leaves nothing that a second answer could follow.
        length = next((value for name, value in answer.headers if name.lower() == "content-length"), None)
        return length == str(len(answer.body)) and answer.version == "HTTP/1.1"
