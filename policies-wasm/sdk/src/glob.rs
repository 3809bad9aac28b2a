//! Patterns for names and tags, matched in time proportional to the text, whatever the pattern.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer};
use std::borrow::Cow;
use std::fmt;

/// Longest pattern, in characters.
const MAX_CHARACTERS: usize = 256;

/// A pattern: `*` is any run of characters but `/`, `**` any run at all, `?` any one character but `/`, `[a-z0-9]` one
/// of a set and `[!a-z]` one outside of it; `\` takes the next character as it is. All of the text has to match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob {
    source: String,
    steps: Vec<Step>,
}

/// Patterns of which one has to match.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Globs(Vec<Glob>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    One(char),
    AnyOne,
    Set { ranges: Vec<(char, char)>, inside: bool },
    Run { slashes: bool },
}

impl Glob {
    /// Reads a pattern.
    ///
    /// # Errors
    /// What is wrong with it, as a sentence's end.
    pub fn new(source: &str) -> Result<Glob, String> {
        if source.is_empty() {
            return Err("a pattern must not be empty".to_owned());
        }
        if source.chars().count() > MAX_CHARACTERS {
            return Err(format!("a pattern has at most {MAX_CHARACTERS} characters"));
        }
        let mut steps = Vec::new();
        let mut rest = source.chars().peekable();
        while let Some(character) = rest.next() {
            steps.push(match character {
                '*' => Step::Run { slashes: rest.next_if_eq(&'*').is_some() },
                '?' => Step::AnyOne,
                '[' => set(&mut rest)?,
                '\\' => Step::One(rest.next().ok_or("a pattern must not end with \\")?),
                other => Step::One(other),
            });
        }
        Ok(Glob { source: source.to_owned(), steps })
    }

    /// Whether all of the text matches.
    pub fn matches(&self, text: &str) -> bool {
        // `alive[n]`: the first n steps can match what was read so far. One pass over the text, no way back.
        let mut alive = vec![false; self.steps.len().saturating_add(1)];
        if let Some(start) = alive.first_mut() {
            *start = true;
        }
        self.skip_runs(&mut alive);
        for character in text.chars() {
            // From the end, so that a step sees its predecessor as it was before this character.
            for (number, step) in self.steps.iter().enumerate().rev() {
                let before = alive.get(number).copied().unwrap_or_default();
                let after = number.saturating_add(1);
                let stays = alive.get(after).copied().unwrap_or_default();
                if let Some(place) = alive.get_mut(after) {
                    *place = match step {
                        Step::Run { slashes } => (before || stays) && (*slashes || character != '/'),
                        Step::One(one) => before && character == *one,
                        Step::AnyOne => before && character != '/',
                        Step::Set { ranges, inside } => {
                            before && contains(ranges, character) == *inside && character != '/'
                        }
                    };
                }
            }
            if let Some(start) = alive.first_mut() {
                *start = false;
            }
            self.skip_runs(&mut alive);
            if !alive.contains(&true) {
                return false;
            }
        }
        alive.last().copied().unwrap_or_default()
    }

    /// The pattern as it was written.
    pub fn as_str(&self) -> &str {
        &self.source
    }

    /// A run may be empty.
    fn skip_runs(&self, alive: &mut [bool]) {
        for (number, step) in self.steps.iter().enumerate() {
            if matches!(step, Step::Run { .. })
                && alive.get(number) == Some(&true)
                && let Some(place) = alive.get_mut(number.saturating_add(1))
            {
                *place = true;
            }
        }
    }
}

impl Globs {
    /// Reads patterns.
    ///
    /// # Errors
    /// What is wrong with the first that is none.
    pub fn new(sources: &[&str]) -> Result<Globs, String> {
        sources.iter().map(|source| Glob::new(source)).collect::<Result<_, _>>().map(Globs)
    }

    /// Whether one of them matches.
    pub fn matches(&self, text: &str) -> bool {
        self.0.iter().any(|glob| glob.matches(text))
    }

