"""What is kept at all, and for whom: hosts that share a path, passwords, content that must not be stored, plays of a part."""

from __future__ import annotations

import asyncio

import mmsp
from asf import parse_packet
from cachelab import (FAST, VOD, began, cacher, complete, entry, exported, film_of, filled, judge_payloads, listed, player, requests,
                      seeks, shelf, to_the_end, until, waited, whole)
from film import film
from lab import expect, expect_hr, expect_soon, refusal, scenario
from shelf import Title

LOGIN = ("viewer", "secret")


async def login(lab, proxy, title, user=LOGIN, identity="wmp9", **how):
    """A player that says a password, up to its first packets."""
    viewer = player(lab, proxy, title, identity, timeout=15.0)
    await viewer.connect()
    await viewer.open(login=user, **how)
    await viewer.read_header()
    await viewer.start()
    await viewer.packets(1)
    return viewer


async def turned_away(lab, proxy, title, user=None):
    """The HRESULT for who says nothing, or the wrong thing; no header and no media either way."""
    viewer = player(lab, proxy, title, timeout=15.0)
    await viewer.connect()
    hr = await refusal(viewer.open(login=user))
    expect(viewer.header is None and not viewer.plays, "it was given something")
    viewer.hang_up()
    viewer.closed = True
    return hr


@scenario
async def two_origins_with_the_same_name_are_two_contents(lab):
    titles = [Title(VOD, film(n, created=n), speed=FAST) for n in (1, 2, 3)]
    origins = [(await shelf(lab, titles[0]))[0], (await shelf(lab, titles[1]))[0], (await shelf(lab, titles[2], host="127.0.0.9"))[0]]
    proxy = await lab.proxy(forward=["127.0.0.0/8:*"], cache={"dir": lab.directory + "/cache", "min_free": 0})
    hosts = [f"127.0.0.1:{origins[0].port}", f"127.0.0.1:{origins[1].port}", f"127.0.0.9:{origins[2].port}"]
    for _ in range(2):
        for title, host in zip(titles, hosts):
            viewer = await whole(player(lab, proxy, title, host=host))
            expect(film_of(viewer, *titles) is title, f"{host} is served another host's film")
    await until(lambda: three(proxy), "three entries")
    for origin, title in zip(origins, titles):
        expect(origin.media(VOD) == title.bytes, f"{origin.media(VOD)} bytes were fetched of {title.bytes}")
    await lab.settle()


async def three(proxy):
    return len((await listed(proxy))["entries"]) == 3


@scenario
async def a_claimed_host_chooses_a_route_and_fills_no_others_entry(lab):
    good, evil = Title(VOD, film(1, created=1), speed=FAST), Title(VOD, film(2, created=2), speed=FAST)
    (one, _), (two, _) = await shelf(lab, good), await shelf(lab, evil)
    proxy = await cacher(lab, routes=[{"host": "good.example", "origin": f"mms://127.0.0.1:{one.port}"},
                                      {"host": "*", "origin": f"mms://127.0.0.1:{two.port}"}])
    names = {"good.example": good, "GOOD.example": good, "good.example:1755": good, "evil.example": evil, "x.good.example": evil,
             f"127.0.0.1:{one.port}": evil}
    for host, title in names.items():
        viewer = await whole(player(lab, proxy, title, host=host))
        expect(film_of(viewer, good, evil) is title, f"{host} leads to the other's film")
    # Names in the middle of the path that look like the other host's, and a HOST that disagrees with Host.
    for text in ("NSPlayer/9.0.0.2980; Host: evil.example\0HOST: good.example\0",
                 "NSPlayer/9.0.0.2980; Host: good.example\0HOST: evil.example\0"):
        said = text.split("HOST: ")[1].split("\0")[0]
        viewer = player(lab, proxy, names[said])
        await viewer.connect(subscriber_name=text)
        await viewer.open()
        await viewer.read_header()
        await viewer.start()
        await to_the_end(viewer)
        expect(film_of(viewer, good, evil) is names[said], f"HOST {said} leads to the other's film")
    expect(len(one.played(VOD)) == 1 and len(two.played(VOD)) == 1, "each was not fetched once")
    await lab.settle()


