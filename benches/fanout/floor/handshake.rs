//! The server's side of a handshake, as short as it goes: each request is answered at once, whatever it asks for.

use anyhow::{Context, ensure};
use mmsproxy::asf::Header;
use mmsproxy::wire::mmsp::data::{AF_HEADER_LAST, encode_header};
use mmsproxy::wire::mmsp::deframer::{Deframer, Frame};
use mmsproxy::wire::mmsp::ids::{ClientId, FileAttributes, FileId, HResult, Incarnation, LocationId, PacketPairMode};
use mmsproxy::wire::mmsp::{mac_to_viewer as down, viewer_to_mac as up};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::fan::Joined;

/// From Connect to StartPlaying.
pub async fn serve(mut stream: TcpStream, header: &Header) -> anyhow::Result<Joined> {
    stream.set_nodelay(true)?;
    let mut deframer = Deframer::for_server();
    let mut seq = 0;
    loop {
        while let Some(frame) = deframer.next_frame()? {
            let Frame::Message(raw) = frame else { continue };
            let request = up::Message::decode(&raw)?;
            let mut out = Vec::new();
            if let Some(reply) = reply(&request, header) {
                reply.encode(seq, &mut out);
                seq = seq.wrapping_add(1);
            }
            if let up::Message::ReadBlock(read) = &request {
                let bytes = header.bytes();
                let incarnation = incarnation(read.play_incarnation)?;
                out.extend(encode_header(LocationId(0), incarnation, AF_HEADER_LAST, bytes.len()));
                out.extend_from_slice(bytes);
            }
            stream.write_all(&out).await?;
            if let up::Message::StartPlaying(start) = &request {
                let incarnation = incarnation(start.play_incarnation)?;
                return Ok(Joined { stream: stream.into_std()?, incarnation });
            }
        }
        let read = stream.read_buf(deframer.buffer()).await?;
        ensure!(read > 0, "the viewer left");
    }
}

fn incarnation(field: u32) -> anyhow::Result<Incarnation> {
    Incarnation::from_request(field).context("no incarnation")
}

fn reply(request: &up::Message, header: &Header) -> Option<down::Message> {
    let hr = HResult::S_OK;
    Some(match request {
        up::Message::Connect(_) => down::ReportConnectedEx {
            hr,
            play_incarnation: PacketPairMode::DISABLE,
            server_version_info: "4.1.0.3930".into(),
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
            file_attributes: FileAttributes::BROADCAST,
            file_duration: 0.0,
            file_blocks: 0,
            file_packet_size: header.packet_size() as u32,
            file_packet_count: 0,
            file_bit_rate: header.bit_rate(),
            file_header_size: header.bytes().len() as u32,
        }
        .into(),
        up::Message::ReadBlock(read) => down::ReportReadBlock { hr, play_incarnation: read.play_incarnation }.into(),
        up::Message::StreamSwitch(_) => down::ReportStreamSwitch { hr }.into(),
        up::Message::StartPlaying(start) => {
            down::ReportStartedPlaying { hr, play_incarnation: start.play_incarnation }.into()
        }
        _ => return None,
    })
}
