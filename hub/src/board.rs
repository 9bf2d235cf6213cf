//! The board that the workstation has put here, with what people have said since.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use models::{
    Board, Digest, LabelSet, Review, Reviews, Said,
    hub::CLOCKS_APART,
    review::Decision,
    sync::{self, BOARD, PICTURES, REVIEWS},
};
use tokio::sync::Mutex;

use crate::{Error, Result, objects::Objects};

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
    reviews: Reviews,
}

impl Boards {
    /// The board as of now; nothing if none was put here.
    ///
    /// # Errors
    /// [`Error::Store`]; [`Error::Models`] for a board that is not readable.
    pub async fn get(&self, objects: &Objects) -> Result<Option<Board>> {
        let Some(mut board) = read(objects).await? else { return Ok(None) };
        let mut known = self.said.lock().await;
        known.read_on(objects).await?;
        let before = undecided(&board);
        for waiting in &mut board.queue {
            let since = known.reviews.history(waiting.image);
            let all = Reviews::new(waiting.history.iter().chain(since).cloned());
            waiting.history = all.history(waiting.image).to_vec();
        }
        board.waiting = (board.waiting + undecided(&board)).saturating_sub(before);
        Ok(Some(board))
    }
}

/// Samples on the board of which nothing holds.
fn undecided(board: &Board) -> usize {
    board.queue.iter().filter(|waiting| waiting.holds().is_none()).count()
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
            self.reviews.extend(said);
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

/// Takes a device's samples off the board, with their pictures. A board that is not readable goes as a whole: the next one comes without
/// them.
///
/// # Errors
/// [`Error::Store`].
pub async fn forget(objects: &Objects, device: &str) -> Result<()> {
    let mut board = match read(objects).await {
        Ok(Some(board)) => board,
        Ok(None) => return Ok(()),
        Err(Error::Models(e)) => {
            tracing::warn!("deleted with its pictures: {e}");
            objects.delete(BOARD).await?;
            return objects.delete_all(objects.list(PICTURES).await?).await;
        }
        Err(e) => return Err(e),
    };
    let before = undecided(&board);
    board.queue.retain(|waiting| waiting.device != device);
    board.drifts.retain(|drift| drift.device != device);
    board.waiting = (board.waiting + undecided(&board)).saturating_sub(before);
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
pub async fn check(
    objects: &Objects,
    name: &str,
    digest: Digest,
    content: &[u8],
    by: &str,
    now: Timestamp,
) -> Result<()> {
    if Digest::of(content) != digest {
        return Err(Error::Content(format!("{name}: expected the content whose sha256 is its name")));
    }
    let said = parse(name, content).map_err(|e| Error::Content(e.to_string()))?;
    if let Some(other) = said.iter().find(|review| review.by != by) {
        return Err(Error::Content(format!("{name}: expected what {by} says, found it in the name of {:?}", other.by)));
    }
    // A word of the future would be the last one for ever.
    if let Some(other) = said.iter().find(|review| now.duration_since(review.at).abs() > CLOCKS_APART) {
        return Err(Error::Content(format!("{name}: said at {}, and it is {now} here", other.at)));
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
