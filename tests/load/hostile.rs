//! Attacks on the real gateway, one after the other, each beside a client that behaves: it is served as if nothing were.
//!
//! All run on the same few cores, the attacker too, and what the attacker computes the gateway cannot. So attacks cost the
//! attacker little (bytes that were made once, connections that only wait) and come at a bounded rate: far more than the
//! gateway lets through, far less than the machine bears. What is compared is the well-behaved client's p99 alone and beside
//! the attack, in the same run. It comes from 127.0.0.1, the attackers from 127.0.0.2, for shares are by address.

mod attacks;
mod ground;

use crate::traffic::by_itself;
use attacks::{ALL, Attack};
use ground::{Answers, Ground};
use portcullis_tests::scene::within;
use std::time::Duration;

/// How many of the well-behaved client's requests are answered as they should be.
const SUCCESS: f64 = 0.99;
/// What its p99 may grow to.
const RATIO: f64 = 3.0;
/// Rounds alone whose p99s differ by more than this say more of the machine than of the gateway.
const QUIET: f64 = 2.0;
/// How often times are looked at again where they were too long: a machine that others use as well has bad moments.
const ATTEMPTS: usize = 4;
/// What attacks may make the gateway's memory grow by, all together, and what of it may be left when they are over.
const GROWS_MIB: u64 = 160;
const LEFT_MIB: u64 = 64;

/// One comparison: alone, beside the attack, alone again.
struct Round {
    alone: [Duration; 2],
    beside: Duration,
}

impl Round {
    fn ratio(&self) -> f64 {
        self.beside.as_secs_f64() / self.alone.iter().max().copied().unwrap_or_default().as_secs_f64()
    }

    fn spread(&self) -> f64 {
        let [one, other] = self.alone.map(|time| time.as_secs_f64());
        one.max(other) / one.min(other)
    }
}

/// One attack for so long, beside the client that behaves.
fn round(ground: &Ground, attack: &Attack, time: Duration, before: Duration) -> Round {
    let answers = ground.beside(attack, time);
    assert!(answers.attacked > 0, "{}: the attack was not made", attack.name);
    assert!(
        answers.success() > SUCCESS,
        "{}: {:.1} % of {} requests beside it were answered: {:?}",
        attack.name,
        answers.success() * 100.0,
        answers.len(),
        answers.failures()
    );
    let after = alone(ground, time);
    println!(
        "load: beside {} ({} times): p99 {:?}, alone {before:?} and {after:?}, memory {} MiB",
        attack.name,
        answers.attacked,
        answers.p99(),
        ground.rss_mib()
    );
    Round { alone: [before, after], beside: answers.p99() }
}

fn alone(ground: &Ground, time: Duration) -> Duration {
    let answers: Answers = ground.alone(time);
    assert_eq!(answers.success(), 1.0, "alone every request is answered: {:?}", answers.failures());
    answers.p99()
}

/// All attacks, each for so long.
fn withstand(time: Duration) {
    let _alone = by_itself();
    let ground = Ground::open();
    // The first requests fill caches.
    alone(&ground, time);
    let begun = ground.rss_mib();
    let mut before = alone(&ground, time);
    for attack in ALL {
        let mut rounds = Vec::new();
        for _ in 0..ATTEMPTS {
            let round = round(&ground, attack, time, before);
            before = round.alone[1];
            let is_good = round.ratio() <= RATIO;
            rounds.push(round);
            if is_good {
                break;
            }
        }
        let best = rounds.iter().map(Round::ratio).fold(f64::INFINITY, f64::min);
        if rounds.iter().any(|round| round.spread() <= QUIET) {
            assert!(best <= RATIO, "{}: at best p99 is {best:.1} times what it is alone", attack.name);
        } else if best > RATIO {
            println!("load: beside {}: the machine is too restless to compare times", attack.name);
        }
    }
    let peak = ground.peak_mib();
    assert!(peak <= begun + GROWS_MIB, "the gateway had {begun} MiB before, and {peak} MiB at its most");
    let left = within(Duration::from_secs(60), || Some(ground.rss_mib()).filter(|now| *now <= begun + LEFT_MIB));
    println!("load: the gateway had {begun} MiB before all attacks, {peak} at its most, {left} after them");
    ground.is_as_before();
}

#[test]
fn who_behaves_is_served_beside_any_attack() {
    withstand(Duration::from_millis(2500));
}

#[test]
#[ignore = "takes 15 minutes; make test-all"]
fn who_behaves_is_served_beside_any_attack_that_lasts() {
    withstand(Duration::from_secs(25));
}
