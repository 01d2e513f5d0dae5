"""Data over UDP into the strict client: its socket, what it holds each datagram to, and how it mends what was lost.

Two layers. What comes off the wire is judged as loopback brings it: every datagram, once, in its order, from the right address, in
time, and a second time only when it was asked for. Behind that the client's own weather may lose some, and what is then missing is
asked for again as [MS-MMSP] 3.1.4.7 says. With `lossy` the network itself has weather, and only the second layer judges.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from dataclasses import dataclass, field

import mmsp
from weather import Meter, Weather

_TIMESTAMPS = 35  # SO_TIMESTAMPNS: when the kernel had a datagram, however late we read it
LONGEST = 0.5  # seconds before it asks again
SETTLED = 0.12  # seconds that must be between the last datagram and EndOfStream


@dataclass
class Udp:
    """How a client takes Data over UDP.

    `claims` and `says`: port and address in funnelName, where they are not those of its socket. `resends`: does it ask for what was
    lost, after `grace` seconds, then after twice that and so on, until `deadline`? `falls_back`: to TCP, when the server has no UDP.
    `deaf_headers`: the header does not arrive before so many requests for it were in vain. `lossy`: the network has weather.
    """

    port: int = 0
    claims: int | None = None
    says: str | None = None
    weather: Weather = field(default_factory=Weather)
    weather_out: Weather = field(default_factory=Weather)
    resends: bool = True
    grace: float = 0.03
    deadline: float = 4.0
    falls_back: bool = True
    deaf_headers: int = 0
    lossy: bool = False


class _Hole:
    def __init__(self, now, grace, is_guess=False):
        self.until_asked, self.wait, self.born, self.is_guess = now + grace, grace, now, is_guess


class Funnel:
    """One client's UDP socket. `held` counts what waits for its order."""

    def __init__(self, client, udp, here, there):
        self.client, self.udp, self.server, self.here = client, udp, there[:2], here[0]
        self.socket = socket.socket(socket.AF_INET6 if ":" in self.here else socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self.socket.setsockopt(socket.SOL_SOCKET, _TIMESTAMPS, 1)
        self.socket.setblocking(False)
        self.socket.bind((self.here, udp.port))
        self.port = self.socket.getsockname()[1]
        self.offset = time.monotonic() - time.time()
        self.loop = asyncio.get_running_loop()
        self.loop.add_reader(self.socket.fileno(), self.drain)
        self.headers, self.plays, self.is_closed = set(), set(), False  # incarnations that were asked for
        self.pair, self.expect_pair = [], False
        self.pieces, self.headers_asked = None, 0  # of the header that is awaited
        self.raw_next, self.originals, self.numbers = 0, {}, {}  # by Sequence; Sequence by datagram
        self.asked = {}  # Sequence: answers that may still come
        self.next, self.waiting, self.holes, self.given_up, self.early = 0, {}, {}, set(), []
        self.raw_at_start, self.asked_at, self.meter, self.header_meter, self.last_new = 0, None, None, None, None
        self.over, self.late, self.timer = None, [], None  # when TCP ended, and what came after it
        self.datagrams = self.bytes = self.again = 0
        self.requests = self.asked_for = self.recovered = self.resent_bytes = 0
        self.duplicates, self.lost, self.most_held = 0, [], 0

    @property
    def name(self):
        """`funnelName`, 2.2.4.18."""
        return f"\\\\{self.udp.says or self.here}\\UDP\\{self.port if self.udp.claims is None else self.udp.claims}\0"

    def close(self):
        if not self.is_closed:
            self.is_closed = True
            self.loop.remove_reader(self.socket.fileno())
            self.socket.close()
            if self.timer:
                self.timer.cancel()

    # -- off the wire --

    def drain(self):
        """Takes what is there; done before anything of TCP is read, so that what was sent first is judged first."""
        while not self.is_closed:
            try:
                data, ancillary, _, address = self.socket.recvmsg(65536, 64)
            except (BlockingIOError, ConnectionRefusedError):
                break
            came = time.monotonic()
            for level, kind, value in ancillary:
                if (level, kind) == (socket.SOL_SOCKET, _TIMESTAMPS):
                    seconds, nanoseconds = struct.unpack("qq", value)
                    came = seconds + nanoseconds / 1e9 + self.offset
            self._judge(data, address[:2], came)
        self.client.changed.set()

    def _judge(self, data, address, came):
        client = self.client
        self.datagrams += 1
        self.bytes += len(data)
        if self.over is not None:
            self.late.append((came - self.over, len(data)))
            return
        if address != self.server:
            client.deviate("3.2.5.11.1", f"a datagram from {address}, TCP is with {self.server}")
            return
        if client.funnel != "udp":
            what = "before the funnel was named" if client.funnel is None else "and Data is to come over TCP"
            client.deviate("3.2.5.11.1", f"a datagram, {what}")
            return
        if len(data) < 8 or len(data) != struct.unpack_from("<H", data, 6)[0]:
            client.deviate("2.2.2", f"PacketSize is not the {len(data)} bytes of the datagram {data[:8].hex(' ')}")
            return
        packet = mmsp.DataPacket(data)
        if packet.incarnation == 0xFF:
            self._judge_pair(packet)
        elif packet.incarnation in self.headers and packet.incarnation not in self.plays:
            self._judge_header(packet, came)
        elif packet.incarnation in self.plays:
            self._judge_media(data, packet, came)
        else:
            client.deviate("2.2.2", f"a datagram of incarnation 0x{packet.incarnation:02X}, which nothing asked for")

    def _judge_pair(self, packet):
        """4.4.1 by way of 3.2.5.8: two of them, before ReportReadBlock."""
        client = self.client
        if not self.expect_pair:
            client.deviate("3.2.5.8", "a packet-pair packet that nothing asked for")
            return
        number = len(self.pair)
        if number == 2 or packet.location_id != mmsp.PAIR_LOCATIONS[number] or packet.af_flags != 0x10:
            client.deviate("2.2.2", f"packet-pair packet {number + 1} has LocationId 0x{packet.location_id:08X} and AFFlags "
                                    f"0x{packet.af_flags:02X}")
            return
        if len(packet.payload) != mmsp.PAIR_PAYLOAD:
            client.deviate("3.2.5.8", f"a packet-pair packet of {len(packet.payload)} bytes, not {mmsp.PAIR_PAYLOAD}")
        client.check_random(packet.payload, "a packet-pair packet")
        if any(packet.payload[:64] == other.payload[:64] for other in self.pair):
            client.deviate("3.2.5.8", "both packet-pair packets carry the same bytes")
        self.pair.append(packet)

    def read_block_answered(self):
        """ReportReadBlock is there: so must the packet-pair be."""
        if self.expect_pair and len(self.pair) != 2 and not self.udp.lossy:
            self.client.deviate("3.2.5.8", f"{len(self.pair)} packet-pair packets before ReportReadBlock")
        self.expect_pair = False

    # -- the header --

    def ask_header(self, incarnation, size, piece, bit_rate):
        incarnation &= 0xFF
        self.headers_asked += 1
        self.headers.add(incarnation)
        self.plays.discard(incarnation)
        self.pieces = {"incarnation": incarnation, "size": size, "piece": piece, "parts": {}, "last": None, "next": 0}
        self.header_meter = Meter(bit_rate / 2, piece, least=1, began=time.monotonic())  # 3.2.5.8.1: never faster than the content
        self.expect_pair, self.pair = self.client.pair_agreed == mmsp.UDP_HIGH_ENTROPY, []

    def _judge_header(self, packet, came):
        state, client = self.pieces, self.client
        if state is None or packet.incarnation != state["incarnation"]:
            if client.cancelled is None:
                client.deviate("3.2.5.8.1", f"a header piece of incarnation 0x{packet.incarnation:02X} that nothing awaits")
            return
        if self.expect_pair and not self.udp.lossy:
            self.read_block_answered()
        if packet.af_flags not in (0x04, 0x0C):
            client.deviate("2.2.2", f"header AFFlags is 0x{packet.af_flags:02X}")
        if len(packet.payload) > state["piece"]:
            client.deviate("3.2.5.8.1", f"a header piece of {len(packet.payload)} bytes, the largest packet has {state['piece']}")
        wrong = self.header_meter.take(came, len(packet.payload))
        if wrong and not self.udp.lossy:
            client.deviate("3.2.5.8.1", f"the header came too fast: {wrong}")
        if not self.udp.lossy and packet.location_id != state["next"]:
            client.deviate("2.2.2", f"header LocationId is {packet.location_id}, not {state['next']}")
        state["next"] = packet.location_id + 1
        if self.headers_asked <= self.udp.deaf_headers:
            return
        self.udp.weather.carry(self._take_piece, packet)

    def _take_piece(self, packet):
        state = self.pieces
        if state is None or packet.incarnation != state["incarnation"]:
            return
        state["parts"][packet.location_id] = packet.payload
        if packet.af_flags & 0x08:
            state["last"] = packet.location_id
        if state["last"] is None or len(state["parts"]) != state["last"] + 1:
            return
        self.pieces = None
        self.client.take_header(b"".join(state["parts"][n] for n in sorted(state["parts"])), state)
        self.client.changed.set()

    # -- media --

    def ask_play(self, incarnation):
        """A start was sent: its media may come before its answer is read."""
        self.plays.add(incarnation & 0xFF)
        self.headers.discard(incarnation & 0xFF)
        self.meter, self.raw_at_start, self.asked_at = None, self.raw_next, time.monotonic()

    def started(self):
        """The answer is there. What was lost of the play before is of no interest."""
        self.next, self.waiting, self.holes = self.raw_at_start, {}, {}
        early, self.early = self.early, []
        for number, packet, came in early:
            self._deliver(number, packet, came)

    def _judge_media(self, data, packet, came):
        client = self.client
        number = self._number(data, packet)
        if number is None:
            return
        is_new = number not in self.originals
        if is_new:
            self.originals[number], self.numbers[data] = data, number
            self.raw_next = max(self.raw_next, number + 1)
            self.last_new = came
            is_over = client.current is None or client.current.ending is not None
            if not client.start_outstanding and (client.state != "streaming" or is_over) and not self.udp.lossy:
                client.deviate("3.2.5.11.1", f"Data (LocationId {packet.location_id}) while {client.state}"
                                             + (" after EndOfStream" if is_over else ""))
                return
            if self.meter is None:
                self.meter = Meter(client.bit_rate * max(1.0, abs(client.rate)), client.packet_size + 8, began=self.asked_at)
            wrong = self.meter.take(came, len(data))
            if wrong and not self.udp.lossy:
                client.deviate("3.2.5.11.1", f"media came too fast: {wrong}")
                self.meter.rate, self.meter.depth = float("inf"), float("inf")  # said once
        else:
            self.again += 1
            self.resent_bytes += len(data)
        self.udp.weather.carry(self._deliver, number, packet, came)

    def _number(self, data, packet):
        """The Sequence number behind AFFlags; `None` for what is not looked at further."""
        known = self.numbers.get(data)
        if known is not None and self.asked.get(known, 0):
            self.asked[known] -= 1
            return known
        step = (packet.af_flags - self.raw_next + 128) % 256 - 128
        if self.udp.lossy:
            number = self.raw_next + step
            if number < 0 or self.originals.get(number, data) != data:
                self.client.deviate("3.2.5.13", f"packet {number} came again with other bytes")
                return None
            return number
        if step == 0:
            return self.raw_next
        if step == 1 and self.raw_next % 256 == 0xFF and (self.client.start_outstanding or self.just_started):
            return self.raw_next + 1  # 2.2.2: 0xFE was the last, and a start followed
        if known is not None:
            self.client.deviate("3.2.5.13", f"packet {known} came again, and nobody asked for it")
            return None
        changed = [n for n, left in self.asked.items() if left and n % 256 == packet.af_flags]
        if changed:
            self.client.deviate("3.2.5.13", f"packet {changed[-1]} was resent with other bytes")
            return None
        self.client.deviate("3.2.5.11.1", f"AFFlags is {packet.af_flags} in Data {packet.location_id}, the running sequence says "
                                          f"{self.raw_next % 256}")
        return self.raw_next + step if step > 0 else None

    @property
    def just_started(self):
        return self.client.current is not None and self.raw_next == self.raw_at_start

    def _deliver(self, number, packet, came):
        client = self.client
        if client.start_outstanding and packet.incarnation == client.last_start & 0xFF:
            self.early.append((number, packet, came))
            return
        if number < self.next or number in self.waiting:
            self.duplicates += 1
            return
        hole = self.holes.pop(number, None)
        if hole and hole.wait > self.udp.grace:
            self.recovered += 1
        self.waiting[number] = (packet, came)
        self.most_held = max(self.most_held, len(self.waiting))
        self._advance()

    def _advance(self):
        client, now = self.client, time.monotonic()
        lost = False
        while self.waiting and (self.next in self.waiting or self._is_past(self.next)):
            packet, came = self.waiting.pop(self.next, (None, None))
            lost |= self.next in self.given_up
            self.next += 1
            if packet and client.current is not None and packet.incarnation == client.current.incarnation & 0xFF:
                client.take_media(packet, came, lost)
                lost = False
        for number in range(self.next, max(self.waiting, default=0)):
            if number not in self.waiting and number not in self.holes and not self._is_past(number):
                self.holes[number] = _Hole(now, self.udp.grace)
        self._mend_later()
        client.changed.set()

    def _is_past(self, number):
        """Is this number not awaited any more, though it did not come?"""
        return number in self.given_up or self._is_left_out(number)

    def _mend_later(self):
        if self.holes and self.timer is None:
            self.timer = self.loop.call_later(0.01, self._mend)

    def _is_left_out(self, number):
        """A number that was never sent: the one that follows 0xFE when a start does (2.2.2)."""
        if self.udp.lossy:
            return False
        return number < self.raw_next and number not in self.originals

    def end(self, hr):
        """EndOfStream is there, and not as the answer to a Stop: behind the last datagram, save where it tells of an error.

        What the last ones were is known by their count alone.
        """
        client, now = self.client, time.monotonic()
        if self.last_new is not None and now - self.last_new < SETTLED and not mmsp.failed(hr) and not self.udp.lossy:
            client.deviate("3.2.4.1", f"EndOfStream {(now - self.last_new) * 1000:.0f} ms after the last datagram, which may still "
                                      "be on its way")
        if not self.udp.resends:
            return
        upto = self.raw_next
        if self.udp.lossy and not client.opened.file_attributes & mmsp.BROADCAST and client.current.packets:
            upto = max(upto, self.next + min(32, client.opened.file_packet_count - 1 - client.current.packets[-1][0]))
        for number in range(self.next, upto):
            if number not in self.waiting and number not in self.holes and not self._is_past(number):
                self.holes[number] = _Hole(now, self.udp.grace, number >= self.raw_next)
        self._mend_later()

    @property
    def is_whole(self):
        """Is nothing awaited any more?"""
        return not self.holes and not self.waiting

    def summary(self):
        """What was counted."""
        return {"datagrams": self.datagrams, "bytes": self.bytes, "lost_on_purpose": self.udp.weather.lost, "again": self.again,
                "duplicates": self.duplicates, "requests": self.requests, "asked_for": self.asked_for,
                "recovered": self.recovered, "lost": self.lost, "most_held": self.most_held,
                "largest_lump": self.meter.largest if self.meter else 0}

    # -- what was lost --

    def _mend(self):
        """Asks for holes that are due, and gives up those that are too old."""
        self.timer = None
        if self.is_closed or self.over is not None:
            return
        self.drain()  # what has come is not lost
        now = time.monotonic()
        due = [number for number, hole in sorted(self.holes.items()) if now >= hole.until_asked]
        for number in due:
            hole = self.holes[number]
            hole.wait = min(2 * hole.wait, LONGEST)
            hole.until_asked = now + hole.wait
        if self.udp.resends and self.client.n_cubs is not None:
            for at in range(0, len(due), 32):
                self.ask(due[at : at + 32])
        for number in [n for n, hole in self.holes.items() if now - hole.born > self.udp.deadline]:
            self.given_up.add(number)
            if not self.holes.pop(number).is_guess:
                self.lost.append(number)
        self._advance()

    def ask(self, numbers):
        """RequestPacketListResend, 2.2.5."""
        self.requests += 1
        self.asked_for += len(numbers)
        datagram = mmsp.resend_request(self.client.n_cubs, self.client.opened.open_file_id & 0xFFFF, numbers)
        if self.udp.weather_out.carry(self._send, datagram):
            for number in numbers:
                self.asked[number] = self.asked.get(number, 0) + (2 if self.udp.weather_out.doubled else 1)

    def _send(self, datagram):
        if not self.is_closed:
            try:
                self.socket.sendto(datagram, self.server)
            except (BlockingIOError, ConnectionRefusedError):
                pass

    def forge(self, what, numbers=None):
        """A request for what was sent last, with one thing wrong; nothing may come of it."""
        numbers = numbers or list(range(max(0, self.raw_next - 8), self.raw_next))
        good, client_id, source = mmsp.RESEND_SIGNATURE, self.client.n_cubs, self.client.opened.open_file_id & 0xFFFF
        datagram = {
            "client id": lambda: mmsp.resend_request(client_id ^ 0x01000000, source, numbers),
            "source id": lambda: mmsp.resend_request(client_id, source ^ 0x80, numbers),
            "count of 0": lambda: mmsp.resend_request(client_id, source, numbers, count=0),
            "count of 33": lambda: mmsp.resend_request(client_id, source, (numbers * 33)[:33]),
            "count above its list": lambda: mmsp.resend_request(client_id, source, numbers, count=len(numbers) + 1),
            "signature": lambda: mmsp.resend_request(client_id, source, numbers, signature=good ^ 0x100),
            "numbers to come": lambda: mmsp.resend_request(client_id, source, [n + 5000 for n in numbers]),
            "half of it": lambda: mmsp.resend_request(client_id, source, numbers)[:10],
            "address": lambda: mmsp.resend_request(client_id, source, numbers),
        }[what]()
        if what != "address":
            self._send(datagram)
            return None
        forger = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        forger.setblocking(False)
        forger.bind(("127.0.0.2", 0))
        forger.sendto(datagram, self.server)
        return forger


FORGERIES = ("client id", "source id", "count of 0", "count of 33", "count above its list", "signature", "numbers to come",
             "half of it", "address")
