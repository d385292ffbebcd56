"""Origins that lie in every number, length, header and pace that they send, while another mount of the same daemon is read.

    .venv/bin/python Tests/EndToEnd/hostile_origins.py [--generated 500] [--seed 1] [--only s3] [--every 1] [--jobs 8]

A case is one origin (a registry, an image layout on disk, a bucket, the Hub, a web folder) that is honest but for one lie, or,
of the generated ones, for a few random ones. mcfs lists it, prefetches it, or mounts and reads it. Then must hold:

- the command ended, in its time, with a documented exit code, and says why in a sentence without control characters;
- what was read of a file that has a digest is what the digest stands for;
- nothing stays mounted that could not be;
- the daemon is the same process as before, and took no more memory than MEMORY_MAX;
- the other mount gave the right bytes, all the time.

Prints what did not hold, and counts: cases, requests, seconds, memory, reads of the other mount and the slowest of them.
"""

import argparse
import collections
import concurrent.futures
import gzip
import hashlib
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, replace
from typing import Callable

import images
import mcfs as mcfs_helper
from servers import lying
from servers.lying import Answer, Token

# Bytes that the daemon may take, of which its cache of memory and twelve commands at once have their part.
MEMORY_MAX = 900 << 20
# A command may wait for the deadlines of what it asks; beyond that it hangs.
HUNG_SECONDS = 150
READ_DEADLINE = 2
HEALTHY_BYTES = 48 << 20
# 1: what mcfs does not do, such as a tree that is larger than one may be.
CODES = {0, 1, 64, 65, 66, 69, 74, 77, 78}
PROTOCOLS = ("oci", "layout", "s3", "hf", "http")
ACTIONS = ("mount", "prefetch", "ls")


@dataclass
class Case:
    protocol: str
    name: str
    # Called with the name of the place; gives a Site, or for a layout writes a folder and gives nothing.
    make: Callable
    # Of ACTIONS; None: one after the other.
    action: str = None
    # Waits for deadlines.
    is_slow: bool = False


# What numbers, times and names can be

NUMBERS = [
    -1, 0, 1, 2, 2**31 - 1, 2**31, 2**32, 2**46 - 1, 2**46, 2**46 + 1, 2**53, 2**60, 2**62, 2**63 - 2, 2**63 - 1, 2**63, 2**64 - 1, 2**64,
    -2**63, -2**63 - 1, 10**30, Token("1e999"), Token("1e18"), Token("-0"), Token("0.5"), Token("00"), Token("1" * 400), "12", "", None, True, [],
    {}]
TEXTS = [
    "", "\0", ".", "..", "../../etc/passwd", "/", "a/../b", "a//b", "x" * 256, "x" * 5000, "a/" * 600 + "a", "a/" * 20_000, "\x1b[2J\x9b1m", "\n",
    "\u202e", "😀" * 80, Token('"\\ud800"'), "v-9223372036854775808", "v9223372036854775807", "v99999999999999999999", "v+8", "sha256:",
    "sha256:" + "0" * 64, "sha256:" + "g" * 64, "sha512:" + "0" * 128, "md5:" + "0" * 32, "0" * 40, "%00", "%2e%2e/x", 7, None, [], {}]
TIMES = [
    "", "0", "-1", "9" * 30, "0000-00-00T00:00:00Z", "9999-12-31T23:59:60Z", "99999-01-01T00:00:00Z", "-9999-01-01T00:00:00Z",
    "2024-02-30T25:61:61Z", "2024-01-01T00:00:00." + "9" * 60 + "Z", "1969-12-31T23:59:59Z", "Sun, 06 Nov 9999 08:49:37 GMT",
    "Sun, 06 Nov 99999999999999999999 08:49:37 GMT", "Sun, 99 Nov 1994 99:99:99 GMT", "Sun Nov 6 08:49:37 -1"]
STATUSES = [100, 101, 199, 201, 202, 203, 204, 205, 206, 207, 226, 300, 301, 302, 304, 305, 307, 308, 400, 401, 402, 403, 404, 406, 410, 411, 412,
            416, 418, 421, 451, 600, 999, 0, -1, 99999999999999999999, "", "OK", "2OO"]
