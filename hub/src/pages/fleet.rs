use jiff::SignedDuration;
use maud::{Markup, html};
use models::{Board, sync::DeviceStatus};

use super::frame::{percent, time};

/// A device that has said nothing for so long is worth a look.
const SILENT: SignedDuration = SignedDuration::from_hours(24);

/// The devices, those that have been silent the longest first.
pub(super) fn main(board: &Board) -> Markup {
    let mut devices: Vec<&DeviceStatus> = board.devices.iter().collect();
    devices.sort_by_key(|device| device.reported);
    let up_to_date =
        devices.iter().filter(|device| board.serving().is_some_and(|round| round.bundle == device.bundle)).count();
    html! {
        @if devices.is_empty() {
            p { "No device has reported yet." }
        } @else {
            p { (devices.len()) " devices, " (up_to_date) " of them on the newest bundle." }
            div.scroll role="region" aria-label="Devices" tabindex="0" {
                table {
                    caption { "Those that were silent the longest come first." }
                    thead {
                        tr {
                            @for name in ["device", "reported", "bundle", "classified", "kept", "not sent yet"] { th scope="col" { (name) } }
                        }
                    }
                    tbody {
                        @for device in devices {
                            @let is_silent = board.made.duration_since(device.reported) > SILENT;
                            @let counters = &device.counters;
                            tr {
                                th scope="row" { (device.device) }
                                td.bad[is_silent] { (time(device.reported)) @if is_silent { " · silent" } }
                                td { (device.sequence) " · " code { (device.bundle.short()) } }
                                td { (counters.classified) }
                                td { (percent(counters.samples as f64 / counters.classified.max(1) as f64)) }
                                td { (device.unsealed) " samples, " (device.backlog) " segments" }
                            }
                        }
                    }
                }
            }
        }
    }
}
