"""Judges what a viewer of a station got by what the payloads themselves say they are, whatever the numbers around them."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from broadcast import AUDIO, trace
from strict_client import parse_packet


def steps(before, after):
    """How far it is from one 32-bit number to another; negative when back."""
    return (after - before + (1 << 31)) % (1 << 32) - (1 << 31)


@dataclass
class Run:
    """Packets of one encoder behind each other, and what was added to its numbers."""

    tag: int
    location: int
    send: int
    presentation: int | None = None
    objects: dict = field(default_factory=dict)  # by stream
    first: int = 0  # index of its first packet in the play
    last: int = 0

    def agrees(self, other):
        """Were the same constants added, as far as both show them?"""
        same = all(other.objects.get(stream, moved) == moved for stream, moved in self.objects.items())
        return same and (self.location, self.send, self.presentation) == (other.location, other.send, other.presentation)


class Judge:
    """One play of one viewer: `faults`, and `runs`, one for each encoder it came from."""

    def __init__(self, play, *encoders):
        self.play, self.encoders = play, {encoder.tag: encoder for encoder in encoders}
        self.faults, self.runs, self.gaps = [], [], []
        self.open = {}  # stream: (encoder and object, object number, replicated data, offset that comes next)
        self.last = {}  # stream: (encoder and object, object number, presentation time) of the last that began
        self.sent = None
        for index, (location, data) in enumerate(play.packets):
            self.location = location
            self._packet(index, location, parse_packet(data))

    def _fault(self, text):
        self.faults.append(f"packet {self.location}: {text}")

    def _packet(self, index, location, packet):
        if index:
            step = steps(self.play.packets[index - 1][0], location)
            if step < 1:
                self._fault(f"LocationId after {self.play.packets[index - 1][0]}")
            elif step > 1:
                self.gaps.append((self.play.packets[index - 1][0], location))
        if self.sent is not None and steps(self.sent, packet.send_time) < 0:
            self._fault(f"send time {packet.send_time} after {self.sent}")
        self.sent = packet.send_time
        if not packet.payloads:
            self._fault("no payload")
        origins = {self._payload(index, location, packet, payload) for payload in packet.payloads}
        if len(origins) > 1:
            self._fault(f"payloads of the packets {sorted(map(str, origins))}")

    def _payload(self, index, location, packet, payload):
        said = trace(payload.data)
        if said is None or said[0] not in self.encoders or said[2] != payload.stream:
            self._fault(f"a payload of stream {payload.stream} that nobody sent: {payload.data[:12].hex()}")
            return None
        tag, number, stream, part = said
        encoder = self.encoders[tag]
        came_in, source = encoder.part(stream, number, part)
        if source is None or (source.key, source.offset, source.replicated[:4], source.replicated[8:], source.data) != (
                payload.key, payload.offset, payload.replicated[:4], payload.replicated[8:], payload.data):
            self._fault(f"object {number} of stream {stream}, part {part}, was changed")
            return tag, came_in
        self._constants(index, encoder, came_in, location, packet, payload, source)
        self._continuity(payload, tag, number)
        return tag, came_in

    def _constants(self, index, encoder, came_in, location, packet, payload, source):
        moved = steps(encoder.location(came_in), location)
        sent = steps(encoder.send_time(encoder.location(came_in)), packet.send_time)
        shown = steps(*(struct.unpack_from("<I", p.replicated, 4)[0] for p in (source, payload)))
        numbered = (payload.object_number - source.object_number) % 256
        if not self.runs or self.runs[-1].tag != encoder.tag:
            self.runs.append(Run(encoder.tag, moved, sent, first=index))
        run = self.runs[-1]
        run.last = index
        if run.presentation is None:
            run.presentation = shown
        have = (run.location, run.send, run.presentation, run.objects.setdefault(payload.stream, numbered))
        if have != (moved, sent, shown, numbered):
            self._fault(f"stream {payload.stream} is moved by {(moved, sent, shown, numbered)} (LocationId, send time, "
                        f"presentation, object), what was before it by {have}")

    def _continuity(self, payload, tag, number):
        stream, shown = payload.stream, struct.unpack_from("<I", payload.replicated, 4)[0]
        if payload.offset:
            if self.open.pop(stream, None) != (tag, number, payload.object_number, payload.replicated, payload.offset):
                self._fault(f"stream {stream}: a tail of object {payload.object_number} without its head")
            return
        before, unfinished = self.last.get(stream), self.open.pop(stream, None)
        if before is not None:
            if before[2] == payload.object_number:
                self._fault(f"stream {stream}: another object {payload.object_number} right after that number")
            if steps(before[3], shown) < 0:
                self._fault(f"stream {stream}: presentation time {shown} after {before[3]}")
        goes_on = before is not None and unfinished is None and before[:2] == (tag, number - 1)
        if not goes_on and stream != AUDIO and not payload.key:
            self._fault(f"stream {stream} begins with object {payload.object_number}, which is no key frame")
        if len(payload.data) < struct.unpack_from("<I", payload.replicated)[0]:
            self.open[stream] = (tag, number, payload.object_number, payload.replicated, len(payload.data))
        self.last[stream] = (tag, number, payload.object_number, shown)

    def first(self, stream):
        """(index, LocationId, payload) where a stream begins."""
        for index, (location, data) in enumerate(self.play.packets):
            for payload in parse_packet(data).payloads:
                if payload.stream == stream:
                    return index, location, payload
        return None


def disagreements(plays):
    """What two viewers got differently under the same LocationId, padding and payloads that one did not select aside."""
    known, sent, found = {}, {}, []
    for number, play in enumerate(plays):
        for location, data in play.packets:
            packet = parse_packet(data)
            if sent.setdefault(location, packet.send_time) != packet.send_time:
                found.append(f"viewer {number}: the send time of packet {location} differs")
            for payload in packet.payloads:
                key = (location, payload.stream, payload.object_number, payload.offset)
                if known.setdefault(key, payload.identity) != payload.identity:
                    found.append(f"viewer {number}: a payload of stream {payload.stream} in packet {location} differs")
    return found
