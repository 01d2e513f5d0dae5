//! The load: a process that plays all viewers, as few threads as asked for, each with its own epoll. Each packet that comes is
//! looked at: its number follows the one before, and it is stamped with it.

mod player;
mod tally;
mod viewer;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use mmsproxy::wire::mmsp::viewer_to_mac::{Accel, StartPlaying};
use serde::{Deserialize, Serialize};

use self::player::Player;
pub use self::tally::Report;
use self::tally::Tally;
use crate::common::process::raise_open_files;
use crate::common::script::{Script, start_playing};
use crate::common::shape::{PREROLL, Shape, now};
use crate::content::{FRAMED, framed_packet};

/// What is played.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub struct Plan {
    pub server: SocketAddr,
    pub protocol: Protocol,
    pub shape: Shape,
    pub viewers: usize,
    /// Viewers that connect in a second.
    pub join: f64,
    pub take: Take,
    /// Over so many packets viewers are spread in where they begin; 0 is all at the start.
    pub spread: u64,
    /// Each viewer plays a name of its own.
    pub own_names: bool,
    pub threads: usize,
}

/// How it is asked for.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Protocol {
    Mms,
    /// nginx's; what comes is framed in the same way.
    Http,
}

/// What each viewer takes.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub enum Take {
    /// At the content's pace for as long as it lasts; measured is a window of so many seconds, once all play.
    Window(u64),
    /// So many packets, as fast as they come.
    Packets(u64),
}

impl Plan {
    /// How long a viewer of a window plays at most, where nothing goes wrong.
    pub fn longest(viewers: usize, join: f64, seconds: u64) -> Duration {
        Duration::from_secs_f64(viewers as f64 / join) + SETTLING + Duration::from_secs(seconds) + GRACE + MARGIN
    }

    /// A key frame: what comes before the first one of a play is of no use, and the proxy leaves it out.
    fn first(&self, viewer: usize) -> u64 {
        let at = self.spread * viewer as u64 / self.viewers as u64;
        (0..=at).rev().find(|number| self.shape.is_key_frame(*number)).unwrap_or(0)
    }

    fn script(&self, viewer: usize) -> Script {
        let first = self.first(viewer);
        match self.protocol {
            Protocol::Http => {
                let at = first * framed_packet(self.shape);
                Script::http(&format!("GET /{FRAMED} HTTP/1.1\r\nHost: localhost\r\nRange: bytes={at}-\r\n\r\n"))
            }
            Protocol::Mms => {
                let name = if self.own_names { format!("content-{viewer}.asf") } else { "content.asf".into() };
                let start = start_playing();
                let location_id = if first == 0 { start.location_id } else { first as u32 };
                // The beginning is named as players do it, by the time 0.
                let position = if first == 0 { 0.0 } else { start.position };
                let all = matches!(self.take, Take::Packets(_)).then_some(u32::MAX);
                let accel = all.map(|all| Accel { bandwidth: all, duration_ms: all });
                Script::mms(&name, StartPlaying { position, location_id, accel, link_bandwidth: all, ..start })
            }
        }
    }
}

/// What the threads share.
#[derive(Debug, Default)]
struct Shared {
    /// Viewers that have media, or never will.
    settled: AtomicUsize,
    /// Viewers that have all they wanted, or never will.
    done: AtomicUsize,
    /// The window, in nanoseconds of the wall clock.
    begin: AtomicU64,
    end: AtomicU64,
    is_over: AtomicBool,
    /// Bytes that came so far.
    bytes: AtomicU64,
}

/// From the last join to the window: fast starts are over by then.
const SETTLING: Duration = PREROLL;
/// From the window to the end of all, for what comes late.
const GRACE: Duration = Duration::from_secs(1);
/// What joins may take longer than planned while the content still lasts.
const MARGIN: Duration = Duration::from_secs(15);
/// How long joins may take beyond their schedule, and how long nothing may come.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often the threads are asked how far they are.
const POLL: Duration = Duration::from_millis(5);

/// Prints `begin` where a window begins, `end` when all is measured, then a [`Report`] as JSON.
pub fn run(plan: &Plan) -> anyhow::Result<()> {
    raise_open_files()?;
    let shared = Arc::new(Shared { begin: u64::MAX.into(), end: u64::MAX.into(), ..Shared::default() });
    let threads = plan.threads.clamp(1, plan.viewers.max(1));
    let mut players = Vec::new();
    let began = Instant::now();
    for thread in 0..threads {
        let indices = (thread..plan.viewers).step_by(threads);
        let player = Player::new(*plan, indices, Arc::clone(&shared))?;
        players.push(thread::spawn(move || player.run()));
    }
    let (bytes, seconds) = match plan.take {
        Take::Window(seconds) => (window(plan, &shared, seconds), seconds as f64),
        Take::Packets(_) => {
            let patience = Duration::from_secs_f64(plan.viewers as f64 / plan.join) + PATIENCE;
            let (mut last, mut since) = (0, Instant::now());
            while shared.done.load(Ordering::Acquire) < plan.viewers {
                let bytes = shared.bytes.load(Ordering::Acquire);
                if bytes != last {
                    (last, since) = (bytes, Instant::now());
                }
                ensure!(since.elapsed() < patience, "nothing comes any more, {bytes} bytes came");
                thread::sleep(POLL);
            }
            (shared.bytes.load(Ordering::Acquire), began.elapsed().as_secs_f64())
        }
    };
    println!("end");
    if let Take::Window(_) = plan.take {
        thread::sleep(GRACE);
    }
    shared.is_over.store(true, Ordering::Release);
    let mut tally = Tally::new()?;
    for player in players {
        tally.add(&player.join().ok().context("a thread of the load failed")??)?;
    }
    println!("{}", serde_json::to_string(&tally.report(bytes, seconds))?);
    Ok(())
}

/// Waits for the window and through it; how many bytes came within.
fn window(plan: &Plan, shared: &Shared, seconds: u64) -> u64 {
    let patience = Duration::from_secs_f64(plan.viewers as f64 / plan.join) + PATIENCE;
    let began = Instant::now();
    while shared.settled.load(Ordering::Acquire) < plan.viewers && began.elapsed() < patience {
        thread::sleep(POLL);
    }
    let window = Duration::from_secs(seconds);
    let begin = now() + SETTLING.as_nanos() as u64;
    shared.end.store(begin + window.as_nanos() as u64, Ordering::Release);
    shared.begin.store(begin, Ordering::Release);
    thread::sleep(SETTLING);
    println!("begin");
    let before = shared.bytes.load(Ordering::Acquire);
    thread::sleep(window);
    shared.bytes.load(Ordering::Acquire) - before
}
