"""The origin falters: what viewers notice of it, and what the origin sees of how many they are."""

from __future__ import annotations

import asyncio
import time

import mmsp
from broadcast import Encoder, Station
from judge import Judge, disagreements, steps
from lab import (PAST, expect, expect_hr, expect_none, expect_soon, judged, more, refusal, scenario, still_playing, together,
                 watch)
from still import passed
from strict_client import parse_packet
from test_split import one_session

KINDS = ("wmp9", "vlc", "ffmpeg", "wmp7", "libmms", "wms4")
BEFORE = dict(first_location=7000, first_send=90_000, first_presentation=90_000, first_object=77)
GONE = (mmsp.NS_E_CANNOTCONNECT, mmsp.NS_E_CONNECTION_FAILURE, mmsp.NS_E_TIMEOUT)


def goes_on(viewers, *encoders):
    """Nobody noticed more than a pause; the same constants for all; returns the judgement of the first viewer."""
    still_playing(viewers)
    judges = judged(viewers, *encoders)
    found = disagreements([viewer.current for viewer in viewers])
    expect(not found, f"viewers got different packets: {found[:5]}")
    runs = {}
    for number, judge in enumerate(judges):
        for run in judge.runs:
            other = runs.setdefault(run.tag, run)
            expect(run.agrees(other), f"viewer {number}: the numbers were moved by {run}, another's by {other}")
    return judges[0]


def lead(viewer, index):
    """How far a packet's first presentation time lies before its send time, in ms."""
    packet = parse_packet(viewer.current.packets[index][1])
    shown = int.from_bytes(packet.payloads[-1].replicated[4:8], "little")
    return steps(packet.send_time, shown)


AFTER = {
    "going_on": None,  # the same encoder: its process never ended, only the server's did
    "beginning_at_0": {},
    "of_another_file_id_and_date": dict(file_id=9, created=200, left_open=12_345_678),
    "beginning_at_0_but_times_going_on": dict(first_send=200_000, first_presentation=200_000),
    "beginning_at_0_but_locations_going_on": dict(first_location=20_000),
    "far_ahead": dict(first_location=1_000_000, first_send=9_000_000, first_presentation=9_000_000, first_object=200),
    "of_other_object_numbers": dict(first_location=20_000, first_send=200_000, first_presentation=200_000, first_object=3),
}


def _breaks():
    for what, after in AFTER.items():
        async def broken(lab, what=what, after=after):
            past = Encoder(PAST, **BEFORE)
            origin, station = await lab.station(past, on_air={"age": 12.0})
            proxy = await lab.splitter(origin)
            viewers = await lab.watching(proxy, 6, KINDS, 25)
            await origin.kill()
            await asyncio.sleep(2.0)  # the origin is away
            still_playing(viewers)
            if after is None:
                await station.moves_on()
                await origin.revive()
                encoders = (past,)
            else:
                encoders = (past, Encoder(PAST + 1, **after))
                await origin.revive(Station("live", encoders[1], age=3.0))
            await more(viewers, 40, timeout=40)
            late = await watch(lab.viewer(proxy), 25)
            judge = goes_on([*viewers, late], *encoders)
            if after is not None:
                expect(len(judge.runs) == 2, f"the viewers' packets came from {len(judge.runs)} encoders")
                _constants(judge, viewers[0], encoders, after, *origin.opened("live"))
            expect(await proxy.metric("mmsproxy_split_reconnects_total", result="continued") == 1, "it was not counted as continued")
            for result in ("changed", "gave_up"):
                expect(not await proxy.metric("mmsproxy_split_reconnects_total", result=result), f"it was counted as {result}")
            expect(origin.at_once("live") == 1, f"{origin.at_once('live')} sessions at once")
            expect(len(origin.opened("live")) == 2, f"it was opened {len(origin.opened('live'))} times")
            await lab.settle()

        scenario(broken, name=f"a_broadcast_that_comes_back_with_numbers_{what}_goes_on")


_breaks()


