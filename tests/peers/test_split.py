"""One session at the origin for each broadcast: who shares it, how it names itself, when it ends, and what is never shared."""

from __future__ import annotations

import asyncio
import re
import time

import mmsp
from broadcast import Encoder, Station
from judge import Judge, disagreements
from lab import (FREE, MICROSOFT, expect, expect_hr, expect_none, expect_soon, judged, more, refusal, scenario, still_playing,
                 together, watch, without_gaps)
from still import STILL, passed
from strict_client import GUID


def one_session(origin, name="live"):
    """The origin saw one session of this broadcast, and gave it media once; returns it."""
    opened = origin.opened(name)
    expect(len(opened) == 1, f"{name} was opened by {len(opened)} sessions")
    started = origin.messages("StartPlaying", opened[0].number)
    expect(len(started) == 1, f"{name} was started {len(started)} times")
    return opened[0]


def expect_none_differ(viewers):
    found = disagreements([viewer.current for viewer in viewers])
    expect(not found, f"viewers got different payloads: {found[:5]}")


@scenario
async def fifty_viewers_are_one_session_at_the_origin(lab):
    origin, station = await lab.station()
    proxy = await lab.splitter(origin)
    viewers = [lab.viewer(proxy, station, (MICROSOFT + FREE)[n % 11]) for n in range(50)]
    await together(watch(viewer, 30) for viewer in viewers)
    one_session(origin)
    judged(viewers, station.file)
    expect_none_differ(viewers)
    without_gaps(viewers)
    still_playing(viewers)
    await proxy.metric_is(50, "mmsproxy_viewers", content="broadcast")
    await proxy.metric_is(1, "mmsproxy_broadcasts")
    await lab.settle()
    one_session(origin)
    await proxy.metric_is(0, "mmsproxy_broadcasts")


@scenario
async def packets_whose_padding_the_origin_keeps_are_split_too(lab):
    for full in (False, True):
        encoder = Encoder(full=full)
        origin, station = await lab.station(encoder, strip=False)
        proxy = await lab.splitter(origin)
        viewers = [lab.viewer(proxy, station, identity) for identity in ("wmp9", "wms4", "vlc")]
        await together(watch(viewer, 25) for viewer in viewers)
        expect_none_differ(viewers)
        without_gaps(viewers)
        one_session(origin)
    await lab.settle()


@scenario
async def the_shared_session_is_the_proxys_own(lab):
    origin, station = await lab.station()
    proxy = await lab.splitter(origin, name="alpha")
    first = lab.viewer(proxy, station, "wmp7")
    await first.connect(via="other/1.0")
    await first.open()
    await first.read_header()
    await first.select({3: 0})
    await first.start()
    await first.packets(5)
    session = one_session(origin)
    said = origin.messages("Connect", session.number)[0]["subscriber_name"]
    found = re.fullmatch(r"NSPlayer/9\.0\.0\.2980; \{([0-9A-Fa-f-]{36})\}", said["token"])
    expect(found, f"the client-token is {said['token']!r}")
    expect(found[1].lower() != GUID, "the GUID is the viewer's")
    where = f"127.0.0.1:{origin.port}"
    expect(said["host_param"] == where and said["host_string"] == where, f"it names the hosts {said}, not {where}")
    expect(re.fullmatch(r"mmsproxy/[0-9A-Za-z.+-]+-alpha", said["via"] or ""), f"VIA is {said['via']!r}")
    switches = origin.messages("StreamSwitch", session.number)
    expect(len(switches) == 1, f"{len(switches)} StreamSwitch at the origin")
    entries = sorted(map(tuple, switches[0]["fields"]["entries"]))
    expect(entries == [(0xFFFF, 1, 0), (0xFFFF, 2, 0), (0xFFFF, 3, 0)], f"the origin was asked for {entries}")
    await lab.settle()


@scenario
async def an_identity_of_ones_own_can_be_set(lab):
    origin, station = await lab.station()
    proxy = await lab.splitter(origin, origin={"identity": "NSPlayer/8.0.0.4477"})
    await watch(lab.viewer(proxy, station))
    said = origin.messages("Connect", one_session(origin).number)[0]["subscriber_name"]
    expect(said["token"].startswith("NSPlayer/8.0.0.4477; {"), f"the client-token is {said['token']!r}")
    await lab.settle()