@scenario
async def queries_of_players_are_one_content_and_others_are_not(lab):
    title = Title(VOD, film(1), speed=FAST)
    other = Title(VOD + "?sid=7", film(2), speed=FAST)
    origin, _ = await shelf(lab, title, other)
    proxy = await cacher(lab, origin)
    await filled(lab, proxy, origin, title)
    for query in ("?WMCache=0", "?WMBitrate=100000", "?WMContentBitrate=5&WMReconnect=3&WMThinning=0"):
        await whole(player(lab, proxy, title, query=query))
    await whole(player(lab, proxy, other))
    await whole(player(lab, proxy, other, query="&WMCache=0"))
    expect(len(origin.played(VOD)) == 1 and len(origin.played(other.name)) == 1, "a query made a transfer")
    await lab.settle()


@scenario
async def names_that_differ_in_case_are_two_unless_the_route_says_one(lab):
    for ignore in (False, True):
        upper, lower = Title("vod/Film.asf", film(1), speed=FAST), Title("vod/film.asf", film(1), speed=FAST)
        origin, _ = await shelf(lab, upper, lower)
        proxy = await cacher(lab, origin, route={"ignore_case": ignore})
        for title in (upper, lower):
            await whole(player(lab, proxy, title))
        entries = 1 if ignore else 2
        fetched = len(origin.played(upper.name)) + len(origin.played(lower.name))
        expect(fetched == entries, f"with ignore_case {ignore} there were {fetched} transfers")
        expect(len((await listed(proxy))["entries"]) == entries, f"with ignore_case {ignore} there are other entries")
    await lab.settle()


def _attributes():
    seekable = mmsp.CANSEEK | mmsp.CANSTRIDE
    for what, attributes in (("a_broadcast", mmsp.BROADCAST), ("live_content", seekable | mmsp.LIVE),
                             ("a_playlist", seekable | mmsp.PLAYLIST), ("what_cannot_be_sought_in", 0)):
        async def never(lab, attributes=attributes):
            origin, title = await shelf(lab, Title(VOD, film(), attributes=attributes), speed=4.0)
            proxy = await cacher(lab, origin, route={"split": False})
            for _ in range(2):
                viewer = await began(player(lab, proxy, title), 20)
                await viewer.end()
                judge_payloads(title, viewer.current)
                await viewer.close()
            expect(len(origin.played(VOD)) == 2, f"two plays were {len(origin.played(VOD))} sessions")
            expect(not (await listed(proxy))["entries"], "it has an entry")
            await proxy.metric_is(0, "mmsproxy_cache_bytes")
            await lab.settle()

        scenario(never, name=f"{what}_is_never_stored")


_attributes()


@scenario
async def a_route_that_forbids_it_stores_nothing(lab):
    origin, title = await shelf(lab, Title(VOD, film(), speed=FAST))
    proxy = await cacher(lab, origin, route={"cache": False})
    for _ in range(2):
        await whole(player(lab, proxy, title))
    expect(len(origin.played(VOD)) == 2 and not (await listed(proxy))["entries"], "it was stored")
    tokens = {session.name.token for session in origin.played(VOD)}
    expect(tokens == {lab.clients[0].token}, f"at the origin they are {tokens}")
    await lab.settle()


@scenario
async def no_directory_is_no_cache(lab):
    origin, title = await shelf(lab, Title(VOD, film(), speed=FAST))
    proxy = await lab.reverse(origin)
    for _ in range(2):
        await whole(player(lab, proxy, title))
    expect(len(origin.played(VOD)) == 2, "something was stored")
    await lab.settle()


# -- passwords --


def _challenged_from_the_start():
    for scheme in ("basic", "ntlm"):
        async def challenged(lab, scheme=scheme):
            origin, title = await shelf(lab, Title(VOD, film(), auth=scheme), Title("vod/open.asf", film(2), speed=FAST), speed=4.0)
            proxy = await cacher(lab, origin)
            for identity in ("wmp9", "wmp7"):
                await to_the_end(await login(lab, proxy, title, identity=identity))
            expect_hr(await turned_away(lab, proxy, title), mmsp.E_ACCESSDENIED)
            expect_hr(await turned_away(lab, proxy, title, ("viewer", "wrong")), mmsp.E_ACCESSDENIED)
            expect(await entry(proxy, title) is None, "what is behind a password has an entry")
            expect(len(origin.played(VOD)) == 2, f"two who may are {len(origin.played(VOD))} sessions")
            await whole(player(lab, proxy, origin.points["vod/open.asf"]))
            await complete(proxy, "vod/open.asf")

        scenario(challenged, name=f"what_is_behind_{scheme}_is_not_stored")


