//! An ASF data packet that many viewers share: what a gate asks of it is read once, and viewers with equal selections
//! share its filtered forms.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use bytes::Bytes;
use parking_lot::Mutex;

use crate::asf::{Kept, Outline, PacketNumber, padding};

/// An ASF data packet on its way. Whoever changes a field changes it before the packet is shared: outline and forms are
/// those of the bytes at first sight.
#[derive(Debug)]
pub struct Packet {
    /// Its number in the file, or in the virtual file of a broadcast.
    pub number: PacketNumber,
    /// ASF send time, ms; wraps.
    pub send_time_ms: u32,
    /// As it came: with padding, unless the source itself had it without.
    pub bytes: Bytes,
    /// Without padding, for players that put it back themselves.
    pub stripped: Bytes,
    outline: OnceLock<Option<Outline>>,
    forms: Forms,
    /// Where it stands among those of its source.
    seat: Option<Seat>,
}

impl Packet {
    /// `stripped` is `bytes` without padding; where there is none to drop, the same memory.
    pub fn new(number: PacketNumber, send_time_ms: u32, bytes: Bytes, stripped: Bytes) -> Self {
        Self { number, send_time_ms, bytes, stripped, outline: OnceLock::new(), forms: Forms::default(), seat: None }
    }

    /// Has its forms weighed: they count in `tally` until the packet is dropped, and where it is full none is kept.
    pub fn weighed(mut self, tally: Arc<Tally>) -> Self {
        self.forms = Forms { kept: Mutex::default(), tally: Some(tally) };
        self
    }

    /// Shares it, as the next of `row`; where that is full, as the first of a new one.
    pub fn seated(mut self, row: &mut Arc<Row>) -> Arc<Self> {
        if row.taken() >= ROW {
            *row = Arc::default();
        }
        self.seat = Some(Seat { row: Arc::clone(row), index: row.taken() });
        let packet = Arc::new(self);
        row.seats.lock().push(Arc::downgrade(&packet));
        packet
    }

    /// Where it stands among those of its source; `None` where that does not say.
    pub fn seat(&self) -> Option<&Seat> {
        self.seat.as_ref()
    }

    /// All of it, with padding as it came or without.
    pub fn whole(&self, padded: bool) -> &Bytes {
        if padded { &self.bytes } else { &self.stripped }
    }

    /// What a gate needs to know, read when it is asked for first; `None` where the bytes are no packet.
    pub fn outline(&self) -> Option<&Outline> {
        self.outline.get_or_init(|| Outline::read(&self.stripped).ok()).as_ref()
    }

    /// The packet for a viewer that wants these payloads of it; `None` where it wants none, or the bytes are no packet.
    /// With `padded` it has the length that it came with, otherwise no padding. Equal wishes get the same memory, as long
    /// as the forms are few.
    pub fn form(&self, kept: Kept, padded: bool) -> Option<Bytes> {
        if kept.is_empty() {
            return None;
        }
        if kept.is_all() {
            return Some(self.whole(padded).clone());
        }
        let padded = padded && !self.is_stripped_only();
        self.forms.get_or_make(kept, padded, || {
            let thin = kept.apply(&self.stripped).ok().filter(|thin| !thin.is_empty())?;
            let restored = padded.then(|| padding::restore(&thin, self.bytes.len()).ok()).flatten();
            Some(restored.map_or(thin, Bytes::from))
        })
    }

    /// The source had it without padding, or there is none that may be dropped.
    fn is_stripped_only(&self) -> bool {
        (self.bytes.as_ptr(), self.bytes.len()) == (self.stripped.as_ptr(), self.stripped.len())
    }
}

/// Packets of a row.
const ROW: u32 = 64;

/// Some packets that follow one another in a source: whoever has to remember which it gave to somebody remembers the first,
/// and how many. It keeps none of them.
#[derive(Debug, Default)]
pub struct Row {
    seats: Mutex<Vec<Weak<Packet>>>,
}

impl Row {
    fn taken(&self) -> u32 {
        // No more than `ROW`.
        self.seats.lock().len() as u32
    }
}

/// A packet's place in a row.
#[derive(Clone, Debug)]
pub struct Seat {
    row: Arc<Row>,
    index: u32,
}

impl Seat {
    /// Whether `other` is the seat `offset` behind this one.
    pub fn is_before(&self, other: &Self, offset: u32) -> bool {
        Arc::ptr_eq(&self.row, &other.row) && self.index.checked_add(offset) == Some(other.index)
    }

    /// Moves one seat on.
    pub fn advance(&mut self) {
        self.index = self.index.saturating_add(1);
    }

