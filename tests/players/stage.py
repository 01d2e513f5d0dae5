"""What the runs of real players stand on: processes, the servers before them, and the judging of what a player wrote."""

from __future__ import annotations

import concurrent.futures
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "peers"))
import asf  # noqa: E402

USER = "mmsplayer"


class Failed(AssertionError):
    """What a player saw that should not be."""


def expect(condition, text):
    if not condition:
        raise Failed(text)


def complaint(function, *arguments):
    """What is wrong with what it does; None where nothing is."""
    try:
        function(*arguments)
        return None
    except Failed as error:
        return str(error)
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def run(command, timeout, enough=None, least=0.0, **options):
    """Runs a player; what is still there after `timeout` is ended, which is no failure by itself. With `enough()`, one that
    goes on for ever is ended when that is so, and `least` seconds have passed."""
    began = time.monotonic()
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               start_new_session=True, **options)
    ended, out, err = True, None, None
    while out is None and time.monotonic() - began < timeout:
        if enough is not None and time.monotonic() - began >= least and enough():
            break
        try:
            out, err = process.communicate(timeout=0.2 if enough else timeout)
        except subprocess.TimeoutExpired:
            pass
    if out is None:
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

    def wait(self, condition, what, timeout=60):
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
        self.clip = self.encode("clip.asf", "testsrc=size=160x120", 8)
        self.file = asf.AsfFile(self.clip)
        self.libmms = os.path.join(directory, "libmms_play")
        subprocess.run(["cc", "-O1", "-Wall", "-o", self.libmms, os.path.join(HERE, "libmms_play.c"), "-lmms"], check=True)
        os.chmod(directory, 0o777)

    def encode(self, name, picture, seconds):
        path = os.path.join(self.root, "vod", name)
        subprocess.run(["ffmpeg", "-nostdin", "-v", "error", "-y", "-f", "lavfi", "-i", f"{picture}:rate=10", "-f", "lavfi", "-i",
                        "sine=frequency=440", "-t", str(seconds), "-c:v", "wmv2", "-b:v", "100k", "-g", "10", "-c:a", "wmav2",
                        "-b:a", "32k", path], check=True)
        return path

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

    def origin(self, listen="127.0.0.1:0", live=None):
        return self.start(self.binary, "origin", "--root", self.root, "--listen", listen, "--broadcast",
                          f"live={live or self.clip}", "--log-format", "json")

    def serve(self, config):
        path = self.path("proxy.yaml")
        with open(path, "w", encoding="utf-8") as file:
            json.dump({"drain": "1s", "cache": {"dir": ""}} | config, file)
        for _ in range(5):
            server = self.start(self.binary, "serve", "--config", path, "--log-format", "json")
            server.address()
            if not any("no UDP here" in line for line in server.lines):
                break
            server.stop()  # a port that is free for TCP may be another's for UDP
        return server

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


def has(path, packets):
    """Are so many whole packets in a dump?"""
    try:
        header, data, at = dumped_packets(path)
    except (OSError, asf.AsfError):
        return False
    return header is not None and len(data) - at >= packets * header.packet_size


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


def frames(arguments, timeout=120):
    """framemd5 of what ffmpeg decodes; any line on stderr is an error."""
    code, out, err, ended = run(["ffmpeg", "-nostdin", "-v", "error", *arguments, "-f", "framemd5", "-"], timeout)
    expect(ended, f"ffmpeg did not end in {timeout} s: {err[-200:]}")
    expect(code == 0 and not err, f"ffmpeg said {err[-300:]!r} and ended with {code}")
    return sorted(line for line in out.splitlines() if not line.startswith("#"))


def deviations_at(log):
    with open(log, encoding="utf-8") as file:
        return [entry["deviation"] for entry in map(json.loads, file) if "deviation" in entry]


def vlc(*arguments):
    command = ["vlc", "--no-color", "-q", *arguments] if "oldrc" in arguments else ["cvlc", "--no-color", "-q", *arguments]
    return ["runuser", "-u", USER, "--", *command] if os.geteuid() == 0 else command


def mmst(base, name):
    return f"mmst://{base}/{name}"


def mmsu(base, name):
    return f"mmsu://{base}/{name}"


class Capture:
    """What tshark sees on loopback at these ports, `base` among them."""

    def __init__(self, lab, base, ports):
        self.path, self.ports = lab.path("capture.pcapng"), ports
        sudo = [] if os.geteuid() == 0 else ["sudo", "-n"]
        filters = " or ".join(f"tcp port {port}" for port in ports)
        with open(self.path, "wb") as file:
            self.tshark = subprocess.Popen([*sudo, "tshark", "-i", "lo", "-f", filters, "-w", "-"], stdin=subprocess.DEVNULL,
                                           stdout=file, stderr=subprocess.PIPE, text=True)
        try:
            expect(any("Capturing on" in line for line in self.tshark.stderr), "tshark does not capture")
            # tshark says so before the kernel's filter is in place: connections without a word show when it is.
            deadline = time.monotonic() + 15
            host, _, port = base.rpartition(":")
            while os.path.getsize(self.path) < 400 and time.monotonic() < deadline:
                socket.create_connection((host, int(port)), 5).close()
                time.sleep(0.2)
        except BaseException:
            self.stop()
            raise

    def stop(self):
        self.tshark.send_signal(signal.SIGINT)
        try:
            self.tshark.wait(10)
        except subprocess.TimeoutExpired:
            self.tshark.kill()
            self.tshark.wait()

    def judge(self, least):
        """Asks the msmms dissector; it is to know at least so many frames on each port."""
        for port in self.ports:
            read = ["tshark", "-r", self.path, "-d", f"tcp.port=={port},msmms", "-T", "fields", "-e", "frame.number"]
            _, seen, _, _ = run([*read, "-Y", f"msmms && tcp.port=={port}"], 60)
            expect(len(seen.split()) >= least, f"tshark knows only {len(seen.split())} MMS frames on port {port}")
            _, bad, _, _ = run([*read, "-Y", f"_ws.malformed && tcp.port=={port}"], 60)
            expect(not bad.split(), f"malformed frames {bad.split()[:5]} on port {port}")


def run_tests(binary, collect, jobs):
    """Runs what `collect` yields of a lab as (name, function, arguments), so many at a time; says how each went, and ends the
    program."""
    directory = tempfile.mkdtemp(prefix="mmsproxy-players-")
    lab = Lab(os.path.abspath(binary) if binary else None, directory)
    passed = failed = 0
    lock = threading.Lock()

    def one(name, function, arguments):
        nonlocal passed, failed
        why = complaint(function, *arguments)
        with lock:
            passed, failed = passed + (why is None), failed + (why is not None)
            print(f"ok {name}" if why is None else f"FAILED {name}: {why}", flush=True)

    try:
        with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
            try:
                for test in collect(lab):
                    pool.submit(one, *test)
            except Failed as error:
                failed += 1
                print(f"FAILED to start: {error}", flush=True)
    finally:
        lab.stop()
        shutil.rmtree(directory, ignore_errors=True)
    print(f"{passed} passed, {failed} failed")
    sys.exit(1 if failed or not passed else 0)
