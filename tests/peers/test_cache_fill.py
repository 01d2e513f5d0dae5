"""How an entry comes about: one transfer for all, seeks ahead of it, losses, and origins that strip, skip or are slow."""

from __future__ import annotations

import asyncio
import os
import re
import time

import padding
from cachelab import (FAST, VOD, began, cacher, complete, entry, exported, in_time, judge_part, judge_payloads, judge_whole,
                      listed, play_all, player, sealed, seeks, shelf, succeeds, to_the_end, until, url, verified, where, whole)
from film import film
from lab import FREE, MICROSOFT, expect, expect_soon, scenario, together
from shelf import Title, Way

V4, V9 = "4.1.0.3930", "9.1.1.3841"


def once(origin, title, overlap=0):
    """The origin sent the file once, and never a packet twice but for `overlap` of them."""
    sent = [number for session in origin.played(title.name) for number in session.numbers]
    expect(set(sent) == set(title.numbers), f"{len(set(title.numbers) - set(sent))} packets were never fetched")
    expect(len(sent) <= len(title.numbers) + overlap, f"{len(sent)} packets were fetched of a file of {len(title.numbers)}")


def _first_viewers():
    for version in (V4, V9):
        async def two(lab, version=version):
            origin, title = await shelf(lab, Title(VOD, film(seconds=8.0, preroll_ms=3000)), version=version)
            proxy = await cacher(lab, origin)
            first = await began(player(lab, proxy, title))
            await asyncio.sleep(2.0)  # the second comes in the middle: what is tested
            second = await began(player(lab, proxy, title, "wmp7"))
            expect_soon(second.took < 3.0, f"the second viewer waited {second.took:.1f} s")
            await together(to_the_end(viewer) for viewer in (first, second))
            for viewer in (first, second):
                in_time(viewer, 3.0)
            await complete(proxy, title)
            expect(len(origin.played(VOD)) == 1, f"{len(origin.played(VOD))} sessions were sent media")
            expect(origin.media(VOD) == title.bytes, f"the origin sent {origin.media(VOD)} bytes of {title.bytes}")
            await exported(lab, proxy, origin, title)
            await lab.settle()

        scenario(two, name=f"a_second_viewer_makes_no_second_transfer_from_a_{version[0]}x_origin")


_first_viewers()


@scenario
async def a_title_sent_whole_is_served_bit_exact(lab):
    origin, title = await shelf(lab, Title(VOD, film(), padding="whole"))
    proxy = await cacher(lab, origin)
    while_it_fills = player(lab, proxy, title, "wms4")  # to whom padding is sent
    await began(while_it_fills)
    await while_it_fills.end()
    await complete(proxy, title)
    out_of_the_entry = player(lab, proxy, title, "wms4")
    await began(out_of_the_entry)
    await out_of_the_entry.end()
    for viewer in (while_it_fills, out_of_the_entry):
        expect([data for _, data in viewer.current.packets] == title.file.packets, "not byte for byte the file's packets")
        expect(viewer.header_bytes == title.header(), "not the file's header")
    once(origin, title)
    await lab.settle()


@scenario
async def a_hundred_viewers_at_once_are_one_session(lab):
    origin, title = await shelf(lab, Title(VOD, film(seconds=5.0)))
    proxy = await cacher(lab, origin)
    kinds = MICROSOFT[:-1] + FREE
    await play_all(player(lab, proxy, title, kinds[n % len(kinds)], timeout=30.0) for n in range(100))
    expect(len(origin.opened(VOD)) == 1, f"{len(origin.opened(VOD))} sessions asked for it")
    expect(origin.media(VOD) == title.bytes, f"the origin sent {origin.media(VOD)} bytes of {title.bytes}")
    await lab.settle()


@scenario
async def a_shared_fill_names_the_proxy_and_asks_for_all(lab):
    for version in (V4, V9):
        origin, title = await shelf(lab, version=version)
        proxy = await cacher(lab, origin)
        viewer = player(lab, proxy, title, "wmp7")
        await viewer.begin()
        await viewer.select({2: 0})
        await viewer.start()
        await viewer.packets(3)
        await complete(proxy, title, timeout=25)  # unless the proxy stood still, and takes that for a narrow way
        session, = origin.played(VOD)
        said = origin.messages("Connect", session.number)[0]["subscriber_name"]
        expect(re.fullmatch(r"NSPlayer/9\.0\.0\.2980; \{[0-9A-Fa-f-]{36}\}", said["token"]), f"it names itself {said['token']!r}")
        expect(viewer.token not in said["token"], "it names itself as the viewer does")
        entries = sorted(map(tuple, origin.messages("StreamSwitch", session.number)[0]["fields"]["entries"]))
        expect(entries == [(0xFFFF, 1, 0), (0xFFFF, 2, 0)], f"it selects {entries}")
        asked = origin.messages("StartPlaying", session.number)[0]["fields"].get("dw_accel_bandwidth", 0)
        expect(bool(asked) == (version == V9), f"accel fields of {asked} go to an origin of version {version}")
    await lab.settle()


