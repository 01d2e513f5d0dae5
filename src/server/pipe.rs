//! The way from one origin session to one viewer: a bounded queue that the session's task fills, a whole socket read at a
//! time, and the viewer's cursor empties.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use prometheus::IntGauge;
use tokio::sync::Notify;

use super::sink::Sink;
use crate::session::{Cursor, Next, Packet};

/// What happens when the viewer does not keep up.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Overflow {
    /// The origin waits: on-demand content pauses.
    Wait,
    /// The oldest packets go, up to the newest key frame: a broadcast does not wait.
    Skip,
}

#[derive(Debug)]
struct Pipe {
    queue: Mutex<Queue>,
    /// Rung when the cursor made room, or is gone.
    room: Notify,
    limit: usize,
    overflow: Overflow,
    /// Rung for the viewer.
    bell: Arc<Notify>,
    /// `mmsproxy_held_bytes{holder="sessions"}`.
    held: IntGauge,
}

#[derive(Debug, Default)]
struct Queue {
    items: VecDeque<Next>,
    bytes: usize,
    is_abandoned: bool,
    has_begun: bool,
}

/// The end that the origin session fills.
#[derive(Debug)]
pub struct Feeder(Arc<Pipe>);

/// The end that a viewer reads.
#[derive(Debug)]
pub struct PipeCursor(Arc<Pipe>);

/// A pipe that holds up to `limit` bytes.
pub fn pipe(limit: usize, overflow: Overflow, bell: Arc<Notify>, held: IntGauge) -> (Feeder, PipeCursor) {
    let pipe = Arc::new(Pipe { queue: Mutex::default(), room: Notify::new(), limit, overflow, bell, held });
    (Feeder(Arc::clone(&pipe)), PipeCursor(pipe))
}

impl Sink for Feeder {
    fn push_all(&mut self, items: &mut Vec<Next>) {
        let pipe = &*self.0;
        let mut queue = pipe.queue.lock();
        if queue.is_abandoned {
            items.clear();
            return;
        }
        let bytes: usize = items.iter().map(size).sum();
        queue.bytes += bytes;
        pipe.held.add(bytes as i64);
        queue.items.extend(items.drain(..));
        if pipe.overflow == Overflow::Skip && queue.bytes > pipe.limit {
            pipe.skip(&mut queue);
        }
        // The first packets are what a player waits for, and a burst should not wait for its turn either.
        let is_urgent = !queue.has_begun || queue.bytes > pipe.limit / 4;
        queue.has_begun = true;
        drop(queue);
        if is_urgent {
            pipe.bell.notify_one();
        }
    }

    /// A viewer of its own meets the entries in their order.
    fn set_changing(&mut self, _is_changing: bool) {}

    fn is_full(&self) -> bool {
        let queue = self.0.queue.lock();
        self.0.overflow == Overflow::Wait && !queue.is_abandoned && queue.bytes >= self.0.limit
    }

    fn room(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async {
            while self.is_full() {
                self.0.room.notified().await;
            }
        })
    }
}

impl Pipe {
    /// Drops the oldest packets up to the newest that begins a key frame, or all of them where even what follows that is
    /// too much. Of the entries that were skipped, the newest stays, and so does the end.
    fn skip(&self, queue: &mut Queue) {
        let keep_from = queue.items.iter().rposition(begins_key_frame).unwrap_or(queue.items.len());
        let kept_bytes: usize = queue.items.range(keep_from..).map(size).sum();
        // A key frame that is itself old would be found again and again, and the queue would grow behind it.
        let keep_from = if kept_bytes > self.limit / 2 { queue.items.len() } else { keep_from };
        let before = queue.bytes;
        let kept = queue.items.split_off(keep_from);
        let lag = lag(queue.items.iter().chain(&kept));
        let mut skipped = 0;
        let (mut changed, mut ended) = (None, None);
        for item in queue.items.drain(..) {
            match item {
                Next::Packet(_) => skipped += 1,
                Next::Skipped { packets, .. } => skipped += packets,
                Next::Changed(_) => changed = Some(item),
                Next::Ended(_) => ended = Some(item),
                // What follows a jump begins at key frames anyway.
                Next::Resumed | Next::Lost { .. } | Next::Nothing => {}
            }
        }
        let jump = (skipped > 0).then_some(Next::Skipped { packets: skipped, lag });
        queue.items.extend(changed.into_iter().chain(jump).chain(kept).chain(ended));
        queue.bytes = queue.items.iter().map(size).sum();
        self.held.add(queue.bytes as i64 - before as i64);
    }
}

