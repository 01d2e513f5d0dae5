//! A viewer's side of an entry: where its play begins, what it reads, and how it goes on where what it needs is not kept.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::timeout;

use super::filling::{Answer, Filling, Reading};
use super::order::Begun as FillBegun;
use crate::asf::{PacketNumber, Thinning};
use crate::cache::{Located, Reader, Want};
use crate::server::pipe::PipeCursor;
use crate::session::archive::{Access, Archive, FastStart, Linear, Place, Start, Stride};
use crate::session::{Burst, Cursor, End, Next, Opened, Play, Playing, Position, Refusal, StreamChoice, Until};

/// A viewer that has an entry open.
#[derive(Debug)]
pub(in crate::server::relay) struct Viewing {
    reading: Reading,
    bell: Arc<Notify>,
    /// Rung while a play that was asked for has not begun.
    waiting: Arc<Notify>,
    /// Of the play that is on.
    wants: Option<Wants>,
}

/// What a play needs from outside.
#[derive(Debug)]
struct Wants {
    want: Arc<Want>,
    detour: Arc<Detour>,
    until: Option<Until>,
    wants_all: bool,
}

/// Where a cursor goes on that can't read the entry any further.
#[derive(Debug, Default)]
struct Detour(Mutex<Option<Way>>);

#[derive(Debug)]
enum Way {
    Open(PipeCursor),
    Closed(Refusal),
}

/// How a play begins.
pub(in crate::server::relay) enum Begun {
    /// From the entry.
    Here(Playing),
    /// At the origin, in a session of the viewer's own.
    Passes,
}

/// Packets of one second leave together: the player has room for them, and cost is per call.
const STEP: Duration = Duration::from_secs(1);
/// Times the bit rate of the content: ten seconds of it in ten milliseconds are at once for any player.
const FASTEST_BURST: u32 = 1000;
/// How often what a viewer waits for is looked at.
pub(in crate::server::relay) const LOOK_AGAIN: Duration = Duration::from_millis(250);

impl Viewing {
    pub(in crate::server::relay) fn new(filling: &Arc<Filling>, bell: Arc<Notify>) -> Self {
        Self { reading: filling.read(), bell, waiting: Arc::default(), wants: None }
    }

    fn filling(&self) -> &Arc<Filling> {
        self.reading.filling()
    }

    pub(in crate::server::relay) fn opened(&self) -> &Arc<Opened> {
        self.filling().entry().opened()
    }

    /// What the viewer is told of it: there is an index, so there is trick mode.
    pub(in crate::server::relay) fn described(&self) -> Arc<Opened> {
        let opened = self.opened();
        let has_video = opened.header.streams().iter().any(|stream| stream.has_key_frames);
        if opened.description.can_stride || !has_video {
            return Arc::clone(opened);
        }
        let mut described = Opened::clone(opened);
        described.description.can_stride = true;
        Arc::new(described)
    }

    /// Begins a play of `selection`; `fast_start` as configured.
    ///
    /// # Errors
    /// A place that is none, or one that can't be had.
    pub(in crate::server::relay) async fn play(
        &mut self,
        play: &Play,
        selection: &[StreamChoice],
        fast_start: Option<Duration>,
        reply: Duration,
    ) -> Result<Begun, Refusal> {
        self.wants = None;
        let opened = Arc::clone(self.opened());
        let wants_all = wants_all(&opened, selection);
        let want = Arc::new(Want::default());
        let mut reader = Reader::new(self.filling().hold(), Arc::clone(&self.waiting), Arc::clone(&want));
        if play.is_trick_mode() && !self.filling().entry().is_complete() {
            return Ok(Begun::Passes);
        }
        let start = Start::of(play, &opened.header);
        let place = match timeout(reply, self.locate(start, &mut reader, &want, wants_all)).await {
            Ok(place) => place?,
            Err(_) => return Ok(Begun::Passes),
        };
        let Some(place) = place else { return Ok(Begun::Passes) };
        reader.ring(Arc::clone(&self.bell));
        let pace = FastStart {
            ahead: fast_start.unwrap_or(opened.header.preroll()),
            most: Burst {
                bits_per_second: opened.description.bit_rate.saturating_mul(FASTEST_BURST),
                duration: Duration::MAX,
            },
            step: STEP,
        };
        let pace = pace.pace(play, opened.description.bit_rate);
        let detour = Arc::new(Detour::default());
        let source = if play.is_trick_mode() {
            Source::Stride(Box::new(Stride::new(reader, Arc::clone(&opened.header), place, play)))
        } else {
            Source::Linear(Linear::new(reader, place, play.until, opened.header.preroll()))
        };
        self.wants = Some(Wants { want, detour: Arc::clone(&detour), until: play.until, wants_all });
        let cursor = StockCursor { source, detour, place: place.packet };
        Ok(Begun::Here(Playing { cursor: Box::new(cursor), pace }))
    }

    /// The play is over.
    pub(in crate::server::relay) fn stop(&mut self) {
        self.wants = None;
    }

