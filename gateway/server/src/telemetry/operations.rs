//! One metric for each operation, found without a lock: the names are known beforehand.

use portcullis_oci::Operation;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use std::sync::OnceLock;

/// What is no operation of the registry, and is counted all the same.
const FURTHER: [&str; 4] = ["token", "jwks", NONE, BACKGROUND];
/// A request that is none of ours.
pub const NONE: &str = "none";
/// What nobody's request has caused.
pub const BACKGROUND: &str = "background";

const COUNT: usize = Operation::NAMES.len().saturating_add(FURTHER.len());

/// The label of an operation.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct OperationLabel {
    operation: &'static str,
}

/// A family with an operation's name as its label.
pub struct ByOperation<M, C> {
    family: Family<OperationLabel, M, C>,
    handles: [OnceLock<M>; COUNT],
    others: OnceLock<M>,
}

impl<M: Clone, C: MetricConstructor<M> + Clone> ByOperation<M, C> {
    /// All of it at zero.
    pub fn new(constructor: C) -> Self {
        Self {
            family: Family::new_with_constructor(constructor),
            handles: [const { OnceLock::new() }; COUNT],
            others: OnceLock::new(),
        }
    }

    /// What is to be registered.
    pub fn family(&self) -> Family<OperationLabel, M, C> {
        self.family.clone()
    }

    /// The metric of this operation.
    pub fn of(&self, operation: &'static str) -> &M {
        let mut names = Operation::NAMES.iter().chain(&FURTHER);
        let found = names.position(|name| *name == operation);
        let handle = found.and_then(|place| self.handles.get(place));
        let (handle, operation) = handle.map_or((&self.others, NONE), |handle| (handle, operation));
        handle.get_or_init(|| self.family.get_or_create(&OperationLabel { operation }).clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus_client::metrics::counter::Counter;

    #[test]
    fn each_operation_is_counted_by_itself_and_what_is_none_of_them_together() {
        let counters: ByOperation<Counter, fn() -> Counter> = ByOperation::new(Counter::default);
        for name in Operation::NAMES.iter().chain(&FURTHER) {
            counters.of(name).inc();
            let label = OperationLabel { operation: name };
            assert_eq!(counters.family.get_or_create(&label).get(), 1, "{name}");
        }
        counters.of("no-operation-of-ours").inc();
        assert_eq!(counters.family.get_or_create(&OperationLabel { operation: NONE }).get(), 2);
    }
}
