"""Just enough ASF to serve a file and to judge what arrives: headers, data packets, payloads.

Written from the ASF specification alone, on purpose without a look at the Rust code it judges.
"""

from __future__ import annotations

import functools
import struct
import uuid
from dataclasses import dataclass

HEADER = uuid.UUID("75B22630-668E-11CF-A6D9-00AA0062CE6C").bytes_le
DATA = uuid.UUID("75B22636-668E-11CF-A6D9-00AA0062CE6C").bytes_le
FILE_PROPERTIES = uuid.UUID("8CABDCA1-A947-11CF-8EE4-00C00C205365").bytes_le
STREAM_PROPERTIES = uuid.UUID("B7DC0791-A9B7-11CF-8EE6-00C00C205365").bytes_le
AUDIO = uuid.UUID("F8699E40-5B4D-11CF-A8FD-00805F5C442B").bytes_le
VIDEO = uuid.UUID("BC19EFC0-5B4D-11CF-A8FD-00805F5C442B").bytes_le

DATA_OBJECT_HEAD = 50


class AsfError(ValueError):
    """These bytes are no ASF that we understand."""


@dataclass(frozen=True)
class Payload:
    """One payload of a data packet; `start` and `end` are offsets in the packet it was read from."""

    stream: int
    key: bool
    object_number: int
    offset: int
    replicated: bytes
    data: bytes
    start: int
    end: int

    @property
    def identity(self):
        """What must be equal, however the packet around it was rewritten."""
        return (self.stream, self.key, self.object_number, self.offset, self.replicated, self.data)


@dataclass(frozen=True)
class Packet:
    send_time: int
    duration: int
    payloads: tuple
    multiple: bool
    padding: int


def _sized(data, at, kind):
    size = (0, 1, 2, 4)[kind & 3]
    if at + size > len(data):
        raise AsfError("a field runs past the packet")
    return int.from_bytes(data[at : at + size], "little"), at + size


class _Layout:
    """Where the fields of a packet stand (ASF 5.2.2)."""

    def __init__(self, data):
        if len(data) < 9:
            raise AsfError(f"a packet of {len(data)} bytes")
        at = 0
        if data[0] & 0x80:
            if data[0] & 0x60:
                raise AsfError("error correction of an unknown length type")
            at = 1 + (data[0] & 15)
        if at + 2 > len(data):
            raise AsfError("no room for the payload parsing information")
        self.flags_at = at
        self.length_flags, self.property_flags = data[at], data[at + 1]
        at += 2
        self.packet_length_at = at
        self.packet_length, at = _sized(data, at, self.length_flags >> 5)
        _, at = _sized(data, at, self.length_flags >> 1)
        self.padding_at = at
        self.padding, at = _sized(data, at, self.length_flags >> 3)
        if at + 6 > len(data):
            raise AsfError("no room for the send time")
        self.send_time_at = at
        self.send_time, self.duration = struct.unpack_from("<IH", data, at)
        self.payloads_at = at + 6
        self.end = len(data)
        if (self.length_flags >> 5) & 3 and self.packet_length <= self.end:
            self.end = self.packet_length


def layout(data):
    """Where the fields of a packet stand."""
    return _Layout(data)


def parse_packet(data):
    """Reads a data packet as delivered (its size is what arrived)."""
    layout = _Layout(data)
    at, properties, multiple = layout.payloads_at, layout.property_flags, bool(layout.length_flags & 1)
    count, length_type = 1, 0
    if multiple:
        if at >= layout.end:
            raise AsfError("no payload flags")
        count, length_type = data[at] & 63, data[at] >> 6
        at += 1
        if not count or not length_type:
            raise AsfError("multiple payloads without a count or a length")
    payloads = []
    for _ in range(count):
        start = at
        if at >= layout.end:
            raise AsfError("a payload past the end of the packet")
        number = data[at]
        object_number, at = _sized(data, at + 1, properties >> 4)
        offset, at = _sized(data, at, properties >> 2)
        replicated_length, at = _sized(data, at, properties)
        if 1 < replicated_length < 8:
            raise AsfError(f"replicated data of {replicated_length} bytes")
        replicated = bytes(data[at : at + replicated_length])
        at += replicated_length
        if multiple:
            length, at = _sized(data, at, length_type)
        else:
            length = layout.end - at - layout.padding
        if length < 0 or at + length > layout.end:
            raise AsfError(f"a payload of {length} bytes at {at} in a packet of {layout.end}")
        payloads.append(
            Payload(number & 0x7F, bool(number & 0x80), object_number, offset, replicated,
                    bytes(data[at : at + length]), start, at + length)
        )
        at += length
    return Packet(layout.send_time, layout.duration, tuple(payloads), multiple, layout.end - at)


