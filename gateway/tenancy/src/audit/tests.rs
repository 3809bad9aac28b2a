#![allow(clippy::arithmetic_side_effects)] // these are tests

use super::*;
use crate::key::MasterKey;
use crate::memory::{at, counting};
use proptest::prelude::*;

const NODE: &str = "node-a";

fn keys(fill: u8) -> AuditKeys {
    AuditKeys::new(&MasterKey::new([fill; 32]))
}

fn note(number: usize) -> Note {
    let kind = Kind::ALL[number % Kind::ALL.len()];
    let note = Note::new(kind, &format!("acme+robot-{}", number % 3)).project("acme").reference(&number.to_string());
    if number.is_multiple_of(2) { note.from("192.0.2.7".parse().unwrap()).because("why not") } else { note }
}

/// A chain of so many records, chained in lots of up to seven.
fn chain(keys: &AuditKeys, records: usize) -> (Vec<Entry>, Head) {
    let next = std::sync::atomic::AtomicU64::new(1);
    let random = |bytes: &mut [u8]| {
        let number = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed).to_be_bytes();
        bytes.fill(0);
        bytes[..8].copy_from_slice(&number);
    };
    let numbers: Vec<usize> = (0..records).collect();
    let (mut all, mut head) = (Vec::new(), None);
    for lot in numbers.chunks(7) {
        let waiting = lot.iter().map(|n| keys.seal(note(*n), NODE, at(i64::try_from(*n).unwrap()), &random)).collect();
        let (chained, after) = keys.chain(NODE, head.as_ref(), waiting);
        all.extend(chained);
        head = Some(after);
    }
    let head = head.unwrap_or_else(|| keys.head(NODE, 0, Link::first(NODE), None));
    (all, head)
}

fn checkpoint_at(keys: &AuditKeys, entries: &[Entry], count: usize) -> Checkpoint {
    let link = entries[..count]
        .iter()
        .fold(Link::first(NODE), |link, entry| link.then(entry.sequence.unwrap(), &entry.record));
    keys.checkpoint(NODE, u64::try_from(count).unwrap(), link, at(900), false)
}

fn place(index: usize) -> u64 {
    u64::try_from(index).unwrap() + 1
}

/// One field of a record is another.
fn alter(entry: &mut Entry, field: usize) {
    let record = &mut entry.record;
    let other = |text: &mut Option<Box<str>>| *text = if text.is_some() { None } else { Some("other".into()) };
    match field % 15 {
        0 => record.id = "other".into(),
        1 => record.node = "other".into(),
        2 => record.at = record.at.checked_add(std::time::Duration::from_millis(1)).unwrap(),
        3 => record.kind = "other".into(),
        4 => record.actor = "other".into(),
        5 => other(&mut record.address),
        6 => other(&mut record.project),
        7 => other(&mut record.repository),
        8 => other(&mut record.reference),
        9 => other(&mut record.digest),
        10 => record.outcome = "other".into(),
        11 => other(&mut record.reason),
        12 => other(&mut record.request_id),
        13 => record.times += 1,
        _ => entry.mac = Link::first("other").text().into(),
    }
}

#[test]
fn every_kind_has_a_name_of_its_own() {
    let names: std::collections::HashSet<_> = Kind::ALL.iter().map(|kind| kind.name()).collect();
    assert_eq!(names.len(), Kind::ALL.len());
    for kind in Kind::ALL {
        assert_eq!(Kind::parse(kind.name()), Some(*kind));
    }
    assert_eq!(Kind::parse("push "), None);
}

#[test]
fn untrusted_text_is_bounded_and_steers_nothing() {
    assert_eq!(
        &*clean("a\u{1b}[2J\u{202e}\0\r\nb\u{200f}\u{2066}"),
        "a\u{fffd}[2J\u{fffd}\u{fffd}\u{fffd}\u{fffd}b\u{fffd}\u{fffd}"
    );
    let long = clean(&"ä".repeat(5000));
    assert_eq!(long.chars().count(), MAX_TEXT + 1);
    assert!(long.ends_with('…'));
}

#[test]
fn texts_cannot_be_moved_from_one_field_into_the_next() {
    let keys = keys(1);
    let record = |reference: &str, digest: &str| {
        let note = Note::new(Kind::Push, "a").reference(reference).digest(digest);
        keys.seal(note, NODE, at(0), &counting()).record
    };
    assert_ne!(record("ab", "c").canonical(), record("a", "bc").canonical());
    let mut none = record("", "");
    let empty = none.canonical();
    none.digest = None;
    assert_ne!(none.canonical(), empty);
}