/// How far the oldest packet is behind the newest, by their send times.
fn lag<'a>(items: impl Iterator<Item = &'a Next>) -> Duration {
    let mut times = items.filter_map(|item| match item {
        Next::Packet(packet) => Some(packet.send_time_ms),
        _ => None,
    });
    let Some(oldest) = times.next() else { return Duration::ZERO };
    let newest = times.last().unwrap_or(oldest);
    Duration::from_millis(newest.wrapping_sub(oldest).into())
}

/// What an item holds in memory, bytes: its own place counts, for packets may be small and many.
fn size(item: &Next) -> usize {
    size_of::<Next>()
        + match item {
            Next::Packet(packet) => size_of::<Packet>() + packet.bytes.len(),
            Next::Changed(header) => header.bytes().len(),
            Next::Skipped { .. } | Next::Resumed | Next::Lost { .. } | Next::Ended(_) | Next::Nothing => 0,
        }
}

fn begins_key_frame(item: &Next) -> bool {
    let Next::Packet(packet) = item else { return false };
    packet.outline().is_some_and(|outline| outline.key_frames().next().is_some())
}

impl Cursor for PipeCursor {
    fn next(&mut self) -> Next {
        let pipe = &*self.0;
        let mut queue = pipe.queue.lock();
        let Some(item) = queue.items.pop_front() else { return Next::Nothing };
        let bytes = size(&item);
        let was_full = queue.bytes >= pipe.limit / 2;
        queue.bytes -= bytes;
        pipe.held.sub(bytes as i64);
        if was_full && queue.bytes < pipe.limit / 2 {
            pipe.room.notify_one();
        }
        item
    }
}

