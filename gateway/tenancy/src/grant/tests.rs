use super::*;
use crate::memory::{MemoryStore, at, counting, living, ready};
use crate::robot::{self, NewRobot, Rights};
use portcullis_oci::RepositoryName;
use portcullis_oci::scope::parse_all;
use proptest::prelude::*;

/// The projects `acme`, `globex` and `open` (public), and robots in them.
struct House {
    store: MemoryStore,
    acme: Project,
    globex: Project,
    open: Project,
}

impl House {
    fn new() -> Self {
        let store = MemoryStore::default();
        let (acme, globex) = (living(&store, "acme"), living(&store, "globex"));
        let open = Project { public: true, ..living(&store, "open") };
        Self { store, acme, globex, open }
    }

    fn robot(&self, name: &str, rights: Rights) -> Robot {
        let new = NewRobot { name: name.into(), rights, expires_at: None, source_networks: Vec::new() };
        // Random bytes that differ from robot to robot, so that grants have ids of their own.
        let seed = name.bytes().fold(0_u8, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte));
        let count = counting();
        let random = move |bytes: &mut [u8]| {
            count(bytes);
            if let Some(first) = bytes.first_mut() {
                *first = seed;
            }
        };
        ready(robot::create(&self.store, &self.acme, new, at(0), &random)).unwrap().0
    }

    fn with_grants(&self, name: &str, grants: &[(&str, &str)]) -> Robot {
        let grants = grants
            .iter()
            .map(|(pattern, actions)| {
                (RepositoryPattern::parse(pattern).unwrap(), Actions::parse_strict(actions).unwrap())
            })
            .collect();
        self.robot(name, Rights::Grants(grants))
    }

    fn narrow(&self, asked: &str, robot: Option<&Robot>) -> String {
        let living = |name: &str| {
            let all = [&self.acme, &self.globex, &self.open];
            all.into_iter().find(|project| project.name.as_str() == name).map(|project| Arc::new(project.clone()))
        };
        text(&narrow(&scopes(asked), robot, &living))
    }
}

fn scopes(text: &str) -> Vec<Scope> {
    parse_all([text].into_iter()).unwrap()
}

fn text(scopes: &[Scope]) -> String {
    scopes.iter().map(Scope::to_string).collect::<Vec<_>>().join(" ")
}

fn accepted(mut robot: Robot) -> Robot {
    for grant in &mut robot.grants {
        grant.consent = Consent::Accepted;
    }
    robot
}

#[test]
fn the_table_of_actors_and_actions_holds_in_every_cell() {
    const YES: bool = true;
    const NO: bool = false;
    let house = House::new();
    let pull = house.robot("pull", Rights::Role(Role::Pull));
    let push = house.robot("push", Rights::Role(Role::Push));
    let admin = house.robot("admin", Rights::Role(Role::Admin));
    let pending = house.with_grants("pending", &[("globex/**", "*")]);
    let guest = accepted(house.with_grants("guest", &[("globex/**", "pull")]));
    let actions = [
        "repository:acme/app:pull",
        "repository:acme/app:push",
        "repository:acme/app:delete",
        "repository:globex/app:pull",
        "repository:globex/app:push",
        "repository:globex/app:delete",
        "repository:open/app:pull",
        "repository:open/app:push",
        "repository:open/app:delete",
        "repository:unknown/app:pull",
        "registry:catalog:*",
    ];
    #[rustfmt::skip]
    let table: [(&str, Option<&Robot>, [bool; 11]); 6] = [
        //                          own: pull push del | foreign: pull push del | public: pull push del | unknown | catalog
        ("anonymous", None,             [NO,  NO,  NO,            NO,  NO,  NO,           YES, NO,  NO,   NO,       NO]),
        ("pull",      Some(&pull),      [YES, NO,  NO,            NO,  NO,  NO,           YES, NO,  NO,   NO,       YES]),
        ("push",      Some(&push),      [YES, YES, NO,            NO,  NO,  NO,           YES, NO,  NO,   NO,       YES]),
        ("admin",     Some(&admin),     [YES, YES, YES,           NO,  NO,  NO,           YES, NO,  NO,   NO,       YES]),
        ("pending",   Some(&pending),   [NO,  NO,  NO,            NO,  NO,  NO,           YES, NO,  NO,   NO,       YES]),
        ("guest",     Some(&guest),     [NO,  NO,  NO,            YES, NO,  NO,           YES, NO,  NO,   NO,       YES]),
    ];
    for (actor, robot, cells) in table {
        for (action, allowed) in actions.into_iter().zip(cells) {
            let expected = if allowed { action } else { "" };
            assert_eq!(house.narrow(action, robot), expected, "{actor} × {action}");
        }
    }
}

