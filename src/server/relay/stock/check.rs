//! Whether what is kept is still what its origin has: one opening without media, for all who ask at that moment.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;
use tracing::{Instrument, debug, info, info_span};

use super::filler::is_same;
use super::{Filling, Shelf, Stock, may_be_kept, now};
use crate::cache::Entry;
use crate::content::Choice;
use crate::server::printable::Printable;
use crate::server::relay::{Relay, Rules};
use crate::session::{Opened, Reason, Refusal, Reply};

/// What an origin said of an entry.
#[derive(Clone, Debug)]
pub(in crate::server::relay) enum Verdict {
    /// It is the same.
    Same,
    /// It is another, which took its place.
    Changed,
    /// It is gone, or nobody is let in.
    Gone(Refusal),
    /// It asks for credentials.
    Guarded,
    /// It says nothing about it.
    None(Refusal),
}

impl Stock {
    /// What there is under the key of `choice`, as fresh as the settings want it.
    pub(in crate::server::relay) async fn open(
        self: &Arc<Self>,
        relay: &Arc<Relay>,
        rules: &Arc<Rules>,
        choice: &Choice,
    ) -> Result<Shelf, Refusal> {
        let settings = &rules.settings.cache;
        let key = choice.key.to_string();
        if let Some(refusal) = self.refusal(&key, settings.negative) {
            return Err(refusal);
        }
        let Some(entry) = self.find(&key).await else { return Ok(Shelf::Empty) };
        let marks = entry.marks();
        if marks.guarded {
            return Ok(Shelf::Guarded(entry));
        }
        let age = Duration::from_millis(now().saturating_sub(marks.validated));
        if age < settings.revalidate && !marks.set_aside {
            let result = match entry.is_complete() {
                true => "hit",
                false if marks.plays == 0 => "miss",
                false => "partial",
            };
            return Ok(Shelf::Stored(self.serve(relay, rules, choice, &entry, result)));
        }
        let mut verdict = self.check(relay, rules, choice, &entry);
        // The sender tells, or is gone with its task.
        let told = timeout(settings.revalidate_wait, verdict.wait_for(Option::is_some)).await;
        let mut said = told.ok().and_then(|told| told.ok().and_then(|verdict| verdict.clone()));
        let is_too_old = settings.stale_if_error.is_some_and(|most| age > settings.revalidate.saturating_add(most));
        if said.is_none() && (is_too_old || marks.set_aside) {
            said = verdict.wait_for(Option::is_some).await.ok().and_then(|verdict| verdict.clone());
        }
        match said {
            Some(Verdict::Same) => Ok(Shelf::Stored(self.serve(relay, rules, choice, &entry, "revalidated"))),
            Some(Verdict::Changed) => match self.find(&key).await {
                Some(entry) => Ok(Shelf::Stored(self.serve(relay, rules, choice, &entry, "miss"))),
                None => Ok(Shelf::Empty),
            },
            Some(Verdict::Gone(refusal)) => Err(refusal),
            Some(Verdict::Guarded) => Ok(Shelf::Guarded(entry)),
            Some(Verdict::None(refusal)) if is_too_old || marks.set_aside => Err(refusal),
            Some(Verdict::None(refusal)) => {
                debug!(reason = %Printable(refusal), "served without the origin's word");
                Ok(Shelf::Stored(self.serve(relay, rules, choice, &entry, "stale")))
            }
            None if marks.set_aside => Err(Refusal::new(Reason::NotFound, "the origin does not have it any more")),
            None => Ok(Shelf::Stored(self.serve(relay, rules, choice, &entry, "stale"))),
        }
    }

    /// An origin that guards what is kept here opened it to a viewer. If it is the same, that viewer gets it from here:
    /// where that is configured, or where it took no credentials, and then everyone does again.
    pub(in crate::server::relay) fn let_in(
        &self,
        relay: &Arc<Relay>,
        rules: &Arc<Rules>,
        choice: &Choice,
        entry: &Arc<Entry>,
        opened: &Opened,
    ) -> Option<Arc<Filling>> {
        if !is_same(opened, entry.opened()) || entry.marks().retired {
            return None;
        }
        if opened.description.authenticated {
            // What is missing can be had by nobody but the viewer, and by it for itself alone.
            if !rules.settings.cache.authenticated || !entry.is_complete() {
                return None;
            }
        } else {
            entry.mark(|marks| {
                marks.guarded = false;
                marks.validated = now();
            });
        }
        Some(self.serve(relay, rules, choice, entry, "revalidated"))
    }

