//! What a request came to: counted and logged once, when its answer's body has ended or was given up.

use super::authorize::Granted;
use super::identify::Caller;
use super::respond::Refusal;
use super::screen::Observer;
use crate::app::{Settings, Worker};
use crate::listen::Visitor;
use crate::telemetry::{self, Labels, Outcome, RequestId};
use crate::upstream::Inbound;
use http::StatusCode;
use http::request::Parts;
use portcullis_policy::question as policy;
use portcullis_tenancy::{Project, Robot};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

/// What is written for a request whose client went away before the answer; nginx's convention.
const GONE: u16 = 499;

/// One request's record; it is written when this is dropped.
pub struct Meter {
    worker: Arc<Worker>,
    started: Instant,
    request_id: RequestId,
    peer: IpAddr,
    operation: &'static str,
    repository: Option<Box<str>>,
    project: Option<Arc<Project>>,
    robot: Option<Arc<Robot>>,
    status: Option<StatusCode>,
    decision: &'static str,
    body: Option<Arc<Inbound>>,
    bytes_out: u64,
    failure: Option<String>,
    observer: Option<Box<Observer>>,
}

impl Meter {
    /// Starts a request's record.
    pub fn start(
        worker: &Arc<Worker>,
        settings: &Settings,
        head: &Parts,
        visitor: &Visitor,
        body: Option<&Arc<Inbound>>,
    ) -> Self {
        worker.app.telemetry.begin();
        Self {
            request_id: RequestId::of(&settings.config.log, head, visitor.hop),
            worker: Arc::clone(worker),
            started: Instant::now(),
            peer: visitor.client,
            operation: "none",
            repository: None,
            project: None,
            robot: None,
            status: None,
            decision: "allow",
            body: body.cloned(),
            bytes_out: 0,
            failure: None,
            observer: None,
        }
    }

    /// The request's id.
    pub fn request_id(&self) -> &RequestId {
        &self.request_id
    }

    /// What it is for.
    pub fn operation(&mut self, name: &'static str) {
        self.operation = name;
    }

    /// Who asks.
    pub fn caller(&mut self, caller: &Caller) {
        self.robot = caller.robot().cloned();
    }

    /// Who asks, at the token endpoint.
    pub fn robot(&mut self, robot: &Arc<Robot>) {
        self.robot = Some(Arc::clone(robot));
    }

    /// What was granted.
    pub fn granted(&mut self, granted: &Granted) {
        self.operation = granted.operation().name();
        self.project = granted.project().cloned();
        if tracing::enabled!(target: telemetry::ACCESS, tracing::Level::INFO) {
            self.repository = granted.operation().repository().map(|name| name.as_str().into());
        }
    }

    /// Why it is not carried out.
    pub fn refused(&mut self, refusal: &Refusal) {
        self.decision = match refusal {
            Refusal::Challenge { .. } | Refusal::Login(_) => "challenge",
            Refusal::Policy { .. } => "policy",
            Refusal::Quota(_) => "quota",
            Refusal::Protocol(_) | Refusal::Framing(_) | Refusal::Range { .. } => "refuse",
            Refusal::Upstream(_) | Refusal::UpstreamStatus { .. } => "upstream-failed",
            Refusal::Unavailable(_) | Refusal::Store(_) => "unavailable",
            Refusal::Shed(_) => "shed",
            Refusal::Internal(_) => "failed",
        };
    }

    /// Who is shown what becomes of it.
    pub fn observe(&mut self, observer: Observer) {
        self.observer = Some(Box::new(observer));
    }

    /// The answer's status.
    pub fn status(&mut self, status: StatusCode) {
        self.status = Some(status);
    }

    /// Bytes that were sent.
    pub fn sent(&mut self, bytes: usize) {
        self.bytes_out = self.bytes_out.saturating_add(bytes as u64);
    }

    /// The answer ends abnormally.
    pub fn failed(&mut self, error: &(dyn std::error::Error + Send + Sync)) {
        tracing::warn!(request.id = %self.request_id, %error, "an answer broke off");
        self.failure = Some(error.to_string());
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        let bytes_in = self.body.as_ref().map_or(0, |body| body.bytes());
        let elapsed = self.started.elapsed();
        let seconds = elapsed.as_secs_f64();
        // The handler was dropped before it had an answer: nobody was there any more to take it.
        let (status, decision) = self.status.map_or((GONE, "gone"), |status| (status.as_u16(), self.decision));
        let labels = Labels::new(self.operation, status);
        self.worker
            .app
            .telemetry
            .end(&labels, &Outcome { seconds, bytes_in, bytes_out: self.bytes_out, failed: self.failure.is_some() });
        if let Some(observer) = self.observer.take() {
            let duration_us = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
            let outcome = policy::Outcome { status, bytes_out: self.bytes_out, duration_us };
            observer.ended(&self.worker.app.policies, outcome);
        }
        tracing::event!(
            target: telemetry::ACCESS,
            tracing::Level::INFO,
            request.id = %self.request_id,
            client.address = %self.peer,
            operation = self.operation,
            project = self.project.as_ref().map(|project| project.name.as_str()),
            repository = self.repository.as_deref(),
            robot = self.robot.as_ref().map(|robot| robot.username()),
            decision,
            status,
            bytes.received = bytes_in,
            bytes.sent = self.bytes_out,
            duration.ms = seconds * 1000.0,
            failure = self.failure.as_deref(),
            "request"
        );
    }
}