#[test]
fn a_chain_as_it_was_written_is_verified_with_its_checkpoints() {
    let keys = keys(1);
    for records in [0, 1, 7, 20] {
        let (entries, head) = chain(&keys, records);
        let checkpoints = [checkpoint_at(&keys, &entries, 0), checkpoint_at(&keys, &entries, records)];
        let verified = verify(&keys.witness(), &head, entries, &checkpoints).unwrap();
        let count = u64::try_from(records).unwrap();
        assert_eq!((verified.count, verified.seen, verified.checkpoints), (count, count, 2));
    }
}

#[test]
fn a_record_that_was_changed_while_it_waited_is_found_later() {
    let keys = keys(1);
    let mut waiting: Vec<Entry> = (0..3).map(|n| keys.seal(note(n), NODE, at(0), &counting())).collect();
    assert!(waiting.iter().all(|entry| keys.witness().has_sealed(entry)));
    waiting[1].record.actor = "somebody else".into();
    assert!(!keys.witness().has_sealed(&waiting[1]));
    let (chained, head) = keys.chain(NODE, None, waiting);
    let fault = verify(&keys.witness(), &head, chained, &[]).unwrap_err();
    assert_eq!((fault.sequence, fault.wrong), (2, Wrong::Changed));
}

#[test]
fn a_seal_of_a_waiting_record_is_none_of_a_place() {
    let keys = keys(1);
    let entry = keys.seal(note(1), NODE, at(0), &counting());
    let link = Link::first(NODE).then(1, &entry.record);
    assert!(!keys.witness().has_linked(link, &entry.mac));
}

#[test]
fn a_cut_tail_is_found_even_where_the_head_was_turned_back() {
    let keys = keys(1);
    let (mut entries, head) = chain(&keys, 12);
    entries.truncate(9);
    let cut = verify(&keys.witness(), &head, entries.clone(), &[]).unwrap_err();
    assert_eq!((cut.sequence, cut.wrong), (10, Wrong::Cut { of: 12 }));
    // Whoever has the store can compute the link, but not the seal.
    let link = checkpoint_at(&keys, &entries, 9).link;
    let turned = Head { count: 9, link, ..head };
    assert_eq!(verify(&keys.witness(), &turned, entries, &[]).unwrap_err().wrong, Wrong::Head);
}

#[test]
fn an_old_head_put_back_with_its_records_is_found_by_a_checkpoint_alone() {
    let keys = keys(1);
    let (entries, _) = chain(&keys, 14);
    let (old, old_head) = chain(&keys, 7);
    assert!(verify(&keys.witness(), &old_head, old.clone(), &[]).is_ok());
    let fault = verify(&keys.witness(), &old_head, old, &[checkpoint_at(&keys, &entries, 10)]).unwrap_err();
    assert_eq!((fault.sequence, fault.wrong), (8, Wrong::Cut { of: 10 }));
}

#[test]
fn a_checkpoint_of_somebody_else_or_a_changed_one_is_refused() {
    let (own, foreign) = (keys(1), keys(2));
    let (entries, head) = chain(&own, 5);
    let check = |checkpoint: Checkpoint| verify(&own.witness(), &head, entries.clone(), &[checkpoint]).unwrap_err();
    assert_eq!(check(checkpoint_at(&foreign, &entries, 3)).wrong, Wrong::Checkpoint);
    let mut changed = checkpoint_at(&own, &entries, 3);
    changed.count = 2;
    assert_eq!(check(changed).wrong, Wrong::Checkpoint);
}

#[test]
fn records_are_forgotten_behind_a_base_and_behind_nothing_else() {
    let keys = keys(1);
    let (entries, head) = chain(&keys, 10);
    let link = checkpoint_at(&keys, &entries, 4).link;
    let base = keys.checkpoint(NODE, 4, link, at(950), true);
    let kept: Vec<Entry> = entries[4..].to_vec();
    let with = |base: Option<Checkpoint>| Head { base, ..head.clone() };
    let checkpoints = [checkpoint_at(&keys, &entries, 2), checkpoint_at(&keys, &entries, 6)];
    let verified = verify(&keys.witness(), &with(Some(base.clone())), kept.clone(), &checkpoints).unwrap();
    assert_eq!((verified.count, verified.seen, verified.checkpoints, verified.older), (10, 6, 1, 1));

    // An exported checkpoint does not allow it, nor does one that is made up or of another node.
    let exported = checkpoint_at(&keys, &entries, 4);
    let forged = Checkpoint { is_base: true, ..exported.clone() };
    let of_another = Checkpoint { node: "node-b".into(), ..base };
    for wrong in [exported, forged, of_another] {
        let fault = verify(&keys.witness(), &with(Some(wrong)), kept.clone(), &[]).unwrap_err();
        assert_eq!(fault.wrong, Wrong::Base);
    }
    assert_eq!(verify(&keys.witness(), &with(None), kept, &[]).unwrap_err().wrong, Wrong::Gone);
}