def _constants(judge, viewer, encoders, after, old, new):
    """Numbers that went on are kept; those that stepped back go on, send time by the wall clock. `old` and `new` are the
    sessions at the origin."""
    run = judge.runs[1]
    if after.get("first_location", 0) > BEFORE["first_location"]:
        expect(run.location == 0, f"LocationIds went on and were moved by {run.location}")
    if after.get("first_send", 0) > BEFORE["first_send"]:
        expect(run.send == 0, f"send times went on and were moved by {run.send}")
        expect(run.presentation == 0, f"presentation times went on and were moved by {run.presentation}")
    else:
        times = [parse_packet(viewer.current.packets[index][1]).send_time for index in (run.first - 1, run.first)]
        went_on, came = steps(*times) / 1000, viewer.current.times[run.first - 1 : run.first + 1]
        # The proxy had the last packet of the one and the first of the other between their leaving and their coming.
        left = old.times[old.numbers.index(viewer.current.packets[run.first - 1][0])]
        least, most = new.times[0] - came[0], came[1] - left
        # The new session begins at a key frame some time back, a second and a half at most.
        expect(least - 2.0 <= went_on <= most + 2.0, f"send time went on by {went_on:.1f} s in {least:.1f} to {most:.1f} s")
        was, now = lead(viewer, run.first - 1), lead(viewer, run.first)
        expect(abs(was - now) <= 1500, f"content was shown {was} ms after it was sent, then {now} ms")
    expect(encoders[1].tag == run.tag, "the judge lost its place")


@scenario
async def a_second_break_goes_on_too(lab):
    encoders = [Encoder(tag, first_location=50 * tag) for tag in (1, 2, 3)]
    origin, _ = await lab.station(encoders[0])
    proxy = await lab.splitter(origin)
    viewers = await lab.watching(proxy, 4, KINDS, 25)
    for encoder in encoders[1:]:
        await origin.kill()
        await origin.revive(Station("live", encoder, age=2.0))
        await more(viewers, 30, timeout=40)
        viewers.append(await watch(lab.viewer(proxy), 5))
    judge = goes_on(viewers, *encoders)
    expect([run.tag for run in judge.runs] == [1, 2, 3], f"packets came from {[run.tag for run in judge.runs]}")
    await proxy.metric_is(2, "mmsproxy_split_reconnects_total", result="continued")
    await lab.settle()


@scenario
async def a_broadcast_that_comes_back_with_another_header_is_a_new_entry(lab):
    past, new = Encoder(PAST, **BEFORE), Encoder(PAST + 1, width=640)
    origin, _ = await lab.station(past)
    proxy = await lab.splitter(origin)
    viewers = await lab.watching(proxy, 6, ("wmp9", "vlc", "wmp7", "libmms", "xine", "wmp10"), 25)
    await origin.kill()
    await asyncio.sleep(1.0)  # the origin is away
    await origin.revive(Station("live", new, age=5.0))
    for number, viewer in enumerate(viewers):
        hr = await viewer.end(timeout=40)
        below_9 = viewer.server_major < 9 and viewer.who.counters != "free"
        expect(hr == (0 if below_9 else 1), f"viewer {number} was told {hr} between the headers")
    judged(viewers, past)
    for viewer in viewers:
        viewer.judge_by(new.looped)
    await together(viewer.next_entry() for viewer in viewers)
    await together(viewer.packets(25) for viewer in viewers)
    for viewer in viewers:
        expect(viewer.header_bytes == new.header.bytes, "the header is not the new one")
    judged(viewers, new)
    late = await watch(lab.viewer(proxy, origin.points["live"]), 5)
    expect(late.header_bytes == new.header.bytes, "a later viewer's header is not the new one")
    await proxy.metric_is(1, "mmsproxy_split_reconnects_total", result="changed")
    expect(not await proxy.metric("mmsproxy_split_reconnects_total", result="continued"), "it was counted as continued too")
    await lab.settle()


