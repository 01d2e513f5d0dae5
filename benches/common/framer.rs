//! What a server sends, cut into packets of messages and Data packets. Of a Data packet only the beginning is looked at, and
//! bytes are set aside only where a read ends within what has to be looked at.

use anyhow::{Context, ensure};
use mmsproxy::wire::mmsp::data::HEADER_LEN;
use mmsproxy::wire::mmsp::header::{PREFIX_LEN, SESSION_ID, TcpMessageHeader};

use super::shape::{MARK, MARK_AT, STAMP_END};

/// A place in the stream of one viewer.
#[derive(Debug, Default)]
pub struct Framer {
    /// The beginning of a packet.
    held: Vec<u8>,
    /// Bytes of the last packet that are not worth a look.
    skip: usize,
}

/// What was found.
pub enum Piece<'a> {
    /// A whole packet of messages.
    Messages(&'a [u8]),
    Data(DataHead<'a>),
}

/// The beginning of a Data packet.
pub struct DataHead<'a> {
    pub location: u32,
    pub flags: u8,
    payload: &'a [u8],
}

impl DataHead<'_> {
    /// What the packet was stamped with.
    pub fn stamp(&self) -> anyhow::Result<u64> {
        let mark = self.payload.get(MARK_AT..MARK_AT + MARK.len());
        ensure!(mark == Some(&MARK), "a packet without the mark");
        let stamp = self.payload.get(MARK_AT + MARK.len()..STAMP_END).context("a packet without a stamp")?;
        Ok(u64::from_le_bytes(stamp.try_into()?))
    }
}

/// How much of a packet is looked at, and its length.
struct Extent {
    needed: usize,
    whole: usize,
}

impl Framer {
    /// Leaves out so many bytes before it looks again.
    pub fn leave_out(&mut self, bytes: usize) {
        self.skip += bytes;
    }

    /// Takes what was read.
    pub fn feed(
        &mut self,
        mut input: &[u8],
        mut take: impl FnMut(Piece<'_>) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        loop {
            let skipped = self.skip.min(input.len());
            self.skip -= skipped;
            input = &input[skipped..];
            if input.is_empty() {
                return Ok(());
            }
            if self.held.is_empty() {
                match extent(input)? {
                    Some(Extent { needed, whole }) if needed <= input.len() => {
                        take(piece(&input[..needed]))?;
                        self.skip = whole - needed;
                        input = &input[needed..];
                    }
                    _ => {
                        self.held.extend_from_slice(input);
                        return Ok(());
                    }
                }
                continue;
            }
            let wanted = match extent(&self.held)? {
                Some(extent) => extent.needed,
                None if self.held.len() < HEADER_LEN => HEADER_LEN,
                None => PREFIX_LEN,
            };
            let taken = wanted.saturating_sub(self.held.len()).min(input.len());
            self.held.extend_from_slice(&input[..taken]);
            input = &input[taken..];
            if let Some(Extent { needed, whole }) = extent(&self.held)?
                && self.held.len() >= needed
            {
                take(piece(&self.held[..needed]))?;
                // Nothing is kept between packets: most viewers never need it again.
                self.held = Vec::new();
                self.skip = whole - needed;
            }
        }
    }
}

/// `None` until enough has come to tell.
fn extent(packet: &[u8]) -> anyhow::Result<Option<Extent>> {
    let Some(head) = packet.first_chunk::<HEADER_LEN>() else { return Ok(None) };
    let [.., s0, s1, s2, s3] = *head;
    if u32::from_le_bytes([s0, s1, s2, s3]) == SESSION_ID {
        let Some(prefix) = packet.first_chunk::<PREFIX_LEN>() else { return Ok(None) };
        let whole = usize::try_from(TcpMessageHeader::packet_len(TcpMessageHeader::decode_prefix(prefix)?))?;
        return Ok(Some(Extent { needed: whole, whole }));
    }
    let whole = usize::from(u16::from_le_bytes([s2, s3]));
    ensure!(whole >= HEADER_LEN, "a Data packet of {whole} bytes");
    Ok(Some(Extent { needed: whole.min(HEADER_LEN + STAMP_END), whole }))
}

/// One packet, as it comes in a datagram.
pub fn piece(bytes: &[u8]) -> Piece<'_> {
    match bytes {
        [_, _, _, _, s0, s1, s2, s3, ..] if u32::from_le_bytes([*s0, *s1, *s2, *s3]) == SESSION_ID => {
            Piece::Messages(bytes)
        }
        [l0, l1, l2, l3, _, flags, _, _, payload @ ..] => {
            Piece::Data(DataHead { location: u32::from_le_bytes([*l0, *l1, *l2, *l3]), flags: *flags, payload })
        }
        _ => Piece::Messages(&[]),
    }
}
