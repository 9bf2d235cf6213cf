use std::fs;

use flywheel::simulate::{RoundOutcome, Simulation};

use crate::{TestResult, succeed};

/// A short form of the simulation: a device that sends wrong labels does not teach them, the gate's intervals hold, and
/// no worse model goes out.
#[test]
fn wrong_labels_of_a_device_are_not_learned_and_intervals_hold() -> TestResult {
    let folder = tempfile::tempdir()?;
    let folder = folder.path();
    let small = ["--rounds", "2", "--steps", "120", "--seen", "60", "--reviews", "30"];
    let arguments = [&["simulate", "--scenario", "wrong-device", "--json"], &small[..]].concat();
    let printed = succeed(folder, &arguments)?;
    let simulation: Simulation = serde_json::from_str(&printed)?;
    let [run] = simulation.runs.as_slice() else { return Err("one scenario with one seed is one run".into()) };
    let wrong = |rounds: &[RoundOutcome]| {
        let last = rounds.last().expect("there are two rounds");
        last.wrong_samples as f64 / last.field_samples as f64
    };
    // A quarter of all images is seen by the device that lies, and it is sure of all of them.
    assert!(wrong(&run.guarded) < 0.1 && wrong(&run.unguarded) > 0.25, "{run:?}");
    assert_eq!(simulation.bad_published, 0, "{run:?}");
    let coverage = simulation.coverage;
    let held = [coverage.field, coverage.field_at_least, coverage.field_at_most, coverage.test, coverage.test_at_least];
    let share = |held: usize| held as f64 / coverage.draws as f64;
    // Of 200 draws, 95 of 100 are 190, give or take 3; all five together are known better.
    assert!(coverage.draws == 200 && held.into_iter().all(|held| share(held) > 0.85), "{coverage:?}");
    assert!(share(held.into_iter().sum()) / 5.0 > 0.92, "{coverage:?}");

    // What is done is not played again.
    let out = folder.join("flywheel-simulation");
    fs::remove_dir_all(out.join("wrong-device-1/flywheel"))?;
    assert_eq!(succeed(folder, &arguments)?, printed);
    for page in ["simulation.html", "simulation.svg"] {
        let page = fs::read_to_string(out.join(page))?;
        assert!(page.contains("wrong-device") && !page.contains("NaN"), "{page:.300}");
    }
    Ok(())
}