def _seeks():
    for what in ("time", "packet", "byte"):
        async def ahead(lab, what=what):
            origin, title = await shelf(lab, Title(VOD, film(seconds=40.0)), version=V4)
            proxy = await cacher(lab, origin, cache={"finish_fill": "never"})
            first = await began(player(lab, proxy, title), 10)
            second = await began(player(lab, proxy, title, "wmp7"), 10)
            target = title.file.packet_at(36.0)
            header = title.file.header
            place = {"time": {"position": 36.0}, "packet": {"location": target},
                     "byte": {"offset": header.size + target * header.packet_size}}[what]
            third = player(lab, proxy, title, "wmp10")
            await began(third, 3)
            numbers, took = await seeks(third, 20, **place)
            expect_soon(took < 3.0, f"the first packet behind the seek came after {took:.2f} s")
            expect(abs(numbers[0] - target) <= 1, f"it began at packet {numbers[0]}, not {target}")
            expect(numbers == list(range(numbers[0], numbers[0] + len(numbers))), f"packets are missing: {numbers}")
            await to_the_end_of_a_part(third)
            expect(origin.at_once(VOD) == 2, f"{origin.at_once(VOD)} sessions at once")
            for viewer in (first, second):
                expect(viewer.current.end is None, "a viewer that had not asked was ended")
                judge_part(title, viewer.current)
            await lab.settle()

        scenario(ahead, name=f"a_seek_by_{what}_ahead_of_a_fill_waits_for_the_origins_answer_alone")


_seeks()


async def to_the_end_of_a_part(viewer):
    expect(await viewer.end() == 0, f"the play ended with 0x{viewer.current.end:X}")
    expect(viewer.current.locations[-1] == viewer.title.numbers[-1], f"the last packet is {viewer.current.locations[-1]}")


@scenario
async def fills_that_began_at_a_seek_make_a_complete_entry(lab):
    for gates in (False, True):
        source = film(7, seconds=12.0, rates=(3_000_000,), packet_size=8000)
        origin, title = await shelf(lab, Title(VOD, source, gates=gates, speed=4.0), version=V4)
        proxy = await cacher(lab, origin)
        viewer = await began(player(lab, proxy, title), location=title.file.packet_at(7.0) + 3)
        await viewer.packets(20)
        other = await began(player(lab, proxy, title, "wmp7"), location=title.file.packet_at(4.0) + 5)
        await together(to_the_end_of_a_part(v) for v in (viewer, other))
        await viewer.close()
        await whole(player(lab, proxy, title))
        await complete(proxy, title)
        await exported(lab, proxy, origin, title)
        # Two sessions may bring the same for a while: neither knows yet what the other will have left out where it began.
        expect(origin.media(VOD) <= 2.1 * title.bytes, f"the origin sent {origin.media(VOD)} bytes of {title.bytes}")
    await lab.settle()


@scenario
async def at_most_so_many_fills_of_one_entry(lab):
    origin, title = await shelf(lab, Title(VOD, film(seconds=60.0)), version=V4)
    proxy = await cacher(lab, origin, cache={"max_fills_per_entry": 2, "finish_fill": "never"})
    viewers = [player(lab, proxy, title, identity) for identity in ("wmp7", "wmp8", "wmp9", "wmp10")]
    for viewer, place in zip(viewers, (0.0, 15.0, 30.0, 45.0)):
        await began(viewer, 5, position=place)
        expect_soon(viewer.wait < 4.0, f"at {place} s the first packet came after {viewer.wait:.1f} s")
        found = await entry(proxy, title)
        expect(found and found["fills"] <= 2, f"the entry has {found and found['fills']} fills")
    expect(await proxy.metric("mmsproxy_cache_fills") == 2, "mmsproxy_cache_fills is not 2")
    tokens = {viewer.token for viewer in viewers}
    shared = [s for s in origin.played(VOD) if not s.ended and s.name.token not in tokens]
    expect(len(shared) == 2, f"{len(shared)} sessions of the proxy's own")
    for viewer in viewers:
        await viewer.packets(len(viewer.current.packets) + 20)
        judge_ordered(viewer)
    await lab.settle()


