use super::{check, intersect};
use crate::evaluate::Verdict;
use crate::question::{Scope, TokenRequest};
use crate::verdict::Narrowing;

fn scope(name: &str, actions: &[&str]) -> Scope {
    let actions = actions.iter().map(|action| (*action).to_owned()).collect();
    Scope { kind: "repository".to_owned(), name: name.to_owned(), actions }
}

fn request() -> TokenRequest {
    TokenRequest {
        requested: vec![scope("acme/app", &["pull", "push", "delete"]), scope("acme/lib/*", &["*"])],
        granted: vec![
            scope("acme/app", &["pull", "push"]),
            scope("acme/**", &["pull"]),
            scope("acme/other", &["push"]),
        ],
        default_ttl_s: 300,
        max_ttl_s: 300,
        ..TokenRequest::default()
    }
}

fn checked(scopes: Vec<Scope>, ttl_s: u32) -> Result<(), String> {
    check(&mut Narrowing { scopes, ttl_s, ..Narrowing::default() }, &request(), 60)
}

#[test]
fn a_part_of_what_is_asked_for_and_granted_is_a_narrowing() {
    assert_eq!(checked(vec![], 300), Ok(()));
    assert_eq!(checked(vec![scope("acme/app", &["pull"])], 60), Ok(()));
    assert_eq!(checked(vec![scope("acme/app", &["pull", "push"])], 300), Ok(()));
    assert_eq!(checked(vec![scope("acme/lib/one", &["pull"]), scope("acme/lib/*", &["pull"])], 300), Ok(()));
}

#[test]
fn what_is_wider_is_refused() {
    assert!(checked(vec![scope("acme/app", &["delete"])], 300).is_err(), "asked for, not granted");
    assert!(checked(vec![scope("acme/other", &["push"])], 300).is_err(), "granted, not asked for");
    assert!(checked(vec![scope("acme/app", &["*"])], 300).is_err(), "all of them");
    assert!(checked(vec![scope("acme/lib/one", &["push"])], 300).is_err(), "by a pattern");
    assert!(checked(vec![scope("acme/**", &["pull"])], 300).is_err(), "a wider pattern");
    assert!(checked(vec![scope("globex/app", &["pull"])], 300).is_err(), "another's");
    let catalog = Scope { kind: "registry".to_owned(), ..scope("acme/app", &["pull"]) };
    assert!(checked(vec![catalog], 300).is_err(), "another kind");
}

#[test]
fn a_life_is_between_a_minute_and_the_default() {
    assert!(checked(vec![], 59).is_err());
    assert!(checked(vec![], 301).is_err());
    assert!(checked(vec![], u32::MAX).is_err());
}

#[test]
fn narrowings_intersect() {
    let narrowing = |scopes, ttl_s| Narrowing { scopes, ttl_s, ..Narrowing::default() };
    let first = intersect(&Verdict::Pass, &narrowing(vec![scope("acme/app", &["pull", "push"])], 300));
    let both = intersect(&first, &narrowing(vec![scope("acme/app", &["pull"]), scope("acme/lib", &["pull"])], 120));
    assert_eq!(both, Verdict::Narrow { scopes: vec![scope("acme/app", &["pull"])], ttl_s: 120 });
    let none = intersect(&both, &narrowing(vec![scope("acme/lib", &["pull"])], 200));
    assert_eq!(none, Verdict::Narrow { scopes: vec![], ttl_s: 120 });
}
