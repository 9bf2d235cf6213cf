//! A disk that knows what a power cut leaves of it.
//!
//! What is written is seen at once, but lasts only once it is synced: a file's content by `fsync` of the file, an entry of a
//! folder (a new name, a rename, a deletion) by `fsync` of the folder. Real file systems keep more than that, but none promises
//! it: POSIX does not.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::{OsStr, OsString},
    fs, io,
    path::Path,
};

use rand::{RngExt, rngs::SmallRng};

/// Number of the folder that holds everything.
pub(super) const ROOT: u64 = 1;

/// What the end of a process leaves of what was not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// All of it: the process was killed, the machine went on.
    Kill,
    /// Nothing.
    Lost,
    /// Every name and every length, with zeros for content: file systems may write names first.
    Names,
    /// Some names, and content that is old, new, or torn.
    Torn,
}

#[derive(Clone, Debug)]
pub(super) enum Node {
    File { now: Vec<u8>, synced: Vec<u8> },
    Folder { now: Entries, synced: Entries },
}

type Entries = BTreeMap<OsString, u64>;
/// A name in a folder.
type Place = (u64, OsString);

/// A change of names that no `fsync` has made last yet. A rename is one change: it happened or it did not.
#[derive(Clone, Debug)]
struct Change {
    from: Option<Place>,
    to: Option<(Place, u64)>,
}

/// Files and folders by number.
#[derive(Clone, Debug)]
pub(super) struct Disk {
    nodes: BTreeMap<u64, Node>,
    last: u64,
    pending: Vec<Change>,
}

impl Disk {
    pub(super) fn new() -> Self {
        Self { nodes: BTreeMap::from([(ROOT, Node::folder())]), last: ROOT, pending: Vec::new() }
    }

    /// Puts a folder of the real disk over what is here; it lasts.
    pub(super) fn import(&mut self, folder: &Path) -> io::Result<()> {
        self.import_into(folder, ROOT)?;
        self.sync_all();
        Ok(())
    }

    fn import_into(&mut self, folder: &Path, parent: u64) -> io::Result<()> {
        for entry in fs::read_dir(folder)? {
            let (path, name) = entry.map(|entry| (entry.path(), entry.file_name()))?;
            let known = self.lookup(parent, &name);
            if path.is_dir() {
                let number = known.unwrap_or_else(|| self.create(parent, &name, Node::folder()));
                self.import_into(&path, number)?;
            } else {
                let number = known.unwrap_or_else(|| self.create(parent, &name, Node::file()));
                if let Some(content) = self.content(number) {
                    *content = fs::read(&path)?;
                }
            }
        }
        Ok(())
    }

    pub(super) fn node(&self, number: u64) -> Option<&Node> {
        self.nodes.get(&number)
    }

    pub(super) fn lookup(&self, parent: u64, name: &OsStr) -> Option<u64> {
        match self.nodes.get(&parent)? {
            Node::Folder { now, .. } => now.get(name).copied(),
            Node::File { .. } => None,
        }
    }

    /// The content of a file, to be changed.
    pub(super) fn content(&mut self, number: u64) -> Option<&mut Vec<u8>> {
        match self.nodes.get_mut(&number)? {
            Node::File { now, .. } => Some(now),
            Node::Folder { .. } => None,
        }
    }

    /// Makes something new under a name that is free.
    pub(super) fn create(&mut self, parent: u64, name: &OsStr, node: Node) -> u64 {
        self.last += 1;
        self.nodes.insert(self.last, node);
        self.change(Change { from: None, to: Some(((parent, name.to_owned()), self.last)) });
        self.last
    }

    pub(super) fn remove(&mut self, parent: u64, name: &OsStr) {
        self.change(Change { from: Some((parent, name.to_owned())), to: None });
    }

    /// Moves what has a name to another, whatever had that one.
    pub(super) fn rename(&mut self, from: Place, to: Place) {
        let number = self.lookup(from.0, &from.1);
        self.change(Change { from: Some(from), to: number.map(|number| (to, number)) });
    }

