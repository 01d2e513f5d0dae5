"""Challenges are relayed to the player; what one viewer may see, another may not."""

from __future__ import annotations

import mmsp
from lab import expect, expect_hr, expect_none, refusal, scenario


def _logins():
    for scheme in ("basic", "ntlm"):
        for identity in ("wmp7", "wmp9"):
            async def login(lab, scheme=scheme, identity=identity):
                origin = await lab.origin(auth=scheme)
                # The person types longer than a handshake may take: a login has a limit of its own.
                proxy = await lab.reverse(origin, limits={"handshake": "1s", "login": "20s"})
                client = lab.client(proxy, identity=identity, timeout=15.0)
                await client.connect()
                expect(client.connected_ex.authen_package == scheme.upper() + "\0",
                       f"AuthenPackage is {client.connected_ex.authen_package!r}")
                await client.open(login=("viewer", "secret"), think=3.0)
                await client.read_header()
                await client.start()
                await client.packets(5)
                await lab.settle()

            scenario(login, name=f"{identity}_logs_in_with_{scheme}_slowly")

        async def wrong(lab, scheme=scheme):
            origin = await lab.origin(auth=scheme)
            proxy = await lab.reverse(origin)
            client = lab.client(proxy)
            await client.connect()
            expect_hr(await refusal(client.open(login=("viewer", "wrong"))), mmsp.E_ACCESSDENIED)
            expect(any(e["event"] == "denied" for e in origin.log), "the origin never saw the wrong password")
            client.hang_up()
            client.closed = True
            second = lab.client(proxy)
            await second.connect()
            await second.open(login=("viewer", "secret"))
            await second.read_header()
            third = lab.client(proxy)
            await third.connect()
            expect_hr(await refusal(third.open()), mmsp.E_ACCESSDENIED)
            third.hang_up()
            third.closed = True
            expect_none([d for c in lab.clients for d in c.deviations], "toward the player")

        scenario(wrong, name=f"a_wrong_{scheme}_password_is_asked_for_again_and_opens_nothing")


_logins()


@scenario
async def credentials_in_openfile_reach_the_origin(lab):
    origin = await lab.origin(auth="basic")
    proxy = await lab.reverse(origin)
    client = lab.client(proxy, identity="wmp7")
    await client.connect()
    await client.open(login=("viewer", "secret"), preemptive=True)
    await client.read_header()
    expect(not origin.messages("SecurityResponse"), "the token of OpenFile was not passed on")
    await lab.settle()
