"""Two hundred viewers at once, with the default limits."""

from __future__ import annotations

import asyncio

from lab import expect, scenario


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
