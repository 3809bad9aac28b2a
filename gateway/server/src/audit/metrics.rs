//! What is counted of the audit trail, in Prometheus' conventions.

use portcullis_tenancy::audit::{Entry, Kind};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct KindLabel {
    kind: &'static str,
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
            // Whoever can write the store could make as many of them as he likes.
            let kind = Kind::parse(&entry.record.kind).map_or("other", Kind::name);
            self.records.get_or_create(&KindLabel { kind }).inc();
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

#[cfg(test)]
mod tests {
    use super::*;
    use portcullis_tenancy::Timestamp;
    use portcullis_tenancy::audit::{AuditKeys, Note};
    use portcullis_tenancy::key::MasterKey;

    #[test]
    fn a_kind_that_is_none_of_ours_makes_no_label() {
        let keys = AuditKeys::new(&MasterKey::new([1; 32]));
        let of_kind = |kind: &str| {
            let note = Note::new(Kind::Push, "acme+ci");
            let mut entry = keys.seal(note, "node-a", Timestamp::UNIX_EPOCH, &|bytes: &mut [u8]| bytes.fill(1));
            entry.record.kind = kind.into();
            entry
        };
        let metrics = AuditMetrics::default();
        metrics.chained(&["push", "made-up", "made up anew"].map(of_kind));
        let mut registry = Registry::default();
        metrics.register(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        assert!(text.contains("audit_records_total{kind=\"push\"} 1"), "{text}");
        assert!(text.contains("audit_records_total{kind=\"other\"} 2"), "{text}");
        assert!(!text.contains("made"), "{text}");
    }
}
