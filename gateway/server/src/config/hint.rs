//! What somebody probably meant: the nearest known key, the right unit, the value shown back bounded and harmless.

use crate::duration;
use std::collections::BTreeSet;
use toml_edit::{Item, Value};

const MAX_SHOWN: usize = 40;

/// The unit that a key's name carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    Seconds,
    Bytes,
    None,
}

impl Unit {
    /// As it stands in a sentence.
    pub(super) fn noun(self) -> &'static str {
        match self {
            Self::Seconds => "a whole number of seconds",
            Self::Bytes => "a whole number of bytes",
            Self::None => "a whole number",
        }
    }
}

/// The unit in a key's name: `life_s`, `manifest_bytes`.
pub(super) fn unit_of(key: &str) -> Unit {
    match key.rsplit_once('_') {
        Some((_, "s")) => Unit::Seconds,
        Some((_, "bytes")) => Unit::Bytes,
        _ => Unit::None,
    }
}

/// What somebody meant who wrote `"5m"` or `"4 MiB"` where a bare number belongs.
pub(super) fn amount(unit: Unit, text: &str) -> Option<u64> {
    let text = text.trim();
    if let Ok(number) = text.parse() {
        return Some(number);
    }
    match unit {
        Unit::Seconds => duration::parse(text).ok().map(|span| span.as_secs()),
        Unit::Bytes => {
            let digits = text.len().saturating_sub(text.trim_start_matches(|digit: char| digit.is_ascii_digit()).len());
            let (digits, suffix) = text.split_at_checked(digits)?;
            let shift = match suffix.trim().to_ascii_lowercase().as_str() {
                "b" => 0,
                "k" | "kb" | "kib" => 10,
                "m" | "mb" | "mib" => 20,
                "g" | "gb" | "gib" => 30,
                _ => return None,
            };
            digits.parse::<u64>().ok()?.checked_mul(1 << shift)
        }
        Unit::None => None,
    }
}

/// A value as it was written, for an error's sentence.
pub(super) fn describe(item: &Item) -> String {
    match item {
        Item::Value(Value::String(text)) => format!("the string \"{}\"", shown(text.value())),
        Item::Value(Value::Integer(number)) => number.value().to_string(),
        Item::Value(Value::Float(number)) => number.value().to_string(),
        Item::Value(Value::Boolean(truth)) => truth.value().to_string(),
        Item::Value(Value::Datetime(_)) => "a date".to_owned(),
        Item::Value(Value::Array(_)) | Item::ArrayOfTables(_) => "an array".to_owned(),
        Item::Value(Value::InlineTable(_)) | Item::Table(_) => "a table".to_owned(),
        Item::None => "nothing".to_owned(),
    }
}

/// Foreign text, bounded and without control characters.
pub(super) fn shown(text: &str) -> String {
    let mut shown: String = text.chars().take(MAX_SHOWN).flat_map(char::escape_debug).collect();
    if text.chars().nth(MAX_SHOWN).is_some() {
        shown.push('…');
    }
    shown
}

/// What to say of a key that no section knows.
pub(super) fn unknown_key(known: &BTreeSet<String>, section: &str, key: &str) -> String {
    let siblings: Vec<&str> = known.iter().filter_map(|path| below(section, path)).collect();
    if let Some(file) = siblings.iter().find(|sibling| sibling.strip_suffix("_file") == Some(key)) {
        return format!(
            "must not stand in the configuration, where backups and readers find it; put it into a file and write {file} = \"PATH\""
        );
    }
    let stem = stem(key);
    if let Some(sibling) = siblings.iter().find(|sibling| unit_of(sibling) != Unit::None && self::stem(sibling) == stem)
    {
        return format!(
            "is not a known key: units stand in the key's name; write {sibling}, {}",
            unit_of(sibling).noun()
        );
    }
    if let Some(sibling) = nearest(key, siblings.iter().copied()) {
        return format!("is not a known key; did you mean {sibling}?");
    }
    let elsewhere = known.iter().filter(|path| path.rsplit_once('.').is_some_and(|(_, last)| last == key));
    let sections: Vec<String> =
        elsewhere.filter_map(|path| path.rsplit_once('.')).map(|(section, _)| format!("[{section}]")).collect();
    match sections.as_slice() {
        [] => format!("is not a known key; known here: {}", siblings.join(", ")),
        [one] => format!("is not a known key here; it belongs into {one}"),
        several => format!("is not a known key here; it belongs into {}", several.join(" or ")),
    }
}

