//! Which generations somebody holds. Files are opened anew for each read, so what is unlinked is gone for a reader too: a
//! generation that another took the place of stays as long as it is held, and one that is being removed can't be taken up.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::name::Digest;

/// A generation of a key.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) struct Id {
    pub digest: Digest,
    pub generation: u64,
}

#[derive(Debug)]
pub(super) struct Registry<T> {
    uses: Mutex<HashMap<Id, Use<T>>>,
}

#[derive(Debug)]
enum Use<T> {
    /// By those who have the `Arc`.
    Held(Weak<T>),
    Removing,
}

/// What stands in the way of removing a generation.
#[derive(Debug)]
pub(super) enum Claim<T> {
    /// Nothing, and nobody takes it up until [`Registry::release`].
    Granted,
    Held(Arc<T>),
    /// Somebody else removes it.
    Removing,
}

impl<T> Default for Registry<T> {
    fn default() -> Self {
        Self { uses: Mutex::default() }
    }
}

impl<T> Registry<T> {
    /// The one value of a generation, made if nobody holds it; `None` while it is being removed. When it is dropped, it
    /// is to be [released](Registry::release).
    pub(super) fn hold(&self, id: Id, make: impl FnOnce() -> T) -> Option<Arc<T>> {
        let mut uses = self.uses.lock();
        match uses.get(&id) {
            Some(Use::Removing) => return None,
            Some(Use::Held(held)) => {
                if let Some(held) = held.upgrade() {
                    return Some(held);
                }
            }
            None => {}
        }
        Some(Self::insert(&mut uses, id, make()))
    }

    /// The value of a generation that begins; `None` if it is held or being removed.
    pub(super) fn hold_new(&self, id: Id, make: impl FnOnce() -> T) -> Option<Arc<T>> {
        let mut uses = self.uses.lock();
        match uses.get(&id) {
            Some(Use::Removing) => return None,
            // Not taken up to look: it might be dropped here, which takes the lock.
            Some(Use::Held(held)) if held.strong_count() > 0 => return None,
            Some(Use::Held(_)) | None => {}
        }
        Some(Self::insert(&mut uses, id, make()))
    }

    fn insert(uses: &mut HashMap<Id, Use<T>>, id: Id, value: T) -> Arc<T> {
        let held = Arc::new(value);
        uses.insert(id, Use::Held(Arc::downgrade(&held)));
        held
    }

    /// Asks to remove a generation.
    pub(super) fn claim(&self, id: Id) -> Claim<T> {
        let mut uses = self.uses.lock();
        match uses.get(&id) {
            Some(Use::Removing) => return Claim::Removing,
            Some(Use::Held(held)) => {
                if let Some(held) = held.upgrade() {
                    return Claim::Held(held);
                }
            }
            None => {}
        }
        uses.insert(id, Use::Removing);
        Claim::Granted
    }

    /// Ends a granted claim.
    pub(super) fn release(&self, id: Id) {
        self.uses.lock().remove(&id);
    }

    /// Nobody holds the value any more, unless somebody has taken the generation up since.
    pub(super) fn dropped(&self, id: Id) {
        let mut uses = self.uses.lock();
        if matches!(uses.get(&id), Some(Use::Held(held)) if held.strong_count() == 0) {
            uses.remove(&id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: Id = Id { digest: Digest([0; 16]), generation: 1 };

    #[test]
    fn what_is_held_is_not_removed_and_what_is_removed_is_not_taken_up() {
        let registry = Registry::default();
        let held = registry.hold(ID, || 1).unwrap();
        assert!(Arc::ptr_eq(&held, &registry.hold(ID, || 2).unwrap()));
        assert!(matches!(registry.claim(ID), Claim::Held(_)));
        drop(held);
        assert!(matches!(registry.claim(ID), Claim::Granted));
        assert!(matches!(registry.claim(ID), Claim::Removing));
        assert!(registry.hold(ID, || 3).is_none() && registry.hold_new(ID, || 3).is_none());
        registry.release(ID);
        let held = registry.hold_new(ID, || 4);
        assert_eq!(held.as_deref(), Some(&4));
        assert!(registry.hold_new(ID, || 5).is_none());
    }

    #[test]
    fn a_late_drop_takes_nothing_from_who_came_after() {
        let registry = Registry::default();
        drop(registry.hold(ID, || 1));
        let held = registry.hold(ID, || 2).unwrap();
        registry.dropped(ID);
        assert!(matches!(registry.claim(ID), Claim::Held(_)));
        drop(held);
        registry.dropped(ID);
        assert!(registry.uses.lock().is_empty());
    }
}
