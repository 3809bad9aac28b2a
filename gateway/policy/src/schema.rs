//! The JSON Schema that a policy exports for its settings. A tenant wrote it: no reference leaves it, none goes in a circle,
//! patterns take linear time, and its size is capped with every reference followed.

use crate::error::LoadError;
use crate::limits::SettingsLimits;
use crate::text::plain;
use jsonschema::{PatternOptions, Retrieve, Uri, Validator};
use serde_json::Value;
use std::collections::HashMap;

/// A checked schema.
pub(crate) struct Schema(Validator);

impl Schema {
    /// Reads a schema; an empty text is none, and then `validate-settings` alone decides.
    pub(crate) fn parse(text: &str, limits: &SettingsLimits) -> Result<Option<Self>, LoadError> {
        if text.is_empty() {
            return Ok(None);
        }
        let refuse = |why: String| LoadError::Schema(plain(&why, 256));
        if text.len() > limits.schema_bytes {
            let (bytes, limit) = (text.len(), limits.schema_bytes);
            return Err(refuse(format!("it has {bytes} bytes, more than the limit of {limit}")));
        }
        let document: Value = serde_json::from_str(text).map_err(|error| refuse(format!("it is no JSON: {error}")))?;
        Weighed { root: &document, limit: limits.schema_weight, known: HashMap::new(), depth: 0 }
            .weigh_root()
            .map_err(refuse)?;
        // A small pattern also stays clear of repetitions so huge that the engine itself panics over them.
        let patterns = PatternOptions::regex().size_limit(limits.pattern_bytes).dfa_size_limit(limits.pattern_bytes);
        jsonschema::options()
            .with_pattern_options(patterns)
            .with_retriever(Nowhere)
            .build(&document)
            .map(|validator| Some(Self(validator)))
            .map_err(|error| refuse(error.to_string()))
    }

    /// Checks settings; tells at most `most` errors, each with its place.
    pub(crate) fn check(&self, settings: &Value, most: usize) -> Result<(), Vec<String>> {
        let told: Vec<String> = self.0.iter_errors(settings).take(most).map(|error| tell(&error)).collect();
        if told.is_empty() { Ok(()) } else { Err(told) }
    }
}

fn tell(error: &jsonschema::ValidationError<'_>) -> String {
    let place = error.instance_path().to_string();
    let place = if place.is_empty() { "/".to_owned() } else { place };
    plain(&format!("{place}: {error}"), 256)
}

/// No reference is ever fetched.
struct Nowhere;

impl Retrieve for Nowhere {
    fn retrieve(&self, _uri: &Uri<String>) -> Result<Value, Box<dyn std::error::Error + Send + Sync>> {
        Err("a schema may refer to its own parts alone".into())
    }
}

/// A schema whose every reference is followed and counted.
struct Weighed<'a> {
    root: &'a Value,
    limit: u32,
    /// What each referenced part weighs; `None` while it is being weighed, which is how a circle shows.
    known: HashMap<&'a str, Option<u32>>,
    /// How deep the walk is, references followed: the validator's own recursion is as deep.
    depth: u32,
}

impl<'a> Weighed<'a> {
    fn weigh_root(mut self) -> Result<u32, String> {
        self.weigh(self.root)
    }

    /// How many objects there are once every reference is followed.
    fn weigh(&mut self, value: &'a Value) -> Result<u32, String> {
        self.depth = self.depth.saturating_add(1);
        if self.depth > MAX_DEPTH {
            return Err(format!("it is nested deeper than {MAX_DEPTH} once its references are followed"));
        }
        let weight = self.weigh_inside(value);
        self.depth = self.depth.saturating_sub(1);
        weight
    }

    fn weigh_inside(&mut self, value: &'a Value) -> Result<u32, String> {
        let mut weight = 0_u32;
        match value {
            Value::Object(object) => {
                weight = 1;
                for (key, inner) in object {
                    let more = match (key.as_str(), inner) {
                        ("$ref", Value::String(reference)) => self.weigh_reference(reference)?,
                        ("$dynamicRef" | "$recursiveRef" | "$anchor" | "$dynamicAnchor" | "$recursiveAnchor", _) => {
                            return Err(format!("`{key}` is not supported"));
                        }
                        ("$id" | "id", Value::String(_)) if !std::ptr::eq(value, self.root) => {
                            return Err(format!("`{key}` is supported at the root alone"));
                        }
                        ("const" | "enum" | "default" | "examples", _) => 0,
                        _ => self.weigh(inner)?,
                    };
                    weight = self.add(weight, more)?;
                }
            }
            Value::Array(items) => {
                for item in items {
                    let more = self.weigh(item)?;
                    weight = self.add(weight, more)?;
                }
            }
            _ => {}
        }
        Ok(weight)
    }

    fn weigh_reference(&mut self, reference: &'a str) -> Result<u32, String> {
        match self.known.get(reference) {
            Some(Some(weight)) => return Ok(*weight),
            Some(None) => return Err(format!("`{reference}` refers to itself")),
            None => {}
        }
        if self.known.len() >= MAX_REFERENCED {
            return Err(format!("it refers to more than {MAX_REFERENCED} parts"));
        }
        let pointer = reference
            .strip_prefix('#')
            .filter(|pointer| pointer.starts_with('/') && !pointer.contains('%'))
            .ok_or_else(|| {
                format!("`{reference}` is no reference to a part of the schema itself, such as #/$defs/part")
            })?;
        let target = self.root.pointer(pointer).ok_or_else(|| format!("`{reference}` refers to nothing"))?;
        self.known.insert(reference, None);
        let weight = self.weigh(target)?;
        self.known.insert(reference, Some(weight));
        Ok(weight)
    }

    fn add(&self, weight: u32, more: u32) -> Result<u32, String> {
        let sum = weight.saturating_add(more);
        if sum > self.limit {
            return Err(format!("it has more than {} subschemas once its references are followed", self.limit));
        }
        Ok(sum)
    }
}

/// Most parts that are referred to.
const MAX_REFERENCED: usize = 256;
/// Deepest nesting.
const MAX_DEPTH: u32 = 128;

#[cfg(test)]
mod tests;
