//! Times of an entry: what is kept of them beside each file, and how a time leads to a packet, or to the place that has to
//! be asked for.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::block;
use super::disk::Slot;
use super::entry::Entry;
use crate::asf::{Header, KeyFrame, KeyFrames, Packet, PacketNumber, StreamNumber};

/// What a time leads to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Located {
    /// Here a viewer begins.
    Packet(PacketNumber),
    /// The place is not known: the origin has to be asked for the time.
    Unknown,
    /// What is kept of these files has to be read first.
    Unread,
}

/// The first stream that has key frames.
fn video(header: &Header) -> Option<StreamNumber> {
    header.streams().iter().find(|stream| stream.has_key_frames).map(|stream| stream.number)
}

/// Of no packets yet.
pub fn empty(header: &Header) -> KeyFrames {
    KeyFrames::new(video(header))
}

/// Of one more packet.
pub fn add_packet(times: &mut KeyFrames, number: PacketNumber, bytes: &[u8]) {
    if let Ok(packet) = Packet::parse(bytes) {
        times.push(number, &packet);
    }
}

/// Of the packets of a file.
pub fn of<B: AsRef<[u8]>>(header: &Header, first: u64, slots: &[Slot<B>]) -> KeyFrames {
    let mut times = empty(header);
    add(&mut times, first, slots.iter().map(|slot| slot.packet().map(AsRef::as_ref)));
    times
}

/// Of the packets of a file that memory has, and of those that are kept.
pub fn of_memory(header: &Header, first: u64, slots: &[block::Slot], kept: Option<&Arc<KeyFrames>>) -> KeyFrames {
    let mut times = kept.map_or_else(|| empty(header), |kept| KeyFrames::clone(kept));
    add(&mut times, first, slots.iter().map(|slot| slot.packet().map(|packet| &packet.stripped[..])));
    times
}

fn add<'a>(times: &mut KeyFrames, first: u64, packets: impl Iterator<Item = Option<&'a [u8]>>) {
    for (number, bytes) in (first..).zip(packets) {
        if let Some(bytes) = bytes {
            add_packet(times, PacketNumber(number), bytes);
        }
    }
}

/// As it was kept; of no use where it makes no sense.
pub fn read(entry: &Entry, summary: &Bytes) -> KeyFrames {
    KeyFrames::decode(summary).unwrap_or_else(|_| empty(&entry.opened().header))
}

/// Where a viewer begins who wants `time` (without the preroll): `times` of the files that are known, in order, and
/// what is behind a packet.
pub fn locate(entry: &Entry, times: &BTreeMap<u32, Arc<KeyFrames>>, time: Duration) -> Located {
    if time.is_zero() {
        return Located::Packet(PacketNumber(0));
    }
    let header = &entry.opened().header;
    let presentation = time.saturating_add(header.preroll());
    // What is listed of content without video are send times.
    let wanted = if video(header).is_some() { presentation } else { time };
    let found = times.values().rev().find_map(|times| {
        let begins = times.first_send_time_ms()?;
        if u128::from(begins) > presentation.as_millis() {
            return None;
        }
        times.last_at_or_before(wanted)
    });
    let from = found.map_or(PacketNumber(0), |key_frame| key_frame.packet);
    let Some(gap) = entry.gap(from) else { return Located::Packet(from) };
    // All up to that time is known, so no later key frame hides in the gap.
    let is_covered = gap.start > from.0 && goes_beyond(entry, times, from.0, &gap, wanted, time);
    if is_covered { Located::Packet(from) } else { Located::Unknown }
}

