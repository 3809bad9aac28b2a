//! Typed fields of a JSON object, each either as the specification wants it or an error that says where.

use super::json::Value;
use super::{Descriptor, Platform, invalid};
use crate::error::Excerpt;
use crate::{Digest, ProtocolError};
use std::borrow::Cow;
use std::fmt;

/// Most entries of one `annotations`.
const MAX_ANNOTATIONS: usize = 1024;
/// Most entries of one list of strings.
const MAX_STRINGS: usize = 256;
/// Most bytes of a media type (RFC 6838, section 4.2).
const MAX_MEDIA_TYPE_BYTES: usize = 255;

/// Where in the document something stands: `layers[3].digest`.
#[derive(Clone, Copy)]
enum Place<'a> {
    /// The document, by what it is.
    Root(&'a str),
    Key(&'a Place<'a>, &'a str),
    Index(&'a Place<'a>, usize),
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root(document) => f.write_str(document),
            Self::Key(Self::Root(_), key) => f.write_str(key),
            Self::Key(parent, key) => write!(f, "{parent}.{key}"),
            Self::Index(parent, index) => write!(f, "{parent}[{index}]"),
        }
    }
}

/// An object and where it stands.
pub struct Object<'a> {
    place: Place<'a>,
    entries: &'a [(Cow<'a, str>, Value<'a>)],
}

impl<'a> Object<'a> {
    /// The document itself, called `what`.
    pub fn root(what: &'static str, document: &'a Value<'a>) -> Result<Self, ProtocolError> {
        Self::of(Place::Root(what), document)
    }

    fn of(place: Place<'a>, value: &'a Value<'a>) -> Result<Self, ProtocolError> {
        match value {
            Value::Object(entries) => Ok(Self { place, entries }),
            _ => Err(wrong(place, "an object")),
        }
    }

    fn get(&self, key: &str) -> Option<&'a Value<'a>> {
        self.entries.iter().find(|(present, _)| present == key).map(|(_, value)| value)
    }

    /// Refuses the object where it has one of `keys`.
    pub fn forbid(&self, keys: &[&str], why: &str) -> Result<(), ProtocolError> {
        match keys.iter().find(|key| self.get(key).is_some()) {
            Some(key) => Err(invalid(format!("`{key}` must not stand {why}"))),
            None => Ok(()),
        }
    }

    /// Refuses a field that is not there.
    pub fn required<T>(&self, key: &str, field: Option<T>) -> Result<T, ProtocolError> {
        field.ok_or_else(|| invalid(format!("{} is missing", Place::Key(&self.place, key))))
    }

