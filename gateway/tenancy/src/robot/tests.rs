use super::*;
use crate::credential::COMPARED;
use crate::memory::{MemoryStore, at, counting, living, ready};
use std::time::Duration;

const ANYWHERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

fn new_robot(name: &str) -> NewRobot {
    NewRobot { name: name.into(), rights: Rights::Role(Role::Push), expires_at: None, source_networks: Vec::new() }
}

fn made(new: NewRobot) -> (MemoryStore, Robot, Secret) {
    let store = MemoryStore::default();
    let acme = living(&store, "acme");
    let (robot, secret) = ready(create(&store, &acme, new, at(0), &counting())).unwrap();
    (store, robot, secret)
}

fn refused(new: NewRobot) -> TenancyError {
    let store = MemoryStore::default();
    let acme = living(&store, "acme");
    ready(create(&store, &acme, new, at(0), &counting())).unwrap_err()
}

fn pattern(text: &str) -> RepositoryPattern {
    RepositoryPattern::parse(text).unwrap()
}

fn networks(texts: &[&str]) -> Vec<IpNet> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn a_robot_logs_in_with_its_secret_and_uses_what_it_got() {
    let (_, robot, secret) = made(new_robot("ci"));
    assert_eq!(robot.username(), "acme+ci");
    let used = robot.check_login(&secret.hash(), ANYWHERE, at(1)).unwrap();
    assert_eq!(robot.check_use(&used.id, ANYWHERE, at(1)), Ok(()));
}

#[test]
fn a_wrong_secret_is_refused_and_tells_nothing_of_the_robots_state() {
    let (_, mut robot, _) = made(new_robot("ci"));
    let wrong = Secret::generate(&|bytes: &mut [u8]| bytes.fill(255)).hash();
    robot.disabled_at = Some(at(0));
    robot.expires_at = Some(at(0));
    robot.source_networks = networks(&["10.0.0.0/8"]);
    assert_eq!(robot.check_login(&wrong, ANYWHERE, at(1)).unwrap_err(), RobotRefusal::Secret);
    assert_eq!(robot.check_use("unknown", ANYWHERE, at(1)), Err(RobotRefusal::Secret));
}

#[test]
fn an_unknown_robot_is_refused_like_a_wrong_secret() {
    let (_, robot, secret) = made(new_robot("ci"));
    let (found, used) = check_login(Some(&robot), &secret.hash(), ANYWHERE, at(1)).unwrap();
    assert_eq!((&found.id, &used.id), (&robot.id, &robot.secrets[0].id));
    assert_eq!(check_login(None, &secret.hash(), ANYWHERE, at(1)).unwrap_err(), RobotRefusal::Secret);
    // Not even the hash that stands in for missing secrets opens anything.
    assert_eq!(check_login(None, &SecretHash([0; 32]), ANYWHERE, at(1)).unwrap_err(), RobotRefusal::Secret);
    assert_eq!(robot.check_login(&SecretHash([0; 32]), ANYWHERE, at(1)).unwrap_err(), RobotRefusal::Secret);
}

#[test]
fn a_refused_login_has_compared_as_often_whoever_the_name_is() {
    let (_, robot, secret) = made(new_robot("ci"));
    let mut rotated = robot.clone();
    rotated.secrets.extend(robot.secrets.clone());
    let bare = Robot { secrets: Vec::new(), ..robot.clone() };
    let wrong = Secret::generate(&|bytes: &mut [u8]| bytes.fill(255)).hash();
    let compared = |robot: Option<&Robot>, candidate: &SecretHash| {
        let before = COMPARED.get();
        let _ = check_login(robot, candidate, ANYWHERE, at(1));
        COMPARED.get() - before
    };
    for known in [&robot, &rotated, &bare] {
        assert_eq!(compared(Some(known), &wrong), compared(None, &wrong));
        assert_eq!(compared(Some(known), &secret.hash()), MAX_SECRETS);
    }
}

