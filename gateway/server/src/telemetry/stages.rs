//! How long requests stay in each stage. Every data thread has a clock of its own, so that counting waits for nobody; they are
//! added up where they are read.

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Where a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Its head is looked at.
    Receive,
    /// Who calls is found out.
    Identify,
    /// What he may do is looked up.
    Authorize,
    /// Rates are looked at.
    Admit,
    /// A manifest is read.
    Inspect,
    /// Policies are asked.
    Screen,
    /// Room is made.
    Reserve,
    /// It is carried out, until the head of its answer is there.
    Forward,
    /// The token endpoint has it.
    Token,
}

impl Stage {
    /// All of them, in the order of a request.
    pub const ALL: [Self; 9] = [
        Self::Receive,
        Self::Identify,
        Self::Authorize,
        Self::Admit,
        Self::Inspect,
        Self::Screen,
        Self::Reserve,
        Self::Forward,
        Self::Token,
    ];

    /// Its name in metrics and traces.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Receive => "receive",
            Self::Identify => "identify",
            Self::Authorize => "authorize",
            Self::Admit => "admit",
            Self::Inspect => "inspect",
            Self::Screen => "screen",
            Self::Reserve => "reserve",
            Self::Forward => "forward",
            Self::Token => "token",
        }
    }
}

/// The buckets' upper bounds: 10 µs to 30 s, in nanoseconds.
const BOUNDS: [u64; 17] = [
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    1_000_000_000,
    5_000_000_000,
    30_000_000_000,
];

/// One thread's times in each stage.
#[derive(Default)]
pub struct Clock {
    stages: [Times; Stage::ALL.len()],
}

#[derive(Default)]
struct Times {
    within: [AtomicU64; BOUNDS.len()],
    beyond: AtomicU64,
    nanos: AtomicU64,
}

impl Clock {
    /// A request was in this stage for so long.
    pub fn took(&self, stage: Stage, time: Duration) {
        let Some(times) = self.stages.get(stage as usize) else { return };
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let bucket = BOUNDS.iter().position(|bound| nanos <= *bound).and_then(|place| times.within.get(place));
        bucket.unwrap_or(&times.beyond).fetch_add(1, Ordering::Relaxed);
        times.nanos.fetch_add(nanos, Ordering::Relaxed);
    }
}

/// The clocks of all threads.
#[derive(Clone, Default)]
pub struct Clocks(Arc<Mutex<Vec<Arc<Clock>>>>);

impl Clocks {
    /// One more thread's.
    pub fn add(&self) -> Arc<Clock> {
        let clock = Arc::new(Clock::default());
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&clock));
        clock
    }

    /// What all of them have counted in one stage: the buckets, and the seconds together.
    fn sum(&self, stage: Stage) -> (Vec<(f64, u64)>, f64) {
        let clocks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut buckets: Vec<(f64, u64)> =
            BOUNDS.iter().map(|nanos| Duration::from_nanos(*nanos).as_secs_f64()).map(|bound| (bound, 0)).collect();
        let (mut beyond, mut nanos) = (0_u64, 0_u64);
        for times in clocks.iter().filter_map(|clock| clock.stages.get(stage as usize)) {
            for ((_, sum), count) in buckets.iter_mut().zip(&times.within) {
                *sum = sum.saturating_add(count.load(Ordering::Relaxed));
            }
            beyond = beyond.saturating_add(times.beyond.load(Ordering::Relaxed));
            nanos = nanos.saturating_add(times.nanos.load(Ordering::Relaxed));
        }
        buckets.push((f64::INFINITY, beyond));
        (buckets, Duration::from_nanos(nanos).as_secs_f64())
    }
}

impl fmt::Debug for Clocks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clocks")
    }
}

impl Collector for Clocks {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        type NoLabels = [(&'static str, &'static str); 0];
        let help = "Time of requests in each stage";
        let mut metric =
            encoder.encode_descriptor("stage_duration", help, Some(&Unit::Seconds), MetricType::Histogram)?;
        for stage in Stage::ALL {
            let (buckets, seconds) = self.sum(stage);
            let count = buckets.iter().map(|(_, count)| count).sum();
            let labels = [("stage", stage.name())];
            metric.encode_family(&labels)?.encode_histogram::<NoLabels>(seconds, count, &buckets, None)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus_client::encoding::text;
    use prometheus_client::registry::Registry;

    #[test]
    fn the_threads_clocks_are_added_up() {
        let clocks = Clocks::default();
        let (one, other) = (clocks.add(), clocks.add());
        one.took(Stage::Screen, Duration::from_micros(10));
        one.took(Stage::Screen, Duration::from_micros(11));
        other.took(Stage::Screen, Duration::from_secs(31));
        other.took(Stage::Forward, Duration::from_millis(3));
        let mut registry = Registry::default();
        registry.register_collector(Box::new(clocks));
        let mut shown = String::new();
        text::encode(&mut shown, &registry).unwrap();
        for line in [
            "# TYPE stage_duration_seconds histogram",
            "stage_duration_seconds_count{stage=\"screen\"} 3",
            "stage_duration_seconds_bucket{le=\"0.00001\",stage=\"screen\"} 1",
            "stage_duration_seconds_bucket{le=\"0.000025\",stage=\"screen\"} 2",
            "stage_duration_seconds_bucket{le=\"30.0\",stage=\"screen\"} 2",
            "stage_duration_seconds_bucket{le=\"+Inf\",stage=\"screen\"} 3",
            "stage_duration_seconds_bucket{le=\"0.0025\",stage=\"forward\"} 0",
            "stage_duration_seconds_bucket{le=\"0.005\",stage=\"forward\"} 1",
            "stage_duration_seconds_count{stage=\"receive\"} 0",
        ] {
            assert!(shown.lines().any(|found| found == line), "{line} is missing\n{shown}");
        }
    }
}