def judge_ordered(viewer):
    numbers = viewer.current.locations
    expect(numbers == list(range(numbers[0], numbers[0] + len(numbers))), f"packets are missing after {numbers[0]}")


def _finish():
    cases = {"never": ("never", 0.25, False), "always": ("always", 0.0, True), "below_the_share": ("50%", 0.05, False),
             "above_the_share": ("50%", 0.65, True)}
    for what, (rule, leaves, goes_on) in cases.items():
        async def finish(lab, rule=rule, leaves=leaves, goes_on=goes_on):
            origin, title = await shelf(lab, Title(VOD, film(seconds=16.0)), version=V4)
            proxy = await cacher(lab, origin, cache={"finish_fill": rule})
            viewer = await began(player(lab, proxy, title))
            await viewer.until(lambda: origin.media(VOD) >= title.bytes * leaves, "so much of the file", 40)
            await viewer.close()
            if goes_on:
                await complete(proxy, title)
                await exported(lab, proxy, origin, title)
                once(origin, title)
            else:
                await proxy.metric_is(0, "mmsproxy_cache_fills")
                await origin.wait_all_ended()
                expect(origin.media(VOD) < title.bytes * (leaves + 0.3), "it went on")
                found = await entry(proxy, title)
                expect(found is None or not found["is_complete"], "the entry is called complete")
                await whole(player(lab, proxy, title))
                await exported(lab, proxy, origin, title)
            await lab.settle()

        scenario(finish, name=f"a_fill_whose_viewer_left_{what}_{'goes_on' if goes_on else 'ends'}")


_finish()


@scenario
async def fills_without_viewers_are_so_many_at_all_origins(lab):
    titles = [Title(f"vod/{n}.asf", film(n, seconds=14.0)) for n in range(1, 4)]
    origin, _ = await shelf(lab, *titles[:2], version=V4)
    other, _ = await shelf(lab, titles[2], version=V4)
    proxy = await cacher(lab, cache={"background_fills": 1}, routes=[
        {"host": "one.example", "origin": f"mms://127.0.0.1:{origin.port}"},
        {"host": "two.example", "origin": f"mms://127.0.0.1:{other.port}"}])
    hosts = ("one.example", "one.example", "two.example")
    viewers = await together(began(player(lab, proxy, title, host=host), 5) for title, host in zip(titles, hosts))
    await proxy.metric_is(3, "mmsproxy_cache_fills")
    await together(viewer.close() for viewer in viewers)
    await proxy.metric_is(1, "mmsproxy_cache_fills")
    await proxy.metric_is(0, "mmsproxy_cache_fills", timeout=40)
    done = [e["url"] for e in (await listed(proxy))["entries"] if e["is_complete"]]
    expect(len(done) == 1, f"complete are {done}")
    await lab.settle()


@scenario
async def a_viewer_takes_the_place_of_a_background_fill(lab):
    left, wanted = Title("vod/left.asf", film(1, seconds=30.0)), Title("vod/wanted.asf", film(2, seconds=5.0))
    origin, _ = await shelf(lab, left, wanted, version=V4)
    proxy = await cacher(lab, origin, origin={"sessions": 1})
    first = await began(player(lab, proxy, left), 5)
    await first.close()
    await proxy.metric_is(1, "mmsproxy_cache_fills")
    second = await began(player(lab, proxy, wanted))
    expect_soon(second.took < 6.0, f"it waited {second.took:.1f} s")
    await to_the_end(second)
    expect(all(s.ended for s in origin.played("vod/left.asf")), "the background fill is still there")
    await complete(proxy, wanted)
    await lab.settle()


@scenario
async def a_fill_whose_connection_is_lost_goes_on(lab):
    origin, title = await shelf(lab, Title(VOD, film(seconds=10.0), breaks=[80_000, 60_000]), version=V4)
    proxy = await cacher(lab, origin)
    viewer = await began(player(lab, proxy, title))
    await to_the_end(viewer)
    in_time(viewer, 3.0)
    await complete(proxy, title)
    expect(not title.breaks, "it was not lost twice")
    expect(len(origin.played(VOD)) == 3, f"{len(origin.played(VOD))} sessions were sent media")
    expect(origin.media(VOD) < 1.3 * title.bytes, f"the origin sent {origin.media(VOD)} bytes of {title.bytes}")
    await exported(lab, proxy, origin, title)
    await lab.settle()


