//! Real questions with the answers that they were given, for `portcullis policy record`; without what would tell whose they
//! were. While nobody listens it costs a look at a counter.

use portcullis_policy::question::{Ask, Question};
use portcullis_policy::verdict::Reply;
use portcullis_policy::{Answer, Owner};
use portcullis_tenancy::ProjectId;
use serde::{Deserialize, Serialize};
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

/// Hands questions on to whoever listens.
pub struct Recorder(broadcast::Sender<(ProjectId, Arc<Recorded>)>);

impl Recorder {
    /// With nobody listening.
    pub fn new() -> Self {
        Self(broadcast::Sender::new(WAITING))
    }

    /// Whether anybody listens.
    pub fn is_on(&self) -> bool {
        self.0.receiver_count() > 0
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
        // Whoever listened may have gone this moment.
        let _ = self.0.send((project.clone(), Arc::new(recorded)));
    }

    /// Listens to the questions of all projects.
    pub fn listen(&self) -> broadcast::Receiver<(ProjectId, Arc<Recorded>)> {
        self.0.subscribe()
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
