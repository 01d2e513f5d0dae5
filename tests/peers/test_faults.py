"""Origins and viewers that break the rules: told in time, counted, and nobody else notices."""

from __future__ import annotations

import asyncio
import os
import time

import mmsp
from lab import Failed, expect, expect_hr, expect_none, expect_soon, refusal, scenario
from still import passed


FAULTS = {
    "refuse": (mmsp.NS_E_CANNOTCONNECT,),
    "stall-connect": (mmsp.NS_E_TIMEOUT,),
    "stall-open": (mmsp.NS_E_TIMEOUT,),
    "huge-length": (mmsp.NS_E_BAD_CONTROL_DATA, mmsp.NS_E_CONNECTION_FAILURE, mmsp.NS_E_CANNOTCONNECT, 0xC00D0012),
    "huge-header": (mmsp.NS_E_INVALID_DATA, mmsp.NS_E_BAD_CONTROL_DATA),
    "bad-asf": (mmsp.NS_E_INVALID_DATA,),
    "stall-media": (mmsp.NS_E_TIMEOUT, mmsp.NS_E_CONNECTION_FAILURE),
    "close-mid": (mmsp.NS_E_CONNECTION_FAILURE,),
    "garbage": (mmsp.NS_E_BAD_CONTROL_DATA, mmsp.NS_E_INVALID_DATA, mmsp.NS_E_CONNECTION_FAILURE),
}


async def bystander(lab, proxy):
    """Another viewer of another origin; returns a check that it was never disturbed."""
    client = lab.client(proxy, "mms://media.example/good/live")
    await client.begin()
    await client.start()
    await client.packets(3)
    gaps, done = [], asyncio.Event()

    async def listen():
        seen, last = len(client.current.packets), time.monotonic()
        while not done.is_set():
            await asyncio.sleep(0.02)
            gaps.append(passed(last))
            if len(client.current.packets) > seen:
                seen, last = len(client.current.packets), time.monotonic()

    task = asyncio.create_task(listen())

    async def check():
        done.set()
        await task
        expect_soon(max(gaps, default=0) < 2.0, f"another viewer saw nothing for {max(gaps):.1f} s")
        expect(client.current.end is None, "another viewer's stream ended")

    return check


def _faults():
    for fault, wanted in FAULTS.items():
        async def broken(lab, fault=fault, wanted=wanted):
            good = await lab.origin(speed=1.0)
            bad = await lab.origin(faults={"*": fault})
            proxy = await lab.proxy(
                [{"host": "*", "path": "/good", "origin": f"mms://127.0.0.1:{good.port}/"},
                 {"host": "*", "path": "/bad", "origin": f"mms://127.0.0.1:{bad.port}/"}],
                origin={"connect": "3s", "reply": "4s", "stall": "4s", "down": "100ms"})
            check = await bystander(lab, proxy)
            before = proxy.memory()
            client = lab.client(proxy, "mms://media.example/bad/vod/clip.asf", timeout=30.0)
            began = time.monotonic()
            media = fault in ("stall-media", "close-mid", "garbage")
            if media:
                await client.begin()
                await client.start()
                hr = await client.end(timeout=30)
            else:
                await client.connect()

                async def open_and_read():
                    await client.open()
                    await client.read_header()

                hr = await refusal(open_and_read())
            expect_hr(hr, *wanted)
            expect_soon(passed(began) < 10, f"it took {passed(began):.1f} s")
            expect(proxy.memory() - before < 32 << 20, f"memory grew by {(proxy.memory() - before) >> 20} MiB")
            if not media:
                expect(await client.closed_by_server(), "the connection stays open after the error (MPlayer would hang)")
            await check()
            expect(await proxy.metric("mmsproxy_origin_errors_total") >= 1, "mmsproxy_origin_errors_total did not count it")
            client.broken = client.broken or "done"
            client.hang_up()
            expect_none([d for c in lab.clients for d in c.deviations], "toward the player")
            expect_none(good.deviations, "toward the good origin")

        scenario(broken, name=f"an_origin_that_does_{fault.replace('-', '_')}_is_told_and_disturbs_nobody")


_faults()


@scenario
async def a_missing_file_is_told_as_the_origin_told_it(lab):
    origin = await lab.origin()
    proxy = await lab.reverse(origin)
    for identity in ("wmp9", "vlc", "mplayer"):
        client = lab.client(proxy, "mms://media.example/vod/none.asf", identity)
        await client.connect()
        expect_hr(await refusal(client.open()), mmsp.NS_E_FILE_NOT_FOUND)
        expect(await client.closed_by_server(), "the connection stays open after the error")
    await lab.settle()


@scenario
async def a_malformed_viewer_ends_alone(lab):
    origin = await lab.origin(speed=1.0)
    proxy = await lab.proxy([{"host": "*", "path": "/good", "origin": f"mms://127.0.0.1:{origin.port}/"}],
                            limits={"handshake": "60s"})
    check = await bystander(lab, proxy)
    good = mmsp.packet([mmsp.encode("Connect", subscriber_name="NSPlayer/9.0.0.2980\0")], 0)
    endless = bytearray(good)
    endless[8:12] = b"\xf0\xff\xff\xff"
    short = bytearray(good)
    short[32:36] = b"\xff\xff\xff\x7f"
    for data in (b"\x00" * 64, b"GET / HTTP/1.0\r\n\r\n", bytes(endless), bytes(short), os.urandom(4096),
                 mmsp.data_packet(0, 4, 0, b"media from a viewer")):
        reader, writer = await asyncio.open_connection(*proxy.mms)
        writer.write(data)
        try:
            await asyncio.wait_for(reader.read(-1), 30)  # less than limits.handshake
        except asyncio.TimeoutError:
            raise Failed(f"a connection that began with {data[:16]!r} stays open") from None
        except ConnectionError:
            pass
        writer.close()
    await check()
    await lab.settle()


@scenario
async def a_viewer_that_says_nothing_is_dropped_in_time(lab):
    origin = await lab.origin()
    proxy = await lab.reverse(origin, limits={"handshake": "1s"})
    reader, writer = await asyncio.open_connection(*proxy.mms)
    try:
        await asyncio.wait_for(reader.read(-1), 20)
    except asyncio.TimeoutError:
        raise Failed("a silent connection stays open") from None
    writer.close()
