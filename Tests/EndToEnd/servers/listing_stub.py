"""Lists a repository of the Hugging Face Hub and a bucket with as many files as wanted. Standard library only.

    python listing_stub.py COUNT

There are no bytes to be had, only listings, made while they are asked for: what a reader does with a million files is
measured, not what a server does. Files are data/dDDDD/file-NNNNNNN.bin, a thousand to a folder. Every second one of the
Hub's is a large one. Announces its URL as the other servers do.
"""

import hashlib
import json
import socketserver
import sys
import threading
import urllib.parse
from http.server import BaseHTTPRequestHandler

FILES_IN_FOLDER = 1000
PAGE = 1000
COMMIT = "0123456789abcdef0123456789abcdef01234567"
BUCKET = "many"
REPOSITORY = "many/files"


def path(number):
    return f"data/d{number // FILES_IN_FOLDER:05}/file-{number:07}.bin"


def hub_page(start, count):
    """`count` files from `start` on as the Hub's API lists them, each folder before its files."""
    entries = []
    for number in range(start, start + count):
        if number % FILES_IN_FOLDER == 0:
            if number == 0:
                entries.append({"type": "directory", "oid": COMMIT, "size": 0, "path": "data"})
            entries.append({"type": "directory", "oid": COMMIT, "size": 0, "path": path(number).rpartition("/")[0]})
        name = path(number)
        entry = {"type": "file", "oid": hashlib.sha1(name.encode()).hexdigest(), "size": 1000 + number % 977, "path": name}
        if number % 2:
            entry["lfs"] = {"oid": hashlib.sha256(name.encode()).hexdigest(), "size": entry["size"], "pointerSize": 130}
        entries.append(entry)
    return json.dumps(entries).encode()


def s3_page(start, count, total):
    """`count` objects from `start` on as ListObjectsV2 lists them."""
    objects = []
    for number in range(start, start + count):
        name = path(number)
        objects.append(
            f"<Contents><Key>{name}</Key><LastModified>2024-02-03T04:05:06.000Z</LastModified>"
            f"<ETag>&quot;{hashlib.md5(name.encode()).hexdigest()}&quot;</ETag><Size>{1000 + number % 977}</Size>"
            "<StorageClass>STANDARD</StorageClass></Contents>")
    more = start + count < total
    return (
        '<?xml version="1.0" encoding="UTF-8"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        f"<Name>{BUCKET}</Name><Prefix></Prefix><KeyCount>{count}</KeyCount><MaxKeys>{PAGE}</MaxKeys>"
        f"<EncodingType>url</EncodingType><IsTruncated>{'true' if more else 'false'}</IsTruncated>"
        + (f"<NextContinuationToken>{start + count}</NextContinuationToken>" if more else "")
        + "".join(objects) + "</ListBucketResult>").encode()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # The head and the body are two writes; without this the second waits for the first one's acknowledgement.
    disable_nagle_algorithm = True

    def do_GET(self):
        parts = urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(parts.query, keep_blank_values=True))
        total = self.server.count
        if parts.path == f"/api/models/{REPOSITORY}/revision/main":
            return self.answer(json.dumps({"sha": COMMIT, "gated": False}).encode(), "application/json")
        if parts.path == f"/api/models/{REPOSITORY}/tree/{COMMIT}":
            start = int(query.get("cursor", 0))
            count = min(PAGE, total - start)
            link = {}
            if start + count < total:
                link["Link"] = f'<http://{self.headers["Host"]}{parts.path}?recursive=true&cursor={start + count}>; rel="next"'
            return self.answer(hub_page(start, count), "application/json", **link)
        if parts.path.strip("/") == BUCKET and query.get("list-type") == "2":
            start = int(query.get("continuation-token", 0))
            return self.answer(s3_page(start, min(PAGE, total - start), total), "application/xml")
        self.answer(b"there is nothing here\n", "text/plain", 404)

    def answer(self, body, kind, status=200, **headers):
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True


def main():
    with Server(("127.0.0.1", 0), Handler) as server:
        server.count = int(sys.argv[1])
        threading.Thread(target=server.serve_forever, daemon=True).start()
        print(json.dumps({"url": f"http://127.0.0.1:{server.server_address[1]}"}), flush=True)
        sys.stdin.buffer.read()


if __name__ == "__main__":
    main()