    /// An object; `null` is none, which is how Go reads it.
    pub fn object(&'a self, key: &'a str) -> Result<Option<Self>, ProtocolError> {
        match self.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => Self::of(Place::Key(&self.place, key), value).map(Some),
        }
    }

    /// A string; `null` is none, which is how Go reads it.
    pub fn string_or_null(&self, key: &str) -> Result<Option<&'a str>, ProtocolError> {
        match self.get(key) {
            Some(Value::Null) => Ok(None),
            _ => self.string(key),
        }
    }

    /// All entries, which have to be strings.
    pub fn all_strings(&self) -> Result<Vec<(String, String)>, ProtocolError> {
        let entry = |(key, value): &(Cow<'_, str>, Value<'_>)| match value {
            Value::String(text) => Ok((key.clone().into_owned(), text.clone().into_owned())),
            _ => Err(invalid(format!("{} has something else than a string under {}", self.place, Excerpt(key)))),
        };
        self.entries.iter().map(entry).collect()
    }

    /// A string.
    pub fn string(&self, key: &str) -> Result<Option<&'a str>, ProtocolError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(wrong(Place::Key(&self.place, key), "a string")),
        }
    }

    /// An integer that Go's `int64` holds and that is not negative.
    pub fn integer(&self, key: &str) -> Result<Option<u64>, ProtocolError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Unsigned(number)) if i64::try_from(*number).is_ok() => Ok(Some(*number)),
            Some(_) => Err(wrong(Place::Key(&self.place, key), "an integer from 0 to 2^63 - 1")),
        }
    }

    /// `artifactType`; empty is missing.
    pub fn artifact_type(&self) -> Result<Option<String>, ProtocolError> {
        match self.string("artifactType")? {
            None | Some("") => Ok(None),
            Some(text) => self.media_type("artifactType", text).map(Some),
        }
    }

    fn media_type(&self, key: &str, text: &str) -> Result<String, ProtocolError> {
        if (1..=MAX_MEDIA_TYPE_BYTES).contains(&text.len()) && text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
            Ok(text.to_owned())
        } else {
            Err(wrong(Place::Key(&self.place, key), "a media type of at most 255 printable ASCII characters"))
        }
    }

    fn array(&self, key: &str, most: usize) -> Result<Option<&'a [Value<'a>]>, ProtocolError> {
        let place = Place::Key(&self.place, key);
        match self.get(key) {
            None => Ok(None),
            Some(Value::Array(elements)) if elements.len() <= most => Ok(Some(elements)),
            Some(Value::Array(_)) => Err(invalid(format!("{place} has more than {most} entries"))),
            Some(_) => Err(wrong(place, "an array")),
        }
    }

    fn strings(&self, key: &str) -> Result<Vec<String>, ProtocolError> {
        let list = Place::Key(&self.place, key);
        let elements = self.array(key, MAX_STRINGS)?.unwrap_or_default();
        let string = |(index, element): (usize, &Value<'_>)| match element {
            Value::String(text) => Ok(text.clone().into_owned()),
            _ => Err(wrong(Place::Index(&list, index), "a string")),
        };
        elements.iter().enumerate().map(string).collect()
    }

    /// `annotations`: strings under any keys.
    pub fn annotations(&self) -> Result<Vec<(String, String)>, ProtocolError> {
        let place = Place::Key(&self.place, "annotations");
        let Some(value) = self.get("annotations") else {
            return Ok(Vec::new());
        };
        let annotations = Object::of(place, value)?;
        if annotations.entries.len() > MAX_ANNOTATIONS {
            return Err(invalid(format!("{place} has more than {MAX_ANNOTATIONS} entries")));
        }
        annotations.all_strings()
    }

    /// A descriptor.
    pub fn descriptor(&self, key: &str) -> Result<Option<Descriptor>, ProtocolError> {
        self.get(key).map(|value| Object::of(Place::Key(&self.place, key), value)?.into_descriptor()).transpose()
    }

    /// A list of descriptors, which has to be there.
    pub fn descriptors(&self, key: &str, most: usize) -> Result<Vec<Descriptor>, ProtocolError> {
        let list = Place::Key(&self.place, key);
        let elements = self.required(key, self.array(key, most)?)?;
        let descriptor = |(index, element)| Object::of(Place::Index(&list, index), element)?.into_descriptor();
        elements.iter().enumerate().map(descriptor).collect()
    }

    fn into_descriptor(self) -> Result<Descriptor, ProtocolError> {
        let media_type = self.required("mediaType", self.string("mediaType")?)?;
        let digest = self.required("digest", self.string("digest")?)?;
        self.string("data")?;
        Ok(Descriptor {
            media_type: self.media_type("mediaType", media_type)?,
            digest: Digest::parse(digest).map_err(|error| {
                invalid(format!("{} is {}: {error}", Place::Key(&self.place, "digest"), Excerpt(digest)))
            })?,
            size: self.required("size", self.integer("size")?)?,
            artifact_type: self.artifact_type()?,
            platform: self.platform()?,
            urls: self.strings("urls")?,
            annotations: self.annotations()?,
        })
    }

    fn platform(&self) -> Result<Option<Platform>, ProtocolError> {
        let Some(value) = self.get("platform") else {
            return Ok(None);
        };
        let platform = Object::of(Place::Key(&self.place, "platform"), value)?;
        platform.string("os.version")?;
        platform.strings("os.features")?;
        platform.strings("features")?;
        Ok(Some(Platform {
            os: platform.required("os", platform.string("os")?)?.to_owned(),
            architecture: platform.required("architecture", platform.string("architecture")?)?.to_owned(),
            variant: platform.string("variant")?.map(str::to_owned),
        }))
    }
}

fn wrong(place: Place<'_>, wanted: &str) -> ProtocolError {
    invalid(format!("{place} must be {wanted}"))
}
