//! The pages as a hub serves them: to whom, and what comes of what is said there.
//!
//! The test in a browser needs what that of `pages` needs.

use std::{env, fs, path::Path, process::Command};

use edge_runtime::sync::Remote;
use flywheel::{
    board::{Pictures, put},
    project::Project,
    round::open_remote,
    steps::{ingest::ingest, review::reviews},
};
use hub::{
    admin::{Order, execute},
    channels::Channels,
    limits::Limits,
};
use jiff::{SignedDuration, Timestamp};
use models::{
    Board, Digest, Review, Reviews, Said,
    hub::{PAGES, RefusalCode, Role},
    sync,
};

use crate::{
    TestResult,
    hub::{Result, Server, refused},
    pages::{WAITING, board, digest, image},
};

fn pictures() -> Result<Pictures> {
    (0..=WAITING).map(|shade| Ok((digest(shade), image(shade).to_png()?))).collect()
}

/// A project whose remote is that hub, enrolled there as the workstation.
fn workstation(server: &Server, folder: &Path) -> Result<(Project, Remote)> {
    let config = format!(
        "[data]\nlabeled = 'x'\n[preprocessing]\ncolor = 'gray'\nheight = 8\nwidth = 8\n[store]\nremote = '{}'\n",
        server.url
    );
    fs::write(folder.join("flywheel.toml"), config)?;
    let project = Project::open(&folder.join("flywheel.toml"))?;
    server.enrol_in(&project.credentials(), "workstation", Role::Publisher)?;
    let remote = open_remote(&project)?;
    Ok((project, remote))
}

/// An answer: its status, the headers asked for, and its text.
struct Answer {
    status: u16,
    location: String,
    cookie: String,
    text: String,
}

/// What a browser with this cookie gets.
fn browse(server: &Server, method: &str, page: &str, cookie: &str, kind: &str, body: &str) -> Result<Answer> {
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).max_redirects(0).build().into();
    let request = ureq::http::Request::builder().method(method).uri(format!("{}{PAGES}/{page}", server.url));
    let request = request.header("cookie", format!("other=1; {cookie}")).header("content-type", kind);
    let mut answer = agent.run(request.body(body.to_owned())?)?;
    let header = |name: &str| {
        let value = answer.headers().get(name).and_then(|value| value.to_str().ok());
        value.unwrap_or_default().to_owned()
    };
    let (location, cookie) = (header("location"), header("set-cookie"));
    Ok(Answer { status: answer.status().as_u16(), location, cookie, text: answer.body_mut().read_to_string()? })
}

fn get(server: &Server, page: &str, cookie: &str) -> Result<Answer> {
    browse(server, "GET", page, cookie, "text/plain", "")
}

fn sign_in(server: &Server, token: &str) -> Result<Answer> {
    let body = format!("token={}", token.replace(' ', "+"));
    browse(server, "POST", "sign-in", "", "application/x-www-form-urlencoded", &body)
}

fn say(server: &Server, cookie: &str, decisions: &str) -> Result<Answer> {
    browse(server, "POST", "reviews", cookie, "application/json", decisions)
}

