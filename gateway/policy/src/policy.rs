//! A policy is a program with settings: it can be asked. It decides nothing about what its answer is worth.

mod idle;

pub use crate::program::Spent;
pub(crate) use idle::IdleBudget;
pub use idle::Reuse;
use idle::{Idle, Kept};

use crate::contract::LogLine;
use crate::error::{Failure, FailureKind, LoadError};
use crate::limits::CallLimits;
use crate::program::{Program, Running};
use crate::question::{Hook, Question};
use crate::verdict::Reply;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A program with its settings.
pub struct Policy {
    program: Arc<Program>,
    settings: Arc<str>,
    limits: CallLimits,
    idle: Option<Idle>,
    configure: Spent,
}

/// What one call gave.
#[derive(Clone, Debug)]
pub struct Ran {
    /// The answer, as yet unchecked, or why there is none.
    pub result: Result<Reply, Failure>,
    /// What it logged.
    pub log: Vec<LogLine>,
    /// How many lines more it wanted to log.
    pub log_dropped: u32,
    /// By how much each of its metrics grew.
    pub counts: Vec<(String, u64)>,
    /// What it used.
    pub spent: Spent,
    /// Whether the instance had been used before.
    pub reused: bool,
}

impl Policy {
    /// Puts settings on a program: they are checked, `configure` is tried, and every hook that the program names is asked once
    /// (the smoke call). `limits` of `None` are the class's.
    pub fn new(
        program: Arc<Program>,
        settings: &str,
        limits: Option<CallLimits>,
        reuse: Option<Reuse>,
    ) -> Result<Self, LoadError> {
        let settings = if settings.trim().is_empty() { "{}" } else { settings };
        program.check_settings(settings)?;
        let limits = limits.unwrap_or_else(|| program.call_limits().clone());
        let mut policy = Self { program, settings: settings.into(), limits, idle: None, configure: Spent::default() };
        policy.configure = policy.try_configure(reuse.is_some())?;
        policy.smoke(if reuse.is_some() { policy.limits.configure_cpu } else { policy.limits.cpu })?;
        policy.idle = reuse.map(|reuse| {
            let engine = policy.program.engine();
            Idle::new(reuse, engine.limits().chain.idle_instances, engine.idle_budget(policy.program.class()).clone())
        });
        Ok(policy)
    }

    /// What it was made of.
    pub fn program(&self) -> &Arc<Program> {
        &self.program
    }

    /// Its settings, as JSON.
    pub fn settings(&self) -> &str {
        &self.settings
    }

    /// What a call may use.
    pub fn limits(&self) -> &CallLimits {
        &self.limits
    }

    /// What `configure` used when it was tried. With fresh instances it counts within each call.
    pub fn configure_spent(&self) -> Spent {
        self.configure
    }

    /// Asks, in a fresh instance.
    pub fn run_fresh(&self, question: &Question) -> Ran {
        self.run_fresh_with(question, self.limits.cpu)
    }

    /// Asks, in a kept instance where reuse is on and one is at hand.
    pub fn run(&self, question: &Question, now: Instant) -> Ran {
        let Some(idle) = &self.idle else {
            return self.run_fresh(question);
        };
        if let Some(kept) = idle.take(now) {
            let mut running = match self.program.resume(kept.parts, self.limits.cpu) {
                Ok(running) => running,
                Err(failure) => return Ran::failed(failure),
            };
            let result = running.ask(question);
            let ran = self.ran(&mut running, result, true);
            if ran.result.is_ok() {
                idle.give_back(Kept {
                    parts: running.into_parts(),
                    calls: kept.calls.saturating_add(1),
                    born: kept.born,
                });
            }
            return ran;
        }
        // An instance that is kept may take its time to be made; the question has its own.
        let mut running = match self.fresh(self.limits.configure_cpu) {
            Ok(running) => running,
            Err(failure) => return Ran::failed(failure),
        };
        let making = running.spent();
        running = match self.program.resume(running.into_parts(), self.limits.cpu) {
            Ok(running) => running,
            Err(failure) => return Ran::failed(failure),
        };
        let result = running.ask(question);
        let mut ran = self.ran(&mut running, result, false);
        ran.spent.cpu = ran.spent.cpu.saturating_add(making.cpu);
        ran.spent.wall = ran.spent.wall.saturating_add(making.wall);
        if ran.result.is_ok() {
            idle.give_back(Kept { parts: running.into_parts(), calls: 1, born: now });
        }
        ran
    }

