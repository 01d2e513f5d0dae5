"""How long an entry is served: asked for anew, changed, gone, refused, slow to answer, or not to be reached at all."""

from __future__ import annotations

import asyncio
import time

import mmsp
from cachelab import (FAST, VOD, began, cacher, complete, entry, exported, film_of, filled, judge_part, judge_payloads, nowhere, player,
                      requests, seeks, shelf, to_the_end, until, verified, whole)
from film import film
from lab import expect, expect_hr, expect_none, expect_soon, refusal, scenario, started_or_refused, together
from shelf import Title
from still import passed

SOON = {"revalidate": "1500ms"}
OLD = 1.8  # seconds after which an entry must be asked for again


async def refused(lab, proxy, title, identity="wmp9"):
    """The HRESULT with which a player of this title is refused, and the wait for it."""
    viewer = player(lab, proxy, title, identity)
    asked = time.monotonic()
    await viewer.connect()
    hr = await refusal(viewer.open())
    viewer.took = passed(asked)
    viewer.hang_up()
    viewer.closed = True
    return hr, viewer.took


@scenario
async def a_fresh_entry_costs_its_origin_nothing(lab):
    origin, title = await shelf(lab, Title(VOD, film(), speed=FAST))
    proxy = await cacher(lab, origin)
    await filled(lab, proxy, origin, title)
    since, sessions = await requests(proxy), len(origin.sessions)
    await together(whole(player(lab, proxy, title, identity)) for identity in ("wmp6", "wmp7", "wmp9", "vlc", "ffmpeg", "libmms"))
    viewer = await began(player(lab, proxy, title), 3)
    for place in ({"position": 4.0}, {"location": 20}, {"position": 0.0}, {"offset": title.file.header.size + 1450 * 30}):
        await seeks(viewer, **place)
    await viewer.close()
    expect(len(origin.sessions) == sessions, f"{len(origin.sessions) - sessions} sessions were opened for hits")
    counted = await since()
    expect(counted["hit"] == 7 and sum(counted.values()) == 7, f"counted were {counted}")
    await proxy.metric_is(0, "mmsproxy_origin_sessions")
    await lab.settle()


@scenario
async def an_entry_outlives_its_origin(lab):
    origin, title = await shelf(lab, Title(VOD, film(2, seconds=8.0), speed=FAST))
    proxy = await cacher(lab, origin, cache={"revalidate": "10s", "revalidate_wait": "8s"})
    await filled(lab, proxy, origin, title)
    since, kept = await requests(proxy), time.monotonic()
    await origin.kill()
    viewer = await began(player(lab, proxy, title))
    expect_soon(viewer.took < 4.0, f"it waited {viewer.took:.1f} s")
    counted = await since()
    expect(counted["hit"] == 1 and not counted["stale"], f"within revalidate {counted} is counted")
    await to_the_end(viewer)
    await asyncio.sleep(max(0.0, 10.5 - (time.monotonic() - kept)))  # it grows old: what is tested
    for number, identity in enumerate(("wmp9", "wmp7", "vlc"), 1):
        viewer = player(lab, proxy, title, identity)
        await began(viewer, 5)
        expect_soon(viewer.took < 4.0, f"stale viewer {number} waited {viewer.took:.1f} s")
        for place, packet in (({"position": 6.0}, title.file.packet_at(6.0)), ({"location": 30}, 30),
                              ({"position": 2.0}, title.file.packet_at(2.0))):
            numbers, _ = await seeks(viewer, 10, **place)
            expect(abs(numbers[0] - packet) <= 1, f"a seek to {place} began at packet {numbers[0]}, not {packet}")
            expect(numbers == list(range(numbers[0], numbers[0] + len(numbers))), f"packets are missing: {numbers}")
        await viewer.close()
        counted = await since()
        expect(counted["stale"] == number and counted["hit"] == 1, f"behind revalidate {counted} is counted")
    await whole(player(lab, proxy, title))
    expect((await entry(proxy, title))["state"] == "stale", "its state is not stale")
    await lab.settle(ended=False)


