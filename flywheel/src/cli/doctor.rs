use anyhow::{Result, ensure};
use clap::Args;
use comfy_table::Table;
use trainer::{
    config::NetworkConfig,
    device::{DeviceKind, Precision},
    doctor::{self, Deviation},
};

use super::{print, print_json};

/// Arguments of `doctor`.
#[derive(Debug, Args)]
#[command(after_help = "\
Runs one training pass of WRN-16-2 on the processor in 32 bits and on the device, in 32 bits and in bf16, and compares \
logits and gradients: the length of the difference over the length of the processor's. Ends with an error if one of them is \
above 0.005, or in bf16 above 0.05: further apart than rounding explains. The processor against itself is exact in 32 bits.

Examples:
  flywheel doctor
  flywheel doctor --device cuda --json")]
pub(super) struct DoctorArgs {
    /// The device to check: cpu or cuda
    #[arg(long, value_parser = device, default_value = "cpu")]
    device: DeviceKind,
    /// Print the result as JSON on stdout
    #[arg(long)]
    json: bool,
}

fn device(name: &str) -> Result<DeviceKind, String> {
    toml::Value::from(name).try_into().map_err(|_| "expected cpu or cuda".into())
}

pub(super) fn run(args: DoctorArgs) -> Result<()> {
    let network = NetworkConfig::wide_resnet(16, 2);
    let precisions = [Precision::F32, Precision::Bf16];
    let checks: Vec<Deviation> = precisions
        .into_iter()
        .map(|precision| doctor::check(network, args.device, precision))
        .collect::<Result<_, _>>()?;
    if args.json {
        print_json(&checks)?;
    } else {
        let mut table = Table::new();
        table.load_preset(comfy_table::presets::UTF8_BORDERS_ONLY);
        table.set_header(["device", "precision", "logits", "gradient", "worst tensor", "evaluation", ""]);
        for check in &checks {
            table.add_row([
                format!("{:?}", check.device).to_lowercase(),
                format!("{:?}", check.precision).to_lowercase(),
                format!("{:.1e}", check.logits),
                format!("{:.1e}", check.gradient),
                format!("{:.1e} {}", check.worst_gradient, check.worst_tensor),
                format!("{:.1e}", check.evaluation),
                if check.is_small() { "ok" } else { "too far" }.to_owned(),
            ]);
        }
        print(&table.to_string())?;
    }
    ensure!(checks.iter().all(Deviation::is_small), "the device computes something else than the processor");
    Ok(())
}
