//! JSON as one tree that keeps the order and loses nothing, with every document refused that two parsers could read differently.

use crate::error::Excerpt;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use std::borrow::Cow;
use std::cell::Cell;
use std::collections::HashSet;
use std::fmt;

/// Deepest nesting of arrays and objects.
const MAX_DEPTH: usize = 32;
/// Most values in one document: what bounds the memory that a small body can claim.
const MAX_VALUES: usize = 1 << 16;

/// Every key that an upstream or a client reads somewhere in a manifest, schema 1 included.
const MANIFEST_KEYS: &[&str] = &[
    "schemaVersion",
    "mediaType",
    "artifactType",
    "config",
    "layers",
    "manifests",
    "subject",
    "annotations",
    "fsLayers",
    "history",
    "signatures",
    "name",
    "tag",
    "architecture",
    "digest",
    "size",
    "urls",
    "data",
    "platform",
    "os",
    "variant",
    "os.version",
    "os.features",
    "features",
];

/// The keys of an image's config that policies are shown (OCI Image Specification, "Image Configuration").
const CONFIG_KEYS: &[&str] = &["created", "architecture", "os", "variant", "config"];
/// Those of its `config`.
const RUN_CONFIG_KEYS: &[&str] = &["User", "Labels"];

/// One JSON value.
#[derive(Debug)]
pub enum Value<'a> {
    /// `null`
    Null,
    /// `true`, `false`
    Bool,
    /// An integer from 0 to 2^64 - 1.
    Unsigned(u64),
    /// Every other number.
    OtherNumber,
    /// A string.
    String(Cow<'a, str>),
    /// An array.
    Array(Vec<Value<'a>>),
    /// An object in the document's order, without duplicate keys.
    Object(Vec<(Cow<'a, str>, Value<'a>)>),
}

/// Reads one document, and nothing behind it.
pub fn read(bytes: &[u8], keys: Keys) -> Result<Value<'_>, serde_json::Error> {
    let values_left = Cell::new(MAX_VALUES);
    let mut document = serde_json::Deserializer::from_slice(bytes);
    let value = Reader { depth_left: MAX_DEPTH, values_left: &values_left, keys }.deserialize(&mut document)?;
    document.end()?;
    Ok(value)
}

/// What kind of object is read: none of its keys may differ by its case alone from one that a parser knows there.
#[derive(Clone, Copy, PartialEq)]
pub enum Keys {
    /// A manifest, and what is in it.
    Manifest,
    /// A manifest's annotations.
    Annotations,
    /// An image's config.
    Config,
    /// Its `config`.
    RunConfig,
    /// Anything, about which nobody asks.
    Free,
}

impl Keys {
    const fn known(self) -> &'static [&'static str] {
        match self {
            Self::Manifest => MANIFEST_KEYS,
            Self::Config => CONFIG_KEYS,
            Self::RunConfig => RUN_CONFIG_KEYS,
            Self::Annotations | Self::Free => &[],
        }
    }

    /// What is below a key of such an object.
    fn below(self, key: &str) -> Self {
        match (self, key) {
            (Self::Manifest, "annotations") => Self::Annotations,
            (Self::Config, "config") => Self::RunConfig,
            _ => self.of_elements(),
        }
    }

    /// What is in an array where such an object could be.
    const fn of_elements(self) -> Self {
        match self {
            Self::Manifest | Self::Annotations => Self::Manifest,
            Self::Config | Self::RunConfig | Self::Free => Self::Free,
        }
    }
}

/// Reads one value, and all below it.
#[derive(Clone, Copy)]
struct Reader<'c> {
    depth_left: usize,
    values_left: &'c Cell<usize>,
    keys: Keys,
}