    fn change(&mut self, change: Change) {
        self.apply(&change, |node| match node {
            Node::Folder { now, .. } => Some(now),
            Node::File { .. } => None,
        });
        self.pending.push(change);
    }

    fn apply(&mut self, change: &Change, entries: impl Fn(&mut Node) -> Option<&mut Entries>) {
        if let Some((folder, name)) = &change.from
            && let Some(entries) = self.nodes.get_mut(folder).and_then(&entries)
        {
            entries.remove(name);
        }
        if let Some(((folder, name), number)) = &change.to
            && let Some(entries) = self.nodes.get_mut(folder).and_then(&entries)
        {
            entries.insert(name.clone(), *number);
        }
    }

    /// Makes a file's content, or a folder's names, last.
    pub(super) fn sync(&mut self, number: u64) {
        if let Some(Node::File { now, synced }) = self.nodes.get_mut(&number) {
            synced.clone_from(now);
            return;
        }
        let (of_folder, rest) = std::mem::take(&mut self.pending).into_iter().partition::<Vec<_>, _>(|change| {
            let to = change.to.as_ref().map(|(place, _)| place);
            [change.from.as_ref(), to].into_iter().flatten().any(|(folder, _)| *folder == number)
        });
        self.pending = rest;
        of_folder.iter().for_each(|change| self.make_last(change));
    }

    fn make_last(&mut self, change: &Change) {
        self.apply(change, |node| match node {
            Node::Folder { synced, .. } => Some(synced),
            Node::File { .. } => None,
        });
    }

    fn sync_all(&mut self) {
        let pending = std::mem::take(&mut self.pending);
        pending.iter().for_each(|change| self.make_last(change));
        for node in self.nodes.values_mut() {
            if let Node::File { now, synced } = node {
                synced.clone_from(now);
            }
        }
    }

    /// What is there when the machine, or only the process, starts again.
    pub(super) fn end(&mut self, end: End, rng: &mut SmallRng) {
        if end == End::Kill {
            return;
        }
        for change in std::mem::take(&mut self.pending) {
            let lasts = match end {
                End::Kill | End::Lost => false,
                End::Names => true,
                End::Torn => rng.random(),
            };
            if lasts {
                self.make_last(&change);
            }
        }
        for node in self.nodes.values_mut() {
            match node {
                Node::Folder { now, synced } => now.clone_from(synced),
                Node::File { now, synced } => {
                    if now != synced {
                        *now = remains(now, synced, end, rng);
                    }
                    synced.clone_from(now);
                }
            }
        }
        self.forget_unreachable();
    }

    fn forget_unreachable(&mut self) {
        let (mut reached, mut next) = (BTreeSet::new(), vec![ROOT]);
        while let Some(number) = next.pop() {
            if reached.insert(number)
                && let Some(Node::Folder { now, .. }) = self.nodes.get(&number)
            {
                next.extend(now.values());
            }
        }
        self.nodes.retain(|number, _| reached.contains(number));
    }
}

impl Node {
    pub(super) fn file() -> Self {
        Self::File { now: Vec::new(), synced: Vec::new() }
    }

    pub(super) fn folder() -> Self {
        Self::Folder { now: Entries::new(), synced: Entries::new() }
    }
}

/// The content of a file that was written after its last sync.
fn remains(now: &[u8], synced: &[u8], end: End, rng: &mut SmallRng) -> Vec<u8> {
    let zeros = |mut whole: Vec<u8>| {
        whole.resize(now.len(), 0);
        whole
    };
    // What was synced and not written over lasts.
    let same = now.iter().zip(synced).take_while(|(now, synced)| now == synced).count();
    match (end, rng.random_range(0..3)) {
        (End::Kill, _) | (End::Torn, 0) => now.to_vec(),
        (End::Lost, _) | (End::Torn, 1) => synced.to_vec(),
        (End::Names, _) => zeros(synced.to_vec()),
        (End::Torn, _) => zeros(now[..rng.random_range(same..=now.len())].to_vec()),
    }
}
