//! Who holds a stream open, and the one race there is: a viewer comes at the moment when the last one's linger is over.
//!
//! All of it is one value under one lock, and each method is one step; a test walks through all orders of steps. A viewer
//! that enters while the source says farewell is no loss: the stream opens its source again instead of going.

/// The viewers of a stream, and how far its end has come.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub(super) struct Members {
    viewers: usize,
    phase: Phase,
}

#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
enum Phase {
    /// It has a source, or is getting one.
    #[default]
    Serving,
    /// Its source says farewell: who enters now waits for the next one.
    Closing,
    /// Nobody can enter any more.
    Gone,
}

/// What is left when a source has said farewell.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Finished {
    /// The stream is gone.
    Gone,
    /// Somebody entered meanwhile: the source is to be opened again.
    Again,
}

impl Members {
    /// A viewer comes; `false` where the stream is gone, and another one has to be begun.
    pub(super) fn enter(&mut self) -> bool {
        let is_there = self.phase != Phase::Gone;
        self.viewers += usize::from(is_there);
        is_there
    }

    /// A viewer goes; `true` where it was the last.
    pub(super) fn leave(&mut self) -> bool {
        self.viewers = self.viewers.saturating_sub(1);
        self.viewers == 0
    }

    /// How many there are.
    pub(super) fn viewers(&self) -> usize {
        self.viewers
    }

    /// The source is to be closed, because nobody watches; `false` where somebody does by now.
    pub(super) fn begin_close(&mut self) -> bool {
        let is_idle = self.viewers == 0 && self.phase == Phase::Serving;
        if is_idle {
            self.phase = Phase::Closing;
        }
        is_idle
    }

    /// The source has said farewell.
    pub(super) fn finish(&mut self) -> Finished {
        if self.viewers == 0 {
            self.phase = Phase::Gone;
            return Finished::Gone;
        }
        self.phase = Phase::Serving;
        Finished::Again
    }

    /// There is no source to be had: whoever is here leaves, and nobody else enters.
    pub(super) fn abandon(&mut self) {
        self.phase = Phase::Gone;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    const VIEWERS: usize = 3;

    /// What a viewer may do next.
    #[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
    enum Viewer {
        Outside,
        Watching,
        Left,
    }

    /// What the one that drives the source does next.
    #[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
    enum Driver {
        /// Its source is open; it may find the stream idle at any time.
        Open,
        /// It says farewell to its source.
        Farewell,
        /// It is gone, and the stream with it.
        Gone,
    }

    #[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
    struct World {
        members: Members,
        viewers: [Viewer; VIEWERS],
        driver: Driver,
        /// A viewer found the stream gone and began another.
        begun_anew: usize,
    }

    impl World {
        fn viewers_inside(&self) -> usize {
            self.viewers.iter().filter(|viewer| **viewer == Viewer::Watching).count()
        }

        /// Every world that one step of anybody leads to.
        fn steps(self) -> Vec<World> {
            let mut next = Vec::new();
            for at in 0..VIEWERS {
                let mut world = self;
                match self.viewers[at] {
                    Viewer::Outside => {
                        if world.members.enter() {
                            world.viewers[at] = Viewer::Watching;
                        } else {
                            world.viewers[at] = Viewer::Left;
                            world.begun_anew += 1;
                        }
                    }
                    Viewer::Watching => {
                        let was_last = world.members.leave();
                        world.viewers[at] = Viewer::Left;
                        assert_eq!(was_last, world.viewers_inside() == 0);
                    }
                    Viewer::Left => continue,
                }
                next.push(world);
            }
            let mut world = self;
            match self.driver {
                Driver::Open => {
                    if world.members.begin_close() {
                        assert_eq!(world.viewers_inside(), 0, "closed under a viewer: {self:?}");
                        world.driver = Driver::Farewell;
                    }
                }
                Driver::Farewell => match world.members.finish() {
                    Finished::Gone => world.driver = Driver::Gone,
                    Finished::Again => world.driver = Driver::Open,
                },
                Driver::Gone => {}
            }
            next.push(world);
            next
        }
    }

    #[test]
    fn in_every_order_of_joins_leaves_and_an_idle_close_nobody_is_left_without_a_source() {
        let start = World {
            members: Members::default(),
            viewers: [Viewer::Outside; VIEWERS],
            driver: Driver::Open,
            begun_anew: 0,
        };
        let mut seen = HashSet::from([start]);
        let mut open = vec![start];
        while let Some(world) = open.pop() {
            assert_eq!(world.members.viewers(), world.viewers_inside(), "{world:?}");
            let is_watched = world.viewers_inside() > 0;
            assert!(!(is_watched && world.driver == Driver::Gone), "watched, and nobody drives it: {world:?}");
            // Another stream is begun only once this one's source has said farewell: never two sessions at an origin.
            assert!(world.begun_anew == 0 || world.driver == Driver::Gone, "two at once: {world:?}");
            open.extend(world.steps().into_iter().filter(|next| seen.insert(*next)));
        }
        assert!(seen.iter().any(|world| world.driver == Driver::Gone));
        assert!(seen.iter().any(|world| world.driver == Driver::Open && world.viewers.contains(&Viewer::Left)));
        assert!(seen.len() > 50, "{} worlds", seen.len());
    }

    #[test]
    fn what_was_abandoned_takes_nobody_and_lets_everybody_go() {
        let mut members = Members::default();
        assert!(members.enter());
        members.abandon();
        assert!(!members.enter());
        assert!(members.leave());
    }
}