@scenario
async def names_of_one_broadcast_are_one(lab):
    origin, station = await lab.station()
    for name in ("other", "live?sid=7"):
        origin.points[name] = Station(name, Encoder(2))
    proxy = await lab.splitter(origin)
    urls = ("mms://media.example/live", "mms://other.example:1755/live", "mmst://media.example/live",
            "mms://10.1.2.3/live", "mms://media.example/live?WMCache=0", "mms://media.example/live?WMBitrate=100000",
            "mms://media.example/live?WMContentBitrate=5&WMReconnect=3&WMThinning=0", "mms://media.example//live")
    viewers = [lab.client(proxy, url, ("wmp9", "wmp7", "vlc", "wmp6")[n % 4], source=None) for n, url in enumerate(urls)]
    for viewer in viewers:
        viewer.judge_by(station.file.looped)
        await watch(viewer, 2)
    one_session(origin)
    for name in ("other", "live?sid=7"):
        client = lab.viewer(proxy, origin.points[name], name=name)
        await watch(client, 2)
        one_session(origin, name)
    with_both = lab.viewer(proxy, origin.points["live?sid=7"], name="live?sid=7&WMCache=0")
    await watch(with_both, 2)
    one_session(origin, "live?sid=7")
    one_session(origin)
    await proxy.metric_is(3, "mmsproxy_broadcasts")
    await lab.settle()


@scenario
async def viewers_at_the_same_instant_open_one(lab):
    names = [f"live{n}" for n in range(6)]
    origin = await lab.origin([Station(name, Encoder()) for name in names], think=0.05)
    proxy = await lab.splitter(origin)
    viewers = [lab.viewer(proxy, origin.points[name], identity, name=name) for name in names for identity in ("wmp9", "vlc")]
    await together(viewer.connect() for viewer in viewers)
    await together(viewer.open() for viewer in viewers)

    async def rest(viewer):
        await viewer.read_header()
        await viewer.start()
        await viewer.packets(3)

    await together(rest(viewer) for viewer in viewers)
    for name in names:
        one_session(origin, name)
    await lab.settle()


@scenario
async def viewers_that_only_describe_leave_nothing_behind(lab):
    origin, _ = await lab.station()
    proxy = await lab.splitter(origin, split={"linger": "5s"})
    for identity in ("wmp9", "vlc", "xine", "wms4", "libmms"):
        viewer = lab.viewer(proxy, identity=identity)
        await viewer.begin()
        if identity == "libmms":
            viewer.hang_up()
            viewer.closed = True
        else:
            await viewer.close()
    opened = origin.opened("live")
    expect(len(opened) == 1, f"it was opened by {len(opened)} sessions")
    await origin.wait_all_ended(timeout=30)
    number = opened[0].number
    expect(len(origin.messages("CloseFile", number)) == 1, "the origin got no CloseFile")
    started, stopped = len(origin.messages("StartPlaying", number)), len(origin.messages("StopPlaying", number))
    expect(started == stopped, f"the origin got {started} StartPlaying and {stopped} StopPlaying")
    for gauge in ("mmsproxy_broadcasts", "mmsproxy_origin_sessions", "mmsproxy_viewers", "mmsproxy_connections"):
        await proxy.metric_is(0, gauge)
    await proxy.metric_is(0, "mmsproxy_held_bytes", holder="history")
    await lab.settle()


@scenario
async def a_broadcast_lingers_after_its_last_viewer(lab):
    origin, station = await lab.station()
    proxy = await lab.splitter(origin, split={"linger": "6s"})
    first = await watch(lab.viewer(proxy, station), 5)
    await first.close()
    await asyncio.sleep(1.0)  # less than it lingers
    second = await watch(lab.viewer(proxy, station, "vlc"), 25)
    session = one_session(origin)
    expect(not session.ended, "the session ended while somebody watches")
    await asyncio.sleep(6.5)  # the first one's linger is over
    await more([second], 5)
    one_session(origin)
    still_playing([second])
    left = time.monotonic()
    await second.close()
    await origin.wait_all_ended(timeout=30)
    lingered = time.monotonic() - left
    expect(lingered >= 5.3, f"it lingered for {lingered:.1f} s, not 6")
    expect_soon(passed(left) <= 9, f"it lingered for {lingered:.1f} s, not 6")
    expect(len(origin.messages("StopPlaying")) == len(origin.messages("CloseFile")) == 1, "it was not stopped and closed")
    await watch(lab.viewer(proxy, station), 5)
    expect(len(origin.opened("live")) == 2, "a viewer after the end opened nothing")
    await lab.settle()


