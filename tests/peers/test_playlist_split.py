"""The next entry of a broadcast: for all who watch at the same packet, for joiners alone, for late starters first of all."""

from __future__ import annotations

import asyncio

import mmsp
from broadcast import AUDIO, Encoder
from judge import disagreements
from lab import PAST, expect, expect_none, judged, more, scenario, still_playing, together, watch, without_gaps
from strict_client import parse_packet

PLAYERS = ("wmp9", "vlc", "wmp7", "libmms", "xine", "wmp10")


def entries():
    """Two encoders whose headers and numbers share nothing."""
    return (Encoder(PAST, first_location=7000, first_send=90_000, first_presentation=90_000, first_object=77),
            Encoder(PAST + 1, width=640, packet_size=500, step_ms=50, videos=1))


def announced(viewer):
    """The HRESULT this kind of player takes for "more is to come" (3.1.5.18)."""
    return 0 if viewer.server_major < 9 and viewer.who.counters != "free" else 1


async def next_entry(viewer, encoder, packets=20):
    """EndOfStream, StreamChange, the new header, and media of it from its first packet."""
    hr = await viewer.end(timeout=30)
    expect(hr == announced(viewer), f"{viewer.who.token[:16]} was told {hr} between entries")
    viewer.judge_by(encoder.looped)
    await viewer.next_entry()
    expect(viewer.header_bytes == encoder.header.bytes, "the header is not the next entry's")
    await viewer.packets(packets)
    judged([viewer], encoder)


def _changes():
    for version in ("9.1.1.3841", "4.1.0.3930"):
        for hold in (0.0, 5.0):
            async def changes(lab, version=version, hold=hold):
                past, new = entries()
                origin, station = await lab.station(past, version=version, hold_entries=hold)
                proxy = await lab.splitter(origin)
                viewers = [lab.viewer(proxy, station, identity) for identity in PLAYERS]
                await together(watch(viewer, 25) for viewer in viewers)
                station.change(new)
                plays = [viewer.current for viewer in viewers]
                await together(next_entry(viewer, new) for viewer in viewers)
                lasts = {play.locations[-1] for play in plays}
                expect(len(lasts) == 1, f"the old entry ended with the packets {lasts}")
                expect(not disagreements(plays), "viewers got different packets of the old entry")
                firsts = {viewer.current.locations[0] for viewer in viewers}
                expect(firsts == {new.location(0)}, f"the new entry began with the packets {firsts}")
                without_gaps(viewers)
                still_playing(viewers)
                expect(len(origin.opened("live")) == 1, f"six viewers were {len(origin.opened('live'))} sessions")
                for result in ("continued", "changed"):
                    expect(not await proxy.metric("mmsproxy_split_reconnects_total", result=result), f"{result} was counted")
                await lab.settle()

            scenario(changes, name=f"an_entry_of_a_{version[0]}x_origin_that_{'waits' if hold else 'goes_on'}_reaches_all_at_one_packet")


_changes()


@scenario
async def a_joiner_while_a_header_is_on_its_way_gets_that_one(lab):
    past, new = entries()
    origin, station = await lab.station(past, header_piece=100, on_air={"header_pause": 1.2, "reach": 3.0})
    proxy = await lab.splitter(origin)
    stays = await watch(lab.viewer(proxy), 10)
    station.change(new)
    await origin.wait_for(lambda: any(e["event"] == "half a header" for e in origin.log))
    joiners = [lab.viewer(proxy, identity=identity) for identity in ("wmp9", "vlc", "wms4")]
    await together(watch(viewer, 25) for viewer in joiners)
    for viewer in joiners:
        expect(viewer.entries == [new.header.bytes], f"a joiner got {len(viewer.entries)} headers, not the new one alone")
        expect(len(viewer.plays) == 1, "a joiner was told of the entry before")
    judged(joiners, new)
    await next_entry(stays, new)
    one = origin.opened("live")
    expect(len(one) == 1, f"{len(one)} sessions at the origin")
    await lab.settle()


@scenario
async def who_read_the_old_header_is_told_when_it_starts(lab):
    past, new = entries()
    origin, station = await lab.station(past)
    proxy = await lab.splitter(origin)
    stays = await watch(lab.viewer(proxy), 10)
    described = [lab.viewer(proxy, identity=identity) for identity in ("wmp9", "vlc", "wmp7", "libmms")]
    stopped = await lab.watching(proxy, 3, ("wmp9", "wmp7", "xine"), 5)
    await together(viewer.begin() for viewer in described)
    await together(viewer.stop() for viewer in stopped)
    station.change(new)
    await next_entry(stays, new)
    for viewer in (*described, *stopped):
        expect(viewer.state == "ready", f"a viewer that does not play is {viewer.state}")

    async def late(viewer):
        await viewer.start()
        old = viewer.current
        await next_entry(viewer, new)
        expect(not old.packets, f"{len(old.packets)} packets under the old header")

    await together(late(viewer) for viewer in (*described, *stopped))
    still_playing([stays, *described, *stopped])
    without_gaps([stays, *described, *stopped])
    await lab.settle()


