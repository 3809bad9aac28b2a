//! The limiter against a plain model: a bucket that is told every event and computes by fractions, with time in the test's hand.
#![allow(clippy::arithmetic_side_effects)] // these are tests, and none of their numbers is large

use super::*;
use proptest::prelude::*;
use std::collections::HashMap;
use std::time::Duration;

fn times(text: &str) -> Rate {
    Rate::parse(Measure::Times, text).unwrap()
}

fn bytes(text: &str) -> Rate {
    Rate::parse(Measure::Bytes, text).unwrap()
}

/// Room for one key and its state, as servers hold it.
struct One {
    keys: Keys<PaidOff>,
    rate: Rate,
}

impl One {
    fn new(rate: Rate) -> Self {
        Self { keys: Keys::new(16), rate }
    }

    fn ask(&self, now: u64, ask: Ask) -> Result<u64, u64> {
        let key = self.keys.key(&"key");
        self.keys.update(key, now, |state| {
            let answer = self.rate.ask(state.0.saturating_sub(now), ask);
            if let Ok(level) = answer {
                state.0 = now + level;
            }
            answer
        })
    }
}

/// The model: all that was ever taken, with its moment. What is left is found by walking through the whole past.
struct Model {
    rate: Rate,
    past: Vec<(u64, u64)>,
}

impl Model {
    /// In units of 1 / (µs of the rate's time): exact.
    fn used(&self, now: u64) -> u128 {
        let (amount, per) = (u128::from(self.rate.amount()), u128::from(self.rate.per_s()) * 1_000_000);
        let (mut used, mut at) = (0_u128, 0);
        for (moment, taken) in &self.past {
            used = used.saturating_sub(u128::from(moment - at) * amount) + u128::from(*taken) * per;
            at = *moment;
        }
        used.saturating_sub(u128::from(now - at) * amount)
    }

    fn free(&self, now: u64) -> i128 {
        let per = u128::from(self.rate.per_s()) * 1_000_000;
        i128::try_from(u128::from(self.rate.amount()) * per).unwrap() - i128::try_from(self.used(now)).unwrap()
    }

    fn per(&self) -> i128 {
        i128::from(self.rate.per_s()) * 1_000_000
    }
}

