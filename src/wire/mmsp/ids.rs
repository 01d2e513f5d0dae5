//! The numbers of [MS-MMSP], each with the type that says what it counts or names.

use std::fmt;

/// `openFileId`, [MS-MMSP] 2.2.4.7: the server's name for what a session has open. The free players send 1 whatever they
/// were told.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct FileId(pub u32);

/// `nCubs`, [MS-MMSP] 2.2.4.6: what a resend request over UDP must show to be believed.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct ClientId(pub u32);

/// `LocationId`, [MS-MMSP] 2.2.2: the number of an ASF data packet in its file, or of a piece of the ASF file header.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct LocationId(pub u32);

impl LocationId {
    /// The first packet-pair packet over UDP (2.2.2).
    pub const PACKET_PAIR_FIRST: Self = Self(0xF0F0_F000);
    /// The second packet-pair packet over UDP (2.2.2).
    pub const PACKET_PAIR_SECOND: Self = Self(0xF0F0_F001);
}

/// Ties a Data packet to the request it answers (`playIncarnation`, [MS-MMSP] 2.2.2).
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Incarnation(u8);

impl Incarnation {
    /// Answers no request: packet-pair packets (2.2.2), and over TCP the header of the next playlist entry (3.2.4.2).
    pub const UNREQUESTED: Self = Self(0xFF);

    /// Takes the value a client put in a request; `None` outside 0x01..=0xFE.
    pub fn from_request(field: u32) -> Option<Self> {
        u8::try_from(field).ok().filter(|byte| matches!(byte, 0x01..=0xFE)).map(Self)
    }

    /// Takes the byte of a Data packet, whatever it is: 0x00 is reserved, but MPlayer's OpenFile carries it too.
    pub fn from_wire(byte: u8) -> Self {
        Self(byte)
    }

    /// The byte a Data packet carries.
    pub fn get(self) -> u8 {
        self.0
    }
}

/// The number of a transmitted ASF data packet; a Data packet carries its low byte in `AFFlags`, a resend request all of it
/// ([MS-MMSP] 2.2.2, 2.2.5).
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct Sequence(pub u32);

impl Sequence {
    /// The first packet of a session.
    pub const ZERO: Self = Self(0);

    /// The packet after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.wrapping_add(1))
    }

    /// What goes into `AFFlags`.
    pub fn low_byte(self) -> u8 {
        self.0.to_le_bytes()[0]
    }

    /// The number the next packet takes when a Start request arrives and it would have taken `self`.
    ///
    /// After a packet that carried 0xFE the next one carries 0x00 (3.2.5.11). 2.2.2 wants the low byte of the whole number
    /// there, so the whole number moves on and resend requests stay exact.
    #[must_use]
    pub fn advance_at_start(self) -> Self {
        if self.low_byte() == 0xFF { self.next() } else { self }
    }
}

/// `playIncarnation` where it asks for, or agrees to, a bandwidth measurement ([MS-MMSP] 2.2.4.2, 2.2.4.6, 2.2.4.17,
/// 2.2.4.19). Any value may come: 0 from the free players' Connect, 0x00F0F0F0 from ffmpeg's FunnelInfo.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct PacketPairMode(pub u32);

impl PacketPairMode {
    /// `MMS_DISABLE_PACKET_PAIR`.
    pub const DISABLE: Self = Self(0xF0F0_F0EF);
    /// `MMS_USE_PACKET_PAIR`.
    pub const USE: Self = Self(0xF0F0_F0F0);
    /// `MMS_PACKET_PAIR_TCP_HIGH_ENTROPY`.
    pub const TCP_HIGH_ENTROPY: Self = Self(0xF0F0_F0F1);
    /// `MMS_PACKET_PAIR_UDP_HIGH_ENTROPY`.
    pub const UDP_HIGH_ENTROPY: Self = Self(0xF0F0_F901);

    /// One of the four: what stands in no table means none.
    #[must_use]
    pub fn effective(self) -> Self {
        match self {
            Self::USE | Self::TCP_HIGH_ENTROPY | Self::UDP_HIGH_ENTROPY => self,
            _ => Self::DISABLE,
        }
    }
}

/// `fileAttributes`, [MS-MMSP] 2.2.4.7.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct FileAttributes(pub u32);

impl FileAttributes {
    /// Fast forward and rewind are possible.
    pub const CAN_STRIDE: Self = Self(0x0080_0000);
    /// Seeking is possible.
    pub const CAN_SEEK: Self = Self(0x0100_0000);
    /// One stream for all clients.
    pub const BROADCAST: Self = Self(0x0200_0000);
    /// From a live source.
    pub const LIVE: Self = Self(0x0400_0000);
    /// An entry of a server-side playlist.
    pub const PLAYLIST: Self = Self(0x4000_0000);

    /// Whether all of `flags` are set.
    pub fn contains(self, flags: Self) -> bool {
        self.0 & flags.0 == flags.0
    }

    /// With `flags` set.
    #[must_use]
    pub fn with(self, flags: Self) -> Self {
        Self(self.0 | flags.0)
    }

    /// With `flags` cleared.
    #[must_use]
    pub fn without(self, flags: Self) -> Self {
        Self(self.0 & !flags.0)
    }
}

/// `hr`: a result code of [MS-ERREF] 2.1. The top bit set is a failure; whatever an origin says is passed on unchanged.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct HResult(pub u32);