@scenario
async def a_fill_whose_origin_dies_goes_on_at_the_next(lab):
    first, title = await shelf(lab, Title(VOD, film(seconds=10.0)), version=V4)
    second, same = await shelf(lab, Title(VOD, film(seconds=10.0), padding="cut"), version=V4)
    proxy = await cacher(lab, first, second)
    viewer = await began(player(lab, proxy, title))
    await viewer.until(lambda: first.media(VOD) > title.bytes * 0.3, "a third of the file", 30)
    await first.kill()
    await to_the_end(viewer)
    in_time(viewer, 3.0)
    await complete(proxy, title)
    expect(0 < second.media(VOD) < 0.9 * same.bytes, f"the second origin sent {second.media(VOD)} bytes of {same.bytes}")
    await exported(lab, proxy, first, title)
    await lab.settle(ended=False)


def _stripped():
    for way in padding.WAYS:
        async def stripped(lab, way=way):
            fat = film(8, seconds=6.0, rates=(2_000_000,), packet_size=8000)
            small, large = Title("vod/small.asf", film(), padding=way), Title("vod/large.asf", fat, padding=way)
            origin, _ = await shelf(lab, small, large, speed=4.0)
            proxy = await cacher(lab, origin)
            for title in (small, large):
                await whole(player(lab, proxy, title))
                found = await complete(proxy, title)
                expect(found["packets_present"] == len(title.file.packets) and not found["packets_absent"], f"it has {found}")
                await whole(player(lab, proxy, title, "vlc"))
                await exported(lab, proxy, origin, title)
                await succeeds(lab, "verify", url(origin, title), "--origin", *where(proxy))
                old = await began(player(lab, proxy, title, "wms4"))
                await old.end()
                sizes = {len(data) for _, data in old.current.packets}
                expect(sizes == {title.file.header.packet_size}, f"wms4 got packets of {sizes} bytes")
                judge_part(title, old.current)
            await lab.settle()

        scenario(stripped, name=f"an_origin_whose_padding_is_{way}_makes_a_complete_entry")


_stripped()


def _skipping():
    last = len(film().packets) - 1
    for what, numbers in (("single_packets", {20, 90}), ("a_run_of_packets", set(range(50, 75))), ("the_first_packets", {0, 1}),
                          ("the_last_packets", {last - 1, last})):
        for skips in ("always", "once"):
            async def skipping(lab, numbers=numbers, skips=skips):
                origin, title = await shelf(lab, Title(VOD, film(), skip=numbers, skips=skips), speed=4.0)
                proxy = await cacher(lab, origin)
                gated = skips == "always" and 0 in numbers  # nothing can be shown before the next key frame
                first = await began(player(lab, proxy, title))
                expect(await first.end() == 0, "the end is an error")
                judge_payloads(title, first.current)
                found = await complete(proxy, title)
                absent = len(numbers) if skips == "always" else 0
                have = (found["packets_present"], found["packets_absent"])
                expect(have == (last + 1 - absent, absent), f"present and absent are {have}, not {(last + 1 - absent, absent)}")
                asked = [e["fields"] for e in origin.messages("StartPlaying")]
                expect(len(asked) >= 2, "an absence was believed at once")
                expect(origin.media(VOD) < 1.5 * title.bytes, f"the origin sent {origin.media(VOD)} bytes of {title.bytes}")
                second = await began(player(lab, proxy, title))
                expect(await second.end() == 0, "the end is an error")
                (judge_payloads if gated else judge_whole)(title, second.current)
                await exported(lab, proxy, origin, title)
                await lab.settle()

            scenario(skipping, name=f"{what}_that_an_origin_skips_{skips}_{'are_absent' if skips == 'always' else 'are_fetched'}")


_skipping()


@scenario
async def an_origin_that_skips_for_a_slow_reader_leaves_nothing_absent(lab):
    fat = film(4, seconds=10.0, rates=(8_000_000,), packet_size=16_000)
    origin, title = await shelf(lab, Title(VOD, fat, skip=range(1, len(fat.packets)), skips="slow", speed=3.0), version=V4)
    proxy = await cacher(lab, origin, limits={"kernel_buffer": "64KiB", "buffer": "128KiB"})
    slow = await began(player(lab, proxy, title))
    with slow.not_reading():
        await asyncio.sleep(4.0)  # it does not read: what is tested
    await slow.close()
    found = await complete(proxy, title)
    expect(not found["packets_absent"], f"{found['packets_absent']} packets are called absent")
    await exported(lab, proxy, origin, title)
    await lab.settle()


