//! The proof of fidelity: an entry packet by packet against its origin, which is played as a player would play it.
//!
//! Two packets are equal when they are so but for padding, which an origin may leave out: what is compared are digests of
//! the rest.

use std::fmt::Write;
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::BytesMut;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use indicatif::{ProgressBar, ProgressStyle};

use crate::asf::Header;
use crate::cache::disk::Found;
use crate::cache::{Packets, digest};
use crate::commands::visit::{Answer, Visit};
use crate::content::{HostPort, MmsUrl};
use crate::session::mmsp::client::Event;
use crate::session::{Cursor, End, Next, Opened};

/// Enough of a SHA-256 to tell packets apart.
type Digest = [u8; 16];

/// What is kept of an entry.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Digests {
    header: Digest,
    packets: Vec<Known>,
}

/// What is known of a number, or what an origin sent by it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Known {
    #[default]
    Nothing,
    Absent,
    Packet(Digest),
}

/// More numbers than any content has: what declares them takes no memory.
const MAX_PACKETS: usize = 1 << 28;

impl Digests {
    /// Of files.
    pub(super) fn of(found: &Found) -> anyhow::Result<Self> {
        let header = Header::parse(found.meta.header.clone())?;
        let mut digests = Self { header: cut(digest(header.bytes())), packets: Vec::new() };
        Packets::of(found)?.each(|number, packet| {
            digests.put(number, packet.map_or(Known::Absent, |packet| Known::Packet(cut(digest(&packet)))));
            Ok(())
        })?;
        Ok(digests)
    }

    /// As the admin endpoint lists them.
    pub(super) async fn read(mut body: Incoming) -> anyhow::Result<Self> {
        let mut digests = Self::default();
        let mut unread = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.context("the proxy breaks off")?;
            unread.extend_from_slice(frame.data_ref().map_or(&[][..], |piece| piece));
            while let Some(end) = unread.iter().position(|byte| *byte == b'\n') {
                let line = unread.split_to(end + 1);
                digests.line(std::str::from_utf8(&line)?.trim_end())?;
            }
        }
        Ok(digests)
    }

    fn line(&mut self, line: &str) -> anyhow::Result<()> {
        let makes_no_sense = || format!("the proxy's answer makes no sense: {line}");
        let (what, value) = line.split_once(' ').with_context(makes_no_sense)?;
        let known = match value {
            "absent" => Known::Absent,
            value => Known::Packet(unhex(value).with_context(makes_no_sense)?),
        };
        match (what, known) {
            ("header", Known::Packet(header)) => self.header = header,
            (number, known) => self.put(number.parse().with_context(makes_no_sense)?, known),
        }
        Ok(())
    }

    fn put(&mut self, number: u64, known: Known) {
        let Some(at) = usize::try_from(number).ok().filter(|at| *at < MAX_PACKETS) else { return };
        if self.packets.len() <= at {
            self.packets.resize(at + 1, Known::Nothing);
        }
        if let Some(place) = self.packets.get_mut(at) {
            *place = known;
        }
    }
}

fn cut([first @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _]: [u8; 32]) -> Digest {
    first
}

fn unhex(text: &str) -> Option<Digest> {
    let mut digest = Digest::default();
    for (at, byte) in digest.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok()?;
    }
    Some(digest)
}

/// Where an entry and its origin differ.
#[derive(Debug, Default, Eq, PartialEq)]
pub(super) struct Comparison {
    is_same_header: bool,
    equal: u64,
    /// Other than the origin's.
    different: Vec<u64>,
    /// Said to be absent here, and the origin has them.
    wrongly_absent: Vec<u64>,
    /// Here, and the origin did not send them.
    not_sent: Vec<u64>,
    /// Not fetched yet.
    unknown: Vec<u64>,
}

impl Comparison {
    fn of(kept: &Digests, sent: &Digests) -> Self {
        let mut found = Self { is_same_header: kept.header == sent.header, ..Self::default() };
        let count = kept.packets.len().max(sent.packets.len());
        let at = |digests: &Digests, at: usize| digests.packets.get(at).copied().unwrap_or_default();
        for (number, place) in (0..count).enumerate() {
            let number = number as u64;
            match (at(kept, place), at(sent, place)) {
                (Known::Packet(here), Known::Packet(there)) if here == there => found.equal += 1,
                (Known::Packet(_), Known::Packet(_)) => found.different.push(number),
                (Known::Absent, Known::Packet(_)) => found.wrongly_absent.push(number),
                (Known::Packet(_), _) => found.not_sent.push(number),
                (Known::Nothing, Known::Packet(_)) => found.unknown.push(number),
                (Known::Nothing | Known::Absent, _) => {}
            }
        }
        found
    }

    /// What is here is what the origin sends, whether all of it is here or not.
    pub(super) fn is_right(&self) -> bool {
        let wrong = [&self.different, &self.wrongly_absent, &self.not_sent];
        self.is_same_header && wrong.iter().all(|numbers| numbers.is_empty())
    }

    /// Line by line.
    pub(super) fn told(&self, url: &str) -> String {
        let mut text = format!("{url}: {} packets are the origin's\n", self.equal);
        if !self.is_same_header {
            text.push_str("  the header is another at the origin\n");
        }
        let lists = [
            ("differ from the origin's", &self.different),
            ("are missing here, and the origin has them", &self.wrongly_absent),
            ("are here, and the origin does not send them", &self.not_sent),
            ("are not fetched yet", &self.unknown),
        ];
        for (what, numbers) in lists.iter().filter(|(_, numbers)| !numbers.is_empty()) {
            // Writing to a String never fails.
            let _ = writeln!(text, "  {} {what}: {}", numbers.len(), ranges(numbers));
        }
        text
    }
}