    fn serve(
        &self,
        relay: &Arc<Relay>,
        rules: &Arc<Rules>,
        choice: &Choice,
        entry: &Arc<Entry>,
        result: &'static str,
    ) -> Arc<Filling> {
        relay.counters.cache_requests.with_label_values(&[result]).inc();
        self.cache.opened(entry, now());
        self.filling(relay, rules, choice, entry)
    }

    /// Asks the origin, or joins whoever asks.
    fn check(
        self: &Arc<Self>,
        relay: &Arc<Relay>,
        rules: &Arc<Rules>,
        choice: &Choice,
        entry: &Arc<Entry>,
    ) -> watch::Receiver<Option<Verdict>> {
        let key = choice.key.to_string();
        let mut checks = self.checks.lock();
        if let Some(verdict) = checks.get(&key) {
            return verdict.clone();
        }
        let (sender, verdict) = watch::channel(None);
        checks.insert(key.clone(), verdict.clone());
        let (stock, relay, rules) = (Arc::clone(self), Arc::clone(relay), Arc::clone(rules));
        let (choice, entry) = (choice.clone(), Arc::clone(entry));
        let span = info_span!(parent: None, "check", key = %Printable(&key));
        let check = async move {
            let over = Over { stock, key };
            let verdict = over.stock.ask(&relay, &rules, &choice, &entry).await;
            debug!(?verdict, "checked");
            // Before anybody learns of it: who comes next finds the entry as it is now.
            drop(over);
            sender.send_replace(Some(verdict));
        };
        tokio::spawn(check.instrument(span));
        verdict
    }

    async fn ask(
        self: &Arc<Self>,
        relay: &Arc<Relay>,
        rules: &Arc<Rules>,
        choice: &Choice,
        entry: &Arc<Entry>,
    ) -> Verdict {
        let mut opener = relay.shared_opener(rules);
        match opener.open(choice, None).await {
            Ok(Reply::Opened(opened)) if is_same(&opened, entry.opened()) => {
                entry.mark(|marks| {
                    marks.validated = now();
                    marks.set_aside = false;
                });
                self.cache.save(entry);
                // Where something is missing, the session has work to do.
                self.filling(relay, rules, choice, entry).take_session(opener);
                Verdict::Same
            }
            Ok(Reply::Opened(opened)) => {
                info!("the content at the origin is another now");
                if may_be_kept(&opened)
                    && let Err(mut opener) = self.adopt(relay, rules, choice, &opened, opener).await
                {
                    opener.leave();
                }
                if !entry.marks().retired {
                    self.cache.retire(entry);
                }
                Verdict::Changed
            }
            Ok(Reply::Challenge(_)) => {
                opener.leave();
                info!("the origin asks for credentials now: nobody gets it from here");
                entry.mark(|marks| marks.guarded = true);
                self.cache.save(entry);
                Verdict::Guarded
            }
            Ok(_) => {
                opener.leave();
                Verdict::None(Refusal::new(Reason::Origin, "the origin's answer was none"))
            }
            Err(refusal) if matches!(refusal.reason, Reason::NotFound | Reason::Forbidden) => {
                if rules.settings.cache.stale_if_error.is_none() {
                    info!(reason = %Printable(&refusal), "set aside: the origin does not give it any more");
                    entry.mark(|marks| marks.set_aside = true);
                    self.cache.save(entry);
                } else {
                    info!(reason = %Printable(&refusal), "removed: the origin does not give it any more");
                    self.cache.retire(entry);
                }
                self.note_refusal(entry.key(), &refusal);
                Verdict::Gone(refusal)
            }
            Err(refusal) => Verdict::None(refusal),
        }
    }
}

/// A check that is over, however that comes about, stands in nobody's way.
struct Over {
    stock: Arc<Stock>,
    key: String,
}

impl Drop for Over {
    fn drop(&mut self) {
        self.stock.checks.lock().remove(&self.key);
    }
}
