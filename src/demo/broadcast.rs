//! A file in a loop as a live publishing point: one virtual file that never ends. Packet `n` is packet `n % count` of the
//! file, moved by as many rounds as went before it, so that numbers, times and object numbers go on; every viewer gets
//! the same packet under the same number at the same time, wherever it joined.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::on_demand::unreadable;
use super::storage::Storage;
use crate::asf::{File, FileError, Loop, Packet as AsfPacket, PacketNumber, padding};
use crate::session::{Cursor, Description, End, Next, Opened, Pace, Packet, Play, Playing, Reason, Refusal};

/// A publishing point that is on the air since it was started.
#[derive(Debug)]
pub struct Broadcast {
    file: File<Storage>,
    opened: Arc<Opened>,
    started: Instant,
    round: Loop,
    /// The send time of packet 0, ms.
    first_send_ms: u64,
    preroll: Duration,
    recent: Mutex<Recent>,
}

/// Why a file can't be broadcast.
#[derive(Debug, thiserror::Error)]
pub enum BroadcastError {
    /// It can't be read, or is no ASF file.
    #[error(transparent)]
    File(#[from] FileError),
    /// A loop of nothing would never get anywhere.
    #[error("there is nothing in it to play")]
    Empty,
}

impl Broadcast {
    /// Reads the whole file once, to know how long a round is; it goes on the air at `now`.
    ///
    /// # Errors
    /// A file that can't be read, or that takes no time to play.
    pub fn start(storage: Storage, now: Instant) -> Result<Self, BroadcastError> {
        let file = File::open(storage)?;
        let mut round = Loop::new();
        let mut first_send_ms = None;
        for number in 0..file.packet_count() {
            let bytes = file.packet(PacketNumber(number)).map_err(FileError::from)?;
            if let Ok(packet) = AsfPacket::parse(&bytes) {
                first_send_ms.get_or_insert(packet.send_time_ms());
                round.push(&packet);
            }
        }
        let first_send_ms = first_send_ms.filter(|_| round.period_ms() > 0).ok_or(BroadcastError::Empty)?;
        let header = file.header().as_broadcast();
        // LIVE is left out: VLC, libmms and xine take a stream with it for a file.
        let description = Description { broadcast: true, bit_rate: header.bit_rate(), ..Description::default() };
        Ok(Self {
            preroll: header.preroll().min(MOST_LEAD),
            recent: Mutex::new(Recent::new(&file, round.period_ms())),
            opened: Arc::new(Opened { description, header: Arc::new(header) }),
            first_send_ms: first_send_ms.into(),
            started: now,
            round,
            file,
        })
    }

    /// What a viewer is told of it.
    pub fn opened(&self) -> Arc<Opened> {
        Arc::clone(&self.opened)
    }

    /// Joins a viewer: at the last key frame that is a preroll old, or as old as the burst that the player asks for, so
    /// that its buffer fills at once. Where it wants to begin or end is of no account: there is only now.
    ///
    /// # Errors
    /// Trick mode, or a file that can't be read.
    pub fn play(self: &Arc<Self>, play: &Play, now: Instant) -> Result<Playing, Refusal> {
        if play.is_trick_mode() {
            return Err(Refusal::new(Reason::Invalid, format!("rate {} of a broadcast", play.rate)));
        }
        // As if it had begun a preroll before it did, so that the first viewer finds one too.
        let elapsed = now.saturating_duration_since(self.started);
        let live = elapsed + self.preroll;
        let lead = play.burst.map_or(self.preroll, |burst| burst.duration.max(self.preroll).min(MOST_LEAD));
        let next = self.key_frame_at(live.saturating_sub(lead)).map_err(|error| unreadable(&error))?;
        let cursor = BroadcastCursor { broadcast: Arc::clone(self), next };
        // Every viewer has its own point on the one line of the clock: send times wrap, and a point of long ago would
        // lie on the other side.
        let live_ms = live.as_millis() as u64;
        let at = now - (live - Duration::from_millis(live_ms));
        let send_time_ms = self.first_send_ms.wrapping_add(live_ms) as u32;
        Ok(Playing { cursor: Box::new(cursor), pace: Pace::Clock { at, send_time_ms } })
    }

    /// The packet with the last key frame at or before a time since packet 0.
    fn key_frame_at(&self, time: Duration) -> Result<PacketNumber, FileError> {
        let period = u128::from(self.round.period_ms());
        let (round, within) = (time.as_millis() / period, time.as_millis() % period);
        let in_file = self.file.packet_at(Duration::from_millis(self.first_send_ms + within as u64))?;
        Ok(PacketNumber(round as u64 * self.file.packet_count() + in_file.0))
    }