@scenario
async def an_origin_that_stays_away_is_given_up(lab):
    origin, station = await lab.station()
    proxy = await lab.splitter(origin, split={"give_up": "3s"})
    viewers = await lab.watching(proxy, 6, KINDS, 10)
    lost = time.monotonic()
    await origin.kill()
    hrs = await together(viewer.end(timeout=30) for viewer in viewers)
    took = time.monotonic() - lost
    expect(2.0 <= took, f"it was given up after {took:.1f} s, not 3")
    expect_soon(passed(lost) <= 8.0, f"it was given up after {took:.1f} s, not 3")
    for hr in hrs:
        expect(mmsp.failed(hr), f"EndOfStream carries 0x{hr:X}")
        expect_hr(hr, *GONE)
    judged(viewers, station.file)
    await proxy.metric_is(1, "mmsproxy_split_reconnects_total", result="gave_up")
    for viewer in viewers:
        viewer.hang_up()
        viewer.closed = True
    await proxy.metric_is(0, "mmsproxy_broadcasts")
    await origin.revive()
    deadline = time.monotonic() + 20
    while True:  # origin.down may be running
        viewer = lab.viewer(proxy, station)
        try:
            await watch(viewer, 5)
            break
        except Exception:
            viewer.hang_up()
            viewer.closed = True
            expect(time.monotonic() < deadline, "nobody can watch after the origin is back")
            await asyncio.sleep(0.2)
    await lab.settle()


@scenario
async def an_origin_that_stalls_is_left(lab):
    origin, station = await lab.station(ping=0.0)
    proxy = await lab.splitter(origin, origin={"stall": "3s"})
    viewers = await lab.watching(proxy, 4, KINDS, 25)
    origin.stall()
    await more(viewers, 40, timeout=40)
    judge = goes_on(viewers, station.file)
    expect(len(judge.gaps) <= 1, f"gaps: {judge.gaps}")
    expect(len(origin.opened("live")) == 2, f"it was opened {len(origin.opened('live'))} times")
    await proxy.metric_is(1, "mmsproxy_split_reconnects_total", result="continued")
    await lab.settle()


@scenario
async def garbage_from_an_origin_is_a_break_like_others(lab):
    past = Encoder(PAST, **BEFORE)
    origin, _ = await lab.station(past)
    origin.config.fault_after = 60
    origin.config.faults["live"] = "garbage"
    proxy = await lab.splitter(origin)
    viewers = await lab.watching(proxy, 4, KINDS, 25)
    await origin.wait_for(lambda: any(s.broken for s in origin.sessions))
    origin.config.faults.clear()
    await more(viewers, 60, timeout=40)
    goes_on(viewers, past)
    await proxy.metric_is(1, "mmsproxy_split_reconnects_total", result="continued")
    await lab.settle()


@scenario
async def the_next_origin_of_the_list_takes_over(lab):
    past, other = Encoder(PAST, **BEFORE), Encoder(PAST + 1, file_id=5, created=77)
    first, _ = await lab.station(past)
    second, _ = await lab.station(other, on_air={"age": 5.0})
    proxy = await lab.splitter(first, second)
    viewers = await lab.watching(proxy, 6, KINDS, 25)
    expect(not second.messages("OpenFile"), "the second origin was asked while the first one answers")
    await first.kill()
    await more(viewers, 40, timeout=40)
    late = await watch(lab.viewer(proxy), 10)
    goes_on([*viewers, late], past, other)
    one_session(second)
    await proxy.metric_is(1, "mmsproxy_split_reconnects_total", result="continued")
    await proxy.metric_is(1, "mmsproxy_broadcasts")
    await lab.settle()


@scenario
async def the_first_origin_takes_over_again_where_that_is_wanted(lab):
    past, other, again = Encoder(PAST, **BEFORE), Encoder(PAST + 1, file_id=5, created=77), Encoder(PAST + 2, file_id=6)
    first, _ = await lab.station(past)
    second, _ = await lab.station(other, on_air={"age": 5.0})
    proxy = await lab.splitter(first, second, split={"fail_back": "1s"})
    viewers = await lab.watching(proxy, 4, KINDS, 25)
    await first.kill()
    await more(viewers, 30, timeout=40)
    await first.revive(Station("live", again, age=3.0))
    await proxy.metric_is(2, "mmsproxy_split_reconnects_total", result="continued", timeout=30)
    await more(viewers, 30, timeout=40)
    goes_on(viewers, past, other, again)
    await proxy.metric_is(1, "mmsproxy_origin_sessions")
    await lab.settle()


