//! Measuring one policy: what a call costs, fresh and reused. For `policy bench` and for the house's own measurements.

use crate::error::Failure;
use crate::limits::Class;
use crate::policy::Policy;
use crate::question::Question;
use std::time::{Duration, Instant};

/// What calls cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measured {
    /// How many calls were made.
    pub calls: u32,
    /// Half of them took at most this long.
    pub p50: Duration,
    /// 99 of 100 took at most this long.
    pub p99: Duration,
    /// The largest memory at a call's end, in bytes.
    pub memory_bytes: usize,
    /// Fuel of the last call, where the engine counts it. Such an engine is slower: do not take times from it.
    pub fuel: Option<u64>,
    /// The class of slots.
    pub class: Class,
}

/// Where the time of a call in a fresh instance goes: the median of each step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Steps {
    /// The making of the instance.
    pub instance: Duration,
    /// `configure`.
    pub configure: Duration,
    /// The question: written into the guest's memory, thought about, its answer read.
    pub ask: Duration,
    /// The instance is taken apart.
    pub end: Duration,
}

/// Asks the question so many times, each in a fresh instance, and looks at the clock between the steps.
pub fn measure_steps(policy: &Policy, question: &Question, calls: u32) -> Result<Steps, Failure> {
    let mut steps: [Vec<Duration>; 4] = Default::default();
    for _ in 0..calls.max(1) {
        for (all, one) in steps.iter_mut().zip(policy.run_in_steps(question)?) {
            all.push(one);
        }
    }
    let [instance, configure, ask, end] = steps.map(|mut times| {
        times.sort_unstable();
        times.get(times.len() >> 1).copied().unwrap_or_default()
    });
    Ok(Steps { instance, configure, ask, end })
}

/// Asks the question so many times, each in a fresh instance, after a few calls to warm up.
pub fn measure_fresh(policy: &Policy, question: &Question, calls: u32) -> Result<Measured, Failure> {
    measure(policy, calls, || policy.run_fresh(question))
}

/// Asks the question so many times, in kept instances. The policy must have been made with reuse.
pub fn measure_reused(policy: &Policy, question: &Question, calls: u32) -> Result<Measured, Failure> {
    let now = Instant::now();
    measure(policy, calls, || policy.run(question, now))
}

fn measure(policy: &Policy, calls: u32, run: impl Fn() -> crate::Ran) -> Result<Measured, Failure> {
    for _ in 0..calls.min(100) {
        run().result?;
    }
    let mut times = Vec::new();
    let (mut memory_bytes, mut fuel) = (0, None);
    for _ in 0..calls.max(1) {
        let before = Instant::now();
        let ran = run();
        // The whole call, with what is done before the guest's time begins and after it ends.
        times.push(before.elapsed());
        ran.result?;
        memory_bytes = ran.spent.memory_bytes.max(memory_bytes);
        fuel = ran.spent.fuel;
    }
    times.sort_unstable();
    let at = |percent: usize| {
        let position = times.len().saturating_mul(percent).checked_div(100).unwrap_or(0);
        times.get(position.min(times.len().saturating_sub(1))).copied().unwrap_or_default()
    };
    Ok(Measured { calls, p50: at(50), p99: at(99), memory_bytes, fuel, class: policy.program().class() })
}
