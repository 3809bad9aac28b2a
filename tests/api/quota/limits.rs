//! What there is no room for is refused, and what fits is not.

use super::{apart, denied, size, stream_blob};
use http::Method;
use portcullis_tests::image::{Blob, Manifest};
use portcullis_tests::ledger::Account;
use portcullis_tests::raw::Raw;
use portcullis_tests::repository::with_digest;
use portcullis_tests::scene::{EFFECT, Scene, within};

const KIB: u64 = 1024;

#[test]
fn what_is_longer_than_the_room_goes_nowhere() {
    let scene = Scene::open();
    scene.gateway.set_quota("acme", 512 * KIB);
    let repository = scene.acme("known");
    assert_eq!(repository.put_blob(&Blob::random(500 * 1024)).status, 201);
    let blob = Blob::random(24 * 1024);
    let location = repository.open_upload();
    let put = repository.at(Method::PUT, &with_digest(&location, &blob.digest)).body(blob.bytes.clone()).send();
    denied(put, "project acme: 500.0 KiB of 512.0 KiB used, this upload needs 24.0 KiB more");
    // The upload is given up, upstream too, and nothing of it was sent.
    repository.at(Method::GET, &location).send().refused(404, "BLOB_UPLOAD_UNKNOWN");
    let log = scene.registry.log();
    assert!(log.contains("DELETE /v2/acme/known/blobs/uploads/"), "the upload was not taken away upstream");
    assert_eq!(log.matches("PUT /v2/acme/known/blobs/uploads/").count(), 1, "the refused one was sent on");
    let post = repository.request(Method::POST, &format!("blobs/uploads/?digest={}", blob.digest));
    denied(post.body(blob.bytes.clone()).send(), "this upload needs 24.0 KiB more");
    assert_eq!(scene.gateway.account("acme"), Account { used: 500 * KIB, reserved: 0 });
    // Another project has its own room.
    assert_eq!(scene.globex("known").put_blob(&blob).status, 201);
    // The ends of what can be set, and of what can be said.
    scene.gateway.set_quota("acme", 0);
    denied(repository.put_blob(&Blob::random(1)), "500.0 KiB of 0 B used, this upload needs 1 B more");
    scene.gateway.set_quota("acme", i64::MAX as u64);
    assert_eq!(scene.gateway.quota("acme")["limit_bytes"], i64::MAX);
    repository.put_blob(&Blob::random(1)).expect(201);
    let too_much = scene.gateway.command(&["quota", "set", "acme", "9223372036854775808"]).fails();
    assert_eq!(too_much.code, Some(2), "{too_much}");
    for project in ["acme", "globex"] {
        let repository = format!("{project}/known");
        let who = if project == "acme" { &scene.acme } else { &scene.globex }.admin.credentials();
        let location = scene.gateway.repository(&repository, &who).open_upload();
        let target = with_digest(location.trim_start_matches(scene.gateway.origin()), &blob.digest);
        let head = format!(
            "PUT {target} HTTP/1.1\r\nhost: {}\r\nauthorization: {}\r\ncontent-length: {}\r\nexpect: 100-continue\r\n\r\n",
            scene.gateway.authority(),
            who.header().expect("somebody pushes"),
            i64::MAX,
        );
        let told = Raw::connect(&scene.gateway.http()).send(head).answer().expect("an answer");
        assert_eq!(told.status, 403, "{told:?}");
    }
}

#[test]
fn a_stream_is_refused_in_its_middle_and_leaves_nothing() {
    let scene = Scene::open();
    scene.gateway.set_quota("acme", 3 * 1024 * KIB);
    let repository = scene.acme("streamed");
    let (sender, body) = portcullis_tests::http::pieces();
    let location = repository.open_upload();
    let patch = repository.at(Method::PATCH, &location).stream(body);
    let patching = std::thread::spawn(move || patch.send());
    // More than there is room for, and never an end: the refusal does not wait for one.
    for _ in 0..80 {
        sender.send(vec![7; 64 * 1024]);
    }
    denied(patching.join().expect("no panic"), "of 3.0 MiB used, this upload needs");
    drop(sender);
    repository.at(Method::GET, &location).send().refused(404, "BLOB_UPLOAD_UNKNOWN");
    within(EFFECT, || (scene.gateway.account("acme") == Account { used: 0, reserved: 0 }).then_some(()));
    assert!(scene.registry.log().contains("DELETE /v2/acme/streamed/blobs/uploads/"));
}

#[test]
fn what_fits_exactly_passes_however_it_comes() {
    let scene = Scene::open();
    let image = Manifest::image(3, 700_000);
    for (name, streamed) in [("whole", false), ("streamed", true)] {
        let used = scene.gateway.account("acme").used;
        let repository = scene.acme(name);
        let image = if streamed { Manifest::image(3, 700_000) } else { image.clone() };
        scene.gateway.set_quota("acme", used + size(&image));
        for blob in &image.blobs {
            let put = if streamed { stream_blob(&repository, blob) } else { repository.put_blob(blob) };
            put.expect(201);
        }
        repository.put_manifest("1.0", &image).expect(201);
        assert_eq!(scene.gateway.account("acme"), Account { used: used + size(&image), reserved: 0 });
        // What is there already costs nothing: a second tag, another repository.
        repository.put_manifest("2.0", &image).expect(201);
        let copy = scene.acme(&format!("{name}-copy"));
        for blob in &image.blobs {
            let mount = format!("blobs/uploads/?mount={}&from=acme/{name}", blob.digest);
            copy.request(Method::POST, &mount).send().expect(201);
        }
        copy.put_manifest("1.0", &image).expect(201);
        assert_eq!(scene.gateway.account("acme").used, used + size(&image));
        let one_more = Blob::random(1);
        denied(repository.put_blob(&one_more), "this upload needs 1 B more");
        denied(stream_blob(&repository, &one_more), "this upload needs 1 B more");
        let other = Manifest::image_for("arm64", vec![image.blobs[1].clone()]);
        denied(repository.put_blob(&other.blobs[0]), "this upload needs");
    }
}

