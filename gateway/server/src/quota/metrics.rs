//! What is counted of quotas, in Prometheus' conventions. Accounts are those of the last sweep.

use arc_swap::ArcSwap;
use portcullis_tenancy::quota::{Account, Shortage};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RefusalLabels {
    project: String,
    reason: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OperationLabel {
    operation: &'static str,
}

#[derive(Clone)]
struct Durations;

impl MetricConstructor<Histogram> for Durations {
    fn new_metric(&self) -> Histogram {
        Histogram::new([0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 15.0])
    }
}

/// The ledger's metrics.
#[derive(Clone)]
pub struct QuotaMetrics {
    refusals: Family<RefusalLabels, Counter>,
    durations: Family<OperationLabel, Histogram, Durations>,
    uncharged: Counter,
    unlinked: Counter,
    finished: Counter,
    accounts: Arc<ArcSwap<Vec<(String, Account)>>>,
}

impl Default for QuotaMetrics {
    fn default() -> Self {
        Self {
            refusals: Family::default(),
            durations: Family::new_with_constructor(Durations),
            uncharged: Counter::default(),
            unlinked: Counter::default(),
            finished: Counter::default(),
            accounts: Arc::default(),
        }
    }
}

impl QuotaMetrics {
    /// Puts them among the gateway's.
    pub fn register(&self, registry: &mut Registry) {
        let help = "Pushes for which there was no room, by what was in the way";
        registry.register("quota_refusals", help, self.refusals.clone());
        let help = "Time of a ledger operation, its wait for the project's account included";
        registry.register_with_unit("ledger_duration", help, Unit::Seconds, self.durations.clone());
        registry.register("ledger_orphans_uncharged", "Blobs that no manifest named in time", self.uncharged.clone());
        registry.register("ledger_blobs_unlinked", "Uncharged blobs that were deleted upstream", self.unlinked.clone());
        let help = "Writes that somebody else finished after a crash or a lost answer";
        registry.register("ledger_writes_finished", help, self.finished.clone());
        registry.register_collector(Box::new(self.clone()));
    }

    /// There was no room.
    pub fn refused(&self, project: &str, shortage: &Shortage) {
        let reason = match (shortage.total, shortage.waits) {
            (Some(_), _) => "total",
            (None, true) => "waiting",
            (None, false) => "project",
        };
        self.refusals.get_or_create(&RefusalLabels { project: project.to_owned(), reason }).inc();
    }

    /// A ledger operation that began then has ended.
    pub fn took(&self, operation: &'static str, began: Instant) {
        self.durations.get_or_create(&OperationLabel { operation }).observe(began.elapsed().as_secs_f64());
    }

    /// Blobs that are not charged any more.
    pub fn uncharged(&self, blobs: usize) {
        self.uncharged.inc_by(blobs as u64);
    }

    /// A blob is gone upstream.
    pub fn unlinked(&self) {
        self.unlinked.inc();
    }

    /// A journalled write was finished.
    pub fn finished(&self) {
        self.finished.inc();
    }

    /// The accounts as they are.
    pub fn accounts(&self, accounts: Vec<(String, Account)>) {
        self.accounts.store(Arc::new(accounts));
    }
}

impl fmt::Debug for QuotaMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("QuotaMetrics")
    }
}

type Read = fn(&Account) -> Option<u64>;

impl Collector for QuotaMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let gauges: [(&str, &str, Read); 5] = [
            ("quota_used", "What a project holds", |account| Some(account.committed)),
            ("quota_reserved", "What uploads under way may still bring", |account| Some(account.reserved)),
            ("quota_waiting", "What is not charged any more and is still upstream", |account| Some(account.waiting)),
            ("quota_limit", "What a project may hold", |account| account.quota),
            ("quota_soft_limit", "From where on pushes are warned", Account::soft_bytes),
        ];
        let accounts = self.accounts.load();
        for (name, help, read) in gauges {
            let mut gauge = encoder.encode_descriptor(name, help, Some(&Unit::Bytes), MetricType::Gauge)?;
            for (project, account) in accounts.iter() {
                let Some(bytes) = read(account) else { continue };
                let value = ConstGauge::new(i64::try_from(bytes).unwrap_or(i64::MAX));
                value.encode(gauge.encode_family(&[("project", project.as_str())])?)?;
            }
        }
        Ok(())
    }
}
