"""Runs the workload of Tests/Sweep once for each of its disk calls, which fails, and checks what is left. See scripts/sweep."""

import argparse
import collections
import concurrent.futures
import errno
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile

# What can fail for lack of space.
NEEDING_SPACE = "pwrite,create,mkdir,rename,truncate,allocate,sync"
CALLS = "pwrite,pread,sync,truncate,allocate,rename,unlink,mkdir,stat,times,list,create,open"
FAULTS = {
    "EIO once": (errno.EIO, False, CALLS), "EIO for ever": (errno.EIO, True, CALLS),
    "ENOSPC once": (errno.ENOSPC, False, NEEDING_SPACE), "ENOSPC for ever": (errno.ENOSPC, True, NEEDING_SPACE),
}
# The cache has a folder for each first byte of an identity: calls on the folders themselves are alike.
ALIKE_MAX = 6
SECONDS_MAX = 60
WRONG = 3


class Sweep:
    def __init__(self, options):
        self.options = options
        # Where files take whole pages and nothing besides.
        self.root = tempfile.mkdtemp(prefix="mcfs-sweep-", dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None)
        self.violations = collections.Counter()

    def run_program(self, mode, directory, **faults):
        """(exit code, output) of the program; the code is negative where a signal ended it, None where it hung."""
        environment = os.environ | {"SWIFT_BACKTRACE": "enable=no"}
        if faults:
            environment |= {"LD_PRELOAD": self.options.library, "MCFS_FAULT_DIRECTORY": directory}
            environment |= {"MCFS_FAULT_" + name.upper(): str(value) for name, value in faults.items() if value is not None}
        process = subprocess.Popen(
            [self.options.program, mode, directory], env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True)
        try:
            output = process.communicate(timeout=SECONDS_MAX)[0]
        except subprocess.TimeoutExpired:
            process.kill()
            return None, process.communicate()[0]
        return process.returncode, output

    def calls(self, counted):
        """The calls that count, in order, of a workload without faults."""
        directory = os.path.join(self.root, "count")
        os.mkdir(directory)
        log = directory + ".log"
        code, output = self.run_program("work", directory, log=log, calls=counted)
        try:
            assert code == 0, f"without faults the workload ends with {code}:\n{output}"
            code, output = self.run_program("check", directory)
            assert code == 0, f"without faults the check ends with {code}:\n{output}"
            with open(log) as file:
                return [line.rstrip("\n") for line in file]
        finally:
            shutil.rmtree(directory, ignore_errors=True)
            os.remove(log)

    def chosen(self, calls):
        """Numbers of the calls that are to fail: of those that are alike, some."""
        seen, numbers = collections.Counter(), []
        split = [(name, path.split("/")) for name, _, path in (call.partition(" ") for call in calls)]
        used = {parts[1] for _, parts in split if len(parts) == 3}
        for number, (name, parts) in enumerate(split, 1):
            # blobs/3f where nothing lies in 3f
            kind = (name, parts[0]) if len(parts) == 2 and len(parts[1]) == 2 and parts[1] not in used else None
            seen[kind] += 1
            if kind is None or seen[kind] <= ALIKE_MAX:
                numbers.append(number)
        start = random.Random(self.options.seed).randrange(self.options.every)
        return numbers[start::self.options.every]

    def try_one(self, fault, number, call):
        """The lines that say what was wrong."""
        error, is_forever, counted = FAULTS[fault]
        directory = os.path.join(self.root, f"{fault.replace(' ', '-')}-{number}")
        log = directory + ".log"
        os.mkdir(directory)
        try:
            found = []
            for mode, faults in (
                    ("work", {"at": number, "forever": int(is_forever), "errno": error, "calls": counted, "log": log}),
                    ("check", {})):
                code, output = self.run_program(mode, directory, **faults)
                lines = output.splitlines()
                if code is None:
                    found.append(f"hung: {mode} was not done after {SECONDS_MAX} s")
                elif code not in (0, WRONG):
                    name = signal.Signals(-code).name if code < 0 else code
                    found.append(f"crashed: {mode} ended with {name}: {' / '.join(lines[-3:])}")
                found += [f"{line} ({mode})" for line in lines if line.split(":")[0] in KINDS]
                # Threads may have changed the order: what really failed counts.
                if mode == "work" and os.path.exists(log):
                    with open(log) as file:
                        call = next((line.rstrip(" !\n") for line in file if line.endswith(" !\n")), call)
            return call, found
        finally:
            shutil.rmtree(directory, ignore_errors=True)
            if os.path.exists(log):
                os.remove(log)

    def run(self):
        swept = 0
        with concurrent.futures.ThreadPoolExecutor(self.options.jobs) as pool:
            for fault in self.options.fault or FAULTS:
                calls = self.calls(FAULTS[fault][2])
                numbers = self.options.at or self.chosen(calls)
                tries = {number: pool.submit(self.try_one, fault, number, calls[number - 1]) for number in numbers}
                for number, each in tries.items():
                    call, found = each.result()
                    swept += 1
                    for line in found:
                        self.violations[line.split(":")[0]] += 1
                        print(f"{fault}, call {number} of {len(calls)} ({call}): {line}", flush=True)
        total = sum(self.violations.values())
        details = ", ".join(f"{count} {kind}" for kind, count in sorted(self.violations.items()))
        print(f"{swept} calls swept, {total} violations" + (f": {details}" if total else ""))
        return 1 if total else 0


KINDS = ("wrong", "misreported", "space", "lost", "stalled")


def main():
    parser = argparse.ArgumentParser(prog="scripts/sweep", description="Makes disk calls of the chunk cache fail.")
    parser.add_argument("--program", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--library", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--every", type=int, default=1, metavar="N", help="only every N-th call")
    parser.add_argument("--seed", type=int, default=None, help="with --every: which to begin with")
    parser.add_argument("--fault", action="append", choices=FAULTS, help="only this; can be given several times")
    parser.add_argument("--at", action="append", type=int, metavar="NUMBER", help="only this call; can be given several times")
    parser.add_argument("--jobs", type=int, default=6 * (os.cpu_count() or 1), help="runs at once")
    options = parser.parse_args()
    sweep = Sweep(options)
    try:
        return sweep.run()
    finally:
        shutil.rmtree(sweep.root, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