#[test]
fn too_little_access_is_the_intersection_in_the_order_asked() {
    let house = House::new();
    let robot = house.with_grants("ci", &[("acme/app", "pull"), ("acme/app", "push"), ("acme/base-*", "pull")]);
    assert_eq!(
        house.narrow(
            "repository:acme/base-1:pull,push repository:acme/x:pull repository:acme/app:* registry:catalog:*",
            Some(&robot)
        ),
        "repository:acme/base-1:pull repository:acme/app:pull,push registry:catalog:*",
    );
    assert_eq!(house.narrow("", Some(&robot)), "");
}

#[test]
fn a_name_that_begins_like_the_project_is_another_projects() {
    let mut house = House::new();
    let robot = house.robot("ci", Rights::Role(Role::Admin));
    house.globex.name = crate::ProjectName::parse("acme-corp").unwrap();
    assert_eq!(house.narrow("repository:acme-corp/app:pull repository:acme-corp/**:pull", Some(&robot)), "");
}

#[test]
fn a_pattern_is_granted_only_where_a_grant_covers_it() {
    let house = House::new();
    let robot = house.with_grants("ci", &[("acme/team/**", "pull,push"), ("acme/team/app-*", "delete")]);
    assert_eq!(
        house.narrow("repository:acme/team/app-*:*", Some(&robot)),
        "repository:acme/team/app-*:pull,push,delete"
    );
    assert_eq!(house.narrow("repository:acme/team/**:*", Some(&robot)), "repository:acme/team/**:pull,push");
    assert_eq!(house.narrow("repository:acme/**:* repository:acme/*:pull", Some(&robot)), "");
    assert_eq!(house.narrow("repository:open/**:*", None), "repository:open/**:pull");
}

#[test]
fn a_name_asked_for_never_becomes_the_pattern_that_grants_it() {
    let house = House::new();
    let robot = house.robot("ci", Rights::Role(Role::Push));
    assert_eq!(house.narrow("repository:acme/app:pull", Some(&robot)), "repository:acme/app:pull");
}

#[test]
fn a_grant_does_not_pass_to_a_younger_project_of_the_same_name() {
    let mut house = House::new();
    let robot = accepted(house.with_grants("ci", &[("globex/**", "pull"), ("acme/**", "pull")]));
    house.globex.id = ProjectId("another".into());
    assert_eq!(
        house.narrow("repository:globex/app:pull repository:acme/app:pull", Some(&robot)),
        "repository:acme/app:pull"
    );
}

#[test]
fn a_deleted_public_project_gives_nothing() {
    let mut house = House::new();
    house.open.deleted_at = Some(at(0));
    assert_eq!(house.narrow("repository:open/app:pull", None), "");
}

#[test]
fn only_an_accepted_grant_counts() {
    let house = House::new();
    let mut robot = house.with_grants("ci", &[("globex/**", "pull")]);
    for (consent, granted) in
        [(Consent::Pending, ""), (Consent::Refused, ""), (Consent::Accepted, "repository:globex/app:pull")]
    {
        robot.grants[0].consent = consent;
        assert_eq!(house.narrow("repository:globex/app:pull", Some(&robot)), granted);
    }
}

