"""Viewers that read too slowly or not at all, and those who must not notice."""

from __future__ import annotations

import asyncio
import time

import mmsp
from broadcast import Encoder
from judge import Judge
from lab import PAST, expect, expect_soon, judged, more, scenario, still_playing, together, watch, without_gaps
from still import STILL, passed
from test_split import one_session

FAT = dict(packet_size=16_000, full=True, step_ms=25, key_every=20, preroll_ms=200, videos=1)  # 640 kB/s, a key each 0.5 s
SHORT = {"history": "2s", "max_bytes": "2MiB"}


async def fat(lab, split=None, **sections):
    origin, station = await lab.station(Encoder(PAST, **FAT))
    proxy = await lab.splitter(origin, split=SHORT | (split or {}), limits={"kernel_buffer": "64KiB"}, **sections)
    return origin, station, proxy


def newest(viewer, station):
    """How far the last packet lies behind the air, in seconds."""
    behind = station.live() - station.file.number(viewer.current.locations[-1])
    return behind * station.file.step_ms / 1000


@scenario(limit=60.0, alone=True)
async def a_third_that_never_reads_takes_nothing_from_the_others(lab):
    origin, station, proxy = await fat(lab)
    viewers = [lab.viewer(proxy, identity=("wmp9", "vlc", "ffmpeg")[n % 3]) for n in range(20)]
    await together(watch(viewer, 3) for viewer in viewers)
    stalled, reading = viewers[::3], [v for n, v in enumerate(viewers) if n % 3]
    before = proxy.memory()
    for viewer in stalled:
        viewer.reading.clear()
    most, ends = before, STILL.clock() + 10
    while STILL.clock() < ends:  # 6.4 MB pass, the history holds 1.3
        await asyncio.sleep(0.2)
        most = max(most, proxy.memory())
        held = await proxy.metric("mmsproxy_held_bytes", holder="history")
        expect(held <= 2 << 20, f"the history holds {held:.0f} bytes, split.max_bytes are 2 MiB")
    lab.figure(f"resident memory went from {before >> 10} to {most >> 10} KiB at most with {len(stalled)} of 20 viewers stalled")
    # A history that follows the stalled ones would be 6 MB, one held for each of them 45.
    expect(most - before < 6 << 20, f"resident memory grew by {(most - before) >> 10} KiB")
    still_playing(reading)
    without_gaps(reading)
    judged(reading, station.file)
    for number, viewer in enumerate(reading):
        expect(len(viewer.current.packets) > 380, f"viewer {number} came to {len(viewer.current.packets)} packets in 10 s")
    gaps = sorted(max(passed(a, b) for a, b in zip(v.current.times, v.current.times[1:])) for v in reading)
    lab.figure(f"the longest silence of a reading viewer was {1000 * gaps[-1]:.0f} ms")
    expect_soon(gaps[-1] < 1.5, f"a reading viewer heard nothing for {gaps[-1]:.1f} s")
    one_session(origin)
    for viewer in stalled:
        viewer.hang_up()
        viewer.closed = True
    await lab.settle()


@scenario
async def a_viewer_that_fell_off_goes_on_at_a_key_frame(lab):
    origin, station, proxy = await fat(lab)
    viewers = [lab.viewer(proxy, identity=identity) for identity in ("wmp9", "vlc", "wms4")]
    await together(watch(viewer, 20) for viewer in viewers)
    slow, other, reading = viewers
    for viewer in (slow, other):
        viewer.reading.clear()
    await asyncio.sleep(6.0)  # it does not read: what is tested
    for viewer in (slow, other):
        viewer.reading.set()
    for viewer in (slow, other):
        await viewer.until(lambda viewer=viewer: newest(viewer, station) < 1.0, "a place near the air")
    await more([slow, other], 60)
    still_playing(viewers)
    without_gaps([reading])
    # The judge wants a key frame behind each gap, and no tail of what was jumped over.
    for viewer, judge in zip((slow, other), judged([slow, other, reading], station.file)):
        expect(1 <= len(judge.gaps) <= 3, f"{viewer.who.token[:14]} jumped {len(judge.gaps)} times")
        index = viewer.current.locations.index(judge.gaps[-1][1])
        begun = Judge(_part(viewer.current, index), station.file)
        expect(not begun.faults and begun.first(1)[0] == 0, f"behind the jump video begins with packet {begun.first(1)}")
    skips = await proxy.metric("mmsproxy_viewer_skips_total")
    expect(2 <= skips <= 6, f"mmsproxy_viewer_skips_total is {skips}")
    one_session(origin)
    await lab.settle()


def _part(play, index):
    """What came of a play from there on."""
    part = type(play)(play.incarnation)
    part.packets = play.packets[index:]
    return part


@scenario
async def a_viewer_that_falls_off_again_and_again_is_ended(lab):
    origin, station, proxy = await fat(lab, {"max_skips": 2})
    slow, reading = lab.viewer(proxy), lab.viewer(proxy, identity="vlc")
    await together(watch(viewer, 20) for viewer in (slow, reading))
    for _ in range(8):
        slow.reading.clear()
        await asyncio.sleep(4.0)  # it does not read: what is tested
        slow.reading.set()
        await slow.until(lambda: newest(slow, station) < 0.8 or slow.current.end is not None, "a place near the air")
        if slow.current.end is not None:
            break
    expect(slow.current.end is not None, f"it was not ended, {await proxy.metric('mmsproxy_viewer_skips_total')} skips")
    expect(mmsp.failed(slow.current.end), f"EndOfStream carries 0x{slow.current.end:X}")
    skips = await proxy.metric("mmsproxy_viewer_skips_total")
    expect(2 <= skips <= 3, f"it was ended after {skips} skips, split.max_skips are 2")
    still_playing([reading])
    without_gaps([reading])
    await lab.settle()


@scenario
async def a_viewer_that_reads_in_gulps_within_the_history_loses_nothing(lab):
    origin, station, proxy = await fat(lab, {"history": "8s", "max_bytes": "16MiB"})
    viewers = await lab.watching(proxy, 2, ("wmp9", "vlc"), 10)
    for _ in range(2):
        with viewers[0].not_reading():
            await asyncio.sleep(3.0)  # the pause is what is tested
        await more(viewers[:1], 150)
    still_playing(viewers)
    without_gaps(viewers)
    judged(viewers, station.file)
    expect(await proxy.metric("mmsproxy_viewer_skips_total") == 0, "skips were counted")
    await lab.settle()


@scenario
async def control_messages_of_a_slow_viewer_are_answered(lab):
    origin, station, proxy = await fat(lab)
    slow = await watch(lab.viewer(proxy), 20)
    slow.reading.clear()
    await asyncio.sleep(3.0)  # it does not read: what is tested
    slow.reading.set()
    asked = time.monotonic()
    await slow.stop()
    took = passed(asked)
    expect_soon(took < 2.0, f"StopPlaying was answered after {took:.1f} s")
    await slow.start()
    await slow.packets(20)
    judged([slow], station.file)
    await lab.settle()
