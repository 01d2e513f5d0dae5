//! A viewer's plays, as the access log tells them: what was asked, when it began and ended, and the player's report of
//! it.
//!
//! A report comes after its play: players send Logging right after StopPlaying, or when they got EndOfStream. So the
//! record of a play that ended is held until its report comes, the next play begins, or the session ends.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::{ViewerError, outcome};
use crate::server::access_log::AccessLog;
use crate::server::access_log::record::{self, Content, Outcome, Record, Report, Sent, Who};
use crate::server::counters::Counters;
use crate::session::mmsp::server::{Closing, Session};
use crate::session::{Caller, Play, PlayerLog, Position, Refusal, Request};
use crate::wire::mmsp::ids::HResult;

/// A viewer's plays; nothing where no access log is kept.
#[derive(Debug, Default)]
pub(in crate::server) struct Plays(Option<Box<Kept>>);

/// What a session shows at some moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shown<'a> {
    pub(super) is_streaming: bool,
    pub(super) content: Option<Content>,
    /// Why the last play broke.
    pub(super) failure: Option<&'a Refusal>,
    /// In all.
    pub(super) sent: Sent,
}

#[derive(Debug)]
struct Kept {
    log: Arc<AccessLog>,
    counters: Arc<Counters>,
    who: Arc<Who>,
    /// The way that Data take.
    transport: &'static str,
    /// What was asked for last; `None` before OpenFile.
    name: Option<Arc<str>>,
    /// The content was asked for and is not open yet.
    is_opening: bool,
    /// The source was asked for media and has not answered.
    asked: Option<Asked>,
    playing: Option<Playing>,
    /// Waits for its report.
    ended: Option<Box<Record>>,
}

#[derive(Clone, Copy, Debug)]
struct Asked {
    start: Option<Duration>,
    rate: f64,
}

#[derive(Clone, Copy, Debug)]
struct Playing {
    asked: Asked,
    content: Option<Content>,
    began: Instant,
    sent: Sent,
}

impl<'a> Shown<'a> {
    pub(super) fn of(session: &'a Session, sent: Sent) -> Self {
        let content = session.opened().map(|opened| Content {
            broadcast: opened.description.broadcast,
            duration_seconds: opened.description.duration_seconds,
        });
        Self { is_streaming: session.is_streaming(), content, failure: session.failure(), sent }
    }
}

impl Plays {
    /// The plays of a viewer that just came.
    pub(in crate::server) fn of(
        session_id: u64,
        client: SocketAddr,
        server: Option<IpAddr>,
        log: &Arc<AccessLog>,
        counters: &Arc<Counters>,
    ) -> Self {
        let who = Who { session_id, client, server, player: String::new(), guid: None, host: None, sends_logs: false };
        Self(Some(Box::new(Kept {
            log: Arc::clone(log),
            counters: Arc::clone(counters),
            who: Arc::new(who),
            transport: "TCP",
            name: None,
            is_opening: false,
            asked: None,
            playing: None,
            ended: None,
        })))
    }

    /// Data take that way from here on.
    pub(super) fn travel(&mut self, transport: &'static str) {
        if let Some(kept) = &mut self.0 {
            kept.transport = transport;
        }
    }

    /// The session asks the source.
    pub(super) fn request(&mut self, request: &Request, shown: Shown<'_>) {
        let Some(kept) = &mut self.0 else { return };
        match request {
            Request::Greet(caller) => kept.greet(caller),
            Request::Open(open) => {
                kept.write_ended(None);
                kept.name = Some(record::name(&open.name));
                kept.is_opening = true;
            }
            Request::Play(play) => {
                kept.end(shown);
                kept.write_ended(None);
                kept.asked = Some(Asked::from(play));
            }
            Request::Stop | Request::Close => {
                kept.asked = None;
                kept.end(shown);
            }
            Request::Log(PlayerLog::ClientLog(bytes)) => {
                // A play that came to its end is noticed here first, where its player was quick. While one is on, the
                // report is of one before it, which has its line.
                if !shown.is_streaming {
                    kept.end(shown);
                    kept.write_ended(Report::new(bytes));
                }
            }
            Request::Answer(_) | Request::Select(_) => {}
        }
    }

