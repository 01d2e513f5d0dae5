"""Finite ASF files made on the spot: any length, any number of bit rates, every kind of padding that files have.

A film's bytes are a function of its arguments. Two films that differ in their tag have no payload in common, so a packet tells
which one it is from.
"""

from __future__ import annotations

import functools
import random
import struct

import asf
from broadcast import bit_rates, file_properties, header_object, stream_properties

FRAME_MS = 100
_HEAD = 3 + 2 + 6  # error correction, flags and properties, send time and duration; Padding Length comes on top
_PAYLOAD = 1 + 1 + 4 + 1 + 8  # and two more bytes of length where there are several


@functools.lru_cache(64)
def film(tag=1, *, seconds=6.0, rates=(250_000,), sound=32_000, packet_size=1450, key_ms=1000, preroll_ms=1000, created=1,
         declare=0):
    """An `AsfFile`. `rates`: of each video stream, which are 1, 2 and so on; the sound comes behind them. `declare`: by how
    many packets its header counts too many."""
    streams = [(number, asf.VIDEO, rate) for number, rate in enumerate(rates, 1)]
    if sound:
        streams.append((len(streams) + 1, asf.AUDIO, sound))
    packets = _packets(tag, streams, round(seconds * 1000), key_ms, preroll_ms, packet_size)
    head = _header(tag, streams, round(seconds * 1000), preroll_ms, packet_size, created, len(packets) + declare, 0)
    size = len(head) + len(packets) * packet_size
    head = _header(tag, streams, round(seconds * 1000), preroll_ms, packet_size, created, len(packets) + declare, size)
    return asf.AsfFile(data=head + b"".join(packets))


def _header(tag, streams, length_ms, preroll_ms, packet_size, created, count, size):
    file_id = bytes([tag]) * 16
    properties = file_properties(file_id, created, preroll_ms, packet_size, sum(rate for _, _, rate in streams), flags=2,
                                 size=size, count=count, play=(length_ms + preroll_ms) * 10_000, send=length_ms * 10_000)
    objects = [properties, *(stream_properties(number, kind, 320, 240) for number, kind, _ in streams),
               bit_rates({number: rate for number, _, rate in streams})]
    return header_object(objects, file_id, count, asf.DATA_OBJECT_HEAD + count * packet_size)


def _objects(tag, streams, length_ms, key_ms):
    """(time, stream, number, key, data) of each media object, in the order of their times."""
    dice = random.Random(tag)
    for number, time in enumerate(range(0, length_ms, FRAME_MS)):
        for stream, kind, rate in streams:
            yield time, stream, number, kind == asf.VIDEO and time % key_ms == 0, dice.randbytes(rate * FRAME_MS // 8000)


def _packets(tag, streams, length_ms, key_ms, preroll_ms, packet_size):
    """Six packets of eight take several payloads and are filled to the brim, or to their half; one is a single payload
    without padding, one a single payload with some."""
    packets, payloads, sent = [], [], 0
    single, room = _shape(0, packet_size)

    def close():
        nonlocal payloads, single, room
        packets.append(_packet(payloads, single, sent, packet_size))
        payloads = []
        single, room = _shape(len(packets), packet_size)

    for time, stream, number, key, data in _objects(tag, streams, length_ms, key_ms):
        at = 0
        while at < len(data):
            overhead = _PAYLOAD if single else _PAYLOAD + 2
            if room < overhead + 16 or len(payloads) == 63:
                close()
                continue
            if not payloads:
                sent = time
            piece = data[at : at + room - overhead]
            head = struct.pack("<BBIBII", stream | 0x80 * key, number & 0xFF, at, 8, len(data), preroll_ms + time)
            payloads.append(head + (b"" if single else struct.pack("<H", len(piece))) + piece)
            at += len(piece)
            room -= overhead + len(piece)
            if single:
                close()
    if payloads:
        close()
    return packets


def _shape(number, packet_size):
    """Has the packet a single payload, and how many bytes may its payloads take?"""
    room = packet_size - _HEAD - 1 - 2  # Payload Flags, and Padding Length at its widest
    kind = number % 8
    if kind == 5:
        return True, packet_size - _HEAD
    if kind == 6:
        return True, room - 40
    return False, room // 2 if kind == 4 else room


def _packet(payloads, single, sent, packet_size):
    body = b"".join(payloads)
    if not single:
        body = bytes([0x80 | len(payloads)]) + body
    left = packet_size - _HEAD - len(body)
    width = 0 if left == 0 else 1 if left <= 256 else 2
    padding = (left - width).to_bytes(width, "little")
    flags = (0 if single else 1) | width << 3
    head = b"\x82\x00\x00" + bytes([flags, 0x5D]) + padding + struct.pack("<IH", sent, FRAME_MS)
    return head + body + bytes(left - width)
