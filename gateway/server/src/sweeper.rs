//! What is done in the background: the upstream is looked after, what expired is forgotten, what a crash cut off is finished.

use crate::app::App;
use crate::tag_lock::{LEASE, LockError, TagLocks};
use crate::upstream::{Call, Pool, UpstreamError};
use http::{Method, StatusCode};
use portcullis_oci::manifest::media_type;
use portcullis_oci::{Operation, Reference};
use portcullis_tenancy::ledger::{JournalEntry, JournalStep};
use portcullis_tenancy::{StoreError, Timestamp};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{MissedTickBehavior, timeout};

const PROBE_EVERY: Duration = Duration::from_secs(2);
/// An upstream that takes longer than this for a ping is as good as down.
const PROBE_PATIENCE: Duration = Duration::from_secs(5);
const WRITE_USES_EVERY: Duration = Duration::from_secs(5);
const SWEEP_EVERY: Duration = Duration::from_secs(10);

/// Runs until it is aborted.
pub async fn run(app: Arc<App>) {
    let pool = Arc::new(Pool::default());
    // Side by side: what hangs in one of them must not hold up the others, readiness above all.
    tokio::join!(
        every(PROBE_EVERY, || probe_upstream(&app, &pool)),
        every(WRITE_USES_EVERY, || write_uses(&app)),
        every(SWEEP_EVERY, || sweep(&app, &pool)),
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

async fn sweep(app: &App, pool: &Arc<Pool>) {
    if let Err(error) = sweep_once(app, pool, Timestamp::now()).await {
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

async fn sweep_once(app: &App, pool: &Arc<Pool>, now: Timestamp) -> Result<(), SweepError> {
    app.store.run(move |store| async move { store.sweep(now).await }).await?;
    // Whoever wrote a younger entry is likely still at work; whoever wrote an older one has the tag's lock if it is.
    let before = now.checked_sub(LEASE).unwrap_or(now);
    for entry in app.store.run(move |store| async move { store.unfinished(before).await }).await? {
        let JournalStep::DeleteTag { tag, .. } = &entry.step;
        match TagLocks::take(&app.store, &entry.project, &entry.repository, vec![tag.clone()]).await {
            Ok(locks) => {
                let finished = finish(app, pool, entry).await;
                locks.release().await;
                finished?;
            }
            Err(LockError::Busy) => {}
            Err(LockError::Store(error)) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Finishes a tag's deletion: the throw-away goes, whatever tag it was left under; the record of the tag goes only if
/// nobody has pushed it again since.
async fn finish(app: &App, pool: &Arc<Pool>, entry: JournalEntry) -> Result<(), SweepError> {
    let JournalStep::DeleteTag { tag, throwaway } = entry.step;
    let project = app
        .store
        .run(|store| async move { store.projects().await })
        .await?
        .into_iter()
        .find(|project| project.id == entry.project);
    if let Some(project) = project {
        let name = project.upstream_name(&entry.repository);
        let scope = format!("repository:{name}:pull,push,delete");
        let delete = Operation::ManifestDelete { repository: entry.repository.clone(), digest: throwaway };
        let answer =
            app.upstream.call(pool, Call::new(Method::DELETE, delete.path_and_query(&name), scope.clone())).await?;
        let status = answer.whole().await?.0.status;
        if !status.is_success() && status != StatusCode::NOT_FOUND {
            return Err(
                UpstreamError::Odd(format!("it answered {} to the deletion of a throw-away", status.as_u16())).into()
            );
        }
        let pull =
            Operation::ManifestPull { repository: entry.repository.clone(), reference: Reference::Tag(tag.clone()) };
        let accept = http::HeaderValue::from_static(media_type::ACCEPT);
        let call = Call::new(Method::HEAD, pull.path_and_query(&name), scope).header(http::header::ACCEPT, accept);
        if app.upstream.call(pool, call).await?.whole().await?.0.status == StatusCode::NOT_FOUND {
            let repository = entry.repository.clone();
            app.store.run(|store| async move { store.remove_tag(&project.id, &repository, &tag).await }).await?;
        }
    }
    Ok(app.store.run(|store| async move { store.finish(&entry.id).await }).await?)
}
