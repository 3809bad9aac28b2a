//! Random work, one step after another, beside a model that says beforehand what each step is answered and what is used after it.

use super::stock::{REPOSITORIES, Stock, TAGS};
use http::Method;
use portcullis_tests::dice::{Dice, seed};
use portcullis_tests::http::{Response, pieces};
use portcullis_tests::image::{Blob, Manifest, sha256};
use portcullis_tests::ledger::Account;
use portcullis_tests::repository::{Repository, with_digest};
use portcullis_tests::scene::{Scene, within};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const STEPS: usize = 150;

/// A blob that the project has, and whether it pays for it.
#[derive(Clone, Copy)]
struct Held {
    size: u64,
    is_charged: bool,
}

/// What ought to be on record.
#[derive(Default)]
struct Model {
    quota: u64,
    blobs: BTreeMap<String, Held>,
    /// Repository and digest.
    links: BTreeSet<(&'static str, String)>,
    manifests: BTreeMap<(&'static str, String), Manifest>,
    /// Repository and tag.
    tags: BTreeMap<(&'static str, &'static str), String>,
}

impl Model {
    fn used(&self) -> u64 {
        let blobs = self.blobs.values().filter(|held| held.is_charged).map(|held| held.size);
        let distinct: BTreeMap<&str, u64> =
            self.manifests.values().map(|held| (held.digest(), held.blob.bytes.len() as u64)).collect();
        blobs.chain(distinct.into_values()).sum()
    }

    fn fits(&self, bytes: u64) -> bool {
        bytes == 0 || bytes <= self.quota - self.used()
    }

    /// What a project is not charged with of this blob, where it knows it.
    fn unpaid(&self, digest: &str) -> u64 {
        self.blobs.get(digest).filter(|held| !held.is_charged).map_or(0, |held| held.size)
    }

    fn charge(&mut self, repository: &'static str, blob: &Blob) {
        self.blobs.insert(blob.digest.clone(), Held { size: blob.bytes.len() as u64, is_charged: true });
        self.links.insert((repository, blob.digest.clone()));
    }

    fn upload(&mut self, repository: &'static str, blob: &Blob) -> u16 {
        if !self.fits(blob.bytes.len() as u64) {
            return 403;
        }
        self.charge(repository, blob);
        201
    }

    fn push(&mut self, repository: &'static str, tag: &'static str, manifest: &Manifest) -> u16 {
        let is_known = self.manifests.keys().any(|(_, digest)| digest == manifest.digest());
        let own = if is_known { 0 } else { manifest.blob.bytes.len() as u64 };
        let named: BTreeSet<&str> = manifest.blobs.iter().map(|blob| blob.digest.as_str()).collect();
        if !self.fits(own + named.iter().map(|digest| self.unpaid(digest)).sum::<u64>()) {
            return 403;
        }
        let has = |digest: &&str| self.links.contains(&(repository, (*digest).to_owned()));
        let has_child = |child: &Manifest| self.manifests.contains_key(&(repository, child.digest().to_owned()));
        if !named.iter().all(has) || !manifest.manifests.iter().all(has_child) {
            return 404;
        }
        for digest in named {
            self.blobs.get_mut(digest).expect("what is linked is known").is_charged = true;
        }
        self.manifests.insert((repository, manifest.digest().to_owned()), manifest.clone());
        self.tags.insert((repository, tag), manifest.digest().to_owned());
        201
    }

    fn delete_manifest(&mut self, repository: &'static str, digest: &str) -> u16 {
        let Some(gone) = self.manifests.remove(&(repository, digest.to_owned())) else { return 404 };
        self.tags.retain(|(of, _), tagged| *of != repository || tagged != digest);
        for blob in gone.blobs {
            let is_named = self.manifests.values().any(|held| held.blobs.contains(&blob));
            if let Some(held) = self.blobs.get_mut(&blob.digest).filter(|_| !is_named) {
                held.is_charged = false;
            }
        }
        202
    }

    fn delete_blob(&mut self, repository: &'static str, digest: &str) -> u16 {
        let link = (repository, digest.to_owned());
        if !self.links.contains(&link) || self.blobs.get(digest).is_none_or(|held| !held.is_charged) {
            return 404;
        }
        self.links.remove(&link);
        if !self.links.iter().any(|(_, linked)| linked == digest) {
            self.blobs.remove(digest);
        }
        202
    }
}

/// What is done, with the answer that it has and the one that it ought to have.
struct Step {
    what: String,
    expected: u16,
    answer: Response,
}

struct Play<'a> {
    scene: &'a Scene,
    stock: &'a Stock,
    model: Model,
    dice: Dice,
}

impl Play<'_> {
    fn step(&mut self) -> Step {
        let repository = *self.dice.pick(&REPOSITORIES);
        let tag = *self.dice.pick(&TAGS);
        let stock = self.stock;
        let (blob, manifest) = (self.dice.pick(&stock.blobs), self.dice.pick(&stock.manifests));
        let door = self.scene.acme(repository);
        let (answer, expected, what) = match self.dice.one_of(0..20) {
            0..4 => (door.put_blob(blob), self.model.upload(repository, blob), "put"),
            4..7 => {
                let answer = self.streamed(&door, blob, &blob.digest);
                (answer, self.model.upload(repository, blob), "stream")
            }
            7 => {
                let answer = self.streamed(&door, blob, &sha256(b"other bytes"));
                let expected = if self.model.fits(blob.bytes.len() as u64) { 400 } else { 403 };
                (answer, expected, "wrong digest")
            }
            8 => return self.broken_off(&door, blob),
            9 | 10 => return self.mount(repository, blob),
            11..14 => {
                let expected = self.model.push(repository, tag, manifest);
                (door.put_manifest(tag, manifest), expected, "manifest")
            }
            14..16 => return self.whole(repository, tag, manifest),
            16 | 17 => {
                let expected = self.model.delete_manifest(repository, manifest.digest());
                (door.delete(manifest.digest()), expected, "delete manifest")
            }
            18 => {
                let expected = if self.model.tags.remove(&(repository, tag)).is_some() { 202 } else { 404 };
                (door.delete(tag), expected, "delete tag")
            }
            _ => {
                let expected = self.model.delete_blob(repository, &blob.digest);
                let answer = door.request(Method::DELETE, &format!("blobs/{}", blob.digest)).send();
                (answer, expected, "delete blob")
            }
        };
        Step { what: format!("{what} in {repository}"), expected, answer }
    }

