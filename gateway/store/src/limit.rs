//! What a project or a robot may do other than the configuration says: a line in its own row, so that it is read along with it.
//! And which nodes there are that give out limits.

use crate::row;
use crate::sql::SqlStore;
use portcullis_tenancy::limit::{Change, LimitOwner, Overrides};
use portcullis_tenancy::store::Result;
use portcullis_tenancy::{StoreError, Timestamp};
use sqlx::any::AnyRow;
use sqlx::query;
use std::sync::Once;

/// An owner's own limits. Of those that a newer version has set, this one is told once.
pub(crate) fn read(row: &AnyRow) -> Result<Overrides> {
    static TOLD: Once = Once::new();
    let line = row::text(row, "limits")?;
    let limits = row::parsed("limits", line.as_str(), Overrides::parse)?;
    let mut unknown = Overrides::unknown(&line).peekable();
    if unknown.peek().is_some() {
        TOLD.call_once(|| {
            let unknown: Vec<_> = unknown.collect();
            tracing::warn!(
                ?unknown,
                "a newer version has set a limit that this one does not know, and goes on without; update all nodes to have it kept"
            );
        });
    }
    Ok(limits)
}

/// The line after a change. What this version does not know stays as it is: it is no reason to lift it for newer ones.
fn line_after(before: &str, after: &Overrides) -> String {
    let known = after.to_string();
    let words = known.split_whitespace().chain(Overrides::unknown(before));
    words.collect::<Vec<_>>().join(" ")
}

/// The generation's lock keeps others from changing the line between the look at it and the write.
pub(crate) async fn change(store: &SqlStore, owner: LimitOwner<'_>, wanted: &Change) -> Result<Overrides> {
    let (find, set, id) = match owner {
        LimitOwner::Project(id) => (
            "SELECT limits FROM project WHERE id = $1 AND deleted_at IS NULL",
            "UPDATE project SET limits = $2 WHERE id = $1",
            &*id.0,
        ),
        LimitOwner::Robot(id) => (
            "SELECT r.limits FROM robot r JOIN project p ON p.id = r.project_id WHERE r.id = $1 AND p.deleted_at IS NULL",
            "UPDATE robot SET limits = $2 WHERE id = $1",
            &*id.0,
        ),
    };
    let mut change = store.change().await?;
    let before = change.optional(query(find).bind(id), |row| Ok((read(row)?, row::text(row, "limits")?))).await?;
    let (before, line) = before.ok_or(StoreError::Missing)?;
    let after = before.changed(wanted);
    change.must(query(set).bind(id).bind(line_after(&line, &after))).await?;
    change.commit().await?;
    Ok(after)
}

pub(crate) async fn show_node(store: &SqlStore, node: &str, now: Timestamp, since: Timestamp) -> Result<u64> {
    let show = query(
        "INSERT INTO node (name, seen_at) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET seen_at = excluded.seen_at",
    );
    store.execute(show.bind(node).bind(now.as_millisecond())).await?;
    store.execute(query("DELETE FROM node WHERE seen_at <= $1").bind(since.as_millisecond())).await?;
    let count = store.optional(query("SELECT COUNT(*) AS nodes FROM node"), |row| row::number(row, "nodes")).await?;
    Ok(count.and_then(|count| u64::try_from(count).ok()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_keeps_what_a_newer_version_has_set() {
        let after = Overrides::parse("pulls=7/min uploads=4").unwrap();
        assert_eq!(line_after("pulls=1/h colour=1/s", &after), "pulls=7/min uploads=4 colour=1/s");
        assert_eq!(line_after("pulls=1/h", &after), "pulls=7/min uploads=4");
        assert_eq!(line_after("colour=1/s", &Overrides::default()), "colour=1/s");
        assert_eq!(line_after("", &Overrides::default()), "");
    }
}
