//! The whole life of real players. What the free ones say is recorded (tests/vectors/clients); what Microsoft's say is
//! written out by hand after the tables of [MS-MMSP] 2.2.4.

use super::*;

const FFMPEG: &[u8] = include_bytes!("../../../../../tests/vectors/clients/ffmpeg-5.1.9/mmst-stream.bin");
const FFMPEG_PING: &[u8] = include_bytes!("../../../../../tests/vectors/clients/ffmpeg-5.1.9/ping-stream.bin");
const VLC: &[u8] = include_bytes!("../../../../../tests/vectors/clients/vlc-3.0.24/pause-resume-seek-stream.bin");
const VLC_UDP: &[u8] = include_bytes!("../../../../../tests/vectors/clients/vlc-3.0.24/mmsu-stream.bin");
const LIBMMS: &[u8] = include_bytes!("../../../../../tests/vectors/clients/libmms-0.6.4/seek-stream.bin");
const LIBMMS_CHANGE: &[u8] =
    include_bytes!("../../../../../tests/vectors/clients/libmms-0.6.4/streamchange-stream.bin");
const MPLAYER: &[u8] = include_bytes!("../../../../../tests/vectors/clients/mplayer-1.5/mmst-stream.bin");
const XINE_PROBE: &[u8] = include_bytes!("../../../../../tests/vectors/clients/xine-1.2.13/mmst-probe-stream.bin");
const XINE: &[u8] = include_bytes!("../../../../../tests/vectors/clients/xine-1.2.13/start4s-stream.bin");
const XINE_CHANGE: &[u8] = include_bytes!("../../../../../tests/vectors/clients/xine-1.2.13/streamchange-stream.bin");

/// A recorded player in a conversation: it says what it said, when the test lets it.
struct Recorded {
    c: Conversation,
    left: VecDeque<Message>,
}

impl Recorded {
    fn new(stream: &'static [u8]) -> Self {
        Self::served_with(Settings::default(), stream)
    }

    fn served_with(settings: Settings, stream: &'static [u8]) -> Self {
        Self { c: Conversation::with(settings), left: testing::recorded(stream).into() }
    }

    /// The next thing that it said, which was this.
    fn says(&mut self, name: &str) {
        let message = self.left.pop_front().expect("it said no more");
        assert_eq!(message.name(), name);
        self.c.viewer_sends(message);
    }

    /// Connect to StreamSwitch, with the answers that all free players want.
    fn is_ready(&mut self, opened: Opened, header_incarnation: u8) -> Open {
        self.says("Connect");
        let Request::Greet(caller) = self.c.source_is_asked() else { panic!("it said who it is") };
        assert_eq!((caller.user_agent.as_str(), caller.sends_logs), ("NSPlayer/7.0.0.1956", false));
        self.c.source_answers(Reply::Greeted { scheme: Some(AuthScheme::Ntlm) });
        let connected = gets!(self.c, ReportConnectedEx);
        assert_eq!((connected.hr, connected.play_incarnation), (HResult::S_OK, PacketPairMode::DISABLE));
        assert_eq!((connected.server_version_info.as_str(), connected.authen_package.as_str()), ("4.1.0.3930", "NTLM"));
        if self.left.front().map(Message::name) == Some("FunnelInfo") {
            self.says("FunnelInfo");
            let info = gets!(self.c, ReportFunnelInfo);
            assert_eq!((info.play_incarnation, info.client_id), (PacketPairMode::DISABLE, CLIENT_ID));
            self.c.viewer_gets_nothing();
        }
        self.says("ConnectFunnel");
        if let Some(Some(port)) = self.c.claims.front().copied() {
            self.c.driver_claims(port.get());
        }
        assert_eq!(gets!(self.c, ReportConnectedFunnel).hr, HResult::S_OK);
        self.says("OpenFile");
        let Request::Open(open) = self.c.source_is_asked() else { panic!("it asked for content") };
        self.c.source_answers(Reply::Opened(Arc::new(opened)));
        let report = gets!(self.c, ReportOpenFile);
        assert_eq!((report.hr, report.open_file_id, report.file_packet_size), (HResult::S_OK, FileId(1), 200));
        self.says("ReadBlock");
        assert_eq!(gets!(self.c, ReportReadBlock).play_incarnation, u32::from(header_incarnation));
        let pieces = self.c.viewer_gets_header();
        assert!(pieces.iter().all(|piece| piece.play_incarnation.get() == header_incarnation));
        assert_eq!(report.file_header_size as usize, testing::joined(&pieces).len());
        self.switches();
        open
    }