@scenario
async def an_origin_that_is_down_is_waited_for_once(lab):
    origin, title = await shelf(lab, Title(VOD, film(), speed=FAST))
    proxy = await cacher(lab, origin, cache=SOON | {"revalidate_wait": "20s"}, origin={"connect": "4s", "down": "40s"})
    await filled(lab, proxy, origin, title)
    await origin.kill()
    await asyncio.sleep(OLD)  # it grows old: what is tested
    with nowhere(origin.port):
        first = await began(player(lab, proxy, title))
        expect_soon(first.took < 8.0, f"the first waited {first.took:.1f} s")
        for _ in range(5):
            viewer = await began(player(lab, proxy, title))
            expect_soon(viewer.took < 3.0, f"a later one waited {viewer.took:.1f} s for an origin that is down")
    await lab.settle(ended=False)


@scenario
async def a_stale_entry_is_served_so_long_and_no_longer(lab):
    origin, title = await shelf(lab, Title(VOD, film(), speed=FAST))
    proxy = await cacher(lab, origin, cache={"revalidate": "500ms", "stale_if_error": "6s"}, origin={"down": "0s"})
    await filled(lab, proxy, origin, title)
    kept = time.monotonic()
    await origin.kill()
    await asyncio.sleep(0.8)  # it grows old: what is tested
    viewer = await began(player(lab, proxy, title))
    await asyncio.sleep(max(0.0, 7.2 - (time.monotonic() - kept)))  # and too old
    hr, _ = await refused(lab, proxy, title)
    expect_hr(hr, mmsp.NS_E_CANNOTCONNECT, mmsp.NS_E_CONNECTION_FAILURE, mmsp.NS_E_TIMEOUT)
    judge_payloads(title, viewer.current)
    await origin.revive()
    await whole(player(lab, proxy, title))
    await lab.settle()


@scenario
async def an_old_entry_is_asked_for_once_by_twenty(lab):
    origin, title = await shelf(lab, Title(VOD, film(), speed=FAST), think=0.05)
    proxy = await cacher(lab, origin, cache={"revalidate": "8s"})
    before = await filled(lab, proxy, origin, title)
    await asyncio.sleep(8.3)  # it grows old: what is tested
    since, sessions, media = await requests(proxy), len(origin.opened(VOD)), origin.media(VOD)
    viewers = await together(began(player(lab, proxy, title), 3) for _ in range(20))
    asked = origin.opened(VOD)[sessions:]
    expect(len(asked) == 1, f"twenty viewers made {len(asked)} opens")
    expect(origin.messages("ReadBlock", asked[0].number), "the header was not read")
    expect(not origin.messages("StartPlaying", asked[0].number) and origin.media(VOD) == media, "media was asked for")
    said = origin.messages("Connect", asked[0].number)[0]["subscriber_name"]["token"]
    expect(said.startswith("NSPlayer/9.0.0.2980; {"), f"it names itself {said!r}")
    await origin.wait_all_ended()
    counted = await since()
    expect(counted["revalidated"] >= 1 and not counted["miss"] and not counted["stale"], f"counted were {counted}")
    after = await entry(proxy, title)
    expect(after["validated_at"] > before["validated_at"] and after["generation"] == before["generation"], f"it is {after}")
    late = await began(player(lab, proxy, title))
    expect(len(origin.opened(VOD)) == sessions + 1, "it was not renewed")
    await together(to_the_end(viewer) for viewer in (*viewers[:3], late))
    await lab.settle()


@scenario
async def a_changed_file_is_played_from_the_next_open_on(lab):
    old = Title(VOD, film(1, seconds=8.0), speed=FAST)
    origin, _ = await shelf(lab, old)
    proxy = await cacher(lab, origin, cache=SOON)
    before = await filled(lab, proxy, origin, old)
    await asyncio.sleep(OLD)  # it grows old: what is tested
    watching = await began(player(lab, proxy, old), 5)
    new = old.change(film(2, seconds=8.0, created=2))
    await asyncio.sleep(OLD)  # and again
    viewers = await together(began(player(lab, proxy, new)) for _ in range(5))
    expect(len([s for s in origin.played(VOD) if s.point is new]) == 1, "the new one was fetched more than once")
    await together(to_the_end(viewer) for viewer in (watching, *viewers))
    expect(film_of(watching, old, new) is old, "who watched the old one did not finish it")
    after = await complete(proxy, new)
    expect(after["generation"] != before["generation"], "it is the same generation")
    await exported(lab, proxy, origin, new)
    await verified(lab, proxy)
    await lab.settle()


