"""What the scenarios of the cache stand on: an origin with titles, a proxy that keeps what it fetched, players that judge each
packet, and the questions an operator asks.

The cache is seen from outside alone: sockets, metrics, the admin API, the commands and the names of its files.
"""

from __future__ import annotations

import asyncio
import contextlib
import glob
import json
import os
import socket
import subprocess
import tempfile
import time
import urllib.parse

import asf
import padding
from film import film
from lab import expect, expect_none, expect_soon, together
from shelf import Title
from still import passed

# Short where the defaults are patient; whatever a scenario is about, it sets itself.
QUICK = {"revalidate": "10m", "revalidate_wait": "1s", "stale_if_error": "1h", "negative": "1s", "finish_fill": "always",
         "max_size": "1GiB", "min_free": 0}
UPSTREAM = {"connect": "5s", "reply": "10s", "stall": "10s", "down": "500ms"}
FAST = float("inf")
VOD = "vod/film.asf"


async def shelf(lab, *titles, **options):
    """An origin with these titles, in real time unless they or `options` say otherwise; the first of them comes along."""
    titles = titles or (Title(VOD, film()),)
    origin = await lab.origin(list(titles), **({"speed": 1.0, "ping": 5.0} | options))
    return origin, titles[0]


async def cacher(lab, *origins, cache=None, origin=None, route=None, directory=None, scheme="mms", **sections):
    """A proxy that caches, in a directory of its own unless one is given, with one route to these origins in turn."""
    urls = [f"{scheme}://{upstream.where}" for upstream in origins]
    routes = [{"origin": urls[0], "origins": urls[1:]} | (route or {})] if urls else sections.pop("routes", ())
    directory = directory or tempfile.mkdtemp(prefix="cache-", dir=lab.directory)
    proxy = await lab.proxy(routes, cache={"dir": directory} | QUICK | (cache or {}), origin=UPSTREAM | (origin or {}), **sections)
    proxy.cache_directory = directory
    return proxy


def player(lab, proxy, title, identity="wmp9", *, host="media.example", query="", **options):
    """A player of this title that compares each packet with what the origin sends of it."""
    client = lab.client(proxy, f"mms://{host}/{title.name}{query}", identity, source=None, **options)
    client.judge_by(title.wire)
    client.title = title
    return client


async def began(viewer, packets=1, **where):
    """From Connect to the first packets; how long it took, and the wait for the first packet alone."""
    started = time.monotonic()
    await viewer.begin()
    await viewer.start(**where)
    await viewer.packets(packets)
    viewer.took = passed(started, viewer.current.times[0])
    viewer.wait = waited(viewer.current)
    return viewer


def waited(play, index=0):
    """Seconds from the start to a packet."""
    return passed(play.asked_at, play.times[index])


async def seeks(viewer, packets=3, **where):
    """The numbers that came after a seek, and how long the first of them took."""
    play = await viewer.seek(**where)
    await viewer.packets(packets)
    return play.locations, waited(play)


async def whole(viewer, timeout=60.0):
    """Plays from the beginning to the end and judges all of it."""
    await began(viewer)
    await to_the_end(viewer, timeout)
    return viewer


async def to_the_end(viewer, timeout=60.0):
    hr = await viewer.end(timeout)
    expect(hr == 0, f"the play ended with 0x{hr:X} after {len(viewer.current.packets)} packets")
    judge_whole(viewer.title, viewer.current)


def judge_whole(title, play):
    """Each packet that the origin has, none twice, each equal to the origin's."""
    expect(play.locations == title.numbers, f"not every packet came: {_missing(title.numbers, play.locations)}")
    judge_part(title, play)


def judge_part(title, play):
    """What came, of a play of all streams from the beginning: each packet equal to the origin's."""
    expect_none([number for number, data in play.packets if not padding.same(data, title.wire(number))], "packets that differ")


def _missing(wanted, got):
    lost = sorted(set(wanted) - set(got))
    return f"{len(got)} of {len(wanted)}, the first lost is {lost[0]}" if lost else f"{got[:3]}.. has others or another order"


