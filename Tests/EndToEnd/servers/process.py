"""Starts server processes, waits until they answer, and ends them whatever happens."""

import ctypes
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

READY_SECONDS = 60
STOP_SECONDS = 10
# Variables that change whom a server or client trusts or where it goes.
CLEARED = (
    "AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "CURL_CA_BUNDLE", "AWS_PROFILE", "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3", "http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY",
)
PR_SET_PDEATHSIG = 1


def find(name):
    """The path of an executable: next to the Python that runs this, or on PATH. Its lack is a failure."""
    beside = os.path.join(os.path.dirname(sys.executable), name)
    if os.access(beside, os.X_OK):
        return beside
    path = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if path is None:
        raise RuntimeError(
            f"{name} is not installed: take the packages of Tests/EndToEnd/requirements.txt and, from the distribution, "
            "curl, docker-registry, nginx, skopeo and umoci")
    return path


def clean_environment(**extra):
    environment = {name: value for name, value in os.environ.items() if name not in CLEARED}
    environment["NO_PROXY"] = environment["no_proxy"] = "127.0.0.1,localhost"
    return environment | extra


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


_libc = ctypes.CDLL(None, use_errno=True)


def die_with_parent():
    """For `preexec_fn`, which runs in the child: a server must not outlive a pytest that was killed."""
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class ServerProcess:
    """A server in its own process group. Use as a context manager."""

    def __init__(self, name, command, log_path, ready, environment=None, stdout=None, stdin=None):
        self.name = name
        self.log_path = str(log_path)
        self.ready = ready
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                command, stdin=stdin or subprocess.DEVNULL, stdout=stdout or log, stderr=log,
                env=environment or clean_environment(), start_new_session=True, preexec_fn=die_with_parent)

    def wait_ready(self):
        deadline = time.monotonic() + READY_SECONDS
        while not self.ready():
            if self.process.poll() is not None:
                self.fail(f"ended with {self.process.returncode} before it was ready")
            if time.monotonic() > deadline:
                self.stop()
                self.fail(f"was not ready after {READY_SECONDS} s")
            time.sleep(0.1)
        return self

    def fail(self, what):
        with open(self.log_path, "rb") as log:
            tail = log.read()[-3000:].decode(errors="replace")
        raise RuntimeError(f"{self.name} {what}; its log ends with:\n{tail}")

    def stop(self):
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self.process.pid, number)
            except ProcessLookupError:
                pass
            try:
                self.process.wait(STOP_SECONDS)
                break
            except subprocess.TimeoutExpired:
                continue
        # What the leader left behind in its group.
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        for stream in (self.process.stdin, self.process.stdout):
            if stream:
                stream.close()

    def __enter__(self):
        try:
            return self.wait_ready()
        except BaseException:
            self.stop()
            raise

    def __exit__(self, *_):
        self.stop()


def answers(url, statuses=(200,)):
    """A readiness check: whether `url` answers with one of `statuses`."""

    def check():
        try:
            with urllib.request.urlopen(url, timeout=2) as response:
                return response.status in statuses
        except urllib.error.HTTPError as error:
            return error.code in statuses
        except OSError:
            return False

    return check


class Recorded:
    """Control of a server made of recording.py: its log of requests and its faults."""

    def __init__(self, url):
        self.url = url

    def _control(self, method, path, value=None):
        body = None if value is None else json.dumps(value).encode()
        request = urllib.request.Request(self.url + path, body, method=method)
        with urllib.request.urlopen(request, timeout=30) as response:
            return json.load(response)

    @property
    def report(self):
        return self._control("GET", "/_requests")

    @property
    def requests(self):
        return self.report["requests"]

    @property
    def errors(self):
        return self.report["errors"]

    @property
    def bytes(self):
        return self.report["bytes"]

    def forget(self):
        self._control("DELETE", "/_requests")

    def fault(self, *rules, **own):
        """Replaces the rules where some are given, and sets the server's own switches."""
        self._control("POST", "/_faults", ({"rules": rules} if rules else {}) | own)

    def heal(self):
        self._control("DELETE", "/_faults")


class RecordedProcess(ServerProcess, Recorded):
    """One of the Python servers of this folder, in its own process: a reader of a mount that lives in the test's process
    may hold Python's lock while it waits for the mount, and the mount for the server."""

    def __init__(self, script, arguments, log_path):
        command = [sys.executable, os.path.join(os.path.dirname(__file__), script), *arguments]
        self._line = b""
        ServerProcess.__init__(
            self, script, command, log_path, self._announced, stdout=subprocess.PIPE, stdin=subprocess.PIPE)

    def _announced(self):
        if select.select([self.process.stdout], [], [], 0)[0]:
            self._line += os.read(self.process.stdout.fileno(), 4096)
        if not self._line.endswith(b"\n"):
            return False
        for name, url in json.loads(self._line).items():
            setattr(self, name, url)
        return True
