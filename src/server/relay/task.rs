//! One viewer's requests, put to the origin that its policy chose or to a stream that it shares, and the answers.

use std::future::{Future, ready};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::oneshot;
use tracing::{Instrument, debug, info_span};

use super::identity::Identity;
use super::kinds::{Kind, looks_like_a_file};
use super::opening::{Opener, is_without_datagrams};
use super::split::{Driver, HandBack, is_broadcast};
use super::stock::{Begun, Filling, LOOK_AGAIN, Shelf, Viewing};
use super::watching::{Denied, Watching};
use super::{Relay, Rules};
use crate::asf::{PacketNumber, Thinning};
use crate::cache::Entry;
use crate::content::{Choice, HostPort, Name};
use crate::server::pipe::{Overflow, PipeCursor, pipe};
use crate::server::printable::Printable;
use crate::server::relay::connector::denied;
use crate::server::source::{Link, Peer};
use crate::server::upstream::{UpstreamError, until};
use crate::session::mmsp::client::Event;
use crate::session::{
    AuthScheme, Caller, End, Next, Open, Opened, Pace, Play, Playing, Reason, Refusal, Reply, Request, StreamChoice,
};

/// One viewer's way to its content.
pub(super) struct Task {
    relay: Arc<Relay>,
    rules: Arc<Rules>,
    peer: Peer,
    link: Link,
    identity: Identity,
    host: Option<HostPort>,
    /// The viewer's own way to an origin; none while it shares a stream.
    opener: Option<Box<Opener>>,
    /// The stream that it shares.
    watching: Option<Watching>,
    /// The entry of the cache that it reads. On the heap as all that not every viewer has: there may be thousands.
    viewing: Option<Box<Viewing>>,
    /// What is kept of the content that it asks for, and that the origin guards.
    guarded: Option<Box<(Choice, Arc<Entry>)>>,
    /// The play that was asked for is to go on where the entry ends.
    is_detour: bool,
    /// The play that its own session was asked for last.
    playing: Option<Box<Play>>,
    /// What the origin of its content is asked to send at most, bit/s.
    receive_rate: Option<u32>,
    /// When it is looked at again whether what the play needs comes.
    look_again: Option<Instant>,
    /// What is open, so that a viewer that paused past the origin's patience can go on.
    opened: Option<Box<(Open, Arc<Opened>)>>,
    /// The reading end for the play that was asked for.
    cursor: Option<PipeCursor>,
    /// The state of each stream that was named; what it replaces is named as off before it.
    selection: Vec<StreamChoice>,
}

/// What a task waits for.
enum Call {
    /// The viewer's; `Close` also where it is gone.
    Request(Request),
    /// Of the viewer's own session.
    Event(Result<Event, UpstreamError>),
    /// What the play of an entry can't go on without.
    Wanted(PacketNumber),
}

/// What a request or an event leads to.
enum Step {
    /// Go on.
    Continue,
    /// The viewer is gone or done.
    Done,
}

impl Task {
    pub(super) fn new(relay: Arc<Relay>, rules: Arc<Rules>, peer: Peer, link: Link) -> Self {
        Self {
            relay,
            rules,
            peer,
            link,
            identity: Identity::new(Caller::default()),
            host: None,
            opener: None,
            watching: None,
            viewing: None,
            guarded: None,
            is_detour: false,
            playing: None,
            receive_rate: None,
            look_again: None,
            opened: None,
            cursor: None,
            selection: Vec::new(),
        }
    }

    pub(super) async fn run(&mut self) {
        loop {
            let call = self.next().await;
            if matches!(self.answer(call).await, Step::Done) {
                break;
            }
        }
        self.leave();
    }

    async fn next(&mut self) -> Call {
        tokio::select! {
            request = self.link.requests.recv() => request.map_or(Call::Request(Request::Close), Call::Request),
            event = next_event(&mut self.opener) => Call::Event(event),
            number = wanted(&self.viewing, self.look_again), if !self.is_detour => Call::Wanted(number),
        }
    }

