"""How things end: playlists, broadcasts, viewers who leave, the proxy itself."""

from __future__ import annotations

import asyncio
import json
import os

from lab import Failed, expect, expect_none, scenario


def _playlists():
    # The version each viewer is told decides what a Microsoft player makes of hr; free players need 1.
    for version in ("9.1.1.3841", "4.1.0.3930"):
        for identity in ("libmms", "wmp9"):
            for kind in ("playlist", "broadcast-playlist"):
                if version.startswith("4") and kind == "playlist":
                    continue  # only BROADCAST lets a client of such an origin wait for more
                for shared in (True, False) if kind.startswith("broadcast") else (True,):
                    _playlist(version, identity, kind, shared)


def _playlist(version, identity, kind, shared):
    async def playlist(lab):
        origin = await lab.origin(lab.points(playlist=kind), version=version, speed=3.0)
        proxy = await lab.reverse(origin, shared=shared)
        client = lab.client(proxy, "mms://media.example/list", identity)
        await client.begin()
        await client.start()
        between = await client.end()
        microsoft_below_9 = identity == "wmp9" and client.server_major < 9
        wanted = 0 if microsoft_below_9 and kind == "broadcast-playlist" else 1
        expect(between == wanted, f"hr between entries is {between}, not {wanted}")
        client.judge_by(lab.options.files["second"].looped)
        await client.next_entry()
        play = client.current
        expect(await client.end() == 0, "hr at the end is not 0")
        expect(play.locations[:1] == [0], f"the second entry began at packet {play.locations[:1]}")
        expect(play.locations[-1] == len(lab.options.files["second"].packets) - 1, "the second entry is cut")
        await lab.settle()

    whose = "" if shared else "_alone"
    scenario(playlist, name=f"a_{kind.replace('-', '_')}_of_a_{version[0]}x_origin_goes_on_for_{identity}{whose}")


_playlists()


@scenario
async def the_end_of_a_broadcast_of_a_4x_origin_is_told_after_the_wait(lab):
    origin = await lab.origin(lab.points(ends=3.0), version="4.1.0.3930", speed=1.0)
    proxy = await lab.reverse(origin, origin={"stall": "4s"})
    client = lab.client(proxy, "mms://media.example/live", "vlc")
    await client.begin()
    await client.start()
    expect(await client.end(timeout=40) == 0, "the end is an error")
    await lab.settle()


@scenario
async def the_end_of_a_broadcast_of_a_9x_origin_is_told(lab):
    origin = await lab.origin(lab.points(ends=3.0), speed=1.0)
    proxy = await lab.reverse(origin)
    client = lab.client(proxy, "mms://media.example/live", "vlc")
    await client.begin()
    await client.start()
    expect(await client.end(timeout=40) == 0, "the end is an error")
    await lab.settle()

@scenario
async def a_describe_leaves_nothing_behind(lab):
    origin = await lab.origin()
    proxy = await lab.reverse(origin)
    for identity in ("wmp9", "xine"):
        client = lab.client(proxy, identity=identity)
        await client.begin()
        await client.close()
    await lab.settle()
    for gauge in ("mmsproxy_connections", "mmsproxy_viewers", "mmsproxy_origin_sessions"):
        await proxy.metric_is(0, gauge)


@scenario
async def a_viewer_that_hangs_up_leaves_nothing_behind(lab):
    origin = await lab.origin()
    proxy = await lab.reverse(origin)
    client = lab.client(proxy, "mms://media.example/live")
    await client.begin()
    await client.start()
    await client.packets(3)
    client.hang_up()
    for gauge in ("mmsproxy_connections", "mmsproxy_viewers"):
        await proxy.metric_is(0, gauge)
    await proxy.metric_is(0, "mmsproxy_origin_sessions", timeout=40)  # a linger is allowed
    client.closed = True
    await lab.settle()


@scenario
async def the_admin_endpoint_answers(lab):
    origin = await lab.origin()
    proxy = await lab.reverse(origin)
    for path in ("/healthz", "/readyz", "/metrics", "/api/v1/status", "/api/v1/viewers"):
        status, _ = await proxy.http(path)
        expect(status == 200, f"{path} answers {status}")
    client = lab.client(proxy)
    await client.begin()
    await client.start()
    await client.packets(3)
    await proxy.metric_is(1, "mmsproxy_viewers", content="on_demand")
    _, body = await proxy.http("/api/v1/viewers")
    json.loads(body)
    await lab.settle()
    expect(await proxy.metric("mmsproxy_viewer_sent_packets_total") >= 3, "sent packets are not counted")
    expect(await proxy.metric("mmsproxy_build_info") == 1, "there is no mmsproxy_build_info")


@scenario
async def sigterm_ends_the_proxy_cleanly(lab):
    origin = await lab.origin()
    proxy = await lab.reverse(origin)
    client = lab.client(proxy, "mms://media.example/live")
    await client.begin()
    await client.start()
    await client.packets(3)
    code = await proxy.stop(timeout=30)
    expect(code == 0, f"the exit code is {code}")
    await origin.wait_all_ended()
    expect_none(origin.deviations, "toward the origin")


@scenario
async def each_play_is_a_line_of_the_access_log_with_the_players_report(lab):
    path = os.path.join(lab.directory, "access.log")
    origin = await lab.origin(speed=8.0)
    proxy = await lab.reverse(origin, access_log={"path": path})

    async def lines(count):
        for _ in range(600):
            with open(path, encoding="utf-8") as file:
                text = file.read().splitlines()
            names = next(line for line in text if line.startswith("#Fields: ")).split(" ")[1:]
            plays = [dict(zip(names, line.split(" "), strict=True)) for line in text if not line.startswith("#")]
            if len(plays) >= count:
                return plays
            await asyncio.sleep(0.05)
        raise Failed(f"{count} lines never come: {text}")

    reports, silent = lab.client(proxy, identity="wmp9"), lab.client(proxy, identity="vlc")
    await reports.begin()
    await reports.start()
    await reports.packets(5)
    await reports.stop()
    first = (await lines(1))[0]
    await reports.start()
    await reports.end()
    await lines(2)
    await silent.begin()
    await silent.start()
    await silent.packets(5)
    await lab.settle()
    plays = await lines(3)
    expect(len(plays) == 3 and plays[0] == first, f"there are {len(plays)} lines")
    expect([play["c-os"] for play in plays] == ["Windows_XP", "Windows_XP", "-"], "the reports are not where they belong")
    whole = len(lab.options.files["clip"].packets)
    expect(int(first["s-pkts-sent"]) >= 5 and int(plays[1]["s-pkts-sent"]) == whole, "the packets are not counted by play")
    for play in plays:
        wanted = ("/vod/clip.asf", "mms://media.example/vod/clip.asf", "200", "127.0.0.1", "1")
        told = tuple(play[name] for name in ("cs-uri-stem", "cs-url", "c-status", "c-ip", "s-proxied"))
        expect(told == wanted, f"a line says {told}")
