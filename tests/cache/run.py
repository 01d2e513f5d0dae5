#!/usr/bin/env python3
"""The cache on disks that are full, that fill up or go read-only, and killed again and again.

    run.py PROXY_BINARY [--kills N] [--only TEXT] [--verbose N]

The disks are small tmpfs in a mount namespace of this process: as root. Where that is not permitted it says so for each of
them and goes on with the kills, if there are any to go on with. Prints `ok NAME`, `FAILED NAME: why` or `skipped NAME: why`
and at the end `N passed, M failed`; ends with 77 when there was nothing it could do.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "peers"))
from cachelab import (VOD, began, cacher, complete, entry, exported, filled, in_time, judge_whole, player, sealed,  # noqa: E402
                      shelf, to_the_end, until, verified, whole)
from lab import expect, expect_soon, together  # noqa: E402
from scenarios import run_one  # noqa: E402
from shelf import Title  # noqa: E402
from test_cache_store import MIB, fat, killed_again_and_again  # noqa: E402

SKIPPED = 77
INSIDE = "--inside"
DISKS = []


class NotPermitted(Exception):
    """By this machine; the text says what."""


def permitted(line):
    done = subprocess.run(line.split(), capture_output=True, text=True)
    if done.returncode:
        raise NotPermitted(f"`{line}`: {done.stderr.strip()[-200:]}")


class Tmpfs:
    """A disk that is soon full."""

    def __init__(self, path, mib):
        self.path = path
        os.mkdir(path)
        self._mount(path, mib)

    def _mount(self, path, mib):
        permitted(f"mount -t tmpfs -o size={mib}m,mode=755 none {path}")

    @classmethod
    def refused(cls):
        """Why there can be none, or nothing."""
        with tempfile.TemporaryDirectory() as directory:
            try:
                disk = cls(os.path.join(directory, "disk"), 4)
            except NotPermitted as why:
                return str(why)
            disk.unmount()
        return None

    @property
    def cache(self):
        return os.path.join(self.path, "cache")

    @property
    def free(self):
        found = os.statvfs(self.path)
        return found.f_bavail * found.f_frsize

    def again(self, options):
        """Mounted anew with these options; what is on it stays."""
        subprocess.run(["mount", "-o", f"remount,{options}", self.path], check=True)

    def ballast(self, leave=0):
        """Somebody else takes what is free but for so many bytes."""
        with contextlib.suppress(OSError), open(os.path.join(self.path, "ballast"), "wb", buffering=0) as file:
            size = max(0, self.free - leave)
            while size > 0:
                size -= file.write(bytes(min(size, 65536)))

    def thaw(self):
        """Nobody waits for this kind of disk."""

    def unmount(self):
        subprocess.run(["umount", "-l", self.path], check=False)


class Freezer(Tmpfs):
    """An ext4 in a file, whose writers can be made to wait."""

    def _mount(self, path, mib):
        permitted(f"truncate -s {mib}M {path}.img")
        permitted(f"mkfs.ext4 -q {path}.img")
        permitted(f"mount -o loop,noatime {path}.img {path}")

    def freeze(self):
        subprocess.run(["fsfreeze", "--freeze", self.path], check=True)

    def thaw(self):
        subprocess.run(["fsfreeze", "--unfreeze", self.path], check=False, capture_output=True)

    def unmount(self):
        self.thaw()
        super().unmount()


def on_a_disk(kind, mib):
    """A scenario with a disk of so many MiB, mounted for it alone: `scenario(lab, disk)`."""
    def register(function):
        async def with_disk(lab):
            disk = kind(os.path.join(lab.directory, "disk"), mib)
            try:
                await function(lab, disk)
            finally:
                disk.thaw()
                for proxy in lab.proxies:
                    await proxy.stop()
                disk.unmount()

        DISKS.append((function.__name__, with_disk, kind))
        return function

    return register


def warned(proxy):
    """The lines of level WARN or above."""
    return [line for line in proxy.lines if '"level":"WARN"' in line or '"level":"ERROR"' in line]


@on_a_disk(Tmpfs, mib=8)
async def viewers_play_on_when_the_disk_is_full(lab, disk):
    origin, title = await shelf(lab, Title(VOD, fat(1, 20), speed=4.0))
    proxy = await cacher(lab, origin, directory=disk.cache)
    first = await began(player(lab, proxy, title, timeout=30.0))
    second = await began(player(lab, proxy, title, "wmp7", timeout=30.0))
    await together(to_the_end(viewer) for viewer in (first, second))
    for viewer in (first, second):
        in_time(viewer, 1.5)
    expect(await proxy.metric("mmsproxy_cache_errors_total", reason="disk_full") >= 1, "a full disk is not counted")
    told = warned(proxy)
    expect(1 <= len(told) <= 5, f"{len(told)} warnings of a full disk")
    await verified(lab, proxy)
    await whole(player(lab, proxy, title, "wmp10", timeout=30.0))
    await verified(lab, proxy)
    await lab.settle()
    await proxy.stop()
    await verified(lab, proxy, offline=True)
    kept = sealed(disk.cache)
    lab.figure(f"{len(kept)} segments were sealed on 8 MiB, {disk.free / MIB:.1f} MiB are free")
    disk.again("size=64m")
    proxy = await cacher(lab, origin, directory=disk.cache)
    await whole(player(lab, proxy, title))
    await complete(proxy, title)
    expect(set(kept) <= set(sealed(disk.cache)), "what was sealed on the full disk is gone")
    await exported(lab, proxy, origin, title)
    await lab.settle()


@on_a_disk(Tmpfs, mib=48)
async def a_disk_that_fills_up_under_a_fill_costs_what_was_not_sealed(lab, disk):
    origin, title = await shelf(lab, Title(VOD, fat(1, 24), speed=4.0))
    proxy = await cacher(lab, origin, directory=disk.cache)
    viewer = await began(player(lab, proxy, title, timeout=30.0))
    await until(lambda: sealed(disk.cache), "a sealed segment")
    disk.ballast()
    before = sealed(disk.cache)
    await to_the_end(viewer)
    in_time(viewer, 1.5)
    await viewer.close()
    expect(await proxy.metric("mmsproxy_cache_errors_total", reason="disk_full") >= 1, "a full disk is not counted")
    after = sealed(disk.cache)
    lost = [name for name, kind in before.items() if after.get(name) not in (kind, "seg")]
    expect(not lost, f"a full disk cost {len(lost)} sealed segments")
    await verified(lab, proxy)
    os.unlink(os.path.join(disk.path, "ballast"))
    await whole(player(lab, proxy, title))
    await complete(proxy, title)
    await exported(lab, proxy, origin, title)
    await lab.settle()


@on_a_disk(Tmpfs, mib=8)
async def a_full_disk_at_the_start_is_no_reason_not_to_serve(lab, disk):
    os.mkdir(disk.cache)
    disk.ballast()
    origin, title = await shelf(lab, Title(VOD, fat(1, 2), speed=4.0))
    proxy = await cacher(lab, origin, directory=disk.cache)
    for identity in ("wmp9", "wmp7"):
        await whole(player(lab, proxy, title, identity))
    await lab.settle()


@on_a_disk(Tmpfs, mib=32)
async def what_must_stay_free_stays_free(lab, disk):
    origin, title = await shelf(lab, Title(VOD, fat(1, 30), speed=8.0))
    proxy = await cacher(lab, origin, directory=disk.cache, cache={"min_free": 16 * MIB})
    viewer = await began(player(lab, proxy, title, timeout=30.0))
    least = disk.free
    while viewer.current.end is None and viewer.broken is None:
        least = min(least, disk.free)
        await asyncio.sleep(0.02)
    judge_whole(title, viewer.current)
    lab.figure(f"{least / MIB:.1f} MiB were free at least, cache.min_free are 16")
    expect(least >= 15 * MIB, f"{least} bytes were free at least, cache.min_free are 16 MiB")
    await verified(lab, proxy)
    await lab.settle()


@on_a_disk(Tmpfs, mib=48)
async def a_disk_that_becomes_read_only_stops_no_play(lab, disk):
    kept, new = Title("vod/kept.asf", fat(1, 6), speed=4.0), Title("vod/new.asf", fat(2, 6), speed=4.0)
    origin, _ = await shelf(lab, kept, new)
    proxy = await cacher(lab, origin, directory=disk.cache)
    await filled(lab, proxy, origin, kept)
    disk.again("ro")
    await whole(player(lab, proxy, kept))
    for identity in ("wmp9", "wmp7"):
        await whole(player(lab, proxy, new, identity))
    expect(await proxy.metric("mmsproxy_cache_errors_total", reason="io") >= 1, "an I/O error is not counted")
    expect(len(origin.played(kept.name)) == 1, "what was there was fetched again")
    disk.again("rw")
    await verified(lab, proxy)
    expect((await entry(proxy, kept))["is_complete"], "what was there is not there any more")
    await lab.settle()


@on_a_disk(Freezer, mib=96)
async def a_disk_that_takes_nothing_slows_neither_viewer_nor_fill(lab, disk):
    kept, new = Title("vod/kept.asf", fat(1, 6), speed=4.0), Title("vod/new.asf", fat(2, 24), speed=4.0)
    origin, _ = await shelf(lab, kept, new)
    proxy = await cacher(lab, origin, directory=disk.cache)
    await filled(lab, proxy, origin, kept)
    before = proxy.memory()
    viewer = await began(player(lab, proxy, new, timeout=30.0), 20)
    disk.freeze()
    second = await began(player(lab, proxy, new, "wmp7", timeout=30.0))
    hit = await began(player(lab, proxy, kept, "wmp10", timeout=30.0))
    expect_soon(hit.took < 4.0 and second.took < 4.0, f"they waited {hit.took:.1f} and {second.took:.1f} s for a disk")
    await together(to_the_end(v) for v in (viewer, second, hit))
    for v in (viewer, second, hit):
        in_time(v, 1.5)
    grown = proxy.memory() - before
    lab.figure(f"resident memory grew by {grown >> 20} MiB while a disk took nothing of 24 MiB")
    expect(grown < 64 * MIB, f"resident memory grew by {grown >> 20} MiB")
    disk.thaw()
    await together(v.close() for v in (viewer, second, hit))
    await proxy.metric_is(0, "mmsproxy_cache_fills")
    await verified(lab, proxy)
    await whole(player(lab, proxy, new))
    await complete(proxy, new)
    await exported(lab, proxy, origin, new)
    await lab.settle()


async def run_all(options):
    options.files, results = {}, []
    chosen = [disk for disk in DISKS if options.only in disk[0]]
    for number, (name, function, kind) in enumerate(chosen):
        why = options.why or kind.refused()
        if why:
            print(f"skipped {name}: {why}", flush=True)
        else:
            results.append(await run_one(options, number, name, function, 180.0))
    if options.kills:
        async def kills(lab):
            await killed_again_and_again(lab, options.kills, random.Random(options.seed))

        name = f"{options.kills}_kills_under_fills_lose_nothing_that_was_sealed"
        results.append(await run_one(options, len(DISKS), name, kills, 60.0 + 12.0 * options.kills))
    print(f"{sum(results)} passed, {len(results) - sum(results)} failed")
    return SKIPPED if not results else 0 if all(results) else 1


def no_namespace():
    """Why there is no mount namespace of our own, or nothing."""
    done = subprocess.run(["unshare", "--mount", "true"], capture_output=True, text=True)
    return f"`unshare --mount`: {done.stderr.strip()[-200:]}" if done.returncode else None


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("binary", help="the mmsproxy executable")
    parser.add_argument("--kills", type=int, default=0, metavar="N", help="kill -9 so often under fills; a few seconds each")
    parser.add_argument("--seed", type=int, default=1, help="of the moments of the kills")
    parser.add_argument("--only", default="", metavar="TEXT", help="disks whose name has this in it")
    parser.add_argument("--keep", action="store_true", help="keep the configs")
    parser.add_argument("--verbose", type=int, default=0, metavar="LINES", help="of the proxy's log after a failure")
    parser.add_argument(INSIDE, action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.binary, options.why = os.path.abspath(options.binary), None
    if not options.inside:
        options.why = no_namespace()
        if options.why is None:
            os.execvp("unshare", ["unshare", "--mount", sys.executable, os.path.abspath(__file__), *sys.argv[1:], INSIDE])
    sys.exit(asyncio.run(run_all(options)))


if __name__ == "__main__":
    main()
