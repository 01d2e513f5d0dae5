"""What scenarios stand on: their register, the proxy as a process, and one scenario's origins, proxies and players.

Nothing here sleeps to wait for something: each step waits for its event, with a deadline. All sockets are on loopback.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections import Counter

from broadcast import Encoder, Station
from judge import Judge
from strict_client import Client, Refused, Silent
from strict_origin import Config, Origin, Point

SCENARIOS = []
MICROSOFT = ("wmp6", "wmp7", "wmp8", "wmp9", "wmp10", "wms4")
FREE = ("ffmpeg", "vlc", "mplayer", "libmms", "xine")
PAST = 1  # the encoder on the air when a scenario of a broadcast begins; what comes after it has higher tags


class Failed(AssertionError):
    """What a scenario saw that should not be."""


class Late(Failed):
    """Something took longer than it should."""


def scenario(function=None, *, name=None, limit=90.0, alone=False):
    def register(function):
        SCENARIOS.append((name or function.__name__, function, limit, alone))
        return function

    return register(function) if function else register


def expect(condition, text):
    if not condition:
        raise Failed(text)


def expect_soon(condition, text):
    """What a slow machine may fail as well as a slow proxy, which is slow each time."""
    if not condition:
        raise Late(text)


def expect_none(found, text):
    if found:
        more = f" (and {len(found) - 5} more)" if len(found) > 5 else ""
        raise Failed(f"{text}: " + "; ".join(map(str, found[:5])) + more)


class Proxy:
    """`PROXY serve` with a config of its own; its log lines are kept for the failure report."""

    def __init__(self, process, directory):
        self.process, self.directory, self.lines, self.bound = process, directory, [], {}
        self.listeners = []  # (protocol, address) of all it listens on
        self.changed = asyncio.Event()
        self.reader = asyncio.create_task(self._read())

    async def _read(self):
        while line := await self.process.stderr.readline():
            text = line.decode("utf-8", "replace").rstrip()
            self.lines.append(text)
            try:
                entry = json.loads(text)
            except ValueError:
                continue
            fields = {**entry, **entry.get("fields", {})}
            if fields.get("message") == "listening" and "address" in fields:
                self.bound.setdefault(fields.get("protocol", "mms"), str(fields["address"]))
                self.listeners.append((fields.get("protocol", "mms"), str(fields["address"])))
            self.changed.set()
        self.changed.set()

    async def ready(self, protocols, timeout=30.0):
        """Waits until it listens on as many addresses of each protocol as `protocols` has it."""
        async with asyncio.timeout(timeout):
            while Counter(protocols) - Counter(protocol for protocol, _ in self.listeners):
                if self.process.returncode is not None or self.reader.done():
                    raise Failed(f"the proxy ended with {self.process.returncode}: {self.lines[-3:]}")
                self.changed.clear()
                await self.changed.wait()

    @property
    def mms(self):
        host, _, port = self.bound["mms"].rpartition(":")
        return host.strip("[]"), int(port)

    @property
    def lacks_udp(self):
        return any("no UDP here" in line for line in self.lines)

    @property
    def admin(self):
        return f"http://{self.bound['admin']}"

    async def http(self, path, method="GET", body=None):
        host, _, port = self.bound["admin"].rpartition(":")
        reader, writer = await asyncio.open_connection(host.strip("[]"), int(port))
        sent = b"" if body is None else json.dumps(body).encode()
        kind = "Content-Type: application/json\r\n" if sent else ""
        writer.write(f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{kind}"
                     f"Content-Length: {len(sent)}\r\n\r\n".encode() + sent)
        answer = await asyncio.wait_for(reader.read(-1), 30)
        writer.close()
        head, _, body = answer.partition(b"\r\n\r\n")
        return int(head.split()[1]), body.decode("utf-8", "replace")

    async def metric(self, name, **labels):
        """The sum of a metric's samples that carry these labels; 0 when there is none."""
        _, body = await self.http("/metrics")
        total = 0.0
        for line in body.splitlines():
            found = re.match(rf"{name}(?:\{{(.*?)\}})?\s+([-+0-9.eE]+|NaN)", line)
            if found and all(f'{k}="{v}"' in (found[1] or "") for k, v in labels.items()):
                total += float(found[2])
        return total

    async def metric_is(self, value, name, timeout=20.0, **labels):
        """Asks until the metric has this value: a gauge follows the close of a socket, not the other way round."""
        deadline = time.monotonic() + timeout
        while (now := await self.metric(name, **labels)) != value:
            expect(time.monotonic() < deadline, f"{name} is {now}, not {value}")
            await asyncio.sleep(0.05)

    def memory(self):
        """Resident bytes."""
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as file:
            return int(re.search(r"VmRSS:\s+(\d+)", file.read())[1]) * 1024

    async def kill(self):
        """As by a power cut, but for what the kernel has."""
        self.process.kill()
        await self.process.wait()
        self.reader.cancel()

    async def stop(self, timeout=20.0):
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                await asyncio.wait_for(self.process.wait(), timeout)
            except asyncio.TimeoutError:
                self.process.kill()
                await self.process.wait()
        self.reader.cancel()
        return self.process.returncode