    /// The session has said what it wants: a play may have begun or ended since.
    pub(super) fn settle(&mut self, shown: Shown<'_>) {
        let Some(kept) = &mut self.0 else { return };
        if shown.content.is_some() {
            kept.is_opening = false;
        }
        if !shown.is_streaming {
            kept.end(shown);
        } else if let Some(asked) = kept.asked.take() {
            kept.playing = Some(Playing { asked, content: shown.content, began: Instant::now(), sent: shown.sent });
        }
    }

    /// The source refused what the session asked for last.
    pub(super) fn refused(&mut self, refusal: &Refusal, shown: Shown<'_>) {
        let Some(kept) = &mut self.0 else { return };
        // A refusal of content ends the session, and is told then.
        if kept.asked.take().is_some() {
            kept.write_refused(Outcome::refused(refusal), shown.content);
        }
    }

    /// The operator ends the session.
    pub(super) fn kicked(&mut self, refusal: &Refusal, sent: Sent) {
        let Some(kept) = &mut self.0 else { return };
        kept.end_with(Outcome::refused(refusal), sent);
    }

    /// The session is over.
    pub(super) fn finish(&mut self, result: &Result<Closing, ViewerError>, shown: Shown<'_>) {
        let Some(mut kept) = self.0.take() else { return };
        let is_waiting = kept.is_opening || kept.asked.is_some();
        if let Some(outcome) = refusal(result).filter(|_| is_waiting) {
            kept.write_refused(outcome, None);
        }
        // A player may leave at EndOfStream before anybody else looks. One that says what it may not say ends a play
        // that was on.
        if !shown.is_streaming && !matches!(result, Err(ViewerError::Session(_))) {
            kept.end(shown);
        }
        let outcome = end_of_play(result, kept.who.sends_logs);
        kept.end_with(outcome, shown.sent);
        kept.write_ended(None);
    }
}

impl Kept {
    fn greet(&mut self, caller: &Caller) {
        let Who { session_id, client, server, .. } = *self.who;
        let who = Who {
            session_id,
            client,
            server,
            player: caller.user_agent.clone(),
            guid: caller.guid.clone(),
            host: caller.host.clone(),
            sends_logs: caller.sends_logs,
        };
        self.who = Arc::new(who.bounded());
    }

    /// A play that is on has come to its end, or broke.
    fn end(&mut self, shown: Shown<'_>) {
        if self.playing.is_some() {
            self.end_with(shown.failure.map_or_else(Outcome::ended, Outcome::refused), shown.sent);
        }
    }

    fn end_with(&mut self, outcome: Outcome, sent: Sent) {
        let (Some(playing), Some(name)) = (self.playing.take(), &self.name) else { return };
        let lasted = playing.began.elapsed();
        let now = SystemTime::now();
        self.ended = Some(Box::new(Record {
            who: Arc::clone(&self.who),
            name: Arc::clone(name),
            content: playing.content,
            started_at: now.checked_sub(lasted).unwrap_or(now),
            lasted,
            start: playing.asked.start,
            rate: Some(playing.asked.rate),
            sent: sent.since(playing.sent),
            outcome,
            transport: self.transport,
            connections: self.counters.connections.get(),
            report: None,
        }));
    }

    fn write_ended(&mut self, report: Option<Report>) {
        if let Some(record) = self.ended.take() {
            self.log.write(Record { report, ..*record });
        }
    }

    fn write_refused(&self, outcome: Outcome, content: Option<Content>) {
        let Some(name) = &self.name else { return };
        self.log.write(Record {
            who: Arc::clone(&self.who),
            name: Arc::clone(name),
            content,
            started_at: SystemTime::now(),
            lasted: Duration::ZERO,
            start: None,
            rate: None,
            sent: Sent::default(),
            outcome,
            transport: self.transport,
            connections: self.counters.connections.get(),
            report: None,
        });
    }
}