@scenario
async def joins_and_leaves_without_a_pause_keep_one_session_at_a_time(lab):
    origin, station = await lab.station()
    proxy = await lab.splitter(origin, split={"linger": "100ms"})
    ends = time.monotonic() + 4

    async def come_and_go(number):
        while time.monotonic() < ends:
            viewer = lab.viewer(proxy, station, ("wmp9", "vlc", "ffmpeg")[number])
            await watch(viewer, 2)
            await viewer.close()
            await asyncio.sleep(0.03 * (number + 2))  # around the linger

    await together(come_and_go(number) for number in range(3))
    # The old session's farewell may overlap with the next one's beginning, not more.
    expect(origin.at_once("live") <= 2, f"{origin.at_once('live')} sessions at once")
    await lab.settle()
    await proxy.metric_is(0, "mmsproxy_broadcasts")


@scenario
async def the_end_of_a_broadcast_ends_it_for_all_and_it_can_begin_again(lab):
    origin, station = await lab.station()
    proxy = await lab.splitter(origin)
    viewers = await lab.watching(proxy, 8, ("wmp9", "vlc", "ffmpeg", "wmp7"), 5)
    station.finish()
    for number, hr in enumerate(await together(viewer.end(timeout=30) for viewer in viewers)):
        expect(hr == 0, f"viewer {number} was told 0x{hr:X}")
    judged(viewers, station.file)
    expect(len({viewer.current.locations[-1] for viewer in viewers}) == 1, "not all ended at the same packet")
    station.go_on()
    for viewer in viewers[:4]:
        await viewer.start()
        await viewer.packets(5)
    judged(viewers[:4], station.file)
    expect(origin.at_once("live") == 1, f"{origin.at_once('live')} sessions at once")
    await lab.settle()


def _not_split():
    for what in ("broadcast_of_a_route_that_says_so", "file"):
        async def alone(lab, what=what):
            origin, station = await lab.station()
            origin.points["vod/clip.asf"] = next(p for p in lab.points() if p.name == "vod/clip.asf")
            proxy = await lab.proxy([{"origin": f"mms://127.0.0.1:{origin.port}", "split": what == "file"}])
            name = "vod/clip.asf" if what == "file" else "live"
            viewers = [lab.viewer(proxy, identity=identity, name=name) for identity in ("wmp7", "wmp9", "wmp10")]
            for viewer in viewers:
                viewer.judge_by(lab.options.files["clip"].looped if what == "file" else station.file.looped)
                await watch(viewer, 3)
            started = [e["session"] for e in origin.messages("StartPlaying")]
            expect(len(set(started)) == 3, f"three viewers are {len(set(started))} sessions")
            tokens = {e["subscriber_name"]["token"] for n in started for e in origin.messages("Connect", n)}
            expect(tokens == {viewer.token for viewer in viewers}, f"at the origin they are {tokens}")
            await proxy.metric_is(0, "mmsproxy_broadcasts")
            await lab.settle()

        scenario(alone, name=f"a_{what}_is_not_split")


_not_split()


def _challenged():
    for scheme in ("basic", "ntlm"):
        async def challenged(lab, scheme=scheme):
            origin, station = await lab.station(auth=scheme)
            proxy = await lab.splitter(origin, limits={"login": "20s"})
            viewers = [lab.viewer(proxy, station, identity, timeout=15.0) for identity in ("wmp7", "wmp9", "wmp10")]
            for viewer in viewers:
                await viewer.connect()
                await viewer.open(login=("viewer", "secret"))
                await viewer.read_header()
                await viewer.start()
                await viewer.packets(3)
            tokens = {s.number: origin.messages("Connect", s.number)[0]["subscriber_name"]["token"] for s in origin.sessions}
            started = [tokens[e["session"]] for e in origin.messages("StartPlaying")]
            expect(sorted(started) == sorted(v.token for v in viewers), f"the sessions that play are {started}")
            shared = [s.number for s in origin.opened("live") if GUID not in tokens[s.number]]
            expect(len(shared) <= 1, f"{len(shared)} shared sessions were tried, though the first was challenged")
            asked = [e["session"] for e in origin.messages("OpenFile")]
            expect(len(asked) <= 4, f"three viewers are {len(asked)} OpenFile")
            expect(not any(e["fields"]["token_data"] for n in shared for e in origin.messages("OpenFile", n)),
                   "a shared session carried credentials")
            nobody = lab.viewer(proxy)
            await nobody.connect()
            expect_hr(await refusal(nobody.open()), mmsp.E_ACCESSDENIED)
            nobody.hang_up()
            nobody.closed = True
            await lab.settle()

        scenario(challenged, name=f"a_broadcast_behind_{scheme}_is_a_session_for_each_viewer")