SLOW_STATUSES = [408, 425, 429, 500, 502, 503, 504, 507, 599]
# Headers and what can stand in them.
LENGTHS = [-1, 0, 1, 10**6, 2**31, 2**46, 2**46 + 1, 2**63 - 1, 2**63, 2**64 - 1, 2**64, "", "x", "1,2", "+5", "0x10", " 7 ", None]
HEADERS = {
    "Content-Length": LENGTHS,
    "Content-Range": [f"bytes {one}" for one in (
        "0-0/0", "0-0/1", "0-0/*", "0-0/-1", f"0-0/{2**46}", f"0-0/{2**46 + 1}", f"0-0/{2**63 - 1}", f"0-0/{2**64 - 1}", f"0-0/{2**64}", "1-0/5",
        f"0-{2**64 - 1}/*", f"{2**64 - 1}-{2**64 - 1}/*", "5-9/300000", "0-299999/300000", "*/300000", "x-y/z", "0-0", "0-0/5, bytes 0-1/5")]
    + ["", "BYTES 0-0/300000", "items 0-0/300000", None],
    "ETag": ["", '"other"', 'W/"other"', '"' + "e" * 20_000 + '"', "unquoted", '"\x01"', None],
    "Last-Modified": TIMES + [None],
    "Date": TIMES,
    "Content-Encoding": ["gzip", "identity", "br, gzip", "", "x" * 5000],
    "Transfer-Encoding": ["chunked", "gzip, chunked", "identity", "x"],
    "Content-Type": ["", "text/html", "application/json", "multipart/byteranges; boundary=x", "x" * 20_000, None],
    "Location": ["", "/", "//", "http://", "ftp://127.0.0.1/", "file:///etc/passwd", "http://127.0.0.1:1/", "http://[::1", "?", "#", "x" * 100_000],
    "Link": ['<>; rel="next"', '<x>; rel="next"', '<http://127.0.0.1:1/>; rel="next"', '<?cursor=2>; rel="next"', "<" * 5000],
    "Docker-Content-Digest": ["", "sha256:", "sha256:" + "0" * 64, "sha512:" + "0" * 128, "x" * 5000, None],
    "X-Repo-Commit": ["", "0" * 40, None],
    "X-Linked-Size": ["-1", str(2**64), "5"],
    "WWW-Authenticate": ["", "Bearer", 'Bearer realm="x"', 'Bearer realm="http://127.0.0.1:1/"', "Basic", "=" * 5000, '"' * 3000],
    "X": ["v" * 100_000, "v" * 2_000_000],
}
KINDS = {
    "oci": ("ping", "manifest", "blob"), "s3": ("listing", "object"), "hf": ("revision", "listing", "object"), "http": ("listing", "object")}
SITES = {"oci": lying.registry_site, "s3": lying.bucket_site, "hf": lying.hub_site, "http": lying.web_site}
BODIES = {
    "empty": b"", "one": b"{", "zeros": bytes(100_000), "text": b"not found", "html": b"<html><form><input></form></html>", "null": b"null",
    "deep": b"[" * 200_000, "deep object": b'{"a":' * 100_000, "quotes": b'"' * 100_000, "number": b"9" * 1_000_000, "not UTF-8": b'{"sha": "\xff\xfe"}',
    "xml type": b'<?xml version="1.0"?><!DOCTYPE l [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><ListBucketResult>&b;</ListBucketResult>',
    "deep xml": b"<a>" * 100_000, "open xml": b"<ListBucketResult><Contents>", "tags": b"<" * 3_000_000,
    "links": b'<a href="a">' * 500_000, "deep link": b'<a href="' + b"a/" * 300_000 + b'">', "open link": b'<a href="' * 200_000,
    "references": b'<a href="' + b"&#x41;" * 300_000 + b'">', "comments": b"<!--" * 300_000}


def place(document, path, value):
    """A copy with a value at a path; what is missing on the way is made."""
    document = json.loads(lying.dumps(document)) if not isinstance(document, list) else [dict(entry) for entry in document]
    here = document
    for key in path[:-1]:
        here = here[key] if isinstance(here, list) else here.setdefault(key, {})
    if value is Missing:
        here.pop(path[-1], None)
    else:
        here[path[-1]] = value
    return document


class Missing:
    pass


def shown(value):
    text = value.text if isinstance(value, Token) else repr(value)
    return text if len(text) < 40 else f"{text[:30]}…({len(text)})"


# Tables

