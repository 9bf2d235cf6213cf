//! What both stores have to do alike, a folder and a bucket of a real S3 server, and what only the latter does.

use std::collections::BTreeMap;

use bytes::Bytes;
use hub::{
    Error,
    objects::{Objects, Stored},
};
use models::{Digest, hub::Elsewhere};
use tokio::{io::AsyncWriteExt, runtime::Runtime};

use crate::{TestResult, hub::Result, s3_server::S3Server};

#[test]
fn a_folder_keeps_objects() -> TestResult {
    let (runtime, folder) = (Runtime::new()?, tempfile::tempdir()?);
    let objects = Objects::folder(folder.path())?;
    runtime.block_on(suite(&objects))?;
    assert!(!objects.is_direct() && runtime.block_on(objects.download("bundles/x"))?.is_none());
    Ok(())
}

#[test]
fn an_s3_store_keeps_objects_and_deals_with_clients_itself() -> TestResult {
    let runtime = Runtime::new()?;
    let server = S3Server::start(&runtime)?;
    for url in ["s3://fleet", "s3://fleet/north/sea"] {
        let objects = Objects::bucket(&server.bucket(url))?;
        runtime.block_on(suite(&objects))?;
        addresses_are_good_for_one_content(&runtime, &objects)?;
    }
    for wrong in ["https://fleet", "s3:fleet", "fleet"] {
        assert!(matches!(Objects::bucket(&server.bucket(wrong)), Err(Error::Models(_))), "{wrong}");
    }
    Ok(())
}

async fn suite(objects: &Objects) -> Result<()> {
    assert!(matches!(objects.get("channels/x.json").await, Err(Error::NotFound(name)) if name == "channels/x.json"));
    assert!(matches!(objects.head("channels/x.json").await, Err(Error::NotFound(_))));
    assert!(!objects.has("channels/x.json").await?);
    objects.delete("channels/x.json").await?;
    assert_eq!(objects.list("channels").await?, Vec::<String>::new());

    for content in ["one", "another"] {
        objects.put("channels/x.json", Bytes::from_static(content.as_bytes())).await?;
        assert_eq!(objects.get("channels/x.json").await?.bytes().await?, content);
        assert_eq!(objects.head("channels/x.json").await?.size, content.len() as u64);
    }
    // Those below a folder, and not those below one whose name begins alike.
    for name in ["segments/cam-1/b", "segments/cam-1/a", "segments/cam-10/c"] {
        objects.put(name, Bytes::from_static(b"x")).await?;
    }
    assert_eq!(objects.list("segments/cam-1").await?, ["segments/cam-1/a", "segments/cam-1/b"]);
    assert_eq!(objects.list("segments").await?.len(), 3);
    assert_eq!(objects.list("").await?.len(), 4);

    // What is written piece by piece is there as a whole, or not at all. More than one part, also of S3.
    let piece = Bytes::from((0..3_000_000_u32).map(|i| (i % 251) as u8).collect::<Vec<_>>());
    for is_good in [false, true] {
        let mut object = objects.writer("bundles/large");
        for _ in 0..4 {
            object.put(piece.clone()).await?;
        }
        assert!(!objects.has("bundles/large").await?);
        if is_good {
            object.shutdown().await?;
            let found = objects.get("bundles/large").await?.bytes().await?;
            assert!(found.len() == 12_000_000 && found[9_000_000..] == piece);
        } else {
            object.abort().await?;
        }
        assert_eq!(objects.has("bundles/large").await?, is_good);
    }

    for name in objects.list("").await? {
        objects.delete(&name).await?;
    }
    assert_eq!(objects.list("").await?, Vec::<String>::new());
    Ok(())
}

/// Where the hub sends its clients, by a client of its own.
fn addresses_are_good_for_one_content(runtime: &Runtime, objects: &Objects) -> Result<()> {
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let (name, content) = ("segments/cam-1/x.tar", b"what was promised".as_slice());
    let (digest, bytes) = (Digest::of(content), content.len() as u64);
    let stored = || runtime.block_on(objects.stored(name));
    let upload = |digest| -> Result<Elsewhere> {
        Ok(runtime.block_on(objects.upload(name, digest, bytes))?.ok_or("no bucket")?)
    };
    let (there, other, none) = (upload(digest)?, upload(Digest::of(b"what was foisted!"))?, BTreeMap::new());
    let put = |url: &str, body: &[u8], headers: &BTreeMap<String, String>| -> Result<u16> {
        let request = headers.iter().fold(agent.put(url), |request, (name, value)| request.header(name, value));
        Ok(request.send(body)?.status().as_u16())
    };
    for (what, url, body, headers) in [
        ("another content", there.url.clone(), b"what was foisted!".as_slice(), &there.headers),
        ("another digest", there.url.clone(), b"what was foisted!", &other.headers),
        ("a longer one", there.url.clone(), b"what was promised, and more", &there.headers),
        ("a shorter one", there.url.clone(), b"what was", &there.headers),
        ("another device's name", there.url.replace("cam-1", "cam-2"), content, &there.headers),
        ("without its digest", there.url.clone(), content, &none),
    ] {
        let status = put(&url, body, headers)?;
        assert!((400..500).contains(&status), "{what}: {status}");
        // This server keeps what it refuses, but not as checked.
        assert_eq!(stored()?.and_then(|stored| stored.digest), None, "{what}");
    }
    assert_eq!(put(&there.url, content, &there.headers)?, 200);
    assert_eq!(stored()?, Some(Stored { bytes, digest: Some(digest) }));
    let back = runtime.block_on(objects.download(name))?.ok_or("no bucket")?.url;
    assert_eq!(agent.get(&back).call()?.body_mut().read_to_vec()?, content);
    assert_eq!(agent.get(back.replace("cam-1", "cam-2")).call()?.status().as_u16(), 403);
    // What came without a check has no digest.
    runtime.block_on(objects.put(name, Bytes::from_static(content)))?;
    assert_eq!(stored()?.and_then(|stored| stored.digest), None);
    Ok(runtime.block_on(objects.delete(name))?)
}