    /// Where the play begins, once its first packet is there or on its way; `None` where the origin has to be asked in a
    /// session of the viewer's own.
    async fn locate(
        &self,
        start: Start,
        reader: &mut Reader,
        want: &Want,
        wants_all: bool,
    ) -> Result<Option<Place>, Refusal> {
        let place = match start {
            Start::Time(time) if !time.is_zero() => match self.locate_time(time, wants_all).await? {
                Some(packet) => Place { packet, time },
                None => return Ok(None),
            },
            start => loop {
                match start.locate(reader) {
                    Access::There(place) => break place,
                    Access::Absent => return Ok(None),
                    Access::Failed(refusal) => return Err(refusal),
                    Access::NotYet if self.comes(want, wants_all).await? => {}
                    Access::NotYet => return Ok(None),
                }
            },
        };
        // Until the first packet is there: a play that can't begin is refused, and does not begin and end.
        loop {
            match reader.packet(place.packet) {
                Access::There(_) | Access::Absent => return Ok(Some(place)),
                Access::Failed(refusal) => return Err(refusal),
                Access::NotYet if self.comes(want, wants_all).await? => {}
                Access::NotYet => return Ok(None),
            }
        }
    }

    /// Waits a moment for what is wanted; `false` where it does not come.
    async fn comes(&self, want: &Want, wants_all: bool) -> Result<bool, Refusal> {
        match want.number().map(|number| self.filling().demand(number, wants_all)) {
            Some(Answer::Passes) => Ok(false),
            Some(Answer::Refused(refusal)) => Err(refusal),
            Some(Answer::Comes) | None => {
                let _ = timeout(LOOK_AGAIN, self.waiting.notified()).await;
                Ok(true)
            }
        }
    }

    async fn locate_time(&self, time: Duration, wants_all: bool) -> Result<Option<PacketNumber>, Refusal> {
        loop {
            let filling = self.filling();
            match filling.cache().locate(filling.entry(), time, &self.waiting) {
                Located::Packet(number) => return Ok(Some(number)),
                Located::Unread => drop(timeout(LOOK_AGAIN, self.waiting.notified()).await),
                Located::Unknown => break,
            }
        }
        let mut begun = match self.filling().demand_time(time, wants_all) {
            Ok(begun) => begun,
            Err(Answer::Refused(refusal)) => return Err(refusal),
            Err(Answer::Passes | Answer::Comes) => return Ok(None),
        };
        let begun = begun.wait_for(|begun| *begun != FillBegun::No).await.map(|begun| begun.clone());
        match begun {
            Ok(FillBegun::At(number)) => Ok(Some(number)),
            Ok(FillBegun::Failed(refusal)) => Err(refusal),
            Ok(FillBegun::No) | Err(_) => Ok(None),
        }
    }

    /// Waits until the play can't go on without something. For ever where there is none.
    pub(in crate::server::relay) async fn wanted(&self) -> PacketNumber {
        match &self.wants {
            Some(wants) => wants.want.wanted().await,
            None => std::future::pending().await,
        }
    }

    /// What is done about a packet that is wanted: `Some` is a play that the viewer has to ask its origin for, to be handed
    /// to [`Self::detour`].
    pub(in crate::server::relay) fn get(&mut self, number: PacketNumber) -> Option<Play> {
        let wants = self.wants.as_ref()?;
        match self.reading.filling().demand(number, wants.wants_all) {
            Answer::Comes => None,
            Answer::Refused(refusal) => {
                wants.want.refuse(refusal);
                self.bell.notify_one();
                None
            }
            Answer::Passes => {
                let until = wants.until;
                Some(Play { until, ..Play::from(Position::Packet(number)) })
            }
        }
    }

    /// The play goes on at the origin, or can't.
    pub(in crate::server::relay) fn detour(&mut self, way: Result<PipeCursor, Refusal>) {
        if let Some(wants) = self.wants.take() {
            *wants.detour.0.lock() = Some(way.map_or_else(Way::Closed, Way::Open));
            self.bell.notify_one();
        }
    }
}

/// Whether a viewer plays every stream in full: a session of its own would bring no less than a fill.
fn wants_all(opened: &Opened, selection: &[StreamChoice]) -> bool {
    selection.is_empty()
        || opened.header.streams().iter().all(|stream| {
            selection.iter().any(|choice| choice.stream == stream.number && choice.thinning == Thinning::All)
        })
}

#[derive(Debug)]
enum Source {
    Linear(Linear<Reader>),
    Stride(Box<Stride<Reader>>),
    Detour(PipeCursor),
}

/// A viewer's place: in the entry, and from where that ends, at the origin.
#[derive(Debug)]
struct StockCursor {
    source: Source,
    detour: Arc<Detour>,
    /// What comes next, of content that is played at the normal rate.
    place: PacketNumber,
}

impl Cursor for StockCursor {
    fn next(&mut self) -> Next {
        loop {
            let next = match &mut self.source {
                Source::Linear(linear) => linear.next(),
                Source::Stride(stride) => return stride.next(),
                Source::Detour(pipe) => match pipe.next() {
                    // It was asked for that very packet, and some origins begin before it.
                    Next::Packet(packet) if packet.number < self.place => continue,
                    next => return next,
                },
            };
            if let Next::Packet(packet) = &next {
                self.place = PacketNumber(packet.number.0.saturating_add(1));
            }
            if !matches!(next, Next::Nothing) {
                return next;
            }
            match self.detour.0.lock().take() {
                Some(Way::Open(pipe)) => self.source = Source::Detour(pipe),
                Some(Way::Closed(refusal)) => return Next::Ended(End::Failed(refusal)),
                None => return Next::Nothing,
            }
        }
    }

    /// Nobody is told of each packet that a fill brings.
    fn is_announced(&self) -> bool {
        false
    }
}
