#!/usr/bin/env python3
"""Real players (ffmpeg, VLC, MPlayer, libmms) through the proxy, and tshark's opinion of both of its sides.

    run.py PROXY_BINARY            the proxy before its own embedded origin, before the strict one, and `demo`
    run.py --strict-origin         the players straight at tests/peers/strict_origin.py, which keeps that origin honest

What a player wrote is compared with the file that was served: decoded frames by framemd5, dumped packets payload by
payload. Prints `ok NAME` or `FAILED NAME: why` and at the end `N passed, M failed`. A missing player is a failure.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import json
import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "peers"))
import asf  # noqa: E402

USER = "mmsplayer"
FORWARD_HOST = "127.0.78.1"  # free players name a host without its port, so the forward test needs one with 1755 free


class Failed(AssertionError):
    """What a player saw that should not be."""


def expect(condition, text):
    if not condition:
        raise Failed(text)


def run(command, timeout, **options):
    """Runs a player; what is still there after `timeout` is ended, which is no failure by itself."""
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               start_new_session=True, **options)
    ended = True
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        ended = False
        os.killpg(process.pid, signal.SIGINT)
        try:
            out, err = process.communicate(timeout=3)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            out, err = process.communicate()
    return process.returncode, out.decode("utf-8", "replace"), err.decode("utf-8", "replace"), ended


class Server:
    """One of our own processes; `bound` is what it says it listens on."""

    def __init__(self, command, cwd):
        self.process = subprocess.Popen(command, cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, text=True, errors="replace", env={**os.environ, "RUST_LOG": "info"})
        self.bound, self.urls, self.lines, self.changed = {}, [], [], threading.Condition()
        for stream in (self.process.stdout, self.process.stderr):
            threading.Thread(target=self._read, args=(stream,), daemon=True).start()

    def _read(self, stream):
        for line in stream:
            with self.changed:
                self.lines.append(line.rstrip())
                if line.startswith("listening "):
                    self.bound["mms"] = f"127.0.0.1:{line.split()[1]}"
                for url in re.findall(r"mms[tu]?://[^\s\"']+", line):
                    if stream is self.process.stdout and url not in self.urls:
                        self.urls.append(url)
                try:
                    entry = json.loads(line)
                    fields = {**entry, **entry.get("fields", {})}
                    if fields.get("message") == "listening":
                        self.bound.setdefault(fields.get("protocol", "mms"), str(fields["address"]))
                except (ValueError, AttributeError, KeyError):
                    pass
                self.changed.notify_all()
        with self.changed:
            self.changed.notify_all()

    def wait(self, condition, what, timeout=20):
        deadline = time.monotonic() + timeout
        with self.changed:
            while not condition():
                left = deadline - time.monotonic()
                expect(left > 0 and self.process.poll() is None, f"{what}: nothing in {timeout} s; it said {self.lines[-3:]}")
                self.changed.wait(min(left, 0.5))

    def address(self):
        self.wait(lambda: "mms" in self.bound, "no listening address")
        return self.bound["mms"]

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


class Lab:
    def __init__(self, binary, directory):
        self.binary, self.directory = binary, directory
        self.servers, self.count = [], 0
        self.root = os.path.join(directory, "content")
        os.makedirs(os.path.join(self.root, "vod"))
        self.clip = os.path.join(self.root, "vod", "clip.asf")
        subprocess.run(["ffmpeg", "-nostdin", "-v", "error", "-y", "-f", "lavfi", "-i", "testsrc=size=160x120:rate=10", "-f",
                        "lavfi", "-i", "sine=frequency=440", "-t", "8", "-c:v", "wmv2", "-b:v", "100k", "-g", "10", "-c:a",
                        "wmav2", "-b:a", "32k", self.clip], check=True)
        self.file = asf.AsfFile(self.clip)
        self.libmms = os.path.join(directory, "libmms_play")
        subprocess.run(["cc", "-O1", "-Wall", "-o", self.libmms, os.path.join(HERE, "libmms_play.c"), "-lmms"], check=True)
        os.chmod(directory, 0o777)

    def path(self, name):
        self.count += 1
        return os.path.join(self.directory, f"{self.count:03}-{name}")

    def start(self, *command):
        server = Server(list(command), self.directory)
        self.servers.append(server)
        return server

    def strict_origin(self, *options):
        log = self.path("origin.log")
        server = self.start(sys.executable, os.path.join(HERE, "..", "peers", "strict_origin.py"), "--file", self.clip, "--name",
                            "vod/clip.asf", "--broadcast", f"live={self.clip}", "--log", log, *options)
        return server, log

    def origin(self, listen="127.0.0.1:0"):
        return self.start(self.binary, "origin", "--root", self.root, "--listen", listen, "--broadcast", f"live={self.clip}",
                          "--log-format", "json")

    def serve(self, config):
        path = self.path("proxy.yaml")
        with open(path, "w", encoding="utf-8") as file:
            json.dump({"drain": "1s"} | config, file)
        return self.start(self.binary, "serve", "--config", path, "--log-format", "json")

    def stop(self):
        for server in reversed(self.servers):
            server.stop()


# ---- judging what a player wrote --------------------------------------------------------------------------------------


def dumped_packets(path):
    """Header and fixed-size packets, as players write an ASF stream; a packet that is cut at the end is left out."""
    with open(path, "rb") as file:
        data = file.read()
    at, header = 0, None
    if data[:16] == asf.HEADER:
        header = asf.AsfHeader(data)
        at = header.size
    return header, data, at


def look(packet):
    """A packet's payloads without what a loop moves (times, object numbers)."""
    return tuple((p.stream, p.key, p.offset, p.data) for p in asf.parse_packet(packet).payloads)


