//! What becomes of the packets that a session fetches.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::time::sleep;

use super::filling::Filling;
use super::joining::{Joined, Joining};
use super::order::{Fill, Order, Turn};
use crate::asf::PacketNumber;
use crate::cache::{Cache, Entry, Taken};
use crate::server::sink::Sink;
use crate::session::{End, Next, Packet};

/// The way from a session at an origin into an entry.
#[derive(Debug)]
pub(super) struct Intake {
    cache: Arc<Cache>,
    entry: Arc<Entry>,
    fill: Arc<Fill>,
    run: Run,
    /// Streams that have not begun in this run.
    joining: Option<Joining>,
    /// Bytes that came since files were last written.
    unwritten: u64,
    _counted: Arc<()>,
}

/// One request for media.
#[derive(Clone, Copy, Debug, Default)]
struct Run {
    /// Where it was asked to begin.
    asked: Option<PacketNumber>,
    /// What comes next if nothing is left out.
    next: Option<PacketNumber>,
    /// The file that the last packet belongs to.
    segment: Option<u32>,
    is_over: bool,
    /// Packets were lost on the way before the next one: what lies in between is not absent, it is unknown.
    is_torn: bool,
    /// What it is made for; what comes before is known.
    goal: Option<PacketNumber>,
    /// What lies before it is known.
    goes_on: bool,
    /// Where it ends, before the content does.
    cut: Option<PacketNumber>,
    /// Which of all requests it is.
    request: u64,
}

/// Packets that are known before it is worth it to ask for another place.
const FAR: u64 = 32;

impl Intake {
    pub(super) fn new(cache: Arc<Cache>, entry: Arc<Entry>, fill: Arc<Fill>) -> Self {
        let counted = cache.counts_fill();
        Self { cache, entry, fill, run: Run::default(), joining: None, unwritten: 0, _counted: counted }
    }

    /// What comes from here on answers that order, which was made for `goal`. It ends at `cut`: that is no end of the
    /// content then.
    pub(super) fn begin(&mut self, order: Order, goal: Option<PacketNumber>, cut: Option<PacketNumber>) {
        let asked = if let Order::Packet(number) = order { Some(number) } else { None };
        let request = self.entry.new_request();
        self.run = Run { asked, request, goal, cut, ..Run::default() };
        let before = asked.and_then(|asked| asked.0.checked_sub(1));
        self.run.goes_on = before.is_some_and(|before| self.entry.is_known(PacketNumber(before)));
        let is_whole = asked == Some(PacketNumber(0));
        self.joining = (!is_whole).then(|| Joining::new(&self.entry.opened().header));
        self.fill.begin(order);
    }

    fn push(&mut self, now: Instant, item: &Next) {
        match item {
            Next::Packet(packet) => self.packet(now, packet),
            Next::Ended(end) => self.ended(end),
            // Content that may be kept has one entry.
            Next::Changed(_) => self.end(Turn::Impossible),
            Next::Lost { .. } => self.lost(),
            Next::Skipped { .. } | Next::Resumed | Next::Nothing => {}
        }
    }

    fn lost(&mut self) {
        self.run.is_torn = true;
        if let Some(joining) = &mut self.joining {
            joining.lost();
        }
    }