    fn switches(&mut self) {
        self.says("StreamSwitch");
        assert_eq!(gets!(self.c, ReportStreamSwitch).hr, HResult::S_OK);
        assert!(matches!(self.c.source_is_asked(), Request::Select(_)));
    }

    fn plays(&mut self, script: &Script, incarnation: u32) -> Play {
        self.says("StartPlaying");
        let play = self.c.source_plays(script, Pace::AsItComes);
        let started = gets!(self.c, ReportStartedPlaying);
        assert_eq!((started.hr, started.play_incarnation), (HResult::S_OK, incarnation));
        play
    }

    fn stops(&mut self) {
        self.says("StopPlaying");
        let end = gets!(self.c, ReportEndOfStream);
        assert_eq!((end.hr, end.play_incarnation), (HResult::S_OK, 0x001F_FFFF));
    }

    fn closes(&mut self) {
        self.says("CloseFile");
        assert_eq!(self.c.source_is_asked(), Request::Close);
        assert_eq!(self.c.closing, Some(Closing::Finished));
        self.c.viewer_gets_nothing();
    }
}

fn three() -> Script {
    Script::packets((0..3).map(|n| testing::packet(n, n as u32 * 100)))
}

#[test]
fn ffmpeg_asks_for_funnel_info_and_plays() {
    let mut player = Recorded::new(FFMPEG);
    let open = player.is_ready(testing::file(), 2);
    assert_eq!((open.name.as_str(), open.credentials), ("dir/te%20st.asf?x=1", None));
    let play = player.plays(&three(), 4);
    // Its frameOffset would end the play after 4.6 hours.
    assert_eq!(play, Play::from(Position::Time(Duration::ZERO)));
    assert_eq!(player.c.viewer_gets_media(), [(0, 4, 0), (1, 4, 1), (2, 4, 2)]);
    player.closes();
}

#[test]
fn ffmpeg_answers_a_ping_while_it_plays() {
    let mut player = Recorded::new(FFMPEG_PING);
    player.is_ready(testing::file(), 2);
    player.plays(&Script::default(), 4);
    player.c.advance(secs(30));
    assert_eq!(player.c.viewer_gets(), out::Message::Ping);
    player.says("Pong");
    player.c.viewer_gets_nothing_for(secs(29));
}

#[test]
fn vlc_pauses_goes_on_at_the_very_packet_and_seeks() {
    let mut player = Recorded::new(VLC);
    player.is_ready(testing::file(), 2);
    player.plays(&three(), 4);
    assert_eq!(player.c.viewer_gets_media().len(), 3);
    player.stops();
    assert_eq!(player.c.source_is_asked(), Request::Stop);
    player.says("Pong");
    player.c.advance(secs(10));
    player.says("Pong");
    player.stops(); // Nothing plays, and yet it waits for the EndOfStream.
    player.c.source_is_not_asked();
    // A delta frame first: a stream that is selected already does not join anew.
    let resumed = Script::packets([testing::packet_of(0x16, 2200, false)]);
    assert_eq!(player.plays(&resumed, 4).from, Position::Packet(PacketNumber(0x16)));
    let data = player.c.viewer_gets_data();
    assert_eq!(
        (data.location_id.0, data.af_flags, &data.payload),
        (0x16, 3, &testing::packet_of(0x16, 2200, false).stripped)
    );
    player.stops();
    assert_eq!(player.plays(&three(), 4).from, Position::Packet(PacketNumber(0x24)));
    player.c.viewer_gets_media();
    while player.left.front().map(Message::name) == Some("StopPlaying") {
        player.stops();
        player.c.asked.clear();
    }
    player.closes();
}

