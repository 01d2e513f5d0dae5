#!/usr/bin/env python3
"""An MMS origin on loopback that holds its client to every MUST of [MS-MMSP] 3.1 and of the message syntax.

As a command it serves files (`--file`, `--broadcast`, `--playlist`) and writes each message and each breach as a JSON
line to `--log`; as a library (`Origin`) it lets a test await what arrived. See README.md for the faults.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import hashlib
import json
import os
import random
import socket
import struct
import sys
import time
from dataclasses import dataclass, field

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import asf  # noqa: E402
import mmsp  # noqa: E402
from outlet import Outlet, Sender  # noqa: E402
from still import STILL  # noqa: E402
from weather import Weather  # noqa: E402

FAULTS = ("refuse", "stall-connect", "stall-open", "stall-media", "close-mid", "garbage", "huge-length", "huge-header", "bad-asf")
NO_LIMIT = (0, 0x00FFFFFF)
CROSSING = 1.0  # seconds in which a client may not have read yet what we said
ESTABLISHED = 1  # as TCP_INFO says it
HEADER_TIMER = 0.95  # seconds that a client waits for the header at least, and a little for its clock


class Point:
    """What one name stands for: a file, a looped file as a broadcast, or files one after the other."""

    auth, think, refuses, hangs, speed, attributes, gates = "", 0.0, None, False, None, None, True  # see `Title`

    def __init__(self, name, paths, kind="file", ends=None):
        self.name, self.kind, self.ends = name, kind, ends
        self.files = [path if isinstance(path, asf.AsfFile) else asf.AsfFile(path) for path in paths]
        self.began = None

    @property
    def file(self):
        return self.files[0]

    def header(self, entry=0):
        header = self.files[entry].header
        return header.as_broadcast() if self.kind == "broadcast" else header.bytes

    def edition(self):
        return self

    def form(self, data):
        """A packet without its padding."""
        return asf.strip(data)

    def skips_now(self, number, waiting):
        return False

    def breaks_now(self, sent):
        return False

    def live_location(self, speed):
        """Where a broadcast is now."""
        if self.began is None:
            self.began = STILL.clock()
        now_ms = (STILL.clock() - self.began) * 1000 * speed
        turn, rest = divmod(now_ms, self.file.period_ms)
        number = 0
        for candidate, packet in enumerate(self.file.parsed):
            if packet.send_time > rest:
                break
            number = candidate
        return int(turn) * len(self.file.packets) + number


@dataclass
class Config:
    points: list = field(default_factory=list)
    version: str = "9.1.1.3841"
    auth: str = ""
    user: str = "viewer"
    password: str = "secret"
    redirects: dict = field(default_factory=dict)  # name or "*": URL
    faults: dict = field(default_factory=dict)  # name or "*": one of FAULTS
    fault_after: int = 10  # packets before stall-media, close-mid, garbage
    ping: float = 0.0
    ping_early: bool = False
    file_id: int = 1
    think: float = 0.0  # waits so long before each reply, to catch a client that does not wait for it
    speed: float = 1.0
    strip: bool = True
    header_piece: int = 0
    expect_via: bool = False
    host: str = "127.0.0.1"
    port: int = 0
    log: object = None
    hold_entries: float = 0.0  # after a StreamChange, wait for the client's start at most so long
    way: object = None  # a `Way` that all sessions share
    any_query: bool = False  # a name that is not there is looked up without its query
    udp: str = "serve"  # "refuse": DisconnectedFunnel; "silent": no datagram; "header": that alone
    weather: Weather = field(default_factory=Weather)  # of datagrams to clients
    weather_in: Weather = field(default_factory=Weather)  # and from them
    resends: object = True  # False: none; "changed": with another last byte
    lumps: bool = False  # datagrams leave as soon as they are there
    hasty: bool = False  # EndOfStream does not wait for the last datagram
    tamper: object = None  # (datagram, its Sequence or `None`) to the datagrams that leave in its place
    pair: str = ""  # "grant": to who asks for packet-pair; "same", "short", "late": wrongly


class Origin:
    """The listener and what all its sessions said."""

    def __init__(self, config):
        self.config, self.log, self.sessions = config, [], []
        self.points = {point.name: point for point in config.points}
        self.port, self.server, self.changed = None, None, asyncio.Event()
        self.knocks, self.knocking = [], False  # when somebody came while we were dead, and whether we count that
        self.connected_at_once = 0
        self.outlet, self.place = None, None  # both outlive `kill`: while nobody listens, nobody else may take the port

    async def start(self):
        for _ in range(20):  # a port that is free for TCP may be another's for UDP
            if self.outlet:
                break
            self.place = socket.socket(socket.AF_INET6 if ":" in self.config.host else socket.AF_INET)
            self.place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self.place.bind((self.config.host, self.config.port))
            self.port = self.place.getsockname()[1]
            try:
                self.outlet = Outlet(self, self.config.host, self.port)
            except OSError:
                self.place.close()
                if self.config.port:
                    raise
        self.server = await asyncio.start_server(self._accept, self.config.host, self.port, backlog=1024)
        if self.config.faults.get("*") == "refuse":
            self.server.close()
        return self

    @property
    def where(self):
        """host:port, as in a URL."""
        return f"[{self.config.host}]:{self.port}" if ":" in self.config.host else f"{self.config.host}:{self.port}"

    async def kill(self, knocking=False):
        """As a process that dies: all connections are reset. With `knocking` whoever comes is counted and reset."""
        await self._end()
        self.knocking = knocking
        if knocking:
            await self.start()

    async def revive(self, *points):
        """Listens again on the same port, with other content where `points` names some."""
        self.server.close()
        self.knocking = False
        self.points.update({point.name: point for point in points})
        await self.start()

    def stall(self):
        """Whoever is connected hears nothing any more; who comes later does."""
        for session in self.sessions:
            session.stalled = session.broken = True

    async def _accept(self, reader, writer):
        if self.knocking:
            self.knocks.append(time.monotonic())
            self.changed.set()
            writer.transport.abort()
            return
        session = Session(self, len(self.sessions) + 1, reader, writer)
        session.task = asyncio.current_task()
        self.sessions.append(session)
        self.connected_at_once = max(self.connected_at_once, sum(s.is_there for s in self.sessions))
        try:
            await session.run()
        except asyncio.CancelledError:
            pass  # `stop` ends the sessions that wait for ever
        finally:
            session.ended = True
            session.record("ended")

    async def stop(self):
        await self._end()
        if self.outlet:
            self.outlet.close()
            self.place.close()
            self.outlet = None

    async def _end(self):
        self.server.close()
        for session in self.sessions:
            session.abort()
            session.task.cancel()
        await asyncio.gather(*(session.task for session in self.sessions), return_exceptions=True)

    def on_datagram(self, datagram, address):
        """A resend request finds its session by dwClientId and the address it came from."""
        def deviate(section, text):
            self.write({"t": 0.0, "session": 0, "event": "deviation", "deviation": text, "section": section})

        try:
            client_id, source_id, numbers = mmsp.decode_resend(datagram)
        except mmsp.Malformed as error:
            return deviate(error.section, str(error))
        session = next((s for s in self.sessions if s.client_id == client_id), None)
        if session is None or session.datagrams is None:
            return deviate("2.2.5", f"dwClientId 0x{client_id:08X} is of nobody on UDP")
        if address[0] != session.peer[0]:
            return deviate("2.2.5", f"a resend request from {address[0]}, the session is with {session.peer[0]}")
        if session.ended or session.stalled:
            return None
        return session.datagrams.resend(source_id, numbers)

    def write(self, entry):
        self.log.append(entry)
        if self.config.log:
            self.config.log.write(json.dumps(entry) + "\n")
            self.config.log.flush()
        self.changed.set()

    @property
    def deviations(self):
        return [f"session {e['session']}: {e['deviation']} ([MS-MMSP] {e['section']})" for e in self.log if "deviation" in e]

    def messages(self, name, session=None):
        return [e for e in self.log if e.get("message") == name and session in (None, e["session"])]

    def opened(self, name):
        """The sessions that asked for this content."""
        asked = {e["session"] for e in self.messages("OpenFile") if e["fields"]["file_name"].split("\0")[0] == name}
        return [session for session in self.sessions if session.number in asked]

    def opens(self, name):
        """How often this content was opened with success."""
        return sum(e["event"] == "opened" and e["content"] == name for e in self.log)

    def played(self, name):
        """The sessions that were sent media of this content."""
        return [session for session in self.sessions if session.point and session.point.name == name and session.numbers]

    def media(self, name):
        """Media bytes sent of this content, over all sessions."""
        return sum(session.media_bytes for session in self.played(name))

    def at_once(self, name):
        """How many sessions at most had this content open at a time."""
        return max((e["at_once"] for e in self.log if e["event"] == "opened" and e["content"] == name), default=0)

    async def wait_for(self, condition, timeout=20.0):
        """Waits until `condition()` is true; raises TimeoutError."""
        async with asyncio.timeout(timeout):
            while not condition():
                self.changed.clear()
                await self.changed.wait()

    async def wait_message(self, name, count=1, timeout=20.0):
        await self.wait_for(lambda: len(self.messages(name)) >= count, timeout)
        return self.messages(name)[count - 1]

    async def wait_all_ended(self, timeout=20.0):
        await self.wait_for(lambda: all(s.ended for s in self.sessions), timeout)


class Over(Exception):
    """The session is done; the connection is to be closed."""


class Session:
    """One client. `state` is what it may say next."""

    def __init__(self, origin, number, reader, writer):
        self.origin, self.config, self.number = origin, origin.config, number
        self.reader, self.writer = reader, writer
        self.peer = writer.get_extra_info("peername")[:2]
        self.datagrams = None  # a `Sender` on UDP
        self.header_asked, self.header_due = [], 0.0  # incarnations of this header's ReadBlocks; when they began at the earliest
        self.state, self.ended, self.broken = "connect", False, False
        self.inbox, self.arrived = [], asyncio.Event()
        self.sent, self.received = 0, 0
        self.began = self.spoke = time.monotonic()
        self.name = mmsp.SubscriberName("")
        self.found, self.point, self.entry, self.opened, self.closed_file = None, None, 0, False, False
        self.pair, self.asked_udp_pair = False, False
        self.client_id = random.SystemRandom().getrandbits(32)
        self.scheme, self.next_shared, self.next_header, self.next_play = None, 1, 1, 9
        self.selection, self.switched, self.joined, self.replacing = {}, False, set(), {}
        self.sequence, self.incarnation, self.last_start, self.start_outstanding = 0, None, None, False
        self.streaming, self.media_sent, self.stalled = None, 0, False
        self.media_bytes, self.numbers, self.times = 0, [], []  # LocationIds, in the order in which they were sent, and when
        self.log_due, self.log_due_since = None, 0.0
        self.pings = []
        self.challenge, self.nonce, self.auth = None, os.urandom(8), ""

    # -- the record --

    def record(self, event, **more):
        self.origin.write({"t": round(time.monotonic() - self.began, 4), "session": self.number, "event": event, **more})

    def deviate(self, section, text):
        self.record("deviation", deviation=text, section=section)

    def report(self, found):
        for level, section, text in found:
            if level == "deviation":
                self.deviate(section, text)
            else:
                self.record("note", note=text, section=section)

    # -- sending --

    def send(self, name, **fields):
        self.writer.write(mmsp.packet([mmsp.encode(name, **fields)], self.sent))
        self.sent += 1
        if name != "Ping":
            self.spoke = time.monotonic()

    async def reply(self, to, name, allowed=(), **fields):
        """Answers after a pause in which nothing but `allowed` (and Pong) may come."""
        if self.config.think:
            await asyncio.sleep(self.config.think)
        if self.datagrams and any(message.name == "CancelReadBlock" for message in self.inbox):
            allowed = (*allowed, "CancelReadBlock", "ReadBlock")  # 3.1.6.1: the Header timer waits for no reply
        for message in self.inbox:
            if message.name not in (*allowed, "Pong", "CloseFile"):
                self.deviate("3.1.5", f"{message.name} before the reply to {to}")
        self.send(name, **fields)

    @property
    def is_there(self):
        """Has its client not left yet? One that has may be a while in our queue."""
        wire = self.writer.get_extra_info("socket")
        return not self.ended and wire.fileno() >= 0 and wire.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == ESTABLISHED

    @property
    def below_9(self):
        return int(self.config.version.split(".")[0]) < 9

    def fault(self):
        name = self.point.name if self.point else None
        return self.config.faults.get(name) or self.config.faults.get("*")

    def abort(self):
        self.broken = True
        if self.streaming:
            self.streaming.cancel()
        self.writer.transport.abort()

    # -- life --

    async def run(self):
        receiver = asyncio.create_task(self._receive())
        pinger = asyncio.create_task(self._ping())
        self.record("connected")
        try:
            while True:
                while not self.inbox:
                    if receiver.done():
                        raise Over
                    self.arrived.clear()
                    await self.arrived.wait()
                await self._handle(self.inbox.pop(0))
        except Over:
            pass
        except (ConnectionError, asyncio.IncompleteReadError):
            self.broken = True
        except mmsp.Malformed as error:
            self.deviate(error.section, str(error))
        finally:
            for task in (receiver, pinger, self.streaming):
                if task:
                    task.cancel()
            self._check_end()
            try:
                self.writer.close()
            except ConnectionError:
                pass

    async def _receive(self):
        deframer = mmsp.Deframer(data_allowed=False)
        try:
            while True:
                data = await self.reader.read(65536)
                if not data:
                    break
                for control in deframer.feed(data):
                    self.report(mmsp.check_packet(control, self.received))
                    self.received += 1
                    for raw in control.messages:
                        message = mmsp.decode(raw)
                        self._record_message(message)
                        self.report(mmsp.check_message(message))
                        if self.stalled:
                            continue
                        if message.name == "Pong":
                            self._pong()
                        else:
                            self.inbox.append(message)
                self.arrived.set()
        except mmsp.Malformed as error:
            self.deviate(error.section, str(error))
        except ConnectionError as error:
            if not self.broken and not self.closed_file:
                self.record("reset", error=str(error))
        finally:
            self.arrived.set()

    def _record_message(self, message):
        fields = {}
        for name, value in message.fields.items():
            fields[name] = value.hex() if isinstance(value, bytes) else value
        more = {}
        if message.name == "Connect":
            more["subscriber_name"] = mmsp.SubscriberName(message.subscriber_name).fields()
        self.record("message", message=message.name, fields=fields, size=message.size, **more)

    async def _ping(self):
        if not self.config.ping:
            return
        while True:
            await asyncio.sleep(self.config.ping)
            if self.stalled:
                continue
            if self.last_start is not None or self.config.ping_early and self.state != "connect":
                self.pings.append(time.monotonic())
                self.send("Ping")

    def _pong(self):
        if self.pings:
            self.pings.pop(0)
        else:
            self.record("note", note="an unasked Pong", section="3.1.5.13")

    def _check_end(self):
        if self.broken:
            return
        # 3.1.6.1: who waits in vain for datagrams closes the connection, without a word.
        unheard = self.datagrams and self.config.udp != "serve"
        if self.opened and not self.closed_file and not self.name.wms4 and not unheard:
            self.deviate("3.1.4.8", f"closed the connection without CloseFile while {self.state}")
        if self.log_due:
            self.deviate("3.1.4.5" if self.log_due == "stop" else "3.1.5.18", f"no Logging after the {self.log_due}")
        if any(time.monotonic() - sent > 3 for sent in self.pings):
            self.deviate("3.1.5.13", "a Ping was not answered")

    # -- what the client says --

    async def _handle(self, message):
        handler = getattr(self, f"_on_{message.name}", None)
        if handler is None:
            return
        self._check_logging(message)
        await handler(message)
        if not self.writer.transport.is_closing():
            await self.writer.drain()

    def _check_logging(self, message):
        if not self.log_due or message.name == "Logging":
            return
        if time.monotonic() - self.log_due_since < CROSSING and message.name in ("StreamSwitch", "StopPlaying"):
            return  # it crossed our EndOfStream
        section = "3.1.4.5" if self.log_due == "stop" else "3.1.5.18"
        self.deviate(section, f"{message.name} where Logging was due after the {self.log_due}")
        self.log_due = None

    def _expect(self, message, *states):
        if self.state not in states:
            self.deviate("3.1.5", f"{message.name} while {self.state}")

    def _check_file_id(self, message):
        if message.open_file_id != self.config.file_id:
            self.deviate(message.section, f"{message.name}.openFileId is {message.open_file_id}, not {self.config.file_id}")

    def _check_incarnation(self, message):
        """3.1.1: two counters as from Windows Media 9 on, or one as before; the first OpenFile tells which."""
        value, name = message.play_incarnation, message.name
        if self.scheme is None:
            self.scheme = {9: "two counters", 1: "one counter"}.get(value)
            if self.scheme is None:
                self.deviate("3.1.1", f"the first incarnation is {value}, neither 9 nor 1")
                self.scheme = "unknown"
        if self.scheme == "one counter":
            if value != self.next_shared:
                self.deviate("3.1.1", f"{name}.playIncarnation is {value}, the next of one counter is {self.next_shared}")
            self.next_shared = value + 1 if value < 0xFE else 1
        elif self.scheme == "two counters" and name == "ReadBlock":
            if value != self.next_header:
                self.deviate("3.1.1", f"ReadBlock.playIncarnation is {value}, HeaderIncarnation is {self.next_header}")
            self.next_header = value + 1 if value < 8 else 1
        elif self.scheme == "two counters":
            if value != self.next_play:
                self.deviate("3.1.1", f"{name}.playIncarnation is {value}, PlayIncarnation is {self.next_play}")
            self.next_play = value + 1 if value < 0xFE else 9

    async def _on_Connect(self, message):
        self._expect(message, "connect")
        self.name = mmsp.SubscriberName(message.subscriber_name)
        for text in self.name.deviations:
            self.deviate("2.2.4.17", text)
        if self.config.expect_via:
            if not self.name.host_param or not self.name.host_string or not self.name.via:
                self.deviate("2.2.4.17", f"a proxied Connect without Host, HOST or VIA: {self.name.fields()}")
        if self.fault() == "stall-connect":
            await asyncio.Event().wait()
        if self.fault() == "huge-length":
            packet = bytearray(mmsp.packet([mmsp.encode("ReportConnectedEX")], 0))
            struct.pack_into("<I", packet, 8, 0xFFFFFFF0)
            self.writer.write(bytes(packet))
            return
        self.pair = bool(self.config.pair) and message.play_incarnation == mmsp.USE_PACKET_PAIR
        await self.reply("Connect", "ReportConnectedEX", server_version_info=self.config.version,
                         play_incarnation=mmsp.USE_PACKET_PAIR if self.pair else mmsp.DISABLE_PACKET_PAIR,
                         authen_package=self._package().upper())
        self.state = "funnel"
        if self.config.ping_early:
            self.pings.append(time.monotonic())
            self.send("Ping")

    async def _on_FunnelInfo(self, message):
        self._expect(message, "funnel")
        asked = message.play_incarnation
        if asked != mmsp.DISABLE_PACKET_PAIR and not self.pair:
            self.deviate("3.1.5.3", f"FunnelInfo asks for packet-pair 0x{asked:08X}, which we denied")
        self.asked_udp_pair = self.pair and asked == mmsp.UDP_HIGH_ENTROPY
        if self.pair and asked == mmsp.TCP_HIGH_ENTROPY:
            await self._send_pair()
            return
        answer = asked if self.asked_udp_pair else mmsp.DISABLE_PACKET_PAIR
        await self.reply("FunnelInfo", "ReportFunnelInfo", play_incarnation=answer, n_cubs=self.client_id)

    async def _send_pair(self):
        """Packet-pair over TCP (3.2.5.4): 512, 512 and 1056 bytes."""
        sizes = (432, 432, 976) if self.config.pair != "short" else (432, 424, 976)
        same = os.urandom(976)
        for size in sizes:
            await self.reply("FunnelInfo", "ReportFunnelInfo", play_incarnation=mmsp.TCP_HIGH_ENTROPY, n_cubs=self.client_id,
                             packet_pair=same[:size] if self.config.pair == "same" else os.urandom(size))

    def _send_udp_pair(self):
        """Packet-pair over UDP (3.2.5.8): two Data packets before ReportReadBlock."""
        same, size = os.urandom(mmsp.PAIR_PAYLOAD), mmsp.PAIR_PAYLOAD - 8 * (self.config.pair == "short")
        for location in mmsp.PAIR_LOCATIONS:
            payload = same if self.config.pair == "same" else os.urandom(size)
            self.datagrams.send(mmsp.data_packet(location, 0xFF, 0x10, payload))

    async def _on_ConnectFunnel(self, message):
        self._expect(message, "funnel")
        *_, address, protocol, port = message.funnel_name.split("\0")[0].split("\\")
        if protocol.upper() == "UDP":
            if self.config.udp == "refuse":
                await self.reply("ConnectFunnel", "ReportDisconnectedFunnel", hr=0xC00D000C)
                return
            if address != self.peer[0]:
                self.deviate("2.2.4.18", f"funnelName says {address}, the client is {self.peer[0]}")
            if int(port) < 1024:
                self.deviate("2.2.4.18", f"funnelName asks for port {port}")
            self.datagrams = Sender(self, (self.peer[0], int(port)))
        await self.reply("ConnectFunnel", "ReportConnectedFunnel", funnel_name="Funnel Of The Gods\0")
        self.state = "open"

    async def _on_OpenFile(self, message):
        self._expect(message, "open")
        self._check_incarnation(message)
        file_name = message.file_name.split("\0")[0]
        self.file_name = file_name
        if self.fault() == "stall-open" or self.config.faults.get(file_name) == "stall-open":
            await asyncio.Event().wait()
        url = self.config.redirects.get(file_name) or self.config.redirects.get("*")
        if url:
            await self.reply("OpenFile", "ReportRedirect", redirect_type=1, location=url)
            await self.writer.drain()
            raise Over
        self.found = self._look_up()
        if self.found and self.found.hangs:
            await asyncio.Event().wait()
        if self.found and self.found.think:
            await asyncio.sleep(self.found.think)
        self.auth = self.found and self.found.auth or self.config.auth
        if self.auth and not self._accepts(message.token_data, first=True):
            await self._send_challenge(message, self._first_challenge())
            return
        await self._open(message)

    def _look_up(self):
        points = self.origin.points
        name = self.file_name.partition("?")[0] if self.config.any_query else self.file_name
        point = points.get(self.file_name) or points.get(name)
        return point and point.edition()

    async def _open(self, message):
        if self.found is None or self.found.refuses is not None:
            hr = self.found.refuses if self.found else mmsp.NS_E_FILE_NOT_FOUND
            await self.reply(message.name, "ReportOpenFile", hr=hr, play_incarnation=message.play_incarnation, open_file_id=0)
            self.state = "open"
            return
        self.point = self.found
        header, kind = self.point.file.header, self.point.kind
        attributes = {"file": mmsp.CANSEEK | (mmsp.CANSTRIDE if header.video else 0), "broadcast": mmsp.BROADCAST,
                      "playlist": mmsp.PLAYLIST, "broadcast-playlist": mmsp.BROADCAST | mmsp.PLAYLIST,
                      "station": 0}[kind] if self.point.attributes is None else self.point.attributes
        endless = kind in ("broadcast", "station") or kind == "file" and bool(attributes & mmsp.BROADCAST)
        duration = 0.0 if endless else header.duration
        if kind == "station":
            self.entry = self.point.entry
        size = len(self.point.header(self.entry))
        if self.fault() == "huge-header":
            size = 0x7FFFFFFF
        self.opened, self.state = True, "block"
        at_once = sum(s.opened and s.is_there and s.point.name == self.point.name for s in self.origin.sessions)
        self.record("opened", content=self.point.name, at_once=at_once)
        await self.reply(message.name, "ReportOpenFile", play_incarnation=message.play_incarnation,
                         open_file_id=self.config.file_id, file_attributes=attributes, file_duration=duration,
                         file_blocks=int(-(-duration // 1)), file_packet_size=header.packet_size,
                         file_packet_count=0 if endless else header.packet_count,
                         file_bit_rate=header.max_bit_rate, file_header_size=size)

    # -- authentication: Basic by its rule, NTLM as three fixed tokens of which the last is bound to this connection --

    def _first_challenge(self):
        return mmsp.utf16('realm="strict"\0') if self.auth == "basic" else bytes(2)

    def _package(self):
        """What Connect is told: the scheme of all content, or of some."""
        return self.config.auth or next((point.auth for point in self.origin.points.values() if point.auth), "")

    async def _send_challenge(self, message, token):
        self.challenge = random.getrandbits(32)
        self.state = "auth"
        await self.reply(message.name, "SecurityChallenge", play_incarnation=message.play_incarnation,
                         cookie=self.challenge, token=token)

    def _accepts(self, token, first=False):
        if self.auth == "basic":
            want = base64.b64encode(f"{self.config.user}:{self.config.password}".encode()) + b"\0"
            return token == want
        return not first and mmsp.ntlm_token(token) == ntlm_authenticate(self.nonce, self.config.password)

    async def _on_SecurityResponse(self, message):
        self._expect(message, "auth")
        if message.cookie != self.challenge:
            self.deviate("2.2.4.24", f"cookie is {message.cookie}, not {self.challenge}")
        if self.auth == "ntlm":
            if message.token[:2] != b"\0\0":
                self.deviate("2.2.4.24", "an NTLM pToken that does not begin with two zero bytes")
            if mmsp.ntlm_token(message.token) == mmsp.NEGOTIATE:
                await self._send_challenge(message, mmsp.ntlm_auth(ntlm_challenge(self.nonce)))
                return
        elif not message.token.endswith(b"\0"):
            self.deviate("2.2.4.24", "a Basic pToken without its NUL")
        if self._accepts(message.token):
            await self._open(message)
        else:
            self.record("denied")
            await self._send_challenge(message, self._first_challenge())

    # -- header --

    async def _on_ReadBlock(self, message):
        self._expect(message, "block", "ready", *(["changing"] if self.datagrams else []))
        self._check_file_id(message)
        self._check_incarnation(message)
        if not self.header_asked:
            self.header_due = self.spoke  # it asks because of what we said last, however late we read it
        self.header_asked.append(message.play_incarnation)
        if self.asked_udp_pair and self.config.pair != "late":
            self._send_udp_pair()
        await self.reply("ReadBlock", "ReportReadBlock", play_incarnation=message.play_incarnation)
        if self.asked_udp_pair and self.config.pair == "late":
            await asyncio.sleep(0.05)
            self._send_udp_pair()
        await self._send_header(message.play_incarnation)
        if self.state != "changing":
            self.state = "ready"

    async def _send_header(self, incarnation):
        header = self.point.header(self.entry)
        if self.fault() == "bad-asf":
            header = bytearray(header)
            header[30:46] = os.urandom(16)
            header[46:54] = b"\xff" * 8
        piece = min(self.config.header_piece or 0xFFFF, self.point.files[self.entry].header.packet_size)
        pieces = [bytes(header[at : at + piece]) for at in range(0, len(header), piece)]
        for number, data in enumerate(pieces):
            if incarnation == 0xFF and number == len(pieces) // 2 and getattr(self.point, "header_pause", 0):
                self.record("half a header")
                await asyncio.sleep(self.point.header_pause)
            last = number == len(pieces) - 1 and self.fault() != "huge-header"
            packet = mmsp.data_packet(number, incarnation & 0xFF, 0x0C if last else 0x04, data)
            if self.datagrams:
                await self.datagrams.paced(packet, self.point.files[self.entry].header.max_bit_rate)
            else:
                self.writer.write(packet)
        number = len(pieces)
        while self.fault() == "huge-header":
            packet = mmsp.data_packet(number, incarnation & 0xFF, 0x04, bytes(piece))
            if self.datagrams:
                self.datagrams.send(packet)
            else:
                self.writer.write(packet)
                await self.writer.drain()
            await asyncio.sleep(0)
            number += 1
            if self.writer.transport.is_closing() or self.reader.at_eof():
                raise Over

    async def _on_CancelReadBlock(self, message):
        if not self.datagrams:
            self.record("note", note="CancelReadBlock over TCP", section="3.1.6.1")
            return
        if not self.header_asked or message.play_incarnation != self.header_asked[-1]:
            self.deviate("2.2.4.15", f"CancelReadBlock of incarnation {message.play_incarnation}")
        elif time.monotonic() - self.header_due < HEADER_TIMER * len(self.header_asked):
            self.deviate("3.1.6.1", "the Header timer expired within a second")
        if len(self.header_asked) > 4:
            self.deviate("3.1.6.1", f"the header was asked for {len(self.header_asked)} times")

    # -- streams --

    async def _on_StreamSwitch(self, message):
        self._expect(message, "ready", "streaming", "changing")
        available = set(self.point.files[self.entry].header.streams)
        if self.state != "streaming":
            named = set()
            for source, destination, level in message.entries:
                if destination == 0xFFFF:
                    named.add(source)
                else:
                    named.add(destination)
                    if level == 2:
                        self.deviate("3.1.4.2", f"stream {destination} is marked off by level 2, not by destination 0xFFFF")
            if named != available:
                self.deviate("3.1.4.2", f"StreamSwitch names {sorted(named)} of {sorted(available)}")
        for source, destination, level in message.entries:
            if destination == 0xFFFF:
                self.selection.pop(source, None)
                self.joined.discard(source)
            elif level == 2:
                self.selection.pop(destination, None)
                self.joined.discard(destination)
            else:
                if source not in (0xFFFF, destination):
                    self.replacing[destination] = source
                self.selection[destination] = level
        self.switched = True
        await self.reply("StreamSwitch", "ReportStreamSwitch", allowed=("StartPlaying", "StartStriding"))

    def _wanted(self, payload):
        stream = payload.stream
        level = self.selection.get(stream)
        if level is None or level == 1 and not payload.key:
            return False
        if stream not in self.joined:
            header = self.point.files[self.entry].header
            if payload.offset and len(payload.replicated) != 1 or stream in header.video and not payload.key:
                return False
            self.joined.add(stream)
            replaced = self.replacing.pop(stream, None)
            if replaced is not None:
                self.selection.pop(replaced, None)
                self.joined.discard(replaced)
        return True

    # -- playing --

    async def _on_StartPlaying(self, message):
        await self._start(message, 1.0, "ReportStartedPlaying")

    async def _on_StartStriding(self, message):
        if self.point and not self.point.file.header.video:
            self.record("note", note="StartStriding without CANSTRIDE", section="2.2.4.7")
        await self._start(message, message.rate, "ReportStartStriding")

    async def _start(self, message, rate, answer):
        self._expect(message, "ready", "changing")
        self._check_file_id(message)
        self._check_incarnation(message)
        accel = message.fields.get("dw_accel_bandwidth")
        if accel is not None and self.below_9:
            self.record("note", note="accel fields to a server below 9", section="3.1.4.2.1")
        if not self.switched:
            if self.name.wms4:
                self.selection = dict.fromkeys(self.point.file.header.streams, 0)
            else:
                self.record("note", note="Start without StreamSwitch: no stream is selected", section="3.1.4.2")
        changing = self.state == "changing"
        if changing and self.datagrams and not self.header_asked:
            self.deviate("3.1.5.19", f"{message.name} of an entry whose header was not asked for")
        if not changing and self.streaming:
            self.streaming.cancel()
            self.streaming = None
        if not changing and self.point.kind in ("broadcast", "station"):
            self.joined = set()  # it goes on elsewhere than where it stopped
        if not self.point.gates:
            self.joined = set(self.selection)
        self.last_start, self.header_asked = message.play_incarnation, []
        if self.datagrams:
            accel_bits = 0 if self.below_9 else accel or 0
            self.udp_rate = max(accel_bits, 2 * self.point.files[self.entry].header.max_bit_rate * max(1, self._speed()))
        fields = {"tiger_file_id": self.config.file_id} if answer == "ReportStartedPlaying" else {}
        await self.reply(message.name, answer, play_incarnation=message.play_incarnation, **fields)
        self.incarnation = message.play_incarnation
        if self.sequence & 0xFF == 0xFF:
            self.sequence += 1  # 2.2.2: the last one carried 0xFE, so 0xFF is left out
        self.state = "streaming"
        if not changing:
            work = self._stream_station() if self.point.kind == "station" else self._stream(message, rate)
            self.streaming = asyncio.create_task(self._guard(work))
        else:
            self.held.set()

    def _speed(self):
        speed = self.config.speed if getattr(self.point, "speed", None) is None else self.point.speed
        return 1.0 if self.point.kind == "station" or speed == float("inf") else speed

    async def _guard(self, work):
        try:
            await work
        except ConnectionError:
            self.broken = True
        except Exception as error:  # a bug of ours must not look like a stall of the proxy
            self.deviate("origin", f"internal error: {error!r}")
            raise

    def _start_location(self, message):
        file = self.point.file
        if self.point.kind == "broadcast":
            location = self.point.live_location(self.config.speed)
            while location % len(file.packets) and not file.has_key(location % len(file.packets)):
                location -= 1
            return location
        if message.location_id not in (0, mmsp.UNUSED):
            return message.location_id
        if message.asf_offset not in (0, mmsp.UNUSED):
            return max(0, message.asf_offset - file.header.size) // file.header.packet_size
        return file.packet_at(message.position if message.position < 1e300 else 0.0)

    async def _stream(self, message, rate):
        location = self._start_location(message)
        until = None
        if message.name == "StartPlaying" and message.frame_offset not in NO_LIMIT:
            limit = message.frame_offset & 0x7FFFFFFF
            until = limit if message.frame_offset < 0x80000000 else limit + message.position * 1000
        entries = range(self.entry, len(self.point.files))
        for entry in entries:
            if entry != entries[0]:
                if not await self._change(entry):
                    return
                location = 0
            accel = (0, 0) if self.below_9 else (message.fields.get(f"dw_accel_{what}", 0) for what in ("bandwidth", "duration"))
            await self._send_entry(location, rate, until, *accel)
        await self._end_of_stream(0)
        self.state = "ready"

    async def _stream_station(self):
        station, number = self.point, self.point.first(self.entry)
        while station.ended is None:
            if self.entry < station.entry:
                await self._change(self.entry + 1)
                number = 0
                continue
            encoder, delay = station.files[self.entry], station.due(self.entry, number) - STILL.clock()
            if delay > 0:
                await station.wait(delay)
                continue
            location = encoder.location(number)
            data = encoder.looped(location) if station.anywhere else asf.select(encoder.looped(location), self._wanted)
            if data is not None:
                await self._send_media(location, asf.strip(data) if self.config.strip and not self.name.wms4 else data)
            number += 1
        await self._end_of_stream(station.ended)
        self.state = "ready"

    async def _end_of_stream(self, hr):
        if self.datagrams:
            await self.datagrams.settled()
            self.datagrams.ended = time.monotonic()
        self.send("ReportEndOfStream", hr=hr, play_incarnation=self.last_start)
        if not self.name.wms4 and not self.name.token.startswith("NSPlayer/4."):
            self.log_due, self.log_due_since = "end of the stream", time.monotonic()

    async def _change(self, entry):
        await self._end_of_stream(0 if self.below_9 else 1)
        self.entry = entry
        header = self.point.files[entry].header
        self.state, self.held = "changing", asyncio.Event()
        self.send("ReportStreamChange", cb_packet_size=header.packet_size, cb_header_size=header.size,
                  dw_bit_rate=header.max_bit_rate)
        self.incarnation = 0xFF
        self.selection = {number: self.selection.get(number, 0) for number in header.streams}
        self.joined = set()
        if self.datagrams:
            # 3.2.4.2: over UDP the client asks for the header, and nothing goes out before it starts.
            try:
                await asyncio.wait_for(self.held.wait(), 10)
            except asyncio.TimeoutError:
                self.deviate("3.1.5.19", "the next entry was not started within 10 s")
            return True
        await self._send_header(0xFF)
        if self.config.hold_entries:
            try:
                await asyncio.wait_for(self.held.wait(), self.config.hold_entries)
            except asyncio.TimeoutError:
                pass
        return True

    async def _send_entry(self, location, rate, until, accel_bandwidth=0, accel_ms=0):
        point, file = self.point, self.point.files[self.entry]
        endless = point.kind == "broadcast"
        began = STILL.clock()
        first = file.send_time(min(location, len(file.packets) - 1) if not endless else location)
        step, bits, lead_ms = 1 if rate > 0 else -1, 0, 0
        speed = self.config.speed if point.speed is None else point.speed
        while endless or 0 <= location < len(file.packets):
            sent_at = file.send_time(location)
            if until is not None and sent_at >= until:
                break
            if point.ends is not None and endless and sent_at >= point.ends * 1000:
                break
            due = began + max(0, abs(sent_at - first) - lead_ms) / 1000 / (abs(rate) * speed)
            if accel_bandwidth and speed < float("inf") and abs(sent_at - first) < accel_ms:
                # 3.2.5.11: so much content at that bit rate; from then on real time, ahead by what was gained.
                due = began + bits / accel_bandwidth
                lead_ms = max(0, abs(sent_at - first) - (due - began) * 1000 * speed)
            delay = due - STILL.clock()
            if delay > 0:
                await asyncio.sleep(delay)
            if point.skips_now(location, self.writer.transport.get_write_buffer_size()):
                location += step
                continue
            packet = file.looped(location) if endless else file.packets[location]
            if abs(rate) != 1:
                video = set(file.header.video)
                data = asf.select(packet, lambda p: p.stream in video and p.key and self._wanted(p))
            else:
                data = asf.select(packet, self._wanted)
            if data is not None:
                if self.config.strip and not self.name.wms4:
                    data = point.form(data)
                await self._send_media(location, data)
                bits += len(data) * 8
            location += step

    async def _send_media(self, location, data):
        if self.stalled:
            await asyncio.Event().wait()
        if self.point.breaks_now(self.media_bytes):
            self.record("broken", at=location)
            self.abort()
            await asyncio.Event().wait()
        if self.media_sent >= self.config.fault_after:
            fault = self.fault()
            if fault == "stall-media":
                await asyncio.Event().wait()
            if fault == "close-mid":
                self.abort()
                await asyncio.Event().wait()
            if fault == "garbage":
                self.broken = True
                self.writer.write(b"\xA5\x5A\xC3\x3C\x99\x66\x03\x00" * 64)
                await asyncio.Event().wait()
        packet = mmsp.data_packet(location, self.incarnation & 0xFF, self.sequence & 0xFF, data)
        self.times.append(time.monotonic())
        if self.datagrams:
            await self.datagrams.media(self.sequence, packet, self.udp_rate)
        else:
            self.writer.write(packet)
        self.sequence += 1
        self.media_sent += 1
        self.media_bytes += len(data)
        self.numbers.append(location)
        if self.config.way:
            await self.config.way.take(len(data) + 8)
        await self.writer.drain()

    # -- the end --

    async def _on_StopPlaying(self, message):
        self._check_file_id(message)
        if self.last_start is None:
            self.deviate("3.1.4.5", "StopPlaying before any Start")
        elif message.play_incarnation != self.last_start:
            self.deviate("2.2.4.27", f"StopPlaying.playIncarnation is {message.play_incarnation}, not {self.last_start}")
        if self.state not in ("streaming", "changing") and not self.log_due:
            self.deviate("3.1.4.5", f"StopPlaying while {self.state}")
        if self.streaming:
            self.streaming.cancel()
            self.streaming = None
        self.log_due = None if self.name.wms4 else "stop"
        self.log_due_since = time.monotonic()
        self.state = "ready"
        if self.datagrams:
            self.datagrams.ended = time.monotonic()
        await self.reply("StopPlaying", "ReportEndOfStream", allowed=("Logging",), play_incarnation=message.play_incarnation)

    async def _on_Logging(self, message):
        if not self.log_due:
            self.record("note", note="Logging that nothing asked for", section="3.1.4.5")
        self.log_due = None
        source = mmsp.log_source_id(message.log)
        if source != self.config.file_id:
            self.deviate("3.1.4.5", f"dwSourceId is {source}, not the File-ID {self.config.file_id}")
        transport, asked = mmsp.log_transport(message.log)
        if transport != ("UDP" if self.datagrams else "TCP"):
            self.deviate("2.2.1.1", f"szTransport is {transport!r}")
        unreported = self.datagrams.unreported if self.datagrams else set()
        if asked < len(unreported):
            # A proxy that passes on its player's report tells what that one asked for.
            level = "note" if self.name.via and not asked else "deviation"
            self.report([(level, "2.2.1.1", f"dwResendRequests is {asked}, it asked for {len(unreported)} packets")])
        unreported.clear()

    async def _on_CloseFile(self, message):
        self._check_file_id(message)
        if not self.opened:
            self.deviate("3.1.4.8", "CloseFile without an open file")
        if self.state in ("streaming", "changing"):
            self.deviate("3.1.4.8", "CloseFile while streaming")
        self.closed_file = True
        raise Over


def ntlm_challenge(nonce):
    """A fixed CHALLENGE message around this connection's nonce."""
    return b"NTLMSSP\0" + struct.pack("<I", 2) + bytes(12) + nonce + bytes(24)


