"""A TCP proxy that holds back every byte for a fixed time, each way, at any rate: a link with a long way and no limit.

    python delay_proxy.py 127.0.0.1:5000 MILLISECONDS

A connection is delayed as well: the first answer comes two round trips after connect(2), as over such a link.
"""

import collections
import fcntl
import heapq
import json
import os
import selectors
import socket
import sys
import time

PIECE_BYTES = 1 << 20
# What is on its way in one direction of a connection; more is not read: the window of the link.
WINDOW_BYTES = 32 << 20
SPLICE_FLAGS = os.SPLICE_F_NONBLOCK | os.SPLICE_F_MOVE


class Piece:
    """Bytes on their way, in a pipe of their own: they are never copied."""

    def __init__(self, pipe):
        self.pipe, self.count = pipe, 0

    @staticmethod
    def pipe():
        pipe = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        fcntl.fcntl(pipe[1], fcntl.F_SETPIPE_SZ, PIECE_BYTES)
        return pipe

    def drop(self):
        for descriptor in self.pipe:
            os.close(descriptor)


class Side:
    """One socket: what is due to leave by it, and whether anything may come in."""

    def __init__(self, connection):
        self.connection = connection
        self.other = None
        self.pieces = collections.deque()
        self.held = 0
        self.isWriting = self.isFull = self.isEnded = False


class DelayProxy:
    def __init__(self, upstream, seconds):
        self.upstream, self.seconds = upstream, seconds
        self.selector = selectors.DefaultSelector()
        self.timers = []
        self.pipes = []
        self.count = 0
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.listener.setblocking(False)
        self.selector.register(self.listener, selectors.EVENT_READ)

    def run(self):
        while True:
            timeout = max(0, self.timers[0][0] - time.monotonic()) if self.timers else None
            for key, events in self.selector.select(timeout):
                if key.data is None:
                    self.accept()
                    continue
                if events & selectors.EVENT_READ:
                    self.read(key.data)
                if events & selectors.EVENT_WRITE and key.data.connection.fileno() >= 0:
                    self.write(key.data)
            now = time.monotonic()
            while self.timers and self.timers[0][0] <= now:
                self.arrive(*heapq.heappop(self.timers)[2:])

    def later(self, delay, side, piece):
        self.count += 1
        heapq.heappush(self.timers, (time.monotonic() + delay, self.count, side, piece))

    def accept(self):
        connection, _ = self.listener.accept()
        near, far = Side(connection), Side(socket.create_connection(self.upstream))
        near.other, far.other = far, near
        for side in (near, far):
            side.connection.setblocking(False)
            side.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # The handshake takes one round trip before the first byte may come.
        self.later(2 * self.seconds, near, None)
        self.selector.register(far.connection, selectors.EVENT_READ, far)

    def watch(self, side):
        if side.connection.fileno() < 0:
            return
        events = (0 if side.isFull or side.isEnded else selectors.EVENT_READ) | (
            selectors.EVENT_WRITE if side.isWriting else 0)
        try:
            self.selector.unregister(side.connection)
        except KeyError:
            pass
        if events:
            self.selector.register(side.connection, events, side)

    def read(self, side):
        piece = Piece(self.pipes.pop() if self.pipes else Piece.pipe())
        try:
            piece.count = os.splice(side.connection.fileno(), piece.pipe[1], PIECE_BYTES, flags=SPLICE_FLAGS)
        except BlockingIOError:
            self.pipes.append(piece.pipe)
            return
        except OSError:
            pass
        if not piece.count:
            side.isEnded = True
            self.watch(side)
        side.other.held += piece.count
        if side.other.held > WINDOW_BYTES:
            side.isFull = True
            self.watch(side)
        self.later(self.seconds, side.other, piece)

    def arrive(self, side, piece):
        """A piece has come to the end of its way; None: the connection stands."""
        if piece is None:
            self.watch(side)
        elif side.connection.fileno() >= 0:
            side.pieces.append(piece)
            self.write(side)
        else:
            piece.drop()

    def write(self, side):
        wrote = side.isWriting
        try:
            while side.pieces:
                piece = side.pieces[0]
                if not piece.count:
                    return self.close(side)
                count = os.splice(piece.pipe[0], side.connection.fileno(), piece.count, flags=SPLICE_FLAGS)
                side.held -= count
                piece.count -= count
                if not piece.count:
                    self.pipes.append(side.pieces.popleft().pipe)
            side.isWriting = False
        except BlockingIOError:
            side.isWriting = True
        except OSError:
            return self.close(side)
        if side.isWriting != wrote:
            self.watch(side)
        if side.other.isFull and side.held <= WINDOW_BYTES // 2:
            side.other.isFull = False
            self.watch(side.other)

    def close(self, side):
        for end in (side, side.other):
            try:
                self.selector.unregister(end.connection)
            except (KeyError, ValueError):
                pass
            end.connection.close()
            while end.pieces:
                end.pieces.popleft().drop()


def main():
    host, _, port = sys.argv[1].rpartition(":")
    proxy = DelayProxy((host, int(port)), float(sys.argv[2]) / 2000)
    print(json.dumps({"host": "127.0.0.1:%d" % proxy.listener.getsockname()[1]}), flush=True)
    proxy.run()


main()
