"""Every kind of player, through every kind of route; what Connect says at the origin."""

from __future__ import annotations

import os
import re

from lab import FREE, MICROSOFT, expect, scenario


async def watch(lab, client):
    """Plays, seeks by packet, time and byte, and comes to the end."""
    file = lab.options.files["clip"]
    await client.begin()
    await client.start()
    play = await client.packets(10)
    expect(play.locations[:10] == list(range(10)), f"it began with LocationIds {play.locations[:10]}")
    play = await client.seek(location=20)
    await client.packets(3)
    if client.who.seeks_by_stop or play.locations:
        expect(play.locations[0] == 20, f"a seek to packet 20 began at {play.locations[0]}")
    play = await client.seek(position=6.0)
    await client.packets(1)
    expect(file.packet_at(6.0) - 1 <= play.locations[0] <= file.packet_at(6.0) + 1,
           f"a seek to 6.0 s began at packet {play.locations[0]}, not {file.packet_at(6.0)}")
    hr = await client.end()
    expect(hr == 0, f"the end carries hr 0x{hr:X}")
    expect(client.current.locations[-1] == len(file.packets) - 1, f"the last packet was {client.current.locations[-1]}")
    if client.who.seeks_by_stop:
        play = await client.start(offset=file.header.size + 12 * file.header.packet_size)
        await client.packets(2)
        expect(play.locations[0] == 12, f"a seek to the byte of packet 12 began at {play.locations[0]}")


def _each_generation():
    for identity in MICROSOFT + FREE:
        async def reverse(lab, identity=identity):
            origin = await lab.origin()
            proxy = await lab.reverse(origin)
            await watch(lab, lab.client(proxy, identity=identity))
            await lab.settle()

        scenario(reverse, name=f"{identity}_plays_and_seeks_through_a_reverse_route")
        if identity in ("wmp6", "wms4"):
            continue

        async def forward(lab, identity=identity):
            if identity in FREE:  # they name the host without a port, so this origin has the default one
                host = f"127.77.{os.getpid() >> 8 & 0xFF}.{os.getpid() & 0xFF}"
                origin = await lab.origin(host=host, port=1755)
                proxy, url = await lab.proxy(forward=[host]), f"mms://{host}/vod/clip.asf"
            else:
                origin = await lab.origin()
                proxy = await lab.proxy(forward=["127.0.0.1:*"])
                url = f"mms://127.0.0.1:{origin.port}/vod/clip.asf"
            await watch(lab, lab.client(proxy, url, identity))
            await lab.settle()

        scenario(forward, name=f"{identity}_plays_and_seeks_through_the_forward_proxy")

        for shared in (True, False):
            async def broadcast(lab, identity=identity, shared=shared):
                origin = await lab.origin(speed=1.0)
                proxy = await lab.reverse(origin, shared=shared)
                client = lab.client(proxy, "mms://media.example/live", identity)
                await client.begin()
                await client.start()
                await client.packets(20, timeout=20)
                await lab.settle()

            scenario(broadcast, name=f"{identity}_watches_a_broadcast{'' if shared else '_of_its_own'}")


_each_generation()

def _connect_names():
    for identity, via in (("wmp6", None), ("wmp7", None), ("wmp9", None), ("wmp9", "WMS/9.0")):
        async def names(lab, identity=identity, via=via):
            origin = await lab.origin()
            proxy = await lab.reverse(origin, name="alpha")
            client = lab.client(proxy, identity=identity)
            await client.connect(via=via)
            await client.open()
            said = (await origin.wait_message("Connect"))["subscriber_name"]
            where = f"127.0.0.1:{origin.port}"
            expect(said["token"] == client.token, f"the client-token became {said['token']!r}")
            expect(said["host_param"] == where, f"Host is {said['host_param']!r}, not {where!r}")
            expect(said["host_string"] == where, f"HOST is {said['host_string']!r}, not {where!r}")
            vias = re.split(r", ?", said["via"] or "")
            expect(vias[:-1] == ([via] if via else []), f"VIA is {said['via']!r}")
            expect(re.fullmatch(r"mmsproxy/[0-9A-Za-z.+-]+-alpha", vias[-1]), f"VIA is {said['via']!r}")
            await client.read_header()
            await lab.settle()

        scenario(names, name=f"connect_of_{identity}{'_with_via' if via else ''}_names_host_and_via_at_the_origin")


_connect_names()


@scenario
async def a_malformed_guid_is_not_passed_on(lab):
    origin = await lab.origin()
    proxy = await lab.reverse(origin)
    client = lab.client(proxy, identity="vlc")
    await client.begin()
    said = (await origin.wait_message("Connect"))["subscriber_name"]
    expect("0x" not in said["token"], f"the client-token is {said['token']!r}")
    await lab.settle()
