"""What the scenarios of Data over UDP stand on: players with weather, and what came to them by which way."""

from __future__ import annotations

import asyncio
import time

from cachelab import judge_whole
from funnel import Udp
from lab import expect, watch
from weather import Weather


def stormy(share, seed=1, **how):
    """A player whose network has this share of each kind of weather, both ways."""
    return Udp(weather=Weather(share, seed), weather_out=Weather(share, seed + 1000), **how)


def got_by(viewer, way):
    """Fails where Data did not come over this funnel."""
    expect(viewer.funnel == way, f"its funnel is {viewer.funnel}, not {way}")
    datagrams = viewer.datagrams.datagrams if viewer.datagrams else 0
    expect((datagrams > 0) == (way == "udp"), f"{datagrams} datagrams came, and the funnel is {way}")


def mended(*viewers):
    """Fails where something was given up, or nothing was lost at all."""
    expect(any(viewer.datagrams.udp.weather.lost for viewer in viewers), "the weather took nothing")
    for viewer in viewers:
        expect(not viewer.datagrams.lost, f"{len(viewer.datagrams.lost)} packets stayed lost: {viewer.datagrams.summary()}")


async def all_of(viewer, timeout=40.0):
    """A title from its beginning to its end, every packet equal to the origin's."""
    await watch(viewer)
    expect(await viewer.end(timeout) == 0, f"the play ended with 0x{viewer.current.end:X}")
    judge_whole(viewer.title, viewer.current)
    return viewer


async def resends(proxy):
    """Resend requests as the proxy counts them: a function of what was (answered, refused) since."""
    async def counted():
        sent = await proxy.metric("mmsproxy_resends_total", result="sent")
        return sent, await proxy.metric("mmsproxy_resends_total") - sent

    before = await counted()

    async def since(wanted=0, timeout=20.0):
        """Waits until there are so many in all: they are counted behind what they answer."""
        deadline = time.monotonic() + timeout
        while True:
            found = tuple(int(now - then) for now, then in zip(await counted(), before))
            if sum(found) >= wanted or time.monotonic() > deadline:
                return found
            await asyncio.sleep(0.05)

    return since


async def nothing_more(viewer, seconds=4.0, grace=2.0):
    """Listens for so long on the port of a player whose TCP connection has ended; fails where a datagram comes."""
    await asyncio.sleep(max(0.0, viewer.datagrams.over + seconds - time.monotonic()))  # nothing is to come
    late = [(round(after, 3), size) for after, size in viewer.datagrams.late if after > grace]
    expect(not late, f"{len(late)} datagrams after the end, the first {late[:1]}")
