//! Many viewers of one broadcast through the proxy, over real sockets on loopback.
//!
//! `cargo bench --bench viewers -- 200 30` runs `mmsproxy serve` as a process of its own, in front of an embedded origin
//! in this one, and plays its broadcast with 200 viewers for 30 s. It prints what the proxy needed, CPU seconds for each
//! gigabit to viewers and resident memory at four times, and fails where a viewer lost a packet or its connection.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use mmsproxy::demo::origin::OriginSource;
use mmsproxy::demo::{DEMO_BROADCAST, demo_library};
use mmsproxy::metrics::Metrics;
use mmsproxy::server::{self, Server};
use mmsproxy::session::mmsp::server::Settings as SessionSettings;
use mmsproxy::wire::mmsp::data::AF_HEADER_LAST;
use mmsproxy::wire::mmsp::deframer::{Deframer, Frame};
use mmsproxy::wire::mmsp::ids::{FileId, PacketPairMode};
use mmsproxy::wire::mmsp::subscriber_name::SubscriberName;
use mmsproxy::wire::mmsp::{mac_to_viewer as down, viewer_to_mac as up};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

/// Viewers that connect in one second.
const JOINS_PER_SECOND: u32 = 100;
/// The longest time without a packet that is no failure.
const PATIENCE: Duration = Duration::from_secs(10);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    // `cargo test --all-targets` runs this, too.
    if !std::env::args().any(|argument| argument == "--bench") {
        return Ok(());
    }
    let mut numbers = std::env::args().filter_map(|argument| argument.parse::<u32>().ok());
    let viewers = numbers.next().unwrap_or(50);
    let length = Duration::from_secs(numbers.next().unwrap_or(10).into());
    let origin = start_origin().await?;
    let (mms, admin) = (free_address().await?, free_address().await?);
    let mut config = tempfile::NamedTempFile::with_suffix(".yaml")?;
    write!(
        config,
        "listen: {{ mms: [\"{mms}\"], admin: \"{admin}\" }}\norigin: {{ sessions: {viewers} }}\n\
         routes: [{{ origin: \"mms://{origin}\" }}]\n"
    )?;
    let proxy = Proxy::start(&config, mms).await?;

    let totals = Arc::new(Totals::default());
    let end = Instant::now() + Duration::from_secs((viewers / JOINS_PER_SECOND).into()) + length;
    let mut joined = tokio::time::interval(Duration::from_secs(1) / JOINS_PER_SECOND);
    let mut tasks = Vec::new();
    for _ in 0..viewers {
        joined.tick().await;
        tasks.push(tokio::spawn(watch(mms, end, Arc::clone(&totals))));
    }
    let (cpu_before, bytes_before, begin) = (proxy.cpu()?, totals.bytes(), Instant::now());
    let mut resident = vec![proxy.resident_kib()?];
    for _ in 0..3 {
        tokio::time::sleep(length / 4).await;
        resident.push(proxy.resident_kib()?);
    }
    let (cpu, bytes, measured) = (proxy.cpu()? - cpu_before, totals.bytes() - bytes_before, begin.elapsed());
    let mut failures = 0;
    for task in tasks {
        if let Err(error) = task.await? {
            failures += 1;
            eprintln!("a viewer failed: {error:#}");
        }
    }
    let gigabits = bytes as f64 * 8.0 / 1e9;
    println!("viewers           {viewers}, {failures} failed");
    println!("sent to them      {gigabits:.3} Gbit in {:.1} s", measured.as_secs_f64());
    println!("CPU of the proxy  {:.2} s, {:.2} s for each Gbit", cpu.as_secs_f64(), cpu.as_secs_f64() / gigabits);
    println!("memory, KiB       {resident:?}");
    ensure!(failures == 0, "{failures} viewers failed");
    Ok(())
}

#[derive(Debug, Default)]
struct Totals(AtomicU64);

impl Totals {
    fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

async fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?.local_addr()?)
}

async fn start_origin() -> anyhow::Result<SocketAddr> {
    let settings = server::Settings {
        viewers: 100_000,
        viewers_per_address: 100_000,
        kernel_buffer: 64 * 1024,
        flush: Duration::from_millis(100),
        writers: 1,
        transparent: false,
        session: SessionSettings::default(),
    };
    let server = Server::new(settings, Metrics::new()?.counters);
    let listener = server::bind((Ipv4Addr::LOCALHOST, 0).into())?;
    let address = listener.local_addr()?;
    let library = demo_library(Instant::now())?;
    tokio::spawn(server.accept(listener, Arc::new(OriginSource::new(library))));
    Ok(address)
}

/// The proxy as a process; ends with this value.
struct Proxy(Child);