#[test]
fn what_is_held_covers_what_is_required() {
    for (held, required) in [
        ("repository:a/b:pull", "repository:a/b:pull"),
        ("repository:a/b:pull,push", "repository:a/b:pull"),
        ("repository:a/**:pull repository:a/b:push", "repository:a/b:pull,push"),
        ("repository:a/**:pull", "repository:a/b/*:pull"),
        ("repository:a/b:pull repository:c/d:push", "repository:c/d:push repository:a/b:pull"),
        ("registry:catalog:*", "registry:catalog:*"),
        ("", ""),
    ] {
        assert!(covers(&scopes(held), &scopes(required)), "{held:?} {required:?}");
    }
}

#[test]
fn what_is_not_held_is_not_covered() {
    for (held, required) in [
        ("", "repository:a/b:pull"),
        ("", "registry:catalog:*"),
        ("registry:catalog:*", "repository:a/b:pull"),
        ("repository:a/b:pull", "registry:catalog:*"),
        ("repository:a/b:pull", "repository:a/b:push"),
        ("repository:a/b:pull", "repository:a/b:pull,push"),
        ("repository:a/b:pull", "repository:a/bc:pull"),
        ("repository:a/b:pull", "repository:a/b/c:pull"),
        ("repository:a/b:pull", "repository:a/*:pull"),
        ("repository:a/*:pull", "repository:a/**:pull"),
        ("repository:a/b:pull repository:c/d:push", "repository:a/b:push"),
        ("repository:a/b:pull", "repository:a/b:pull repository:c/d:pull"),
    ] {
        assert!(!covers(&scopes(held), &scopes(required)), "{held:?} {required:?}");
    }
    let nothing = Scope::Repository { name: ScopeName::parse("a/b").unwrap(), actions: Actions::NONE };
    assert!(!covers(&scopes("repository:a/b:*"), &[nothing]));
}

#[test]
fn consent_is_given_refused_and_taken_back() {
    let house = House::new();
    let robot = house.with_grants("ci", &[("globex/base", "pull")]);
    let id = &robot.grants[0].id;
    for (accept, consent) in
        [(true, Consent::Accepted), (true, Consent::Accepted), (false, Consent::Refused), (true, Consent::Accepted)]
    {
        let decided = ready(decide(&house.store, id, accept, at(1))).unwrap();
        assert_eq!(decided.grant.consent, consent);
        assert_eq!((decided.robot.as_str(), decided.project_name.as_str()), ("acme+ci", "globex"));
        let kept = ready(house.store.robot_named("acme", "ci")).unwrap().unwrap();
        assert_eq!(kept.grants[0].consent, consent);
    }
}

#[test]
fn a_robots_own_projects_grant_and_an_unknown_one_are_not_decided() {
    let house = House::new();
    let robot = house.with_grants("ci", &[("acme/app", "pull")]);
    let own = ready(decide(&house.store, &robot.grants[0].id, false, at(1)));
    assert!(matches!(own, Err(TenancyError::NotFound(_))));
    let kept = ready(house.store.robot_named("acme", "ci")).unwrap().unwrap();
    assert_eq!(kept.grants[0].consent, Consent::Accepted);
    let unknown = ready(decide(&house.store, "unknown", true, at(1)));
    assert!(matches!(unknown, Err(TenancyError::NotFound(_))));
}

const COMPONENTS: [&str; 4] = ["a", "ab", "b", "c"];

fn component() -> impl Strategy<Value = &'static str> {
    prop::sample::select(&COMPONENTS[..])
}

fn pattern() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(&["a", "ab", "b", "*", "**", "a*"][..]);
    (prop::sample::select(&["acme", "globex", "open"][..]), prop::collection::vec(piece, 1..3))
        .prop_map(|(project, pieces)| format!("{project}/{}", pieces.join("/")))
}

fn actions() -> impl Strategy<Value = Actions> {
    prop::sample::select(&["pull", "push", "delete", "pull,push", "*"][..])
        .prop_map(|text| Actions::parse_strict(text).unwrap())
}

