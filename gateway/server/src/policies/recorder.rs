//! Real questions with the answers that they were given, for `portcullis policy record`; without what would tell whose they
//! were. Of a project to which nobody listens nothing is copied.

use arc_swap::ArcSwap;
use portcullis_policy::question::{Ask, Question};
use portcullis_policy::verdict::Reply;
use portcullis_policy::{Answer, Owner};
use portcullis_tenancy::ProjectId;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use tokio::sync::broadcast;

/// Questions that wait for whoever listens; more are lost to him.
const WAITING: usize = 32;

/// A question and what was said to it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Recorded {
    /// The question, without what would tell whose it was.
    pub question: Question,
    /// What each policy said that was asked, in order.
    pub said: Vec<Said>,
}

/// What one policy said.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Said {
    /// The policy's name.
    pub policy: String,
    /// Whether it is the platform's.
    pub platform: bool,
    /// What it said; none where it failed.
    pub reply: Option<Reply>,
}

/// Hands questions on to whoever listens, by project.
#[derive(Default)]
pub struct Recorder(ArcSwap<HashMap<ProjectId, broadcast::Sender<Arc<Recorded>>>>);

impl Recorder {
    /// Whether anybody listens to the questions about a project.
    pub fn is_on(&self, project: &ProjectId) -> bool {
        self.0.load().get(project).is_some_and(|listeners| listeners.receiver_count() > 0)
    }

    /// Hands a question on.
    pub fn record(&self, project: &ProjectId, mut question: Question, answer: &Answer) {
        redact(&mut question);
        let said = answer.heard.iter().map(|heard| Said {
            policy: heard.policy.clone(),
            platform: heard.owner == Owner::Platform,
            reply: heard.said.as_ref().ok().cloned(),
        });
        let recorded = Recorded { question, said: said.collect() };
        if let Some(listeners) = self.0.load().get(project) {
            // Whoever listened may have gone this moment.
            let _ = listeners.send(Arc::new(recorded));
        }
    }

    /// Listens to the questions about a project.
    pub fn listen(&self, project: &ProjectId) -> broadcast::Receiver<Arc<Recorded>> {
        let fresh = broadcast::Sender::new(WAITING);
        let mut listening = fresh.subscribe();
        self.0.rcu(|before| {
            let heard = before.iter().filter(|(_, listeners)| listeners.receiver_count() > 0);
            let mut next: HashMap<_, _> = heard.map(|(of, listeners)| (of.clone(), listeners.clone())).collect();
            listening = next.entry(project.clone()).or_insert_with(|| fresh.clone()).subscribe();
            next
        });
        listening
    }
}

/// Of an address its network is kept, since policies decide by it; the claims of a person's token are not.
fn redact(question: &mut Question) {
    let context = &mut question.context;
    context.request_id = "recorded".to_owned();
    context.user_agent = context.user_agent.split(['/', ' ']).next().unwrap_or_default().to_owned();
    context.client_ip = context.client_ip.parse().map(|address| network(address).to_string()).unwrap_or_default();
    context.subject.claims_json = "{}".to_owned();
    if let Ask::Request(request) | Ask::Response { request, .. } = &mut question.ask {
        request.headers.retain(|(name, _)| name != "user-agent");
    }
}

/// The first address of its /24, or of its /48.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            let [a, b, c, _] = address.octets();
            IpAddr::from([a, b, c, 0])
        }
        IpAddr::V6(address) => {
            let [a, b, c, ..] = address.segments();
            IpAddr::from([a, b, c, 0, 0, 0, 0, 0])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_an_address_its_network_is_kept() {
        let of = |address: &str| network(address.parse().unwrap()).to_string();
        assert_eq!([of("192.0.2.77"), of("2001:db8:1:2:3::4")], ["192.0.2.0", "2001:db8:1::"]);
    }

    #[test]
    fn who_listens_hears_of_his_project_alone() {
        let (recorder, acme, globex) = (Recorder::default(), ProjectId("a".into()), ProjectId("g".into()));
        let question = portcullis_policy::smoke_question(portcullis_policy::question::Hook::Request);
        let answer = Answer {
            verdict: portcullis_policy::Verdict::Pass,
            warnings: Vec::new(),
            audit: Vec::new(),
            heard: Vec::new(),
        };
        assert!(!recorder.is_on(&acme));
        let (mut one, mut other) = (recorder.listen(&acme), recorder.listen(&acme));
        assert!(recorder.is_on(&acme) && !recorder.is_on(&globex));
        let mut foreign = recorder.listen(&globex);
        recorder.record(&acme, question, &answer);
        assert!(one.try_recv().is_ok() && other.try_recv().is_ok() && foreign.try_recv().is_err());
        drop((one, other));
        assert!(!recorder.is_on(&acme) && recorder.is_on(&globex));
        drop(foreign);
        let _listening = recorder.listen(&acme);
        assert_eq!(recorder.0.load().len(), 1, "who has gone leaves nothing behind");
    }

    #[test]
    fn what_would_tell_whose_a_question_was_is_not_recorded() {
        let mut question = portcullis_policy::smoke_question(portcullis_policy::question::Hook::Request);
        if let Ask::Request(request) = &mut question.ask {
            request.headers.push(("user-agent".to_owned(), "docker/28.2 (host alice-laptop)".to_owned()));
        }
        question.context.request_id = "0123".to_owned();
        question.context.client_ip = "192.0.2.77".to_owned();
        question.context.user_agent = "docker/28.2 (host alice-laptop)".to_owned();
        question.context.subject.claims_json = r#"{"email":"alice@example.com"}"#.to_owned();
        redact(&mut question);
        let text = serde_json::to_string(&question).unwrap();
        for secret in ["0123", "192.0.2.77", "alice"] {
            assert!(!text.contains(secret), "{secret}: {text}");
        }
        assert_eq!(question.context.user_agent, "docker");
    }
}
