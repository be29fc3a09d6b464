//! What `ls --json` shows, and what the model says that it must show.

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::model::Model;

/// One lvol of the list.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Entry {
    name: String,
    kind: String,
    size: u64,
    read_only: bool,
    /// Of writable lvols.
    thin: Option<bool>,
    parent: Option<String>,
    clones: Vec<String>,
    sound: bool,
}

impl Entry {
    /// What the model says, by name.
    pub(crate) fn of_model(model: &Model) -> Vec<Self> {
        let entry = |(name, lvol): (&String, &crate::model::Lvol)| {
            let kind = match (lvol.read_only, &lvol.parent) {
                (true, _) => "snapshot",
                (false, Some(_)) => "clone",
                (false, None) => "lvol",
            };
            Self {
                name: name.clone(),
                kind: kind.to_owned(),
                size: lvol.bytes(),
                read_only: lvol.read_only,
                thin: (!lvol.read_only).then_some(lvol.thin),
                parent: lvol.parent.clone(),
                clones: model.clones_of(name).into_iter().map(str::to_owned).collect(),
                sound: true,
            }
        };
        model.lvols.iter().map(entry).collect()
    }

    /// What the command printed, sorted by name.
    pub(crate) fn parse(json: &str) -> Result<Vec<Self>> {
        let list: Vec<Value> = serde_json::from_str(json).context("ls --json")?;
        let mut entries = list.iter().map(Self::of_value).collect::<Option<Vec<_>>>().context("ls --json")?;
        entries.sort();
        Ok(entries)
    }

    fn of_value(value: &Value) -> Option<Self> {
        let text = |member: &str| value[member].as_str().map(str::to_owned);
        let read_only = value["read_only"].as_bool()?;
        let mut clones = value["clones"]
            .as_array()?
            .iter()
            .map(|name| name.as_str().map(str::to_owned))
            .collect::<Option<Vec<_>>>()?;
        clones.sort();
        Some(Self {
            name: text("name")?,
            kind: text("kind")?,
            size: value["size"].as_u64()?,
            read_only,
            thin: if read_only { None } else { Some(value["thin"].as_bool()?) },
            parent: text("parent"),
            clones,
            sound: !value["damaged"].as_bool()? && !value["degraded"].as_bool()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Lvol;

    #[test]
    fn the_model_and_the_command_speak_of_the_same() {
        let mut model = Model::default();
        let mut clone = Lvol::new(2, true);
        model.lvols.insert("s".into(), clone.snapshot("s"));
        model.lvols.insert("c".into(), clone);
        let json = r#"[
            {"name": "s", "kind": "snapshot", "size": 1024, "thin": false, "read_only": true, "parent": null,
             "clones": ["c"], "own_bytes": 0, "damaged": false, "degraded": false},
            {"name": "c", "kind": "clone", "size": 1024, "thin": true, "read_only": false, "parent": "s",
             "clones": [], "own_bytes": 0, "damaged": false, "degraded": false}]"#;
        assert_eq!(Entry::parse(json).unwrap(), Entry::of_model(&model));
        let damaged = json.replace("\"damaged\": false", "\"damaged\": true");
        assert_ne!(Entry::parse(&damaged).unwrap(), Entry::of_model(&model));
        assert!(Entry::parse("[{}]").is_err());
    }
}
