//! Quota: enforced while bytes flow, exact, given back on deletion, right after a crash.

mod commands;
mod crashes;
mod crowds;
mod deletions;
mod interleavings;
mod limits;
mod model;
mod orphans;
mod stock;

use http::Method;
use portcullis_tests::http::Response;
use portcullis_tests::image::{Blob, Manifest};
use portcullis_tests::repository::{Repository, with_digest};
use portcullis_tests::scene::Scene;

/// A scene whose upstream keeps repositories apart, as the real registry does.
fn apart() -> Scene {
    Scene::with(|builder| builder.set("upstream.isolation", "repository"))
}

/// All bytes that an image brings.
fn size(image: &Manifest) -> u64 {
    image.blobs.iter().map(|blob| blob.bytes.len() as u64).sum::<u64>() + image.blob.bytes.len() as u64
}

/// An upload as docker makes it: a PATCH of unknown length, then a PUT without a body. An earlier refusal is returned.
fn stream_blob(repository: &Repository, blob: &Blob) -> Response {
    let (sender, body) = portcullis_tests::http::pieces();
    for piece in blob.bytes.chunks(64 * 1024) {
        sender.send(piece.to_vec());
    }
    drop(sender);
    let location = repository.open_upload();
    let patched = repository.at(Method::PATCH, &location).stream(body).send();
    if patched.status != 202 {
        return patched;
    }
    repository.at(Method::PUT, &with_digest(&patched.header("location"), &blob.digest)).send()
}

fn denied(answer: Response, message: &str) {
    let answer = answer.refused(403, "DENIED");
    let told = answer.json()["errors"][0]["message"].as_str().unwrap_or_default().to_owned();
    assert!(told.contains(message), "{told:?} does not say {message:?}");
}
