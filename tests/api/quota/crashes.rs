//! A gateway that dies at the worst moment leaves no drift: another look at the upstream settles it.

use super::size;
use http::Method;
use portcullis_oci::{RepositoryName, Tag};
use portcullis_tenancy::{Store as _, Timestamp};
use portcullis_tests::faults::{Answer, Faults, Seen};
use portcullis_tests::gateway::Gateway;
use portcullis_tests::http::{block_on, encode};
use portcullis_tests::image::{Blob, IMAGE, Manifest};
use portcullis_tests::ledger::Account;
use portcullis_tests::raw::Raw;
use portcullis_tests::registry::Registry;
use portcullis_tests::repository::with_digest;
use portcullis_tests::scene::{EFFECT, House, within};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Longer than until somebody else looks after what nobody is at work at.
const SETTLED: Duration = Duration::from_secs(90);

/// A registry whose answers to PUT and DELETE can be lost: it does what it is asked, and the gateway never hears of it.
struct Lossy {
    registry: Registry,
    upstream: Faults,
    lost: Arc<AtomicBool>,
}

impl Lossy {
    fn start() -> Lossy {
        let registry = Registry::start();
        let lost = Arc::new(AtomicBool::new(false));
        let (behind, is_lost) = (registry.http(), Arc::clone(&lost));
        let upstream = Faults::before(&registry.url(), move |seen| {
            let is_write = seen.method == "DELETE" || seen.method == "PUT";
            if !is_write || !is_lost.load(Ordering::SeqCst) {
                return None;
            }
            // The registry does it.
            let method = Method::from_bytes(seen.method.as_bytes()).expect("a method");
            let request = behind.request(method, &seen.target).body(seen.body.clone());
            request.header("content-type", seen.header("content-type")).send();
            Some(Answer::silence())
        });
        Lossy { registry, upstream, lost }
    }

    fn house(&self) -> House {
        House::open(Gateway::before(&self.upstream.url()).set("upstream.isolation", "repository"))
    }

    /// Has it do something while its answers are lost, and kills the gateway before it gives up waiting for one.
    fn killing(&self, house: &mut House, target: &str, act: impl FnOnce() + Send + 'static) {
        self.lost.store(true, Ordering::SeqCst);
        let acting = std::thread::spawn(act);
        self.upstream
            .wait_for(|seen| (seen.method == "PUT" || seen.method == "DELETE") && seen.target.contains(target));
        // The registry has done it by now, or does so at once.
        std::thread::sleep(Duration::from_millis(500));
        house.gateway.kill();
        let _ = acting.join();
        self.lost.store(false, Ordering::SeqCst);
        house.gateway.serve();
    }

    fn settles(&self, house: &House) -> u64 {
        within(SETTLED, || {
            let (account, holds) = (house.gateway.account("acme"), self.registry.holds("acme"));
            (account == Account { used: holds, reserved: 0 }).then_some(holds)
        })
    }
}

#[test]
fn a_blob_that_the_upstream_took_before_the_crash_is_charged_after_it() {
    let lossy = Lossy::start();
    let mut house = lossy.house();
    let repository = house.acme("blob");
    let blob = Blob::random(30_000);
    let location = repository.open_upload();
    let put = repository.at(Method::PUT, &with_digest(&location, &blob.digest)).body(blob.bytes.clone());
    lossy.killing(&mut house, &encode(&blob.digest), move || drop(put.attempt()));
    assert_eq!(house.gateway.account("acme").reserved, 30_000, "its room is kept until it is known");
    assert_eq!(lossy.settles(&house), 30_000);
    assert_eq!(house.acme("blob").blob(&blob.digest).status, 200);
}

#[test]
fn a_manifest_that_the_upstream_took_before_the_crash_is_recorded_with_its_tags() {
    let lossy = Lossy::start();
    let mut house = lossy.house();
    let (repository, image) = (house.acme("manifest"), Manifest::image(2, 1000));
    image.blobs.iter().for_each(|blob| drop(repository.put_blob(blob).expect(201)));
    let put = repository.request(Method::PUT, "manifests/1.0").header("content-type", &image.blob.media_type);
    let put = put.body(image.blob.bytes.clone());
    lossy.killing(&mut house, "manifests/1.0", move || drop(put.attempt()));
    assert_eq!(lossy.settles(&house), size(&image));
    assert_eq!(house.acme("manifest").tags(), ["1.0"]);
    house.acme("manifest").pull("1.0", &image);
}

