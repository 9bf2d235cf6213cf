//! Ctrl-C and SIGTERM as a flag that long work looks at.

use std::sync::{
    OnceLock,
    atomic::{AtomicBool, Ordering},
};

static STOP: AtomicBool = AtomicBool::new(false);
static HANDLER: OnceLock<()> = OnceLock::new();

/// The flag; from the first call on it is set by Ctrl-C and SIGTERM instead of ending the program.
pub fn flag() -> &'static AtomicBool {
    HANDLER.get_or_init(|| {
        // Only a second handler in the same program could fail here; then that one decides.
        let _ = ctrlc::set_handler(|| STOP.store(true, Ordering::SeqCst));
    });
    &STOP
}

/// Ends with an error once the flag is set.
///
/// # Errors
/// One that says so.
pub fn check() -> anyhow::Result<()> {
    anyhow::ensure!(!flag().load(Ordering::SeqCst), "interrupted");
    Ok(())
}
