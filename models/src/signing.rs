//! Who made a bundle, who may order a device to go back to an older one, who has a segment, and who sends a request.
//!
//! Keys are of the curve P-256, in the PEM files that OpenSSL reads and writes. What is signed is wrapped into a DSSE
//! envelope; a bundle's signature is that of OpenSSF Model Signing, so that its tools verify our bundles and we theirs.
//!
//! # Reference
//! DSSE 1.0 (<https://github.com/secure-systems-lab/dsse>), OpenSSF Model Signing 1.0
//! (<https://github.com/sigstore/model-transparency>), RFC 9421 for requests.

mod envelope;
mod keys;
mod message;
mod model_signature;
mod order;
pub mod request;

pub use keys::{PrivateKey, PublicKey, TrustedKeys};
pub use message::Message;
pub use model_signature::MAX_SIGNATURE;
pub use order::RollbackOrder;

pub(crate) use model_signature::{sign, verify};
