"""How a viewer comes into a broadcast that is on the air, and what it may choose there without the origin noticing."""

from __future__ import annotations

import asyncio
import time

from broadcast import AUDIO, LOW, VIDEO, Encoder, trace
from cachelab import waited
from judge import Judge
from lab import (PAST, expect, expect_none, expect_soon, judged, more, scenario, still_playing, together, watch, without_gaps)
from still import passed
from strict_client import parse_packet
from test_split import one_session

LONG = dict(key_every=40, preroll_ms=2000, step_ms=50)  # a key frame each 2 s


async def join(viewer, stays, origin, levels=None, packets=10):
    """From Connect to the first packets; how many ms of content the first one lay behind the newest that the proxy had by
    then: at least, by what who `stays` had already, and at most, by what had left the origin."""
    await viewer.begin()
    if levels:
        await viewer.select(levels)
    had = stays.current.locations[-1]
    await viewer.start()
    await viewer.packets(1)
    sent = origin.played("live")[0].numbers[-1]
    await viewer.packets(packets)
    return [(newest - viewer.current.locations[0]) * LONG["step_ms"] for newest in (had, sent)]


def begins_well(viewer, station, streams):
    """A key frame of each video, audio at once, nothing missing from there on."""
    judge, = judged([viewer], station.file)
    for stream in streams:
        begun = judge.first(stream)
        expect(begun, f"stream {stream} never began")
        index, location, payload = begun
        expect(payload.offset == 0, f"stream {stream} begins inside an object")
        expect(payload.key or stream == AUDIO, f"stream {stream} begins without a key frame")
        expect(index == 0 or stream != AUDIO, f"audio begins with packet {index}")
    without_gaps([viewer])
    return judge


