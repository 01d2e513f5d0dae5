//! What the embedded origin serves, by name: files generated or given, a directory with all below it, and broadcasts.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use super::broadcast::{Broadcast, BroadcastError};
use super::on_demand::OnDemand;
use super::storage::Storage;
use crate::asf::FileError;
use crate::content::Name;
use crate::session::{Opened, Play, Playing, Reason, Refusal};

/// Content by name. Names keep their case.
#[derive(Debug, Default)]
pub struct Library {
    /// Canonical: no symbolic link in it.
    root: Option<PathBuf>,
    named: BTreeMap<Name, Content>,
}

/// Content that is open.
#[derive(Clone, Debug)]
pub enum Content {
    /// Each viewer where it likes.
    OnDemand(Arc<OnDemand>),
    /// All viewers at the same place.
    Broadcast(Arc<Broadcast>),
}

impl Content {
    /// What a viewer is told of it.
    pub fn opened(&self) -> Arc<Opened> {
        match self {
            Self::OnDemand(file) => file.opened(),
            Self::Broadcast(broadcast) => broadcast.opened(),
        }
    }

    /// Begins a play at `now`.
    ///
    /// # Errors
    /// A play that makes no sense for this content, or a file that can't be read.
    pub fn play(&self, play: &Play, now: Instant) -> Result<Playing, Refusal> {
        match self {
            Self::OnDemand(file) => file.play(play),
            Self::Broadcast(broadcast) => broadcast.play(play, now),
        }
    }
}

impl Library {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Serves every .asf, .wmv and .wma below `root` by its path from there.
    ///
    /// # Errors
    /// A directory that isn't there.
    pub fn open(root: &Path) -> io::Result<Self> {
        let root = root.canonicalize()?;
        if !root.is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        Ok(Self { root: Some(root), named: BTreeMap::new() })
    }

    /// Serves one file on-demand under a name of its own, before any of that name in the directory.
    ///
    /// # Errors
    /// A file that can't be read, or is no ASF file.
    pub fn add_file(&mut self, name: &Name, storage: Storage) -> Result<(), FileError> {
        let file = OnDemand::open(storage)?;
        self.named.insert(name.clone(), Content::OnDemand(Arc::new(file)));
        Ok(())
    }

    /// Puts a file on the air, over and over, from `now` on.
    ///
    /// # Errors
    /// A file that can't be broadcast.
    pub fn add_broadcast(&mut self, name: &Name, storage: Storage, now: Instant) -> Result<(), BroadcastError> {
        let broadcast = Broadcast::start(storage, now)?;
        self.named.insert(name.clone(), Content::Broadcast(Arc::new(broadcast)));
        Ok(())
    }

    /// [`Library::add_broadcast`] for a file on disk, from this moment on.
    ///
    /// # Errors
    /// As there, or a file that can't be opened.
    pub fn add_broadcast_file(&mut self, name: &Name, file: &Path) -> Result<(), BroadcastError> {
        self.add_broadcast(name, Storage::open(file).map_err(FileError::Io)?, Instant::now())
    }

    /// Finds content and opens it. A query behind the name is left out where the whole name is unknown: players and their proxies add
    /// parameters of their own.
    ///
    /// # Errors
    /// `NotFound`, or `BadContent` where there is something that can't be served.
    pub fn find(&self, name: &Name) -> Result<Content, Refusal> {
        let whole = name.as_str();
        let path = whole.split('?').next().unwrap_or_default();
        for candidate in [whole, path] {
            let found = Name::parse(candidate).ok().and_then(|name| self.named.get(&name).cloned());
            if let Some(content) = found {
                return Ok(content);
            }
        }
        let not_found =
            |why: &dyn std::fmt::Display| Refusal::new(Reason::NotFound, format!("no content `{name}`: {why}"));
        let root = self.root.as_deref().ok_or_else(|| not_found(&"there is no such name"))?;
        let path = below(root, path).map_err(|error| not_found(&error))?;
        let storage = Storage::open(&path).map_err(|error| not_found(&error))?;
        match OnDemand::open(storage) {
            Ok(file) => Ok(Content::OnDemand(Arc::new(file))),
            Err(error @ FileError::Header(_)) => Err(Refusal::new(Reason::BadContent, format!("`{name}`: {error}"))),
            Err(error @ FileError::Io(_)) => Err(Refusal::new(Reason::Internal, format!("`{name}`: {error}"))),
        }
    }

    /// The names that can be opened, at most `most` of them: those of our own, then those in the directory.
    pub fn names(&self, most: usize) -> Vec<String> {
        let mut names: Vec<String> = self.named.keys().map(ToString::to_string).collect();
        if let Some(root) = &self.root {
            let mut directories = vec![root.clone()];
            while let Some(directory) = directories.pop().filter(|_| names.len() < most) {
                // One that can't be read has no names for us.
                let entries = directory.read_dir().into_iter().flatten().flatten();
                for path in entries.map(|entry| entry.path()) {
                    // Links to directories are left out, so that none goes round in a circle.
                    if path.is_dir() && !path.is_symlink() {
                        directories.push(path);
                    } else if let Some(name) = path.strip_prefix(root).ok().and_then(Path::to_str)
                        && below(root, name).is_ok()
                    {
                        names.push(name.to_owned());
                    }
                }
            }
        }
        names.truncate(most);
        names
    }
}

