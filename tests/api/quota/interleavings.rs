//! Random work by many at once, before an upstream that sometimes says that it failed when it did not: at no moment is more used
//! than there is room for, and in the end the ledger says what the registry holds.

use super::stock::{REPOSITORIES, Stock, TAGS};
use http::Method;
use portcullis_tests::dice::{Dice, seed};
use portcullis_tests::faults::{Answer, Faults};
use portcullis_tests::gateway::Gateway;
use portcullis_tests::http::{Credentials, Response, pieces};
use portcullis_tests::image::{Blob, Manifest, sha256};
use portcullis_tests::ledger::Account;
use portcullis_tests::registry::Registry;
use portcullis_tests::repository::{Repository, with_digest};
use portcullis_tests::scene::{EFFECT, House, within};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const WORKERS: usize = 5;
const STEPS: usize = 25;
/// Until what the upstream was wrong about is found out, and what nobody pays for is gone.
const SETTLED: Duration = Duration::from_secs(180);

/// A registry that now and then does what it is asked and says that it failed.
struct Liar {
    registry: Registry,
    upstream: Faults,
    /// Writes about which it will lie.
    lies: Arc<AtomicUsize>,
}

impl Liar {
    fn start() -> Liar {
        let registry = Registry::start();
        let lies = Arc::new(AtomicUsize::new(0));
        let (behind, left) = (registry.http(), Arc::clone(&lies));
        let upstream = Faults::before(&registry.url(), move |seen| {
            let ends = seen.method == "PUT" || seen.method == "DELETE" && !seen.target.contains("/uploads/");
            let lies = || left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok();
            if !ends || !seen.whole || !lies() {
                return None;
            }
            let method = Method::from_bytes(seen.method.as_bytes()).expect("a method");
            let request = behind.request(method, &seen.target).body(seen.body.clone());
            let _ = request.header("content-type", seen.header("content-type")).attempt();
            Some(Answer::status(500))
        });
        Liar { registry, upstream, lies }
    }
}

/// One who does whatever comes to his mind.
struct Worker<'a> {
    house: &'a House,
    stock: &'a Stock,
    lies: &'a AtomicUsize,
    /// May pull from another project.
    builder: &'a Credentials,
    dice: Dice,
}

impl Worker<'_> {
    fn work(mut self) {
        for _ in 0..STEPS {
            self.step();
        }
    }

    fn step(&mut self) {
        let stock = self.stock;
        let (repository, tag) = (*self.dice.pick(&REPOSITORIES), *self.dice.pick(&TAGS));
        let (blob, manifest) = (self.dice.pick(&stock.blobs), self.dice.pick(&stock.manifests));
        let door = self.house.acme(repository);
        match self.dice.one_of(0..22) {
            0..3 => drop(fair(door.put_blob(blob))),
            3..6 => drop(fair(self.streamed(&door, blob, &blob.digest))),
            6 => drop(fair(self.streamed(&door, blob, &sha256(b"other bytes")))),
            7 => self.broken_off(&door, blob),
            // The same blob by two hands.
            8 => std::thread::scope(|scope| {
                for _ in 0..2 {
                    scope.spawn(|| fair(door.put_blob(blob)));
                }
            }),
            9 | 10 => {
                let from = *self.dice.pick(&REPOSITORIES);
                let mount = format!("blobs/uploads/?mount={}&from=acme/{from}", blob.digest);
                fair(door.request(Method::POST, &mount).send());
            }
            11 => {
                let door = self.house.gateway.repository(&format!("acme/{repository}"), self.builder);
                let mount = format!("blobs/uploads/?mount={}&from=globex/base", blob.digest);
                fair(door.request(Method::POST, &mount).send());
            }
            12..14 => drop(fair(door.put_manifest(tag, manifest))),
            14..18 => drop(self.whole(&door, tag, manifest)),
            18 => drop(fair(door.delete(manifest.digest()))),
            19 => drop(fair(door.delete(tag))),
            20 => drop(fair(door.request(Method::DELETE, &format!("blobs/{}", blob.digest)).send())),
            _ => drop(self.lies.fetch_add(1, Ordering::SeqCst)),
        }
    }

    /// PATCH of unknown length, and a PUT that carries the rest.
    fn streamed(&mut self, door: &Repository, blob: &Blob, digest: &str) -> Response {
        let (first, rest) = blob.bytes.split_at(self.dice.one_of(0..blob.bytes.len() + 1));
        let (sender, body) = pieces();
        first.chunks(16 * 1024).for_each(|piece| sender.send(piece.to_vec()));
        drop(sender);
        let opened = door.request(Method::POST, "blobs/uploads/").send();
        if opened.status != 202 {
            return opened;
        }
        let patched = door.at(Method::PATCH, &opened.header("location")).stream(body).send();
        if patched.status != 202 {
            return patched;
        }
        door.at(Method::PUT, &with_digest(&patched.header("location"), digest)).body(rest.to_vec()).send()
    }

    fn broken_off(&mut self, door: &Repository, blob: &Blob) {
        let opened = fair(door.request(Method::POST, "blobs/uploads/").send());
        if opened.status != 202 {
            return;
        }
        let (sender, body) = pieces();
        sender.send(blob.bytes[..self.dice.one_of(0..blob.bytes.len())].to_vec());
        sender.break_off();
        let _ = door.at(Method::PATCH, &opened.header("location")).stream(body).attempt();
    }

    /// All of an image, or of an index, as far as it gets.
    fn whole(&mut self, door: &Repository, tag: &str, manifest: &Manifest) -> Option<()> {
        for child in &manifest.manifests {
            self.whole(door, child.digest(), child)?;
        }
        for blob in &manifest.blobs {
            (fair(door.put_blob(blob)).status == 201).then_some(())?;
        }
        (fair(door.put_manifest(tag, manifest)).status == 201).then_some(())
    }
}

