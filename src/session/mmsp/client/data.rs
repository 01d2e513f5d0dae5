//! Data packets, whichever way they come: pieces of headers, and media. `[MS-MMSP]` 3.1.5.12 and 3.1.5.17.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::order::{Item, Order, Taken};
use super::playing::Started;
use super::state::State;
use super::{Client, ClientError, Losses, Output, TIMERS, Timer};
use crate::asf::{Packet as AsfPacket, PacketNumber};
use crate::session::timers::Timers;
use crate::session::{End, Next, Packet};
use crate::wire::mmsp::data::Data;
use crate::wire::mmsp::ids::Incarnation;
use crate::wire::mmsp::resend::RequestPacketListResend;

impl Client {
    /// Takes a Data packet that came over TCP: a piece of a header, or media, which is appended to `media` without a copy.
    pub fn handle_data(&mut self, now: Instant, data: Data, media: &mut Vec<Next>) -> Result<(), ClientError> {
        if self.order.is_some() {
            return self.take_in_order(now, data, media).map(|_| ());
        }
        let number = data.play_incarnation.get();
        match &mut self.state {
            State::AwaitHeader { reading, .. } | State::NextHeader { reading, .. } if reading.is_of(number) => {
                let has_payload = !data.payload.is_empty();
                reading.push(data, self.settings.max_header)?;
                // A header of several pieces may come no faster than the bit rate: each has the time of an answer.
                if !reading.is_whole() && has_payload && !self.is_paused {
                    self.await_reply(now);
                }
                self.header_moved(now, media)
            }
            State::Streaming(play)
                if number == play.incarnation
                    || play.takes_unrequested && data.play_incarnation == Incarnation::UNREQUESTED =>
            {
                let limit = self.content.as_ref().map_or(0, |content| content.header.packet_size());
                if data.payload.len() > limit {
                    return Err(ClientError::OversizedPacket { size: data.payload.len(), limit });
                }
                media.push(play.packet(data));
                self.await_media(now);
                Ok(())
            }
            // Data of a play that is over, packet-pair packets nobody asked for: tolerated, 3.1.5.
            _ => Ok(()),
        }
    }

    /// Takes a datagram from the origin's address. What does not belong here is counted and ends nothing: anybody can send
    /// one.
    pub fn handle_datagram(&mut self, now: Instant, datagram: Bytes, media: &mut Vec<Next>) -> Result<(), ClientError> {
        let taken = match Data::decode(&datagram) {
            Ok(data) if self.order.is_some() => self.take_in_order(now, data, media)?,
            _ => Taken::Foreign,
        };
        if taken == Taken::Foreign {
            self.dropped = self.dropped.saturating_add(1);
        }
        Ok(())
    }

    /// The connection is gone. A play whose end was said ends as it was said, with what has come over UDP; whether so.
    pub fn handle_disconnect(&mut self, media: &mut Vec<Next>) -> bool {
        if !matches!(self.state, State::Settling { .. }) {
            return false;
        }
        if let Some(order) = &mut self.order {
            order.give_up_holes();
        }
        self.pass_on(media);
        if let State::Settling { end, .. } = std::mem::replace(&mut self.state, State::Closed) {
            media.push(Next::Ended(end));
        }
        self.timers = Timers::new(TIMERS);
        true
    }

    /// Datagrams that belonged to nothing so far.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// What came over UDP, or did not, so far.
    pub fn losses(&self) -> Losses {
        self.order.as_ref().map(Order::all_losses).unwrap_or_default()
    }

    /// Whether datagrams are of any use: false from the moment that the origin wants TCP.
    pub fn is_over_udp(&self) -> bool {
        self.order.is_some()
    }

    /// Where UDP was agreed. An origin that sends by TCP nevertheless is understood.
    fn take_in_order(&mut self, now: Instant, data: Data, media: &mut Vec<Next>) -> Result<Taken, ClientError> {
        let number = data.play_incarnation.get();
        let limit = self.content.as_ref().map_or(0, |content| content.header.packet_size());
        let Some(order) = &mut self.order else { return Ok(Taken::Foreign) };
        let taken = match &mut self.state {
            State::AwaitHeader { reading, .. } | State::NextHeader { reading, .. } if reading.is_of(number) => {
                reading.push(data, self.settings.max_header)?;
                self.header_moved(now, media)?;
                Taken::New
            }
            State::Starting(_)
            | State::Streaming(_)
            | State::BetweenEntries { .. }
            | State::NextHeader { .. }
            | State::Settling { .. }
                if data.payload.len() <= limit =>
            {
                order.insert(now, data)
            }
            // Late packets of a play that is over: they only tell how far its numbers went.
            State::Stopping(_) | State::Ready => {
                order.insert(now, data);
                order.discard();
                Taken::Foreign
            }
            _ => Taken::Foreign,
        };
        if taken == Taken::New && matches!(self.state, State::Starting(_) | State::Streaming(_)) {
            self.has_media = true;
            if matches!(self.state, State::Streaming(_)) {
                self.await_media(now);
            }
        }
        self.order_moved(now, media)?;
        Ok(taken)
    }

