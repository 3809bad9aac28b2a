//! Reading one TOML text section by section: every section takes the keys it knows, and what is wrong is noted with its
//! line while reading goes on with the default, so that all errors come at once. It never decides what a value means.

use super::hint;
use super::{ConfigError, ReadFile};
use portcullis_oci::text::is_harmful;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ops::{Range, RangeInclusive};
use std::path::{Path, PathBuf};
use std::time::Duration;
use toml_edit::{Array, Item, TableLike, Value};
use zeroize::Zeroizing;

/// A secret file is a line, not a book.
const MAX_SECRET_BYTES: usize = 4096;

/// One configuration text under reading, with what was found wrong in it so far.
pub(super) struct Reader<'t> {
    text: &'t str,
    root: &'t dyn TableLike,
    file: &'t Path,
    base_dir: &'t Path,
    read: ReadFile<'t>,
    errors: RefCell<Vec<ConfigError>>,
    known: RefCell<BTreeSet<String>>,
    unknown: RefCell<Vec<UnknownKey>>,
}

struct UnknownKey {
    section: String,
    key: String,
    line: usize,
}

impl<'t> Reader<'t> {
    /// Begins to read. Relative paths count from `base_dir`; `read` opens the files that the text names.
    pub(super) fn new(
        text: &'t str,
        root: &'t dyn TableLike,
        file: &'t Path,
        base_dir: &'t Path,
        read: ReadFile<'t>,
    ) -> Self {
        Self {
            text,
            root,
            file,
            base_dir,
            read,
            errors: RefCell::default(),
            known: RefCell::default(),
            unknown: RefCell::default(),
        }
    }

    /// The top of the file.
    pub(super) fn top(&'t self) -> Section<'t> {
        Section { reader: self, path: String::new(), table: Some(self.root), known: Vec::new() }
    }

    /// Notes an error at a key, `upstream.auth.realm_hosts`, or at the nearest section above it that is written down.
    pub(super) fn error(&self, path: &str, message: impl Into<String>) {
        let mut table = Some(self.root);
        let mut line = 1;
        for key in path.split('.') {
            let Some((written, item)) = table.and_then(|table| table.get_key_value(key)) else { break };
            line = written.span().or_else(|| item.span()).map_or(line, |span| self.line(span));
            table = item.as_table_like();
        }
        self.error_on(line, path, message);
    }

    /// All that was found wrong, in the order of the lines.
    pub(super) fn into_errors(self) -> Vec<ConfigError> {
        let known = self.known.borrow();
        for unknown in self.unknown.borrow().iter() {
            let message = hint::unknown_key(&known, &unknown.section, &unknown.key);
            self.error_on(unknown.line, &join(&unknown.section, &hint::shown(&unknown.key)), message);
        }
        let mut errors = self.errors.take();
        errors.sort_by_key(|error| error.line);
        errors
    }

    /// Every key that a section asked for, by its whole path.
    #[cfg(test)]
    pub(super) fn known(&self) -> BTreeSet<String> {
        self.known.borrow().clone()
    }

    fn error_on(&self, line: usize, path: &str, message: impl Into<String>) {
        let error = ConfigError { file: self.file.to_owned(), line, key: path.to_owned(), message: message.into() };
        self.errors.borrow_mut().push(error);
    }

    fn line(&self, span: Range<usize>) -> usize {
        let before = self.text.as_bytes().get(..span.start).unwrap_or_default();
        before.iter().filter(|byte| **byte == b'\n').count().saturating_add(1)
    }
}

/// One table of the text.
pub(super) struct Section<'t> {
    reader: &'t Reader<'t>,
    path: String,
    table: Option<&'t dyn TableLike>,
    known: Vec<&'static str>,
}

