//! Referrers, supplied where the upstream has none (P4).

use super::VERSIONS;
use http::Method;
use portcullis_tests::faults::{Answer, Faults};
use portcullis_tests::gateway::Gateway;
use portcullis_tests::http::{Credentials, encode};
use portcullis_tests::image::{Blob, INDEX, Manifest};
use portcullis_tests::repository::Repository;
use portcullis_tests::scene::{House, Scene};
use serde_json::json;

const SBOM: &str = "application/vnd.example.sbom.v1";
const SIGNATURE: &str = "application/vnd.example.signature.v1";

fn about(image: &Manifest, kind: &str) -> Manifest {
    Manifest::artifact(kind, Blob::random(100), Some(image))
        .changed(|manifest| manifest["annotations"] = json!({"org.example.kind": kind}))
}

fn sorted<const N: usize>(manifests: [&Manifest; N]) -> Vec<String> {
    let mut digests: Vec<_> = manifests.iter().map(|manifest| manifest.digest().to_owned()).collect();
    digests.sort();
    digests
}

#[test]
fn the_bare_registry_has_no_referrers_and_the_gateway_supplies_them() {
    let scene = Scene::shared();
    let (repository, image) = (scene.acme("referrers"), Manifest::image(1, 100));
    repository.push("1.0", &image);
    let bare = scene.registry.http().get(&format!("/v2/acme/referrers/referrers/{}", image.digest())).send();
    assert_eq!(bare.status, 404, "{bare}");
    assert!(repository.referrers(image.digest()).is_empty(), "an image that nothing is about");

    let (sbom, signature) = (about(&image, SBOM), about(&image, SIGNATURE));
    for artifact in [&sbom, &signature] {
        let put = repository.push(artifact.digest(), artifact);
        assert_eq!(put.header("oci-subject"), image.digest(), "else clients push the fallback tag, too: {put}");
    }
    for version in VERSIONS {
        let list =
            version(repository.request(Method::GET, &format!("referrers/{}", image.digest()))).send().expect(200);
        assert_eq!(list.header("content-type"), INDEX);
        let list = list.json();
        assert_eq!((&list["schemaVersion"], &list["mediaType"]), (&json!(2), &json!(INDEX)));
        let entry = list["manifests"].as_array().into_iter().flatten().find(|entry| entry["digest"] == sbom.digest());
        let entry = entry.unwrap_or_else(|| panic!("{list}"));
        assert_eq!(entry["artifactType"], SBOM);
        assert_eq!(entry["size"], sbom.blob.bytes.len());
        assert_eq!(entry["annotations"], json!({"org.example.kind": SBOM}));
    }
    assert_eq!(repository.referrers(image.digest()), sorted([&sbom, &signature]));
}

#[test]
fn the_filter_is_applied_and_said_to_be() {
    let scene = Scene::shared();
    let (repository, image) = (scene.acme("filter"), Manifest::image(1, 100));
    repository.push("1.0", &image);
    let (sbom, signature) = (about(&image, SBOM), about(&image, SIGNATURE));
    repository.push(sbom.digest(), &sbom);
    repository.push(signature.digest(), &signature);
    for (kind, expected) in [(SBOM, vec![sbom.digest()]), (SIGNATURE, vec![signature.digest()]), ("none/such", vec![])]
    {
        let path = format!("referrers/{}?artifactType={}", image.digest(), encode(kind));
        let list = repository.request(Method::GET, &path).send().expect(200);
        assert_eq!(list.header("oci-filters-applied"), "artifactType", "{list}");
        let found = list.json()["manifests"].as_array().cloned().unwrap_or_default();
        assert_eq!(
            found.iter().map(|entry| entry["digest"].as_str().unwrap_or_default()).collect::<Vec<_>>(),
            expected
        );
    }
    let unfiltered = repository.request(Method::GET, &format!("referrers/{}", image.digest())).send().expect(200);
    assert_eq!(unfiltered.header("oci-filters-applied"), "");
}

#[test]
fn there_is_a_list_for_every_digest_and_repository_and_never_404() {
    let scene = Scene::shared();
    let digest = Blob::random(10).digest;
    assert!(scene.acme("nothing-there").referrers(&digest).is_empty());
    let bad = scene.acme("nothing-there").request(Method::GET, "referrers/latest").send();
    bad.refused(400, "DIGEST_INVALID");
}