    /// The packet of that number in the virtual file; `None` for one that is damaged in the file.
    fn packet(&self, number: PacketNumber) -> Result<Option<Arc<Packet>>, Refusal> {
        if let Some(packet) = self.recent.lock().find(number) {
            return Ok(Some(packet));
        }
        let count = self.file.packet_count();
        let in_file = self.file.packet(PacketNumber(number.0 % count)).map_err(|error| unreadable(&error))?;
        let Ok(bytes) = self.round.round(number.0 / count).apply(&in_file).map(bytes::Bytes::from) else {
            return Ok(None);
        };
        let Ok(send_time_ms) = AsfPacket::parse(&bytes).map(|packet| packet.send_time_ms()) else {
            return Ok(None);
        };
        let stripped = padding::strip(bytes.clone());
        let packet = Arc::new(Packet::new(number, send_time_ms, bytes, stripped));
        self.recent.lock().keep(Arc::clone(&packet));
        Ok(Some(packet))
    }
}

/// A viewer's place in a broadcast. It never runs out: the clock of the play holds it back.
#[derive(Debug)]
struct BroadcastCursor {
    broadcast: Arc<Broadcast>,
    next: PacketNumber,
}

impl Cursor for BroadcastCursor {
    fn next(&mut self) -> Next {
        // Of the packets of one round there is one that isn't damaged, or the broadcast would not have begun.
        for _ in 0..self.broadcast.file.packet_count() {
            let number = self.next;
            self.next = PacketNumber(number.0 + 1);
            match self.broadcast.packet(number) {
                Ok(Some(packet)) => return Next::Packet(packet),
                Ok(None) => {}
                Err(refusal) => return Next::Ended(End::Failed(refusal)),
            }
        }
        Next::Ended(End::Failed(Refusal::new(Reason::BadContent, "nothing but damage in the file")))
    }
}

/// The packets that viewers are at, shared among them, each in the slot of its number.
#[derive(Debug)]
struct Recent {
    slots: Vec<Option<Arc<Packet>>>,
}

impl Recent {
    /// Holds what lies between the viewer that joined furthest back and the one that is furthest ahead.
    fn new(file: &File<Storage>, period_ms: u32) -> Self {
        let held_ms = (MOST_LEAD + LOOK_AHEAD).as_millis() as u64;
        let packets = file.packet_count().saturating_mul(held_ms) / u64::from(period_ms).max(1);
        let affordable = MOST_HELD / u64::from(file.header().file().packet_size).max(1);
        let slots = packets.min(affordable).max(1);
        Self { slots: vec![None; usize::try_from(slots).unwrap_or(1)] }
    }

    fn slot(&mut self, number: PacketNumber) -> Option<&mut Option<Arc<Packet>>> {
        let slots = self.slots.len() as u64;
        self.slots.get_mut(usize::try_from(number.0 % slots).ok()?)
    }

    fn find(&mut self, number: PacketNumber) -> Option<Arc<Packet>> {
        self.slot(number)?.clone().filter(|packet| packet.number == number)
    }

    /// A viewer that fell behind must not push out what the others share.
    fn keep(&mut self, packet: Arc<Packet>) {
        if let Some(slot) = self.slot(packet.number)
            && slot.as_ref().is_none_or(|held| held.number < packet.number)
        {
            *slot = Some(packet);
        }
    }
}

/// A viewer joins at most this far back.
const MOST_LEAD: Duration = Duration::from_secs(30);
/// Packets are read a moment before they are due.
const LOOK_AHEAD: Duration = Duration::from_secs(2);
/// Bytes of packets that a broadcast holds; twice that where padding is dropped by a copy.
const MOST_HELD: u64 = 8 << 20;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::asf::StreamNumber;
    use crate::demo::content::VIDEO;
    use crate::demo::testing::{clip, clip_bytes};
    use crate::session::{Burst, Position};

    /// Of four seconds a round.
    fn broadcast(now: Instant) -> Arc<Broadcast> {
        Arc::new(Broadcast::start(Storage::Memory(clip_bytes()), now).unwrap())
    }

    fn join(broadcast: &Arc<Broadcast>, now: Instant) -> Playing {
        broadcast.play(&Play::from(Position::Default), now).unwrap()
    }

    fn take(cursor: &mut dyn Cursor, count: usize) -> Vec<Arc<Packet>> {
        let mut packets = Vec::new();
        while packets.len() < count {
            match cursor.next() {
                Next::Packet(packet) => packets.push(packet),
                other => panic!("{other:?}"),
            }
        }
        packets
    }

    /// When a packet is due.
    fn due(playing: &Playing, packet: &Packet) -> Instant {
        let Pace::Clock { at, send_time_ms } = playing.pace else { panic!("{:?}", playing.pace) };
        let delta = packet.send_time_ms.wrapping_sub(send_time_ms) as i32;
        let distance = Duration::from_millis(delta.unsigned_abs().into());
        if delta < 0 { at - distance } else { at + distance }
    }

    fn after(now: Instant, seconds: u64) -> Instant {
        now + Duration::from_secs(seconds)
    }

    #[test]
    fn it_is_told_as_a_broadcast_without_length_and_without_seeking() {
        let opened = broadcast(Instant::now()).opened();
        assert!(opened.header.is_live());
        let bit_rate = clip().opened().header.bit_rate();
        assert_eq!(opened.description, Description { broadcast: true, bit_rate, ..Description::default() });
    }