def _changes():
    kinds = {"header": lambda old: old.change(film(2, created=2)), "packet_count": lambda old: old.change(film(1, seconds=7.0)),
             "attributes": lambda old: old.change(film(1), attributes=mmsp.CANSEEK)}
    for what, change in kinds.items():
        async def changed(lab, change=change):
            old = Title(VOD, film(1), speed=FAST)
            origin, _ = await shelf(lab, old)
            proxy = await cacher(lab, origin, cache=SOON)
            await filled(lab, proxy, origin, old)
            new, media = change(old), origin.media(VOD)
            await asyncio.sleep(OLD)  # it grows old: what is tested
            await whole(player(lab, proxy, new))
            await complete(proxy, new)
            expect(origin.media(VOD) - media == new.bytes, f"{origin.media(VOD) - media} bytes were fetched of {new.bytes}")
            await exported(lab, proxy, origin, new)
            await lab.settle()

        scenario(changed, name=f"another_{what}_begins_a_new_generation")


_changes()


@scenario
async def a_play_of_an_incomplete_file_that_changed_ends_with_a_reason(lab):
    old = Title(VOD, film(1, seconds=30.0), speed=2.0)
    origin, _ = await shelf(lab, old, version="4.1.0.3930")
    proxy = await cacher(lab, origin)
    watching = await began(player(lab, proxy, old), 60)
    new = old.change(film(2, seconds=6.0, created=2))
    old.breaks = [0]  # its connection is lost now, and the origin has only the new one
    hr = await watching.end(40)
    expect(mmsp.failed(hr), f"the old one ends with 0x{hr:X}, though it was not complete")
    expect(film_of(watching, old, new) is old, "it is not the old film")
    judge_part(old, watching.current)
    viewer = await whole(player(lab, proxy, new))
    expect(film_of(viewer, old, new) is new, "the next one got the old film")
    await complete(proxy, new)
    await exported(lab, proxy, origin, new)
    await lab.settle()


def _between_ranges():
    for kinds in ("another_header", "another_count"):
        async def between(lab, kinds=kinds):
            old = Title(VOD, film(1, seconds=40.0))
            origin, _ = await shelf(lab, old, version="4.1.0.3930")
            proxy = await cacher(lab, origin)
            first = await began(player(lab, proxy, old), 20)
            new = old.change(film(2, seconds=40.0, created=2) if kinds == "another_header" else film(1, seconds=30.0, key_ms=500))
            # Within revalidate it is opened as the old one; where it seeks to the origin has only the new.
            second = player(lab, proxy, old, "wmp7")
            await second.begin()
            second.source = None
            opened = film_of(second, old, new)
            refused_with = await started_or_refused(second.start(position=28.0))
            if refused_with is None:
                await second.until(lambda: second.current.packets or second.current.end is not None, "packets or an end", 30)
                if not second.current.packets:
                    expect(mmsp.failed(second.current.end), f"nothing came, and the end is 0x{second.current.end:X}")
            await asyncio.sleep(1.0)  # what may still come wrong
            third = player(lab, proxy, new, "wmp10")
            third.source = None
            await began(third, 10)
            for viewer in (first, second, third):
                film_of(viewer, old, new)
            if refused_with is None:
                judge_payloads(opened, second.current)
            if first.current.end is not None:
                expect(mmsp.failed(first.current.end), "the first one was told that this was the end")
            await together(viewer.close() for viewer in (first, second, third))
            await proxy.metric_is(0, "mmsproxy_cache_fills", timeout=90)
            await verified(lab, proxy)
            await exported(lab, proxy, origin, new)
            expect_none([d for c in lab.clients for d in c.deviations], "toward the player")

        scenario(between, name=f"a_file_that_gets_{kinds}_between_two_ranges_is_never_mixed", limit=150.0)


_between_ranges()


@scenario
async def an_origin_with_two_files_under_one_name_is_never_mixed(lab):
    first = Title(VOD, film(1, seconds=10.0), speed=2.0)
    first.alternate(film(2, seconds=10.0, created=2))
    second = first.turns[1]
    origin, _ = await shelf(lab, first, version="4.1.0.3930")
    proxy = await cacher(lab, origin, cache={"revalidate": "300ms"})
    for round_ in range(4):
        viewers = [player(lab, proxy, first, identity) for identity in ("wmp9", "wmp7", "vlc")]
        for viewer in viewers:
            viewer.source = None
            await viewer.begin()
        # A place that is not there yet can't be had of a file that is another by now.
        started = [await started_or_refused(viewer.start(position=place)) is None for viewer, place in zip(viewers, (0.0, 7.0, 4.0))]
        for viewer in (viewer for viewer, is_started in zip(viewers, started) if is_started):
            await viewer.until(lambda viewer=viewer: len(viewer.current.packets) > 20 or viewer.current.end is not None, "media", 30)
            film_of(viewer, first, second)
        await together(viewer.close() for viewer in viewers)
        await verified(lab, proxy)
    await lab.settle()