impl Drop for PipeCursor {
    fn drop(&mut self) {
        let mut queue = self.0.queue.lock();
        queue.is_abandoned = true;
        queue.items.clear();
        self.0.held.sub(std::mem::take(&mut queue.bytes) as i64);
        drop(queue);
        self.0.room.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::asf::PacketNumber;
    use crate::session::End;
    use bytes::Bytes;

    /// The header of a recorded clip, up to its first packet.
    const HEADER: &[u8] = include_bytes!("../../tests/vectors/asf/talk-header.bin");

    fn packet(number: u64, key_frame: bool) -> Next {
        // One payload of one byte of stream 1, the rest is padding that a single payload may not leave out.
        let mut bytes = vec![0x00, 0x5D, 0, 0, 0, 0, 0, 0, if key_frame { 0x81 } else { 0x01 }, 1, 0, 0, 0, 0, 8];
        bytes.extend_from_slice(&[1, 0, 0, 0, 0, 0, 0, 0, 0xAA]);
        let bytes = Bytes::from(bytes);
        Next::from(Packet::new(PacketNumber(number), 0, bytes.clone(), bytes))
    }

    /// What one of these packets holds.
    const PACKET: usize = size_of::<Next>() + size_of::<Packet>() + 25;

    fn gauge() -> IntGauge {
        IntGauge::new("held", "held").unwrap()
    }

    fn numbers(cursor: &mut PipeCursor) -> Vec<String> {
        std::iter::from_fn(|| match cursor.next() {
            Next::Packet(packet) => Some(packet.number.0.to_string()),
            Next::Skipped { packets, .. } => Some(format!("skipped {packets}")),
            Next::Ended(_) => Some("ended".to_owned()),
            Next::Changed(_) => Some("changed".to_owned()),
            Next::Resumed => Some("resumed".to_owned()),
            Next::Lost { packets } => Some(format!("lost {packets}")),
            Next::Nothing => None,
        })
        .collect()
    }

    #[test]
    fn a_broadcast_that_is_not_read_jumps_to_its_newest_key_frame() {
        let held = gauge();
        let (mut feeder, mut cursor) = pipe(PACKET * 6, Overflow::Skip, Arc::default(), held.clone());
        let keys = [0, 4, 8];
        feeder.push_all(&mut (0..10).map(|n| packet(n, keys.contains(&n))).collect());
        assert!(!feeder.is_full());
        feeder.push_all(&mut vec![Next::Ended(End::Complete)]);
        assert_eq!(numbers(&mut cursor), ["skipped 8", "8", "9", "ended"]);
        assert_eq!(held.get(), 0);
    }

    #[test]
    fn a_loss_is_told_in_its_place() {
        let (mut feeder, mut cursor) = pipe(PACKET * 6, Overflow::Wait, Arc::default(), gauge());
        feeder.push_all(&mut vec![packet(0, true), Next::Lost { packets: 2 }, packet(3, false)]);
        assert_eq!(numbers(&mut cursor), ["0", "lost 2", "3"]);
    }

    #[test]
    fn with_no_key_frame_in_sight_all_packets_go_but_the_end_stays() {
        let (mut feeder, mut cursor) = pipe(PACKET * 3, Overflow::Skip, Arc::default(), gauge());
        let mut items: Vec<Next> = (0..10).map(|n| packet(n, false)).collect();
        items.push(Next::Ended(End::Complete));
        feeder.push_all(&mut items);
        let mut rest = numbers(&mut cursor);
        rest.sort();
        assert_eq!(rest, ["ended", "skipped 10"]);
    }

    #[test]
    fn a_key_frame_that_nothing_follows_keeps_no_queue_alive() {
        let held = gauge();
        let limit = PACKET * 8;
        let (mut feeder, mut cursor) = pipe(limit, Overflow::Skip, Arc::default(), held.clone());
        for n in 0..1000 {
            feeder.push_all(&mut vec![packet(n, n == 0)]);
            assert!(held.get() as usize <= limit + PACKET, "{} bytes after {n} packets", held.get());
        }
        let rest = numbers(&mut cursor);
        assert!(rest[0].starts_with("skipped "), "{rest:?}");
        assert_eq!(rest.last().unwrap(), "999");
        assert_eq!(held.get(), 0);
    }

    #[test]
    fn endless_entries_are_bounded_too() {
        let held = gauge();
        let header = Arc::new(crate::asf::Header::parse(HEADER.into()).unwrap());
        let limit = 3 * HEADER.len();
        let (mut feeder, mut cursor) = pipe(limit, Overflow::Skip, Arc::default(), held.clone());
        for _ in 0..100 {
            feeder.push_all(&mut vec![Next::Changed(Arc::clone(&header))]);
            assert!(held.get() as usize <= limit + 2 * HEADER.len());
        }
        assert!(numbers(&mut cursor).len() <= 3);
        let (mut feeder, _cursor) = pipe(limit, Overflow::Wait, Arc::default(), held.clone());
        feeder.push_all(&mut vec![Next::Changed(header); 4]);
        assert!(feeder.is_full());
    }

    #[tokio::test]
    async fn an_on_demand_origin_waits_for_half_of_the_room() {
        let held = gauge();
        let (mut feeder, mut cursor) = pipe(PACKET * 4, Overflow::Wait, Arc::default(), held.clone());
        feeder.push_all(&mut (0..5).map(|n| packet(n, false)).collect());
        assert!(feeder.is_full());
        for _ in 0..4 {
            cursor.next();
        }
        feeder.room().await;
        drop(cursor);
        feeder.push_all(&mut vec![packet(9, false)]);
        assert!(!feeder.is_full());
        assert_eq!(held.get(), 0);
    }
}
