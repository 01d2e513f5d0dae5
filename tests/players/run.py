#!/usr/bin/env python3
"""Real players (ffmpeg, VLC, MPlayer, libmms) through the proxy, and tshark's opinion of both of its sides.

    run.py PROXY_BINARY            the proxy before its own embedded origin, before the strict one, and `demo`
    run.py --strict-origin         the players straight at tests/peers/strict_origin.py, which keeps that origin honest

What a player wrote is compared with the file that was served: decoded frames by framemd5, dumped packets payload by
payload. Prints `ok NAME` or `FAILED NAME: why` and at the end `N passed, M failed`. A missing player is a failure.
"""

from __future__ import annotations

import argparse
import json
import os
import pwd
import shutil
import subprocess
import sys
import threading
import time

import splits
from stage import (USER, Capture, Failed, asf, compare_dump, deviations_at, dumped_packets, expect, frames, has, mmst, mmsu, run,
                   run_tests, vlc)

ONE_VLC_OVER_UDP = threading.Lock()  # each of them takes port 7000
# Free players name a host without its port, so the forward test needs one with 1755 free, whoever else runs this.
FORWARD_HOST = f"127.78.{os.getpid() >> 8 & 0xFF}.{os.getpid() & 0xFF}"


# ---- what each player does --------------------------------------------------------------------------------------------


def ffmpeg_decodes_a_file_to_its_last_frame(lab, base):
    want = frames(["-i", lab.clip, "-map", "0:v"])
    count = len(want)
    got = frames(["-i", mmst(base, "vod/clip.asf"), "-map", "0:v", "-frames:v", str(count)])
    expect(got == want, f"{len(set(want) - set(got))} of {count} frames differ")


def ffmpeg_decodes_sound_and_picture(lab, base):
    want = frames(["-i", lab.clip, "-t", "7.5"])
    got = frames(["-i", mmst(base, "vod/clip.asf"), "-t", "7.5"])
    expect(got == want, f"{len(set(want) - set(got))} of {len(want)} frames differ")


def ffmpeg_watches_the_broadcast_over_its_seam(lab, base):
    got = frames(["-i", mmst(base, "live"), "-map", "0:v", "-t", "10"])
    expect(len(got) >= 90, f"{len(got)} frames in 10 s")


def vlc_dumps_a_file(lab, base):
    path = lab.path("vlc.asf")
    *_, err, ended = run(vlc("--play-and-exit", "--demux=dump", f"--demuxdump-file={path}", mmst(base, "vod/clip.asf"),
                             "vlc://quit"), 150)
    expect(ended, f"VLC did not end: {err[-200:]}")
    first, last = compare_dump(path, lab.file, first=0)
    expect(last == len(lab.file.packets) - 1, f"the last packet is {last}")


def vlc_opens_an_mms_url(lab, base):
    path = lab.path("vlc.asf")
    *_, err, ended = run(vlc("--play-and-exit", f"--sout=#std{{access=file,mux=asf,dst={path}}}", f"mms://{base}/vod/clip.asf",
                             "vlc://quit"), 150)
    expect(ended, f"VLC did not end: {err[-200:]}")
    got = [line.split(",")[-1] for line in frames(["-i", path, "-map", "0:v"])]
    want = [line.split(",")[-1] for line in frames(["-i", lab.clip, "-map", "0:v"])]
    expect(len(set(want) - set(got)) <= 1, f"{len(set(want) - set(got))} of {len(want)} frames are missing")


def over_its_seam(lab, path):
    """Is more of the broadcast dumped than a round of its file?"""
    return has(path, len(lab.file.packets) + 5)


def vlc_watches_the_broadcast(lab, base):
    path = lab.path("vlc.asf")
    run(vlc("--demux=dump", f"--demuxdump-file={path}", mmst(base, "live")), 90, lambda: over_its_seam(lab, path), 10)
    compare_dump(path, lab.file, least=20, loop=True)


def vlc_dumps_a_file_over_udp(lab, base):
    path = lab.path("vlc.asf")
    with ONE_VLC_OVER_UDP:
        *_, err, ended = run(vlc("--play-and-exit", "--demux=dump", f"--demuxdump-file={path}", mmsu(base, "vod/clip.asf"),
                                 "vlc://quit"), 150)
    expect(ended, f"VLC did not end: {err[-200:]}")
    first, last = compare_dump(path, lab.file, first=0)
    expect(last == len(lab.file.packets) - 1, f"the last packet is {last}")