/// The last part of a path that lies directly in the section.
fn below<'p>(section: &str, path: &'p str) -> Option<&'p str> {
    let (above, last) = path.rsplit_once('.').unwrap_or(("", path));
    (above == section).then_some(last)
}

fn stem(key: &str) -> &str {
    const UNITS: [&str; 16] = [
        "s", "sec", "secs", "seconds", "ms", "m", "min", "minutes", "h", "hours", "d", "days", "bytes", "kb", "mb",
        "mib",
    ];
    key.rsplit_once('_').filter(|(_, unit)| UNITS.contains(unit)).map_or(key, |(stem, _)| stem)
}

fn nearest<'k>(key: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    let key: String = key.chars().take(64).collect::<String>().to_lowercase().replace('-', "_");
    let most = key.chars().count().checked_div(3).unwrap_or(0).min(3);
    known
        .map(|candidate| (distance(&key, candidate), candidate))
        .filter(|(distance, _)| *distance <= most)
        .min()
        .map(|(_, candidate)| candidate)
}

/// Levenshtein's distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, left) in a.chars().enumerate() {
        let mut next = vec![i.saturating_add(1)];
        for ((right, above), pair) in b.iter().zip(row.iter().skip(1)).zip(row.iter()) {
            let beside = next.last().copied().unwrap_or(i);
            let replaced = pair.saturating_add(usize::from(left != *right));
            next.push(replaced.min(above.saturating_add(1)).min(beside.saturating_add(1)));
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(paths: &[&str]) -> BTreeSet<String> {
        paths.iter().map(|path| (*path).to_owned()).collect()
    }

    #[test]
    fn distance_counts_single_changes() {
        for (a, b, changes) in [
            ("", "", 0),
            ("", "ab", 2),
            ("listen", "listen", 0),
            ("lisen", "listen", 1),
            ("tsl", "tls", 2),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(distance(a, b), changes, "{a} {b}");
            assert_eq!(distance(b, a), changes, "{b} {a}");
        }
    }

    #[test]
    fn an_unknown_key_is_told_what_was_probably_meant() {
        let known = known(&[
            "server",
            "server.listen",
            "tokens.life_s",
            "upstream.auth.password_file",
            "management.listen",
            "upstream.url",
        ]);
        for (section, key, told) in [
            ("server", "lisen", "did you mean listen?"),
            ("", "serve", "did you mean server?"),
            ("tokens", "life", "write life_s, a whole number of seconds"),
            ("tokens", "life_ms", "write life_s, a whole number of seconds"),
            ("upstream.auth", "password", "write password_file = \"PATH\""),
            ("", "url", "it belongs into [upstream]"),
            ("", "listen", "it belongs into [management] or [server]"),
            ("server", "zebra", "known here: listen"),
        ] {
            let message = unknown_key(&known, section, key);
            assert!(message.contains(told), "{key}: {message}");
        }
    }

    #[test]
    fn amounts_with_units_are_understood_for_the_hint() {
        assert_eq!(amount(Unit::Seconds, "5m"), Some(300));
        assert_eq!(amount(Unit::Bytes, "4 MiB"), Some(4 << 20));
        assert_eq!(amount(Unit::Bytes, "16k"), Some(16 << 10));
        assert_eq!(amount(Unit::None, "12"), Some(12));
        assert_eq!(amount(Unit::Bytes, "many"), None);
        assert_eq!(amount(Unit::Bytes, "99999999999999999999g"), None);
    }

    #[test]
    fn foreign_text_is_shown_bounded_and_without_control_characters() {
        assert_eq!(shown("a\u{1b}[2Jb\u{202e}"), "a\\u{1b}[2Jb\\u{202e}");
        assert_eq!(shown(&"x".repeat(100)).chars().count(), MAX_SHOWN + 1);
    }
}
