//! The process itself, by the names that Prometheus' own clients give: read from /proc at each scrape.

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeGaugeValue};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;
use rustix::param::{clock_ticks_per_second, page_size};
use rustix::process::{Resource, getrlimit};
use std::fmt;
use std::fs;

/// What the system says of this process.
#[derive(Debug)]
pub struct ProcessMetrics;

type NoLabels = [(&'static str, &'static str); 0];

/// What is read of `/proc/self/stat` (proc_pid_stat(5)).
#[derive(Debug, PartialEq)]
struct Stat {
    cpu_ticks: u64,
    threads: i64,
    started_ticks: u64,
    virtual_bytes: i64,
    resident_pages: u64,
}

impl Stat {
    fn parse(text: &str) -> Option<Self> {
        // The name stands in brackets and may hold anything, brackets too.
        let (_, fields) = text.rsplit_once(") ")?;
        let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
        // The state is the third field.
        let field = |number: usize| fields.get(number.checked_sub(3)?).copied();
        let count = |number: usize| field(number)?.parse::<u64>().ok();
        Some(Self {
            cpu_ticks: count(14)?.saturating_add(count(15)?),
            threads: field(20)?.parse().ok()?,
            started_ticks: count(22)?,
            virtual_bytes: field(23)?.parse().ok()?,
            resident_pages: count(24)?,
        })
    }
}

impl Collector for ProcessMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let stat = fs::read_to_string("/proc/self/stat").ok().and_then(|text| Stat::parse(&text));
        if let Some(stat) = stat {
            let seconds = |ticks: u64| ticks as f64 / clock_ticks_per_second().max(1) as f64;
            let cpu = seconds(stat.cpu_ticks);
            encoder
                .encode_descriptor("process_cpu", "CPU time used", Some(&Unit::Seconds), MetricType::Counter)?
                .encode_counter::<NoLabels, f64, f64>(&cpu, None)?;
            let resident = i64::try_from(stat.resident_pages.saturating_mul(page_size() as u64)).unwrap_or(i64::MAX);
            gauge(&mut encoder, "process_resident_memory", "Memory in use", Some(&Unit::Bytes), resident)?;
            let help = "Addresses in use";
            gauge(&mut encoder, "process_virtual_memory", help, Some(&Unit::Bytes), stat.virtual_bytes)?;
            gauge(&mut encoder, "process_threads", "Threads", None, stat.threads)?;
            if let Some(boot) = boot_time() {
                let started = boot as f64 + seconds(stat.started_ticks);
                let help = "When the process started, after 1970";
                gauge(&mut encoder, "process_start_time", help, Some(&Unit::Seconds), started)?;
            }
        }
        if let Ok(open) = fs::read_dir("/proc/self/fd") {
            let open = i64::try_from(open.count()).unwrap_or(i64::MAX);
            gauge(&mut encoder, "process_open_fds", "Open file descriptors", None, open)?;
        }
        let most = getrlimit(Resource::Nofile).current.and_then(|most| i64::try_from(most).ok()).unwrap_or(i64::MAX);
        gauge(&mut encoder, "process_max_fds", "Most open file descriptors", None, most)
    }
}

fn gauge(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    unit: Option<&Unit>,
    value: impl EncodeGaugeValue,
) -> fmt::Result {
    encoder.encode_descriptor(name, help, unit, MetricType::Gauge)?.encode_gauge(&value)
}

/// When the machine started, in seconds after 1970.
fn boot_time() -> Option<u64> {
    let text = fs::read_to_string("/proc/stat").ok()?;
    text.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_and_spaces_does_not_shift_the_fields() {
        let text = "42 (a) (b c) S 1 2 3 4 5 6 7 8 9 10 110 12 13 14 15 16 7 18 900 4096 21 18446744073709551615 24\n";
        let expected = Stat { cpu_ticks: 122, threads: 7, started_ticks: 900, virtual_bytes: 4096, resident_pages: 21 };
        assert_eq!(Stat::parse(text), Some(expected));
        assert_eq!(Stat::parse("42 (a) S 1 2"), None);
        assert_eq!(Stat::parse(""), None);
    }

    #[test]
    fn this_process_is_found() {
        let stat = Stat::parse(&fs::read_to_string("/proc/self/stat").unwrap()).unwrap();
        assert!(stat.threads >= 1 && stat.resident_pages > 0 && boot_time().is_some_and(|boot| boot > 0));
    }
}
