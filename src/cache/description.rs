//! What an origin said of its content, as it is kept beside the ASF header.

use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes};

use crate::asf::Header;
use crate::session::{Description, Opened};

/// The first byte: what follows is written as below.
const VERSION: u8 = 1;
const CAN_SEEK: u8 = 1;
const CAN_STRIDE: u8 = 2;

/// Only content that may be kept: no broadcast, nothing live, no playlist, nothing that took a login.
pub fn encode(description: &Description) -> Bytes {
    let mut bytes = Vec::with_capacity(22);
    bytes.put_u8(VERSION);
    let flag = |is: bool, flag: u8| if is { flag } else { 0 };
    bytes.put_u8(flag(description.can_seek, CAN_SEEK) | flag(description.can_stride, CAN_STRIDE));
    bytes.put_u64_le(description.duration_seconds.to_bits());
    bytes.put_u64_le(description.packet_count);
    bytes.put_u32_le(description.bit_rate);
    bytes.into()
}

/// `None` where it makes no sense.
pub fn decode(description: &Bytes, header: &Bytes) -> Option<Opened> {
    let mut bytes = &description[..];
    if bytes.try_get_u8().ok()? != VERSION {
        return None;
    }
    let flags = bytes.try_get_u8().ok()?;
    let duration_seconds = f64::from_bits(bytes.try_get_u64_le().ok()?);
    let packet_count = bytes.try_get_u64_le().ok()?;
    let bit_rate = bytes.try_get_u32_le().ok()?;
    let description = Description {
        can_seek: flags & CAN_SEEK != 0,
        can_stride: flags & CAN_STRIDE != 0,
        duration_seconds,
        packet_count,
        bit_rate,
        ..Description::default()
    };
    Some(Opened { description, header: Arc::new(Header::parse(header.clone()).ok()?) })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CLIP: &[u8] = include_bytes!("../../tests/vectors/asf/ffmpeg-clip.asf");

    fn header() -> Bytes {
        Header::parse(Bytes::from_static(CLIP)).unwrap().bytes().clone()
    }

    #[test]
    fn what_was_said_is_kept() {
        let said = Description {
            can_seek: true,
            can_stride: true,
            duration_seconds: 12.25,
            packet_count: 1 << 40,
            bit_rate: 300_000,
            ..Description::default()
        };
        assert_eq!(decode(&encode(&said), &header()).unwrap().description, said);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = decode(&bytes.into(), &header());
        }
    }
}
