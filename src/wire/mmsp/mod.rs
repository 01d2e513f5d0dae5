//! [MS-MMSP] on the wire: TCP carries messages ([`mac_to_viewer`] from servers, [`viewer_to_mac`] from clients) and [`data`]
//! packets. Over UDP, Data packets go one way and requests to [`resend`] them the other.

/// One direction: the table of its MIDs, and from it the enum with `decode`, `encode`, `name` and `From`. The `bare` message
/// is the one whose two parameters nobody reads (2.2.4.1, 2.2.4.22).
macro_rules! messages {
    (
        $($(#[$doc:meta])* $mid:literal $name:ident,)*
        bare $(#[$bare_doc:meta])* $bare_mid:literal $bare:ident,
    ) => {
        /// A message of this direction.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Message {
            $($(#[$doc])* $name($name),)*
            $(#[$bare_doc])*
            $bare,
            /// None of [MS-MMSP] 2.2.4 in this direction: to be logged and ignored.
            Unknown {
                /// `MID`.
                mid: u32,
            },
        }

        impl Message {
            /// Reads what the deframer cut out. A known message that is too short for its fields is an error; what follows
            /// the fields is padding, whatever it holds.
            pub fn decode(raw: &RawMessage) -> Result<Self, DecodeError> {
                match raw.mid {
                    $($mid => $name::decode_body(&raw.body).map(Self::$name),)*
                    $bare_mid => Reader::new(stringify!($bare), &raw.body).skip(8).map(|()| Self::$bare),
                    mid => Ok(Self::Unknown { mid }),
                }
            }

            /// Appends a whole packet to `out`: TcpMessageHeader with `seq`, and this message padded with zeros.
            pub fn encode(&self, seq: u16, out: &mut Vec<u8>) {
                let mut body = Vec::new();
                let mid = match self {
                    $(Self::$name(message) => {
                        message.encode_body(&mut body);
                        $mid
                    })*
                    Self::$bare => {
                        body.extend([0; 8]);
                        $bare_mid
                    }
                    Self::Unknown { mid } => *mid,
                };
                RawMessage { mid, body: body.into() }.encode(seq, out);
            }

            /// Its name in [MS-MMSP] 2.2.4, without the direction.
            pub fn name(&self) -> &'static str {
                match self {
                    $(Self::$name(_) => stringify!($name),)*
                    Self::$bare => stringify!($bare),
                    Self::Unknown { .. } => "Unknown",
                }
            }
        }

        $(impl From<$name> for Message {
            fn from(message: $name) -> Self {
                Self::$name(message)
            }
        })*
    };
}

pub mod client_log;
pub mod data;
pub mod deframer;
mod exchange;
pub mod funnel_name;
pub mod header;
pub mod ids;
pub mod mac_to_viewer;
pub mod raw_message;
pub mod resend;
pub mod subscriber_name;
pub mod viewer_to_mac;

#[cfg(test)]
mod testing {
    //! What the tests of both directions need: bytes written as the specification writes them, and frames cut by hand.

    use bytes::Bytes;
    use proptest::prelude::*;

    use super::{
        deframer::{Deframer, Frame},
        raw_message::RawMessage,
    };

    /// Bytes from hexadecimal digits; spaces and line ends are for the reader.
    pub fn hex(digits: &str) -> Vec<u8> {
        let digits: Vec<u8> = digits.chars().filter_map(|digit| digit.to_digit(16)).map(|digit| digit as u8).collect();
        digits.as_chunks().0.iter().map(|[high, low]| high << 4 | low).collect()
    }

    /// The messages of a stream that holds nothing else.
    pub fn messages(stream: &[u8]) -> Vec<RawMessage> {
        let mut deframer = Deframer::for_server();
        deframer.buffer().extend_from_slice(stream);
        let mut messages = Vec::new();
        while let Some(frame) = deframer.next_frame().unwrap() {
            let Frame::Message(message) = frame else { panic!("{frame:?}") };
            messages.push(message);
        }
        assert!(deframer.buffer().is_empty(), "a packet cut short");
        messages
    }

    /// The one message of a packet.
    pub fn message(packet: &[u8]) -> RawMessage {
        messages(packet).pop().unwrap()
    }

    /// Bodies for the MIDs of one direction, in whole chunks; most bytes zero, so that counts and lengths are often small
    /// enough to be right.
    pub fn any_message(direction: u32) -> impl Strategy<Value = RawMessage> {
        let byte = prop_oneof![4 => Just(0), 1 => 1..=4u8, 1 => any::<u8>()];
        let body = prop::collection::vec(byte, 0..30).prop_map(|chunks| {
            let mut body = Vec::new();
            chunks.iter().for_each(|&byte| body.extend([byte, 0, 0, 0, byte / 2, 0, 0, byte & 1]));
            body
        });
        let body = prop_oneof![body, prop::collection::vec(any::<u8>(), 0..200)];
        (0..0x40u32, body).prop_map(move |(low, mut body)| {
            body.truncate(body.len() / 8 * 8);
            RawMessage { mid: direction | low, body: Bytes::from(body) }
        })
    }
}
