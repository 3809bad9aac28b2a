//! Who has how much in a queue: no project more than a quarter of its places, and all questions together only so many bytes.

use super::{Load, QUEUE};
use dashmap::DashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Most questions of one project.
const OF_A_PROJECT: usize = QUEUE / 4;
/// Most bytes of all of them together: a manifest's question may hold some megabytes.
const MAX_BYTES: usize = 64 * 1024 * 1024;

/// What is in the queue, or runs.
#[derive(Default)]
pub struct Shares {
    questions: DashMap<Box<str>, usize>,
    bytes: AtomicUsize,
}

/// A question's place, given back when it is dropped.
pub struct Place {
    shares: Arc<Shares>,
    project: Box<str>,
    bytes: usize,
}

impl Shares {
    /// A place for one more question; none where its project, or all of them, have too much already.
    pub fn enter(shares: &Arc<Self>, load: Load<'_>) -> Option<Place> {
        let more = |held: usize| held.checked_add(load.bytes).filter(|bytes| *bytes <= MAX_BYTES);
        shares.bytes.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).ok()?;
        // From here on, what was taken is given back with the place.
        let place = Place { shares: Arc::clone(shares), project: load.project.into(), bytes: load.bytes };
        let mut of_project = shares.questions.entry(place.project.clone()).or_insert(0);
        *of_project = of_project.saturating_add(1);
        let fits = *of_project <= OF_A_PROJECT;
        drop(of_project);
        fits.then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shares.bytes.fetch_sub(self.bytes, Ordering::AcqRel);
        self.shares.questions.remove_if_mut(&self.project, |_, questions| {
            *questions = questions.saturating_sub(1);
            *questions == 0
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_questions_together_hold_so_many_bytes_and_no_more() {
        let shares = Arc::new(Shares::default());
        let enter = |project, bytes| Shares::enter(&shares, Load { project, bytes });
        assert!(enter("acme", MAX_BYTES + 1).is_none() && enter("acme", usize::MAX).is_none());
        let most = enter("acme", MAX_BYTES - 1).unwrap();
        let last = enter("globex", 1).unwrap();
        assert!(enter("globex", 1).is_none());
        drop(last);
        assert!(enter("acme", 1).is_some());
        drop(most);
        assert!(shares.questions.is_empty() && shares.bytes.load(Ordering::Relaxed) == 0);
    }

    #[test]
    fn who_finds_no_place_takes_none() {
        let shares = Arc::new(Shares::default());
        let enter = || Shares::enter(&shares, Load { project: "acme", bytes: 2 });
        let places: Vec<_> = (0..OF_A_PROJECT).map(|_| enter().unwrap()).collect();
        assert!(enter().is_none() && enter().is_none());
        assert_eq!(shares.bytes.load(Ordering::Relaxed), 2 * OF_A_PROJECT);
        drop(places);
        assert!(shares.questions.is_empty());
    }
}
