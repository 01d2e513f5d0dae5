"""What is sent: whole, bit-exact, as selected, from where it was asked."""

from __future__ import annotations

import asyncio
import time

from lab import expect, expect_soon, scenario
from still import passed


@scenario
async def a_file_arrives_whole_and_bit_exact(lab):
    for strip in (True, False):
        origin = await lab.origin(strip=strip)
        proxy = await lab.reverse(origin)
        client = lab.client(proxy, identity="wmp9")
        await client.begin()
        expect(client.header_bytes == lab.options.files["clip"].header.bytes, "the header differs from the file's")
        await client.start()
        expect(await client.end() == 0, "the end is an error")
        expect(client.current.locations == list(range(len(lab.options.files["clip"].packets))), "packets are missing")
    await lab.settle()


@scenario
async def a_broadcast_arrives_bit_exact_over_its_seam(lab):
    origin = await lab.origin(speed=1.0)
    proxy = await lab.reverse(origin)
    client = lab.client(proxy, "mms://media.example/live")
    await client.begin()
    await client.start()
    await client.packets(70, timeout=30)  # the loop has 50 packets
    play = client.current
    expect(play.locations == list(range(play.locations[0], play.locations[0] + len(play.locations))), "LocationIds have gaps")
    await lab.settle()


@scenario
async def streams_switch_while_streaming(lab):
    origin = await lab.origin(speed=1.0)
    proxy = await lab.reverse(origin)
    client = lab.client(proxy, "mms://media.example/live")
    await client.begin()
    await client.start()
    await client.packets(8, timeout=20)
    for entries in ([(1, 0xFFFF, 0)], [(0xFFFF, 1, 0)], [(2, 0xFFFF, 0)], [(0xFFFF, 2, 0), (1, 1, 1)]):
        await client.select(entries=entries)
        await client.packets(len(client.current.packets) + 8, timeout=20)
    await lab.settle()


def _selections():
    for text, levels in (("audio_alone", {2: 0}), ("video_alone", {1: 0}), ("key_frames_alone", {1: 1}),
                         ("audio_and_key_frames", {1: 1, 2: 0})):
        for identity in ("wmp9", "vlc"):
            async def selection(lab, levels=levels, identity=identity):
                origin = await lab.origin()
                proxy = await lab.reverse(origin)
                client = lab.client(proxy, identity=identity)
                await client.begin()
                await client.select(levels)
                await client.start(position=4.0)
                expect(await client.end() == 0, "the end is an error")
                expect(client.current.packets, "no packet came")
                await lab.settle()

            scenario(selection, name=f"{identity}_selects_{text}")


_selections()


@scenario
async def a_player_that_selects_nothing_gets_nothing(lab):
    origin = await lab.origin()
    proxy = await lab.reverse(origin)
    client = lab.client(proxy)
    await client.begin()
    await client.select({})
    await client.start(position=5.0)
    await client.end(timeout=30)
    expect(not client.current.packets, f"{len(client.current.packets)} packets came")
    await lab.settle()


@scenario
async def a_stop_time_ends_the_request(lab):
    origin = await lab.origin()
    proxy = await lab.reverse(origin)
    client = lab.client(proxy)
    await client.begin()
    await client.start(position=2.0, until=4000)
    expect(await client.end() == 0, "the end is an error")
    file = lab.options.files["clip"]
    last = file.send_time(client.current.locations[-1])
    expect(2000 < last < 5000 + file.header.preroll_ms, f"the last packet's send time is {last} ms")
    await client.start(position=1.0)
    await client.packets(3)
    await lab.settle()


@scenario
async def striding_sends_key_frames_forth_and_back(lab):
    origin = await lab.origin()
    proxy = await lab.reverse(origin)
    client = lab.client(proxy)
    await client.begin()
    await client.start(rate=5.0)
    await client.packets(4)
    expect(client.current.locations == sorted(client.current.locations), "LocationIds do not rise")
    await client.stop()
    await client.start(position=7.0, rate=-5.0)
    await client.packets(3)
    expect(client.current.locations == sorted(client.current.locations, reverse=True), "LocationIds do not fall")
    await lab.settle()


@scenario
async def accel_fields_get_a_faster_start(lab):
    origin = await lab.origin(speed=8.0)
    proxy = await lab.reverse(origin)
    client = lab.client(proxy)
    await client.begin()
    await client.start(accel=(3_500_000, 5_000, 2_000_000))
    began = time.monotonic()
    await client.packets(30)  # 4.8 s of content
    expect_soon(passed(began) < 3.5, f"5 s at 3.5 Mbit/s took {passed(began):.1f} s")
    await lab.settle()


@scenario
async def a_header_in_many_pieces_arrives(lab):
    origin = await lab.origin(header_piece=100)
    proxy = await lab.reverse(origin)
    client = lab.client(proxy, identity="ffmpeg")
    await client.begin()
    expect(client.header_bytes == lab.options.files["clip"].header.bytes, "the header differs")
    await lab.settle()


@scenario
async def a_cancelled_header_is_read_again(lab):
    origin = await lab.origin()
    proxy = await lab.reverse(origin)
    client = lab.client(proxy)
    await client.connect()
    await client.open()
    await client.read_header(cancel=True)
    await client.start()
    await client.packets(3)
    await lab.settle()


@scenario
async def a_player_that_pauses_by_not_reading_goes_on(lab):
    origin = await lab.origin(speed=20.0)
    proxy = await lab.reverse(origin)
    client = lab.client(proxy, "mms://media.example/vod/big.asf", source="big", timeout=30.0)
    await client.begin()
    await client.start()
    await client.packets(5)
    with client.not_reading():
        await asyncio.sleep(6)  # the pause is what is tested
    await client.end(timeout=60)
    expect(client.current.locations == list(range(len(lab.options.files["big"].packets))), "packets are missing")
    await lab.settle()


@scenario
async def packet_pair_is_granted_by_the_rules(lab):
    origin = await lab.origin()
    proxy = await lab.reverse(origin)
    client = lab.client(proxy, pair=True)
    await client.begin()
    await client.start()
    await client.packets(3)
    await lab.settle()


@scenario
async def pings_during_the_upstream_handshake_are_answered(lab):
    origin = await lab.origin(ping=0.1, ping_early=True, think=0.05)
    proxy = await lab.reverse(origin)
    client = lab.client(proxy)
    await client.begin()
    await client.start()
    await client.packets(10)
    await lab.settle()


@scenario
async def two_openfileids_do_not_mix(lab):
    origin = await lab.origin(file_id=0x0001_0007)
    proxy = await lab.reverse(origin)
    clients = [lab.client(proxy, identity=i) for i in ("wmp9", "vlc")]
    for client in clients:
        await client.begin()
        await client.start()
    for client in clients:
        await client.packets(5)
    expect(clients[0].n_cubs != 0, "nCubs is 0")
    await lab.settle()