    /// Forgets every instance that is kept.
    pub fn drop_idle(&self) {
        if let Some(idle) = &self.idle {
            idle.clear();
        }
    }

    /// Asks each hook that the program names. A first call pays for cold caches: what only took too long may try again.
    fn smoke(&self, cpu: Duration) -> Result<(), LoadError> {
        for hook in Hook::ALL.into_iter().filter(|hook| self.program.is_asked_at(*hook)) {
            let question = crate::smoke::question(hook);
            let once = || self.run_fresh_with(&question, cpu).result;
            let result =
                once().or_else(|failure| if failure.kind == FailureKind::Timeout { once() } else { Err(failure) });
            let named = |failure: Failure| {
                LoadError::Smoke(Failure::new(failure.kind, format!("`{}`: {}", hook.name(), failure.message)))
            };
            result.map_err(|failure| LoadError::of_call(failure, named))?;
        }
        Ok(())
    }

    fn run_fresh_with(&self, question: &Question, cpu: Duration) -> Ran {
        match self.fresh(cpu) {
            Ok(mut running) => {
                let result = running.ask(question);
                self.ran(&mut running, result, false)
            }
            Err(failure) => Ran::failed(failure),
        }
    }

    /// A fresh instance, configured.
    fn fresh(&self, cpu: Duration) -> Result<Running<'_>, Failure> {
        let mut running = self.program.start(&self.limits, cpu)?;
        match running.configure(&self.settings)? {
            Ok(()) => Ok(running),
            Err(problem) => {
                Err(Failure::new(FailureKind::Trap, format!("`configure` refuses its settings: {problem}")))
            }
        }
    }

    /// One fresh call with its steps timed: instance, `configure`, question, end.
    pub(crate) fn run_in_steps(&self, question: &Question) -> Result<[Duration; 4], Failure> {
        let begun = Instant::now();
        let mut running = self.program.start(&self.limits, self.limits.cpu)?;
        let made = Instant::now();
        running.configure(&self.settings)?.map_err(|problem| Failure::new(FailureKind::Trap, problem))?;
        let configured = Instant::now();
        running.ask(question)?;
        let asked = Instant::now();
        drop(running);
        let between = |from: Instant, to: Instant| to.saturating_duration_since(from);
        Ok([between(begun, made), between(made, configured), between(configured, asked), asked.elapsed()])
    }

    /// A first call pays for cold caches: what only took too long may try again.
    fn try_configure(&self, kept: bool) -> Result<Spent, LoadError> {
        let slow = |spent: &Spent| !kept && spent.cpu > self.limits.cpu;
        let mut spent = self.configure_once()?;
        if slow(&spent) {
            spent = self.configure_once()?;
        }
        if slow(&spent) {
            let in_ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
            return Err(LoadError::SlowConfigure { used_ms: in_ms(spent.cpu), limit_ms: in_ms(self.limits.cpu) });
        }
        Ok(spent)
    }

    fn configure_once(&self) -> Result<Spent, LoadError> {
        let failed = |failure: Failure| {
            let told = |failure| LoadError::Settings(vec![format!("`configure` failed: {failure}")]);
            LoadError::of_call(failure, told)
        };
        let mut running = self.program.start(&self.limits, self.limits.configure_cpu).map_err(failed)?;
        if let Err(problem) = running.configure(&self.settings).map_err(failed)? {
            return Err(LoadError::Settings(vec![crate::text::plain(&problem, 256)]));
        }
        Ok(running.spent())
    }

    fn ran(&self, running: &mut Running<'_>, result: Result<Reply, Failure>, reused: bool) -> Ran {
        let spent = running.spent();
        let said = running.take_said();
        let names = self.program.metrics().iter();
        let counts = names.zip(said.counts).filter(|(_, by)| *by > 0).map(|(name, by)| (name.clone(), by)).collect();
        Ran { result, log: said.log, log_dropped: said.dropped, counts, spent, reused }
    }
}

impl Ran {
    fn failed(failure: Failure) -> Self {
        Self {
            result: Err(failure),
            log: Vec::new(),
            log_dropped: 0,
            counts: Vec::new(),
            spent: Spent::default(),
            reused: false,
        }
    }
}
