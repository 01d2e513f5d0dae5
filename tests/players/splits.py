"""Real players on one broadcast: several at once, through a break of the origin, and when another content comes back.

The proxy's origin here is the embedded one: begun again, it counts packets, times and objects from zero.
"""

from __future__ import annotations

import json
import signal
import time
import urllib.request

from crowd import Crowd, until
from stage import Capture, asf, deviations_at, dumped_packets, expect, frames, look

AWAY = 5.0  # seconds without an origin
HISTORY = 6.0  # seconds that the proxy keeps here: what the origin begins with after a break is not in it any more


def metric(proxy, name):
    """The value of one sample, as it stands in the exposition."""
    with urllib.request.urlopen(f"http://{proxy.bound['admin']}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    found = [line for line in lines if line.startswith(name + " ")]
    expect(found, f"there is no metric {name}")
    return float(found[0].split()[-1])


def reconnects(proxy):
    return {result: metric(proxy, f'mmsproxy_split_reconnects_total{{result="{result}"}}')
            for result in ("continued", "changed", "gave_up")}


def sessions_at(origin):
    """How many sessions are open at the embedded origin, by its log."""
    messages = [json.loads(line).get("message") for line in list(origin.lines) if line.startswith("{")]
    return messages.count("session begins") - messages.count("session ended")


def plays_at(log):
    """How many sessions asked the strict origin for media, by its log."""
    with open(log, encoding="utf-8") as file:
        return len({entry["session"] for entry in map(json.loads, file) if entry.get("message") == "StartPlaying"})


def before(lab, origin, **split):
    """A proxy before this origin."""
    proxy = lab.serve({"listen": {"mms": ["127.0.0.1:0"], "admin": "127.0.0.1:0"}, "split": split,
                       "routes": [{"origin": f"mms://{origin}"}]})
    proxy.address()
    proxy.wait(lambda: "admin" in proxy.bound, "no admin address")
    return proxy


def no_panic(proxy):
    found = [line for line in proxy.lines if "panicked at" in line]
    expect(not found, f"the proxy panicked: {found[:1]}")


# ---- judging what went over a break ----------------------------------------------------------------------------------


def steps_back(numbers):
    return [(was, now) for was, now in zip(numbers, numbers[1:]) if now < was]


def times_go_on(player):
    """The times of all that ffmpeg decoded or ffprobe read, each stream for itself."""
    streams = {}
    for line in player.lines:
        fields = [field.strip() for field in line.removeprefix("packet,").split(",")]
        streams.setdefault(fields[0], []).append(tuple(int(field) for field in fields[1:3]))
    expect(streams, f"{player.name} printed nothing")
    for stream, times in streams.items():
        for which in (0, 1):
            back = steps_back([time[which] for time in times])
            expect(not back, f"{player.name}: times of stream {stream} step back: {back[:3]}")


def dump_goes_on(player, file, breaks):
    """Every packet of the dump is the next one of the looped file, but for at most so many breaks, after which payloads may
    be left out of a packet until a key frame; times never step back."""
    header, data, at = dumped_packets(player.dump)
    expect(header is not None, f"{player.name} has no ASF header")
    size = file.header.packet_size
    want = [set(look(packet)) for packet in file.packets]
    # The last one may be a part of a packet and what lay in MPlayer's buffer.
    packets = [data[start : start + size] for start in range(at, len(data) - 2 * size + 1, size)]
    sends, shown, next_one, found_breaks = [], {}, None, -1
    for number, packet in enumerate(packets):
        got = set(look(packet))
        if next_one is None or not got <= want[next_one % len(want)]:
            next_one = next((n for n, other in enumerate(want) if got <= other), None)
            expect(next_one is not None, f"{player.name}: packet {number} is none of the file's")
            found_breaks += 1
        next_one += 1
        parsed = asf.parse_packet(packet)
        sends.append(parsed.send_time)
        for payload in parsed.payloads:
            shown.setdefault(payload.stream, []).append(int.from_bytes(payload.replicated[4:8], "little"))
    expect(0 <= found_breaks <= breaks, f"{player.name}: {found_breaks} breaks, not {breaks}")
    back = steps_back(sends), *(steps_back(times) for times in shown.values())
    expect(not any(back), f"{player.name}: times step back: {[pairs[:2] for pairs in back]}")


def first_frames(crowd):
    """Seconds from the start of a player to its first frame, for those that tell."""
    late = crowd.ffmpeg(), crowd.mplayer()
    until(lambda: all(player.count for player in late), "who joins late decodes")
    return {player.name: player.first() for player in late}


# ---- the runs ----------------------------------------------------------------------------------------------------------


def players_of_all_kinds_share_one_session(lab, origin, log=None):
    """At the embedded origin, or at the strict one, which has a log."""
    proxy = before(lab, origin.address())
    with Crowd(lab, proxy.address()) as crowd:
        crowd.all().ffmpeg("a second ffmpeg")
        crowd.make(60, 20, "at once")
        expect(metric(proxy, "mmsproxy_origin_sessions") == 1, "the proxy counts other than one session at the origin")
        if not log:
            expect(sessions_at(origin) == 1, f"{sessions_at(origin)} sessions at the origin for {len(crowd.players)} players")
        through = first_frames(crowd)
    for player in crowd.players:
        expect(not player.name.endswith("ffmpeg") or not player.said(), f"{player.name} said {player.said()[-300:]!r}")
        if player.dump:
            dump_goes_on(player, lab.file, breaks=0)
    proxy.stop()
    no_panic(proxy)
    if log:
        expect(plays_at(log) == 1, f"{plays_at(log)} sessions at the origin")
        found = deviations_at(log)
        expect(not found, f"toward the origin: {found[:5]}")
    with Crowd(lab, origin.address()) as crowd:
        straight = first_frames(crowd)
    print(f"figure join {'at the strict origin' if log else 'at the embedded origin'}, start of a player to its first frame: "
          + ", ".join(f"{name} {through[name]:.2f} s, without the proxy {straight[name]:.2f} s" for name in through), flush=True)


def players_go_on_when_the_origin_is_killed_and_comes_back(lab):
    origin = lab.origin()
    address = origin.address()
    proxy = before(lab, address, history=f"{HISTORY:.0f}s")
    base = proxy.address()
    with Crowd(lab, base) as crowd:
        capture = Capture(lab, base, [base.rpartition(":")[2], address.rpartition(":")[2]])
        try:
            crowd.all()
            # So much is more than the history, and more than a round of the file.
            crowd.make(int((HISTORY + 4) * 10), 60, "before the break")
            killed = time.monotonic()
            origin.process.kill()
            origin.process.wait()
            time.sleep(AWAY)  # the origin is away
            lab.origin(address).address()
            back = time.monotonic()
            crowd.make(60, 30, "after the break")
        finally:
            capture.stop()
        paused = max(now - was for player in crowd.players for was, now in zip(player.times, player.times[1:])
                     if player.name in ("ffmpeg", "ffprobe"))
        print(f"figure break: {back - killed:.1f} s without an origin, {paused:.1f} s without media", flush=True)
        expect(reconnects(proxy) == {"continued": 1, "changed": 0, "gave_up": 0}, f"it was counted as {reconnects(proxy)}")
        expect(metric(proxy, "mmsproxy_origin_sessions") == 1, "other than one session at the origin after the break")
    for player in crowd.players:
        if player.dump:
            dump_goes_on(player, lab.file, breaks=1)
        elif player.name.startswith("ff"):
            times_go_on(player)
    ffmpeg = crowd.players[0]
    expect(not ffmpeg.said(), f"ffmpeg said {ffmpeg.said()[-300:]!r}")
    fields = [line.split(",") for line in crowd.players[1].lines]
    shown = [int(pts) for _, stream, pts, _ in fields if stream == "0"]
    step = max(now - was for was, now in zip(shown, shown[1:])) / 1000
    expect(paused - 3 <= step <= paused + 3, f"the stream's times went on by {step:.1f} s in {paused:.1f} s")
    no_panic(proxy)
    capture.judge(15)


def a_file_begun_again_is_not_taken_for_what_was_missed(lab):
    """All that the origin sends first is still in the history, byte by byte: and yet nobody waits until it is new."""
    origin = lab.origin()
    address = origin.address()
    proxy = before(lab, address)
    with Crowd(lab, proxy.address()) as crowd:
        ffmpeg, mplayer = crowd.ffmpeg(), crowd.mplayer()
        crowd.make(130, 0, "before the break")
        origin.process.kill()
        origin.process.wait()
        lab.origin(address).address()
        back, had = time.monotonic(), ffmpeg.count
        crowd.make(30, 0, "after the break")
        waited = ffmpeg.times[had + 20] - back
        expect(waited < 10, f"frames came {waited:.1f} s after the origin was back")
        expect(mplayer.is_there() and reconnects(proxy)["continued"] == 1, f"it was counted as {reconnects(proxy)}")
    times_go_on(ffmpeg)
    no_panic(proxy)


def players_do_as_they_are_used_to_when_other_content_comes_back(lab):
    """libmms follows to the new header; VLC and MPlayer end; ffmpeg reads on and understands nothing any more."""
    other = lab.encode("other.asf", "testsrc2=size=320x240", 5)
    origin = lab.origin()
    address = origin.address()
    proxy = before(lab, address)
    base = proxy.address()
    with Crowd(lab, base) as crowd:
        ffmpeg, dump, mplayer, libmms = crowd.ffmpeg(), crowd.vlc_dump(), crowd.mplayer(), crowd.libmms()
        crowd.make(30, 10, "before the break")
        origin.process.kill()
        origin.process.wait()
        lab.origin(address, other).address()
        header = asf.AsfFile(other).header

        def follows():
            with open(libmms.dump, "rb") as file:
                data = file.read()
            second = data.find(asf.HEADER, 16)
            return second > 0 and len(data) > second + header.size + 20 * header.packet_size

        until(follows, "libmms gets the other header and its packets")
        for player in (mplayer, dump):
            until(lambda: not player.is_there(), f"{player.name} ends")
            code = player.process.returncode
            expect(code == 0, f"{player.name} ended with {code}: {player.said()[-300:]!r}")
        expect(libmms.is_there(), "libmms ended")
        expect(reconnects(proxy) == {"continued": 0, "changed": 1, "gave_up": 0}, f"it was counted as {reconnects(proxy)}")
        got = frames(["-i", crowd.url, "-map", "0:v", "-frames:v", "20"])
        expect(len(got) == 20 and got[0].split(",")[4].strip() == str(320 * 240 * 3 // 2), "who comes now sees the old content")
    expect(ffmpeg.process.returncode >= 0 or ffmpeg.process.returncode in (-signal.SIGINT, -signal.SIGKILL), "ffmpeg crashed")
    no_panic(proxy)


BREAKS = [players_go_on_when_the_origin_is_killed_and_comes_back, a_file_begun_again_is_not_taken_for_what_was_missed,
          players_do_as_they_are_used_to_when_other_content_comes_back]
