//! The chain: the platform's policies, then the project's, in order. The first refusal that counts ends it; narrowings
//! intersect. A policy can only narrow: what it answers is checked against what was asked and granted.

mod breaker;
mod budget;
mod counters;
mod narrow;
mod remember;

pub(crate) use breaker::Breakers;
pub(crate) use budget::{Budget, LogShare};
pub(crate) use counters::Counters;
pub use counters::Counts;
pub(crate) use remember::Verdicts;

use crate::catalog::{Attached, Chain, Generation, Mode, OnError, Owner};
use crate::contract::LogLine;
use crate::error::{Failure, FailureKind};
use crate::limits::{CallLimits, Limits};
use crate::policy::{Ran, Spent};
use crate::question::{Ask, Hook, Question, Scope};
use crate::text::plain;
use crate::verdict::{Denial, Effects, Reply};
use portcullis_oci::Digest;
use remember::QuestionHash;
use std::cell::OnceCell;
use std::sync::atomic::Ordering;
use std::time::Instant;

/// What the chain says.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Whether the request goes on.
    pub verdict: Verdict,
    /// For the client, of all that let it pass.
    pub warnings: Vec<String>,
    /// For the audit record, of all that let it pass.
    pub audit: Vec<(String, String)>,
    /// Each policy that was asked, in order.
    pub heard: Vec<Heard>,
}

/// Whether the request goes on.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// It does.
    Pass,
    /// A token is issued, for no more than this.
    Narrow {
        /// A part of what is asked for and granted.
        scopes: Vec<Scope>,
        /// Its life in seconds.
        ttl_s: u32,
    },
    /// It does not: 403 `DENIED`.
    Deny(Refusal),
}

/// Who refuses, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    /// The policy's name.
    pub policy: String,
    /// Whose policy it is.
    pub owner: Owner,
    /// What ran; for the audit record.
    pub digest: Digest,
    /// What the policy says, bounded and plain; for a failure, that it failed.
    pub message: String,
    /// The policy's own code.
    pub code: Option<String>,
    /// More, as JSON.
    pub detail_json: Option<String>,
    /// Where it is no verdict but a failure: its kind.
    pub failure: Option<FailureKind>,
}

/// What one policy said.
#[derive(Clone, Debug)]
pub struct Heard {
    /// The policy's name.
    pub policy: String,
    /// Whose policy it is.
    pub owner: Owner,
    /// What ran.
    pub digest: Digest,
    /// Whether it counts.
    pub mode: Mode,
    /// Its checked answer, or why there is none.
    pub said: Result<Reply, Failure>,
    /// Whether it was remembered and not asked again.
    pub remembered: bool,
    /// What it logged.
    pub log: Vec<LogLine>,
    /// Lines that it wanted to log beyond the limit.
    pub log_dropped: u32,
    /// What it used.
    pub spent: Spent,
}

impl Generation {
    /// Asks everybody who wants to be asked. `now` is the process's own clock, for breaker, budget, reuse and remembering.
    /// Runs guests on this thread, for at most their time; a caller with better things to do asks [`Self::needs_thread`] first.
    /// A guest takes up to 512 KiB of the thread's stack: a thread that asks has at least 1 MiB left.
    pub fn ask(&self, project: &str, question: &Question, now: Instant) -> Answer {
        let hook = question.hook();
        let mut answer = Answer::passing();
        let hash = OnceCell::new();
        let own = self.projects.get(project);
        for chain in std::iter::once(&self.platform).chain(own) {
            for attached in chain.attached.iter().filter(|attached| attached.hooks().contains(hook)) {
                let tenant = (attached.owner == Owner::Platform).then_some(project);
                let asked = Asked { generation: self, chain, attached, tenant, question, hash: &hash, now };
                asked.ask().join(attached, &mut answer);
                if matches!(answer.verdict, Verdict::Deny(_)) {
                    return answer;
                }
            }
        }
        answer
    }

    /// The answer where nobody can be asked at this hook: all who would be have failed.
    pub fn fail(&self, project: &str, hook: Hook, failure: &Failure) -> Answer {
        let mut answer = Answer::passing();
        for chain in std::iter::once(&self.platform).chain(self.projects.get(project)) {
            for attached in chain.attached.iter().filter(|attached| attached.hooks().contains(hook)) {
                Heard::of(attached, Err(failure.clone())).join(attached, &mut answer);
                if matches!(answer.verdict, Verdict::Deny(_)) {
                    return answer;
                }
            }
        }
        answer
    }

