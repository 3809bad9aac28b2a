//! `kill -9` in the middle of a push load, again and again: once the dust has settled, the ledger says what the registry holds.

use crate::traffic::among_others;
use http::Method;
use portcullis_tests::dice::{Dice, seed};
use portcullis_tests::gateway::Gateway;
use portcullis_tests::http::{Response, pieces};
use portcullis_tests::image::{Blob, Manifest};
use portcullis_tests::ledger::Account;
use portcullis_tests::repository::{Repository, with_digest};
use portcullis_tests::scene::{Scene, within};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Who push at once.
const PUSHERS: usize = 4;
/// Until nothing is left of the last crash: somebody else looks after what nobody is at work at, and a blob whose deletion was cut
/// off is taken up again.
const SETTLED: Duration = Duration::from_secs(180);
/// How long the load goes on between two kills, in milliseconds.
const BETWEEN: std::ops::Range<usize> = 300..3000;

/// What became of all of it, for the record.
#[derive(Default)]
struct Tally {
    pushed: AtomicUsize,
    deleted: AtomicUsize,
    cut_off: AtomicUsize,
}

/// Somebody who pushes and deletes images in a repository of his own, through whichever door is open.
struct Pusher<'a> {
    doors: Vec<Repository>,
    dice: Dice,
    /// Layers that all pushers have in common.
    shared: &'a [Blob],
    /// What he was told that he has: these have to be there in the end.
    kept: Vec<(String, Manifest)>,
    tally: &'a Tally,
}

impl Pusher<'_> {
    fn push_until(mut self, over: &AtomicBool) -> Self {
        let mut number = 0;
        while !over.load(Ordering::SeqCst) {
            number += 1;
            let (tag, image) = (format!("t{number}"), self.image());
            match self.push(&tag, &image) {
                Some(()) => {
                    self.tally.pushed.fetch_add(1, Ordering::Relaxed);
                    self.kept.push((tag, image));
                }
                None => drop(self.tally.cut_off.fetch_add(1, Ordering::Relaxed)),
            }
            if self.kept.len() > 1 && self.dice.percent(40) {
                self.delete();
            }
            if self.dice.percent(10) {
                // Nobody names this one.
                let size = self.dice.one_of(1..50_000);
                let orphan = self.dice.blob(size);
                let _ = self.put(&orphan);
            }
        }
        self
    }

    fn image(&mut self) -> Manifest {
        let mut layers: Vec<Blob> = (0..self.dice.one_of(1..3))
            .map(|_| {
                let size = self.dice.one_of(1000..400_000);
                self.dice.blob(size)
            })
            .collect();
        if self.dice.percent(50) {
            layers.push(self.dice.pick(self.shared).clone());
        }
        Manifest::image_for("amd64", layers)
    }

    /// All of an image; nothing where any of it had no answer, or not the one that was hoped for.
    fn push(&mut self, tag: &str, image: &Manifest) -> Option<()> {
        for blob in &image.blobs {
            self.put(blob)?;
        }
        let put = self.door().request(Method::PUT, &format!("manifests/{tag}"));
        let put = put.header("content-type", &image.blob.media_type).body(image.blob.bytes.clone());
        answered(put.attempt(), 201).map(drop)
    }

    /// A blob: whole, or streamed and ended by a PUT, with or without the last bytes.
    fn put(&mut self, blob: &Blob) -> Option<()> {
        let door = self.door();
        let opened = answered(door.request(Method::POST, "blobs/uploads/").attempt(), 202)?.header("location");
        let (location, rest) = if self.dice.percent(50) {
            (opened, blob.bytes.as_slice())
        } else {
            let (first, rest) = blob.bytes.split_at(self.dice.one_of(0..blob.bytes.len() + 1));
            let (sender, body) = pieces();
            first.chunks(32 * 1024).for_each(|piece| sender.send(piece.to_vec()));
            drop(sender);
            let patched = answered(door.at(Method::PATCH, &opened).stream(body).attempt(), 202)?;
            (patched.header("location"), rest)
        };
        let put = door.at(Method::PUT, &with_digest(&location, &blob.digest));
        answered(put.body(rest.to_vec()).attempt(), 201).map(drop)
    }

    /// Deletes one of his images, or only its tag.
    fn delete(&mut self) {
        let place = self.dice.one_of(0..self.kept.len());
        let (tag, image) = self.kept.swap_remove(place);
        let reference = if self.dice.percent(70) { image.digest() } else { &tag };
        let delete = self.door().request(Method::DELETE, &format!("manifests/{reference}"));
        if answered(delete.attempt(), 202).is_some() {
            self.tally.deleted.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn door(&mut self) -> Repository {
        self.dice.pick(&self.doors).clone()
    }
}

/// The answer, where there is one and it is this. While a gateway is down there is none, and after a crash it may be another.
fn answered(answer: Result<Response, String>, status: u16) -> Option<Response> {
    match answer {
        Ok(answer) if answer.status == status => Some(answer),
        Ok(other) => {
            // Nothing is answered that nobody could have expected: there is no limit, and nobody else's tags.
            assert!(matches!(other.status, 404 | 500..), "{other}");
            None
        }
        Err(_) => {
            std::thread::sleep(Duration::from_millis(20));
            None
        }
    }
}

/// Kills one of the gateways so many times while all pushers push, and looks at what is left.
fn kills(scene: &mut Scene, mut second: Option<Gateway>, count: usize) {
    let _others = among_others();
    let mut dice = Dice::new(seed());
    let begun = Instant::now();
    let shared: Vec<Blob> = (0..4).map(|_| dice.blob(100_000)).collect();
    let (tally, over) = (Tally::default(), AtomicBool::new(false));
    let who = scene.acme.admin.credentials();
    let mut pushers: Vec<Pusher<'_>> = Vec::new();
    for number in 0..PUSHERS {
        let name = format!("acme/load-{number}");
        let doors = std::iter::once(&scene.gateway).chain(&second).map(|gateway| gateway.repository(&name, &who));
        pushers.push(Pusher {
            doors: doors.collect(),
            dice: dice.other(),
            shared: &shared,
            kept: Vec::new(),
            tally: &tally,
        });
    }
    let pushers: Vec<Pusher<'_>> = std::thread::scope(|scope| {
        let pushing: Vec<_> = pushers.into_iter().map(|pusher| scope.spawn(|| pusher.push_until(&over))).collect();
        for _ in 0..count {
            std::thread::sleep(Duration::from_millis(dice.one_of(BETWEEN) as u64));
            let victim = match &mut second {
                Some(second) if dice.percent(50) => second,
                _ => &mut scene.house.gateway,
            };
            victim.kill();
            victim.serve();
        }
        std::thread::sleep(Duration::from_millis(dice.one_of(BETWEEN) as u64));
        over.store(true, Ordering::SeqCst);
        pushing.into_iter().map(|pushing| pushing.join().expect("no answer was wrong")).collect()
    });
    let load = begun.elapsed();
    let mut last = String::new();
    let settled = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        within(SETTLED, || {
            let (account, holds) = (scene.gateway.account("acme"), scene.registry.holds("acme"));
            last = format!("{account:?}, and the registry holds {holds}");
            (account == Account { used: holds, reserved: 0 }).then_some(holds)
        })
    }));
    let holds = settled.unwrap_or_else(|_| panic!("it does not settle: {last}\n{}", told(&scene.gateway)));
    println!(
        "load: {count} kills in {load:.0?}: {} images pushed, {} deleted, {} pushes cut off; {holds} bytes, settled after {:.0?}",
        tally.pushed.load(Ordering::Relaxed),
        tally.deleted.load(Ordering::Relaxed),
        tally.cut_off.load(Ordering::Relaxed),
        begun.elapsed() - load
    );
    // What was promised is there.
    for pusher in pushers {
        for (tag, image) in &pusher.kept {
            pusher.doors.iter().for_each(|door| door.pull(tag, image));
        }
    }
}

