//! The body that a challenge and its response have in common, [MS-MMSP] 2.2.4.14 and 2.2.4.24: both echo the same two
//! numbers and carry a token.

use bytes::Bytes;

use crate::wire::codec::{DecodeError, Reader, len_u32};

/// `playIncarnation`, `cookie` and `pToken` of the message `what`; the token shares `body`.
pub(super) fn decode(what: &'static str, body: &Bytes) -> Result<(u32, u32, Bytes), DecodeError> {
    let mut r = Reader::new(what, body);
    let play_incarnation = r.u32()?;
    let cookie = r.u32()?;
    let token_len = usize::try_from(r.u32()?).unwrap_or(usize::MAX);
    let token = body.slice_ref(r.bytes(token_len)?);
    Ok((play_incarnation, cookie, token))
}

/// Appends the three, with `cbToken` before the token.
pub(super) fn encode(play_incarnation: u32, cookie: u32, token: &[u8], out: &mut Vec<u8>) {
    out.extend(play_incarnation.to_le_bytes());
    out.extend(cookie.to_le_bytes());
    out.extend(len_u32(token.len()).to_le_bytes());
    out.extend_from_slice(token);
}
