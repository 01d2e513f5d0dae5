//! A walk over all entries, a directory at a time.

use std::io;
use std::sync::Arc;
use std::vec;

use super::Found;
use super::name::Digest;
use super::tree::Tree;

/// All entries of a store; see [`Store::entries`](super::Store::entries).
#[derive(Debug)]
pub struct Entries<'a> {
    tree: &'a Arc<Tree>,
    /// Those left, once the first was asked for.
    shards: Option<vec::IntoIter<String>>,
    shard: String,
    /// Those left of the shard.
    keys: vec::IntoIter<String>,
}

impl<'a> Entries<'a> {
    pub(super) fn new(tree: &'a Arc<Tree>) -> Self {
        Self { tree, shards: None, shard: String::new(), keys: Vec::new().into_iter() }
    }

    /// The next directory of a key; `None` after the last.
    fn next_key(&mut self) -> io::Result<Option<Digest>> {
        loop {
            if let Some(key) = self.keys.find_map(|rest| Digest::parse(&self.shard, &rest)) {
                return Ok(Some(key));
            }
            let shards = match &mut self.shards {
                Some(shards) => shards,
                None => {
                    // Once: a tree that can't be listed is one error, and the end.
                    let shards = self.shards.insert(Vec::new().into_iter());
                    *shards = self.tree.files.names(&self.tree.root)?.into_iter();
                    shards
                }
            };
            let Some(shard) = shards.next() else { return Ok(None) };
            self.keys = match self.tree.files.names(&self.tree.root.join(&shard)) {
                Err(error) if error.kind() == io::ErrorKind::NotADirectory => continue,
                keys => keys?.into_iter(),
            };
            self.shard = shard;
        }
    }
}

impl Iterator for Entries<'_> {
    type Item = io::Result<Found>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let found = self.next_key().and_then(|key| key.map(|key| self.tree.load(key)).transpose());
            match found.transpose()? {
                Ok(Some(found)) => return Some(Ok(found)),
                Ok(None) => {}
                Err(error) => return Some(Err(error)),
            }
        }
    }
}
