//! Patterns over repository names: which names they match, and which patterns they cover.

use crate::RepositoryName;
use crate::name::is_path;
use std::fmt;
use std::iter;

/// A pattern over repository names, `acme/**`, `acme/app-*`; the first component is a literal project name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RepositoryPattern(Box<str>);

/// A string is no pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a pattern is a project's name, `/`, and a repository in which `*` stands for a part of a component and `**` for anything, such as acme/** or acme/app-*"
)]
pub struct PatternError;

/// Most bytes of a pattern.
const MAX_BYTES: usize = 255;
/// Most wildcards in a pattern.
const MAX_WILDCARDS: usize = 8;

impl RepositoryPattern {
    /// Parses a pattern; a plain repository name is a pattern that matches itself alone. At most 255 bytes and eight wildcards.
    ///
    /// A pattern that can match no name at all is refused.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let (project, _) = text.split_once('/').ok_or(PatternError)?;
        let wildcards = tokens(text).filter(|token| !matches!(token, Token::Literal(_))).count();
        let bounded = text.len() <= MAX_BYTES && wildcards <= MAX_WILDCARDS;
        // A letter is the most that a wildcard can stand for: where that gives no name, nothing does.
        let matches_some_name = !text.contains("***") && is_path(&text.replace("**", "x").replace('*', "x"));
        if bounded && !project.contains('*') && matches_some_name { Ok(Self(text.into())) } else { Err(PatternError) }
    }

    /// `acme/**` for the project `acme`.
    pub fn whole_project(project: &str) -> Self {
        Self(format!("{project}/**").into())
    }

    /// The pattern's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The literal first component.
    pub fn project(&self) -> &str {
        self.0.split_once('/').expect("a parsed pattern has at least two components").0
    }

    /// Whether the pattern matches the name, in time linear in their product.
    pub fn matches(&self, name: &RepositoryName) -> bool {
        let wildcard = self.0.find('*').unwrap_or(self.0.len());
        let (literal, rest) = self.0.split_at(wildcard);
        let Some(remaining) = name.as_str().strip_prefix(literal) else {
            return false;
        };
        match rest {
            "" => remaining.is_empty(),
            "**" => true,
            "*" => !remaining.contains('/'),
            _ => covers(rest, remaining.bytes().map(Token::Literal)),
        }
    }

    /// Whether every name that `other` matches is matched here too. Never wrong when it says yes; may say no where a yes were provable.
    pub fn covers(&self, other: &Self) -> bool {
        covers(&self.0, tokens(&other.0))
    }
}

impl fmt::Display for RepositoryPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Token {
    Literal(u8),
    /// `*`
    WithinComponent,
    /// `**`
    Anything,
}

impl Token {
    /// Whether this wildcard may stand for a run that holds `other`, whatever `other` itself stands for.
    fn takes(self, other: Self) -> bool {
        match self {
            Self::Literal(_) => false,
            Self::WithinComponent => other != Self::Literal(b'/') && other != Self::Anything,
            Self::Anything => true,
        }
    }
}

fn tokens(text: &str) -> impl Iterator<Item = Token> {
    let mut bytes = text.bytes().peekable();
    iter::from_fn(move || {
        Some(match bytes.next()? {
            b'*' if bytes.next_if_eq(&b'*').is_some() => Token::Anything,
            b'*' => Token::WithinComponent,
            byte => Token::Literal(byte),
        })
    })
}

/// Matches `pattern` against `subject` as if the subject's wildcards were characters that only an equal or wider wildcard
/// takes. Whatever they stand for, the same wildcard of the pattern then takes that too.
fn covers(pattern: &str, subject: impl Iterator<Item = Token>) -> bool {
    let subject: Vec<Token> = subject.collect();
    // Where in the subject the tokens seen so far may end: `ends[i]` stands for its first `i` tokens.
    let mut ends: Vec<bool> = iter::once(true).chain(subject.iter().map(|_| false)).collect();
    for token in tokens(pattern) {
        let positions = ends.iter_mut().zip(iter::once(None).chain(subject.iter().map(Some)));
        if let Token::Literal(_) = token {
            let mut before = false;
            for (end, symbol) in positions {
                let here = *end;
                *end = before && symbol == Some(&token);
                before = here;
            }
        } else {
            let mut running = false;
            for (end, symbol) in positions {
                running = *end || (running && symbol.is_some_and(|symbol| token.takes(*symbol)));
                *end = running;
            }
        }
    }
    ends.last().copied().unwrap_or(false)
}

#[cfg(test)]
mod tests;
