//! StreamSwitch, `[MS-MMSP]` 2.2.4.28, in words that every protocol knows.

use crate::asf::{StreamNumber, Thinning};
use crate::session::StreamChoice;
use crate::wire::mmsp::viewer_to_mac::{StreamSwitch, StreamSwitchEntry};

/// "No stream" in either field of an entry.
const NONE: u16 = 0xFFFF;

/// What the entries ask for. Entries that name no stream that can exist say nothing: xine sends zeros.
pub(super) fn choices(switch: &StreamSwitch) -> Vec<StreamChoice> {
    switch.entries.iter().filter_map(choice).collect()
}

fn choice(entry: &StreamSwitchEntry) -> Option<StreamChoice> {
    let source = StreamNumber::new(entry.src_stream_number);
    // The texts say that the level counts for nothing when the *source* is 0xFFFF. Every player switches streams off by
    // just that (0xFFFF, n, 2), so it is the destination that makes the level meaningless.
    if entry.dst_stream_number == NONE {
        return source.map(|stream| StreamChoice { replaces: None, stream, thinning: Thinning::Off });
    }
    let stream = StreamNumber::new(entry.dst_stream_number)?;
    let thinning = match entry.thinning_level {
        1 => Thinning::KeyFrames,
        2 => Thinning::Off,
        _ => Thinning::All,
    };
    Some(StreamChoice { replaces: source.filter(|source| *source != stream), stream, thinning })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(src: u16, dst: u16, level: u16) -> Option<(Option<u16>, u16, Thinning)> {
        choice(&StreamSwitchEntry { src_stream_number: src, dst_stream_number: dst, thinning_level: level })
            .map(|c| (c.replaces.map(|s| u16::from(s.get())), u16::from(c.stream.get()), c.thinning))
    }

    #[test]
    fn each_row_of_the_table_is_understood() {
        assert_eq!(of(NONE, 1, 0), Some((None, 1, Thinning::All)));
        assert_eq!(of(NONE, 1, 1), Some((None, 1, Thinning::KeyFrames)));
        assert_eq!(of(NONE, 1, 2), Some((None, 1, Thinning::Off)));
        assert_eq!(of(1, 2, 0), Some((Some(1), 2, Thinning::All)));
        assert_eq!(of(2, 2, 1), Some((None, 2, Thinning::KeyFrames)));
        assert_eq!(of(3, NONE, 0), Some((None, 3, Thinning::Off)));
        assert_eq!(of(NONE, NONE, 0), None);
        assert_eq!(of(0, 0, 0), None);
        assert_eq!(of(NONE, 200, 0), None);
    }
}
