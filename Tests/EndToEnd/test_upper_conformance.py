"""The conformance list on a mount: whatever the kernel's overlayfs passes, mcfs passes."""

import os
import subprocess
import sys

import pytest

import mcfs as mcfs_helper

pytestmark = pytest.mark.usefixtures("fuse")

LIST = os.path.join(mcfs_helper.ROOT, "Tests", "Conformance", "compare.py")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount an overlay")
def test_a_mount_passes_what_the_overlay_of_the_kernel_passes(mcfs, tmp_path):
    result = subprocess.run(
        [sys.executable, LIST, "--on", "overlay,mcfs", "--mcfs", mcfs.executable, "--directory", tmp_path],
        capture_output=True, text=True, timeout=600, stdin=subprocess.DEVNULL)
    assert result.returncode == 0, result.stdout[-10000:] + result.stderr[-4000:]
    assert result.stdout.count(" passed ") == 4 and "0 that mcfs fails and overlay does not" in result.stdout
