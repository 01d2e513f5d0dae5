//! Bandwidth measured by a packet pair, `[MS-MMSP]` 3.2.5.4 and 3.2.5.8: random bytes that leave back to back, where the
//! player asks for them.

use std::time::Instant;

use bytes::Bytes;

use super::{Output, Session};
use crate::wire::mmsp::data::{self, AF_PACKET_PAIR};
use crate::wire::mmsp::ids::{HResult, Incarnation, LocationId, PacketPairMode};
use crate::wire::mmsp::mac_to_viewer as out;
use crate::wire::mmsp::viewer_to_mac::FunnelInfo;

/// Random bytes in each of the three reports over TCP: the packets are 512, 512 and 1,056 bytes then.
const TCP_BYTES: [usize; 3] = [432, 432, 976];
/// Random bytes in each of the two datagrams: with all headers they are 1,500 bytes on the wire.
const UDP_BYTES: usize = 1464;

impl Session {
    /// Answers FunnelInfo. What stands in no table asks for nothing: ffmpeg's mode is 0x00F0F0F0, and it reads one reply.
    pub(super) fn funnel_info(&mut self, now: Instant, info: &FunnelInfo) {
        let is_offered = self.settings.packet_pair;
        self.wants_udp_pair = false;
        match info.play_incarnation.effective() {
            PacketPairMode::USE | PacketPairMode::TCP_HIGH_ENTROPY if is_offered => {
                for length in TCP_BYTES {
                    let random = self.random(length);
                    self.send_funnel_info(now, PacketPairMode::TCP_HIGH_ENTROPY, random.into());
                }
            }
            PacketPairMode::UDP_HIGH_ENTROPY if is_offered && self.settings.udp.is_some() => {
                self.wants_udp_pair = true;
                self.send_funnel_info(now, PacketPairMode::UDP_HIGH_ENTROPY, Bytes::new());
            }
            _ => self.send_funnel_info(now, PacketPairMode::DISABLE, Bytes::new()),
        }
    }

    fn send_funnel_info(&mut self, now: Instant, play_incarnation: PacketPairMode, packet_pair: Bytes) {
        self.send(
            now,
            out::ReportFunnelInfo {
                hr: HResult::S_OK,
                play_incarnation,
                client_id: self.client_id,
                cubdd_datagram_size: 0,
                packet_pair,
            },
        );
    }

    /// The two datagrams before a header; returns how many bytes they are.
    pub(super) fn send_pair(&mut self) -> usize {
        let mut bytes = 0;
        for location in [LocationId::PACKET_PAIR_FIRST, LocationId::PACKET_PAIR_SECOND] {
            let mut datagram =
                data::encode_header(location, Incarnation::UNREQUESTED, AF_PACKET_PAIR, UDP_BYTES).to_vec();
            datagram.extend(self.random(UDP_BYTES));
            bytes += datagram.len();
            self.outputs.push_back(Output::SendDatagram(datagram.into()));
        }
        bytes
    }

    fn random(&self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        (self.settings.random)(&mut bytes);
        bytes
    }
}
