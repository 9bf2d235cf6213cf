//! The program `flywheel-edge`.

use std::process::ExitCode;

fn main() -> ExitCode {
    edge_runtime::cli::main(std::env::args_os())
}
