#![allow(clippy::arithmetic_side_effects)] // these are tests

use super::*;
use portcullis_tenancy::Timestamp;
use portcullis_tenancy::audit::{Entry, Kind, Note};
use portcullis_tenancy::key::MasterKey;
use std::sync::atomic::{AtomicU8, Ordering};

fn keys() -> AuditKeys {
    AuditKeys::new(&MasterKey::new([1; 32]))
}

/// A chain of so many records, and the checkpoint at its end.
fn chain(node: &str, records: u8) -> (Vec<Entry>, Checkpoint) {
    let next = AtomicU8::new(1);
    let random = |bytes: &mut [u8]| bytes.fill(next.fetch_add(1, Ordering::Relaxed));
    let seal = |_| keys().seal(Note::new(Kind::Push, "acme+ci"), node, Timestamp::UNIX_EPOCH, &random);
    let (entries, head) = keys().chain(node, None, (0..records).map(seal).collect());
    let checkpoint = keys().checkpoint(node, head.count, head.link, Timestamp::UNIX_EPOCH, false);
    (entries, checkpoint)
}

fn lines(entries: &[Entry]) -> Vec<String> {
    entries.iter().map(Entry::to_json).collect()
}

fn verify(lines: &[String], nodes: &[&str], given: &[Checkpoint]) -> Findings {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("export");
    std::fs::write(&file, lines.join("\n")).unwrap();
    let nodes: Vec<Box<str>> = nodes.iter().map(|node| (*node).into()).collect();
    export::verify(&[file], &nodes, given, &keys().witness()).unwrap()
}

fn faults(findings: &Findings) -> Vec<(&str, u64, &Wrong)> {
    findings.faults.iter().map(|fault| (&*fault.node, fault.sequence, &fault.wrong)).collect()
}

#[test]
fn an_export_of_one_node_is_compared_with_checkpoints_of_all_where_it_is_named() {
    let ((of_a, signed_a), (_, signed_b)) = (chain("node-a", 3), chain("node-b", 2));
    let both = [signed_a, signed_b];
    let named = verify(&lines(&of_a), &["node-a"], &both);
    assert_eq!(faults(&named), []);
    assert_eq!(named.verified.iter().map(|one| (one.seen, one.checkpoints)).collect::<Vec<_>>(), [(3, 1)]);
    assert!(!named.answer(&keys().witness()).failed);
    let missing = verify(&lines(&of_a), &["node-a", "node-c"], &both);
    assert_eq!(faults(&missing), [("node-c", 1, &Wrong::Gone)]);
}

#[test]
fn an_export_that_lacks_a_whole_node_is_told_unless_nothing_happened_there() {
    let ((of_a, signed_a), (_, signed_b)) = (chain("node-a", 3), chain("node-b", 2));
    let both = [signed_a, signed_b.clone()];
    let lacking = verify(&lines(&of_a), &[], &both);
    assert_eq!(faults(&lacking), [("node-b", 1, &Wrong::Cut { of: 2 })]);
    let answer = lacking.answer(&keys().witness());
    assert!(answer.failed && answer.text.contains("--node") && answer.text.contains("Next: "), "{}", answer.text);
    let only = verify(&[], &[], &both[1..]);
    assert_eq!(faults(&only), [("node-b", 1, &Wrong::Cut { of: 2 })]);

    let with = |line: String| verify(&[lines(&of_a), vec![line]].concat(), &[], &both);
    assert_eq!(faults(&with(signed_b.to_json())), [], "its part is a checkpoint alone");
    let forged = Checkpoint { count: 9, ..signed_b };
    assert_eq!(faults(&with(forged.to_json())), [("node-b", 1, &Wrong::Cut { of: 2 })]);
}

#[test]
fn parts_of_several_nodes_are_told_apart_and_one_begins_behind_its_checkpoint() {
    let ((of_a, signed_a), (of_b, signed_b)) = (chain("node-a", 3), chain("node-b", 5));
    let early = chain("node-b", 2).1;
    let (a, b) = (lines(&of_a), lines(&of_b));
    let mixed = [&b[2..3], &a[..2], &b[3..], &a[2..]].concat();
    let given = [signed_a, signed_b, early];
    let found = verify(&mixed, &[], &given);
    assert_eq!(faults(&found), []);
    assert_eq!(found.verified.iter().map(|one| (one.count, one.seen)).collect::<Vec<_>>(), [(3, 3), (5, 3)]);
    let gap = [&b[2..3], &a[..], &b[4..]].concat();
    assert_eq!(faults(&verify(&gap, &[], &given)), [("node-b", 4, &Wrong::Gone)]);
}