def _verdicts():
    for what, hr in (("not_found", mmsp.NS_E_FILE_NOT_FOUND), ("denied", mmsp.E_ACCESSDENIED)):
        async def purged(lab, hr=hr):
            origin, title = await shelf(lab, Title(VOD, film(), speed=FAST))
            proxy = await cacher(lab, origin, cache=SOON)
            await filled(lab, proxy, origin, title)
            title.refuses = hr
            await asyncio.sleep(OLD)  # it grows old: what is tested
            said, _ = await refused(lab, proxy, title)
            expect_hr(said, hr)
            await until(lambda: gone(proxy, title), "the purge")
            await proxy.metric_is(0, "mmsproxy_cache_bytes")
            title.refuses, media = None, origin.media(VOD)
            await asyncio.sleep(1.2)  # cache.negative: it may be remembered so long
            await whole(player(lab, proxy, title))
            expect(origin.media(VOD) - media == title.bytes, "it was not fetched again")
            await lab.settle()

        scenario(purged, name=f"what_is_{what}_at_the_origin_is_purged")

        async def set_aside(lab, hr=hr):
            origin, title = await shelf(lab, Title(VOD, film(), speed=FAST))
            proxy = await cacher(lab, origin, cache=SOON | {"stale_if_error": "forever"})
            await filled(lab, proxy, origin, title)
            title.refuses = hr
            await asyncio.sleep(OLD)  # it grows old: what is tested
            said, _ = await refused(lab, proxy, title)
            expect_hr(said, hr)
            found = await entry(proxy, title)
            expect(found and found["state"] == "set_aside" and found["is_complete"], f"it is {found}")
            await exported(lab, proxy, origin, title)
            title.refuses = None
            await asyncio.sleep(1.2)  # cache.negative: it may be remembered so long
            await whole(player(lab, proxy, title))
            expect((await entry(proxy, title))["state"] in ("fresh", "stale"), "the origin has it again, and it is set aside")
            await lab.settle()

        scenario(set_aside, name=f"what_is_{what}_at_the_origin_is_set_aside_in_a_museum")


async def gone(proxy, title):
    return await entry(proxy, title) is None


_verdicts()


@scenario
async def a_museum_serves_without_end(lab):
    origin, title = await shelf(lab, Title(VOD, film(), speed=FAST))
    proxy = await cacher(lab, origin, cache={"revalidate": "100ms", "stale_if_error": "forever"}, origin={"down": "0s"})
    await filled(lab, proxy, origin, title)
    await origin.kill()
    await asyncio.sleep(1.0)  # it grows old: what is tested
    await whole(player(lab, proxy, title))
    await proxy.stop()
    proxy = await cacher(lab, origin, directory=proxy.cache_directory, cache={"revalidate": "100ms", "stale_if_error": "forever"})
    await whole(player(lab, proxy, title))
    await lab.settle(ended=False)


@scenario
async def a_refusal_of_another_kind_is_no_verdict(lab):
    origin, title = await shelf(lab, Title(VOD, film(), speed=FAST))
    proxy = await cacher(lab, origin, cache=SOON)
    before = await filled(lab, proxy, origin, title)
    since = await requests(proxy)
    title.refuses = 0x8007000E  # E_OUTOFMEMORY: it says nothing of the file
    await asyncio.sleep(OLD)  # it grows old: what is tested
    await whole(player(lab, proxy, title))
    found, counted = await entry(proxy, title), await since()
    expect(found["generation"] == before["generation"] and found["validated_at"] == before["validated_at"], f"it is {found}")
    expect(counted["stale"] == 1, f"counted were {counted}")
    await lab.settle()


