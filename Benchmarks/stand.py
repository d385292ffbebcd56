"""What is measured on: a workspace with servers and files, and fresh caches of mcfs in it."""

import contextlib
import os
import shutil
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "Tests/EndToEnd"))

import images  # noqa: E402
from mcfs import Mcfs  # noqa: E402
from measure import MIB  # noqa: E402
from servers import nginx as nginx_server  # noqa: E402
from servers import registry as registry_server  # noqa: E402
from servers import s3 as s3_server  # noqa: E402
from servers.process import RecordedProcess  # noqa: E402

LIMITED_BYTES_PER_SECOND = 25_000_000
ROUND_TRIP_MILLISECONDS = 20


class Stand:
    """A context manager: at its end every server, daemon and mount of it is gone, and its files too.

    Files that mcfs made stay until then: ext4 shuns the numbers of inodes that were deleted lately and searches for others, so that a
    round that deletes thousands of files would make the next one's slower, up to twenty times.
    """

    def __init__(self, large_bytes, rounds, is_quick=False):
        self.large_bytes, self.rounds, self.is_quick = large_bytes, rounds, is_quick
        self.rows = []
        self.workspace = tempfile.mkdtemp(prefix="mcfs-bench-")
        self.stack = contextlib.ExitStack()
        self.stack.callback(shutil.rmtree, self.workspace, ignore_errors=True)
        self._count = 0
        self._servers = {}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stack.close()

    def directory(self, name):
        self._count += 1
        path = os.path.join(self.workspace, f"{self._count:03}-{name}")
        os.makedirs(path)
        return path

    def few(self, count):
        """`count`, or a tenth of it for a short look."""
        return count // 10 if self.is_quick else count

    def row(self, name, value, goal="", met=True, **details):
        """One line of a table: the one of `section`, if it is given. All `details` go into the results as they are."""
        self.rows.append({"name": name, "value": value, "goal": goal, "met": bool(met), **details})
        print(f"{'' if met else 'NOT MET '}{name}: {value}{f' (goal {goal})' if goal else ''}", flush=True)

    # mcfs

    @contextlib.contextmanager
    def mcfs(self, **environment):
        """A cache directory of its own, and the daemon that serves it."""
        with Mcfs(self.directory("mcfs"), environment=environment) as mcfs:
            yield mcfs

    def empty(self, mcfs):
        """Gives back the disk space of large files."""
        shutil.rmtree(mcfs.directory, ignore_errors=True)

    # Servers, started when they are first asked for

    def _server(self, name, make):
        if name not in self._servers:
            self._servers[name] = self.stack.enter_context(make(self.directory(name)))
        return self._servers[name]

    @property
    def nginx(self):
        return self._server(
            "nginx", lambda directory: nginx_server.nginx(directory, slow_bytes_per_second=LIMITED_BYTES_PER_SECOND))

    @property
    def registry(self):
        return self._server("registry", registry_server.registry)

    @property
    def weed(self):
        return self._server("weed", s3_server.weed)

    def distant(self, server):
        """HOST:PORT of a way to `server` that takes 20 ms there and back."""
        host = server.url.removeprefix("http://")
        return self._server(f"way to {host}", lambda directory: RecordedProcess(
            "delay_proxy.py", [host, str(ROUND_TRIP_MILLISECONDS)], os.path.join(directory, "log"))).host

    # Files

    def served(self, name, count):
        """A file of `count` random bytes in nginx's folder; made once."""
        path = os.path.join(self.nginx.root, name)
        if not os.path.exists(path):
            with open(path, "wb") as file:
                for done in range(0, count, 16 * MIB):
                    file.write(os.urandom(min(16 * MIB, count - done)))
        return path

    def layer(self, name, count, size):
        """An image in the registry with `count` small files in one uncompressed layer. - Returns: REPOSITORY:TAG, and
        the layer's path at the registry."""
        if name not in self._servers:
            layout = images.Layout(os.path.join(self.directory("image"), name))
            data = os.urandom(size + 4096)
            members = [
                (f"d{index % 100:02}/{index:06}", data[index % 4096:index % 4096 + size]) for index in range(count)]
            digest = layout.blob(images.tar(*members), images.LAYER)
            layout.image([digest])
            images.push(layout.path, self.registry, name, "tar")
            self._servers[name] = (f"{name}:v1", f"/v2/{name}/blobs/{digest['digest']}")
        return self._servers[name]