/// What the gateway had to say besides its access log.
fn told(gateway: &Gateway) -> String {
    let log = gateway.log();
    let lines = log.lines().filter(|line| line.contains("\"WARN\"") || line.contains("\"ERROR\""));
    lines.fold(String::new(), |told, line| told + line + "\n")
}

fn scene() -> Scene {
    Scene::with(|builder| {
        let quick = builder.set("quota.unlink_grace_s", 1).set("quota.reservation_s", 10);
        quick.set("upstream.isolation", "repository")
    })
}

/// Another gateway on the same store, where that is one for several.
fn with_a_second_node(count: usize) {
    let mut scene = scene();
    if !scene.gateway.store_url().starts_with("postgres") {
        return;
    }
    let mut second = scene.gateway.second_node();
    second.serve();
    kills(&mut scene, Some(second), count);
}

#[test]
fn a_gateway_that_is_killed_in_the_middle_of_pushes_leaves_no_drift() {
    kills(&mut scene(), None, 5);
}

#[test]
fn two_gateways_of_which_one_or_the_other_is_killed_leave_no_drift() {
    with_a_second_node(5);
}

#[test]
#[ignore = "takes 4 minutes; make test-all"]
fn a_gateway_that_is_killed_forty_times_leaves_no_drift() {
    kills(&mut scene(), None, 40);
}

#[test]
#[ignore = "takes 4 minutes; make test-all"]
fn two_gateways_of_which_one_or_the_other_is_killed_forty_times_leave_no_drift() {
    with_a_second_node(40);
}
