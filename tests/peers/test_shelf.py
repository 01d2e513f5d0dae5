"""What titles on the strict origin do when they are told to, seen through a proxy that caches nothing."""

from __future__ import annotations

import asyncio
import os
import struct
import time

import asf
import mmsp
import padding
from cachelab import (FAST, VOD, began, film_of, in_time, judge_export, judge_part, judge_whole, nowhere, player, seeks, shelf, to_the_end,
                      waited, whole)
from film import film
from lab import Failed, expect, expect_hr, expect_soon, refusal, scenario, together
from shelf import Title, Way
from strict_client import Client


async def refused(lab, proxy, title, **how):
    """The HRESULT with which this title is refused."""
    viewer = player(lab, proxy, title)
    await viewer.connect()
    hr = await refusal(viewer.open(**how))
    viewer.hang_up()
    viewer.closed = True
    return hr


def _paddings():
    for way in padding.WAYS:
        async def stripped(lab, way=way):
            origin, title = await shelf(lab, Title(VOD, film(), padding=way), speed=8.0)
            proxy = await lab.reverse(origin)
            await together(whole(player(lab, proxy, title, identity)) for identity in ("wmp9", "wmp7", "vlc"))
            expect(origin.media(VOD) == 3 * title.bytes, f"{origin.media(VOD)} bytes were sent, not thrice {title.bytes}")
            expect((title.bytes == sum(map(len, title.file.packets))) == (way == "whole"), f"{way} sent {title.bytes} bytes")
            old = player(lab, proxy, title, "wms4")
            await began(old)
            await old.end()
            expect([data for _, data in old.current.packets] == title.file.packets, "padding was touched on the way to wms4")
            await lab.settle()

        scenario(stripped, name=f"a_title_{way}_arrives_equal")


_paddings()


@scenario
async def what_a_title_skips_is_a_gap_and_once_is_once(lab):
    always, once = (Title(f"vod/{skips}.asf", film(), skip={3, 40, 41}, skips=skips) for skips in ("always", "once"))
    origin, _ = await shelf(lab, always, once, speed=8.0)
    proxy = await lab.reverse(origin)
    for title, lost in ((always, {3, 40, 41}), (always, {3, 40, 41}), (once, {3, 40, 41}), (once, set())):
        viewer = await began(player(lab, proxy, title))
        expect(await viewer.end() == 0, "the end is an error")
        missing = set(range(len(title.file.packets))) - set(viewer.current.locations)
        expect(missing == lost, f"{title.name} misses {sorted(missing)}")
        judge_part(title, viewer.current)
    await lab.settle()


@scenario
async def a_title_skips_for_a_slow_reader_alone(lab):
    fat = film(4, seconds=8.0, rates=(6_000_000,), packet_size=16_000)
    slow, eager = (Title(f"vod/{n}.asf", fat, skip=range(1, len(fat.packets)), skips="slow", speed=4.0) for n in range(2))
    origin, _ = await shelf(lab, slow, eager)
    proxy = await lab.reverse(origin, limits={"kernel_buffer": "64KiB", "buffer": "128KiB"})
    viewer = await began(player(lab, proxy, slow))
    with viewer.not_reading():
        await asyncio.sleep(2.0)  # it does not read: what is tested
    await viewer.end()
    expect(len(viewer.current.packets) < len(fat.packets) - 20, f"only {len(fat.packets) - len(viewer.current.packets)} skipped")
    reads = await began(player(lab, proxy, eager))
    expect(await reads.end() == 0, "the end is an error")
    lost = len(fat.packets) - len(reads.current.packets)
    expect_soon(not lost, f"{lost} packets were skipped for who reads: was the proxy slow?")
    judge_whole(eager, reads.current)
    await lab.settle()


@scenario
async def a_title_changes_for_those_who_come_later(lab):
    old = Title(VOD, film(1))
    origin, _ = await shelf(lab, old, speed=2.0)
    proxy = await lab.reverse(origin)
    first = await began(player(lab, proxy, old), 10)
    new = old.change(film(2, created=2))
    second = await began(player(lab, proxy, new), 10)
    await together(to_the_end(viewer) for viewer in (first, second))
    expect(film_of(first, old, new) is old and film_of(second, old, new) is new, "they got each other's film")
    mixed = player(lab, proxy, old)
    mixed.plays, mixed.header_bytes = [first.current, second.current], first.header_bytes
    try:
        film_of(mixed, old, new)
    except AssertionError:
        await lab.settle()
        return
    expect(False, "a mixture of two films passes for one")


