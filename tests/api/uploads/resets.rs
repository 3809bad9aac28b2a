//! A client resets its stream in the middle of a body. HTTP/2 libraries tell some resets as an end like any other.

use http::Method;
use portcullis_tests::faults::{Faults, Seen};
use portcullis_tests::gateway::Gateway;
use portcullis_tests::image::{Blob, IMAGE, Manifest};
use portcullis_tests::repository::with_digest;
use portcullis_tests::scene::{House, Scene, within};
use portcullis_tests::stream::{Reason, Stream};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(30);
const REASONS: [Reason; 3] = [Reason::NO_ERROR, Reason::CANCEL, Reason::INTERNAL_ERROR];

fn count(seen: &[Seen], method: &Method) -> usize {
    seen.iter().filter(|seen| seen.method == method.as_str()).count()
}

#[test]
fn a_reset_ends_no_upload() {
    let scene = Scene::shared();
    let upstream = Faults::before(&scene.registry.url(), |_| None);
    let house = House::open(Gateway::before(&upstream.url()));
    let repository = house.acme("reset");
    for reason in REASONS {
        let blob = Blob::random(50_000);
        let location = repository.open_upload();
        let in_one = with_digest("/v2/acme/reset/blobs/uploads/", &blob.digest);
        for (method, target, upstreams) in [
            (Method::PATCH, location.clone(), Method::PATCH),
            (Method::PUT, with_digest(&location, &blob.digest), Method::PUT),
            (Method::POST, in_one, Method::PUT),
        ] {
            let before = count(&upstream.heads(), &upstreams);
            let mut stream = Stream::begin(repository.at(method.clone(), &target));
            stream.send(blob.bytes.clone());
            within(SOON, || (count(&upstream.heads(), &upstreams) > before).then_some(()));
            stream.reset(reason);
            let seen = within(SOON, || {
                upstream.seen().into_iter().filter(|seen| seen.method == upstreams.as_str()).nth(before)
            });
            assert!(!seen.whole, "{method}: the upstream saw a proper end after {reason:?}");
            repository.blob(&blob.digest).refused(404, "BLOB_UNKNOWN");
        }
    }
}

#[test]
fn a_reset_ends_no_manifest() {
    let scene = Scene::shared();
    let upstream = Faults::before(&scene.registry.url(), |_| None);
    let mut house = House::open(Gateway::before(&upstream.url()));
    let repository = house.acme("reset");
    let image = Manifest::image(1, 100);
    image.blobs.iter().for_each(|blob| drop(repository.put_blob(blob).expect(201)));
    for (number, reason) in REASONS.into_iter().enumerate() {
        for reference in [format!("reset-{number}"), image.digest().to_owned()] {
            let put = repository.request(Method::PUT, &format!("manifests/{reference}"));
            let mut stream = Stream::begin(put.header("content-type", IMAGE));
            stream.send(image.blob.bytes.clone());
            stream.reset(reason);
        }
    }
    // What is under way is waited for.
    house.gateway.stop();
    let pushed: Vec<_> = upstream.heads().into_iter().filter(|seen| seen.path().contains("/manifests/")).collect();
    assert!(pushed.is_empty(), "{pushed:#?}");
}
