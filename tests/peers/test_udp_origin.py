"""Data over UDP from origins: mended, in order, and where it does not come at all, over TCP."""

from __future__ import annotations

import socket
import time

import asf
import mmsp
from broadcast import Encoder, Station
from cachelab import VOD, cacher, complete, exported, player, shelf, succeeds, to_the_end, url, verified, where
from film import film
from judge import disagreements
from lab import (PAST, expect, expect_none, expect_soon, judged, more, scenario, still_playing, together, watch, without_gaps)
from shelf import Title
from still import passed
from test_udp_judge import wordy
from udplab import all_of, got_by, stormy
from weather import Weather

FULL = dict(packet_size=1400, full=True, step_ms=25)


def sky(share, seed=1):
    """Options of an origin between which and its clients the weather is this."""
    return {"weather": Weather(share, seed), "weather_in": Weather(share, seed + 1)}


def came_by(origin, way, name=None):
    """Fails where a session that sent media did not send it that way."""
    sent = [s for s in origin.sessions if s.media_sent and (name is None or s.point.name == name)]
    expect(sent, "no session sent media")
    expect({"udp" if s.datagrams else "tcp" for s in sent} == {way}, f"not all {len(sent)} sessions that sent media did over {way}")
    return sent


def _routes():
    for what in ("a_route_to_mmsu", "a_route_that_says_udp"):
        async def route(lab, what=what):
            origin, title = await shelf(lab, Title(VOD, film(seconds=4.0)), speed=2.0)
            origin.points["live"] = station = Station("live", Encoder(PAST, **FULL))
            scheme = "mmsu" if what == "a_route_to_mmsu" else "mms"
            more_of_it = {} if scheme == "mmsu" else {"upstream": "udp"}
            proxy = await lab.proxy([{"origin": f"{scheme}://{origin.where}"} | more_of_it], split={"linger": "1s"})
            viewers = [player(lab, proxy, title, udp=udp) for udp in (None, True)]
            watching = [lab.viewer(proxy, station, udp=udp) for udp in (None, True)]
            await together([*(all_of(viewer) for viewer in viewers), *(watch(viewer, 60) for viewer in watching)])
            came_by(origin, "udp")
            judged(watching, station.file)
            without_gaps(watching)
            expect(len(origin.opened("live")) == 1, "the broadcast was not split")
            # The strict origin finds szTransport in the report of a session that ends.
            await lab.settle()

        scenario(route, name=f"{what}_is_played_over_udp")


_routes()


@scenario
async def a_route_that_says_nothing_is_played_over_tcp(lab):
    for scheme in ("mms", "mmst"):
        origin, station = await lab.station()
        proxy = await lab.splitter(origin, scheme=scheme)
        viewer = await watch(lab.viewer(proxy, station, udp=True), 5)
        came_by(origin, "tcp")
        got_by(viewer, "udp")
    await lab.settle()


