//! A TCP byte stream, cut anywhere, into messages and Data packets: [MS-MMSP] 2.2.2 and 2.2.3.
//!
//! Eight bytes tell which of the two comes next. A length is judged as soon as it is there, before anything waits for the
//! bytes it promises. What is handed out shares the buffer.

use bytes::{Buf, Bytes, BytesMut};

pub use super::raw_message::RawMessage;
use super::{
    data::{self, Data},
    header::{self, TcpMessageHeader},
};
use crate::wire::codec::{DecodeError, Reader};

/// One thing that came.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Frame {
    /// A message, in the order of the stream; several may have come in one packet.
    Message(RawMessage),
    /// A Data packet.
    Data(Data),
}

/// What a peer may make us hold.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Bytes of a packet of messages, header included. The specification has no limit; the longest that players and servers
    /// send is Logging with 1536. A Data packet cannot be longer than 64 KiB.
    pub control: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { control: 64 * 1024 }
    }
}

/// Cuts what one peer sends.
///
/// Read into [`Deframer::buffer`], then call [`Deframer::next_frame`] until it says `None`. After an error the place in the
/// stream is lost: each further call gives the same error.
#[derive(Debug)]
pub struct Deframer {
    limits: Limits,
    peer: Peer,
    buffer: BytesMut,
    /// The rest of the message area that is being walked.
    messages: Bytes,
}

/// Who sends what we cut.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Peer {
    Client,
    Server,
}

/// What the first bytes of a packet announce.
enum Next {
    Messages { packet: usize },
    Data { packet: usize },
}

impl Deframer {
    /// For what a server sends, messages and Data packets, with other limits than the default.
    pub fn new(limits: Limits) -> Self {
        Self { limits, peer: Peer::Server, buffer: BytesMut::new(), messages: Bytes::new() }
    }

    /// For the client role: takes what servers send.
    pub fn for_client() -> Self {
        Self::new(Limits::default())
    }

    /// For the server role: takes what clients send, which is never a Data packet.
    pub fn for_server() -> Self {
        Self { peer: Peer::Client, ..Self::new(Limits::default()) }
    }

    /// With other limits.
    #[must_use]
    pub fn with_limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// Where the caller appends what it receives. Bytes already in it are not to be changed.
    pub fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// The next frame, or `None` until more bytes have come.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, DecodeError> {
        loop {
            if !self.messages.is_empty() {
                return RawMessage::take_from(&mut self.messages).map(Frame::Message).map(Some);
            }
            match self.peek()? {
                Some(Next::Messages { packet }) if packet <= self.buffer.len() => {
                    // A packet without messages is legal, so this may go around again.
                    self.messages = self.buffer.split_to(packet).freeze();
                    self.messages.advance(header::LEN.min(packet));
                }
                Some(Next::Data { packet }) if packet <= self.buffer.len() => {
                    let packet = self.buffer.split_to(packet).freeze();
                    return Data::decode(&packet).map(Frame::Data).map(Some);
                }
                _ => return Ok(None),
            }
        }
    }

    /// Gives back all memory, unless something incomplete is in it: for who reads seldom and has many of these.
    pub fn release(&mut self) {
        if self.buffer.is_empty() {
            self.buffer = BytesMut::new();
        }
        if self.messages.is_empty() {
            self.messages = Bytes::new();
        }
    }

    /// What comes next, once its length is known and accepted.
    fn peek(&self) -> Result<Option<Next>, DecodeError> {
        let Some((head, _)) = self.buffer.split_first_chunk::<{ data::HEADER_LEN }>() else {
            return Ok(None);
        };
        let [.., s0, s1, s2, s3] = *head;
        if u32::from_le_bytes([s0, s1, s2, s3]) != header::SESSION_ID {
            return match self.peer {
                Peer::Client => {
                    Err(DecodeError::WrongDirection { what: "a Data packet", from: "client", section: "2.2.2" })
                }
                Peer::Server => peek_data(head),
            };
        }
        let Some((prefix, _)) = self.buffer.split_first_chunk::<{ header::PREFIX_LEN }>() else {
            return Ok(None);
        };
        // Nothing in 2.2.2 keeps a Data packet from looking like a header so far: incarnation 0xCE, AFFlags 0xFA, 45067 bytes.
        if self.peer == Peer::Server && !TcpMessageHeader::is_signed(prefix) {
            return peek_data(head);
        }
        self.peek_messages(prefix)
    }

    fn peek_messages(&self, prefix: &[u8]) -> Result<Option<Next>, DecodeError> {
        let length = TcpMessageHeader::packet_len(TcpMessageHeader::decode_prefix(prefix)?);
        let limit = self.limits.control as u64;
        match usize::try_from(length) {
            Ok(packet) if length <= limit => Ok(Some(Next::Messages { packet })),
            _ => Err(DecodeError::TooLong { what: "a packet of messages", length, limit }),
        }
    }
}

