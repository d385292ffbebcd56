"""Makes system calls of running processes fail, by strace."""

import os
import signal
import subprocess
import time

from servers.process import find


class Faults:
    """Lets system calls of processes fail: a context manager.

    rules: as strace has them, e.g. `openat:error=EIO:when=2`; the count is each thread's own. path: only calls on this file.
    """

    def __init__(self, pids, rules, log, path=None):
        self.pids, self.rules, self.log, self.path = pids, rules, os.fspath(log), path

    def __enter__(self):
        command = [find("strace"), "-f", "-qq", "-o", self.log]
        command += ["-e", "trace=" + ",".join(sorted({rule.split(":")[0] for rule in self.rules}))]
        for rule in self.rules:
            command += ["-e", f"inject={rule}"]
        for pid in self.pids:
            command += ["-p", str(pid)]
        if self.path:
            command += ["-P", self.path]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True)
        deadline = time.monotonic() + 20
        while not all(self._is_traced(pid) for pid in self.pids):
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.process.kill()
                raise AssertionError(f"{command}: {self.process.communicate()[1].decode()}")
            time.sleep(0.01)
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(20)
        self.process.stderr.close()

    @staticmethod
    def _is_traced(pid):
        for thread in os.listdir(f"/proc/{pid}/task"):
            try:
                with open(f"/proc/{pid}/task/{thread}/status") as file:
                    if "TracerPid:\t0\n" in file.read():
                        return False
            except FileNotFoundError:
                continue
        return True

    @property
    def met(self):
        """The calls that failed so."""
        with open(self.log, errors="replace") as file:
            return [line.strip() for line in file if "INJECTED" in line]
