//! Settings: from JSON to an author's type, and what is wrong with them, each fault with the place where it is.

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde::de::DeserializeOwned;
use std::fmt;

/// One fault of the settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where: `windows[1].end`; empty where it is about the whole.
    pub path: String,
    /// What.
    pub message: String,
}

/// The faults of the settings, all at once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// No fault so far.
    pub fn none() -> Problems {
        Problems::default()
    }

    /// One fault.
    pub fn one(path: impl Into<String>, message: impl Into<String>) -> Problems {
        let mut problems = Problems::none();
        problems.add(path, message);
        problems
    }

    /// One more fault.
    pub fn add(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.0.push(Problem { path: path.into(), message: message.into() });
    }

    /// Takes a value, or notes the fault and takes none.
    pub fn note<T>(&mut self, path: impl Into<String>, result: Result<T, String>) -> Option<T> {
        result.map_err(|message| self.add(path, message)).ok()
    }

    /// The value, where no fault was found.
    ///
    /// # Errors
    /// The faults, where some were.
    pub fn or<T>(self, value: T) -> Result<T, Problems> {
        if self.0.is_empty() { Ok(value) } else { Err(self) }
    }

    /// Each fault as a line: its path, a colon and what it is.
    pub fn lines(&self) -> Vec<String> {
        self.0.iter().map(ToString::to_string).collect()
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() { f.write_str(&self.message) } else { write!(f, "{}: {}", self.path, self.message) }
    }
}

/// Reads settings. No settings at all are an empty object.
///
/// # Errors
/// The first fault of the form, with its path.
pub fn parse<T: DeserializeOwned>(json: &str) -> Result<T, Problems> {
    let json = if json.trim().is_empty() { "{}" } else { json };
    let mut reader = serde_json::Deserializer::from_str(json);
    let settings = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let path = error.path().to_string();
        let path = if path == "." { String::new() } else { path };
        Problems::one(path, without_position(&error.into_inner().to_string()))
    })?;
    reader.end().map_err(|error| Problems::one("", error.to_string()))?;
    Ok(settings)
}

/// The JSON Schema of an author's settings, without references, so that reading it needs nothing but itself.
pub fn schema<T: JsonSchema>() -> String {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    settings.into_generator().into_root_schema_for::<T>().to_value().to_string()
}

/// Settings were written in another form, mostly, and another order: a line and a column would lead astray.
fn without_position(message: &str) -> &str {
    message.rsplit_once(" at line ").map_or(message, |(message, _)| message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    struct Settings {
        #[serde(default)]
        windows: Vec<Window>,
    }

    #[derive(Debug, Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    struct Window {
        #[allow(dead_code)]
        end: u32,
    }

    #[test]
    fn a_fault_is_told_with_its_path() {
        let problems = parse::<Settings>(r#"{"windows": [{"end": 1}, {"end": "x"}]}"#).unwrap_err();
        let [line] = <[String; 1]>::try_from(problems.lines()).unwrap();
        assert_eq!(line, "windows[1].end: invalid type: string \"x\", expected u32");
    }

    #[test]
    fn no_settings_are_an_empty_object() {
        assert!(parse::<Settings>(" ").unwrap().windows.is_empty());
    }

    #[test]
    fn what_follows_the_settings_is_refused() {
        assert!(parse::<Settings>("{} {}").is_err());
    }

    #[test]
    fn a_schema_refers_to_nothing() {
        let schema = schema::<Settings>();
        assert!(schema.contains("\"windows\"") && schema.contains("\"end\""), "{schema}");
        assert!(!schema.contains("$ref") && !schema.contains("$schema"), "{schema}");
    }
}
