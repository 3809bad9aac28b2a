use super::*;
use proptest::prelude::*;

fn pattern(text: &str) -> RepositoryPattern {
    RepositoryPattern::parse(text).unwrap()
}

fn name(text: &str) -> RepositoryName {
    RepositoryName::parse(text).unwrap()
}

#[test]
fn a_wildcard_stays_in_its_component_and_two_do_not() {
    assert!(pattern("acme/*").matches(&name("acme/app")));
    assert!(!pattern("acme/*").matches(&name("acme/app/web")));
    assert!(pattern("acme/**").matches(&name("acme/app/web")));
    assert!(pattern("acme/app-*").matches(&name("acme/app-1")));
    assert!(!pattern("acme/app-*").matches(&name("acme/app")));
    assert!(pattern("acme/*/web").matches(&name("acme/app/web")));
    assert!(!pattern("acme/*/web").matches(&name("acme/a/b/web")));
    assert!(pattern("acme/**/web").matches(&name("acme/a/b/web")));
    assert!(pattern("acme/a*b*c").matches(&name("acme/abbcbc")));
    assert!(!pattern("acme/a*b*c").matches(&name("acme/ab/bc")));
    assert!(pattern("acme/app").matches(&name("acme/app")));
    assert!(!pattern("acme/app").matches(&name("acme/app/web")));
}

#[test]
fn no_pattern_reaches_into_another_project() {
    for text in ["acme/**", "acme/*", "acme/**x**"] {
        assert!(!pattern(text).matches(&name("acme-corp/xxx")), "{text}");
        assert!(!pattern(text).matches(&name("acm/exxx")), "{text}");
    }
}

#[test]
fn patterns_without_a_literal_project_or_without_a_name_to_match_are_refused() {
    let refused = [
        "",
        "*",
        "**",
        "acme",
        "acme*",
        "acme/",
        "/acme",
        "*/app",
        "acme*/app",
        "**/app",
        "acme/***",
        "acme//**",
        "acme/../*",
        "acme/*/",
        "acme/_*",
        "acme/*-",
        "acme/A*",
        "acme/a?",
        "acme/[a]",
        "acme/a*b*c*d*e*f*g*h*i*j",
        "Acme/**",
    ];
    for text in refused {
        assert_eq!(RepositoryPattern::parse(text), Err(PatternError), "{text:?}");
    }
    assert!(RepositoryPattern::parse("acme/a*b*c*d*e*f*g*h*i").is_ok());
    assert!(RepositoryPattern::parse(&format!("acme/{}*", "a".repeat(249))).is_ok());
    assert!(RepositoryPattern::parse(&format!("acme/{}*", "a".repeat(250))).is_err());
}

#[test]
fn a_pattern_covers_what_is_narrower() {
    for (wide, narrow) in [
        ("acme/**", "acme/**"),
        ("acme/**", "acme/*"),
        ("acme/**", "acme/app"),
        ("acme/**", "acme/*/web-**"),
        ("acme/a*", "acme/a*b"),
        ("acme/*", "acme/app-*"),
        ("acme/**b", "acme/a*b"),
    ] {
        assert!(pattern(wide).covers(&pattern(narrow)), "{wide} {narrow}");
    }
    for (narrow, wide) in [
        ("acme/*", "acme/**"),
        ("acme/app", "acme/*"),
        ("acme/app", "acme/app/web"),
        ("acme/*", "acme/*/*"),
        ("acme/**", "acme-corp/**"),
        ("acme/a*b", "acme/a*"),
    ] {
        assert!(!pattern(narrow).covers(&pattern(wide)), "{narrow} {wide}");
    }
}

#[test]
fn a_project_s_own_pattern_is_one_that_parses() {
    assert_eq!(pattern("acme/**"), RepositoryPattern::whole_project("acme"));
    assert_eq!(pattern("acme/**").project(), "acme");
}

/// What a pattern means, written down as its definition.
fn matches_by_definition(pattern: &[u8], name: &[u8]) -> bool {
    match pattern {
        [] => name.is_empty(),
        [b'*', b'*', rest @ ..] => (0..=name.len()).any(|run| matches_by_definition(rest, &name[run..])),
        [b'*', rest @ ..] => (0..=name.len())
            .take_while(|run| !name[..*run].contains(&b'/'))
            .any(|run| matches_by_definition(rest, &name[run..])),
        [byte, rest @ ..] => name.first() == Some(byte) && matches_by_definition(rest, &name[1..]),
    }
}

fn patterns() -> impl Strategy<Value = RepositoryPattern> {
    "p/[ab*/]{1,7}".prop_filter_map("a pattern", |text| RepositoryPattern::parse(&text).ok())
}

fn names() -> impl Strategy<Value = RepositoryName> {
    "p/[ab]{1,3}(/[ab]{1,3}){0,2}".prop_map(|text| name(&text))
}

/// Every text of one to `most` of the characters.
fn texts(characters: &[char], most: usize) -> Vec<String> {
    let longer = |text: &String| characters.iter().map(|c| format!("{text}{c}")).collect::<Vec<_>>();
    let mut lengths = vec![vec![String::new()]];
    for _ in 0..most {
        lengths.push(lengths[lengths.len().saturating_sub(1)].iter().flat_map(longer).collect());
    }
    lengths.concat()
}

#[test]
fn what_a_covered_pattern_matches_is_matched() {
    let patterns: Vec<_> = texts(&['a', 'b', '*', '/'], 4)
        .iter()
        .filter_map(|text| RepositoryPattern::parse(&format!("p/{text}")).ok())
        .collect();
    let names: Vec<_> =
        texts(&['a', 'b', '/'], 5).iter().filter_map(|text| RepositoryName::parse(&format!("p/{text}")).ok()).collect();
    let mut proper = 0;
    for wide in &patterns {
        assert!(wide.covers(wide));
        for narrow in patterns.iter().filter(|narrow| wide.covers(narrow)) {
            proper += usize::from(wide != narrow);
            for name in names.iter().filter(|name| narrow.matches(name)) {
                assert!(wide.matches(name), "{wide} {narrow} {name}");
            }
        }
    }
    assert!(proper > 100, "{proper}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn matching_is_its_definition(pattern in patterns(), name in names()) {
        let expected = matches_by_definition(pattern.as_str().as_bytes(), name.as_str().as_bytes());
        prop_assert_eq!(pattern.matches(&name), expected);
    }

    #[test]
    fn covering_a_plain_name_is_matching_it(pattern in patterns(), name in names()) {
        let plain = RepositoryPattern::parse(name.as_str()).unwrap();
        prop_assert_eq!(pattern.covers(&plain), pattern.matches(&name));
    }

    #[test]
    fn any_text_is_taken_or_refused(text in "[a-z*/._-]{0,20}") {
        if let Ok(pattern) = RepositoryPattern::parse(&text) {
            prop_assert!(!pattern.project().contains('*'));
            prop_assert!(crate::name::is_path(pattern.project()));
        }
    }
}