class Lab:
    """What one scenario uses; everything is taken down after it."""

    def __init__(self, options, number, name=""):
        self.options, self.number, self.name = options, number, name
        self.origins, self.proxies, self.clients = [], [], []
        self.directory = tempfile.mkdtemp(prefix="mmsproxy-scenario-")

    def points(self, ends=None, playlist="playlist"):
        files = self.options.files
        return [*(Point(f"vod/{name}.asf", [file]) for name, file in files.items()),
                Point("live", [files["clip"]], "broadcast", ends), Point("list", [files["clip"], files["second"]], playlist)]

    def figure(self, text):
        """What is measured and not judged."""
        print(f"figure {self.name}: {text}", flush=True)

    async def station(self, encoder=None, *, name="live", on_air=None, ping=1.0, **options):
        """An origin with one broadcast; `on_air` says how (see Station)."""
        encoder = encoder or Encoder(PAST, first_location=7000, first_send=90_000, first_presentation=90_000, first_object=77)
        station = Station(name, encoder, **(on_air or {}))
        return await self.origin([station], ping=ping, **options), station

    async def splitter(self, *upstreams, split=None, origin=None, scheme="mms", **sections):
        """A proxy with one route to these origins, quick where the defaults are patient.

        It waits for an origin for longer than a machine may stand still; where that wait is what is tested, `origin` says it.
        """
        first, *more = (f"{scheme}://{upstream.where}" for upstream in upstreams)
        return await self.proxy([{"host": "*", "path": "/", "origin": first, "origins": more}],
                                split={"linger": "1s"} | (split or {}),
                                origin={"connect": "5s", "reply": "10s", "stall": "10s", "down": "200ms"} | (origin or {}),
                                **sections)

    def viewer(self, proxy, station=None, identity="wmp9", name="live", **options):
        """A player of a broadcast; each packet is compared with `station`'s encoder of this moment where it is given."""
        client = self.client(proxy, f"mms://media.example/{name}", identity, source=None, **options)
        if station:
            client.judge_by(station.file.looped)
        return client

    async def watching(self, proxy, count, identities=("wmp9",), packets=1, station=None, **options):
        """So many viewers, each with some media."""
        viewers = [self.viewer(proxy, station, identity=identities[n % len(identities)], **options) for n in range(count)]
        await together(watch(viewer, packets) for viewer in viewers)
        return viewers

    async def origin(self, points=None, **options):
        options = {"file_id": 42, "think": 0.005, "speed": 4.0, "ping": 1.0, "expect_via": True} | options
        origin = await Origin(Config(points=points or self.points(), **options)).start()
        self.origins.append(origin)
        return origin

    async def proxy(self, routes=(), forward=(), **sections):
        config = {"listen": {"mms": ["127.0.0.1:0"], "admin": "127.0.0.1:0"}, "routes": list(routes),
                  "forward": {"allow": list(forward)}, "drain": "1s", "split": {"linger": "500ms"}, "cache": {"dir": ""}}
        config.update(sections)
        path = os.path.join(self.directory, f"proxy-{len(self.proxies)}.yaml")
        with open(path, "w", encoding="utf-8") as file:
            json.dump(config, file, indent=1)  # JSON is YAML
        for _ in range(5):
            process = await asyncio.create_subprocess_exec(
                self.options.binary, "serve", "--config", path, "--log-format", "json", cwd=self.directory, limit=1 << 20,
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                env={**os.environ, "RUST_LOG": os.environ.get("RUST_LOG", "info")})
            proxy = Proxy(process, self.directory)
            self.proxies.append(proxy)
            await proxy.ready(["admin", *(["mms"] * len(config["listen"]["mms"]))])
            if not proxy.lacks_udp:
                break
            # A port that is free for TCP may be another's for UDP.
            await proxy.stop()
            self.proxies.remove(proxy)
        return proxy

    async def reverse(self, upstream, /, shared=True, **sections):
        """A route to this origin; not `shared`: broadcasts are relayed, each viewer with its own session."""
        route = {"host": "*", "path": "/", "origin": f"mms://127.0.0.1:{upstream.port}", "split": shared}
        return await self.proxy([route], **sections)

    def client(self, proxy, url="mms://media.example/vod/clip.asf", identity="wmp9", source="clip", **options):
        client = Client(url, identity, proxy.mms, **options)
        if source:
            client.judge_by(self.options.files[source].looped)
        self.clients.append(client)
        return client

    def straight(self, origin, name, identity="wmp9", **options):
        """A player at the origin itself."""
        client = Client(f"mms://{origin.config.host}:{origin.port}/{name}", identity, **options)
        client.judge_by(origin.points[name].file.looped if origin.points[name].kind in ("station", "broadcast")
                        else origin.points[name].wire)
        self.clients.append(client)
        return client

    async def settle(self, *, ended=True):
        """Everyone leaves; then neither side may have a deviation to report."""
        for client in self.clients:
            if client.broken is None and not client.closed:
                await client.close()
        if ended:
            for origin in self.origins:
                await origin.wait_all_ended()
        expect_none([d for c in self.clients for d in c.deviations], "toward the player")
        expect_none([d for o in self.origins for d in o.deviations], "toward the origin")

    async def down(self):
        for client in self.clients:
            client.hang_up()
        for proxy in self.proxies:
            await proxy.stop()
        for origin in self.origins:
            await origin.stop()
        if not self.options.keep:
            shutil.rmtree(self.directory, ignore_errors=True)


