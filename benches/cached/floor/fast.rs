//! All that a socket takes: a thread for each viewer, which reads 64 packets and writes them in one call.

use std::io::{IoSlice, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use mmsproxy::wire::mmsp::ids::Incarnation;

use super::packets::{Packets, Run};

/// Packets of one call.
const PACKETS_PER_CALL: u64 = 64;

/// Sends the file from packet `first` on, `at_most` so many bits in a second; returns the socket as it was.
pub fn send(
    mut stream: TcpStream,
    packets: &Packets,
    first: u64,
    incarnation: Incarnation,
    at_most: Option<u64>,
) -> anyhow::Result<TcpStream> {
    stream.set_nonblocking(false)?;
    let (began, mut run) = (Instant::now(), Run::default());
    let mut next = first;
    while next < packets.count() {
        if let Some(rate) = at_most {
            let bits = (next - first) * packets.shape.packet as u64 * 8;
            let due = Duration::from_secs_f64(bits as f64 / rate as f64);
            thread::sleep(due.saturating_sub(began.elapsed()));
        }
        let count = PACKETS_PER_CALL.min(packets.count() - next);
        packets.read(next, count as usize, incarnation, &mut run)?;
        let mut slices = run.slices();
        let mut slices = &mut slices[..];
        while !slices.is_empty() {
            let written = stream.write_vectored(slices)?;
            anyhow::ensure!(written > 0, "the socket takes nothing");
            IoSlice::advance_slices(&mut slices, written);
        }
        next += count;
    }
    stream.set_nonblocking(true)?;
    Ok(stream)
}
