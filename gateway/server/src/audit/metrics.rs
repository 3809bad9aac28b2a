//! What is counted of the audit trail, in Prometheus' conventions.

use portcullis_tenancy::audit::Entry;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct KindLabel {
    kind: String,
}

/// The trail's metrics.
#[derive(Clone, Default)]
pub struct AuditMetrics {
    records: Family<KindLabel, Counter>,
    waiting: Gauge,
    lost: Counter,
    changed: Counter,
    whole: Gauge,
}

impl AuditMetrics {
    /// Puts them among the gateway's.
    pub fn register(&self, registry: &mut Registry) {
        let help = "Audit records that this node has given their places, by kind";
        registry.register("audit_records", help, self.records.clone());
        registry.register("audit_waiting", "Audit records in memory that wait to be written", self.waiting.clone());
        registry.register("audit_lost", "What should have been audited and was not", self.lost.clone());
        let help = "Records that somebody changed, or put in, before they had their places";
        registry.register("audit_changed", help, self.changed.clone());
        registry.register("audit_whole", "1 while all that should be written down is", self.whole.clone());
    }

    pub(super) fn whole(&self, is_whole: bool) {
        self.whole.set(i64::from(is_whole));
    }

    pub(super) fn chained(&self, entries: &[Entry]) {
        for entry in entries {
            self.records.get_or_create(&KindLabel { kind: entry.record.kind.to_string() }).inc();
        }
    }

    pub(super) fn waiting(&self, records: usize) {
        self.waiting.set(i64::try_from(records).unwrap_or(i64::MAX));
    }

    pub(super) fn changed(&self, records: u64) {
        self.changed.inc_by(records);
    }

    pub(super) fn lost(&self, records: u64) {
        self.lost.inc_by(records);
    }
}