/// Whether what is known from packet `from` up to a gap reaches up to `time`, or has something that is listed behind
/// `wanted`.
fn goes_beyond(
    entry: &Entry,
    times: &BTreeMap<u32, Arc<KeyFrames>>,
    from: u64,
    gap: &Range<u64>,
    wanted: Duration,
    time: Duration,
) -> bool {
    let segment_of = |number| entry.geometry().place(number).map(|place| place.segment);
    let Some(last) = gap.start.checked_sub(1).and_then(segment_of) else { return false };
    let is_behind = |listed: &KeyFrame| {
        (from..gap.start).contains(&listed.packet.0) && u128::from(listed.presentation_ms) > wanted.as_millis()
    };
    let from = segment_of(from);
    times.iter().filter(|(segment, _)| Some(**segment) >= from && **segment <= last).any(|(segment, times)| {
        // Of a file that goes on behind the gap, the last packet says nothing.
        let is_before = *segment < last || segment_of(gap.end) != Some(last);
        let sent = times.last_send_time_ms().filter(|_| is_before);
        sent.is_some_and(|ms| u128::from(ms) >= time.as_millis()) || times.list().iter().any(is_behind)
    })
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use proptest::prelude::*;
    use tokio::sync::Notify;

    use super::super::Cache;
    use super::super::film::{Film, Home, KEY, KEY_FRAMES, LIMIT, STEP_MS};
    use super::*;

    /// 64 packets a file.
    const LARGE: u32 = 60_000;
    const COUNT: u64 = 160;

    fn ms(number: u64) -> u64 {
        number * u64::from(STEP_MS)
    }

    fn locate(cache: &Cache, entry: &Arc<Entry>, ms: u64) -> Located {
        cache.locate(entry, Duration::from_millis(ms), &Arc::new(Notify::new()))
    }

    /// The key frame that begins at that time or before it.
    fn key_frame(time_ms: u64) -> u64 {
        (time_ms / ms(KEY_FRAMES) * KEY_FRAMES).min((COUNT - 1) / KEY_FRAMES * KEY_FRAMES)
    }

    #[test]
    fn in_complete_content_a_time_leads_to_the_key_frame_before_it() {
        let (home, film) = (Home::new(), Film::new(LARGE, COUNT));
        let cache = home.open();
        let entry = film.store(&cache, KEY, 1);
        for time in (0..ms(COUNT) + 5000).step_by(50) {
            assert_eq!(locate(&cache, &entry, time), Located::Packet(PacketNumber(key_frame(time))), "{time}");
        }
        assert_eq!(cache.locate(&entry, Duration::MAX, &Arc::default()), Located::Packet(PacketNumber(155)));
    }

    #[test]
    fn in_complete_content_without_video_a_time_leads_to_a_packet_of_the_second_before_it() {
        let (home, film) = (Home::new(), Film::without_video(LARGE, COUNT));
        let cache = home.open();
        let entry = film.store(&cache, KEY, 1);
        for time in (0..ms(COUNT)).step_by(50) {
            let Located::Packet(number) = locate(&cache, &entry, time) else { panic!("{time} is not found") };
            let before = time.checked_sub(ms(number.0));
            assert!(before.is_some_and(|before| before < 1000 + ms(1)), "{time} leads to packet {number}");
        }
    }

    #[test]
    fn what_is_kept_of_times_is_read_when_a_time_is_asked_for_first() {
        let (home, film) = (Home::new(), Film::new(LARGE, COUNT));
        drop(film.store(&home.open(), KEY, 1));
        let cache = home.open();
        let entry = cache.find(KEY).unwrap().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let bell = Arc::new(Notify::new());
        let time = Duration::from_secs(8);
        assert_eq!(cache.locate(&entry, time, &bell), Located::Unread);
        runtime.block_on(bell.notified());
        assert_eq!(cache.locate(&entry, time, &bell), Located::Packet(PacketNumber(key_frame(8000))));
    }

    #[test]
    fn the_file_behind_a_gap_says_nothing_of_what_is_in_it() {
        let (home, film) = (Home::new(), Film::new(LARGE, COUNT));
        let cache = home.open();
        let entry = cache.create(KEY, &film.opened, 1).unwrap();
        film.fill(&entry, (0..12).chain(40..COUNT));
        // At 11, 15, 25 and 40.
        let places = [1100, 1500, 2500, 4000].map(|time| locate(&cache, &entry, time));
        let found = |number| Located::Packet(PacketNumber(number));
        assert_eq!(places[1..], [Located::Unknown, Located::Unknown, found(40)]);
        // The next key frame is not known, but what is behind this one is by far not enough for it.
        assert!([Located::Unknown, found(10)].contains(&places[0]));
        assert_eq!(locate(&cache, &entry, 900), found(5));
    }

    /// Runs of packets, and whether they are sealed then.
    fn runs() -> impl Strategy<Value = Vec<(u64, u64, bool)>> {
        let sealed = prop_oneof![9 => Just(false), 1 => Just(true)];
        proptest::collection::vec((0..COUNT, 1..80_u64, sealed), 0..5)
    }

    fn filled(film: &Film, runs: &[(u64, u64, bool)], end: bool) -> (Home, Arc<Cache>, Arc<Entry>) {
        let home = Home::new();
        let cache = home.open();
        let entry = cache.create(KEY, &film.opened, 1).unwrap();
        for (first, length, is_sealed) in runs {
            for number in *first..(first + length).min(COUNT) {
                entry.take(&film.stripped(number), LIMIT);
            }
            if *is_sealed {
                cache.seal(&entry, true);
                cache.flush();
            }
        }
        if end {
            entry.ended(COUNT, 1);
        }
        (home, cache, entry)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn a_time_leads_to_its_key_frame_or_to_the_origin_where_that_could_be_in_a_gap(runs in runs(), end: bool) {
            static FILM: LazyLock<Film> = LazyLock::new(|| Film::new(LARGE, COUNT));
            let (_home, cache, entry) = filled(&FILM, &runs, end);
            for time in (50..ms(COUNT) + 200).step_by(150) {
                let right = key_frame(time);
                match locate(&cache, &entry, time) {
                    Located::Packet(number) => prop_assert!(number.0 == right, "{time} leads to {number}"),
                    Located::Unknown => {
                        let near = right..=right + KEY_FRAMES;
                        let is_gap = near.clone().any(|number| {
                            !entry.is_known(PacketNumber(number)) && entry.end().is_none_or(|end| number < end)
                        });
                        prop_assert!(is_gap, "{time} is unknown, and {near:?} are there");
                    }
                    Located::Unread => prop_assert!(false, "what memory knows need not be read"),
                }
            }
        }

        #[test]
        fn without_video_a_time_leads_to_what_is_due_or_to_the_origin(runs in runs(), end: bool) {
            static FILM: LazyLock<Film> = LazyLock::new(|| Film::without_video(LARGE, COUNT));
            let (_home, cache, entry) = filled(&FILM, &runs, end);
            for time in (50..ms(COUNT)).step_by(150) {
                // Packets that come in any order are listed less evenly.
                let near = (time / ms(1)).saturating_sub(20)..=time / ms(1) + 20;
                match locate(&cache, &entry, time) {
                    Located::Packet(number) => {
                        prop_assert!(near.contains(&number.0) && ms(number.0) <= time, "{time} leads to {number}");
                        prop_assert!(entry.is_known(number));
                    }
                    Located::Unknown => {
                        let is_gap = near.clone().any(|number| {
                            !entry.is_known(PacketNumber(number)) && entry.end().is_none_or(|end| number < end)
                        });
                        prop_assert!(is_gap, "{time} is unknown, and {near:?} are there");
                    }
                    Located::Unread => prop_assert!(false, "what memory knows need not be read"),
                }
            }
        }
    }
}
