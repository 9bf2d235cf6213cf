use std::collections::BTreeMap;

use jiff::SignedDuration;
use maud::{Markup, html};
use models::{Board, board::DeviceDrift, sync::DeviceStatus};

use super::{
    Place,
    frame::{percent, time},
};

/// A device that has said nothing for so long is worth a look.
const SILENT: SignedDuration = SignedDuration::from_hours(24);

/// So many are shown: of a hundred thousand, those that need a look.
const SHOWN: usize = 1000;

/// The devices, those that drift and then those that have been silent the longest first.
pub(super) fn main(board: &Board, place: Place<'_>) -> Markup {
    let now = match place {
        Place::Files => board.made,
        Place::Hub { now, .. } => now,
    };
    let mut devices: Vec<&DeviceStatus> = board.devices.iter().collect();
    let drift_of: BTreeMap<&str, &DeviceDrift> =
        board.drifts.iter().map(|drift| (drift.device.as_str(), drift)).collect();
    let drifts = |device: &DeviceStatus| drift_of.get(device.device.as_str()).is_some_and(|drift| drift.is_rare);
    devices.sort_by_key(|device| (!drifts(device), device.reported));
    let up_to_date =
        devices.iter().filter(|device| board.serving().is_some_and(|round| round.bundle == device.bundle)).count();
    html! {
        @if devices.is_empty() {
            p { "No device has reported yet." }
        } @else {
            p {
                (devices.len()) " devices, " (up_to_date) " of them on the newest bundle."
                @if place != Place::Files { " As of now." }
                @if devices.len() > SHOWN { " The table has the first " (SHOWN) "." }
            }
            div.scroll role="region" aria-label="Devices" tabindex="0" {
                table {
                    caption {
                        "Those that drift come first, then those that were silent the longest. Drift is how far what a device sees by chance lately is from the test set, by "
                        "the classes that the model gives it and by how sure it is; ≠ if chance shows as much less than once in a hundred times."
                    }
                    thead {
                        tr {
                            @for name in ["device", "reported", "bundle", "classified", "kept", "not sent yet", "drift"] { th scope="col" { (name) } }
                        }
                    }
                    tbody {
                        @for device in devices.into_iter().take(SHOWN) {
                            @let is_silent = now.duration_since(device.reported) > SILENT;
                            @let counters = &device.counters;
                            tr {
                                th scope="row" { (device.device) }
                                td.bad[is_silent] { (time(device.reported)) @if is_silent { " · silent" } }
                                td { (device.sequence) " · " code { (device.bundle.short()) } }
                                td { (counters.classified) }
                                td { (percent(counters.samples as f64 / counters.classified.max(1) as f64)) }
                                td { (device.unsealed) " samples, " (device.backlog) " segments" }
                                td { @if let Some(drift) = drift_of.get(device.device.as_str()) { (distance(drift)) } @else { span.quiet { "too few" } } }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn distance(drift: &DeviceDrift) -> Markup {
    let distances = format!("classes {:.2}, confidence {:.2}", drift.classes, drift.confidence);
    html! { span.bad[drift.is_rare] { @if drift.is_rare { "≠ " } (distances) } }
}
