"""What was lost is sent again, byte for byte, to whom it was sent before, and never more than that session may have."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import time

from broadcast import Encoder, Station
from cachelab import VOD, began, cacher, filled, player, shelf, to_the_end
from film import film
from funnel import FORGERIES, Udp
from lab import PAST, expect, judged, more, scenario, still_playing, together, watch, without_gaps
from shelf import Title
from strict_client import Silent
from udplab import all_of, got_by, mended, resends, stormy

FULL = dict(packet_size=1400, full=True, step_ms=25)  # 448 kbit/s in 40 packets a second


def _mended():
    for share in (0.01, 0.05):
        async def on_demand(lab, share=share):
            origin, title = await shelf(lab, Title(VOD, film(seconds=6.0)))
            proxy = await cacher(lab, origin)
            since = await resends(proxy)
            fills = await all_of(player(lab, proxy, title, udp=stormy(share, 1)))  # out of the memory of a fill
            hits = [player(lab, proxy, title, identity, udp=stormy(share, seed)) for seed, identity in enumerate(("wmp9", "wmp7"), 2)]
            await together(all_of(viewer) for viewer in hits)
            for viewer in (fills, *hits):
                got_by(viewer, "udp")
            mended(fills, *hits)
            asked = sum(viewer.datagrams.requests for viewer in (fills, *hits))
            answered, refused = await since()
            lab.figure(f"{asked} requests, {answered} answered, {refused} refused")
            expect(not asked or answered, f"{asked} requests, and {answered} count as answered")
            await lab.settle()

        scenario(on_demand, name=f"a_file_over_a_network_that_loses_{share * 100:.0f}_percent_arrives_bit_exact")

        async def relayed(lab, share=share):
            origin, title = await shelf(lab, Title(VOD, film(seconds=5.0)))
            proxy = await lab.reverse(origin)
            viewers = [player(lab, proxy, title, identity, udp=stormy(share, seed)) for seed, identity in enumerate(("wmp9", "wmp10"), 5)]
            await together(all_of(viewer) for viewer in viewers)
            mended(*viewers)
            await lab.settle()

        scenario(relayed, name=f"what_is_not_kept_arrives_bit_exact_at_{share * 100:.0f}_percent")

        async def on_air(lab, share=share):
            encoder = Encoder(PAST, **FULL)
            origin, station = await lab.station(encoder)
            proxy = await lab.splitter(origin)
            viewers = [lab.viewer(proxy, station, ("wmp9", "wmp7", "wmp10")[n % 3], udp=stormy(share, n)) for n in range(6)]
            await together(watch(viewer, 160) for viewer in viewers)
            mended(*viewers)
            judged(viewers, encoder)
            without_gaps(viewers)
            still_playing(viewers)
            expect(any(viewer.datagrams.recovered for viewer in viewers), "nothing was mended")
            await lab.settle()

        scenario(on_air, name=f"a_broadcast_over_a_network_that_loses_{share * 100:.0f}_percent_arrives_bit_exact")


_mended()


@scenario
async def at_twenty_percent_nothing_breaks(lab):
    encoder = Encoder(PAST, **FULL)
    origin, station = await lab.station(encoder)
    title = Title(VOD, film(seconds=4.0))
    origin.points[VOD] = title
    proxy = await lab.splitter(origin, cache={"dir": ""})
    steady = await watch(lab.viewer(proxy, station), 1)
    viewers = [lab.viewer(proxy, station, ("wmp9", "wmp7", "vlc")[n], udp=stormy(0.2, 40 + n, resends=n < 2)) for n in range(3)]
    films = [player(lab, proxy, title, udp=stormy(0.2, 50 + n)) for n in range(2)]

    async def through(viewer):
        await watch(viewer)
        expect(await viewer.end(40) == 0, "the end is an error")
        expect(len(viewer.current.packets) > 0.7 * len(title.numbers), f"{len(viewer.current.packets)} of {len(title.numbers)} packets")

    await together([*(watch(viewer, 120) for viewer in viewers), *(through(viewer) for viewer in films)])
    lab.figure(", ".join(f"{len(v.datagrams.lost)} lost of {v.datagrams.raw_next}" for v in (*viewers, *films)))
    still_playing([steady, *viewers])
    without_gaps([steady])
    judged([steady], encoder)
    await lab.settle()


@scenario
async def forged_resend_requests_get_no_byte(lab):
    origin, station = await lab.station(Encoder(PAST, **FULL))
    proxy = await lab.splitter(origin, udp={"resend_budget": "100%"})
    viewer = await watch(lab.viewer(proxy, station, udp=True), 60)
    for what in FORGERIES:
        since = await resends(proxy)
        forger = viewer.datagrams.forge(what)
        # A request that is right comes behind it: when that is answered, the other one was looked at.
        before = viewer.datagrams.again
        viewer.datagrams.ask([viewer.datagrams.raw_next - 2])
        await viewer.until(lambda before=before: viewer.datagrams.again > before, f"the answer behind {what!r}")
        answered, refused = await since(2)
        expect((answered, refused) == (1, 1), f"{what}: {answered} requests are counted as answered, {refused} as refused")
        if forger:
            try:
                expect(not forger.recv(2000), "the forger got something")
            except BlockingIOError:
                pass
            forger.close()
        expect(viewer.datagrams.again == before + 1, f"{what}: {viewer.datagrams.again - before} packets came again")
    await asyncio.sleep(0.3)  # nothing is to come; what comes unasked is a deviation
    await lab.settle()


@scenario
async def a_flood_of_junk_disturbs_nobody(lab):
    origin, station = await lab.station(Encoder(PAST, **FULL))
    proxy = await lab.splitter(origin)
    viewer = await watch(lab.viewer(proxy, station, udp=True), 20)
    dice, answers = random.Random(1), []
    for number in range(60):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            stranger.bind((f"127.0.1.{number + 1}", 0))
            stranger.setblocking(False)
            for _ in range(50):
                head = b"\x0d\xf0\xef\xbe" if dice.random() < 0.7 else b""
                stranger.sendto(head + dice.randbytes(dice.choice((0, 1, 8, 12, 16, 140, 1400, 60_000))), proxy.mms)
            await asyncio.sleep(0.02)
            with contextlib.suppress(BlockingIOError):
                answers.append(stranger.recv(2000))
    expect(not answers, f"{len(answers)} strangers were answered")
    await more([viewer], 60)
    without_gaps([viewer])
    for _ in range(40):  # what the flood left in the kernel may crowd out a request
        viewer.datagrams.ask([viewer.datagrams.raw_next - 2])
        with contextlib.suppress(Silent):
            await viewer.until(lambda: viewer.datagrams.again, "an answer after the flood", 0.5)
        if viewer.datagrams.again:
            break
    expect(viewer.datagrams.again, "no answer after the flood")
    await lab.settle()


@scenario
async def resends_stay_within_their_budget(lab):
    encoder = Encoder(PAST, **FULL)
    origin, station = await lab.station(encoder)
    proxy = await lab.splitter(origin, udp={"resend_budget": "10%"})
    viewer = await watch(lab.viewer(proxy, station, udp=True), 80)
    since, began_at = await resends(proxy), time.monotonic()
    while time.monotonic() < began_at + 3:
        newest = viewer.datagrams.raw_next
        viewer.datagrams.ask(list(range(newest - 40, newest - 8)))
        await asyncio.sleep(0.05)  # how often it asks is what is tested
    spent = time.monotonic() - began_at
    rate = encoder.bit_rate / 8
    most = rate * 0.10 * (spent + 1) + 2 * encoder.packet_size
    came, (_, refused) = viewer.datagrams.resent_bytes, await since()
    lab.figure(f"{came} bytes of {most:.0f} came again in {spent:.1f} s")
    expect(0 < came <= most, f"{came} bytes came again in {spent:.1f} s, 10 % of the bit rate are {rate * 0.1:.0f} a second")
    expect(refused, "no request is counted as refused")
    still_playing([viewer])
    without_gaps([viewer])
    await lab.settle()


@scenario
async def what_is_too_old_is_not_sent_again(lab):
    origin, station = await lab.station(Encoder(PAST, **FULL))
    proxy = await lab.splitter(origin, udp={"resend_window": "4s"})
    viewer = await watch(lab.viewer(proxy, station, udp=True), 240)
    funnel = viewer.datagrams
    funnel.ask([funnel.raw_next - 5])
    await viewer.until(lambda: funnel.again == 1, "a packet of just now")
    since = await resends(proxy)
    funnel.ask([funnel.raw_next - 200])  # 5 s ago
    funnel.ask([funnel.raw_next - 3])
    await viewer.until(lambda: funnel.again == 2, "a packet of just now")
    answered, refused = await since(2)
    expect((answered, refused) == (1, 1), f"{answered} answered and {refused} refused, of a new packet and an old one")
    await lab.settle()


def _again():
    for what in ("a_history", "a_fill", "a_fast_fill", "an_entry", "a_session_of_its_own"):
        async def again(lab, what=what):
            # Below 9 a fill takes as long as its viewer; from 9 on it is done, and sealed, when that has its first packets. A small
            # film is a part of a block.
            is_fast = what == "a_fast_fill"
            title = Title(VOD, film(seconds=6.0 if is_fast else 8.0, rates=(250_000 if is_fast else 800_000,)))
            origin, _ = await shelf(lab, title, version="9.1.1.3841" if is_fast else "4.1.0.3930")
            origin.points["live"] = station = Station("live", Encoder(PAST, **FULL))
            udp = {"resend_budget": "100%", "resend_window": "8s"}
            if what in ("a_fill", "a_fast_fill", "an_entry"):
                proxy = await cacher(lab, origin, udp=udp)
            else:
                proxy = await lab.splitter(origin, udp=udp)
            if what == "an_entry":
                await filled(lab, proxy, origin, title)
            if what == "a_history":
                viewer = await watch(lab.viewer(proxy, station, udp=True), 10)
            else:
                viewer = await began(player(lab, proxy, title, udp=True))
            funnel, asked, seen = viewer.datagrams, 0, [(time.monotonic(), 0)]
            while viewer.current.ending is None and len(seen) < 120:
                await asyncio.sleep(0.05)  # how old a packet is that is asked for is what is tested
                seen.append((time.monotonic(), funnel.raw_next))
                # What was the next one 3 s ago, or all that there was; a little older where we stood still.
                at, old = max((one for one in seen if one[0] < seen[-1][0] - 3.0), default=seen[0])
                if len(seen) % 8 == 0 and funnel.raw_next > old + 12 and seen[-1][0] - at < 6.0:
                    numbers = [old, old + 1, (old + funnel.raw_next) // 2, funnel.raw_next - 1]
                    funnel.ask(numbers)
                    asked += len(numbers)
            await viewer.until(lambda: funnel.again == asked, f"all {asked} that were asked for ({funnel.again} came)")
            expect(asked >= 24, f"only {asked} were asked for")
            await lab.settle()

        scenario(again, name=f"what_was_sent_out_of_{what}_can_be_asked_for_as_long_as_the_window_says")


_again()


@scenario
async def the_last_packets_can_be_asked_for_after_the_end(lab):
    origin, title = await shelf(lab, Title(VOD, film(seconds=2.0)), speed=2.0)
    proxy = await cacher(lab, origin)
    await filled(lab, proxy, origin, title)
    viewer = await began(player(lab, proxy, title, udp=True))
    await to_the_end(viewer)
    last = viewer.datagrams.raw_next - 1
    viewer.datagrams.ask([last, last - 1])
    await viewer.until(lambda: viewer.datagrams.again == 2, "the last packets again")
    await lab.settle()


@scenario
async def the_numbers_go_on_after_a_seek(lab):
    origin, title = await shelf(lab, Title(VOD, film(seconds=20.0)))
    proxy = await cacher(lab, origin)
    await filled(lab, proxy, origin, title)
    viewer = await began(player(lab, proxy, title, udp=stormy(0.05, 9)), 40)
    for where in (15.0, 2.0, 17.0):
        before = viewer.datagrams.raw_next
        await viewer.seek(position=where)
        await viewer.packets(30)
        expect(viewer.datagrams.raw_next >= before + 30, "Sequence was reset")
    expect(await viewer.end() == 0, "the end is an error")
    numbers = viewer.current.locations
    expect(numbers == list(range(numbers[0], len(title.numbers))), "packets are missing")
    mended(viewer)
    await lab.settle()


@scenario
async def a_viewer_over_tcp_can_ask_for_nothing(lab):
    origin, station = await lab.station(Encoder(PAST, **FULL))
    proxy = await lab.splitter(origin)
    viewer = await watch(lab.viewer(proxy, station, udp=Udp(claims=1)), 30)
    got_by(viewer, "tcp")
    since = await resends(proxy)
    viewer.datagrams.raw_next = 20
    viewer.datagrams.forge("address").close()
    viewer.datagrams.ask([1, 2, 3])
    answered, refused = await since(2)
    expect((answered, refused) == (0, 2), f"{answered} answered and {refused} refused")
    expect(not viewer.datagrams.datagrams, "datagrams came")
    still_playing([viewer])
    without_gaps([viewer])
    await lab.settle()
