#!/usr/bin/env python3
"""A player that knows of no proxy, a firewall that redirects it, and an origin: three network namespaces.

    transparent.py PROXY_BINARY    as root

The namespaces, their links and the rule of the firewall belong to this process, which has left the machine's own network
behind: nothing of it is there any more when it ends. Prints `ok NAME` or `FAILED NAME: why` and at the end `N passed, M
failed`. Where namespaces or the rule are not permitted it says so and ends with 77.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

from alone import run_alone, skip
from stage import HERE, expect, run

PLAYER, ROUTER_IN, ROUTER_OUT, ORIGIN, ELSEWHERE = "198.18.1.2", "198.18.1.1", "198.18.2.1", "198.18.2.2", "198.18.2.3"
NETWORK = f"""
mount -t tmpfs none /run
ip netns add player
ip netns add origin
ip link set lo up
ip -n player link set lo up
ip -n origin link set lo up
ip link add lan0 type veth peer name eth0 netns player
ip link add wan0 type veth peer name eth0 netns origin
ip addr add {ROUTER_IN}/24 dev lan0
ip addr add {ROUTER_OUT}/24 dev wan0
ip link set lan0 up
ip link set wan0 up
ip -n player addr add {PLAYER}/24 dev eth0
ip -n player link set eth0 up
ip -n player route add default via {ROUTER_IN}
ip -n origin addr add {ORIGIN}/24 dev eth0
ip -n origin addr add {ELSEWHERE}/24 dev eth0
ip -n origin link set eth0 up
iptables -t nat -A PREROUTING -i lan0 -p tcp --dport 1755 -m addrtype ! --dst-type LOCAL -j REDIRECT --to-ports 1755
"""


def set_up():
    """The rule is the one of the README. The list of namespaces lies in /run, and this one is ours."""
    for line in NETWORK.strip().splitlines():
        done = subprocess.run(line.split(), capture_output=True, text=True)
        if done.returncode:
            skip(f"`{line}` is not permitted here: {done.stderr.strip()[-200:]}")


class Street:
    """The origin, the proxy on the router, and the way of a player to them."""

    def __init__(self, lab):
        self.lab = lab
        self.origin = lab.start("ip", "netns", "exec", "origin", lab.binary, "origin", "--root", lab.root, "--listen",
                                "0.0.0.0:1755", "--broadcast", f"live={lab.clip}", "--log-format", "json")
        self.origin.address()
        self.proxy = lab.serve({"listen": {"mms": ["0.0.0.0:1755"], "admin": "127.0.0.1:0"}, "transparent": True, "routes": [],
                                "forward": {"allow": [ORIGIN]}})
        self.proxy.address()

    def frames(self, host, name, *arguments):
        """framemd5 of what ffmpeg decodes in the player's namespace, or nothing."""
        command = ["ip", "netns", "exec", "player", "ffmpeg", "-nostdin", "-v", "error", "-i", f"mmst://{host}/{name}", "-map",
                   "0:v", *arguments, "-f", "framemd5", "-"]
        _, out, err, ended = run(command, 120)
        expect(ended, f"ffmpeg did not end: {err[-200:]}")
        return [line for line in out.splitlines() if not line.startswith("#")]

    def claims(self, host, address):
        """What goes wrong for a player that says `host` and connects to `address`."""
        client = os.path.join(HERE, "..", "peers", "strict_client.py")
        _, out, err, _ = run(["ip", "netns", "exec", "player", sys.executable, client, f"mms://{host}/vod/clip.asf", "--proxy",
                              f"{address}:1755", "--compare", self.lab.clip, "--do", "play 10; stop", "--json"], 120)
        expect(out, f"the strict client ended: {err[-300:]}")
        played = json.loads(out)
        expect(not played["deviations"], f"toward the player: {played['deviations'][:5]}")
        return played["error"]

    def peers(self):
        """Who had a session at the origin, by its log."""
        entries = [json.loads(line) for line in list(self.origin.lines) if line.startswith("{")]
        return {span["peer"].rpartition(":")[0] for entry in entries if entry.get("message") == "session begins"
                for span in entry["spans"] if "peer" in span}


def a_redirected_player_sees_the_origin_it_asked_for(street):
    code, out, _, _ = run(["ffmpeg", "-nostdin", "-v", "error", "-i", street.lab.clip, "-map", "0:v", "-f", "framemd5", "-"], 120)
    want = [line for line in out.splitlines() if not line.startswith("#")]
    expect(code == 0 and want, "the file itself can't be decoded")
    got = street.frames(ORIGIN, "vod/clip.asf", "-frames:v", str(len(want)))
    expect(got == want, f"{len(set(want) - set(got))} of {len(want)} frames differ")
    expect(street.peers() == {ROUTER_OUT}, f"at the origin were {sorted(street.peers())}")


def a_redirected_player_watches_a_split_broadcast(street):
    got = street.frames(ORIGIN, "live", "-t", "3")
    expect(len(got) >= 25, f"{len(got)} frames in 3 s")
    street.proxy.wait(lambda: any("broadcast opened" in line for line in street.proxy.lines), "no broadcast was split")


def where_the_player_was_going_decides_and_not_what_it_says(street):
    error = street.claims("nowhere.example", ORIGIN)
    expect(not error, f"a player on its way to the origin that says another host: {error}")
    error = street.claims(ORIGIN, ELSEWHERE)
    expect(error, "a player on its way to a host that is not allowed was let in, for it said one that is")
    entry = f'"{ELSEWHERE}'
    street.proxy.wait(lambda: any("would allow it" in line and entry in line.replace("\\", "") for line in street.proxy.lines),
                      "the log names no entry that would allow it")


TESTS = [a_redirected_player_sees_the_origin_it_asked_for, a_redirected_player_watches_a_split_broadcast,
         where_the_player_was_going_decides_and_not_what_it_says]


if __name__ == "__main__":
    run_alone(__doc__, set_up, Street, TESTS)
