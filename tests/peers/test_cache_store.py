"""What is on disk: purged under readers, evicted within its quota, intact after each kill; and the commands that see to it."""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import subprocess
import time

import asf
import mmsp
from cachelab import (FAST, VOD, began, cacher, command, complete, entry, exported, filled, judge_export, judge_part, judge_whole,
                      listed, player, prefetch, purge, requests, sealed, shelf, succeeds, until, url, verified, where, whole)
from film import film
from lab import Failed, expect, expect_hr, expect_soon, refusal, scenario, together
from shelf import Title, Way

MIB = 1 << 20


def fat(tag, mib):
    """About so many MiB in segments of several."""
    return film(tag, seconds=mib * MIB * 8 / 12_000_000, rates=(12_000_000,), sound=0, packet_size=16_000)


async def empty(proxy):
    return not (await listed(proxy))["entries"]


# -- purge --


@scenario
async def a_purge_under_readers_takes_nothing_from_them(lab):
    titles = [Title(name, film(n, seconds=8.0, created=n), speed=FAST)
              for n, name in enumerate(("vod/a/one.asf", "vod/a/two.asf", "vod/ab.asf", "vod/b/one.asf"), 1)]
    origin, _ = await shelf(lab, *titles)
    proxy = await cacher(lab, origin)
    for title in titles:
        await filled(lab, proxy, origin, title)
    readers = await together(began(player(lab, proxy, title), 5) for title in titles)
    for (where_, prefix), left in ((("vod/a", True), {"vod/ab.asf", "vod/b/one.asf"}), (("vod/ab.asf", False), {"vod/b/one.asf"})):
        await purge(proxy, url(origin, where_), prefix)
        names = set((await listed(proxy))["by_name"])
        expect(names == left, f"after the purge of {where_} there are {sorted(names)}")
    await together(to_the_end_or_a_reason(reader) for reader in readers)
    media = origin.media("vod/a/one.asf")
    await whole(player(lab, proxy, titles[0]))
    expect(origin.media("vod/a/one.asf") - media == titles[0].bytes, "it was not fetched anew")
    await verified(lab, proxy)
    await lab.settle()


async def to_the_end_or_a_reason(reader):
    hr = await reader.end()
    if hr == 0:
        judge_whole(reader.title, reader.current)
    else:
        expect(mmsp.failed(hr), f"it ended with 0x{hr:X}")
        judge_part(reader.title, reader.current)


@scenario
async def a_purge_under_a_fill_takes_nothing_from_its_viewer(lab):
    origin, title = await shelf(lab, Title(VOD, film(1, seconds=8.0)), version="4.1.0.3930")
    proxy = await cacher(lab, origin)
    viewer = await began(player(lab, proxy, title), 60)
    await purge(proxy, url(origin, title))
    second = await began(player(lab, proxy, title, "wmp7"), 5)
    await together(to_the_end_or_a_reason(v) for v in (viewer, second))
    expect(second.current.end == 0, "who came after the purge was ended")
    await complete(proxy, title)
    await exported(lab, proxy, origin, title)
    await verified(lab, proxy)
    await lab.settle()


# -- quota --


@scenario(limit=120.0)
async def the_quota_holds_and_what_is_cold_goes_first(lab):
    titles = [Title(f"vod/{n}.asf", fat(n, 6), speed=FAST) for n in range(1, 6)]
    origin, _ = await shelf(lab, *titles)
    quota = 16 * MIB
    proxy = await cacher(lab, origin, cache={"max_size": quota})
    most = 0
    for title in titles[:2]:
        await prefetch(proxy, url(origin, title))
        await complete(proxy, title)
    await whole(player(lab, proxy, titles[0]))
    await prefetch(proxy, url(origin, titles[2]))
    await complete(proxy, titles[2])
    names = (await listed(proxy))["by_name"]
    expect(names[titles[0].name]["is_complete"], "what was played last was evicted")
    cold = names.get(titles[1].name)
    expect(cold is None or not cold["is_complete"], "nothing was evicted of what is cold")
    if cold:
        viewer = await began(player(lab, proxy, titles[1]))
        expect(viewer.current.locations[0] == 0, "its head is not there")
        expect_soon(viewer.took < 3.0, f"its head came after {viewer.took:.1f} s")
        await viewer.close()
    for title in titles[3:]:
        await prefetch(proxy, url(origin, title))
        most = max(most, await most_while_it_fills(proxy, origin, title))
    on_disk = sum(os.path.getsize(os.path.join(at, name)) for at, _, names in os.walk(proxy.cache_directory) for name in names)
    lab.figure(f"{most / MIB:.1f} MiB counted at most and {on_disk / MIB:.1f} MiB on disk at the end, of 16")
    expect(most <= quota and on_disk <= quota + MIB, f"{most:.0f} bytes are counted and {on_disk} there, max_size is {quota}")
    expect(await proxy.metric("mmsproxy_cache_evictions_total") > 0, "no eviction was counted")
    await verified(lab, proxy)
    await lab.settle()


