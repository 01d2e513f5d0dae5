//! Who is sent to where: no address and port twice, so that nobody is sent another's stream, and nothing longer than a
//! session lives.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::server::viewer::Viewer;
use crate::wire::mmsp::ids::ClientId;

/// The viewers that take Data over UDP.
#[derive(Debug, Default)]
pub struct Funnels(Mutex<Tables>);

#[derive(Debug, Default)]
struct Tables {
    targets: HashSet<SocketAddr>,
    /// By what a request to send again must show: where it comes from, and `nCubs`.
    viewers: HashMap<(IpAddr, ClientId), Weak<Viewer>>,
}

/// An address and port that one viewer is sent to, until this is dropped.
#[derive(Debug)]
pub struct Claim {
    funnels: Arc<Funnels>,
    target: SocketAddr,
    client: ClientId,
}

impl Funnels {
    /// Has `target` for a viewer; `None` where another session is sent to it. Every VLC asks for port 7000, and players
    /// behind one NAT look like one address.
    pub fn claim(self: &Arc<Self>, target: SocketAddr, client: ClientId, viewer: &Arc<Viewer>) -> Option<Claim> {
        let mut tables = self.0.lock();
        if !tables.targets.insert(target) {
            return None;
        }
        tables.viewers.insert((target.ip(), client), Arc::downgrade(viewer));
        Some(Claim { funnels: Arc::clone(self), target, client })
    }

    /// The viewer at that address whose session goes by that number.
    pub fn find(&self, address: IpAddr, client: ClientId) -> Option<Arc<Viewer>> {
        self.0.lock().viewers.get(&(address, client)).and_then(Weak::upgrade)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut tables = self.funnels.0.lock();
        tables.targets.remove(&self.target);
        tables.viewers.remove(&(self.target.ip(), self.client));
    }
}