#[test]
fn vlc_that_wants_udp_is_told_that_there_is_no_funnel() {
    let mut player = Recorded::new(VLC_UDP);
    player.says("Connect");
    player.c.source_greets();
    gets!(player.c, ReportConnectedEx);
    player.says("ConnectFunnel");
    assert_eq!(gets!(player.c, ReportDisconnectedFunnel).hr, HResult::NS_E_NOFUNNEL);
    player.c.viewer_sends(connect_funnel("TCP"));
    assert_eq!(gets!(player.c, ReportConnectedFunnel).hr, HResult::S_OK);
}

#[test]
fn vlc_plays_over_udp() {
    let mut player = Recorded::served_with(with_udp(), VLC_UDP);
    player.is_ready(testing::file(), 2);
    assert_eq!(player.c.session.funnel(), Funnel::Udp(NonZeroU16::new(7000).unwrap()));
    player.plays(&three(), 4);
    assert_eq!(player.c.viewer_gets_datagrams(), [(0, 4, 0), (1, 4, 1), (2, 4, 2)]);
    player.c.viewer_gets_nothing();
    player.c.advance(secs(1));
    while player.left.front().map(Message::name) == Some("StopPlaying") {
        player.stops();
        player.c.asked.clear();
    }
    player.closes();
}

#[test]
fn libmms_seeks_by_start_playing_while_it_streams() {
    let mut player = Recorded::new(LIBMMS);
    player.is_ready(testing::file(), 2);
    player.plays(&three(), 4);
    assert_eq!(player.c.viewer_gets_media().len(), 3);
    let play = player.plays(&Script::packets([testing::packet(40, 6600)]), 5);
    assert!(matches!(play.from, Position::Time(time) if time.as_secs_f64() == 6.6));
    assert_eq!(player.c.viewer_gets_media(), [(40, 5, 3)]);
    let very = testing::packet_of(20, 3000, false);
    let play = player.plays(&Script::packets([very]), 6);
    assert_eq!(play.from, Position::Packet(PacketNumber(20)));
    // It checks that the first packet is the one it asked for.
    assert_eq!(player.c.viewer_gets_media(), [(20, 6, 4)]);
}

#[test]
fn libmms_and_xine_go_on_with_the_next_entry() {
    for stream in [LIBMMS_CHANGE, XINE_CHANGE] {
        let mut player = Recorded::new(stream);
        player.is_ready(testing::broadcast(), 2);
        let script = Script::of([Next::from(testing::packet(7, 700)), Next::Changed(testing::other_header())]);
        script.goes_on(Next::from(testing::packet(0, 0)));
        player.plays(&script, 4);
        assert_eq!(player.c.viewer_gets_media(), [(7, 4, 0)]);
        // Both need the 1, whatever version they were told.
        assert_eq!(gets!(player.c, ReportEndOfStream).hr, HResult::S_FALSE);
        gets!(player.c, ReportStreamChange);
        player.c.viewer_gets_header();
        player.switches();
        player.says("StartPlaying");
        assert_eq!(gets!(player.c, ReportStartedPlaying).play_incarnation, 4);
        assert_eq!(player.c.viewer_gets_media(), [(0, 4, 1)]);
        player.c.source_is_not_asked();
    }
}

#[test]
fn mplayer_opens_with_incarnation_0() {
    let mut player = Recorded::new(MPLAYER);
    let open = player.is_ready(testing::file(), 2);
    assert_eq!(open.name, "dir/te st.asf?x=1");
    assert_eq!(player.plays(&three(), 4).until, None);
    assert_eq!(player.c.viewer_gets_media().len(), 3);
    assert!(player.left.is_empty(), "it leaves without CloseFile");
}

#[test]
fn xine_opens_twice_and_its_empty_entries_select_nothing() {
    let mut probe = Recorded::new(XINE_PROBE);
    probe.is_ready(testing::file(), 2);
    assert!(probe.left.is_empty());
    let mut player = Recorded::new(XINE);
    player.is_ready(testing::file(), 2);
    assert_eq!(player.plays(&three(), 4).from, Position::Time(secs(4)));
    assert_eq!(player.c.viewer_gets_media().len(), 3);
}