/// An answer that one can have to this: done, refused for a reason, or not to be had now.
#[track_caller]
fn fair(answer: Response) -> Response {
    assert!(matches!(answer.status, 201 | 202 | 204 | 400 | 403 | 404 | 416 | 502 | 503), "{answer}");
    answer
}

#[test]
fn whatever_many_do_at_once_ends_with_what_the_registry_holds() {
    let mut dice = Dice::new(seed());
    let stock = Stock::new(&mut dice);
    let liar = Liar::start();
    let house = House::open({
        let builder = Gateway::before(&liar.upstream.url()).set("upstream.isolation", "repository");
        // Orphans go while others work.
        builder.set("quota.unlink_grace_s", 1).set("quota.orphan_grace_s", 5).set("quota.reservation_s", 10)
    });
    house.globex("base").push("all", &Manifest::image_for("amd64", stock.blobs.clone()));
    let grants = ["--grant", "acme/**=pull,push", "--grant", "globex/base=pull"];
    let builder = house.gateway.robot("acme", "builder", &grants).credentials();
    house.gateway.cli(&["grant", "accept", &house.gateway.foreign_grant("globex")]);
    let seen = || house.gateway.repository("globex/base", &builder).blob(&stock.blobs[0].digest);
    within(EFFECT, || Some(seen()).filter(|answer| answer.status == 200));
    house.gateway.set_quota("acme", stock.quota);

    let over = AtomicBool::new(false);
    let look = || {
        let account = house.gateway.account("acme");
        assert!(account.used + account.reserved <= stock.quota, "{account:?} of {}", stock.quota);
        account
    };
    let looks = std::thread::scope(|scope| {
        let looking = scope.spawn(|| {
            let mut looks = 0;
            while !over.load(Ordering::SeqCst) {
                look();
                looks += 1;
            }
            looks
        });
        let working: Vec<_> = (0..WORKERS)
            .map(|_| {
                let (house, stock, builder) = (&house, &stock, &builder);
                let worker = Worker { house, stock, lies: &liar.lies, builder, dice: dice.other() };
                scope.spawn(move || worker.work())
            })
            .collect();
        let worked: Vec<_> = working.into_iter().map(|working| working.join()).collect();
        over.store(true, Ordering::SeqCst);
        worked.into_iter().for_each(|worked| worked.expect("every answer was fair"));
        looking.join().expect("never more than there is room for")
    });
    println!("{looks} looks while they worked");
    liar.lies.store(0, Ordering::SeqCst);
    let begun = Instant::now();
    let holds = loop {
        let (account, holds) = (look(), liar.registry.holds("acme"));
        if account == (Account { used: holds, reserved: 0 }) {
            break holds;
        }
        assert!(begun.elapsed() < SETTLED, "it does not settle: {account:?}, and the registry holds {holds}");
        std::thread::sleep(Duration::from_millis(200));
    };
    println!("settled after {:.0?} with {holds} bytes of {}", begun.elapsed(), stock.quota);
    // What is on record is there to be pulled.
    for repository in REPOSITORIES {
        let door = house.acme(repository);
        // Where no manifest has stayed, the upstream may know of no such repository.
        let is_known = door.request(Method::GET, "tags/list").send().status != 404;
        let tags = if is_known { door.tags() } else { Vec::new() };
        for tag in tags {
            door.manifest(&tag).expect(200);
        }
    }
}
