//! Cases: a question, settings, and what a policy is expected to say. They are read from files, run against components, and
//! compared. The form of the files is the author's guide's (`policies-wasm/README.md`, "Case files").

mod expect;
mod file;
mod shorthand;

pub(in crate::cli) use expect::{Difference, Expectation, Said, Verdict};
pub(in crate::cli) use file::read;

use portcullis_policy::question::Question;
use portcullis_policy::{Failure, FailureKind, LogLine, Policy, check_reply};
use serde_json::{Value, json};
use std::path::PathBuf;

/// A question with what is expected of it.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::cli) struct Case {
    /// A sentence.
    pub(in crate::cli) name: String,
    /// Where it was read.
    pub(in crate::cli) file: PathBuf,
    /// Its own settings, or its file's.
    pub(in crate::cli) settings: Option<Value>,
    pub(in crate::cli) question: Question,
    pub(in crate::cli) expect: Expectation,
}

/// What one call answered.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::cli) struct Found {
    /// The answer, or how the call failed or broke the contract.
    pub(in crate::cli) said: Result<Said, Failure>,
    /// What the policy logged.
    pub(in crate::cli) log: Vec<LogLine>,
}

/// Asks a policy a question in a fresh instance. What only took too long is asked once more, since a first call pays for cold
/// caches.
pub(in crate::cli) fn ask(policy: &Policy, question: &Question) -> Found {
    let mut ran = policy.run_fresh(question);
    if matches!(&ran.result, Err(failure) if failure.kind == FailureKind::Timeout) {
        ran = policy.run_fresh(question);
    }
    let limits = policy.program().limits();
    let said = ran.result.and_then(|reply| {
        check_reply(reply.clone(), question, limits, policy.limits())?;
        // As it was said: what is cut or made plain for a client is not what the case's author wrote.
        Ok(reply.into())
    });
    Found { said, log: ran.log }
}

/// Asks a case's question of a policy that has the case's settings, and says what differs.
pub(in crate::cli) fn run(policy: &Policy, case: &Case) -> (Found, Vec<Difference>) {
    let hook = case.question.hook();
    if !policy.program().is_asked_at(hook) {
        let never = Difference {
            what: "hook",
            expected: hook.name().to_owned(),
            found: "the policy does not name it, and is never asked there".to_owned(),
        };
        return (Found { said: Ok(Said::only(Verdict::Abstain)), log: Vec::new() }, vec![never]);
    }
    let found = ask(policy, &case.question);
    let differences = case.expect.compare(&found.said);
    (found, differences)
}

/// A case as it is written to a file: a complete question, and what was said of it.
pub(in crate::cli) fn recorded(name: &str, question: &Question, said: &Said) -> Value {
    json!({ "name": name, "question": question, "expect": Expectation::of(said) })
}

#[cfg(test)]
mod tests;