def documents():
    """One value of one document is another."""
    values = NUMBERS + [Missing]
    for path, choices in [
            (("layers", 1, "size"), values), (("layers", 0, "size"), values), (("layers", 2, "size"), values), (("config", "size"), values),
            (("schemaVersion",), values), (("layers", 1, "digest"), TEXTS), (("layers", 0, "mediaType"), TEXTS), (("mediaType",), TEXTS),
            (("layers", 1, "annotations", "org.cncf.model.filepath"), TEXTS), (("layers",), [[], {}, None, 5, "x"])]:
        for value in choices:
            name = f"{'.'.join(map(str, path))} = {shown(value)}"
            change = lambda document, path=path, value=value: place(document, path, value)
            yield Case("oci", name, lambda at, change=change: lying.registry_site(at, change))
            yield Case("layout", name, lambda folder, change=change: write_layout(folder, lying.registry_site("x", change)))
    metadata = [f'{{"mode": {number}, "mtime": "2024-01-01T00:00:00Z", "typeflag": {number}}}' for number in (-1, 0, 2**31, 2**64, "1e999", "[]")]
    for value in metadata + [json.dumps({"mtime": time}) for time in TIMES]:
        change = lambda document, value=value: place(document, ("layers", 2, "annotations", "org.cncf.model.file.metadata+json"), value)
        yield Case("oci", f"metadata {shown(value)}", lambda at, change=change: lying.registry_site(at, change))
    for path, choices in [(("platform", "variant"), TEXTS), (("platform", "os"), TEXTS), (("platform", "architecture"), TEXTS), (("size",), values)]:
        for value in choices:
            for architecture in ("amd64", "arm64") if path[-1] == "variant" else ("amd64",):
                def index(descriptor, path=path, value=value, architecture=architecture):
                    entry = descriptor | {"platform": {"os": "linux", "architecture": architecture}}
                    return {"schemaVersion": 2, "manifests": [entry, place(entry, path, value)][:: -1]}
                yield Case("oci", f"index {path[-1]} = {shown(value)} of {architecture}",
                           lambda at, index=index: lying.registry_site(at, index=index))
    for tag, choices in [("Size", NUMBERS), ("Key", TEXTS), ("LastModified", TIMES), ("ETag", TEXTS)]:
        for value in choices:
            objects = lying.bucket_objects()
            objects[1][tag] = value.text if isinstance(value, Token) else value
            yield Case("s3", f"{tag} = {shown(value)}", lambda at, objects=objects: lying.bucket_site(at, objects))
    for tag in ("IsTruncated", "NextContinuationToken", "EncodingType", "KeyCount", "MaxKeys"):
        for value in ("true", "", "-1", str(2**64), "x" * 3000, "URL"):
            more = {tag: value} | ({"IsTruncated": "true"} if tag == "NextContinuationToken" else {})
            yield Case("s3", f"{tag} = {shown(value)}", lambda at, more=more: lying.bucket_site(at, **more))
    for path, choices in [
            (("size",), values), (("lfs", "size"), values), (("oid",), TEXTS), (("lfs", "oid"), TEXTS), (("path",), TEXTS), (("type",), TEXTS),
            (("lastCommit",), [{"date": time} for time in TIMES] + [None, 5])]:
        for value in choices:
            entries = lying.hub_entries()
            entries[2] = place(entries[2], path, value)
            yield Case("hf", f"{'.'.join(path)} = {shown(value)}", lambda at, entries=entries: lying.hub_site(at, entries))
    for value in TEXTS:
        yield Case("hf", f"sha = {shown(value)}", lambda at, value=value: lying.hub_site(at, revision={"sha": value}))
    for value in TEXTS:
        text = value.text if isinstance(value, Token) else str(value)
        yield Case("http", f"link {shown(value)}", lambda at, text=text: lying.web_site(at, ["config.json", text]))
        yield Case("http", f"JSON name {shown(value)}", lambda at, value=value: lying.web_site(
            at, page=lying.dumps([{"name": value, "type": "file"}]), lie=on("listing", lambda a: a.set("Content-Type", "application/json"))))
    many = [{"type": "file", "size": 2**62, "path": f"f{number}", "oid": "0" * 40} for number in range(5)]
    yield Case("hf", "sizes whose sum is more than 2^64", lambda at: lying.hub_site(at, many), "prefetch")
    for size in (2**46, 2**45):
        objects = [{"Key": f"f{number}", "Size": size, "ETag": "e"} for number in range(1000)]
        yield Case("s3", f"a thousand files of {size}", lambda at, objects=objects: lying.bucket_site(at, objects))
        objects = [{"Key": f"kernel.{number}.abcdef/kernel.cubin", "Size": size, "ETag": "e"} for number in range(100)]
        yield Case("s3", f"a hundred kernels of {size}", lambda at, objects=objects: lying.bucket_site(at, objects), "mount")


