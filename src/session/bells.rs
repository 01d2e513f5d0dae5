//! Who waits for media that are not there yet, wherever those come from.

use std::sync::{Arc, Weak};

use tokio::sync::Notify;

/// Bells that are to be rung once. Each is there once, however often it is put there, and who is gone takes no room: a list is
/// as long as those who wait are many.
#[derive(Debug, Default)]
pub struct Bells(Vec<Weak<Notify>>);

impl Bells {
    /// Puts a bell there, unless it is.
    pub fn add(&mut self, bell: &Arc<Notify>) {
        // While it is listed nothing else can have its address.
        if self.0.iter().any(|known| known.as_ptr() == Arc::as_ptr(bell)) {
            return;
        }
        if self.0.len() == self.0.capacity() {
            self.0.retain(|known| known.strong_count() > 0);
        }
        self.0.push(Arc::downgrade(bell));
    }

    /// Nobody waits.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Rings them, in the order in which they came.
    pub fn ring(self) {
        self.0.iter().filter_map(Weak::upgrade).for_each(|bell| bell.notify_one());
    }

    /// How many are kept, of those who are gone as well.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Those that would be rung.
    #[cfg(test)]
    pub(crate) fn iter(&self) -> impl Iterator<Item = Arc<Notify>> {
        self.0.iter().filter_map(Weak::upgrade)
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;

    fn rings(bell: &Notify) -> usize {
        let is_rung = || pin!(bell.notified()).poll(&mut Context::from_waker(Waker::noop())).is_ready();
        std::iter::repeat_with(is_rung).take_while(|is_rung| *is_rung).count()
    }

    #[test]
    fn each_is_rung_once_however_often_it_waits() {
        let (one, other) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let mut bells = Bells::default();
        for _ in 0..1000 {
            bells.add(&one);
            bells.add(&other);
        }
        assert_eq!(bells.len(), 2);
        bells.ring();
        assert_eq!((rings(&one), rings(&other)), (1, 1));
    }

    #[test]
    fn who_is_gone_takes_no_room() {
        let mut bells = Bells::default();
        let stays = Arc::new(Notify::new());
        bells.add(&stays);
        (0..1000).for_each(|_| bells.add(&Arc::default()));
        assert!(bells.len() < 10 && bells.iter().count() == 1);
        bells.ring();
        assert_eq!(rings(&stays), 1);
    }
}
