//! The synthetic broadcast: packets on the air, each with the time at which it was due, so that whoever receives it knows how
//! long it was on its way.

use std::time::Duration;

use bytes::Bytes;

use crate::common::shape::{Shape, now};

/// A broadcast on the air.
#[derive(Debug)]
pub struct Broadcast {
    shape: Shape,
    /// When packet 0 was due, in nanoseconds of the wall clock.
    began: u64,
    next: u64,
}

impl Broadcast {
    /// One that began `ago`, so that there is a past to join at.
    pub fn begun(shape: Shape, ago: Duration) -> Self {
        Self { shape, began: now() - ago.as_nanos() as u64, next: 0 }
    }

    /// When the next packet is due, in nanoseconds of the wall clock.
    pub fn due(&self) -> u64 {
        self.began + self.shape.offset(self.next)
    }

    /// The next packet, if it is due.
    pub fn next_packet(&mut self, now: u64) -> Option<Bytes> {
        let due = self.due();
        if due > now {
            return None;
        }
        let number = self.next;
        self.next += 1;
        Some(self.shape.packet(number, due).into())
    }
}
