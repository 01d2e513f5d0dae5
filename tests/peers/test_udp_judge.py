"""The peers over UDP, straight at each other: what they let pass, and what each of them sees the other do wrong."""

from __future__ import annotations

import asyncio
import socket
import struct

import asf
from broadcast import Encoder, Station
from cachelab import judge_whole
from film import film
from funnel import FORGERIES, Udp
from lab import PAST, expect, expect_none, judged, refusal, scenario, still_playing, together, watch, without_gaps
from shelf import Title
from weather import Meter, Weather

VOD = "vod/film.asf"


async def origin_of(lab, *points, **options):
    points = points or (Title(VOD, film(seconds=2.0)),)
    return await lab.origin(list(points), **({"file_id": 1, "expect_via": False, "speed": 2.0} | options)), points[0]


def weather(share, seed):
    return Udp(weather=Weather(share, seed), weather_out=Weather(share, seed + 1))


async def played(client):
    """All of a title, or what came of it before something went wrong."""
    await client.begin()
    await client.start()
    await client.end(40)
    return client


def wordy(encoder, size):
    """Gives this encoder a header of many bytes: an object that nobody knows, in front of the others (ASF 3.1)."""
    data = encoder.header.bytes
    whole, count = struct.unpack_from("<QI", data, 16)
    more = bytes(range(16)) + struct.pack("<Q", 24 + size) + bytes(size)
    encoder.header = asf.AsfHeader(data[:16] + struct.pack("<QI", whole + len(more), count + 1) + data[28:30] + more + data[30:])
    return encoder


@scenario
async def the_peers_agree_over_udp(lab):
    origin, title = await origin_of(lab, Title(VOD, film(seconds=4.0)), header_piece=100)
    shares = (0.0, 0.01, 0.05, 0.05)
    clients = [lab.straight(origin, VOD, ("wmp9", "wmp6", "wmp7", "wmp10")[n], udp=weather(share, 10 * n))
               for n, share in enumerate(shares)]
    await together(played(client) for client in clients)
    for client in clients:
        judge_whole(title, client.current)
        expect(not client.datagrams.lost, f"{client.datagrams.lost} were given up")
    expect(clients[0].datagrams.again == 0, "packets came again, and nothing was lost")
    expect(clients[3].datagrams.recovered > 3, f"{clients[3].datagrams.summary()}: nothing was mended")
    worst = await played(lab.straight(origin, VOD, udp=weather(0.2, 7)))
    expect(worst.current.end == 0 and len(worst.current.packets) > 0.9 * len(title.numbers), f"{worst.datagrams.summary()}")
    await lab.settle()


@scenario
async def the_peers_agree_on_broadcasts_over_udp(lab):
    past, new = Encoder(PAST), Encoder(PAST + 1, width=640, packet_size=500)
    origin, station = await origin_of(lab, Station("live", past, reach=2.0))
    clients = [lab.straight(origin, "live", identity, udp=weather(share, 3))
               for identity, share in (("wmp9", 0.0), ("wmp7", 0.0), ("wmp9", 0.05))]
    await together(watch(client, 60) for client in clients)
    judged(clients, past)
    without_gaps(clients)
    station.change(new)

    async def next_one(client):
        expect(await client.end(40) == 1, "the entry ended with an error")
        client.judge_by(new.looped)
        await client.next_entry()
        expect(client.header_bytes == new.header.bytes, "the header is not the next entry's")
        await client.packets(20)

    await together(next_one(client) for client in clients)
    judged(clients, new)
    expect({client.current.locations[0] for client in clients} == {0}, "the entry does not begin at its first packet")
    still_playing(clients)
    await lab.settle()


@scenario
async def a_header_that_does_not_arrive_is_asked_for_again(lab):
    origin, title = await origin_of(lab)
    client = await played(lab.straight(origin, VOD, udp=Udp(deaf_headers=2)))
    judge_whole(title, client.current)
    expect(len(origin.messages("ReadBlock")) == 3, f"{len(origin.messages('ReadBlock'))} ReadBlock")
    expect(len(origin.messages("CancelReadBlock")) == 2, f"{len(origin.messages('CancelReadBlock'))} CancelReadBlock")
    await lab.settle()


@scenario
async def an_origin_without_udp_is_played_over_tcp(lab):
    origin, title = await origin_of(lab, udp="refuse")
    client = await played(lab.straight(origin, VOD, udp=True))
    expect(client.funnel == "tcp" and not client.datagrams.datagrams, "it came over UDP")
    judge_whole(title, client.current)
    expect(await refusal(lab.straight(origin, VOD, udp=Udp(falls_back=False)).connect()) == 0xC00D000C, "another refusal")
    await lab.settle()


def _again(datagram, _):
    return [datagram, datagram]


def _swap():
    kept = []

    def swap(datagram, sequence):
        if sequence == 9:
            kept.append(datagram)
            return []
        return [datagram, *kept] if sequence == 10 else [datagram]

    return swap