fn every_repository() -> Vec<RepositoryName> {
    let mut names = Vec::new();
    for project in ["acme", "globex", "open", "unknown"] {
        for one in COMPONENTS {
            names.push(format!("{project}/{one}"));
            names.extend(COMPONENTS.iter().map(|two| format!("{project}/{one}/{two}")));
        }
    }
    names.iter().map(|name| RepositoryName::parse(name).unwrap()).collect()
}

#[test]
fn a_guest_is_whoever_the_project_has_granted_nothing() {
    let house = House::new();
    let own = house.robot("ci", Rights::Role(Role::Pull));
    assert!(!is_guest(Some(&own), &house.acme) && is_guest(None, &house.acme));
    assert!(is_guest(Some(&own), &house.open));
    let mut foreign = house.with_grants("deploy", &[("open/app", "pull")]);
    for (consent, guest) in [(Consent::Pending, true), (Consent::Accepted, false), (Consent::Refused, true)] {
        foreign.grants.iter_mut().for_each(|grant| grant.consent = consent);
        assert_eq!(is_guest(Some(&foreign), &house.open), guest, "{consent:?}");
        assert!(is_guest(Some(&foreign), &house.globex));
        // At home it is none, though it has a grant elsewhere alone.
        assert!(!is_guest(Some(&foreign), &house.acme));
    }
}

proptest! {
    #[test]
    fn what_is_narrowed_allows_nothing_that_was_not_both_asked_for_and_granted(
        grants in prop::collection::vec((pattern(), actions(), prop::sample::select(&[Consent::Pending, Consent::Accepted, Consent::Refused][..])), 1..5),
        asked_patterns in prop::collection::vec((pattern(), actions()), 0..4),
        asked_names in prop::collection::vec((component(), component(), actions()), 0..4),
    ) {
        let house = House::new();
        let patterns: Vec<(&str, &str)> = grants.iter().map(|(pattern, _, _)| (pattern.as_str(), "*")).collect();
        let mut robot = house.with_grants("ci", &patterns);
        for (grant, (_, actions, consent)) in robot.grants.iter_mut().zip(&grants) {
            (grant.actions, grant.consent) = (*actions, *consent);
        }
        let asked: Vec<Scope> = asked_patterns
            .iter()
            .map(|(pattern, actions)| (pattern.clone(), *actions))
            .chain(asked_names.iter().map(|(one, two, actions)| (format!("acme/{one}/{two}"), *actions)))
            .map(|(name, actions)| Scope::Repository { name: ScopeName::parse(&name).unwrap(), actions })
            .collect();
        let projects = |name: &str| {
            [&house.acme, &house.globex, &house.open].into_iter().find(|project| project.name.as_str() == name).cloned().map(Arc::new)
        };
        let narrowed = narrow(&asked, Some(&robot), &projects);
        for name in every_repository() {
            for action in [Actions::PULL, Actions::PUSH, Actions::DELETE] {
                let exactly = Scope::Repository { name: ScopeName::Repository(name.clone()), actions: action };
                if covers(&narrowed, std::slice::from_ref(&exactly)) {
                    let was_asked = covers(&asked, std::slice::from_ref(&exactly));
                    let granted = robot.grants.iter().any(|grant| {
                        grant.consent == Consent::Accepted && grant.pattern.matches(&name) && grant.actions.contains(action)
                    });
                    let public = name.project() == "open" && action == Actions::PULL;
                    prop_assert!(was_asked && (granted || public), "{name} {action}");
                }
            }
        }
        // And what was asked for by its own name is given in full wherever a grant gives it.
        for (one, two, actions) in asked_names {
            let name = RepositoryName::parse(&format!("acme/{one}/{two}")).unwrap();
            let given = robot.grants.iter().any(|grant| {
                grant.consent == Consent::Accepted && grant.pattern.matches(&name) && grant.actions.contains(actions)
            });
            let exactly = Scope::Repository { name: ScopeName::Repository(name), actions };
            prop_assert!(!given || covers(&narrowed, &[exactly]));
        }
    }
}