impl<'t> Section<'t> {
    /// A table below this one; an empty one where it is not written down.
    pub(super) fn section(&mut self, key: &'static str) -> Section<'t> {
        let table = self.take(key).and_then(|item| {
            let table = item.as_table_like();
            if table.is_none() {
                self.error(
                    key,
                    format!("must be a section, not {}; write [{}]", hint::describe(item), self.path_of(key)),
                );
            }
            table
        });
        Section { reader: self.reader, path: self.path_of(key), table, known: Vec::new() }
    }

    /// A string that has a meaning.
    pub(super) fn string<T>(
        &mut self,
        key: &'static str,
        example: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        let item = self.take(key)?;
        let Some(text) = item.as_str() else {
            self.error(key, format!("must be a string, not {}; write {key} = \"{example}\"", hint::describe(item)));
            return None;
        };
        parse(text).map_err(|message| self.error(key, message)).ok()
    }

    /// The same, and the file is of no use without it.
    pub(super) fn required<T>(
        &mut self,
        key: &'static str,
        example: &str,
        why: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        if !self.has(key) {
            self.error(key, format!("is missing, {why}; write {key} = \"{example}\""));
        }
        self.string(key, example, parse)
    }

    /// An array of strings that have a meaning, or one such string. Each wrong one is noted with its own line.
    pub(super) fn list<T>(
        &mut self,
        key: &'static str,
        example: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Vec<T> {
        let Some(item) = self.take(key) else { return Vec::new() };
        let one;
        let array = match item {
            Item::Value(Value::Array(array)) => array,
            Item::Value(value @ Value::String(_)) => {
                one = Array::from_iter([value.clone()]);
                &one
            }
            _ => {
                self.error(
                    key,
                    format!("must be an array of strings, not {}; write {key} = [\"{example}\"]", hint::describe(item)),
                );
                return Vec::new();
            }
        };
        array.iter().filter_map(|value| self.element(key, example, value, &parse)).collect()
    }

    fn element<T>(
        &self,
        key: &str,
        example: &str,
        value: &Value,
        parse: &impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        let read = match value.as_str() {
            Some(text) => parse(text),
            None => Err(format!(
                "must hold strings only, not {}; write {key} = [\"{example}\"]",
                hint::describe(&Item::Value(value.clone()))
            )),
        };
        read.map_err(|message| match value.span() {
            Some(span) => self.reader.error_on(self.reader.line(span), &self.path_of(key), message),
            None => self.error(key, message),
        })
        .ok()
    }

    /// One of a few words; the first is the default.
    pub(super) fn choice<T: Clone>(&mut self, key: &'static str, choices: &[(&str, T)]) -> Option<T> {
        let words = || choices.iter().map(|(word, _)| format!("\"{word}\"")).collect::<Vec<_>>().join(" or ");
        let chosen = self.string(key, choices.first().map_or("", |(word, _)| word), |text| {
            let found = choices.iter().find(|(word, _)| *word == text);
            found
                .map(|(_, value)| value.clone())
                .ok_or_else(|| format!("\"{}\" is no choice here; write {}", hint::shown(text), words()))
        });
        chosen.or_else(|| choices.first().map(|(_, value)| value.clone()))
    }

    /// Yes or no; no where it is not written down.
    pub(super) fn flag(&mut self, key: &'static str) -> bool {
        let Some(item) = self.take(key) else { return false };
        item.as_bool().unwrap_or_else(|| {
            self.error(key, format!("must be true or false, not {}; write {key} = true", hint::describe(item)));
            false
        })
    }

    /// A whole number; `why` says why the bounds stand where they stand.
    pub(super) fn number<T: TryFrom<u64>>(
        &mut self,
        key: &'static str,
        default: u64,
        bounds: RangeInclusive<u64>,
        why: &str,
    ) -> Option<T> {
        let number = self.checked_number(key, default, bounds, why);
        let fitting = T::try_from(number).ok();
        if fitting.is_none() {
            self.error(key, format!("{number} is more than this machine can count; write {key} = {default}"));
        }
        fitting
    }

    /// A whole number of seconds.
    pub(super) fn seconds(
        &mut self,
        key: &'static str,
        default: u64,
        bounds: RangeInclusive<u64>,
        why: &str,
    ) -> Duration {
        Duration::from_secs(self.checked_number(key, default, bounds, why))
    }

    /// A part of the whole, from 0 to 1, in parts of a million.
    pub(super) fn ratio(&mut self, key: &'static str, default: u32) -> u32 {
        const MILLION: f64 = 1_000_000.0;
        let Some(item) = self.take(key) else { return default };
        let ratio = item.as_float().or_else(|| item.as_integer().map(|whole| whole as f64));
        if let Some(ratio) = ratio.filter(|ratio| (0.0..=1.0).contains(ratio)) {
            // It is between 0 and a million: nothing is cut off.
            return (ratio * MILLION).round() as u32;
        }
        let message =
            format!("must be a part from 0 (none) to 1 (all), not {}; write {key} = 0.1", hint::describe(item));
        self.error(key, message);
        default
    }

    fn checked_number(&mut self, key: &'static str, default: u64, bounds: RangeInclusive<u64>, why: &str) -> u64 {
        let Some(item) = self.take(key) else { return default };
        let unit = hint::unit_of(key);
        let found = item.as_integer().and_then(|number| u64::try_from(number).ok());
        if let Some(number) = found.filter(|number| bounds.contains(number)) {
            return number;
        }
        let meant = item.as_str().and_then(|text| hint::amount(unit, text)).filter(|number| bounds.contains(number));
        self.error(
            key,
            format!(
                "must be {} from {} to {}, not {} ({why}); write {key} = {}",
                unit.noun(),
                bounds.start(),
                bounds.end(),
                hint::describe(item),
                meant.unwrap_or(default)
            ),
        );
        default
    }

    /// A path; a relative one counts from the configuration's directory.
    pub(super) fn path(&mut self, key: &'static str, example: &str) -> Option<PathBuf> {
        let base_dir = self.reader.base_dir;
        self.string(key, example, |text| parse_path(base_dir, text))
    }

    /// A path that the file is of no use without.
    pub(super) fn required_path(&mut self, key: &'static str, example: &str, why: &str) -> Option<PathBuf> {
        let base_dir = self.reader.base_dir;
        self.required(key, example, why, |text| parse_path(base_dir, text))
    }

    /// The contents of a file that a key names, already read from its path.
    pub(super) fn contents(&self, key: &str, path: &Path, what: &str) -> Option<Zeroizing<Vec<u8>>> {
        (self.reader.read)(path)
            .map(Zeroizing::new)
            .map_err(|error| {
                self.error(
                    key,
                    format!(
                        "cannot read {} ({error}), and {what} is needed from it; name a file that this user may read",
                        path.display()
                    ),
                );
            })
            .ok()
    }

    /// The secret in the file that a key names: its contents without the end of line.
    pub(super) fn secret(&self, key: &str, path: &Path) -> Option<Zeroizing<String>> {
        let contents = self.contents(key, path, "a secret")?;
        let end = contents.strip_suffix(b"\n").map(|text| text.strip_suffix(b"\r").unwrap_or(text));
        let secret = std::str::from_utf8(end.unwrap_or(&contents)).ok();
        let usable = secret
            .filter(|text| !text.is_empty() && text.len() <= MAX_SECRET_BYTES && !text.chars().any(char::is_control));
        if usable.is_none() {
            self.error(
                key,
                format!(
                    "{} must hold one line of text, the secret alone, of 1 to {MAX_SECRET_BYTES} bytes; write it anew",
                    path.display()
                ),
            );
        }
        usable.map(|text| Zeroizing::new(text.to_owned()))
    }

    /// What stands under a key, where it may be of several kinds.
    pub(super) fn take(&mut self, key: &'static str) -> Option<&'t Item> {
        self.known.push(key);
        self.reader.known.borrow_mut().insert(self.path_of(key));
        self.table.and_then(|table| table.get(key))
    }

    /// Where relative paths count from.
    pub(super) fn base_dir(&self) -> &'t Path {
        self.reader.base_dir
    }

    /// Whether an empty array stands under the key.
    pub(super) fn is_empty_list(&self, key: &str) -> bool {
        self.table.and_then(|table| table.get(key)).and_then(Item::as_array).is_some_and(Array::is_empty)
    }

    /// Whether the key is written down.
    pub(super) fn has(&self, key: &str) -> bool {
        self.table.is_some_and(|table| table.contains_key(key))
    }

    /// Notes an error at a key.
    pub(super) fn error(&self, key: &str, message: impl Into<String>) {
        self.reader.error(&self.path_of(key), message);
    }

    /// Ends the section: what was not taken is unknown.
    pub(super) fn finish(self) {
        let keys = self.table.into_iter().flat_map(|table| table.iter());
        for (key, item) in keys.filter(|(key, _)| !self.known.contains(key)) {
            let span = self.table.and_then(|table| table.key(key)).and_then(|key| key.span()).or_else(|| item.span());
            let line = span.map_or(1, |span| self.reader.line(span));
            self.reader.unknown.borrow_mut().push(UnknownKey { section: self.path.clone(), key: key.to_owned(), line });
        }
    }

    fn path_of(&self, key: &str) -> String {
        join(&self.path, key)
    }
}

fn join(section: &str, key: &str) -> String {
    if section.is_empty() { key.to_owned() } else { format!("{section}.{key}") }
}

/// A path, counted from the configuration's directory where it is relative. It is shown to people as it is.
pub(super) fn parse_path(base_dir: &Path, text: &str) -> Result<PathBuf, String> {
    if text.is_empty() || text.contains(is_harmful) {
        return Err(
            "must be a path, absolute or counted from the configuration's directory, without characters that steer a terminal"
                .to_owned(),
        );
    }
    Ok(base_dir.join(text))
}
