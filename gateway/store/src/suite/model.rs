//! The ledger's account beside a model that sums everything up anew.

use super::quota::{claim, forget, held, image, push};
use super::*;
use std::collections::{BTreeMap, BTreeSet};

/// A source of steps that repeats from seed to seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

/// What is done next: which kind of step, in which repository, and to which blobs or operations.
type Step = [u64; 6];

/// The quota of every run.
const ROOM: u64 = 4000;

/// What must be on record, kept by itself.
#[derive(Default)]
struct Model {
    links: BTreeSet<(u64, u64)>,
    charged: BTreeSet<u64>,
    images: BTreeMap<(u64, String), Vec<u64>>,
    reserved: BTreeMap<u64, u64>,
}

/// Random steps beside a model that sums everything up anew after each. Of a run that fails the shortest one is told that still
/// does; `SEED` repeats it.
pub async fn any_interleaving_leaves_the_counters_at_the_sums(nodes: Nodes) {
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| u64::from(std::process::id()).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let mut dice = Dice(seed);
    let steps = (0..400).map(|_| [6, 2, 8, 8, 900, 1500].map(|sides| dice.roll(sides)));
    let mut steps: Vec<Step> = steps.collect();
    let mut runs = 0;
    let Err(mut failure) = run_through(&nodes, &steps, &mut runs).await else { return };
    // Takes ever smaller parts out for as long as it fails without them.
    let mut part = steps.len() / 2;
    while part > 0 {
        let mut from = 0;
        while from < steps.len() {
            let mut fewer = steps.clone();
            fewer.drain(from..(from + part).min(steps.len()));
            match run_through(&nodes, &fewer, &mut runs).await {
                Err(still) => (steps, failure) = (fewer, still),
                Ok(()) => from += part,
            }
        }
        part /= 2;
    }
    panic!("SEED={seed}: {failure}, after {steps:?}");
}

/// Takes the steps in a project of their own.
async fn run_through(nodes: &Nodes, steps: &[Step], runs: &mut u32) -> std::result::Result<(), String> {
    *runs += 1;
    let acme = project(&format!("run-{runs}"));
    nodes.one.add_project(&acme).await.unwrap();
    nodes.one.set_quota(&acme.id, Some(ROOM), None).await.unwrap();
    let mut model = Model::default();
    for (number, step) in steps.iter().enumerate() {
        model.take(nodes, &acme, step, at(number.try_into().unwrap())).await;
        let counted = nodes.one.recount(&acme.id, false).await.unwrap();
        let account = nodes.other.account(&acme.id).await.unwrap();
        let expected = (model.committed(), model.reserved.values().sum::<u64>(), model.waiting());
        if (account.committed, account.reserved, account.waiting) != expected
            || counted.0 != counted.1
            || account.used() > ROOM
        {
            return Err(format!("step {number}: {account:?}, recounted {counted:?}, expected {expected:?}"));
        }
    }
    Ok(())
}

fn size(blob: u64) -> u64 {
    100 + 10 * blob
}

impl Model {
    fn committed(&self) -> u64 {
        let manifests: BTreeSet<&String> = self.images.keys().map(|(_, of)| of).collect();
        self.charged.iter().map(|blob| size(*blob)).sum::<u64>() + 500 * manifests.len() as u64
    }

    /// What is held and not charged.
    fn waiting(&self) -> u64 {
        let held: BTreeSet<u64> = self.links.iter().map(|(_, blob)| *blob).collect();
        held.difference(&self.charged).map(|blob| size(*blob)).sum()
    }

    async fn take(&mut self, nodes: &Nodes, acme: &Project, step: &Step, now: Timestamp) {
        let [kind, repository, blob, other, least, most] = *step;
        let name = format!("{}/r{repository}", acme.name);
        let operation = format!("{}-{}", acme.name, other % 4);
        match kind {
            0 => {
                let admission = nodes.one.reserve(&claim(acme, &operation, least, most)).await.unwrap();
                if let Some(held) = held(&admission) {
                    assert!(held >= least);
                    self.reserved.insert(other % 4, held);
                }
            }
            1 => {
                nodes.other.release(&operation).await.unwrap();
                self.reserved.remove(&(other % 4));
            }
            2 => {
                let (app, of) = (repo(&name), digest(&format!("b{blob}")));
                let stored = hold(&*nodes.one, &acme.id, &app, &of, size(blob), Some(&operation), now).await.unwrap();
                if held(&stored).is_some() {
                    self.reserved.remove(&(other % 4));
                    self.links.insert((repository, blob));
                    self.charged.insert(blob);
                }
            }
            3 => self.push(nodes, acme, repository, [blob, other]).await,
            4 => self.forget(nodes, acme, blob).await,
            _ => {
                nodes.one.remove_link(&acme.id, &repo(&name), &digest(&format!("b{blob}"))).await.unwrap();
                self.links.remove(&(repository, blob));
                if !self.links.iter().any(|(_, linked)| *linked == blob) {
                    self.charged.remove(&blob);
                }
            }
        }
    }

    /// An image of those of the blobs that are there; its layers say which it is.
    async fn push(&mut self, nodes: &Nodes, acme: &Project, repository: u64, blobs: [u64; 2]) {
        let is_there = |blob: &u64| self.links.iter().any(|(_, linked)| linked == blob);
        let layers: Vec<u64> = BTreeSet::from(blobs).into_iter().filter(is_there).collect();
        let names: Vec<String> = layers.iter().map(|blob| format!("b{blob}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let of = format!("m{layers:?}");
        let image = image(acme, &format!("{}/r{repository}", acme.name), &of, &names);
        if held(&push(nodes, &image).await).is_some() {
            self.charged.extend(&layers);
            self.links.extend(layers.iter().map(|layer| (repository, *layer)));
            self.images.insert((repository, of), layers);
        }
    }

    async fn forget(&mut self, nodes: &Nodes, acme: &Project, which: u64) {
        let Some(key) = self.images.keys().nth(usize::try_from(which).unwrap()).cloned() else { return };
        let layers = self.images.remove(&key).unwrap_or_default();
        forget(nodes, acme, &format!("{}/r{}", acme.name, key.0), &key.1).await;
        for layer in layers {
            if !self.images.values().any(|named| named.contains(&layer)) {
                self.charged.remove(&layer);
            }
        }
    }
}
