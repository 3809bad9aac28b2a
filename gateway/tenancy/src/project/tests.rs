use super::*;
use crate::memory::{MemoryStore, at, counting, living, ready};
use proptest::prelude::*;

fn create_with(store: &MemoryStore, name: &str, prefix: Option<&str>) -> Result<Project, TenancyError> {
    let name = ProjectName::parse(name).unwrap();
    let new = NewProject { name, upstream_prefix: prefix.map(str::to_owned), public: false };
    ready(create(store, new, at(0), &counting()))
}

#[test]
fn a_project_name_is_one_component_of_at_most_64_bytes() {
    let longest = "a".repeat(64);
    for good in ["a", "acme", "acme-corp", "a.b_c__d--e", "0", &longest] {
        assert_eq!(ProjectName::parse(good).unwrap().as_str(), good);
    }
    let too_long = "a".repeat(65);
    for bad in ["", "a/b", "Acme", "-a", "a-", "a..b", "a___b", "a+b", "a b", "ä", "a\n", "*", "a*", &too_long] {
        assert!(matches!(ProjectName::parse(bad), Err(TenancyError::Invalid(_))), "{bad:?}");
    }
}

#[test]
fn a_project_stands_upstream_under_its_own_name_unless_told_otherwise() {
    let store = MemoryStore::default();
    assert_eq!(&*create_with(&store, "acme", None).unwrap().upstream_prefix, "acme");
    assert_eq!(&*create_with(&store, "globex", Some("tenants/globex")).unwrap().upstream_prefix, "tenants/globex");
}

#[test]
fn an_upstream_prefix_against_the_grammar_is_refused() {
    let store = MemoryStore::default();
    let too_long = "a/".repeat(64) + "a";
    for bad in ["", "/", "a/", "/a", "a//b", "a/../b", "A", "a b", "a/*", &too_long] {
        assert!(matches!(create_with(&store, "acme", Some(bad)), Err(TenancyError::Invalid(_))), "{bad:?}");
    }
}

#[test]
fn a_prefix_equal_to_above_or_below_another_is_refused_with_the_others_name() {
    let store = MemoryStore::default();
    create_with(&store, "acme", Some("tenants/acme")).unwrap();
    for overlapping in ["tenants/acme", "tenants", "tenants/acme/deep"] {
        let refusal = create_with(&store, "globex", Some(overlapping)).unwrap_err();
        assert!(matches!(&refusal, TenancyError::Conflict(why) if why.contains("`acme`")), "{refusal}");
    }
    create_with(&store, "globex", Some("tenants/acme-corp")).unwrap();
}

#[test]
fn a_name_is_taken_once_and_stays_reserved_after_its_project_was_deleted_until_it_is_purged() {
    let store = MemoryStore::default();
    create_with(&store, "acme", None).unwrap();
    let taken = create_with(&store, "acme", Some("elsewhere")).unwrap_err();
    assert!(matches!(&taken, TenancyError::Conflict(why) if why.contains("taken")), "{taken}");

    ready(delete(&store, "acme", at(1))).unwrap();
    let reserved = create_with(&store, "acme", Some("elsewhere")).unwrap_err();
    assert!(matches!(&reserved, TenancyError::Conflict(why) if why.contains("purge")), "{reserved}");
    let reserved = create_with(&store, "other", Some("acme/app")).unwrap_err();
    assert!(matches!(&reserved, TenancyError::Conflict(why) if why.contains("purge")), "{reserved}");

    ready(purge(&store, "acme")).unwrap();
    create_with(&store, "acme", None).unwrap();
}

#[test]
fn a_living_project_is_not_purged() {
    let store = MemoryStore::default();
    living(&store, "acme");
    assert!(matches!(ready(purge(&store, "acme")), Err(TenancyError::Conflict(_))));
    assert!(ready(find(&store, "acme")).is_ok());
}

#[test]
fn a_deleted_or_unknown_project_is_not_found() {
    let store = MemoryStore::default();
    living(&store, "acme");
    assert_eq!(ready(delete(&store, "acme", at(1))).unwrap().deleted_at, Some(at(1)));
    for name in ["acme", "globex"] {
        assert!(matches!(ready(find(&store, name)), Err(TenancyError::NotFound(_))));
        assert!(matches!(ready(delete(&store, name, at(2))), Err(TenancyError::NotFound(_))));
    }
    assert!(matches!(ready(purge(&store, "globex")), Err(TenancyError::NotFound(_))));
}

#[test]
fn names_are_mapped_to_the_upstream_and_back() {
    let store = MemoryStore::default();
    let acme = create_with(&store, "acme", Some("tenants/acme")).unwrap();
    let name = RepositoryName::parse("acme/game/server").unwrap();
    assert_eq!(acme.upstream_name(&name), "tenants/acme/game/server");
    assert_eq!(acme.public_name("tenants/acme/game/server"), Some(name));
}

#[test]
fn upstream_names_outside_the_prefix_have_no_public_name() {
    let acme = create_with(&MemoryStore::default(), "acme", Some("tenants/acme")).unwrap();
    for outside in [
        "",
        "tenants/acme",
        "tenants/acme/",
        "tenants/acme-corp/app",
        "tenants/acmeapp",
        "acme/app",
        "tenants/acme/../b",
        "tenants/acme/A",
    ] {
        assert_eq!(acme.public_name(outside), None, "{outside:?}");
    }
}

proptest! {
    #[test]
    fn every_public_name_survives_the_way_upstream_and_back(within in "[a-z0-9]{1,5}(/[a-z0-9]{1,5}){0,3}", prefix in "[a-z]{1,4}(/[a-z]{1,4}){0,2}") {
        let acme = create_with(&MemoryStore::default(), "acme", Some(&prefix)).unwrap();
        let name = RepositoryName::parse(&format!("acme/{within}")).unwrap();
        prop_assert_eq!(acme.public_name(&acme.upstream_name(&name)), Some(name));
    }

    #[test]
    fn prefixes_overlap_exactly_where_some_name_lies_under_both(one in "[ab]{1,2}(/[ab]{1,2}){0,2}", other in "[ab]{1,2}(/[ab]{1,2}){0,2}") {
        let under = |name: &str, prefix: &str| format!("{name}/").starts_with(&format!("{prefix}/"));
        prop_assert_eq!(prefixes_overlap(&one, &other), under(&one, &other) || under(&other, &one));
    }
}