#[test]
fn a_disabled_robot_is_refused_at_login_and_at_use() {
    let (_, mut robot, secret) = made(new_robot("ci"));
    robot.disabled_at = Some(at(5));
    assert_eq!(robot.check_login(&secret.hash(), ANYWHERE, at(6)).unwrap_err(), RobotRefusal::Disabled);
    assert_eq!(robot.check_use(&robot.secrets[0].id, ANYWHERE, at(6)), Err(RobotRefusal::Disabled));
}

#[test]
fn a_robot_ends_on_the_second() {
    let (_, robot, secret) = made(NewRobot { expires_at: Some(at(10)), ..new_robot("ci") });
    assert!(robot.check_login(&secret.hash(), ANYWHERE, at(9)).is_ok());
    assert_eq!(robot.check_login(&secret.hash(), ANYWHERE, at(10)).unwrap_err(), RobotRefusal::Expired);
    assert_eq!(robot.check_use(&robot.secrets[0].id, ANYWHERE, at(10)), Err(RobotRefusal::Expired));
}

#[test]
fn a_robot_is_refused_from_outside_its_source_networks() {
    let listed = networks(&["10.0.0.0/8", "2001:db8::/32"]);
    let (_, robot, secret) = made(NewRobot { source_networks: listed, ..new_robot("ci") });
    for inside in ["10.1.2.3", "::ffff:10.1.2.3", "2001:db8::1"] {
        assert!(robot.check_login(&secret.hash(), address(inside), at(1)).is_ok(), "{inside}");
    }
    for outside in ["11.0.0.1", "::ffff:11.0.0.1", "2001:db9::1", "::10.1.2.3", "::1"] {
        let refusal = robot.check_use(&robot.secrets[0].id, address(outside), at(1));
        assert_eq!(refusal, Err(RobotRefusal::SourceNetwork), "{outside}");
    }
}

#[test]
fn networks_are_kept_as_they_are_compared() {
    let listed = networks(&["::ffff:10.9.8.7/104", "10.1.2.3/8", "2001:db8::1/32", "::/0"]);
    let (_, robot, _) = made(NewRobot { source_networks: listed, ..new_robot("ci") });
    assert_eq!(robot.source_networks, networks(&["10.0.0.0/8", "::/0", "2001:db8::/32"]));
}

#[test]
fn two_secrets_hold_during_the_grace_of_a_rotation_and_one_after_it() {
    let (store, robot, first) = made(new_robot("ci"));
    let random = |bytes: &mut [u8]| bytes.fill(99);
    let (robot, second) = ready(rotate(&store, &robot, Duration::from_secs(60), at(100), &random)).unwrap();
    assert_eq!(robot.secrets.len(), 2);
    assert!(robot.check_login(&first.hash(), ANYWHERE, at(159)).is_ok());
    assert!(robot.check_login(&second.hash(), ANYWHERE, at(159)).is_ok());
    assert_eq!(robot.check_login(&first.hash(), ANYWHERE, at(160)).unwrap_err(), RobotRefusal::Secret);
    assert_eq!(robot.check_use(&robot.secrets[1].id, ANYWHERE, at(160)), Err(RobotRefusal::Secret));
    assert!(robot.check_use(&robot.secrets[0].id, ANYWHERE, at(160)).is_ok());
}

#[test]
fn a_second_rotation_ends_the_oldest_secret_at_once() {
    let (store, robot, first) = made(new_robot("ci"));
    let day = Duration::from_secs(86_400);
    let (robot, second) = ready(rotate(&store, &robot, day, at(100), &|bytes: &mut [u8]| bytes.fill(98))).unwrap();
    let (robot, third) = ready(rotate(&store, &robot, day, at(101), &|bytes: &mut [u8]| bytes.fill(99))).unwrap();
    assert_eq!(robot.secrets.len(), MAX_SECRETS);
    assert_eq!(robot.check_login(&first.hash(), ANYWHERE, at(102)).unwrap_err(), RobotRefusal::Secret);
    assert!(robot.check_login(&second.hash(), ANYWHERE, at(102)).is_ok());
    assert!(robot.check_login(&third.hash(), ANYWHERE, at(102)).is_ok());
    let kept = ready(store.robot_named("acme", "ci")).unwrap().unwrap();
    assert_eq!(kept.secrets.len(), MAX_SECRETS, "the store has what the caller was told");
}