#[test]
fn an_artifact_may_come_before_its_subject_and_goes_with_its_deletion() {
    let scene = Scene::shared();
    let (repository, image) = (scene.acme("before"), Manifest::image(1, 100));
    let sbom = about(&image, SBOM);
    repository.push(sbom.digest(), &sbom);
    assert_eq!(repository.referrers(image.digest()), sorted([&sbom]));
    repository.delete(sbom.digest()).expect(202);
    assert!(repository.referrers(image.digest()).is_empty());
}

#[test]
fn an_index_may_be_about_something_and_an_image_without_a_type_has_its_configs() {
    let scene = Scene::shared();
    let (repository, image) = (scene.acme("kinds"), Manifest::image(1, 100));
    repository.push("1.0", &image);
    let subject = image.blob.descriptor();
    let index = Manifest::index(vec![("amd64", image.clone())]).changed(|manifest| {
        manifest["subject"] = subject.clone();
        manifest["artifactType"] = json!(SBOM);
    });
    let derived = Manifest::image(1, 100).changed(|manifest| manifest["subject"] = subject.clone());
    repository.push(index.digest(), &index);
    repository.push(derived.digest(), &derived);
    let list = repository.request(Method::GET, &format!("referrers/{}", image.digest())).send().expect(200).json();
    let kinds: Vec<_> =
        list["manifests"].as_array().into_iter().flatten().map(|e| (&e["mediaType"], &e["artifactType"])).collect();
    assert!(kinds.contains(&(&json!(INDEX), &json!(SBOM))), "{list}");
    assert!(kinds.iter().any(|(_, kind)| **kind == "application/vnd.oci.image.config.v1+json"), "{list}");
}

#[test]
fn what_a_client_kept_under_the_fallback_tag_before_is_told_too_and_once() {
    let scene = Scene::shared();
    let (repository, image) = (scene.acme("fallback"), Manifest::image(1, 100));
    repository.push("1.0", &image);
    let recorded = about(&image, SIGNATURE);
    repository.push(recorded.digest(), &recorded);

    // As an older client kept them before there was a gateway: straight upstream, under a tag.
    let earlier = about(&image, SBOM);
    let upstream = Repository::new(&scene.registry.http(), "acme/fallback", &Credentials::None);
    upstream.push(earlier.digest(), &earlier);
    let entry = |manifest: &Manifest, kind: &str| {
        let mut entry = manifest.blob.descriptor();
        entry["artifactType"] = json!(kind);
        entry
    };
    let mut fallback = Manifest::index(vec![]).changed(|index| {
        index["manifests"] = json!([entry(&earlier, SBOM), entry(&recorded, SIGNATURE)]);
    });
    fallback.manifests.clear();
    upstream.put_manifest(&image.digest().replace(':', "-"), &fallback).expect(201);

    assert_eq!(repository.referrers(image.digest()), sorted([&earlier, &recorded]));
    let path = format!("referrers/{}?artifactType={}", image.digest(), encode(SBOM));
    let filtered = repository.request(Method::GET, &path).send().expect(200).json();
    assert_eq!(filtered["manifests"].as_array().map(Vec::len), Some(1), "{filtered}");
}

#[test]
fn a_tag_of_that_name_that_is_no_index_is_no_reason_to_fail() {
    let scene = Scene::shared();
    let (repository, image) = (scene.acme("odd-fallback"), Manifest::image(1, 100));
    repository.push("1.0", &image);
    repository.push(&image.digest().replace(':', "-"), &Manifest::image(1, 100));
    assert!(repository.referrers(image.digest()).is_empty());
}

