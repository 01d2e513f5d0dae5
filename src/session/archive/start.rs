//! Where a play of content that is read at random begins: what the player named, made a packet and a time.

use std::time::Duration;

use super::{Access, Archive, MAX_ABSENT};
use crate::asf::{Header, PacketNumber};
use crate::session::{Play, Position, Reason, Refusal};

/// What has to be looked up to begin a play.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Start {
    /// The key frame at this time of the content or before it; at time zero the first packet.
    Time(Duration),
    /// This very packet.
    Packet(PacketNumber),
}

/// The packet that goes out first, and the time of the content from which [`Until::For`](crate::session::Until::For)
/// counts and trick mode steps.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Place {
    /// It may be the one behind the last.
    pub packet: PacketNumber,
    /// Without the preroll.
    pub time: Duration,
}

impl Start {
    /// What `play` names, in content with this header. No time is later than the content ends.
    pub fn of(play: &Play, header: &Header) -> Self {
        match play.from {
            Position::Default if play.rate < 0.0 => Self::Time(header.duration()),
            Position::Default => Self::Time(Duration::ZERO),
            Position::Time(time) => Self::Time(time.min(header.duration())),
            Position::Packet(number) => Self::Packet(number),
            Position::Byte(at) => {
                let data_offset = header.bytes().len() as u64;
                let packet_size = u64::from(header.file().packet_size);
                Self::Packet(PacketNumber(at.saturating_sub(data_offset).checked_div(packet_size).unwrap_or(0)))
            }
        }
    }

    /// Looks it up; after [`Access::NotYet`] it is asked again. Never absent. It fails on a packet behind the end, and as
    /// the archive does.
    pub fn locate(self, archive: &mut impl Archive) -> Access<Place> {
        match self {
            Self::Time(Duration::ZERO) => Access::There(Place { packet: PacketNumber(0), time: Duration::ZERO }),
            Self::Time(time) => match archive.key_frame_at(time) {
                Access::There(packet) => Access::There(Place { packet, time }),
                Access::Absent => Access::There(Place { packet: PacketNumber(0), time }),
                Access::NotYet => Access::NotYet,
                Access::Failed(refusal) => Access::Failed(refusal),
            },
            Self::Packet(packet) => locate_packet(packet, archive),
        }
    }
}

/// A packet's time is when it is sent, or the next that is there.
fn locate_packet(packet: PacketNumber, archive: &mut impl Archive) -> Access<Place> {
    let end = archive.end();
    // The number behind the last is no place to play from, but a player that stopped at the very end resumes there.
    if let Some(end) = end.filter(|&end| packet > end) {
        return Access::Failed(Refusal::new(Reason::Invalid, format!("packet {packet} of a file of {end}")));
    }
    let last = end.map_or(u64::MAX, |end| end.0.saturating_sub(1));
    let first = packet.0.min(last);
    for number in (first..=last).take(MAX_ABSENT) {
        match archive.packet(PacketNumber(number)) {
            Access::There(found) => {
                return Access::There(Place { packet, time: Duration::from_millis(found.send_time_ms.into()) });
            }
            Access::Absent => {}
            Access::NotYet => return Access::NotYet,
            Access::Failed(refusal) => return Access::Failed(refusal),
        }
    }
    Access::There(Place { packet, time: Duration::ZERO })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::archive::testing::{Memory, clip};

    fn start(from: Position) -> Start {
        Start::of(&Play::from(from), clip(5).file.header())
    }

    fn located(from: Position, archive: Memory) -> Access<(u64, u128)> {
        let mut archive = archive;
        match start(from).locate(&mut archive) {
            Access::There(place) => Access::There((place.packet.0, place.time.as_millis())),
            Access::Absent => Access::Absent,
            Access::NotYet => Access::NotYet,
            Access::Failed(refusal) => Access::Failed(refusal),
        }
    }

    fn packet(number: u64) -> Position {
        Position::Packet(PacketNumber(number))
    }

    #[test]
    fn a_play_without_a_place_begins_at_the_beginning_and_backwards_at_the_end() {
        assert_eq!(start(Position::Default), Start::Time(Duration::ZERO));
        let backwards = Play { rate: -1.0, ..Play::from(Position::Default) };
        let duration = clip(5).file.header().duration();
        assert_eq!(Start::of(&backwards, clip(5).file.header()), Start::Time(duration));
        assert_eq!(start(Position::Time(Duration::MAX)), Start::Time(duration));
    }

    #[test]
    fn a_byte_of_the_file_names_the_packet_that_holds_it() {
        let header = clip(5).file.data_offset();
        for (byte, packet) in [(0, 0), (header, 0), (header + 500 * 5 - 1, 4), (header + 500 * 5, 5)] {
            assert_eq!(start(Position::Byte(byte)), Start::Packet(PacketNumber(packet)), "byte {byte}");
        }
    }

    #[test]
    fn the_beginning_is_found_without_a_question() {
        assert_eq!(located(Position::Default, clip(5).not_yet([true])), Access::There((0, 0)));
    }

    #[test]
    fn a_time_leads_to_the_key_frame_before_it() {
        let time = Position::Time(Duration::from_millis(1700));
        let (key_frame, begins) = clip(5).key_frames().nth(3).unwrap();
        assert_eq!(begins, Duration::from_millis(1500));
        assert_eq!(located(time, clip(5)), Access::There((key_frame.0, 1700)));
        assert_eq!(located(time, clip(5).not_yet([true])), Access::NotYet);
    }

    #[test]
    fn the_number_behind_the_last_is_a_place_and_further_on_is_refused() {
        let count = clip(5).file.packet_count();
        let Access::There((number, ms)) = located(packet(count), clip(5)) else { panic!("refused") };
        assert!(number == count && ms >= 3900);
        let Access::Failed(refusal) = located(packet(count + 1), clip(5)) else { panic!("located") };
        assert_eq!(refusal.to_string(), format!("packet {} of a file of {count}", count + 1));
        assert_eq!(refusal.reason, Reason::Invalid);
    }

    #[test]
    fn the_time_of_a_packet_that_is_not_there_is_that_of_the_next() {
        assert_eq!(located(packet(7), clip(5).not_yet([true])), Access::NotYet);
        let next = located(packet(8), clip(5));
        let Access::There((7, ms)) = located(packet(7), clip(5).absent([7])) else { panic!("not there") };
        assert_eq!(next, Access::There((8, ms)));
        assert_eq!(located(packet(0), clip(5).absent(0..2000)), Access::There((0, 0)));
    }
}