    /// A pattern that everything matches.
    pub fn all() -> Globs {
        Globs(vec![Glob { source: "**".to_owned(), steps: vec![Step::Run { slashes: true }] }])
    }

    /// Whether there are none, which match nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// All of them, as for a message: `v*, release-*`.
impl fmt::Display for Globs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, glob) in self.0.iter().enumerate() {
            if number > 0 {
                f.write_str(", ")?;
            }
            f.write_str(glob.as_str())?;
        }
        Ok(())
    }
}

impl<'de> Deserialize<'de> for Glob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Glob, D::Error> {
        let source = Cow::<str>::deserialize(deserializer)?;
        Glob::new(&source).map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Glob {
    fn schema_name() -> Cow<'static, str> {
        "Glob".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "minLength": 1,
            "maxLength": MAX_CHARACTERS,
            "description": "* is any run of characters but /, ** any run at all, ? any one character but /, [a-z] one of a set",
        })
    }

    fn inline_schema() -> bool {
        true
    }
}

/// Reads a set, whose `[` was read already.
fn set(rest: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<Step, String> {
    let inside = rest.next_if(|&c| c == '!' || c == '^').is_none();
    let mut ranges = Vec::new();
    loop {
        let mut next = || match rest.next() {
            Some('\\') => rest.next(),
            other => other,
        };
        let unclosed = || "a set must end with ]".to_owned();
        let from = match next().ok_or_else(unclosed)? {
            ']' if ranges.is_empty() => return Err("a set must not be empty".to_owned()),
            ']' => return Ok(Step::Set { ranges, inside }),
            from => from,
        };
        let to = match rest.next_if_eq(&'-') {
            None => from,
            // A hyphen before the end stands for itself.
            Some(hyphen) if rest.peek() == Some(&']') => {
                ranges.push((hyphen, hyphen));
                from
            }
            Some(_) => rest.next().ok_or_else(unclosed)?,
        };
        if from > to {
            return Err(format!("the range {from}-{to} is empty"));
        }
        ranges.push((from, to));
    }
}

fn contains(ranges: &[(char, char)], character: char) -> bool {
    ranges.iter().any(|&(from, to)| (from..=to).contains(&character))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pattern: &str, yes: &[&str], no: &[&str]) {
        let glob = Glob::new(pattern).unwrap();
        yes.iter().for_each(|text| assert!(glob.matches(text), "{pattern} should match {text}"));
        no.iter().for_each(|text| assert!(!glob.matches(text), "{pattern} should not match {text}"));
    }

    #[test]
    fn patterns_match_what_they_say() {
        check("v*", &["v", "v1", "v1.2"], &["", "1", "xv", "v/1"]);
        check("team-*/app", &["team-a/app", "team-/app"], &["team-a/b/app", "team-a/apps"]);
        check("team/**", &["team/a", "team/a/b", "team/"], &["team", "teams/a"]);
        check("**", &["", "a", "a/b"], &[]);
        check("?-[a-c0-9]", &["x-a", "x-7"], &["-a", "x-d", "xx-a", "/-a"]);
        check("[!a-c]x", &["dx", "-x"], &["ax", "/x"]);
        check("[a-]", &["a", "-"], &["b"]);
        check("\\*a", &["*a"], &["xa", "a"]);
        check("*a*b*", &["ab", "xaxbx"], &["ba", "a"]);
    }

    #[test]
    fn a_pattern_that_is_none_is_refused() {
        for pattern in ["", "[", "[]", "[a", "[a-", "[z-a]", "a\\"] {
            assert!(Glob::new(pattern).is_err(), "{pattern}");
        }
        assert!(Glob::new(&"a".repeat(257)).is_err());
    }

    #[test]
    fn many_runs_take_no_longer_than_few() {
        let glob = Glob::new(&"*a".repeat(128)).unwrap();
        let begun = std::time::Instant::now();
        assert!(!glob.matches(&format!("{}b", "a".repeat(10_000))));
        // Backtracking would take longer than there is time.
        assert!(begun.elapsed().as_secs() < 5);
    }
}