def ntlm_authenticate(nonce, password):
    """What only a client that saw this connection's nonce and knows the password can say."""
    return b"NTLMSSP\0" + struct.pack("<I", 3) + hashlib.sha256(nonce + password.encode()).digest()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--file", action="append", default=[], metavar="PATH")
    parser.add_argument("--name", action="append", default=[], metavar="NAME", help="of the --file at the same place")
    parser.add_argument("--broadcast", action="append", default=[], metavar="NAME=FILE")
    parser.add_argument("--ends", type=float, help="seconds after which the broadcasts end")
    parser.add_argument("--playlist", action="append", default=[], metavar="NAME=FILE,FILE")
    parser.add_argument("--playlist-broadcast", action="store_true", help="playlists carry the BROADCAST attribute")
    parser.add_argument("--version", default="9.1.1.3841")
    parser.add_argument("--auth", choices=("basic", "ntlm"), default="")
    parser.add_argument("--user", default="viewer")
    parser.add_argument("--password", default="secret")
    parser.add_argument("--redirect", metavar="URL")
    parser.add_argument("--fault", choices=FAULTS)
    parser.add_argument("--fault-after", type=int, default=10, metavar="PACKETS")
    parser.add_argument("--ping", type=float, default=0.0, metavar="SECONDS")
    parser.add_argument("--ping-early", action="store_true", help="also during the handshake")
    parser.add_argument("--file-id", type=int, default=1)
    parser.add_argument("--think", type=float, default=0.0, metavar="SECONDS", help="pause before each reply")
    parser.add_argument("--speed", type=float, default=1.0, help="times real time")
    parser.add_argument("--no-strip", action="store_true", help="leave padding in")
    parser.add_argument("--header-piece", type=int, default=0, metavar="BYTES")
    parser.add_argument("--hold-entries", type=float, default=0.0, metavar="SECONDS")
    parser.add_argument("--listen", default="127.0.0.1:0")
    parser.add_argument("--udp", choices=("serve", "refuse", "silent", "header"), default="serve")
    parser.add_argument("--weather", type=float, default=0.0, metavar="SHARE", help="of datagrams lost, doubled and late, both ways")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--log")
    args = parser.parse_args()
    points = [Point(name, [path]) for name, path in zip(args.name, args.file, strict=True)]
    points += [Point(*_named(text), "broadcast", args.ends) for text in args.broadcast]
    kind = "broadcast-playlist" if args.playlist_broadcast else "playlist"
    points += [Point(*_named(text), kind) for text in args.playlist]
    host, _, port = args.listen.rpartition(":")
    host = host.strip("[]")
    config = Config(points=points, version=args.version, auth=args.auth, user=args.user, password=args.password,
                    redirects={"*": args.redirect} if args.redirect else {},
                    faults={"*": args.fault} if args.fault else {}, fault_after=args.fault_after, ping=args.ping,
                    ping_early=args.ping_early, file_id=args.file_id, think=args.think, speed=args.speed,
                    strip=not args.no_strip, header_piece=args.header_piece, host=host, port=int(port),
                    hold_entries=args.hold_entries, udp=args.udp, weather=Weather(args.weather, args.seed),
                    weather_in=Weather(args.weather, args.seed + 1), log=open(args.log, "a", encoding="utf-8") if args.log else None)

    async def serve():
        origin = await Origin(config).start()
        print(f"listening {origin.port}", flush=True)
        await asyncio.Event().wait()

    try:
        asyncio.run(serve())
    except KeyboardInterrupt:
        pass


def _named(text):
    name, _, files = text.partition("=")
    return name, files.split(",")


if __name__ == "__main__":
    main()
