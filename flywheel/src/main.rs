//! The program `flywheel`.

fn main() -> std::process::ExitCode {
    flywheel::cli::main(std::env::args_os())
}