    /// After whatever may have moved the packets that come over UDP: asks for what is missing, passes on what is in order,
    /// and goes on where all before has come.
    pub(super) fn order_moved(&mut self, now: Instant, media: &mut Vec<Next>) -> Result<(), ClientError> {
        let Some(order) = &mut self.order else { return Ok(()) };
        if self.state.play_mut().is_none() {
            self.timers.stop(Timer::Order);
            return Ok(());
        }
        loop {
            let begin_packet_list = order.poll(now);
            if begin_packet_list.is_empty() {
                break;
            }
            let (client_id, source_id) = (self.client_id, self.file_id.0 as u16);
            let mut datagram = Vec::with_capacity(140);
            RequestPacketListResend { client_id, source_id, begin_packet_list }.encode(&mut datagram);
            self.outputs.push_back(Output::SendDatagram(datagram.into()));
        }
        self.pass_on(media);
        let Some(order) = &mut self.order else { return Ok(()) };
        match order.next_due(now) {
            Some(at) => self.timers.start(Timer::Order, at, Duration::ZERO),
            None => self.timers.stop(Timer::Order),
        }
        if order.is_settled(now) { self.settled(now, media) } else { Ok(()) }
    }

    /// What is in order goes up.
    fn pass_on(&mut self, media: &mut Vec<Next>) {
        let (Some(order), Some(play)) = (&mut self.order, self.state.play_mut()) else { return };
        while let Some(item) = order.pop() {
            media.push(match item {
                Item::Lost(packets) => Next::Lost { packets },
                Item::Packet(data) => play.packet(data),
            });
        }
    }

    /// All media that were sent so far are here, or will never be.
    fn settled(&mut self, now: Instant, media: &mut Vec<Next>) -> Result<(), ClientError> {
        match std::mem::replace(&mut self.state, State::Ready) {
            State::Settling { mut play, end } => {
                self.timers.stop(Timer::Order);
                if end == End::Complete && !self.has_media {
                    // A play of nothing is what a firewall makes of a short one.
                    return Err(ClientError::NoDatagrams);
                }
                self.play_is_over(now, &mut play);
                media.push(Next::Ended(end));
                Ok(())
            }
            State::NextHeader { play, reading } if reading.is_whole() => self.next_entry(now, play, reading, media),
            state => {
                self.state = state;
                Ok(())
            }
        }
    }

    /// Goes on once the header is whole.
    fn header_moved(&mut self, now: Instant, media: &mut Vec<Next>) -> Result<(), ClientError> {
        match std::mem::replace(&mut self.state, State::Ready) {
            State::AwaitHeader { opened, reading } if reading.is_whole() => {
                self.timers.stop(Timer::Header);
                self.header_complete(opened, reading)?;
                self.work_off_queue(now);
                Ok(())
            }
            State::NextHeader { play, reading } if reading.is_whole() => {
                self.timers.stop(Timer::Header);
                if self.order.is_some() {
                    // The media of the entry before come first; that they have is seen to in its turn.
                    self.state = State::NextHeader { play, reading };
                    return Ok(());
                }
                self.next_entry(now, play, reading, media)
            }
            state => {
                self.state = state;
                Ok(())
            }
        }
    }
}

impl Started {
    /// What goes up.
    fn packet(&mut self, data: Data) -> Next {
        self.received.count(data.payload.len());
        // A packet that can't be parsed still passes: protected content is none of our business.
        if let Ok(packet) = AsfPacket::parse(&data.payload) {
            self.last_send_time = packet.send_time_ms();
        }
        let number = PacketNumber(data.location_id.0.into());
        Next::from(Packet::new(number, self.last_send_time, data.payload.clone(), data.payload))
    }
}
