"""An endless live source, each packet a function of its number, and the stations that put such sources on the air.

Every payload says in its first bytes which encoder, object and part it is, so a judge knows what came without believing any
number around it. A delta frame spans two packets; each packet holds the tail of one frame and the head of the next.
"""

from __future__ import annotations

import asyncio
import functools
import struct
import uuid

import asf
import mmsp
from still import STILL

VIDEO, LOW, AUDIO = 1, 2, 3
_MARK = struct.Struct("<2sHIBB")
_EXTENSION = uuid.UUID("5FBF03B5-A92E-11CF-8EE3-00C00C205365").bytes_le
_RESERVED_1 = uuid.UUID("ABD3D211-A9BA-11CF-8EE6-00C00C205365").bytes_le
_BIT_RATES = uuid.UUID("7BF875CE-468D-11D1-8D82-006097C9A2B2").bytes_le
_NO_CORRECTION = uuid.UUID("20FB5700-5B55-11CF-A8FD-00805F5C442B").bytes_le
_ONE_DAY = 864_000_000_000  # of 100 ns


def trace(data):
    """(encoder's tag, object, stream, part) of a payload's data; `None` when it is not one of ours."""
    if len(data) < _MARK.size:
        return None
    mark, tag, number, stream, part = _MARK.unpack_from(data)
    return (tag, number, stream, part) if mark == b"LV" else None


