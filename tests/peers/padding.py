"""The ways in which origins send a packet without its padding, and what stays the same whichever they take.

[MS-MMSP] 2.2.2 lets a server leave padding out and does not say how the packet's own fields then read (ASF 5.2.2, 5.2.4).
"""

from __future__ import annotations

import struct

import asf


def whole(data):
    """As it stands in the file."""
    return bytes(data)


def zeroed(data):
    """Padding Length keeps its place and says 0; a single payload keeps its padding, as a reader could not tell."""
    return asf.strip(data)


def cut(data):
    """The same, for single payloads too."""
    layout, packet = asf.layout(data), asf.parse_packet(data)
    out = bytearray(data[: packet.payloads[-1].end])
    _put(out, layout.padding_at, layout.length_flags >> 3, 0)
    _put(out, layout.packet_length_at, layout.length_flags >> 5, len(out))
    return bytes(out)


def dropped(data):
    """Padding Length is no field any more; of a single payload it stays."""
    packet = asf.parse_packet(data)
    return _rebuilt(data, packet) if packet.multiple else bytes(data)


def measured(data):
    """Packet Length says where the packet ends, and there is no Padding Length."""
    return _rebuilt(data, asf.parse_packet(data), packet_length=True)


def rewritten(data):
    """A single payload becomes the only one of several, which says its own length; Padding Length is dropped."""
    packet = asf.parse_packet(data)
    if packet.multiple or packet.padding < 16:
        return dropped(data)
    layout, payload = asf.layout(data), packet.payloads[0]
    out = bytearray(data[: layout.flags_at])
    out += bytes([layout.length_flags & ~0x78 | 1, layout.property_flags])
    out += _sequence(data, layout) + data[layout.send_time_at : layout.payloads_at] + b"\x81"
    out += data[payload.start : payload.end - len(payload.data)] + struct.pack("<H", len(payload.data)) + payload.data
    return bytes(out)


WAYS = {way.__name__: way for way in (whole, zeroed, cut, dropped, measured, rewritten)}


def essence(data):
    """The packet without its padding and without the fields that only count bytes: equal for packets that are equal."""
    layout, packet = asf.layout(data), asf.parse_packet(data)
    head = bytes([layout.length_flags & ~0x78, layout.property_flags])
    return (data[: layout.flags_at] + head + _sequence(data, layout)
            + data[layout.send_time_at : packet.payloads[-1].end])


def same(data, sent):
    """Are two packets equal?"""
    return data == sent or essence(data) == essence(sent)


def _rebuilt(data, packet, packet_length=False):
    layout = asf.layout(data)
    out = bytearray(data[: layout.flags_at])
    out += bytes([layout.length_flags & ~0x78 | (0x40 if packet_length else 0), layout.property_flags])
    out += (b"\0\0" if packet_length else b"") + _sequence(data, layout)
    out += data[layout.send_time_at : packet.payloads[-1].end]
    if packet_length:
        _put(out, layout.packet_length_at, 2, len(out))
    return bytes(out) if len(out) <= len(data) else bytes(data)


def _sequence(data, layout):
    size = (0, 1, 2, 4)[(layout.length_flags >> 1) & 3]
    return data[layout.padding_at - size : layout.padding_at]


def _put(out, at, kind, value):
    size = (0, 1, 2, 4)[kind & 3]
    if size:
        out[at : at + size] = value.to_bytes(size, "little")
