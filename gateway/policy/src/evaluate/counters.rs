//! What is counted of each attached policy.

use crate::error::{Failure, FailureKind};
use crate::policy::Ran;
use crate::verdict::Reply;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Counters of one attached policy. They outlive a change of its settings or digest.
pub(crate) struct Counters {
    passed: AtomicU64,
    narrowed: AtomicU64,
    denied: AtomicU64,
    would_deny: AtomicU64,
    remembered: AtomicU64,
    warnings: AtomicU64,
    log_dropped: AtomicU64,
    failures: [AtomicU64; FailureKind::ALL.len()],
    /// Calls by how long they took.
    latency: [AtomicU64; BUCKETS],
    rare: Mutex<Rare>,
}

#[derive(Default)]
struct Rare {
    last_failure: Option<Failure>,
    metrics: BTreeMap<String, u64>,
}

/// What was counted of an attached policy since it was attached, or the process began.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Answers that let pass.
    pub passed: u64,
    /// Tokens narrowed.
    pub narrowed: u64,
    /// Refusals that counted, failures with `on_error = "deny"` not among them.
    pub denied: u64,
    /// Refusals that only were told, in monitor mode.
    pub would_deny: u64,
    /// Answers that were remembered and not asked for again.
    pub remembered: u64,
    /// Warnings given.
    pub warnings: u64,
    /// Log lines beyond the limit.
    pub log_dropped: u64,
    /// Failures by kind.
    pub failures: BTreeMap<&'static str, u64>,
    /// The policy's own metrics.
    pub metrics: BTreeMap<String, u64>,
    /// Half of the calls took at most this long, to within a quarter.
    pub p50: Duration,
    /// 99 of 100 calls took at most this long, to within a quarter.
    pub p99: Duration,
    /// The last failure.
    pub last_failure: Option<Failure>,
}

/// Four for each power of two of microseconds, to 16 s and more.
const BUCKETS: usize = 100;

impl Default for Counters {
    fn default() -> Self {
        Self {
            passed: AtomicU64::new(0),
            narrowed: AtomicU64::new(0),
            denied: AtomicU64::new(0),
            would_deny: AtomicU64::new(0),
            remembered: AtomicU64::new(0),
            warnings: AtomicU64::new(0),
            log_dropped: AtomicU64::new(0),
            failures: std::array::from_fn(|_| AtomicU64::new(0)),
            latency: std::array::from_fn(|_| AtomicU64::new(0)),
            rare: Mutex::default(),
        }
    }
}

impl Counters {
    /// Counts a call that was made.
    pub(super) fn ran(&self, ran: &Ran) {
        if let Some(bucket) = self.latency.get(bucket_of(ran.spent.wall)) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        self.log_dropped.fetch_add(ran.log_dropped.into(), Ordering::Relaxed);
        if !ran.counts.is_empty() {
            let mut rare = self.rare.lock().unwrap_or_else(PoisonError::into_inner);
            for (name, by) in &ran.counts {
                let count = rare.metrics.entry(name.clone()).or_default();
                *count = count.saturating_add(*by);
            }
        }
    }

    /// Counts what was heard, remembered or not.
    pub(super) fn heard(&self, said: &Result<Reply, Failure>, enforced: bool) {
        let one = |counter: &AtomicU64| counter.fetch_add(1, Ordering::Relaxed);
        match said {
            Ok(Reply::Abstain) => one(&self.passed),
            Ok(Reply::Allow(effects)) => {
                self.warn(effects.warnings.len(), enforced);
                one(&self.passed)
            }
            Ok(Reply::Narrow(narrowing)) => {
                self.warn(narrowing.effects.warnings.len(), enforced);
                one(&self.narrowed)
            }
            Ok(Reply::Deny(_)) if enforced => one(&self.denied),
            Ok(Reply::Deny(_)) => one(&self.would_deny),
            Err(failure) => {
                self.rare.lock().unwrap_or_else(PoisonError::into_inner).last_failure = Some(failure.clone());
                self.failures.get(failure.kind as usize).map_or(0, one)
            }
        };
    }

    pub(super) fn remembered(&self) {
        self.remembered.fetch_add(1, Ordering::Relaxed);
    }

    fn warn(&self, warnings: usize, enforced: bool) {
        if enforced {
            self.warnings.fetch_add(u64::try_from(warnings).unwrap_or(u64::MAX), Ordering::Relaxed);
        }
    }

    /// What was counted so far.
    pub(crate) fn read(&self) -> Counts {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let rare = self.rare.lock().unwrap_or_else(PoisonError::into_inner);
        let kinds = FailureKind::ALL.into_iter().map(FailureKind::name);
        Counts {
            passed: of(&self.passed),
            narrowed: of(&self.narrowed),
            denied: of(&self.denied),
            would_deny: of(&self.would_deny),
            remembered: of(&self.remembered),
            warnings: of(&self.warnings),
            log_dropped: of(&self.log_dropped),
            failures: kinds.zip(self.failures.iter().map(of)).collect(),
            metrics: rare.metrics.clone(),
            p50: self.percentile(50),
            p99: self.percentile(99),
            last_failure: rare.last_failure.clone(),
        }
    }

    fn percentile(&self, percent: u64) -> Duration {
        let counts: Vec<u64> = self.latency.iter().map(|bucket| bucket.load(Ordering::Relaxed)).collect();
        let total = counts.iter().fold(0_u64, |total, count| total.saturating_add(*count));
        let wanted = total.saturating_mul(percent).div_ceil(100);
        let mut seen = 0_u64;
        for (bucket, count) in counts.iter().enumerate() {
            seen = seen.saturating_add(*count);
            if *count > 0 && seen >= wanted {
                return end_of(bucket);
            }
        }
        Duration::ZERO
    }
}

/// The bucket of a time: the power of two of its microseconds, and the two bits after the first.
fn bucket_of(time: Duration) -> usize {
    let us = u64::try_from(time.as_micros()).unwrap_or(u64::MAX).saturating_add(4);
    let power = us.ilog2();
    let quarter = us.checked_shr(power.saturating_sub(2)).unwrap_or(0) & 3;
    let bucket = u64::from(power.saturating_sub(2)).saturating_mul(4).saturating_add(quarter);
    usize::try_from(bucket).unwrap_or(usize::MAX).min(BUCKETS.saturating_sub(1))
}

/// The longest time in a bucket.
fn end_of(bucket: usize) -> Duration {
    let bucket = u64::try_from(bucket).unwrap_or(u64::MAX);
    let (power, quarter) = (u32::try_from(bucket / 4).unwrap_or(u32::MAX), bucket % 4);
    let end = quarter.saturating_add(5).checked_shl(power).unwrap_or(u64::MAX);
    Duration::from_micros(end.saturating_sub(5))
}

#[cfg(test)]
mod tests {
    use super::{BUCKETS, bucket_of, end_of};
    use std::time::Duration;

    #[test]
    fn every_time_is_in_a_bucket_that_ends_at_most_a_quarter_later() {
        for us in (0..3_000).chain([10_000, 99_999, 1_000_000, 8_000_000]) {
            let end = end_of(bucket_of(Duration::from_micros(us))).as_micros();
            assert!(end >= us.into() && end <= u128::from(us) * 5 / 4 + 2, "{us}: {end}");
        }
        assert_eq!(bucket_of(Duration::MAX), BUCKETS - 1);
    }
}
