//! The collected images, wrong ones first.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use maud::{Markup, html};

use super::{
    CollectedSample, ImageFormat, RoundSection,
    format::{count, percent, plural},
};

/// Images shown of a round, at most.
const SHOWN: usize = 200;
/// Width up to which an image is scaled up pixel by pixel.
pub(super) const SMALL: u32 = 64;

/// The images with what the devices made of them.
pub(super) fn grid(round: &RoundSection) -> Markup {
    let samples = ordered(&round.samples);
    let shown = samples.len().min(SHOWN);
    html! {
        h3 { "Collected images" }
        @if samples.is_empty() {
            p.note { "There are none to show." }
        } @else {
            p.note {
                "Shown are " (count(shown)) " of " (plural(round.collected.max(samples.len()), "image")) ". "
                (judged(&round.samples))
            }
            ul.gallery aria-label={ "Collected images of round " (round.round) } {
                @for sample in &samples[..shown] { (tile(sample)) }
            }
        }
    }
}

/// Wrong ones first, the surest of them leading; the others as they came.
fn ordered(samples: &[CollectedSample]) -> Vec<&CollectedSample> {
    let (mut wrong, others): (Vec<_>, Vec<_>) = samples.iter().partition(|sample| sample.is_wrong());
    wrong.sort_by(|a, b| b.confidence.total_cmp(&a.confidence));
    wrong.into_iter().chain(others).collect()
}

/// How many labels are wrong, pseudo-labels and mere predictions apart.
fn judged(samples: &[CollectedSample]) -> String {
    let known: Vec<_> = samples.iter().filter(|sample| sample.truth.is_some()).collect();
    if known.is_empty() {
        return "What they really show is not known.".into();
    }
    let part = |pseudo: bool, noun: &str| {
        let all: Vec<_> = known.iter().filter(|sample| sample.is_pseudo_label() == pseudo).collect();
        let wrong = all.iter().filter(|sample| sample.is_wrong()).count();
        (!all.is_empty()).then(|| format!("{} of {}", count(wrong), plural(all.len(), noun)))
    };
    let parts: Vec<_> = [part(true, "pseudo-label"), part(false, "other prediction")].into_iter().flatten().collect();
    let unknown = samples.len() - known.len();
    let rest =
        if unknown > 0 { format!(" The truth of {} is not known.", plural(unknown, "image")) } else { "".into() };
    format!("Wrong, and first in the grid: {}.{rest}", parts.join(" and "))
}

fn tile(sample: &CollectedSample) -> Markup {
    let source = format!("data:{};base64,{}", sample.format.mime(), STANDARD.encode(&sample.image));
    let kind = if sample.is_pseudo_label() { "pseudo-label" } else { "prediction" };
    html! {
        li.wrong[sample.is_wrong()] {
            img.pixels[is_small(sample)] src=(source) alt={ "image with " (kind) " " (sample.label) } decoding="async";
            span.label title=(sample.label) { (sample.label) }
            @if sample.is_wrong() { span.truth { "✕ is " (sample.truth.as_deref().unwrap_or_default()) } }
            span.quiet { (percent(sample.confidence)) " · " (sample.device) }
            @if sample.is_audit() {
                span.tag { @if sample.is_pseudo_label() { "confident, audit" } @else { "audit" } }
            }
        }
    }
}

/// Whether it is a PNG of few pixels: its width is in bytes 16 to 19.
fn is_small(sample: &CollectedSample) -> bool {
    let width = sample.image.get(16..20).and_then(|bytes| bytes.try_into().ok()).map(u32::from_be_bytes);
    sample.format == ImageFormat::Png && width.is_some_and(|width| width <= SMALL)
}