#[test]
fn an_address_counts_for_itself_or_for_its_64() {
    let share = |text: &str| client_address(text.parse().unwrap()).to_string();
    assert_eq!(share("192.0.2.1"), "192.0.2.1");
    assert_eq!(share("::ffff:192.0.2.1"), "192.0.2.1");
    assert_eq!(share("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
    assert_ne!(share("2001:db8:1:3::1"), share("2001:db8:1:2::1"));
}

#[test]
fn rates_are_read_and_written_in_one_spelling() {
    for (text, written, amount, per_s) in [
        ("100/6h", "100/6h", 100, 21_600),
        ("20/s", "20/s", 20, 1),
        ("20/1s", "20/s", 20, 1),
        ("5/90s", "5/90s", 5, 90),
        ("5/60s", "5/min", 5, 60),
        ("5/10m", "5/10min", 5, 600),
        ("1/31d", "1/31d", 1, 2_678_400),
    ] {
        let rate = times(text);
        assert_eq!((rate.to_string().as_str(), rate.amount(), rate.per_s()), (written, amount, per_s));
        assert_eq!(times(written), rate);
    }
    for (text, written) in
        [("1GiB/h", "1GiB/h"), ("1024MiB/h", "1GiB/h"), ("1500/d", "1500/d"), ("20GB/2d", "19531250KiB/2d")]
    {
        assert_eq!(bytes(text).to_string(), written);
        assert_eq!(bytes(written), bytes(text));
    }
}

#[test]
fn what_is_no_rate_is_refused() {
    for text in [
        "", "100", "/h", "100/", "0/h", "-1/h", "1.5/h", "1GiB/h", "1/0h", "1/32d", "1/w", "1/6 h", "100001/s", "1/h/h",
    ] {
        assert!(Rate::parse(Measure::Times, text).is_err(), "{text}");
    }
    for text in ["GiB/h", "0/h", "1GiB", "9223372036854775808/h"] {
        assert!(Rate::parse(Measure::Bytes, text).is_err(), "{text}");
    }
}

#[test]
fn the_whole_amount_fits_at_once_and_then_one_by_one() {
    for text in ["7/s", "3/s", "100/6h", "1/d", "99999/s"] {
        let one = One::new(times(text));
        let amount = one.rate.amount();
        (0..amount).for_each(|_| assert!(one.ask(5, Ask::ONE).is_ok(), "{text}"));
        let wait = one.ask(5, Ask::ONE).unwrap_err();
        assert!(one.ask(5 + wait - 1, Ask::ONE).is_err(), "{text}: before it was said");
        assert!(one.ask(5 + wait, Ask::ONE).is_ok(), "{text}: when it was said");
        assert!(one.ask(5 + wait, Ask::ONE).is_err(), "{text}: one alone");
    }
}

#[test]
fn a_debt_shuts_out_until_it_is_paid_and_then_lets_in() {
    let one = One::new(bytes("1MiB/h"));
    assert!(one.ask(0, Ask::ROOM).is_ok());
    one.ask(0, Ask::charge(3 << 20)).unwrap();
    let wait = one.ask(0, Ask::ROOM).unwrap_err();
    assert!((7_199..7_205).contains(&(wait / 1_000_000)), "two hours of debt: {wait}");
    assert!(one.ask(wait - 1, Ask::ROOM).is_err());
    assert_eq!(one.ask(wait, Ask::ROOM).map(|level| one.rate.remaining(level)), Ok(1));
}

#[test]
fn a_share_is_an_equal_part_and_never_nothing() {
    assert_eq!(times("100/6h").share(4), times("25/6h"));
    assert_eq!(times("2/h").share(4), times("1/h"));
    assert_eq!(times("2/h").share(0), times("2/h"));
    assert_eq!(times("2/h").times(10), times("20/h"));
}

#[test]
fn one_client_is_an_ipv4_address_or_an_ipv6_network() {
    let same = |one: &str, other: &str| client_address(one.parse().unwrap()) == client_address(other.parse().unwrap());
    assert!(same("192.0.2.1", "::ffff:192.0.2.1"));
    assert!(!same("192.0.2.1", "192.0.2.2"));
    assert!(same("2001:db8:1:2::1", "2001:db8:1:2:ffff::9"));
    assert!(!same("2001:db8:1:2::1", "2001:db8:1:3::1"));
}

#[test]
fn overrides_come_back_from_the_line_in_which_they_are_kept() {
    for line in
        ["", "pulls=100/6h", "requests=20/s pulls=off pushes=5/min bytes=1GiB/h under_way=9 uploads=4", "uploads=off"]
    {
        assert_eq!(Overrides::parse(line).unwrap().to_string(), line);
    }
    for line in ["pulls", "pulls=", "pulls=1GiB/h", "uploads=0", "uploads=-1", "under_way=0", "colour=1/s uploads=0"] {
        assert!(Overrides::parse(line).is_err(), "{line}");
    }
    let before = Overrides::parse("pulls=1/h bytes=off").unwrap();
    let change = Change { pulls: Some(Setting::Default), pushes: Some(Setting::Off), ..Change::default() };
    assert_eq!(before.changed(&change).to_string(), "pushes=off bytes=off");
    assert_eq!(before.bytes.over(Some(bytes("1GiB/h"))), None);
    assert_eq!(before.pushes.over(Some(times("1/h"))), Some(times("1/h")));
}

#[test]
fn what_a_newer_version_limits_is_skipped_and_told_apart() {
    let line = "colour=1/s pulls=100/6h shape uploads=4 =";
    assert_eq!(Overrides::parse(line).unwrap().to_string(), "pulls=100/6h uploads=4");
    assert_eq!(Overrides::unknown(line).collect::<Vec<_>>(), ["colour=1/s", "shape", "="]);
    let all = "requests=off pulls=off pushes=off bytes=off under_way=off uploads=off";
    assert_eq!(Overrides::parse(all).unwrap().to_string(), all);
    assert_eq!(Overrides::unknown(all).count(), 0);
}

#[test]
fn failures_pass_up_to_the_allowance_and_then_wait_twice_as_long_each_time() {
    let rate = times("3/h");
    let mut failures = Failures::default();
    for _ in 0..3 {
        failures.add(&rate, Duration::from_secs(60), 0);
        assert_eq!(failures.wait(0), 0);
    }
    let mut now = 0;
    for expected in [1, 2, 4, 8, 16, 32, 60, 60] {
        failures.add(&rate, Duration::from_secs(60), now);
        assert_eq!(failures.wait(now), expected * 1_000_000);
        now += failures.wait(now);
        assert_eq!(failures.wait(now), 0);
    }
    // However often it failed, it is forgiven in the end.
    for _ in 0..1000 {
        failures.add(&rate, Duration::from_secs(60), now);
    }
    assert!(failures.idle_at() < now + 8 * 3_600_000_000, "{failures:?}");
}

#[test]
fn keys_are_capped_and_what_is_nearest_to_idle_is_forgotten_first() {
    let keys: Keys<PaidOff> = Keys::new(64);
    for number in 0..100_000_u64 {
        let key = keys.key(&number);
        keys.update(key, 10, |state| state.0 = 20 + number % 7);
        assert!(keys.count(10) <= keys.room());
    }
    assert_eq!(keys.count(10), keys.room(), "all places are taken");
    assert!(keys.forgotten() > 0);
    let far = keys.key(&"far");
    keys.update(far, 10, |state| state.0 = 1_000_000);
    for number in 0..100_000_u64 {
        keys.update(keys.key(&number), 10, |state| state.0 = 20 + number % 7);
    }
    assert_eq!(keys.get(far, 10), PaidOff(1_000_000), "it has most to lose");
    assert_eq!(keys.count(30), 1, "idle keys do not count");
    let before = keys.forgotten();
    keys.update(keys.key(&"new"), 30, |state| state.0 = 40);
    assert_eq!(keys.forgotten(), before, "an idle key's place is free");
}

#[test]
fn a_key_that_takes_nothing_takes_no_place() {
    let keys: Keys<PaidOff> = Keys::new(64);
    keys.update(keys.key(&1), 10, |_| ());
    assert_eq!(keys.count(0), 0);
}

fn rate() -> impl Strategy<Value = Rate> {
    (1..5000_u64, prop_oneof![Just("s"), Just("7s"), Just("min"), Just("6h"), Just("31d")])
        .prop_map(|(amount, time)| times(&format!("{amount}/{time}")))
}

fn byte_rate() -> impl Strategy<Value = Rate> {
    (1..(1_u64 << 44), prop_oneof![Just("s"), Just("min"), Just("6h")])
        .prop_map(|(amount, time)| bytes(&format!("{amount}/{time}")))
}

proptest! {
    #[test]
    fn any_text_is_a_rate_or_refused(text in ".{0,16}") {
        for measure in [Measure::Times, Measure::Bytes] {
            if let Ok(rate) = Rate::parse(measure, &text) {
                prop_assert_eq!(Rate::parse(measure, &rate.to_string()).unwrap(), rate);
            }
        }
        if let Ok(overrides) = Overrides::parse(&text) {
            prop_assert_eq!(Overrides::parse(&overrides.to_string()).unwrap(), overrides);
        }
    }

    /// Nothing passes that the model has no room for; what the model has ample room for passes. In between lies what rounding
    /// up to whole microseconds takes: less than one for each that was taken.
    #[test]
    fn counted_decisions_are_the_models(rate in rate(), steps in prop::collection::vec((0..2_000_000_u64, 0..4_u8), 1..200)) {
        let (one, mut model) = (One::new(rate), Model { rate, past: Vec::new() });
        let mut now = 0;
        for (gap, burst) in steps {
            now += gap;
            for _ in 0..=burst {
                let free = model.free(now);
                let rounding = i128::from(rate.amount()) * i128::try_from(model.past.len() + 1).unwrap();
                match one.ask(now, Ask::ONE) {
                    Ok(_) => {
                        prop_assert!(free + rounding >= model.per(), "passed without room: {} of {}", free, model.per());
                        model.past.push((now, 1));
                    }
                    Err(wait) => {
                        prop_assert!(free - rounding < model.per(), "refused with room: {} of {}", free, model.per());
                        prop_assert!(wait > 0);
                    }
                }
            }
        }
    }

    /// However it is asked, in no time span more passes than the amount and what that time brings.
    #[test]
    fn no_span_of_time_lets_more_through_than_the_rate(rate in rate(), gaps in prop::collection::vec(0..3_000_000_u64, 1..300)) {
        let one = One::new(rate);
        let (mut now, mut passed) = (0, Vec::new());
        for gap in gaps {
            now += gap;
            if one.ask(now, Ask::ONE).is_ok() {
                passed.push(now);
            }
        }
        for (first, begin) in passed.iter().enumerate() {
            for (count, end) in passed.iter().skip(first).enumerate() {
                let brought = u128::from(end - begin) * u128::from(rate.amount()) / (u128::from(rate.per_s()) * 1_000_000);
                prop_assert!((count as u128) < u128::from(rate.amount()) + brought);
            }
        }
    }

    #[test]
    fn a_refused_request_takes_nothing_and_is_let_in_when_it_was_told(rate in rate(), tries in 1..50_u64) {
        let one = One::new(rate);
        one.ask(0, Ask::charge(rate.amount())).unwrap();
        let wait = one.ask(0, Ask::ONE).unwrap_err();
        for _ in 0..tries {
            prop_assert_eq!(one.ask(0, Ask::ONE), Err(wait));
        }
        prop_assert!(one.ask(wait - 1, Ask::ONE).is_err());
        prop_assert!(one.ask(wait, Ask::ONE).is_ok());
    }

    /// Bytes with debt: let in exactly while the model is not in debt, but for what rounding takes.
    #[test]
    fn bytes_are_let_in_while_there_is_no_debt(rate in byte_rate(), steps in prop::collection::vec((0..100_000_000_u64, 0..(1_u64 << 34)), 1..60)) {
        let (one, mut model) = (One::new(rate), Model { rate, past: Vec::new() });
        let mut now = 0;
        for (gap, size) in steps {
            now += gap;
            let free = model.free(now);
            // One microsecond for each charge, or for each byte where one takes longer than that.
            let charged: u64 = model.past.iter().map(|(_, size)| size).sum();
            let interval = rate.cost(1) > 1 || rate.amount() <= rate.per_s() * 1_000_000;
            let parts = if interval { charged + 1 } else { model.past.len() as u64 + 1 };
            let rounding = i128::from(rate.amount()) * i128::from(parts) + model.per();
            match one.ask(now, Ask::ROOM) {
                Ok(_) => {
                    prop_assert!(free + rounding > 0, "let in with a debt of {}", -free);
                    one.ask(now, Ask::charge(size)).unwrap();
                    model.past.push((now, size));
                }
                Err(wait) => {
                    prop_assert!(free - rounding <= 0, "shut out with room for {}", free);
                    prop_assert!(one.ask(now + wait, Ask::ROOM).is_ok());
                }
            }
        }
    }

    /// Many keys in little room, against a map without bounds: while nothing had to be forgotten, every state is the map's.
    #[test]
    fn keys_keep_what_a_map_keeps(steps in prop::collection::vec((0..12_u64, 0..50_u64, 1..200_u64), 1..300)) {
        let (keys, mut map, mut now) = (Keys::<PaidOff>::new(16), HashMap::<u64, u64>::new(), 0);
        for (name, gap, more) in steps {
            now += gap;
            let key = keys.key(&name);
            keys.update(key, now, |state| state.0 = state.0.max(now) + more);
            let kept = map.entry(name).or_default();
            *kept = (*kept).max(now) + more;
            for (name, kept) in &map {
                let expected = if *kept > now { *kept } else { 0 };
                prop_assert_eq!(keys.get(keys.key(name), now).0, expected);
            }
            prop_assert_eq!(keys.count(now), map.values().filter(|kept| **kept > now).count());
        }
    }
}
