//! `[quota]`: how long what is counted waits.

use super::DAY;
use super::reader::Section;
use std::time::Duration;

/// `[quota]`: how long what is counted waits. How much a project may hold is set by `portcullis quota set`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quota {
    /// `orphan_grace_s`: how long a blob that no manifest names is charged and served.
    pub orphan_grace: Duration,
    /// `unlink_grace_s`: how long after that it is deleted upstream.
    pub unlink_grace: Duration,
    /// `waiting_percent`: how much may wait for that, in percent of the project's quota.
    pub waiting_percent: u32,
    /// `reservation_s`: how long an upload waits for its client's next request, and keeps its room.
    pub reservation: Duration,
    /// `reconcile_every_s`: how often the record is compared with the upstream in the background; zero is never.
    pub reconcile_every: Duration,
}

pub(super) fn read(mut section: Section<'_>) -> Quota {
    let orphan_grace = section.seconds(
        "orphan_grace_s",
        7200,
        1..=30 * DAY,
        "clients push a manifest some time after its layers, and what waits is charged",
    );
    let unlink_grace = section.seconds(
        "unlink_grace_s",
        3600,
        1..=30 * DAY,
        "what is not charged takes up the upstream's storage until then",
    );
    let waiting_percent = section.number(
        "waiting_percent",
        100,
        0..=1000,
        "what was deleted takes up the upstream's storage beside what is charged until it is taken away",
    );
    let reservation =
        section.seconds("reservation_s", 600, 10..=DAY, "a client that went away keeps others out for so long");
    let reconcile_every =
        section.seconds("reconcile_every_s", DAY, 0..=365 * DAY, "it asks the upstream for all that it holds");
    section.finish();
    Quota { orphan_grace, unlink_grace, waiting_percent: waiting_percent.unwrap_or(100), reservation, reconcile_every }
}
