//! The server's side of a handshake, as short as it goes: each request is answered at once, whatever it asks for.

use anyhow::{Context, ensure};
use mmsproxy::asf::Header;
use mmsproxy::wire::mmsp::data::{AF_HEADER_LAST, encode_header};
use mmsproxy::wire::mmsp::deframer::{Deframer, Frame};
use mmsproxy::wire::mmsp::funnel_name::{FunnelName, Protocol};
use mmsproxy::wire::mmsp::ids::{ClientId, FileAttributes, FileId, HResult, Incarnation, LocationId, PacketPairMode};
use mmsproxy::wire::mmsp::{mac_to_viewer as down, viewer_to_mac as up};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// One viewer's requests.
#[derive(Debug)]
pub struct Conversation {
    pub stream: TcpStream,
    /// Where Data are to go over UDP; the header goes over TCP all the same.
    pub port: Option<u16>,
    deframer: Deframer,
    seq: u16,
}

impl Conversation {
    pub fn new(stream: TcpStream) -> anyhow::Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self { stream, port: None, deframer: Deframer::for_server(), seq: 0 })
    }

    /// Answers until media are asked for, out of content with that `header`, by a server of that `version`.
    pub async fn until_start(&mut self, header: &Header, version: &str) -> anyhow::Result<up::StartPlaying> {
        loop {
            while let Some(frame) = self.deframer.next_frame()? {
                let Frame::Message(raw) = frame else { continue };
                let request = up::Message::decode(&raw)?;
                if let up::Message::ConnectFunnel(funnel) = &request
                    && let Ok(name) = funnel.funnel_name.parse::<FunnelName>()
                    && name.protocol == Protocol::Udp
                {
                    self.port = Some(name.port);
                }
                if let Some(reply) = reply(&request, header, version) {
                    self.say(&reply).await?;
                }
                if let up::Message::ReadBlock(read) = &request {
                    let bytes = header.bytes();
                    let incarnation = incarnation(read.play_incarnation)?;
                    let head = encode_header(LocationId(0), incarnation, AF_HEADER_LAST, bytes.len());
                    self.stream.write_all(&[&head, &bytes[..]].concat()).await?;
                }
                if let up::Message::StartPlaying(start) = request {
                    return Ok(start);
                }
            }
            let read = self.stream.read_buf(self.deframer.buffer()).await?;
            ensure!(read > 0, "the viewer left");
        }
    }

    /// Sends a message.
    pub async fn say(&mut self, message: &down::Message) -> anyhow::Result<()> {
        let mut out = Vec::new();
        message.encode(self.seq, &mut out);
        self.seq = self.seq.wrapping_add(1);
        Ok(self.stream.write_all(&out).await?)
    }
}

/// Of a request.
pub fn incarnation(field: u32) -> anyhow::Result<Incarnation> {
    Incarnation::from_request(field).context("no incarnation")
}

fn reply(request: &up::Message, header: &Header, version: &str) -> Option<down::Message> {
    let hr = HResult::S_OK;
    Some(match request {
        up::Message::Connect(_) => down::ReportConnectedEx {
            hr,
            play_incarnation: PacketPairMode::DISABLE,
            server_version_info: version.into(),
            version_info: String::new(),
            version_url: String::new(),
            authen_package: String::new(),
        }
        .into(),
        up::Message::FunnelInfo(_) => down::ReportFunnelInfo {
            hr,
            play_incarnation: PacketPairMode::DISABLE,
            client_id: ClientId(1),
            cubdd_datagram_size: 0,
            packet_pair: bytes::Bytes::new(),
        }
        .into(),
        up::Message::ConnectFunnel(_) => down::ReportConnectedFunnel { hr }.into(),
        up::Message::OpenFile(open) => down::ReportOpenFile {
            hr,
            play_incarnation: open.play_incarnation,
            open_file_id: FileId(1),
            file_attributes: if header.is_live() { FileAttributes::BROADCAST } else { FileAttributes::CAN_SEEK },
            file_duration: header.duration().as_secs_f64(),
            file_blocks: header.duration().as_secs_f64().ceil() as u32,
            file_packet_size: header.packet_size() as u32,
            file_packet_count: header.file().packet_count,
            file_bit_rate: header.bit_rate(),
            file_header_size: header.bytes().len() as u32,
        }
        .into(),
        up::Message::ReadBlock(read) => down::ReportReadBlock { hr, play_incarnation: read.play_incarnation }.into(),
        up::Message::StreamSwitch(_) => down::ReportStreamSwitch { hr }.into(),
        up::Message::StartPlaying(start) => {
            down::ReportStartedPlaying { hr, play_incarnation: start.play_incarnation }.into()
        }
        up::Message::StopPlaying(stop) => {
            down::ReportEndOfStream { hr, play_incarnation: stop.play_incarnation }.into()
        }
        _ => return None,
    })
}
