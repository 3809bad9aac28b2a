//! Tags and references: what stands behind `/manifests/`.

use crate::Digest;
use std::fmt;

/// A tag, `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag(Box<str>);

/// Most bytes of a tag.
const MAX_TAG_BYTES: usize = 128;

/// A string is no tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a tag is a letter, a digit or `_`, then up to 127 letters, digits, `.`, `_` or `-`")]
pub struct TagError;

impl Tag {
    /// Parses a tag.
    pub fn parse(text: &str) -> Result<Self, TagError> {
        let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let mut bytes = text.bytes();
        let valid = bytes.next().is_some_and(word)
            && bytes.all(|byte| word(byte) || matches!(byte, b'.' | b'-'))
            && text.len() <= MAX_TAG_BYTES;
        if valid { Ok(Self(text.into())) } else { Err(TagError) }
    }

    /// The tag's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a manifest is asked for by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Reference {
    /// By tag: may change.
    Tag(Tag),
    /// By digest: never changes.
    Digest(Digest),
}

impl Reference {
    /// Its text, as it stands in a path.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Tag(tag) => tag.as_str(),
            Self::Digest(digest) => digest.as_str(),
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn tags_against_the_grammar_are_refused() {
        for tag in ["", ".", "..", "-a", ".a", "a b", "a/b", "a:b", "a%", "é", "a\0", "a\n"] {
            assert_eq!(Tag::parse(tag), Err(TagError), "{tag:?}");
        }
        assert!(Tag::parse(&"a".repeat(128)).is_ok());
        assert_eq!(Tag::parse(&"a".repeat(129)), Err(TagError));
    }

    proptest! {
        #[test]
        fn what_the_grammar_generates_is_taken(text in "[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}") {
            let tag = Tag::parse(&text).unwrap();
            prop_assert_eq!(tag.as_str(), text);
        }
    }
}
