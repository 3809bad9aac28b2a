//! Fresh instances leak nothing: a guest that hoards finds nothing again, on any thread, in slots that are warm.

use crate::guests::{hostile, program, request};
use portcullis_policy::verdict::Reply;
use portcullis_policy::{FailureKind, Policy, Reuse};
use std::sync::Arc;
use std::time::{Duration, Instant};

#[test]
fn a_hoarder_finds_nothing_in_a_fresh_instance() {
    let program = program(&hostile("hoarder"));
    // Two policies of one program stand for two projects.
    let policies: Vec<_> = (0..2).map(|_| Arc::new(Policy::new(program.clone(), "{}", None, None).unwrap())).collect();
    let threads: Vec<_> = (0..4)
        .map(|thread| {
            let policy = Arc::clone(&policies[thread % 2]);
            std::thread::spawn(move || {
                for _ in 0..200 {
                    let ran = policy.run_fresh(&request());
                    assert_eq!(ran.result, Ok(Reply::Abstain));
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

#[test]
fn a_hoarder_finds_its_hoard_in_a_reused_instance_of_its_own_policy_alone() {
    let program = program(&hostile("hoarder"));
    let reuse = Some(Reuse { calls: 3, life: Duration::from_secs(10) });
    let one = Policy::new(program.clone(), "{}", None, reuse).unwrap();
    let other = Policy::new(program, "{}", None, reuse).unwrap();
    let now = Instant::now();
    let ask = |policy: &Policy, now| {
        let ran = policy.run(&request(), now);
        (ran.reused, matches!(ran.result, Ok(Reply::Deny(_))))
    };
    assert_eq!(ask(&one, now), (false, false));
    assert_eq!(ask(&one, now), (true, true), "this is what reuse means");
    assert_eq!(ask(&other, now), (false, false), "another policy has instances of its own");
    assert_eq!(ask(&one, now), (true, true));
    assert_eq!(ask(&one, now), (false, false), "after three calls an instance is dropped");
    assert_eq!(ask(&one, now + Duration::from_secs(10)), (false, false), "and after its life");
}

#[test]
fn an_instance_that_trapped_is_not_used_again() {
    let reuse = Some(Reuse { calls: 1_000, life: Duration::from_secs(60) });
    let policy = Policy::new(program(&hostile("trap")), "{}", None, reuse).unwrap();
    for _ in 0..5 {
        let ran = policy.run(&request(), Instant::now());
        assert!(!ran.reused);
        assert_eq!(ran.result.unwrap_err().kind, FailureKind::Trap);
    }
}
