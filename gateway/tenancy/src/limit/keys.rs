//! The states of many keys, in room for so many and no more: no key that anybody makes up takes memory of its own.
//!
//! The room is cut into sets, and each key belongs into one of them, which one is not to be foreseen from outside. In a set an
//! idle key's place is free. Where all are taken, the key that is nearest to being idle is forgotten: it loses least.

use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Places in a set: so many that hardly one is full before nearly all are.
const WAYS: usize = 16;

/// A key's state.
pub trait Kept: Copy + Default {
    /// From when on it says nothing any more.
    fn idle_at(&self) -> u64;
}

/// A state of GCRA: the moment at which all that was taken is paid off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PaidOff(pub u64);

impl Kept for PaidOff {
    fn idle_at(&self) -> u64 {
        self.0
    }
}

/// A key: 128 bits of a hash that nobody outside can compute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Key(u64, u64);

#[derive(Clone, Copy, Default)]
struct Place<S> {
    key: Key,
    state: S,
}

/// The states of many keys.
pub struct Keys<S> {
    sets: Box<[Mutex<[Place<S>; WAYS]>]>,
    hashers: [RandomState; 2],
    forgotten: AtomicU64,
}

impl<S: Kept> Keys<S> {
    /// Room for at least so many.
    pub fn new(most: usize) -> Self {
        let sets = most.div_ceil(WAYS).max(1);
        Self {
            sets: (0..sets).map(|_| Mutex::new([Place::default(); WAYS])).collect(),
            hashers: [RandomState::new(), RandomState::new()],
            forgotten: AtomicU64::new(0),
        }
    }

    /// The key of whatever it is.
    pub fn key(&self, of: &impl Hash) -> Key {
        let [one, other] = &self.hashers;
        Key(one.hash_one(of), other.hash_one(of))
    }

    /// A key's state at `now`; the one of a key that is not there says nothing.
    pub fn get(&self, key: Key, now: u64) -> S {
        let set = self.set(key);
        let found = set.iter().find(|place| place.key == key && place.state.idle_at() > now);
        found.map(|place| place.state).unwrap_or_default()
    }

    /// Changes a key's state, and nobody else does meanwhile.
    pub fn update<T>(&self, key: Key, now: u64, change: impl FnOnce(&mut S) -> T) -> T {
        let mut set = self.set(key);
        let found = set.iter_mut().find(|place| place.key == key && place.state.idle_at() > now);
        if let Some(place) = found {
            return change(&mut place.state);
        }
        let mut state = S::default();
        let answer = change(&mut state);
        if state.idle_at() > now
            && let Some(place) = set.iter_mut().min_by_key(|place| place.state.idle_at())
        {
            if place.state.idle_at() > now {
                self.forgotten.fetch_add(1, Ordering::Relaxed);
            }
            *place = Place { key, state };
        }
        answer
    }

    /// How many are not idle.
    pub fn count(&self, now: u64) -> usize {
        self.sets.iter().map(|set| locked(set).iter().filter(|place| place.state.idle_at() > now).count()).sum()
    }

    /// How many were forgotten for want of room before they were idle.
    pub fn forgotten(&self) -> u64 {
        self.forgotten.load(Ordering::Relaxed)
    }

    /// How many there is room for.
    pub fn room(&self) -> usize {
        self.sets.len().saturating_mul(WAYS)
    }

    fn set(&self, key: Key) -> MutexGuard<'_, [Place<S>; WAYS]> {
        let number = usize::try_from(key.0).unwrap_or_default().checked_rem(self.sets.len()).unwrap_or_default();
        locked(self.sets.get(number).or(self.sets.first()).expect("there is at least one set"))
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
