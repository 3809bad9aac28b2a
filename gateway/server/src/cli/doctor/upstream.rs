//! The registry behind: whether it answers, whether it keeps repositories apart, whether others may write it, what its
//! clock says.

use super::{Finding, judge_clock};
use crate::config::{Isolation, Upstream};
use crate::upstream_admin::{Probe, UpstreamAdmin};
use portcullis_tenancy::Timestamp;
use std::time::Duration;

/// Longest wait for all that is asked of it.
const DEADLINE: Duration = Duration::from_secs(30);

pub(super) async fn examine(upstream: &Upstream, now: Timestamp) -> Vec<Finding> {
    let probe = async { UpstreamAdmin::new(upstream)?.probe().await };
    let probed = tokio::time::timeout(DEADLINE, probe).await;
    let why = match probed {
        Ok(Ok(probe)) => return judge(upstream, &probe, now),
        Ok(Err(error)) => format!("{error:#}"),
        Err(_) => format!("it did not answer all that it was asked within {} s", DEADLINE.as_secs()),
    };
    vec![Finding::error(
        "upstream",
        format!("{}: {why}", upstream.url),
        "see that it runs, and compare upstream.url, upstream.auth and upstream.ca_file",
    )]
}

pub(super) fn judge(upstream: &Upstream, probe: &Probe, now: Timestamp) -> Vec<Finding> {
    let mut findings = vec![Finding::ok("upstream", format!("{} answers", upstream.url))];
    findings.push(match (upstream.isolation, probe.keeps_repositories_apart) {
        (Isolation::Ledger, _) => Finding::ok("isolation", "the gateway keeps repositories apart, by its record"),
        (Isolation::Repository, Some(true)) => Finding::ok("isolation", "the upstream keeps repositories apart: a random blob of one was not seen in another"),
        (Isolation::Repository, Some(false)) => Finding::error(
            "isolation",
            "the upstream does not keep repositories apart: a random blob of one was seen in another, so tenants could read each other's",
            "write upstream.isolation = \"ledger\"",
        ),
        (Isolation::Repository, None) => Finding::warning(
            "isolation",
            "whether the upstream keeps repositories apart could not be tried: it took no upload",
            "let the gateway's user push below portcullis-doctor/, or write upstream.isolation = \"ledger\"",
        ),
    });
    if probe.takes_anonymous_writes && !upstream.url.is_loopback() {
        findings.push(Finding::error(
            "upstream access",
            format!("{} takes uploads from anybody who reaches it, past the gateway", upstream.url),
            "give it a password and write upstream.auth, or let only the gateway reach it on a loopback address",
        ));
    }
    let date = probe.date.as_deref().and_then(|date| httpdate::parse_http_date(date).ok());
    if let Some(theirs) = date.and_then(|date| Timestamp::try_from(date).ok()) {
        findings.push(judge_clock("the upstream's", theirs, now));
    }
    findings
}