def _patched(at, value, only_media=True):
    def patch(datagram, sequence):
        if sequence is None and only_media:
            return [datagram]
        return [datagram[:at] + bytes([value]) + datagram[at + 1 :]]

    return patch


def _from(address):
    """Sends from somewhere else."""
    def send(datagram, _):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            other.bind((address, 0))
            other.sendto(datagram, send.to)
        return []

    return send


WRONG = {
    "TCP is with": {"tamper": _from("127.0.0.1")},
    "a datagram from ('127.0.0.2'": {"tamper": _from("127.0.0.2")},
    "PacketSize is not": {"tamper": lambda datagram, _: [datagram + b"\0"]},
    "the running sequence says": {"tamper": lambda datagram, sequence: [] if sequence == 9 else [datagram]},
    "the running sequence says 9": {"tamper": _swap()},
    "nobody asked for it": {"tamper": lambda datagram, sequence: [datagram] * (2 if sequence == 9 else 1)},
    "which nothing asked for": {"tamper": _patched(4, 0x77)},
    "header AFFlags is 0x08": {"tamper": lambda d, sequence: [d[:5] + b"\x08" + d[6:] if sequence is None else d]},
    "header LocationId is": {"tamper": lambda d, sequence: [b"\x01" + d[1:], d] if sequence is None else [d]},
    "media came too fast": {"lumps": True, "points": [lambda: Title(VOD, film(seconds=2.0), speed=float("inf"))]},
    "ms after the last datagram": {"hasty": True},
    "the header came too fast": {"lumps": True, "header_piece": 50,
                                 "points": [lambda: Station("live", wordy(Encoder(PAST, step_ms=500), 4000))], "name": "live"},
    "was resent with other bytes": {"resends": "changed", "udp": weather(0.1, 1)},
    "a payload of stream": {"tamper": lambda d, sequence: [d[:-1] + bytes([d[-1] ^ 1]) if sequence == 12 else d]},
}


def _seen():
    for text, how in WRONG.items():
        async def seen(lab, text=text, how=how):
            # Haste is not to be seen where both stood still in between.
            for _ in range(3 if {"lumps", "hasty"} & set(how) else 1):
                found = await _deviations(lab, **how)
                if any(text in deviation for deviation in found):
                    return
            expect(False, f"{text!r} is not in {found[:5]}")

        scenario(seen, name=f"the_client_sees_over_udp_{text.replace(' ', '_')}")


async def _deviations(lab, *, udp=None, name=VOD, points=(), tamper=None, **how):
    """What the client has to say of an origin that is as wrong as this."""
    origin, _ = await origin_of(lab, *(point() for point in points), tamper=tamper, **how)
    client = lab.straight(origin, name, udp=udp or Udp(), timeout=10.0)
    await client.connect()
    if tamper:
        tamper.__dict__["to"] = (client.datagrams.here, client.datagrams.port)
    try:
        await client.open()
        await client.read_header()
        await client.start()
        await (client.end(4) if name == VOD else client.packets(3))
    except Exception as error:
        expect(client.deviations, f"it fails without a deviation: {error!r}")
    return client.deviations


_seen()


@scenario
async def the_client_sees_datagrams_that_it_is_not_to_get(lab):
    origin, _ = await origin_of(lab)

    async def gets(when, text):
        client = lab.straight(origin, VOD, udp=True, timeout=3.0)
        origin.config.udp = "refuse" if when == "tcp" else "serve"
        if when == "early":
            origin.config.think = 0.3
            connecting = asyncio.create_task(client.connect())
            await origin.wait_message("Connect", len(origin.messages("Connect")) + 1)
            origin.outlet.send(b"12345678", (client.datagrams.here, client.datagrams.port))
            await connecting
            origin.config.think = 0.005
        else:
            await client.connect()
        to = (client.datagrams.here, client.datagrams.port)
        if when not in ("early", "tcp"):
            await client.open()
            await client.read_header()
            await client.start()
            last = await client.packets(3)
            if when == "stopped":
                await client.stop()
            else:
                await client.end(10)
            expect(last.packets, "nothing came")
        before = 0 if when == "early" else len(client.deviations)
        more = client.datagrams.raw_next
        origin.outlet.send(bytes([0, 1, 0, 0, (client.last_start or 9) & 0xFF, more & 0xFF, 12, 0]) + b"more", to)
        await client.until(lambda: len(client.deviations) > before, f"a deviation when {when}")
        expect(text in client.deviations[before], f"{text!r} is not in {client.deviations[before]!r}")
        client.hang_up()

    await gets("early", "before the funnel was named")
    await gets("tcp", "Data is to come over TCP")
    await gets("stopped", "while ready")
    await gets("ended", "while ready")
    silent = lab.straight(origin, VOD, udp=True)
    await silent.begin()
    await silent.start()
    await silent.packets(3)
    silent.hang_up(listening=True)
    origin.outlet.send(b"12345678", (silent.datagrams.here, silent.datagrams.port))
    await silent.until(lambda: silent.datagrams.late, "a datagram after the end of TCP is not counted")


