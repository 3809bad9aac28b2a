//! After so many timeouts in a row a policy rests, each time twice as long. When its rest ends, one call tries it.

use crate::limits::ChainLimits;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

#[derive(Default)]
pub(crate) struct Breaker(Mutex<State>);

#[derive(Default)]
struct State {
    timeouts: u32,
    /// The rest under way, or the last one.
    rest: Option<Duration>,
    until: Option<Instant>,
}

/// A policy's breakers. The platform's rests for one tenant at a time, who may have made it slow himself.
#[derive(Default)]
pub(crate) struct Breakers {
    own: Breaker,
    /// Of tenants whose last call timed out.
    tenants: Mutex<HashMap<Box<str>, Breaker>>,
}

impl Breakers {
    /// Whether the policy may be run, for this tenant where it is the platform's.
    pub(crate) fn admits(&self, tenant: Option<&str>, limits: &ChainLimits, now: Instant) -> bool {
        let Some(tenant) = tenant else { return self.own.admits(limits, now) };
        let tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        tenants.get(tenant).is_none_or(|breaker| breaker.admits(limits, now))
    }

    /// What became of a call that was admitted.
    pub(crate) fn record(&self, tenant: Option<&str>, timed_out: bool, limits: &ChainLimits, now: Instant) {
        let Some(tenant) = tenant else { return self.own.record(timed_out, limits, now) };
        let mut tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        if timed_out {
            tenants.entry(tenant.into()).or_default().record(true, limits, now);
        } else {
            tenants.remove(tenant);
        }
    }
}

impl Breaker {
    /// Whether the policy may be run. At the end of a rest one caller is told so, and the others for as long again only after
    /// it has reported.
    pub(crate) fn admits(&self, limits: &ChainLimits, now: Instant) -> bool {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match state.until {
            Some(until) if now < until => false,
            Some(_) => {
                let rest = state.rest.unwrap_or(limits.breaker_rest);
                state.until = now.checked_add(rest);
                true
            }
            None => true,
        }
    }

    /// What became of a call that was admitted.
    pub(crate) fn record(&self, timed_out: bool, limits: &ChainLimits, now: Instant) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !timed_out {
            *state = State::default();
            return;
        }
        state.timeouts = state.timeouts.saturating_add(1);
        if state.timeouts >= limits.breaker_timeouts {
            let rest = state.rest.map_or(limits.breaker_rest, |rest| rest.saturating_mul(2));
            let rest = rest.min(limits.breaker_rest_max);
            state.rest = Some(rest);
            state.until = now.checked_add(rest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Breaker;
    use crate::limits::ChainLimits;
    use std::time::{Duration, Instant};

    #[test]
    fn three_timeouts_in_a_row_make_it_rest_and_each_rest_is_twice_as_long() {
        let (breaker, limits) = (Breaker::default(), ChainLimits::default());
        let mut now = Instant::now();
        for _ in 0..2 {
            assert!(breaker.admits(&limits, now));
            breaker.record(true, &limits, now);
        }
        assert!(breaker.admits(&limits, now), "two are not enough");
        breaker.record(true, &limits, now);
        for rest in [1, 2, 4, 8, 16, 32, 60, 60] {
            let rest = Duration::from_secs(rest);
            assert!(!breaker.admits(&limits, now + rest - Duration::from_millis(1)), "{rest:?}");
            now += rest;
            assert!(breaker.admits(&limits, now), "{rest:?}");
            assert!(!breaker.admits(&limits, now), "one tries it, the others wait");
            breaker.record(true, &limits, now);
        }
    }

    #[test]
    fn an_answer_in_time_ends_the_row() {
        let (breaker, limits) = (Breaker::default(), ChainLimits::default());
        let now = Instant::now();
        for timed_out in [true, true, false, true, true] {
            assert!(breaker.admits(&limits, now));
            breaker.record(timed_out, &limits, now);
        }
        assert!(breaker.admits(&limits, now));
    }
}
