//! Any file opens or errs; each packet it counts can be read, and any time leads to one of them.
#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use mmsproxy::asf::{File, PacketNumber};

fuzz_target!(|input: (u32, &[u8])| {
    let (ms, bytes) = input;
    let Ok(file) = File::open(bytes.to_vec()) else { return };
    if let Some(last) = file.packet_count().checked_sub(1) {
        assert_eq!(
            file.packet(PacketNumber(last)).unwrap().len(),
            file.header().packet_size()
        );
        assert!(file.packet_at(Duration::from_millis(ms.into())).unwrap().0 <= last);
    }
    assert!(file.packet(PacketNumber(file.packet_count())).is_err());
});
