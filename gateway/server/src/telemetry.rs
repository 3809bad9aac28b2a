//! Metrics in Prometheus' conventions, request ids, and the log's form. Never a token, a body or a password.

mod operations;
mod process;
mod stages;
mod store_calls;

pub use operations::{BACKGROUND, ByOperation, NONE};
pub use stages::{Clock, Stage};

use crate::audit::AuditMetrics;
use crate::config::Log;
use crate::crowd::CrowdMetrics;
use crate::limits::LimitMetrics;
use crate::policies::PolicyMetrics;
use crate::quota::QuotaMetrics;
use crate::trace::{TraceId, TraceMetrics};
use crate::upstream::Upstream;
use http::request::Parts;
use portcullis_store::Observer;
use process::ProcessMetrics;
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::exemplar::HistogramWithExemplars;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use stages::Clocks;
use std::fmt;
use std::io::IsTerminal;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::SystemTime;
use store_calls::StoreCalls;
use tracing_subscriber::EnvFilter;

/// The target of access log lines.
pub const ACCESS: &str = "access";

/// The decision about a request that is carried out.
pub const ALLOW: &str = "allow";

/// All other decisions.
const DECISIONS: [&str; 10] =
    ["challenge", "refuse", "limit", "policy", "quota", "upstream-failed", "unavailable", "shed", "failed", "gone"];

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
    /// `allow`, or why it was not carried out.
    pub decision: &'static str,
    /// The trace that shows it, if one does.
    pub trace: Option<TraceId>,
}

/// What leads from a bucket to a trace.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct TraceLabel {
    trace_id: String,
}

/// A histogram that leads to traces.
type Traced = HistogramWithExemplars<TraceLabel>;

#[derive(Clone)]
struct Durations;