def vlc_watches_the_broadcast_over_udp(lab, base):
    path = lab.path("vlc.asf")
    with ONE_VLC_OVER_UDP:
        run(vlc("--demux=dump", f"--demuxdump-file={path}", mmsu(base, "live")), 90, lambda: over_its_seam(lab, path), 10)
    compare_dump(path, lab.file, least=20, loop=True)


def mplayer_dumps_a_file(lab, base):
    path = lab.path("mplayer.asf")
    *_, err, ended = run(["mplayer", "-nolirc", "-nocache", "-dumpstream", "-dumpfile", path, mmst(base, "vod/clip.asf")], 150)
    expect(ended, "MPlayer did not end")
    _, last = compare_dump(path, lab.file, first=0)
    expect(last >= len(lab.file.packets) - 2, f"the last packet is {last}")


def mplayer_watches_the_broadcast(lab, base):
    path = lab.path("mplayer.asf")
    run(["mplayer", "-nolirc", "-nocache", "-dumpstream", "-dumpfile", path, mmst(base, "live")], 90,
        lambda: over_its_seam(lab, path), 10)
    compare_dump(path, lab.file, least=10, loop=True)


def libmms_run(lab, base, name, *arguments, timeout=120):
    path = lab.path("libmms.asf")
    code, _, err, ended = run([lab.libmms, f"mms://{base}/{name}", path, *arguments], timeout)
    expect(ended and code == 0, f"libmms ended with {code if ended else 'nothing'}: {err[-200:]}")
    return path


def libmms_reads_a_file_to_its_end(lab, base):
    _, last = compare_dump(libmms_run(lab, base, "vod/clip.asf"), lab.file, first=0)
    expect(last == len(lab.file.packets) - 1, f"the last packet is {last}")


def libmms_that_tries_http_first_gets_in(lab, base):
    compare_dump(libmms_run(lab, base, "vod/clip.asf", "mmsx", "40000"), lab.file, first=0, least=12)


def libmms_seeks_by_time(lab, base):
    path = libmms_run(lab, base, "vod/clip.asf", "mms", "20000", "time", "2")
    first, last = compare_dump(path, lab.file)
    seconds = 2 + lab.file.header.preroll_ms / 1000  # libmms adds the preroll
    # An index has an entry for each second, so the key frame before the last may be the one it names.
    earliest, latest = lab.file.packet_at(seconds - 1), lab.file.packet_at(seconds)
    expect(earliest <= first <= latest, f"it went to packet {first}, not {earliest} to {latest}")
    expect(last == len(lab.file.packets) - 1, f"the last packet is {last}")


def libmms_seeks_by_byte(lab, base):
    offset = lab.file.header.size + 25 * lab.file.header.packet_size
    path = libmms_run(lab, base, "vod/clip.asf", "mms", "20000", "byte", str(offset))
    compare_dump(path, lab.file, first=25, least=25)


def libmms_watches_the_broadcast(lab, base):
    compare_dump(libmms_run(lab, base, "live", "mms", "80000"), lab.file, least=20, loop=True)


ON_DEMAND = [ffmpeg_decodes_a_file_to_its_last_frame, ffmpeg_decodes_sound_and_picture, vlc_dumps_a_file, vlc_opens_an_mms_url,
             mplayer_dumps_a_file, libmms_reads_a_file_to_its_end, libmms_that_tries_http_first_gets_in, libmms_seeks_by_time,
             libmms_seeks_by_byte]
BROADCAST = [ffmpeg_watches_the_broadcast_over_its_seam, vlc_watches_the_broadcast, mplayer_watches_the_broadcast,
             libmms_watches_the_broadcast]
OVER_UDP = [vlc_dumps_a_file_over_udp, vlc_watches_the_broadcast_over_udp]


def logged(log):
    """What is in an origin's log; its last line may be on its way."""
    with open(log, encoding="utf-8") as file:
        return [json.loads(line) for line in file if line.endswith("\n")]


def patiently(condition, timeout=30.0):
    """Waits until it is so; whether it is, is judged later."""
    deadline = time.monotonic() + timeout
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.1)