@scenario
async def a_title_alternates_between_two_opens(lab):
    first = Title(VOD, film(1), speed=FAST)
    first.alternate(film(2, created=2))
    second = first.turns[1]
    origin, _ = await shelf(lab, first)
    proxy = await lab.reverse(origin)
    for number in range(4):
        viewer = await began(player(lab, proxy, (first, second)[number % 2]))
        await to_the_end(viewer)
    expect(origin.opens(VOD) == 4 and len(origin.played(VOD)) == 4, f"{origin.opens(VOD)} opens were counted")
    await lab.settle()


@scenario
async def a_title_says_of_itself_what_it_is_told_to(lab):
    seekable = mmsp.CANSEEK | mmsp.CANSTRIDE
    kinds = {"broadcast": mmsp.BROADCAST, "live": seekable | mmsp.LIVE, "playlist": seekable | mmsp.PLAYLIST, "not_seekable": 0}
    titles = [Title(f"vod/{name}.asf", film(), attributes=attributes, speed=FAST) for name, attributes in kinds.items()]
    more = Title("vod/more.asf", film(declare=7), speed=FAST)
    origin, _ = await shelf(lab, *titles, more)
    proxy = await lab.reverse(origin, shared=False)
    for title in titles:
        viewer = await began(player(lab, proxy, title))
        expect(viewer.opened.file_attributes == title.attributes, f"{title.name} has 0x{viewer.opened.file_attributes:08X}")
    viewer = await whole(player(lab, proxy, more))
    expect(viewer.opened.file_packet_count == len(film().packets) + 7, f"{viewer.opened.file_packet_count} packets are declared")
    await lab.settle()


@scenario
async def a_way_carries_so_much_and_no_more(lab):
    rate = 400_000
    for way, late in ((3.0, False), (1.2, True)):
        origin, title = await shelf(lab, Title(VOD, film(5, rates=(rate,), sound=0)), way=Way(rate * way))
        proxy = await lab.reverse(origin)
        viewers = await together(began(player(lab, proxy, title)) for _ in range(2))
        await together(to_the_end(viewer) for viewer in viewers)
        for viewer in viewers:
            try:
                in_time(viewer, 1.0)
            except AssertionError as error:
                expect_soon(late, f"over a way that carries three: {error}")
            else:
                expect(not late, "two in time over a way that carries one")
    await lab.settle()


@scenario
async def the_pace_is_the_versions(lab):
    asked = (3_500_000, 10_000, 3_500_000)
    for version, speed, least, most in (("4.1.0.3930", None, 3.0, 8.0), ("9.1.1.3841", None, 0.0, 3.0), ("9.1.1.3841", FAST, 0.0, 3.0)):
        origin, title = await shelf(lab, Title(VOD, film(seconds=5.0), speed=speed), version=version)
        proxy = await lab.reverse(origin)
        viewer = player(lab, proxy, title)
        await viewer.begin()
        await viewer.start(accel=asked)
        await to_the_end(viewer)
        took = viewer.current.times[-1] - viewer.current.asked_at
        expect(least <= took, f"{version} sent 5 s of content in {took:.1f} s")
        expect_soon(waited(viewer.current, -1) <= most, f"{version} sent 5 s of content in {took:.1f} s")
    await lab.settle()


@scenario
async def a_title_asks_for_a_password_from_now_on(lab):
    for scheme in ("basic", "ntlm"):
        origin, title = await shelf(lab, Title(VOD, film(), speed=FAST), Title("vod/open.asf", film(2), speed=FAST))
        proxy = await lab.reverse(origin)
        await whole(player(lab, proxy, title))
        title.auth = scheme
        expect_hr(await refused(lab, proxy, title), mmsp.E_ACCESSDENIED)
        expect_hr(await refused(lab, proxy, title, login=("viewer", "wrong")), mmsp.E_ACCESSDENIED)
        viewer = player(lab, proxy, title)
        await viewer.connect()
        await viewer.open(login=("viewer", "secret"))
        await viewer.read_header()
        await viewer.start()
        await to_the_end(viewer)
        await whole(player(lab, proxy, origin.points["vod/open.asf"]))
    expect(not any(d for client in lab.clients for d in client.deviations), "toward the player")


@scenario
async def a_title_is_refused_hangs_or_thinks_from_now_on(lab):
    origin, title = await shelf(lab, Title(VOD, film(), speed=FAST))
    proxy = await lab.reverse(origin, origin={"reply": "5s"})
    for hr in (mmsp.NS_E_FILE_NOT_FOUND, mmsp.E_ACCESSDENIED):
        title.refuses = hr
        expect_hr(await refused(lab, proxy, title), hr)
    title.refuses, title.hangs = None, True
    expect_hr(await refused(lab, proxy, title), mmsp.NS_E_TIMEOUT)
    title.hangs, title.think = False, 1.0
    asked = time.monotonic()
    await whole(player(lab, proxy, title))
    expect(time.monotonic() - asked > 1.0, "it did not think")
    expect(origin.opens(VOD) == 1, f"{origin.opens(VOD)} opens were counted")


