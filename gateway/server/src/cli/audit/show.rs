//! How records look.

use crate::cli::show::second;
use crate::cli::table::{self, Column};
use portcullis_tenancy::audit::{Entry, Record};
use serde_json::Value;

const COLUMNS: [Column; 5] =
    [Column::Whole("TIME"), Column::Whole("KIND"), Column::Wraps("WHO"), Column::Wraps("WHAT"), Column::Wraps("WHY")];
/// Letters of a digest that people need to tell it from others; JSON has all of them.
const DIGEST_LETTERS: usize = 19;

/// As it is exported.
pub(super) fn json(entry: &Entry) -> Value {
    serde_json::from_str(&entry.to_json()).unwrap_or_default()
}

/// A table, with or without its titles.
pub(super) fn table(entries: &[Entry], width: Option<usize>, with_titles: bool) -> String {
    let rows: Vec<Vec<String>> = entries.iter().map(|entry| row(&entry.record)).collect();
    let text = table::render(&COLUMNS, &rows, width);
    match text.split_once('\n') {
        Some((_, rest)) if !with_titles => rest.to_owned(),
        _ => text,
    }
}

fn row(record: &Record) -> Vec<String> {
    let times = if record.times == 1 { String::new() } else { format!(" ×{}", record.times) };
    let from = record.address.as_ref().map(|address| format!(" from {address}")).unwrap_or_default();
    vec![
        second(record.at),
        format!("{}{times}", record.kind),
        format!("{}{from}", record.actor),
        what(record),
        record.reason.as_deref().unwrap_or_default().to_owned(),
    ]
}

fn what(record: &Record) -> String {
    let place = record.repository.as_deref().or(record.project.as_deref());
    let digest = record.digest.as_deref().map(|digest| digest.get(..DIGEST_LETTERS).unwrap_or(digest));
    let parts = [place, record.reference.as_deref(), digest];
    parts.into_iter().flatten().collect::<Vec<_>>().join(" ")
}
