#!/usr/bin/env python3
"""Data over UDP on a network that loses every twentieth packet, both ways: a network namespace with netem on its loopback.

    lossy.py PROXY_BINARY    as root

The strict client plays through the proxy, the proxy from the strict origin; what is lost is asked for again, and every packet
arrives as it was. Where the kernel has no netem, its packet filter loses the datagrams (and nothing comes late or twice). The
namespace belongs to this process and ends with it. Prints `ok NAME` or `FAILED NAME: why` and at the end `N passed, M failed`.
Where namespaces are not permitted, or neither way to lose a packet, it says so and ends with 77.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

from alone import run_alone, skip
from stage import HERE, asf, expect, run

from film import film  # stage.py says where it is

NETEM = "tc qdisc add dev lo root netem loss 5% duplicate 1% delay 5ms 4ms"
FILTER = "iptables -A INPUT -p udp -m statistic --mode random --probability 0.05 -j DROP"
LEAST = 1  # packet that a play loses; they leave in batches, and a filter takes these whole


def set_up():
    """A loopback of our own, which loses packets."""
    complaints = []
    for line in ("mount -t tmpfs none /run", "ip link set lo mtu 1500 up"):
        done = subprocess.run(line.split(), capture_output=True, text=True)
        if done.returncode:
            skip(f"`{line}` is not permitted here: {done.stderr.strip()[-200:]}")
    for line in (NETEM, FILTER):
        done = subprocess.run(line.split(), capture_output=True, text=True)
        if not done.returncode:
            print(f"the network: {line}", flush=True)
            return
        complaints.append(f"`{line}`: {done.stderr.strip()[-100:]}")
    skip(f"nothing can be lost here: {'; '.join(complaints)}")


class Weather:
    """The origins, the proxies before them, and a film long enough to lose some of."""

    def __init__(self, lab):
        self.lab = lab
        self.film = film(seconds=15.0, rates=(500_000,))
        self.path = lab.path("film.asf")
        with open(self.path, "wb") as file:
            file.write(self.film.header.bytes + b"".join(self.film.packets))
        self.large = film(2, seconds=12.0, rates=(300_000,), packet_size=8000)
        self.large_path = lab.path("large.asf")
        with open(self.large_path, "wb") as file:
            file.write(self.large.header.bytes + b"".join(self.large.packets))
        options = ("--file", self.path, "--name", "vod/film.asf", "--file", self.large_path, "--name", "vod/large.asf",
                   "--broadcast", f"on-air={self.path}")
        self.origin, self.log = lab.strict_origin(*options)
        self.proxy = self.before("mms", udp={"resend_budget": "100%"})
        self.over_udp = self.before("mmsu")
        self.cache = lab.path("cache")
        self.cacher = self.before("mmsu", cache={"dir": self.cache, "min_free": 0})

    def before(self, scheme, **sections):
        """A proxy before the origin."""
        proxy = self.lab.serve({"listen": {"mms": ["127.0.0.1:0"], "admin": "127.0.0.1:0"},
                                "routes": [{"origin": f"{scheme}://{self.origin.address()}"}]} | sections)
        proxy.address()
        return proxy

    def plays(self, proxy, name, script, *how, path=None):
        """What the strict client says of a play."""
        client = os.path.join(HERE, "..", "peers", "strict_client.py")
        _, out, err, ended = run([sys.executable, client, f"mms://media.example/{name}", "--proxy", proxy.address(), "--compare",
                                  path or self.path, "--do", script, "--timeout", "60", "--json", *how], 180)
        expect(ended and out, f"the strict client ended: {err[-300:]}")
        played = json.loads(out)
        expect(not played["error"], f"{played['error']}; {played['datagrams']}")
        expect(not played["deviations"], f"{played['deviations'][:5]}")
        return played

    def all_of_it(self, proxy, *how):
        played = self.plays(proxy, "vod/film.asf", "start; end", *how)
        play, = played["plays"]
        expect(play["packets"] == len(self.film.packets), f"{play['packets']} of {len(self.film.packets)} packets; {played['datagrams']}")
        return played


def mended(played):
    counted = played["datagrams"]
    expect(played["funnel"] == "udp" and not counted["lost"], f"packets stayed lost: {counted}")
    expect(counted["recovered"] >= LEAST, f"too few were lost to say anything: {counted}")
    print(f"figure {counted['recovered']} of {counted['datagrams']} datagrams were mended by {counted['requests']} requests", flush=True)


def a_player_gets_every_packet_of_a_file(weather):
    mended(weather.all_of_it(weather.proxy, "--udp", "--lossy"))


def a_player_gets_every_packet_of_a_broadcast(weather):
    played = weather.plays(weather.proxy, "on-air", "play 600", "--udp", "--lossy")
    mended(played)
    play, = played["plays"]
    expect(play["last"][0] - play["first"][0] == play["packets"] - 1, f"it has gaps: {play}")


def packets_above_the_mtu_arrive_too(weather):
    played = weather.plays(weather.proxy, "vod/large.asf", "start; end", "--udp", "--lossy", path=weather.large_path)
    play, = played["plays"]
    expect(play["packets"] == len(weather.large.packets), f"{play['packets']} of {len(weather.large.packets)}; {played['datagrams']}")
    weather.proxy.wait(lambda: any("MTU" in line for line in weather.proxy.lines), "no warning of packets above the MTU")


def what_comes_from_an_origin_over_udp_is_whole(weather):
    weather.all_of_it(weather.over_udp)
    with open(weather.log, encoding="utf-8") as file:
        asked = [e["fields"]["funnel_name"] for e in map(json.loads, file) if e.get("message") == "ConnectFunnel"]
    expect(any("\\UDP\\" in name for name in asked), "nobody asked the origin for UDP")


def both_sides_over_udp_are_mended(weather):
    mended(weather.all_of_it(weather.over_udp, "--udp", "--lossy"))


def a_fill_over_udp_ends_complete(weather):
    weather.all_of_it(weather.cacher)
    path = weather.lab.path("export.asf")
    with open(weather.log, encoding="utf-8") as file:
        asked = [entry for entry in map(json.loads, file) if entry["event"] == "resend"]
    expect(asked, "the origin was asked for nothing again")
    for command in (["verify"], ["export", f"mms://{weather.origin.address()}/vod/film.asf", "-o", path]):
        admin = ["--admin", f"http://{weather.cacher.bound['admin']}"]
        code, out, err, _ = run([weather.lab.binary, "cache", *command, *admin], 120)
        expect(code == 0, f"`cache {command[0]}` ends with {code}: {(err or out)[-300:]}")
    exported = asf.AsfFile(path).packets
    expect(len(exported) == len(weather.film.packets), f"the export has {len(exported)} packets")


TESTS = [a_player_gets_every_packet_of_a_file, a_player_gets_every_packet_of_a_broadcast, packets_above_the_mtu_arrive_too,
         what_comes_from_an_origin_over_udp_is_whole, both_sides_over_udp_are_mended, a_fill_over_udp_ends_complete]


if __name__ == "__main__":
    run_alone(__doc__, set_up, Weather, TESTS, jobs=len(TESTS))
