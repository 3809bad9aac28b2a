//! The comparison in the background: of all projects, slowly, on one node at a time, and it mends nothing.

use super::{Kind, Sources, Task, Unwatched, Walker};
use crate::app::{App, random};
use crate::upstream_admin::UpstreamAdmin;
use portcullis_oci::{RepositoryName, Tag};
use portcullis_tenancy::{Project, Store, Timestamp, random_id};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How often is looked whether it is time; the configuration may have changed.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// What the turn is kept under: the lock of a tag that nobody pushes.
const TURN: (&str, &str) = ("portcullis", "background-reconcile");

/// Compares again and again; first one period after the start. Runs until it is aborted.
pub async fn run(app: Arc<App>) {
    let node = random_id(&random);
    let mut since = Instant::now();
    loop {
        sleep(LOOK_EVERY).await;
        let period = app.settings.load().config.quota.reconcile_every;
        if period.is_zero() || since.elapsed() < period {
            continue;
        }
        if let Err(error) = once(&app, &node, period).await {
            tracing::warn!(error = format!("{error:#}"), "the record was not compared with the upstream to its end");
        }
        app.telemetry.reconcile_running.set(0);
        since = Instant::now();
    }
}

async fn once(app: &App, node: &str, period: Duration) -> anyhow::Result<()> {
    let store = app.store.run(|store| async move { Ok(store) }).await?;
    let mut projects = store.projects().await?;
    projects.retain(|project| project.deleted_at.is_none());
    if !takes_turn(&*store, &projects, node, period).await? {
        // Another node does it, and tells what it finds.
        app.telemetry.forget_drift();
        return Ok(());
    }
    app.telemetry.reconcile_running.set(1);
    let config = app.settings.load().config.upstream.clone();
    let upstream = UpstreamAdmin::new(&config)?;
    let walker = Walker::new(Arc::clone(&store), Arc::clone(&app.store), upstream, &app.throwaways, config.isolation);
    let walker = walker.slowly();
    let sources = Sources::read(walker.upstream(), Vec::new()).await?;
    let mut drift: BTreeMap<Kind, usize> = Kind::ALL.into_iter().map(|kind| (kind, 0)).collect();
    let mut failed = 0_usize;
    for project in &projects {
        takes_turn(&*store, &projects, node, period).await?;
        let walked = walker.project(project, &sources, Task::Reconcile { repair: false }, &Unwatched).await;
        let report = match walked {
            Ok(report) => report,
            Err(error) => {
                failed = failed.saturating_add(1);
                tracing::warn!(project = %project.name, error = format!("{error:#}"), "a project's record could not be compared");
                continue;
            }
        };
        for finding in &report.findings {
            drift.entry(finding.kind).and_modify(|count| *count = count.saturating_add(1));
        }
        if !report.findings.is_empty() {
            let of = |kind| report.findings.iter().filter(|finding| finding.kind == kind).count();
            tracing::warn!(
                project = %project.name,
                missing_in_ledger = of(Kind::MissingInLedger),
                missing_upstream = of(Kind::MissingUpstream),
                wrong_size = of(Kind::WrongSize),
                wrong_tag = of(Kind::WrongTag),
                wrong_counter = of(Kind::WrongCounter),
                "the record differs from the upstream; `portcullis reconcile {}` says where, and mends it with --repair",
                project.name
            );
        }
    }
    for (kind, count) in drift {
        app.telemetry.drift(kind.name(), count);
    }
    if failed > 0 {
        anyhow::bail!("{failed} of {} projects could not be compared", projects.len());
    }
    app.telemetry.reconcile_last_run.set(Timestamp::now().as_second());
    tracing::info!(projects = projects.len(), "the record was compared with the upstream");
    Ok(())
}

/// Takes the turn for most of a period, or keeps it: of several nodes one compares, and the next one not much sooner than a
/// period later. It lies with the oldest project, which is the same one for every node.
async fn takes_turn(store: &dyn Store, projects: &[Project], node: &str, period: Duration) -> anyhow::Result<bool> {
    let Some(oldest) = projects.iter().min_by_key(|project| (project.created_at, &project.id)) else {
        return Ok(false);
    };
    let repository = RepositoryName::parse(&format!("{}/{}", oldest.name, TURN.0))?;
    let tag = Tag::parse(TURN.1)?;
    let now = Timestamp::now();
    let until = now.checked_add(period.mul_f64(0.9)).unwrap_or(now);
    Ok(store.lock_tag(&oldest.id, &repository, &tag, node, now, until).await?)
}