def _bursts():
    cases = {  # fast_start: ms behind the air at least and at most, in whole groups of pictures
        "preroll": (2000, 4000), "off": (0, 2000), "5s": (5000, 7000)}
    for fast_start, (least, most) in cases.items():
        async def burst(lab, fast_start=fast_start, least=least, most=most):
            origin, station = await lab.station(Encoder(PAST, **LONG, first_location=500), on_air={"reach": 12.0})
            proxy = await lab.splitter(origin, split={"fast_start": fast_start})
            stays = await watch(lab.viewer(proxy, station), 20)
            seen = []
            for number, identity in enumerate(("wmp9", "vlc", "ffmpeg", "wmp7", "libmms", "wmp10")):
                viewer = lab.viewer(proxy, station, identity)
                await asyncio.sleep(0.37)  # another place in the group of pictures each time
                seen.append(await join(viewer, stays, origin, {VIDEO: 0, AUDIO: 0}))
                began = viewer.current.times[0]
                index = max(0, least // station.file.step_ms - 10)
                await viewer.packets(index + 50)  # more than a group of pictures: without history it waits for the next
                took = passed(began, viewer.current.times[index])
                expect_soon(took < 1.0, f"viewer {number} got {index} packets of history in {took:.2f} s, not at once")
                begins_well(viewer, station, (VIDEO, AUDIO))
            lab.figure(f"began {seen} ms behind the air")
            expect_none([f"{behind} ms" for behind in seen if behind[1] < least - 300 or behind[0] > most + 300],
                        f"not within {least} to {most} ms behind the air")
            without_gaps([stays])
            one_session(origin)
            await lab.settle()

        scenario(burst, name=f"a_join_with_fast_start_{fast_start}_begins_where_it_should")


_bursts()


@scenario
async def both_videos_begin_at_key_frames_of_their_own(lab):
    origin, station = await lab.station(Encoder(PAST, **LONG), on_air={"reach": 8.0})
    proxy = await lab.splitter(origin)
    stays = await watch(lab.viewer(proxy, station), 20)
    for number in range(5):
        await asyncio.sleep(0.41)  # another place in the group of pictures each time
        viewer = lab.viewer(proxy, station, ("wmp9", "vlc")[number % 2])
        least, most = await join(viewer, stays, origin, packets=90)
        expect(most >= 1700 and least <= 6300, f"it began {least} to {most} ms behind the air")
        begins_well(viewer, station, (VIDEO, LOW, AUDIO))
    await lab.settle()


@scenario
async def a_joiner_without_a_key_frame_in_history_waits_for_one(lab):
    encoder = Encoder(PAST, key_every=200, step_ms=50, videos=1)
    origin, station = await lab.station(encoder, on_air={"age": 200 * 0.05 * 6 - 6.0, "anywhere": True})  # the next key in 6 s
    proxy = await lab.splitter(origin)
    viewers = [lab.viewer(proxy, identity=identity) for identity in ("wmp9", "vlc")]
    await together(watch(viewer) for viewer in viewers)
    for viewer in viewers:
        audio = waited(viewer.current)
        expect_soon(audio < 2.0, f"audio came after {audio:.1f} s")
        await viewer.packets(150, timeout=30)
        begins_well(viewer, station, (VIDEO, AUDIO))
    await lab.settle()


@scenario
async def a_joiner_starts_anyway_when_no_key_frame_comes(lab):
    encoder = Encoder(PAST, key_every=100_000, step_ms=50, videos=1)
    origin, station = await lab.station(encoder, on_air={"anywhere": True})
    proxy = await lab.splitter(origin, split={"key_wait": "4s"})
    for identity in ("wmp9", "vlc"):
        viewer = await watch(lab.viewer(proxy, identity=identity))
        audio = waited(viewer.current)
        expect_soon(audio < 2.0, f"audio came after {audio:.1f} s")
        await viewer.until(lambda: Judge(viewer.current, encoder).first(VIDEO), "video", timeout=20)
        index, _, payload = Judge(viewer.current, encoder).first(VIDEO)
        expect(viewer.current.times[index] - viewer.current.asked_at >= 3.5, "video came sooner than split.key_wait")
        video = waited(viewer.current, index)
        expect_soon(video <= 7.0, f"video came after {video:.1f} s, not 4")
        expect(payload.offset == 0, "video begins inside a frame")
    await lab.settle()


@scenario(alone=True)
async def a_join_in_a_long_group_of_pictures_shows_a_picture_at_once(lab):
    encoder = Encoder(PAST, key_every=240, step_ms=50)  # a key frame each 12 s
    origin, station = await lab.station(encoder, on_air={"reach": 12.0, "age": 12.0 * 5 + 5.0})
    proxy = await lab.splitter(origin, split={"history": "1m"})
    await watch(lab.viewer(proxy, station), 20)
    for _ in range(3):  # somebody else may have had the machine once or twice
        waits, connects = [], []
        for number in range(40):
            viewer = lab.viewer(proxy, station, ("wmp9", "vlc", "ffmpeg")[number % 3])
            began = time.monotonic()
            await watch(viewer)
            waits.append(1000 * waited(viewer.current))
            connects.append(1000 * passed(began, viewer.current.times[0]))
            first = parse_packet(viewer.current.packets[0][1]).payloads
            expect(any(p.stream != AUDIO and p.key and p.offset == 0 for p in first), "the first packet does not begin a key frame")
            await viewer.close()
        waits.sort()
        connects.sort()
        lab.figure(f"StartPlaying to the first key frame {waits[20]:.1f} ms, p99 {waits[-1]:.1f} ms; "
                   f"Connect to it {connects[20]:.1f} ms, p99 {connects[-1]:.1f} ms")
        if waits[-1] < 250:
            break
    expect_soon(waits[-1] < 250, f"the slowest of 40 joins took {waits[-1]:.0f} ms (50 are the aim)")
    one_session(origin)
    await lab.settle()


@scenario
async def viewers_select_each_for_itself(lab):
    origin, station = await lab.station(on_air={"reach": 4.0})
    proxy = await lab.splitter(origin)
    chosen = [{AUDIO: 0}, {VIDEO: 0, AUDIO: 0}, {LOW: 0, AUDIO: 0}, {VIDEO: 1, AUDIO: 0}, {VIDEO: 1}, {VIDEO: 1, LOW: 1}, {LOW: 0},
              {VIDEO: 0, LOW: 1, AUDIO: 0}, None, {}]
    viewers = [lab.viewer(proxy, station, identity) for _ in chosen for identity in ("wmp9", "vlc")]

    async def choose(viewer, levels):
        await viewer.begin()
        if levels is not None:
            await viewer.select(levels)
        await viewer.start()

    await together(choose(viewer, chosen[n // 2]) for n, viewer in enumerate(viewers))
    for number, viewer in enumerate(viewers):
        levels = chosen[number // 2]
        if levels == {}:
            continue
        await viewer.packets(4 if levels and set(levels.values()) == {1} else 60, timeout=30)
        expect(not viewer.current.skips, f"viewer {number} lost packets: {viewer.current.skips}")
        got = {p.stream for _, data in viewer.current.packets for p in parse_packet(data).payloads}
        expect(got == set(levels or station.file.streams), f"viewer {number} selected {levels} and got the streams {got}")
    for viewer in viewers[-2:]:
        expect(not viewer.current.packets, f"{len(viewer.current.packets)} packets for who selected nothing")
    session = one_session(origin)
    expect(len(origin.messages("StreamSwitch", session.number)) == 1, "the origin saw a viewer's StreamSwitch")
    still_playing(viewers)
    await lab.settle()


@scenario
async def a_replaced_stream_goes_on_until_the_key_frame_of_the_other(lab):
    origin, station = await lab.station(Encoder(PAST, **LONG), on_air={"reach": 4.0})
    proxy = await lab.splitter(origin)
    viewers = [lab.viewer(proxy, station, identity) for identity in ("wmp9", "vlc", "wmp7")]

    async def switch(viewer, old, new):
        before = len(viewer.current.packets)
        await viewer.select(entries=[(old, new, 0)])

        def came():
            return any(p.stream == new for _, data in viewer.current.packets[before:] for p in parse_packet(data).payloads)

        await viewer.until(came, f"stream {new}")
        await viewer.packets(len(viewer.current.packets) + 10)
        late = [p.stream for _, data in viewer.current.packets[-8:] for p in parse_packet(data).payloads]
        expect(old not in late and new in late, f"after the switch from {old} to {new} came {set(late)}")

    async def go(viewer):
        await viewer.begin()
        await viewer.select({VIDEO: 0, AUDIO: 0})
        await viewer.start()
        await viewer.packets(60)
        await switch(viewer, VIDEO, LOW)
        await switch(viewer, LOW, VIDEO)
        judge, = judged([viewer], station.file)
        pictures = [0 for _, data in viewer.current.packets if {VIDEO, LOW} & {p.stream for p in parse_packet(data).payloads}]
        # Video 2 has a part in each packet as video 1 has, so no packet is without a picture.
        expect(len(pictures) == len(viewer.current.packets), "there were packets without a picture while streams changed")

    await together(go(viewer) for viewer in viewers)
    without_gaps(viewers)
    session = one_session(origin)
    expect(len(origin.messages("StreamSwitch", session.number)) == 1, "the origin saw a viewer's StreamSwitch")
    await lab.settle()


@scenario
async def a_stream_that_is_added_begins_at_its_key_frame(lab):
    origin, station = await lab.station(Encoder(PAST, **LONG), on_air={"reach": 4.0})
    proxy = await lab.splitter(origin)
    viewer = lab.viewer(proxy, station)
    await viewer.begin()
    await viewer.select({AUDIO: 0})
    await viewer.start()
    await viewer.packets(10)
    await viewer.select(entries=[(0xFFFF, VIDEO, 0)])
    await viewer.packets(len(viewer.current.packets) + 60)
    await viewer.select(entries=[(AUDIO, 0xFFFF, 0)])
    await viewer.packets(len(viewer.current.packets) + 20)
    await viewer.select(entries=[(0xFFFF, AUDIO, 0), (VIDEO, VIDEO, 1)])
    await viewer.packets(len(viewer.current.packets) + 60)
    streams = {p.stream for _, data in viewer.current.packets for p in parse_packet(data).payloads}
    expect(streams == {VIDEO, AUDIO}, f"it got {streams}")
    expect(not viewer.current.skips, f"packets were lost: {viewer.current.skips}")
    judged([viewer], station.file)
    expect(len(origin.messages("StreamSwitch", one_session(origin).number)) == 1, "the origin saw a viewer's StreamSwitch")
    await lab.settle()


@scenario
async def viewers_stop_and_start_and_the_origin_hears_nothing(lab):
    origin, station = await lab.station(on_air={"reach": 3.0})
    proxy = await lab.splitter(origin)
    stays = await watch(lab.viewer(proxy, station), 5)

    async def go(identity):
        viewer = await watch(lab.viewer(proxy, station, identity), 5)
        for pause in (0.0, 1.2, 0.1):
            await viewer.stop()
            stopped = len(viewer.plays[-1].packets)
            await asyncio.sleep(pause)  # a viewer that is paused
            expect(len(viewer.plays[-1].packets) == stopped, "media came while it was stopped")
            expect(viewer.broken is None, f"the paused viewer's connection {viewer.broken}")
            await viewer.start()
            await viewer.packets(15)
            begins_well(viewer, station, (VIDEO, AUDIO))
        numbers = [play.incarnation for play in viewer.plays]
        expect(len(set(numbers)) == 4, f"the incarnations are {numbers}")

    await together(go(identity) for identity in ("wmp9", "wmp7", "vlc", "ffmpeg"))
    without_gaps([stays])
    session = one_session(origin)
    expect(not origin.messages("StopPlaying", session.number), "the origin saw a viewer's StopPlaying")
    await lab.settle()


@scenario
async def a_seek_to_another_incarnation_while_streaming_goes_on_live(lab):
    origin, station = await lab.station(on_air={"reach": 3.0})
    proxy = await lab.splitter(origin)
    viewer = await watch(lab.viewer(proxy, station, "libmms"), 10)
    await viewer.seek(position=1.0)  # libmms starts while it streams
    await viewer.packets(25)

    def behind():
        return (station.live() - station.file.number(viewer.current.locations[-1])) * station.file.step_ms

    # It came with a burst and comes at the pace of the air now, so whoever is behind stays it.
    await viewer.until(lambda: behind() < 2000, "a place less than 2 s behind the air")
    one_session(origin)
    await lab.settle()


@scenario
async def the_only_viewer_pauses_for_longer_than_a_broadcast_lingers(lab):
    origin, station = await lab.station()
    proxy = await lab.splitter(origin, split={"linger": "500ms"})
    viewer = await watch(lab.viewer(proxy, station), 5)
    await viewer.stop()
    await asyncio.sleep(2.5)  # the pause is what is tested
    expect(viewer.broken is None, f"its connection {viewer.broken}")
    await viewer.start()
    await viewer.packets(25)
    begins_well(viewer, station, (VIDEO, AUDIO))
    expect(origin.at_once("live") == 1, f"{origin.at_once('live')} sessions at once")
    await lab.settle()


@scenario
async def numbers_that_wrap_go_on(lab):
    # LocationId, send and presentation time pass 2^32 within the sixth second, object numbers long before.
    encoder = Encoder(PAST, first_location=(1 << 32) - 1310, first_send=(1 << 32) - 65_500, first_presentation=(1 << 32) - 66_000,
                      first_object=200)
    origin, station = await lab.station(encoder, on_air={"age": 60.0})
    proxy = await lab.splitter(origin)
    viewers = await lab.watching(proxy, 4, ("wmp9", "vlc"), 5)
    await together(viewer.packets(150) for viewer in viewers)
    late = lab.viewer(proxy, station)
    await watch(late, 20)
    for viewer in (*viewers, late):
        locations = viewer.current.locations
        expect(all(after == (before + 1) & 0xFFFFFFFF for before, after in zip(locations, locations[1:])), "LocationIds have gaps")
    expect(any(viewer.current.locations[0] > viewer.current.locations[-1] for viewer in viewers), "nothing wrapped")
    judged([*viewers, late], encoder)
    expect(not [v for v in viewers if trace(parse_packet(v.current.packets[-1][1]).payloads[-1].data) is None], "lost its place")
    await lab.settle()


@scenario
async def a_burst_does_not_hold_up_who_watches(lab):
    origin, station = await lab.station(Encoder(PAST, packet_size=4000, full=True, **LONG), on_air={"reach": 8.0})
    proxy = await lab.splitter(origin, split={"fast_start": "6s"})
    stays = await watch(lab.viewer(proxy), 20)
    joiners = [lab.viewer(proxy, identity=("wmp9", "vlc")[n % 2], timeout=20.0) for n in range(20)]
    await together(watch(viewer, 100) for viewer in joiners)
    await more([stays], 10)
    gaps = [passed(before, after) for before, after in zip(stays.current.times, stays.current.times[1:])]
    expect_soon(max(gaps) < 1.5, f"a viewer saw nothing for {max(gaps):.1f} s while others joined")
    without_gaps([stays, *joiners])
    judged([stays, *joiners], station.file)
    await lab.settle()
