#!/usr/bin/env python3
"""Virtual environments with one version of Triton each. The tests make the missing ones; to make all of them beforehand:

    Tests/EndToEnd/triton_versions/environments.py

They lie in $MCFS_TEST_ENVIRONMENTS, else in mcfs-tests below the user's cache directory, and stay: 0.6 to 1 GB each.
"""

import fcntl
import os
import shutil
import subprocess
import sys

VERSIONS = ("3.0.0", "3.2.0", "3.3.1", "3.4.0", "3.6.0", "3.7.1", "3.8.0", "3.9.0")

_CACHE = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
ROOT = os.environ.get("MCFS_TEST_ENVIRONMENTS") or os.path.join(_CACHE, "mcfs-tests")


class NotInstallable(Exception):
    """This version does not exist for this Python; the text is pip's."""


def python(version):
    """The Python that has Triton `version`."""
    folder = os.path.join(ROOT, f"triton-{version}-python{sys.version_info.major}.{sys.version_info.minor}")
    executable, done = os.path.join(folder, "bin/python"), os.path.join(folder, "done")
    os.makedirs(ROOT, exist_ok=True)
    with open(folder + ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        # The Python that it was made with may be gone.
        if not (os.path.exists(done) and os.access(executable, os.X_OK)):
            shutil.rmtree(folder, ignore_errors=True)
            print(f"Making {folder} for Triton {version}", file=sys.stderr)
            try:
                _make(folder, version)
            except BaseException:
                shutil.rmtree(folder, ignore_errors=True)
                raise
            open(done, "w").close()
    return executable


def _make(folder, version):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    pip = [sys.executable, "-m", "pip", "--python", f"{folder}/bin/python", "install"]
    options = ["--quiet", "--no-cache-dir", "--disable-pip-version-check", "--only-binary", ":all:"]
    # Triton up to 3.2 imports setuptools and does not ask for it.
    requirements = [f"triton=={version}", "setuptools"]
    result = subprocess.run([*pip, *options, *requirements], capture_output=True, text=True, timeout=600)
    if result.returncode:
        # pip lists the versions that it could have taken: none where it did not reach the index.
        reason = next((line for line in result.stderr.splitlines() if "(from versions: " in line), "")
        if reason and "(from versions: none)" not in reason:
            raise NotInstallable(reason)
        raise RuntimeError(f"pip cannot install {requirements}:\n{result.stderr}")


if __name__ == "__main__":
    for version in VERSIONS:
        try:
            python(version)
        except NotInstallable as error:
            print(f"Triton {version} is not installable: {error}", file=sys.stderr)