#[test]
fn a_hub_shows_pages_to_who_has_signed_in_and_nobody_else() -> TestResult {
    let folder = tempfile::tempdir()?;
    let server = Server::start(folder.path(), false, Limits::default())?;
    let (_, remote) = workstation(&server, folder.path())?;
    let board = board()?;
    let missing = put(&remote, &board, Pictures::new()).err().map(|e| e.to_string()).unwrap_or_default();
    assert!(missing.contains("has to be here first"), "{missing}");
    put(&remote, &board, pictures()?)?;
    assert_eq!(refused(remote.put(&sync::picture(digest(0)), vec![0; 9 << 20]))?, RefusalCode::TooLarge);

    let picture = format!("images/{}.png", digest(0));
    for cookie in ["", "__Host-flywheel=", "__Host-flywheel=guessed"] {
        let page = get(&server, "index.html", cookie)?;
        assert_eq!((page.status, page.location.as_str()), (303, "sign-in"), "{cookie}");
        assert_eq!(get(&server, &picture, cookie)?.status, 401);
        assert_eq!(say(&server, cookie, "[]")?.status, 401);
    }
    // What nobody has signed for is not read to its end.
    let long = format!("token={}", "x".repeat(1 << 13));
    let long = browse(&server, "POST", "sign-in", "", "application/x-www-form-urlencoded", &long)?;
    assert_eq!(long.status, 413);
    // A device's token is none for people, and stays good for the device.
    let of_device = server.token("cam-1", Role::Device)?;
    assert_eq!(sign_in(&server, &of_device)?.status, 403);
    server.enrol_by(&folder.path().join("cam-1"), "cam-1", Role::Device, &of_device)?;

    let token = server.token("ann", Role::Reviewer)?;
    assert_eq!(sign_in(&server, "guessed")?.status, 403);
    let entered = sign_in(&server, &token)?;
    assert_eq!((entered.status, entered.location.as_str()), (303, "index.html"));
    for attribute in ["; HttpOnly", "; Secure", "; SameSite=Lax", "; Path=/"] {
        assert!(entered.cookie.contains(attribute), "{}", entered.cookie);
    }
    assert_eq!(sign_in(&server, &token)?.status, 403, "a token works once");
    let cookie = entered.cookie.split(';').next().unwrap_or_default().to_owned();
    let page = get(&server, "index.html", &cookie)?;
    assert!(page.status == 200 && page.text.contains("ann") && page.text.contains("Sign out"), "{}", page.text);
    let shown = get(&server, "review.html", &cookie)?;
    assert!(shown.text.contains(&picture) && shown.text.contains("data-post"), "{}", shown.text);
    assert_eq!(get(&server, "board.json", &cookie)?.status, 404);
    assert_eq!(get(&server, &format!("images/{}.png", Digest::of(b"x")), &cookie)?.status, 404);
    assert_eq!(
        ureq::get(format!("{}{PAGES}/{picture}", server.url))
            .header("cookie", &cookie)
            .call()?
            .body_mut()
            .read_to_vec()?,
        image(0).to_png()?
    );

    // A forgotten device's samples go from the pages, with their pictures, and so does what no board shows any more.
    assert_eq!(remote.list(sync::PICTURES)?.len(), usize::from(WAITING) + 1);
    let fewer = Board { confusion: Vec::new(), worst: Vec::new(), queue: board.queue[..3].to_vec(), ..board.clone() };
    put(&remote, &fewer, pictures()?.into_iter().filter(|(image, _)| fewer.pictures().any(|i| i == *image)).collect())?;
    assert_eq!(remote.list(sync::PICTURES)?.len(), 3);
    let mut two = Board { waiting: 3, ..fewer };
    two.queue[0].device = "cam-1".into();
    put(&remote, &two, Pictures::new())?;
    let order = Order::Forget { device: "cam-1".into() };
    server.runtime.block_on(async {
        let channels = Channels { database: server.data.database().await?, objects: server.data.objects()? };
        execute(&channels, order, "operator", Timestamp::now()).await
    })?;
    let left: Board = serde_json::from_slice(&remote.get(sync::BOARD, 1 << 20)?.ok_or("no board")?)?;
    assert_eq!((left.queue.len(), left.waiting, remote.list(sync::PICTURES)?.len()), (2, 2, 2));

    // Who signs out, or is revoked, is out.
    assert_eq!(browse(&server, "POST", "sign-out", &cookie, "text/plain", "")?.status, 303);
    assert_eq!(get(&server, "index.html", &cookie)?.status, 303);
    let entered = sign_in(&server, &server.token("bob", Role::Reviewer)?)?;
    let cookie = entered.cookie.split(';').next().unwrap_or_default().to_owned();
    assert_eq!(get(&server, "index.html", &cookie)?.status, 200);
    assert!(server.runtime.block_on(async { server.data.database().await?.revoke("bob", Timestamp::now()).await })?);
    assert_eq!(get(&server, "index.html", &cookie)?.status, 303);
    Ok(())
}

