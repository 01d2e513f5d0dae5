"""The players that watch one broadcast at the same time: how each is begun, and what it has made of what came."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import threading
import time

from stage import expect, mmst, vlc

MPLAYER = ["mplayer", "-nolirc", "-nocache"]


def until(condition, what, timeout=90.0):
    """Asks until it is so."""
    deadline = time.monotonic() + timeout
    while not condition():
        expect(time.monotonic() < deadline, f"{what}: not in {timeout:.0f} s")
        time.sleep(0.05)


class Watching:
    """A player at work, and how much it has made of what came.

    That is told by what it prints: each match of `progress` is one more, or the number in the match is the count. With
    `dump`, it is the size of that file.
    """

    def __init__(self, lab, name, command, progress=None, dump=None, ask=None):
        self.name, self.progress, self.dump, self.ask = name, progress, dump, ask
        self.lines, self.times, self.count, self.errors = [], [], 0, lab.path(f"{name}.err")
        self.began = time.monotonic()
        with open(self.errors, "wb") as errors:
            self.process = subprocess.Popen(command, stdin=subprocess.PIPE if ask else subprocess.DEVNULL, stderr=errors,
                                            stdout=subprocess.PIPE, start_new_session=True)
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        rest = b""
        while piece := self.process.stdout.read1(65536):
            *lines, rest = re.split(rb"[\r\n]", rest + piece)
            for line in lines:
                self._take(line.decode("utf-8", "replace"))

    def _take(self, line):
        found = self.progress and re.search(self.progress, line)
        if found:
            self.lines.append(line)
            self.times.append(time.monotonic())
            self.count = int(found[1]) if found.groups() else self.count + 1

    def done(self):
        """Frames or packets so far, bytes of a dump."""
        if self.ask and self.is_there():
            with contextlib.suppress(BrokenPipeError):
                self.process.stdin.write(self.ask)
                self.process.stdin.flush()
        if self.dump:
            return os.path.getsize(self.dump) if os.path.exists(self.dump) else 0
        return self.count

    def is_there(self):
        return self.process.poll() is None

    def first(self):
        """Seconds from its start to the first of what it made."""
        return self.times[0] - self.began

    def said(self):
        with open(self.errors, encoding="utf-8", errors="replace") as file:
            return file.read()

    def end(self):
        if self.is_there():
            os.killpg(self.process.pid, signal.SIGINT)
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()
        self.reader.join(5)


class Crowd:
    """The players that watch one URL; they are gone after the `with`."""

    def __init__(self, lab, base):
        self.lab, self.base, self.players = lab, base, []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for player in self.players:
            player.end()

    def _add(self, name, command, progress=None, dump=None, ask=None):
        player = Watching(self.lab, name, command, progress, dump, ask)
        self.players.append(player)
        return player

    @property
    def url(self):
        return mmst(self.base, "live")

    def ffmpeg(self, name="ffmpeg"):
        """Decodes; the times of the frames are those of the stream."""
        return self._add(name, ["ffmpeg", "-nostdin", "-v", "error", "-copyts", "-i", self.url, "-map", "0:v", "-fps_mode",
                                "passthrough", "-f", "framemd5", "-flush_packets", "1", "-"], r"^0,")

    def ffprobe(self):
        """Reads; prints each packet as its demuxer gives it."""
        return self._add("ffprobe", ["ffprobe", "-v", "error", "-show_entries", "packet=stream_index,pts,dts", "-of", "csv",
                                     self.url], r"^packet,")

    def vlc(self):
        """Decodes and shows; tells of it on its control line."""
        command = vlc("-I", "oldrc", "--rc-fake-tty", "--vout=dummy", "--aout=dummy", self.url)
        return self._add("VLC", command, r"video decoded\s*:\s*(\d+)", ask=b"stats\n")

    def vlc_dump(self):
        path = self.lab.path("vlc.asf")
        return self._add("VLC's dump", vlc("--play-and-exit", "--demux=dump", f"--demuxdump-file={path}", self.url),
                         dump=path)

    def mplayer(self):
        """Decodes and shows."""
        return self._add("MPlayer", [*MPLAYER, "-nosound", "-vo", "null", self.url], r"^V:.*?(\d+)/")

    def mplayer_dump(self):
        path = self.lab.path("mplayer.asf")
        return self._add("MPlayer's dump", [*MPLAYER, "-dumpstream", "-dumpfile", path, self.url], dump=path)

    def libmms(self):
        path = self.lab.path("libmms.asf")
        return self._add("libmms", [self.lab.libmms, self.url.replace("mmst", "mms", 1), path], dump=path)

    def all(self):
        for begin in (self.ffmpeg, self.ffprobe, self.vlc, self.vlc_dump, self.mplayer, self.mplayer_dump, self.libmms):
            begin()
        return self

    def make(self, frames, packets, what, timeout=90.0):
        """Waits until each has so much more than now: decoded frames, bytes of a dump in packets."""
        size = self.lab.file.header.packet_size
        goals = [(player, player.done() + (packets * size if player.dump else frames)) for player in self.players]
        waits = []

        def is_reached():
            for player in self.players:
                expect(player.is_there(), f"{player.name} ended {what}: {player.said()[-300:]!r}")
            waits[:] = [f"{player.name} ({player.done()} of {goal})" for player, goal in goals if player.done() < goal]
            return not waits

        deadline = time.monotonic() + timeout
        while not is_reached():
            expect(time.monotonic() < deadline, f"{what} too little came to {', '.join(waits)} in {timeout:.0f} s")
            time.sleep(0.2)
