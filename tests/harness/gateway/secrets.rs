//! What a gateway tells of itself, and that no secret is in it: looked at whenever a test lets go of one.

use super::Gateway;
use crate::secrets::{Found, by_form, by_value};
use std::path::PathBuf;
use toml_edit::{Item, TableLike};

impl Gateway {
    /// All that it tells of itself: its log, and its metrics where it serves.
    pub fn told(&self) -> Vec<(&'static str, String)> {
        let log = ("the log", self.log());
        let metrics = self.process.as_ref().map(|_| ("the metrics", self.metrics()));
        std::iter::once(log).chain(metrics).collect()
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
    /// Whatever the test was about: no secret may stand in the log.
    fn drop(&mut self) {
        // Nothing is written from here on.
        self.process = None;
        if std::thread::panicking() || self.tells_secrets {
            return;
        }
        let found = self.secrets_in("the log", &self.log());
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
