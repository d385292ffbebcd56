#!/usr/bin/env python3
"""POSIX conformance of a file system, as a list of small cases.

    posix.py list                       the names of the cases
    posix.py prepare DIR                makes the starting trees of all cases, DIR/CASE each
    posix.py run DIR                    makes each starting tree in DIR and runs the case there
    posix.py run DIR --prepared         runs the cases in the trees that `prepare` made

Runs as root. Each case runs in a process of its own that has ten seconds; one that hangs is killed and left behind.
"""

import argparse
import fnmatch
import json
import os
import select
import signal
import sys
import time
import traceback

import cases  # registers them
import suite

assert cases
LIMIT_SECONDS = 10
# So many hung cases in a row, and the file system is taken for dead.
HUNG_IN_A_ROW = 5


def main():
    options = parse()
    chosen = [case for name, case in suite.CASES.items() if fnmatch.fnmatchcase(name, options.only)]
    if options.command == "list":
        print("\n".join(case.name for case in chosen))
        return 0
    if os.geteuid() != 0:
        sys.exit("The cases change users and owners, which only root may do.")
    if options.command == "prepare":
        return prepare(options.directory, chosen)
    results = run(options.directory, chosen, options.prepared)
    if options.json:
        with open(options.json, "w") as file:
            json.dump(results, file, indent=1)
    failed = sum(1 for reason in results.values() if reason)
    print(f"{len(results) - failed} passed, {failed} failed")
    return 1 if failed else 0


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("list", "prepare", "run"):
        command = commands.add_parser(name)
        command.add_argument("--only", metavar="GLOB", default="*", help="cases whose names match, as rename/*")
        if name != "list":
            command.add_argument("directory", metavar="DIR")
    command.add_argument("--prepared", action="store_true", help="the starting trees are there already")
    command.add_argument("--json", metavar="FILE", help="writes the reason of each failure, null where a case passed")
    return parser.parse_args()


def prepare(directory, chosen):
    os.umask(0o022)
    os.makedirs(directory, exist_ok=True)
    os.chdir(directory)
    for case in chosen:
        os.mkdir(case.slug)
        os.chdir(case.slug)
        suite.make(case.tree)
        os.chdir("..")
    return 0


def run(directory, chosen, prepared):
    """The reason of the failure by name of the case, None where it passed."""
    directory = os.path.abspath(directory)
    results, hung = {}, 0
    for case in chosen:
        if hung < HUNG_IN_A_ROW:
            reason = outcome(case, directory, prepared)
            hung = hung + 1 if reason == HANGS else 0
        else:
            reason = f"not run: the {HUNG_IN_A_ROW} cases before it hung"
        results[case.name] = reason
        if reason:
            print(f"FAILED {case.name}: {reason}", flush=True)
    return results


HANGS = f"still running after {LIMIT_SECONDS} s"


def outcome(case, directory, prepared):
    """Runs one case in a process of its own. This process never touches the file system, which may hang."""
    receive, send = os.pipe()
    sys.stdout.flush()
    if (pid := os.fork()) == 0:
        os.close(receive)
        os.setsid()
        reason = attempt(case, directory, prepared) or ""
        os.write(send, reason.encode(errors="backslashreplace")[:4000] + b"\0")
        os._exit(0)
    os.close(send)
    message = receive_until(receive, time.monotonic() + LIMIT_SECONDS)
    os.close(receive)
    # The children of the case are in its process group.
    try:
        os.killpg(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass
    status = reap(pid)
    if message is None:
        return HANGS
    if not message.endswith(b"\0"):
        return f"its process ended with status {status}"
    return message[:-1].decode() or None


def receive_until(pipe, deadline):
    """All that comes until the end of the message; None where it does not come in time."""
    message = b""
    while not message.endswith(b"\0"):
        if not select.select([pipe], [], [], max(0, deadline - time.monotonic()))[0]:
            return None
        if not (piece := os.read(pipe, 4096)):
            break
        message += piece
    return message


def reap(pid):
    """The status of a killed process; None where even that does not end it."""
    for _ in range(100):
        if (ended := os.waitpid(pid, os.WNOHANG))[0]:
            return os.waitstatus_to_exitcode(ended[1])
        time.sleep(0.01)


def attempt(case, directory, prepared):
    """The reason of the failure; None where the case passes."""
    try:
        os.umask(0o022)
        os.chdir(directory)
        if not prepared:
            os.mkdir(case.slug)
        os.chdir(case.slug)
        if not prepared:
            try:
                suite.make(case.tree)
            except OSError as error:
                return f"its starting tree cannot be made: {described(error)}"
        case.action()
    except AssertionError as error:
        return described(error)
    except OSError as error:
        return described(error)
    except BaseException:
        return traceback.format_exc()


def described(error):
    """The error, and the line of the case that met it; rows of a table have none."""
    frames = traceback.extract_tb(error.__traceback__)
    inside = [frame for frame in frames if f"{os.sep}cases{os.sep}" in frame.filename]
    where = f" ({os.path.basename(inside[-1].filename)}:{inside[-1].lineno}: {inside[-1].line})" if inside else ""
    return (str(error) or "does not hold") + where


if __name__ == "__main__":
    sys.exit(main())
