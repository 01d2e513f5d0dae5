"""Files on the strict origin whose serving is commanded, and the way that all of its sessions share.

    title = Title("vod/film.asf", film(1), padding="cut", skip={10, 11}, skips="once")
    title.change(film(2))              whoever opens it from now on gets the other file
    title.refuses = E_ACCESSDENIED     and from now on nobody does
    title.auth = "basic"               or only who says a password
"""

from __future__ import annotations

import asyncio

import padding
from still import STILL
from strict_origin import Point


class Title(Point):
    """One name, its file, and how it is served. An edition (`change`) is a `Title` of its own: who has it open keeps it.

    `padding`: a name of `padding.WAYS`. `skip`: packet numbers that are left out without a step in Sequence, as `skips` says:
    "always", "once" (the first time each of them is due), "slow" (while what was sent before waits). `gates`: where a play begins
    the tails of media objects are left out of packets; else these are sent as they are in the file. `attributes`: what
    ReportOpenFile says instead of the file's own. `speed`: times real time, `float("inf")` as fast as it goes; `None` is the
    origin's. `breaks`: after so many media bytes of a session its connection is lost, one number for each loss.
    """

    def __init__(self, name, file, *, padding="zeroed", skip=(), skips="always", attributes=None, speed=None, breaks=(),
                 auth="", think=0.0, gates=False):
        super().__init__(name, [file])
        self.padding, self.skip, self.skips, self.attributes = padding, frozenset(skip), skips, attributes
        self.speed, self.breaks, self.auth, self.think = speed, list(breaks), auth, think
        self.gates = gates
        self.refuses = None  # an HRESULT
        self.hangs = False  # says nothing to OpenFile any more
        self.skipped, self.forms = set(), {}
        self.changed, self.turns = None, []

    # -- commands --

    def change(self, file, **how):
        """Whoever opens it from now on gets this file; who has it open goes on with the old one."""
        self.changed = self._edition(file, how)
        return self.changed

    def alternate(self, *files):
        """Each open gets the next of these in turn, beginning with what is there."""
        self.turns = [self, *(self._edition(file, {}) for file in files)]

    def _edition(self, file, how):
        kept = {"padding": self.padding, "attributes": self.attributes, "speed": self.speed, "gates": self.gates}
        return Title(self.name, file, **(kept | how))

    # -- what the origin asks --

    def edition(self):
        """What the one who opens it now gets."""
        if self.turns:
            self.turns.append(self.turns.pop(0))
            return self.turns[-1]
        return self.changed.edition() if self.changed else self

    def form(self, data):
        return padding.WAYS[self.padding](data)

    def skips_now(self, number, waiting):
        """Is this packet left out? `waiting`: bytes that were sent and not yet taken by the client's TCP."""
        if number not in self.skip or self.skips == "slow" and not waiting:
            return False
        if self.skips == "once":
            first = number not in self.skipped
            self.skipped.add(number)
            return first
        return True

    def breaks_now(self, sent):
        if self.breaks and sent >= self.breaks[0]:
            self.breaks.pop(0)
            return True
        return False

    # -- what was served, for who compares --

    def wire(self, number):
        """A packet as it is sent whole streams of."""
        if number not in self.forms:
            self.forms[number] = self.form(self.file.packets[number])
        return self.forms[number]

    @property
    def numbers(self):
        """Those that a patient client gets."""
        lost = self.skip if self.skips == "always" else ()
        return [number for number in range(len(self.file.packets)) if number not in lost]

    @property
    def bytes(self):
        """Media bytes of the whole file, as sent."""
        return sum(len(self.wire(number)) for number in self.numbers)


class Way:
    """The line to the origin: so many bits a second for all sessions together."""

    def __init__(self, bits_per_second):
        self.rate, self.free = bits_per_second, 0.0

    async def take(self, size):
        """Waits until so many bytes have passed."""
        now = STILL.clock()
        self.free = max(now, self.free) + size * 8 / self.rate
        await asyncio.sleep(max(0.0, self.free - now - 0.05))
