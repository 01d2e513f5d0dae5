//! `mmsproxy probe`: what an origin offers.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::bail;

use super::visit::{Answer, Visit};
use crate::asf::StreamKind;
use crate::cli::ProbeArgs;
use crate::session::{Opened, Request};

/// Opens the content, reads its header, and prints what it is. MMS over TCP is what there is so far.
pub async fn probe(args: &ProbeArgs) -> anyhow::Result<()> {
    let mut visit = Visit::connect(&args.url, args.via.as_ref()).await?;
    println!("{}", args.url);
    println!("  MMS over TCP: server {}", visit.version);
    let scheme = visit.scheme.map_or("none announced".to_owned(), |scheme| scheme.to_string());
    println!("  login: {scheme}");
    let answer = visit.open(&args.url).await?;
    match &answer {
        Answer::Opened(opened) => {
            print!("{}", describe(opened));
            visit.upstream.request(Request::Stop)?;
        }
        Answer::LoginRequired(scheme) => println!("  a login is required: {scheme}"),
        Answer::Redirected(location) => println!("  it is elsewhere: {location}"),
        Answer::Refused(why) => println!("  refused: {why}"),
    }
    visit.close().await;
    match answer {
        Answer::Refused(_) => bail!("the content could not be opened"),
        _ => Ok(()),
    }
}

/// The lines that say what content is.
fn describe(opened: &Opened) -> String {
    let (description, header) = (&opened.description, &opened.header);
    let kind = if description.broadcast { "broadcast" } else { "on-demand" };
    let mut traits = vec![kind.to_owned()];
    let named = [
        (description.live, "live"),
        (description.playlist, "playlist"),
        (description.can_seek, "seekable"),
        (description.can_stride, "fast forward and rewind"),
    ];
    traits.extend(named.iter().filter(|(is, _)| *is).map(|(_, name)| (*name).to_owned()));
    if description.duration_seconds > 0.0 {
        traits.push(clock(Duration::try_from_secs_f64(description.duration_seconds).unwrap_or_default()));
    }
    let mut text = format!("  {}\n", traits.join(", "));
    let count = match description.packet_count {
        0 => "packets".to_owned(),
        count => format!("{count} packets"),
    };
    let rate = kilobits(description.bit_rate);
    // Writing to a String never fails.
    let _ = writeln!(
        text,
        "  {rate}, {count} of {} bytes, a header of {} bytes, preroll {:?}",
        header.packet_size(),
        header.bytes().len(),
        header.preroll()
    );
    for stream in header.streams() {
        let kind = match stream.kind {
            StreamKind::Audio => "audio",
            StreamKind::Video => "video",
            StreamKind::Script => "script",
            StreamKind::Image => "image",
            StreamKind::FileTransfer => "file transfer",
            StreamKind::Other(_) => "other",
        };
        let rate = if stream.bit_rate == 0 { String::new() } else { format!(", {}", kilobits(stream.bit_rate)) };
        let encrypted = if stream.encrypted { ", encrypted" } else { "" };
        let _ = writeln!(text, "  stream {}: {kind}{rate}{encrypted}", stream.number);
    }
    text
}

fn kilobits(bits_per_second: u32) -> String {
    format!("{:.0} kb/s", f64::from(bits_per_second) / 1e3)
}

fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{seconds:02}") } else { format!("{minutes}:{seconds:02}") }
}
