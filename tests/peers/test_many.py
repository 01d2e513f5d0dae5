"""Hundreds of viewers at once, with the default limits."""

from __future__ import annotations

import asyncio
import time

from broadcast import Encoder
from judge import Judge, disagreements
from lab import FREE, MICROSOFT, PAST, expect, expect_none, scenario, still_playing, together, watch, without_gaps
from test_split import one_session


@scenario(limit=240.0, alone=True)
async def two_hundred_viewers_at_once(lab):
    origin = await lab.origin(speed=1.0, think=0.0, ping=5.0)
    proxy = await lab.reverse(origin)
    clients = [lab.client(proxy, "mms://media.example/live" if n % 2 else "mms://media.example/vod/long.asf",
                          ("wmp9", "wmp7", "vlc", "ffmpeg")[n % 4], source="clip" if n % 10 == 1 else "long" if n % 10 == 0 else None,
                          timeout=60.0) for n in range(200)]

    async def go(client):
        await client.begin()
        await client.start()
        await client.packets(3)

    await asyncio.gather(*(go(client) for client in clients))
    await proxy.metric_is(200, "mmsproxy_viewers")
    seconds = lab.options.seconds
    await asyncio.sleep(min(5.0, seconds / 4))  # the time they watch is what is tested
    early = proxy.memory()
    await asyncio.sleep(seconds)
    late = proxy.memory()
    expect(late - early < max(8 << 20, early // 5), f"memory went from {early >> 10} to {late >> 10} KiB")
    for number, client in enumerate(clients):
        expect(client.broken is None, f"viewer {number}'s connection {client.broken}")
        ended = client.current.end
        expect(ended is None or ended == 0 and not number % 2, f"viewer {number}'s stream ended with {ended}")
        expect(len(client.current.packets) > 10, f"viewer {number} has {len(client.current.packets)} packets")
    await asyncio.gather(*(client.close(timeout=20) for client in clients))
    await origin.wait_all_ended(timeout=30)
    await lab.settle()
    await proxy.metric_is(0, "mmsproxy_connections")


@scenario(limit=120.0, alone=True)
async def five_hundred_viewers_of_one_broadcast(lab):
    encoder = Encoder(PAST, step_ms=200, key_every=10, packet_size=1000)
    origin, station = await lab.station(encoder, on_air={"reach": 4.0}, ping=5.0)
    proxy = await lab.splitter(origin)
    gate = asyncio.Semaphore(50)  # this side's cost of a handshake is what takes the time
    viewers = [lab.viewer(proxy, identity=(MICROSOFT + FREE)[n % 11], timeout=30.0) for n in range(500)]

    async def come(viewer):
        async with gate:
            await watch(viewer)

    began = time.monotonic()
    await together(come(viewer) for viewer in viewers)
    lab.figure(f"500 came in {time.monotonic() - began:.1f} s")
    await proxy.metric_is(500, "mmsproxy_viewers", content="broadcast")
    await together(viewer.packets(60, timeout=30) for viewer in viewers)
    one_session(origin)
    expect(origin.at_once("live") == 1, f"{origin.at_once('live')} sessions at once")
    expect(len(origin.sessions) <= 2, f"{len(origin.sessions)} connections at the origin")
    still_playing(viewers)
    without_gaps(viewers)
    lab.figure(f"{proxy.memory() >> 20} MiB resident")
    plays = [viewer.current for viewer in viewers]
    await together(viewer.close(timeout=20) for viewer in viewers)
    await lab.settle()
    await proxy.metric_is(0, "mmsproxy_broadcasts")
    await proxy.metric_is(0, "mmsproxy_connections")
    # Seconds of work in which the origin could say nothing, so it comes last: what one got is right, all got the same.
    faults = [fault for play in plays[::20] for fault in Judge(play, encoder).faults]
    expect_none(faults, "what arrived")
    expect_none(disagreements(plays), "viewers got different payloads")