async def most_while_it_fills(proxy, origin, title, timeout=40.0):
    """`mmsproxy_cache_bytes` at its highest, until the origin has sent all of the title and nothing fills."""
    most, deadline = 0, time.monotonic() + timeout
    while origin.media(title.name) < title.bytes or await proxy.metric("mmsproxy_cache_fills"):
        expect(time.monotonic() < deadline, f"{title.name} is not fetched within {timeout:.0f} s")
        most = max(most, await proxy.metric("mmsproxy_cache_bytes"))
        await asyncio.sleep(0.02)
    return most


@scenario(limit=120.0)
async def a_flood_of_made_up_names_does_not_push_out_what_is_played(lab):
    loved = [Title(f"vod/loved{n}.asf", fat(n, 3), speed=FAST) for n in (1, 2)]
    once = Title("vod/once.asf", fat(3, 2), speed=FAST)
    origin, _ = await shelf(lab, *loved, once, any_query=True)
    proxy = await cacher(lab, origin, cache={"max_size": 12 * MIB})
    for title in loved:
        await filled(lab, proxy, origin, title)
        await whole(player(lab, proxy, title))
    for number in range(25):
        viewer = await began(player(lab, proxy, once, query=f"?x={number}"))
        await viewer.close()
        await proxy.metric_is(0, "mmsproxy_cache_fills", timeout=40)
    since, media = await requests(proxy), [origin.media(title.name) for title in loved]
    for title in loved:
        await whole(player(lab, proxy, title))
    expect([origin.media(title.name) for title in loved] == media and (await since())["hit"] == 2, "it was pushed out")
    expect(await proxy.metric("mmsproxy_cache_bytes") <= 12 * MIB, "the quota does not hold")
    await lab.settle()


@scenario
async def what_does_not_fit_into_the_quota_is_played_all_the_same(lab):
    origin, title = await shelf(lab, Title(VOD, fat(1, 6), speed=FAST))
    proxy = await cacher(lab, origin, cache={"max_size": 5 * MIB})
    await whole(player(lab, proxy, title))
    expect(await proxy.metric("mmsproxy_cache_bytes") <= 5 * MIB, "the quota does not hold")
    await whole(player(lab, proxy, title, "wmp7"))
    await verified(lab, proxy)
    await lab.settle()


@scenario
async def what_must_stay_free_stays_free(lab):
    origin, title = await shelf(lab, Title(VOD, film(), speed=FAST))
    proxy = await cacher(lab, origin, cache={"min_free": "500TiB"})
    for _ in range(2):
        await whole(player(lab, proxy, title))
    expect(not sealed(proxy.cache_directory), "it stored something")
    expect(len(origin.played(VOD)) == 2, "it was served from nowhere")
    await lab.settle()


# -- kills --


