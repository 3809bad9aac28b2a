//! Scopes of token requests, and the patterns in them.

use crate::{Outcome, text};
use portcullis_oci::scope::{MAX_SCOPE_BYTES, MAX_SCOPES, RepositoryPattern, Scope, ScopeName, parse_all};

/// As many patterns and names of one request are tried on each other.
const TRIED: usize = 12;

/// One `scope` parameter a line. What is read was asked for, each name once; printed, it is read again as the same; a pattern
/// matches what its definition says, and what it covers matches nothing more.
pub fn scope(bytes: &[u8]) -> Outcome {
    let Some(text) = text(bytes) else { return Outcome::Refused };
    let Ok(scopes) = parse_all(text.split('\n')) else {
        let asked = text.split([' ', '\n']).filter(|one| !one.is_empty()).count();
        assert!(text.len() > MAX_SCOPE_BYTES || asked > MAX_SCOPES, "nothing else is refused as a whole");
        return Outcome::Refused;
    };
    let printed: Vec<String> = scopes.iter().map(Scope::to_string).collect();
    assert_eq!(parse_all(printed.iter().map(String::as_str)).as_ref(), Ok(&scopes));
    let joined = printed.join(" ");
    if joined.len() <= MAX_SCOPE_BYTES {
        assert_eq!(parse_all([joined.as_str()].into_iter()).as_ref(), Ok(&scopes));
    }
    let names: Vec<&ScopeName> = scopes.iter().filter_map(name).collect();
    for (position, name) in names.iter().enumerate() {
        assert!(text.contains(&format!(":{name}:")), "nobody asked for {name}");
        assert!(!names[..position].contains(name), "{name} stands twice");
    }
    try_patterns(&names);
    if scopes.is_empty() { Outcome::Refused } else { Outcome::Taken }
}

fn name(scope: &Scope) -> Option<&ScopeName> {
    match scope {
        Scope::Repository { name, actions } => {
            assert!(!actions.is_empty(), "{scope}");
            Some(name)
        }
        Scope::Catalog => None,
    }
}

fn try_patterns(names: &[&ScopeName]) {
    let patterns: Vec<&RepositoryPattern> = names
        .iter()
        .filter_map(|name| match name {
            ScopeName::Pattern(pattern) => Some(pattern),
            ScopeName::Repository(_) => None,
        })
        .take(TRIED)
        .collect();
    let repositories = names.iter().filter_map(|name| match name {
        ScopeName::Repository(name) => Some(name),
        ScopeName::Pattern(_) => None,
    });
    for repository in repositories.take(TRIED) {
        for pattern in &patterns {
            let matches = pattern.matches(repository);
            let defined = is_match(pattern.as_str().as_bytes(), repository.as_str().as_bytes());
            assert_eq!(matches, defined, "{pattern} and {repository}");
            assert!(!matches || repository.project() == pattern.project(), "{pattern} reaches {repository}");
            let wider = patterns.iter().filter(|wider| matches && wider.covers(pattern));
            for wider in wider {
                assert!(wider.matches(repository), "{wider} covers {pattern} and does not match {repository}");
            }
        }
    }
}

/// The definition: `*` stands for any run of characters but `/`, `**` for any run.
fn is_match(pattern: &[u8], name: &[u8]) -> bool {
    // Whether the pattern from one position matches the name from another, from the ends backwards.
    let width = name.len() + 1;
    let mut known = vec![false; (pattern.len() + 1) * width];
    known[pattern.len() * width + name.len()] = true;
    for at in (0..pattern.len()).rev() {
        // The second star of a pair is no token of its own.
        let rest = &pattern[at..];
        let (length, wildcard) = match rest {
            [b'*', b'*', ..] => (2, true),
            [b'*', ..] => (1, true),
            _ => (1, false),
        };
        for from in (0..=name.len()).rev() {
            let here = if wildcard {
                let run = name[from..].iter().take_while(|byte| length == 2 || **byte != b'/').count();
                (from..=from + run).any(|end| known[(at + length) * width + end])
            } else {
                name.get(from) == Some(&rest[0]) && known[(at + 1) * width + from + 1]
            };
            known[at * width + from] = here;
        }
    }
    known[0]
}
