"""A reverse proxy that counts requests and bytes and misbehaves on request (see recording.py for how).

    python fault_proxy.py http://127.0.0.1:5000

Requests reach the upstream as they came, `Host` included: signatures over it stay right, and absolute links that the
upstream makes lead back to the proxy. Redirects are passed on, not followed.
"""

import http.client
import sys
import urllib.parse

from recording import PIECE_BYTES, Recorder, RecordingHandler, RecordingServer, run

HOP_BY_HOP = {"connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade", "expect"}


class ProxyHandler(RecordingHandler):
    def respond(self):
        upstream = self.server.upstream
        connection = http.client.HTTPConnection(upstream.hostname, upstream.port, timeout=60)
        try:
            self.forward(connection)
        except (OSError, http.client.HTTPException) as error:
            if self.entry["status"]:
                raise ConnectionError("the upstream ended in the middle") from error
            self.rule = {}
            self.answer(502, [], f"the upstream failed: {type(error).__name__}\n".encode())
        finally:
            connection.close()

    def forward(self, connection):
        connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            if name.lower() in HOP_BY_HOP or (name.lower() == "range" and self.rule.get("kind") == "whole"):
                continue
            connection.putheader(name, value)
        body = self.request_body()
        if "Content-Length" not in self.headers and body is not None:
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body)
        response = connection.getresponse()
        length = response.getheader("Content-Length")
        bodyless = self.command == "HEAD" or response.status in (204, 304) or response.status < 200
        if length is None and not bodyless:
            self.close_connection = True
        headers = [(name, value) for name, value in response.getheaders() if name.lower() not in HOP_BY_HOP]
        if self.close_connection:
            headers.append(("Connection", "close"))
        length = None if length is None else int(length)
        self.send_head(response.status, headers, length or 0)
        self.send_body(iter(lambda: response.read1(PIECE_BYTES), b""), length)

    def request_body(self):
        if "chunked" in self.headers.get("Transfer-Encoding", "").lower():
            pieces = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                pieces.append(self.rfile.read(size))
                self.rfile.readline()
            while self.rfile.readline().strip():
                pass
            return b"".join(pieces)
        length = self.headers.get("Content-Length")
        return None if length is None else self.rfile.read(int(length))

    def send_response(self, status, message=None):
        # The upstream's own Server and Date headers are passed on.
        self.send_response_only(status, message)


if __name__ == "__main__":
    server = RecordingServer(ProxyHandler, Recorder(), int(sys.argv[2]) if len(sys.argv) > 2 else 0)
    server.upstream = urllib.parse.urlsplit(sys.argv[1])
    run({"url": server})