_challenged_from_the_start()


@scenario
async def credentials_in_openfile_fill_nothing_that_is_not_open(lab):
    origin, title = await shelf(lab, Title(VOD, film(), auth="basic", speed=FAST))
    proxy = await cacher(lab, origin)
    await to_the_end(await login(lab, proxy, title, preemptive=True))
    expect(await entry(proxy, title) is None, "an entry was filled with a viewer's credentials")
    expect_hr(await turned_away(lab, proxy, title), mmsp.E_ACCESSDENIED)
    for session in origin.sessions:
        token = origin.messages("Connect", session.number)[0]["subscriber_name"]["token"]
        opened = origin.messages("OpenFile", session.number)
        if opened and opened[0]["fields"]["token_data"]:
            expect(token == lab.clients[0].token, "a session of the proxy's own carried credentials")


def _begins_to_challenge():
    for scheme in ("basic", "ntlm"):
        async def begins(lab, scheme=scheme):
            origin, title = await shelf(lab, Title(VOD, film(), speed=FAST))
            proxy = await cacher(lab, origin, cache={"revalidate": "1500ms"})
            await filled(lab, proxy, origin, title)
            title.auth = scheme
            await asyncio.sleep(1.8)  # it grows old: what is tested
            expect_hr(await turned_away(lab, proxy, title), mmsp.E_ACCESSDENIED)
            expect_hr(await turned_away(lab, proxy, title, ("viewer", "wrong")), mmsp.E_ACCESSDENIED)
            found = await entry(proxy, title)
            expect(found is None or found["state"] == "guarded", f"its state is {found and found['state']}")
            media = origin.media(VOD)
            await to_the_end(await login(lab, proxy, title))
            expect(origin.media(VOD) - media == title.bytes, "who may see it was served from the entry")
            expect_hr(await turned_away(lab, proxy, title), mmsp.E_ACCESSDENIED)
            title.auth = ""
            await asyncio.sleep(1.8)  # until it is asked for again
            await whole(player(lab, proxy, title))

        scenario(begins, name=f"an_entry_whose_origin_begins_to_ask_by_{scheme}_is_kept_from_everyone")

        async def authenticated(lab, scheme=scheme):
            origin, title = await shelf(lab, Title(VOD, film(), speed=FAST))
            proxy = await cacher(lab, origin, cache={"revalidate": "1500ms", "authenticated": True})
            await filled(lab, proxy, origin, title)
            title.auth = scheme
            await asyncio.sleep(1.8)  # it grows old: what is tested
            expect_hr(await turned_away(lab, proxy, title), mmsp.E_ACCESSDENIED)
            media, opens = origin.media(VOD), origin.opens(VOD)
            for number, identity in enumerate(("wmp9", "wmp7"), 1):
                await to_the_end(await login(lab, proxy, title, identity=identity))
                expect(origin.opens(VOD) == opens + number, "the origin was not asked whether this one may")
            expect(origin.media(VOD) == media, "the entry was not used")
            # The strict origin's NTLM knows passwords alone.
            strangers = (None, ("viewer", "wrong"), ("nobody", "secret" if scheme == "basic" else "wrong"))
            for user in strangers:
                expect_hr(await turned_away(lab, proxy, title, user), mmsp.E_ACCESSDENIED)
            watching = await login(lab, proxy, title)
            await origin.kill()
            for user in (None, LOGIN):
                await turned_away(lab, proxy, title, user)
            judge_payloads(title, watching.current)

        scenario(authenticated, name=f"an_entry_behind_{scheme}_is_served_to_whom_the_origin_lets_in")


_begins_to_challenge()


# -- plays of a part --