@scenario
async def a_title_breaks_after_so_many_bytes_once(lab):
    origin, title = await shelf(lab, Title(VOD, film(), speed=FAST, breaks=[60_000]))
    proxy = await lab.reverse(origin)
    viewer = await began(player(lab, proxy, title))
    expect_hr(await viewer.end(), mmsp.NS_E_CONNECTION_FAILURE)
    got = sum(len(title.wire(number)) for number in viewer.current.locations)
    expect(60_000 <= origin.media(VOD) < 62_000 and got <= origin.media(VOD), f"{origin.media(VOD)} bytes were sent, {got} came")
    await whole(player(lab, proxy, title))
    expect(origin.media(VOD) < 62_000 + title.bytes, "they were not counted")


@scenario
async def what_is_sent_is_counted_by_session_and_range(lab):
    origin, title = await shelf(lab, Title(VOD, film(), speed=FAST))
    proxy = await lab.reverse(origin)
    viewer = await began(player(lab, proxy, title, "wmp9"))
    await viewer.end()
    last = len(title.file.packets) - 1
    await seeks(viewer, location=last - 20)
    await viewer.end()
    other = await began(player(lab, proxy, title, "wmp7"), location=last - 5)
    await other.end()
    told = {session.name.token: session.numbers for session in origin.played(VOD)}
    expect(told == {viewer.token: [*range(last + 1), *range(last - 20, last + 1)], other.token: [*range(last - 5, last + 1)]},
           f"sent were {told}")
    expect(origin.at_once(VOD) == 2, f"{origin.at_once(VOD)} sessions at once")
    await lab.settle()


@scenario
async def a_play_from_the_middle_begins_with_the_packet_as_it_is_in_the_file(lab):
    source = film(6, rates=(400_000,), packet_size=1000)
    plain, gates = Title("vod/plain.asf", source, speed=FAST), Title("vod/gates.asf", source, speed=FAST, gates=True)
    origin, _ = await shelf(lab, plain, gates, expect_via=False)
    tail = next(n for n, p in enumerate(source.parsed) if n > 100 and len(p.payloads) > 1 and p.payloads[0].offset)
    for title in (plain, gates):
        client = Client(f"mms://127.0.0.1:{origin.port}/{title.name}")
        lab.clients.append(client)
        await began(client, location=tail)
        number, data = client.current.packets[0]
        as_it_is = number == tail and padding.same(data, title.wire(tail))
        expect(as_it_is == (title is plain), f"the first packet of {title.name} is {number}")


@scenario
async def an_export_that_differs_is_found(lab):
    source = film(2)
    for way in padding.WAYS:
        title = Title(VOD, source, padding=way, skip={7})
        # What came whole or was rewritten stays as it came, all else comes back as it was.
        sent = {number: title.wire(number) for number in title.numbers}
        good = [data.ljust(1450, b"\0") if way == "rewritten" or len(data) == 1450 else source.packets[number]
                for number, data in sent.items()]
        judge(lab, title, good)
        spoilt = {"a packet less": good[:-1], "two swapped": [good[1], good[0], *good[2:]], "one of another film":
                  [*good[:30], film(3).packets[30], *good[31:]], "the absent one too": source.packets,
                  "a payload byte": [*good[:50], flipped(good[50], 60), *good[51:]],
                  "a send time": [*good[:50], flipped(good[50], 8), *good[51:]],
                  "a key bit": [flipped(good[0], 13, 0x80), *good[1:]]}
        for what, packets in spoilt.items():
            try:
                judge(lab, title, packets)
            except (Failed, asf.AsfError):
                continue
            raise Failed(f"{what} is not found in an export of {way} packets")


def flipped(packet, at, bit=1):
    return bytes([*packet[:at], packet[at] ^ bit, *packet[at + 1 :]])


def judge(lab, title, packets):
    """An export of these packets, its header corrected."""
    header = title.file.header
    data = bytearray(header.bytes)
    struct.pack_into("<Q", data, header.file_properties_at + 56, len(packets))
    path = os.path.join(lab.directory, "export.asf")
    with open(path, "wb") as file:
        file.write(bytes(data) + b"".join(packets))
    judge_export(path, title)


@scenario
async def a_port_that_leads_nowhere_neither_takes_nor_refuses(lab):
    origin, _ = await shelf(lab)
    await origin.kill()
    with nowhere(origin.port):
        asked = time.monotonic()
        try:
            async with asyncio.timeout(1.5):
                await asyncio.open_connection("127.0.0.1", origin.port)
        except TimeoutError:
            expect(time.monotonic() - asked > 1.4, "it was refused")
        else:
            expect(False, "it was taken")
