"""Data over UDP to players: every packet, in time, to the right place, and only as long as somebody is there."""

from __future__ import annotations

import json
import time

from broadcast import Encoder, Station
from cachelab import VOD, began, cacher, complete, filled, judge_part, player, seeks, shelf, to_the_end
from film import film
from funnel import Udp
from judge import disagreements
from lab import (PAST, expect, expect_hr, expect_soon, judged, more, refusal, scenario, still_playing, together, watch,
                 without_gaps)
from shelf import Title
from test_udp_judge import wordy
from udplab import all_of, got_by, nothing_more, stormy

KINDS = ("wmp9", "wmp7", "vlc", "wms4")


@scenario
async def a_file_arrives_whole_over_udp(lab):
    for packet_size in (1450, 8000):
        origin, title = await shelf(lab, Title(VOD, film(seconds=4.0, packet_size=packet_size)), speed=2.0)
        proxy = await lab.reverse(origin)
        viewers = [player(lab, proxy, title, identity, udp=True) for identity in KINDS[:3]]
        await together(watch(viewer, 3) for viewer in viewers)
        await proxy.metric_is(3, "mmsproxy_viewers", funnel="udp", content="on_demand")
        await proxy.metric_is(0, "mmsproxy_viewers", funnel="tcp")
        await together(to_the_end(viewer) for viewer in viewers)
        for viewer in viewers:
            got_by(viewer, "udp")
            expect(viewer.header_bytes == title.header(), "the header differs from the file's")
        expect(await proxy.metric("mmsproxy_viewer_sent_packets_total", funnel="udp") >= 3 * len(title.numbers),
               "the packets are not counted")
        await together(viewer.close() for viewer in viewers)
        await proxy.metric_is(0, "mmsproxy_viewers", funnel="udp")
    await lab.settle()


@scenario
async def cached_content_is_served_over_udp(lab):
    origin, title = await shelf(lab, Title(VOD, film(seconds=5.0), padding="whole"))
    proxy = await cacher(lab, origin)
    first = await all_of(player(lab, proxy, title, udp=True))
    got_by(first, "udp")
    await complete(proxy, title)
    before = origin.media(VOD)
    viewers = [player(lab, proxy, title, identity, udp=True) for identity in KINDS]
    await together(watch(viewer) for viewer in viewers)
    await together(viewer.end() for viewer in viewers)
    for viewer in viewers:
        got_by(viewer, "udp")
        judge_part(title, viewer.current)
        expect(len(viewer.current.packets) == len(title.numbers), f"{len(viewer.current.packets)} packets")
    expect(origin.media(VOD) == before, "the origin was asked again")
    await lab.settle()


@scenario
async def players_seek_stop_and_select_over_udp(lab):
    origin, title = await shelf(lab, Title(VOD, film(seconds=30.0, rates=(200_000, 60_000))))
    proxy = await cacher(lab, origin)
    await filled(lab, proxy, origin, title)

    async def walk(identity):
        viewer = await began(player(lab, proxy, title, identity, udp=True), 10)
        for where in ({"position": 20.0}, {"location": 40}, {"position": 5.0}):
            numbers, took = await seeks(viewer, 12, **where)
            expect_soon(took < 4.0, f"{where}: the first packet came after {took:.1f} s")
            expect(numbers == list(range(numbers[0], numbers[0] + len(numbers))), f"{where}: packets are missing: {numbers}")
        await viewer.select(entries=[(1, 0xFFFF, 0)])
        await viewer.packets(len(viewer.current.packets) + 10)
        await viewer.stop()
        await viewer.start(position=29.0)
        expect(await viewer.end() == 0, "the end is an error")
        got_by(viewer, "udp")
        return viewer

    await together(walk(identity) for identity in ("wmp9", "wmp7", "vlc"))
    rated = await began(player(lab, proxy, title, udp=True))
    await rated.stop()
    await rated.start(rate=5.0)
    await rated.packets(3)
    await lab.settle()


