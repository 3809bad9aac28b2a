//! A project's chain is asked: what was said is written down, and a refusal made of a refusal. Where nobody could be asked, or
//! not everybody, what attached policies say of their failures holds.

use crate::pipeline::Visit;
use crate::pipeline::respond::Refusal;
use crate::trace::{Kind, Span};
use portcullis_oci::Digest;
use portcullis_policy::question::{Hook, Question};
use portcullis_policy::verdict::Reply;
use portcullis_policy::{Answer, Failure, FailureKind, Heard, Level, LogLine, Mode, Verdict};
use portcullis_tenancy::Project;

/// Asks. `missed` is what the client is told where a policy refuses because something could not be looked up.
pub(super) async fn ask(
    visit: &Visit,
    project: &Project,
    question: Question,
    missed: Option<Refusal>,
) -> Result<Answer, Refusal> {
    let (hook, request_id) = (question.hook(), question.context.request_id.clone());
    let mut span = Span::begin("policies", Kind::Internal);
    span.set("portcullis.hook", || hook.name());
    match visit.worker.app.policies.ask(&visit.policies, &project.id, question).await {
        Ok(answer) => {
            write_down(project, hook, &request_id, &answer);
            judge(project, answer, missed)
        }
        Err(busy) => {
            let failure = Failure::new(FailureKind::Busy, busy.to_string());
            let refusal = Refusal::unavailable(format!("{busy}; try again in a moment"));
            fail(visit, project, hook, &request_id, &failure, refusal)
        }
    }
}

/// Nobody can be asked: whoever would be has failed. Where that refuses the request, the client is told `refusal`.
pub(super) fn fail(
    visit: &Visit,
    project: &Project,
    hook: Hook,
    request_id: &str,
    failure: &Failure,
    refusal: Refusal,
) -> Result<Answer, Refusal> {
    let answer = visit.policies.fail(&project.id.0, hook, failure);
    write_down(project, hook, request_id, &answer);
    judge(project, answer, Some(refusal))
}

fn judge(project: &Project, answer: Answer, missed: Option<Refusal>) -> Result<Answer, Refusal> {
    const MISSED: [FailureKind; 3] = [FailureKind::Busy, FailureKind::Lookup, FailureKind::Unreadable];
    match (answer.verdict, missed) {
        (Verdict::Deny(refusal), Some(missed)) if refusal.failure.is_some_and(|kind| MISSED.contains(&kind)) => {
            Err(missed)
        }
        (Verdict::Deny(refusal), _) => {
            Err(Refusal::Policy { refusal: Box::new(refusal), project: project.name.clone() })
        }
        (verdict @ (Verdict::Pass | Verdict::Narrow { .. }), _) => Ok(Answer { verdict, ..answer }),
    }
}

/// Writes down what was said.
pub(super) fn write_down(project: &Project, hook: Hook, request_id: &str, answer: &Answer) {
    let case = Case { request_id, project: project.name.as_str(), hook: hook.name() };
    for heard in &answer.heard {
        heard.log.iter().for_each(|line| case.log(&heard.policy, line));
        match &heard.said {
            Err(failure) => case.failed(heard, failure),
            Ok(Reply::Deny(denial)) if heard.mode == Mode::Monitor => {
                case.refused(&heard.policy, &heard.digest, &denial.message, "a policy in monitor mode would refuse");
            }
            Ok(_) => {}
        }
    }
    if let Verdict::Deny(refusal) = &answer.verdict {
        case.refused(&refusal.policy, &refusal.digest, &refusal.message, "a policy refuses");
    }
    for (field, value) in &answer.audit {
        let Case { request_id, project, hook } = case;
        tracing::info!(request.id = request_id, project, hook, field, value, "a policy notes");
    }
}

/// What every line has.
#[derive(Clone, Copy)]
struct Case<'a> {
    request_id: &'a str,
    project: &'a str,
    hook: &'a str,
}

impl Case<'_> {
    fn log(self, policy: &str, line: &LogLine) {
        let Self { request_id, project, hook } = self;
        let message = line.message.as_str();
        match line.level {
            Level::Error | Level::Warn => {
                tracing::warn!(request.id = request_id, project, policy, hook, message, "a policy says")
            }
            Level::Info => tracing::info!(request.id = request_id, project, policy, hook, message, "a policy says"),
            Level::Debug => tracing::debug!(request.id = request_id, project, policy, hook, message, "a policy says"),
        }
    }

    fn failed(self, heard: &Heard, failure: &Failure) {
        let Self { request_id, project, hook } = self;
        let (policy, digest) = (heard.policy.as_str(), heard.digest.as_str());
        tracing::warn!(request.id = request_id, project, policy, policy.digest = digest, hook, %failure, "a policy failed");
    }

    fn refused(self, policy: &str, digest: &Digest, message: &str, what: &'static str) {
        let Self { request_id, project, hook } = self;
        let digest = digest.as_str();
        tracing::info!(request.id = request_id, project, policy, policy.digest = digest, hook, message, "{what}");
    }
}