async def killed_again_and_again(lab, rounds, dice, clear_every=20):
    """Fills, a kill at a random moment, `verify`; each time all that was sealed is still there."""
    directory = os.path.join(lab.directory, "cache")
    sealed_in_all, killed_while_filling = 0, 0
    names = [f"vod/{n}.asf" for n in range(3)]
    titles = [Title(name, fat(n, 10), speed=FAST) for n, name in enumerate(names, 1)]
    origin, _ = await shelf(lab, *titles, any_query=True, way=Way(100_000_000))
    for turn in range(rounds):
        proxy = await cacher(lab, origin, directory=directory)
        viewers = [player(lab, proxy, title, query=f"?turn={turn // 3}", timeout=20.0) for title in titles]
        await together(began(viewer, position=dice.choice((0.0, 0.0, 3.0))) for viewer in viewers)
        await asyncio.sleep(dice.uniform(0.0, 2.5))  # the moment is what is tested
        filling = await proxy.metric("mmsproxy_cache_fills")
        before = sealed(directory)
        await proxy.kill()
        for viewer in viewers:
            judge_part_of_a_play(viewer)
            viewer.hang_up()
            viewer.closed = True
        lab.proxies.remove(proxy)
        code, out, err = await command(lab, "verify", "--dir", directory, timeout=120)
        expect(code == 0, f"after kill {turn + 1} verify ends with {code}: {(out + err).strip()[-300:]}")
        after = sealed(directory)
        lost = [name for name, kind in before.items() if after.get(name) not in (kind, "seg")]
        expect(not lost, f"kill {turn + 1} cost {len(lost)} sealed segments: {lost[:3]}")
        sealed_in_all, killed_while_filling = max(sealed_in_all, len(before)), killed_while_filling + (filling > 0)
        if turn % clear_every == clear_every - 1:
            await succeeds(lab, "purge", url(origin, "vod"), "--prefix", "--dir", directory)
            expect(not sealed(directory), "an offline purge left segments")
    expect(killed_while_filling >= rounds // 3, f"only {killed_while_filling} of {rounds} kills met a fill")
    expect(sealed_in_all, "nothing was ever sealed")
    lab.figure(f"{killed_while_filling} of {rounds} kills met fills, {sealed_in_all} segments were there at most")
    # What has survived is right: a last proxy serves and exports it.
    proxy = await cacher(lab, origin, directory=directory)
    for title in titles:
        await whole(player(lab, proxy, title, query="?turn=last"))
    for found in (await listed(proxy))["entries"]:
        if found["is_complete"]:
            name = found["url"].split("/", 3)[3].partition("?")[0]
            path = os.path.join(lab.directory, "survivor.asf")
            await succeeds(lab, "export", found["url"], "-o", path, *where(proxy))
            judge_export(path, origin.points[name])
            os.unlink(path)


def judge_part_of_a_play(viewer):
    numbers = viewer.current.locations
    expect(numbers == list(range(numbers[0], numbers[0] + len(numbers))) if numbers else True, "packets are missing")
    expect(not viewer.deviations, f"toward the player: {viewer.deviations[:3]}")


@scenario(limit=300.0, alone=True)
async def twenty_kills_under_fills_lose_nothing_that_was_sealed(lab):
    await killed_again_and_again(lab, 20, random.Random(20))


# -- one proxy for one directory, and a start that reads little --


@scenario
async def a_second_proxy_on_the_directory_is_refused(lab):
    origin, title = await shelf(lab, Title(VOD, film(), speed=FAST))
    proxy = await cacher(lab, origin)
    await filled(lab, proxy, origin, title)
    try:
        second = await cacher(lab, origin, directory=proxy.cache_directory)
    except Failed:
        refused = lab.proxies.pop()
        text = "\n".join(refused.lines)
        code = await asyncio.wait_for(refused.process.wait(), 30)
        expect(code != 0, f"it ended with {code}")
        expect(proxy.cache_directory in text, f"it does not say which directory: {text[-300:]}")
    else:
        expect(False, f"two proxies have one cache, {second.mms} too")
    code, _, err = await command(lab, "purge", url(origin, title), "--dir", proxy.cache_directory)
    expect(code == 1 and err, "an offline purge works beside a running proxy")
    await whole(player(lab, proxy, title))
    await proxy.stop()
    third = await cacher(lab, origin, directory=proxy.cache_directory)
    await whole(player(lab, third, title))
    expect(len(origin.played(VOD)) == 1, "it was fetched again")
    await lab.settle()


@scenario
async def damage_on_disk_is_found_and_never_served(lab):
    # Below version 9, so that not all of the rest is on its way when it is stopped.
    origin, title = await shelf(lab, Title(VOD, fat(1, 10), speed=12.0), version="4.1.0.3930")
    proxy = await cacher(lab, origin)
    await filled(lab, proxy, origin, title)
    await proxy.stop()
    files = sorted(name + "." + kind for name, kind in sealed(proxy.cache_directory).items())
    expect(len(files) >= 2, f"{len(files)} segments")
    for path, at in ((files[0], 0.7), (files[-1], 0.3)):
        with open(path, "r+b") as file:
            file.seek(int(os.path.getsize(path) * at))
            byte = file.read(1)
            file.seek(-1, os.SEEK_CUR)
            file.write(bytes([byte[0] ^ 0x10]))
    code, out, err = await command(lab, "verify", "--dir", proxy.cache_directory)
    expect(code == 1, f"verify ends with {code} over two damaged segments: {(out + err)[-300:]}")
    proxy = await cacher(lab, origin, directory=proxy.cache_directory)
    viewer = await began(player(lab, proxy, title))
    expect(await viewer.end() == 0, f"the play ended with 0x{viewer.current.end:X}")
    judge_whole(title, viewer.current)
    expect(await proxy.metric("mmsproxy_cache_errors_total", reason="checksum") >= 1, "no checksum error was counted")
    await complete(proxy, title)
    await verified(lab, proxy)
    await exported(lab, proxy, origin, title)
    await lab.settle()


@scenario(alone=True)
async def few_files_are_open_whatever_is_read(lab):
    origin, title = await shelf(lab, Title(VOD, fat(1, 20), speed=FAST))
    proxy = await cacher(lab, origin)
    await filled(lab, proxy, origin, title)
    viewers = await together(began(player(lab, proxy, title, timeout=20.0), position=n / 2) for n in range(24))
    links = [os.path.join(f"/proc/{proxy.process.pid}/fd", fd) for fd in os.listdir(f"/proc/{proxy.process.pid}/fd")]
    opened = [os.readlink(link) for link in links if os.path.lexists(link)]
    ours = [path for path in opened if path.startswith(proxy.cache_directory)]
    lab.figure(f"{len(ours)} files of the cache are open while {len(viewers)} read at different places")
    expect(len(ours) <= 16, f"{len(ours)} files are open")
    await together(viewer.close() for viewer in viewers)
    await lab.settle()


# -- the commands --


@scenario
async def the_commands_show_what_is_there(lab):
    titles = [Title(f"vod/{n}.asf", film(n, created=n), speed=FAST) for n in (1, 2)]
    origin, _ = await shelf(lab, *titles)
    proxy = await cacher(lab, origin)
    for title in titles:
        await filled(lab, proxy, origin, title)
    wanted = {url(origin, title) for title in titles}
    for offline in (False, True):
        if offline:
            await proxy.stop()
        at = where(proxy, offline)
        plain = await succeeds(lab, "ls", *at)
        expect(all(name in plain for name in wanted), f"ls prints {plain[:300]!r}")
        said = json.loads(await succeeds(lab, "ls", "--json", *at))
        entries = said["entries"] if isinstance(said, dict) else said
        expect({e["url"] for e in entries} == wanted, f"ls --json has {[e['url'] for e in entries]}")
        for title in titles:
            found = json.loads(await succeeds(lab, "show", url(origin, title), "--json", *at))
            expect(found["url"] == url(origin, title) and found["is_complete"], f"show says {found}")
            expect(found["packets"] == found["packets_present"] == len(title.file.packets), f"show says {found}")
            expect(found["bytes"] >= len(title.file.packets) * 1450, f"show says {found['bytes']} bytes")
            expect(await succeeds(lab, "show", url(origin, title), *at), "show prints nothing")
            await exported(lab, proxy, origin, title, offline)
        await verified(lab, proxy, offline=offline)
        await verified(lab, proxy, url(origin, titles[0]), offline=offline)
        for what in ("show", "export", "verify", "purge"):
            more = ("-o", os.path.join(lab.directory, "none.asf")) if what == "export" else ()
            code, _, err = await command(lab, what, url(origin, "vod/none.asf"), *more, *at)
            expect(code == 1 and "none.asf" in err or what == "purge" and code in (0, 1), f"{what} of nothing: {code}, {err!r}")
        await succeeds(lab, "purge", url(origin, titles[int(offline)]), *at)
        left = json.loads(await succeeds(lab, "ls", "--json", *at))
        left = left["entries"] if isinstance(left, dict) else left
        expect(len(left) == (0 if offline else 1), f"after the purge there are {left}")
        if not offline:
            wanted, titles = {url(origin, titles[1])}, [titles[1], titles[1]]
    for wrong in (("ls", "--no-such"), ("frobnicate",), ("export", url(origin, VOD))):
        code, _, err = await command(lab, *wrong)
        expect(code == 2 and err, f"`cache {' '.join(wrong)}` ends with {code}")
    code, _, err = await command(lab, "ls", "--dir", os.path.join(lab.directory, "nowhere"))
    expect(code == 1 and "nowhere" in err, f"a directory that is not there: {code}, {err!r}")
    code, _, err = await command(lab, "ls", "--admin", "http://127.0.0.1:1")
    expect(code == 1 and "127.0.0.1:1" in err, f"a proxy that is not there: {code}, {err!r}")


@scenario
async def an_export_is_a_file_that_ffmpeg_reads_and_seeks_in(lab):
    clip = lab.options.files["clip"]
    origin, title = await shelf(lab, Title("vod/clip.asf", clip, speed=FAST))
    proxy = await cacher(lab, origin)
    await filled(lab, proxy, origin, title)
    path = await exported(lab, proxy, origin, title)
    source = os.path.join(lab.directory, "source.asf")
    with open(source, "wb") as file:
        file.write(clip.header.bytes + b"".join(clip.packets))
    for arguments in ((), ("-ss", "5")):
        of_the_export, of_the_file = [await frames(name, *arguments) for name in (path, source)]
        expect(len(of_the_file) >= 20 and of_the_export[-20:] == of_the_file[-20:], f"behind {arguments} the frames differ")
        expect(arguments or of_the_export == of_the_file, "the frames differ")
    done = await asyncio.to_thread(subprocess.run, ["ffprobe", "-v", "error", "-show_format", path], capture_output=True, text=True)
    expect(not done.stderr and re.search(r"duration=8\.", done.stdout), f"ffprobe says {done.stdout[:200]} {done.stderr[:200]}")
    await lab.settle()


async def frames(path, *arguments):
    """What ffmpeg decodes of the video, as checksums."""
    done = await asyncio.to_thread(subprocess.run, ["ffmpeg", "-nostdin", "-v", "error", *arguments, "-i", path, "-map", "0:v", "-f",
                                                    "framemd5", "-"], capture_output=True, text=True, timeout=60)
    expect(not done.stderr, f"ffmpeg complains: {done.stderr[:200]}")
    return [line.rpartition(",")[2].strip() for line in done.stdout.splitlines() if not line.startswith("#")]


@scenario
async def verify_against_the_origin_finds_what_an_equal_header_hides(lab):
    old = Title(VOD, film(1), speed=FAST)
    origin, _ = await shelf(lab, old)
    proxy = await cacher(lab, origin, cache={"revalidate": "300ms"})
    await filled(lab, proxy, origin, old)
    await verified(lab, proxy, url(origin, old), "--origin")
    packets = list(film(1).packets)
    packets[40] = bytes([*packets[40][:-300], packets[40][-300] ^ 1, *packets[40][-299:]])
    hidden = asf.AsfFile(data=film(1).header.bytes + b"".join(packets))
    new = old.change(hidden)
    await asyncio.sleep(0.5)  # it grows old
    viewer = await whole(player(lab, proxy, old))
    expect(viewer.header_bytes == new.header(), "the headers differ")
    await verified(lab, proxy)
    code, out, err = await command(lab, "verify", url(origin, old), "--origin", *where(proxy))
    expect(code == 1 and "40" in out + err, f"verify --origin ends with {code}: {(out + err)[-300:]}")
    await lab.settle()


@scenario
async def prefetch_by_the_api_fills_without_a_viewer(lab):
    origin, title = await shelf(lab, Title(VOD, film(1), speed=FAST))
    proxy = await cacher(lab, origin)
    await prefetch(proxy, url(origin, title))
    found = await complete(proxy, title)
    expect(found["plays"] == 0 and not found["readers"], f"it is {found}")
    await prefetch(proxy, url(origin, title))  # it is there
    await whole(player(lab, proxy, title))
    expect(len(origin.played(VOD)) == 1 and origin.media(VOD) == title.bytes, "it was fetched twice")
    said = origin.messages("Connect", origin.played(VOD)[0].number)[0]["subscriber_name"]["token"]
    expect(said.startswith("NSPlayer/9.0.0.2980; {"), f"it names itself {said!r}")
    for body, wanted in (({"url": "mms://elsewhere.example/x.asf"}, (200, 202, 400, 403, 404, 422)), ({}, (400, 422)),
                         ({"url": "no url"}, (400, 422))):
        status, _ = await proxy.http("/api/v1/cache/prefetch", "POST", body)
        expect(status in wanted, f"a prefetch of {body} answers {status}")
    await lab.settle()


@scenario
async def prefetch_by_command_takes_lists_rates_and_jobs(lab):
    titles = [Title(f"vod/{n}.asf", film(n, seconds=8.0, created=n), speed=FAST) for n in range(1, 7)]
    origin, _ = await shelf(lab, *titles)
    proxy = await cacher(lab, origin)
    wanted = os.path.join(lab.directory, "list.txt")
    with open(wanted, "w", encoding="utf-8") as file:
        file.write("# what is wanted\n\n" + "\n".join(url(origin, title) for title in titles[1:4]) + "\n")
    at = where(proxy)
    await succeeds(lab, "prefetch", url(origin, titles[0]), "--list", wanted, "--jobs", 2, *at)
    for title in titles[:4]:
        await complete(proxy, title, timeout=5)
    expect(len(origin.played(titles[5].name)) == 0, "what nobody asked for was fetched")
    most = max(origin.at_once(title.name) for title in titles[:4])
    expect(most == 1, f"{most} sessions for one")
    began_at = time.monotonic()
    rate = 1_000_000
    await succeeds(lab, "prefetch", url(origin, titles[4]), "--rate", "1Mbps", *at)
    took = time.monotonic() - began_at
    expect(took > titles[4].bytes * 8 / rate * 0.6, f"{titles[4].bytes} bytes at 1 Mbit/s took {took:.1f} s")
    code, out, err = await command(lab, "prefetch", url(origin, titles[5]), url(origin, "vod/none.asf"), *at)
    expect(code == 1 and "none.asf" in err + out, f"a prefetch of what is not there ends with {code}: {(err + out)[-300:]}")
    await complete(proxy, titles[5])
    await lab.settle()


@scenario
async def a_prefetch_from_an_origin_of_real_time_says_how_long_it_takes(lab):
    origin, title = await shelf(lab, Title(VOD, film(1, seconds=24.0)), version="4.1.0.3930")
    proxy = await cacher(lab, origin)
    out = await asyncio.create_subprocess_exec(lab.options.binary, "cache", "prefetch", url(origin, title), *where(proxy),
                                               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    said = b""
    try:
        async with asyncio.timeout(12.0):  # the file plays for twice as long
            while not re.search(rb"\b24(\.0)? ?s", said):
                data = await out.stdout.read(4096)
                expect(data, f"it ended with {said!r}")
                said += data
    except TimeoutError:
        raise Failed(f"within 12 s it says {said!r}, and not that it takes 24 s") from None
    await complete(proxy, title)
    rest = await asyncio.wait_for(out.stdout.read(), 30)
    expect(await out.wait() == 0, f"it ends with {out.returncode}: {rest[-200:]!r}")
    await lab.settle()


@scenario
async def what_is_missing_is_refused_when_nothing_can_be_asked(lab):
    origin, title = await shelf(lab, Title(VOD, film(1), speed=FAST))
    proxy = await cacher(lab, origin)
    await origin.kill()
    viewer = player(lab, proxy, title)
    await viewer.connect()
    expect_hr(await refusal(viewer.open()), mmsp.NS_E_CANNOTCONNECT, mmsp.NS_E_CONNECTION_FAILURE)
    viewer.hang_up()
    viewer.closed = True
    expect(await empty(proxy), "it made an entry")


@scenario
async def an_entry_counts_its_plays_and_readers(lab):
    origin, title = await shelf(lab, Title(VOD, film(1, seconds=8.0), speed=FAST))
    proxy = await cacher(lab, origin)
    await filled(lab, proxy, origin, title)
    before = await entry(proxy, title)
    viewers = await together(began(player(lab, proxy, title), 3) for _ in range(3))
    during = await entry(proxy, title)
    expect(during["readers"] == 3 and during["plays"] == before["plays"] + 3, f"with three viewers it is {during}")
    expect(during["last_used_at"] >= during["created_at"], f"it is {during}")
    for name in ("mmsproxy_cache_entries", "mmsproxy_cache_bytes"):
        found = await listed(proxy)
        told = len(found["entries"]) if name.endswith("entries") else found["bytes"]
        expect(await proxy.metric(name) == told, f"{name} is {await proxy.metric(name)}, the API says {told}")
    await together(viewer.close() for viewer in viewers)

    async def none_reads():
        return (await entry(proxy, title))["readers"] == 0

    await until(none_reads, "nobody reads")
    await lab.settle()