@scenario
async def tcp_and_udp_viewers_of_a_broadcast_get_the_same(lab):
    origin, station = await lab.station()
    proxy = await lab.splitter(origin)
    viewers = [lab.viewer(proxy, station, KINDS[n % 4], udp=n % 2 == 0) for n in range(12)]
    await together(watch(viewer, 40) for viewer in viewers)
    for number, viewer in enumerate(viewers):
        got_by(viewer, "udp" if number % 2 == 0 else "tcp")
    await proxy.metric_is(6, "mmsproxy_viewers", funnel="udp", content="broadcast")
    await proxy.metric_is(6, "mmsproxy_viewers", funnel="tcp", content="broadcast")
    judged(viewers, station.file)
    found = disagreements([viewer.current for viewer in viewers])
    expect(not found, f"viewers got different payloads: {found[:5]}")
    without_gaps(viewers)
    still_playing(viewers)
    expect(len(origin.opened("live")) == 1, "it was not split")
    station.finish()
    for viewer in viewers:
        expect(await viewer.end() == 0, "the end is an error")
    expect(len({viewer.current.locations[-1] for viewer in viewers}) == 1, "not all got the last packet")
    await lab.settle()


@scenario
async def a_joiner_over_udp_gets_its_burst_in_time_and_not_in_a_lump(lab):
    encoder = Encoder(PAST, packet_size=1400, full=True, step_ms=40, key_every=25)  # 280 kbit/s
    origin, station = await lab.station(encoder, on_air={"reach": 6.0})
    proxy = await lab.splitter(origin, split={"fast_start": "4s"})
    await watch(lab.viewer(proxy, station), 110)
    joiner = await watch(lab.viewer(proxy, station, udp=True), 160)
    judged([joiner], encoder)
    without_gaps([joiner])
    came = joiner.current.times
    gained = 100 * encoder.step_ms / 1000 - (came[99] - came[0])
    lab.figure(f"100 packets came {gained:.1f} s sooner than they were made; {joiner.datagrams.meter.largest} bytes at once at most")
    expect_soon(gained > 1.0, f"there was no burst: 4 s of content took {came[99] - came[0]:.1f} s")
    await lab.settle()


@scenario
async def the_address_in_a_funnel_name_is_not_believed(lab):
    origin, station = await lab.station()
    proxy = await lab.splitter(origin)
    viewers = [lab.viewer(proxy, station, udp=Udp(says=says)) for says in ("10.1.2.3", "127.0.0.77", "255.255.255.255")]
    await together(watch(viewer, 10) for viewer in viewers)
    for viewer in viewers:
        got_by(viewer, "udp")
    await lab.settle()


@scenario
async def ports_that_belong_to_others_are_refused(lab):
    origin, station = await lab.station()
    proxy = await lab.splitter(origin)
    for port in (0, 1, 53, 1023):
        viewer = lab.viewer(proxy, udp=Udp(claims=port, falls_back=False))
        expect_hr(await refusal(viewer.connect()), 0xC00D000C)
        viewer.hang_up()
        viewer.closed = True
    viewer = await watch(lab.viewer(proxy, station, udp=Udp(claims=1023)), 3)
    got_by(viewer, "tcp")
    await lab.settle()


@scenario
async def two_players_that_name_one_port_are_never_mixed(lab):
    """As two VLCs behind one NAT do, each with port 7000."""
    origin, station = await lab.station(name="live")
    origin.points["other"] = Station("other", Encoder(PAST + 1, first_location=50))
    proxy = await lab.splitter(origin)
    first = await watch(lab.viewer(proxy, station, "vlc", udp=True), 5)
    port = first.datagrams.port
    second = lab.viewer(proxy, origin.points["other"], "vlc", name="other", udp=Udp(claims=port))
    await watch(second, 5)
    got_by(first, "udp")
    got_by(second, "tcp")
    await more([first, second], 20)
    judged([first], station.file)
    judged([second], origin.points["other"].file)
    await proxy.metric_is(1, "mmsproxy_viewers", funnel="udp")
    await first.close()
    third = lab.viewer(proxy, origin.points["other"], name="other", udp=Udp(port=port))
    deadline = time.monotonic() + 20
    while True:  # the first one's end is known to the proxy when its socket is
        await third.connect()
        if third.funnel == "udp" or time.monotonic() > deadline:
            break
        third.hang_up()
        third.closed = True
        third = lab.viewer(proxy, origin.points["other"], name="other", udp=Udp(port=port))
    await third.open()
    await third.read_header()
    await third.start()
    await third.packets(10)
    got_by(third, "udp")
    await lab.settle()