def _weathers():
    for share in (0.01, 0.05, 0.2):
        async def on_air(lab, share=share):
            encoder = Encoder(PAST, **FULL)
            origin, station = await lab.station(encoder, on_air={"reach": 2.0}, **sky(share, 20))
            proxy = await lab.splitter(origin, scheme="mmsu")
            viewers = [lab.viewer(proxy, station if share < 0.1 else None, ("wmp9", "vlc", "wmp7")[n], udp=n == 1) for n in range(3)]
            await together(watch(viewer, 140) for viewer in viewers)
            session, = came_by(origin, "udp")
            judges = judged(viewers, encoder) if share < 0.1 else []
            expect(origin.config.weather.lost > 3 * (share > 0.01), f"the weather took {origin.config.weather.lost} datagrams")
            lab.figure(f"{origin.config.weather.lost} lost of {origin.config.weather.seen}; {session.datagrams.requests} requests, "
                       f"{session.datagrams.resent} packets again")
            if share < 0.1:
                expect(all(not judge.gaps for judge in judges), "viewers have gaps")
                expect(share < 0.05 or session.datagrams.resent, "nothing was asked for again")
            found = disagreements([viewer.current for viewer in viewers])
            expect(not found, f"viewers got different payloads: {found[:5]}")
            still_playing(viewers)
            one = origin.opened("live")
            expect(len(one) == 1, f"{len(one)} sessions: the stream was broken off")
            await lab.settle()
            report = bytes.fromhex(origin.messages("Logging", session.number)[-1]["fields"]["log"])
            said = mmsp.log_transport(report)[1]
            expect(not session.datagrams.asked or said, "the report tells of no packet asked for again")

        scenario(on_air, name=f"a_broadcast_from_an_origin_whose_network_loses_{share * 100:.0f}_percent")

        async def on_demand(lab, share=share):
            origin, title = await shelf(lab, Title(VOD, film(seconds=5.0)), **sky(share, 30))
            proxy = await lab.splitter(origin, scheme="mmsu")
            viewers = [player(lab, proxy, title, udp=udp) for udp in (None, True)]
            if share < 0.1:
                await together(all_of(viewer) for viewer in viewers)
            else:
                await together(watch(viewer) for viewer in viewers)
                for viewer in viewers:
                    expect(await viewer.end(40) == 0, "the end is an error")
                    expect(len(viewer.current.packets) > 0.7 * len(title.numbers), f"{len(viewer.current.packets)} packets")
            came_by(origin, "udp")
            await lab.settle()

        scenario(on_demand, name=f"a_file_from_an_origin_whose_network_loses_{share * 100:.0f}_percent")


_weathers()


@scenario
async def a_file_over_two_networks_that_lose_5_percent_arrives_bit_exact(lab):
    origin, title = await shelf(lab, Title(VOD, film(seconds=6.0)), **sky(0.05, 60))
    proxy = await lab.splitter(origin, scheme="mmsu")
    viewers = [player(lab, proxy, title, identity, udp=stormy(0.05, n)) for n, identity in enumerate(("wmp9", "wmp7"))]
    await together(all_of(viewer) for viewer in viewers)
    came_by(origin, "udp")
    await lab.settle()


@scenario
async def a_header_that_is_lost_on_the_way_here_is_asked_for_again(lab):
    lost = []

    def drop(datagram, sequence):
        if sequence is None and datagram[4] in (1, 2) and datagram[0] == 3:
            lost.append(datagram)
            return []
        return [datagram]

    encoder = wordy(Encoder(PAST, **FULL), 8000)
    origin, station = await lab.station(encoder, tamper=drop)
    proxy = await lab.splitter(origin, scheme="mmsu", origin={"reply": "30s"})
    viewer = await watch(lab.viewer(proxy, station, timeout=40.0), 10)
    expect(len(lost) == 2, f"{len(lost)} pieces of the header were lost")
    expect(viewer.header_bytes == encoder.header.bytes, "the header differs")
    expect(len(origin.messages("CancelReadBlock")) == 2, f"{len(origin.messages('CancelReadBlock'))} CancelReadBlock")
    came_by(origin, "udp")
    await lab.settle()


@scenario
async def an_origin_that_refuses_udp_is_played_over_tcp(lab):
    origin, station = await lab.station(udp="refuse")
    proxy = await lab.splitter(origin, scheme="mmsu")
    viewers = await lab.watching(proxy, 3, ("wmp9", "vlc", "wmp7"), 20, station=station)
    came_by(origin, "tcp")
    judged(viewers, station.file)
    without_gaps(viewers)
    asked = [e["fields"]["funnel_name"].split("\\")[3] for e in origin.messages("ConnectFunnel")]
    expect(asked == ["UDP", "TCP"], f"the funnels asked for are {asked}")
    await lab.settle()


def _silences():
    for what in ("silent", "header"):
        async def silence(lab, what=what):
            origin, title = await shelf(lab, Title(VOD, film(seconds=12.0)), udp=what, speed=2.0)
            proxy = await lab.splitter(origin, scheme="mmsu", origin={"stall": "3s"})
            first = player(lab, proxy, title, timeout=60.0)
            began = time.monotonic()
            await watch(first)
            took = passed(began)
            await to_the_end(first)
            came = [s for s in origin.played(VOD) if not s.datagrams]
            expect(len(came) == 1, f"{len(came)} sessions sent it over TCP")
            # What a firewall does is remembered: the next one does not wait for it again.
            began = time.monotonic()
            second = await watch(player(lab, proxy, title, "wmp7", timeout=60.0))
            waited = passed(began)
            lab.figure(f"the first viewer waited {took:.1f} s, the second {waited:.1f} s")
            expect_soon(waited < 2.5, f"the second viewer waited {waited:.1f} s, the first {took:.1f} s")
            await to_the_end(second)
            await lab.settle()

        scenario(silence, name=f"a_firewall_that_lets_{'nothing' if what == 'silent' else 'the_header_alone'}_through_means_tcp")


