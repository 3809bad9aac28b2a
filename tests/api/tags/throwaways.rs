//! While a tag is being deleted it stands on a throw-away manifest, which nobody gets to see.

use super::{Gated, bare, is_delete_by_digest, is_throwaway_put};
use http::Method;
use portcullis_tests::faults::{Answer, Faults};
use portcullis_tests::gateway::Gateway;
use portcullis_tests::image::{INDEX, Manifest, sha256};
use portcullis_tests::scene::{House, Scene};
use serde_json::json;
use std::sync::{Arc, Mutex};

#[test]
fn a_throwaway_cannot_be_pulled_while_it_has_the_tag() {
    let Gated { registry, upstream, gate } = Gated::start();
    let house = House::open(Gateway::before(&upstream.url()));
    let (repository, image) = (house.acme("app"), Manifest::image(1, 100));
    repository.push("1.0", &image);
    repository.push("keep", &image);
    let deleting = {
        let repository = repository.clone();
        std::thread::spawn(move || repository.delete("1.0"))
    };
    let throwaway = sha256(&upstream.wait_for(is_throwaway_put).body);
    upstream.wait_for(is_delete_by_digest);
    let it = bare(&registry, "acme/app").manifest("1.0").expect(200);
    assert_eq!(it.header("docker-content-digest"), throwaway, "it has the tag upstream");
    for reference in ["1.0", &throwaway] {
        for method in [Method::GET, Method::HEAD] {
            let pull = repository.request(method, &format!("manifests/{reference}"));
            let answer = pull.send().expect(404);
            assert!(!answer.to_string().contains("throwaway"), "{answer}");
        }
        let part = repository.request(Method::GET, &format!("manifests/{reference}")).header("range", "bytes=0-20");
        part.send().expect(404);
    }
    repository.pull("keep", &image);
    gate.open();
    deleting.join().expect("no panic").expect(202);
    assert_eq!(bare(&registry, "acme/app").manifest(&throwaway).status, 404, "it is gone");
}

#[test]
fn an_upstream_that_serves_parts_of_manifests_shows_no_part_of_a_throwaway() {
    let manifests: Arc<Mutex<Vec<u8>>> = Arc::new(Mutex::new(Manifest::image(1, 10).blob.bytes));
    let held = manifests.clone();
    let upstream = Faults::scripted(move |seen| {
        let mut manifest = held.lock().expect("nobody panics here");
        match seen.method.as_str() {
            "PUT" => {
                manifest.clone_from(&seen.body);
                Answer::status(201)
            }
            "DELETE" if seen.path().contains("sha256:") => Answer::status(500),
            "DELETE" => Answer::status(405),
            _ if !seen.path().contains("/manifests/") => Answer::status(200),
            _ if seen.header("range").is_empty() => {
                Answer::status(200).header("content-type", INDEX).body(manifest.clone())
            }
            _ => Answer::status(206)
                .header("content-type", INDEX)
                .header("content-range", "bytes 0-20/9")
                .body(&manifest[..21]),
        }
    });
    let house = House::open(Gateway::before(&upstream.url()));
    house.acme("app").delete("1.0").expect(502);
    assert!(is_throwaway_put(&upstream.wait_for(|seen| seen.method == "PUT")));
    let part = house.acme("app").request(Method::GET, "manifests/1.0").header("range", "bytes=0-20").send();
    assert!(part.status != 206 && !String::from_utf8_lossy(&part.body).contains("schemaVersion"), "{part}");
}

#[test]
fn a_tenants_index_of_a_throwaways_size_is_served() {
    let scene = Scene::shared();
    let repository = scene.acme("same-size");
    let throwaway_size = 194;
    let index = |padding: usize| {
        Manifest::index(vec![]).changed(|index| index["annotations"] = json!({"p": "x".repeat(padding)}))
    };
    for size in throwaway_size - 3..throwaway_size + 4 {
        let padding = size - index(0).blob.bytes.len();
        let index = index(padding);
        assert_eq!(index.blob.bytes.len(), size);
        repository.push("odd", &index);
        repository.pull("odd", &index);
        let head = repository.request(Method::HEAD, "manifests/odd").send().expect(200);
        assert_eq!(head.header("content-length"), size.to_string());
    }
}