    /// The packet `offset` seats behind; `None` where nobody holds it any more.
    pub fn packet(&self, offset: u32) -> Option<Arc<Packet>> {
        let index = usize::try_from(self.index.checked_add(offset)?).ok()?;
        self.row.seats.lock().get(index)?.upgrade()
    }
}

/// Shares the bytes, not the forms, and has no seat.
impl Clone for Packet {
    fn clone(&self) -> Self {
        let copy = Self::new(self.number, self.send_time_ms, self.bytes.clone(), self.stripped.clone());
        match &self.forms.tally {
            Some(tally) => copy.weighed(Arc::clone(tally)),
            None => copy,
        }
    }
}

/// By what they carry; the forms that were asked for so far are no part of it.
impl PartialEq for Packet {
    fn eq(&self, other: &Self) -> bool {
        (self.number, self.send_time_ms) == (other.number, other.send_time_ms)
            && (&self.bytes, &self.stripped) == (&other.bytes, &other.stripped)
    }
}

impl Eq for Packet {}

/// The filtered forms of a packet that are kept.
#[derive(Debug, Default)]
struct Forms {
    kept: Mutex<Vec<Form>>,
    tally: Option<Arc<Tally>>,
}

#[derive(Debug)]
struct Form {
    kept: Kept,
    padded: bool,
    bytes: Bytes,
}

impl Form {
    /// What it takes, in bytes.
    fn weight(&self) -> u64 {
        (size_of::<Self>() + self.bytes.len()) as u64
    }
}

impl Forms {
    /// Under the lock, so that those who ask at once get one form.
    fn get_or_make(&self, kept: Kept, padded: bool, make: impl FnOnce() -> Option<Bytes>) -> Option<Bytes> {
        let mut forms = self.kept.lock();
        if let Some(form) = forms.iter().find(|form| (form.kept, form.padded) == (kept, padded)) {
            return Some(form.bytes.clone());
        }
        let bytes = make()?;
        let form = Form { kept, padded, bytes: bytes.clone() };
        if forms.len() < MAX_FORMS && self.tally.as_ref().is_none_or(|tally| tally.add(form.weight())) {
            forms.push(form);
        }
        Some(bytes)
    }
}

impl Drop for Forms {
    fn drop(&mut self) {
        if let Some(tally) = &self.tally {
            tally.subtract(self.kept.get_mut().iter().map(Form::weight).sum());
        }
    }
}

/// What the filtered forms of many packets weigh together, and how much they may.
#[derive(Debug)]
pub struct Tally {
    bytes: AtomicU64,
    limit: u64,
}

impl Tally {
    /// Nothing yet; `limit` in bytes.
    pub fn new(limit: u64) -> Self {
        Self { bytes: AtomicU64::new(0), limit }
    }

    /// What is kept now, in bytes; never above the limit.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// `false` where it would pass the limit: then nothing is added.
    fn add(&self, bytes: u64) -> bool {
        let fits = |sum: u64| sum.checked_add(bytes).filter(|sum| *sum <= self.limit);
        self.bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok()
    }

    fn subtract(&self, bytes: u64) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// Kept of one packet. Viewers of a broadcast choose among few selections; a fifth is filtered on its way out.
const MAX_FORMS: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::asf::{
        Gate, Header, HeaderBuilder, MediaObject, Packet as AsfPacket, Packetizer, StreamKind, StreamNumber, Thinning,
    };

    const PACKET_SIZE: usize = 400;

    fn stream(number: u16) -> StreamNumber {
        StreamNumber::new(number).unwrap()
    }

    fn header() -> Header {
        let streams = (1..=6).map(stream);
        let declared = streams.fold(HeaderBuilder::new(PACKET_SIZE as u32), |header, number| {
            header.stream(number, StreamKind::Audio, 8000, Vec::new())
        });
        declared.build().unwrap()
    }

    /// One object of each of six streams, and padding.
    fn padded() -> Bytes {
        let mut packetizer = Packetizer::new(&header());
        for number in 1..=6 {
            let object =
                MediaObject { stream: stream(number), key_frame: true, content_ms: 0, data: &[number as u8; 20] };
            packetizer.push(&object, &mut Vec::new());
        }
        packetizer.flush().unwrap()
    }

    fn packet() -> Packet {
        let bytes = padded();
        Packet::new(PacketNumber(3), 0, bytes.clone(), padding::strip(bytes))
    }