def compare_dump(path, file, first=None, least=1, loop=False):
    """Every whole packet of the dump is the next one of the file; returns the numbers of the first and the last."""
    header, data, at = dumped_packets(path)
    if first == 0 or header:
        expect(header is not None, "the dump has no ASF header")
        expect(header.streams == file.header.streams, "the dump's header has other streams")
    size = file.header.packet_size
    want = [look(packet) for packet in file.packets]
    got = [look(data[start : start + size]) for start in range(at, len(data) - size + 1, size)]
    expect(len(got) >= least, f"only {len(got)} packets were written, at least {least} should be")
    begin = next((n for n, packet in enumerate(want) if set(got[0]) <= set(packet)), None)
    expect(begin is not None, "the first packet is none of the file's")
    expect(first is None or begin == first, f"the first packet is number {begin}, not {first}")
    for number, packet in enumerate(got[1:], begin + 1):
        expect(loop or number < len(want), f"{number - len(want) + 1} packets too many")
        expect(packet == want[number % len(want)], f"packet {number} differs")
    return begin, begin + len(got) - 1


def frames(arguments, timeout=40):
    """framemd5 of what ffmpeg decodes; any line on stderr is an error."""
    code, out, err, ended = run(["ffmpeg", "-nostdin", "-v", "error", *arguments, "-f", "framemd5", "-"], timeout)
    expect(ended, f"ffmpeg did not end in {timeout} s: {err[-200:]}")
    expect(code == 0 and not err, f"ffmpeg said {err[-300:]!r} and ended with {code}")
    return sorted(line for line in out.splitlines() if not line.startswith("#"))


def vlc(*arguments):
    command = ["vlc", "--no-color", "-q", *arguments] if "oldrc" in arguments else ["cvlc", "--no-color", "-q", *arguments]
    return ["runuser", "-u", USER, "--", *command] if os.geteuid() == 0 else command


def mmst(base, name):
    return f"mmst://{base}/{name}"


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
                             "vlc://quit"), 60)
    expect(ended, f"VLC did not end: {err[-200:]}")
    first, last = compare_dump(path, lab.file, first=0)
    expect(last == len(lab.file.packets) - 1, f"the last packet is {last}")


def vlc_opens_an_mms_url(lab, base):
    path = lab.path("vlc.asf")
    *_, err, ended = run(vlc("--play-and-exit", f"--sout=#std{{access=file,mux=asf,dst={path}}}", f"mms://{base}/vod/clip.asf",
                             "vlc://quit"), 60)
    expect(ended, f"VLC did not end: {err[-200:]}")
    got = [line.split(",")[-1] for line in frames(["-i", path, "-map", "0:v"])]
    want = [line.split(",")[-1] for line in frames(["-i", lab.clip, "-map", "0:v"])]
    expect(len(set(want) - set(got)) <= 1, f"{len(set(want) - set(got))} of {len(want)} frames are missing")


def vlc_watches_the_broadcast(lab, base):
    path = lab.path("vlc.asf")
    run(vlc("--demux=dump", f"--demuxdump-file={path}", mmst(base, "live")), 10)
    compare_dump(path, lab.file, least=20, loop=True)


def mplayer_dumps_a_file(lab, base):
    path = lab.path("mplayer.asf")
    *_, err, ended = run(["mplayer", "-nolirc", "-nocache", "-dumpstream", "-dumpfile", path, mmst(base, "vod/clip.asf")], 90)
    expect(ended, "MPlayer did not end")
    _, last = compare_dump(path, lab.file, first=0)
    expect(last >= len(lab.file.packets) - 2, f"the last packet is {last}")


def mplayer_watches_the_broadcast(lab, base):
    path = lab.path("mplayer.asf")
    run(["mplayer", "-nolirc", "-nocache", "-dumpstream", "-dumpfile", path, mmst(base, "live")], 10)
    compare_dump(path, lab.file, least=10, loop=True)


def libmms_run(lab, base, name, *arguments, timeout=40):
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


