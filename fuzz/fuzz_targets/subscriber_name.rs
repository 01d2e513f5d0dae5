//! Any bytes are some `subscriberName`; it comes back, and one that was forwarded still says what the client said.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mmsproxy::wire::{codec::utf16_with_nuls, mmsp::subscriber_name::SubscriberName};

fuzz_target!(|field: &[u8]| {
    let name = SubscriberName::parse(&utf16_with_nuls(field));
    assert_eq!(SubscriberName::parse(&utf16_with_nuls(&name.to_wire())), name);
    let forwarded = name.forwarded("ms.example.net:1755", "mmsproxy/1.0");
    assert_eq!(SubscriberName::parse(&utf16_with_nuls(&forwarded.to_wire())), forwarded);
    assert_eq!(forwarded.product_version(), name.product_version());
    assert_eq!(forwarded.is_wms4(), name.is_wms4());
});
