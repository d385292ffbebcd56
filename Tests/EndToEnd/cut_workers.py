"""What tests of power cuts share: workers in namespaces of their own, and the end of a daemon on a disk that may be dead.

Each worker is the first process of a pid namespace, in a mount namespace: when it ends, for whatever reason, its daemons,
mounts and loop devices end with it. Needs root.
"""

import collections
import contextlib
import json
import os
import signal
import subprocess
import sys

import mcfs as mcfs_helper
from servers.process import die_with_parent


def run_workers(script, plans):
    """Runs `script --worker PLAN` for each of the plans, all at once. Each prints `counts` and `violations` as JSON.

    - Returns: the sum of the counts, and all violations.
    """
    counts, violations, processes = collections.Counter(), [], []
    try:
        for plan in plans:
            processes.append(subprocess.Popen(
                ["unshare", "--mount", "--pid", "--fork", "--kill-child=KILL", "--mount-proc", "--propagation", "private",
                 sys.executable, os.path.abspath(script), "--worker", json.dumps(plan)],
                stdout=subprocess.PIPE, text=True, start_new_session=True, preexec_fn=die_with_parent))
        for process in processes:
            output = process.communicate()[0]
            if process.returncode != 0:
                violations.append(f"a worker ended with {process.returncode}: {output}")
                continue
            result = json.loads(output)
            counts.update(result["counts"])
            violations += result["violations"]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    return counts, violations


def kill_daemon(mcfs, number=signal.SIGKILL):
    """Leaves the mount, dead: nothing that is done at its path gets to what is below it."""
    pids = mcfs.daemon_pids
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
    return pids


def end_daemon(mcfs, mountpoint, number):
    """Ends the daemon by a signal, in order by SIGTERM, and takes away its mount, living or dead."""
    if number == signal.SIGTERM and mcfs_helper.is_mounted(mountpoint):
        mcfs.umount(mountpoint, timeout=60)
    pids = kill_daemon(mcfs, number)
    while mcfs_helper.is_mounted(mountpoint):
        subprocess.run(["umount", "-l", mountpoint], capture_output=True)
    for pid in pids:
        # Orphans are the first process's to bury.
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)
    mcfs.wait_daemon_gone()