    fn packet(&mut self, now: Instant, packet: &Arc<Packet>) {
        if self.run.is_over {
            return;
        }
        let number = packet.number;
        let is_torn = std::mem::take(&mut self.run.is_torn);
        let expected = self.run.next.or(self.run.asked).filter(|_| !is_torn).unwrap_or(number);
        // What is left out where a viewer begins is nothing that it could show. One that comes from before gets it from
        // elsewhere.
        if self.joining.is_some() && !self.run.goes_on && number > expected {
            self.entry.lend_nothing(expected.0..number.0);
        }
        match self.joining.as_mut().map(|joining| joining.push(packet)) {
            Some(Joined::NotYet) => self.entry.lend(packet, self.cache.unwritten_limit()),
            Some(Joined::FromNext) => {
                self.entry.lend(packet, self.cache.unwritten_limit());
                self.joining = None;
            }
            Some(Joined::Whole(packets)) => {
                self.joining = None;
                packets.iter().for_each(|packet| self.take(packet));
            }
            None => {
                if number > expected {
                    self.entry.skipped(expected.0..number.0, self.run.request);
                }
                self.take(packet);
            }
        }
        self.run.next = Some(PacketNumber(number.0.saturating_add(1)));
        self.fill.came(now, number, packet.send_time_ms);
        let segment = self.entry.geometry().place(number.0).map(|place| place.segment);
        if std::mem::replace(&mut self.run.segment, segment) != segment {
            self.seal(false);
        }
    }

    fn seal(&mut self, all: bool) {
        self.unwritten = 0;
        self.cache.seal(&self.entry, all);
    }

    fn take(&mut self, packet: &Arc<Packet>) {
        match self.entry.take(packet, self.cache.unwritten_limit()) {
            Taken::New => {
                self.unwritten += packet.bytes.len() as u64;
                // Such a file is written again when there is more of it. That costs the disk, and nothing is lost.
                if self.cache.part().is_some_and(|part| self.unwritten >= part) {
                    self.seal(true);
                }
            }
            Taken::Known => self.known(packet.number),
            Taken::NoRoom => self.end(Turn::NoRoom),
            Taken::Impossible => self.end(Turn::Impossible),
        }
    }

    /// Where much of what follows is known, it need not come again.
    fn known(&mut self, number: PacketNumber) {
        if self.run.goal.is_some_and(|goal| number < goal) {
            return;
        }
        let far = number.0.saturating_add(FAR);
        // The end is near enough to be waited for: it tells that it is the end.
        if self.run.cut.is_some_and(|cut| number.0 <= cut.0.saturating_add(FAR)) {
            // Its end comes by itself, and to stop what has just ended confuses some servers.
            return;
        }
        let is_near_the_end = far >= self.entry.opened().description.packet_count;
        if !is_near_the_end && self.entry.gap(number).is_none_or(|gap| gap.start > far) {
            self.end(Turn::Known);
        }
    }

    fn end(&mut self, turn: Turn) {
        self.run.is_over = true;
        self.fill.turn(turn);
    }

    fn ended(&mut self, end: &End) {
        match end {
            End::Complete => {
                if let Some(behind) =
                    self.run.next.or(self.run.asked).filter(|_| self.run.cut.is_none() && !self.run.is_torn)
                {
                    self.entry.ended(behind.0, self.run.request);
                }
                self.end(Turn::Ended);
            }
            End::Failed(refusal) => self.end(Turn::Failed(refusal.clone())),
        }
    }
}

/// Shared by the session, which fills it, and its driver, which begins runs.
#[derive(Debug)]
pub(super) struct Way {
    pub(super) intake: Arc<Mutex<Intake>>,
    pub(super) filling: Arc<Filling>,
}

/// A viewer that comes meanwhile lifts a limit: no longer than this is it not noticed.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

impl Sink for Way {
    fn push_all(&mut self, items: &mut Vec<Next>) {
        let now = Instant::now();
        let bytes =
            items.iter().map(|item| if let Next::Packet(packet) = item { packet.bytes.len() as u64 } else { 0 });
        let bytes = bytes.sum();
        self.filling.throttle.came(now, bytes);
        self.filling.way.came(now, bytes);
        let mut intake = self.intake.lock();
        let marks = intake.entry.marks();
        if marks.gave_up || marks.retired {
            intake.end(Turn::NoRoom);
        }
        for item in items.drain(..) {
            if matches!(item, Next::Lost { .. }) {
                self.filling.lost();
            }
            intake.push(now, &item);
        }
        intake.entry.ring();
    }