#[test]
fn what_is_said_at_a_hub_comes_to_the_workstation_in_the_name_of_who_signed_in() -> TestResult {
    let folder = tempfile::tempdir()?;
    let server = Server::start(folder.path(), false, Limits::default())?;
    let (project, remote) = workstation(&server, folder.path())?;
    put(&remote, &board()?, pictures()?)?;
    let cookie = |name: &str| {
        let entered = sign_in(&server, &server.token(name, Role::Reviewer)?)?;
        Ok::<_, Box<dyn std::error::Error>>(entered.cookie.split(';').next().unwrap_or_default().to_owned())
    };
    let (ann, bob) = (cookie("ann")?, cookie("bob")?);
    let decision = |shade: u8, said: &str| format!("{{\"image\": \"{}\", \"said\": {said}}}", digest(shade));
    let (a, b) = (decision(0, r#"{"label": "a"}"#), decision(1, "\"unsure\""));
    assert_eq!(say(&server, &ann, &format!("[{a}, {b}]"))?.status, 200);
    assert_eq!(say(&server, &bob, &format!("[{}]", decision(0, r#"{"label": "c"}"#)))?.status, 200);
    assert_eq!(say(&server, &bob, &format!("[{}]", decision(1, "\"undo\"")))?.status, 200);
    for (wrong, status) in [("{}", 422), (&format!("[{}]", decision(2, r#"{"label": "cow"}"#)), 422), ("[", 400)] {
        assert_eq!(say(&server, &ann, wrong)?.status, status, "{wrong}");
    }
    let form = browse(&server, "POST", "reviews", &ann, "text/plain", &format!("[{a}]"))?;
    assert_eq!(form.status, 415, "what a form elsewhere could send");

    // The pages know it at once, and the workstation when it takes in.
    let history = get(&server, "history.html", &ann)?.text;
    assert!(history.contains("ann, ") && history.contains("bob, "), "{history}");
    let ingested = ingest(&project, &remote, Timestamp::now())?;
    assert_eq!((ingested.reviews, ingested.refused.len()), (4, 0));
    assert_eq!(ingest(&project, &remote, Timestamp::now())?.reviews, 0);
    let said = reviews(&project)?;
    assert_eq!((said.of(digest(0)), said.of(digest(1))), (Some(&Said::Label("c".into())), None));
    let by = |image: Digest| said.history(image).iter().map(|review| review.by.clone()).collect::<Vec<_>>();
    assert_eq!(
        (by(digest(0)), by(digest(1))),
        (vec!["ann".into(), "bob".into()], vec!["ann".into(), "bob".to_owned()])
    );

    // By a key, in one's own name alone, and under the name of the content.
    let reviewer = server.connect(&server.enrol(folder.path(), "tool", Role::Reviewer)?)?;
    let word = |by: &str, at: Timestamp| -> Result<Vec<u8>> {
        let review = Review { at, image: digest(3), by: by.into(), said: Said::Reject };
        Ok(serde_json::to_vec(&[review])?)
    };
    let now = Timestamp::now();
    let (own, other) = (word("tool", now)?, word("ann", now)?);
    // The last word for ever.
    let late = word("tool", now + SignedDuration::from_hours(1))?;
    assert_eq!(refused(reviewer.put(&sync::reviews(Digest::of(&late)), late))?, RefusalCode::Content);
    reviewer.put(&sync::reviews(Digest::of(&own)), own.clone())?;
    assert_eq!(refused(reviewer.put(&sync::reviews(Digest::of(&other)), other.clone()))?, RefusalCode::Content);
    assert_eq!(refused(reviewer.put(&sync::reviews(Digest::of(&other)), own))?, RefusalCode::Content);
    assert_eq!(refused(reviewer.put(sync::BOARD, b"{}".to_vec()))?, RefusalCode::Role);

    // A hub that has something else under that name is not believed.
    let lie = Digest::of(b"lie");
    fs::write(server.data.path.join("objects").join(sync::reviews(lie)), word("ann", now)?)?;
    let ingested = ingest(&project, &remote, Timestamp::now())?;
    assert_eq!((ingested.reviews, ingested.refused.len()), (1, 1), "{ingested:?}");
    Ok(())
}

#[test]
#[ignore = "needs FLYWHEEL_PYTHON and FLYWHEEL_CHROMIUM; .ci/run runs it"]
fn labels_that_are_decided_at_a_hub_in_a_browser_come_to_the_workstation() -> TestResult {
    let folder = tempfile::tempdir()?;
    let server = Server::start(folder.path(), true, Limits::default())?;
    let (project, remote) = workstation(&server, folder.path())?;
    put(&remote, &board()?, pictures()?)?;
    let [python, chromium] = ["FLYWHEEL_PYTHON", "FLYWHEEL_CHROMIUM"].map(env::var);
    let (token, picture) = (server.token("ann", Role::Reviewer)?, folder.path().join("review.png"));
    let output = Command::new(python?)
        .args(["interop/use_hub_pages.py", &format!("{}{PAGES}/", server.url), &chromium?, &token])
        .arg(&picture)
        .output()?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(fs::metadata(&picture)?.len() > 10_000, "the picture of the page is empty");

    ingest(&project, &remote, Timestamp::now())?;
    let said: Reviews = reviews(&project)?;
    let label = |label: &str| Some(Said::Label(label.into()));
    let holds: Vec<Option<Said>> = (0..6).map(|shade| said.of(digest(shade)).cloned()).collect();
    assert_eq!(holds, [label("a"), label("b"), Some(Said::Reject), None, label("c"), label("a")]);
    assert_eq!(said.of(digest(6)), label("a").as_ref(), "what looks like it");
    assert!(said.images().all(|(image, _)| said.history(image).iter().all(|review| review.by == "ann")));
    Ok(())
}
