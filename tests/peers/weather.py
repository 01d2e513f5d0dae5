"""What becomes of datagrams on their way, by a seed: lost, doubled, late; and how much of them may come at once."""

from __future__ import annotations

import asyncio
import random

LUMP = 64 * 1024  # bytes that may leave at once, whatever the bit rate
AT_ONCE = 0.005  # seconds, as they come
BURST = 2.4  # times the bit rate: twice, and the heads and padding that a bit rate does not count


class Weather:
    """Of all datagrams, `share` are lost, as many come twice, and as many come late, unless one of these is given apart."""

    def __init__(self, share=0.0, seed=1, *, loss=None, doubled=None, late=None, delay=(0.005, 0.03)):
        self.dice, self.delay = random.Random(seed), delay
        self.loss, self.doubled, self.late = (share if own is None else own for own in (loss, doubled, late))
        self.seen = self.lost = 0

    @property
    def is_clear(self):
        return not (self.loss or self.doubled or self.late)

    def carry(self, deliver, *datagram):
        """Calls `deliver(*datagram)`, once, twice, later, or never; says whether it did or will."""
        self.seen += 1
        if self.dice.random() < self.loss:
            self.lost += 1
            return False
        for _ in range(2 if self.dice.random() < self.doubled else 1):
            if self.dice.random() < self.late:
                asyncio.get_running_loop().call_later(self.dice.uniform(*self.delay), deliver, *datagram)
            else:
                deliver(*datagram)
        return True


class Meter:
    """The bytes of one play, as they come. A sender that is late by itself is no fault; one that is early is.

    `bit_rate` is the content's. From the beginning on, which is `began` or the first of them, no more may have come than twice that,
    and what a flush carries, or `least` packets.
    """

    def __init__(self, bit_rate, packet_size, flush=0.25, least=4, began=None):
        self.rate = BURST * bit_rate / 8
        self.depth = min(LUMP, max(least * packet_size, self.rate * flush)) + packet_size
        self.began, self.total, self.recent = began, 0, []
        self.largest = 0  # of what came at once

    def take(self, when, size):
        """What is wrong with so many bytes now; `None` where nothing is."""
        if self.began is None:
            self.began = when
        self.total += size
        self.recent = [(at, old) for at, old in self.recent if when - at < AT_ONCE] + [(when, size)]
        at_once = sum(old for _, old in self.recent)
        self.largest = max(self.largest, at_once)
        if at_once > 2 * LUMP + size:  # a sender that was held up while it sent has the next turn right behind
            return f"{at_once} bytes at once"
        if self.total > self.rate * (when - self.began) + self.depth:
            return f"{self.total} bytes within {when - self.began:.2f} s, at {self.rate * 8 / BURST:.0f} bit/s"
        return None
