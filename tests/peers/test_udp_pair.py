"""Packet-pair: three messages over TCP or two datagrams, for players that ask, where it is allowed, and never asked of an origin."""

from __future__ import annotations

import mmsp
from funnel import Udp
from lab import expect, scenario, watch
from udplab import got_by


def never_asked(origin):
    """What the proxy said upstream, whatever its player asked for."""
    for what, denied in (("Connect", mmsp.DISABLE_PACKET_PAIR), ("FunnelInfo", mmsp.DISABLE_PACKET_PAIR)):
        said = {e["fields"]["play_incarnation"] for e in origin.messages(what)}
        expect(said == {denied}, f"{what} asks the origin for {[hex(value) for value in said]}")


@scenario
async def a_packet_pair_over_tcp_is_three_messages(lab):
    origin, station = await lab.station(pair="grant")
    proxy = await lab.splitter(origin)
    for identity in ("wmp9", "wmp7", "wmp6"):
        viewer = await watch(lab.viewer(proxy, station, identity, pair=True), 3)
        expect(viewer.pair_agreed == mmsp.TCP_HIGH_ENTROPY and len(viewer.pairs) == 3, f"{identity} was not granted it")
    never_asked(origin)
    await lab.settle()


@scenario
async def a_packet_pair_over_udp_is_two_datagrams(lab):
    origin, station = await lab.station(pair="grant")
    proxy = await lab.splitter(origin)
    payloads = set()
    for identity in ("wmp9", "wmp7"):
        viewer = await watch(lab.viewer(proxy, station, identity, pair=True, udp=True), 3)
        got_by(viewer, "udp")
        expect(viewer.pair_agreed == mmsp.UDP_HIGH_ENTROPY and len(viewer.datagrams.pair) == 2, f"{identity} was not granted it")
        payloads |= {packet.payload for packet in viewer.datagrams.pair}
    expect(len(payloads) == 4, "two players got the same bytes")
    never_asked(origin)
    await lab.settle()


@scenario
async def a_packet_pair_is_sent_again_with_each_header(lab):
    origin, station = await lab.station()
    proxy = await lab.splitter(origin)
    viewer = lab.viewer(proxy, station, pair=True, udp=Udp(deaf_headers=1))
    await watch(viewer, 3)
    # The checks of each ReadBlock found two of them, or it would be a deviation.
    expect(len(viewer.datagrams.pair) == 2, f"{len(viewer.datagrams.pair)} packets the second time")
    await lab.settle()


@scenario
async def a_player_that_is_refused_udp_has_its_packet_pair_still(lab):
    origin, station = await lab.station()
    proxy = await lab.splitter(origin)
    viewer = await watch(lab.viewer(proxy, station, pair=True, udp=Udp(claims=80)), 3)
    got_by(viewer, "tcp")  # and no datagram of packet-pair went to port 80 or to its own
    await lab.settle()


@scenario
async def a_packet_pair_that_is_switched_off_is_refused(lab):
    origin, station = await lab.station()
    proxy = await lab.splitter(origin, packet_pair=False)
    for udp in (None, True):
        viewer = await watch(lab.viewer(proxy, station, pair=True, udp=udp), 3)
        expect(viewer.pair_agreed is None and not viewer.pairs, "it was granted")
        expect(viewer.connected_ex.play_incarnation == mmsp.DISABLE_PACKET_PAIR, "ReportConnectedEX grants it")
    await lab.settle()


@scenario
async def who_does_not_ask_gets_no_packet_pair(lab):
    origin, station = await lab.station()
    proxy = await lab.splitter(origin)
    for identity in ("wmp9", "ffmpeg", "vlc", "wms4"):
        for udp in (None, True):
            viewer = await watch(lab.viewer(proxy, station, identity, udp=udp), 3)
            expect(not viewer.pairs and viewer.pair_agreed is None, f"{identity} was granted what it had not asked for")
    await lab.settle()
