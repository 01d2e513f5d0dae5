"""Data over UDP out of the strict origin: the socket beside its listener, and what one session sent through it.

Over UDP the origin paces what it sends, keeps every Data packet by its Sequence number, and holds whoever asks for one again to
[MS-MMSP] 2.2.5 and 3.1.4.7.
"""

from __future__ import annotations

import asyncio
import socket
import time

SETTLED = 0.2  # seconds from the last datagram to what is said of it on TCP
MOST_ASKED = 12  # how often a client may ask for one packet
AFTER_END = 6.0  # seconds for which it may ask when its play is over: what it lost last, it learns last


class Outlet:
    """A socket on the port number of the origin's listener. It outlives `kill`."""

    def __init__(self, origin, host, port):
        self.origin = origin
        self.socket = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setblocking(False)
        self.socket.bind((host, port))
        asyncio.get_running_loop().add_reader(self.socket.fileno(), self._readable)

    def close(self):
        asyncio.get_running_loop().remove_reader(self.socket.fileno())
        self.socket.close()

    def send(self, datagram, address):
        if self.socket.fileno() < 0:
            return  # it was late
        try:
            self.socket.sendto(datagram, address)
        except (BlockingIOError, ConnectionRefusedError):
            pass  # a network may lose them, and a client may be gone

    def _readable(self):
        while True:
            try:
                datagram, address = self.socket.recvfrom(65536)
            except (BlockingIOError, ConnectionRefusedError):
                return
            config = self.origin.config
            config.weather_in.carry(self.origin.on_datagram, datagram, address[:2])


class Sender:
    """What one session sends to its client, and what that asks for again."""

    def __init__(self, session, address):
        self.session, self.config, self.address = session, session.config, address
        self.sent, self.asked, self.ended = {}, {}, None  # datagrams by Sequence; how often each was asked for
        self.free = self.last = 0.0
        self.requests = self.resent = 0
        self.unreported = set()  # packets that were asked for since the client's last report
        self.media_begun = False

    def send(self, datagram, sequence=None):
        """Out, as the weather is."""
        self.last = time.monotonic()
        if self.config.udp == "silent" or self.config.udp == "header" and self.media_begun:
            return
        for leaving in self.config.tamper(datagram, sequence) if self.config.tamper else [datagram]:
            self.config.weather.carry(self.session.origin.outlet.send, leaving, self.address)

    async def paced(self, datagram, bit_rate, sequence=None):
        """Sends it when it is due: no more than `bit_rate`, in steps of 50 ms at most."""
        now = time.monotonic()
        self.free = max(now, self.free)
        if self.free - now > 0.05 and not self.config.lumps:
            await asyncio.sleep(self.free - now)
        self.free += len(datagram) * 8 / bit_rate
        self.send(datagram, sequence)

    async def media(self, sequence, datagram, bit_rate):
        self.media_begun, self.ended = True, None
        self.sent[sequence] = datagram
        await self.paced(datagram, bit_rate, sequence)

    async def settled(self):
        """Waits until the last datagram had time to arrive."""
        if not self.config.hasty:
            await asyncio.sleep(max(0.0, self.last + SETTLED - time.monotonic()))

    def resend(self, source_id, numbers):
        """A request that names our session and comes from its client."""
        session = self.session
        self.requests += 1
        session.record("resend", numbers=list(numbers))
        if source_id != self.config.file_id & 0xFFFF:
            session.deviate("2.2.5", f"wSourceId is {source_id}, not {self.config.file_id & 0xFFFF}")
            return
        if len(set(numbers)) != len(numbers):
            session.deviate("2.2.5", f"a number twice in {numbers}")
        if session.state != "streaming" and (self.ended is None or time.monotonic() - self.ended > AFTER_END):
            session.deviate("3.1.4.7", f"a resend request while {session.state}")
        for number in numbers:
            self.asked[number] = self.asked.get(number, 0) + 1
            if self.asked[number] == MOST_ASKED:
                session.deviate("3.1.4.7", f"packet {number} is asked for {MOST_ASKED} times")
            if number not in self.sent:
                # What its last packet was, a client knows by asking for more.
                is_guess = self.ended is not None and number < session.sequence + 32
                text = f"packet {number} is asked for, {len(self.sent)} were sent"
                session.report([("note" if is_guess else "deviation", "3.1.4.7", text)])
                continue
            self.unreported.add(number)
            if self.config.resends:
                self.resent += 1
                datagram = self.sent[number]
                if self.config.resends == "changed":
                    datagram = datagram[:-1] + bytes([datagram[-1] ^ 1])
                self.send(datagram)