#[test]
fn a_record_without_a_place_is_no_way_around_those_that_follow() {
    let (mut of_a, _) = chain("node-a", 3);
    of_a[1].record.actor = "somebody else".into();
    let mut first = of_a[0].clone();
    first.sequence = None;
    of_a.insert(0, first);
    let of_b = chain("node-b", 1).0;
    let found = verify(&[lines(&of_a), lines(&of_b)].concat(), &[], &[]);
    assert_eq!(faults(&found), [("node-a", 0, &Wrong::OutOfPlace)]);
}

#[test]
fn what_comes_before_the_first_checkpoint_is_not_whole_and_stands_in_order() {
    let of_b = chain("node-b", 7).0;
    let b = lines(&of_b);
    let check = |places: &[usize]| {
        let part: Vec<String> = places.iter().map(|place| b[place - 1].clone()).collect();
        verify(&part, &[], &[chain("node-b", 5).1])
    };
    let found = check(&[3, 4, 5, 6, 7]);
    assert_eq!(faults(&found), []);
    assert_eq!(found.verified.iter().map(|one| (one.count, one.seen)).collect::<Vec<_>>(), [(7, 2)]);
    let answer = found.answer(&keys().witness());
    assert!(answer.failed && answer.text.contains("NOT VERIFIED: node node-b: records 3 to 5"), "{}", answer.text);

    assert_eq!(faults(&check(&[3, 4, 5, 6, 4, 7])), [("node-b", 4, &Wrong::OutOfPlace)]);
    assert_eq!(faults(&check(&[3, 4, 5, 6, 7, 1])), [("node-b", 1, &Wrong::OutOfPlace)]);
    assert_eq!(faults(&check(&[3, 2, 3, 4, 5, 6, 7])), [("node-b", 2, &Wrong::OutOfPlace)]);
    assert_eq!(faults(&check(&[3, 5, 6, 7])), [("node-b", 4, &Wrong::Gone)]);
    assert_eq!(faults(&check(&[3, 4])), [("node-b", 5, &Wrong::Cut { of: 5 })]);
}

#[test]
fn a_node_that_nothing_vouches_for_is_not_whole_unless_it_is_left_out() {
    let (of_a, of_b) = (chain("node-a", 3).0, chain("node-b", 5).0);
    let both = [&lines(&of_a)[..], &lines(&of_b)[2..]].concat();
    let answer = verify(&both, &[], &[]).answer(&keys().witness());
    assert!(answer.failed && answer.text.contains("NOT VERIFIED: node node-b"), "{}", answer.text);
    assert_eq!(answer.json["whole"], false);
    assert!(!verify(&both, &["node-a"], &[]).answer(&keys().witness()).failed);
}

#[test]
fn a_line_that_is_too_long_is_named_and_the_others_are_verified() {
    let (of_a, of_b) = (chain("node-a", 3).0, chain("node-b", 2).0);
    let mut all = [lines(&of_a), lines(&of_b)].concat();
    let limit = usize::try_from(lines::MAX_LINE).unwrap();
    all[1] = "ä".repeat(limit);
    let found = verify(&all, &[], &[]);
    assert_eq!(faults(&found), [("node-a", 2, &Wrong::Gone)]);
    assert_eq!(found.verified.iter().map(|one| (&*one.node, one.seen)).collect::<Vec<_>>(), [("node-b", 2)]);
    all.splice(1..2, [lines(&of_a)[1].clone(), "x".repeat(limit)]);
    let found = verify(&all, &[], &[]);
    assert_eq!((found.faults.len(), found.verified.len()), (0, 2));
    let answer = found.answer(&keys().witness());
    assert!(answer.failed && answer.text.contains("line 3 is longer than"), "{}", answer.text);
}

#[test]
fn what_cannot_be_read_twice_is_refused() {
    let error = export::verify(&["/dev/null".into()], &[], &[], &keys().witness()).err().unwrap();
    assert!(error.to_string().contains("read twice"), "{error}");
}
