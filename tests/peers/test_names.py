"""Names that climb, hosts nobody allowed, loops, chains and redirects."""

from __future__ import annotations

import re

import mmsp
from lab import Failed, expect, expect_hr, expect_none, refusal, scenario
from strict_client import Redirected
from strict_origin import Point
from test_players import watch


@scenario
async def names_that_climb_never_reach_the_origin(lab):
    origin = await lab.origin()
    proxy = await lab.reverse(origin)
    for name in ("../vod/clip.asf", "vod/../../clip.asf", "..\\vod\\clip.asf", "vod\\..\\clip.asf", "%2e%2e/clip.asf",
                 "vod/%2E%2E/clip.asf", "vod/..%5cclip.asf", "vod/..", "./clip.asf", "vod/./clip.asf", "vod/cl\x01p.asf",
                 "vod/cl%0Ap.asf"):
        client = lab.client(proxy)
        await client.connect()
        client.path = name
        expect_hr(await refusal(client.open()), mmsp.NS_E_INVALID_NAME)
        client.hang_up()
        client.closed = True
    expect(not origin.messages("OpenFile"), f"the origin was asked for {origin.messages('OpenFile')}")
    expect_none([d for c in lab.clients for d in c.deviations], "toward the player")


@scenario
async def names_are_made_canonical_for_the_origin(lab):
    origin = await lab.origin()
    proxy = await lab.reverse(origin)
    for name in ("/vod/clip.asf", "//vod/clip.asf", "vod\\clip.asf", "vod/cl%69p.asf", "vod/clip.asf\0junk"):
        client = lab.client(proxy)
        await client.connect()
        client.path = name
        await client.open()
        await client.close()
    for entry in origin.messages("OpenFile"):
        said = entry["fields"]["file_name"].rstrip("\0")
        expect(said == "vod/clip.asf", f"the origin was asked for {said!r}")
    await lab.settle()


@scenario
async def routes_rewrite_the_path(lab):
    origin = await lab.origin([Point("inner/clip.asf", [lab.options.files["clip"]]), Point("inner", [lab.options.files["clip"]], "broadcast")])
    port = origin.port
    proxy = await lab.proxy([{"path": "/radio", "origin": f"mms://127.0.0.1:{port}/inner"}])
    for name, hr in (("radio/clip.asf", None), ("radio", None), ("radios/clip.asf", mmsp.E_ACCESSDENIED)):
        client = lab.client(proxy, f"mms://media.example/{name}")
        await client.connect()
        if hr is None:
            await client.open()
            await client.close()
        else:
            expect_hr(await refusal(client.open()), hr)
            client.hang_up()
            client.closed = True
    said = [entry["fields"]["file_name"].rstrip("\0") for entry in origin.messages("OpenFile")]
    expect(said == ["inner/clip.asf", "inner"], f"the origin was asked for {said}")
    await lab.settle()


@scenario
async def a_host_nobody_allowed_is_refused(lab):
    origin = await lab.origin()
    url = f"mms://127.0.0.1:{origin.port}/vod/clip.asf"
    for allow in ([], ["10.0.0.0/8:*"], ["127.0.0.1"], ["*.example:*"]):
        proxy = await lab.proxy(forward=allow)
        client = lab.client(proxy, url)
        await client.connect()
        expect_hr(await refusal(client.open()), mmsp.E_ACCESSDENIED)
        client.hang_up()
        client.closed = True
    nameless = lab.client(proxy, url, "wmp6")
    await nameless.connect()
    expect_hr(await refusal(nameless.open()), mmsp.E_ACCESSDENIED)
    nameless.hang_up()
    nameless.closed = True
    expect(not origin.sessions, "the origin was connected to")
    expect_none([d for c in lab.clients for d in c.deviations], "toward the player")


@scenario
async def a_name_that_means_loopback_needs_an_address_in_the_list(lab):
    origin = await lab.origin()
    url = f"mms://localhost:{origin.port}/vod/clip.asf"
    proxy = await lab.proxy(forward=["local*:*"])
    client = lab.client(proxy, url)
    await client.connect()
    expect_hr(await refusal(client.open()), mmsp.E_ACCESSDENIED)
    client.hang_up()
    client.closed = True
    expect(not origin.sessions, "the origin was connected to")
    proxy = await lab.proxy(forward=["local*:*", "127.0.0.0/8:*"])
    client = lab.client(proxy, url)
    await client.begin()
    await lab.settle()


