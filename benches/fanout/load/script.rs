//! What a viewer says until media come: the same bytes from each of them.

use bytes::Bytes;
use mmsproxy::wire::mmsp::data::{AF_HEADER, AF_HEADER_LAST};
use mmsproxy::wire::mmsp::deframer::{Deframer, Frame};
use mmsproxy::wire::mmsp::ids::{FileId, PacketPairMode};
use mmsproxy::wire::mmsp::subscriber_name::SubscriberName;
use mmsproxy::wire::mmsp::{mac_to_viewer as down, viewer_to_mac as up};

use super::Protocol;
use super::framer::DataHead;
use crate::broadcast::VIDEO;

/// The bit of `AFFlags` that the last piece of a header has.
const LAST_PIECE: u8 = AF_HEADER_LAST & !AF_HEADER;

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
    pub fn new(protocol: Protocol) -> Self {
        match protocol {
            Protocol::Mms => Self::mms(),
            Protocol::Http => Self {
                requests: vec![b"GET /live HTTP/1.0\r\nUser-Agent: fanout\r\n\r\n".to_vec()],
                pong: Vec::new(),
                close: Vec::new(),
            },
        }
    }

    fn mms() -> Self {
        let open_file_id = FileId(1);
        let name = "NSPlayer/7.0.0.1956; {68c0a090-8797-11d2-a2b3-00a0c9b60551}";
        let measurement = PacketPairMode::DISABLE;
        let stream = up::StreamSwitchEntry { src_stream_number: 0xFFFF, dst_stream_number: VIDEO, thinning_level: 0 };
        let start = up::StartPlaying {
            open_file_id,
            position: f64::MAX,
            asf_offset: u32::MAX,
            location_id: u32::MAX,
            frame_offset: 0,
            play_incarnation: 4,
            accel: None,
            link_bandwidth: None,
        };
        let requests: [up::Message; 7] = [
            up::Connect { play_incarnation: measurement, subscriber_name: SubscriberName::parse(name) }.into(),
            up::FunnelInfo { play_incarnation: measurement }.into(),
            up::ConnectFunnel { funnel_name: r"\\127.0.0.1\TCP\1037".into(), max_bit_rate: 10_000_000 }.into(),
            up::OpenFile { play_incarnation: 2, file_name: "live".into(), token_data: Bytes::new() }.into(),
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

    /// Whether a Data packet is what the request sent last was waiting for: the last piece of the header.
    pub fn is_header(&self, sent: usize, data: &DataHead<'_>) -> bool {
        sent == 5 && data.flags & LAST_PIECE != 0
    }
}
