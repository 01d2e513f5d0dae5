//! StreamSwitch: the complete state of all streams before a start, and what changed while streaming, `[MS-MMSP]` 3.1.4.2
//! and 3.1.4.3.

use super::Client;
use super::state::State;
use crate::asf::{StreamNumber, Thinning};
use crate::session::StreamChoice;
use crate::wire::mmsp::viewer_to_mac as out;

/// "No stream" in an entry of StreamSwitch.
const NO_STREAM: u16 = 0xFFFF;

impl Client {
    pub(super) fn select(&mut self, choices: &[StreamChoice]) {
        let is_streaming = matches!(self.state, State::Starting(_) | State::Streaming(_));
        let Some(content) = &mut self.content else { return };
        if !content.is_selected {
            content.is_selected = true;
            if !is_streaming {
                content.selection.values_mut().for_each(|thinning| *thinning = Thinning::Off);
            }
        }
        let mut changed = Vec::new();
        for choice in choices {
            let Some(thinning) = content.selection.get_mut(&choice.stream) else { continue };
            let before = std::mem::replace(thinning, choice.thinning);
            if let Some(replaced) = choice.replaces {
                content.selection.entry(replaced).and_modify(|thinning| *thinning = Thinning::Off);
            }
            if before != choice.thinning || choice.replaces.is_some() {
                changed.push(*choice);
            }
        }
        if is_streaming {
            // What was wanted of a stream before counts no more; so what waits is never more than there are streams.
            self.choices.retain(|old| changed.iter().all(|new| new.stream != old.stream));
            self.choices.extend(changed);
            self.switch_what_waits();
        }
    }

    /// Sends the changes that have gathered; one StreamSwitch may be outstanding.
    pub(super) fn switch_what_waits(&mut self) {
        if self.switches_out > 0 || self.choices.is_empty() || !matches!(self.state, State::Streaming(_)) {
            return;
        }
        let entries = std::mem::take(&mut self.choices).into_iter().map(|choice| match choice.replaces {
            Some(old) => entry(u16::from(old.get()), choice.stream, choice.thinning),
            None => entry(NO_STREAM, choice.stream, choice.thinning),
        });
        let entries = entries.collect();
        self.send(out::StreamSwitch { entries });
        self.switches_out = self.switches_out.saturating_add(1);
    }

    pub(super) fn send_selection(&mut self) {
        let Some(content) = &self.content else { return };
        let entries = content.selection.iter().map(|(stream, thinning)| entry(NO_STREAM, *stream, *thinning)).collect();
        self.send(out::StreamSwitch { entries });
        self.switches_out = self.switches_out.saturating_add(1);
    }
}

/// An entry of StreamSwitch. A stream that is off is named as source, for the destination 0xFFFF says so (3.1.4.2).
fn entry(source: u16, stream: StreamNumber, thinning: Thinning) -> out::StreamSwitchEntry {
    let number = u16::from(stream.get());
    let (src_stream_number, dst_stream_number, thinning_level) = match thinning {
        Thinning::All => (source, number, 0),
        Thinning::KeyFrames => (source, number, 1),
        Thinning::Off => (number, NO_STREAM, 0),
    };
    out::StreamSwitchEntry { src_stream_number, dst_stream_number, thinning_level }
}
