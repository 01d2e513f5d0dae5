//! The numbers that tie Data packets to requests, as Windows Media Format 9 clients give them: `[MS-MMSP]` 3.1.1.

/// HeaderIncarnation and PlayIncarnation. Their ranges do not meet, so a header is never taken for media.
#[derive(Clone, Debug)]
pub(super) struct Incarnations {
    header: u8,
    play: u8,
}

const FIRST_HEADER: u8 = 1;
const LAST_HEADER: u8 = 8;
const FIRST_PLAY: u8 = 9;
const LAST_PLAY: u8 = 0xFE;

impl Incarnations {
    pub(super) fn new() -> Self {
        Self { header: FIRST_HEADER, play: FIRST_PLAY }
    }

    /// The number for the next ReadBlock.
    pub(super) fn next_header(&mut self) -> u8 {
        let value = self.header;
        self.header = if value >= LAST_HEADER { FIRST_HEADER } else { value + 1 };
        value
    }

    /// The number for the next OpenFile, StartPlaying or StartStriding.
    pub(super) fn next_play(&mut self) -> u8 {
        let value = self.play;
        self.play = if value >= LAST_PLAY { FIRST_PLAY } else { value + 1 };
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ranges_never_meet_and_never_reach_0_or_ff() {
        let mut numbers = Incarnations::new();
        let headers: Vec<u8> = (0..9).map(|_| numbers.next_header()).collect();
        assert_eq!(headers, [1, 2, 3, 4, 5, 6, 7, 8, 1]);
        let plays: Vec<u8> = (0..247).map(|_| numbers.next_play()).collect();
        assert_eq!((plays[0], plays[245], plays[246]), (9, 0xFE, 9));
    }
}
