use super::super::tests::Scene;
use super::*;
use portcullis_tenancy::audit::AuditKeys;
use portcullis_tenancy::key::MasterKey;

const ONE: &str = "one";
const TWO: &str = "two";

fn keys(fill: u8) -> AuditKeys {
    AuditKeys::new(&MasterKey::new([fill; 32]))
}

/// Where a node's chain ends.
fn head(node: &str, count: u64) -> Head {
    keys(1).head(node, count, Link::first(node), None)
}

/// What the looks of one node at the others' chains come to, where it looked at them one after another: whose is not what it was.
fn looks(looks: &[&[Head]]) -> Vec<Option<(Box<str>, u64)>> {
    let mut others = Others::default();
    let see = |heads: &&[Head]| match others.see(heads.iter().cloned(), &keys(1).witness()) {
        Ok(()) => None,
        Err(AdvanceError::Broken { node, known }) => Some((node, known)),
        Err(error) => panic!("{error}"),
    };
    looks.iter().map(see).collect()
}

fn broken(node: &str, known: u64) -> Option<(Box<str>, u64)> {
    Some((node.into(), known))
}

#[test]
fn chains_that_stay_or_grow_or_are_new_are_what_they_were() {
    let seen = looks(&[&[], &[head(ONE, 1)], &[head(ONE, 1)], &[head(TWO, 7), head(ONE, 5)]]);
    assert_eq!(seen, [None, None, None, None]);
}

#[test]
fn a_chain_that_was_turned_back_is_told_of_until_it_is_where_it_was() {
    let seen = looks(&[&[head(ONE, 5)], &[head(ONE, 4)], &[head(ONE, 4)], &[head(ONE, 5)]]);
    assert_eq!(seen, [None, broken(ONE, 5), broken(ONE, 5), None]);
}

#[test]
fn a_chain_of_the_same_length_with_another_end_is_another_one() {
    let other = keys(1).head(ONE, 5, Link::first(TWO), None);
    assert_eq!(looks(&[&[head(ONE, 5)], &[other]]), [None, broken(ONE, 5)]);
}

#[test]
fn a_chain_that_is_not_there_any_more_is_told_of_though_the_others_go_on() {
    let seen = looks(&[&[head(ONE, 5), head(TWO, 1)], &[head(TWO, 2)], &[]]);
    assert_eq!(seen[..2], [None, broken(ONE, 5)]);
    assert!(seen[2].is_some());
}

#[test]
fn an_end_that_nobody_with_the_key_vouched_for_is_no_end_of_a_chain() {
    let forged = |count| keys(9).head(ONE, count, Link::first(ONE), None);
    let seen = looks(&[&[forged(3)], &[head(ONE, 1)], &[forged(2)]]);
    assert_eq!(seen, [broken(ONE, 3), None, broken(ONE, 1)]);
}

#[test]
fn a_chain_that_was_turned_back_hides_no_other_one() {
    let seen = looks(&[&[head(ONE, 5)], &[head(ONE, 4), head(TWO, 8)], &[head(ONE, 5), head(TWO, 7)]]);
    assert_eq!(seen, [None, broken(ONE, 5), broken(TWO, 8)]);
}

#[tokio::test]
async fn what_failed_of_others_is_tried_again_a_minute_later_and_no_sooner() {
    const GONE: &str = "gone";
    let scene = Scene::new(|_, config| config.keep_days = 1).await;
    let away = scene.away().await;
    scene.old_record(GONE).await;
    let mut others = Others::default();
    others.look(Room { store: &away, ..scene.room() }).await;
    assert!(others.failed.iter().all(Option::is_some), "{:?}", others.failed);

    others.look(scene.room()).await;
    assert!(others.is_well().is_err());
    assert_eq!(scene.waiting(GONE).await, 1);
    for at in [&mut others.looked_at, &mut others.forgot_at] {
        *at = at.and_then(|at| at.checked_sub(Duration::from_secs(60)));
    }
    others.look(scene.room()).await;
    others.is_well().unwrap();
    assert_eq!(scene.waiting(GONE).await, 0);
    assert_eq!(scene.sql.chained_records(GONE, 0, 10).await.unwrap(), [], "it was old, and is forgotten");
}