_silences()


def _fills():
    for what, options in {"loses_5_percent": sky(0.05, 70), "loses_5_percent_and_resends_nothing": sky(0.05, 80) | {"resends": False},
                          "loses_20_percent": sky(0.2, 90)}.items():
        async def fill(lab, options=options):
            # A seed makes one weather, and a scenario must not use up another's.
            ours = {key: Weather(value.loss, 7) if isinstance(value, Weather) else value for key, value in options.items()}
            origin, title = await shelf(lab, Title(VOD, film(seconds=6.0)), **ours)
            proxy = await cacher(lab, origin, scheme="mmsu")
            viewer = player(lab, proxy, title, timeout=20.0)
            await watch(viewer)
            expect(await viewer.end(40) == 0, "the end is an error")
            await viewer.close()
            found = await complete(proxy, title, timeout=40.0)
            expect(found["packets_present"] == len(title.numbers) and not found["packets_absent"], f"it has {found}")
            expect(origin.config.weather.lost > 3, f"the weather took {origin.config.weather.lost} datagrams")
            by_udp = sum(len(s.numbers) for s in origin.played(VOD) if s.datagrams)
            by_tcp = sum(len(s.numbers) for s in origin.played(VOD) if not s.datagrams)
            lab.figure(f"{by_udp} packets sent over UDP, {origin.config.weather.lost} datagrams lost, {by_tcp} packets sent over TCP")
            expect(by_udp >= len(title.numbers), "the fill was not over UDP")
            await exported(lab, proxy, origin, title)
            await verified(lab, proxy)
            await succeeds(lab, "verify", url(origin, title), "--origin", *where(proxy))
            await all_of(player(lab, proxy, title, "wmp7"))
            await all_of(player(lab, proxy, title, "vlc", udp=True))
            await lab.settle()

        scenario(fill, name=f"a_fill_from_an_origin_whose_network_{what}_ends_complete")


_fills()


@scenario
async def packets_that_never_come_are_unknown_and_not_absent(lab):
    """Always the same ones are lost over UDP, so two fills agree on them; over TCP they are there."""
    lost = {7, 8, 40}

    def drop(datagram, sequence):
        return [] if sequence is not None and int.from_bytes(datagram[:4], "little") in lost else [datagram]

    origin, title = await shelf(lab, Title(VOD, film(seconds=4.0)), tamper=drop)
    proxy = await cacher(lab, origin, scheme="mmsu")
    viewer = await watch(player(lab, proxy, title, timeout=20.0))
    expect(await viewer.end(40) == 0, "the end is an error")
    await viewer.close()
    found = await complete(proxy, title, timeout=40.0)
    expect(found["packets_present"] == len(title.numbers) and not found["packets_absent"], f"it has {found}")
    await exported(lab, proxy, origin, title)
    await all_of(player(lab, proxy, title))
    await lab.settle()