fn peek_data(head: &[u8]) -> Result<Option<Next>, DecodeError> {
    let mut r = Reader::new("Data", head);
    r.skip(6)?;
    let packet = data::payload_len(r.u16()?)?.saturating_add(data::HEADER_LEN);
    Ok(Some(Next::Data { packet }))
}

/// Whether a connection opens as HTTP. libmms tries MMS over HTTP on this port first, VLC and MPlayer last, and each moves on
/// once it is closed.
pub fn looks_like_http(first_bytes: &[u8]) -> bool {
    first_bytes.starts_with(b"GET ") || first_bytes.starts_with(b"POST")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::mmsp::ids::{Incarnation, LocationId};

    fn packet(messages: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        TcpMessageHeader::for_messages(messages.len(), 0).encode(&mut out);
        out.extend_from_slice(messages);
        out
    }

    fn data(payload: &'static [u8]) -> Data {
        let (location_id, play_incarnation) = (LocationId(7), Incarnation::from_wire(4));
        Data { location_id, play_incarnation, af_flags: 7, payload: Bytes::from_static(payload) }
    }

    fn pong() -> RawMessage {
        RawMessage { mid: 0x0003_001B, body: Bytes::from_static(&[0; 8]) }
    }

    /// Feeds `stream` in pieces that end at `cuts`; what came out, and the error that ended it.
    fn frames(mut deframer: Deframer, stream: &[u8], cuts: &[usize]) -> (Vec<Frame>, Option<DecodeError>) {
        let mut frames = Vec::new();
        let mut from = 0;
        for to in cuts.iter().copied().chain([stream.len()]) {
            deframer.buffer().extend_from_slice(&stream[from..to]);
            from = to;
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

    fn refusal(deframer: Deframer, stream: &[u8]) -> String {
        frames(deframer, stream, &[]).1.unwrap().to_string()
    }

    /// Every client recorded, in a row, each after the other on one connection.
    const RECORDED: [&[u8]; 6] = [
        include_bytes!("../../../tests/vectors/clients/ffmpeg-5.1.9/mmst-stream.bin"),
        include_bytes!("../../../tests/vectors/clients/vlc-3.0.24/pause-resume-seek-stream.bin"),
        include_bytes!("../../../tests/vectors/clients/vlc-3.0.24/mmsu-stream.bin"),
        include_bytes!("../../../tests/vectors/clients/libmms-0.6.4/streamchange-stream.bin"),
        include_bytes!("../../../tests/vectors/clients/mplayer-1.5/mmst-stream.bin"),
        include_bytes!("../../../tests/vectors/clients/xine-1.2.13/mmst-stream.bin"),
    ];

    /// Recorded messages with everything a server may put between them: Data, an empty packet, two messages in one.
    fn busy_stream() -> Vec<u8> {
        let two = [1, 0, 0, 0, 7, 0, 4, 0, 2, 0, 0, 0, 0x1B, 0, 4, 0, 1, 2, 3, 4, 5, 6, 7, 8];
        let data = data(b"media");
        let mut stream = Vec::new();
        for recorded in RECORDED {
            stream.extend_from_slice(&data.header());
            stream.extend_from_slice(&data.payload);
            stream.extend_from_slice(recorded);
            stream.extend(packet(&[]));
            stream.extend(packet(&two));
        }
        stream
    }

    #[test]
    fn the_same_bytes_cut_at_every_possible_point_give_the_same_frames() {
        let stream = busy_stream();
        let (whole, error) = frames(Deframer::for_client(), &stream, &[]);
        assert_eq!(error, None);
        assert_eq!(whole.len(), 8 + 14 + 7 + 8 + 6 + 6 + 6 * 3);
        for cut in 0..stream.len() {
            assert_eq!(frames(Deframer::for_client(), &stream, &[cut]), (whole.clone(), None), "cut at {cut}");
        }
        let every: Vec<usize> = (0..stream.len()).collect();
        assert_eq!(frames(Deframer::for_client(), &stream, &every), (whole, None));
    }

    #[test]
    fn a_packet_may_carry_several_messages_or_none() {
        let two = [1, 0, 0, 0, 0x1B, 0, 3, 0, 2, 0, 0, 0, 0x1B, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let stream = [packet(&[]), packet(&two), packet(&[])].concat();
        let first = RawMessage { mid: 0x0003_001B, body: Bytes::new() };
        let expected = vec![Frame::Message(first), Frame::Message(pong())];
        assert_eq!(frames(Deframer::for_server(), &stream, &[]), (expected, None));
    }

    #[test]
    fn a_payload_is_not_copied() {
        let mut deframer = Deframer::for_client();
        deframer.buffer().extend_from_slice(&data(b"media").header());
        deframer.buffer().extend_from_slice(b"media");
        let place = deframer.buffer().as_ptr();
        let Ok(Some(Frame::Data(data))) = deframer.next_frame() else { panic!("no Data packet") };
        assert_eq!(data.payload.as_ptr(), place.wrapping_add(8));
    }

    #[test]
    fn a_data_packet_from_a_client_is_refused_by_name() {
        let data = data(b"media");
        let refused = refusal(Deframer::for_server(), &data.header());
        assert_eq!(refused, "a Data packet from a client ([MS-MMSP] 2.2.2)");
        assert_eq!(frames(Deframer::for_client(), &data.header(), &[]), (vec![], None));
    }

    #[test]
    fn a_length_is_refused_before_its_bytes_come() {
        let mut header = packet(&[0; 65_536]);
        header.truncate(16);
        let refused = refusal(Deframer::for_server(), &header);
        assert_eq!(refused, "a packet of messages of 65568 bytes, the limit is 65536");
        let small = Deframer::for_client().with_limits(Limits { control: 40 });
        assert_eq!(refusal(small, &packet(&[0; 16])), "a packet of messages of 48 bytes, the limit is 40");
        let refused = refusal(Deframer::for_client(), &[0, 0, 0, 0, 4, 0, 7, 0]);
        assert_eq!(refused, "PacketSize is 0x7, want 8 or more ([MS-MMSP] 2.2.2)");
    }

    #[test]
    fn an_unsigned_header_from_a_client_is_refused() {
        let mut bytes = packet(&[]);
        bytes[12] = b'X';
        let refused = refusal(Deframer::for_server(), &bytes);
        assert_eq!(refused, "seal is 0x20534d58, want 0x20534D4D ([MS-MMSP] 2.2.3)");
    }

    #[test]
    fn a_data_packet_that_looks_like_a_header_is_still_data() {
        static PAYLOAD: [u8; 45_059] = [0x82; 45_059];
        let (location_id, play_incarnation) = (LocationId(1), Incarnation::from_wire(0xCE));
        let data = Data { location_id, play_incarnation, af_flags: 0xFA, payload: Bytes::from_static(&PAYLOAD) };
        assert_eq!(data.header()[4..], header::SESSION_ID.to_le_bytes());
        let stream = [&data.header()[..], &data.payload[..]].concat();
        assert_eq!(frames(Deframer::for_client(), &stream, &[9]), (vec![Frame::Data(data)], None));
    }

    #[test]
    fn a_place_once_lost_stays_lost() {
        let mut deframer = Deframer::for_server();
        deframer.buffer().extend_from_slice(&packet(&[0, 0, 0, 0, 0x1B, 0, 3, 0]));
        let first = deframer.next_frame().unwrap_err();
        assert_eq!(first.to_string(), "chunkLen is 0x0, want 1 or more ([MS-MMSP] 2.2.4)");
        deframer.buffer().extend_from_slice(&packet(&[]));
        assert_eq!(deframer.next_frame(), Err(first));
    }

    #[test]
    fn http_on_our_port_is_recognised() {
        assert!(looks_like_http(b"GET /dir/a.asf HTTP/1.0\r\n"));
        assert!(looks_like_http(b"POST"));
        assert!(!looks_like_http(b"GET"));
        assert!(!looks_like_http(&packet(&[])));
    }

    #[test]
    fn an_empty_one_gives_back_all_memory_and_half_a_packet_stays() {
        let mut stream = Vec::new();
        pong().encode(0, &mut stream);
        let mut deframer = Deframer::for_server();
        deframer.buffer().extend_from_slice(&stream);
        deframer.buffer().extend_from_slice(&stream[..5]);
        assert_eq!(deframer.next_frame().unwrap(), Some(Frame::Message(pong())));
        deframer.release();
        deframer.buffer().extend_from_slice(&stream[5..]);
        assert_eq!(deframer.next_frame().unwrap(), Some(Frame::Message(pong())));
        assert_eq!(deframer.next_frame().unwrap(), None);
        deframer.release();
        assert_eq!(deframer.buffer().capacity(), 0);
    }

    proptest! {
        #[test]
        fn any_bytes_give_the_same_however_cut(
            bytes: Vec<u8>,
            header: bool,
            cuts in proptest::collection::vec(0usize..200, 0..4),
        ) {
            // Half of the cases get past the header, else hardly any would.
            let stream = if header { packet(&bytes) } else { bytes };
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(stream.len())).collect();
            cuts.sort_unstable();
            prop_assert_eq!(
                frames(Deframer::for_client(), &stream, &cuts),
                frames(Deframer::for_client(), &stream, &[])
            );
            prop_assert_eq!(
                frames(Deframer::for_server(), &stream, &cuts),
                frames(Deframer::for_server(), &stream, &[])
            );
        }
    }
}