def select(data, wanted):
    """The packet with the payloads `wanted` says yes to: the same bytes when all stay, `None` when none does."""
    packet = parse_packet(data)
    kept = [p for p in packet.payloads if wanted(p)]
    if not kept:
        return None
    if len(kept) == len(packet.payloads):
        return bytes(data)
    layout = _Layout(data)
    out = bytearray(data[: layout.flags_at])
    out.append(layout.length_flags & ~0x78)  # no packet length, no padding length
    out.append(layout.property_flags)
    sequence_size = (0, 1, 2, 4)[(layout.length_flags >> 1) & 3]
    out += data[layout.padding_at - sequence_size : layout.padding_at]
    out += data[layout.send_time_at : layout.payloads_at]
    out.append((data[layout.payloads_at] & 0xC0) | len(kept))
    for payload in kept:
        out += data[payload.start : payload.end]
    return bytes(out)


def strip(data):
    """The packet without its padding, where a reader that pads it again cannot be misled (multiple payloads)."""
    layout = _Layout(data)
    packet = parse_packet(data)
    if not packet.multiple or not packet.padding:
        return bytes(data)
    out = bytearray(data[: packet.payloads[-1].end])
    size = (0, 1, 2, 4)[(layout.length_flags >> 3) & 3]
    out[layout.padding_at : layout.padding_at + size] = bytes(size)
    size = (0, 1, 2, 4)[(layout.length_flags >> 5) & 3]
    out[layout.packet_length_at : layout.packet_length_at + size] = len(out).to_bytes(size, "little") if size else b""
    return bytes(out)


def shift(data, milliseconds, objects):
    """Moves the packet's times and its object numbers (`objects`: by stream) by constants."""
    layout = _Layout(data)
    out = bytearray(data)
    struct.pack_into("<I", out, layout.send_time_at, (layout.send_time + milliseconds) & 0xFFFFFFFF)
    size = (0, 1, 2, 4)[(layout.property_flags >> 4) & 3]
    for payload in parse_packet(data).payloads:
        number_at = payload.start + 1
        number = (payload.object_number + objects.get(payload.stream, 0)) % (1 << (8 * size)) if size else 0
        out[number_at : number_at + size] = number.to_bytes(size, "little") if size else b""
        offset_size = (0, 1, 2, 4)[(layout.property_flags >> 2) & 3]
        replicated_size = (0, 1, 2, 4)[layout.property_flags & 3]
        if len(payload.replicated) >= 8:
            at = number_at + size + offset_size + replicated_size + 4
            time = struct.unpack_from("<I", out, at)[0]
            struct.pack_into("<I", out, at, (time + milliseconds) & 0xFFFFFFFF)
        elif len(payload.replicated) == 1 and offset_size == 4:
            at = number_at + size
            struct.pack_into("<I", out, at, (payload.offset + milliseconds) & 0xFFFFFFFF)
    return bytes(out)