@scenario
async def one_port_at_two_addresses_is_two_players(lab):
    origin, station = await lab.station()
    proxy = await lab.splitter(origin, listen={"mms": ["127.0.0.1:0", "127.0.0.3:0"], "admin": "127.0.0.1:0"})
    first = await watch(lab.viewer(proxy, station, udp=True), 3)
    other = lab.viewer(proxy, station, udp=Udp(port=first.datagrams.port), bind="127.0.0.9")
    await watch(other, 10)
    for viewer in (first, other):
        got_by(viewer, "udp")
    judged([first, other], station.file)
    await lab.settle()


@scenario
async def a_viewer_whose_connection_ends_gets_nothing_more(lab):
    encoder = Encoder(PAST, packet_size=1400, full=True, step_ms=20)
    origin, station = await lab.station(encoder)
    proxy = await lab.splitter(origin)
    gone, closed, stays = [await watch(lab.viewer(proxy, station, udp=True), 20) for _ in range(3)]
    gone.hang_up(listening=True)
    gone.closed = True
    closed.send("CloseFile", open_file_id=closed.opened.open_file_id)
    await closed.until(lambda: closed.broken is not None, "the close after CloseFile")
    closed.closed = True
    await nothing_more(gone)
    await nothing_more(closed)
    await more([stays], 10)
    await proxy.metric_is(1, "mmsproxy_viewers", funnel="udp")
    await lab.settle()


@scenario
async def a_viewer_that_closes_its_port_disturbs_nobody(lab):
    """Its system answers each datagram by "port unreachable", which comes back as an error of the socket that all share."""
    encoder = Encoder(PAST, packet_size=1400, full=True, step_ms=20)
    origin, station = await lab.station(encoder)
    proxy = await lab.splitter(origin)
    deaf, *others = [await watch(lab.viewer(proxy, station, udp=udp), 20) for udp in (True, True, True, None)]
    deaf.datagrams.close()
    await more(others, 120)
    without_gaps(others)
    judged(others, encoder)
    expect(deaf.broken is None, "its session was ended, and its TCP connection lives")
    await deaf.stop()
    await lab.settle()


@scenario
async def an_entry_reaches_tcp_and_udp_viewers(lab):
    past = Encoder(PAST, first_location=7000, first_send=90_000, first_presentation=90_000, first_object=77)
    new = wordy(Encoder(PAST + 1, width=640, packet_size=700), 3000)
    for version in ("9.1.1.3841", "4.1.0.3930"):
        origin, station = await lab.station(past, version=version, hold_entries=5.0)
        proxy = await lab.splitter(origin)
        udp = (True, False, stormy(0.05, 11), Udp(deaf_headers=2), True)
        viewers = [lab.viewer(proxy, station, ("wmp9", "wmp7", "wmp10", "wmp9", "vlc")[n], udp=how) for n, how in enumerate(udp)]
        await together(watch(viewer, 25) for viewer in viewers)
        station.change(new)

        async def next_one(viewer):
            hr = await viewer.end(timeout=30)
            expect(hr == (0 if viewer.server_major < 9 and viewer.who.counters != "free" else 1), f"it was told 0x{hr:X}")
            viewer.judge_by(new.looped)
            await viewer.next_entry()
            expect(viewer.header_bytes == new.header.bytes, "the header is not the next entry's")
            await viewer.packets(30, timeout=40)

        plays = [viewer.current for viewer in viewers]
        await together(next_one(viewer) for viewer in viewers)
        judged(viewers, new)
        still_playing(viewers)
        expect(len({play.locations[-1] for play in plays}) == 1, "not all got the last packet of the old entry")
        expect({viewer.current.locations[0] for viewer in viewers} == {new.location(0)}, "not all began at the first packet")
    await lab.settle()


