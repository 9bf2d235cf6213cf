//! What an S3 store can do besides keeping objects: take large ones in, and hand them out, without the hub in between. The hub signs
//! an address that is good for one object, one length and one content, for minutes; the store checks all of it.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use base64::{Engine, prelude::BASE64_STANDARD};
use models::{Digest, hub::Elsewhere};
use object_store::{
    ObjectStore,
    aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey},
    path::Path as Name,
    prefix::PrefixStore,
};
use reqwest::{
    Client, StatusCode, Url,
    header::{CONTENT_LENGTH, HeaderMap},
};
use rusty_s3::{Bucket, Credentials, S3Action, UrlStyle};

use crate::{Error, Result};

/// A signed address is good for so long.
const GOOD_FOR: Duration = Duration::from_secs(15 * 60);
/// Time in which the store answers.
const PATIENCE: Duration = Duration::from_secs(30);
/// The store's own check of a content, in base64.
const CHECKSUM: &str = "x-amz-checksum-sha256";

/// A bucket, and where in it.
pub(super) struct S3 {
    store: AmazonS3,
    bucket: Bucket,
    prefix: Name,
    client: Client,
}

impl fmt::Debug for S3 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "S3({} {})", self.bucket.base_url(), self.prefix)
    }
}

/// What the store has under a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Bytes.
    pub bytes: u64,
    /// Their digest, which the store has checked; nothing if it was not told to when they came.
    pub digest: Option<Digest>,
}

impl S3 {
    pub(super) fn open(url: &str, options: &BTreeMap<String, String>) -> Result<Self> {
        let expected = |found: String| models::Error::malformed(url, "an address as s3://BUCKET/PREFIX", found);
        let place: Url = url.parse().map_err(|e: <Url as std::str::FromStr>::Err| expected(e.to_string()))?;
        let name = place.host_str().filter(|_| place.scheme() == "s3").ok_or_else(|| expected("another one".into()))?;
        let prefix = Name::from_url_path(place.path()).map_err(|e| expected(e.to_string()))?;
        let mut builder = AmazonS3Builder::new().with_bucket_name(name);
        for (key, value) in options {
            // Not all that begins so in an environment is meant for us.
            if let Ok(key) = key.to_ascii_lowercase().parse() {
                builder = builder.with_config(key, value);
            }
        }
        let option = |key| builder.get_config_value(&key);
        let region = option(AmazonS3ConfigKey::Region).unwrap_or_else(|| "us-east-1".into());
        let endpoint = option(AmazonS3ConfigKey::S3Endpoint).or(option(AmazonS3ConfigKey::Endpoint));
        // AWS has a host for each bucket; of others, not all have.
        let is_host = option(AmazonS3ConfigKey::VirtualHostedStyleRequest).is_some_and(|is| is == "true");
        if is_host && endpoint.is_some() {
            let found = "both AWS_VIRTUAL_HOSTED_STYLE_REQUEST and an endpoint";
            return Err(models::Error::malformed(url, "a store that is asked by paths", found).into());
        }
        let style = if endpoint.is_none() { UrlStyle::VirtualHost } else { UrlStyle::Path };
        let endpoint = endpoint.unwrap_or_else(|| format!("https://s3.{region}.amazonaws.com"));
        let endpoint: Url =
            endpoint.parse().map_err(|e| models::Error::malformed("the store's endpoint", "a URL", e))?;
        let bucket = Bucket::new(endpoint, style, name.to_owned(), region)
            .map_err(|e| models::Error::malformed("the store's endpoint", "a URL with a host", e))?;
        // The store's client takes what the process has, and it has one kind of cryptography.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder().timeout(PATIENCE).build();
        let client = client.map_err(|source| generic(source.into()))?;
        Ok(Self { store: builder.build()?, bucket, prefix, client })
    }

    pub(super) fn store(&self) -> Arc<dyn ObjectStore> {
        Arc::new(PrefixStore::new(self.store.clone(), self.prefix.clone()))
    }

    /// The object's whole name in the bucket.
    fn key(&self, name: &str) -> String {
        self.prefix.parts().chain(Name::from(name).parts()).collect::<Name>().to_string()
    }

    /// Where roles change keys, they are those of the moment.
    async fn credentials(&self) -> Result<Credentials> {
        let now = self.store.credentials().get_credential().await?;
        Ok(match &now.token {
            Some(token) => Credentials::new_with_token(&now.key_id, &now.secret_key, token),
            None => Credentials::new(&now.key_id, &now.secret_key),
        })
    }

    /// Where an object of this content can be brought.
    pub(super) async fn upload(&self, name: &str, digest: Digest, bytes: u64) -> Result<Elsewhere> {
        let (key, credentials) = (self.key(name), self.credentials().await?);
        let mut action = self.bucket.put_object(Some(&credentials), &key);
        let checksum = BASE64_STANDARD.encode(digest.into_bytes());
        action.headers_mut().insert("content-length", bytes.to_string());
        action.headers_mut().insert(CHECKSUM, checksum.clone());
        // The client's library counts for itself what it sends.
        let headers = BTreeMap::from([(CHECKSUM.to_owned(), checksum)]);
        Ok(Elsewhere { url: action.sign(GOOD_FOR).into(), headers })
    }

    /// Where an object can be had.
    pub(super) async fn download(&self, name: &str) -> Result<Elsewhere> {
        let (key, credentials) = (self.key(name), self.credentials().await?);
        let url = self.bucket.get_object(Some(&credentials), &key).sign(GOOD_FOR);
        Ok(Elsewhere { url: url.into(), headers: BTreeMap::new() })
    }

    /// What the store has under a name, by its own check.
    pub(super) async fn stored(&self, name: &str) -> Result<Option<Stored>> {
        const MODE: (&str, &str) = ("x-amz-checksum-mode", "ENABLED");
        let (key, credentials) = (self.key(name), self.credentials().await?);
        let mut action = self.bucket.head_object(Some(&credentials), &key);
        action.headers_mut().insert(MODE.0, MODE.1);
        let request = self.client.head(action.sign(GOOD_FOR)).header(MODE.0, MODE.1);
        let answer = request.send().await.map_err(|e| generic(e.without_url().into()))?;
        if answer.status() == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let answer = answer.error_for_status().map_err(|e| generic(e.without_url().into()))?;
        let bytes = text(answer.headers(), CONTENT_LENGTH.as_str()).and_then(|bytes| bytes.parse().ok());
        let bytes = bytes.ok_or_else(|| generic("it does not say how long an object is".into()))?;
        let digest = text(answer.headers(), CHECKSUM).and_then(|text| BASE64_STANDARD.decode(text).ok());
        let digest = digest.and_then(|bytes| Some(Digest::from_bytes(bytes.try_into().ok()?)));
        Ok(Some(Stored { bytes, digest }))
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn generic(source: Box<dyn std::error::Error + Send + Sync>) -> Error {
    object_store::Error::Generic { store: "S3", source }.into()
}
