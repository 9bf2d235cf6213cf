//! The pages in a browser, as a person uses them: the labels that are decided there come back in.
//!
//! This needs a Python with the packages of `tests/interop/requirements.txt`, named by `FLYWHEEL_PYTHON`, and a Chromium, named by
//! `FLYWHEEL_CHROMIUM`; `.ci/run` installs both and runs it.

use std::{collections::BTreeMap, env, fs, path::Path, process::Command};

use flywheel::exchange;
use hub::pages::{Page, Place, picture};
use jiff::Timestamp;
use models::{
    Board, Digest, Estimate, LabelSet, Pixels, Review, Reviews, Said,
    board::{Cell, DeviceDrift, Mistake, RoundLine, Waiting, Why},
    sync::{Counters, DeviceStatus},
};

use crate::TestResult;

/// What somebody could call a device, or say.
const HOSTILE: &str = "\"><script>alert(1)</script>";
/// Images to review, of which the seventh looks like the sixth.
pub(crate) const WAITING: u8 = 9;

pub(crate) fn image(shade: u8) -> Pixels {
    Pixels { height: 8, width: 8, channels: 1, data: (0..64).map(|i| shade * 20 + i).collect() }
}

pub(crate) fn digest(shade: u8) -> Digest {
    image(shade).digest()
}

/// Two rounds, the second refused; a device; one mistake of each kind; images of which nobody has said anything, but for a last one.
pub(crate) fn board() -> Result<Board, models::Error> {
    let round = |round: u32, published: bool| RoundLine {
        round,
        finished: Timestamp::UNIX_EPOCH,
        bundle: Digest::of(&[round as u8]),
        published,
        withdrawn: None,
        reason: HOSTILE.into(),
        test: Estimate { value: 0.9, at_least: 0.85, at_most: 0.94 },
        field: (round > 1).then_some(Estimate { value: 0.8, at_least: 0.7, at_most: 0.9 }),
        told: vec![HOSTILE.into()],
    };
    let waiting = |shade: u8| Waiting {
        image: digest(shade),
        why: if shade == 0 { Why::Audit } else { Why::Unsure },
        like: digest(if shade == 6 { 5 } else { shade }),
        device: HOSTILE.into(),
        captured: Timestamp::UNIX_EPOCH,
        guesses: vec![(0, 0.7), (2, 0.2), (1, 0.1)],
        history: Vec::new(),
    };
    let cell = |shades: std::ops::Range<u8>| Cell { count: shades.len(), pictures: shades.map(digest).collect() };
    let mut queue: Vec<Waiting> = (0..WAITING).map(waiting).collect();
    queue.push(Waiting {
        like: digest(WAITING),
        history: vec![Review {
            at: Timestamp::UNIX_EPOCH,
            image: digest(WAITING),
            by: HOSTILE.into(),
            said: Said::Label("b".into()),
        }],
        ..waiting(WAITING)
    });
    Ok(Board {
        made: Timestamp::UNIX_EPOCH,
        labels: LabelSet::new(["a", "b", "c"])?,
        rounds: vec![round(1, true), round(2, false)],
        devices: vec![DeviceStatus {
            device: HOSTILE.into(),
            channel: "stable".into(),
            bundle: Digest::of(&[1]),
            sequence: 1,
            counters: Counters::default(),
            unsealed: 3,
            backlog: 1,
            update: None,
            reported: Timestamp::UNIX_EPOCH,
        }],
        drifts: vec![DeviceDrift { device: HOSTILE.into(), confidence: 0.1, classes: 0.4, is_rare: true }],
        confusion: vec![
            vec![cell(0..4), cell(4..6), cell(0..0)],
            vec![cell(0..0), cell(6..8), cell(8..9)],
            vec![cell(0..0), cell(0..0), cell(9..10)],
        ],
        worst: vec![Mistake { picture: digest(4), truth: Some(0), taken_for: 1, confidence: 0.9 }],
        waiting: 9,
        queue,
    })
}

fn write(folder: &Path, board: &Board) -> TestResult {
    fs::create_dir(folder.join("images"))?;
    for shade in 0..=WAITING {
        fs::write(folder.join(picture(digest(shade))), image(shade).to_png()?)?;
    }
    for page in Page::ALL {
        fs::write(folder.join(page.file()), page.html(board, Place::Files))?;
    }
    Ok(())
}

#[test]
fn pages_escape_what_they_show_and_refer_to_nothing_outside() -> TestResult {
    let board = board()?;
    for page in Page::ALL {
        let html = page.html(&board, Place::Files);
        assert!(!html.contains("http://") && !html.contains("https://") && !html.contains("<script>alert"), "{page:?}");
        // Every picture that a page shows is one that is written.
        for part in html.split("src=\"").skip(1) {
            let source = part.split('"').next().unwrap_or_default();
            assert!((0..=WAITING).any(|shade| source == picture(digest(shade))), "{page:?}: {source}");
        }
    }
    Ok(())
}

#[test]
fn nothing_shows_what_the_model_says_of_an_image_that_is_to_judge_it() -> TestResult {
    let html = |why: Why, guesses: [(usize, f64); 3]| {
        let mut board = board()?;
        // One that nobody has spoken of, and one that somebody has.
        for waiting in board.queue.iter_mut().filter(|waiting| [digest(0), digest(WAITING)].contains(&waiting.image)) {
            (waiting.why, waiting.guesses) = (why, guesses.to_vec());
        }
        Ok::<_, models::Error>(Page::ALL.map(|page| page.html(&board, Place::Files)))
    };
    let (one, other) = ([(0, 0.7), (2, 0.2), (1, 0.1)], [(1, 0.9), (0, 0.06), (2, 0.04)]);
    assert_eq!(html(Why::Audit, one)?, html(Why::Audit, other)?);
    let differ = html(Why::Unsure, one)?.into_iter().zip(html(Why::Unsure, other)?).filter(|(a, b)| a != b).count();
    assert_eq!(differ, 2, "review and history show it of others");
    Ok(())
}

#[test]
#[ignore = "needs FLYWHEEL_PYTHON and FLYWHEEL_CHROMIUM; .ci/run runs it"]
fn labels_are_decided_by_keyboard_in_a_browser_and_come_back_in() -> TestResult {
    let folder = tempfile::tempdir()?;
    let board = board()?;
    write(folder.path(), &board)?;
    let [python, chromium] = ["FLYWHEEL_PYTHON", "FLYWHEEL_CHROMIUM"].map(env::var);
    let (table, picture) = (folder.path().join("labels.csv"), folder.path().join("review.png"));
    let output = Command::new(python?)
        .arg("interop/use_pages.py")
        .args([folder.path().as_os_str(), chromium?.as_ref(), table.as_os_str(), picture.as_os_str()])
        .output()?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(fs::metadata(&picture)?.len() > 10_000, "the picture of the page is empty");

    let (said, imported) = exchange::import(&table, &board.labels, &Reviews::default(), "ann", Timestamp::UNIX_EPOCH)?;
    let said: BTreeMap<Digest, Said> = said.into_iter().map(|review| (review.image, review.said)).collect();
    let label = |label: &str| Said::Label(label.into());
    let expected = [label("a"), label("b"), Said::Reject, label("a"), label("c"), label("c"), label("c")];
    assert_eq!(said, (0..).map(digest).zip(expected).collect());
    assert_eq!(imported.new, 7);
    Ok(())
}
