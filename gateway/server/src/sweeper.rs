//! What is done in the background: the upstream is looked after, what expired is forgotten, what a crash cut off is finished,
//! what nobody is charged with any more is taken away.

mod finish;

use crate::app::App;
use crate::config::Isolation;
use crate::quota::{self, LEASE, RENEW_EVERY};
use crate::upstream::{Call, Pool, UpstreamError};
use http::{Method, StatusCode};
use portcullis_oci::Operation;
use portcullis_tenancy::ledger::{Unlinkable, Upload};
use portcullis_tenancy::{Project, ProjectId, Store, StoreError, Timestamp};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::{MissedTickBehavior, timeout};

const PROBE_EVERY: Duration = Duration::from_secs(2);
/// An upstream that takes longer than this for a ping is as good as down.
const PROBE_PATIENCE: Duration = Duration::from_secs(5);
const WRITE_USES_EVERY: Duration = Duration::from_secs(5);
const SWEEP_EVERY: Duration = Duration::from_secs(10);
/// Blobs of a kind that one sweep takes; the next one goes on.
const BATCH: u32 = 200;
/// How long a blob that is being taken away cannot be charged again; longer than the upstream may take for it.
const UNLINKING: Duration = Duration::from_secs(120);

/// Runs until it is aborted.
pub async fn run(app: Arc<App>) {
    let (pool, turn) = (Arc::new(Pool::default()), Mutex::default());
    // Side by side: what hangs in one of them must not hold up the others, readiness above all.
    tokio::join!(
        every(PROBE_EVERY, || probe_upstream(&app, &pool)),
        every(WRITE_USES_EVERY, || write_uses(&app)),
        every(RENEW_EVERY, || app.holds.renew()),
        every(SWEEP_EVERY, || sweep(&app, &pool, &turn)),
    );
}

/// Does it again and again, never twice at a time.
async fn every<F: Future<Output = ()>>(period: Duration, work: impl Fn() -> F) {
    let mut ticks = tokio::time::interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        work().await;
    }
}

/// The project whose blob was taken away last: the next one's is next, in the next sweep as well.
type Turn = Mutex<Option<ProjectId>>;

async fn sweep(app: &App, pool: &Arc<Pool>, turn: &Turn) {
    if let Err(error) = sweep_once(app, pool, turn, Timestamp::now()).await {
        tracing::warn!(error = %error, "sweeping failed; it is tried again");
    }
    app.upstream.close_unused(pool);
}

async fn probe_upstream(app: &App, pool: &Arc<Pool>) {
    let ping = async {
        let answer = app.upstream.call(pool, Call::new(Method::GET, "/v2/", "")).await?;
        Ok::<_, UpstreamError>(answer.whole().await?.0.status.is_success())
    };
    let is_up = matches!(timeout(PROBE_PATIENCE, ping).await, Ok(Ok(true)));
    let was_up = app.telemetry.upstream_up.set(i64::from(is_up)) == 1;
    if was_up != is_up {
        tracing::info!(up = is_up, "the upstream changed");
    }
}

/// Writes down when secrets were last used.
pub async fn write_uses(app: &App) {
    let uses = app.tokens.take_uses();
    if uses.is_empty() {
        return;
    }
    if let Err(error) = app.store.run(|store| async move { store.note_use(&uses).await }).await {
        tracing::warn!(%error, "last uses of secrets were not written down");
    }
}

/// Why a sweep failed.
#[derive(Debug, thiserror::Error)]
enum SweepError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
}

async fn sweep_once(app: &App, pool: &Arc<Pool>, turn: &Turn, now: Timestamp) -> Result<(), SweepError> {
    app.store.run(move |store| async move { store.sweep(now).await }).await?;
    let projects = projects(app).await?;
    show_accounts(app, &projects).await?;
    // Under maintenance nothing is written upstream, by nobody.
    if app.store.maintenance().await?.is_some() {
        return Ok(());
    }
    // What the upstream does not answer for keeps nothing else waiting.
    for upload in app.store.run(move |store| async move { store.ended_uploads(now, BATCH).await }).await? {
        told(give_up(app, pool, projects.get(&upload.project), upload).await);
    }
    // Whoever wrote a younger entry is likely still at work.
    let before = now.checked_sub(LEASE).unwrap_or(now);
    for entry in app.store.run(move |store| async move { store.unfinished(before).await }).await? {
        let id = [entry.id.clone()];
        if told(finish::finish(app, pool, projects.get(&entry.project), entry, now).await) {
            app.holds.metrics.finished();
        } else {
            // Behind all others, so that it is not in their way for ever.
            app.store.run(move |store| async move { store.renew(&id, now, now, None).await }).await?;
        }
    }
    let orphan_grace = app.settings.load().config.quota.orphan_grace;
    let before = now.checked_sub(orphan_grace).unwrap_or(now);
    let expired = app.store.run(move |store| async move { store.expire_orphans(before, now, BATCH).await }).await;
    // Where it failed, some may have been all the same.
    if !matches!(&expired, Ok(expired) if expired.is_empty()) {
        app.store.forget_links();
    }
    if let Ok(expired) = expired.as_ref()
        && !expired.is_empty()
    {
        app.holds.metrics.uncharged(expired.len());
        let bytes = expired.iter().fold(0_u64, |sum, (_, _, size)| sum.saturating_add(*size));
        tracing::info!(blobs = expired.len(), bytes, "blobs that no manifest names are not charged any more");
    }
    // Elsewhere a blob may be one for all repositories: there it stays, unserved.
    if app.settings.load().config.upstream.isolation == Isolation::Repository {
        take_away(app, pool, turn, &projects).await?;
    }
    expired?;
    Ok(())
}