def on(kind, change):
    """A lie in answers of one kind."""
    return lambda answer, path, query: change(answer) if answer.kind == kind else answer


def wires():
    """What is true is sent wrongly."""
    for protocol, kinds in KINDS.items():
        make = SITES[protocol]
        for kind in kinds:
            def case(name, change, protocol=protocol, kind=kind, make=make, **options):
                return Case(protocol, f"{kind}: {name}", lambda at: make(at, lie=on(kind, change)), **options)

            for header, values in HEADERS.items():
                if header == "Content-Range" and kind not in ("object", "blob"):
                    continue
                for value in values:
                    change = lambda answer, header=header, value=value: answer.set(header, value)
                    # More than was sent is waited for.
                    is_slow = header == "Content-Length" and str(value).isdigit() and int(value) > 1000
                    yield case(f"{header}: {shown(value)}", change, is_slow=is_slow or header == "Transfer-Encoding")
            for status in STATUSES:
                yield case(f"status {status}", lambda answer, status=status: replace(answer, status=status))
            for status in SLOW_STATUSES:
                for wait in ("", "0", "1", "3600", str(2**63), "-1", "Sun, 06 Nov 9999 08:49:37 GMT"):
                    change = lambda answer, status=status, wait=wait: replace(answer, status=status).set("Retry-After", wait or None)
                    if wait in ("", "3600") or status in (429, 503):
                        yield case(f"status {status}, wait {wait}", change, is_slow=True)
            for name, body in BODIES.items():
                change = lambda answer, body=body: replace(answer, body=body).set("Content-Length", str(len(body)))
                yield case(f"body {name}", change)
            yield case("twice the body", lambda answer: replace(answer, body=answer.body * 2).set("Content-Length", str(2 * len(answer.body))))
            yield case("more than is said", lambda answer: replace(answer, body=answer.body + b"more"))
            yield case("the whole for a part", lambda answer: replace(answer, status=200).set("Content-Range", None))
            yield case("another place", lambda answer: replace(answer, status=302, body=b"").set("Location", "/nowhere").set("Content-Length", "0"))
            yield case("in a circle", lambda answer: replace(answer, status=302, body=b"").set("Location", "?again").set("Content-Length", "0"))
            for name, raw in {
                    "nothing": b"", "no head": b"hello\n", "half a line": b"HTTP/1.1 2", "old": b"HTTP/0.9 200 x\r\n\r\nx", "no end": b"HTTP/1.1 200 x\r\n",
                    "NUL": b"HTTP/1.1 200 x\r\nA\0: b\r\nContent-Length: 1\r\n\r\nx", "TLS": b"\x15\x03\x01\x00\x02\x02\x28",
                    "many heads": b"HTTP/1.1 100 Continue\r\n\r\n" * 5000,
                    "chunk": b"HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nx\r\n0\r\n\r\n",
                    "minus chunk": b"HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\nx\r\n0\r\n\r\n",
                    "many headers": b"HTTP/1.1 200 x\r\n" + b"A: b\r\n" * 100_000 + b"\r\n"}.items():
                yield case(f"raw {name}", lambda answer, raw=raw: replace(answer, raw=raw), is_slow=True)
            for pace in [("stall", 0), ("stall", 20), ("stall", -5), ("cut", 0), ("cut", 20), ("cut", -5), ("reset", 20), ("drip", 7, 0.05)]:
                yield case(f"{pace}", lambda answer, pace=pace: replace(answer, pace=pace), is_slow=True)


