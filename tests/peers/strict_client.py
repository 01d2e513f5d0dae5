#!/usr/bin/env python3
"""An MMS client that plays through a proxy as one of many players would, and holds the server to [MS-MMSP] 3.2.

As a library: `Client`, one method per thing a player does; `client.deviations` is what the server did wrong.
As a command: plays a URL by a small script (`--do`), prints the deviations or a JSON summary.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import functools
import json
import os
import re
import socket
import sys
import time
import zlib
from dataclasses import dataclass

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import asf  # noqa: E402
import mmsp  # noqa: E402
from funnel import Funnel, Udp  # noqa: E402
from strict_origin import ntlm_authenticate  # noqa: E402
from weather import Weather  # noqa: E402

parse_packet = functools.lru_cache(4096)(asf.parse_packet)  # many viewers get the same bytes

GUID = "68c0a090-8797-11d2-a2b3-00a0c9b60551"


@dataclass(frozen=True)
class Identity:
    """How a kind of client names itself and where it differs on the wire (2.2.4.17, its notes, and live captures)."""

    token: str
    host_param: str = ""  # "", "host" or "host:port"
    host_string: bool = False
    funnel_info: int | None = mmsp.DISABLE_PACKET_PAIR
    connect: int = mmsp.DISABLE_PACKET_PAIR
    counters: str = "two"  # "two", "one" or "free" (OpenFile 1, ReadBlock 2, Start 4)
    open_incarnation: int = 1
    switches: bool = True
    off_by_level: bool = False
    logs_stop: bool = True
    logs_end: bool = True
    closes: bool = True
    stop_incarnation: int | None = None
    frame_offset: int = 0
    funnel_name: str = "\\\\127.0.0.1\\TCP\\1037\0"
    padding: int = 0
    block: tuple = ()
    funnel: tuple = ()
    seeks_by_stop: bool = True


_FREE = dict(token=f"NSPlayer/7.0.0.1956; {{{GUID}}}", host_param="host", funnel_info=None, connect=0, counters="free",
             off_by_level=True, logs_stop=False, logs_end=False, frame_offset=0x00FFFFFF, padding=0x0001FFFF)
IDENTITIES = {
    "wmp6": Identity(f"NSPlayer/4.1.0.3928; {{{GUID}}}", counters="one", logs_end=False),
    "wmp7": Identity(f"NSPlayer/7.1.0.3055; {{{GUID}}}", host_param="host:port", counters="one"),
    "wmp8": Identity(f"NSPlayer/8.0.0.4477; {{{GUID}}}", host_param="host:port", counters="one"),
    "wmp9": Identity(f"NSPlayer/9.0.0.2980; {{{GUID}}}", host_param="host:port", host_string=True),
    "wmp10": Identity(f"NSPlayer/10.0.0.3646; {{{GUID}}}", host_param="host:port", host_string=True),
    "wms4": Identity("Spooooon!", funnel_info=None, counters="one", switches=False, logs_stop=False, logs_end=False,
                     closes=False, block=(("length", 0xFFFF),)),
    "ffmpeg": Identity(**{**_FREE, "funnel_info": 0x00F0F0F0, "closes": True,
                          "funnel_name": "\\\\192.168.0.129\\TCP\\1037\0", "block": (("length", 0x800000),)}),
    "vlc": Identity(**{**_FREE, "token": "NSPlayer/7.0.0.1956; {0xbabac001-0x1b9c-0x0049-0x0285fc7a97b49fdf}",
                       "funnel_name": "\\\\192.168.0.1\\TCP\\1242\0\x30", "stop_incarnation": 0x001FFFFF,
                       "funnel": (("max_bit_rate", 0x000A0000),)}),
    "mplayer": Identity(**{**_FREE, "open_incarnation": 0, "closes": False, "frame_offset": 0,
                           "block": (("length", 0), ("flags", 0), ("t_deadline", 0.0)),
                           "funnel": (("max_block_bytes", 0), ("max_bit_rate", 0))}),
    "libmms": Identity(**{**_FREE, "closes": False, "seeks_by_stop": False}),
    "xine": Identity(**{**_FREE, "closes": False, "funnel": (("max_block_bytes", 0), ("max_bit_rate", 0))}),
}


class Refused(Exception):
    """The server answered with an error HRESULT."""

    def __init__(self, message, hr):
        super().__init__(f"{message} refused with 0x{hr:08X}")
        self.message, self.hr = message, hr


class Redirected(Exception):
    def __init__(self, url):
        super().__init__(f"redirected to {url}")
        self.url = url


class Silent(Exception):
    """No answer in time, or the connection is gone."""


class Play:
    """What came between one start and its end."""

    def __init__(self, incarnation):
        self.incarnation, self.packets, self.end = incarnation, [], None
        self.ending = None  # what EndOfStream said, where datagrams are still awaited
        self.times = []  # when each packet came
        self.asked_at = None  # when the start was sent
        self.skips = []  # (last LocationId before, first after) of jumps over something that was selected

    @property
    def locations(self):
        return [location for location, _ in self.packets]


class Client:
    def __init__(self, url, identity="wmp9", proxy=None, timeout=20.0, source=None, pair=False, token=None,
                 udp=None, bind=None):
        found = re.fullmatch(r"mms[tu]?://([^/:\[\]]+|\[[^\]]+\])(?::(\d+))?/?(.*)", url)
        self.host, self.url_port, self.path = found[1], int(found[2] or 1755), found[3]
        self.url, self.address = url, proxy or (self.host.strip("[]"), self.url_port)
        self.who, self.timeout, self.source = IDENTITIES[identity], timeout, source
        self.token = token or self.who.token
        self.pair, self.pair_agreed = pair, None
        self.udp, self.bind = Udp() if udp is True else udp or None, bind
        self.funnel, self.datagrams = None, None  # "tcp" or "udp", once it is agreed; a `Funnel`
        self.cancelled = None  # the incarnation of a header that was cancelled
        self.deviations, self.notes = [], []
        self.sent = self.received = 0
        self.state = "init"
        self.outstanding, self.changed = [], asyncio.Event()
        self.next_header, self.next_play, self.next_shared, self.next_free = 1, 9, 1, 4
        self.opened = self.header = self.connected_ex = None
        self.selection, self.joined, self.replacing, self.pending_switch = {}, set(), {}, 0
        self.switched = False
        self.collecting = None
        self.plays, self.current, self.sequence, self.last_flags = [], None, 0, None
        self.started_once, self.closed, self.broken = False, False, None
        self.reading = asyncio.Event()
        self.reading.set()
        self.pairs, self.n_cubs, self.entries = [], None, []
        self.stream_change, self.expect_change, self.may_extra_end = None, False, False
        self.last_start = None
        self.pings, self.reader_task = 0, None
        self.compared = 0
        self.first_media_at = None

    # -- deviations --

    def deviate(self, section, text):
        self.deviations.append(f"{text} ([MS-MMSP] {section})")

    def report(self, found):
        for level, section, text in found:
            (self.deviations if level == "deviation" else self.notes).append(f"{text} ([MS-MMSP] {section})")

    # -- plumbing --

    async def _connect_tcp(self):
        sock = socket.socket(socket.AF_INET6 if ":" in self.address[0] else socket.AF_INET)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
        sock.setblocking(False)
        if self.bind:
            sock.bind((self.bind, 0))
        await asyncio.wait_for(asyncio.get_running_loop().sock_connect(sock, self.address), self.timeout)
        self.reader, self.writer = await asyncio.open_connection(sock=sock)
        self.reader_task = asyncio.create_task(self._read())

    def send(self, name, **fields):
        self.writer.write(mmsp.packet([mmsp.encode(name, **fields)], self.sent))
        self.sent += 1

    async def until(self, condition, what, timeout=None):
        """Waits for the reader to make `condition()` true."""
        deadline = time.monotonic() + (timeout or self.timeout)
        while not condition():
            if self.broken is not None:
                raise Silent(f"{what}: the connection {self.broken}")
            self.changed.clear()
            try:
                await asyncio.wait_for(self.changed.wait(), max(0.001, deadline - time.monotonic()))
            except asyncio.TimeoutError:
                if not condition():
                    raise Silent(f"{what}: nothing for {timeout or self.timeout} s") from None

    def ask(self, name, answers, incarnation=None, **fields):
        """Sends a request and notes what must answer it, in order."""
        slot = {"request": name, "answers": answers, "incarnation": incarnation, "reply": None}
        self.outstanding.append(slot)
        self.send(name, **fields)
        return slot

    async def answer(self, slot, timeout=None):
        await self.until(lambda: slot["reply"] is not None, f"{slot['request']} unanswered", timeout)
        reply = slot["reply"]
        if slot["incarnation"] is not None and "play_incarnation" in reply.fields:
            if reply.play_incarnation != slot["incarnation"]:
                self.deviate(reply.section, f"{reply.name}.playIncarnation is 0x{reply.play_incarnation:X}, "
                                            f"{slot['request']} said 0x{slot['incarnation']:X}")
        return reply

    # -- receiving --

    async def _read(self):
        deframer = mmsp.Deframer(data_allowed=True)
        try:
            while True:
                await self.reading.wait()
                data = await self.reader.read(65536)
                if self.datagrams:
                    self.datagrams.drain()
                if not data:
                    self.broken = "was closed"
                    break
                for item in deframer.feed(data):
                    if isinstance(item, mmsp.DataPacket):
                        self._on_data(item)
                    else:
                        self._on_control(item)
                self.changed.set()
        except mmsp.Malformed as error:
            self.deviate(error.section, str(error))
            self.broken = f"cannot be read: {error}"
        except ConnectionError as error:
            self.broken = f"broke: {error}"
        finally:
            if self.datagrams and self.broken is not None:
                self.datagrams.over = time.monotonic()
            self.changed.set()

    def _on_control(self, control):
        self.report(mmsp.check_packet(control, self.received))
        self.received += 1
        for raw in control.messages:
            message = mmsp.decode(raw)
            self.report(mmsp.check_message(message))
            self._on_message(message)

    def _on_message(self, message):
        name = message.name
        if self.closed:
            return  # it was on its way when we said CloseFile
        if name == "Ping":
            self.pings += 1
            if not self.started_once:
                self.deviate("3.2.6.1", "Ping before the first start")
            if message.size != 16:
                self.deviate("2.2.4.1", f"a Ping of {message.size} bytes")
            self.send("Pong")
            return
        if name == "ReportStreamChange":
            self._on_stream_change(message)
            return
        head = self.outstanding[0] if self.outstanding else None
        if name == "ReportEndOfStream":
            answers = head is not None and head["request"] == "StopPlaying"
            crossed = answers and self.state == "streaming" and (
                message.hr == 1 or message.play_incarnation == self.last_start != head["incarnation"])
            if not answers or crossed:
                self._on_end(message)
                return
        if head is None or name not in head["answers"]:
            self.deviate("3.2.5", f"{name} answers nothing" + (f", {head['request']} is waiting" if head else ""))
            return
        if name == "ReportFunnelInfo":
            self._on_funnel_info(message, head)
            return
        if self.collecting and name != "ReportStreamSwitch":
            self.deviate("3.2.5.8.1", f"{name} between header packets")
        self.outstanding.pop(0)
        head["reply"] = message
        failed = mmsp.failed(message.fields.get("hr", 0))
        if name in ("ReportStartedPlaying", "ReportStartStriding") and not failed:
            self.state, self.started_once = "streaming", True
            self.expect_change = False
            self.current = Play(message.play_incarnation)
            self.current.asked_at = head.get("asked_at")
            if self.opened.file_attributes & mmsp.BROADCAST:
                self.joined = set()  # it goes on elsewhere than where it stopped
            self.plays.append(self.current)
            if self.last_flags == 0xFE:
                self.sequence += 1 if self.sequence & 0xFF == 0xFF else 0
            if self.funnel == "udp":
                self.datagrams.started()
        elif name == "ReportEndOfStream":
            if message.hr != 0:
                self.deviate("3.2.5.14", f"the answer to StopPlaying carries hr 0x{message.hr:X}")
            if message.play_incarnation != head["incarnation"]:
                self.deviate("2.2.4.5", f"EndOfStream.playIncarnation is 0x{message.play_incarnation:X}, "
                                        f"StopPlaying said 0x{head['incarnation']:X}")
            self.state, self.current, self.expect_change = "ready", None, False
        elif name == "ReportStreamSwitch":
            self.pending_switch -= 1
        elif name == "ReportReadBlock" and self.funnel == "udp":
            self.datagrams.read_block_answered()
        elif name == "ReportReadBlock" and not failed:
            self.collecting = {"incarnation": head["incarnation"] & 0xFF, "size": self.opened.file_header_size,
                               "piece": self.opened.file_packet_size, "parts": []}

    def _on_funnel_info(self, message, slot):
        asked = slot["asked"]
        if asked != mmsp.TCP_HIGH_ENTROPY or message.play_incarnation != mmsp.TCP_HIGH_ENTROPY:
            if asked == mmsp.UDP_HIGH_ENTROPY == message.play_incarnation:
                self.pair_agreed = asked
            elif message.play_incarnation != mmsp.DISABLE_PACKET_PAIR:
                self.deviate("3.2.5.4", f"ReportFunnelInfo grants 0x{message.play_incarnation:08X} to 0x{asked:08X}")
            if message.size != 48:
                self.deviate("3.2.5.4", f"a ReportFunnelInfo of {message.size} bytes without packet-pair")
            self.n_cubs, slot["reply"] = message.n_cubs, message
            self.outstanding.pop(0)
            return
        self.pairs.append(message)
        want = 1056 if len(self.pairs) == 3 else 512
        if message.size + 32 != want:
            self.deviate("3.2.5.4", f"packet-pair message {len(self.pairs)} has {message.size + 32} bytes, not {want}")
        if self.pairs[0].n_cubs != message.n_cubs:
            self.deviate("3.2.5.4", "the three ReportFunnelInfo differ in nCubs")
        if any(p is not message and p.packet_pair[:64] == message.packet_pair[:64] for p in self.pairs):
            self.deviate("3.2.5.4", "two packet-pair messages carry the same bytes")
        self.check_random(message.packet_pair, f"packet-pair message {len(self.pairs)}")
        self.pair_agreed = asked
        if len(self.pairs) == 3:
            self.n_cubs, slot["reply"] = message.n_cubs, message
            self.outstanding.pop(0)

    def check_random(self, data, what):
        """High entropy, so that no modem on the way makes it shorter (3.2.5.4, 3.2.5.8)."""
        if len(set(data)) < min(len(data), 256) * 0.6 or len(zlib.compress(data)) < len(data):
            self.deviate("3.2.5.4", f"{what} is not random")

    def _on_end(self, message):
        if self.state != "streaming":
            if self.may_extra_end:
                self.may_extra_end = False
                return
            self.deviate("3.2.4.1", f"EndOfStream while {self.state}")
            return
        if message.play_incarnation != self.last_start:
            self.deviate("2.2.4.5", f"EndOfStream.playIncarnation is 0x{message.play_incarnation:X}, the last start said "
                                    f"0x{self.last_start:X}")
        self.current.ending = message.hr
        if self.funnel == "udp":
            self.datagrams.end(message.hr)
        else:
            self.current.end = message.hr
        below_9 = self.server_major < 9
        broadcast = self.opened.file_attributes & mmsp.BROADCAST
        if message.hr == 1 or below_9 and message.hr == 0 and broadcast:
            self.expect_change = True
        if message.hr != 1:
            self.state = "ready"
        if self.who.logs_end:
            self._log()

    def _on_stream_change(self, message):
        if not self.expect_change:
            self.deviate("3.2.4.2", "StreamChange without an EndOfStream that announces it")
        self.expect_change = False
        self.state, self.stream_change = "changing", message
        if self.funnel == "udp":
            return  # 3.1.5.19: the header is to be asked for
        self.collecting = {"incarnation": 0xFF, "size": message.cb_header_size, "piece": message.cb_packet_size, "parts": []}

    def _on_data(self, packet):
        if self.closed:
            return
        if self.funnel == "udp":
            self.deviate("3.2.5.11.1", f"Data (LocationId {packet.location_id}) over TCP, the funnel is UDP")
            return
        if self.collecting is not None:
            self._on_header_data(packet)
            return
        if self.state == "changing":
            # 3.2.4.2: the new entry's own packets before our start is answered carry 0xFF; a client may drop them.
            if packet.incarnation != 0xFF:
                self.deviate("3.2.4.2", f"Data of incarnation 0x{packet.incarnation:02X} after StreamChange")
            self._check_sequence(packet)
            return
        if self.state != "streaming" or self.current.end is not None:
            self.deviate("3.2.5.11.1", f"Data (LocationId {packet.location_id}, incarnation 0x{packet.incarnation:02X}) "
                                       f"while {self.state}" + (" after EndOfStream" if self.started_once else ""))
            return
        if packet.incarnation != self.current.incarnation & 0xFF:
            self.deviate("2.2.2", f"Data of incarnation 0x{packet.incarnation:02X}, not 0x{self.current.incarnation:02X}")
            return
        self._check_sequence(packet)
        self.take_media(packet, time.monotonic())

    @property
    def packet_size(self):
        """Of the largest packet, as the server said last."""
        return self.stream_change.cb_packet_size if self.stream_change else self.opened.file_packet_size

    @property
    def bit_rate(self):
        return self.stream_change.dw_bit_rate if self.stream_change else self.opened.file_bit_rate

    @property
    def start_outstanding(self):
        """Was a start sent that is not answered yet?"""
        return any(slot["request"].startswith("Start") for slot in self.outstanding)

    def take_media(self, packet, came, lost=False):
        """A packet in its order; `lost`: some before it did not arrive."""
        size = self.packet_size
        if len(packet.payload) > size:
            self.deviate("2.2.4.7", f"a packet of {len(packet.payload)} bytes, filePacketSize is {size}")
        if self.who.token.startswith("Spo") and len(packet.payload) != size:
            self.deviate("2.2.2", "padding was stripped for Windows Media Services 4")
        if self.current.packets and self.rate > 0:
            step = packet.location_id - self.current.packets[-1][0] & 0xFFFFFFFF  # a broadcast's wrap
            if not 1 <= step < 1 << 31:
                self.deviate("3.2.5.11.1", f"LocationId {packet.location_id} after {self.current.packets[-1][0]}")
            elif step > 1 and not lost:
                self._on_gap(self.current.packets[-1][0], step)
        if self.first_media_at is None:
            self.first_media_at = time.monotonic()
        self.current.packets.append((packet.location_id, packet.payload))
        self.current.times.append(came)
        self._compare(packet)

    def _on_gap(self, last, step):
        """Packets were left out of a broadcast: of what is selected, or because nothing in them is?"""
        if self.source is None or not self.opened.file_attributes & mmsp.BROADCAST or abs(self.rate) != 1:
            return
        for location in range(last + 1, last + min(step, 2000)):
            for payload in parse_packet(self.source(location & 0xFFFFFFFF)).payloads:
                level = self.selection.get(payload.stream)
                if payload.stream in self.joined and (level == 0 or level == 1 and payload.key):
                    self.current.skips.append((last, (last + step) & 0xFFFFFFFF))
                    self.joined = set()  # each stream begins anew, at a key frame
                    return

    def _check_sequence(self, packet):
        if packet.af_flags != self.sequence & 0xFF:
            self.deviate("3.2.5.11.1", f"AFFlags is {packet.af_flags} in Data {packet.location_id}, "
                                       f"the running sequence says {self.sequence & 0xFF}")
            self.sequence = packet.af_flags
        self.sequence += 1
        self.last_flags = packet.af_flags

    def _on_header_data(self, packet):
        state = self.collecting
        if packet.incarnation != state["incarnation"]:
            self.deviate("2.2.2", f"header Data of incarnation 0x{packet.incarnation:02X}, not 0x{state['incarnation']:02X}")
            return
        if packet.location_id != len(state["parts"]):
            self.deviate("2.2.2", f"header LocationId is {packet.location_id}, not {len(state['parts'])}")
        if len(packet.payload) > state["piece"]:
            self.deviate("3.2.5.8.1", f"a header piece of {len(packet.payload)} bytes, filePacketSize is {state['piece']}")
        state["parts"].append(packet.payload)
        total = sum(map(len, state["parts"]))
        last = total >= state["size"]
        if packet.af_flags != (0x0C if last else 0x04):
            self.deviate("2.2.2", f"header AFFlags is 0x{packet.af_flags:02X} at {total} of {state['size']} bytes")
        if packet.af_flags & 0x08 or last:
            self.collecting = None
            self.take_header(b"".join(state["parts"]), state)

    def take_header(self, data, state):
        """The ASF file header is whole."""
        if len(data) != state["size"]:
            self.deviate("2.2.4.7", f"a header of {len(data)} bytes, fileHeaderSize is {state['size']}")
        try:
            self.header = asf.AsfHeader(data)
            if self.header.packet_size != state["piece"]:
                self.deviate("2.2.4.7", f"filePacketSize is {state['piece']}, the header says {self.header.packet_size}")
        except asf.AsfError as error:
            self.deviate("2.2.2", f"the ASF file header: {error}")
        self.header_bytes = data
        self.entries.append(data)

    # -- judging what arrives against what was sent --

    def _compare(self, packet):
        if self.source is None:
            return
        self.compared += 1
        try:
            want, got = parse_packet(self.source(packet.location_id)), parse_packet(packet.payload)
        except (asf.AsfError, IndexError) as error:
            self.deviations.append(f"packet {packet.location_id}: {error}")
            return
        if got.send_time != want.send_time or got.duration != want.duration:
            self.deviations.append(f"packet {packet.location_id}: send time or duration differs")
        video = set(self.header.video)
        received = list(got.payloads)
        # Where a stream takes over from another, the packet may end the other one or not.
        giving_way = {self.replacing[p.stream] for p in received if p.stream in self.replacing and p.key and p.offset == 0}
        for payload in want.payloads:
            stream, there = payload.stream, received and received[0].identity == payload.identity
            level = self.selection.get(stream)
            wanted = level == 0 or level == 1 and payload.key
            if there:
                received.pop(0)
                if not wanted:
                    if not self.pending_switch:
                        self.deviations.append(f"packet {packet.location_id}: stream {stream} is not selected")
                    continue
                if stream not in self.joined:
                    whole = payload.offset == 0 or len(payload.replicated) == 1
                    if not whole or stream in video and not payload.key:
                        self.deviate("3.2.5.10", f"packet {packet.location_id}: stream {stream} joins without a key frame")
                    self.joined.add(stream)
                    replaced = self.replacing.pop(stream, None)
                    if replaced is not None:
                        self.selection.pop(replaced, None)
                        self.joined.discard(replaced)
            elif (wanted and stream in self.joined and stream not in giving_way and not self.pending_switch
                  and abs(self.rate) == 1):
                self.deviations.append(f"packet {packet.location_id}: a payload of stream {stream} is missing or differs")
        for payload in received:
            self.deviations.append(f"packet {packet.location_id}: a payload of stream {payload.stream} that the source has not")

    # -- what a player does --

    @property
    def server_major(self):
        found = re.match(r"(\d+)\.", self.connected_ex.server_version_info)
        return int(found[1]) if found else 0

    def subscriber_name(self):
        who, name = self.who, self.token
        port = f"{self.host}:{self.url_port}"
        if who.host_param:
            name += "; Host: " + (port if who.host_param == "host:port" else self.host)
        name += "\0"
        if who.host_string:
            name += f"HOST: {port}\0"
        return name

    async def connect(self, via=None, subscriber_name=None):
        """TCP, Connect, FunnelInfo, ConnectFunnel."""
        await self._connect_tcp()
        if self.udp:
            tcp = self.writer.get_extra_info
            self.datagrams = Funnel(self, self.udp, tcp("sockname"), tcp("peername"))
        name = subscriber_name or self.subscriber_name()
        if via:
            name += f"VIA: {via}\0"
        wants = mmsp.USE_PACKET_PAIR if self.pair else self.who.connect
        reply = await self.answer(self.ask("Connect", ("ReportConnectedEX",), play_incarnation=wants, subscriber_name=name))
        self._refuse("Connect", reply)
        self.connected_ex = reply
        granted = reply.play_incarnation == mmsp.USE_PACKET_PAIR
        if granted and not self.pair:
            self.deviate("3.2.5.3", "ReportConnectedEX grants packet-pair that was not asked for")
        pairs = mmsp.UDP_HIGH_ENTROPY if self.udp else mmsp.TCP_HIGH_ENTROPY
        info = pairs if self.pair and granted else self.who.funnel_info
        if info is not None:
            rest = bytes.fromhex("0b000400") if info == 0x00F0F0F0 else b""
            slot = self.ask("FunnelInfo", ("ReportFunnelInfo",), play_incarnation=info, rest=rest)
            slot["asked"] = info
            await self.answer(slot)
        if self.udp:
            try:
                await self.connect_funnel("udp", self.datagrams.name)
                return
            except Refused:
                if not self.udp.falls_back:
                    raise
        await self.connect_funnel("tcp", self.who.funnel_name)

    async def connect_funnel(self, kind, name):
        """ConnectFunnel; raises `Refused` where the server has no such funnel."""
        slot = self.ask("ConnectFunnel", ("ReportConnectedFunnel", "ReportDisconnectedFunnel"), funnel_name=name,
                        **dict(self.who.funnel))
        reply = await self.answer(slot)
        if reply.name == "ReportDisconnectedFunnel":
            if not mmsp.failed(reply.hr):
                self.deviate("2.2.4.4", f"ReportDisconnectedFunnel.hr is 0x{reply.hr:X}")
            raise Refused("ConnectFunnel", reply.hr)
        if reply.size + 32 != 96:
            self.deviate("2.2.4.3", f"ReportConnectedFunnel has messageLength {reply.size + 16}, not 80")
        self.funnel = kind

    def _refuse(self, what, reply):
        if mmsp.failed(reply.hr):
            raise Refused(what, reply.hr)
        if reply.hr:
            self.deviate(reply.section, f"{reply.name}.hr is 0x{reply.hr:X}")

    def _incarnation(self, kind):
        if self.who.counters == "free":
            if kind == "start":
                self.next_free += 1
                return self.next_free - 1
            return {"open": self.who.open_incarnation, "block": 2}[kind]
        if self.who.counters == "one":
            value = self.next_shared
            self.next_shared = value + 1 if value < 0xFE else 1
        elif kind == "block":
            value = self.next_header
            self.next_header = value + 1 if value < 8 else 1
        else:
            value = self.next_play
            self.next_play = value + 1 if value < 0xFE else 9
        return value

    async def open(self, login=None, think=0.0, preemptive=False, timeout=None, tries=1):
        """OpenFile and as many challenges as it takes; `login` is (user, password), `think` the time to type it."""
        answers = ("ReportOpenFile", "SecurityChallenge", "ReportRedirect")
        incarnation = self._incarnation("open")
        token = self._basic(login) if preemptive else b""
        slot = self.ask("OpenFile", answers, incarnation, play_incarnation=incarnation, file_name=self.path, token_data=token)
        while True:
            reply = await self.answer(slot, timeout)
            if reply.name != "SecurityChallenge":
                break
            package = self.connected_ex.authen_package.rstrip("\0")
            if not package:
                self.deviate("2.2.4.2", "a challenge after an empty AuthenPackage")
            nonce = mmsp.ntlm_token(reply.token)
            first = nonce is None
            scheme = "BASIC" if any(reply.token[:2]) else ("NTLM" if self.server_major >= 9 or nonce else package)
            if login is None or first and not tries:
                raise Refused("login", mmsp.E_ACCESSDENIED)
            if first:
                tries -= 1
                if think:
                    await asyncio.sleep(think)
            if scheme == "BASIC":
                token = self._basic(login)
            elif first:
                token = mmsp.ntlm_auth(mmsp.NEGOTIATE)
            else:
                token = mmsp.ntlm_auth(ntlm_authenticate(nonce[24:32], login[1]))
            slot = self.ask("SecurityResponse", answers, reply.play_incarnation, play_incarnation=reply.play_incarnation,
                            cookie=reply.cookie, token=token)
        if reply.name == "ReportRedirect":
            await self.until(lambda: self.broken is not None, "the close after ReportRedirect")
            raise Redirected(reply.location.rstrip("\0"))
        if reply.size + 32 != 152:
            self.deviate("2.2.4.7", f"ReportOpenFile has {reply.size + 32} bytes, not 152")
        if mmsp.failed(reply.hr):
            if reply.open_file_id:
                self.deviate("2.2.4.7", f"openFileId is {reply.open_file_id} beside an error (VLC would go on)")
            raise Refused("OpenFile", reply.hr)
        self._refuse("OpenFile", reply)
        if reply.open_file_id != 1:
            self.deviate("2.2.4.7", f"openFileId is {reply.open_file_id}, free players need 1")
        broadcast = reply.file_attributes & mmsp.BROADCAST
        if broadcast and not reply.file_attributes & mmsp.PLAYLIST and (reply.file_duration or reply.file_packet_count):
            self.deviate("2.2.4.7", "a broadcast with a duration or a packet count")
        self.opened = reply
        return reply

    @staticmethod
    def _basic(login):
        return base64.b64encode(":".join(login).encode()) + b"\0"

    async def read_header(self, cancel=False, timeout=None):
        """ReadBlock and the ASF file header; `cancel` asks, cancels and asks again (3.1.6.1)."""
        if self.funnel == "udp":
            return await self._read_header_udp(cancel, timeout)
        incarnation = self._incarnation("block")
        slot = self.ask("ReadBlock", ("ReportReadBlock",), incarnation, open_file_id=self.opened.open_file_id,
                        play_incarnation=incarnation, **dict(self.who.block))
        if cancel:
            self.send("CancelReadBlock", play_incarnation=incarnation)
            self._refuse("ReadBlock", await self.answer(slot))
            # Pieces of the cancelled header may be on their way; all that matters is the second one.
            drop = self.deviations[:]
            incarnation = self._incarnation("block")
            slot = self.ask("ReadBlock", ("ReportReadBlock",), incarnation, open_file_id=self.opened.open_file_id,
                            play_incarnation=incarnation, **dict(self.who.block))
            self.collecting = None
            self.header = None
            await self.answer(slot)
            self.deviations = drop
        else:
            self._refuse("ReadBlock", await self.answer(slot, timeout))
        await self.until(lambda: self.collecting is None and self.header is not None, "the header", timeout)
        self.state = "ready"
        return self.header

    async def _read_header_udp(self, cancel, timeout):
        """The same with the Header timer, which asks again when the header does not come (3.1.2, 3.1.6.1)."""
        size = self.stream_change.cb_header_size if self.stream_change else self.opened.file_header_size
        expires = min(30.0, 1.0 + size * 8 / self.bit_rate)
        seen, was = len(self.entries), self.state
        for attempt in range(5):
            incarnation = self._incarnation("block")
            self.datagrams.ask_header(incarnation, size, self.packet_size, self.bit_rate)
            slot = self.ask("ReadBlock", ("ReportReadBlock",), incarnation, open_file_id=self.opened.open_file_id,
                            play_incarnation=incarnation, **dict(self.who.block))
            if not (cancel and not attempt):
                self._refuse("ReadBlock", await self.answer(slot, timeout))
                with contextlib.suppress(Silent):
                    await self.until(lambda: len(self.entries) > seen, "the header", expires)
                if len(self.entries) > seen:
                    self.state = "ready" if was != "changing" else was
                    return self.header
            self.cancelled = incarnation
            self.send("CancelReadBlock", play_incarnation=incarnation)
            if cancel and not attempt:
                await self.answer(slot, timeout)
        raise Silent(f"the header: not after {attempt + 1} requests")

    def switch_entries(self, levels):
        """The complete state of all streams; `levels` by stream number, `None` or 2 for off."""
        entries = []
        for number in sorted(self.header.streams):
            level = levels.get(number)
            if level is None or level == 2:
                entries.append((0xFFFF, number, 2) if self.who.off_by_level else (number, 0xFFFF, 0))
            else:
                entries.append((0xFFFF, number, level))
        return entries

    def _apply(self, entries):
        for source, destination, level in entries:
            off = source if destination == 0xFFFF else destination if level == 2 else None
            if off is not None:
                self.selection.pop(off, None)
                self.joined.discard(off)
                continue
            if source not in (0xFFFF, destination):
                self.replacing[destination] = source
            self.selection[destination] = level
        self.pending_switch += 1
        self.switched = True

    async def select(self, levels=None, entries=None, wait=True):
        """StreamSwitch; all streams by default."""
        if entries is None:
            levels = dict.fromkeys(self.header.streams, 0) if levels is None else levels
            entries = self.switch_entries(levels)
        slot = self.ask("StreamSwitch", ("ReportStreamSwitch",), entries=entries)
        self._apply(entries)
        if wait:
            self._refuse("StreamSwitch", await self.answer(slot))
        return slot

    async def start(self, position=None, location=None, offset=None, until=None, rate=None, accel=None, timeout=None):
        """StreamSwitch where this kind of client sends one and has not, then StartPlaying or StartStriding."""
        if self.who.switches and not self.switched:
            await self.select(wait=False)
        elif not self.who.switches:
            self.selection = dict.fromkeys(self.header.streams, 0)
        incarnation = self._incarnation("start")
        free = self.who.counters == "free"
        used = location is not None or offset is not None
        fields = dict(open_file_id=self.opened.open_file_id, padding=self.who.padding, play_incarnation=incarnation,
                      position=(0.0 if free else mmsp.DBL_MAX) if used else position or 0.0,
                      asf_offset=mmsp.UNUSED if offset is None else offset,
                      location_id=mmsp.UNUSED if location is None else location,
                      frame_offset=self.who.frame_offset if until is None else until)
        self.rate = rate or 1.0
        self.last_start = incarnation
        if self.funnel == "udp":
            self.datagrams.drain()
            self.datagrams.ask_play(incarnation)
        if rate is None:
            if accel:
                fields |= dict(zip(("dw_accel_bandwidth", "dw_accel_duration", "dw_link_bandwidth"), accel))
            slot = self.ask("StartPlaying", ("ReportStartedPlaying",), incarnation, **fields)
        else:
            slot = self.ask("StartStriding", ("ReportStartStriding",), incarnation, rate=rate, **fields)
        slot["asked_at"] = time.monotonic()
        reply = await self.answer(slot, timeout)
        self._refuse(slot["request"], reply)
        return self.current

    async def seek(self, **where):
        """As this kind of client does it: stop and start, or (libmms) start while streaming."""
        if self.who.seeks_by_stop and self.state == "streaming":
            await self.stop()
        return await self.start(**where)

    def _log(self):
        asked = self.datagrams.asked_for if self.datagrams else 0
        self.send("Logging", log=mmsp.client_log(self.opened.open_file_id, self.url, (self.funnel or "tcp").upper(), asked=asked))

    async def stop(self):
        """StopPlaying, Logging where this client logs, and EndOfStream."""
        incarnation = self.last_start if self.who.stop_incarnation is None else self.who.stop_incarnation
        self.may_extra_end = self.state == "streaming"
        slot = self.ask("StopPlaying", ("ReportEndOfStream",), incarnation, open_file_id=self.opened.open_file_id,
                        play_incarnation=incarnation)
        if self.who.logs_stop:
            self._log()
        await self.answer(slot)

    async def packets(self, count, timeout=None):
        """Waits until the current play has so many packets, or ended."""
        play = self.current
        await self.until(lambda: len(play.packets) >= count or self._ended(play), f"packet {count}", timeout)
        return play

    def _ended(self, play):
        """Over UDP a play is over when nothing of it is awaited any more."""
        if play.end is None and play.ending is not None and (play is not self.current or self.datagrams.is_whole):
            play.end = play.ending
        return play.end is not None

    async def end(self, timeout=60.0):
        """Waits for EndOfStream of the current play and returns its hr."""
        play = self.current
        await self.until(lambda: self._ended(play), "EndOfStream", timeout)
        return play.end

    async def next_entry(self, timeout=30.0):
        """Waits for StreamChange and the next entry's header, then selects and starts as 3.1.4.4 says."""
        seen = len(self.entries)
        await self.until(lambda: len(self.entries) > seen or self.state == "changing" and self.collecting is None,
                         "StreamChange", timeout)
        if self.funnel == "udp":
            await self.read_header()
        self.selection, self.joined = {}, set()
        if self.who.switches:
            await self.select(wait=False)
        return await self.start()

    @contextlib.contextmanager
    def not_reading(self):
        """A player that is paused by not reading its socket."""
        self.reading.clear()
        try:
            yield
        finally:
            self.reading.set()

    async def close(self, timeout=15.0):
        """As this kind of client leaves: stops first where its rules say so (3.1.4.8), CloseFile, TCP."""
        if self.reader_task is None:
            return
        if self.opened is not None and self.who.closes and self.broken is None:
            if self.state == "streaming" and self.who.logs_stop:
                await self.stop()
            self.closed = True
            self.send("CloseFile", open_file_id=self.opened.open_file_id)
            try:
                await self.until(lambda: self.broken is not None, "the close after CloseFile", timeout)
            except Silent:
                if self.broken is None:
                    self.deviate("3.2.5.17", f"the server did not close within {timeout} s of CloseFile")
        self.hang_up()

    def hang_up(self, listening=False):
        """Closes TCP without a word; `listening`: datagrams are still counted, as `datagrams.late`."""
        if self.reader_task:
            self.reader_task.cancel()
            self.writer.close()
        if self.datagrams and not listening:
            self.datagrams.close()
        elif self.datagrams and self.datagrams.over is None:
            self.datagrams.drain()
            self.datagrams.over = time.monotonic()

    async def closed_by_server(self, timeout=15.0):
        try:
            await self.until(lambda: self.broken is not None, "the close", timeout)
        except Silent:
            return self.broken is not None
        return True

    # -- in one go --

    async def begin(self, **how):
        """Connect, open, header: what every play begins with."""
        await self.connect()
        await self.open(**how)
        await self.read_header()

    def judge_by(self, source):
        """Compare every packet with `source(location_id)`."""
        self.source = source