def vlc_pauses_seeks_and_stops(lab, base, log):
    """By its control line; the strict origin's log tells that the seek arrived and that all was in order."""
    command = vlc("-I", "oldrc", "--rc-fake-tty", "--vout=dummy", "--aout=dummy", mmst(base, "vod/clip.asf"))
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True)
    # A person at the keys: the pauses are the input.
    for pause, line in ((3, "pause"), (1.5, "pause"), (1, "seek 6"), (2, "stop"), (0.2, "quit")):
        time.sleep(pause)
        try:
            process.stdin.write(line + "\n")
            process.stdin.flush()
        except BrokenPipeError:
            break
    try:
        process.wait(15)
    except subprocess.TimeoutExpired:
        process.kill()
        raise Failed("VLC did not end") from None
    entries = [json.loads(line) for line in open(log, encoding="utf-8")]
    starts = [e["fields"] for e in entries if e.get("message") == "StartPlaying"]
    expect(len(starts) >= 2, f"the origin saw {len(starts)} starts")
    return entries


def deviations_at(log):
    with open(log, encoding="utf-8") as file:
        return [entry["deviation"] for entry in map(json.loads, file) if "deviation" in entry]


def tshark_finds_nothing_malformed(lab, base, ports):
    """Captures a play on all ports of it and asks the msmms dissector."""
    capture = lab.path("capture.pcapng")
    sudo = [] if os.geteuid() == 0 else ["sudo", "-n"]
    filters = " or ".join(f"tcp port {port}" for port in ports)
    tshark = subprocess.Popen([*sudo, "tshark", "-i", "lo", "-f", filters, "-w", "-"], stdin=subprocess.DEVNULL,
                              stdout=open(capture, "wb"), stderr=subprocess.PIPE, text=True)
    try:
        for line in tshark.stderr:
            if "Capturing on" in line:
                break
        else:
            raise Failed("tshark does not capture")
        # tshark says so before the kernel's filter is in place: connections without a word show when it is.
        deadline = time.monotonic() + 15
        host, _, port = base.rpartition(":")
        import socket
        while os.path.getsize(capture) < 400 and time.monotonic() < deadline:
            socket.create_connection((host, int(port)), 5).close()
            time.sleep(0.2)
        frames(["-i", mmst(base, "vod/clip.asf"), "-map", "0:v", "-t", "3"])
        time.sleep(0.5)  # the writer's buffer
    finally:
        tshark.send_signal(signal.SIGINT)
        try:
            tshark.wait(10)
        except subprocess.TimeoutExpired:
            tshark.kill()
    for port in ports:
        read = ["tshark", "-r", capture, "-d", f"tcp.port=={port},msmms", "-T", "fields", "-e", "frame.number"]
        _, seen, _, _ = run([*read, "-Y", f"msmms && tcp.port=={port}"], 30)
        expect(len(seen.split()) >= 15, f"tshark knows only {len(seen.split())} MMS frames on port {port}")
        _, bad, _, _ = run([*read, "-Y", f"_ws.malformed && tcp.port=={port}"], 30)
        expect(not bad.split(), f"malformed frames {bad.split()[:5]} on port {port}")


def demo_plays(lab, url, player):
    base = url.split("://", 1)[1]
    url = "mmst://" + base
    if player == "ffmpeg":
        expect(len(frames(["-i", url, "-t", "3"])) > 10, "too few frames")
        return
    path = lab.path(f"demo-{player}.asf")
    if player == "libmms":
        code, _, err, ended = run([lab.libmms, "mms://" + base, path, "mms", "60000"], 30)
        expect(ended and code == 0, f"libmms: {err[-200:]}")
    elif player == "vlc":
        run(vlc("--demux=dump", f"--demuxdump-file={path}", url), 8)
    else:
        run(["mplayer", "-nolirc", "-nocache", "-dumpstream", "-dumpfile", path, url], 8)
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
    for test in ON_DEMAND + BROADCAST:
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
                         "routes": [{"origin": f"mms://{origin.address()}"}]})
    base = reverse.address()
    yield from tests_at(lab, "through a reverse route", base)
    ports = [base.rpartition(":")[2], origin.address().rpartition(":")[2]]
    yield "tshark_finds_nothing_malformed on both sides", tshark_finds_nothing_malformed, (lab, base, ports)

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
    directory = tempfile.mkdtemp(prefix="mmsproxy-players-")
    passed = failed = 0
    lab = Lab(os.path.abspath(options.binary) if options.binary else None, directory)
    lock = threading.Lock()

    def one(name, function, arguments):
        nonlocal passed, failed
        why = None
        try:
            function(*arguments)
        except Failed as error:
            why = str(error)
        except Exception as error:
            why = f"{type(error).__name__}: {error}"
        with lock:
            passed, failed = passed + (why is None), failed + (why is not None)
            print(f"ok {name}" if why is None else f"FAILED {name}: {why}", flush=True)

    try:
        with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
            try:
                for name, function, arguments in collect(options, lab):
                    if options.only in name:
                        pool.submit(one, name, function, arguments)
            except Failed as error:
                failed += 1
                print(f"FAILED to start: {error}", flush=True)
    finally:
        lab.stop()
        shutil.rmtree(directory, ignore_errors=True)
    print(f"{passed} passed, {failed} failed")
    sys.exit(1 if failed or not passed else 0)


if __name__ == "__main__":
    main()
