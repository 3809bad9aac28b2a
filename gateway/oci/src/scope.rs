//! Scopes, `type[(class)]:name:action[,action]` (Distribution's token scope documentation), and sets of actions.

mod pattern;

pub use pattern::{PatternError, RepositoryPattern};

use crate::RepositoryName;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;

/// What may be done with a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Read manifests, blobs, tags, referrers.
    Pull,
    /// Write manifests and blobs.
    Push,
    /// Delete manifests, tags and blobs.
    Delete,
}

/// A set of actions.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Actions(u8);

impl Actions {
    /// No action.
    pub const NONE: Self = Self(0);
    /// `pull`.
    pub const PULL: Self = Self(1);
    /// `push`.
    pub const PUSH: Self = Self(2);
    /// `delete`.
    pub const DELETE: Self = Self(4);
    /// All three: what `*` means.
    pub const ALL: Self = Self(7);

    /// Both sets together.
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// What both sets hold.
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Whether every action of `other` is in here.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether the set holds nothing.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The actions' names in the order pull, push, delete.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        [(Self::PULL, "pull"), (Self::PUSH, "push"), (Self::DELETE, "delete")]
            .into_iter()
            .filter(move |(action, _)| self.contains(*action))
            .map(|(_, name)| name)
    }

    /// Reads `pull,push`; `*` is all; unknown actions are left out (a client may ask for what only other registries know).
    pub fn parse_lenient(text: &str) -> Self {
        text.split(',').filter_map(Self::parse_one).fold(Self::NONE, Self::union)
    }

    /// Reads `pull,push` for a grant: an unknown action is `None`.
    pub fn parse_strict(text: &str) -> Option<Self> {
        text.split(',').try_fold(Self::NONE, |actions, action| Some(actions.union(Self::parse_one(action)?)))
    }

    fn parse_one(text: &str) -> Option<Self> {
        match text {
            "pull" => Some(Self::PULL),
            "push" => Some(Self::PUSH),
            "delete" => Some(Self::DELETE),
            "*" => Some(Self::ALL),
            _ => None,
        }
    }
}

/// `pull,push`
impl fmt::Display for Actions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, name) in self.names().enumerate() {
            if position > 0 {
                f.write_str(",")?;
            }
            f.write_str(name)?;
        }
        Ok(())
    }
}

impl fmt::Debug for Actions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Actions({self})")
    }
}

/// A name that a scope asks for: one repository, or a pattern of them.
///
/// In a pattern `*` stands for any run of characters but `/`, `**` for any run. Its first component is always literal.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ScopeName {
    /// Exactly this repository.
    Repository(RepositoryName),
    /// Every repository that matches.
    Pattern(RepositoryPattern),
}

impl ScopeName {
    /// Reads a repository's name, or a pattern where it holds a `*`.
    pub fn parse(text: &str) -> Option<Self> {
        if text.contains('*') {
            RepositoryPattern::parse(text).ok().map(Self::Pattern)
        } else {
            RepositoryName::parse(text).ok().map(Self::Repository)
        }
    }

    /// Its text, as it stands in a scope.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Repository(name) => name.as_str(),
            Self::Pattern(pattern) => pattern.as_str(),
        }
    }
}

impl fmt::Display for ScopeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One scope of a token request.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// `repository:name:actions`, whatever the class.
    Repository {
        /// Which repositories.
        name: ScopeName,
        /// What is asked for.
        actions: Actions,
    },
    /// `registry:catalog:*`
    Catalog,
}

/// Why a scope parameter is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScopeError {
    /// More scopes than allowed.
    #[error("too many scopes are asked for at once")]
    TooMany,
    /// More bytes than allowed.
    #[error("the scopes asked for are too long")]
    TooLong,
}

/// Most scopes in one request.
pub const MAX_SCOPES: usize = 1000;
/// Most bytes of all scope parameters of one request.
pub const MAX_SCOPE_BYTES: usize = 64 * 1024;

/// Reads all `scope` parameters of a request, each holding several separated by spaces, and merges equal names.
///
/// A scope of an unknown type, with a name against the grammar, or without an action known here is left out: too little
/// access is no error (Docker token specification). The name is what stands between the first and the last colon.
pub fn parse_all<'a>(parameters: impl Iterator<Item = &'a str>) -> Result<Vec<Scope>, ScopeError> {
    let mut bytes_left = MAX_SCOPE_BYTES;
    let mut asked = 0_usize;
    let mut scopes: Vec<Scope> = Vec::new();
    let mut positions: HashMap<ScopeName, usize> = HashMap::new();
    for parameter in parameters {
        bytes_left = bytes_left.checked_sub(parameter.len()).ok_or(ScopeError::TooLong)?;
        for text in parameter.split(' ').filter(|text| !text.is_empty()) {
            asked = asked.saturating_add(1);
            if asked > MAX_SCOPES {
                return Err(ScopeError::TooMany);
            }
            match Scope::parse(text) {
                Some(Scope::Repository { name, actions }) => match positions.entry(name) {
                    Entry::Vacant(vacant) => {
                        let name = vacant.key().clone();
                        vacant.insert(scopes.len());
                        scopes.push(Scope::Repository { name, actions });
                    }
                    Entry::Occupied(occupied) => {
                        if let Some(Scope::Repository { actions: known, .. }) = scopes.get_mut(*occupied.get()) {
                            *known = known.union(actions);
                        }
                    }
                },
                Some(Scope::Catalog) if !scopes.contains(&Scope::Catalog) => scopes.push(Scope::Catalog),
                Some(Scope::Catalog) | None => {}
            }
        }
    }
    Ok(scopes)
}

impl Scope {
    /// Reads one scope; `None` where it gives nothing here.
    pub fn parse(text: &str) -> Option<Self> {
        let (kind, rest) = text.split_once(':')?;
        let (name, actions) = rest.rsplit_once(':')?;
        match without_class(kind)? {
            "repository" => {
                let actions = Actions::parse_lenient(actions);
                if actions.is_empty() {
                    return None;
                }
                Some(Self::Repository { name: ScopeName::parse(name)?, actions })
            }
            "registry" if name == "catalog" && actions.split(',').any(|action| action == "*") => Some(Self::Catalog),
            _ => None,
        }
    }
}

/// `repository` of `repository(plugin)`; `None` where the class is malformed.
fn without_class(kind: &str) -> Option<&str> {
    let Some((kind, class)) = kind.split_once('(') else {
        return Some(kind);
    };
    let class = class.strip_suffix(')')?;
    let valid = !class.is_empty() && class.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9'));
    valid.then_some(kind)
}

/// `repository:acme/app:pull,push`, as it stands in a challenge and in a token response.
impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Repository { name, actions } => write!(f, "repository:{name}:{actions}"),
            Self::Catalog => f.write_str("registry:catalog:*"),
        }
    }
}

#[cfg(test)]
mod tests;