impl MetricConstructor<Traced> for Durations {
    fn new_metric(&self) -> Traced {
        let bounds = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0, 600.0];
        Traced::new(bounds.into_iter())
    }
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct DecisionLabel {
    decision: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct KindLabel {
    kind: &'static str,
}

/// The gateway's metrics.
pub struct Telemetry {
    registry: Registry,
    requests: Family<Labels, Counter>,
    durations: ByOperation<Traced, Durations>,
    clocks: Clocks,
    refusals: Family<DecisionLabel, Counter>,
    logins: Family<OutcomeLabel, Counter>,
    store_calls: StoreCalls,
    in_flight: Gauge,
    received: Counter,
    sent: Counter,
    broken: Counter,
    /// Open client connections.
    pub connections: Gauge,
    /// Tokens that were verified lately, and were not verified again.
    pub tokens_remembered: Counter,
    /// Tokens that had to be verified.
    pub tokens_verified: Counter,
    /// How late data threads come to what was to be done at a certain time.
    pub lag: Histogram,
    /// Spans, as they are exported.
    pub spans: TraceMetrics,
    /// When the certificate that clients are shown ends.
    pub certificate_ends: Gauge,
    /// 1 while the gateway can do its work.
    pub ready: Gauge,
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

/// Other rooms' metrics, which are counted there and told here.
pub struct Rooms<'a> {
    /// Of policies.
    pub policies: PolicyMetrics,
    /// Of quotas.
    pub quota: &'a QuotaMetrics,
    /// Of the registry behind.
    pub upstream: &'a Upstream,
    /// Of limits.
    pub limits: &'a LimitMetrics,
    /// Of who is here.
    pub crowd: &'a CrowdMetrics,
    /// Of the audit trail.
    pub audit: &'a AuditMetrics,
}

impl Telemetry {
    /// All at zero; those of other rooms are read from them.
    pub fn new(rooms: Rooms<'_>) -> Self {
        let telemetry = Self {
            registry: Registry::default(),
            requests: Family::default(),
            durations: ByOperation::new(Durations),
            clocks: Clocks::default(),
            refusals: Family::default(),
            logins: Family::default(),
            store_calls: StoreCalls::new(),
            in_flight: Gauge::default(),
            received: Counter::default(),
            sent: Counter::default(),
            broken: Counter::default(),
            connections: Gauge::default(),
            tokens_remembered: Counter::default(),
            tokens_verified: Counter::default(),
            lag: Histogram::new([0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0]),
            spans: TraceMetrics::default(),
            certificate_ends: Gauge::default(),
            ready: Gauge::default(),
            upstream_up: Gauge::default(),
            store_up: Gauge::default(),
            drift: Family::default(),
            reconcile_last_run: Gauge::default(),
            reconcile_running: Gauge::default(),
        };
        // What has not happened yet stands there with a zero.
        for decision in DECISIONS {
            let _ = telemetry.refusals.get_or_create(&DecisionLabel { decision });
        }
        for outcome in ["accepted", "anonymous", "refused", "limited", "failed"] {
            let _ = telemetry.logins.get_or_create(&OutcomeLabel { outcome });
        }
        telemetry.registered(rooms)
    }

    fn registered(mut self, rooms: Rooms<'_>) -> Self {
        let mut whole = Registry::default();
        whole.register_collector(Box::new(ProcessMetrics));
        let registry = whole.sub_registry_with_prefix("portcullis");
        self.register_requests(registry);
        self.register_parts(registry);
        rooms.quota.register(registry);
        rooms.upstream.register(registry);
        rooms.limits.register(registry);
        rooms.crowd.register(registry);
        rooms.audit.register(registry);
        self.store_calls.register(registry);
        self.spans.register(registry);
        registry.register_collector(Box::new(self.clocks.clone()));
        registry.register_collector(Box::new(rooms.policies));
        self.registry = whole;
        self
    }

    /// What happens with requests.
    fn register_requests(&self, registry: &mut Registry) {
        registry.register("requests", "Requests answered, by operation and status", self.requests.clone());
        registry.register_with_unit(
            "request_duration",
            "Time from a request's head to the end of its answer",
            Unit::Seconds,
            self.durations.family(),
        );
        registry.register(
            "refusals",
            "Requests that were not carried out, by why: what the access log calls the decision",
            self.refusals.clone(),
        );
        registry.register("logins", "Logins at the token endpoint, by what became of them", self.logins.clone());
        registry.register(
            "tokens_remembered",
            "Tokens that were verified lately and not again",
            self.tokens_remembered.clone(),
        );
        registry.register("tokens_verified", "Tokens that had to be verified", self.tokens_verified.clone());
        registry.register("requests_in_flight", "Requests under way", self.in_flight.clone());
        registry.register_with_unit("received", "Body bytes from clients", Unit::Bytes, self.received.clone());
        registry.register_with_unit("sent", "Body bytes to clients", Unit::Bytes, self.sent.clone());
        registry.register("answers_broken_off", "Answers that ended abnormally", self.broken.clone());
    }

    /// What the gateway is made of.
    fn register_parts(&self, registry: &mut Registry) {
        registry.register("build", "What runs", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
        registry.register_with_unit(
            "thread_lag",
            "How late data threads come to what was to be done at a certain time",
            Unit::Seconds,
            self.lag.clone(),
        );
        registry.register("connections", "Open client connections", self.connections.clone());
        registry.register_with_unit(
            "certificate_ends_timestamp",
            "When the certificate that clients are shown ends; 0 without TLS",
            Unit::Seconds,
            self.certificate_ends.clone(),
        );
        registry.register("ready", "1 while the gateway can do its work", self.ready.clone());
        registry.register("upstream_up", "1 while the upstream answers", self.upstream_up.clone());
        registry.register("store_up", "1 while the store answers", self.store_up.clone());
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
    }

    /// One more data thread's clock.
    pub fn clock(&self) -> Arc<Clock> {
        self.clocks.add()
    }

    /// What hears of the store's calls.
    pub fn store_observer(&self) -> Observer {
        self.store_calls.observer()
    }

    /// Somebody has asked for a token: `accepted`, `anonymous`, `refused`, `limited` or `failed`.
    pub fn login(&self, outcome: &'static str) {
        self.logins.get_or_create(&OutcomeLabel { outcome }).inc();
    }

    /// A request begins.
    pub fn begin(&self) {
        self.in_flight.inc();
    }

    /// A request has ended.
    pub fn end(&self, labels: &Labels, outcome: &Outcome) {
        self.in_flight.dec();
        self.requests.get_or_create(labels).inc();
        let exemplar = outcome.trace.map(|id| (TraceLabel { trace_id: id.to_string() }, SystemTime::now()));
        let (trace, at) = exemplar.unzip();
        self.durations.of(labels.operation).observe(outcome.seconds, trace, at);
        if outcome.decision != ALLOW {
            self.refusals.get_or_create(&DecisionLabel { decision: outcome.decision }).inc();
        }
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
#[derive(Clone)]
pub enum RequestId {
    /// The client's.
    Given(Box<str>),
    /// This process's next.
    Ours(u32),
}

impl RequestId {
    /// The id of the request with this head.
    pub fn of(log: &Log, head: &Parts, peer: IpAddr) -> Self {
        if log.trusts(peer) {
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