def layers():
    """Bytes of layers, with right digests."""
    def header(name=b"f", size=b"00000000001\0", mtime=b"00000000000\0", uid=b"0000000\0", mode=b"0000644\0", kind=b"0", more=b""):
        block = bytearray(512)
        block[0:len(name)], block[100:108], block[108:116], block[116:124] = name, mode, uid, uid
        block[124:136], block[136:148], block[148:156], block[156:157], block[257:265] = size, mtime, b" " * 8, kind, b"ustar\x0000"
        block[157:157 + len(more)] = more
        block[148:156] = b"%06o\0 " % sum(block)
        return bytes(block)

    def base256(number):
        return (number % 2**96 | 1 << 95 if number >= 0 else number % 2**96).to_bytes(12, "big")

    end = bytes(1024)
    tars = {}
    for number in (-1, 0, 2**31, 2**46, 2**62, 2**63 - 1, 2**63, 2**80, -2**63):
        tars[f"size {number}"] = header(size=base256(number)) + end
        tars[f"time {number}"] = header(size=b"0" * 11 + b"\0", mtime=base256(number)) + end
        for key in ("size", "mtime", "uid", "path"):
            record = f" {key}={number}\n".encode()
            record = str(len(record) + 3).rjust(3, "0").encode() + record
            tars[f"PAX {key} {number}"] = header(b"x", b"%011o\0" % len(record), kind=b"x") + record.ljust(512, b"\0") + header() + end
    for text in TEXTS:
        name = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else b"7"
        long = header(b"././@LongLink", b"%011o\0" % (len(name) + 1), kind=b"L") + (name + b"\0").ljust((len(name) // 512 + 1) * 512, b"\0")
        tars[f"name {shown(text)}"] = long + header(size=b"0" * 11 + b"\0") + end
        for kind in (b"1", b"2"):
            tars[f"link {kind} {shown(text)}"] = header(size=b"0" * 11 + b"\0", kind=kind, more=name[:99]) + end
    for kind in (b"3", b"4", b"6", b"D", b"S", b"V", b"x", b"g", b"\xff"):
        tars[f"type {kind}"] = header(kind=kind) + bytes(512) + end
    tars["one name often"] = header(size=b"0" * 11 + b"\0") * 100_000 + end
    tars["deep name often"] = header(b"/".join([b"d"] * 49), b"0" * 11 + b"\0") * 20_000 + end
    tars["links in a circle"] = header(b"a", b"0" * 11 + b"\0", kind=b"1", more=b"b") + header(b"b", b"0" * 11 + b"\0", kind=b"1", more=b"a") + end
    packed = {
        "gzip of zeros": gzip.compress(header(size=b"%011o\0" % (700 << 20), kind=b"0") + bytes(64 << 20), 9)[:-8],
        "gzip bomb": gzip.compress(bytes(1 << 20), 9) * 3000, "gzip cut": gzip.compress(lying.tar(lying.FILES))[:-20],
        "gzip flags": b"\x1f\x8b\x08\xff" + bytes(50)}
    frame = b"\x28\xb5\x2f\xfd"
    for exponent in (14, 17, 20, 21, 31):
        # A window, and a block of 128 KiB of one byte.
        packed[f"zstd window {10 + exponent}"] = frame + bytes([0, exponent << 3]) + (1 << 20 | 1 << 1 | 1).to_bytes(3, "little") + b"\0"
    for size in (2**20, 2**40, 2**64 - 1):
        packed[f"zstd content {size}"] = frame + b"\xe0" + size.to_bytes(8, "little") + (1 << 20 | 1 << 1 | 1).to_bytes(3, "little") + b"\0"
    packed["zstd bomb"] = (frame + b"\0\x38" + (1 << 20 | 1 << 1).to_bytes(3, "little") + b"\0") * 1
    packed["zstd bomb"] = frame + b"\0\x38" + ((1 << 20 | 1 << 1).to_bytes(3, "little") + b"\0") * 20_000
    packed["zstd skippable"] = b"\x50\x2a\x4d\x18\xff\xff\xff\xff" + bytes(100)
    packed["zstd tiny frames"] = (frame + b"\x20\0\1\0\0") * 50_000
    for name, data in (tars | packed).items():
        yield Case("oci", f"layer {name}", lambda at, data=data: lying.registry_site(at, layer=data))
    for name, data in tars.items():
        yield Case("layout", f"as a tar: {name}", lambda folder, data=data: write_file(f"{folder}.tar", data), "ls")
    one = lying.tar({"f": b"x"})
    for count in (1000, 20_000):
        change = lambda document, count=count: document | {"layers": document["layers"][:1] * count}
        yield Case("oci", f"one layer {count} times", lambda at, change=change: lying.registry_site(at, change, layer=one))


def write_file(path, data):
    with open(path, "wb") as file:
        file.write(data)


def write_layout(folder, site):
    layout = images.Layout(folder)
    top = None
    for path, answer in site.answers.items():
        name = path.rpartition("/")[2]
        if name == "v1":
            top = answer
        elif name.startswith("sha256:"):
            layout._write(f"blobs/sha256/{name[7:]}", answer.body)
    layout.tag({"mediaType": dict(top.headers)["Content-Type"], "digest": lying.digest(top.body), "size": len(top.body)})


def table():
    return [*documents(), *wires(), *layers()]


# Random lies

def generated(count, seed):
    for number in range(count):
        yield _generated(number, random.Random(f"{seed} {number}"))


def _generated(number, chance):
    protocol = chance.choice(PROTOCOLS)
    seed = chance.random()
    if protocol == "layout":
        return Case(protocol, f"generated {number}", lambda folder: write_damaged_layout(folder, random.Random(seed)))
    return Case(protocol, f"generated {number}", lambda at: damaged_site(protocol, at, random.Random(seed)))


def damaged_site(protocol, at, chance):
    kinds = [kind for kind in KINDS[protocol] if chance.random() < 0.5] or [chance.choice(KINDS[protocol])]
    lies = [chance.choice((damage_body, damage_number, damage_header, damage_header)) for _ in range(chance.randint(1, 3))]
    seed = chance.random()

    def lie(answer, path, query):
        if answer.kind not in kinds:
            return answer
        # The same question gets the same answer.
        own = random.Random(f"{seed} {path} {sorted(query.items())}")
        for damage in lies:
            answer = damage(answer, own)
        return answer

    return SITES[protocol](at, lie=lie)


def damage_body(answer, chance):
    body = damage(answer.body, chance)
    return replace(answer, body=body).set("Content-Length", str(len(body))) if chance.random() < 0.8 else replace(answer, body=body)


def damage(data, chance):
    data = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 5, 50))):
        at = chance.randrange(len(data) + 1)
        how = chance.randrange(5)
        if how == 0:
            data[at:at + 1] = bytes([chance.randrange(256)])
        elif how == 1:
            del data[at:at + chance.choice((1, 4, 100))]
        elif how == 2:
            data[at:at] = chance.randbytes(chance.choice((1, 4, 100)))
        elif how == 3:
            start = chance.randrange(len(data) + 1)
            data[at:at] = data[start:start + chance.choice((10, 500))]
        else:
            del data[at:]
    return bytes(data)


