//! The board that the workstation has put here, with what has happened since: how devices are now, and what people have said.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use models::{
    Board, Digest, LabelSet, Review, Reviews, Said,
    board::Waiting,
    review::Decision,
    sync::{self, BOARD, PICTURES, REVIEWS},
};
use tokio::sync::Mutex;

use crate::{Error, Result, database::Database, objects::Objects, statuses::Statuses};

/// So many objects are read at a time.
const READS: usize = 16;

/// What people have said, as far as this process has read it.
#[derive(Debug, Default)]
pub struct Boards {
    said: Mutex<Known>,
}

/// Objects never change: what was read once is known.
#[derive(Debug, Default)]
struct Known {
    names: BTreeSet<String>,
    by_image: HashMap<Digest, Vec<Review>>,
}

impl Boards {
    /// The board as of now; nothing if none was put here.
    ///
    /// # Errors
    /// [`Error::Store`], [`Error::Database`]; [`Error::Models`] for a board that is not readable.
    pub async fn get(&self, objects: &Objects, database: &Database, statuses: &Statuses) -> Result<Option<Board>> {
        let Some(mut board) = read(objects).await? else { return Ok(None) };
        statuses.flush(database).await?;
        board.devices.clear();
        database.each_known_status(|status| board.devices.push(status)).await?;
        let mut known = self.said.lock().await;
        known.read_on(objects).await?;
        let is_undecided = |waiting: &&Waiting| waiting.holds().is_none();
        let before = board.queue.iter().filter(is_undecided).count();
        for waiting in &mut board.queue {
            let since = known.by_image.get(&waiting.image).into_iter().flatten();
            let all = Reviews::new(waiting.history.iter().chain(since).cloned());
            waiting.history = all.history(waiting.image).to_vec();
        }
        let after = board.queue.iter().filter(is_undecided).count();
        board.waiting = (board.waiting + after).saturating_sub(before);
        Ok(Some(board))
    }
}

impl Known {
    async fn read_on(&mut self, objects: &Objects) -> Result<()> {
        let names = objects.list(REVIEWS).await?;
        let new = names.into_iter().filter(|name| !self.names.contains(name));
        let read = stream::iter(new).map(|name| async move {
            let content = objects.get(&name).await?.bytes().await?;
            Ok::<_, Error>((parse(&name, &content)?, name))
        });
        let read: Vec<(Vec<Review>, String)> = read.buffer_unordered(READS).try_collect().await?;
        for (said, name) in read {
            for review in said {
                self.by_image.entry(review.image).or_default().push(review);
            }
            self.names.insert(name);
        }
        Ok(())
    }
}

async fn read(objects: &Objects) -> Result<Option<Board>> {
    let found = match objects.get(BOARD).await {
        Err(Error::NotFound(_)) => return Ok(None),
        found => found?,
    };
    let board = serde_json::from_slice(&found.bytes().await?);
    Ok(Some(board.map_err(|e| models::Error::malformed(BOARD, "a board of this version", e))?))
}

/// Puts a board here, whose pictures are here already, and deletes those of boards before it.
///
/// # Errors
/// [`Error::Content`] for what is no board, or one without its pictures; [`Error::Store`].
pub async fn put(objects: &Objects, content: Bytes) -> Result<()> {
    let board: Board = serde_json::from_slice(&content).map_err(|e| Error::Content(format!("{BOARD}: {e}")))?;
    let shown: BTreeSet<String> = board.pictures().map(sync::picture).collect();
    let here: BTreeSet<String> = objects.list(PICTURES).await?.into_iter().collect();
    if let Some(missing) = shown.difference(&here).next() {
        return Err(Error::Content(format!("{BOARD}: {missing} has to be here first")));
    }
    objects.put(BOARD, content).await?;
    objects.delete_all(here.difference(&shown).cloned().collect()).await
}

/// Takes a device's samples off the board, with their pictures.
///
/// # Errors
/// [`Error::Store`]; [`Error::Models`] for a board that is not readable.
pub async fn forget(objects: &Objects, device: &str) -> Result<()> {
    let Some(mut board) = read(objects).await? else { return Ok(()) };
    board.queue.retain(|waiting| waiting.device != device);
    board.drifts.retain(|drift| drift.device != device);
    // The one that stood for those that look like it may be gone.
    let mut firsts = BTreeMap::new();
    for waiting in &mut board.queue {
        waiting.like = *firsts.entry(waiting.like).or_insert(waiting.image);
    }
    let content = serde_json::to_vec(&board).map_err(|e| models::Error::malformed(BOARD, "JSON", e))?;
    put(objects, content.into()).await
}

/// Keeps what somebody has decided at a page: of several words about an image the last one. How many there are.
///
/// # Errors
/// [`Error::Content`] if there is no board, or for a label of none of its classes; [`Error::Store`].
pub async fn decide(objects: &Objects, decisions: Vec<Decision>, by: &str, at: Timestamp) -> Result<usize> {
    let last: BTreeMap<Digest, Said> = decisions.into_iter().map(|decision| (decision.image, decision.said)).collect();
    let said: Vec<Review> =
        last.into_iter().map(|(image, said)| Review { at, image, by: by.to_owned(), said }).collect();
    if said.is_empty() {
        return Ok(0);
    }
    let content = serde_json::to_vec(&said).map_err(|e| models::Error::malformed("reviews", "JSON", e))?;
    let count = said.len();
    check_labels(objects, &said).await?;
    objects.put(&sync::reviews(Digest::of(&content)), content.into()).await?;
    Ok(count)
}

/// Whether what is to be written under a name of reviews is what somebody of this name may say.
///
/// # Errors
/// [`Error::Content`], [`Error::Store`].
pub async fn check(objects: &Objects, name: &str, digest: Digest, content: &[u8], by: &str) -> Result<()> {
    if Digest::of(content) != digest {
        return Err(Error::Content(format!("{name}: expected the content whose sha256 is its name")));
    }
    let said = parse(name, content).map_err(|e| Error::Content(e.to_string()))?;
    if let Some(other) = said.iter().find(|review| review.by != by) {
        return Err(Error::Content(format!("{name}: expected what {by} says, found it in the name of {:?}", other.by)));
    }
    check_labels(objects, &said).await
}

async fn check_labels(objects: &Objects, said: &[Review]) -> Result<()> {
    let board = read(objects).await?;
    let labels = board.map(|board| board.labels).ok_or_else(|| Error::Content("there is no board here yet".into()))?;
    said.iter().try_for_each(|review| check_label(&labels, &review.said))
}

fn check_label(labels: &LabelSet, said: &Said) -> Result<()> {
    match said {
        Said::Label(label) if labels.index(label).is_none() => {
            Err(Error::Content(format!("{label:?}: expected one of {}", labels.names().join(", "))))
        }
        _ => Ok(()),
    }
}

fn parse(name: &str, content: &[u8]) -> models::Result<Vec<Review>> {
    serde_json::from_slice(content).map_err(|e| models::Error::malformed(name, "a list of reviews", e))
}
