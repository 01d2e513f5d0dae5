"""The judge itself: what it lets pass and what it does not. No proxy takes part."""

from __future__ import annotations

import asf
from broadcast import AUDIO, Encoder
from judge import Judge, disagreements
from lab import PAST, expect, scenario
from strict_client import Play


def taken(encoder, numbers, location=0, milliseconds=0, objects=None, joined=None):
    """What a viewer that joins gets of these packets, moved by constants; `joined` are streams that it has already."""
    joined, out = set(joined or ()), []

    def wanted(payload):
        if payload.offset == 0 and (payload.key or payload.stream == AUDIO):
            joined.add(payload.stream)
        return payload.stream in joined

    for number in numbers:
        data = asf.select(encoder.looped(encoder.location(number)), wanted)
        out.append((encoder.location(number) + location, asf.strip(asf.shift(data, milliseconds, objects or {}))))
    return out


def faults(packets, *encoders):
    play = Play(1)
    play.packets = packets
    return " | ".join(Judge(play, *encoders).faults)


@scenario
async def the_judge_sees_what_a_splitter_can_do_wrong(lab):
    past, new = Encoder(PAST, first_location=500, first_send=5000, first_presentation=5000, first_object=40), Encoder(PAST + 1)
    before = taken(past, range(20, 55))  # to LocationId 554, send time 7750, object 94
    moved = dict(location=535, milliseconds=7000, objects={1: 100, 2: 100, 3: 100})
    after = taken(new, range(20, 60), **moved)
    everything = {1, 2, 3}
    for packets in (before, before + after, before[:10] + taken(past, range(40, 60))):
        expect(not faults(packets, past, new), f"it finds {faults(packets, past, new)} in what is right")
    key_later = taken(new, range(23, 60), **moved, joined=everything)
    wrong = {
        "without its head": before + key_later,
        "no key frame": before + taken(new, range(30, 60), **moved, joined=everything),
        "right after that number": before + taken(new, range(20, 60), 535, 7000, {1: 74, 2: 100, 3: 100}),
        "send time": before + taken(new, range(20, 60), 535, 0, moved["objects"]),
        "presentation time": before + taken(new, range(20, 60), 535, 0, moved["objects"]),
        "LocationId after": before + taken(new, range(20, 60), 534, 7000, moved["objects"]),
        "is moved by": before + after[:10] + taken(new, range(30, 60), 536, 7000, moved["objects"], everything),
        "was changed": before[:5] + [(before[5][0], before[5][1][:-1] + b"\xff")] + before[6:],
        "that nobody sent": before + taken(Encoder(9), range(20, 60), **moved),
        "payloads of the packets": before[:9] + [(before[9][0], _mixed(past))],
    }
    for text, packets in wrong.items():
        expect(text in faults(packets, past, new), f"{text!r} is not in {faults(packets, past, new)!r}")


def _mixed(encoder):
    """A packet whose audio comes from the packet before."""
    packet, other = (encoder.looped(encoder.location(number)) for number in (29, 28))
    mine, theirs = (asf.parse_packet(data).payloads[-1] for data in (packet, other))
    return packet[: mine.start] + other[theirs.start : theirs.end] + packet[mine.end :]


@scenario
async def the_judge_sees_viewers_that_got_different_packets(lab):
    encoder = Encoder(PAST)
    plays = [Play(1), Play(1)]
    plays[0].packets, plays[1].packets = taken(encoder, range(20, 40)), taken(encoder, range(25, 40))
    expect(not disagreements(plays), f"it finds {disagreements(plays)}")
    plays[1].packets = taken(encoder, range(25, 40), milliseconds=1)
    expect(disagreements(plays), "times that differ pass")
    plays[1].packets = taken(encoder, range(25, 40), location=1)
    expect(disagreements(plays), "packets with another LocationId pass")
