"""How things end: playlists, broadcasts, viewers who leave, the proxy itself."""

from __future__ import annotations

import json

from lab import expect, expect_none, scenario


def _playlists():
    # The version each viewer is told decides what a Microsoft player makes of hr; free players need 1.
    for version in ("9.1.1.3841", "4.1.0.3930"):
        for identity in ("libmms", "wmp9"):
            for kind in ("playlist", "broadcast-playlist"):
                if version.startswith("4") and kind == "playlist":
                    continue  # only BROADCAST lets a client of such an origin wait for more

                async def playlist(lab, version=version, identity=identity, kind=kind):
                    origin = await lab.origin(lab.points(playlist=kind), version=version, speed=3.0)
                    proxy = await lab.reverse(origin)
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

                scenario(playlist, name=f"a_{kind.replace('-', '_')}_of_a_{version[0]}x_origin_goes_on_for_{identity}")


_playlists()


@scenario
async def the_end_of_a_broadcast_of_a_4x_origin_is_told_after_the_wait(lab):
    origin = await lab.origin(lab.points(ends=3.0), version="4.1.0.3930", speed=1.0)
    proxy = await lab.reverse(origin, origin={"stall": "2s"})
    client = lab.client(proxy, "mms://media.example/live", "vlc")
    await client.begin()
    await client.start()
    expect(await client.end(timeout=20) == 0, "the end is an error")
    await lab.settle()


@scenario
async def the_end_of_a_broadcast_of_a_9x_origin_is_told(lab):
    origin = await lab.origin(lab.points(ends=3.0), speed=1.0)
    proxy = await lab.reverse(origin)
    client = lab.client(proxy, "mms://media.example/live", "vlc")
    await client.begin()
    await client.start()
    expect(await client.end(timeout=20) == 0, "the end is an error")
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
    await proxy.metric_is(0, "mmsproxy_origin_sessions", timeout=20)  # a linger is allowed
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
    code = await proxy.stop(timeout=15)
    expect(code == 0, f"the exit code is {code}")
    await origin.wait_all_ended()
    expect_none(origin.deviations, "toward the origin")