@scenario
async def a_refusal_after_a_break_is_not_asked_for_by_each_viewer(lab):
    origin, station = await lab.station()
    proxy = await lab.splitter(origin, split={"give_up": "4s"})
    viewers = await lab.watching(proxy, 10, KINDS, 10)
    del origin.points["live"]
    await origin.kill()
    await origin.revive()
    for hr in await together(viewer.end(timeout=30) for viewer in viewers):
        expect(mmsp.failed(hr), f"EndOfStream carries 0x{hr:X}")
    expect(len(origin.messages("OpenFile")) <= 8, f"the origin got {len(origin.messages('OpenFile'))} OpenFile")
    judged(viewers, station.file)


async def _refused(lab, proxy, number):
    viewer = lab.viewer(proxy, identity=KINDS[number % 5], timeout=30.0)

    async def ask():
        await viewer.connect()
        await viewer.open()
        await viewer.read_header()

    try:
        expect_hr(await refusal(ask()), *GONE)
    finally:
        viewer.hang_up()
        viewer.closed = True


@scenario
async def viewers_who_arrive_at_a_dead_origin_make_one_attempt_together(lab):
    origin, _ = await lab.station()
    await origin.kill(knocking=True)
    proxy = await lab.splitter(origin, origin={"down": "1s"})
    began = time.monotonic()
    await together(_refused(lab, proxy, number) for number in range(60))
    took = time.monotonic() - began
    lab.figure(f"60 viewers were {len(origin.knocks)} attempts in {took:.1f} s")
    expect_soon(passed(began) < 15, f"the last was refused after {took:.1f} s")
    expect(origin.knocks, "nobody tried the origin")
    expect(len(origin.knocks) <= 3 + 2 * took, f"60 viewers were {len(origin.knocks)} attempts in {took:.1f} s")
    await proxy.metric_is(0, "mmsproxy_broadcasts")


@scenario
async def viewers_who_arrive_at_a_silent_origin_are_one_attempt_at_a_time(lab):
    origin, _ = await lab.station()
    origin.config.faults["*"] = "stall-connect"
    proxy = await lab.splitter(origin, origin={"reply": "1s", "down": "1s"})
    began = time.monotonic()
    await together(_refused(lab, proxy, number) for number in range(60))
    took = time.monotonic() - began
    lab.figure(f"60 viewers were {len(origin.sessions)} attempts in {took:.1f} s, {origin.connected_at_once} at a time")
    expect_soon(passed(began) < 18, f"the last was refused after {took:.1f} s")
    # One that learns what AuthenPackage to tell, and one that opens.
    expect(origin.connected_at_once <= 2, f"{origin.connected_at_once} attempts at a time")
    expect(len(origin.sessions) <= 4 + 2 * took, f"60 viewers were {len(origin.sessions)} attempts in {took:.1f} s")


@scenario
async def viewers_who_arrive_during_a_break_get_the_header_at_once_and_media_later(lab):
    past, new = Encoder(PAST, **BEFORE), Encoder(PAST + 1)
    origin, _ = await lab.station(past)
    proxy = await lab.splitter(origin)
    first = await watch(lab.viewer(proxy), 25)
    await origin.kill(knocking=True)
    await origin.wait_for(lambda: origin.knocks)
    lost = time.monotonic()
    joiners = [lab.viewer(proxy, identity=KINDS[n % 6], timeout=30.0) for n in range(60)]

    async def arrive(viewer):
        began = time.monotonic()
        await viewer.begin()
        return passed(began)

    slowest = max(await together(arrive(viewer) for viewer in joiners))
    # There is no origin to wait for: what they got was here. They are sixty, and one process.
    expect_soon(slowest < 10.0, f"the header came after {slowest:.1f} s")
    expect(all(viewer.header_bytes == past.header.bytes for viewer in joiners), "it is another header")
    starts = asyncio.gather(*(viewer.start(timeout=30) for viewer in joiners), return_exceptions=True)
    await asyncio.sleep(2.0)  # the origin is away
    away = time.monotonic() - lost
    knocks = len(origin.knocks)
    lab.figure(f"{knocks} attempts in {away:.1f} s for 61 viewers, the slowest header after {1000 * slowest:.0f} ms")
    expect(knocks <= 4 + 4 * away, f"61 viewers were {knocks} attempts in {away:.1f} s")
    await origin.revive(Station("live", new, age=3.0))
    expect_none([error for error in await starts if isinstance(error, Exception)], "not started")
    await together(viewer.packets(40, timeout=40) for viewer in joiners)
    await more([first], 20, timeout=40)
    goes_on([first, *joiners], past, new)
    expect(origin.at_once("live") == 1, f"{origin.at_once('live')} sessions at once")
    await lab.settle()


