use std::collections::{HashMap, HashSet, VecDeque};

use jiff::{SignedDuration, Timestamp};
use models::{
    Digest, PerceptualHash, Reason, ReasonKind,
    collection::{Agreement, NearDuplicates},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::Entry;

/// How long the times and sizes of kept samples are remembered.
const DAY: SignedDuration = SignedDuration::from_hours(24);

/// So many of the last images that arrived are known again.
const ARRIVED: usize = 4096;

/// What the entries of a journal add up to. Grows by about 150 bytes for an image of a folder, and not for one that arrived.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct History {
    entries: u64,
    sources: HashSet<String>,
    images: HashSet<Digest>,
    /// The last images that arrived, the latest last.
    arrived: VecDeque<Digest>,
    /// Samples of a bundle by reason and class.
    #[serde(with = "pairs")]
    kept: HashMap<(Digest, ReasonKind, usize), u32>,
    /// Samples kept for a request of the workstation, by its time and class.
    #[serde(with = "pairs")]
    wanted: HashMap<(Timestamp, usize), u32>,
    /// Classes of the last images of each stream, the latest last.
    streams: HashMap<String, VecDeque<usize>>,
    /// Looks of kept samples, the latest last.
    looks: VecDeque<PerceptualHash>,
    /// When samples were kept in the last day, and their bytes; the latest last.
    recent: VecDeque<(Timestamp, u64)>,
}

impl History {
    /// How many images were classified.
    pub fn entries(&self) -> u64 {
        self.entries
    }

    /// Whether the image of this name was classified.
    pub fn has_source(&self, name: &str) -> bool {
        self.sources.contains(name)
    }

    /// Whether these bytes were classified, under any name.
    pub fn has_image(&self, image: Digest) -> bool {
        self.images.contains(&image) || self.arrived.contains(&image)
    }

    /// How many samples of a predicted class were kept by a bundle for a reason.
    pub fn kept_for(&self, bundle: Digest, kind: ReasonKind, class: usize) -> u32 {
        self.kept.get(&(bundle, kind, class)).copied().unwrap_or(0)
    }

    /// How many samples of a class were kept for the request of this time.
    pub fn wanted(&self, asked: Timestamp, class: usize) -> u32 {
        self.wanted.get(&(asked, class)).copied().unwrap_or(0)
    }

    /// How many of the last `frames` images of a stream were given a class.
    pub fn agreeing(&self, stream: &str, frames: usize, class: usize) -> usize {
        let Some(classes) = self.streams.get(stream) else { return 0 };
        classes.iter().rev().take(frames).filter(|c| **c == class).count()
    }

    /// Whether one of the last `window` samples differs from `look` in no more than `bits` bits.
    pub fn looks_like(&self, look: PerceptualHash, window: usize, bits: u32) -> bool {
        self.looks.iter().rev().take(window).any(|other| other.distance(look) <= bits)
    }

    /// Samples kept in the time of this length before `now`, and the bytes of their images. A clock that was set back
    /// makes nothing count that it has not reached yet.
    pub fn kept_within(&self, length: SignedDuration, now: Timestamp) -> (u32, u64) {
        let ago = |at: Timestamp| now.duration_since(at);
        let within = self.recent.iter().filter(|(at, _)| (SignedDuration::ZERO..length).contains(&ago(*at)));
        within.fold((0, 0), |(samples, bytes), (_, more)| (samples + 1, bytes + more))
    }

    /// Takes an entry in.
    pub fn add(&mut self, entry: &Entry) {
        self.entries += 1;
        if entry.arrived {
            self.arrived.push_back(entry.image);
            if self.arrived.len() > ARRIVED {
                self.arrived.pop_front();
            }
        } else {
            self.sources.insert(entry.source.clone());
            self.images.insert(entry.image);
        }
        let stream = self.streams.entry(stream(&entry.source).to_owned()).or_default();
        stream.push_back(entry.class);
        if stream.len() > Agreement::MAX_FRAMES {
            stream.pop_front();
        }
        if entry.kept.is_empty() {
            return;
        }
        for reason in &entry.kept {
            *self.kept.entry((entry.bundle, reason.kind(), entry.class)).or_default() += 1;
            if let Reason::Wanted { class, asked } = reason {
                *self.wanted.entry((*asked, *class)).or_default() += 1;
            }
        }
        self.looks.extend(entry.look);
        if self.looks.len() > NearDuplicates::MAX_WINDOW {
            self.looks.pop_front();
        }
        self.recent.push_back((entry.classified, entry.bytes.unwrap_or(0)));
        // Also what is far ahead, by a clock that was set back since.
        while self.recent.front().is_some_and(|(at, _)| entry.classified.duration_since(*at).abs() > DAY) {
            self.recent.pop_front();
        }
    }
}

/// Maps whose keys are no text, as lists of pairs.
mod pairs {
    use std::hash::Hash;

    use serde::{Deserializer, Serializer};

    use super::*;

    pub(super) fn serialize<K: Serialize, V: Serialize, S: Serializer>(
        map: &HashMap<K, V>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(map)
    }

    pub(super) fn deserialize<'de, K: DeserializeOwned + Eq + Hash, V: DeserializeOwned, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<HashMap<K, V>, D::Error> {
        Ok(Vec::<(K, V)>::deserialize(deserializer)?.into_iter().collect())
    }
}

/// The stream that an image belongs to: images of one folder come one after another.
pub fn stream(source: &str) -> &str {
    source.rsplit_once('/').map_or("", |(folder, _)| folder)
}
