//! Rights that are taken away while a push's body is still on its way: it is refused, and nothing of it is recorded.

use super::tags;
use http::Method;
use portcullis_oci::scope::RepositoryPattern;
use portcullis_oci::{Digest, RepositoryName};
use portcullis_tenancy::grant::{Consent, Grant, Role};
use portcullis_tenancy::{Project, Store as _, StoreError};
use portcullis_tests::faults::Faults;
use portcullis_tests::gateway::Gateway;
use portcullis_tests::http::{Credentials, block_on};
use portcullis_tests::image::{Blob, IMAGE, Manifest};
use portcullis_tests::raw::Raw;
use portcullis_tests::registry::Registry;
use portcullis_tests::repository::with_digest;
use portcullis_tests::scene::{House, within};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(30);

/// A push that the gateway has let in, and of whose body the half has come.
struct Slow {
    what: String,
    raw: Raw,
    rest: Vec<u8>,
}

impl Slow {
    #[track_caller]
    fn begin(house: &House, who: &Credentials, target: &str, content_type: &str, bytes: &[u8]) -> Slow {
        let mut raw = Raw::connect(&house.gateway.http());
        let head = format!(
            "PUT {target} HTTP/1.1\r\nhost: {}\r\nauthorization: {}\r\ncontent-type: {content_type}\r\ncontent-length: {}\r\nexpect: 100-continue\r\n\r\n",
            house.gateway.authority(),
            who.header().expect("somebody pushes"),
            bytes.len(),
        );
        // Only who may push is told to go on.
        let told = raw.send(head).answer().unwrap_or_else(|| panic!("no answer to {target}"));
        assert_eq!(told.status, 100, "{told:?}");
        let (half, rest) = bytes.split_at(bytes.len() / 2);
        raw.send(half);
        Slow { what: target.to_owned(), raw, rest: rest.to_vec() }
    }

    #[track_caller]
    fn ends_refused(mut self, status: u16) {
        let answer = self.raw.send(&self.rest).answer();
        let answer = answer.unwrap_or_else(|| panic!("no answer to {}", self.what));
        assert_eq!(answer.status, status, "{}: {answer:?}", self.what);
    }
}

/// A manifest by tag, the same by digest, and a blob at the end of its upload.
fn begin_all(house: &House, who: &Credentials, image: &Manifest, blob: &Blob) -> Vec<Slow> {
    let location = house.gateway.repository("acme/app", who).open_upload();
    let manifest = |reference: &str| format!("/v2/acme/app/manifests/{reference}");
    vec![
        Slow::begin(house, who, &manifest("slow"), IMAGE, &image.blob.bytes),
        Slow::begin(house, who, &manifest(image.digest()), IMAGE, &image.blob.bytes),
        Slow::begin(house, who, &with_digest(&location, &blob.digest), "application/octet-stream", &blob.bytes),
    ]
}

fn assert_no_manifest_was_put(upstream: &Faults, image: &Manifest) {
    let is_it = |method: &str, path: &str| {
        method == "PUT" && (path.ends_with("/manifests/slow") || path.ends_with(image.digest()))
    };
    let seen = upstream.heads();
    assert!(!seen.iter().any(|seen| is_it(&seen.method, seen.path())), "{seen:#?}");
}

#[test]
fn a_push_whose_robot_was_deleted_meanwhile_is_refused() {
    let registry = Registry::start();
    let upstream = Faults::before(&registry.url(), |_| None);
    let mut house = House::open(Gateway::before(&upstream.url()));
    let (image, blob) = (Manifest::image(1, 100), Blob::random(1000));
    image.blobs.iter().for_each(|blob| drop(house.acme("app").put_blob(blob).expect(201)));
    let robot = house.gateway.robot("acme", "slow", &["--role", "push"]).credentials();
    let token = house.gateway.token(&robot, &[super::SCOPE]);
    let pushes: Vec<_> = [&robot, &token].into_iter().flat_map(|who| begin_all(&house, who, &image, &blob)).collect();
    house.gateway.cli(&["robot", "delete", "acme", "slow"]);
    within(SOON, || Some(tags(&house.gateway, &robot)).filter(|answer| answer.status == 401));
    for push in pushes {
        push.ends_refused(401);
    }
    house.gateway.stop();
    assert_no_manifest_was_put(&upstream, &image);
    house.gateway.serve();
    for reference in ["slow", image.digest()] {
        house.acme("app").manifest(reference).refused(404, "MANIFEST_UNKNOWN");
    }
    house.acme("app").blob(&blob.digest).refused(404, "BLOB_UNKNOWN");
}