#[test]
fn lines_of_an_export_come_back_as_they_were() {
    let keys = keys(1);
    let (entries, _) = chain(&keys, 3);
    for entry in &entries {
        assert_eq!(Line::parse(&entry.to_json()), Ok(Line::Entry(Box::new(entry.clone()))));
    }
    let checkpoint = checkpoint_at(&keys, &entries, 2);
    assert_eq!(Line::parse(&checkpoint.to_json()), Ok(Line::Checkpoint(checkpoint.clone())));
    assert_eq!(Checkpoint::parse(&checkpoint.to_json()), Ok(checkpoint));
    for nonsense in ["", "{}", "[]", "{\"type\":\"record\"}", "{\"type\":\"x\"}"] {
        assert!(Line::parse(nonsense).is_err(), "{nonsense}");
    }
}

#[test]
fn with_the_public_key_alone_an_export_is_compared_with_its_checkpoints() {
    let keys = keys(1);
    let (mut entries, _) = chain(&keys, 8);
    let checkpoints = [checkpoint_at(&keys, &entries, 5)];
    let public = Witness::of_public_key(&keys.public_key()).unwrap();
    let check = |entries: &[Entry]| {
        let mut verifier = Verifier::new(&public, NODE, None, &checkpoints)?;
        entries.iter().try_for_each(|entry| verifier.take(entry))?;
        verifier.end(None)
    };
    assert_eq!(check(&entries).unwrap().checkpoints, 1);
    entries[2].record.actor = "somebody else".into();
    assert!(matches!(check(&entries).unwrap_err().wrong, Wrong::Rewritten { .. }));
    assert!(Witness::of_public_key("short").is_err());
}

/// What somebody does to a chain who holds the store and not the key.
#[derive(Clone, Debug)]
enum Tampering {
    Alter { index: usize, field: usize },
    Remove { index: usize },
    RemoveAndRenumber { index: usize },
    Swap { one: usize, other: usize },
    SwapPlaces { one: usize, other: usize },
    Repeat { index: usize },
    Insert { index: usize },
    Truncate { left: usize },
    TruncateAndTurnBack { left: usize },
    Rewrite,
}

fn tampering() -> impl Strategy<Value = Tampering> {
    let any = any::<usize>;
    prop_oneof![
        (any(), any()).prop_map(|(index, field)| Tampering::Alter { index, field }),
        any().prop_map(|index| Tampering::Remove { index }),
        any().prop_map(|index| Tampering::RemoveAndRenumber { index }),
        (any(), any()).prop_map(|(one, other)| Tampering::Swap { one, other }),
        (any(), any()).prop_map(|(one, other)| Tampering::SwapPlaces { one, other }),
        any().prop_map(|index| Tampering::Repeat { index }),
        any().prop_map(|index| Tampering::Insert { index }),
        any().prop_map(|left| Tampering::Truncate { left }),
        any().prop_map(|left| Tampering::TruncateAndTurnBack { left }),
        Just(Tampering::Rewrite),
    ]
}

