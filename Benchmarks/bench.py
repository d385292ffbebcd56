"""Measures mcfs beside what it replaces, in turns on one machine, and writes Benchmarks/results/ and docs/performance.md.

    scripts/bench [--rounds N]           every row
    scripts/bench --only NAME,…          these rows (--list shows the names); nothing is written,
    scripts/bench --only NAME,… --update or they take their places in the last results
    scripts/bench --quick                smaller and fewer files, one round, nothing is written

Servers listen on loopback. Every round begins with a fresh cache directory; the sides of a comparison take turns. Figures
are medians, with the lowest and the highest in brackets.
"""

import argparse
import glob
import json
import os
import platform
import signal
import subprocess
import sys
import time

import cache
import kernels
import large
import many
import small
import upper
from measure import MIB
from stand import ROOT, Stand

ROWS = large.ROWS | small.ROWS | cache.ROWS | many.ROWS | upper.ROWS | kernels.ROWS
# Tables of docs/performance.md: the marks around each, and which rows it has.
SECTIONS = {
    "": ("<!-- bench -->\n", "<!-- /bench -->"), "cache": ("<!-- bench cache -->\n", "<!-- /bench cache -->"), "many": ("<!-- bench many -->\n", "<!-- /bench many -->"),
    "kernels": ("<!-- bench kernels -->\n", "<!-- /bench kernels -->")}


def first_line(*command):
    try:
        output = subprocess.run(command, capture_output=True, text=True)
        return (output.stdout or output.stderr).splitlines()[0].strip()
    except (OSError, IndexError):
        return "not there"


def machine():
    """What the figures were measured with."""
    with open("/proc/meminfo") as file:
        memory = int(file.readline().split()[1]) * 1024
    with open("/proc/cpuinfo") as file:
        model = next((line.split(":", 1)[1].strip() for line in file if line.startswith("model name")), "")
    return {
        "cpus": os.cpu_count(), "cpuModel": model, "kernel": platform.release(), "memoryBytes": memory,
        "mcfs": first_line(os.path.join(ROOT, ".build/release/mcfs"), "--version"), "curl": first_line("curl", "--version"),
        "rclone": first_line("rclone", "version"), "s3fs": first_line("s3fs", "--version"),
        "fuse-overlayfs": first_line("fuse-overlayfs", "--version"), "date": time.strftime("%Y-%m-%d", time.gmtime()),
    }


def document(facts, rows):
    """Draws the tables of docs/performance.md, between their marks."""
    path = os.path.join(ROOT, "docs/performance.md")
    with open(path) as file:
        text = file.read()
    measured = (
        f"Measured {facts['date']} by `scripts/bench` on {facts['cpus']} cores ({facts['cpuModel']}), {facts['memoryBytes'] // 2**30} GiB, "
        f"Linux {facts['kernel']}, {facts['curl'].split(' (')[0]}, {facts['rclone']}; all servers on the same machine.\n")
    for section, (begin, end) in SECTIONS.items():
        own = [row for row in rows if row.get("section", "") == section]
        dates = sorted({row.get("measured", facts["date"]) for row in own})
        lines = [f"Measured {', '.join(dates)}.\n"] if section and dates else [measured]
        lines += ["| work | measured | goal | met |", "|---|---|---|---|"]
        lines += [
            f"| {row['name']} | {row['value']} | {row['goal'] or '–'} | {'–' if not row['goal'] else 'yes' if row['met'] else '**no**'} |"
            for row in own]
        head, _, rest = text.partition(begin)
        _, _, tail = rest.partition(end)
        text = head + begin + "\n".join(lines) + "\n" + end + tail
    with open(path, "w") as file:
        file.write(text)


def updated(old, new):
    """`old` with the rows of `new` in the places of their names."""
    names = {row["name"]: row for row in new}
    known = {row["name"] for row in old}
    return [names.get(row["name"], row) for row in old] + [row for row in new if row["name"] not in known]


def keep(rows, isUpdate):
    """Writes the results and the tables; `isUpdate`: into the last results."""
    facts = machine()
    path = os.path.join(ROOT, f"Benchmarks/results/{facts['date']}-{facts['cpus']}cpu-{facts['kernel']}.json")
    if isUpdate:
        path = max(glob.glob(os.path.join(ROOT, "Benchmarks/results/*.json")))
        with open(path) as file:
            last = json.load(file)
        # What is not measured anew keeps its date.
        rows = updated(last["rows"], [row | {"measured": f"{facts['date']} on Linux {facts['kernel']}"} for row in rows])
        facts = last["machine"]
    with open(path, "w") as file:
        json.dump({"machine": facts, "rows": rows}, file, indent=1, sort_keys=True)
        file.write("\n")
    document(facts, rows)
    print(f"\nwritten: {os.path.relpath(path, ROOT)}, docs/performance.md")


def main():
    parser = argparse.ArgumentParser(prog="scripts/bench")
    parser.add_argument("--rounds", type=int, default=5, help="of each comparison (default 5)")
    parser.add_argument("--quick", action="store_true", help="smaller and fewer files, one round, nothing is written")
    parser.add_argument("--only", help="these rows only, by name; nothing is written")
    parser.add_argument("--update", action="store_true", help="with --only: put the rows into the last results")
    parser.add_argument("--list", action="store_true", help="the names of the rows")
    arguments = parser.parse_args()
    if arguments.list:
        return print("\n".join(f"{name:14}{(work.__doc__ or '').splitlines()[0] if work.__doc__ else ''}" for name, work in ROWS.items()))
    names = arguments.only.split(",") if arguments.only else list(ROWS)
    if unknown := [name for name in names if name not in ROWS]:
        parser.error(f"there is no row {unknown[0]}; --list shows the names")
    # A signal ends the run as an error does: servers are stopped and mounts taken away.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    rounds, size = (1, 128 * MIB) if arguments.quick else (arguments.rounds, 1024 * MIB)
    with Stand(size, rounds, arguments.quick) as stand:
        for name in names:
            ROWS[name](stand)
        # Before everything is deleted, which takes minutes where millions of files were made.
        if not arguments.quick and (arguments.update or not arguments.only):
            keep(stand.rows, arguments.update)


main()
