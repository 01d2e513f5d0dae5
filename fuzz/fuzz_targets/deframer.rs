//! Any stream gives the same frames and the same error, whole or in pieces. The first bytes say where it is cut.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mmsproxy::wire::{
    codec::DecodeError,
    mmsp::deframer::{Deframer, Frame},
};

fuzz_target!(|input: (bool, [u8; 3], &[u8])| {
    let (server, pieces, stream) = input;
    let deframer = || {
        if server {
            Deframer::for_server()
        } else {
            Deframer::for_client()
        }
    };
    let whole = frames(deframer(), [stream]);
    let mut rest = stream;
    let mut cut = Vec::new();
    for piece in pieces {
        let (start, end) = rest.split_at(rest.len().min(piece.into()));
        cut.push(start);
        rest = end;
    }
    cut.push(rest);
    assert_eq!(frames(deframer(), cut), whole);
});

fn frames<'a>(mut deframer: Deframer, pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Frame>, Option<DecodeError>) {
    let mut frames = Vec::new();
    for piece in pieces {
        deframer.buffer().extend_from_slice(piece);
        loop {
            match deframer.next_frame() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(error) => return (frames, Some(error)),
            }
        }
    }
    (frames, None)
}
