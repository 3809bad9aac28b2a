//! Repository names (OCI Distribution Specification 1.1, "Pulling manifests").

use std::fmt;

/// A repository name that matches the specification's grammar, at most 255 bytes.
///
/// The first component is the project; a name always has at least two components.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RepositoryName(Box<str>);

/// Most bytes of a name: what CNCF Distribution takes.
const MAX_BYTES: usize = 255;

/// Why a string is no repository name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Longer than 255 bytes.
    #[error("a repository name has at most 255 bytes")]
    TooLong,
    /// Against the grammar.
    #[error(
        "a repository name is lower-case letters and digits in components joined by `/`, with `.`, `_`, `__` or `-` inside a component"
    )]
    Grammar,
    /// One component only.
    #[error("a repository name is `project/name`: it needs at least two components")]
    NoProject,
}

impl RepositoryName {
    /// Parses a public name: the grammar, the length, and at least two components.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        if text.len() > MAX_BYTES {
            return Err(NameError::TooLong);
        }
        if !is_path(text) {
            return Err(NameError::Grammar);
        }
        if !text.contains('/') {
            return Err(NameError::NoProject);
        }
        Ok(Self(text.into()))
    }

    /// The whole name, `acme/game/server`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first component, `acme`.
    pub fn project(&self) -> &str {
        self.halves().0
    }

    /// All after the first component, `game/server`.
    pub fn within_project(&self) -> &str {
        self.halves().1
    }

    fn halves(&self) -> (&str, &str) {
        self.0.split_once('/').expect("a parsed name has at least two components")
    }
}

/// Whether `text` is one valid path component, or several joined by `/` (what a project's name or an upstream prefix must
/// be), at most 255 bytes.
pub fn is_path(text: &str) -> bool {
    #[derive(PartialEq)]
    enum After {
        Slash,
        AlphaNumeric,
        Dot,
        Underscore,
        TwoUnderscores,
        Dashes,
    }
    let mut after = After::Slash;
    for byte in text.bytes() {
        after = match (after, byte) {
            (_, b'a'..=b'z' | b'0'..=b'9') => After::AlphaNumeric,
            (After::AlphaNumeric, b'.') => After::Dot,
            (After::AlphaNumeric, b'_') => After::Underscore,
            (After::Underscore, b'_') => After::TwoUnderscores,
            (After::AlphaNumeric | After::Dashes, b'-') => After::Dashes,
            (After::AlphaNumeric, b'/') => After::Slash,
            _ => return false,
        };
    }
    after == After::AlphaNumeric && text.len() <= MAX_BYTES
}

impl fmt::Display for RepositoryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_of_the_grammar_are_taken() {
        for name in ["a/b", "acme/game/server", "a/b.c", "a/b_c", "a/b__c", "a/b-c", "a/b---c", "0/1", "a/b-1.2_3__4"] {
            assert_eq!(RepositoryName::parse(name).map(|name| name.to_string()), Ok(name.to_owned()));
        }
    }

    #[test]
    fn names_against_the_grammar_are_refused() {
        let refused = [
            "", "/", "a/", "/a", "/a/b", "a/b/", "a//b", "a/./b", "a/../b", "..", "A/b", "a/B", "a/_b", "a/b_",
            "a/b___c", "a/b._c", "a/b..c", "a/-b", "a/b-", "a/b-_c", "a/b_-c", "a/b.-c", "a/b%2fc", "a/b c", "a/b\0",
            "a/é", "a:5000/b", "a/b\\c", "a/b\n",
        ];
        for name in refused {
            assert_eq!(RepositoryName::parse(name), Err(NameError::Grammar), "{name:?}");
        }
    }

    #[test]
    fn a_name_needs_a_project() {
        assert_eq!(RepositoryName::parse("app"), Err(NameError::NoProject));
        assert!(is_path("app"));
    }

    #[test]
    fn a_name_has_at_most_255_bytes() {
        let longest = format!("a/{}", "b".repeat(253));
        assert!(RepositoryName::parse(&longest).is_ok());
        assert_eq!(RepositoryName::parse(&format!("{longest}b")), Err(NameError::TooLong));
        assert!(!is_path(&format!("{longest}b")));
    }

    #[test]
    fn the_first_component_is_the_project() {
        let name = RepositoryName::parse("acme/game/server").unwrap();
        assert_eq!((name.project(), name.within_project()), ("acme", "game/server"));
    }

    proptest! {
        #[test]
        fn what_the_specification_generates_is_taken(name in "[a-z0-9]{1,3}((\\.|_|__|-{1,3})[a-z0-9]{1,3}){0,3}(/[a-z0-9]{1,3}((\\.|_|__|-{1,3})[a-z0-9]{1,3}){0,3}){1,4}") {
            prop_assert!(RepositoryName::parse(&name).is_ok());
        }

        #[test]
        fn any_text_is_taken_or_refused(text in any::<String>()) {
            if let Ok(name) = RepositoryName::parse(&text) {
                prop_assert_eq!(format!("{}/{}", name.project(), name.within_project()), text);
            }
        }
    }
}