    /// On the heap for as long as it takes, as all that a viewer needs who does not share: one that streams should not carry
    /// the room of it along.
    fn answer(&mut self, call: Call) -> Pin<Box<dyn Future<Output = Step> + Send + '_>> {
        match call {
            Call::Request(Request::Close) => Box::pin(ready(Step::Done)),
            Call::Request(request) => Box::pin(self.unless_gone(request)),
            Call::Event(event) => Box::pin(async move {
                self.handle_event(event).await;
                Step::Continue
            }),
            Call::Wanted(number) => Box::pin(async move {
                self.get(number).await;
                Step::Continue
            }),
        }
    }

    /// Serves a request; gives up when the viewer goes away meanwhile.
    async fn unless_gone(&mut self, request: Request) -> Step {
        let gone = self.link.replies.clone();
        tokio::select! {
            () = self.handle(request) => Step::Continue,
            () = gone.closed() => Step::Done,
        }
    }

    async fn handle(&mut self, request: Request) {
        match request {
            Request::Greet(caller) => {
                let reply = self.greet(caller).await;
                self.reply(reply).await;
            }
            Request::Open(open) => {
                self.selection.clear();
                self.cursor = None;
                self.opened = None;
                self.watching = None;
                self.viewing = None;
                self.guarded = None;
                let reply = self.open(&open).await.unwrap_or_else(Reply::Refused);
                let reply = self.let_in(reply);
                self.reply_opening(open, reply).await;
            }
            Request::Answer(credentials) => {
                let answer = self.own_opener().answer(credentials).await;
                // What was opened by a login can't be opened again without one: the name does not matter.
                let reply = self.let_in(answer.unwrap_or_else(Reply::Refused));
                self.reply_opening(Open::default(), reply).await;
            }
            Request::Play(play) => {
                let playing = match &mut self.watching {
                    Some(watching) => {
                        let playing =
                            watching.play(&play, &self.selection, &self.rules.settings.split, &self.link.bell).await;
                        playing.map(|playing| Some(Reply::Playing(playing)))
                    }
                    None if self.viewing.is_some() => self.play_stored(play).await,
                    None => self.play(play).await.map(|()| None),
                };
                match playing {
                    Ok(None) => {}
                    Ok(Some(reply)) => self.reply(reply).await,
                    Err(refusal) => self.reply(Reply::Refused(refusal)).await,
                }
            }
            Request::Select(choices) => {
                choices.iter().for_each(|choice| self.remember(*choice));
                self.tell(Request::Select(choices)).await;
            }
            Request::Log(log) => match &self.watching {
                Some(watching) if self.rules.settings.split.forward_logs => watching.report(log),
                Some(_) => {}
                None => self.tell(Request::Log(log)).await,
            },
            Request::Stop => {
                if let Some(viewing) = &mut self.viewing {
                    viewing.stop();
                }
                self.is_detour = false;
                self.tell(request).await;
            }
            Request::Close => {}
        }
    }

    /// `AuthenPackage` is told before a name is: where host and routes leave one origin, it is asked, once.
    async fn greet(&mut self, caller: Caller) -> Reply {
        if let Err(refusal) = self.rules.policy.loop_check(&caller.via) {
            return Reply::Refused(Refusal::new(Reason::Loop, refusal.to_string()));
        }
        self.host = match self.peer.redirected_from {
            // Whatever the player claims: else it could fill another host's place with what its own server says.
            Some(address) => HostPort::parse(&address.to_string()).ok(),
            None => caller.host.as_deref().and_then(|host| HostPort::parse(host).ok()),
        };
        self.identity = Identity::new(caller);
        self.opener = None;
        let host = self.host.clone();
        let scheme = self.own_opener().greet(host.as_ref()).await;
        // Never empty, for an empty one forbids a later challenge (2.2.4.2).
        Reply::Greeted { scheme: Some(scheme.unwrap_or(AuthScheme::Ntlm)) }
    }

    async fn open(&mut self, open: &Open) -> Result<Reply, Refusal> {
        let name = Name::parse(&open.name).map_err(|error| Refusal::new(Reason::InvalidName, error.to_string()))?;
        let choice = self.rules.policy.choose(self.host.as_ref(), &name).map_err(denied)?;
        self.receive_rate = self.rules.settings.receive_rate(&choice);
        let kind = self.relay.kinds.of(&choice.key);
        let is_for_all = matches!(kind, Some(Kind::Shared | Kind::Stored));
        // Credentials that come unasked are for a session of the viewer's own, unless nobody wants any there.
        let may_share = open.credentials.is_none() || is_for_all;
        let may_be_stored = may_share && choice.cache && self.relay.stock().is_some();
        if may_be_stored && let Some(reply) = self.open_stored(&choice).await? {
            return Ok(reply);
        }
        if !may_share && choice.cache {
            self.guarded = self.find_guarded(&choice).await.map(Box::new);
        }
        if may_share && self.guarded.is_none() && (choice.split || may_be_stored) && kind != Some(Kind::Own) {
            // With a cache it is in our name whatever it is: what is kept is for all.
            let is_guess = !may_be_stored && kind.is_none() && looks_like_a_file(&name);
            return self.open_shared(&choice, is_guess).await;
        }
        let reply = self.own_opener().open(&choice, open.credentials.clone()).await?;
        match &reply {
            // It is another content now than the last time.
            Reply::Opened(opened) if choice.split && open.credentials.is_none() && is_broadcast(opened) => {
                let opener = self.opener.take();
                self.enter(&choice, opener.map(|opener| (opener, Some(Arc::clone(opened)))), false).await
            }
            _ => Ok(reply),
        }
    }

    /// Opens what may be a broadcast: in the stream that is there already, or as the first of a new one. A name that
    /// looks like a file's is tried in the viewer's own name first, so that the origin of on-demand content sees one
    /// session, and the viewer's.
    async fn open_shared(&mut self, choice: &Choice, is_guess: bool) -> Result<Reply, Refusal> {
        let opener = if is_guess {
            self.own_opener();
            self.opener.take().map(|opener| (opener, None))
        } else {
            // What was asked for its scheme is not needed.
            self.leave();
            None
        };
        self.enter(choice, opener, is_guess).await
    }

    /// Enters the stream of a content. Where it is new, its source is driven from here on: with the viewer's own opener
    /// and what that has found, if there is one.
    async fn enter(
        &mut self,
        choice: &Choice,
        own: Option<(Box<Opener>, Option<Arc<Opened>>)>,
        is_guess: bool,
    ) -> Result<Reply, Refusal> {
        let joined = self.relay.splitter.join(&choice.key, self.rules.settings.split.bounds);
        let mut hand_back: Option<oneshot::Receiver<HandBack>> = None;
        let mut spare = None;
        if joined.is_new {
            let (opener, first) = own.unwrap_or_else(|| (self.relay.shared_opener(&self.rules), None));
            let sender = is_guess.then(|| {
                let (sender, receiver) = oneshot::channel();
                hand_back = Some(receiver);
                sender
            });
            let span = info_span!(parent: None, "broadcast", key = %Printable(&choice.key));
            let stream = Arc::clone(joined.ticket.stream());
            let (relay, rules) = (Arc::clone(&self.relay), Arc::clone(&self.rules));
            let driver = Driver::new(relay, rules, choice.clone(), stream, opener, sender);
            tokio::spawn(driver.run(first).instrument(span));
        } else {
            spare = own.map(|(opener, _)| opener);
        }
        let mut watching = Watching::new(joined.ticket);
        match watching.opened().await {
            Ok(opened) => {
                self.opener = spare;
                self.leave();
                self.watching = Some(watching);
                Ok(Reply::Opened(opened))
            }
            Err(Denied::Refused(refusal)) => Err(refusal),
            Err(Denied::Unshared) => {
                if choice.cache
                    && let Some(reply) = self.open_stored(choice).await?
                {
                    return Ok(reply);
                }
                drop(watching);
                self.opener = spare;
                match hand_back {
                    Some(found) => match found.await {
                        Ok((opener, reply)) => {
                            self.opener = Some(opener);
                            Ok(reply)
                        }
                        Err(_) => self.own_opener().open(choice, None).await,
                    },
                    None => self.own_opener().open(choice, None).await,
                }
            }
        }
    }

    /// Opens what the cache has; `None` where it has nothing for this viewer.
    async fn open_stored(&mut self, choice: &Choice) -> Result<Option<Reply>, Refusal> {
        let Some(stock) = self.relay.stock().cloned() else { return Ok(None) };
        match stock.open(&self.relay, &self.rules, choice).await? {
            Shelf::Empty => Ok(None),
            Shelf::Guarded(entry) => {
                self.guarded = Some(Box::new((choice.clone(), entry)));
                Ok(None)
            }
            Shelf::Stored(filling) => Ok(Some(self.view(&filling))),
        }
    }

    /// What is kept of a content that a viewer brings credentials for.
    async fn find_guarded(&self, choice: &Choice) -> Option<(Choice, Arc<Entry>)> {
        let entry = self.relay.stock()?.find(&choice.key.to_string()).await?;
        entry.marks().guarded.then(|| (choice.clone(), entry))
    }

    fn view(&mut self, filling: &Arc<Filling>) -> Reply {
        self.leave();
        let viewing = Viewing::new(filling, Arc::clone(&self.link.bell));
        let opened = viewing.described();
        self.viewing = Some(Box::new(viewing));
        Reply::Opened(opened)
    }

    /// The origin opened to this viewer what it guards: if it is what is kept, the viewer gets it from here.
    fn let_in(&mut self, reply: Reply) -> Reply {
        let Reply::Opened(opened) = &reply else { return reply };
        let Some((choice, entry)) = self.guarded.take().map(|guarded| *guarded) else { return reply };
        let Some(stock) = self.relay.stock().cloned() else { return reply };
        match stock.let_in(&self.relay, &self.rules, &choice, &entry, opened) {
            Some(filling) => self.view(&filling),
            None => reply,
        }
    }

    /// Begins a play out of the cache, or at the origin where that is the only way.
    async fn play_stored(&mut self, play: Play) -> Result<Option<Reply>, Refusal> {
        // What an earlier play needed of the origin.
        self.is_detour = false;
        self.cursor = None;
        self.leave();
        let settings = &self.rules.settings;
        let Some(viewing) = &mut self.viewing else { return Ok(None) };
        let begun = viewing.play(&play, &self.selection, settings.cache.fast_start, settings.reply).await?;
        match begun {
            Begun::Here(playing) => Ok(Some(Reply::Playing(playing))),
            Begun::Passes => {
                self.count_pass();
                self.play(play).await.map(|()| None)
            }
        }
    }

    /// The play needs a packet that nobody has.
    async fn get(&mut self, number: PacketNumber) {
        let Some(viewing) = &mut self.viewing else { return };
        self.look_again = Instant::now().checked_add(LOOK_AGAIN);
        match viewing.get(number) {
            // It comes, or somebody else sees to it: if not, that is noticed soon.
            None => {}
            Some(play) => {
                self.count_pass();
                self.is_detour = true;
                if let Err(refusal) = self.play(play).await {
                    self.detour(Err(refusal));
                }
            }
        }
    }

    fn count_pass(&self) {
        self.relay.counters.cache_requests.with_label_values(&["pass"]).inc();
    }

    /// The play goes on at the origin, or can't.
    fn detour(&mut self, way: Result<PipeCursor, Refusal>) {
        self.is_detour = false;
        if let Some(viewing) = &mut self.viewing {
            viewing.detour(way);
        }
    }

    /// The viewer's own way to an origin.
    fn own_opener(&mut self) -> &mut Opener {
        let (relay, rules, identity) = (&self.relay, &self.rules, &self.identity);
        self.opener.get_or_insert_with(|| Box::new(Opener::new(Arc::clone(relay), Arc::clone(rules), identity.clone())))
    }

    /// Asks the origin for a play of the viewer's own; the answer comes as an event.
    async fn play(&mut self, mut play: Play) -> Result<(), Refusal> {
        if self.own_opener().session().is_none() {
            self.open_again().await?;
        }
        let nothing = || Refusal::new(Reason::Invalid, "nothing is open");
        let (_, opened) = self.opened.as_deref().ok_or_else(nothing)?;
        if play.burst.is_none() && !play.is_trick_mode() {
            play.burst = Some(self.rules.settings.burst(opened, self.receive_rate));
        }
        let overflow = if opened.description.broadcast { Overflow::Skip } else { Overflow::Wait };
        self.cursor = None;
        let held = self.relay.counters.held_by_sessions();
        let (feeder, cursor) = pipe(self.rules.settings.buffer, overflow, Arc::clone(&self.link.bell), held);
        let opener = self.own_opener();
        opener.session().ok_or_else(nothing)?.upstream.feed(feeder);
        opener.request(Request::Play(play.clone())).map_err(|error| opener.fail(&error))?;
        self.playing = Some(Box::new(play));
        self.cursor = Some(cursor);
        Ok(())
    }

    /// The origin lost patience, or was lost, while the viewer did not play: the same content is opened anew.
    async fn open_again(&mut self) -> Result<(), Refusal> {
        let lost = || Refusal::new(Reason::Lost, "the origin is gone, and the content can't be opened again");
        let opened = self.opened.as_deref().filter(|(_, opened)| !opened.description.authenticated);
        let (open, before) = opened.cloned().ok_or_else(lost)?;
        let name = Name::parse(&open.name).map_err(|error| Refusal::new(Reason::InvalidName, error.to_string()))?;
        let choice = self.rules.policy.choose(self.host.as_ref(), &name).map_err(denied)?;
        let is_same = matches!(
            self.own_opener().open(&choice, open.credentials).await?,
            Reply::Opened(now) if now.header.bytes() == before.header.bytes()
        );
        if !is_same {
            // Else the next play would go on with another content, or wait for a login.
            self.leave();
            return Err(Refusal::new(Reason::Lost, "the content at the origin is another now"));
        }
        let selection = self.selection.clone();
        self.tell(Request::Select(selection)).await;
        Ok(())
    }

    fn remember(&mut self, choice: StreamChoice) {
        let replaced = choice.replaces.map(|stream| StreamChoice { replaces: None, stream, thinning: Thinning::Off });
        for choice in replaced.into_iter().chain([StreamChoice { replaces: None, ..choice }]) {
            self.selection.retain(|known| known.stream != choice.stream);
            self.selection.push(choice);
        }
    }

    async fn handle_event(&mut self, event: Result<Event, UpstreamError>) {
        let reply = match event {
            Ok(Event::Playing) if self.is_detour => {
                if let Some(cursor) = self.cursor.take() {
                    self.detour(Ok(cursor));
                }
                None
            }
            Ok(Event::Playing) => self
                .cursor
                .take()
                .map(|cursor| Reply::Playing(Playing { cursor: Box::new(cursor), pace: Pace::AsItComes })),
            Ok(Event::Refused(refusal)) => {
                self.relay.counters.origin_errors.with_label_values(&["refused"]).inc();
                let asked = self.cursor.take();
                if self.is_detour {
                    self.detour(Err(refusal));
                    None
                } else {
                    asked.map(|_| Reply::Refused(refusal))
                }
            }
            Ok(_) => None,
            Err(error) if is_without_datagrams(&error) && self.play_over_tcp(&error).await => None,
            Err(error) => {
                self.lost(&error).await;
                None
            }
        };
        if let Some(reply) = reply {
            self.reply(reply).await;
        }
    }

    /// The play of the viewer's own session goes on over TCP, for nothing of it came in datagrams; `false` where there is none.
    async fn play_over_tcp(&mut self, error: &UpstreamError) -> bool {
        let Some(play) = self.playing.take() else { return false };
        let opener = self.own_opener();
        let Some(mut sink) = opener.session().and_then(|session| session.upstream.take_sink()) else { return false };
        opener.lost(error);
        let opened = self.open_again().await;
        match (opened, self.own_opener().session()) {
            (Ok(()), Some(session)) => {
                session.upstream.feed_to(sink);
                self.tell(Request::Play(*play)).await;
            }
            (opened, _) => {
                let gone = || Refusal::new(Reason::Lost, "the origin is gone");
                sink.push_all(&mut vec![Next::Ended(End::Failed(opened.err().unwrap_or_else(gone)))]);
            }
        }
        true
    }

    /// The session at the origin is over while nothing is asked; who waits for a play to begin is told.
    async fn lost(&mut self, error: &UpstreamError) {
        let refusal = self.own_opener().fail(error);
        if self.cursor.take().is_none() {
            return;
        }
        if self.is_detour {
            self.detour(Err(refusal));
        } else {
            self.reply(Reply::Refused(refusal)).await;
        }
    }

    async fn reply_opening(&mut self, open: Open, reply: Reply) {
        self.opened = match &reply {
            // What is shared is opened again by whoever drives it.
            Reply::Opened(opened) if self.watching.is_none() => Some(Box::new((open, Arc::clone(opened)))),
            _ => None,
        };
        self.reply(reply).await;
    }

    /// A request without an answer. Where there is no session, nobody is there to be told.
    async fn tell(&mut self, request: Request) {
        let Some(opener) = &mut self.opener else { return };
        if let Err(error) = opener.request(request) {
            self.lost(&error).await;
        }
    }

    /// Leaves the session at the origin as a client should, without waiting for it.
    fn leave(&mut self) {
        if let Some(mut opener) = self.opener.take() {
            opener.leave();
        }
    }

    async fn reply(&self, reply: Reply) {
        debug!(reply = %Printable(format_args!("{reply:?}")), "to the viewer");
        // A viewer that is gone needs no answer.
        let _ = self.link.replies.send(reply).await;
    }
}

/// What the play of an entry can't go on without; never, where there is none.
async fn wanted(viewing: &Option<Box<Viewing>>, look_again: Option<Instant>) -> PacketNumber {
    match viewing {
        Some(viewing) => Box::pin(wanted_by(viewing, look_again)).await,
        None => std::future::pending().await,
    }
}

async fn wanted_by(viewing: &Viewing, look_again: Option<Instant>) -> PacketNumber {
    viewing.wanted().await;
    if look_again.is_some() {
        until(look_again).await;
    }
    // It may be there by now.
    viewing.wanted().await
}

/// The next event of the viewer's own session; never, where there is none.
async fn next_event(opener: &mut Option<Box<Opener>>) -> Result<Event, UpstreamError> {
    match opener {
        Some(opener) => Box::pin(opener.next_event()).await,
        None => std::future::pending().await,
    }
}
