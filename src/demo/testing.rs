//! A short clip that the tests of this room share, and readers of cursors.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::Bytes;

use super::content::demo_file;
use super::on_demand::OnDemand;
use super::storage::Storage;
use crate::session::{Cursor, End, Next, Packet};

static CLIP: LazyLock<Bytes> = LazyLock::new(|| demo_file(Duration::from_secs(4)).unwrap().into());

/// Four seconds of generated content.
pub(super) fn clip_bytes() -> Bytes {
    CLIP.clone()
}

/// The same, open.
pub(super) fn clip() -> Arc<OnDemand> {
    Arc::new(OnDemand::open(Storage::Memory(clip_bytes())).unwrap())
}

/// All packets up to a good end.
pub(super) fn collect(cursor: &mut dyn Cursor) -> Vec<Arc<Packet>> {
    let mut packets = Vec::new();
    loop {
        match cursor.next() {
            Next::Packet(packet) => packets.push(packet),
            Next::Ended(End::Complete) => return packets,
            other => panic!("{other:?} after {} packets", packets.len()),
        }
    }
}

pub(super) fn numbers(packets: &[Arc<Packet>]) -> Vec<u64> {
    packets.iter().map(|packet| packet.number.0).collect()
}
