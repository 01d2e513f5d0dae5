//! What a viewer says until media come: the same bytes from each of them.

use bytes::Bytes;
use mmsproxy::wire::mmsp::data::{AF_HEADER, AF_HEADER_LAST};
use mmsproxy::wire::mmsp::deframer::{Deframer, Frame};
use mmsproxy::wire::mmsp::ids::{FileId, PacketPairMode};
use mmsproxy::wire::mmsp::subscriber_name::SubscriberName;
use mmsproxy::wire::mmsp::{mac_to_viewer as down, viewer_to_mac as up};

use super::framer::DataHead;
use super::shape::VIDEO;

/// The bit of `AFFlags` that the last piece of a header has.
const LAST_PIECE: u8 = AF_HEADER_LAST & !AF_HEADER;
/// The number of the request for a funnel.
pub const AT_FUNNEL: usize = 2;
/// Requests that were sent when the header comes.
const AT_HEADER: usize = 5;
/// What every server here calls the file that it opened.
const OPEN_FILE: FileId = FileId(1);

/// The requests in their order, encoded.
#[derive(Debug)]
pub struct Script {
    requests: Vec<Vec<u8>>,
    pub pong: Vec<u8>,
    pub close: Vec<u8>,
}

/// What an answer means.
#[derive(Debug)]
pub enum Answer {
    /// The next request is due.
    Next,
    /// It is none.
    None,
    /// It wants a sign of life.
    Ping,
}

impl Script {
    /// A request over HTTP; what comes is framed as for MMS.
    pub fn http(request: &str) -> Self {
        Self { requests: vec![request.as_bytes().to_vec()], pong: Vec::new(), close: Vec::new() }
    }

    /// A player's handshake for the content `name`, up to `start`.
    pub fn mms(name: &str, start: up::StartPlaying) -> Self {
        let open_file_id = OPEN_FILE;
        let player = "NSPlayer/7.0.0.1956; {68c0a090-8797-11d2-a2b3-00a0c9b60551}";
        let measurement = PacketPairMode::DISABLE;
        let stream = up::StreamSwitchEntry { src_stream_number: 0xFFFF, dst_stream_number: VIDEO, thinning_level: 0 };
        let requests: [up::Message; 7] = [
            up::Connect { play_incarnation: measurement, subscriber_name: SubscriberName::parse(player) }.into(),
            up::FunnelInfo { play_incarnation: measurement }.into(),
            up::ConnectFunnel { funnel_name: r"\\127.0.0.1\TCP\1037".into(), max_bit_rate: 10_000_000 }.into(),
            up::OpenFile { play_incarnation: 2, file_name: name.into(), token_data: Bytes::new() }.into(),
            up::ReadBlock { open_file_id, play_incarnation: 3 }.into(),
            up::StreamSwitch { entries: vec![stream] }.into(),
            start.into(),
        ];
        let encode = |seq: usize, message: &up::Message| {
            let mut bytes = Vec::new();
            message.encode(seq as u16, &mut bytes);
            bytes
        };
        let later = requests.len();
        Self {
            requests: requests.iter().enumerate().map(|(seq, message)| encode(seq, message)).collect(),
            pong: encode(later, &up::Message::Pong),
            close: encode(later, &up::CloseFile { open_file_id }.into()),
        }
    }

    /// The request for Data over UDP at that port, in place of the one for TCP.
    pub fn datagrams(port: u16) -> Vec<u8> {
        let funnel = up::ConnectFunnel { funnel_name: format!(r"\\127.0.0.1\UDP\{port}"), max_bit_rate: 10_000_000 };
        let mut bytes = Vec::new();
        up::Message::from(funnel).encode(AT_FUNNEL as u16, &mut bytes);
        bytes
    }

    /// The request of that number; `None` behind the last.
    pub fn request(&self, number: usize) -> Option<&[u8]> {
        self.requests.get(number).map(Vec::as_slice)
    }

    /// Whether a packet of messages answers the request that was sent last, the one before `sent`.
    pub fn answer(&self, sent: usize, packet: &[u8]) -> anyhow::Result<Answer> {
        let mut deframer = Deframer::for_client();
        deframer.buffer().extend_from_slice(packet);
        let mut answer = Answer::None;
        while let Some(Frame::Message(raw)) = deframer.next_frame()? {
            let message = down::Message::decode(&raw)?;
            let (number, hr) = match &message {
                down::Message::ReportConnectedEx(report) => (1, report.hr),
                down::Message::ReportFunnelInfo(report) => (2, report.hr),
                down::Message::ReportConnectedFunnel(report) => (3, report.hr),
                down::Message::ReportOpenFile(report) => (4, report.hr),
                down::Message::ReportStreamSwitch(report) => (6, report.hr),
                down::Message::ReportReadBlock(down::ReportReadBlock { hr, .. })
                | down::Message::ReportStartedPlaying(down::ReportStartedPlaying { hr, .. }) => (0, *hr),
                down::Message::Ping => {
                    answer = Answer::Ping;
                    continue;
                }
                other => anyhow::bail!("{} came", other.name()),
            };
            anyhow::ensure!(!hr.is_failure(), "{} says {hr}", message.name());
            if number == sent {
                answer = Answer::Next;
            }
        }
        Ok(answer)
    }

    /// Whether the Data packets that come are pieces of the header.
    pub fn awaits_header(&self, sent: usize) -> bool {
        sent == AT_HEADER
    }
}

/// Whether a piece of the header is its last.
pub fn is_last_piece(data: &DataHead<'_>) -> bool {
    data.flags & LAST_PIECE != 0
}

/// Media from where the server likes, which is the beginning or the newest.
pub fn start_playing() -> up::StartPlaying {
    up::StartPlaying {
        open_file_id: OPEN_FILE,
        position: f64::MAX,
        asf_offset: u32::MAX,
        location_id: u32::MAX,
        frame_offset: 0,
        play_incarnation: 4,
        accel: None,
        link_bandwidth: None,
    }
}
