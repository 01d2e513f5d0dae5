//! The file that is served: as ASF, and as what of it goes over the wire. Each packet is stamped with its number.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;

use anyhow::Context;
use mmsproxy::asf::Writer;
use mmsproxy::wire::mmsp::data::{HEADER_LEN, encode_header};
use mmsproxy::wire::mmsp::ids::LocationId;

use crate::common::handshake::incarnation;
use crate::common::script::start_playing;
use crate::common::shape::Shape;

/// Of the file with the Data packets.
pub const FRAMED: &str = "content.mms";
/// Of the ASF file.
const ASF: &str = "content.asf";

/// A file in a directory of its own.
#[derive(Debug)]
pub struct Content {
    pub shape: Shape,
    pub packets: u64,
    pub dir: PathBuf,
}

impl Content {
    /// Writes both.
    pub fn write(dir: PathBuf, shape: Shape, packets: u64) -> anyhow::Result<Self> {
        std::fs::create_dir(&dir).with_context(|| format!("can't make {}", dir.display()))?;
        let header = shape.header()?;
        let mut asf = Writer::new(BufWriter::new(File::create(dir.join(ASF))?), &header)?;
        let mut framed = BufWriter::new(File::create(dir.join(FRAMED))?);
        let incarnation = incarnation(start_playing().play_incarnation)?;
        for number in 0..packets {
            let packet = shape.packet(number, number);
            asf.push(&packet)?;
            framed.write_all(&encode_header(LocationId(number as u32), incarnation, number as u8, packet.len()))?;
            framed.write_all(&packet)?;
        }
        asf.finish()?;
        framed.flush()?;
        Ok(Self { shape, packets, dir })
    }

    pub fn asf(&self) -> PathBuf {
        self.dir.join(ASF)
    }

    /// Bytes of all packets.
    pub fn bytes(&self) -> u64 {
        self.packets * self.shape.packet as u64
    }
}

/// Bytes per second of the file with the Data packets, where the ASF packets go at the content's bit rate.
pub fn framed_rate(shape: Shape) -> u64 {
    shape.rate * framed_packet(shape) / (8 * shape.packet as u64)
}

/// Bytes of a Data packet.
pub fn framed_packet(shape: Shape) -> u64 {
    (HEADER_LEN + shape.packet) as u64
}