_challenged()


@scenario
async def credentials_for_what_is_known_to_need_none_share_the_session(lab):
    origin, station = await lab.station()
    proxy = await lab.splitter(origin)
    first = lab.viewer(proxy, station, "wmp7")
    await watch(first, 3)
    second = lab.viewer(proxy, station, "wmp9")
    await second.connect()
    await second.open(login=("viewer", "secret"), preemptive=True)
    await second.read_header()
    await second.start()
    await second.packets(3)
    session = one_session(origin)
    expect(not origin.messages("OpenFile", session.number)[0]["fields"]["token_data"], "credentials reached the origin")
    await lab.settle()


def _logs():
    for forward in (False, True):
        async def logs(lab, forward=forward):
            origin, station = await lab.station(file_id=0x00030005)
            proxy = await lab.splitter(origin, split={"forward_logs": forward})
            stays = await watch(lab.viewer(proxy, station, "vlc"), 2)
            for identity in ("wmp9", "wmp7", "wmp10"):
                viewer = await watch(lab.viewer(proxy, station, identity), 3)
                await viewer.stop()
                await viewer.close()
            if forward:
                await origin.wait_message("Logging", 3)
            await more([stays], 5)
            heard = len(origin.messages("Logging"))
            expect(heard == (3 if forward else 0), f"the origin heard {heard} reports of three viewers")
            one_session(origin)
            await lab.settle()
            # Our own report, which 3.1.4.5 wants behind StopPlaying: the strict origin holds us to that.
            expect(len(origin.messages("Logging")) == heard + 1, f"{len(origin.messages('Logging'))} reports in the end")

        scenario(logs, name=f"reports_of_viewers_{'go' if forward else 'do_not_go'}_to_the_origin")


_logs()


@scenario(limit=60.0, alone=True)
async def a_hundred_broadcasts_stay_within_the_memory(lab):
    names = [f"live{n}" for n in range(100)]
    stations = [Station(name, Encoder(packet_size=6000, full=True, step_ms=100, key_every=10), reach=1.0) for name in names]
    origin = await lab.origin(stations, think=0.0, ping=0.0)
    limit = 16 << 20
    proxy = await lab.splitter(origin, limits={"memory": "16MiB"})
    viewers = [lab.viewer(proxy, name=name, timeout=20.0) for name in names]
    await together(watch(viewer) for viewer in viewers)
    await proxy.metric_is(100, "mmsproxy_broadcasts")
    most, ends = 0, STILL.clock() + 7
    while STILL.clock() < ends:  # 6 MB/s come in: what is held is what is tested
        held = await proxy.metric("mmsproxy_held_bytes", holder="history")
        most = max(most, held)
        expect(held <= limit, f"histories hold {held / (1 << 20):.1f} MiB, the limit is 16")
        await asyncio.sleep(0.1)
    lab.figure(f"{most / (1 << 20):.1f} MiB held at most, of 16; {proxy.memory() >> 20} MiB resident")
    expect(most > 4 << 20, f"histories hold {most:.0f} bytes at most: there is no history")
    expect(proxy.memory() < 6 * limit, f"{proxy.memory() >> 20} MiB are resident")
    still_playing(viewers)
    numbers = [viewer.current.locations for viewer in viewers]
    gaps = sum(after != before + 1 for play in numbers for before, after in zip(play, play[1:]))
    expect_soon(not gaps, f"{gaps} gaps")  # whom the memory has no room for must not be late
    for name in names:
        one_session(origin, name)
    plays = [viewer.current for viewer in viewers]
    await lab.settle()
    # Seconds of work in which the origin could say nothing, so it comes last.
    for play, station in zip(plays, stations):
        expect_none(Judge(play, station.file).faults, f"of {station.name} arrived")
        expect(len(play.packets) > 40, f"{station.name} came to {len(play.packets)} packets")
