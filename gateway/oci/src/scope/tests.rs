use super::*;
use proptest::prelude::*;

fn parse(parameters: &[&str]) -> Vec<String> {
    parse_all(parameters.iter().copied()).unwrap().iter().map(Scope::to_string).collect()
}

#[test]
fn scopes_are_read_from_repeated_parameters_and_from_one() {
    let expected = ["repository:acme/a:pull", "repository:acme/b:pull,push"];
    assert_eq!(parse(&["repository:acme/a:pull", "repository:acme/b:push,pull"]), expected);
    assert_eq!(parse(&["repository:acme/a:pull  repository:acme/b:push,pull "]), expected);
}

#[test]
fn equal_names_are_merged_where_they_first_stood() {
    let merged = parse(&[
        "repository:acme/a:pull repository:acme/b:pull registry:catalog:*",
        "repository:acme/a:push registry:catalog:*",
    ]);
    assert_eq!(merged, ["repository:acme/a:pull,push", "repository:acme/b:pull", "registry:catalog:*"]);
}

#[test]
fn a_star_is_every_action_and_a_class_changes_nothing() {
    assert_eq!(parse(&["repository:acme/a:*"]), ["repository:acme/a:pull,push,delete"]);
    assert_eq!(parse(&["repository(plugin):acme/a:pull"]), ["repository:acme/a:pull"]);
}

#[test]
fn patterns_are_scopes() {
    let scopes = parse_all(["repository:acme/**:pull"].into_iter()).unwrap();
    assert!(matches!(scopes.as_slice(), [Scope::Repository { name: ScopeName::Pattern(_), actions: Actions::PULL }]));
}

#[test]
fn what_gives_nothing_is_left_out() {
    let nothing = [
        "",
        ":",
        "::",
        "repository",
        "repository:acme/a",
        "repository:acme/a:",
        "repository:acme/a:fly",
        "repository:app:pull",
        "repository:ACME/a:pull",
        "repository:host:5000/acme/a:pull",
        "repository:*/a:pull",
        "repository:**:pull",
        "repository():acme/a:pull",
        "repository(plugin:acme/a:pull",
        "repository(plugin)x:acme/a:pull",
        "(repository):acme/a:pull",
        "Repository:acme/a:pull",
        "registry:catalog:pull",
        "registry:other:*",
        "artifact:acme/a:pull",
        "repository:acme/a%2fb:pull",
        "repository:acme/../b:pull",
        "repository:acme/a\t:pull",
    ];
    for text in nothing {
        assert_eq!(parse(&[text]), Vec::<String>::new(), "{text:?}");
    }
    assert_eq!(parse(&["repository:acme/a:fly,pull"]), ["repository:acme/a:pull"]);
}

#[test]
fn too_many_scopes_and_too_many_bytes_are_refused() {
    let most = "a:b:c ".repeat(MAX_SCOPES);
    assert_eq!(parse_all([most.as_str()].into_iter()), Ok(Vec::new()));
    assert_eq!(parse_all([most.as_str(), "a:b:c"].into_iter()), Err(ScopeError::TooMany));
    let longest = " ".repeat(MAX_SCOPE_BYTES);
    assert_eq!(parse_all([longest.as_str()].into_iter()), Ok(Vec::new()));
    assert_eq!(parse_all([longest.as_str(), "a"].into_iter()), Err(ScopeError::TooLong));
}

#[test]
fn actions_for_a_grant_are_known_or_refused() {
    assert_eq!(Actions::parse_strict("pull,push"), Some(Actions::PULL.union(Actions::PUSH)));
    assert_eq!(Actions::parse_strict("*"), Some(Actions::ALL));
    for text in ["", ",", "pull,", "pull, push", "Pull", "admin", "pull,fly"] {
        assert_eq!(Actions::parse_strict(text), None, "{text:?}");
    }
}

fn actions() -> impl Strategy<Value = Actions> {
    (0_u8..8).prop_map(Actions)
}

fn scopes() -> impl Strategy<Value = Scope> {
    let name =
        prop_oneof!["[a-c]{1,2}/[a-c]{1,3}(/[a-c]{1,2}){0,2}", "[a-c]{1,2}/[a-c]{1,2}\\*{1,2}(/[a-c]{1,2}){0,1}",];
    let repository = (name, (1_u8..8).prop_map(Actions))
        .prop_map(|(name, actions)| Scope::Repository { name: ScopeName::parse(&name).unwrap(), actions });
    prop_oneof![9 => repository, 1 => Just(Scope::Catalog)]
}

proptest! {
    #[test]
    fn actions_are_read_back_from_their_text(actions in actions()) {
        prop_assert_eq!(Actions::parse_lenient(&actions.to_string()), actions);
        prop_assert_eq!(Actions::parse_strict(&actions.to_string()), (!actions.is_empty()).then_some(actions));
    }

    #[test]
    fn actions_are_sets(a in actions(), b in actions()) {
        prop_assert!(a.union(b).contains(a) && a.union(b).contains(b));
        prop_assert!(a.contains(a.intersection(b)) && b.contains(a.intersection(b)));
        prop_assert_eq!(a.contains(b), a.union(b) == a);
        prop_assert_eq!(a.contains(b), a.intersection(b) == b);
        prop_assert!(Actions::ALL.contains(a) && a.contains(Actions::NONE));
    }

    #[test]
    fn a_scope_is_read_back_from_its_text(scope in scopes()) {
        prop_assert_eq!(Scope::parse(&scope.to_string()), Some(scope));
    }

    #[test]
    fn merging_loses_and_adds_nothing(scopes in prop::collection::vec(scopes(), 0..20)) {
        let text = scopes.iter().map(Scope::to_string).collect::<Vec<_>>().join(" ");
        let merged = parse_all([text.as_str()].into_iter()).unwrap();
        let union = |of: &[Scope], wanted: &ScopeName| {
            of.iter().fold(Actions::NONE, |sum, scope| match scope {
                Scope::Repository { name, actions } if name == wanted => sum.union(*actions),
                _ => sum,
            })
        };
        for scope in scopes.iter().chain(&merged) {
            match scope {
                Scope::Repository { name, .. } => prop_assert_eq!(union(&scopes, name), union(&merged, name)),
                Scope::Catalog => prop_assert!(scopes.contains(scope) && merged.contains(scope)),
            }
        }
        for (position, scope) in merged.iter().enumerate() {
            let again = merged[..position].iter().any(|earlier| match (earlier, scope) {
                (Scope::Repository { name: a, .. }, Scope::Repository { name: b, .. }) => a == b,
                (a, b) => a == b,
            });
            prop_assert!(!again, "{} twice", scope);
        }
    }

    #[test]
    fn any_text_is_read(text in any::<String>(), rest in "[a-z(): */,]{0,40}") {
        let _ = parse_all([text.as_str(), rest.as_str()].into_iter());
    }
}
