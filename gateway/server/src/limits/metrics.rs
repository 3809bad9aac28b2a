//! What of limits is measured.

use super::logins::Attempt;
use super::{Limits, Name};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct LimitLabel {
    limit: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct KindLabel {
    kind: &'static str,
}

/// Refusals, keys, failed logins, and whether the shared store answers.
#[derive(Clone, Default)]
pub struct LimitMetrics {
    limited: Family<LimitLabel, Counter>,
    keys: Family<KindLabel, Gauge>,
    keys_forgotten: Counter,
    login_failures: Family<KindLabel, Counter>,
    shared_up: Gauge,
    nodes: Gauge,
    has_shared: bool,
}

impl LimitMetrics {
    pub(super) fn new(has_shared: bool) -> Self {
        Self { has_shared, ..Self::default() }
    }

    /// Tells them to the registry.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("limited", "Requests refused by a limit, by limit", self.limited.clone());
        registry.register("limit_keys", "Keys that limits keep track of, by kind", self.keys.clone());
        registry.register(
            "limit_keys_forgotten",
            "Keys that were forgotten for want of room (limits.keys)",
            self.keys_forgotten.clone(),
        );
        registry.register("login_failures", "Failed logins, by what was shown", self.login_failures.clone());
        if self.has_shared {
            registry.register("limits_shared_up", "1 while the store of shared limits answers", self.shared_up.clone());
            registry.register("limits_nodes", "Nodes that share limits, as last heard", self.nodes.clone());
        }
    }

    pub(super) fn limited(&self, name: Name) {
        self.limited.get_or_create(&LimitLabel { limit: name.as_str() }).inc();
    }

    pub(super) fn login_failed(&self, attempt: Attempt<'_>) {
        let kind = match attempt {
            Attempt::Password { .. } => "password",
            Attempt::Refresh => "refresh-token",
        };
        self.login_failures.get_or_create(&KindLabel { kind }).inc();
    }
}

impl Limits {
    /// Counts the keys, before they are told.
    pub fn measure(&self) {
        let now = self.now();
        if let Some(shared) = &self.shared {
            self.metrics.shared_up.set(i64::from(shared.is_up()));
            self.metrics.nodes.set(i64::try_from(shared.nodes()).unwrap_or(i64::MAX));
        }
        let (addresses, accounts) = self.logins.counts(now);
        for (kind, count) in [
            ("address", self.addresses.count(now)),
            ("owner", self.owners.count(now)),
            ("guest", self.guests.count(now)),
            ("login-address", addresses),
            ("login-account", accounts),
        ] {
            self.metrics.keys.get_or_create(&KindLabel { kind }).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        let forgotten = self.addresses.forgotten().saturating_add(self.owners.forgotten());
        let forgotten = forgotten.saturating_add(self.guests.forgotten()).saturating_add(self.logins.forgotten());
        self.metrics.keys_forgotten.inc_by(forgotten.saturating_sub(self.metrics.keys_forgotten.get()));
    }
}
