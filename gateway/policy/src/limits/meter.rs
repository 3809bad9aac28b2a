//! What one instance has used. It is asked by wasmtime when memory grows and at every tick of the epoch.

use super::CallLimits;
use rustix::time::{ClockId, clock_gettime};
use std::time::{Duration, Instant};
use wasmtime::{ResourceLimiter, UpdateDeadline};

/// The epoch's tick.
pub(crate) const TICK: Duration = Duration::from_millis(1);

/// Why the meter stopped a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Stop {
    /// Its CPU time is used up.
    #[error("the policy used more CPU time than its limit")]
    Cpu,
    /// It was preempted for so long that nobody waits any longer.
    #[error("the policy took longer than its limit of wall time")]
    Wall,
    /// Its memory is used up.
    #[error("the policy wanted more memory than its limit")]
    Memory,
    /// A table grew too large.
    #[error("the policy wanted a larger table than its limit")]
    Table,
    /// It called the host too often.
    #[error("the policy called the host more often than its limit")]
    HostCalls,
}

/// The meter of one instance.
#[derive(Debug)]
pub(crate) struct Meter {
    memory_limit: usize,
    table_limit: usize,
    hard_stop: Duration,
    host_calls_limit: u32,
    memory: usize,
    cpu_limit: Duration,
    started: Instant,
    /// The thread's CPU time at the first tick, and what is charged for the time before it.
    first_tick: Option<(Duration, Duration)>,
    host_calls: u32,
    stopped: Option<Stop>,
}

impl Meter {
    /// A meter for an instance that is about to be made.
    pub(crate) fn new(limits: &CallLimits, table_limit: usize, cpu_limit: Duration) -> Self {
        Self {
            memory_limit: limits.memory_bytes,
            table_limit,
            hard_stop: limits.hard_stop,
            host_calls_limit: limits.host_calls,
            memory: 0,
            cpu_limit,
            started: Instant::now(),
            first_tick: None,
            host_calls: 0,
            stopped: None,
        }
    }

    /// Starts to measure another call in the same instance. What memory it holds stays counted.
    pub(crate) fn restart(&mut self, cpu_limit: Duration) {
        self.cpu_limit = cpu_limit;
        self.started = Instant::now();
        self.first_tick = None;
        self.host_calls = 0;
        self.stopped = None;
    }

    /// Why the guest was stopped, if it was.
    pub(crate) const fn stopped(&self) -> Option<Stop> {
        self.stopped
    }

    /// Bytes of all memories. A memory never shrinks, so it is the peak too.
    pub(crate) const fn memory(&self) -> usize {
        self.memory
    }

    /// CPU time since the start: asked of the kernel where the call lived to see a tick, else its wall time. What is longer than
    /// a tick, though the guest saw none, was spent waiting for the processor.
    pub(crate) fn spent(&self) -> Duration {
        match self.first_tick {
            Some((clock, before)) => thread_cpu().saturating_sub(clock).saturating_add(before),
            None => self.started.elapsed().min(TICK),
        }
    }

    /// Wall time since the start.
    pub(crate) fn wall(&self) -> Duration {
        self.started.elapsed()
    }

    /// A tick has passed: may the guest go on? A guest that was merely preempted has not used its CPU time, and may.
    pub(crate) fn tick(&mut self) -> wasmtime::Result<UpdateDeadline> {
        let wall = self.started.elapsed();
        if self.first_tick.is_none() {
            self.first_tick = Some((thread_cpu(), wall.min(TICK)));
        }
        if self.spent() > self.cpu_limit {
            return Err(self.stop(Stop::Cpu));
        }
        if wall > self.cpu_limit.saturating_add(self.hard_stop) {
            return Err(self.stop(Stop::Wall));
        }
        Ok(UpdateDeadline::Continue(1))
    }

    /// Counts one call of a host function.
    pub(crate) fn host_call(&mut self) -> wasmtime::Result<()> {
        self.host_calls = self.host_calls.saturating_add(1);
        if self.host_calls > self.host_calls_limit { Err(self.stop(Stop::HostCalls)) } else { Ok(()) }
    }

    fn stop(&mut self, why: Stop) -> wasmtime::Error {
        self.stopped = Some(why);
        wasmtime::Error::new(why)
    }
}

/// Growth beyond the limit traps at once: a guest that asks again and again would only burn its CPU time.
impl ResourceLimiter for Meter {
    fn memory_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        let total = self.memory.saturating_add(desired.saturating_sub(current));
        if total > self.memory_limit {
            return Err(self.stop(Stop::Memory));
        }
        self.memory = total;
        Ok(true)
    }

    fn table_growing(&mut self, _current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        if desired > self.table_limit {
            return Err(self.stop(Stop::Table));
        }
        Ok(true)
    }
}

/// The CPU time of this thread.
fn thread_cpu() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::{Meter, TICK};
    use crate::limits::CallLimits;
    use std::time::Duration;

    #[test]
    fn what_was_preempted_without_seeing_a_tick_is_not_charged_for_it() {
        let mut meter = Meter::new(&CallLimits::default(), 0, Duration::from_millis(5));
        meter.started = meter.started.checked_sub(Duration::from_secs(1)).unwrap();
        assert_eq!(meter.spent(), TICK);
        assert!(meter.wall() >= Duration::from_secs(1));
    }
}
