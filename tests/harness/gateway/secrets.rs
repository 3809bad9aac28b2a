//! What a gateway tells of itself, and that no secret is in it: looked at whenever a test lets go of one.

use super::{Gateway, lookup};
use crate::secrets::{Found, by_form, by_value};
use std::path::PathBuf;
use toml_edit::{Item, TableLike};

impl Gateway {
    /// All that it tells of itself: its log, its audit trail and what it exports of it, and its metrics where it serves.
    pub fn told(&self) -> Vec<(&'static str, String)> {
        let mut told = vec![("the log", self.log())];
        told.extend(self.process.as_ref().map(|_| ("the metrics", self.metrics())));
        told.extend(self.audit_records().map(|records| ("the audit records", records)));
        told.extend(self.exported().map(|lines| ("the audit export", lines)));
        told
    }

    /// Its audit export, but for what is random: that could look like a token by chance.
    fn exported(&self) -> Option<String> {
        let file = lookup(&self.document, "audit.export_file").and_then(Item::as_str)?;
        let text = std::fs::read(file).ok()?;
        let plain = |line: &str| {
            let Ok(mut line) = serde_json::from_str::<serde_json::Value>(line) else { return line.to_owned() };
            for random in ["mac", "head", "key", "signature"] {
                line.as_object_mut().map(|fields| fields.remove(random));
            }
            line.to_string()
        };
        Some(String::from_utf8_lossy(&text).lines().map(|line| plain(line) + "\n").collect())
    }

    /// The secrets in what was told: those that have the form of one, and those in files of this gateway's.
    pub fn secrets_in(&self, what: &str, text: &str) -> Vec<Found> {
        let mut found = by_form(text);
        found.extend(by_value(text, &self.secret_values()));
        found.iter().map(|found| format!("{what}: {found}")).collect()
    }

    /// This one was made to tell secrets, to see that they are found.
    pub fn may_tell_secrets(&mut self) {
        self.tells_secrets = true;
    }

    /// Whether it was.
    pub fn tells_secrets(&self) -> bool {
        self.tells_secrets
    }

    /// The master key, and what stands in the files that the configuration names for passwords and headers.
    fn secret_values(&self) -> Vec<Vec<u8>> {
        let mut files = Vec::new();
        files_with_secrets(self.document.as_item(), &mut files);
        let texts = files.iter().filter_map(|file| std::fs::read_to_string(file).ok());
        let texts = texts.collect::<Vec<_>>();
        // A header's name is none of it.
        let lines = texts.iter().flat_map(|text| text.lines());
        let values = lines.map(|line| line.split_once(": ").map_or(line, |(_, value)| value).as_bytes().to_vec());
        values.chain(std::fs::read(self.data_dir().join("master.key"))).collect()
    }
}

impl Drop for Gateway {
    /// Whatever the test was about: no secret may stand in what it has told.
    fn drop(&mut self) {
        // Nothing is written from here on.
        self.process = None;
        if std::thread::panicking() || self.tells_secrets {
            return;
        }
        let told = self.told();
        let found: Vec<Found> = told.iter().flat_map(|(what, text)| self.secrets_in(what, text)).collect();
        assert!(found.is_empty(), "{found:#?}");
    }
}

fn files_with_secrets(item: &Item, files: &mut Vec<PathBuf>) {
    for (key, item) in item.as_table_like().into_iter().flat_map(TableLike::iter) {
        match item.as_str() {
            Some(path) if key.ends_with("password_file") || key == "headers_file" => files.push(path.into()),
            _ => files_with_secrets(item, files),
        }
    }
}