/// `3, 7-9, …`
fn ranges(numbers: &[u64]) -> String {
    const SHOWN: usize = 20;
    let runs = numbers.chunk_by(|one, next| one + 1 == *next);
    let mut texts: Vec<String> = runs
        .clone()
        .take(SHOWN)
        .map(|run| match run {
            [first, .., last] => format!("{first}-{last}"),
            run => run.iter().map(u64::to_string).collect(),
        })
        .collect();
    if runs.count() > SHOWN {
        texts.push("…".to_owned());
    }
    texts.join(", ")
}

/// How much faster than it plays an origin is asked to send; those of version 9 and later do.
const FASTER: u32 = 100;

/// Plays all of what a key names at its origin.
pub(super) async fn compare(url: &str, kept: &Digests) -> anyhow::Result<Comparison> {
    let url = origin_url(url)?;
    let mut visit = Visit::connect(&url, None).await?;
    let opened = match visit.open(&url).await? {
        Answer::Opened(opened) => opened,
        Answer::LoginRequired(scheme) => bail!("the origin wants a login ({scheme})"),
        Answer::Redirected(location) => bail!("the origin sends elsewhere: {location}"),
        Answer::Refused(why) => bail!("the origin refuses: {why}"),
    };
    let sent = play(&mut visit, &opened).await;
    visit.close().await;
    Ok(Comparison::of(kept, &sent?))
}

/// A key's name is one that was decoded: what would be decoded once more is escaped.
fn origin_url(url: &str) -> anyhow::Result<MmsUrl> {
    let key = url.strip_prefix("mms://").context("it has no origin")?;
    let (host, name) = key.split_once('/').context("it has no name")?;
    let HostPort { host, port } = HostPort::parse(host)?;
    let path = format!("/{}", name.replace('%', "%25"));
    Ok(MmsUrl { scheme: crate::content::Scheme::Mms, host, port, path })
}

async fn play(visit: &mut Visit, opened: &Opened) -> anyhow::Result<Digests> {
    let mut sent = Digests { header: cut(digest(opened.header.bytes())), packets: Vec::new() };
    let (mut cursor, bell) = visit.play(opened, FASTER)?;
    let style = ProgressStyle::with_template("{elapsed_precise} [{bar:40}] {percent}% of the origin's packets")?;
    let bar = ProgressBar::new(opened.description.packet_count).with_style(style);
    let mut tick = tokio::time::interval(Duration::from_millis(100));
    loop {
        loop {
            match cursor.next() {
                Next::Packet(packet) => {
                    sent.put(packet.number.0, Known::Packet(cut(digest(&packet.bytes))));
                    bar.set_position(packet.number.0);
                }
                Next::Ended(End::Complete) => {
                    bar.finish_and_clear();
                    return Ok(sent);
                }
                Next::Ended(End::Failed(refusal)) => bail!("the origin ends early: {refusal}"),
                Next::Changed(_) => bail!("the origin plays another content"),
                Next::Skipped { .. } | Next::Resumed | Next::Lost { .. } => {}
                Next::Nothing => break,
            }
        }
        tokio::select! {
            () = bell.notified() => {}
            _ = tick.tick() => {}
            event = visit.upstream.next() => match event {
                Ok(Event::Refused(refusal)) => bail!("the origin refuses: {refusal}"),
                Ok(_) => {}
                Err(error) => return Err(error).context("the origin is lost"),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digests(packets: &[Known]) -> Digests {
        Digests { header: [1; 16], packets: packets.to_vec() }
    }

    const ONE: Known = Known::Packet([1; 16]);
    const OTHER: Known = Known::Packet([2; 16]);

    #[test]
    fn what_differs_is_named_by_its_number() {
        let kept = digests(&[ONE, ONE, Known::Absent, Known::Absent, ONE, ONE, ONE, Known::Nothing]);
        let sent = digests(&[ONE, OTHER, ONE, Known::Nothing, Known::Nothing, OTHER, OTHER, ONE, ONE]);
        let found = Comparison::of(&kept, &sent);
        assert!(!found.is_right());
        let want = "mms://h/a: 1 packets are the origin's\n  \
                    3 differ from the origin's: 1, 5-6\n  \
                    1 are missing here, and the origin has them: 2\n  \
                    1 are here, and the origin does not send them: 4\n  \
                    2 are not fetched yet: 7-8\n";
        assert_eq!(found.told("mms://h/a"), want);
    }

    #[test]
    fn a_part_that_is_right_is_right_and_another_header_is_not() {
        let part = digests(&[ONE, Known::Nothing]);
        assert!(Comparison::of(&part, &digests(&[ONE, ONE])).is_right());
        let other = Digests { header: [9; 16], ..digests(&[ONE, ONE]) };
        assert!(!Comparison::of(&part, &other).is_right());
    }

    #[test]
    fn a_list_of_digests_is_read_line_by_line() {
        let mut digests = Digests::default();
        let one = "01".repeat(32);
        for line in [format!("header {one}"), format!("1 {one}"), "3 absent".to_owned()] {
            digests.line(&line).unwrap();
        }
        assert_eq!(digests, super::tests::digests(&[Known::Nothing, ONE, Known::Nothing, Known::Absent]));
        for line in ["", "1", "x absent", "1 0g", "header absent"] {
            assert!(digests.line(line).is_err(), "{line}");
        }
    }

    #[test]
    fn the_origin_is_asked_for_the_name_of_the_key() {
        let url = origin_url("mms://[::1]:1755/a 100%41?x").unwrap();
        assert_eq!((url.host.as_str(), url.port), ("::1", Some(1755)));
        assert_eq!(crate::content::Name::parse(&url.path).unwrap().as_str(), "a 100%41?x");
    }
}