#[test]
fn wmp9_sends_switch_and_start_at_once_and_reports_what_it_played() {
    let mut c = Conversation::begin();
    c.viewer_sends(connect(WMP9));
    let Request::Greet(caller) = c.source_is_asked() else { panic!("it said who it is") };
    assert!(caller.sends_logs);
    c.source_answers(Reply::Greeted { scheme: None });
    assert_eq!(gets!(c, ReportConnectedEx).authen_package, "");
    c.viewer_sends(inbound::FunnelInfo { play_incarnation: PacketPairMode::DISABLE });
    gets!(c, ReportFunnelInfo);
    c.viewer_sends(connect_funnel("TCP"));
    gets!(c, ReportConnectedFunnel);
    c.viewer_sends(inbound::OpenFile { play_incarnation: 9, ..open_file("clip.asf") });
    c.source_is_asked();
    c.source_answers(Reply::Opened(Arc::new(testing::broadcast())));
    let report = gets!(c, ReportOpenFile);
    assert_eq!(report.play_incarnation, 9);
    assert!(report.file_attributes.contains(FileAttributes::LIVE));
    c.viewer_sends(read_block(1));
    gets!(c, ReportReadBlock);
    c.viewer_gets_header();
    c.viewer_sends(switch(&[(1, 0), (2, 0)]));
    c.viewer_sends(start(10));
    gets!(c, ReportStreamSwitch);
    c.viewer_gets_nothing();
    assert!(matches!(c.source_is_asked(), Request::Select(choices) if choices.len() == 2));
    c.source_plays(&three(), Pace::AsItComes);
    assert_eq!(gets!(c, ReportStartedPlaying).play_incarnation, 10);
    assert_eq!(c.viewer_gets_media(), [(0, 10, 0), (1, 10, 1), (2, 10, 2)]);
    c.viewer_sends(stop(10));
    c.viewer_sends(logging());
    assert_eq!(gets!(c, ReportEndOfStream).play_incarnation, 10);
    assert_eq!(c.source_is_asked(), Request::Stop);
    assert!(matches!(c.source_is_asked(), Request::Log(PlayerLog::ClientLog(log)) if log.starts_with(&[7; 1490])));
    c.viewer_sends(close_file());
    assert_eq!(c.closing, Some(Closing::Finished));
}

#[test]
fn wms4_gets_all_streams_with_padding_and_never_selects() {
    let mut c = Conversation::ready(WMS4, testing::file());
    assert!(c.session.wants_padding());
    c.viewer_sends(start(3));
    c.source_plays(&three(), Pace::AsItComes);
    gets!(c, ReportStartedPlaying);
    for n in 0..3 {
        assert_eq!(c.viewer_gets_data().payload, testing::packet(n, n as u32 * 100).bytes);
    }
}

#[test]
fn wms4_gets_packets_of_full_size_where_the_origin_left_the_padding_out() {
    let full = testing::packet(0, 0);
    let script = Script::packets([Packet::new(full.number, 0, full.stripped.clone(), full.stripped.clone())]);
    let mut c = Conversation::ready(WMS4, testing::file());
    c.viewer_sends(start(3));
    c.source_plays(&script, Pace::AsItComes);
    gets!(c, ReportStartedPlaying);
    assert_eq!(c.viewer_gets_data().payload, full.bytes);
}

#[test]
fn wms4_gets_all_streams_of_the_next_entry_too() {
    let script = Script::of([Next::Changed(testing::other_header()), Next::from(testing::packet(0, 0))]);
    let mut c = Conversation::ready(WMS4, testing::broadcast());
    c.viewer_sends(start(3));
    c.source_plays(&script, Pace::AsItComes);
    gets!(c, ReportStartedPlaying);
    gets!(c, ReportEndOfStream);
    gets!(c, ReportStreamChange);
    c.viewer_gets_header();
    assert_eq!(c.session.state.content().unwrap().gate.thinning(testing::stream(3)), crate::asf::Thinning::All);
    c.advance(secs(5));
    assert_eq!(c.viewer_gets_media(), [(0, 0xFF, 0)]);
}
