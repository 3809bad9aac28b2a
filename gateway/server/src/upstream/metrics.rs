//! What is counted of the upstream: how long it takes to answer, what fails and how, and how its connections are used.

use super::UpstreamError;
use super::connect::Connector;
use super::pool::Usage;
use crate::telemetry::ByOperation;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct KindLabel {
    kind: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

#[derive(Clone)]
struct Durations;

impl MetricConstructor<Histogram> for Durations {
    fn new_metric(&self) -> Histogram {
        Histogram::new([0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0])
    }
}

/// The upstream's metrics.
pub struct UpstreamMetrics {
    durations: ByOperation<Histogram, Durations>,
    failures: Family<KindLabel, Counter>,
    logins: Family<OutcomeLabel, Counter>,
    /// Requests that were sent again, because a kept connection was closed meanwhile.
    pub(super) retries: Counter,
}

impl UpstreamMetrics {
    /// All at zero.
    pub(super) fn new() -> Self {
        let (failures, logins) = (Family::<KindLabel, Counter>::default(), Family::<OutcomeLabel, Counter>::default());
        // What has not happened yet stands there with a zero.
        for kind in ["connect", "busy", "deadline", "broken", "odd", "login"] {
            let _ = failures.get_or_create(&KindLabel { kind });
        }
        for outcome in ["accepted", "failed"] {
            let _ = logins.get_or_create(&OutcomeLabel { outcome });
        }
        Self { durations: ByOperation::new(Durations), failures, logins, retries: Counter::default() }
    }

    /// Puts them among the gateway's.
    pub(super) fn register(&self, registry: &mut Registry, connector: &Arc<Connector>) {
        let help = "Time to the first byte of the upstream's answer, with the wait for a connection";
        registry.register_with_unit("upstream_duration", help, Unit::Seconds, self.durations.family());
        registry.register("upstream_failures", "Calls at which the upstream failed, by kind", self.failures.clone());
        let help = "Requests sent again, because a kept connection had been closed";
        registry.register("upstream_retries", help, self.retries.clone());
        registry.register("upstream_logins", "Logins of our own at the upstream", self.logins.clone());
        registry.register_collector(Box::new(Connections(Arc::clone(connector))));
    }

    /// A request that was sent then has an answer, or will have none.
    pub(super) fn answered<T>(&self, operation: &'static str, began: Instant, answer: &Result<T, UpstreamError>) {
        match answer {
            Ok(_) => self.durations.of(operation).observe(began.elapsed().as_secs_f64()),
            Err(error) => self.failed(error),
        }
    }

    /// A call has failed.
    pub(super) fn failed(&self, error: &UpstreamError) {
        let kind = match error {
            UpstreamError::Connect(_) => "connect",
            UpstreamError::Busy => "busy",
            UpstreamError::Deadline(_) => "deadline",
            UpstreamError::Broken(_) => "broken",
            UpstreamError::Odd(_) => "odd",
            UpstreamError::Login => "login",
            // That is the client's failure.
            UpstreamError::ClientBody(_) => return,
        };
        self.failures.get_or_create(&KindLabel { kind }).inc();
    }

    /// A login has ended.
    pub(super) fn login<T>(&self, login: &Result<T, UpstreamError>) {
        let outcome = if login.is_ok() { "accepted" } else { "failed" };
        self.logins.get_or_create(&OutcomeLabel { outcome }).inc();
    }
}

/// How the connections are used, read at each scrape.
struct Connections(Arc<Connector>);

impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connections")
    }
}

type Read = fn(&Usage) -> usize;

impl Collector for Connections {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let usage = self.0.places().usage();
        let gauges: [(&str, &str, Read); 4] = [
            ("upstream_connections_open", "Connections to the upstream", |usage| usage.open),
            ("upstream_connections_idle", "Those of them that nobody uses", |usage| usage.idle),
            ("upstream_connections_waiting", "Requests that wait for a connection", |usage| usage.waiting),
            ("upstream_connections_limit", "Most connections to the upstream", |usage| usage.most),
        ];
        for (name, help, read) in gauges {
            encoder.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&read(&usage))?;
        }
        Ok(())
    }
}
