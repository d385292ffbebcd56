"""Servers and the mcfs under test, as fixtures. A server starts when the first test asks for it and ends with the session,
whatever happens in between.

A missing server or client is a failure: a test that did not run proves nothing. The one skip is a machine without
/dev/fuse, and not even that where CI=true.
"""

import json
import os
import sys

import pytest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import mcfs as mcfs_helper
import trees
from servers import nginx as nginx_server
from servers import registry as registry_server
from servers import s3 as s3_server
from servers.process import CLEARED, RecordedProcess

for name in CLEARED:
    os.environ.pop(name, None)
os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1,localhost"
os.environ["AWS_EC2_METADATA_DISABLED"] = "true"


# The Hub

TOKEN, STRANGER_TOKEN, SCOPELESS_TOKEN = "hf_reader", "hf_stranger", "hf_scopeless"


class Hub(RecordedProcess):
    """The stand-in of the Hugging Face Hub. `folders` maps repositories to the folders whose files they hold."""

    token, stranger_token, scopeless_token = TOKEN, STRANGER_TOKEN, SCOPELESS_TOKEN

    def __init__(self, directory):
        self.folders = _make_repositories(os.path.join(directory, "repositories"))
        path = os.path.join(directory, "hub.json")
        with open(path, "w") as file:
            json.dump(_describe(self.folders), file)
        super().__init__("hub_stub.py", [path], os.path.join(directory, "log"))


def _make_repositories(root):
    """Folders by name."""
    names = ("model", "model-old", "names", "many", "data", "app", "gated", "private", "disabled")
    folders = {name: os.path.join(root, name) for name in names}
    trees.make_plain(folders["model"])
    trees.make_plain(folders["model-old"])
    trees.write(f"{folders['model-old']}/config.json", b'{"model_type": "older"}\n')
    os.remove(f"{folders['model-old']}/README.md")
    trees.make_named(folders["names"])
    for index in range(250):
        trees.write(f"{folders['many']}/part{index % 7}/file{index:04}.txt", b"%d\n" % index)
    trees.write(f"{folders['data']}/train/0000.parquet", trees.seeded(7, 300_000))
    trees.write(f"{folders['data']}/README.md", b"data\n")
    trees.write(f"{folders['app']}/app.py", b"print('hello')\n")
    for name in ("gated", "private", "disabled"):
        trees.write(f"{folders[name]}/config.json", b"{}\n")
        trees.write(f"{folders[name]}/weights.safetensors", trees.seeded(8, 200_000))
    return folders


def _describe(folders):
    large = ["*.safetensors", "*.bin", "*.parquet"]

    def commit(name, **more):
        return {"folder": folders[name], "large": large} | more

    def repository(identity, *commits, **more):
        return {"type": "model", "id": identity, "commits": list(commits)} | more

    return {
        "tokens": {TOKEN: {}, STRANGER_TOKEN: {}, SCOPELESS_TOKEN: {"scope": False}},
        "page_size": 50,
        "repositories": [
            repository(
                "org/model", commit("model-old", branches=["old/branch"], tags=["v1"]),
                commit("model", branches=["main", "refs/pr/1"])),
            repository("org/names", commit("names")),
            repository("org/many", commit("many")),
            repository("org/data", commit("data"), type="dataset"),
            repository("org/app", commit("app"), type="space"),
            repository("org/gated", commit("gated"), gated="auto", readers=[TOKEN]),
            repository("org/private", commit("private"), private=True, readers=[TOKEN]),
            repository("org/disabled", commit("disabled"), disabled=True),
        ],
    }


@pytest.fixture(scope="session")
def _hub(tmp_path_factory):
    with Hub(str(tmp_path_factory.mktemp("hub"))) as server:
        yield server


@pytest.fixture
def hub(_hub):
    """The stand-in Hub, healed and with an empty log; what it found wrong with a client fails the test."""
    _hub.heal()
    _hub.forget()
    yield _hub
    errors = _hub.errors
    _hub.heal()
    _hub.forget()
    assert not errors, f"the Hub refused what no client should send: {errors}"


# S3

@pytest.fixture(scope="session")
def weed_s3(tmp_path_factory):
    """SeaweedFS: an S3 server that checks signatures, If-Match and ranges."""
    with s3_server.weed(str(tmp_path_factory.mktemp("weed"))) as server:
        yield server


@pytest.fixture(scope="session")
def rclone_s3(tmp_path_factory):
    """rclone's S3 server: ignores If-Match, sends wrong checksums with ranges. Real and hostile."""
    with s3_server.rclone(str(tmp_path_factory.mktemp("rclone"))) as server:
        yield server


# Registries

@pytest.fixture(scope="session")
def registry(tmp_path_factory):
    with registry_server.registry(str(tmp_path_factory.mktemp("registry"))) as server:
        yield server


@pytest.fixture(scope="session")
def registry_auth(tmp_path_factory):
    """Asks for a password (Basic)."""
    with registry_server.registry(str(tmp_path_factory.mktemp("registry-auth")), password=True) as server:
        yield server


@pytest.fixture(scope="session")
def registry_s3(tmp_path_factory, weed_s3):
    """Keeps its blobs in S3 and answers for them with 307 to a signed URL. Asks for a password, which S3 must not see."""
    directory = str(tmp_path_factory.mktemp("registry-s3"))
    with registry_server.registry(directory, password=True, s3=weed_s3, bucket="registry") as server:
        yield server


# HTTP

@pytest.fixture(scope="session")
def nginx(tmp_path_factory):
    with nginx_server.nginx(str(tmp_path_factory.mktemp("nginx"))) as server:
        yield server


class Proxy(RecordedProcess):
    """A reverse proxy of `upstream` that counts and misbehaves; `url` leads through it."""

    def __init__(self, upstream, log_path):
        super().__init__("fault_proxy.py", [upstream], log_path)

    @property
    def host(self):
        return self.url.removeprefix("http://")


@pytest.fixture
def fault_proxy(tmp_path):
    """Makes proxies: `fault_proxy(server.url)`. They end with the test."""
    started = []

    def start(upstream):
        proxy = Proxy(upstream, tmp_path / f"proxy-{len(started)}.log")
        started.append(proxy)
        return proxy.__enter__()

    yield start
    for proxy in started:
        proxy.stop()


@pytest.fixture
def flip_proxy(fault_proxy):
    """Makes proxies that flip a byte in every second answer to a GET that has a body."""

    def start(upstream, match=""):
        proxy = fault_proxy(upstream)
        proxy.fault({"kind": "flip", "method": "GET", "every": 2, "match": match})
        return proxy

    return start


# mcfs

@pytest.fixture
def mcfs(tmp_path):
    """mcfs with a cache directory of its own; nothing is mounted and no daemon runs after the test."""
    with mcfs_helper.Mcfs(tmp_path / "mcfs") as instance:
        assert os.access(instance.executable, os.X_OK), f"{instance.executable} is missing: build it, or set MCFS"
        yield instance


@pytest.fixture
def fuse():
    """For tests that mount."""
    if not mcfs_helper.has_fuse():
        if os.environ.get("CI") == "true":
            pytest.fail("/dev/fuse is missing: mount tests must not be skipped in CI")
        pytest.skip("no /dev/fuse on this machine")


@pytest.fixture
def sample_tree(tmp_path):
    """A folder with everything that a tree can hold."""
    return trees.make(tmp_path / "tree")