@scenario
async def the_meter_measures(lab):
    steady, early = Meter(300_000, 1450), Meter(300_000, 1450)
    expect(not any(steady.take(n * 0.0386, 1450) for n in range(400)), "it finds fault with a steady stream")
    expect(not any(early.take(n * 0.0193, 1450) for n in range(400)), "it finds fault with twice the bit rate")
    expect(any(early.take(8 + n * 0.0130, 1450) for n in range(3000)), "three times the bit rate pass")
    late = Meter(300_000, 1450)
    expect(not late.take(0.0, 1450), "the first one is a fault")
    expect(not any(late.take(2.0, 1450) for _ in range(30)), "what was held up by the sender is a fault")
    expect(any(late.take(2.001, 1450) for _ in range(70)), "140 KiB at once pass")
    lump = Meter(300_000, 1450)
    expect(any(lump.take(0.001 * n, 1450) for n in range(26)), "a second at once passes at the beginning")


@scenario
async def the_weather_is_what_its_seed_says(lab):
    for share in (0.0, 0.05, 0.2):
        came = [[], []]
        for out in came:
            sky = Weather(share, 5, late=0.0)
            for number in range(2000):
                sky.carry(out.append, number)
        expect(came[0] == came[1], "the same seed gave another weather")
        lost, twice = 2000 - len(set(came[0])), len(came[0]) - len(set(came[0]))
        for what in (lost, twice):
            expect(abs(what - 2000 * share) <= 2000 * share * 0.3, f"{what} of 2000 at {share}")
        expect(sky.is_clear == (share == 0.0), "is_clear is wrong")


REFUSED = {"client id": "is of nobody on UDP", "source id": "wSourceId is", "count of 0": "wNumPackets is 0",
           "count of 33": "wNumPackets is 33", "count above its list": "bytes for 9 numbers", "signature": "Signature is",
           "numbers to come": "were sent", "half of it": "a resend request of 10 bytes", "address": "from 127.0.0.2"}


@scenario
async def the_origin_sees_forged_resend_requests(lab):
    expect(set(REFUSED) == set(FORGERIES), "forgeries without a proof")
    origin, _ = await origin_of(lab, Station("live", Encoder(PAST)))
    client = await watch(lab.straight(origin, "live", udp=True), 20)
    for what, text in REFUSED.items():
        before = len(origin.deviations)
        forger = client.datagrams.forge(what)
        await origin.wait_for(lambda before=before: len(origin.deviations) > before)
        expect(text in origin.deviations[-1], f"{what}: {text!r} is not in {origin.deviations[-1]!r}")
        if forger:
            forger.close()
    client.datagrams.ask([5, 6])
    await client.until(lambda: client.datagrams.again == 2, "what was asked for rightly")
    for _ in range(12):
        client.datagrams.ask([7])
    await origin.wait_for(lambda: "asked for 12 times" in origin.deviations[-1])
    expect_none(client.deviations, "toward the player")


@scenario
async def the_origin_sees_what_else_a_client_does_wrong_over_udp(lab):
    async def sees(text, work, **udp):
        origin, _ = await origin_of(lab)
        client = lab.straight(origin, VOD, udp=Udp(**udp))
        await client.connect()
        await client.open()
        await work(client)
        await origin.wait_for(lambda: any(text in d for d in origin.deviations))
        client.hang_up()

    async def nothing(_client):
        pass

    async def cancels_at_once(client):
        await client.read_header(cancel=True)

    async def asks_when_ready(client):
        await client.read_header()
        client.datagrams.ask([0])

    await sees("funnelName says 10.1.2.3", nothing, says="10.1.2.3")
    await sees("asks for port 1000", nothing, claims=1000)
    await sees("the Header timer expired within a second", cancels_at_once)
    await sees("a resend request while ready", asks_when_ready)


def _pairs():
    for transport in ("tcp", "udp"):
        for how, text in {"grant": "", "same": "carry the same bytes", "short": "bytes, not", "late": "before ReportReadBlock"}.items():
            if (transport, how) == ("tcp", "late"):
                continue

            async def pair(lab, transport=transport, how=how, text=text):
                origin, _ = await origin_of(lab, pair=how)
                client = lab.straight(origin, VOD, pair=True, udp=True if transport == "udp" else None)
                await client.begin()
                await client.start()
                await client.packets(3)
                expect(client.pair_agreed, "it was not granted")
                if text:
                    expect(any(text in d for d in client.deviations), f"{text!r} is not in {client.deviations}")
                else:
                    got = len(client.datagrams.pair) if transport == "udp" else len(client.pairs)
                    expect(got == (2 if transport == "udp" else 3), f"{got} packets of packet-pair")
                    await lab.settle()

            scenario(pair, name=f"a_packet_pair_over_{transport}_that_is_{how}_is_judged")


_pairs()
