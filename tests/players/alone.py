"""Tests on a network of their own: the way into namespaces, and the run of them all against one world."""

from __future__ import annotations

import os
import subprocess
import sys

from stage import run_tests

SKIPPED = 77
INSIDE = "--inside"


def skip(why):
    """Ends the program: nothing of it can be done here."""
    print(f"skipped: {why}", flush=True)
    sys.exit(SKIPPED)


def run_alone(usage, set_up, world, tests, jobs=1):
    """Runs `tests`, each with what `world` makes of a lab, in namespaces that belong to this process and end with it, on the
    network that `set_up` lays; ends the program."""
    if len(sys.argv) < 2:
        print(usage)
        sys.exit(2)
    if INSIDE not in sys.argv:
        # With its own list of processes, whatever it started ends with it.
        alone = ["unshare", "--net", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child"]
        if os.geteuid() != 0 or subprocess.run([*alone, "true"], stderr=subprocess.DEVNULL).returncode:
            skip("no namespaces without root, or not in this container")
        sys.exit(subprocess.run([*alone, sys.executable, *sys.argv, INSIDE]).returncode)
    set_up()

    def collect(lab):
        place = world(lab)
        for test in tests:
            yield test.__name__, test, (place,)

    run_tests(sys.argv[1], collect, jobs)
