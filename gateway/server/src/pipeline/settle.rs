//! What a request came to: counted and logged once, when its answer's body has ended or was given up.

use super::Visit;
use super::authorize::Granted;
use super::identify::Caller;
use super::respond::Refusal;
use super::screen::Observer;
use crate::app::{Settings, Worker};
use crate::audit;
use crate::limits::Tab;
use crate::listen::Visitor;
use crate::telemetry::{self, ALLOW, Labels, NONE, Outcome, RequestId, Stage};
use crate::trace::{Context, Trace, Value};
use crate::upstream::Inbound;
use http::request::Parts;
use http::{HeaderValue, Method, StatusCode, Version, header};
use portcullis_policy::question as policy;
use portcullis_tenancy::{Project, Robot};
use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

/// What is written for a request whose client went away before the answer; nginx's convention.
const GONE: u16 = 499;

/// Most of a user agent that is written down, in bytes.
const MAX_AGENT: usize = 200;

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
    tab: Option<Arc<Tab>>,
    /// Who the client says that he is, at the token endpoint.
    claimed: Option<Box<str>>,
    stage: Option<(Stage, Instant)>,
    trace: Option<Arc<Trace>>,
    method: Method,
    version: Version,
    agent: Option<HeaderValue>,
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
        let log = &settings.config.log;
        let came = if log.trusts(visitor.hop) { Context::read(&head.headers) } else { None };
        let trace = worker.app.tracer.begin(came);
        if let Some(trace) = &trace {
            trace.enter(Stage::Receive.name());
        }
        let agent = if is_told(trace.as_ref()) { head.headers.get(header::USER_AGENT).cloned() } else { None };
        let started = Instant::now();
        Self {
            request_id: RequestId::of(log, head, visitor.hop),
            worker: Arc::clone(worker),
            started,
            peer: visitor.client,
            operation: NONE,
            repository: None,
            project: None,
            robot: None,
            status: None,
            decision: ALLOW,
            body: body.cloned(),
            bytes_out: 0,
            failure: None,
            observer: None,
            tab: None,
            claimed: None,
            stage: Some((Stage::Receive, started)),
            trace,
            method: head.method.clone(),
            version: head.version,
            agent,
        }
    }

    /// Its trace, if it has one.
    pub fn trace(&self) -> Option<Arc<Trace>> {
        self.trace.clone()
    }

    /// It comes to another stage.
    pub fn enter(&mut self, stage: Stage) {
        let now = Instant::now();
        self.left(now);
        self.stage = Some((stage, now));
        if let Some(trace) = &self.trace {
            trace.enter(stage.name());
        }
    }

    /// It has been through all stages, or was refused in the last.
    pub fn leave(&mut self) {
        self.left(Instant::now());
        if let Some(trace) = &self.trace {
            trace.leave();
        }
    }

    fn left(&mut self, now: Instant) {
        if let Some((stage, since)) = self.stage.take() {
            self.worker.clock.took(stage, now.saturating_duration_since(since));
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

    /// Who says that he asks, at the token endpoint; nothing is checked of it yet.
    pub fn claims(&mut self, username: &str) {
        self.claimed = Some(username.into());
    }

    /// Who asks, at the token endpoint.
    pub fn robot(&mut self, robot: &Arc<Robot>) {
        self.robot = Some(Arc::clone(robot));
    }

    /// What was granted.
    pub fn granted(&mut self, granted: &Granted) {
        self.operation = granted.operation().name();
        self.project = granted.project().cloned();
        if is_told(self.trace.as_ref()) {
            self.repository = granted.operation().repository().map(|name| name.as_str().into());
        }
    }

    /// Why it is not carried out. What is a denial goes into the audit trail.
    pub fn refused(&mut self, visit: &Visit, refusal: &Refusal) {
        let robot = self.robot.as_ref().map(|robot| robot.username());
        if let Some(note) = audit::denial(visit, refusal, robot.as_deref(), self.claimed.as_deref()) {
            self.worker.app.audit.tell(note.request(&self.request_id.to_string()));
        }
        self.decision = match refusal {
            Refusal::Challenge { .. } | Refusal::Login(_) => "challenge",
            Refusal::Policy { .. } => "policy",
            Refusal::Quota(_) => "quota",
            Refusal::Limited(_) => "limit",
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

    /// Where its bytes are charged.
    pub fn charge_to(&mut self, tab: Arc<Tab>) {
        self.tab = Some(tab);
    }

    /// Bytes that were sent.
    pub fn sent(&mut self, bytes: usize) {
        if let Some(tab) = &self.tab {
            tab.add(bytes);
        }
        self.bytes_out = self.bytes_out.saturating_add(bytes as u64);
    }

    /// The answer ends abnormally.
    pub fn failed(&mut self, error: &(dyn std::error::Error + Send + Sync)) {
        tracing::warn!(request.id = %self.request_id, %error, "an answer broke off");
        self.failure = Some(error.to_string());
    }

    /// What a trace says of it.
    fn attributes(&self, status: u16, decision: &'static str, agent: Option<&str>) -> Vec<(&'static str, Value)> {
        let settings = self.worker.app.settings.load();
        let public = &settings.config.server.public_url;
        let method = if KNOWN.contains(&self.method) { self.method.to_string() } else { "_OTHER".to_owned() };
        let mut told: Vec<(&'static str, Value)> = vec![
            ("http.request.method", method.into()),
            ("http.response.status_code", status.into()),
            ("network.protocol.version", protocol(self.version).into()),
            ("url.scheme", if public.https { "https" } else { "http" }.into()),
            ("server.address", public.host.clone().into()),
            ("server.port", public.port.into()),
            ("client.address", self.peer.to_string().into()),
            ("http.response.body.size", self.bytes_out.into()),
            ("portcullis.request_id", self.request_id.to_string().into()),
            ("portcullis.operation", self.operation.into()),
            ("portcullis.decision", decision.into()),
        ];
        let project = self.project.as_ref().map(|project| project.name.to_string());
        let robot = self.robot.as_ref().map(|robot| robot.username().to_string());
        let texts = [
            ("user_agent.original", agent.map(str::to_owned)),
            ("portcullis.project", project),
            ("portcullis.repository", self.repository.as_deref().map(str::to_owned)),
            ("portcullis.robot", robot),
        ];
        told.extend(texts.into_iter().filter_map(|(key, text)| Some((key, text?.into()))));
        told
    }

    fn agent(&self) -> Option<String> {
        let plain = |byte: &u8| if matches!(byte, b' '..=b'~') { char::from(*byte) } else { '?' };
        self.agent.as_ref().map(|agent| agent.as_bytes().iter().take(MAX_AGENT).map(plain).collect())
    }
}

/// The methods that a trace names (RFC 9110 and RFC 5789).
const KNOWN: [Method; 9] = [
    Method::GET,
    Method::HEAD,
    Method::PUT,
    Method::POST,
    Method::PATCH,
    Method::DELETE,
    Method::OPTIONS,
    Method::CONNECT,
    Method::TRACE,
];

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_2 => "2",
        Version::HTTP_11 => "1.1",
        _ => "1.0",
    }
}

/// Whether there is a line or a trace that says what a request was.
fn is_told(trace: Option<&Arc<Trace>>) -> bool {
    tracing::enabled!(target: telemetry::ACCESS, tracing::Level::INFO) || trace.is_some_and(|trace| trace.is_recorded())
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.left(Instant::now());
        let bytes_in = self.body.as_ref().map_or(0, |body| body.bytes());
        let elapsed = self.started.elapsed();
        let seconds = elapsed.as_secs_f64();
        // The handler was dropped before it had an answer: nobody was there any more to take it.
        let (status, decision) = self.status.map_or((GONE, "gone"), |status| (status.as_u16(), self.decision));
        let recorded = self.trace.as_ref().filter(|trace| trace.is_recorded());
        let outcome = Outcome {
            seconds,
            bytes_in,
            bytes_out: self.bytes_out,
            failed: self.failure.is_some(),
            decision,
            trace: recorded.map(|trace| trace.id()),
        };
        self.worker.app.telemetry.end(&Labels::new(self.operation, status), &outcome);
        if let Some(observer) = self.observer.take() {
            let duration_us = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
            let outcome = policy::Outcome { status, bytes_out: self.bytes_out, duration_us };
            observer.ended(&self.worker.app.policies, outcome);
        }
        if !is_told(self.trace.as_ref()) {
            return;
        }
        let agent = self.agent();
        if let Some(trace) = recorded {
            let error: Option<Cow<'static, str>> = match &self.failure {
                Some(failure) => Some(failure.clone().into()),
                None => (status >= 500).then(|| decision.into()),
            };
            trace.finish(self.operation, self.attributes(status, decision, agent.as_deref()), error);
        }
        let trace_id = self.trace.as_ref().map(|trace| trace.id().to_string());
        tracing::event!(
            target: telemetry::ACCESS,
            tracing::Level::INFO,
            request.id = %self.request_id,
            trace.id = trace_id.as_deref(),
            client.address = %self.peer,
            user.agent = agent.as_deref(),
            http.version = protocol(self.version),
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