#[test]
fn an_upstream_that_has_referrers_is_asked_and_its_odd_entries_are_left_out() {
    let subject = Blob::random(10).digest;
    let one = Blob::random(10);
    let list = {
        let mut entry = one.descriptor();
        entry["artifactType"] = json!(SBOM);
        json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [
            entry, {"digest": "sha256:short"}, 7, {"mediaType": "x", "digest": "../../etc", "size": 1},
        ]})
    };
    let upstream = Faults::scripted(move |seen| {
        let answer = Answer::status(200).header("content-type", INDEX);
        if seen.path().contains("/referrers/") { answer.body(list.to_string()) } else { answer }
    });
    let house = House::open(Gateway::before(&upstream.url()));
    let list = house.acme("app").request(Method::GET, &format!("referrers/{subject}?artifactType={}", encode(SBOM)));
    let list = list.send().expect(200);
    assert_eq!(list.header("oci-filters-applied"), "artifactType");
    let found = list.json()["manifests"].clone();
    assert_eq!(found.as_array().map(Vec::len), Some(1), "{found}");
    assert_eq!(found[0]["digest"], one.digest);
}

#[test]
fn a_long_list_comes_page_by_page() {
    let scene = Scene::shared();
    let (repository, image) = (scene.acme("long-list"), Manifest::image(1, 100));
    repository.push("1.0", &image);
    let large = "x".repeat(1_500_000);
    let mut pushed = Vec::new();
    for number in 0..5 {
        let artifact = Manifest::artifact(if number == 0 { SIGNATURE } else { SBOM }, Blob::random(100), Some(&image))
            .changed(|manifest| manifest["annotations"] = json!({"org.example.large": large}));
        repository.push(artifact.digest(), &artifact);
        pushed.push(artifact.digest().to_owned());
    }
    pushed.sort();
    let (mut found, mut pages) = (Vec::new(), 0);
    let mut next = format!("/v2/acme/long-list/referrers/{}?artifactType={}", image.digest(), encode(SBOM));
    loop {
        let list = repository.at(Method::GET, &next).send().expect(200);
        assert!(list.body.len() < 5 << 20, "{} bytes", list.body.len());
        let page = list.json()["manifests"].as_array().expect("a list").clone();
        assert!(!page.is_empty());
        assert!(page.iter().all(|entry| entry["artifactType"] == SBOM), "the filter holds on every page");
        found.extend(page.iter().map(|entry| entry["digest"].as_str().expect("a digest").to_owned()));
        pages += 1;
        let link = list.header("link");
        let Some((target, _)) = link.strip_prefix('<').and_then(|link| link.split_once('>')) else { break };
        assert!(link.ends_with("; rel=\"next\""), "{link}");
        next = target.to_owned();
    }
    assert!(pages > 1);
    assert_eq!(found.len(), 4, "{found:?}");
    assert!(found.is_sorted() && found.iter().all(|digest| pushed.contains(digest)));
    let wrong = repository.request(Method::GET, &format!("referrers/{}?last=here", image.digest())).send();
    wrong.refused(400, "DIGEST_INVALID");
}

#[test]
fn all_pages_of_the_upstreams_list_are_told_and_no_other_place_is_asked() {
    let subject = Blob::random(10).digest;
    let (one, two) = (Blob::random(10), Blob::random(10));
    let (first, second) = (one.descriptor(), two.descriptor());
    let upstream = Faults::scripted(move |seen| {
        let answer = Answer::status(200).header("content-type", INDEX);
        let list = |entry: &serde_json::Value| json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]});
        match seen.target.split_once("/referrers/") {
            None => answer,
            Some((name, rest)) if rest.ends_with("?token=a%2Fb") => {
                let away = format!("<{name}/manifests/{}>; rel=\"next\"", rest.split('?').next().unwrap_or_default());
                answer.header("link", &away).body(list(&second).to_string())
            }
            Some(_) => {
                let next = format!("<{}?token=a%2Fb>; rel=\"next\"", seen.path());
                answer.header("link", &next).body(list(&first).to_string())
            }
        }
    });
    let house = House::open(Gateway::before(&upstream.url()));
    let list = house.acme("app").request(Method::GET, &format!("referrers/{subject}")).send().expect(200);
    assert_eq!(list.header("link"), "", "it was all told");
    let mut expected = vec![one.digest.clone(), two.digest.clone()];
    expected.sort();
    let found: Vec<_> =
        list.json()["manifests"].as_array().expect("a list").iter().map(|e| e["digest"].clone()).collect();
    assert_eq!(found, expected);
    assert!(upstream.seen().iter().all(|seen| !seen.target.contains("/manifests/")), "a link led elsewhere");
}
