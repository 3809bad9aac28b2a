//! Tokens are only ever narrowed: what a policy returns is a part of what was asked for and of what is granted.

use super::Verdict;
use crate::question::{Scope, TokenRequest};
use crate::verdict::Narrowing;
use portcullis_oci::RepositoryName;
use portcullis_oci::scope::RepositoryPattern;

/// Checks a narrowing; the error says what is wider than it may be.
pub(super) fn check(narrowing: &mut Narrowing, request: &TokenRequest, shortest_ttl_s: u32) -> Result<(), String> {
    let longest = request.default_ttl_s;
    if !(shortest_ttl_s.min(longest)..=longest).contains(&narrowing.ttl_s) {
        return Err(format!("a life of {} s is not between {shortest_ttl_s} and {longest} s", narrowing.ttl_s));
    }
    let most = request.granted.len().max(request.requested.len()).saturating_mul(4);
    if narrowing.scopes.len() > most {
        return Err("far more scopes than were asked for".to_owned());
    }
    for scope in &narrowing.scopes {
        for action in &scope.actions {
            if !(is_covered(scope, action, &request.granted) && is_covered(scope, action, &request.requested)) {
                return Err(format!("{}:{}:{action} was not both asked for and granted", scope.kind, scope.name));
            }
        }
    }
    narrowing.scopes.retain(|scope| !scope.actions.is_empty());
    Ok(())
}

/// What both allow.
pub(super) fn intersect(verdict: &Verdict, narrowing: &Narrowing) -> Verdict {
    match verdict {
        Verdict::Narrow { scopes, ttl_s } => {
            let both = narrowing.scopes.iter().chain(scopes);
            let mut scopes: Vec<Scope> = both.filter_map(|scope| keep(scope, &narrowing.scopes, scopes)).collect();
            scopes.sort_by(|a, b| (&a.kind, &a.name).cmp(&(&b.kind, &b.name)));
            scopes.dedup();
            Verdict::Narrow { scopes, ttl_s: narrowing.ttl_s.min(*ttl_s) }
        }
        Verdict::Pass | Verdict::Deny(_) => {
            Verdict::Narrow { scopes: narrowing.scopes.clone(), ttl_s: narrowing.ttl_s }
        }
    }
}

/// The scope with those of its actions that both lists cover.
fn keep(scope: &Scope, one: &[Scope], other: &[Scope]) -> Option<Scope> {
    let covered = |action: &&String| is_covered(scope, action, one) && is_covered(scope, action, other);
    let mut actions: Vec<String> = scope.actions.iter().filter(covered).cloned().collect();
    actions.sort();
    actions.dedup();
    (!actions.is_empty()).then(|| Scope { kind: scope.kind.clone(), name: scope.name.clone(), actions })
}

/// Whether some scope of the list allows this action on everything that the scope names.
fn is_covered(scope: &Scope, action: &str, list: &[Scope]) -> bool {
    list.iter().any(|wide| {
        wide.kind == scope.kind
            && wide.actions.iter().any(|allowed| allowed == action || (allowed == "*" && action != "*"))
            && covers_name(wide, scope)
    })
}

fn covers_name(wide: &Scope, scope: &Scope) -> bool {
    if wide.name == scope.name {
        return true;
    }
    if wide.kind != "repository" || !wide.name.contains('*') {
        return false;
    }
    let Ok(pattern) = RepositoryPattern::parse(&wide.name) else {
        return false;
    };
    if scope.name.contains('*') {
        RepositoryPattern::parse(&scope.name).is_ok_and(|inner| pattern.covers(&inner))
    } else {
        RepositoryName::parse(&scope.name).is_ok_and(|name| pattern.matches(&name))
    }
}

#[cfg(test)]
mod tests;
