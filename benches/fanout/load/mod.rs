//! The load: a process that plays all viewers. A few threads, one unless asked for more, each with its own epoll; no task, no
//! timer and no buffer for each viewer, for whatever the load costs is missing to the server beside it.

mod datagrams;
mod player;
mod tally;
mod viewer;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use serde::{Deserialize, Serialize};

use self::player::Player;
pub use self::tally::Report;
use self::tally::Tally;
use crate::common::process::raise_open_files;
use crate::common::script::{Script, start_playing};
use crate::common::shape::{Shape, now};

/// What is played.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub struct Plan {
    pub server: SocketAddr,
    pub protocol: Protocol,
    /// Data come over UDP.
    pub udp: bool,
    pub shape: Shape,
    pub viewers: usize,
    /// Viewers that connect in a second.
    pub join: f64,
    /// Length of the window that is measured.
    pub seconds: u64,
    /// Percentage of viewers that stop reading once they have joined.
    pub stalled: u32,
    /// Whether one more viewer after another joins within the window.
    pub hot_join: bool,
    pub threads: usize,
}

/// How the broadcast is asked for.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Protocol {
    Mms,
    /// icecast2's; what comes is framed in the same way.
    Http,
}

impl Protocol {
    fn script(self) -> Script {
        match self {
            Self::Mms => Script::mms("live", start_playing()),
            Self::Http => Script::http("GET /live HTTP/1.0\r\nUser-Agent: fanout\r\n\r\n"),
        }
    }
}

impl Plan {
    /// Whether viewer `index` stops reading: spread evenly over all.
    fn stalls(&self, index: usize) -> bool {
        let before = |index: usize| index * self.stalled as usize / 100;
        before(index) != before(index + 1)
    }
}

/// What the threads share.
#[derive(Debug, Default)]
struct Shared {
    /// Viewers that have media, or never will.
    settled: AtomicUsize,
    /// The window, in nanoseconds of the wall clock.
    begin: AtomicU64,
    end: AtomicU64,
    is_over: AtomicBool,
    /// Bytes that came so far.
    bytes: AtomicU64,
}

/// From the last join to the window: bursts are over by then.
const SETTLING: Duration = Duration::from_secs(2);
/// What comes later than this after the window counts as lost.
const GRACE: Duration = Duration::from_secs(1);
/// How long joins may take beyond their schedule.
const JOIN_PATIENCE: Duration = Duration::from_secs(30);

/// Prints `begin` and `end` when the window begins and ends, then a [`Report`] as JSON.
pub fn run(plan: &Plan) -> anyhow::Result<()> {
    raise_open_files()?;
    let shared = Arc::new(Shared { begin: u64::MAX.into(), end: u64::MAX.into(), ..Shared::default() });
    let threads = plan.threads.clamp(1, plan.viewers.max(1));
    let mut players = Vec::new();
    for thread in 0..threads {
        let indices = (thread..plan.viewers).step_by(threads);
        let player = Player::new(*plan, indices, Arc::clone(&shared))?;
        players.push(thread::spawn(move || player.run()));
    }
    let patience = Duration::from_secs_f64(plan.viewers as f64 / plan.join) + JOIN_PATIENCE;
    let began = Instant::now();
    while shared.settled.load(Ordering::Acquire) < plan.viewers && began.elapsed() < patience {
        thread::sleep(Duration::from_millis(20));
    }
    let window = Duration::from_secs(plan.seconds);
    let begin = now() + SETTLING.as_nanos() as u64;
    shared.end.store(begin + window.as_nanos() as u64, Ordering::Release);
    shared.begin.store(begin, Ordering::Release);
    thread::sleep(SETTLING);
    println!("begin");
    let before = shared.bytes.load(Ordering::Acquire);
    let hot = plan.hot_join.then(|| {
        let (plan, shared) = (*plan, Arc::clone(&shared));
        thread::spawn(move || player::join_one_after_another(&plan, &shared))
    });
    thread::sleep(window);
    println!("end");
    let bytes = shared.bytes.load(Ordering::Acquire) - before;
    thread::sleep(GRACE);
    shared.is_over.store(true, Ordering::Release);
    let mut tally = Tally::new()?;
    for player in players {
        tally.add(&player.join().ok().context("a thread of the load failed")??)?;
    }
    if let Some(hot) = hot {
        tally.add(&hot.join().ok().context("the thread of joiners failed")??)?;
    }
    println!("{}", serde_json::to_string(&tally.report(plan, bytes))?);
    Ok(())
}
