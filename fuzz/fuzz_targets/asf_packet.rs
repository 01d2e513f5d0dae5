//! Any packet parses or errs; stripping, restoring, filtering and moving one keeps its payloads. The first bytes say how
//! much padding is put back, and which streams pass.
#![no_main]

use bytes::{Bytes, BytesMut};
use libfuzzer_sys::fuzz_target;
use mmsproxy::asf::{
    Gate, HeaderBuilder, Loop, Outline, Packet, Shift, StreamKind, StreamNumber, Thinning,
    padding::{restore, strip, strip_in_place},
};

fuzz_target!(|input: (u8, [u8; 4], &[u8])| {
    let (more, levels, bytes) = input;
    let bytes = Bytes::copy_from_slice(bytes);
    let Ok(packet) = Packet::parse(&bytes) else {
        assert_eq!(strip(bytes.clone()), bytes);
        return;
    };
    let stripped = strip(bytes.clone());
    assert!(stripped.len() <= bytes.len());
    assert_eq!(payloads(&stripped), payloads(&bytes));
    let mut owned = BytesMut::from(&bytes[..]);
    strip_in_place(&mut owned);
    assert_eq!(owned, stripped);

    let size = bytes.len() + usize::from(more);
    let restored = restore(&bytes, size).unwrap();
    assert_eq!(restored.len(), size);
    assert_eq!(payloads(&restored), payloads(&bytes));
    assert_eq!(restore(&stripped, size).unwrap(), restored);

    let numbers = || (1..).filter_map(StreamNumber::new).zip(levels);
    let header = numbers().fold(HeaderBuilder::new(1000), |header, (number, level)| {
        let kind = if level & 4 == 0 {
            StreamKind::Video
        } else {
            StreamKind::Audio
        };
        header.stream(number, kind, 0, Vec::new())
    });
    let mut gate = Gate::new(&header.build().unwrap());
    for (number, level) in numbers() {
        gate.select(
            number,
            [Thinning::All, Thinning::KeyFrames, Thinning::Off][usize::from(level % 3)],
        );
    }
    for _ in 0..2 {
        let kept = gate.pass(&Outline::of(&packet));
        let thin = kept.apply(&bytes).unwrap();
        if kept.is_empty() {
            assert!(thin.is_empty());
        } else {
            assert!(thin.len() <= bytes.len());
            let all = payloads(&bytes);
            let mut rest = all.iter();
            assert!(payloads(&thin).iter().all(|kept| rest.any(|payload| payload == kept)));
        }
    }

    let there = Shift {
        send_ms: 1 << 31,
        presentation_ms: 1 << 31,
        object_numbers: Vec::new(),
    };
    assert_eq!(there.apply(&there.apply(&bytes).unwrap()).unwrap(), bytes);
    let mut round = Loop::new();
    round.push(&packet);
    round.round(u64::MAX);
});

/// Header and data of each payload, as bytes.
fn payloads(bytes: &[u8]) -> Vec<Vec<u8>> {
    let packet = Packet::parse(bytes).unwrap();
    packet.payloads().map(|payload| bytes[payload.span].to_vec()).collect()
}