@scenario
async def where_a_file_ends_says_its_end_and_not_its_header(lab):
    for declare in (9, -9):
        origin, title = await shelf(lab, Title(VOD, film(3, declare=declare)), speed=4.0)
        if declare < 0:
            title.file.packets = film(3).packets  # the origin has more than its header says
            title.file.parsed = film(3).parsed
        proxy = await cacher(lab, origin)
        await whole(player(lab, proxy, title))
        found = await complete(proxy, title)
        expect(found["packets_present"] == len(title.file.packets), f"it has {found['packets_present']} packets")
        await whole(player(lab, proxy, title))
    await lab.settle()


def _five_rates():
    for version, viewers in ((V4, 1), (V4, 2), (V9, 2)):
        async def five(lab, version=version, viewers=viewers):
            rate, sound = 150_000, 32_000
            source = film(9, seconds=14.0, rates=(rate,) * 5, sound=sound, preroll_ms=3000)
            way = Way(2 * 1.2 * (rate + sound))
            origin, title = await shelf(lab, Title(VOD, source), version=version, way=way)
            proxy = await cacher(lab, origin)
            watching = []
            for number in range(viewers):
                viewer = player(lab, proxy, title, ("wmp9", "wmp7")[number], timeout=20.0)
                await viewer.begin()
                await viewer.select({number + 1: 0, 6: 0})
                await viewer.start()
                await viewer.packets(1)
                watching.append(viewer)
            for viewer in watching:
                expect(await viewer.end(60) == 0, f"the play ended with 0x{viewer.current.end:X}")
                late = in_time(viewer, 3.0)
                lab.figure(f"a viewer of one of five bit rates was {late:.2f} s late at most")
                last = title.file.presentation(title.file.packet_at(14.0))
                expect(title.file.send_time(viewer.current.locations[-1]) > last - 3000 - 1500, "its end is missing")
            await verified(lab, proxy)
            found = await entry(proxy, title)
            if found and found["is_complete"]:
                await exported(lab, proxy, origin, title)
            await lab.settle()

        scenario(five, name=f"five_bit_rates_over_a_way_for_two_keep_{viewers}_of_a_{version[0]}x_origin_in_time", limit=120.0)


_five_rates()


@scenario
async def a_receive_rate_bounds_what_fills_take(lab):
    for section in ("origin", "route"):
        fat = Title(VOD, film(4, seconds=8.0, rates=(2_000_000,), packet_size=8000), speed=FAST)
        slim = Title("vod/slim.asf", film(1, seconds=5.0))
        origin, _ = await shelf(lab, fat, slim)
        proxy = await cacher(lab, origin, **{section: {"receive_rate": "3Mbps"}})
        started = time.monotonic()
        first = await began(player(lab, proxy, fat))
        second = await began(player(lab, proxy, slim))
        expect_soon(second.took < 4.0, f"the second waited {second.took:.1f} s")
        while time.monotonic() - started < 3.0:
            received = await proxy.metric("mmsproxy_origin_received_bytes_total")
            so_far = time.monotonic() - started
            expect(received < 400_000 * so_far + 600_000, f"{received:.0f} bytes came in within {so_far:.1f} s")
            await asyncio.sleep(0.1)
        await together(to_the_end(viewer) for viewer in (first, second))
        for viewer in (first, second):
            in_time(viewer, 2.0)
    await lab.settle()


@scenario
async def segments_are_kept_over_a_restart(lab):
    source = film(5, seconds=16.0, rates=(10_000_000,), packet_size=16_000)
    origin, title = await shelf(lab, Title(VOD, source, speed=4.0), version=V4)
    proxy = await cacher(lab, origin)
    viewer = await began(player(lab, proxy, title))
    await until(lambda: sealed(proxy.cache_directory), "a sealed segment", 30)
    await viewer.close()
    await proxy.stop()
    await origin.wait_all_ended()
    kept, before = set(sealed(proxy.cache_directory)), origin.media(VOD)
    expect(kept, "nothing is sealed")
    proxy = await cacher(lab, origin, directory=proxy.cache_directory)
    found = await until(lambda: entry(proxy, title), "the entry")
    expect(found["packets_present"] > 0 and not found["is_complete"], f"it has {found}")
    await whole(player(lab, proxy, title))
    await complete(proxy, title)
    expect(kept <= set(sealed(proxy.cache_directory)), "what was sealed is gone")
    expect(origin.media(VOD) - before < title.bytes, "what was there was fetched again")
    await exported(lab, proxy, origin, title)
    expect(os.path.isdir(proxy.cache_directory), "there is no cache")
    await lab.settle()
