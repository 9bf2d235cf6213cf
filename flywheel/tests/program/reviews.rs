use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;
use trainer::{data::digits, fit::MODEL_FILE};

use crate::{TestResult, fail, succeed};

/// People label what devices have sent: the next round learns from it, is judged by it, and can be made again.
pub(super) fn people_have_the_last_word(demo: &Path, seed: u32) -> TestResult {
    let json =
        |arguments: &[&str]| Ok::<Value, Box<dyn std::error::Error>>(serde_json::from_str(&succeed(demo, arguments)?)?);
    let exported = json(&["samples", "export", "to-label", "--json"])?;
    let mut table = csv::Reader::from_path(demo.join("to-label/metadata.csv"))?;
    let rows = table.deserialize().collect::<Result<Vec<BTreeMap<String, String>>, _>>()?;
    assert_eq!(exported["samples"].as_u64(), Some(rows.len() as u64));
    assert!(rows.iter().all(|row| demo.join("to-label").join(&row["file_name"]).exists()));

    // Image n of device d is number 2n + d.
    let truths = digits::split(seed).field.labels;
    let truth = |row: &BTreeMap<String, String>| -> Result<String, Box<dyn std::error::Error>> {
        let number: usize = row["source"].trim_end_matches(".png").parse()?;
        Ok(truths[2 * number + usize::from(row["device"] == "cam-2")].to_string())
    };
    let audit = rows.iter().take_while(|row| row["why"] == "audit").count();
    assert!(rows[audit..].iter().all(|row| row["why"] != "audit"), "audit samples come first");
    // All audit samples, and the five others of which a label is worth most.
    let mut text = "image,label\n".to_owned();
    let mut right = 0;
    for row in &rows[..audit + 5] {
        text += &format!("{},{}\n", row["image"], truth(row)?);
    }
    for row in &rows[..audit] {
        right += usize::from(row["predicted"] == truth(row)?);
    }
    fs::write(demo.join("labels.csv"), text)?;
    let imported = json(&["samples", "import", "labels.csv", "--by", "ann", "--json"])?;
    assert_eq!((imported["new"].as_u64(), imported["known"].as_u64()), (Some(audit as u64 + 5), Some(0)));
    assert_eq!(json(&["samples", "import", "labels.csv", "--by", "ann", "--json"])?["known"], imported["new"]);

    let record = json(&["loop", "--rounds", "1", "--samples", "1", "--poll", "1s", "--json"])?;
    let field = &record["verdict"]["field"];
    assert_eq!((field["samples"].as_u64(), field["labeled"].as_u64()), (Some(audit as u64), Some(audit as u64)));
    // With every one labeled, the estimate is the fraction that the table shows to be right.
    let current = field["current"]["value"].as_f64().unwrap_or(f64::NAN);
    assert!((current - right as f64 / audit as f64).abs() < 1e-9, "{current}: {right} of {audit}");
    assert_eq!(record["inputs"]["labels"].as_object().map(serde_json::Map::len), Some(5));
    let page = fs::read_to_string(demo.join("flywheel/rounds/round-3.html"))?;
    assert!(page.contains("In the field") && page.contains("Images it gets wrong"), "{page:.300}");

    // Images that came later or lie elsewhere now change nothing of it; one that is gone does.
    let mut unlabeled = fs::read_dir(demo.join("images/unlabeled"))?.map(|entry| entry.map(|entry| entry.path()));
    let mut another = || unlabeled.next().ok_or("there are unlabeled images");
    fs::copy(another()??, demo.join("images/labeled/7/later.png"))?;
    fs::rename(another()??, demo.join("images/labeled/7/labeled-since.png"))?;
    // What was done before is done anew.
    for _ in 0..2 {
        let rebuilt = json(&["rebuild", "3", "--json"])?;
        assert_eq!((&rebuilt["bundle"][0], &rebuilt["bundle"][1]), (&record["bundle"], &record["bundle"]));
        fs::write(demo.join("rebuilt-3/run").join(MODEL_FILE), "damaged")?;
    }
    let sevens = fs::read_dir(demo.join("images/labeled/7"))?.collect::<Result<Vec<_>, _>>()?;
    let is_of_then = |path: &PathBuf| !path.ends_with("later.png") && !path.ends_with("labeled-since.png");
    let seven = sevens.iter().map(fs::DirEntry::path).find(is_of_then).ok_or("a seven")?;
    fs::remove_file(&seven)?;
    let error = fail(demo, &["rebuild", "3", "--out", "again"])?;
    assert!(
        error.contains(&format!(
            "{} is gone or another image",
            Path::new("images/labeled/7").join(seven.file_name().ok_or("a name")?).display()
        )),
        "{error}"
    );
    Ok(())
}