/// A robot of another project may push into both, the old one and the new one of the same name: only that they are two
/// stands against what it began in the old one.
#[test]
fn a_push_whose_project_was_made_anew_meanwhile_is_refused() {
    let registry = Registry::start();
    let upstream = Faults::before(&registry.url(), |_| None);
    // A purge waits until every node has heard of the deletion, or denies everything.
    let builder = Gateway::before(&upstream.url()).set("store.stale_max_s", 5);
    let mut house = House::open(builder.set("upstream.isolation", "repository"));
    let gateway = &house.gateway;
    let guest = gateway.robot("globex", "guest", &["--grant", "acme/*=pull,push"]).credentials();
    gateway.cli(&["grant", "accept", &gateway.foreign_grant("acme")]);
    within(SOON, || Some(tags(gateway, &guest)).filter(|answer| answer.status != 401));
    let (image, blob) = (Manifest::image(1, 100), Blob::random(1000));
    image.blobs.iter().for_each(|blob| drop(house.acme("app").put_blob(blob).expect(201)));
    let pushes = begin_all(&house, &guest, &image, &blob);
    gateway.cli(&["project", "delete", "acme", "--yes"]);
    within(SOON, || Some(tags(gateway, &guest)).filter(|answer| answer.status == 401));
    gateway.cli(&["project", "delete", "acme", "--yes", "--purge"]);
    gateway.cli(&["project", "create", "acme", "--adopt"]);
    let anew = give_the_guest_the_new_project(&gateway.store_url());
    within(SOON, || Some(tags(gateway, &guest)).filter(|answer| answer.status != 401));
    for push in pushes {
        push.ends_refused(404);
    }
    house.gateway.stop();
    assert_no_manifest_was_put(&upstream, &image);
    let recorded = block_on(async {
        let store = portcullis_store::open(&house.gateway.store_url(), 2).await?;
        let name = RepositoryName::parse("acme/app").expect("a name");
        let digest = Digest::parse(&blob.digest).expect("a digest");
        Ok::<_, StoreError>((
            store.has_link(&anew.id, &name, &digest).await?,
            store.manifests(&anew.id, &name).await?.len(),
        ))
    });
    assert_eq!(recorded.expect("the store can be read"), (false, 0));
}

/// The same robot with the same secret, and a grant on what is called acme now: no command gives a robot a grant later.
fn give_the_guest_the_new_project(url: &str) -> Project {
    let given = block_on(async {
        let store = portcullis_store::open(url, 2).await?;
        let acme = store.project("acme").await?.expect("it was made");
        let mut guest = store.robot_named("globex", "guest").await?.expect("it was made");
        guest.grants = vec![Grant {
            id: "of-the-test".into(),
            project: acme.id.clone(),
            pattern: RepositoryPattern::whole_project("acme"),
            actions: Role::Push.actions(),
            consent: Consent::Accepted,
        }];
        store.delete_robot(&guest.id).await?;
        store.add_robot(&guest).await?;
        Ok::<_, StoreError>(acme)
    });
    given.expect("the store can be changed")
}

/// The bytes that a deleted robot sent are nobody's.
#[test]
fn an_upload_of_a_deleted_robot_has_no_end() {
    let registry = Registry::start();
    let house = House::open(Gateway::before(&registry.url()));
    let blob = Blob::random(1000);
    let robot = house.gateway.robot("acme", "slow", &["--role", "push"]).credentials();
    let repository = house.gateway.repository("acme/app", &robot);
    let location = repository.open_upload();
    let patched = repository.at(Method::PATCH, &location).body(blob.bytes.clone()).send().expect(202);
    house.gateway.cli(&["robot", "delete", "acme", "slow"]);
    within(SOON, || Some(tags(&house.gateway, &robot)).filter(|answer| answer.status == 401));
    let last = with_digest(&patched.header("location"), &blob.digest);
    repository.at(Method::PUT, &last).send().refused(401, "UNAUTHORIZED");
    house.acme("app").at(Method::PUT, &last).send().refused(404, "BLOB_UPLOAD_UNKNOWN");
    house.acme("app").blob(&blob.digest).refused(404, "BLOB_UNKNOWN");
}