@scenario
async def our_own_listener_is_never_an_origin(lab):
    proxy = await lab.proxy(forward=["127.0.0.1:*"])
    for port in (proxy.mms[1], int(proxy.bound["admin"].rpartition(":")[2])):
        client = lab.client(proxy, f"mms://127.0.0.1:{port}/vod/clip.asf")
        await client.connect()
        expect_hr(await refusal(client.open()), mmsp.E_ACCESSDENIED)
        client.hang_up()
        client.closed = True
    expect_none([d for c in lab.clients for d in c.deviations], "toward the player")


@scenario
async def a_request_that_was_here_before_is_refused(lab):
    origin = await lab.origin()
    proxy = await lab.reverse(origin, name="alpha")
    for via in ("mmsproxy/0.1.0-alpha", "WMS/9.0, mmsproxy/9.9-alpha", ", ".join(f"p{n}/1.0" for n in range(9))):
        client = lab.client(proxy)

        async def ask(client=client, via=via):
            await client.connect(via=via)
            await client.open()

        await refusal(ask())
        client.hang_up()
        client.closed = True
    expect(not origin.messages("OpenFile"), "it reached the origin")


@scenario
async def a_loop_of_two_proxies_is_refused(lab):
    first = await lab.proxy(forward=["127.0.0.1:*"], name="first")
    second = await lab.proxy([{"origin": f"mms://127.0.0.1:{first.mms[1]}"}], name="second")
    third = await lab.proxy([{"origin": f"mms://127.0.0.1:{second.mms[1]}"}], name="first")
    client = lab.client(third, timeout=15.0)

    async def ask():
        await client.connect()
        await client.open()

    await refusal(ask())
    expect(await first.metric("mmsproxy_refused_total", reason="loop") >= 1, "no proxy counted the loop")


@scenario
async def a_chain_of_two_proxies_plays(lab):
    origin = await lab.origin()
    inner = await lab.reverse(origin, name="inner")
    outer = await lab.proxy([{"origin": f"mms://127.0.0.1:{inner.mms[1]}"}], name="outer")
    await watch(lab, lab.client(outer, timeout=15.0))
    via = origin.messages("Connect")[-1]["subscriber_name"]["via"]
    expect(re.search(r"-outer, ?mmsproxy/\S+-inner$", via), f"VIA is {via!r}")
    await lab.settle()


@scenario
async def a_redirect_is_followed(lab):
    target = await lab.origin()
    first = await lab.origin(redirects={"*": f"mms://127.0.0.1:{target.port}/vod/clip.asf"})
    proxy = await lab.proxy([{"path": "/never", "origin": f"mms://127.0.0.1:{target.port}"},
                             {"origin": f"mms://127.0.0.1:{first.port}"}])
    client = lab.client(proxy, "mms://media.example/moved")
    await client.begin()
    await client.start()
    await client.packets(5)
    said = target.messages("Connect")[0]["subscriber_name"]
    expect(said["host_param"] == f"127.0.0.1:{target.port}", f"Host at the target is {said['host_param']!r}")
    await lab.settle()


@scenario
async def a_redirect_to_nowhere_allowed_is_refused(lab):
    # Hosts are what a route's origin names, whatever the port (redirects are followed to hosts that a route names): another address is another host.
    target = await lab.origin()
    for url in (f"mms://127.0.0.9:{target.port}/vod/clip.asf", "http://127.0.0.1/clip.asf", "mms://"):
        first = await lab.origin(redirects={"*": url})
        proxy = await lab.proxy([{"origin": f"mms://127.0.0.1:{first.port}"}])
        client = lab.client(proxy, "mms://media.example/moved")
        await client.connect()
        try:
            await refusal(client.open())
        except Redirected as redirected:
            raise Failed(f"the redirect was passed on: {redirected.url}") from None
        client.hang_up()
        client.closed = True
    expect(not target.sessions, "the target was connected to")


@scenario
async def a_redirect_in_circles_ends(lab):
    origin = await lab.origin(redirects={})
    origin.config.redirects["*"] = f"mms://127.0.0.1:{origin.port}/vod/clip.asf"
    proxy = await lab.reverse(origin)
    client = lab.client(proxy, timeout=20.0)
    await client.connect()
    await refusal(client.open())
    expect(len(origin.messages("OpenFile")) <= 7, f"{len(origin.messages('OpenFile'))} hops")