#[test]
fn a_manifest_needs_room_for_itself() {
    let scene = Scene::open();
    let (repository, image) = (scene.acme("manifests"), Manifest::image(2, 1000));
    image.blobs.iter().for_each(|blob| drop(repository.put_blob(blob).expect(201)));
    scene.gateway.set_quota("acme", size(&image) - 1);
    denied(repository.put_manifest("1.0", &image), "this manifest needs");
    assert!(!scene.registry.log().contains("PUT /v2/acme/manifests/manifests/"), "it was sent on");
    scene.gateway.set_quota("acme", size(&image));
    repository.put_manifest("1.0", &image).expect(201);
    assert_eq!(scene.gateway.account("acme"), Account { used: size(&image), reserved: 0 });
}

#[test]
fn sizes_come_from_the_upstream_and_not_from_what_is_claimed() {
    let scene = apart();
    // From before the gateway counted: it is upstream, and not in the ledger.
    let image = Manifest::image(1, 50_000);
    let upstream = scene.registry.http();
    let direct = portcullis_tests::repository::Repository::new(&upstream, "acme/lying", &scene.registry.credentials());
    image.blobs.iter().for_each(|blob| drop(direct.put_blob(blob).expect(201)));
    let lying = image.changed(|json| {
        json["layers"][0]["size"] = 1.into();
        json["config"]["size"] = 1.into();
    });
    let repository = scene.acme("lying");
    scene.gateway.set_quota("acme", size(&lying) - 1);
    denied(repository.put_manifest("1.0", &lying), "this manifest needs");
    scene.gateway.set_quota("acme", size(&lying));
    repository.put_manifest("1.0", &lying).expect(201);
    assert_eq!(scene.gateway.account("acme"), Account { used: size(&lying), reserved: 0 });
    assert_eq!(scene.registry.holds("acme"), size(&lying));
}

#[test]
fn foreign_layers_cost_what_is_held_of_them() {
    let scene = Scene::open();
    let foreign = |name: &str, layer: &Blob| {
        let mut image = Manifest::image(1, 100).changed(|json| {
            let mut descriptor = layer.descriptor();
            descriptor["mediaType"] = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip".into();
            descriptor["urls"] = serde_json::json!(["https://example.org/layer"]);
            json["layers"].as_array_mut().expect("a list").push(descriptor);
        });
        image = image.changed(|json| json["annotations"] = serde_json::json!({ "name": name }));
        image
    };
    let repository = scene.acme("foreign");
    let away = foreign("away", &Blob::random(9000));
    repository.push("away", &away);
    assert_eq!(scene.gateway.account("acme").used, size(&away), "no bytes of it are here");
    let held = Blob::random(5000);
    repository.put_blob(&held).expect(201);
    let here = foreign("here", &held);
    repository.push("here", &here);
    assert_eq!(scene.gateway.account("acme").used, size(&away) + size(&here) + 5000);
    // Without the manifest that names it, it is not free to read either.
    let deleted = repository.delete(here.digest()).expect(202);
    let back: u64 = deleted.header("portcullis-reclaimed-bytes").parse().expect("a number");
    assert!(back >= 5000, "{back}");
    repository.blob(&held.digest).refused(404, "BLOB_UNKNOWN");
}

#[test]
fn past_the_soft_limit_pushes_are_warned_and_taken() {
    let scene = Scene::open();
    let (repository, image) = (scene.acme("soft"), Manifest::image(1, 10_000));
    let quota = size(&image) * 2;
    scene.gateway.cli(&["quota", "set", "acme", &quota.to_string(), "--soft", "80%"]);
    let first = repository.push("1.0", &image);
    assert_eq!(first.header("warning"), "");
    let more = Blob::random(usize::try_from(size(&image) * 3 / 4).expect("it is small"));
    let warned = repository.put_blob(&more).expect(201);
    let warning = warned.header("warning");
    assert!(
        warning.starts_with("299 - \"project acme: ") && warning.contains("past its soft limit of 80 %"),
        "{warning}"
    );
    let warned = repository.put_manifest("2.0", &image).expect(201);
    assert!(warned.header("warning").contains("past its soft limit"));
    assert_eq!(scene.gateway.quota("acme")["past_soft_limit"], true);
}

#[test]
fn the_cap_over_all_projects_refuses_whoever_comes_last() {
    let scene = Scene::open();
    scene.gateway.cli(&["quota", "total", "100KiB"]);
    scene.acme("total").put_blob(&Blob::random(60 * 1024)).expect(201);
    denied(
        scene.globex("total").put_blob(&Blob::random(50 * 1024)),
        "project globex: the registry as a whole has 60.0 KiB of 100.0 KiB used, this upload needs 50.0 KiB more",
    );
    scene.globex("total").put_blob(&Blob::random(40 * 1024)).expect(201);
    scene.gateway.cli(&["quota", "total", "none"]);
    scene.globex("total").put_blob(&Blob::random(50 * 1024)).expect(201);
}