    fn set_changing(&mut self, _is_changing: bool) {}

    /// An origin never waits for a disk: what can't be written is not stored. It waits where an operator wants it slow.
    fn is_full(&self) -> bool {
        self.filling.throttled(Instant::now()).is_some()
    }

    fn room(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        let wait = self.filling.throttled(Instant::now()).unwrap_or_default();
        Box::pin(sleep(wait.min(LOOK_AGAIN)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::Settings;
    use crate::cache::testing::{Nobody, cache, opened, packets, settings};

    /// One request for the clip from its beginning, answered by `items`.
    fn run(cache: &Arc<Cache>, entry: &Arc<Entry>, items: &[Next]) {
        let now = Instant::now();
        let fill = Arc::new(Fill::new(now, None));
        let mut intake = Intake::new(Arc::clone(cache), Arc::clone(entry), fill);
        intake.begin(Order::Packet(PacketNumber(0)), None, None);
        items.iter().for_each(|item| intake.push(now, item));
    }

    fn packet(number: u64) -> Next {
        let bytes = packets()[number as usize].clone();
        Next::from(Packet::new(PacketNumber(number), 0, bytes.clone(), bytes))
    }

    #[test]
    fn what_was_lost_on_the_way_is_unknown_however_often_it_is() {
        let end = || Next::Ended(End::Complete);
        let (_dir, cache) = cache();
        for (name, lost, gap) in [("left out", None, None), ("lost", Some(Next::Lost { packets: 2 }), Some(1..3))] {
            let entry = cache.create(name, &opened(), 1_000).unwrap();
            let items: Vec<Next> = [packet(0)].into_iter().chain(lost).chain([packet(3), end()]).collect();
            run(&cache, &entry, &items);
            run(&cache, &entry, &items);
            assert_eq!(entry.gap(PacketNumber(0)).filter(|gap| gap.start < 3), gap, "{name}");
        }
    }

    #[test]
    fn many_fills_at_once_find_room_where_their_files_together_would_not() {
        let dir = tempfile::tempdir().unwrap();
        let clip = packets().iter().map(|packet| packet.len() as u64).sum::<u64>();
        let settings = Settings { unwritten: 2 * clip, ..settings() };
        let cache = Cache::open(dir.path(), settings, Arc::new(Nobody)).unwrap();
        let now = Instant::now();
        let entries: Vec<_> = (0..4).map(|name| cache.create(&name.to_string(), &opened(), 1_000).unwrap()).collect();
        let fills = entries.iter().map(|entry| (entry, Arc::new(Fill::new(now, None))));
        let mut intakes: Vec<_> =
            fills.map(|(entry, fill)| Intake::new(Arc::clone(&cache), Arc::clone(entry), fill)).collect();
        intakes.iter_mut().for_each(|intake| intake.begin(Order::Packet(PacketNumber(0)), None, None));
        for number in 0..packets().len() as u64 {
            for intake in &mut intakes {
                intake.push(now, &packet(number));
                cache.flush();
            }
        }
        intakes.iter_mut().for_each(|intake| intake.push(now, &Next::Ended(End::Complete)));
        for entry in &entries {
            cache.seal(entry, true);
            cache.flush();
            assert_eq!((entry.counts(), entry.unsealed_counts()), ((packets().len() as u64, 0), (0, 0)));
        }
    }

    #[test]
    fn a_loss_before_the_end_leaves_the_end_open() {
        let (_dir, cache) = cache();
        let end = Next::Ended(End::Complete);
        for (name, items, is_known) in [
            ("lost", vec![packet(0), Next::Lost { packets: 1 }, end.clone()], false),
            ("whole", vec![packet(0), end], true),
        ] {
            let entry = cache.create(name, &opened(), 1_000).unwrap();
            run(&cache, &entry, &items);
            run(&cache, &entry, &items);
            assert_eq!(entry.end().is_some(), is_known, "{name}");
        }
    }
}