def _parts():
    last = len(film().packets) - 1
    plays = {"one_stream": ({2: 0}, {}), "key_frames_alone": ({1: 1, 2: 0}, {}), "a_stride": (None, {"rate": 5.0}),
             "a_stride_back": (None, {"rate": -5.0, "location": last})}
    for what, (levels, how) in plays.items():
        async def part(lab, levels=levels, how=how):
            # receive_rate leaves no room for a fill of everything: each play has a session of its own.
            origin, title = await shelf(lab, Title(VOD, film(seconds=8.0)), version="4.1.0.3930", speed=2.0)
            proxy = await cacher(lab, origin, origin={"receive_rate": "100kbps"}, cache={"fast_start": "off"})
            viewer = player(lab, proxy, title)
            await viewer.begin()
            if levels:
                await viewer.select(levels)
            await viewer.start(**how)
            await viewer.packets(5)
            await viewer.end()
            judge_payloads(title, viewer.current)
            await viewer.close()
            await proxy.stop()
            await origin.wait_all_ended()
            proxy = await cacher(lab, origin, directory=proxy.cache_directory)
            await whole(player(lab, proxy, title))
            found = await complete(proxy, title)
            expect(found["packets_present"] == len(title.file.packets), f"it has {found}")
            await exported(lab, proxy, origin, title)
            await lab.settle()

        scenario(part, name=f"a_play_of_{what}_leaves_no_wrong_packet")


_parts()


@scenario
async def a_stride_is_made_here_both_ways_even_where_the_origin_cannot(lab):
    origin, title = await shelf(lab, Title(VOD, film(seconds=10.0), attributes=mmsp.CANSEEK, speed=FAST))
    proxy = await cacher(lab, origin)
    await filled(lab, proxy, origin, title)
    sessions = len(origin.sessions)
    keys = {payload.object_number for packet in title.file.parsed for payload in packet.payloads if payload.key}
    for rate, place in ((5.0, 0.0), (-5.0, 9.5), (2.0, 0.0)):
        viewer = player(lab, proxy, title)
        await viewer.begin()
        await viewer.start(position=place, rate=rate)
        await viewer.end()
        numbers = viewer.current.locations
        expect(numbers == sorted(set(numbers), reverse=rate < 0), f"at {rate} the LocationIds are {numbers}")
        shown = [p for _, data in viewer.current.packets for p in parse_packet(data).payloads]
        expect(all(p.key and p.stream == 1 for p in shown), f"at {rate} something else than key frames came")
        came = {p.object_number for p in shown}
        # Some may be passed over: whoever searches needs five pictures a second and no more.
        expect(came <= keys and len(came) >= 0.7 * len(keys), f"at {rate} {len(came)} of {len(keys)} came")
        judge_payloads(title, viewer.current)
        took = waited(viewer.current, -1)
        expect_soon(took < 10.0 / abs(rate) + 2.5, f"at {rate} it took {took:.1f} s")
        await viewer.close()
    expect(len(origin.sessions) == sessions and not origin.messages("StartStriding"), "the origin was asked")
    await lab.settle()


def _selections():
    for text, levels in (("audio_alone", {2: 0}), ("video_alone", {1: 0}), ("key_frames_alone", {1: 1}),
                         ("audio_and_key_frames", {1: 1, 2: 0})):
        async def selection(lab, levels=levels):
            origin, title = await shelf(lab, Title(VOD, film(), speed=FAST))
            proxy = await cacher(lab, origin)
            await filled(lab, proxy, origin, title)
            since = await requests(proxy)
            for identity in ("wmp9", "vlc"):
                viewer = player(lab, proxy, title, identity)
                await viewer.begin()
                await viewer.select(levels)
                await viewer.start(position=2.0)
                expect(await viewer.end() == 0, "the end is an error")
                expect(viewer.current.packets, "no packet came")
            expect((await since())["hit"] == 2 and len(origin.played(VOD)) == 1, "they were no hits")
            await lab.settle()

        scenario(selection, name=f"out_of_an_entry_comes_{text}")


_selections()


@scenario
async def streams_switch_within_an_entry_at_key_frames(lab):
    origin, title = await shelf(lab, Title(VOD, film(9, seconds=12.0, rates=(100_000, 150_000, 200_000)), speed=FAST))
    proxy = await cacher(lab, origin)
    await filled(lab, proxy, origin, title)
    viewer = player(lab, proxy, title)
    await viewer.begin()
    await viewer.select({1: 0, 4: 0})
    await viewer.start()
    await viewer.packets(40)
    for source, target in ((1, 3), (3, 2)):
        await viewer.select(entries=[(source, target, 0)])
        await viewer.packets(len(viewer.current.packets) + 60)
    expect(await viewer.end() == 0, "the end is an error")
    await lab.settle()  # the player itself judges each payload, and that the new one begins at a key frame


# -- how fast it begins --