class Encoder:
    """Video 1 has a frame a packet and a key frame every `key_every`, video 2 a frame every two packets, audio a whole
    object a packet, without the key bit. Packet 0 has `first_location` and so on; all of them wrap as on the wire."""

    def __init__(self, tag=1, *, step_ms=50, key_every=20, videos=2, preroll_ms=1000, packet_size=600, full=False,
                 first_location=0, first_send=0, first_presentation=0, first_object=0, file_id=1, created=1, width=320,
                 left_open=0):
        self.tag, self.step_ms, self.key_every, self.packet_size, self.full = tag, step_ms, key_every, packet_size, full
        self.first_location, self.first_send, self.first_presentation = first_location, first_send, first_presentation
        self.first_object, self.preroll_ms = first_object, preroll_ms
        self.streams = ([VIDEO, LOW][:videos]) + [AUDIO]
        self.bit_rate = packet_size * 8 * 1000 // step_ms
        self.header = asf.AsfHeader(self._header(file_id, created, width, left_open))
        self.looped = functools.lru_cache(2048)(self._looped)
        self.part = functools.lru_cache(8192)(self._part)

    # -- the header --

    def _header(self, file_id, created, width, left_open):
        """`left_open`: what stands in the sizes, counts and durations that a broadcast can't know."""
        file_id = bytes([file_id]) * 16
        objects = [file_properties(file_id, created, self.preroll_ms, self.packet_size, self.bit_rate, flags=1, size=left_open,
                                   count=left_open, play=left_open, send=left_open),
                   _object(_EXTENSION, _RESERVED_1 + struct.pack("<HI", 6, 0))]
        for stream in self.streams:
            objects.append(stream_properties(stream, asf.AUDIO if stream == AUDIO else asf.VIDEO, width // stream, 240 // stream))
        objects.append(bit_rates({stream: self.bit_rate // len(self.streams) for stream in self.streams}))
        return header_object(objects, file_id)

    # -- packets --

    def number(self, location):
        """Which of our packets has this LocationId."""
        return (location - self.first_location) & 0xFFFFFFFF

    def location(self, number):
        return (self.first_location + number) & 0xFFFFFFFF

    def send_time(self, location):
        return (self.first_send + self.number(location) * self.step_ms) & 0xFFFFFFFF

    def is_key(self, stream, number):
        """Is this object a key frame? Those of the two videos never begin in the same packet."""
        if stream == VIDEO:
            return number % self.key_every == 0
        half = self.key_every // 2
        return stream == LOW and number % half == half // 2

    def key_packet(self, number, streams=(VIDEO,)):
        """The last packet up to this one that begins a key frame of one of `streams`."""
        while number > 0 and not any(self.is_key(*begun) for begun in self.begins(number) if begun[0] in streams):
            number -= 1
        return number

    def begins(self, number):
        """(stream, object) of what begins in a packet."""
        for stream in self.streams:
            if stream != LOW:
                yield stream, number
            elif number % 2 == 0:
                yield stream, number // 2

    def _looped(self, location):
        number = self.number(location)
        size = self.packet_size
        parts = []
        if VIDEO in self.streams:
            if number:
                parts.append((VIDEO, number - 1, 1, size * 2 // 10, size * 5 // 10))
            parts.append((VIDEO, number, 0, size * 3 // 10, size * 5 // 10))
        if LOW in self.streams:
            parts.append((LOW, number // 2, number % 2, size // 10, size * 2 // 10))
        room = size - 14 - sum(17 + part[3] for part in parts) - 17
        sound = room if self.full else min(room, max(size // 20, _MARK.size))
        parts.append((AUDIO, number, 0, sound, sound))
        body = b"".join(self._payload(*part) for part in parts)
        # Error correction, several payloads, a padding length of two bytes; the field sizes that everybody uses.
        padding = size - 14 - len(body)
        head = struct.pack("<3sBBHIHB", b"\x82\x00\x00", 0x11, 0x5D, padding, self.send_time(location), self.step_ms,
                           0x80 | len(parts))
        return head + body + bytes(padding)

    def _part(self, stream, number, part):
        """The packet in which a part of an object is, and its payload there; `None` when there is no such part."""
        packet = (number * 2 if stream == LOW else number) + part
        payloads = asf.parse_packet(self.looped(self.location(packet))).payloads
        return packet, next((p for p in payloads if trace(p.data) == (self.tag, number, stream, part)), None)

    def _payload(self, stream, number, part, size, whole):
        data = self.data(stream, number, part, size)
        offset = whole - size if part else 0
        presentation = self.first_presentation + self.preroll_ms + number * self.step_ms * (2 if stream == LOW else 1)
        return struct.pack("<BBIBIIH", stream | (0x80 if self.is_key(stream, number) else 0), (self.first_object + number) & 0xFF,
                           offset, 8, whole, presentation & 0xFFFFFFFF, size) + data

    def data(self, stream, number, part, size):
        filler = (f"{stream}.{number}.{part} ".encode() * (size // 4 + 1))[: size - _MARK.size]
        return _MARK.pack(b"LV", self.tag, number, stream, part) + filler


def _object(guid, body):
    return guid + struct.pack("<Q", 24 + len(body)) + body


def header_object(objects, file_id, packets=0, data_size=asf.DATA_OBJECT_HEAD):
    """A Header Object and the head of the Data Object (ASF 3.1, 5.1)."""
    body = b"".join(objects)
    head = asf.HEADER + struct.pack("<QIBB", 30 + len(body), len(objects), 1, 2)
    return head + body + asf.DATA + struct.pack("<Q16sQ", data_size, file_id, packets) + b"\x01\x01"


def file_properties(file_id, created, preroll_ms, packet_size, bit_rate, *, flags, count, play, send, size=0):
    """ASF 3.2; `created` in days, `play` and `send` in 100 ns."""
    return _object(asf.FILE_PROPERTIES, struct.pack("<16sQQQQQQIIII", file_id, size, created * _ONE_DAY, count, play, send,
                                                    preroll_ms, flags, packet_size, packet_size, bit_rate))


def stream_properties(number, kind, width, height):
    """ASF 3.3, for a video or a sound."""
    if kind == asf.AUDIO:
        specific = struct.pack("<HHIIHHH", 0x161, 1, 22050, 2000, 93, 16, 0)
    else:
        info = struct.pack("<IiiHH4sIiiII", 40, width, height, 1, 24, b"WMV2", 0, 0, 0, 0, 0)
        specific = struct.pack("<IIBH", width, height, 2, len(info)) + info
    body = struct.pack("<16s16sQIIHI", kind, _NO_CORRECTION, 0, len(specific), 0, number, 0) + specific
    return _object(asf.STREAM_PROPERTIES, body)


def bit_rates(rates):
    """Stream Bitrate Properties, ASF 3.12: bit rates by stream number."""
    records = b"".join(struct.pack("<HI", number, rate) for number, rate in rates.items())
    return _object(_BIT_RATES, struct.pack("<H", len(rates)) + records)


class Station:
    """A name on the strict origin under which an encoder is on the air, after which another one may be.

    `age`: seconds it has been on the air; `reach`: a listener's first packets go back to the last key frame at least so
    many seconds ago; `anywhere`: it begins just there, key frame or not.
    """

    kind, auth, think, refuses, hangs, gates = "station", "", 0.0, None, False, True

    def __init__(self, name, encoder, *, age=60.0, reach=0.0, anywhere=False, attributes=mmsp.BROADCAST, header_pause=0.0):
        self.name, self.reach, self.anywhere, self.attributes = name, reach, anywhere, attributes
        self.header_pause = header_pause  # in the middle of the header that follows a StreamChange
        self.files, self.began = [encoder], [STILL.clock() - age]
        self.ended, self.commanded = None, asyncio.Event()

    @property
    def file(self):
        return self.files[-1]

    @property
    def entry(self):
        return len(self.files) - 1

    def header(self, entry=-1):
        return self.files[entry].header.bytes

    def live(self, entry=-1):
        """The number of the packet that is on the air."""
        return max(0, int((STILL.clock() - self.began[entry]) * 1000 / self.files[entry].step_ms))

    def due(self, entry, number):
        return self.began[entry] + number * self.files[entry].step_ms / 1000

    def first(self, entry):
        """Where a listener who comes now begins."""
        encoder = self.files[entry]
        number = max(0, self.live(entry) - int(self.reach * 1000 / encoder.step_ms))
        return number if self.anywhere else encoder.key_packet(number)

    def edition(self):
        return self

    def breaks_now(self, sent):
        return False

    async def moves_on(self):
        """Until who comes now begins later than what is on the air as this is called: no packet is sent to anyone twice."""
        live = self.live()
        while self.first(-1) <= live:
            await asyncio.sleep(self.file.step_ms / 1000)

    # -- commands --

    def _command(self):
        self.commanded.set()
        self.commanded = asyncio.Event()

    def change(self, encoder, age=0.0):
        """The next entry begins now."""
        self.files.append(encoder)
        self.began.append(STILL.clock() - age)
        self._command()

    def finish(self, hr=0):
        """The broadcast is over."""
        self.ended = hr
        self._command()

    def go_on(self):
        """It is on the air again."""
        self.ended = None

    async def wait(self, seconds):
        """Until then, or until a command comes."""
        try:
            await asyncio.wait_for(self.commanded.wait(), seconds)
        except asyncio.TimeoutError:
            pass
