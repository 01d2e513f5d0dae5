//! Any body for any message of a client decodes or errs; what decodes comes back, compared as bytes because a DOUBLE may be NaN.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use mmsproxy::wire::mmsp::{
    deframer::{Deframer, Frame, Limits},
    raw_message::RawMessage,
    viewer_to_mac::Message,
};

fuzz_target!(|input: (u8, &[u8])| {
    let (low, body) = input;
    let body = Bytes::copy_from_slice(body);
    let Ok(message) = Message::decode(&RawMessage {
        mid: 0x0003_0000 | u32::from(low),
        body,
    }) else {
        return;
    };
    let first = packet(&message);
    assert_eq!(packet(&decode(&first)), first, "{message:?}");
});

fn packet(message: &Message) -> Vec<u8> {
    let mut out = Vec::new();
    message.encode(0, &mut out);
    out
}

fn decode(packet: &[u8]) -> Message {
    // What we encode is never cut into anything but itself; our own limit is for what others send.
    let mut deframer = Deframer::for_client().with_limits(Limits { control: usize::MAX });
    deframer.buffer().extend_from_slice(packet);
    match deframer.next_frame() {
        Ok(Some(Frame::Message(raw))) => Message::decode(&raw).expect("what was encoded decodes"),
        other => panic!("{other:?}"),
    }
}
