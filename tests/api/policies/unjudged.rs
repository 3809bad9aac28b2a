//! What cannot be judged: content that two readers could read differently is refused by whoever is in force, and what cannot be
//! looked up by whoever fails closed; others let pass, and count it.

use super::{attach, scene};
use portcullis_tests::faults::{Answer, Faults};
use portcullis_tests::gateway::Gateway;
use portcullis_tests::http::{Credentials, Http};
use portcullis_tests::image::{Blob, IMAGE, Manifest};
use portcullis_tests::registry::Registry;
use portcullis_tests::repository::Repository;
use portcullis_tests::scene::{EFFECT, House, within};
use serde_json::{Value, json};

const CONFIG: &str = "application/vnd.oci.image.config.v1+json";

/// An image with a config of these bytes.
fn image(config: &str) -> Manifest {
    let mut image = Manifest::image(1, 200);
    let config = Blob::new(CONFIG, config);
    let descriptor = config.descriptor();
    image.blobs.splice(0..1, [config]);
    image.changed(|manifest| manifest["config"] = descriptor)
}

/// Passes everything, once it has read the image's config.
fn reading() -> Value {
    json!({"hooks": ["manifest-push", "pull"], "expression": "facts != null"})
}

fn failures(gateway: &Gateway, policy: &str, kind: &str) -> u64 {
    let metrics = gateway.management().get("/metrics").send().expect(200);
    let text = String::from_utf8_lossy(&metrics.body).into_owned();
    let name = format!("portcullis_policy_failures_total{{project=\"acme\",policy=\"{policy}\",kind=\"{kind}\"}} ");
    let line = text.lines().find_map(|line| line.strip_prefix(&name)).unwrap_or_else(|| panic!("no {name}\n{text}"));
    line.parse().expect("a number")
}

#[test]
fn a_config_that_two_readers_could_read_differently_is_refused_where_it_is_wanted() {
    let scene = scene(|gateway| {
        attach(gateway, "acme", "expression", &reading(), &["--on-error", "allow"]);
    });
    let large = format!("{{\"os\":\"linux\",\"architecture\":\"amd64\",\"padding\":\"{}\"}}", "x".repeat(1 << 20));
    let upstream = Http::new(&scene.registry.url(), None);
    for (tag, config, why) in [
        ("case", r#"{"os":"linux","architecture":"amd64","config":{"User":"app","user":"root"}}"#, "its case alone"),
        ("twice", r#"{"os":"linux","architecture":"amd64","architecture":"arm64"}"#, "stands twice"),
        ("type", r#"{"os":["linux"],"architecture":"amd64"}"#, "os must be a string"),
        ("time", r#"{"os":"linux","architecture":"amd64","created":"yesterday"}"#, "RFC 3339"),
        ("none", "no JSON", "no unambiguous JSON"),
        ("large", large.as_str(), "larger than 1 MiB"),
    ] {
        let image = image(config);
        image.blobs.iter().for_each(|blob| drop(scene.acme("app").put_blob(blob).expect(201)));
        let answer = scene.acme("app").put_manifest(tag, &image).refused(400, "MANIFEST_INVALID");
        let message = answer.json()["errors"][0]["message"].to_string();
        assert!(message.contains(why) && message.contains("build the image again"), "{message}");
        scene.globex("app").push(tag, &image);
        // From before the gateway.
        Repository::new(&upstream, "acme/before", &Credentials::None).push(tag, &image);
        let answer = scene.acme("before").manifest(tag).refused(403, "DENIED");
        assert!(answer.json()["errors"][0]["message"].to_string().contains(why), "{answer}");
    }
    let usual = r#"{"os":"linux","architecture":"amd64","config":{"Labels":null},"container_config":{"user":""}}"#;
    scene.acme("app").push("usual", &image(usual));
    scene.acme("app").manifest("usual").expect(200);
}

#[test]
fn a_policy_in_monitor_mode_refuses_nothing_that_it_cannot_judge() {
    let scene = scene(|gateway| {
        attach(gateway, "acme", "expression", &reading(), &["--mode", "monitor"]);
        attach(gateway, "acme", "image-limits", &json!({"max-layers": 1}), &[]);
    });
    let odd = image(r#"{"os":"linux","OS":"windows"}"#);
    scene.acme("app").push("1", &odd);
    scene.acme("app").pull("1", &odd);
    assert_eq!(failures(&scene.gateway, "expression", "unreadable"), 2);
    assert_eq!(failures(&scene.gateway, "image-limits", "unreadable"), 0, "it does not want the config");
    let upstream = Http::new(&scene.registry.url(), None);
    let unread = Manifest::image(2, 300).changed(|manifest| manifest["LAYERS"] = json!([]));
    Repository::new(&upstream, "acme/before", &Credentials::None).push("1", &unread);
    let answer = scene.acme("before").manifest("1").expect(200);
    assert_eq!(answer.body, unread.blob.bytes);
    assert_eq!(answer.header("docker-content-digest"), unread.digest());
    assert_eq!(failures(&scene.gateway, "expression", "unreadable"), 3);
}

#[test]
fn what_cannot_be_looked_up_is_refused_by_who_fails_closed_alone() {
    let registry = Registry::start();
    let image = Manifest::image(1, 200);
    let config = format!("/blobs/{}", image.blobs[0].digest);
    let upstream = Faults::before(&registry.url(), move |seen| {
        let fails = seen.method == "GET" && seen.target.ends_with(&config);
        fails.then(|| Answer::status(500))
    });
    let house = House::open(Gateway::before(&upstream.url()));
    let repository = house.acme("app");
    repository.push("before", &image);
    let push = |status: u16| {
        within(EFFECT, || Some(repository.put_manifest("1", &image)).filter(|answer| answer.status == status))
    };
    attach(&house.gateway, "acme", "expression", &reading(), &[]);
    push(502).refused(502, "UNAVAILABLE");
    attach(&house.gateway, "acme", "expression", &reading(), &["--on-error", "allow"]);
    push(201);
    attach(&house.gateway, "acme", "expression", &reading(), &["--on-error", "deny", "--mode", "monitor"]);
    push(201);
    assert!(failures(&house.gateway, "expression", "lookup") >= 3);
}

/// What may be pushed may be judged and pulled.
#[test]
fn a_manifest_as_large_as_the_limit_says_is_judged() {
    let registry = Registry::start();
    let document = json!({
        "schemaVersion": 2, "mediaType": IMAGE, "layers": [],
        "config": Blob::new("application/x", "{}").descriptor(), "padding": "x".repeat(9 << 20),
    });
    let large = Blob::new(IMAGE, document.to_string());
    let served = large.clone();
    let upstream = Faults::before(&registry.url(), move |seen| {
        let is_it = seen.target.ends_with("/manifests/large");
        is_it.then(|| Answer::status(200).header("content-type", IMAGE).body(served.bytes.clone()))
    });
    let gateway = Gateway::before(&upstream.url()).set("limits.manifest_bytes", 16 << 20);
    let house = House::open(gateway);
    attach(&house.gateway, "acme", "expression", &reading(), &[]);
    within(EFFECT, || {
        house.gateway.cli(&["policy", "status", "acme", "--json"]).json()["policies"][0]["running"]
            .is_object()
            .then_some(())
    });
    let answer = house.acme("app").manifest("large").expect(200);
    assert!(answer.body == large.bytes);
}
