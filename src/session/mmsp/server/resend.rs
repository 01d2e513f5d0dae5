//! RequestPacketListResend, `[MS-MMSP]` 3.2.5.13: whom it is believed, and how much of it is granted.

use std::time::Instant;

use super::Session;
use super::opening::FILE_ID;
use crate::session::batch::Batch;
use crate::wire::mmsp::resend::RequestPacketListResend;

/// Why nothing is sent again.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ResendRefusal {
    /// The viewer gets its packets over TCP.
    #[error("nothing goes out over UDP")]
    NotUdp,
    /// Not the `nCubs` of the session: whoever asks is not the viewer.
    #[error("dwClientId is another ([MS-MMSP] 2.2.5)")]
    ClientId,
    /// Not the open file.
    #[error("wSourceId is another ([MS-MMSP] 2.2.5)")]
    SourceId,
    /// The viewer had its share already.
    #[error("the budget is spent")]
    Budget,
    /// Never sent, too old, or gone from where it was shared.
    #[error("none of the packets is there")]
    Gone,
}

impl ResendRefusal {
    /// A label for metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::NotUdp => "tcp",
            Self::ClientId => "client_id",
            Self::SourceId => "source_id",
            Self::Budget => "budget",
            Self::Gone => "gone",
        }
    }
}

impl Session {
    /// Appends to `datagrams` what `request` asks for, byte for byte as it was sent, as far as it is there and within the
    /// budget; returns how many packets. That the request came from the viewer's address is the caller's to see.
    ///
    /// # Errors
    /// Nothing is sent again, and the viewer is not told.
    pub fn resend(
        &mut self,
        now: Instant,
        request: &RequestPacketListResend,
        datagrams: &mut Batch,
    ) -> Result<u32, ResendRefusal> {
        let (Some(udp), Some(settings)) = (&mut self.udp, &self.settings.udp) else {
            return Err(ResendRefusal::NotUdp);
        };
        if request.client_id != self.client_id {
            return Err(ResendRefusal::ClientId);
        }
        if !request.is_for(FILE_ID) {
            return Err(ResendRefusal::SourceId);
        }
        let mut packets = 0;
        let mut refusal = ResendRefusal::Gone;
        for (index, sequence) in request.begin_packet_list.iter().enumerate() {
            let is_repeated = request.begin_packet_list.iter().take(index).any(|before| before == sequence);
            let Some(frame) = udp.sent.again(now, *sequence).filter(|_| !is_repeated) else { continue };
            if datagrams.bytes().saturating_add(frame.len()) > settings.max_burst || !udp.budget.take(now, frame.len())
            {
                refusal = ResendRefusal::Budget;
                break;
            }
            frame.push(datagrams);
            packets += 1;
        }
        if packets == 0 { Err(refusal) } else { Ok(packets) }
    }
}
