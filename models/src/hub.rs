//! What a hub and its clients say to each other over HTTP.
//!
//! | | | |
//! |---|---|---|
//! | `POST /v1/enrol` | an [`Enrol`], answered by an [`Enrolled`] | whoever has a token |
//! | `GET`, `HEAD`, `PUT /v1/objects/NAME` | the objects of [`crate::sync`] | by role: [`Role::may`] |
//! | `POST /v1/admin` | what who runs a hub asks, answered by JSON: `hub::admin` | an admin |
//! | `GET /v1/objects?prefix=PREFIX` | the names of objects, as a JSON array | by role |
//! | `GET /pages/` | pages for people, as `hub::pages` makes them | who has signed in there with a token, and is no device |
//! | `POST /pages/reviews` | a list of [`crate::review::Decision`] | the same |
//!
//! Those under `/v1` but the first are signed as [`crate::signing::request`] says. What is refused is answered by a [`Refusal`].
//!
//! A hub whose objects are in an S3 store answers a `GET` or `PUT` of a bundle's file or a segment by status 307 and an [`Elsewhere`].
//! After the client has brought it there, it repeats its `PUT`, of whose content the hub then needs the length alone: it asks the store.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::{
    Digest, Error, Result,
    signing::{
        PublicKey,
        request::{Claim, Request, SignedHeaders},
    },
    sync,
};

/// Path of enrolment.
pub const ENROL: &str = "/v1/enrol";
/// Path of the objects; `/NAME` follows, or nothing to list them.
pub const OBJECTS: &str = "/v1/objects";

/// Path of the pages for people; `/NAME` follows.
pub const PAGES: &str = "/pages";

/// Path of administration.
pub const ADMIN: &str = "/v1/admin";

/// A request is good for so long before and after its time.
pub const CLOCKS_APART: SignedDuration = SignedDuration::from_mins(5);

/// What a key may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Sends its own segments and status; fetches bundles.
    Device,
    /// Reads everything; says what samples show.
    Reviewer,
    /// The same; publishes bundles and says what is wanted. The workstation.
    Publisher,
    /// The same, and whatever else who runs the hub may do.
    Admin,
}

/// What is done with an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Its content, its size, or its name in a list.
    Read,
    /// It is written.
    Write,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Device, Self::Reviewer, Self::Publisher, Self::Admin];

    /// Its name, as in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Device => "device",
            Self::Reviewer => "reviewer",
            Self::Publisher => "publisher",
            Self::Admin => "admin",
        }
    }

    /// Whether a key of this role, and of that name, may do something with an object. A name that ends in a slash stands for
    /// everything below it.
    pub fn may(self, own: &str, action: Action, object: &str) -> bool {
        let is_below = |folders: &[&str]| folders.iter().any(|folder| object.starts_with(folder));
        match (self, action) {
            (Self::Device, Action::Read) => {
                let own = [format!("receipts/{own}/"), format!("{}/{own}/", sync::SEGMENTS)];
                let is_for_publishers = [".rollout.json", ".fallback.json"].iter().any(|end| object.ends_with(end));
                is_below(&["channels/", "bundles/", &own[0], &own[1]]) && !is_for_publishers
            }
            (Self::Device, Action::Write) => {
                object == sync::device_status(own) || sync::parse_segment(object).is_ok_and(|(device, _)| device == own)
            }
            (Self::Reviewer | Self::Publisher | Self::Admin, Action::Read) => true,
            // How a rollout goes is the hub's own word.
            (Self::Publisher | Self::Admin, Action::Write) => {
                is_below(&["channels/", "bundles/", "pages/", "reviews/"]) && !object.ends_with(".rollout.json")
            }
            (Self::Reviewer, Action::Write) => is_below(&["reviews/"]),
        }
    }
}

/// Asks for a key to be known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Enrol {
    /// The token, which works once.
    pub token: String,
    /// The key's public half in PEM form. The other half never leaves its owner.
    pub public_key: String,
}