def _fast_start():
    for rule, at_once, later in (("preroll", 2000, 5000), ("off", 0, 3500), ("4s", 4000, 7000)):
        async def fast(lab, rule=rule, at_once=at_once, later=later):
            origin, title = await shelf(lab, Title(VOD, film(3, seconds=10.0, preroll_ms=2000), speed=FAST))
            proxy = await cacher(lab, origin, cache={"fast_start": rule})
            await filled(lab, proxy, origin, title)
            for where in ({}, {"position": 2.0}):
                viewer = player(lab, proxy, title)
                await viewer.begin()
                await viewer.start(**where)
                await viewer.end()
                play, base = viewer.current, title.file.send_time(viewer.current.locations[0])
                for index, number in enumerate(play.locations):
                    sent, took = title.file.send_time(number) - base, play.times[index] - play.asked_at
                    if sent < at_once:
                        expect_soon(waited(play, index) < 0.7, f"{rule}: what is sent at {sent} ms came after {took:.1f} s")
                    if sent >= later:  # a writer gathers about a second
                        expect(took > (sent - at_once) / 1000 - 1.5, f"what is sent at {sent} ms came after {took:.1f} s")
            await lab.settle()

        scenario(fast, name=f"fast_start_{rule}_out_of_an_entry")


_fast_start()


@scenario
async def accel_fields_are_obeyed_by_an_entry(lab):
    origin, title = await shelf(lab, Title(VOD, film(3, seconds=10.0), speed=FAST))
    proxy = await cacher(lab, origin, server_version="9.1.1.3841")
    await filled(lab, proxy, origin, title)
    viewer = player(lab, proxy, title)
    await viewer.begin()
    await viewer.start(accel=(3_500_000, 6_000, 3_500_000))
    await viewer.end()
    fast = [index for index, number in enumerate(viewer.current.locations) if title.file.send_time(number) < 5500]
    took = waited(viewer.current, fast[-1])
    expect_soon(took < 2.5, f"5.5 s at 3.5 Mbit/s took {took:.1f} s")
    await lab.settle()


@scenario
async def seeks_in_an_entry_lead_where_they_should(lab):
    origin, title = await shelf(lab, Title(VOD, film(3, seconds=12.0), speed=FAST))
    proxy = await cacher(lab, origin)
    await filled(lab, proxy, origin, title)
    header, last = title.file.header, len(title.file.packets) - 1
    for identity in ("wmp9", "wmp7", "libmms"):
        viewer = await began(player(lab, proxy, title, identity), 3)
        for seconds in (0.4, 3.0, 5.9, 11.9):
            numbers, took = await seeks(viewer, position=seconds)
            if viewer.who.seeks_by_stop:
                expect(abs(numbers[0] - title.file.packet_at(seconds)) <= 1,
                       f"{seconds} s began at packet {numbers[0]}, not {title.file.packet_at(seconds)}")
            expect_soon(took < 2.0, f"it took {took:.1f} s")
        for number in (1, 77, last):
            for place in ({"location": number}, {"offset": header.size + number * header.packet_size}):
                numbers, took = await seeks(viewer, 1, **place)
                near = title.numbers[number : number + 40]
                expect(not numbers or numbers[0] in near, f"{place} began at packet {numbers[0]}, not {number}")
    await lab.settle()


@scenario
async def a_stop_time_ends_a_play_out_of_an_entry(lab):
    origin, title = await shelf(lab, Title(VOD, film(3, seconds=12.0), speed=FAST))
    proxy = await cacher(lab, origin)
    await filled(lab, proxy, origin, title)
    viewer = player(lab, proxy, title)
    await viewer.begin()
    await viewer.start(position=2.0, until=4000)
    expect(await viewer.end() == 0, "the end is an error")
    last = title.file.send_time(viewer.current.locations[-1])
    expect(2000 < last < 5000 + title.file.header.preroll_ms, f"the last packet's send time is {last} ms")
    await lab.settle()


@scenario
async def reports_of_viewers_of_an_entry_trouble_no_origin(lab):
    origin, title = await shelf(lab, Title(VOD, film(), speed=FAST), file_id=0x00030005)
    proxy = await cacher(lab, origin)
    await filled(lab, proxy, origin, title)
    heard = len(origin.messages("Logging"))
    viewer = await began(player(lab, proxy, title), 5)
    await viewer.stop()
    await viewer.close()
    await lab.settle()
    expect(len(origin.messages("Logging")) == heard and heard <= 1, f"the origin heard {len(origin.messages('Logging'))} reports")
