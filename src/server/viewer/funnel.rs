//! Data over UDP to one viewer: the claim on its port, the datagrams that wait for room, and those that are sent again.

use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tracing::debug;

use super::facts::{Tally, Way};
use super::{Inner, Scratch, Viewer};
use crate::server::udp::{Claim, Funnels, Port, Sent, Target, send};
use crate::session::batch::Batch;
use crate::session::mmsp::server::Funnel;
use crate::session::{Reason, Refusal};
use crate::wire::mmsp::resend::RequestPacketListResend;

/// How long a socket without room is left alone.
const NO_ROOM: Duration = Duration::from_millis(10);

/// The UDP port of the address that a viewer came to.
#[derive(Clone, Debug)]
pub(in crate::server) struct Road {
    pub(in crate::server) port: Arc<Port>,
    pub(in crate::server) funnels: Arc<Funnels>,
}

/// What only a viewer has that takes Data over UDP.
#[derive(Debug)]
pub(super) struct UdpFunnel {
    /// Nobody else is sent to that address and port.
    _claim: Claim,
    target: Target,
    /// What the socket did not take yet.
    unsent: Batch,
}

impl UdpFunnel {
    /// Nothing waits yet.
    pub(super) fn new(claim: Claim, target: Target) -> Self {
        Self { _claim: claim, target, unsent: Batch::new() }
    }

    #[cfg(test)]
    pub(super) fn unsent(&self) -> &Batch {
        &self.unsent
    }
}

impl Inner {
    /// The way that Data take.
    pub(super) fn way(&self) -> Way {
        match self.session.funnel() {
            Funnel::Tcp => Way::Tcp,
            Funnel::Udp(_) => Way::Udp,
        }
    }

    pub(super) fn push_datagram(&mut self, datagram: Bytes) {
        if let Some(funnel) = &mut self.funnel {
            funnel.unsent.push_message(datagram);
        }
    }
}

impl Viewer {
    /// Has a port of the viewer's address for its Data, and for nobody else's; `None` gives back what it had.
    pub(super) fn connect_funnel(self: &Arc<Self>, inner: &mut Inner, port: Option<NonZeroU16>) -> Result<(), Refusal> {
        let Some(port) = port else {
            inner.funnel = None;
            inner.plays.travel(Way::Tcp.transport());
            return Ok(());
        };
        let refused = |why: &str| Refusal::new(Reason::Busy, why);
        let Some(road) = &self.road else { return Err(refused("there is no UDP port here")) };
        // Where it is, and not where it says: that could be anybody's address.
        let (Ok(mut to), Ok(local)) = (self.stream.peer_addr(), self.stream.local_addr()) else {
            return Err(refused("the viewer is gone"));
        };
        to.set_port(port.get());
        if inner.funnel.as_ref().is_some_and(|funnel| funnel.target.to() == to) {
            return Ok(());
        }
        let claim = road.funnels.claim(to, inner.session.client_id(), self);
        let claim = claim.ok_or_else(|| refused("another session takes Data at that address and port"))?;
        let from = road.port.is_wildcard().then_some(local);
        debug!(%to, "Data go by UDP");
        inner.plays.travel(Way::Udp.transport());
        inner.funnel = Some(Box::new(UdpFunnel::new(claim, Target::new(to, from))));
        Ok(())
    }

    /// Sends the datagrams that waited; returns when to look again, where there is still no room for them.
    pub(super) fn flush_datagrams(&self, inner: &mut Inner, now: Instant, tally: &mut Tally) -> Option<Instant> {
        let funnel = inner.funnel.as_deref_mut().filter(|funnel| !funnel.unsent.is_empty())?;
        // Where all of it leaves, the queue keeps no room.
        let mut unsent = std::mem::take(&mut funnel.unsent);
        self.send_datagrams(inner, now, &mut unsent, tally)
    }

    /// Sends datagrams together with those of others where it can. Returns when to look again, where there is no room for them.
    pub(super) fn post_datagrams(
        self: &Arc<Self>,
        inner: &mut Inner,
        now: Instant,
        scratch: &mut Scratch,
    ) -> Option<Instant> {
        let Scratch { datagrams, outbox, tally, .. } = scratch;
        if let Some(funnel) = &inner.funnel {
            let before = datagrams.bytes();
            let packets = datagrams.packets();
            outbox.post(self, &funnel.target, datagrams);
            let posted = before - datagrams.bytes();
            self.note_sent(inner, posted, packets - datagrams.packets(), tally);
        }
        if datagrams.is_empty() { None } else { self.send_datagrams(inner, now, datagrams, tally) }
    }

    /// Datagrams that were posted and did not leave: they wait for the next turn, which finds out why.
    pub(super) fn take_back(&self, mut datagrams: Batch, tally: &mut Tally) {
        let mut guard = self.inner.lock();
        let inner = &mut *guard;
        let Some(funnel) = inner.funnel.as_deref_mut() else { return };
        let (bytes, packets) = (datagrams.bytes() as u64, datagrams.packets());
        inner.facts.sent_bytes = inner.facts.sent_bytes.saturating_sub(bytes);
        inner.facts.sent_packets = inner.facts.sent_packets.saturating_sub(packets);
        if let Some(counted) = &inner.counted {
            tally.take_back(counted, bytes, packets);
        }
        datagrams.move_pieces(usize::MAX, &mut funnel.unsent);
        drop(guard);
        self.writer.stir(self.id);
    }

    /// Sends datagrams; what the socket does not take is the viewer's to keep. Returns when to look again then.
    pub(super) fn send_datagrams(
        &self,
        inner: &mut Inner,
        now: Instant,
        datagrams: &mut Batch,
        tally: &mut Tally,
    ) -> Option<Instant> {
        let packets = datagrams.take_packets();
        let Some(sent) = self.send(inner, datagrams) else {
            datagrams.clear();
            return None;
        };
        if let Some(funnel) = inner.funnel.as_deref_mut().filter(|_| !datagrams.is_empty()) {
            funnel.unsent = datagrams.take_rest();
        }
        self.note_sent(inner, sent.bytes, packets, tally);
        sent.is_blocked.then(|| now + NO_ROOM)
    }

    /// `None` where they have nowhere to go.
    fn send(&self, inner: &mut Inner, datagrams: &mut Batch) -> Option<Sent> {
        let socket = self.road.as_ref()?.port.socket(self.id)?;
        Some(send(socket, &mut inner.funnel.as_deref_mut()?.target, datagrams))
    }

    /// A player on UDP asks for packets that it lost.
    pub(in crate::server) fn resend(&self, now: Instant, request: &RequestPacketListResend) {
        let mut datagrams = Batch::new();
        let mut guard = self.inner.lock();
        let inner = &mut *guard;
        let (result, packets) = match inner.session.resend(now, request, &mut datagrams) {
            Ok(packets) => ("sent", packets),
            Err(refusal) => (refusal.label(), 1),
        };
        self.counters.resends.with_label_values(&[result]).inc_by(packets.into());
        // What finds no room now is lost once more, and may be asked for once more.
        if let Some(sent) = self.send(inner, &mut datagrams) {
            inner.facts.sent_bytes += sent.bytes as u64;
        }
    }
}