/// A key is known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Enrolled {
    /// Whose it is, as the token said.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// The hub's public key in PEM form, which signs receipts.
    pub hub_key: String,
}

/// Where an object is to be had, or brought, in place of the hub.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Elsewhere {
    /// The address, which is good for minutes, and for this object alone.
    pub url: String,
    /// Headers to send with the request.
    pub headers: BTreeMap<String, String>,
}

/// The keys that a hub knew a device by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceKeys {
    /// All of them, also those that were revoked.
    pub keys: Vec<DeviceKey>,
}

/// A key that a hub knew a device by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceKey {
    /// Its public half in PEM form.
    pub public_key: String,
    /// Since when it is worth nothing any more.
    pub revoked: Option<Timestamp>,
}

impl DeviceKeys {
    /// Proves that one of these keys, before it was revoked, has signed the upload of a segment of that device.
    ///
    /// # Errors
    /// [`Error::Malformed`] for a seal that is none; [`Error::Untrusted`] for one of
    /// another key, another segment, or after its time.
    pub fn verify(&self, device: &str, segment: Digest, seal: &SignedHeaders) -> Result<()> {
        let name = sync::segment(device, segment);
        let claim = Claim::parse(&seal.content_digest, &seal.signature_input)?;
        let is_it = |key: &DeviceKey| {
            let key = PublicKey::from_pem(&key.public_key)?;
            let path = format!("{OBJECTS}/{name}");
            let upload = Request { method: "PUT", path: &path, query: "", content: segment };
            upload.verify(&claim, &seal.signature, &key).ok()
        };
        // Clocks may be that far apart, and a device says by itself when it signed.
        let is_good =
            |key: &&DeviceKey| key.revoked.is_none_or(|revoked| claim.created.duration_since(revoked) < CLOCKS_APART);
        let is_signed = claim.content == segment && self.keys.iter().filter(is_good).any(|key| is_it(key).is_some());
        let trusted = || self.keys.iter().filter_map(|key| Some(PublicKey::from_pem(&key.public_key)?.id().short()));
        if is_signed { Ok(()) } else { Err(Error::Untrusted { what: name, trusted: trusted().collect() }) }
    }
}

/// Why a request was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// What a program can act on.
    pub code: RefusalCode,
    /// What a person can.
    pub message: String,
}