    #[test]
    fn three_rounds_go_on_without_a_gap() {
        let now = Instant::now();
        let broadcast = broadcast(now);
        let count = broadcast.file.packet_count();
        let packets = take(&mut *join(&broadcast, now).cursor, 3 * count as usize);
        let mut send_time = 0;
        let mut objects: BTreeMap<StreamNumber, Vec<(u8, u32)>> = BTreeMap::new();
        for (expected, packet) in (0..).zip(&packets) {
            assert_eq!(packet.number, PacketNumber(expected));
            assert!((send_time..send_time + 100).contains(&packet.send_time_ms), "{send_time} {packet:?}");
            send_time = packet.send_time_ms;
            let parsed = AsfPacket::parse(&packet.stripped).unwrap();
            for payload in parsed.payloads().filter(|payload| payload.starts_object()) {
                let object = (payload.object_number as u8, payload.presentation_ms.unwrap());
                objects.entry(payload.stream).or_default().push(object);
            }
        }
        assert_eq!(objects.len(), 2);
        for objects in objects.into_values() {
            assert_eq!(objects.len(), 150);
            for pair in objects.windows(2) {
                assert_eq!(pair[1].0, pair[0].0.wrapping_add(1));
                assert_eq!(pair[1].1, pair[0].1 + 80);
            }
        }
    }

    #[test]
    fn all_viewers_see_the_same_packet_at_the_same_time() {
        let now = Instant::now();
        let broadcast = broadcast(now);
        let early = join(&broadcast, now);
        let late_time = now + Duration::from_micros(61_234_567);
        let mut late = join(&broadcast, late_time);
        let packet = take(&mut *late.cursor, 1).remove(0);
        let mut same = BroadcastCursor { broadcast: Arc::clone(&broadcast), next: packet.number };
        let seen_early = take(&mut same, 1).remove(0);
        assert_eq!(packet, seen_early);
        assert_eq!(packet.bytes.as_ptr(), seen_early.bytes.as_ptr());
        assert_eq!(due(&early, &packet), due(&late, &packet));
    }

    #[test]
    fn a_joiner_starts_at_a_key_frame_a_preroll_old() {
        let now = Instant::now();
        let broadcast = broadcast(now);
        for seconds in [0, 1, 3, 4, 5, 7, 8, 1000] {
            let joined = after(now, seconds);
            let mut playing = join(&broadcast, joined);
            let first = take(&mut *playing.cursor, 1).remove(0);
            assert!(AsfPacket::parse(&first.bytes).unwrap().starts_key_frame(VIDEO));
            let age = joined.duration_since(due(&playing, &first));
            assert!((2000..=3200).contains(&age.as_millis()), "{age:?} after {seconds} s");
        }
    }

    #[test]
    fn a_player_that_asks_for_a_burst_starts_as_far_back() {
        let now = Instant::now();
        let broadcast = broadcast(now);
        let age = |duration| {
            let burst = Some(Burst { bits_per_second: 1, duration });
            let joined = after(now, 100);
            let mut playing = broadcast.play(&Play { burst, ..Play::from(Position::Default) }, joined).unwrap();
            let first = take(&mut *playing.cursor, 1).remove(0);
            joined.duration_since(due(&playing, &first)).as_secs()
        };
        assert!((9..=10).contains(&age(Duration::from_secs(9))));
        assert!((30..=31).contains(&age(Duration::MAX)));
        assert!((2..=3).contains(&age(Duration::ZERO)));
    }

    #[test]
    fn after_fifty_days_send_times_wrap_and_packets_are_still_due() {
        let now = Instant::now();
        let broadcast = broadcast(now);
        let joined = now + Duration::from_millis(u64::from(u32::MAX) - 500);
        let mut playing = join(&broadcast, joined);
        let packets = take(&mut *playing.cursor, 200);
        let due: Vec<Instant> = packets.iter().map(|packet| due(&playing, packet)).collect();
        assert!(due.is_sorted());
        assert!(packets.last().unwrap().send_time_ms < packets[0].send_time_ms);
        assert!(due[0] <= joined && joined - due[0] < Duration::from_secs(4));
    }

    #[test]
    fn it_holds_a_bounded_number_of_packets() {
        let now = Instant::now();
        let broadcast = broadcast(now);
        take(&mut *join(&broadcast, now).cursor, 20_000);
        let recent = broadcast.recent.lock();
        assert!(recent.slots.len() < 1000);
        assert!(recent.slots.iter().flatten().all(|packet| packet.number.0 >= 19_000));
    }

    #[test]
    fn it_knows_no_trick_mode() {
        let now = Instant::now();
        let fast = Play { rate: 2.0, ..Play::from(Position::Default) };
        let refusal = broadcast(now).play(&fast, now).err().unwrap();
        assert_eq!(refusal.to_string(), "rate 2 of a broadcast");
    }

    #[test]
    fn a_file_without_packets_is_no_broadcast() {
        let header = clip().opened().header.bytes().clone();
        let error = Broadcast::start(Storage::Memory(header), Instant::now()).err().unwrap();
        assert_eq!(error.to_string(), "there is nothing in it to play");
    }
}
