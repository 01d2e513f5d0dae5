//! Open content as one viewer sees it: the header that it has, and what it lets through.

use std::sync::Arc;

use super::selection;
use crate::asf::{Gate, Header};
use crate::session::{Opened, StreamChoice};
use crate::wire::mmsp::viewer_to_mac::StreamSwitch;

/// Open content as one viewer sees it.
#[derive(Debug)]
pub(super) struct Content {
    /// What was told at OpenFile.
    pub(super) opened: Arc<Opened>,
    /// The header of the entry that plays.
    pub(super) header: Arc<Header>,
    /// What the viewer lets through.
    pub(super) gate: Gate,
    /// A StreamSwitch came.
    has_switched: bool,
}

impl Content {
    /// bit/s of the entry that plays; never 0.
    pub(super) fn bit_rate(&self) -> u32 {
        // The description is that of what was opened, and knows more of it than the header.
        if Arc::ptr_eq(&self.header, &self.opened.header) {
            self.opened.description.bit_rate
        } else {
            self.header.bit_rate()
        }
    }

    /// Nothing is selected yet: 3.2.5.11.
    pub(super) fn new(opened: Arc<Opened>) -> Self {
        let header = Arc::clone(&opened.header);
        let gate = Gate::new(&header);
        Self { opened, header, gate, has_switched: false }
    }

    /// Applies a selection; returns it for the source.
    pub(super) fn switch(&mut self, switch: &StreamSwitch) -> Vec<StreamChoice> {
        self.has_switched = true;
        let choices = selection::choices(switch);
        for choice in &choices {
            match choice.replaces {
                Some(old) => self.gate.replace(old, choice.stream, choice.thinning),
                None => self.gate.select(choice.stream, choice.thinning),
            }
        }
        choices
    }

    /// A player that never selected gets nothing, but WMS 4.x gets all: 3.2.5.11.
    pub(super) fn default_selection(&mut self, is_wms4: bool) {
        if !self.has_switched && is_wms4 {
            self.gate.all_on();
        }
    }
}