#[test]
fn a_rotation_without_grace_ends_the_current_secret_at_once() {
    let (store, robot, first) = made(new_robot("ci"));
    let (robot, _) =
        ready(rotate(&store, &robot, Duration::ZERO, at(100), &|bytes: &mut [u8]| bytes.fill(98))).unwrap();
    assert_eq!(robot.check_login(&first.hash(), ANYWHERE, at(100)).unwrap_err(), RobotRefusal::Secret);
}

#[test]
fn a_rotation_never_prolongs_a_secret_and_refuses_a_grace_beyond_time() {
    let (store, mut robot, first) = made(new_robot("ci"));
    robot.secrets[0].expires_at = Some(at(110));
    let random = |bytes: &mut [u8]| bytes.fill(98);
    let (rotated, _) = ready(rotate(&store, &robot, Duration::from_secs(60), at(100), &random)).unwrap();
    assert_eq!(rotated.check_login(&first.hash(), ANYWHERE, at(110)).unwrap_err(), RobotRefusal::Secret);
    let endless = ready(rotate(&store, &robot, Duration::MAX, at(100), &random));
    assert!(matches!(endless, Err(TenancyError::Invalid(_))));
}

#[test]
fn a_robot_is_disabled_enabled_and_deleted() {
    let (store, robot, secret) = made(new_robot("ci"));
    let kept = || ready(store.robot_named("acme", "ci")).unwrap();
    let disabled = ready(disable(&store, &robot, at(5))).unwrap();
    assert_eq!((disabled.disabled_at, kept().unwrap().disabled_at), (Some(at(5)), Some(at(5))));
    assert_eq!(ready(disable(&store, &disabled, at(6))).unwrap().disabled_at, Some(at(5)));
    let enabled = ready(enable(&store, &disabled)).unwrap();
    assert!(enabled.check_login(&secret.hash(), ANYWHERE, at(7)).is_ok());
    assert_eq!(kept().unwrap().disabled_at, None);
    ready(delete(&store, &robot)).unwrap();
    assert!(kept().is_none());
}

#[test]
fn a_robot_that_is_gone_is_neither_disabled_nor_enabled_nor_deleted() {
    let (_, robot, _) = made(new_robot("ci"));
    let empty = MemoryStore::default();
    assert!(matches!(ready(disable(&empty, &robot, at(1))), Err(TenancyError::NotFound(_))));
    assert!(matches!(ready(enable(&empty, &robot)), Err(TenancyError::NotFound(_))));
    assert!(matches!(ready(delete(&empty, &robot)), Err(TenancyError::NotFound(_))));
}

#[test]
fn a_robot_that_is_gone_is_not_rotated() {
    let (_, robot, _) = made(new_robot("ci"));
    let rotated = ready(rotate(&MemoryStore::default(), &robot, Duration::ZERO, at(1), &counting()));
    assert!(matches!(rotated, Err(TenancyError::NotFound(_))));
}

#[test]
fn login_names_are_split_in_both_forms() {
    assert_eq!(split_username("acme+ci"), Some(("acme", "ci")));
    assert_eq!(split_username("robot$acme+ci-2.x_y"), Some(("acme", "ci-2.x_y")));
    let too_long = format!("acme+{}", "a".repeat(65));
    for bad in [
        "",
        "acme",
        "+",
        "acme+",
        "+ci",
        "acme+ci+x",
        "robot$",
        "robot$robot$acme+ci",
        "acme/app+ci",
        "Acme+ci",
        "acme+c i",
        &too_long,
    ] {
        assert_eq!(split_username(bad), None, "{bad:?}");
    }
}

#[test]
fn a_robot_name_survives_a_shell() {
    for bad in ["", "-ci", "ci-", "a..b", "a.-b", "CI", "a b", "a$b", "a+b", "a/b", "ä", &"a".repeat(65)] {
        assert!(matches!(refused(new_robot(bad)), TenancyError::Invalid(_)), "{bad:?}");
    }
    for good in ["ci", "0", "a.b_c-d", &"a".repeat(64)] {
        assert_eq!(&*made(new_robot(good)).1.name, good);
    }
}

