//! Each hook, by a policy that decides there: what it refuses is refused in its words, what it does not is not.

use super::{attach, denied, scene};
use http::Method;
use portcullis_tests::http::{Credentials, Http};
use portcullis_tests::image::{Blob, Manifest};
use portcullis_tests::repository::Repository;
use portcullis_tests::scene::{EFFECT, within};
use serde_json::json;

#[test]
fn a_manifest_that_a_policy_refuses_is_denied_in_its_words_to_its_project_alone() {
    let scene = scene(|gateway| {
        attach(gateway, "acme", "image-limits", &json!({"max-layers": 1}), &[]);
    });
    let (small, large) = (Manifest::image(1, 500), Manifest::image(2, 500));
    scene.acme("app").push("small", &small);
    for blob in &large.blobs {
        scene.acme("app").put_blob(blob).expect(201);
    }
    let message = "policy image-limits of acme: image has 2 layers, limit 1";
    let answer = denied(scene.acme("app").put_manifest("large", &large), message);
    let detail = answer.json()["errors"][0]["detail"].clone();
    assert_eq!((&detail["policy"], &detail["owner"]), (&"image-limits".into(), &"acme".into()), "{answer}");
    assert_eq!(detail["request_id"], answer.header("x-request-id"), "{answer}");
    denied(scene.acme("app").put_manifest(large.digest(), &large), message);
    assert_eq!(scene.acme("app").tags(), ["small"], "nothing of it was stored");
    scene.globex("app").push("large", &large);
    let log = scene.gateway.log();
    assert!(log.contains("a policy refuses") && log.contains("policy.digest"), "{log}");
}

#[test]
fn a_policy_of_the_platform_is_asked_for_every_project_and_before_its_own() {
    let scene = scene(|gateway| {
        attach(gateway, "--platform", "image-limits", &json!({"max-layers": 2}), &[]);
        attach(gateway, "acme", "image-limits", &json!({"max-layers": 1}), &[]);
    });
    let image = |layers| {
        let image = Manifest::image(layers, 300);
        for repository in [scene.acme("app"), scene.globex("app")] {
            image.blobs.iter().for_each(|blob| drop(repository.put_blob(blob).expect(201)));
        }
        image
    };
    let of_platform = "policy image-limits of the platform: image has 3 layers, limit 2";
    let (two, three) = (image(2), image(3));
    let answer = denied(scene.acme("app").put_manifest("3", &three), of_platform);
    assert_eq!(answer.json()["errors"][0]["detail"]["owner"], "platform", "{answer}");
    denied(scene.globex("app").put_manifest("3", &three), of_platform);
    denied(scene.acme("app").put_manifest("2", &two), "policy image-limits of acme: image has 2 layers, limit 1");
    scene.globex("app").put_manifest("2", &two).expect(201);
}

#[test]
fn a_request_is_refused_before_its_first_byte() {
    let scene = scene(|gateway| {
        attach(gateway, "acme", "naming", &json!({"repositories": ["acme/team-*"]}), &[]);
    });
    let message = "policy naming of acme: repository acme/web matches none of acme/team-*";
    denied(scene.acme("web").request(Method::POST, "blobs/uploads/").send(), message);
    let blob = Blob::random(100);
    let whole = format!("blobs/uploads/?digest={}", blob.digest);
    denied(scene.acme("web").request(Method::POST, &whole).body(blob.bytes.clone()).send(), message);
    scene.acme("team-a").put_blob(&blob).expect(201);
    // Reading is not asked about.
    assert_eq!(scene.acme("web").manifest("1").status, 404);
    scene.acme("team-a").request(Method::HEAD, &format!("blobs/{}", blob.digest)).send().expect(200);
}

#[test]
fn a_pull_is_judged_by_the_manifest_that_would_be_sent_whatever_the_door() {
    let scene = scene(|gateway| {
        let settings = json!({
            "hooks": ["pull"],
            "expression": "manifest == null || size(manifest.layers) < 2",
            "message": "too many layers to pull",
        });
        attach(gateway, "acme", "expression", &settings, &[]);
    });
    let repository = scene.acme("app");
    let (good, bad) = (Manifest::image(1, 300), Manifest::image(2, 300));
    repository.push("good", &good);
    repository.push("bad", &bad);
    repository.pull("good", &good);
    let message = "policy expression of acme: too many layers to pull";
    for reference in ["bad", bad.digest()] {
        denied(repository.manifest(reference), message);
        let path = format!("manifests/{reference}");
        assert_eq!(repository.request(Method::HEAD, &path).send().status, 403, "{reference}");
        let conditional =
            repository.request(Method::GET, &path).header("if-none-match", format!("\"{}\"", bad.digest()));
        denied(conditional.send(), message);
    }
    let head = repository.request(Method::HEAD, "manifests/good").send().expect(200);
    assert_eq!(head.header("docker-content-digest"), good.digest());
    assert_eq!(head.header("content-length"), good.blob.bytes.len().to_string());
    let unchanged = format!("\"{}\"", good.digest());
    let again = repository.request(Method::GET, "manifests/good").header("if-none-match", unchanged).send();
    assert_eq!(again.expect(304).body.len(), 0);
    assert_eq!(repository.manifest("none").status, 404, "what is not there is not judged");
    repository.request(Method::GET, "tags/list").send().expect(200);
}