def film_of(viewer, *titles):
    """The one title whose header and whose packets alone this viewer got; fails where they are a mixture."""
    matching = [title for title in titles if title.header() == viewer.header_bytes]
    expect(len(matching) == 1, "the header is of none of the films")
    title = matching[0]
    foreign = [number for play in viewer.plays for number, data in play.packets
               if asf.parse_packet(data).payloads and not _part_of(title, number, data)]
    expect_none(foreign, "packets of another film than the header's")
    return title


def judge_payloads(title, play):
    """What came, of whatever play: no payload that the origin's packet of that number has not."""
    expect_none([number for number, data in play.packets if not _part_of(title, number, data)], "packets that are not the title's")


def _part_of(title, number, data):
    if number >= len(title.file.packets):
        return False
    sent = {payload.identity for payload in title.file.parsed[number].payloads}
    return all(payload.identity in sent for payload in asf.parse_packet(data).payloads)


def in_time(viewer, lateness):
    """How late each packet came, measured from the first one; fails where a player's buffer would have run dry."""
    play = viewer.current
    sent = [asf.parse_packet(data).send_time / 1000 for _, data in play.packets]
    late = max(passed(play.times[0], came) - (send - sent[0]) for came, send in zip(play.times, sent))
    expect_soon(late < lateness, f"a packet came {late:.2f} s late, a player has {lateness:.1f} s in its buffer")
    return late


@contextlib.contextmanager
def nowhere(port):
    """A port of loopback on which connections neither come about nor are refused."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen(0)
    waiting = []
    for _ in range(4):  # what the queue of the listener takes, and more
        knock = socket.socket()
        knock.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            knock.connect(("127.0.0.1", port))
        waiting.append(knock)
    try:
        yield
    finally:
        for knock in waiting:
            knock.close()
        listener.close()


# -- what the operator sees --


def url(origin, title, query=""):
    """Under which an entry is listed: the name as asked at the first origin of its route."""
    name = title if isinstance(title, str) else title.name
    return f"mms://127.0.0.1:{origin.port}/{name}{query}"


async def listed(proxy):
    """`GET /api/v1/cache`, its entries by the name in their URL."""
    status, body = await proxy.http("/api/v1/cache")
    expect(status == 200, f"GET /api/v1/cache answers {status}")
    found = json.loads(body)
    found["by_name"] = {e["url"].split("://", 1)[-1].partition("/")[2]: e for e in found["entries"]}
    return found


async def entry(proxy, title):
    """What is listed under this title, or `None`."""
    return (await listed(proxy))["by_name"].get(title if isinstance(title, str) else title.name)


async def until(condition, what, timeout=40.0):
    """Asks again until `condition()`, which may be a coroutine, is true; returns what it said."""
    deadline = time.monotonic() + timeout
    while True:
        said = condition()
        said = await said if asyncio.iscoroutine(said) else said
        if said:
            return said
        expect_soon(time.monotonic() < deadline, f"{what}: not within {timeout:.0f} s")
        await asyncio.sleep(0.05)


async def complete(proxy, title, timeout=60.0):
    """Waits until the entry is complete and nothing fills; returns it."""
    async def done():
        found = await entry(proxy, title)
        return found if found and found["is_complete"] and not found["fills"] else None

    return await until(done, f"a complete entry of {title if isinstance(title, str) else title.name}", timeout)


async def filled(lab, proxy, origin, title):
    """Lets a first viewer come and go and waits for the entry that it leaves behind."""
    viewer = await began(player(lab, proxy, title))
    await viewer.close()
    found = await complete(proxy, title)
    await origin.wait_all_ended()
    return found


async def requests(proxy):
    """`mmsproxy_cache_requests_total` by its result, as a function of what was counted since."""
    names = ("hit", "miss", "partial", "stale", "revalidated", "pass")
    before = {name: await proxy.metric("mmsproxy_cache_requests_total", result=name) for name in names}

    async def since():
        return {name: int(await proxy.metric("mmsproxy_cache_requests_total", result=name) - before[name]) for name in names}

    return since


async def purge(proxy, where, prefix=False):
    query = urllib.parse.urlencode({"url": where} | ({"prefix": "true"} if prefix else {}))
    status, body = await proxy.http(f"/api/v1/cache?{query}", "DELETE")
    expect(200 <= status < 300, f"DELETE /api/v1/cache answers {status}: {body[:200]}")


async def prefetch(proxy, where):
    status, body = await proxy.http("/api/v1/cache/prefetch", "POST", {"url": where})
    expect(200 <= status < 300, f"POST /api/v1/cache/prefetch answers {status}: {body[:200]}")


# -- the commands --


async def command(lab, *arguments, timeout=60.0):
    """`mmsproxy cache ...`: exit code, what it printed, what it complained of."""
    process = await asyncio.create_subprocess_exec(lab.options.binary, "cache", *map(str, arguments), stdin=subprocess.DEVNULL,
                                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=lab.directory)
    expected = [origin.config.expect_via for origin in lab.origins]
    if "--origin" in arguments:
        # The command asks the origin itself, as a player does.
        for origin in lab.origins:
            origin.config.expect_via = False
    try:
        out, err = await asyncio.wait_for(process.communicate(), timeout)
    except asyncio.TimeoutError:
        process.kill()
        await process.wait()
        expect(False, f"`cache {' '.join(map(str, arguments))}` does not end")
    for origin, is_expected in zip(lab.origins, expected):
        origin.config.expect_via = is_expected
    return process.returncode, out.decode("utf-8", "replace"), err.decode("utf-8", "replace")


async def succeeds(lab, *arguments, **options):
    code, out, err = await command(lab, *arguments, **options)
    expect(code == 0, f"`cache {' '.join(map(str, arguments))}` ends with {code}: {(err or out).strip()[-300:]}")
    return out


def where(proxy, offline=False):
    """The options that lead a command to this proxy's cache."""
    return ("--dir", proxy.cache_directory) if offline else ("--admin", proxy.admin)


