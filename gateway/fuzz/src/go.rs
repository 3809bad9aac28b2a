//! JSON as a program written in Go reads it into its structs: a key stands for a field where simple case folding makes them
//! equal, and of two keys for one field the last one counts.

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use std::fmt;

/// One value, with all its keys in the document's order.
#[derive(Clone, Debug, PartialEq)]
pub enum Json {
    /// `null`, `true`, `false`, and numbers that are no `int64`.
    Other,
    /// A number that Go's `int64` holds.
    Integer(i64),
    /// A string.
    String(String),
    /// An array.
    Array(Vec<Json>),
    /// An object.
    Object(Vec<(String, Json)>),
}

/// What Go sees of a descriptor.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Descriptor {
    /// `mediaType`
    pub media_type: String,
    /// `digest`
    pub digest: String,
    /// `size`
    pub size: i64,
}

impl Json {
    /// The document, where it is one.
    pub fn read(bytes: &[u8]) -> Option<Json> {
        serde_json::from_slice(bytes).ok()
    }

    /// The field of this name.
    pub fn field(&self, name: &str) -> Option<&Json> {
        match self {
            Json::Object(entries) => {
                entries.iter().rev().find(|(key, _)| are_equal_folded(key, name)).map(|(_, value)| value)
            }
            _ => None,
        }
    }

    /// The field as a string; empty where it is none.
    pub fn string(&self, name: &str) -> &str {
        match self.field(name) {
            Some(Json::String(text)) => text,
            _ => "",
        }
    }

    /// The field as an integer; zero where it is none.
    pub fn integer(&self, name: &str) -> i64 {
        match self.field(name) {
            Some(Json::Integer(number)) => *number,
            _ => 0,
        }
    }

    /// The field as a list of descriptors.
    pub fn descriptors(&self, name: &str) -> Vec<Descriptor> {
        match self.field(name) {
            Some(Json::Array(elements)) => elements.iter().map(Json::descriptor).collect(),
            _ => Vec::new(),
        }
    }

    /// The value as a descriptor.
    pub fn descriptor(&self) -> Descriptor {
        Descriptor {
            media_type: self.string("mediaType").to_owned(),
            digest: self.string("digest").to_owned(),
            size: self.integer("size"),
        }
    }
}

/// Simple case folding, character by character.
fn are_equal_folded(one: &str, other: &str) -> bool {
    one.chars().count() == other.chars().count() && one.chars().zip(other.chars()).all(|(a, b)| folds_to(a, b))
}

fn folds_to(a: char, b: char) -> bool {
    let lower = |c: char| c.to_lowercase().eq(a.to_lowercase());
    let upper = |c: char| c.to_uppercase().eq(a.to_uppercase());
    // The dotless i has a capital in common with the dotted one, and folds to itself all the same.
    a == b || (a != 'ı' && b != 'ı' && (lower(b) || upper(b)))
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Json, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Other)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Json, E> {
        Ok(Json::Other)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Json, E> {
        Ok(Json::Other)
    }

    fn visit_i64<E>(self, number: i64) -> Result<Json, E> {
        Ok(Json::Integer(number))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Json, E> {
        Ok(i64::try_from(number).map_or(Json::Other, Json::Integer))
    }

    fn visit_str<E>(self, text: &str) -> Result<Json, E> {
        Ok(Json::String(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Json, A::Error> {
        let mut array = Vec::new();
        while let Some(element) = elements.next_element()? {
            array.push(element);
        }
        Ok(Json::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Json, A::Error> {
        let mut object = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            object.push(entry);
        }
        Ok(Json::Object(object))
    }
}
