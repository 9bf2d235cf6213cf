//! What a running device tells of itself.

use std::{fmt, net::SocketAddr};

use models::{
    Digest, Dropped, Reason,
    sync::{Counters, Stage},
};
use serde::Serialize;

/// Something that happened. As JSON, `event` names the kind.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Event {
    /// There is no bundle yet; the device waits for its channel to name one.
    Waiting {
        /// The channel.
        channel: String,
    },
    /// The device answers over HTTP.
    Listening {
        /// Where.
        address: SocketAddr,
    },
    /// From now on this bundle serves.
    Serving {
        /// The bundle.
        bundle: Digest,
        /// Its sequence number.
        sequence: u64,
    },
    /// A bundle of the channel has come so far.
    Trial {
        /// The bundle.
        bundle: Digest,
        /// How far.
        stage: Stage,
        /// What it showed.
        detail: String,
    },
    /// A bundle of the channel is not taken over, or is given up again.
    Refused {
        /// The bundle.
        bundle: Digest,
        /// Why.
        why: String,
    },
    /// An image was classified.
    Classified {
        /// Its name at the source.
        source: String,
        /// The most probable label.
        label: String,
        /// Its calibrated probability.
        confidence: f64,
        /// Why the image was kept; empty if it was not.
        kept: Vec<Reason>,
        /// Why it was not kept, if it was not.
        #[serde(skip_serializing_if = "Option::is_none")]
        dropped: Option<Dropped>,
    },
    /// An image file cannot be read and is skipped for good.
    Unreadable {
        /// Its name at the source.
        source: String,
        /// Why.
        why: String,
    },
    /// A sample was worth keeping, but the disk refused it.
    NotKept {
        /// Its name at the source.
        source: String,
        /// Why.
        why: String,
    },
    /// A kept sample was deleted to make room for a more useful one.
    Evicted {
        /// Its image.
        image: Digest,
    },
    /// Kept samples became a segment.
    Sealed {
        /// The segment.
        segment: Digest,
        /// Samples in it.
        samples: usize,
    },
    /// A segment is in the remote.
    Uploaded {
        /// The segment.
        segment: Digest,
    },
    /// The workstation has a segment; the local copy is deleted.
    Receipted {
        /// The segment.
        segment: Digest,
    },
    /// A segment that the disk damaged, or that a hub refuses for what it is, is set aside.
    Damaged {
        /// The segment.
        segment: Digest,
        /// What was found.
        why: String,
    },
    /// Something failed that the next pass tries again, as when the remote cannot be reached. Told once, until it
    /// changes.
    Trouble {
        /// What.
        why: String,
    },
    /// The device stops.
    Stopped {
        /// What it counted since it started.
        counters: Counters,
        /// Segments without a receipt.
        backlog: usize,
    },
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Waiting { channel } => write!(f, "waiting for channel {channel} to name a bundle"),
            Self::Listening { address } => write!(f, "answering on http://{address}"),
            Self::Serving { bundle, sequence } => write!(f, "serving bundle {} (sequence {sequence})", bundle.short()),
            Self::Trial { bundle, stage, detail } => write!(f, "bundle {}: {}, {detail}", bundle.short(), stage.name()),
            Self::Refused { bundle, why } => write!(f, "refused bundle {}: {why}", bundle.short()),
            Self::Classified { source, label, confidence, kept, dropped } => {
                let kept: Vec<&str> = kept.iter().map(|reason| reason.kind().name()).collect();
                let outcome = match dropped {
                    Some(why) => format!("not kept: {}", why.name()),
                    None => format!("kept: {}", kept.join(", ")),
                };
                write!(f, "{source}: {label} {:.1} %, {outcome}", 100.0 * confidence)
            }
            Self::Unreadable { source, why } => write!(f, "skipped {source}: {why}"),
            Self::NotKept { source, why } => write!(f, "could not keep {source}: {why}"),
            Self::Evicted { image } => write!(f, "sample {} made room for a more useful one", image.short()),
            Self::Damaged { segment, why } => write!(f, "set segment {} aside: {why}", segment.short()),
            Self::Sealed { segment, samples } => write!(f, "sealed segment {} of {samples} samples", segment.short()),
            Self::Uploaded { segment } => write!(f, "uploaded segment {}", segment.short()),
            Self::Receipted { segment } => write!(f, "segment {} is receipted, copy deleted", segment.short()),
            Self::Trouble { why } => write!(f, "will try again: {why}"),
            Self::Stopped { counters, backlog } => {
                write!(f, "stopped: {} classified, {} kept", counters.classified, counters.samples)?;
                counters.kept.iter().try_for_each(|(kind, n)| write!(f, ", {n} {}", kind.name()))?;
                let not_kept: u64 = counters.dropped.values().sum();
                write!(f, "; {not_kept} not kept")?;
                counters.dropped.iter().try_for_each(|(why, n)| write!(f, ", {n} {}", why.name()))?;
                write!(f, "; {} unreadable, {backlog} segments without a receipt", counters.unreadable)
            }
        }
    }
}
