//! Any datagram decodes or errs; what decodes comes back.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mmsproxy::wire::mmsp::resend::RequestPacketListResend;

fuzz_target!(|datagram: &[u8]| {
    let Ok(request) = RequestPacketListResend::decode(datagram) else {
        return;
    };
    let mut out = Vec::new();
    request.encode(&mut out);
    assert_eq!(datagram.get(..out.len()), Some(&out[..]));
    assert_eq!(RequestPacketListResend::decode(&out), Ok(request));
});
