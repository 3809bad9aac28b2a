//! Metrics in Prometheus' conventions, request ids, and the log's form. Never a token, a body or a password.

use crate::config::Log;
use crate::crowd::CrowdMetrics;
use crate::policies::PolicyMetrics;
use crate::quota::QuotaMetrics;
use http::request::Parts;
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use std::fmt;
use std::io::IsTerminal;
use std::net::IpAddr;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};
use tracing_subscriber::EnvFilter;

/// The target of access log lines.
pub const ACCESS: &str = "access";

/// What a request is counted under.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct Labels {
    operation: &'static str,
    status: u16,
}

impl Labels {
    /// An operation and its answer's status.
    pub fn new(operation: &'static str, status: u16) -> Self {
        Self { operation, status }
    }
}

/// What is measured of a request.
pub struct Outcome {
    /// From its head to the end of its answer.
    pub seconds: f64,
    /// Body bytes from the client.
    pub bytes_in: u64,
    /// Body bytes to the client.
    pub bytes_out: u64,
    /// Whether the answer broke off.
    pub failed: bool,
}

#[derive(Clone)]
struct Durations;

impl MetricConstructor<Histogram> for Durations {
    fn new_metric(&self) -> Histogram {
        Histogram::new([0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0, 600.0])
    }
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OperationLabel {
    operation: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct KindLabel {
    kind: &'static str,
}

/// The gateway's metrics.
pub struct Telemetry {
    registry: Registry,
    requests: Family<Labels, Counter>,
    durations: Family<OperationLabel, Histogram, Durations>,
    in_flight: Gauge,
    received: Counter,
    sent: Counter,
    broken: Counter,
    /// Open client connections.
    pub connections: Gauge,
    /// 1 while the upstream answers.
    pub upstream_up: Gauge,
    /// 1 while the store answers.
    pub store_up: Gauge,
    drift: Family<KindLabel, Gauge>,
    /// When the record was last compared with the upstream to the end.
    pub reconcile_last_run: Gauge,
    /// 1 while it is.
    pub reconcile_running: Gauge,
}

impl Telemetry {
    /// All at zero; those of other rooms are read from them.
    pub fn new(policies: PolicyMetrics, quota: &QuotaMetrics, crowd: &CrowdMetrics) -> Self {
        let telemetry = Self {
            registry: Registry::default(),
            requests: Family::default(),
            durations: Family::new_with_constructor(Durations),
            in_flight: Gauge::default(),
            received: Counter::default(),
            sent: Counter::default(),
            broken: Counter::default(),
            connections: Gauge::default(),
            upstream_up: Gauge::default(),
            store_up: Gauge::default(),
            drift: Family::default(),
            reconcile_last_run: Gauge::default(),
            reconcile_running: Gauge::default(),
        };
        telemetry.registered(policies, quota, crowd)
    }

    fn registered(mut self, policies: PolicyMetrics, quota: &QuotaMetrics, crowd: &CrowdMetrics) -> Self {
        let mut registry = Registry::with_prefix("portcullis");
        registry.register("requests", "Requests answered, by operation and status", self.requests.clone());
        registry.register_with_unit(
            "request_duration",
            "Time from a request's head to the end of its answer",
            Unit::Seconds,
            self.durations.clone(),
        );
        registry.register("requests_in_flight", "Requests under way", self.in_flight.clone());
        registry.register_with_unit("received", "Body bytes from clients", Unit::Bytes, self.received.clone());
        registry.register_with_unit("sent", "Body bytes to clients", Unit::Bytes, self.sent.clone());
        registry.register("answers_broken_off", "Answers that ended abnormally", self.broken.clone());
        registry.register("connections", "Open client connections", self.connections.clone());
        crowd.register(&mut registry);
        registry.register("upstream_up", "1 while the upstream answers", self.upstream_up.clone());
        registry.register("store_up", "1 while the store answers", self.store_up.clone());
        quota.register(&mut registry);
        registry.register(
            "reconcile_drift",
            "Where the record differed from the upstream when they were last compared, by kind",
            self.drift.clone(),
        );
        registry.register_with_unit(
            "reconcile_last_run_timestamp",
            "When the record was last compared with the upstream to the end, in the background",
            Unit::Seconds,
            self.reconcile_last_run.clone(),
        );
        registry.register(
            "reconcile_running",
            "1 while the record is compared with the upstream in the background",
            self.reconcile_running.clone(),
        );
        registry.register_collector(Box::new(policies));
        self.registry = registry;
        self
    }

    /// A request begins.
    pub fn begin(&self) {
        self.in_flight.inc();
    }

    /// A request has ended.
    pub fn end(&self, labels: &Labels, outcome: &Outcome) {
        self.in_flight.dec();
        self.requests.get_or_create(labels).inc();
        self.durations.get_or_create(&OperationLabel { operation: labels.operation }).observe(outcome.seconds);
        self.received.inc_by(outcome.bytes_in);
        self.sent.inc_by(outcome.bytes_out);
        if outcome.failed {
            self.broken.inc();
        }
    }

    /// The record differed so often in this way.
    pub fn drift(&self, kind: &'static str, count: usize) {
        self.drift.get_or_create(&KindLabel { kind }).set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Another node tells where the record differs.
    pub fn forget_drift(&self) {
        self.drift.clear();
    }

    /// The exposition text.
    pub fn expose(&self) -> String {
        let mut exposed = String::new();
        if text::encode(&mut exposed, &self.registry).is_err() {
            exposed.clear();
        }
        exposed
    }
}

/// A request's id: the client's own where its network is listed, else a new one. It is spelled out when it is read.
pub enum RequestId {
    /// The client's.
    Given(Box<str>),
    /// This process's next.
    Ours(u32),
}

impl RequestId {
    /// The id of the request with this head.
    pub fn of(log: &Log, head: &Parts, peer: IpAddr) -> Self {
        if log.trusted_request_ids.iter().any(|network| network.contains(&peer)) {
            let given = head.headers.get("x-request-id").and_then(|value| value.to_str().ok());
            let is_plain = |id: &&str| {
                !id.is_empty() && id.len() <= 64 && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            };
            if let Some(given) = given.filter(is_plain) {
                return Self::Given(given.into());
            }
        }
        static COUNT: AtomicU32 = AtomicU32::new(0);
        Self::Ours(COUNT.fetch_add(1, Ordering::Relaxed))
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        static PROCESS: LazyLock<u32> = LazyLock::new(|| {
            let mut bytes = [0; 4];
            crate::app::random(&mut bytes);
            u32::from_be_bytes(bytes)
        });
        match self {
            Self::Given(id) => f.write_str(id),
            Self::Ours(count) => write!(f, "{:08x}{count:08x}", *PROCESS),
        }
    }
}

/// Sends log lines to standard error, as text or as JSON.
pub fn init_log(log: &Log) {
    let filter = EnvFilter::try_new(format!("{level},access={level}", level = log.level))
        .unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if log.json {
        builder.json().flatten_event(true).init();
    } else {
        builder.with_ansi(std::io::stderr().is_terminal()).init();
    }
}