macro_rules! hresults {
    ($($(#[$doc:meta])* $name:ident = $value:literal;)*) => {
        impl HResult {
            $($(#[$doc])* pub const $name: Self = Self($value);)*

            /// Its name in [MS-ERREF], for those that servers send.
            pub fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($value => Some(stringify!($name)),)*
                    _ => None,
                }
            }
        }
    };
}

hresults! {
    /// Done.
    S_OK = 0x0000_0000;
    /// Done; in EndOfStream: more follows.
    S_FALSE = 0x0000_0001;
    /// Something that should not have happened did.
    E_UNEXPECTED = 0x8000_FFFF;
    /// Not permitted.
    E_ACCESSDENIED = 0x8007_0005;
    /// Out of memory.
    E_OUTOFMEMORY = 0x8007_000E;
    /// A bad parameter.
    E_INVALIDARG = 0x8007_0057;
    /// The server is not connected.
    NS_E_NOCONNECTION = 0xC00D_0005;
    /// The upstream server cannot be reached.
    NS_E_CANNOTCONNECT = 0xC00D_0006;
    /// No way for Data packets.
    NS_E_NOFUNNEL = 0xC00D_000C;
    /// The network is busy.
    NS_E_NETWORK_BUSY = 0xC00D_000E;
    /// Too many sessions.
    NS_E_TOO_MANY_SESS = 0xC00D_000F;
    /// The protocol is another.
    NS_E_PROTOCOL_MISMATCH = 0xC00D_0012;
    /// No answer in time.
    NS_E_TIMEOUT = 0xC00D_0013;
    /// No such name.
    NS_E_FILE_NOT_FOUND = 0xC00D_001A;
    /// A name that cannot be.
    NS_E_INVALID_NAME = 0xC00D_001C;
    /// The content exists but could not be opened.
    NS_E_FILE_OPEN_FAILED = 0xC00D_001D;
    /// An error inside the server.
    NS_E_INTERNAL = 0xC00D_0024;
    /// The connection was lost.
    NS_E_CONNECTION_FAILURE = 0xC00D_0029;
    /// Not a request for this state.
    NS_E_INVALID_REQUEST = 0xC00D_002B;
    /// Too little bandwidth.
    NS_E_INSUFFICIENT_BANDWIDTH = 0xC00D_002C;
    /// The content is broken.
    NS_E_INVALID_DATA = 0xC00D_002F;
    /// The content needs more bandwidth than allowed.
    NS_E_FILE_BANDWIDTH_LIMIT = 0xC00D_0030;
    /// A malformed message.
    NS_E_BAD_CONTROL_DATA = 0xC00D_0032;
    /// No stream.
    NS_E_NO_STREAM = 0xC00D_0033;
    /// The stream ended.
    NS_E_STREAM_END = 0xC00D_0034;
    /// The server's name does not resolve.
    NS_E_SERVER_NOT_FOUND = 0xC00D_0035;
    /// Too many clients.
    NS_E_MAX_CLIENTS = 0xC00D_0049;
    /// Look elsewhere.
    NS_E_REDIRECT = 0xC00D_1388;
}

impl HResult {
    /// Whether it tells of a failure.
    pub fn is_failure(self) -> bool {
        self.0 >> 31 == 1
    }
}

impl fmt::Display for HResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => write!(f, "{name} (0x{:08X})", self.0),
            None => write!(f, "0x{:08X}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_incarnation_of_a_request_is_never_0_or_ff() {
        assert_eq!(Incarnation::from_request(0), None);
        assert_eq!(Incarnation::from_request(0x01).map(Incarnation::get), Some(0x01));
        assert_eq!(Incarnation::from_request(0xFE).map(Incarnation::get), Some(0xFE));
        assert_eq!(Incarnation::from_request(0xFF), None);
        assert_eq!(Incarnation::from_request(0x0000_0101), None);
        assert_eq!(Incarnation::from_wire(0xFF), Incarnation::UNREQUESTED);
    }

    #[test]
    fn a_sequence_wraps_through_its_low_byte() {
        assert_eq!(Sequence(0xFF).low_byte(), 0xFF);
        assert_eq!(Sequence(0xFF).next().low_byte(), 0x00);
        assert_eq!(Sequence(u32::MAX).next(), Sequence::ZERO);
    }

    #[test]
    fn after_fe_a_start_goes_on_at_00() {
        let last_sent = Sequence(0x1FE);
        assert_eq!(last_sent.next().advance_at_start(), Sequence(0x200));
        assert_eq!(Sequence(0x1FE).advance_at_start(), Sequence(0x1FE));
        assert_eq!(Sequence::ZERO.advance_at_start(), Sequence::ZERO);
    }

    #[test]
    fn an_unknown_packet_pair_mode_means_none() {
        assert_eq!(PacketPairMode(0x00F0_F0F0).effective(), PacketPairMode::DISABLE);
        assert_eq!(PacketPairMode(0).effective(), PacketPairMode::DISABLE);
        assert_eq!(PacketPairMode::UDP_HIGH_ENTROPY.effective(), PacketPairMode::UDP_HIGH_ENTROPY);
    }

    #[test]
    fn attributes_are_flags() {
        let live = FileAttributes::BROADCAST.with(FileAttributes::LIVE);
        assert!(live.contains(FileAttributes::LIVE));
        assert!(!live.contains(FileAttributes::LIVE.with(FileAttributes::CAN_SEEK)));
        assert_eq!(live.without(FileAttributes::LIVE), FileAttributes::BROADCAST);
    }

    #[test]
    fn a_result_is_shown_by_name_and_number() {
        assert_eq!(HResult::NS_E_FILE_NOT_FOUND.to_string(), "NS_E_FILE_NOT_FOUND (0xC00D001A)");
        assert_eq!(HResult(0x8007_0002).to_string(), "0x80070002");
        assert!(HResult::NS_E_TIMEOUT.is_failure());
        assert!(!HResult::S_FALSE.is_failure());
    }
}