async def run_script(client, script, login, think):
    """`describe; select 1=0,2=2; play 20; seek 4.0; seek-packet 10; seek-byte 9000; stop; start; stride 2; end; pause 1`"""
    await client.begin(login=login, think=think)
    for step in filter(None, (part.strip() for part in script.split(";"))):
        what, _, value = step.partition(" ")
        if what == "describe":
            continue
        if what == "select":
            await client.select({int(k): int(v) for k, v in (pair.split("=") for pair in value.split(","))})
        elif what == "start":
            await client.start()
        elif what == "play":
            if client.state != "streaming":
                await client.start()
            await client.packets(len(client.current.packets) + int(value))
        elif what == "end":
            await client.end()
        elif what == "next-entry":
            await client.next_entry()
        elif what == "seek":
            await client.seek(position=float(value))
        elif what == "seek-packet":
            await client.seek(location=int(value))
        elif what == "seek-byte":
            await client.seek(offset=int(value))
        elif what == "stride":
            if client.state == "streaming":
                await client.stop()
            await client.start(rate=float(value))
        elif what == "stop":
            await client.stop()
        elif what == "cancel":
            await client.read_header(cancel=True)
        elif what == "pause":
            with client.not_reading():
                await asyncio.sleep(float(value))
        else:
            raise SystemExit(f"unknown step {what!r}")
    await client.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("url")
    parser.add_argument("--proxy", metavar="HOST:PORT", help="connect there instead of to the URL's host")
    parser.add_argument("--as", dest="identity", choices=sorted(IDENTITIES), default="wmp9")
    parser.add_argument("--do", default="play 10", help=run_script.__doc__)
    parser.add_argument("--login", metavar="USER:PASSWORD")
    parser.add_argument("--think", type=float, default=0.0, metavar="SECONDS", help="before answering a challenge")
    parser.add_argument("--pair", action="store_true", help="ask for a packet-pair measurement")
    parser.add_argument("--udp", action="store_true", help="ask for Data over UDP")
    parser.add_argument("--weather", type=float, default=0.0, metavar="SHARE", help="of datagrams lost, doubled and late, both ways")
    parser.add_argument("--lossy", action="store_true", help="the network itself has weather")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--compare", metavar="FILE", help="the ASF file that is served")
    parser.add_argument("--timeout", type=float, default=10.0)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    proxy = None
    if args.proxy:
        host, _, port = args.proxy.rpartition(":")
        proxy = (host.strip("[]"), int(port))
    login = tuple(args.login.split(":", 1)) if args.login else None

    async def play():
        udp = Udp(weather=Weather(args.weather, args.seed), weather_out=Weather(args.weather, args.seed + 1), lossy=args.lossy)
        client = Client(args.url, args.identity, proxy, args.timeout, pair=args.pair, udp=udp if args.udp else None)
        if args.compare:
            client.judge_by(asf.AsfFile(args.compare).looped)
        error = None
        try:
            await run_script(client, args.do, login, args.think)
        except (Refused, Redirected, Silent, ConnectionError) as reason:
            error = str(reason)
            client.hang_up()
        summary = {"error": error, "deviations": client.deviations, "notes": client.notes, "compared": client.compared,
                   "funnel": client.funnel, "datagrams": client.datagrams.summary() if client.datagrams else None,
                   "plays": [{"incarnation": p.incarnation, "packets": len(p.packets), "end": p.end,
                              "first": p.locations[:1], "last": p.locations[-1:]} for p in client.plays]}
        if args.json:
            print(json.dumps(summary, indent=1))
        else:
            for deviation in client.deviations:
                print(f"deviation: {deviation}")
            print(error or f"played {sum(len(p.packets) for p in client.plays)} packets in {len(client.plays)} plays")
        return 1 if error or client.deviations else 0

    sys.exit(asyncio.run(play()))


if __name__ == "__main__":
    main()