impl From<&Play> for Asked {
    fn from(play: &Play) -> Self {
        let start = match play.from {
            Position::Default => Some(Duration::ZERO),
            Position::Time(time) => Some(time),
            Position::Packet(_) | Position::Byte(_) => None,
        };
        Self { start, rate: play.rate }
    }
}

/// How the end of a session ends a play that is still on.
fn end_of_play(result: &Result<Closing, ViewerError>, sends_logs: bool) -> Outcome {
    let is_ended = outcome::labels(result).0 == "ended";
    match result {
        // Some players just cut their connection; one that tells what it played would have done so before.
        Err(_) if is_ended && !sends_logs => Outcome::ended(),
        Err(error @ (ViewerError::Closed | ViewerError::Lost(_) | ViewerError::Stalled(_))) => {
            Outcome::vanished(&error.to_string())
        }
        _ => refusal(result).unwrap_or_else(Outcome::ended),
    }
}

/// What was refused to the player; `None` where it left, or was served.
fn refusal(result: &Result<Closing, ViewerError>) -> Option<Outcome> {
    Some(match result {
        Ok(Closing::Refused(refusal)) => Outcome::refused(refusal),
        Ok(closing @ Closing::Silent) => Outcome::failed(HResult::NS_E_TIMEOUT, &closing.to_string()),
        Ok(closing @ Closing::Redirected(_)) => Outcome::failed(HResult::NS_E_REDIRECT, &closing.to_string()),
        Ok(closing @ Closing::Login) => Outcome::failed(HResult::E_ACCESSDENIED, &closing.to_string()),
        Ok(Closing::Finished | Closing::Handshake(_) | Closing::Idle | Closing::BroadcastEnded) => return None,
        Err(ViewerError::Closed | ViewerError::Lost(_) | ViewerError::Stalled(_)) => return None,
        Err(error @ (ViewerError::Session(_) | ViewerError::Http | ViewerError::SourceGone)) => {
            Outcome::refused(&Refusal::new(error.reason(), error.to_string()))
        }
    })
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::net::Ipv4Addr;

    use bytes::Bytes;
    use serde_json::{Value, json};
    use tempfile::TempDir;

    use super::*;
    use crate::content::MmsUrl;
    use crate::metrics::Metrics;
    use crate::server::access_log::Format;
    use crate::server::relay::Relay;
    use crate::server::testing::{Got, House, Origin, Player, Script, policy, relay_settings, server_settings, until};
    use crate::server::writer::Writers;
    use crate::server::{Server, bind};
    use crate::wire::mmsp::client_log::{ClientLog, ClientLogInfo};
    use crate::wire::mmsp::ids::FileId;
    use crate::wire::mmsp::viewer_to_mac as up;

    /// A proxy that keeps an access log.
    struct Logged {
        house: House,
        log: Arc<AccessLog>,
        directory: TempDir,
    }

    impl Logged {
        async fn in_front_of(script: Script) -> Self {
            let origin = Origin::new(script).await;
            let directory = tempfile::tempdir().unwrap();
            let counters = Metrics::new().unwrap().counters;
            let path = directory.path().join("access.log");
            let log = AccessLog::open(&path, Format::Json, counters.access_log_errors.clone()).unwrap();
            let log = Arc::new(log);
            let settings = server_settings();
            let writers = Writers::new(&settings);
            let (counted, kept) = (Arc::clone(&counters), Some(Arc::clone(&log)));
            let server = Server::with_access_log(settings, counted, Arc::clone(&writers), kept).unwrap();
            let listener = bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
            let address = listener.local_addr().unwrap();
            let policy = policy(vec![MmsUrl::parse(&format!("mms://{}", origin.address)).unwrap()], true);
            let relay = Arc::new(Relay::new(relay_settings(), policy, Arc::clone(&counters), Arc::new(|| {}), None));
            tokio::spawn(Arc::clone(&server).accept(listener, relay));
            Self { house: House { server, counters, writers, address }, log, directory }
        }

        async fn playing(&self) -> Player {
            let mut player = Player::connect(self.house.address).await;
            assert_eq!(player.open("talk.asf").await, HResult::S_OK);
            assert_eq!(player.play().await, HResult::S_OK);
            player
        }

        fn lines(&self) -> Vec<Value> {
            assert!(self.log.flush(Duration::from_secs(20)));
            let text = std::fs::read_to_string(self.directory.path().join("access.log")).unwrap();
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
        }

        /// The lines once all viewers are gone.
        async fn lines_at_last(&self) -> Vec<Value> {
            self.house.is_empty_soon().await;
            self.lines()
        }

        fn reports(&self) -> u64 {
            self.house.counters.viewer_logs.get()
        }
    }

    fn logging(packets_received: u32) -> up::Logging {
        let info = ClientLogInfo { packets_received, ..ClientLogInfo::default() };
        let mut bytes = Vec::new();
        ClientLog { info, ..ClientLog::default() }.encode(&mut bytes);
        up::Logging { client_log: Bytes::from(bytes) }
    }

    fn stop() -> up::StopPlaying {
        up::StopPlaying { open_file_id: FileId(1), play_incarnation: 10 }
    }

    fn whole(packets: u32) -> Script {
        Script { packets, says_end: true, ..Script::default() }
    }

    #[tokio::test]
    async fn a_play_is_one_line_with_what_its_player_reported() {
        let logged = Logged::in_front_of(whole(5)).await;
        let mut player = logged.playing().await;
        assert_eq!(player.watch().await.1, Some(HResult::S_OK));
        player.send(logging(5)).await;
        player.send(logging(99)).await;
        until(|| logged.reports() == 2).await;
        // It does not wait for the session's end.
        let lines = logged.lines();
        assert_eq!(lines.len(), 1, "{lines:?}");
        let line = &lines[0];
        assert_eq!((&line["name"], &line["content"]), (&json!("talk.asf"), &json!("on_demand")));
        assert_eq!((&line["status"], &line["hresult"]), (&json!(200), &json!("0x00000000")));
        assert_eq!((&line["sent_packets"], &line["report"]["packets_received"]), (&json!(5), &json!(5)));
        assert!(line["sent_bytes"].as_u64() > Some(5 * 1000), "{line}");
        assert_eq!(line["player_id"], "68c0a090-8797-11d2-a2b3-00a0c9b60551");
        assert_eq!((&line["server"], &line["connections"]), (&json!("127.0.0.1"), &json!(1)));
        player.send(up::CloseFile { open_file_id: FileId(1) }).await;
        drop(player);
        assert_eq!(logged.lines_at_last().await.len(), 1);
    }

    #[tokio::test]
    async fn each_play_of_a_session_is_a_line_that_counts_its_own() {
        let logged = Logged::in_front_of(whole(3)).await;
        let mut player = logged.playing().await;
        for _ in 0..2 {
            player.watch().await;
            player.start().await;
        }
        player.watch().await;
        // This belongs to the last of them.
        player.send(logging(3)).await;
        until(|| logged.reports() == 1).await;
        drop(player);
        let lines = logged.lines_at_last().await;
        let told: Vec<_> = lines.iter().map(|line| (line["sent_packets"].clone(), line["report"].is_null())).collect();
        assert_eq!(told, [(json!(3), true), (json!(3), true), (json!(3), false)]);
    }

    #[tokio::test]
    async fn a_play_that_is_stopped_or_left_has_ended_well() {
        let logged = Logged::in_front_of(Script { packets: 3, ..Script::default() }).await;
        let mut player = logged.playing().await;
        player.send(stop()).await;
        player.watch().await;
        player.start().await;
        // What comes while it plays is of the play before, which has its line.
        player.send(logging(77)).await;
        until(|| logged.reports() == 1).await;
        for _ in 0..3 {
            while !matches!(player.next().await, Got::Data(_)) {}
        }
        drop(player);
        let lines = logged.lines_at_last().await;
        let told: Vec<_> = lines.iter().map(|line| (&line["status"], &line["report"])).collect();
        assert_eq!(told, [(&json!(200), &Value::Null), (&json!(200), &Value::Null)]);
    }

    #[tokio::test]
    async fn content_that_is_refused_is_a_line() {
        let logged = Logged::in_front_of(Script { refuses: Some(HResult::NS_E_MAX_CLIENTS), ..whole(1) }).await;
        let mut player = Player::connect(logged.house.address).await;
        assert_eq!(player.open("a b%20c.asf?x=1").await, HResult::NS_E_MAX_CLIENTS);
        drop(player);
        let lines = logged.lines_at_last().await;
        assert_eq!(lines.len(), 1);
        assert_eq!((&lines[0]["status"], &lines[0]["hresult"]), (&json!(480), &json!("0xC00D0049")));
        assert_eq!((&lines[0]["content"], &lines[0]["sent_bytes"]), (&Value::Null, &json!(0)));
        assert_eq!(lines[0]["url"], "mms://127.0.0.1/a%20b%20c.asf?x=1");
    }

    #[tokio::test]
    async fn a_play_that_is_refused_or_breaks_says_why() {
        let logged = Logged::in_front_of(Script { dies_at: Some("StartPlaying"), ..whole(1) }).await;
        let mut player = Player::connect(logged.house.address).await;
        assert_eq!(player.open("talk.asf").await, HResult::S_OK);
        assert_eq!(player.play().await, HResult::NS_E_CONNECTION_FAILURE);
        drop(player);
        let refused = logged.lines_at_last().await;
        let logged = Logged::in_front_of(Script { packets: 5, dies_after_packets: true, ..Script::default() }).await;
        let mut player = logged.playing().await;
        player.watch().await;
        drop(player);
        let broke = logged.lines_at_last().await;
        for (lines, packets) in [(refused, 0), (broke, 5)] {
            assert_eq!(lines.len(), 1);
            assert_eq!((&lines[0]["status"], &lines[0]["hresult"]), (&json!(502), &json!("0xC00D0029")));
            assert_eq!((&lines[0]["sent_packets"], lines[0]["reason"].is_string()), (&json!(packets), true));
        }
    }

    #[tokio::test]
    async fn a_viewer_that_is_ended_is_told_as_that() {
        let logged = Logged::in_front_of(Script { packets: 3, ..Script::default() }).await;
        let mut player = logged.playing().await;
        let viewer = logged.house.server.viewers().pop().unwrap();
        viewer.end(Refusal::new(crate::session::Reason::Kicked, "by hand"));
        drop(viewer);
        player.watch().await;
        drop(player);
        let lines = logged.lines_at_last().await;
        assert_eq!(lines.len(), 1);
        assert_eq!((&lines[0]["status"], &lines[0]["reason"]), (&json!(503), &json!("by hand")));
    }

    #[tokio::test]
    async fn who_only_looks_is_no_line() {
        let logged = Logged::in_front_of(whole(1)).await;
        let mut player = Player::connect(logged.house.address).await;
        assert_eq!(player.open("talk.asf").await, HResult::S_OK);
        drop(player);
        drop(Player::connect(logged.house.address).await);
        assert_eq!(logged.lines_at_last().await, Vec::<Value>::new());
    }

    #[test]
    fn a_player_that_reports_and_did_not_has_vanished() {
        let closed = || Err(ViewerError::Closed);
        assert_eq!(end_of_play(&closed(), true).status, 408);
        assert_eq!(end_of_play(&closed(), false).status, 200);
        let lost = |kind: io::ErrorKind| Err(ViewerError::Lost(kind.into()));
        assert_eq!(end_of_play(&lost(io::ErrorKind::ConnectionReset), false).status, 200);
        assert_eq!(end_of_play(&lost(io::ErrorKind::TimedOut), false).status, 408);
        assert_eq!(end_of_play(&Err(ViewerError::SourceGone), true).status, 500);
        assert_eq!(end_of_play(&Ok(Closing::Finished), true).status, 200);
    }

    #[test]
    fn what_is_kept_of_a_viewer_is_small() {
        assert_eq!(size_of::<Plays>(), 8);
        assert!(size_of::<Kept>() <= 192, "{} bytes", size_of::<Kept>());
    }
}
