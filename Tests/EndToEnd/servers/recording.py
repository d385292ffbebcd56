"""An HTTP server that records what it was asked and misbehaves on request. Standard library only.

Every server made of it answers on its own port:

  GET    /_requests   {"requests": [...], "errors": [...], "count": N, "bytes": N}; bytes are those of bodies sent
  DELETE /_requests   forgets them
  POST   /_faults     {"rules": [RULE, ...]} replaces the rules; further keys are the server's own
  DELETE /_faults     behaves again; what stalls goes on

A RULE is applied to the requests it matches, in the order of the list, the first one that matches wins:

  kind    status | cut | reset | stall | flip | whole | length | delay
  match   only paths that hold this text (default: all)
  method  only this method
  count   how often, then it is gone (default: always)
  every   only every n-th matching request (default: 1)
  after   cut, reset, stall: bytes of the body that are sent before (default: 0)
  status, retry_after    status: what to answer (default: 503)
  seconds                delay, stall: how long (stall's default: until DELETE /_faults)
  delta                  length: added to the announced length
  at                     flip: offset of the byte (default: the middle of the body)

whole: answers a Range request with 200 and everything.
"""

import json
import re
import socket
import struct
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PIECE_BYTES = 64 * 1024
PATH_CHARACTERS = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,;=:@/?-]|%[0-9A-Fa-f]{2})*")
RANGE = re.compile(r"bytes=(\d*)-(\d*)")


class Recorder:
    """What the threads of a server (or of two that belong together) share."""

    def __init__(self):
        self.lock = threading.Lock()
        self.requests = []
        self.errors = []
        self.rules = []
        self.release = threading.Event()

    def record(self, entry):
        with self.lock:
            self.requests.append(entry)

    def error(self, text):
        with self.lock:
            self.errors.append(text)

    def report(self):
        with self.lock:
            return {
                "requests": [dict(entry) for entry in self.requests],
                "errors": list(self.errors),
                "count": len(self.requests),
                "bytes": sum(entry["bytes"] for entry in self.requests),
            }

    def forget(self):
        with self.lock:
            self.requests.clear()
            self.errors.clear()

    def set_rules(self, rules):
        for rule in rules:
            if rule.get("kind") not in ("status", "cut", "reset", "stall", "flip", "whole", "length", "delay"):
                raise ValueError(f"unknown kind of fault: {rule!r}")
        with self.lock:
            self.rules = [dict(rule, seen=0) for rule in rules]
            # Whoever stalls holds the old event.
            self.release.set()
            self.release = threading.Event()

    def take_rule(self, method, path):
        """The rule for a request, which counts as used; None without one."""
        with self.lock:
            for rule in self.rules:
                if rule.get("match", "") not in path or rule.get("method", method) != method:
                    continue
                rule["seen"] += 1
                if rule["seen"] % rule.get("every", 1) != 0:
                    continue
                if "count" in rule:
                    if rule["count"] <= 0:
                        continue
                    rule["count"] -= 1
                return dict(rule)
        return None


class RecordingServer(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128
    allow_reuse_address = True

    def __init__(self, handler, recorder, port=0):
        super().__init__(("127.0.0.1", port), handler)
        self.recorder = recorder

    @property
    def port(self):
        return self.server_address[1]

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def start(self):
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True).start()
        return self

    def handle_error(self, request, client_address):
        """A client that goes away is no news; a fault of the server itself is one."""
        import sys
        import traceback

        error = sys.exc_info()[1]
        if not isinstance(error, (ConnectionError, TimeoutError)):
            self.recorder.error("the server failed: " + "".join(traceback.format_exception(error))[-2000:])


class BadRequest(Exception):
    """What a strict server refuses; recorded as an error."""


class RecordingHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    # The tests see on which of a server's ports a request came in.
    port_name = "main"

    def log_message(self, *arguments):
        pass

    def version_string(self):
        return "mcfs-test"

    @property
    def recorder(self):
        return self.server.recorder

    def handle_any(self):
        started = time.monotonic()
        # In the log from the start and kept current ahead of each write: a client that has its answer finds it there.
        self.entry = {
            "method": self.command,
            "path": self.path,
            "port": self.port_name,
            "status": 0,
            "bytes": 0,
            "range": self.headers.get("Range"),
            "authorized": "Authorization" in self.headers,
            "seconds": None,
        }
        length = self.headers.get("Content-Length")
        if self.path.startswith("/_"):
            self.body = self.rfile.read(int(length or 0))
            return self.control()
        self.recorder.record(self.entry)
        self.rule = self.recorder.take_rule(self.command, self.path) or {}
        try:
            if self.rule.get("kind") == "delay":
                time.sleep(self.rule.get("seconds", 0.1))
            if self.rule.get("kind") == "status":
                self.rfile.read(int(length or 0))
                status = self.rule.get("status", 503)
                headers = [("Retry-After", str(self.rule["retry_after"]))] if "retry_after" in self.rule else []
                self.rule = {}
                self.answer(status, headers, b"a fault\n")
            else:
                self.respond()
        except BadRequest as error:
            self.recorder.error(f"{self.command} {self.path}: {error}")
            self.rule = {}
            self.answer(400, [], f"{error}\n".encode())
        finally:
            self.entry["seconds"] = round(time.monotonic() - started, 4)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = handle_any

    # Control

    def control(self):
        self.rule = {}
        path = self.path
        try:
            if path == "/_requests" and self.command == "GET":
                return self.answer_json(200, self.recorder.report())
            if path == "/_requests" and self.command == "DELETE":
                self.recorder.forget()
                return self.answer_json(200, {})
            if path == "/_faults" and self.command == "DELETE":
                self.recorder.set_rules([])
                self.reset_own_faults()
                return self.answer_json(200, {})
            if path == "/_faults" and self.command == "POST":
                faults = json.loads(self.body)
                if "rules" in faults:
                    self.recorder.set_rules(faults.pop("rules"))
                self.set_own_faults(faults)
                return self.answer_json(200, {})
        except (ValueError, KeyError, TypeError) as error:
            return self.answer_json(400, {"error": str(error)})
        return self.answer_json(404, {"error": "no such control"})

    def set_own_faults(self, faults):
        if faults:
            raise ValueError(f"unknown faults: {sorted(faults)}")

    def reset_own_faults(self):
        pass

    # Answers

    def answer_json(self, status, value, headers=()):
        body = json.dumps(value).encode()
        self.answer(status, [("Content-Type", "application/json"), *headers], body)

    def answer(self, status, headers, body):
        """Sends a whole answer; `body` is bytes."""
        self.send_head(status, [*headers, ("Content-Length", str(len(body)))], len(body))
        self.send_body([body], len(body))

    def send_head(self, status, headers, length):
        self.entry["status"] = status
        self.send_response(status)
        for name, value in headers:
            if name.lower() == "content-length" and self.rule.get("kind") == "length":
                value = str(max(0, length + self.rule.get("delta", -1)))
                self.close_connection = True
            self.send_header(name, value)
        self.end_headers()

    def send_body(self, pieces, length):
        """Sends `pieces` (of `length` bytes in all, None where that is not known), as the rule has it."""
        if self.command == "HEAD":
            return
        kind = self.rule.get("kind")
        limit = None
        if kind in ("cut", "reset", "stall"):
            limit = self.rule.get("after", 0)
        elif kind == "length" and length is not None:
            limit = max(0, length + self.rule.get("delta", -1))
        flip = self.rule.get("at", (length or 1) // 2) if kind == "flip" else None
        sent = 0
        for piece in pieces:
            if flip is not None and sent <= flip < sent + len(piece):
                changed = bytearray(piece)
                changed[flip - sent] ^= 0xFF
                piece = bytes(changed)
            if limit is not None:
                piece = piece[: max(0, limit - sent)]
            self.entry["bytes"] += len(piece)
            try:
                self.wfile.write(piece)
            except OSError:
                self.entry["bytes"] -= len(piece)
                raise
            sent += len(piece)
            if limit is not None and sent >= limit:
                break
        if kind in ("cut", "reset", "stall"):
            self.close_connection = True
            # What ends before the place of the stall is whole.
            if kind == "stall" and (limit is None or sent >= limit):
                self.recorder.release.wait(self.rule.get("seconds"))
            if kind == "reset":
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()

    def answer_content(self, content, headers=()):
        """Serves a `Content`, ranges included, and refuses what no careful client sends."""
        headers = [*headers, ("Accept-Ranges", "bytes")]
        size = content.size
        wanted = self.headers.get("Range")
        if wanted is None or self.rule.get("kind") == "whole":
            self.send_head(200, [*headers, ("Content-Length", str(size))], size)
            return self.send_body(content.pieces(0, size), size)
        bounds = RANGE.fullmatch(wanted)
        if not bounds or bounds.groups() == ("", ""):
            raise BadRequest(f"bad Range: {wanted}")
        first, last = bounds.groups()
        if first == "":
            start, end = max(0, size - int(last)), size
        else:
            start, end = int(first), min(int(last) + 1, size) if last else size
            if last and int(last) < start:
                raise BadRequest(f"bad Range: {wanted}")
        if start >= size:
            return self.answer(416, [*headers, ("Content-Range", f"bytes */{size}")], b"")
        headers += [("Content-Range", f"bytes {start}-{end - 1}/{size}"), ("Content-Length", str(end - start))]
        self.send_head(206, headers, end - start)
        self.send_body(content.pieces(start, end), end - start)

    def check_target(self):
        if not PATH_CHARACTERS.fullmatch(self.path):
            raise BadRequest("the target holds characters that must be percent-encoded")


class Content:
    """Bytes in memory or in a file."""

    def __init__(self, data=None, path=None):
        import os

        self.data, self.path = data, path
        self.size = len(data) if path is None else os.path.getsize(path)

    def pieces(self, start, end):
        if self.path is None:
            for offset in range(start, end, PIECE_BYTES):
                yield self.data[offset : min(offset + PIECE_BYTES, end)]
            return
        with open(self.path, "rb") as file:
            file.seek(start)
            while start < end:
                piece = file.read(min(PIECE_BYTES, end - start))
                if not piece:
                    raise OSError(f"{self.path} became shorter")
                start += len(piece)
                yield piece


def run(servers):
    """Announces the servers' URLs as one line of JSON on stdout and serves until stdin ends or a signal comes."""
    import sys

    for server in servers.values():
        server.start()
    print(json.dumps({name: server.url for name, server in servers.items()}), flush=True)
    try:
        sys.stdin.buffer.read()
    except KeyboardInterrupt:
        pass
