//! Datagrams of many viewers that leave in one call: to enter the kernel for each viewer, and to lose the core at each return to
//! whoever they are for, costs as much as some of the datagrams themselves.

use std::sync::Arc;

use nix::errno::Errno;

use super::Viewer;
use super::facts::Tally;
use crate::server::udp::{Parcel, Port, Target, send_parcels};
use crate::session::batch::Batch;

/// Parcels that leave in one call at most, more or less: those of a burst go with it.
const AT_ONCE: usize = 64;

/// What viewers were given in their turns and has not left yet.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    batch: Batch,
    letters: Vec<Letter>,
}

/// A parcel, whose datagrams stand in the batch in the order of the letters.
#[derive(Debug)]
struct Letter {
    viewer: Arc<Viewer>,
    port: Arc<Port>,
    parcel: Parcel,
}

impl Outbox {
    /// Takes datagrams to a viewer as far as they can leave as parcels; the others stay in `datagrams`.
    pub(super) fn post(&mut self, viewer: &Arc<Viewer>, port: &Arc<Port>, target: &Target, datagrams: &mut Batch) {
        while let Some(parcel) = target.parcel(datagrams) {
            datagrams.move_pieces(parcel.datagrams, &mut self.batch);
            self.letters.push(Letter { viewer: Arc::clone(viewer), port: Arc::clone(port), parcel });
        }
    }

    /// Whether it is time to send them.
    pub(super) fn is_full(&self) -> bool {
        self.letters.len() >= AT_ONCE
    }

    /// Sends all of them. What the socket does not take goes back to its viewer, and is not counted. Takes the locks of
    /// viewers.
    pub(super) fn send(&mut self, tally: &mut Tally) {
        let mut parcels = Vec::with_capacity(self.letters.len());
        let mut letters = self.letters.iter().peekable();
        while let Some(&first) = letters.peek() {
            parcels.clear();
            let together = letters.clone().take_while(|letter| letter.goes_with(first));
            parcels.extend(together.map(|letter| letter.parcel));
            let result = match first.port.socket(first.viewer.id) {
                Some(socket) => send_parcels(socket, &parcels, &self.batch),
                None => Err(Errno::ENOTCONN),
            };
            match result {
                Ok(sent) => {
                    let sent = letters.by_ref().take(sent).map(|letter| letter.parcel.datagrams).sum();
                    self.batch.drop_pieces(sent);
                }
                Err(Errno::EINTR) => {}
                Err(error) => {
                    // Where there is no room, none of the others finds any.
                    let is_full = matches!(error, Errno::EAGAIN | Errno::ENOBUFS);
                    for letter in letters.by_ref().take(if is_full { parcels.len() } else { 1 }) {
                        let mut datagrams = Batch::new();
                        self.batch.move_pieces(letter.parcel.datagrams, &mut datagrams);
                        letter.viewer.take_back(datagrams, tally);
                    }
                }
            }
        }
        self.letters.clear();
        self.batch.clear();
    }
}

impl Letter {
    fn goes_with(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.port, &other.port) && self.parcel.goes_with(&other.parcel)
    }
}
