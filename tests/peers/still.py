"""When this process stood still, though it had nothing to think about: the machine was busy elsewhere, or stopped us.

Origins and players of a scenario live in one process, so what they did late because it stood still says nothing of the proxy.
`clock` passes over such times, and a duration that is judged is taken by `passed`.
"""

from __future__ import annotations

import asyncio
import time

BEAT = 0.02  # seconds
LEAST = 0.1  # seconds of a gap that are no standstill


class Still:
    """A heart that beats while the event loop turns; what it missed is a gap."""

    def __init__(self):
        self.gaps = []  # (when it ended, how long we stood still in it)
        self.lost, self.last = 0.0, None  # the sum of the gaps; when it last beat, and what we had worked by then

    async def beat(self):
        while True:
            self.last = time.monotonic(), time.process_time()
            await asyncio.sleep(BEAT)
            gap = self._now(time.monotonic())
            if gap:
                self.lost += gap
                self.gaps.append((time.monotonic(), gap))

    def _now(self, now):
        """Of the gap that we are in."""
        if self.last is None:
            return 0.0
        when, worked = self.last
        return max(0.0, now - when - BEAT - LEAST - (time.process_time() - worked))

    def clock(self):
        now = time.monotonic()
        return now - self.lost - self._now(now)

    def between(self, began, ended):
        """For how long it stood still there."""
        gaps = [*self.gaps, (time.monotonic(), self._now(time.monotonic()))]
        return sum(max(0.0, min(ended, at) - max(began, at - gap)) for at, gap in gaps)


STILL = Still()


def passed(began, ended=None):
    """Seconds between two times of `time.monotonic()`, the second one now, in which this process did not stand still."""
    ended = time.monotonic() if ended is None else ended
    return ended - began - STILL.between(began, ended)