def vlc_pauses_seeks_and_stops(lab, base, log):
    """By its control line; the strict origin's log tells that the seek arrived and that all was in order."""
    def starts():
        """Of all sessions so far; of those in which there was more than one, too."""
        sessions = [entry["session"] for entry in logged(log) if entry.get("message") == "StartPlaying"]
        return len(sessions), len({session for session in sessions if sessions.count(session) > 1})

    (began, _), sought = starts(), None
    command = vlc("-I", "oldrc", "--rc-fake-tty", "--vout=dummy", "--aout=dummy", mmst(base, "vod/clip.asf"))
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True)
    # A person at the keys, who waits for the picture and for what a seek does: the pauses are the input.
    for pause, line in ((1, "pause"), (1.5, "pause"), (1, "seek 6"), (2, "stop"), (0.2, "quit")):
        if line == "pause" and sought is None:
            patiently(lambda: starts()[0] > began)
            sought = starts()[1]
        elif line == "stop":
            patiently(lambda: starts()[1] > sought)
        time.sleep(pause)
        try:
            process.stdin.write(line + "\n")
            process.stdin.flush()
        except BrokenPipeError:
            break
    try:
        process.wait(60)
    except subprocess.TimeoutExpired:
        process.kill()
        raise Failed("VLC did not end") from None
    expect(starts()[1] > sought, "the origin saw no session start a second time: the seek did not arrive")


def tshark_finds_nothing_malformed(lab, base, ports):
    capture = Capture(lab, base, ports)
    try:
        frames(["-i", mmst(base, "vod/clip.asf"), "-map", "0:v", "-t", "3"])
        time.sleep(0.5)  # the writer's buffer
    finally:
        capture.stop()
    capture.judge(15)


def demo_plays(lab, url, player):
    base = url.split("://", 1)[1]
    url = "mmst://" + base
    if player == "ffmpeg":
        expect(len(frames(["-i", url, "-t", "3"])) > 10, "too few frames")
        return
    path = lab.path(f"demo-{player}.asf")
    if player == "libmms":
        code, _, err, ended = run([lab.libmms, "mms://" + base, path, "mms", "60000"], 120)
        expect(ended and code == 0, f"libmms: {err[-200:]}")
    elif player == "vlc":
        run(vlc("--demux=dump", f"--demuxdump-file={path}", url), 60, lambda: has(path, 5), 8)
    else:
        run(["mplayer", "-nolirc", "-nocache", "-dumpstream", "-dumpfile", path, url], 60, lambda: has(path, 5), 8)
    header, data, at = dumped_packets(path)
    expect(header is not None, "no ASF header was written")
    whole = (len(data) - at) // header.packet_size
    expect(whole >= 3, f"{whole} packets were written")
    # The last one may be a part of a packet and what lay in MPlayer's buffer: it was ended while it read.
    for number in range(whole - 1):
        packet = data[at + number * header.packet_size : at + (number + 1) * header.packet_size]
        try:
            asf.parse_packet(packet)
        except asf.AsfError as error:
            raise Failed(f"packet {number} of {whole}: {error}; it begins {packet[:64].hex()}") from None


# ---- the runner -------------------------------------------------------------------------------------------------------


def need_players():
    missing = [tool for tool in ("ffmpeg", "cvlc", "vlc", "mplayer", "tshark", "cc") if not shutil.which(tool)]
    if os.geteuid() == 0:
        try:
            pwd.getpwnam(USER)
        except KeyError:
            subprocess.run(["useradd", "--create-home", "--shell", "/usr/sbin/nologin", USER], check=True)  # VLC refuses root
    if missing:
        print(f"FAILED players: missing {', '.join(missing)}\n0 passed, 1 failed")
        sys.exit(1)


def tests_at(lab, where, base):
    for test in ON_DEMAND + BROADCAST + OVER_UDP:
        yield f"{test.__name__} {where}", test, (lab, base)


