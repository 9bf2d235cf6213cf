//! What a researcher types.

use std::{
    fs,
    io::{Read, Write},
    net::TcpListener,
    thread,
};

use models::tolerance::SAME_MATH;
use serde_json::Value;

use crate::{TestResult, fail, flywheel, succeed};

#[test]
fn variants_are_compared_at_equal_labels_and_a_second_call_trains_nothing_anew() -> TestResult {
    let folder = tempfile::tempdir()?;
    let folder = folder.path();
    let config = "network = 'wrn-10-1'\n[data]\nset = 'digits'\nlabels = 40\n[train]\nbatch = 8\nevaluate_every = 1\n";
    fs::write(folder.join("flywheel.toml"), config)?;
    let arguments = ["ablate", "--only", "supervised,mixmatch", "--seeds", "1,2", "--steps", "3"];
    let json = || -> Result<Value, Box<dyn std::error::Error>> {
        Ok(serde_json::from_str(&succeed(folder, &[&arguments[..], &["--json", "--plot", "plot.svg"]].concat())?)?)
    };
    let rows = json()?;
    assert_eq!([&rows[0]["variant"], &rows[1]["variant"]], ["supervised", "mixmatch"]);
    for row in [&rows[0], &rows[1]] {
        assert_eq!([&row["runs"][0]["seed"], &row["runs"][1]["seed"]], [1, 2]);
        assert_eq!(row["runs"][1]["accuracy"]["evaluations"], 3);
        let of = |seed: usize| row["runs"][seed]["accuracy"]["median_of_last_20"].as_f64().unwrap_or_default();
        assert!(SAME_MATH.same(row["mean"].as_f64().unwrap_or_default(), (of(0) + of(1)) / 2.0), "{row}");
    }
    let settings = |run: &str| fs::read_to_string(folder.join(format!("flywheel/runs/ablate/{run}/config.toml")));
    assert!(settings("mixmatch-seed-2")?.contains("seed = 2"));
    assert!(fs::read_to_string(folder.join("plot.svg"))?.contains("mixmatch"));
    assert_eq!(json()?, rows);
    let table = succeed(folder, &arguments)?;
    assert!(table.contains("| mixmatch") && table.contains("seed 2"), "{table}");
    // Eight views are the default: one run for both.
    let alike: Value =
        serde_json::from_str(&succeed(folder, &["ablate", "--only", "k8,remixmatch", "--steps", "1", "--json"])?)?;
    assert_eq!((&alike[1]["variant"], &alike[1]["runs"]), (&"remixmatch".into(), &alike[0]["runs"]));
    assert!(!folder.join("flywheel/runs/ablate/remixmatch-seed-1").exists());
    Ok(())
}

#[test]
fn a_device_is_compared_with_the_processor() -> TestResult {
    let folder = tempfile::tempdir()?;
    let checks: Value = serde_json::from_str(&succeed(folder.path(), &["doctor", "--json"])?)?;
    assert_eq!((&checks[0]["precision"], &checks[0]["gradient"]), (&"f32".into(), &0.0.into()));
    assert!(checks[1]["gradient"].as_f64() > Some(0.0), "bf16 rounds nothing: {checks}");
    let gpu = flywheel(folder.path(), &["doctor", "--device", "cuda"]).output()?;
    let said = String::from_utf8(gpu.stderr)?;
    assert!(gpu.status.success() || said.contains("--features cuda") || said.contains("CUDA devices"), "{said}");
    Ok(())
}

#[test]
fn a_file_that_is_not_to_be_had_is_said_with_where_to_put_it() -> TestResult {
    let folder = tempfile::tempdir()?;
    let server = TcpListener::bind("127.0.0.1:0")?;
    let mirror = format!("http://{}/sets/", server.local_addr()?);
    let asked = thread::spawn(move || -> std::io::Result<String> {
        let (mut stream, _) = server.accept()?;
        let mut request = [0; 1024];
        let length = stream.read(&mut request)?;
        stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")?;
        Ok(String::from_utf8_lossy(&request[..length]).into_owned())
    });
    let fetch = ["data", "fetch", "cifar10", "--folder", "here", "--mirror", &mirror];
    let output = flywheel(folder.path(), &fetch).env("NO_PROXY", "127.0.0.1").output()?;
    let said = String::from_utf8(output.stderr)?;
    assert!(!output.status.success() && said.contains("404"), "{said}");
    let asked = asked.join().expect("the server ends")?;
    assert!(asked.starts_with("GET /sets/cifar-10-binary.tar.gz "), "{asked}");
    assert!(said.contains("save it as here/cifar-10-binary.tar.gz"), "{said}");

    let listed = || -> Result<Value, Box<dyn std::error::Error>> {
        Ok(serde_json::from_str(&succeed(folder.path(), &["data", "list", "--folder", "here", "--json"])?)?)
    };
    let present = |listed: &Value| {
        let files = listed.as_array().into_iter().flatten();
        files.filter(|file| file["set"] == "cifar10").map(|file| file["present"] == true).collect::<Vec<_>>()
    };
    assert_eq!(present(&listed()?), [false]);
    fs::write(folder.path().join("here/cifar-10-binary.tar.gz"), "brought by hand, and damaged")?;
    assert_eq!(present(&listed()?), [true]);
    let said = fail(folder.path(), &["data", "fetch", "cifar10", "--folder", "here"])?;
    assert!(said.contains("expected MD5 c32a1d4ab5d03f1284b67883e8d87530"), "{said}");
    Ok(())
}
