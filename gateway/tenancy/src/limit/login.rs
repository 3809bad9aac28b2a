//! Failed logins: so many are let pass, and each further one makes the wait until the next try twice as long.

use super::{Kept, Rate};
use std::time::Duration;

/// Longest wait that can be asked for.
pub const MAX_DELAY: Duration = Duration::from_secs(3600);
/// Failures beyond the allowance that are remembered: the wait has long reached its longest by then.
const MOST_OVER: u64 = 16;
const SECOND: u64 = 1_000_000;

/// The failures of one address or one account. They are forgiven at the rate's pace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Failures {
    paid_off: u64,
    shut_until: u64,
}

impl Kept for Failures {
    fn idle_at(&self) -> u64 {
        self.paid_off.max(self.shut_until)
    }
}

impl Failures {
    /// How many microseconds the next try has to wait.
    pub fn wait(&self, now: u64) -> u64 {
        self.shut_until.saturating_sub(now)
    }

    /// One more. The first beyond the rate's amount shuts the door for a second, each further one for twice as long, up to
    /// `longest`.
    pub fn add(&mut self, rate: &Rate, longest: Duration, now: u64) {
        let level = self.paid_off.saturating_sub(now).saturating_add(rate.cost(1)).min(Self::most(rate));
        self.paid_off = now.saturating_add(level);
        let over = level.saturating_sub(rate.capacity()).div_ceil(rate.cost(1).max(1));
        if over > 0 {
            let doublings = u32::try_from(over.saturating_sub(1)).unwrap_or(u32::MAX);
            let delay = SECOND.checked_shl(doublings).unwrap_or(u64::MAX);
            self.shut_until = self.shut_until.max(now.saturating_add(delay.min(Self::longest(longest))));
        }
    }

    /// The highest level that failures are remembered by.
    pub fn most(rate: &Rate) -> u64 {
        rate.capacity().saturating_add(rate.cost(MOST_OVER))
    }

    /// The longest wait, in microseconds.
    pub fn longest(longest: Duration) -> u64 {
        u64::try_from(longest.min(MAX_DELAY).as_micros()).unwrap_or(u64::MAX)
    }
}