#[test]
fn a_manifest_that_nobody_can_judge_is_not_pulled_past_a_policy() {
    let scene = scene(|gateway| {
        let settings = json!({"hooks": ["pull"], "expression": "manifest == null || size(manifest.layers) < 2"});
        attach(gateway, "acme", "expression", &settings, &[]);
    });
    let upstream = Http::new(&scene.registry.url(), None);
    let image = Manifest::image(2, 300).changed(|manifest| manifest["LAYERS"] = json!([]));
    for project in ["acme", "globex"] {
        Repository::new(&upstream, &format!("{project}/before"), &Credentials::None).push("1", &image);
    }
    for reference in ["1", image.digest()] {
        scene.acme("before").manifest(reference).refused(403, "DENIED");
        scene.globex("before").manifest(reference).expect(200);
    }
}

#[test]
fn the_images_configuration_is_looked_up_for_who_wants_it() {
    let scene = scene(|gateway| {
        attach(gateway, "acme", "platforms", &json!({"allow": ["linux/amd64"]}), &[]);
    });
    let image = |architecture| Manifest::image_for(architecture, vec![Blob::layer(300)]);
    let (usual, other) = (image("amd64"), image("arm64"));
    scene.acme("app").push("amd64", &usual);
    other.blobs.iter().for_each(|blob| drop(scene.acme("app").put_blob(blob).expect(201)));
    let message = "policy platforms of acme: platform linux/arm64 is not allowed, allowed are linux/amd64";
    denied(scene.acme("app").put_manifest("arm64", &other), message);
    denied(scene.acme("app").put_manifest("multi", &Manifest::index(vec![("arm64", usual)])), message);
}

#[test]
fn warnings_go_out_with_the_answer_and_are_counted() {
    let scene = scene(|gateway| {
        let settings = json!({
            "hooks": ["manifest-push", "pull"],
            "expression": "manifest == null || size(manifest.layers) < 2",
            "message": "two layers are \"many\" – soon too many",
            "warn": true,
        });
        attach(gateway, "acme", "expression", &settings, &[]);
    });
    let image = Manifest::image(2, 300);
    let pushed = scene.acme("app").push("1", &image);
    let expected = "299 - \"two layers are ?many? ? soon too many\"";
    assert_eq!(pushed.header("warning"), expected, "{pushed}");
    assert_eq!(scene.acme("app").manifest("1").expect(200).header("warning"), expected);
    let one = Manifest::image(1, 300);
    assert_eq!(scene.acme("app").push("2", &one).header("warning"), "");
    let metrics = scene.gateway.management().get("/metrics").send().expect(200);
    let text = String::from_utf8_lossy(&metrics.body).into_owned();
    let line = "portcullis_policy_warnings_total{project=\"acme\",policy=\"expression\"} 2";
    assert!(text.contains(line), "{text}");
    assert!(text.contains("portcullis_policy_loaded{project=\"acme\",policy=\"expression\"} 1"), "{text}");
}

#[test]
fn a_mount_is_asked_as_a_pull_at_its_source_and_is_an_upload_where_that_is_refused() {
    let scene = scene(|gateway| {
        let settings = json!({"hooks": ["pull"], "expression": "!target.repository.endsWith('/closed')"});
        attach(gateway, "globex", "expression", &settings, &[]);
    });
    let taker = scene.gateway.robot("acme", "taker", &["--grant", "acme/**=pull,push", "--grant", "globex/**=pull"]);
    scene.gateway.cli(&["grant", "accept", &scene.gateway.foreign_grant("globex")]);
    let who = taker.credentials();
    let blob = Blob::random(300);
    for repository in ["open", "closed"] {
        scene.globex(repository).put_blob(&blob).expect(201);
    }
    let mount = |from: &str| {
        let query = format!("blobs/uploads/?mount={}&from=globex/{from}", blob.digest);
        scene.gateway.repository("acme/app", &who).request(Method::POST, &query).send()
    };
    let refused = within(EFFECT, || Some(mount("closed")).filter(|answer| answer.status != 401));
    assert!(refused.expect(202).header("docker-content-digest").is_empty());
    scene.gateway.repository("globex/closed", &who).blob(&blob.digest).refused(403, "DENIED");
    mount("open").expect(201);
}

#[test]
fn a_policy_sees_the_listed_headers_and_never_credentials() {
    let scene = scene(|gateway| {
        let settings = json!({
            "hooks": ["request"],
            "expression": "'user-agent' in request.headers && request.headers['user-agent'] == 'tester' && \
                request.headers.all(name, name in ['accept', 'content-length', 'content-range', 'content-type', 'range', 'user-agent'])",
            "message": "other headers",
        });
        attach(gateway, "acme", "expression", &settings, &[]);
    });
    let ask =
        |repository: Repository| repository.request(Method::GET, "tags/list").header("accept", "application/json");
    let asked = || ask(scene.acme("app"));
    denied(asked().send(), "policy expression of acme: other headers");
    let token = scene.gateway.token(&scene.acme.pull.credentials(), &["repository:acme/app:pull"]);
    for request in [asked(), ask(scene.gateway.repository("acme/app", &token)), asked().http2()] {
        let dressed = ["cookie", "proxy-authorization", "x-forwarded-for", "forwarded", "x-secret", "referer"];
        let request = dressed.iter().fold(request, |request, name| request.header(name, "secret"));
        request.header("user-agent", "tester").send().refused(404, "NAME_UNKNOWN");
    }
}
