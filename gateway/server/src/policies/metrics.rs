//! What is counted of policies, in Prometheus' conventions, read at each scrape.

use super::Policies;
use portcullis_policy::{Owner, Status};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;
use std::fmt;
use std::sync::Arc;

/// Reads the counters of what is attached now.
pub struct PolicyMetrics(pub Arc<Policies>);

impl fmt::Debug for PolicyMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PolicyMetrics")
    }
}

/// One policy and whose it is; `-` is the platform, which is no project's name.
struct Counted {
    project: String,
    status: Status,
}

type Labels<'a> = [(&'static str, &'a str); 3];
type Pair<'a> = [(&'static str, &'a str); 2];
type Count = fn(&Status) -> u64;
type None = [(&'static str, &'static str); 0];

impl Collector for PolicyMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let all: Vec<Counted> = self.counted();
        each(&mut encoder, &all, "policy_verdicts", "What policies said", "verdict", verdicts)?;
        each(&mut encoder, &all, "policy_failures", "Calls of policies that failed, by kind", "kind", failures)?;
        each(&mut encoder, &all, "policy_own", "What policies count themselves", "metric", own)?;
        let counters: [(&str, &str, Count); 3] = [
            ("policy_warnings", "Warnings given to clients", |status| status.counts.warnings),
            ("policy_remembered", "Answers that were remembered", |status| status.counts.remembered),
            ("policy_log_lines_dropped", "Log lines beyond the limits", |status| status.counts.log_dropped),
        ];
        for (name, help, count) in counters {
            let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for one in &all {
                metric.encode_family(&one.labels())?.encode_counter::<None, u64, u64>(&count(&one.status), None)?;
            }
        }
        let mut loaded = encoder.encode_descriptor(
            "policy_loaded",
            "1 where a policy runs as it is attached",
            None,
            MetricType::Gauge,
        )?;
        for one in &all {
            loaded.encode_family(&one.labels())?.encode_gauge(&i64::from(one.status.problem.is_none()))?;
        }
        let name = "policy_call_duration_quantile";
        let help = "How long calls took, to within a quarter";
        let mut times = encoder.encode_descriptor(name, help, Some(&Unit::Seconds), MetricType::Gauge)?;
        for one in &all {
            for (quantile, time) in [("0.5", one.status.counts.p50), ("0.99", one.status.counts.p99)] {
                times.encode_family(&one.with("quantile", quantile))?.encode_gauge(&time.as_secs_f64())?;
            }
        }
        let generation = i64::try_from(self.0.current().number()).unwrap_or(i64::MAX);
        gauge(
            encoder.encode_descriptor("policy_generation", "Changes of what is attached", None, MetricType::Gauge)?,
            generation,
        )?;
        let help = "Questions that no thread had room for";
        let mut unasked = encoder.encode_descriptor("policy_questions_turned_away", help, None, MetricType::Counter)?;
        unasked.encode_counter::<None, u64, u64>(&self.0.unasked(), None)
    }
}

fn gauge(mut metric: MetricEncoder<'_>, value: i64) -> fmt::Result {
    metric.encode_gauge(&value)
}

/// A counter of several values for each policy.
fn each(
    encoder: &mut DescriptorEncoder<'_>,
    all: &[Counted],
    name: &str,
    help: &str,
    label: &'static str,
    counts: fn(&Status) -> Vec<(&str, u64)>,
) -> fmt::Result {
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for one in all {
        for (value, count) in counts(&one.status) {
            metric.encode_family(&one.with(label, value))?.encode_counter::<None, u64, u64>(&count, None)?;
        }
    }
    Ok(())
}

fn verdicts(status: &Status) -> Vec<(&str, u64)> {
    let counts = &status.counts;
    vec![
        ("pass", counts.passed),
        ("narrow", counts.narrowed),
        ("deny", counts.denied),
        ("would-deny", counts.would_deny),
    ]
}

fn failures(status: &Status) -> Vec<(&str, u64)> {
    status.counts.failures.iter().map(|(kind, count)| (*kind, *count)).collect()
}

fn own(status: &Status) -> Vec<(&str, u64)> {
    status.counts.metrics.iter().map(|(name, count)| (name.as_str(), *count)).collect()
}

impl PolicyMetrics {
    fn counted(&self) -> Vec<Counted> {
        let project = |owner: &Owner| match owner {
            Owner::Platform => "-".to_owned(),
            Owner::Project(id) => self.0.project_name(id).map_or_else(|| id.to_string(), String::from),
        };
        self.0
            .current()
            .status()
            .into_iter()
            .map(|status| Counted { project: project(&status.owner), status })
            .collect()
    }
}

impl Counted {
    fn labels(&self) -> Pair<'_> {
        [("project", &self.project), ("policy", &self.status.name)]
    }

    fn with<'a>(&'a self, label: &'static str, value: &'a str) -> Labels<'a> {
        [("project", &self.project), ("policy", &self.status.name), (label, value)]
    }
}