@scenario
async def attempts_come_further_and_further_apart(lab):
    origin, _ = await lab.station()
    proxy = await lab.splitter(origin)
    await watch(lab.viewer(proxy), 10)
    await origin.kill(knocking=True)
    await asyncio.sleep(8.0)  # what happens in it is what is tested
    count = len(origin.knocks)
    gaps = [after - before for before, after in zip(origin.knocks, origin.knocks[1:])]
    lab.figure(f"{count} attempts in 8 s, {', '.join(f'{gap:.2f}' for gap in gaps)} s apart")
    expect(2 <= count <= 20, f"{count} attempts in 8 s")
    expect(not gaps or gaps[-1] > 1.2 * min(gaps) or gaps[-1] > 1.0, f"attempts are {gaps} s apart: there is no backoff")


@scenario
async def a_paused_viewer_starts_again_after_a_break(lab):
    past, new = Encoder(PAST, **BEFORE), Encoder(PAST + 1)
    origin, _ = await lab.station(past)
    proxy = await lab.splitter(origin)
    stays = await watch(lab.viewer(proxy), 10)
    viewers = await lab.watching(proxy, 3, ("wmp9", "vlc", "wmp7"), 10)
    await together(viewer.stop() for viewer in viewers)
    await origin.kill()
    await origin.revive(Station("live", new, age=3.0))
    await more([stays], 40, timeout=40)
    await together(viewer.start() for viewer in viewers)
    await together(viewer.packets(25) for viewer in viewers)
    goes_on([stays, *viewers], past, new)
    await lab.settle()


@scenario
async def the_end_during_a_break_is_told_after_it(lab):
    origin, station = await lab.station()
    proxy = await lab.splitter(origin)
    viewers = await lab.watching(proxy, 4, KINDS, 10)
    await origin.kill()
    await origin.revive()
    station.finish()
    for hr in await together(viewer.end(timeout=40) for viewer in viewers):
        expect(hr == 0, f"the end carries 0x{hr:X}")
    judged(viewers, station.file)
    await lab.settle()


@scenario
async def selections_hold_over_a_break(lab):
    past, new = Encoder(PAST, **BEFORE), Encoder(PAST + 1)
    origin, _ = await lab.station(past)
    proxy = await lab.splitter(origin)
    chosen = [{3: 0}, {2: 0, 3: 0}, {1: 1, 3: 0}]
    viewers = [lab.viewer(proxy, identity=identity) for identity in ("wmp9", "vlc", "wmp7")]
    for viewer, levels in zip(viewers, chosen):
        await viewer.begin()
        await viewer.select(levels)
        await viewer.start()
        await viewer.packets(20)
    await origin.kill()
    await origin.revive(Station("live", new, age=3.0))
    await more(viewers, 40, timeout=40)
    goes_on(viewers, past, new)
    for viewer, levels in zip(viewers, chosen):
        got = {p.stream for _, data in viewer.current.packets for p in parse_packet(data).payloads}
        expect(got == set(levels), f"who selected {levels} got {got}")
        thinned = [s for s, level in levels.items() if level == 1]
        deltas = [p for _, data in viewer.current.packets for p in parse_packet(data).payloads if p.stream in thinned and not p.key]
        expect(not deltas, f"{len(deltas)} delta frames for who wants key frames")
    expect(all(len(Judge(viewer.current, past, new).runs) == 2 for viewer in viewers), "not all saw both encoders")
    await lab.settle()
