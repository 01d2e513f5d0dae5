//! Any bytes decode or are too short; what decodes comes back.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mmsproxy::wire::mmsp::client_log::{self, ClientLog};

fuzz_target!(|bytes: &[u8]| {
    let Ok(log) = ClientLog::decode(bytes) else {
        assert!(bytes.len() < client_log::LEN);
        return;
    };
    let mut out = Vec::new();
    log.encode(&mut out);
    assert_eq!(out.len(), client_log::LEN);
    assert_eq!(ClientLog::decode(&out), Ok(log));
});
