//! What a configuration file says, laid over what its preset and its method's paper say.

use anyhow::{Context, Result};
use toml::{Table, Value};
use trainer::{
    config::{Algorithm, NetworkConfig, TrainConfig},
    data::sets::Set,
    preset::Preset,
};

/// The first of the five splits that the papers report.
const PAPERS_SPLIT: i64 = 1;

/// The whole configuration as a table; `algorithm` goes before the one in the file.
///
/// # Errors
/// If the text is no TOML, or names no known method or preset.
pub(super) fn resolve(text: &str, algorithm: Option<Algorithm>) -> Result<Table> {
    let mut file: Table = text.parse()?;
    if let Some(algorithm) = algorithm {
        let train = file.entry("train").or_insert_with(|| Table::new().into());
        let train = train.as_table_mut().context("train: expected a table")?;
        train.insert("algorithm".into(), Value::try_from(algorithm)?);
    }
    let algorithm = match file.get("train").and_then(|train| train.get("algorithm")) {
        Some(name) => name.clone().try_into().context("in `train.algorithm`")?,
        None => Algorithm::default(),
    };
    let mut base = Table::new();
    match file.get("preset") {
        Some(name) => {
            let name: String = name.clone().try_into().context("in `preset`")?;
            let Preset { set, labels, network, train } = Preset::named(&name, algorithm)?;
            let data = [("set", set.into()), ("labels", Value::try_from(labels)?), ("split_seed", PAPERS_SPLIT.into())];
            let data = data.map(|(key, value)| (key.to_owned(), value));
            base.insert("data".into(), Table::from_iter(data).into());
            base.insert("network".into(), Value::try_from(network)?);
            base.insert("train".into(), Value::try_from(train)?);
        }
        None => _ = base.insert("train".into(), Value::try_from(TrainConfig::of(algorithm))?),
    }
    if let Some(Value::String(name)) = file.get("network") {
        let network = NetworkConfig::named(name)?;
        file.insert("network".into(), Value::try_from(network)?);
    }
    lay_over(&mut base, file);
    if let Some(set) = base.get("data").and_then(|data| data.get("set")) {
        let set: Set = set.clone().try_into().context("in `data.set`")?;
        base.entry("preprocessing").or_insert(Value::try_from(set.preprocessing())?);
    }
    Ok(base)
}

fn lay_over(base: &mut Table, file: Table) {
    for (key, value) in file {
        match (base.get_mut(&key), value) {
            (Some(Value::Table(base)), Value::Table(file)) => lay_over(base, file),
            (_, value) => _ = base.insert(key, value),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at<'a>(table: &'a Table, path: &str) -> Option<&'a Value> {
        let (first, rest) = path.split_once('.')?;
        rest.split('.').try_fold(table.get(first)?, |value, key| value.get(key))
    }

    #[test]
    fn the_file_goes_over_its_preset_and_that_over_the_method() -> Result<()> {
        let text = "preset = 'svhn-40'\n[train]\nalgorithm = 'fixmatch'\nsteps = 7\n[train.weak]\nshift = 2";
        let table = resolve(text, None)?;
        assert_eq!(at(&table, "train.steps"), Some(&7.into()));
        assert_eq!(at(&table, "train.weak.shift"), Some(&2.into()));
        assert_eq!(at(&table, "train.weak.flip"), Some(&false.into()));
        assert_eq!(at(&table, "train.learning_rate"), Some(&0.03.into()));
        assert_eq!((at(&table, "data.set"), at(&table, "data.split_seed")), (Some(&"svhn".into()), Some(&1.into())));
        assert_eq!(at(&table, "preprocessing.height"), Some(&32.into()));
        assert_eq!(at(&table, "network.depth"), Some(&28.into()));
        let table = resolve("network = 'device-small'", None)?;
        assert_eq!(
            (at(&table, "network.depth"), at(&table, "network.stem_stride")),
            (Some(&10.into()), Some(&2.into()))
        );
        let table = resolve("network = 'wrn-37-2'", None)?;
        assert_eq!((at(&table, "network.depth"), at(&table, "network.scales")), (Some(&37.into()), Some(&4.into())));
        assert!(resolve("network = 'wrn-28'", None).is_err_and(|e| e.to_string().contains("wrn-28-2")));
        let table = resolve(text, Some(Algorithm::ReMixMatch))?;
        assert_eq!(at(&table, "train.learning_rate"), Some(&0.002.into()));
        assert_eq!(at(&table, "train.remixmatch.strong_views"), Some(&1.into()));
        Ok(())
    }
}
