//! Any header parses or errs; what parses has a rate, a duration and a broadcast form that parses again.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use mmsproxy::asf::Header;

fuzz_target!(|bytes: &[u8]| {
    let Ok(header) = Header::parse(Bytes::copy_from_slice(bytes)) else {
        return;
    };
    assert!(header.bit_rate() > 0);
    assert!(header.bytes().ends_with(&[1, 1]));
    header.duration();
    let broadcast = header.as_broadcast();
    assert!(broadcast.is_live());
    assert_eq!(Header::parse(broadcast.bytes().clone()), Ok(broadcast));
});