async def verified(lab, proxy, *more, offline=False):
    """`cache verify` finds nothing wrong."""
    return await succeeds(lab, "verify", *more, *where(proxy, offline), timeout=120.0)


async def exported(lab, proxy, origin, title, offline=False):
    """`cache export`, held against what the origin sends; returns the path of the file."""
    path = os.path.join(lab.directory, f"export-{len(os.listdir(lab.directory))}.asf")
    await succeeds(lab, "export", url(origin, title), "-o", path, *where(proxy, offline))
    judge_export(path, title)
    return path


def judge_export(path, title):
    """A valid file with the streams of the title, its packets in their order; byte for byte what the origin sent whole."""
    file = asf.AsfFile(path)
    numbers = title.numbers
    expect(file.header.streams == title.file.header.streams, f"the streams are {sorted(file.header.streams)}")
    expect(file.header.packet_size == title.file.header.packet_size, f"packets of {file.header.packet_size} bytes")
    expect(file.header.packet_count == len(file.packets) == len(numbers),
           f"its header counts {file.header.packet_count}, it has {len(file.packets)}, the origin {len(numbers)} packets")
    size = title.file.header.packet_size
    for at, number in zip(file.packets, numbers):
        sent = title.wire(number)
        expect(at == sent if len(sent) == size else padding.same(at, sent), f"packet {number} of the export differs from the origin's")


def sealed(directory):
    """The files of sealed segments: (generation's directory, index) to the whole or partial one."""
    found = {}
    for ending in ("some", "seg"):
        for path in glob.glob(os.path.join(directory, "v1", "*", "*", "*", f"*.{ending}")):
            found[os.path.splitext(path)[0]] = ending
    return found


async def play_all(viewers, **how):
    return await together(whole(viewer, **how) for viewer in viewers)
