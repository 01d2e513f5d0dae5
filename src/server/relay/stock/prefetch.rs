//! Content that is fetched before anybody asks for it.

use std::sync::Arc;

use super::filling::Prefetching;
use super::{Shelf, may_be_kept};
use crate::content::{MmsUrl, Name};
use crate::server::relay::connector::denied;
use crate::server::relay::{Relay, Rules};
use crate::session::{Reason, Refusal, Reply};

impl Relay {
    /// Begins to fetch all of what a player would get that asks for `url`. It goes on until the guard is dropped.
    ///
    /// # Errors
    /// What the policy, the origin or the content forbids.
    pub(in crate::server) async fn prefetch(self: &Arc<Self>, url: &MmsUrl) -> Result<Prefetching, Refusal> {
        let rules: Arc<Rules> = Arc::clone(&self.rules.read());
        let stock = self.stock().ok_or_else(|| Refusal::new(Reason::Invalid, "there is no cache (cache.dir)"))?;
        let name = Name::parse(&url.path).map_err(|error| Refusal::new(Reason::InvalidName, error.to_string()))?;
        let choice = rules.policy.choose(Some(&url.host_port()), &name).map_err(denied)?;
        if !choice.cache {
            return Err(Refusal::new(Reason::Denied, "the route says cache: false"));
        }
        match stock.open(self, &rules, &choice).await? {
            Shelf::Stored(filling) => return Ok(filling.prefetch()),
            Shelf::Guarded(_) => {
                return Err(Refusal::new(Reason::Denied, "the origin asks for credentials"));
            }
            Shelf::Empty => {}
        }
        let mut opener = self.shared_opener(&rules);
        let opened = match opener.open(&choice, None).await? {
            Reply::Opened(opened) if may_be_kept(&opened) => opened,
            Reply::Challenge(_) => {
                opener.leave();
                return Err(Refusal::new(Reason::Denied, "the origin asks for credentials"));
            }
            _ => {
                opener.leave();
                return Err(Refusal::new(Reason::Invalid, "it is no content that can be kept"));
            }
        };
        let filling = match stock.adopt(self, &rules, &choice, &opened, opener).await {
            Ok(filling) => filling,
            Err(mut opener) => {
                opener.leave();
                return Err(Refusal::new(Reason::Internal, "it can't be stored"));
            }
        };
        Ok(filling.prefetch())
    }
}
