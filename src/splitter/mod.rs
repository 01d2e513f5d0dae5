//! One upstream broadcast, many viewers.

mod continuity;

pub use continuity::{Continuity, Parts, Return};
