//! Receipts, orders, demands and the headers of requests of any bytes: reading them ends with a value or an error, and nothing is
//! taken for signed that is not.
//!
//! `cargo fuzz run messages --fuzz-dir models/fuzz --sanitizer none -- -max_total_time=60`

#![no_main]

use std::cell::LazyCell;

use arbitrary::Arbitrary;
use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;
use models::{
    Digest,
    hub::{Enrol, Refusal},
    signing::{
        Message, PrivateKey, RollbackOrder, TrustedKeys,
        request::{Claim, Request},
    },
    sync::{self, ChannelPointer, Demand, DeviceStatus, Receipt},
};

#[derive(Arbitrary, Debug)]
enum Input {
    Message(Vec<u8>),
    /// Changes one byte of a receipt that another key has signed.
    Changed(u16, u8),
    Headers(String, String, String),
    Name(String),
}

thread_local! {
    static OURS: LazyCell<PrivateKey> = LazyCell::new(|| PrivateKey::from_secret([7; 32]).expect("a key"));
    static TRUSTED: LazyCell<TrustedKeys> =
        LazyCell::new(|| TrustedKeys::new(vec![OURS.with(|key| key.public())]).expect("one key"));
    static RECEIPT: LazyCell<Vec<u8>> = LazyCell::new(|| {
        let receipt = Receipt { segment: Digest::of(b"x"), samples: Some(1), received: Timestamp::UNIX_EPOCH, seal: None };
        OURS.with(|key| receipt.seal(Some(key)).expect("JSON"))
    });
}

fuzz_target!(|input: Input| match input {
    Input::Message(bytes) => {
        let _ = Receipt::open_unverified("a receipt", &bytes);
        let _ = serde_json::from_slice::<Demand>(&bytes);
        let _ = serde_json::from_slice::<DeviceStatus>(&bytes);
        let _ = serde_json::from_slice::<ChannelPointer>(&bytes);
        let _ = serde_json::from_slice::<Enrol>(&bytes);
        let _ = serde_json::from_slice::<Refusal>(&bytes);
        TRUSTED.with(|trusted| {
            assert!(Receipt::open("a receipt", &bytes, trusted).is_err());
            assert!(RollbackOrder::open("an order", &bytes, trusted).is_err());
        });
    }
    Input::Changed(at, to) => {
        let mut bytes = RECEIPT.with(|receipt| receipt.to_vec());
        let at = usize::from(at) % bytes.len();
        bytes[at] = to;
        let opened = TRUSTED.with(|trusted| Receipt::open("a receipt", &bytes, trusted));
        // Where nothing is signed, as in white space, a change may leave what is.
        let same = |receipt: Receipt| receipt.segment == Digest::of(b"x") && receipt.samples == Some(1);
        assert!(opened.map_or(true, same));
    }
    Input::Headers(digest, input, signature) => {
        if let Ok(claim) = Claim::parse(&digest, &input) {
            let request = Request { method: "PUT", path: "/v1/objects/x", query: "", content: claim.content };
            OURS.with(|key| assert!(request.verify(&claim, &signature, &key.public()).is_err()));
        }
    }
    Input::Name(name) => {
        if let Ok((device, digest)) = sync::parse_segment(&name) {
            assert_eq!(sync::segment(&device, digest), name);
        }
    }
});
