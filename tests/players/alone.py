"""Tests on a network of their own: the way into namespaces, and the run of them all against one world."""

from __future__ import annotations

import concurrent.futures
import os
import shutil
import subprocess
import sys
import tempfile

from stage import Failed, Lab, complaint

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
    directory = tempfile.mkdtemp(prefix="mmsproxy-alone-")
    lab = Lab(os.path.abspath(sys.argv[1]), directory)
    failed = 0

    try:
        place = world(lab)
        with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
            for test, why in zip(tests, pool.map(lambda test: complaint(test, place), tests)):
                failed += why is not None
                print(f"ok {test.__name__}" if why is None else f"FAILED {test.__name__}: {why}", flush=True)
        passed = len(tests) - failed
    except Failed as error:
        passed, failed = 0, 1
        print(f"FAILED to start: {error}", flush=True)
    finally:
        lab.stop()
        shutil.rmtree(directory, ignore_errors=True)
    print(f"{passed} passed, {failed} failed")
    sys.exit(1 if failed or not passed else 0)