    /// Whether the project's own policies have used up their share of the request cores, and are to be asked on a policy
    /// thread.
    pub fn needs_thread(&self, project: &str, hook: Hook, now: Instant) -> bool {
        let own = self.projects.get(project).filter(|chain| chain.asks(hook));
        own.is_some_and(|chain| chain.load.budget.is_over(self.engine.limits().chain.project_cpu_ms_per_s, now))
    }
}

/// One policy to be asked one question.
struct Asked<'a> {
    generation: &'a Generation,
    chain: &'a Chain,
    attached: &'a Attached,
    /// For whom the platform's policy is asked.
    tenant: Option<&'a str>,
    question: &'a Question,
    hash: &'a OnceCell<QuestionHash>,
    now: Instant,
}

impl Asked<'_> {
    fn ask(&self) -> Heard {
        let attached = self.attached;
        let Some(policy) = &attached.policy else {
            return Heard::of(attached, Err(Failure::new(FailureKind::Missing, "it could not be loaded")));
        };
        if let Some(failure) = self.question.facts.failure_of(attached.wants()) {
            return Heard::of(attached, Err(failure.clone()));
        }
        let limits = &self.generation.engine.limits().chain;
        let key = attached.gives_life.load(Ordering::Relaxed).then(|| self.key());
        if let Some(reply) = key.and_then(|key| self.generation.verdicts.recall(key, self.now)) {
            let mut heard = Heard::of(attached, Ok(reply));
            heard.remembered = true;
            attached.counters.remembered();
            return heard;
        }
        if !attached.breakers.admits(self.tenant, limits, self.now) {
            return Heard::of(attached, Err(Failure::new(FailureKind::Breaker, "it rests after too many timeouts")));
        }
        // The platform's policies are the operator's own: the shares are the tenants'.
        let shares = self.tenant.is_none();
        let place = self.chain.load.enter(if shares { limits.project_calls } else { u32::MAX });
        let Some(place) = place else {
            let failure = Failure::new(FailureKind::Pool, "too many calls are under way for its project");
            return Heard::of(attached, Err(failure));
        };
        let mut ran = policy.run(self.question, self.now);
        drop(place);
        let written = self.chain.load.log.take(ran.log.len(), limits.project_log_lines_per_s, self.now);
        let dropped = u32::try_from(ran.log.len().saturating_sub(written)).unwrap_or(u32::MAX);
        ran.log_dropped = ran.log_dropped.saturating_add(dropped);
        ran.log.truncate(written);
        if shares {
            self.chain.load.budget.charge(ran.spent.cpu, limits.project_cpu_ms_per_s, self.now);
        }
        let timed_out = matches!(&ran.result, Err(failure) if failure.kind == FailureKind::Timeout);
        let ended = self.now.checked_add(ran.spent.wall).unwrap_or(self.now);
        attached.breakers.record(self.tenant, timed_out, limits, ended);
        attached.counters.ran(&ran);
        let said = ran
            .result
            .clone()
            .and_then(|reply| check_reply(reply, self.question, self.generation.engine.limits(), policy.limits()));
        self.remember(&said);
        let mut heard = Heard::of(attached, said);
        let Ran { log, log_dropped, spent, .. } = ran;
        (heard.log, heard.log_dropped, heard.spent) = (log, log_dropped, spent);
        heard
    }

    fn key(&self) -> remember::Key {
        let hash = self.hash.get_or_init(|| QuestionHash::of(self.question));
        remember::Key::new(self.generation.number, self.attached.serial, hash)
    }

    /// An answer with a life is remembered for it. That a policy gives life is known only after its first such answer.
    fn remember(&self, said: &Result<Reply, Failure>) {
        let life = match said {
            Ok(Reply::Allow(effects)) => effects.cache_ttl_s,
            Ok(Reply::Narrow(narrowing)) => narrowing.effects.cache_ttl_s,
            _ => None,
        };
        if let (Some(life), Ok(reply)) = (life.filter(|life| *life > 0), said) {
            self.attached.gives_life.store(true, Ordering::Relaxed);
            self.generation.verdicts.remember(self.key(), reply.clone(), life, self.now);
        }
    }
}