/// Does it; returns the first record at which something is wrong, where that is one.
fn tamper(tampering: Tampering, entries: &mut Vec<Entry>, head: &mut Head) -> Option<u64> {
    let length = entries.len();
    let first = match tampering {
        Tampering::Alter { index, field } => {
            alter(&mut entries[index % length], field);
            index % length
        }
        Tampering::Remove { index } => {
            entries.remove(index % length);
            index % length
        }
        Tampering::RemoveAndRenumber { index } => {
            entries.remove(index % length);
            renumber(&mut entries[index % length..], |sequence| sequence - 1);
            index % length
        }
        Tampering::Swap { one, other } => {
            let (one, other) = two_of(length, one, other);
            entries.swap(one, other);
            // What is read out of order is read again where it belongs.
            one.min(other)
        }
        Tampering::SwapPlaces { one, other } => swap_places(entries, two_of(length, one, other)),
        Tampering::Repeat { index } => {
            let again = entries[index % length].clone();
            entries.insert(index % length, again);
            index % length
        }
        Tampering::Insert { index } => put_in(entries, index % (length + 1)),
        Tampering::Truncate { left } => {
            entries.truncate(left % length);
            left % length
        }
        Tampering::TruncateAndTurnBack { left } => {
            entries.truncate(left % length);
            head.count = u64::try_from(entries.len()).unwrap();
            head.link = checkpoint_at(&keys(9), entries, entries.len()).link;
            return None;
        }
        Tampering::Rewrite => {
            (*entries, *head) = chain(&keys(9), length);
            0
        }
    };
    Some(place(first))
}

/// Two that are not the same.
fn two_of(length: usize, one: usize, other: usize) -> (usize, usize) {
    let (one, other) = (one % length, other % length);
    (one, if other == one { (other + 1) % length } else { other })
}

fn renumber(entries: &mut [Entry], new: impl Fn(u64) -> u64) {
    for entry in entries {
        entry.sequence = entry.sequence.map(&new);
    }
}

fn swap_places(entries: &mut [Entry], (one, other): (usize, usize)) -> usize {
    let (first, second) = (entries[one].sequence, entries[other].sequence);
    entries[one].sequence = second;
    entries[other].sequence = first;
    entries.sort_by_key(|entry| entry.sequence);
    one.min(other)
}

/// A record sealed with a key of his own.
fn put_in(entries: &mut Vec<Entry>, index: usize) -> usize {
    let strange = keys(9).seal(note(3), NODE, at(1), &counting());
    let (mut strange, _) = keys(9).chain(NODE, None, vec![strange]);
    strange[0].sequence = Some(place(index));
    renumber(&mut entries[index..], |sequence| sequence + 1);
    entries.insert(index, strange.remove(0));
    index
}

proptest! {
    #[test]
    fn whoever_has_the_store_and_not_the_key_is_always_caught(records in 2_usize..40, tampering in tampering()) {
        let own = keys(1);
        let (mut entries, mut head) = chain(&own, records);
        prop_assert!(verify(&own.witness(), &head, entries.clone(), &[]).is_ok());
        let first = tamper(tampering.clone(), &mut entries, &mut head);
        let fault = verify(&own.witness(), &head, entries, &[]).unwrap_err();
        match (&tampering, first) {
            // The one that was repeated is as right as its copy: the copy is what is out of place.
            (_, Some(first)) => prop_assert_eq!(fault.sequence, first, "{:?}", fault),
            (_, None) => prop_assert_eq!(fault.wrong, Wrong::Head),
        }
    }

    #[test]
    fn whoever_has_the_key_too_is_caught_by_an_earlier_checkpoint(
        records in 2_usize..40, signed in any::<usize>(), tampering in tampering(),
    ) {
        let own = keys(1);
        let (mut entries, mut head) = chain(&own, records);
        let signed = 1 + signed % records;
        let checkpoint = checkpoint_at(&own, &entries, signed);
        let before: Vec<Record> = entries.iter().map(|entry| entry.record.clone()).collect();
        tamper(tampering, &mut entries, &mut head);
        // He gives all places and seals anew.
        let waiting = entries.into_iter().map(|entry| {
            let mut record = entry.record;
            record.node = NODE.into();
            Entry { sequence: None, record, mac: Box::default() }
        });
        let (anew, new_head) = rewrite(&own, waiting.collect());
        prop_assert!(verify(&own.witness(), &new_head, anew.clone(), &[]).is_ok());
        let told = verify(&own.witness(), &new_head, anew.clone(), std::slice::from_ref(&checkpoint));
        let is_same = anew.len() >= signed && anew.iter().map(|entry| &entry.record).take(signed).eq(before.iter().take(signed));
        // What came after the checkpoint nobody has signed yet.
        prop_assert_eq!(told.is_ok(), is_same, "{:?}", told);
    }
}

/// A chain of whatever records, by somebody who has the key.
fn rewrite(keys: &AuditKeys, waiting: Vec<Entry>) -> (Vec<Entry>, Head) {
    let sealed = waiting.into_iter().map(|entry| keys.sealed_again(entry.record)).collect();
    keys.chain(NODE, None, sealed)
}
