use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Stdio},
};

use serde_json::Value;

use crate::{TestResult, fail, flywheel, succeed};

/// A hub as a process, killed when this is dropped.
struct Hub {
    process: Child,
    url: String,
}

impl Hub {
    fn start(folder: &Path) -> Result<Self, Box<dyn std::error::Error>> {
        let arguments = ["hub", "serve", "--data", "data", "--plain", "--listen", "127.0.0.1:0"];
        let mut process = flywheel(folder, &arguments).stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        BufReader::new(process.stdout.take().ok_or("no output")?).read_line(&mut line)?;
        let url = line.split([' ', ',']).find(|word| word.starts_with("http")).ok_or(line.clone())?.to_owned();
        Ok(Self { process, url })
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        // It is gone either way.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn json(folder: &Path, arguments: &[&str]) -> Result<Value, Box<dyn std::error::Error>> {
    Ok(serde_json::from_str(&succeed(folder, arguments)?)?)
}

#[test]
fn an_admin_runs_a_hub_from_the_workstation() -> TestResult {
    let folder = tempfile::tempdir()?;
    let folder = folder.path();
    let hub = Hub::start(folder)?;
    let config = format!(
        "[data]\nlabeled = 'x'\n[preprocessing]\ncolor = 'gray'\nheight = 8\nwidth = 8\n[store]\nremote = '{}'\n",
        hub.url
    );
    fs::write(folder.join("flywheel.toml"), config)?;
    // The first key is made known by who has the hub's own files.
    let enrol = |name: &str, role: &str| -> TestResult {
        let token = json(folder, &["hub", "token", name, "--role", role, "--data", "data", "--json"])?;
        succeed(folder, &["enrol", "--token", token["token"].as_str().ok_or("no token")?])?;
        Ok(())
    };
    enrol("station", "publisher")?;
    let said = fail(folder, &["hub", "clients"])?;
    assert!(said.contains("publisher") && said.contains("station"), "{said}");
    fs::remove_dir_all(folder.join("flywheel/hub"))?;
    enrol("chief", "admin")?;

    let token = json(folder, &["hub", "token", "cam-1", "--json"])?;
    let state = ["edge", "enrol", &hub.url, "--state", "state", "--token", token["token"].as_str().ok_or("no token")?];
    succeed(folder, &state)?;
    let clients = json(folder, &["hub", "clients", "--json"])?;
    let roles: Vec<_> =
        clients.as_array().into_iter().flatten().map(|client| (&client["name"], &client["role"])).collect();
    assert_eq!(
        format!("{roles:?}").replace("String", ""),
        r#"[(("cam-1"), ("device")), (("chief"), ("admin")), (("station"), ("publisher"))]"#
    );
    succeed(folder, &["hub", "revoke", "station"])?;
    assert!(fail(folder, &["hub", "revoke", "station"])?.contains("no key"));
    assert!(succeed(folder, &["hub", "forget", "cam-1"])?.contains("0 segments"));
    let stages = json(folder, &["hub", "rollout", "--json", "plan", "stable", "--stages", "1,100", "--minutes", "5"])?;
    assert_eq!(stages[0]["plan"]["stages"], serde_json::json!([1, 100]));
    assert!(fail(folder, &["hub", "rollout", "plan", "stable", "--stages", "50"])?.contains("the last of them 100"));
    assert!(fail(folder, &["hub", "rollout", "next", "stable"])?.contains("is on its way"));

    // Who did it is written down, there as here.
    let log = json(folder, &["hub", "log", "--json"])?;
    assert_eq!(log, json(folder, &["hub", "log", "--json", "--data", "data"])?);
    let done: Vec<_> =
        log.as_array().into_iter().flatten().map(|entry| format!("{} {}", entry["who"], entry["action"])).collect();
    assert_eq!(done[..3], [r#""chief" "planned""#, r#""chief" "forgot""#, r#""chief" "revoked""#]);
    assert_eq!(done.last().map(String::as_str), Some(r#""operator" "token""#));
    Ok(())
}