impl Reader<'_> {
    fn below<E: Error>(self, keys: Keys) -> Result<Self, E> {
        let depth_left =
            self.depth_left.checked_sub(1).ok_or_else(|| E::custom(format!("more than {MAX_DEPTH} levels deep")))?;
        Ok(Self { depth_left, keys, ..self })
    }

    /// Refuses a key that was there already, or that only the case tells from a known one.
    fn check_key<E: Error>(self, key: &str, seen_before: bool) -> Result<(), E> {
        if seen_before {
            return Err(E::custom(format!("the key {} stands twice in one object", Excerpt(key))));
        }
        if let Some(known) = differs_by_case_from(key, self.keys.known()) {
            return Err(E::custom(format!("the key {} differs from `{known}` by its case alone", Excerpt(key))));
        }
        Ok(())
    }
}

/// The known key that `key` equals under Unicode simple case folding without being it.
fn differs_by_case_from(key: &str, known: &'static [&'static str]) -> Option<&'static str> {
    known.iter().copied().find(|known| *known != key && folded(known).eq(folded(key)))
}

/// Simple case folding as far as it leads to ASCII, which known keys are: beside the letters' other cases, two characters
/// fold to ASCII letters, long s and the Kelvin sign.
fn folded(key: &str) -> impl Iterator<Item = char> {
    key.chars().map(|c| match c {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        other => other.to_ascii_lowercase(),
    })
}

/// Refuses what some stores cannot hold and no manifest needs.
fn without_nul<E: Error>(text: Cow<'_, str>) -> Result<Cow<'_, str>, E> {
    if text.contains('\0') { Err(E::custom("a string holds the character U+0000")) } else { Ok(text) }
}

impl<'de> DeserializeSeed<'de> for Reader<'_> {
    type Value = Value<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value<'de>, D::Error> {
        let too_many = || D::Error::custom(format!("more than {MAX_VALUES} values"));
        self.values_left.set(self.values_left.get().checked_sub(1).ok_or_else(too_many)?);
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Reader<'_> {
    type Value = Value<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<Value<'de>, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Value<'de>, E> {
        Ok(Value::Bool)
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Value<'de>, E> {
        Ok(Value::Unsigned(number))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Value<'de>, E> {
        Ok(u64::try_from(number).map_or(Value::OtherNumber, Value::Unsigned))
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Value<'de>, E> {
        Ok(Value::OtherNumber)
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Value<'de>, E> {
        without_nul(Cow::Borrowed(text)).map(Value::String)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Value<'de>, E> {
        without_nul(Cow::Owned(text.to_owned())).map(Value::String)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Value<'de>, A::Error> {
        let below = self.below(self.keys.of_elements())?;
        let mut array = Vec::new();
        while let Some(element) = elements.next_element_seed(below)? {
            array.push(element);
        }
        Ok(Value::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value<'de>, A::Error> {
        let mut object = Vec::new();
        let mut seen = HashSet::new();
        while let Some(key) = entries.next_key_seed(Key)? {
            self.check_key(&key, !seen.insert(key.clone()))?;
            let below = self.below(self.keys.below(&key))?;
            let value = entries.next_value_seed(below)?;
            object.push((key, value));
        }
        Ok(Value::Object(object))
    }
}

/// Reads an object's key.
struct Key;

impl<'de> DeserializeSeed<'de> for Key {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Cow<'de, str>, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Key {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Cow<'de, str>, E> {
        without_nul(Cow::Borrowed(text))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Cow<'de, str>, E> {
        without_nul(Cow::Owned(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folding_leads_every_character_to_ascii_that_unicode_leads_there() {
        for c in '\u{80}'..=char::MAX {
            let relatives: Vec<char> = c.to_lowercase().chain(c.to_uppercase()).collect();
            let simple = relatives.len() == 2;
            // The dotless i has a capital, but folds to itself.
            let leads_to_ascii = simple && c != 'ı' && relatives.iter().any(char::is_ascii);
            assert_eq!(folded(&c.to_string()).all(|folded| folded.is_ascii()), leads_to_ascii, "{c:?}");
        }
        assert_eq!(folded("A\u{17f}\u{212a}É").collect::<String>(), "askÉ");
    }
}
