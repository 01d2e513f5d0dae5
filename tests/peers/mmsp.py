"""[MS-MMSP] messages, packets and names: an independent codec with strict checks.

Decoding raises `Malformed` where the place in the stream is lost or a declared length lies; everything else a
specification MUST or SHOULD says about a field is reported by the `check_*` generators, as (level, section, text)
with level "deviation" for a MUST and "note" for a SHOULD.
"""

from __future__ import annotations

import re
import struct

SESSION_ID = 0xB00BFACE
SEAL = 0x20534D4D
DISABLE_PACKET_PAIR = 0xF0F0F0EF
USE_PACKET_PAIR = 0xF0F0F0F0
TCP_HIGH_ENTROPY = 0xF0F0F0F1
UDP_HIGH_ENTROPY = 0xF0F0F901
DBL_MAX = struct.unpack("<d", bytes.fromhex("FFFFFFFFFFFFEF7F"))[0]
UNUSED = 0xFFFFFFFF
LARGEST_CONTROL_PACKET = 64 * 1024
RESEND_SIGNATURE = 0xBEEFF00D
PAIR_LOCATIONS = (0xF0F0F000, 0xF0F0F001)  # of the two packet-pair packets over UDP
PAIR_PAYLOAD = 1464

CANSTRIDE, CANSEEK, BROADCAST, LIVE, PLAYLIST = 0x00800000, 0x01000000, 0x02000000, 0x04000000, 0x40000000

E_ACCESSDENIED = 0x80070005
NS_E_CANNOTCONNECT = 0xC00D0006
NS_E_TIMEOUT = 0xC00D0013
NS_E_FILE_NOT_FOUND = 0xC00D001A
NS_E_INVALID_NAME = 0xC00D001C
NS_E_CONNECTION_FAILURE = 0xC00D0029
NS_E_INVALID_DATA = 0xC00D002F
NS_E_BAD_CONTROL_DATA = 0xC00D0032


class Malformed(Exception):
    """The bytes break a rule we cannot read past; the section says which."""

    def __init__(self, section, text):
        super().__init__(f"{text} ([MS-MMSP] {section})")
        self.section = section


def failed(hr):
    """Is this HRESULT an error?"""
    return bool(hr & 0x80000000)