#[test]
fn a_name_is_given_to_one_robot_of_a_project() {
    let (store, robot, _) = made(new_robot("ci"));
    let acme = ready(project::find(&store, "acme")).unwrap();
    let again = ready(create(&store, &acme, new_robot("ci"), at(1), &counting()));
    assert!(matches!(again, Err(TenancyError::Conflict(_))));
    assert_eq!(ready(find(&store, &acme, "ci")).unwrap().id, robot.id);
    assert!(matches!(ready(find(&store, &acme, "other")), Err(TenancyError::NotFound(_))));
}

#[test]
fn a_robot_of_an_older_project_of_the_same_name_is_not_found() {
    let (store, _, _) = made(new_robot("ci"));
    let mut younger = ready(project::find(&store, "acme")).unwrap();
    younger.id = ProjectId("another".into());
    assert!(matches!(ready(find(&store, &younger, "ci")), Err(TenancyError::NotFound(_))));
}

#[test]
fn what_makes_no_sense_is_refused_when_a_robot_is_made() {
    let grants = |grants| NewRobot { rights: Rights::Grants(grants), ..new_robot("ci") };
    let one = (pattern("acme/**"), Actions::PULL);
    let too_many_networks = vec!["10.0.0.0/8".parse().unwrap(); MAX_SOURCE_NETWORKS + 1];
    for senseless in [
        NewRobot { expires_at: Some(at(0)), ..new_robot("ci") },
        NewRobot { source_networks: too_many_networks, ..new_robot("ci") },
        grants(vec![]),
        grants(vec![one.clone(); MAX_GRANTS + 1]),
        grants(vec![one.clone(), (pattern("acme/app"), Actions::NONE)]),
    ] {
        let refusal = refused(senseless);
        assert!(matches!(refusal, TenancyError::Invalid(_)), "{refusal}");
    }
    made(grants(vec![one; MAX_GRANTS]));
}

#[test]
fn a_role_is_one_grant_on_the_whole_project_with_its_consent() {
    for role in [Role::Pull, Role::Push, Role::Admin] {
        let (_, robot, _) = made(NewRobot { rights: Rights::Role(role), ..new_robot("ci") });
        assert_eq!(robot.role, Some(role));
        let [grant] = robot.grants.as_slice() else { panic!("one grant") };
        assert_eq!(
            (grant.pattern.as_str(), grant.actions, grant.consent),
            ("acme/**", role.actions(), Consent::Accepted)
        );
        assert_eq!(grant.project, robot.project);
    }
}

#[test]
fn a_grant_on_another_project_waits_for_that_projects_consent() {
    let store = MemoryStore::default();
    let acme = living(&store, "acme");
    let globex = living(&store, "globex");
    let rights = Rights::Grants(vec![(pattern("acme/app"), Actions::ALL), (pattern("globex/base/**"), Actions::PULL)]);
    let new = NewRobot { rights, ..new_robot("ci") };
    let (robot, _) = ready(create(&store, &acme, new, at(0), &counting())).unwrap();
    let got: Vec<_> = robot.grants.iter().map(|grant| (&grant.project, grant.consent)).collect();
    assert_eq!(got, [(&acme.id, Consent::Accepted), (&globex.id, Consent::Pending)]);
}

#[test]
fn a_grant_on_a_project_that_does_not_live_is_refused() {
    let store = MemoryStore::default();
    let acme = living(&store, "acme");
    living(&store, "gone");
    ready(project::delete(&store, "gone", at(0))).unwrap();
    for nowhere in ["unknown/**", "gone/**"] {
        let new = NewRobot { rights: Rights::Grants(vec![(pattern(nowhere), Actions::PULL)]), ..new_robot("ci") };
        let refusal = ready(create(&store, &acme, new, at(0), &counting()));
        assert!(matches!(refusal, Err(TenancyError::NotFound(_))), "{nowhere}");
    }
}

#[test]
fn debug_of_a_robot_shows_no_hash() {
    let (_, robot, secret) = made(new_robot("ci"));
    let shown = format!("{robot:?}");
    assert!(shown.contains("SecretHash(..)"));
    assert!(!shown.contains(secret.expose()));
    assert!(!shown.contains(&format!("{:?}", secret.hash().0)));
}