/// Takes away what nobody is charged with, one of each project in turn.
async fn take_away(
    app: &App,
    pool: &Arc<Pool>,
    turn: &Turn,
    projects: &HashMap<ProjectId, Project>,
) -> Result<(), SweepError> {
    let grace = app.settings.load().config.quota.unlink_grace;
    let mut turn = turn.lock().await;
    for _ in 0..BATCH {
        // One at a time: while it is taken, nobody can push it.
        let (now, after) = (Timestamp::now(), turn.clone());
        let before = now.checked_sub(grace).unwrap_or(now);
        let until = now.checked_add(UNLINKING).unwrap_or(now);
        let take =
            move |store: Arc<dyn Store>| async move { store.take_unlinkable(before, now, until, after.as_ref()).await };
        let Some(blob) = app.store.run(take).await? else { break };
        *turn = Some(blob.project.clone());
        told(unlink(app, pool, projects.get(&blob.project), blob).await);
    }
    Ok(())
}

/// Whether it was done; why not, is logged, and the next sweep tries again.
fn told(result: Result<(), SweepError>) -> bool {
    result.inspect_err(|error| tracing::warn!(%error, "something was not swept; it is tried again")).is_ok()
}

/// All projects, by id; deleted ones included.
async fn projects(app: &App) -> Result<HashMap<ProjectId, Project>, StoreError> {
    let projects = app.store.run(|store| async move { store.projects().await }).await?;
    Ok(projects.into_iter().map(|project| (project.id.clone(), project)).collect())
}

/// For the metrics.
async fn show_accounts(app: &App, projects: &HashMap<ProjectId, Project>) -> Result<(), StoreError> {
    let accounts = app.store.run(|store| async move { store.accounts().await }).await?;
    let named = accounts.into_iter().filter_map(|(id, account)| Some((projects.get(&id)?.name.to_string(), account)));
    app.holds.metrics.accounts(named.collect());
    Ok(())
}

/// Gives an upload up whose client has left it: what the upstream has of it takes up storage that nobody is charged with.
async fn give_up(app: &App, pool: &Arc<Pool>, project: Option<&Project>, upload: Upload) -> Result<(), SweepError> {
    if let (Some(project), Some(location)) = (project, &upload.upstream) {
        quota::end_upload(app, pool, project, &upload.repository, location).await?;
    }
    Ok(app.store.run(move |store| async move { store.close_upload(&upload.id).await }).await?)
}

/// Takes a blob away upstream.
async fn unlink(app: &App, pool: &Arc<Pool>, project: Option<&Project>, blob: Unlinkable) -> Result<(), SweepError> {
    let Some(project) = project else { return Ok(()) };
    let mut is_gone = true;
    for repository in blob.repositories {
        let name = project.upstream_name(&repository);
        let operation = Operation::BlobDelete { repository, digest: blob.digest.clone() };
        let call =
            Call::new(Method::DELETE, operation.path_and_query(&name), format!("repository:{name}:pull,push,delete"));
        let status = app.upstream.call(pool, call).await?.whole().await?.0.status;
        match status {
            StatusCode::NOT_FOUND => {}
            status if status.is_success() => {}
            // Not every registry deletes a blob by itself.
            StatusCode::BAD_REQUEST | StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED => is_gone = false,
            status => {
                let what = format!("it answered {} to the deletion of a blob", status.as_u16());
                return Err(UpstreamError::Odd(what).into());
            }
        }
    }
    if is_gone {
        app.holds.metrics.unlinked();
    }
    Ok(app.store.run(move |store| async move { store.unlinked(&blob.project, &blob.digest, is_gone).await }).await?)
}