/// The file of that name, if it is one of ours and really lies below `root`, whatever links lead to it.
fn below(root: &Path, name: &str) -> io::Result<PathBuf> {
    let refuse = |why: &str| io::Error::new(io::ErrorKind::NotFound, why.to_owned());
    let is_plain = |segment: &str| !matches!(segment, "" | "." | "..");
    if !name.split('/').all(is_plain) {
        return Err(refuse("it is no plain path"));
    }
    let path = root.join(name).canonicalize()?;
    if !path.starts_with(root) {
        return Err(refuse("it leads out of the directory"));
    }
    let is_media = |extension: &std::ffi::OsStr| EXTENSIONS.iter().any(|known| extension.eq_ignore_ascii_case(known));
    if !path.extension().is_some_and(is_media) || !path.is_file() {
        return Err(refuse("it is no .asf, .wmv or .wma file"));
    }
    Ok(path)
}

const EXTENSIONS: [&str; 3] = ["asf", "wmv", "wma"];

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::demo::testing::clip_bytes;

    /// `root` in a directory of its own, and a file beside it.
    struct Directory(tempfile::TempDir);

    impl Directory {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path();
            fs::create_dir_all(path.join("root/Music")).unwrap();
            fs::write(path.join("root/Music/Tune.wma"), clip_bytes()).unwrap();
            fs::write(path.join("root/clip.ASF"), clip_bytes()).unwrap();
            fs::write(path.join("root/notes.txt"), "no media").unwrap();
            fs::write(path.join("root/broken.asf"), "no media either, but more than thirty bytes").unwrap();
            fs::write(path.join("outside.asf"), clip_bytes()).unwrap();
            symlink(path.join("outside.asf"), path.join("root/link.asf")).unwrap();
            symlink(path, path.join("root/up")).unwrap();
            symlink(path.join("root/clip.ASF"), path.join("root/inside.asf")).unwrap();
            Self(directory)
        }

        fn root(&self) -> PathBuf {
            self.0.path().join("root")
        }

        fn library(&self) -> Library {
            Library::open(&self.root()).unwrap()
        }
    }

    fn opened(library: &Library, name: &str) -> Result<(), Reason> {
        library.find(&Name::parse(name).unwrap()).map(drop).map_err(|refusal| refusal.reason)
    }

    #[test]
    fn files_below_the_directory_are_opened_by_their_path_in_their_case() {
        let directory = Directory::new();
        let library = directory.library();
        for name in
            ["clip.ASF", "Music/Tune.wma", "/Music/Tune.wma", "Music\\Tune.wma", "clip.ASF?WMCache=0", "inside.asf"]
        {
            assert_eq!(opened(&library, name), Ok(()), "{name}");
        }
        for name in ["clip.asf", "music/Tune.wma", "", "Music", "Music/", "Music//Tune.wma", "nothing.asf", "notes.txt"]
        {
            assert_eq!(opened(&library, name), Err(Reason::NotFound), "{name}");
        }
    }

    #[test]
    fn no_link_leads_out_of_the_directory() {
        let directory = Directory::new();
        let library = directory.library();
        for name in ["link.asf", "up/outside.asf"] {
            assert_eq!(opened(&library, name), Err(Reason::NotFound), "{name}");
        }
        for path in ["../outside.asf", "Music/../../outside.asf", "/etc/passwd", "./clip.ASF"] {
            assert!(below(&directory.root(), path).is_err(), "{path}");
        }
    }

    #[test]
    fn a_file_that_is_no_media_is_refused_with_a_reason() {
        let directory = Directory::new();
        let refusal = directory.library().find(&Name::parse("broken.asf").unwrap()).unwrap_err();
        assert_eq!(refusal.reason, Reason::BadContent);
        assert!(refusal.to_string().starts_with("`broken.asf`: the Header Object begins with"), "{refusal}");
    }

    #[test]
    fn names_are_those_that_can_be_opened() {
        let directory = Directory::new();
        let mut library = directory.library();
        library.add_file(&Name::parse("own/clip.asf").unwrap(), Storage::Memory(clip_bytes())).unwrap();
        let mut names = library.names(100);
        names.sort();
        assert_eq!(names, ["Music/Tune.wma", "broken.asf", "clip.ASF", "inside.asf", "own/clip.asf"]);
        assert_eq!(library.names(2).len(), 2);
    }

    #[test]
    fn a_broadcast_is_found_whatever_query_follows_its_name() {
        let mut library = Library::new();
        library.add_broadcast(&Name::parse("live").unwrap(), Storage::Memory(clip_bytes()), Instant::now()).unwrap();
        assert_eq!(opened(&library, "/live"), Ok(()));
        assert_eq!(opened(&library, "live?x=1"), Ok(()));
        assert_eq!(opened(&library, "live/x"), Err(Reason::NotFound));
    }

    #[test]
    fn only_a_directory_can_be_served() {
        let directory = Directory::new();
        let kind = |path: &str| Library::open(&directory.root().join(path)).unwrap_err().kind();
        assert_eq!(kind("nothing"), io::ErrorKind::NotFound);
        assert_eq!(kind("clip.ASF"), io::ErrorKind::NotADirectory);
    }
}