# Fields: name:format, then `!value` (MUST be), `~value` (SHOULD be), `=value` (our default, not checked).
# Tails: how the variable part is read.
_TABLE = """
ReportConnectedEX          00040001 2.2.4.2  hr:I=0 play_incarnation:I=0xF0F0F0EF mac_to_viewer_protocol_revision:I!0x0004000B viewer_to_mac_protocol_revision:I!0x0003001C block_group_play_time:d!1.0 block_group_blocks:I!1 n_max_open_files:I!1 n_block_max_bytes:I!0x8000 max_bit_rate:I!0x00989680 | connected
ReportConnectedFunnel      00040002 2.2.4.3  hr:I!0 play_incarnation:I~0 packet_payload_size:I~0 | funnel_name
ReportDisconnectedFunnel   00040003 2.2.4.4  hr:I=0x80004005 play_incarnation:I~0 |
ReportStartedPlaying       00040005 2.2.4.10 hr:I=0 play_incarnation:I=0 tiger_file_id:I=0 unused1:I=0 unused2:12s!0 |
ReportOpenFile             00040006 2.2.4.7  hr:I=0 play_incarnation:I=0 open_file_id:I=1 padding:I~0 file_name:I!0 file_attributes:I=0 file_duration:d=0.0 file_blocks:I=0 unused1:16s!0 file_packet_size:I=0 file_packet_count:Q=0 file_bit_rate:I=0 file_header_size:I=0 unused2:36s!0 |
ReportStartStriding        0004000A 2.2.4.11 hr:I=0 play_incarnation:I=0 spare:I!0 |
ReportReadBlock            00040011 2.2.4.8  hr:I=0 play_incarnation:I=0 play_sequence:I!0 |
ReportFunnelInfo           00040015 2.2.4.6  hr:I=0 play_incarnation:I=0xF0F0F0EF transport_mask:I!8 n_block_fragments:I!1 fragment_bytes:I!0x10000 n_cubs:I=0 failed_cubs:I!0 n_disks:I!1 decluster:I!0 cubdd_datagram_size:I!0 | packet_pair
SecurityChallenge          0004001A 2.2.4.14 play_incarnation:I=0 cookie:I=0 | token
Ping                       0004001B 2.2.4.1  dw_param1:I~0 dw_param2:I~0 |
ReportEndOfStream          0004001E 2.2.4.5  hr:I=0 play_incarnation:I=0 |
ReportStreamChange         00040020 2.2.4.12 hr:I!0 dw_tcp_hdr_incarnation:I!0xFF cb_packet_size:I=0 cb_header_size:I=0 dw_bit_rate:I=0 dw_stream_id:I~0 |
ReportStreamSwitch         00040021 2.2.4.13 hr:I=0 |
ReportRedirect             00040022 2.2.4.9  hr:I=0 redirect_type:H=1 | location
Connect                    00030001 2.2.4.17 play_incarnation:I~0xF0F0F0EF,0xF0F0F0F0 mac_to_viewer_protocol_revision:I!0x0004000B viewer_to_mac_protocol_revision:I!0x0003001C | subscriber_name
ConnectFunnel              00030002 2.2.4.18 play_incarnation:I~0 max_block_bytes:I~0xFFFFFFFF max_funnel_bytes:I~0 max_bit_rate:I~0x00989680 funnel_mode:I!2 | funnel_name
OpenFile                   00030005 2.2.4.21 play_incarnation:I=1 spare:I~0 | open_file
StartPlaying               00030007 2.2.4.25 open_file_id:I=1 padding:I~0 position:d=0.0 asf_offset:I=0xFFFFFFFF location_id:I=0xFFFFFFFF frame_offset:I=0 play_incarnation:I=1 | accel
StopPlaying                00030009 2.2.4.27 open_file_id:I=1 play_incarnation:I=1 |
CloseFile                  0003000D 2.2.4.16 play_incarnation:I~0 open_file_id:I=1 |
ReadBlock                  00030015 2.2.4.23 open_file_id:I=1 file_block_id:I!0 offset:I!0 length:I~0x8000 flags:I!0xFFFFFFFF padding:I~0 t_earliest:d!0.0 t_deadline:d!3600.0 play_incarnation:I=1 play_sequence:I!0 |
FunnelInfo                 00030018 2.2.4.19 play_incarnation:I!0xF0F0F0EF,0xF0F0F0F0,0xF0F0F0F1,0xF0F0F901 | rest
SecurityResponse           0003001A 2.2.4.24 play_incarnation:I=0 cookie:I=0 | token
Pong                       0003001B 2.2.4.22 dw_param1:I~0 dw_param2:I~0 |
CancelReadBlock            00030025 2.2.4.15 play_incarnation:I=1 |
StartStriding              00030028 2.2.4.26 open_file_id:I=1 padding:I~0 position:d=0.0 asf_offset:I=0xFFFFFFFF location_id:I=0xFFFFFFFF frame_offset:I=0 play_incarnation:I=1 rate:d=1.0 |
Logging                    00030032 2.2.4.20 | log
StreamSwitch               00030033 2.2.4.28 | entries
"""


class _Kind:
    def __init__(self, line):
        head, _, self.tail = line.partition("|")
        self.name, mid, self.section, *fields = head.split()
        self.mid, self.tail = int(mid, 16), self.tail.strip()
        self.fields, self.defaults, self.rules = [], {}, []
        self.format = "<"
        for field in fields:
            name, kind, mark, values = re.fullmatch(r"(\w+):(\w+)([!~=])(.*)", field).groups()
            if kind.endswith("s"):
                values = [bytes(int(kind[:-1]))]
            else:
                values = [float(v) if kind == "d" else int(v, 0) for v in values.split(",")]
            self.fields.append(name)
            self.format += kind
            self.defaults[name] = values[0]
            if mark != "=":
                self.rules.append((name, "deviation" if mark == "!" else "note", values))
        self.size = struct.calcsize(self.format)


_KINDS = [_Kind(line) for line in _TABLE.strip().splitlines()]
KINDS = {kind.name: kind for kind in _KINDS}
_BY_MID = {kind.mid: kind for kind in _KINDS}


class Message:
    """A decoded message: `name`, `mid`, its fields as attributes, `size` in bytes with padding."""

    def __init__(self, name, mid, section, fields, size):
        self.name, self.mid, self.section, self.fields, self.size = name, mid, section, fields, size

    def __getattr__(self, field):
        try:
            return self.__dict__["fields"][field]
        except KeyError:
            raise AttributeError(f"{self.__dict__.get('name')} has no field {field}") from None

    def __repr__(self):
        return f"{self.name}({', '.join(f'{k}={v!r}' for k, v in self.fields.items())})"


