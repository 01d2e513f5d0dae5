#!/usr/bin/env python3
"""Runs the proxy between the strict origin and the strict client, one scenario after the other.

    scenarios.py PROXY_BINARY [--only TEXT] [--jobs N] [--seconds N] [--shaky N] [--keep]

The scenarios are the functions marked with `@scenario` in test_*.py; each runs in a process of its own. Prints `ok NAME` or
`FAILED NAME: why` for each, `figure NAME: text` for what is measured, and at the end `N passed, M failed`.

Where nothing is wrong but that something took too long, the scenario is tried thrice: the machine has others to serve, and a
slow proxy is slow each time. What failed is run once more, alone, when all others are done: a machine that shares its cores may
stand still for longer than a deadline that has a meaning allows. What passes then is counted as passed, but `SHAKY NAME` tells
of it, and with more than a few of them (`--shaky`) none of them is forgiven: that is a fault of the proxy's.
"""

from __future__ import annotations

import argparse
import asyncio
import glob
import importlib
import os
import shutil
import subprocess
import sys
import tempfile
import time

TRIES = 3  # of what takes too long
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
import asf  # noqa: E402
from lab import SCENARIOS, Failed, Lab, Late  # noqa: E402
from still import STILL  # noqa: E402
from strict_client import Redirected, Refused, Silent  # noqa: E402

for path in sorted(glob.glob(os.path.join(HERE, "test_*.py"))):
    importlib.import_module(os.path.basename(path)[:-3])


def make_clips(directory):
    """Small files from ffmpeg's test sources."""
    clips = {}
    for name, source, tone, seconds, rate in (("clip", "testsrc", 440, 8, "100k"), ("second", "testsrc2", 880, 5, "80k"),
                                              ("big", "testsrc2", 660, 12, "1500k"), ("long", "testsrc", 550, 90, "80k")):
        path = os.path.join(directory, f"{name}.asf")
        size = "320x240" if name == "big" else "160x120"
        subprocess.run(["ffmpeg", "-nostdin", "-v", "error", "-y", "-f", "lavfi", "-i", f"{source}=size={size}:rate=10", "-f",
                        "lavfi", "-i", f"sine=frequency={tone}", "-t", str(seconds), "-c:v", "wmv2", "-b:v", rate, "-g", "10",
                        "-c:a", "wmav2", "-b:a", "32k", path], check=True)
        clips[name] = path
    return clips


async def run_one(options, number, name, function, limit):
    heart = asyncio.create_task(STILL.beat())
    for left in reversed(range(TRIES)):
        why, is_late, log = await run_once(options, number, name, function, limit)
        if not is_late or not left:
            break
        print(f"figure {name}: once more: {why}", flush=True)
    heart.cancel()
    print(f"ok {name}" if why is None else f"FAILED {name}: {why}", flush=True)
    if why is not None and options.verbose:
        print("\n".join(f"    {line[:400]}" for line in log[-options.verbose :]), flush=True)
    return why is None


async def run_once(options, number, name, function, limit):
    """What is wrong, `None` where nothing is; is it only that something took too long; and the proxies' log."""
    lab = Lab(options, number, name)
    why, is_late = None, False
    began = time.monotonic()
    try:
        async with asyncio.timeout(limit):
            await function(lab)
    except Late as error:
        why, is_late = str(error), True
    except (Failed, Refused, Redirected, Silent) as error:
        why = str(error)
    except TimeoutError:
        why = f"not done after {time.monotonic() - began:.0f} s"
    except Exception as error:
        why = f"{type(error).__name__}: {error}"
    finally:
        log = [line for proxy in lab.proxies for line in proxy.lines]
        try:
            async with asyncio.timeout(60):
                await lab.down()
        except TimeoutError:
            why, is_late = why or "the proxy does not end", False
    panics = [line for proxy in lab.proxies for line in proxy.lines if "panicked at" in line]
    if panics:
        why, is_late = f"the proxy panicked: {panics[0]}", False
    return why, is_late, log


def launch(options, number, name, function, limit, _alone):
    """Runs it in a process of its own, so that none is held up by what another one has to think about. Returns the id of the
    process and what it says."""
    said = tempfile.TemporaryFile()
    sys.stdout.flush()
    child = os.fork()
    if child:
        return child, said
    os.dup2(said.fileno(), sys.stdout.fileno())
    passed = False
    try:
        passed = asyncio.run(run_one(options, number, name, function, limit))
        sys.stdout.flush()
    finally:
        os._exit(0 if passed else 1)


def run_these(options, numbered, jobs):
    """So many at a time; returns those that failed."""
    waiting, running, failed = list(reversed(numbered)), {}, []
    while waiting or running:
        while waiting and len(running) < jobs:
            one = waiting.pop()
            child, said = launch(options, *one)
            running[child] = one, said
        child, status = os.wait()
        one, said = running.pop(child)
        said.seek(0)
        text = said.read().decode("utf-8", "replace")
        said.close()
        if status and f"FAILED {one[1]}" not in text:
            text += f"FAILED {one[1]}: its process ended with {os.waitstatus_to_exitcode(status)}\n"
        print(text, end="", flush=True)
        if status:
            failed.append(one)
    return failed


def run_all(options):
    directory = tempfile.mkdtemp(prefix="mmsproxy-clips-")
    clips = make_clips(directory)
    options.files = {name: asf.AsfFile(path) for name, path in clips.items()}
    chosen = [(number, *one) for number, one in enumerate(
        one for one in SCENARIOS if options.only in one[0] or options.only in one[1].__module__)]
    failed = run_these(options, [one for one in chosen if not one[4]], options.jobs)
    failed += run_these(options, [one for one in chosen if one[4]], 1)
    if len(failed) <= options.shaky:
        again = run_these(options, failed, 1)
        for one in failed:
            if one not in again:
                print(f"SHAKY {one[1]}: it failed, and passed alone", flush=True)
        failed = again
    shutil.rmtree(directory, ignore_errors=True)
    print(f"{len(chosen) - len(failed)} passed, {len(failed)} failed")
    return 0 if chosen and not failed else 1


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("binary", help="the mmsproxy executable")
    parser.add_argument("--only", default="", metavar="TEXT", help="scenarios whose name, or whose file's, has this in it")
    parser.add_argument("--jobs", type=int, default=6, help="scenarios at a time")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long the 200 viewers watch")
    parser.add_argument("--shaky", type=int, default=3, metavar="N", help="of so many that failed each may try again, alone")
    parser.add_argument("--keep", action="store_true", help="keep the configs")
    parser.add_argument("--verbose", type=int, default=0, metavar="LINES", help="of the proxy's log after a failure")
    options = parser.parse_args()
    options.binary = os.path.abspath(options.binary)
    sys.exit(run_all(options))


if __name__ == "__main__":
    main()
