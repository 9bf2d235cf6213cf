//! Cross-crate truth: what no crate can promise alone.

mod c_interface;
mod camera;
mod emulated;
mod exchange;
mod fourier;
mod hub;
mod hub_pages;
mod interop;
mod layering;
mod objects;
mod pages;
mod parity;
#[cfg(target_os = "linux")]
mod power_cut;
mod rollout;
mod rust_interface;
mod s3_server;
mod stateless;
mod takeover;

/// What a test returns.
type TestResult = Result<(), Box<dyn std::error::Error>>;
