use std::{fs, path::Path};

use p256::{
    ecdsa::{
        Signature, SigningKey, VerifyingKey,
        signature::{Signer, Verifier},
    },
    pkcs8::{DecodePrivateKey, DecodePublicKey, EncodePrivateKey, EncodePublicKey, LineEnding},
};

use crate::{Digest, Error, Result};

/// A key file is a few hundred bytes.
const MAX_KEY: u64 = 1 << 14;

/// Signs. Whoever has it decides what devices run.
#[derive(Clone, Debug)]
pub struct PrivateKey(SigningKey);

/// Verifies what its private key has signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey(VerifyingKey);

impl PrivateKey {
    /// The key made of 32 bytes that nobody can guess; none for the few values (one of 2^32) that are no key.
    pub fn from_secret(secret: [u8; 32]) -> Option<Self> {
        SigningKey::from_slice(&secret).ok().map(Self)
    }

    /// A new key, of what `draw` draws: 32 bytes that nobody can guess.
    ///
    /// # Errors
    /// What `draw` returns.
    pub fn generate<E>(mut draw: impl FnMut() -> Result<[u8; 32], E>) -> Result<Self, E> {
        loop {
            if let Some(key) = Self::from_secret(draw()?) {
                return Ok(key);
            }
        }
    }

    /// Reads a key in PKCS#8 form.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Key`] for what is no such key.
    pub fn read(path: &Path) -> Result<Self> {
        let refused = |_| Error::Key {
            path: path.to_owned(),
            expected: "a P-256 private key in PKCS#8 PEM form (`flywheel keygen`, or `openssl genpkey -algorithm EC \
                       -pkeyopt ec_paramgen_curve:P-256`)",
        };
        SigningKey::from_pkcs8_pem(&read_text(path)?).map(Self).map_err(refused)
    }

    /// The key in a PKCS#8 PEM text; none if it is no P-256 key.
    pub fn from_pem(pem: &str) -> Option<Self> {
        SigningKey::from_pkcs8_pem(pem).ok().map(Self)
    }

    /// In PKCS#8 PEM form.
    pub fn to_pem(&self) -> String {
        #[expect(clippy::expect_used, reason = "a valid key of a fixed size always has its PEM form")]
        let pem = self.0.to_pkcs8_pem(LineEnding::LF).expect("a key has a PEM form");
        pem.to_string()
    }

    /// The key that verifies what this one signs.
    pub fn public(&self) -> PublicKey {
        PublicKey(*self.0.verifying_key())
    }

    /// ECDSA over SHA-256 with a nonce derived from key and message (RFC 6979), in DER form.
    pub(super) fn sign(&self, message: &[u8]) -> Vec<u8> {
        let signature: Signature = self.0.sign(message);
        signature.to_der().as_bytes().to_vec()
    }

    /// The same in IEEE P1363 form: two numbers of 32 bytes.
    pub(super) fn sign_raw(&self, message: &[u8]) -> Vec<u8> {
        let signature: Signature = self.0.sign(message);
        signature.to_bytes().to_vec()
    }
}

impl PublicKey {
    /// The key in a SubjectPublicKeyInfo PEM text; none if it is no P-256 key.
    pub fn from_pem(pem: &str) -> Option<Self> {
        VerifyingKey::from_public_key_pem(pem).ok().map(Self)
    }

    /// Reads a key in SubjectPublicKeyInfo form.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Key`] for what is no such key.
    pub fn read(path: &Path) -> Result<Self> {
        let expected = "a P-256 public key in PEM form";
        let refused = |_| Error::Key { path: path.to_owned(), expected };
        VerifyingKey::from_public_key_pem(&read_text(path)?).map(Self).map_err(refused)
    }

    /// In SubjectPublicKeyInfo PEM form.
    pub fn to_pem(&self) -> String {
        #[expect(clippy::expect_used, reason = "a valid key of a fixed size always has its PEM form")]
        let pem = self.0.to_public_key_pem(LineEnding::LF).expect("a key has a PEM form");
        pem
    }

    /// Its name in signatures: the sha256 of its PEM form.
    pub fn id(&self) -> Digest {
        Digest::of(self.to_pem().as_bytes())
    }

    pub(super) fn has_signed(&self, message: &[u8], signature: &[u8]) -> bool {
        Signature::from_der(signature).is_ok_and(|signature| self.0.verify(message, &signature).is_ok())
    }

    pub(super) fn has_signed_raw(&self, message: &[u8], signature: &[u8]) -> bool {
        Signature::from_slice(signature).is_ok_and(|signature| self.0.verify(message, &signature).is_ok())
    }
}

/// The keys that a device or a workstation believes: one, and while keys are changed the next one too.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedKeys(Vec<PublicKey>);

impl TrustedKeys {
    /// So many are enough to change keys without a gap, and few enough to know what each is for.
    pub const MAX: usize = 2;

    /// Reads public keys from files.
    ///
    /// # Errors
    /// As [`PublicKey::read`]; [`Error::TooManyKeys`].
    pub fn read<P: AsRef<Path>>(paths: &[P]) -> Result<Self> {
        Self::new(paths.iter().map(|path| PublicKey::read(path.as_ref())).collect::<Result<_>>()?)
    }

    /// These keys.
    ///
    /// # Errors
    /// [`Error::TooManyKeys`].
    pub fn new(keys: Vec<PublicKey>) -> Result<Self> {
        match keys.len() {
            found if found > Self::MAX => Err(Error::TooManyKeys { found }),
            _ => Ok(Self(keys)),
        }
    }

    /// Whether nobody is believed, so that signatures cannot be asked for.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The keys.
    pub fn iter(&self) -> impl Iterator<Item = &PublicKey> {
        self.0.iter()
    }
}

fn read_text(path: &Path) -> Result<String> {
    let io = Error::io("read", path);
    let size = match fs::metadata(path) {
        Ok(metadata) => metadata.len(),
        Err(e) => return Err(io(e)),
    };
    if size > MAX_KEY {
        return Err(Error::malformed(path.display(), format!("a key of at most {MAX_KEY} bytes"), size));
    }
    fs::read_to_string(path).map_err(io)
}
