//! Bytes to values and back. No I/O, no clock, no state but the deframer's buffer, and no input that panics.
//!
//! What decoding hands out shares the received buffer; what encoding writes is the canonical form, whatever was read.

pub mod codec;
pub mod mmsp;
