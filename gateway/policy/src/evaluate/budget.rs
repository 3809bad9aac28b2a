//! What an owner's policies may take in a second: CPU time of the request cores, as a leaking bucket, and lines of the log.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

#[derive(Default)]
pub(crate) struct Budget(Mutex<Option<Level>>);

#[derive(Clone, Copy)]
struct Level {
    used: Duration,
    at: Instant,
}

impl Budget {
    /// Counts what a call used.
    pub(crate) fn charge(&self, cpu: Duration, ms_per_s: u32, now: Instant) {
        let mut level = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let used = level.map_or(Duration::ZERO, |level| level.now(ms_per_s, now)).saturating_add(cpu);
        // A debt of more than a few seconds would punish long after the fault.
        let most = Duration::from_millis(u64::from(ms_per_s).saturating_mul(5));
        *level = Some(Level { used: used.min(most), at: now });
    }

    /// Whether a second's share is used up.
    pub(crate) fn is_over(&self, ms_per_s: u32, now: Instant) -> bool {
        let level = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        level.is_some_and(|level| level.now(ms_per_s, now) > Duration::from_millis(ms_per_s.into()))
    }
}

impl Level {
    fn now(self, ms_per_s: u32, now: Instant) -> Duration {
        let leaked = now.saturating_duration_since(self.at).saturating_mul(ms_per_s).checked_div(1_000);
        self.used.saturating_sub(leaked.unwrap_or_default())
    }
}

/// Log lines, counted anew each second.
#[derive(Default)]
pub(crate) struct LogShare(Mutex<Option<(Instant, usize)>>);

impl LogShare {
    /// How many of so many lines may be written now.
    pub(crate) fn take(&self, lines: usize, most_per_s: u32, now: Instant) -> usize {
        if lines == 0 {
            return 0;
        }
        let mut second = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let running = |(began, _): &(Instant, usize)| now.saturating_duration_since(*began) < Duration::from_secs(1);
        let (began, written) = second.filter(running).unwrap_or((now, 0));
        let most = usize::try_from(most_per_s).unwrap_or(usize::MAX);
        let taken = lines.min(most.saturating_sub(written));
        *second = Some((began, written.saturating_add(taken)));
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::{Budget, LogShare};
    use std::time::{Duration, Instant};

    #[test]
    fn a_project_is_over_its_budget_until_it_has_leaked_away() {
        let budget = Budget::default();
        let now = Instant::now();
        assert!(!budget.is_over(100, now));
        budget.charge(Duration::from_millis(100), 100, now);
        assert!(!budget.is_over(100, now));
        budget.charge(Duration::from_millis(50), 100, now);
        assert!(budget.is_over(100, now));
        assert!(budget.is_over(100, now + Duration::from_millis(499)));
        assert!(!budget.is_over(100, now + Duration::from_millis(500)));
    }

    #[test]
    fn so_many_log_lines_a_second_and_no_more() {
        let share = LogShare::default();
        let now = Instant::now();
        assert_eq!([share.take(60, 100, now), share.take(60, 100, now), share.take(60, 100, now)], [60, 40, 0]);
        assert_eq!(share.take(60, 100, now + Duration::from_secs(1)), 60);
    }

    #[test]
    fn a_debt_is_bounded() {
        let budget = Budget::default();
        let now = Instant::now();
        budget.charge(Duration::from_secs(3600), 100, now);
        assert!(!budget.is_over(100, now + Duration::from_secs(4)));
    }
}
