//! How long the store's calls take, and which of them fail.

use crate::trace;
use portcullis_store::{Call, Observer};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct CallLabel {
    call: &'static str,
}

#[derive(Clone)]
struct Durations;

impl MetricConstructor<Histogram> for Durations {
    fn new_metric(&self) -> Histogram {
        Histogram::new([0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.5, 10.0])
    }
}

/// The store's metrics.
#[derive(Clone)]
pub struct StoreCalls {
    durations: Family<CallLabel, Histogram, Durations>,
    failures: Family<CallLabel, Counter>,
}

impl StoreCalls {
    /// All at zero.
    pub fn new() -> Self {
        Self { durations: Family::new_with_constructor(Durations), failures: Family::default() }
    }

    /// Puts them among the gateway's.
    pub fn register(&self, registry: &mut Registry) {
        let help = "Time of the store's calls, by the function that carries them out";
        registry.register_with_unit("store_call_duration", help, Unit::Seconds, self.durations.clone());
        registry.register("store_call_failures", "Calls at which the store failed", self.failures.clone());
    }

    /// Hears of all calls, and writes them into the trace of whoever has sent them.
    pub fn observer(&self) -> Observer {
        let metrics = self.clone();
        Box::new(move || {
            let (metrics, trace) = (metrics.clone(), trace::current());
            Box::new(move |call| {
                metrics.ended(call);
                if let Some(trace) = &trace {
                    trace.store_call(call);
                }
            })
        })
    }

    fn ended(&self, call: &Call) {
        let label = CallLabel { call: call.name };
        self.durations.get_or_create(&label).observe(call.took.as_secs_f64());
        // What has not failed yet stands there with a zero.
        self.failures.get_or_create(&label).inc_by(u64::from(call.failed));
    }
}