    /// What a viewer of these streams keeps.
    fn kept(packet: &Packet, streams: &[u16]) -> Kept {
        let mut gate = Gate::new(&header());
        streams.iter().for_each(|&number| gate.select(stream(number), Thinning::All));
        gate.pass(packet.outline().unwrap())
    }

    fn streams(bytes: &Bytes) -> Vec<u16> {
        AsfPacket::parse(bytes).unwrap().payloads().map(|payload| payload.stream.get().into()).collect()
    }

    #[test]
    fn viewers_with_equal_selections_share_one_form() {
        let packet = packet();
        let first = packet.form(kept(&packet, &[2, 5]), false).unwrap();
        assert_eq!(streams(&first), [2, 5]);
        let second = packet.form(kept(&packet, &[2, 5]), false).unwrap();
        assert_eq!(first.as_ptr(), second.as_ptr());
        assert_eq!(streams(&packet.form(kept(&packet, &[2]), false).unwrap()), [2]);
    }

    #[test]
    fn a_fifth_form_is_right_and_not_kept() {
        let packet = packet();
        let forms: Vec<_> = (1..=5).map(|number| packet.form(kept(&packet, &[number]), false).unwrap()).collect();
        for (number, form) in (1..=5).zip(&forms) {
            assert_eq!(streams(form), [number]);
            let again = packet.form(kept(&packet, &[number]), false).unwrap();
            assert_eq!(&again, form);
            assert_eq!(again.as_ptr() == form.as_ptr(), number < 5);
        }
    }

    #[test]
    fn whoever_wants_all_gets_what_there_is_and_whoever_wants_nothing_gets_none() {
        let packet = packet();
        let all = kept(&packet, &[1, 2, 3, 4, 5, 6]);
        assert_eq!(packet.form(all, true).unwrap().as_ptr(), packet.bytes.as_ptr());
        assert_eq!(packet.form(all, false).unwrap().as_ptr(), packet.stripped.as_ptr());
        assert_eq!(packet.form(kept(&packet, &[]), false), None);
    }

    #[test]
    fn a_padded_form_is_as_long_as_the_packet_that_came() {
        let packet = packet();
        let form = |padded| packet.form(kept(&packet, &[2, 5]), padded).unwrap();
        assert_eq!(form(true).len(), PACKET_SIZE);
        assert_eq!(streams(&form(true)), [2, 5]);
        assert!(form(false).len() < 100);
        assert_eq!(form(true).as_ptr(), form(true).as_ptr());
    }

    #[test]
    fn a_packet_that_came_without_padding_has_one_form_for_both() {
        let stripped = padding::strip(padded());
        let packet = Packet::new(PacketNumber(0), 0, stripped.clone(), stripped);
        let form = |padded| packet.form(kept(&packet, &[2, 5]), padded).unwrap();
        assert_eq!(form(true).as_ptr(), form(false).as_ptr());
    }

    #[test]
    fn bytes_that_are_no_packet_have_neither_outline_nor_forms() {
        let kept = kept(&packet(), &[2]);
        let wrong = Bytes::from_static(&[0xFF; 9]);
        let packet = Packet::new(PacketNumber(0), 0, wrong.clone(), wrong);
        assert_eq!(packet.outline(), None);
        assert_eq!(packet.form(kept, false), None);
    }

    #[test]
    fn forms_are_weighed_as_long_as_their_packet_lives() {
        let tally = Arc::new(Tally::new(1000));
        let packet = packet().weighed(Arc::clone(&tally));
        let form = packet.form(kept(&packet, &[2]), false).unwrap();
        let weight = (form.len() + size_of::<Form>()) as u64;
        assert_eq!(tally.bytes(), weight);
        packet.form(kept(&packet, &[2]), false).unwrap();
        assert_eq!(tally.bytes(), weight);
        let copy = packet.clone();
        drop(packet);
        assert_eq!(tally.bytes(), 0);
        copy.form(kept(&copy, &[2]), false).unwrap();
        assert_eq!(tally.bytes(), weight);
    }

    #[test]
    fn a_full_tally_keeps_no_more_forms() {
        let one = {
            let packet = packet();
            (packet.form(kept(&packet, &[1]), false).unwrap().len() + size_of::<Form>()) as u64
        };
        let tally = Arc::new(Tally::new(one));
        let packet = packet().weighed(Arc::clone(&tally));
        let form = |number| packet.form(kept(&packet, &[number]), false).unwrap();
        assert_eq!(form(1).as_ptr(), form(1).as_ptr());
        let second = form(2);
        assert_ne!(second.as_ptr(), form(2).as_ptr());
        assert_eq!(streams(&second), [2]);
        assert_eq!(tally.bytes(), one);
    }
}