    /// PATCH of unknown length, and a PUT that carries the rest. An earlier refusal is returned.
    fn streamed(&mut self, door: &Repository, blob: &Blob, digest: &str) -> Response {
        let (first, rest) = blob.bytes.split_at(self.dice.one_of(0..blob.bytes.len() + 1));
        let (sender, body) = pieces();
        first.chunks(16 * 1024).for_each(|piece| sender.send(piece.to_vec()));
        drop(sender);
        let patched = door.at(Method::PATCH, &door.open_upload()).stream(body).send();
        if patched.status != 202 {
            return patched;
        }
        door.at(Method::PUT, &with_digest(&patched.header("location"), digest)).body(rest.to_vec()).send()
    }

    /// A client that goes away at some byte, and gives the upload up.
    fn broken_off(&mut self, door: &Repository, blob: &Blob) -> Step {
        let location = door.open_upload();
        let (sender, body) = pieces();
        sender.send(blob.bytes[..self.dice.one_of(0..blob.bytes.len())].to_vec());
        sender.break_off();
        let _ = door.at(Method::PATCH, &location).stream(body).attempt();
        let answer = door.at(Method::DELETE, &location).send();
        // For want of room it may be given up already.
        let expected = if answer.status == 404 { 404 } else { 204 };
        Step { what: "break off".to_owned(), expected, answer }
    }

    fn mount(&mut self, target: &'static str, blob: &Blob) -> Step {
        let from = *self.dice.pick(&REPOSITORIES);
        let query = format!("blobs/uploads/?mount={}&from=acme/{from}", blob.digest);
        let answer = self.scene.acme(target).request(Method::POST, &query).send();
        // What is not charged is not there to be mounted.
        let is_charged = self.model.blobs.get(&blob.digest).is_some_and(|held| held.is_charged);
        let is_there = is_charged && self.model.links.contains(&(from, blob.digest.clone()));
        if is_there {
            self.model.charge(target, blob);
        }
        let expected = if is_there { 201 } else { 202 };
        Step { what: format!("mount from {from} in {target}"), expected, answer }
    }

    /// All of an image, or of an index; what has no room ends it.
    fn whole(&mut self, repository: &'static str, tag: &'static str, manifest: &Manifest) -> Step {
        for child in &manifest.manifests {
            let step = self.whole(repository, tag, child);
            if step.answer.status != step.expected || step.expected != 201 {
                return step;
            }
        }
        let door = self.scene.acme(repository);
        for blob in &manifest.blobs {
            let (answer, expected) = (door.put_blob(blob), self.model.upload(repository, blob));
            if answer.status != expected || expected != 201 {
                return Step { what: format!("put of an image in {repository}"), expected, answer };
            }
        }
        let expected = self.model.push(repository, tag, manifest);
        Step { what: format!("image in {repository}"), expected, answer: door.put_manifest(tag, manifest) }
    }
}

#[test]
fn what_is_used_is_what_a_model_says_after_every_step() {
    let mut dice = Dice::new(seed());
    let stock = Stock::new(&mut dice);
    let mut scene = Scene::with(|builder| {
        // Nothing is taken away before the end, and that is in nobody's way.
        let builder = builder.set("upstream.isolation", "repository").set("quota.waiting_percent", 1000);
        builder.set("quota.reservation_s", 10)
    });
    scene.gateway.set_quota("acme", stock.quota);
    let model = Model { quota: stock.quota, ..Model::default() };
    let mut play = Play { scene: &scene, stock: &stock, model, dice };
    for number in 1..=STEPS {
        let Step { what, expected, answer } = play.step();
        // The upstream tells what it misses as 404 or as 400.
        let is_as_expected = answer.status == expected || (expected == 404 && answer.status == 400);
        assert!(is_as_expected, "step {number}, {what}: {expected} was expected\n{answer}");
        let account = within(Duration::from_secs(25), || {
            Some(scene.gateway.account("acme")).filter(|account| account.reserved == 0)
        });
        assert_eq!(account.used, play.model.used(), "step {number}, {what}: {}", answer.status);
        assert!(account.used <= stock.quota, "step {number}, {what}");
    }
    // What nobody pays for goes away upstream, and the rest is all that is there.
    let used = play.model.used();
    scene.gateway.set("quota.unlink_grace_s", 1);
    scene.gateway.reload();
    let mut holds = 0;
    within(Duration::from_secs(60), || {
        holds = scene.registry.holds("acme");
        (holds == used).then_some(())
    });
    assert_eq!(scene.gateway.account("acme"), Account { used: holds, reserved: 0 });
}