@scenario
async def a_not_found_is_remembered_for_a_while(lab):
    origin, _ = await shelf(lab, Title("vod/other.asf", film(2)))
    proxy = await cacher(lab, origin, cache={"negative": "8s"})
    title = Title(VOD, film(), speed=FAST)
    for _ in range(4):
        hr, _ = await refused(lab, proxy, title)
        expect_hr(hr, mmsp.NS_E_FILE_NOT_FOUND)
    expect(len(origin.opened(VOD)) == 1, f"the origin was asked {len(origin.opened(VOD))} times within cache.negative")
    origin.points[VOD] = title
    hr, _ = await refused(lab, proxy, title)
    expect_hr(hr, mmsp.NS_E_FILE_NOT_FOUND)
    await asyncio.sleep(8.2)  # it is forgotten: what is tested
    await whole(player(lab, proxy, title))
    await lab.settle()


@scenario
async def twenty_who_ask_for_what_is_not_there_are_one_open(lab):
    origin, _ = await shelf(lab, Title("vod/other.asf", film(2)), think=0.1)
    proxy = await cacher(lab, origin, cache={"negative": "1m"})
    answers = await together(refused(lab, proxy, Title(VOD, film())) for _ in range(20))
    for hr, _ in answers:
        expect_hr(hr, mmsp.NS_E_FILE_NOT_FOUND)
    expect(len(origin.opened(VOD)) == 1, f"the origin was asked {len(origin.opened(VOD))} times")
    await lab.settle()


@scenario
async def a_slow_answer_is_waited_for_so_long(lab):
    origin, title = await shelf(lab, Title(VOD, film(), speed=FAST))
    proxy = await cacher(lab, origin, cache={"revalidate": "8s", "revalidate_wait": "2s"}, origin={"reply": "30s"})
    await filled(lab, proxy, origin, title)
    await asyncio.sleep(8.3)  # it grows old: what is tested
    title.think = 8.0
    since, asked = await requests(proxy), len(origin.opened(VOD))
    came = time.monotonic()
    first, second = await together(began(player(lab, proxy, title)) for _ in range(2))
    for viewer in (first, second):
        text = f"it waited {viewer.took:.1f} s, revalidate_wait is 2 s"
        expect(viewer.current.times[0] - came > 1.9, text)
        expect_soon(viewer.took < 6.0, text)
    counted = await since()
    expect(counted["stale"] == 2, f"counted were {counted}")
    await origin.wait_for(lambda: origin.opens(VOD) == 2)
    await origin.wait_all_ended()
    expect(len(origin.opened(VOD)) == asked + 1, "the check did not go on as one")
    third = await began(player(lab, proxy, title))
    expect(len(origin.opened(VOD)) == asked + 1, "the answer that came late was not heard")
    expect_soon(third.took < 1.9, "the answer that came late was waited for again")
    await together(to_the_end(viewer) for viewer in (first, second, third))
    await lab.settle()


@scenario
async def an_origin_that_hangs_is_an_origin_that_is_not_there(lab):
    origin, title = await shelf(lab, Title(VOD, film(), speed=FAST))
    proxy = await cacher(lab, origin, cache=SOON | {"revalidate_wait": "500ms"}, origin={"reply": "4s"})
    await filled(lab, proxy, origin, title)
    title.hangs = True
    await asyncio.sleep(OLD)  # it grows old: what is tested
    for _ in range(3):
        viewer = await began(player(lab, proxy, title))
        expect_soon(viewer.took < 3.5, f"it waited {viewer.took:.1f} s")
    await whole(player(lab, proxy, title))
    expect(await entry(proxy, title), "the entry is gone")
    await lab.settle(ended=False)


@scenario
async def what_was_redirected_keeps_the_key_of_its_name(lab):
    target, title = await shelf(lab, Title("inner/film.asf", film(), speed=FAST))
    first, _ = await shelf(lab, Title("vod/other.asf", film(2)), redirects={VOD: f"mms://127.0.0.1:{target.port}/inner/film.asf"})
    proxy = await cacher(lab, first, cache=SOON)
    asked = Title(VOD, film())
    await whole(player(lab, proxy, asked))
    await complete(proxy, VOD)
    sessions = len(target.played("inner/film.asf"))
    await asyncio.sleep(OLD)  # it grows old: what is tested
    await whole(player(lab, proxy, asked))
    expect(len(target.played("inner/film.asf")) == sessions, "it was fetched again")
    expect(len(first.opened(VOD)) == 2, f"the first origin was asked {len(first.opened(VOD))} times")
    await lab.settle()