impl Heard {
    /// What one policy said, without a run of it.
    fn of(attached: &Attached, said: Result<Reply, Failure>) -> Self {
        Self {
            policy: attached.attachment.name.clone(),
            owner: attached.owner.clone(),
            digest: digest_of(attached),
            mode: attached.attachment.mode,
            said,
            remembered: false,
            log: Vec::new(),
            log_dropped: 0,
            spent: Spent::default(),
        }
    }

    /// Counts what was heard and, where it counts, lets it have its way.
    fn join(self, attached: &Attached, answer: &mut Answer) {
        let enforced = self.mode == Mode::Enforce;
        attached.counters.heard(&self.said, enforced);
        if enforced {
            match &self.said {
                Ok(Reply::Abstain) => {}
                Ok(Reply::Allow(effects)) => answer.add(effects),
                Ok(Reply::Narrow(narrowing)) => {
                    answer.add(&narrowing.effects);
                    answer.verdict = narrow::intersect(&answer.verdict, narrowing);
                }
                Ok(Reply::Deny(denial)) => answer.verdict = Verdict::Deny(self.refusal(denial.clone(), None)),
                Err(failure)
                    if attached.attachment.on_error == OnError::Deny || failure.kind == FailureKind::Unreadable =>
                {
                    let message = format!("the policy failed ({})", failure.kind.name());
                    let denial = Denial { message, ..Denial::default() };
                    answer.verdict = Verdict::Deny(self.refusal(denial, Some(failure.kind)));
                }
                Err(_) => {}
            }
        }
        answer.heard.push(self);
    }

    fn refusal(&self, denial: Denial, failure: Option<FailureKind>) -> Refusal {
        Refusal {
            policy: self.policy.clone(),
            owner: self.owner.clone(),
            digest: self.digest.clone(),
            message: denial.message,
            code: denial.code,
            detail_json: denial.detail_json,
            failure,
        }
    }
}

impl Answer {
    fn passing() -> Self {
        Self { verdict: Verdict::Pass, warnings: Vec::new(), audit: Vec::new(), heard: Vec::new() }
    }

    fn add(&mut self, effects: &Effects) {
        self.warnings.extend(effects.warnings.iter().cloned());
        self.audit.extend(effects.audit.iter().cloned());
    }
}

fn digest_of(attached: &Attached) -> Digest {
    attached.policy.as_ref().map_or(&attached.attachment.digest, |policy| policy.program().digest()).clone()
}

/// A policy's answer as far as it is worth something, or how it breaks the contract. A refusal is never lost for being badly
/// told. `call` are the limits of the policy that answered.
pub fn check_reply(reply: Reply, question: &Question, limits: &Limits, call: &CallLimits) -> Result<Reply, Failure> {
    match reply {
        Reply::Abstain => Ok(Reply::Abstain),
        Reply::Allow(effects) => check_effects(effects, call).map(Reply::Allow),
        Reply::Deny(denial) => Ok(Reply::Deny(Denial {
            message: plain(&denial.message, call.text_bytes),
            code: denial.code.map(|code| plain(&code, 64)),
            detail_json: denial.detail_json.filter(|json| serde_json::from_str::<serde::de::IgnoredAny>(json).is_ok()),
        })),
        Reply::Narrow(mut narrowing) => {
            let Ask::Token(request) = &question.ask else {
                return Err(Failure::new(FailureKind::Output, "only a token can be narrowed"));
            };
            narrow::check(&mut narrowing, request, limits.chain.min_token_ttl_s)
                .map_err(|why| Failure::new(FailureKind::Output, why))?;
            narrowing.effects = check_effects(narrowing.effects, call)?;
            Ok(Reply::Narrow(narrowing))
        }
    }
}

/// Effects within their limits: too many break the contract, too long a text is cut.
fn check_effects(effects: Effects, limits: &CallLimits) -> Result<Effects, Failure> {
    if effects.warnings.len() > limits.effects || effects.audit.len() > limits.effects {
        let most = limits.effects;
        return Err(Failure::new(FailureKind::Output, format!("more than {most} warnings or audit fields")));
    }
    let text = |text: &String| plain(text, limits.text_bytes);
    Ok(Effects {
        warnings: effects.warnings.iter().map(text).collect(),
        audit: effects.audit.iter().map(|(name, value)| (plain(name, 64), text(value))).collect(),
        cache_ttl_s: effects.cache_ttl_s,
    })
}