@scenario
async def the_next_entry_of_an_origin_over_udp_reaches_all(lab):
    past = Encoder(PAST, first_location=7000, first_send=90_000, first_presentation=90_000, first_object=77)
    new = wordy(Encoder(PAST + 1, width=640, packet_size=700), 2000)
    for version in ("9.1.1.3841", "4.1.0.3930"):
        origin, station = await lab.station(past, version=version, **sky(0.03, 5))
        proxy = await lab.splitter(origin, scheme="mmsu", origin={"reply": "30s"})
        viewers = [lab.viewer(proxy, station, identity, udp=n % 2 == 1) for n, identity in enumerate(("wmp9", "wmp7", "vlc", "wmp10"))]
        await together(watch(viewer, 25) for viewer in viewers)
        station.change(new)
        plays = [viewer.current for viewer in viewers]

        async def next_one(viewer):
            hr = await viewer.end(timeout=30)
            expect(hr == (0 if viewer.server_major < 9 and viewer.who.counters != "free" else 1), f"it was told 0x{hr:X}")
            viewer.judge_by(new.looped)
            await viewer.next_entry()
            expect(viewer.header_bytes == new.header.bytes, "the header is not the next entry's")
            await viewer.packets(25, timeout=40)

        await together(next_one(viewer) for viewer in viewers)
        judged(viewers, new)
        expect(len({play.locations[-1] for play in plays}) == 1, "not all got the last packet of the old entry")
        expect(len(origin.opened("live")) == 1, f"{len(origin.opened('live'))} sessions")
        session, = came_by(origin, "udp")
        expect(len(origin.messages("ReadBlock", session.number)) >= 2, "the next header was not asked for")
    await lab.settle()


@scenario
async def a_broadcast_over_udp_that_was_lost_comes_back(lab):
    encoder = Encoder(PAST, **FULL)
    origin, station = await lab.station(encoder)
    proxy = await lab.splitter(origin, scheme="mmsu")
    viewers = [lab.viewer(proxy, station, udp=udp) for udp in (None, True)]
    await together(watch(viewer, 30) for viewer in viewers)
    await origin.kill()
    await station.moves_on()
    await origin.revive()
    await more(viewers, 60, timeout=40)
    judged(viewers, encoder)
    still_playing(viewers)
    came_by(origin, "udp")
    await lab.settle()


@scenario
async def datagrams_of_others_never_reach_a_viewer(lab):
    encoder = Encoder(PAST, **FULL)
    origin, station = await lab.station(encoder)
    proxy = await lab.splitter(origin, scheme="mmsu")
    viewer = await watch(lab.viewer(proxy, station), 30)
    session, = came_by(origin, "udp")
    foreign = Encoder(PAST + 5, **FULL)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.2", 0))
        for ahead in range(40):
            number = session.sequence + ahead
            data = asf.strip(foreign.looped(foreign.location(number)))
            other.sendto(mmsp.data_packet(number, session.incarnation & 0xFF, number & 0xFF, data), session.datagrams.address)
            other.sendto(bytes([number & 0xFF]) * 30, session.datagrams.address)
    # And from the right address, what is no Data packet of ours: another incarnation, another size, nothing at all.
    pair = mmsp.data_packet(mmsp.PAIR_LOCATIONS[0], 0xFF, 0x10, bytes(mmsp.PAIR_PAYLOAD))
    for junk in (mmsp.data_packet(1, 0x77, 1, b"junk"), b"\x01\x02", b"", bytes(2000), pair):
        origin.outlet.send(junk, session.datagrams.address)
    await more([viewer], 60)
    judged([viewer], encoder)
    without_gaps([viewer])
    expect(len(origin.opened("live")) == 1, "the session was given up")
    await lab.settle()


@scenario
async def an_ipv6_origin_is_played_over_udp(lab):
    origin, title = await shelf(lab, Title(VOD, film(seconds=3.0)), host="::1", speed=2.0, **sky(0.05, 3))
    proxy = await lab.splitter(origin, scheme="mmsu")
    await all_of(player(lab, proxy, title))
    came_by(origin, "udp")
    await lab.settle()


@scenario
async def a_hundred_sessions_have_a_port_each(lab):
    names = [f"live{n}" for n in range(100)]
    origin = await lab.origin([Station(name, Encoder(1 + n % 50, step_ms=200)) for n, name in enumerate(names)], think=0.0)
    proxy = await lab.splitter(origin, scheme="mmsu")
    viewers = [lab.viewer(proxy, origin.points[name], name=name, timeout=20.0, udp=n % 2 == 0) for n, name in enumerate(names)]
    await together(watch(viewer, 10) for viewer in viewers)
    sessions = came_by(origin, "udp")
    ports = {session.datagrams.address for session in sessions}
    expect(len(ports) == 100, f"100 sessions have {len(ports)} ports")
    expect_none([name for name, viewer in zip(names, viewers) if viewer.deviations], "broadcasts with deviations")
    await lab.settle()