class AsfHeader:
    """What Header Object and the head of the Data Object say (ASF 3)."""

    def __init__(self, data):
        if len(data) < 30 or data[:16] != HEADER:
            raise AsfError("no Header Object")
        self.object_size = struct.unpack_from("<Q", data, 16)[0]
        self.size = self.object_size + DATA_OBJECT_HEAD
        if self.object_size < 30 or self.size > len(data):
            raise AsfError(f"a Header Object of {self.object_size} bytes in {len(data)}")
        self.bytes = bytes(data[: self.size])
        if self.bytes[self.object_size : self.object_size + 16] != DATA:
            raise AsfError("no Data Object behind the Header Object")
        if self.bytes[-2:] != b"\x01\x01":
            raise AsfError("the Data Object's head does not end in 01 01")
        self.streams = {}
        self.file_properties_at = None
        at = 30
        while at + 24 <= self.object_size:
            guid, size = data[at : at + 16], struct.unpack_from("<Q", data, at + 16)[0]
            if size < 24 or at + size > self.object_size:
                raise AsfError(f"an object of {size} bytes at {at}")
            if guid == FILE_PROPERTIES:
                self.file_properties_at = at
                (self.packet_count, self.play_duration, self.send_duration, self.preroll_ms, self.flags,
                 self.min_packet_size, self.packet_size, self.max_bit_rate) = struct.unpack_from("<QQQQIIII", data, at + 56)
            elif guid == STREAM_PROPERTIES:
                number = struct.unpack_from("<H", data, at + 72)[0] & 0x7F
                self.streams.setdefault(number, bytes(data[at + 24 : at + 40]))
            at += size
        if self.file_properties_at is None:
            raise AsfError("no File Properties Object")

    @property
    def broadcast(self):
        return bool(self.flags & 1)

    @property
    def duration(self):
        """Seconds of content: the play duration without the preroll."""
        return 0.0 if self.broadcast else max(0.0, self.play_duration / 1e7 - self.preroll_ms / 1e3)

    @property
    def video(self):
        return [number for number, kind in self.streams.items() if kind == VIDEO]

    def as_broadcast(self):
        """The same header for content without an end."""
        out = bytearray(self.bytes)
        at = self.file_properties_at
        struct.pack_into("<Q", out, at + 40, 0)
        struct.pack_into("<QQQ", out, at + 56, 0, 0, 0)
        struct.pack_into("<I", out, at + 88, (self.flags | 1) & ~2)
        struct.pack_into("<Q", out, self.object_size + 16, DATA_OBJECT_HEAD)
        struct.pack_into("<Q", out, self.object_size + 40, 0)
        return bytes(out)


class AsfFile:
    """A whole file in memory: header and packets by number."""

    def __init__(self, path=None, data=None):
        if data is None:
            with open(path, "rb") as file:
                data = file.read()
        self.header = AsfHeader(data)
        size, first = self.header.packet_size, self.header.size
        self.packets = [data[at : at + size] for at in range(first, first + self.header.packet_count * size, size)]
        self.packets = [p for p in self.packets if len(p) == size]
        self.parsed = [parse_packet(p) for p in self.packets]
        self.period_ms = round(self.header.duration * 1000)
        self.objects = {}
        for packet in self.parsed:
            for payload in packet.payloads:
                low, high = self.objects.get(payload.stream, (None, None))
                if low is None:
                    low = high = payload.object_number
                elif (payload.object_number - high) % 256 == 1:
                    high += 1
                self.objects[payload.stream] = (low, high)
        self.objects = {stream: high - low + 1 for stream, (low, high) in self.objects.items()}

    def looped(self, location):
        """Packet `location` of the file played round and round; times and object numbers go on."""
        turn, number = divmod(location, len(self.packets))
        if not turn:
            return self.packets[number]
        return shift(self.packets[number], turn * self.period_ms, {s: n * turn for s, n in self.objects.items()})

    def send_time(self, location):
        turn, number = divmod(location, len(self.packets))
        return self.parsed[number].send_time + turn * self.period_ms

    def has_key(self, number):
        """Does a media object that a viewer can begin with start in this packet?"""
        video = set(self.header.video)
        return any(p.offset == 0 and (p.key if video else True) and (not video or p.stream in video)
                   for p in self.parsed[number].payloads)

    def packet_at(self, seconds):
        """The packet of the last key frame at or before a content time."""
        keys = self.key_packets
        times = [time for time in keys if time <= seconds * 1000 + self.header.preroll_ms + 1]
        return keys[max(times)] if times else 0

    @functools.cached_property
    def key_packets(self):
        """Where the first of the key frames of each presentation time begins."""
        keys = {}
        for number in range(len(self.parsed)):
            if self.has_key(number):
                keys.setdefault(self.presentation(number), number)
        return keys

    def presentation(self, number):
        """When the object that a viewer can begin with is to be shown, in ms with the preroll."""
        video = set(self.header.video)
        return min(int.from_bytes(p.replicated[4:8], "little") for p in self.parsed[number].payloads
                   if p.offset == 0 and len(p.replicated) >= 8 and (not video or p.key and p.stream in video))
