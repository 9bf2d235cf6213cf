//! What both databases have to do alike: SQLite always, PostgreSQL if `FLYWHEEL_POSTGRES` is the address of an empty database.

use hub::{
    Error, Result,
    database::{Database, SegmentRow},
    rollout::Channel,
    statuses::Statuses,
};
use jiff::{SignedDuration, Timestamp};
use models::{
    Digest,
    hub::Role,
    signing::{PrivateKey, PublicKey},
    sync::{ChannelPointer, Counters, DeviceStatus},
};

fn key(byte: u8) -> PublicKey {
    PrivateKey::from_secret([byte; 32]).expect("a key").public()
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).expect("a time")
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite() -> Result<()> {
    let folder = tempfile::tempdir().expect("a folder");
    let url = format!("sqlite:{}?mode=rwc", folder.path().join("hub.db").display());
    suite(&url).await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a PostgreSQL, by FLYWHEEL_POSTGRES"]
async fn postgresql() -> Result<()> {
    suite(&std::env::var("FLYWHEEL_POSTGRES").expect("FLYWHEEL_POSTGRES is the address of an empty database")).await
}

async fn suite(url: &str) -> Result<()> {
    let database = Database::open(url).await?;
    database.ping().await?;
    tokens_enrol_one_key_once(&database).await?;
    of_many_who_have_a_token_one_enrols(&database).await?;
    a_revoked_key_is_unknown_and_its_name_is_free(&database).await?;
    segments_are_counted_by_device_and_time(&database).await?;
    of_statuses_the_latest_counts(&database).await?;
    a_status_is_known_while_it_is_written(&database).await?;
    of_two_who_change_a_channel_one_does(&database).await?;
    who_has_signed_in_is_in_until_it_ends(&database).await?;
    a_secret_is_the_first_that_was_given(&database).await?;
    the_log_says_the_last_things_first(&database).await?;
    // Everything is still there, for another process too.
    let again = Database::open(url).await?;
    assert_eq!(again.clients().await?, database.clients().await?);
    assert!(again.clients().await?.len() >= 3);
    Ok(())
}

async fn tokens_enrol_one_key_once(database: &Database) -> Result<()> {
    database.add_token("good", "cam-1", Role::Device, at(100)).await?;
    assert!(matches!(database.enrol("bad", &key(1), at(0)).await, Err(Error::Token)));
    assert!(matches!(database.enrol("good", &key(1), at(100)).await, Err(Error::Token)), "too old");
    let client = database.enrol("good", &key(1), at(0)).await?;
    assert_eq!((client.name.as_str(), client.role), ("cam-1", Role::Device));
    assert_eq!(database.client(key(1).id()).await?, Some(client.clone()));
    // The answer may have been lost: the same key is told again. Another one is not let in.
    assert_eq!(database.enrol("good", &key(1), at(1)).await?, client);
    assert!(matches!(database.enrol("good", &key(2), at(1)).await, Err(Error::Token)));
    // A name has one key, and the token stays good for when it is free.
    database.add_token("second", "cam-1", Role::Device, at(100)).await?;
    assert!(matches!(database.enrol("second", &key(2), at(0)).await, Err(Error::NameInUse { .. })));
    assert_eq!(database.client(key(2).id()).await?, None);
    database.revoke("cam-1", at(2)).await?;
    assert_eq!(database.enrol("second", &key(2), at(3)).await?.name, "cam-1");
    Ok(())
}

async fn of_many_who_have_a_token_one_enrols(database: &Database) -> Result<()> {
    database.add_token("leaked", "cam-9", Role::Device, at(100)).await?;
    let tries = (100..116).map(|byte| {
        let database = database.clone();
        tokio::spawn(async move { database.enrol("leaked", &key(byte), at(0)).await.is_ok() })
    });
    let mut enrolled = 0;
    for one in tries.collect::<Vec<_>>() {
        enrolled += u32::from(one.await.expect("no panic"));
    }
    assert_eq!(enrolled, 1);
    Ok(())
}

async fn a_revoked_key_is_unknown_and_its_name_is_free(database: &Database) -> Result<()> {
    database.add_token("third", "cam-3", Role::Publisher, at(100)).await?;
    database.enrol("third", &key(3), at(0)).await?;
    assert!(database.revoke("cam-3", at(1)).await?);
    assert!(!database.revoke("cam-3", at(2)).await?, "once");
    assert_eq!(database.client(key(3).id()).await?, None);
    // Neither by its own token again, nor by another one: a revoked key stays so.
    assert!(matches!(database.enrol("third", &key(3), at(2)).await, Err(Error::Token)));
    database.add_token("fourth", "cam-3", Role::Publisher, at(100)).await?;
    assert!(matches!(database.enrol("fourth", &key(3), at(2)).await, Err(Error::KnownKey)));
    assert_eq!(database.enrol("fourth", &key(4), at(2)).await?.role, Role::Publisher);
    let clients = database.clients().await?;
    let of_name: Vec<_> = clients.iter().filter(|client| client.name == "cam-3").map(|client| client.revoked).collect();
    assert_eq!(of_name, [Some(at(1)), None]);
    Ok(())
}

async fn who_has_signed_in_is_in_until_it_ends(database: &Database) -> Result<()> {
    for (token, role) in [
        ("of ann", Role::Reviewer),
        ("of ann's other", Role::Reviewer),
        ("unused", Role::Reviewer),
        ("of a device", Role::Device),
    ] {
        database.add_token(token, "ann", role, at(100)).await?;
    }
    let end = 30 * 24 * 3600;
    for (wrong, now) in [("guessed", 0), ("of ann", 100), ("of a device", 0)] {
        assert!(matches!(database.sign_in(wrong, "secret", at(now)).await, Err(Error::Token)), "{wrong}");
    }
    let session = database.sign_in("of ann", "secret", at(0)).await?;
    assert_eq!((session.name.as_str(), session.role, session.expires), ("ann", Role::Reviewer, at(end)));
    assert!(matches!(database.sign_in("of ann", "another", at(0)).await, Err(Error::Token)), "once");
    assert!(
        matches!(database.enrol("of ann", &key(9), at(0)).await, Err(Error::Token)),
        "nor does it make a key known"
    );
    assert_eq!(database.session("secret", at(end - 1)).await?, Some(session.clone()));
    assert_eq!(database.session("secret", at(end)).await?, None);
    assert_eq!(database.session("guessed", at(1)).await?, None);
    // Two browsers of one person: each can sign out, and revoking the name ends both.
    database.sign_in("of ann's other", "other", at(1)).await?;
    assert_eq!(database.sessions(at(2)).await?.len(), 2);
    database.sign_out("secret").await?;
    assert_eq!(database.sessions(at(2)).await?.len(), 1);
    assert!(database.revoke("ann", at(2)).await?);
    assert_eq!(database.session("other", at(2)).await?, None);
    assert!(
        matches!(database.sign_in("unused", "again", at(2)).await, Err(Error::Token)),
        "nor by a token from before"
    );
    Ok(())
}

async fn segments_are_counted_by_device_and_time(database: &Database) -> Result<()> {
    for (device, name, bytes, second) in [("a", "x", 5, 0), ("a", "y", 7, 50), ("b", "x", 100, 50)] {
        let row = SegmentRow {
            device: device.into(),
            digest: Digest::of(name.as_bytes()),
            bytes,
            samples: 1,
            received: at(second),
        };
        assert_eq!(database.segment_bytes(device, row.digest).await?, None);
        for said in [bytes, bytes - 1] {
            database.add_segment(&SegmentRow { bytes: said, ..row.clone() }).await?;
        }
        assert_eq!(database.segment_bytes(device, row.digest).await?, Some(bytes), "the largest that was said");
    }
    assert_eq!(database.bytes_since("a", at(-1)).await?, 12, "sending it again counts once");
    assert_eq!(database.bytes_since("a", at(0)).await?, 7);
    assert_eq!(database.forget("a").await?, 2);
    assert_eq!((database.bytes_since("a", at(-1)).await?, database.bytes_since("b", at(-1)).await?), (0, 100));
    Ok(())
}

fn status(device: &str, backlog: usize, second: i64) -> DeviceStatus {
    DeviceStatus {
        device: device.into(),
        channel: "stable".into(),
        bundle: Digest::of(b"bundle"),
        sequence: 1,
        counters: Counters::default(),
        unsealed: 0,
        backlog,
        update: None,
        reported: at(second),
    }
}

async fn of_statuses_the_latest_counts(database: &Database) -> Result<()> {
    database.put_statuses(&[status("d1", 1, 10), status("d2", 1, 10)]).await?;
    database.put_statuses(&[status("d1", 2, 5), status("d2", 2, 15)]).await?;
    let found = |text: Option<String>| text.and_then(|text| serde_json::from_str::<DeviceStatus>(&text).ok());
    assert_eq!(found(database.status("d1").await?), Some(status("d1", 1, 10)), "an older one came later");
    assert_eq!(found(database.status("d2").await?), Some(status("d2", 2, 15)));
    assert_eq!((database.status("d3").await?, database.devices().await?), (None, vec!["d1".into(), "d2".into()]));
    let mut statuses = Vec::new();
    database.each_status(|status| statuses.push(status)).await?;
    assert_eq!(statuses, [status("d1", 1, 10), status("d2", 2, 15)]);
    database.forget("d1").await?;
    assert_eq!(database.devices().await?, ["d2"]);
    Ok(())
}

async fn a_status_is_known_while_it_is_written(database: &Database) -> Result<()> {
    let statuses = Statuses::default();
    statuses.put(status("d2", 3, 20));
    let another_flush = async {
        statuses.flush(database).await?;
        database.status("d2").await
    };
    let (written, known, read) = tokio::join!(statuses.flush(database), statuses.get(database, "d2"), another_flush);
    written?;
    for text in [known?, read?] {
        assert!(text.is_some_and(|text| text.contains("\"backlog\":3")));
    }
    Ok(())
}

async fn of_two_who_change_a_channel_one_does(database: &Database) -> Result<()> {
    let to = |sequence| ChannelPointer { bundle: Digest::of(b"bundle"), sequence };
    let channel = |sequence| Channel { stable: Some(to(sequence)), ..Channel::default() };
    assert_eq!(database.channel("stable").await?, None);
    assert!(database.put_channel("stable", &channel(1), None).await?);
    assert!(!database.put_channel("stable", &channel(2), None).await?, "it is there by now");
    let (found, revision) = database.channel("stable").await?.expect("a channel");
    assert_eq!(found, channel(1));
    assert!(database.put_channel("stable", &channel(3), Some(revision)).await?);
    assert!(!database.put_channel("stable", &channel(4), Some(revision)).await?, "somebody was first");
    assert_eq!(database.channel("stable").await?.map(|(channel, _)| channel), Some(channel(3)));
    assert_eq!(database.channels().await?, ["stable"]);
    Ok(())
}

async fn a_secret_is_the_first_that_was_given(database: &Database) -> Result<()> {
    assert_eq!(database.secret("receipts", "one").await?, "one");
    assert_eq!(database.secret("receipts", "another").await?, "one");
    Ok(())
}

async fn the_log_says_the_last_things_first(database: &Database) -> Result<()> {
    let now = at(1_000_000);
    for (i, detail) in ["one", "two; with 'quotes' and \u{1f41f}", "three"].iter().enumerate() {
        database.log("operator", "tried", detail, now + SignedDuration::from_secs(i as i64)).await?;
    }
    let details: Vec<_> = database.entries(2).await?.into_iter().map(|entry| entry.detail).collect();
    assert_eq!(details, ["three", "two; with 'quotes' and \u{1f41f}"]);
    Ok(())
}