impl Proxy {
    async fn start(config: &tempfile::NamedTempFile, mms: SocketAddr) -> anyhow::Result<Self> {
        let child = Command::new(env!("CARGO_BIN_EXE_mmsproxy"))
            .args(["serve", "--config"])
            .arg(config.path())
            .env("RUST_LOG", "warn")
            .stdout(Stdio::null())
            .spawn()
            .context("can't start the proxy")?;
        let proxy = Self(child);
        let ready = async {
            while TcpStream::connect(mms).await.is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(PATIENCE, ready).await.context("the proxy does not listen")?;
        Ok(proxy)
    }

    /// User and system time, from fields 14 and 15 of `/proc/…/stat`, in ticks of 10 ms.
    fn cpu(&self) -> anyhow::Result<Duration> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.0.id()))?;
        let (_, fields) = stat.rsplit_once(')').context("no name in stat")?;
        let ticks: Vec<u64> =
            fields.split_whitespace().skip(11).take(2).filter_map(|field| field.parse().ok()).collect();
        Ok(Duration::from_millis(10 * ticks.iter().sum::<u64>()))
    }

    fn resident_kib(&self) -> anyhow::Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        line.trim().trim_end_matches(" kB").parse().context("VmRSS is no number")
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // Nothing can be done about one that is gone already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// One viewer's connection.
struct Viewer {
    stream: TcpStream,
    deframer: Deframer,
    seq: u16,
}

impl Viewer {
    async fn send(&mut self, message: impl Into<up::Message>) -> anyhow::Result<()> {
        let mut bytes = Vec::new();
        message.into().encode(self.seq, &mut bytes);
        self.seq = self.seq.wrapping_add(1);
        Ok(self.stream.write_all(&bytes).await?)
    }

    async fn frame(&mut self) -> anyhow::Result<Frame> {
        loop {
            if let Some(frame) = self.deframer.next_frame()? {
                return Ok(frame);
            }
            self.deframer.buffer().reserve(64 * 1024);
            let read = timeout(PATIENCE, self.stream.read_buf(self.deframer.buffer())).await;
            ensure!(read.context("nothing came for 10 s")?? > 0, "the connection was closed");
        }
    }

    /// Waits for the message `name`; the codes of the two that can refuse are looked at.
    async fn expect(&mut self, name: &str) -> anyhow::Result<()> {
        loop {
            let Frame::Message(raw) = self.frame().await? else { continue };
            let message = down::Message::decode(&raw)?;
            match &message {
                down::Message::ReportConnectedEx(report) => ensure!(!report.hr.is_failure(), "refused: {}", report.hr),
                down::Message::ReportOpenFile(report) => ensure!(!report.hr.is_failure(), "refused: {}", report.hr),
                down::Message::ReportEndOfStream(end) => bail!("the stream ended: {}", end.hr),
                _ => {}
            }
            if message.name() == name {
                return Ok(());
            }
        }
    }
}

/// Plays until `end`; every packet has to follow the one before it.
async fn watch(proxy: SocketAddr, end: Instant, totals: Arc<Totals>) -> anyhow::Result<()> {
    let stream = TcpStream::connect(proxy).await?;
    let mut viewer = Viewer { stream, deframer: Deframer::for_client(), seq: 0 };
    let name = "NSPlayer/7.0.0.1956; {68c0a090-8797-11d2-a2b3-00a0c9b60551}";
    let subscriber_name = SubscriberName::parse(name);
    viewer.send(up::Connect { play_incarnation: PacketPairMode::DISABLE, subscriber_name }).await?;
    viewer.expect("ReportConnectedEx").await?;
    viewer.send(up::ConnectFunnel { funnel_name: r"\\127.0.0.1\TCP\1037".into(), max_bit_rate: 10_000_000 }).await?;
    viewer.expect("ReportConnectedFunnel").await?;
    let file_name = DEMO_BROADCAST.to_owned();
    viewer.send(up::OpenFile { play_incarnation: 9, file_name, token_data: Bytes::new() }).await?;
    viewer.expect("ReportOpenFile").await?;
    viewer.send(up::ReadBlock { open_file_id: FileId(1), play_incarnation: 1 }).await?;
    while !matches!(viewer.frame().await?, Frame::Data(data) if data.af_flags == AF_HEADER_LAST) {}
    let entries = [1, 2].map(|stream| up::StreamSwitchEntry {
        src_stream_number: 0xFFFF,
        dst_stream_number: stream,
        thinning_level: 0,
    });
    viewer.send(up::StreamSwitch { entries: entries.into() }).await?;
    viewer.expect("ReportStreamSwitch").await?;
    viewer
        .send(up::StartPlaying {
            open_file_id: FileId(1),
            position: 0.0,
            asf_offset: u32::MAX,
            location_id: u32::MAX,
            frame_offset: 0,
            play_incarnation: 10,
            accel: None,
            link_bandwidth: None,
        })
        .await?;
    viewer.expect("ReportStartedPlaying").await?;
    let mut before: Option<u32> = None;
    while Instant::now() < end {
        match viewer.frame().await? {
            Frame::Data(data) => {
                let number = data.location_id.0;
                if let Some(before) = before {
                    ensure!(number == before.wrapping_add(1), "packet {number} came after {before}");
                }
                before = Some(number);
                totals.0.fetch_add(8 + data.payload.len() as u64, Ordering::Relaxed);
            }
            Frame::Message(raw) => {
                if let down::Message::ReportEndOfStream(end) = down::Message::decode(&raw)? {
                    bail!("the stream ended: {}", end.hr);
                }
            }
        }
    }
    viewer.send(up::CloseFile { open_file_id: FileId(1) }).await
}