def utf16(text):
    return text.encode("utf-16-le", "surrogatepass")


def from_utf16(data):
    return data[: len(data) & ~1].decode("utf-16-le", "surrogatepass")


# ---- encode ----------------------------------------------------------------------------------------------------------


def encode(name, **fields):
    """One message, padded with zeros to whole chunks of 8 bytes."""
    kind = KINDS[name]
    values = [fields.pop(f, kind.defaults[f]) for f in kind.fields]
    body = struct.pack(kind.format, *values) + _encode_tail(kind.tail, fields)
    if fields:
        raise TypeError(f"{name} has no field {', '.join(fields)}")
    size = (8 + len(body) + 7) & ~7
    return struct.pack("<II", size // 8, kind.mid) + body + bytes(size - 8 - len(body))


def _encode_tail(tail, fields):
    if tail == "connected":
        texts = [fields.pop(n, "") for n in ("server_version_info", "version_info", "version_url", "authen_package")]
        texts = [utf16(t + "\0") if t else b"" for t in texts]
        return struct.pack("<4I", *(len(t) // 2 for t in texts)) + b"".join(texts)
    if tail in ("funnel_name", "subscriber_name"):
        return utf16(fields.pop(tail))
    if tail == "packet_pair":
        return fields.pop("packet_pair", b"")
    if tail == "rest":
        return fields.pop("rest", b"")
    if tail == "token":
        token = fields.pop("token", b"")
        return struct.pack("<I", len(token)) + token
    if tail == "location":
        text = utf16(fields.pop("location") + "\0")
        return struct.pack("<H", len(text)) + text
    if tail == "open_file":
        text, token = utf16(fields.pop("file_name") + "\0"), fields.pop("token_data", b"")
        return struct.pack("<II", len(text) if token else 0, len(token)) + text + token
    if tail == "accel":
        accel = [fields.pop(n, None) for n in ("dw_accel_bandwidth", "dw_accel_duration", "dw_link_bandwidth")]
        return b"".join(struct.pack("<I", v) for v in accel if v is not None)
    if tail == "log":
        return fields.pop("log")
    if tail == "entries":
        entries = fields.pop("entries")
        return struct.pack("<I", len(entries)) + b"".join(struct.pack("<HHH", *e) for e in entries)
    return b""


def packet(messages, seq):
    """A TcpMessageHeader packet, 2.2.3. chunkCount counts from its own field on, as every implementation does."""
    body = b"".join(messages)
    return struct.pack("<BBBBIIIIHHQ", 1, 0, 0, 0, SESSION_ID, len(body) + 16, SEAL, (len(body) + 16) // 8,
                       seq & 0xFFFF, 0, 0) + body


def data_packet(location_id, incarnation, af_flags, payload):
    """A Data packet, 2.2.2."""
    return struct.pack("<IBBH", location_id, incarnation, af_flags, len(payload) + 8) + payload


# ---- decode ----------------------------------------------------------------------------------------------------------


def decode(data):
    """One message of exactly these bytes (chunkLen was applied)."""
    mid = struct.unpack_from("<I", data, 4)[0]
    kind = _BY_MID.get(mid)
    if kind is None:
        return Message(f"0x{mid:08X}", mid, "3.2.5.1", {"unknown": bytes(data[8:])}, len(data))
    if len(data) < 8 + kind.size:
        raise Malformed(kind.section, f"{kind.name} has {len(data)} bytes, its fields need {8 + kind.size}")
    fields = dict(zip(kind.fields, struct.unpack_from(kind.format, data, 8)))
    message = Message(kind.name, mid, kind.section, fields, len(data))
    _decode_tail(kind, fields, data[8 + kind.size :])
    return message


def _part(kind, data, at, size, what):
    if at + size > len(data):
        raise Malformed(kind.section, f"{kind.name}.{what} of {size} bytes runs past the message")
    return bytes(data[at : at + size])


def _decode_tail(kind, fields, data):
    tail = kind.tail
    if tail == "connected":
        counts = struct.unpack("<4I", _part(kind, data, 0, 16, "counts"))
        at = 16
        for name, count in zip(("server_version_info", "version_info", "version_url", "authen_package"), counts):
            fields[f"cb_{name}"] = count
            fields[name] = from_utf16(_part(kind, data, at, count * 2, name))
            at += count * 2
        fields["padding_bytes"] = len(data) - at
    elif tail in ("funnel_name", "subscriber_name"):
        fields[tail] = from_utf16(data)
    elif tail in ("packet_pair", "rest"):
        fields[tail] = bytes(data)
    elif tail == "token":
        size = struct.unpack("<I", _part(kind, data, 0, 4, "cbToken"))[0]
        fields["token"] = _part(kind, data, 4, size, "pToken")
    elif tail == "location":
        size = struct.unpack("<H", _part(kind, data, 0, 2, "cbLocation"))[0]
        fields["location"] = from_utf16(_part(kind, data, 2, size, "wszLocation"))
    elif tail == "open_file":
        token, size = struct.unpack("<II", _part(kind, data, 0, 8, "token"))
        fields["token"], fields["cb_token"] = token, size
        fields["token_data"] = _part(kind, data, 8 + token, size, "tokenData") if size else b""
        name = data[8 : 8 + token] if size else data[8:]
        fields["file_name"] = from_utf16(name)
    elif tail == "accel":
        names = ("dw_accel_bandwidth", "dw_accel_duration", "dw_link_bandwidth")
        count = 0 if len(data) < 8 else 2 if len(data) < 12 else 3
        fields.update(zip(names, struct.unpack_from(f"<{count}I", data)))
    elif tail == "log":
        fields["log"] = bytes(data)
    elif tail == "entries":
        count = struct.unpack("<I", _part(kind, data, 0, 4, "cStreamEntries"))[0]
        raw = _part(kind, data, 4, count * 6, "aStreamEntries")
        fields["entries"] = [struct.unpack_from("<HHH", raw, at) for at in range(0, len(raw), 6)]


class ControlPacket:
    """A TcpMessageHeader packet with its messages still to be decoded."""

    def __init__(self, data):
        (self.rep, self.version, self.version_minor, self.padding, _, self.message_length, self.seal,
         self.chunk_count, self.seq, self.mbz, self.time_sent) = struct.unpack_from("<BBBBIIIIHHQ", data)
        self.total = len(data)
        self.messages = []
        at = 32
        while at < len(data):
            chunks = struct.unpack_from("<I", data, at)[0] if at + 8 <= len(data) else 0
            if not chunks or at + 8 * chunks > len(data):
                raise Malformed("2.2.4", f"chunkLen {chunks} with {len(data) - at} bytes left in the packet")
            self.messages.append(bytes(data[at : at + 8 * chunks]))
            at += 8 * chunks


class DataPacket:
    """A Data packet, 2.2.2."""

    def __init__(self, data):
        self.location_id, self.incarnation, self.af_flags, self.size = struct.unpack_from("<IBBH", data)
        self.payload = bytes(data[8:])


class Deframer:
    """A TCP stream, cut anywhere, into ControlPackets and (only from a server) DataPackets."""

    def __init__(self, data_allowed):
        self.buffer, self.data_allowed = bytearray(), data_allowed

    def feed(self, data):
        self.buffer += data
        out, buffer = [], self.buffer
        at = 0
        while len(buffer) - at >= 8:
            if struct.unpack_from("<I", buffer, at + 4)[0] == SESSION_ID and buffer[at : at + 3] == b"\x01\x00\x00":
                if len(buffer) - at < 16:
                    break
                size, seal = struct.unpack_from("<II", buffer, at + 8)
                if seal != SEAL:
                    raise Malformed("2.2.3", f"seal is 0x{seal:08X}")
                if size < 16 or size + 16 > LARGEST_CONTROL_PACKET or size % 8:
                    raise Malformed("2.2.3", f"messageLength is {size}")
                size += 16
                kind = ControlPacket
            elif self.data_allowed:
                size, kind = struct.unpack_from("<H", buffer, at + 6)[0], DataPacket
                if size < 8:
                    raise Malformed("2.2.2", f"PacketSize is {size}")
            else:
                raise Malformed("3.2.5.1", f"no TcpMessageHeader: {bytes(buffer[at:at + 16]).hex(' ')}")
            if len(buffer) - at < size:
                break
            out.append(kind(bytes(buffer[at : at + size])))
            at += size
        del buffer[:at]
        return out


# ---- RequestPacketListResend, 2.2.5 ----------------------------------------------------------------------------------


def resend_request(client_id, source_id, numbers, signature=RESEND_SIGNATURE, count=None):
    """A datagram that asks for these Sequence numbers; `count` is what it says they are."""
    count = len(numbers) if count is None else count
    return struct.pack(f"<IIHH{len(numbers)}I", signature, client_id, source_id, count, *numbers)


def decode_resend(data):
    """(dwClientId, wSourceId, dwBeginPacketList) of a datagram."""
    if len(data) < 12:
        raise Malformed("2.2.5", f"a resend request of {len(data)} bytes")
    signature, client_id, source_id, count = struct.unpack_from("<IIHH", data)
    if signature != RESEND_SIGNATURE:
        raise Malformed("2.2.5", f"Signature is 0x{signature:08X}")
    if not 1 <= count <= 32:
        raise Malformed("2.2.5", f"wNumPackets is {count}")
    if len(data) != 12 + 4 * count:
        raise Malformed("2.2.5", f"{len(data)} bytes for {count} numbers")
    return client_id, source_id, struct.unpack_from(f"<{count}I", data, 12)


# ---- checks ----------------------------------------------------------------------------------------------------------


def check_packet(control, expected_seq):
    """2.2.3 and the packing rules of both roles."""
    if control.seq != expected_seq & 0xFFFF:
        yield "deviation", "2.2.3", f"seq is {control.seq}, not {expected_seq & 0xFFFF}"
    if control.mbz:
        yield "deviation", "2.2.3", f"MBZ is {control.mbz}"
    if (control.rep, control.version, control.version_minor) != (1, 0, 0):
        yield "deviation", "2.2.3", "rep or version is wrong"
    if control.padding:
        yield "note", "2.2.3", f"padding is {control.padding}"
    if control.chunk_count != control.message_length // 8:
        yield "deviation", "2.2.3", f"chunkCount is {control.chunk_count}, not {control.message_length // 8}"
    if len(control.messages) != 1:
        yield "deviation", "3.1.5.1", f"{len(control.messages)} messages in one packet"


def check_message(message):
    """The fixed fields, then what each message's text demands of its own fields."""
    kind = KINDS.get(message.name)
    if kind is None:
        yield "deviation", "2.2.4", f"unknown message {message.name}"
        return
    for field, level, values in kind.rules:
        value = message.fields[field]
        if value not in values:
            shown = value.hex() if isinstance(value, bytes) else f"0x{value:X}" if isinstance(value, int) else value
            yield level, kind.section, f"{kind.name}.{field} is {shown}"
    special = globals().get(f"_check_{kind.name}")
    if special:
        for level, text in special(message):
            yield level, kind.section, f"{kind.name}: {text}"
    if kind.name in ("OpenFile", "ReadBlock", "StartPlaying", "StartStriding"):
        if not 1 <= message.play_incarnation <= 0xFE:
            yield "deviation", kind.section, f"{kind.name}.playIncarnation is 0x{message.play_incarnation:X}"


_VERSION = r"\d{1,2}\.\d{1,2}(\.\d{1,4}\.\d{1,4})?"


def _check_ReportConnectedEX(m):
    if m.play_incarnation not in (DISABLE_PACKET_PAIR, USE_PACKET_PAIR):
        yield "deviation", f"playIncarnation is 0x{m.play_incarnation:08X}"
    if not failed(m.hr) and not re.fullmatch(_VERSION + "\0", m.server_version_info):
        yield "deviation", f"ServerVersionInfo is {m.server_version_info!r}"
    if m.version_info or m.version_url:
        yield "note", f"offers an upgrade: {m.version_info!r} {m.version_url!r}"
    if m.authen_package not in ("", "BASIC\0", "NTLM\0"):
        yield "deviation", f"AuthenPackage is {m.authen_package!r}"


def _check_ReportConnectedFunnel(m):
    if m.funnel_name.rstrip("\0") != "Funnel Of The Gods":
        yield "deviation", f"funnelName is {m.funnel_name!r}"


def _check_ReportFunnelInfo(m):
    if m.play_incarnation not in (DISABLE_PACKET_PAIR, USE_PACKET_PAIR, TCP_HIGH_ENTROPY, UDP_HIGH_ENTROPY):
        yield "deviation", f"playIncarnation is 0x{m.play_incarnation:08X}"
    if m.packet_pair and m.play_incarnation not in (USE_PACKET_PAIR, TCP_HIGH_ENTROPY):
        yield "deviation", f"{len(m.packet_pair)} packet-pair bytes without packet-pair"


def _check_ReportOpenFile(m):
    if failed(m.hr):
        return
    if m.file_attributes & ~(CANSTRIDE | CANSEEK | BROADCAST | LIVE | PLAYLIST):
        yield "deviation", f"fileAttributes is 0x{m.file_attributes:08X}"
    blocks = int(m.file_duration) + (m.file_duration > int(m.file_duration))
    if m.file_blocks != blocks:
        yield "deviation", f"fileBlocks is {m.file_blocks} at a duration of {m.file_duration}"
    if not m.file_packet_size or not m.file_bit_rate or m.file_header_size < 80:
        yield "deviation", "filePacketSize, fileBitRate or fileHeaderSize is too small"


def _check_ReportStartedPlaying(m):
    if m.unused1 not in (0, 0x40000000):
        yield "deviation", f"unused1 is 0x{m.unused1:X}"


def _check_ReportRedirect(m):
    if m.redirect_type not in (1, 2):
        yield "deviation", f"RedirectType is {m.redirect_type}"
    if not m.location.endswith("\0"):
        yield "deviation", "wszLocation has no NUL"
    if m.location[:-1] and not re.match(r"mms[ut]?://", m.location):
        yield "deviation", f"wszLocation is {m.location!r}"


def _check_ConnectFunnel(m):
    name = m.funnel_name.split("\0")[0]
    found = re.fullmatch(r"\\\\([0-9.]+|[0-9A-Fa-f:.]+)\\(TCP|UDP)\\(\d{1,5})", name)
    if not found or not 1 <= int(found[3]) <= 65535:
        yield "deviation", f"funnelName is {m.funnel_name!r}"


def _check_OpenFile(m):
    name = m.file_name.split("\0")[0]
    if name.startswith("/"):
        yield "deviation", f"fileName begins with a slash: {name!r}"
    if re.search(r"%[0-9A-Fa-f]{2}", name):
        yield "deviation", f"fileName is percent-encoded: {name!r}"
    if m.cb_token and not m.file_name.endswith("\0"):
        yield "deviation", "tokenData without a NUL behind fileName"
    if not m.cb_token and m.token:
        yield "deviation", f"token is {m.token} without tokenData"


def check_position(m):
    """2.2.4.25: exactly one of the three fields says where to begin."""
    used = [m.position != DBL_MAX, m.asf_offset not in (0, UNUSED), m.location_id not in (0, UNUSED)]
    if sum(used) != 1:
        yield "deviation", f"{sum(used)} of position, asfOffset and locationId are in use"
    if used[0] and not 0 <= m.position < 1e9:
        yield "deviation", f"position is {m.position}"


def _check_StartPlaying(m):
    yield from check_position(m)


def _check_StartStriding(m):
    yield from check_position(m)
    if not -5 <= m.rate <= 5 or m.rate == 0:
        yield "deviation", f"rate is {m.rate}"


def _check_StreamSwitch(m):
    for source, destination, level in m.entries:
        if level > 2:
            yield "deviation", f"wThinningLevel is {level}"
        for number in (source, destination):
            if number != 0xFFFF and not 1 <= number <= 127:
                yield "deviation", f"stream number {number}"


def _check_Logging(m):
    log = m.log
    if len(log) < 1490:
        yield "deviation", f"the log has {len(log)} bytes, not 1490"
        return
    if len(log) > 1496:
        yield "deviation", f"the log has {len(log)} bytes, not 1490 and padding"
    size, info_size = struct.unpack_from("<II", log)
    if (size, info_size) != (1490, 1142):
        yield "deviation", f"cbSize is {size} and {info_size}, not 1490 and 1142"
    for name, at, length in _LOG_STRINGS:
        text = log[at : at + length]
        if b"\0" not in text:
            yield "deviation", f"{name} has no NUL"
        elif text[0] == 0:
            yield "deviation", f"{name} is empty, not '-'"
    if log[1454 : 1454 + 8].split(b"\0")[0] != b"mms":
        yield "deviation", f"szProto is {log[1454:1462]!r}"
    if log[1462 : 1462 + 8].split(b"\0")[0] not in (b"TCP", b"UDP"):
        yield "deviation", f"szTransport is {log[1462:1470]!r}"
    if struct.unpack_from("<i", log, 4 + 1138)[0] != 0:
        yield "note", "hr is not 0"


# CLIENT_LOG_INFO stands at 4; names and offsets of 2.2.1.1 and 2.2.1.2.
_LOG_STRINGS = [("szURL", 8, 260), ("szChannelURL", 268, 260), ("szUserAgent", 528, 64), ("szHostingWebPage", 592, 260),
                ("szLang", 860, 16), ("szUniquePID", 876, 40), ("szHostExe", 916, 32), ("szAudioCodec", 972, 64),
                ("szVideoCodec", 1036, 64), ("szComputerDNS", 1154, 260), ("szOS", 1414, 16), ("szCPU", 1438, 16),
                ("szProto", 1454, 8), ("szTransport", 1462, 8)]


def client_log(source_id, url, transport="TCP", packets=0, received=0, asked=0):
    """A well-formed CLIENT_LOG."""
    log = bytearray(1490)
    for name, at, _ in _LOG_STRINGS:
        text = {"szURL": url, "szProto": "mms", "szTransport": transport, "szLang": "en-US", "szOS": "Windows_XP"}.get(name, "-")
        log[at : at + len(text)] = text.encode("ascii", "replace")
    struct.pack_into("<II", log, 0, 1490, 1142)
    struct.pack_into("<H", log, 4 + 1104, 1)
    struct.pack_into("<QI", log, 4 + 1114, received, packets)
    struct.pack_into("<I", log, 4 + 1134, 100)
    struct.pack_into("<II", log, 1146, source_id, UNUSED)
    struct.pack_into("<I", log, 1478, asked)
    return bytes(log)


def log_source_id(log):
    """`dwSourceId`, 2.2.1.1."""
    return struct.unpack_from("<I", log, 1146)[0] if len(log) >= 1150 else None


def log_transport(log):
    """`szTransport` and `dwResendRequests`, 2.2.1.1."""
    return log[1462:1470].split(b"\0")[0].decode("latin-1"), struct.unpack_from("<I", log, 1478)[0]


class SubscriberName:
    """`subscriberName`, 2.2.4.17, with every breach of its grammar."""

    def __init__(self, text):
        first, *rest = text.split("\0")
        self.token, _, self.host_param = first.partition("; Host: ")
        self.host_param = self.host_param or None
        self.host_string = self.via = None
        self.deviations = []
        found = re.fullmatch(r"NSPlayer/(\d{1,2})\.(\d{1,2}(?:\.\d{1,4}\.\d{1,4})?)"
                             r"(; \{[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}\})", self.token)
        self.wms4 = bool(re.fullmatch(r"Spo{3,}n!", self.token))
        self.major = int(found[1]) if found else 0
        if not found and not self.wms4:
            self.deviations.append(f"client-token is {self.token!r}")
        if not rest:
            self.deviations.append("no NUL behind the client-token")
        rest = [part for part in rest]
        if rest and rest[0].startswith("HOST: "):
            self.host_string = rest.pop(0)[6:]
        if rest and rest[0].startswith("VIA: "):
            self.via = rest.pop(0)[5:]
        if any(rest):
            self.deviations.append(f"unexpected {[part for part in rest if part]!r} behind the names")
        for what, value in (("host-param", self.host_param), ("host-string", self.host_string)):
            if value is not None and not re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[^\s:/\[\]]+)(:\d{1,5})?", value):
                self.deviations.append(f"{what} is {value!r}")
        token = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
        if self.via is not None and not re.fullmatch(rf"{token}(/{token})?(, ?{token}(/{token})?)*", self.via):
            self.deviations.append(f"via-info is {self.via!r}")

    @property
    def vias(self):
        return re.split(r", ?", self.via) if self.via else []

    def fields(self):
        return {"token": self.token, "host_param": self.host_param, "host_string": self.host_string, "via": self.via}


# ---- authentication: tokens as opaque as they are to a proxy ---------------------------------------------------------

NEGOTIATE = b"NTLMSSP\0" + struct.pack("<I", 1) + bytes(range(28))


def ntlm_auth(token):
    """Two zero bytes and an NTLM_AUTH structure, 2.2.4.14."""
    return bytes(2) + struct.pack("<6I", 0, 1, 0, len(token), 2, 0) + token


def ntlm_token(data):
    """The token out of either form; `None` when there is none."""
    for at in (0, 2, 24, 26):
        if data[at : at + 8] == b"NTLMSSP\0":
            return data[at:]
    return None