def damage_number(answer, chance):
    """One of the numbers of a document, or an other number in the place of one of a header."""
    number = chance.choice([str(one) for one in NUMBERS if isinstance(one, int)] + [one.text for one in NUMBERS if isinstance(one, Token)])
    found = list(re.finditer(rb"\d+", answer.body[:20_000]))
    if found and chance.random() < 0.7:
        one = chance.choice(found)
        body = answer.body[:one.start()] + number.encode() + answer.body[one.end():]
        return replace(answer, body=body).set("Content-Length", str(len(body)))
    name, value = chance.choice(answer.headers)
    return answer.set(name, re.sub(r"\d+", number, str(value), count=1))


def damage_header(answer, chance):
    name = chance.choice(list(HEADERS))
    value = chance.choice(HEADERS[name])
    return answer.set(name, value if value is None else str(value))


def write_damaged_layout(folder, chance):
    write_layout(folder, lying.registry_site("x"))
    files = [os.path.join(root, name) for root, _, names in os.walk(folder) for name in names]
    for path in chance.sample(sorted(files), chance.randint(1, 2)):
        with open(path, "rb") as file:
            data = file.read()
        write_file(path, damage(data, chance))


# The try

class Trial:
    def __init__(self, jobs, directory=None, executable=None):
        self.scratch = tempfile.TemporaryDirectory(prefix="mcfs-hostile-", dir=directory)
        self.jobs = jobs
        self.violations = []
        self.counts = collections.Counter()
        self.codes = collections.Counter()
        self.honest = lying.Server("http")
        self.lock = threading.Lock()
        environment = {
            "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "us-east-1",
            "MCFS_READ_DEADLINE": str(READ_DEADLINE), "MCFS_CACHE_SIZE": "64MiB"}
        self.mcfs = mcfs_helper.Mcfs(os.path.join(self.scratch.name, "mcfs"), environment, executable)
        self.stopped = threading.Event()
        self.slowest = 0.0
        # The daemon is gone: nothing that follows tells anything.
        self.is_over = False

    def run(self, cases):
        """- Returns: how many violations there were."""
        healthy = lying.pattern(HEALTHY_BYTES, 99)
        self.honest.sites["h"] = lying.Site({"/h/big.bin": Answer(healthy, kind="object", headers=[("ETag", '"h"')])})
        self.healthy = self.mcfs.mount(f"{self.honest.url}/h/big.bin", options=("--gpu", "none"))
        self.daemon = self.find_daemon()
        watcher = threading.Thread(target=self.watch, args=(healthy,), daemon=True)
        watcher.start()
        started = time.monotonic()
        # What waits goes first, beside the others.
        ordered = sorted(enumerate(cases), key=lambda pair: not pair[1].is_slow)
        with concurrent.futures.ThreadPoolExecutor(self.jobs) as pool:
            for future in [pool.submit(self.attempt, number, case) for number, case in ordered]:
                future.result()
        self.counts["seconds"] = round(time.monotonic() - started)
        self.stopped.set()
        watcher.join(60)
        if watcher.is_alive():
            self.violate("the other mount", "a read of it hangs")
        self.look_at_daemon("the end")
        try:
            self.mcfs.umount(self.healthy)
        except AssertionError as error:
            self.violate("the end", str(error)[-500:])
        return len(self.violations)

    def find_daemon(self):
        """Of the processes that name the cache directory the one that is no command."""
        for pid in self.mcfs.daemon_pids:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                if b"daemon" in file.read().split(b"\0"):
                    return pid
        raise RuntimeError("there is no daemon")

    def watch(self, content):
        chance = random.Random(0)
        file = os.open(os.path.join(self.healthy, "big.bin"), os.O_RDONLY)
        try:
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_RANDOM)
            while not self.stopped.wait(0.02):
                at = chance.randrange(len(content) - 4096)
                # The page cache would answer for us.
                os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
                started = time.monotonic()
                try:
                    data = os.pread(file, 4096, at)
                except OSError as error:
                    self.violate("the other mount", f"a read at {at} fails: {error}")
                    return
                self.slowest = max(self.slowest, time.monotonic() - started)
                self.counts["reads of the other mount"] += 1
                if data != content[at:at + 4096]:
                    self.violate("the other mount", f"wrong bytes at {at}")
                    return
        finally:
            os.close(file)

    def violate(self, case, what):
        with self.lock:
            self.violations.append(f"{case}: {what}")
            print(self.violations[-1], flush=True)

    def attempt(self, number, case):
        if self.is_over:
            return
        name = f"c{number}"
        title = f"{case.protocol} {case.name}"
        folder = os.path.join(self.scratch.name, name)
        try:
            site = case.make(folder if case.protocol == "layout" else name)
        except Exception as error:
            return self.violate(title, f"the case cannot be made: {error!r}")
        # Each has its own: one that asks to be left alone would be left alone in all cases that follow.
        server = lying.Server(case.protocol if site else "http")
        if site:
            server.sites[name] = site
        environment = self.mcfs.environment | {"AWS_ENDPOINT_URL": server.url, "HF_ENDPOINT": server.url}
        reference = {
            "oci": f"oci://{server.host}/place/{name}:v1", "s3": f"s3://{name}", "hf": f"hf://place/{name}",
            "http": f"{server.url}/{name}/",
            "layout": f"oci-layout:{folder}.tar" if os.path.exists(f"{folder}.tar") else f"oci-layout:{folder}:v1"}[case.protocol]
        action = case.action or ACTIONS[number % len(ACTIONS)]
        self.counts["cases"] += 1
        try:
            if action == "mount":
                self.try_mount(title, reference, name, environment)
            else:
                options = {"ls": ["-R"], "prefetch": ["--stall-timeout", "20"]}.get(action, [])
                self.command(title, environment, action, *options, reference)
        finally:
            server.close()
            with self.lock:
                self.counts["requests"] += server.requests
            subprocess.run(["rm", "-rf", folder, f"{folder}.tar"], check=False)
        if number % 20 == 0:
            self.look_at_daemon(title)

    def command(self, title, environment, *arguments):
        command = self.mcfs.command(*arguments)
        try:
            done = subprocess.run(
                command, env=environment, capture_output=True, text=True, errors="surrogateescape", timeout=HUNG_SECONDS,
                stdin=subprocess.DEVNULL)
        except subprocess.TimeoutExpired:
            self.violate(title, f"{arguments[0]} hangs")
            return None
        with self.lock:
            self.codes[done.returncode] += 1
        if done.returncode not in CODES:
            self.violate(title, f"{arguments[0]} ended with {done.returncode}: {done.stderr[-600:]}")
        lines = done.stderr.splitlines()
        if done.returncode and not any(line.startswith("mcfs: ") for line in lines):
            self.violate(title, f"{arguments[0]} ended with {done.returncode} and does not say why: {done.stderr[-600:]}")
        if re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", done.stderr) or len(done.stderr) > 20_000:
            self.violate(title, f"{arguments[0]} wrote {done.stderr[:600]!r}")
        return done.returncode

    def try_mount(self, title, reference, name, environment):
        mountpoint = os.path.join(self.scratch.name, f"m-{name}")
        os.makedirs(mountpoint)
        code = self.command(title, environment, "mount", "--gpu", "sm_90", reference, mountpoint)
        if code == 0:
            self.read(title, mountpoint)
            self.command(title, environment, "umount", mountpoint)
        if mcfs_helper.is_mounted(mountpoint):
            self.violate(title, f"something is mounted after mount ended with {code}")
            subprocess.run(["umount", "-l", mountpoint], capture_output=True, timeout=30)
        else:
            os.rmdir(mountpoint)

    def read(self, title, mountpoint):
        """A few files, each at its beginning and end, and whole where it is small. An error is right, a wrong byte is not."""
        left = 6
        for folder, _, names in os.walk(mountpoint):
            for name in names:
                path = os.path.join(folder, name)
                try:
                    status = os.lstat(path)
                    if not os.path.isfile(path) or os.path.islink(path):
                        continue
                    file = os.open(path, os.O_RDONLY)
                except OSError:
                    continue
                try:
                    whole = os.pread(file, 400_000, 0)
                    os.pread(file, 1000, max(0, status.st_size - 1000))
                    self.counts["files read"] += 1
                    if len(whole) == status.st_size:
                        self.compare(title, path, whole)
                    elif len(whole) < min(400_000, status.st_size):
                        self.violate(title, f"{path} gave {len(whole)} of {status.st_size} bytes")
                except OSError:
                    self.counts["files with errors"] += 1
                finally:
                    os.close(file)
                left -= 1
                if left == 0:
                    return

    def compare(self, title, path, data):
        try:
            digest = os.getxattr(path, "user.mcfs.digest").decode()
        except OSError:
            return
        kind, _, text = digest.replace("-", ":").partition(":")
        found = {
            "sha256": hashlib.sha256(data).hexdigest(), "git": hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()}.get(kind)
        if found is not None:
            self.counts["digests compared"] += 1
            if found != text:
                self.violate(title, f"{path} gave bytes that are not {digest}")

    def look_at_daemon(self, title):
        if not self.is_over and self.daemon not in self.mcfs.daemon_pids:
            self.is_over = True
            self.violate(title, f"the daemon is gone; its log ends with {self.log()}")
        memory = self.memory("VmHWM")
        if memory > MEMORY_MAX and not self.counts["too much memory"]:
            self.counts["too much memory"] = 1
            self.violate(title, f"the daemon took {memory >> 20} MiB by now")

    def memory(self, key):
        try:
            with open(f"/proc/{self.daemon}/status") as file:
                return int(re.search(rf"{key}:\s*(\d+) kB", file.read())[1]) << 10
        except (OSError, TypeError):
            return 0

    def log(self):
        try:
            with open(os.path.join(self.mcfs.cache, "daemon.log"), errors="replace") as file:
                return file.read()[-1500:]
        except OSError as error:
            return repr(error)

    def report(self):
        counts = self.counts | {
            "violations": len(self.violations),
            "MiB of the daemon at most": self.memory("VmHWM") >> 20, "slowest read of the other mount, ms": round(self.slowest * 1000)}
        return ", ".join(f"{name} {count}" for name, count in sorted(counts.items())) + "; exit codes " + ", ".join(
            f"{code}: {count}" for code, count in sorted(self.codes.items()))

    def close(self):
        self.stopped.set()
        self.mcfs.close()
        self.honest.close()
        self.scratch.cleanup()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--generated", type=int, default=500, help="random cases beside those of the tables")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", help="cases whose protocol and name hold this text")
    parser.add_argument("--every", type=int, default=1, help="each how many-th case")
    parser.add_argument("--jobs", type=int, default=12)
    parser.add_argument("--list", action="store_true")
    options = parser.parse_args()
    cases = [*table(), *generated(options.generated, options.seed)]
    cases = [case for case in cases if not options.only or options.only in f"{case.protocol} {case.name}"][::options.every]
    if options.list:
        for case in cases:
            print(case.protocol, case.name)
        return 0
    trial = Trial(options.jobs)
    try:
        trial.run(cases)
        print(trial.report())
        return 1 if trial.violations else 0
    finally:
        trial.close()


if __name__ == "__main__":
    sys.exit(main())
