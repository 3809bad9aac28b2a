//! Verdicts that live longer than their question. The key is the generation, the attachment, and a hash of everything that the
//! guest was given but request id and time; a life is capped, and the number of them is.

use crate::limits::ChainLimits;
use crate::question::Question;
use crate::verdict::Reply;
use aws_lc_rs::digest::{SHA256, digest};
use quick_cache::sync::Cache;
use std::time::{Duration, Instant};

/// A hash of everything that a guest is given but request id and time.
pub(super) struct QuestionHash([u8; 32]);

impl QuestionHash {
    pub(super) fn of(question: &Question) -> Self {
        let Question { context, ask, facts, raw_manifest } = question;
        let given =
            (&context.project, &context.client_ip, &context.user_agent, &context.subject, ask, facts, raw_manifest);
        let json = serde_json::to_vec(&given).expect("plain records have a JSON form");
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, &json).as_ref());
        Self(hash)
    }
}

/// What a remembered verdict answers.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Key {
    generation: u64,
    serial: u64,
    question: [u8; 32],
}

impl Key {
    pub(super) fn new(generation: u64, serial: u64, question: &QuestionHash) -> Self {
        Self { generation, serial, question: question.0 }
    }
}

/// Remembered verdicts, bounded.
pub(crate) struct Verdicts {
    kept: Cache<Key, (Instant, Reply)>,
    longest: Duration,
}

impl Verdicts {
    pub(crate) fn new(limits: &ChainLimits) -> Self {
        Self { kept: Cache::new(limits.verdicts), longest: limits.verdict_life }
    }

    pub(super) fn recall(&self, key: Key, now: Instant) -> Option<Reply> {
        let (until, reply) = self.kept.get(&key)?;
        (now < until).then_some(reply)
    }

    pub(super) fn remember(&self, key: Key, reply: Reply, life_s: u32, now: Instant) {
        let life = Duration::from_secs(life_s.into()).min(self.longest);
        if let Some(until) = now.checked_add(life) {
            self.kept.insert(key, (until, reply));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_life_is_capped_and_so_is_the_number_of_verdicts() {
        let longest = Duration::from_secs(10);
        let verdicts = Verdicts::new(&ChainLimits { verdicts: 4, verdict_life: longest, ..ChainLimits::default() });
        let now = Instant::now();
        let key = |number: u8| Key::new(1, 1, &QuestionHash([number; 32]));
        verdicts.remember(key(0), Reply::Abstain, 1_000_000, now);
        assert_eq!(verdicts.recall(key(0), now + longest - Duration::from_secs(1)), Some(Reply::Abstain));
        assert_eq!(verdicts.recall(key(0), now + longest), None);
        (0..100).for_each(|number| verdicts.remember(key(number), Reply::Abstain, 5, now));
        let kept = (0..100).filter(|number| verdicts.recall(key(*number), now).is_some()).count();
        assert!((1..=4).contains(&kept), "{kept}");
    }
}