async def refusal(work):
    """The HRESULT of a refusal; fails when there is none."""
    try:
        await work
    except Refused as refused:
        return refused.hr
    except Silent as silent:
        raise Failed(f"no refusal but silence: {silent}") from None
    raise Failed("was not refused")


async def started_or_refused(work):
    """The HRESULT of a refusal; `None` where there is none."""
    try:
        await work
    except Refused as refused:
        expect(refused.hr & 0x80000000, f"it is refused with 0x{refused.hr:X}")
        return refused.hr
    return None


def expect_hr(hr, *wanted):
    expect(hr in wanted, f"the HRESULT is 0x{hr:08X}, not " + " or ".join(f"0x{w:08X}" for w in wanted))


async def watch(viewer, packets=1, **where):
    """From Connect to the first packets."""
    await viewer.begin()
    await viewer.start(**where)
    await viewer.packets(packets)
    return viewer


async def together(work):
    """All at once; the first failure is told after all are done, so that nothing goes on behind a scenario's back."""
    results = await asyncio.gather(*work, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results


async def more(viewers, packets, timeout=30.0):
    """Waits until each viewer has so many packets more than now."""
    await together([viewer.packets(len(viewer.current.packets) + packets, timeout) for viewer in viewers])


def judged(viewers, *encoders):
    """Judges what is playing at each viewer and fails at any fault; the judgements, for more questions."""
    judges = [Judge(viewer.current, *encoders) for viewer in viewers]
    expect_none([f"{viewer.who.token[:20]}: {fault}" for viewer, judge in zip(viewers, judges) for fault in judge.faults],
                "what arrived")
    return judges


def without_gaps(viewers):
    """Did each viewer get each LocationId since it began?"""
    expect_none([f"viewer {number}: {before} to {after}" for number, viewer in enumerate(viewers)
                 for before, after in zip(viewer.current.locations, viewer.current.locations[1:])
                 if after != before + 1 & 0xFFFFFFFF], "gaps")


def still_playing(viewers):
    expect_none([f"viewer {number} {viewer.broken or f'got EndOfStream {viewer.current.ending}'}"
                 for number, viewer in enumerate(viewers) if viewer.broken or viewer.current.ending is not None],
                "sessions ended")