def collect(options, lab):
    """Yields (name, function, arguments); the servers run until all are done."""
    if options.strict_origin:
        origin, log = lab.strict_origin()
        base = origin.address()
        yield from tests_at(lab, "from the strict origin", base)
        yield "vlc_pauses_seeks_and_stops from the strict origin", vlc_pauses_seeks_and_stops, (lab, base, log)
        yield "tshark_finds_nothing_malformed from the strict origin", tshark_finds_nothing_malformed, (lab, base, [base.rpartition(":")[2]])
        return
    origin = lab.origin()
    reverse = lab.serve({"listen": {"mms": ["127.0.0.1:0"], "admin": "127.0.0.1:0"},
                         "cache": {"dir": lab.path("cache"), "min_free": 0},
                         "routes": [{"origin": f"mms://{origin.address()}"}]})
    base = reverse.address()
    yield from tests_at(lab, "through a reverse route", base)
    # Without a cache, so that there are two sides.
    relay = lab.serve({"listen": {"mms": ["127.0.0.1:0"], "admin": "127.0.0.1:0"},
                       "routes": [{"origin": f"mms://{origin.address()}"}]}).address()
    ports = [relay.rpartition(":")[2], origin.address().rpartition(":")[2]]
    yield "tshark_finds_nothing_malformed on both sides", tshark_finds_nothing_malformed, (lab, relay, ports)

    yield "players_of_all_kinds_share_one_session at the embedded origin", splits.players_of_all_kinds_share_one_session, (
        lab, lab.origin())
    for test in splits.BREAKS:
        yield test.__name__, test, (lab,)

    far = lab.origin(f"{FORWARD_HOST}:1755")
    far.address()
    forward = lab.serve({"listen": {"mms": [f"{FORWARD_HOST}:0"], "admin": "127.0.0.1:0"}, "routes": [],
                         "forward": {"allow": [FORWARD_HOST]}})
    base = forward.address()
    for test in ON_DEMAND + [ffmpeg_watches_the_broadcast_over_its_seam]:
        yield f"{test.__name__} through the forward proxy", test, (lab, base)

    strict, log = lab.strict_origin("--file-id", "77", "--think", "0.005")
    behind = lab.serve({"listen": {"mms": ["127.0.0.1:0"], "admin": "127.0.0.1:0"},
                        "routes": [{"origin": f"mms://{strict.address()}"}]})
    base = behind.address()

    def all_players_before_a_strict_origin(lab, base, log):
        for test in (ffmpeg_decodes_sound_and_picture, libmms_seeks_by_time, libmms_seeks_by_byte, vlc_dumps_a_file):
            test(lab, base)
        vlc_pauses_seeks_and_stops(lab, base, log)
        found = deviations_at(log)
        expect(not found, f"toward the origin: {found[:5]}")

    yield "the_players_before_the_strict_origin", all_players_before_a_strict_origin, (lab, base, log)

    udp_origin, udp_log = lab.strict_origin("--file-id", "77", "--think", "0.005")
    base = lab.serve({"listen": {"mms": ["127.0.0.1:0"], "admin": "127.0.0.1:0"},
                      "routes": [{"origin": f"mmsu://{udp_origin.address()}"}]}).address()

    def vlc_over_udp_before_a_strict_origin_over_udp(lab, base, log):
        for test in OVER_UDP:
            test(lab, base)
        found = deviations_at(log)
        expect(not found, f"toward the origin: {found[:5]}")

    yield "vlc_over_udp_before_a_strict_origin_over_udp", vlc_over_udp_before_a_strict_origin_over_udp, (lab, base, udp_log)

    origin, log = lab.strict_origin("--file-id", "77", "--think", "0.005")
    yield "players_of_all_kinds_share_one_session at the strict origin", splits.players_of_all_kinds_share_one_session, (
        lab, origin, log)

    demo = lab.start(lab.binary, "demo", "--mms", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--for", "300s")
    demo.wait(lambda: demo.urls, "the demo prints no URL")
    time.sleep(0.5)  # it prints them in one go
    urls = {url.split("://", 1)[1].rstrip("/.,)"): url for url in demo.urls}
    for base in urls:
        for player in ("ffmpeg", "libmms", "vlc", "mplayer"):
            yield f"{player} plays the demo's {base.partition('/')[2]}", demo_plays, (lab, f"mms://{base}", player)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("binary", nargs="?")
    parser.add_argument("--strict-origin", action="store_true")
    parser.add_argument("--only", default="", metavar="TEXT")
    parser.add_argument("--jobs", type=int, default=5)
    options = parser.parse_args()
    if not options.binary and not options.strict_origin:
        parser.error("which binary?")
    need_players()

    def chosen(lab):
        return (test for test in collect(options, lab) if options.only in test[0])

    run_tests(options.binary, chosen, options.jobs)


if __name__ == "__main__":
    main()
