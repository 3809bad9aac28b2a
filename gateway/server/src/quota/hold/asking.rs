//! How a hold asks for room, and gives back what others wait for.

use super::{FIRST_STEP, Hold, Leased};
use crate::quota::{TakeError, Wanted, locked};
use crate::tag_lock;
use portcullis_tenancy::quota::{Admission, Claim, Shortage};
use std::time::{Duration, Instant};
use tokio::time::sleep;

/// Longest step.
const LONGEST_STEP: u64 = 64 * 1024 * 1024;
/// How long is waited for what other nodes may release, before a refusal is final.
const SECOND_LOOKS: [Duration; 2] = [Duration::from_millis(150), Duration::from_millis(600)];

impl Hold {
    /// Asks for room for so many bytes more than have passed; zero is whatever there is.
    pub(in crate::quota) async fn grow(&self, bytes: u64) {
        let is_scarce = self.holds.is_scarce(&self.project.id);
        if is_scarce && bytes == 0 {
            return;
        }
        let (least, most) = {
            let mut room = locked(&self.room);
            room.step = if is_scarce { 0 } else { room.step.max(FIRST_STEP / 2).saturating_mul(2).min(LONGEST_STEP) };
            let reached = self.base.saturating_add(room.passed);
            let least = if bytes == 0 { 0 } else { reached.saturating_add(bytes) };
            (least, self.base.saturating_add(room.allowed).max(least).saturating_add(room.step))
        };
        match self.ask(least, most, None).await {
            Ok(()) => locked(&self.outcome).failure = None,
            // What was only to be had ahead is asked for again once it is needed.
            Err(_) if bytes == 0 => {}
            Err(error) => locked(&self.outcome).failure = Some(error),
        }
    }

    /// Asks for what was wanted with so many bytes besides: those of blobs that its manifest names and the ledger does not know.
    /// Where there is no room for them, it has the shortage.
    pub async fn extend(&self, wanted: &Wanted, bytes: u64) -> Result<(), TakeError> {
        self.ask(bytes, bytes, Some(wanted)).await
    }

    /// Asks for room; what is wanted goes along.
    pub(in crate::quota) async fn ask(&self, least: u64, most: u64, wanted: Option<&Wanted>) -> Result<(), TakeError> {
        let _order = self.asking.lock().await;
        let Err(mut shortage) = self.claim(least, most, wanted).await? else { return Ok(()) };
        // Nobody is refused while what is in the way may be given back, and from here on nobody takes any ahead.
        let turn = self.holds.turn(&self.project.id).lock_owned().await;
        for pause in [Duration::ZERO].into_iter().chain(SECOND_LOOKS) {
            // What is reserved here and now is in use; another node's, or what a client left behind, may be on its way back, and
            // so may what a neighbour was asking for just now.
            let neighbours = self.holds.neighbours(self);
            let here: u64 = neighbours.iter().map(|neighbour| neighbour.held()).sum();
            let is_in_use = neighbours.iter().all(|neighbour| neighbour.spare() == 0);
            if !pause.is_zero() && is_in_use && shortage.account.reserved <= here.saturating_add(self.held()) {
                break;
            }
            sleep(pause).await;
            for neighbour in neighbours {
                neighbour.give_back_spare().await;
            }
            match self.claim(least, most, wanted).await? {
                Ok(()) => return Ok(()),
                Err(still) => shortage = still,
            }
        }
        self.holds.metrics.refused(self.project.name.as_str(), &shortage);
        let mut outcome = locked(&self.outcome);
        outcome.shortage = Some(shortage);
        outcome.turn = Some(turn);
        Ok(())
    }

    async fn claim(
        &self,
        at_least: u64,
        at_most: u64,
        wanted: Option<&Wanted>,
    ) -> Result<Result<(), Shortage>, TakeError> {
        let claim = Claim {
            id: self.id.clone(),
            project: self.project.id.clone(),
            robot: self.robot.clone(),
            purpose: self.purpose,
            at_least,
            at_most,
            now: self.holds.times().0,
            expires_at: self.holds.times().1,
            pins: wanted.map(|wanted| wanted.pins.clone()).unwrap_or_default(),
            manifest: wanted.and_then(|wanted| wanted.manifest.clone()),
            journal: wanted.and_then(|wanted| wanted.journal.clone()),
            waiting_percent: self.waiting_percent,
            lock_until: self.locks_tags.then(tag_lock::lease),
            lease: (locked(&self.outcome).lease == Leased::Wanted).then(|| self.holds.lease()),
        };
        let takes_lease = claim.lease.is_some();
        let began = Instant::now();
        let admission = self.holds.store.run(move |store| async move { store.reserve(&claim).await }).await?;
        self.holds.metrics.took("reserve", began);
        match admission {
            Admission::Granted { held, locked: has_locked, unknown, .. } => {
                locked(&self.room).allowed = held.saturating_sub(self.base);
                let mut outcome = locked(&self.outcome);
                outcome.locked |= has_locked;
                outcome.unknown = unknown;
                if takes_lease {
                    outcome.lease = Leased::Yes;
                }
                Ok(Ok(()))
            }
            Admission::Refused(shortage) => Ok(Err(shortage)),
            Admission::Busy if takes_lease => Err(TakeError::AtWork),
            Admission::Busy => Err(TakeError::Unlinking),
        }
    }

    /// What is reserved, in bytes.
    pub(super) fn held(&self) -> u64 {
        self.base.saturating_add(locked(&self.room).allowed)
    }

    /// What was taken ahead and has not been used.
    fn spare(&self) -> u64 {
        if self.is_exact {
            return 0;
        }
        let room = locked(&self.room);
        room.allowed.saturating_sub(room.passed)
    }

    /// Gives back what was taken ahead and has not been used. Whoever is asking the store this moment keeps what he has.
    async fn give_back_spare(&self) {
        let Ok(_order) = self.asking.try_lock() else { return };
        if self.is_exact {
            return;
        }
        let reached = {
            let mut room = locked(&self.room);
            if room.allowed == room.passed {
                return;
            }
            room.allowed = room.passed;
            room.step = FIRST_STEP;
            self.base.saturating_add(room.passed)
        };
        self.shrink(reached).await;
    }
}