@scenario
async def a_header_that_is_lost_is_sent_again(lab):
    encoder = wordy(Encoder(PAST, packet_size=1400), 9000)
    origin, station = await lab.station(encoder)
    proxy = await lab.splitter(origin)
    viewers = [lab.viewer(proxy, station, identity, udp=how) for identity, how in (
        ("wmp9", Udp(deaf_headers=2)), ("wmp7", stormy(0.05, 3)), ("vlc", Udp(deaf_headers=1)), ("wmp10", True))]
    await together(watch(viewer, 10) for viewer in viewers)
    for viewer in viewers:
        expect(viewer.header_bytes == encoder.header.bytes, "the header differs")
    judged([viewers[0], *viewers[2:]], encoder)
    await lab.settle()


@scenario
async def replies_leave_from_the_address_a_session_came_in_on(lab):
    origin, title = await shelf(lab, speed=2.0)
    origin.points["live"] = Station("live", Encoder(PAST))
    proxy = await lab.splitter(origin, listen={"mms": ["127.0.0.1:0", "[::1]:0", "0.0.0.0:0"], "admin": "127.0.0.1:0"})
    ports = [int(address.rpartition(":")[2]) for protocol, address in proxy.listeners if protocol == "mms"]
    expect(len(ports) == 3, f"it listens on {proxy.listeners}")
    ways = [("127.0.0.1", ports[0]), ("::1", ports[1]), ("127.0.0.1", ports[2]), ("127.0.0.9", ports[2]), ("127.0.0.10", ports[2])]
    viewers = [lab.viewer(proxy, origin.points["live"], KINDS[n % 2], udp=stormy(0.05, n)) for n in range(len(ways))]
    viewers += [player(lab, proxy, title, udp=True) for _ in ways]
    for viewer, way in zip(viewers, ways + ways):
        viewer.address = way
    # The client holds every datagram to the address and the port that its TCP connection is with; so it does answers to resends.
    await together(watch(viewer, 40) for viewer in viewers[: len(ways)])
    await together(all_of(viewer) for viewer in viewers[len(ways) :])
    for viewer in viewers:
        got_by(viewer, "udp")
    without_gaps(viewers[: len(ways)])
    await lab.settle()


@scenario
async def a_funnel_can_be_changed_before_anything_is_opened(lab):
    origin, station = await lab.station()
    proxy = await lab.splitter(origin)
    viewer = lab.viewer(proxy, station, udp=True)
    await viewer.connect()
    await viewer.connect_funnel("tcp", viewer.who.funnel_name)
    other = lab.viewer(proxy, station, udp=Udp(claims=viewer.datagrams.port))
    await other.connect()
    expect(other.funnel == "udp", "the port is not free again")
    other.hang_up()
    other.closed = True
    await viewer.open()
    await viewer.read_header()
    await viewer.start()
    await viewer.packets(5)
    got_by(viewer, "tcp")
    await lab.settle()


@scenario
async def a_udp_viewer_that_is_ended_by_the_operator_gets_nothing_more(lab):
    origin, station = await lab.station()
    proxy = await lab.splitter(origin)
    viewer = await watch(lab.viewer(proxy, station, udp=True), 5)
    _, body = await proxy.http("/api/v1/viewers")
    number = json.loads(body)["viewers"][0]["id"]
    status, _ = await proxy.http(f"/api/v1/viewers/{number}", "DELETE")
    expect(200 <= status < 300, f"DELETE answers {status}")
    await viewer.until(lambda: viewer.broken is not None, "the end")
    await nothing_more(viewer)
    viewer.hang_up()
    await lab.settle()