#[test]
fn a_deletion_that_the_upstream_did_before_the_crash_is_given_back() {
    let lossy = Lossy::start();
    let mut house = lossy.house();
    let (repository, image) = (house.acme("gone"), Manifest::image(2, 1000));
    repository.push("1.0", &image);
    let delete = repository.request(Method::DELETE, &format!("manifests/{}", image.digest()));
    lossy.killing(&mut house, image.digest(), move || drop(delete.attempt()));
    within(SETTLED, || (house.gateway.account("acme") == Account { used: 0, reserved: 0 }).then_some(()));
    house.acme("gone").blob(&image.blobs[1].digest).refused(404, "BLOB_UNKNOWN");
    assert_eq!(house.acme("gone").tags(), Vec::<String>::new());
}

/// The gateway asks for the size of a blob that it does not know.
fn asks_for_a_size(seen: &Seen) -> bool {
    seen.method == "HEAD" && seen.target.contains("/blobs/")
}

#[test]
fn a_client_that_goes_away_while_the_upstream_is_asked_for_sizes_leaves_nothing() {
    let registry = Registry::start();
    // Blobs that came past the gateway: how large they are is never answered.
    let upstream = Faults::before(&registry.url(), |seen| asks_for_a_size(seen).then(Answer::silence));
    let house = House::open(Gateway::before(&upstream.url()).set("upstream.isolation", "repository"));
    let (image, who) = (Manifest::image(1, 100), house.acme.admin.credentials());
    let mut client = Raw::connect(&house.gateway.http());
    client.send(format!(
        "PUT /v2/acme/app/manifests/1.0 HTTP/1.1\r\nhost: {}\r\nauthorization: {}\r\ncontent-type: {IMAGE}\r\ncontent-length: {}\r\n\r\n",
        house.gateway.authority(),
        who.header().expect("somebody pushes"),
        image.blob.bytes.len(),
    ));
    client.send(&image.blob.bytes);
    upstream.wait_for_head(asks_for_a_size);
    assert_eq!(house.gateway.account("acme").reserved, image.blob.bytes.len() as u64);
    drop(client);
    within(EFFECT, || (house.gateway.account("acme") == Account { used: 0, reserved: 0 }).then_some(()));
    assert!(!upstream.heads().iter().any(|seen| seen.method == "PUT"), "nothing went upstream");
}

#[test]
fn a_tag_that_becomes_free_while_the_upstream_is_asked_for_sizes_keeps_nobody_waiting() {
    let registry = Registry::start();
    let answers = Arc::new(AtomicBool::new(false));
    let may_answer = Arc::clone(&answers);
    let upstream = Faults::before(&registry.url(), move |seen| {
        while asks_for_a_size(seen) && !may_answer.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(20));
        }
        None
    });
    let house = House::open(Gateway::before(&upstream.url()).set("upstream.isolation", "repository"));
    let image = Manifest::image(1, 100);
    image.blobs.iter().for_each(|blob| drop(registry.repository("acme/app").put_blob(blob).expect(201)));
    let (name, tag) = (RepositoryName::parse("acme/app").expect("a name"), Tag::parse("1.0").expect("a tag"));
    let lock_until = |until: Option<Timestamp>| {
        let done = block_on(async {
            let store = portcullis_store::open(&house.gateway.store_url(), 2).await?;
            let acme = store.project("acme").await?.expect("it was made").id;
            match until {
                Some(until) => store.lock_tag(&acme, &name, &tag, "another", Timestamp::now(), until).await,
                None => store.unlock_tag(&acme, &name, &tag, "another").await.map(|()| true),
            }
        });
        assert!(done.expect("the store is there"));
    };
    lock_until(Timestamp::now().checked_add(Duration::from_secs(60)).ok());
    let (app, pushed) = (house.acme("app"), image.clone());
    let pushing = std::thread::spawn(move || app.put_manifest("1.0", &pushed));
    upstream.wait_for_head(asks_for_a_size);
    lock_until(None);
    answers.store(true, Ordering::SeqCst);
    pushing.join().expect("no panic").expect(201);
    assert_eq!(house.gateway.account("acme"), Account { used: size(&image), reserved: 0 });
}
