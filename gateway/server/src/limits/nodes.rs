//! How many nodes there are, for a node that has not heard it from the shared store yet: one that starts while that is away must
//! not take itself for the only one. The store of rules knows which have shown themselves there lately.

use super::Shared;
use crate::app::App;
use portcullis_store::CachedStore;
use portcullis_tenancy::{StoreError, Timestamp};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::sleep;

/// How often a node shows itself.
const SHOW: Duration = Duration::from_secs(30);
/// How long it counts after that. All may have been stopped for a night, and are there again.
const REMEMBERED: Duration = Duration::from_secs(86_400);

impl Shared {
    /// Shows this node, and takes note of how many there are.
    pub async fn count_nodes(&self, store: &CachedStore, node: &str) -> Result<(), StoreError> {
        let (node, now) = (node.to_owned(), Timestamp::now());
        let since = now.checked_sub(REMEMBERED).unwrap_or(Timestamp::MIN);
        self.saw(store.run(move |store| async move { store.show_node(&node, now, since).await }).await?);
        Ok(())
    }
}

/// Keeps showing this node, where limits are shared.
pub async fn show_life(app: Arc<App>) {
    let Some(shared) = &app.limits.shared else { return };
    loop {
        sleep(SHOW).await;
        if let Err(error) = shared.count_nodes(&app.store, app.audit.node()).await {
            tracing::debug!(%error, "this node could not be shown to the others");
        }
    }
}