/// What a program can act on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusalCode {
    /// The request's time is not the hub's, which the header `date` says: sign again.
    Clock,
    /// The key is unknown or revoked, or the signature is not its own; at enrolment: it was known before, and a new one is needed.
    Key,
    /// The token is unknown, used, or too old.
    Token,
    /// The key may not do this.
    Role,
    /// There is no such object.
    NotFound,
    /// The content is not what it must be; sending it again changes nothing.
    Content,
    /// The content is larger than this hub takes.
    TooLarge,
    /// Too much at once, or in a day: later.
    TooMuch,
    /// The hub itself failed: later.
    Hub,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signing::PrivateKey;

    #[test]
    fn a_device_reaches_nothing_of_another() {
        use Action::{Read, Write};
        let digest = Digest::of(b"x");
        let allowed = [
            (Read, "channels/stable.json".to_owned()),
            (Read, sync::bundle_file(digest, "model.onnx")),
            (Read, sync::receipt("cam-1", digest)),
            (Read, sync::segment("cam-1", digest)),
            (Write, sync::segment("cam-1", digest)),
            (Write, sync::device_status("cam-1")),
        ];
        let refused = [
            (Read, String::new()),
            (Read, "receipts/".to_owned()),
            (Read, "receipts/cam-1".to_owned()),
            (Read, sync::receipt("cam-10", digest)),
            (Read, sync::segment("cam-2", digest)),
            (Read, sync::device_status("cam-2")),
            (Read, sync::device_keys("cam-1")),
            (Read, sync::rollout("stable")),
            (Read, sync::fallback("stable")),
            (Read, sync::BOARD.to_owned()),
            (Read, sync::reviews(digest)),
            (Write, sync::BOARD.to_owned()),
            (Write, sync::reviews(digest)),
            (Write, sync::rollout("stable")),
            (Write, sync::segment("cam-2", digest)),
            (Write, sync::segment("cam-1", digest) + "/x"),
            (Write, "segments/cam-1/../cam-2/x.tar".to_owned()),
            (Write, sync::receipt("cam-1", digest)),
            (Write, sync::device_status("cam-2")),
            (Write, sync::channel("stable")),
            (Write, sync::bundle_file(digest, "model.onnx")),
        ];
        for (action, name) in allowed {
            assert!(Role::Device.may("cam-1", action, &name), "{action:?} {name}");
        }
        for (action, name) in refused {
            assert!(!Role::Device.may("cam-1", action, &name), "{action:?} {name}");
        }
    }

    #[test]
    fn nobody_but_a_device_writes_samples_and_nobody_writes_receipts() {
        let digest = Digest::of(b"x");
        for role in Role::ALL {
            assert!(!role.may("cam-1", Action::Write, &sync::receipt("cam-1", digest)), "{role:?}");
            let is_device = role == Role::Device;
            assert_eq!(role.may("cam-1", Action::Write, &sync::segment("cam-1", digest)), is_device);
            let publishes = matches!(role, Role::Publisher | Role::Admin);
            assert!(!role.may("x", Action::Write, &sync::rollout("stable")), "{role:?}");
            assert_eq!(role.may("x", Action::Write, &sync::channel("stable")), publishes);
            assert_eq!(role.may("x", Action::Write, sync::BOARD), publishes);
            assert_eq!(role.may("x", Action::Write, &sync::reviews(digest)), !is_device);
        }
    }

    #[test]
    fn a_seal_is_of_one_segment_by_a_key_of_its_device_in_its_time() {
        let key = |byte| PrivateKey::from_secret([byte; 32]).expect("a key");
        let at = |second| Timestamp::from_second(second).expect("a time");
        let known = |byte, revoked: Option<i64>| DeviceKey {
            public_key: key(byte).public().to_pem(),
            revoked: revoked.map(at),
        };
        let segment = Digest::of(b"segment");
        let seal = |method, name: &str, content, byte| {
            let path = format!("{OBJECTS}/{name}");
            Request { method, path: &path, query: "", content }.sign(at(100), &key(byte))
        };
        let name = sync::segment("cam-1", segment);
        let good = seal("PUT", &name, segment, 2);
        let keys = |keys| DeviceKeys { keys };
        let verify = |keys: &DeviceKeys, seal: &SignedHeaders| keys.verify("cam-1", segment, seal).is_ok();
        assert!(verify(&keys(vec![known(1, Some(50)), known(2, None)]), &good));
        assert!(verify(&keys(vec![known(2, Some(101))]), &good), "it was revoked later");
        let before = 100 - CLOCKS_APART.as_secs();
        assert!(
            verify(&keys(vec![known(2, Some(before + 1))]), &good)
                && !verify(&keys(vec![known(2, Some(before))]), &good)
        );
        for wrong in [vec![], vec![known(1, None)]] {
            assert!(!verify(&keys(wrong), &good));
        }
        let two = keys(vec![known(2, None)]);
        let other = Digest::of(b"other");
        assert!(two.verify("cam-2", segment, &good).is_err() && two.verify("cam-1", other, &good).is_err());
        for wrong in [
            seal("PUT", &name, other, 2),
            seal("GET", &name, segment, 2),
            seal("PUT", &sync::segment("cam-2", segment), segment, 2),
            SignedHeaders { signature: "sig=::".into(), ..good },
        ] {
            assert!(!verify(&two, &wrong), "{wrong:?}");
        }
    }
}