@scenario
async def a_burst_never_reaches_back_over_an_entry(lab):
    past, new = entries()
    origin, station = await lab.station(past, on_air={"reach": 8.0}, hold_entries=5.0)
    proxy = await lab.splitter(origin, split={"fast_start": "6s"})
    stays = await watch(lab.viewer(proxy), 40)
    station.change(new)
    await next_entry(stays, new, 5)
    joiners = await lab.watching(proxy, 4, ("wmp9", "vlc", "ffmpeg", "wms4"), 25)
    for viewer in joiners:
        expect(viewer.entries == [new.header.bytes], f"a joiner got {len(viewer.entries)} headers, not the new one alone")
        expect(viewer.current.end is None, "a joiner was told of the entry before")
        expect(viewer.current.locations[0] == new.location(0), f"it began with packet {viewer.current.locations[0]}")
    judged(joiners, new)
    without_gaps(joiners)
    await lab.settle()


@scenario
async def a_slow_viewer_meets_the_entry_it_jumped_over(lab):
    past = Encoder(PAST, packet_size=16_000, full=True, step_ms=25, key_every=20, preroll_ms=200, videos=1)
    new = Encoder(PAST + 1, packet_size=15_000, full=True, step_ms=25, key_every=20, preroll_ms=200, videos=1, width=640)
    origin, station = await lab.station(past)
    proxy = await lab.splitter(origin, split={"history": "1s", "max_bytes": "2MiB"}, limits={"kernel_buffer": "64KiB"})
    slow, reading = await lab.watching(proxy, 2, ("wmp9", "vlc"), 10)
    slow.reading.clear()
    await more([reading], 40)
    station.change(new)
    await next_entry(reading, new, 200)  # five seconds: the old entry has left the history
    slow.reading.set()
    await next_entry(slow, new, 40)
    expect(slow.entries[-1] == new.header.bytes and len(slow.entries) == 2, f"it got {len(slow.entries)} headers")
    await lab.settle()


@scenario
async def three_entries_in_a_row_reach_all(lab):
    encoders = [Encoder(tag, width=160 * tag, first_location=10 * tag) for tag in (1, 2, 3)]
    origin, station = await lab.station(encoders[0])
    proxy = await lab.splitter(origin)
    viewers = await lab.watching(proxy, 4, PLAYERS, 10)
    for encoder in encoders[1:]:
        station.change(encoder)
        await together(next_entry(viewer, encoder, 10) for viewer in viewers)
    expect(all(viewer.entries == [e.header.bytes for e in encoders] for viewer in viewers), "headers are missing")
    await lab.settle()


@scenario
async def an_entry_with_other_streams_is_selected_anew(lab):
    past, new = Encoder(PAST, videos=0, packet_size=300), Encoder(PAST + 1, width=640)
    origin, station = await lab.station(past)
    proxy = await lab.splitter(origin)
    viewers = await lab.watching(proxy, 3, ("wmp9", "vlc", "libmms"), 10)
    station.change(new)
    await together(next_entry(viewer, new, 40) for viewer in viewers)
    for viewer in viewers:
        got = {p.stream for _, data in viewer.current.packets for p in parse_packet(data).payloads}
        expect(got == set(new.streams), f"it got the streams {got}")
    expect_none([s for s in origin.messages("StreamSwitch") if AUDIO not in {e[1] for e in s["fields"]["entries"]}],
                "the origin was asked for less than all")
    await lab.settle()


@scenario
async def the_last_entry_ends_for_all(lab):
    past, new = entries()
    origin, station = await lab.station(past)
    proxy = await lab.splitter(origin)
    viewers = await lab.watching(proxy, 4, PLAYERS, 10)
    station.change(new)
    await together(next_entry(viewer, new, 10) for viewer in viewers)
    station.finish()
    for hr in await together(viewer.end(timeout=30) for viewer in viewers):
        expect(hr == 0, f"the end carries 0x{hr:X}")
    await lab.settle()


@scenario
async def an_entry_that_begins_while_the_origin_is_away_is_told(lab):
    past, new = entries()
    origin, station = await lab.station(past)
    proxy = await lab.splitter(origin)
    viewers = await lab.watching(proxy, 4, PLAYERS, 10)
    await origin.kill()
    station.change(new)
    await asyncio.sleep(0.5)  # the origin is away
    await origin.revive()
    for viewer in viewers:
        hr = await viewer.end(timeout=40)
        expect(hr == announced(viewer), f"{viewer.who.token[:16]} was told {hr} between entries")
        expect(not mmsp.failed(hr), "it ended")
        viewer.judge_by(new.looped)
    await together(viewer.next_entry() for viewer in viewers)
    await together(viewer.packets(20) for viewer in viewers)
    judged(viewers, new)
    await proxy.metric_is(1, "mmsproxy_split_reconnects_total", result="changed")
    await lab.settle()
