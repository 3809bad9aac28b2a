//! Mounts: allowed where the caller may pull at the source, a plain upload everywhere else, never a leak and never a 401.

use http::Method;
use portcullis_tests::http::{Credentials, Response, encode};
use portcullis_tests::image::{Blob, Manifest, sha256};
use portcullis_tests::scene::{EFFECT, Scene, within};

fn mount(scene: &Scene, who: &Credentials, target: &str, query: &str) -> Response {
    scene.gateway.repository(target, who).request(Method::POST, &format!("blobs/uploads/?{query}")).send()
}

/// 202 with an upload that works, and nothing in the target.
fn became_an_upload(scene: &Scene, who: &Credentials, target: &str, digest: &str, answer: Response) {
    let answer = answer.expect(202);
    let repository = scene.gateway.repository(target, who);
    repository.at(Method::GET, &answer.header("location")).send().expect(204);
    assert!(!answer.headers.contains_key("docker-content-digest"), "{answer}");
    repository.blob(digest).refused(404, "BLOB_UNKNOWN");
}

#[test]
fn a_blob_is_mounted_from_where_the_caller_may_pull() {
    let scene = Scene::open();
    let who = scene.acme.push.credentials();
    let (app, lib) = ("acme/app", "acme/lib");
    let blob = Blob::random(300);
    scene.gateway.repository(app, &who).put_blob(&blob).expect(201);
    let token = scene.gateway.token(&who, &["repository:acme/lib:pull,push", "repository:acme/app:pull"]);
    for (who, target, from) in
        [(&who, lib, "acme/app"), (&token, "acme/lib", "acme%2Fapp"), (&who, "acme/deep/er", "acme%2fapp")]
    {
        let answer = mount(&scene, who, target, &format!("mount={}&from={from}", blob.digest)).expect(201);
        assert_eq!(answer.header("location"), format!("/v2/{target}/blobs/{}", blob.digest), "{answer}");
        assert_eq!(answer.header("docker-content-digest"), blob.digest);
        let pulled = scene.gateway.repository(target, &scene.acme.pull.credentials()).blob(&blob.digest).expect(200);
        assert!(pulled.body == blob.bytes);
    }
}

#[test]
fn a_mount_that_may_not_be_made_is_a_plain_upload_and_tells_nothing() {
    let scene = Scene::open();
    let (mine, theirs) = (scene.acme.push.credentials(), scene.globex.push.credentials());
    let secret = Blob::random(300);
    scene.gateway.repository("globex/app", &theirs).put_blob(&secret).expect(201);
    let own = Blob::random(300);
    scene.gateway.repository("acme/app", &mine).put_blob(&own).expect(201);
    // The token covers the target alone: docker asks like that before it knows of a mount.
    let narrow = scene.gateway.token(&mine, &["repository:acme/lib:pull,push"]);
    let (secret, own) = (&secret.digest, &own.digest);
    let denied = [
        (&mine, secret, format!("mount={secret}&from=globex/app")),
        (&mine, secret, format!("mount={}&from=globex%2Fapp", encode(secret))),
        (&mine, secret, format!("mount={secret}&from=globex/none")),
        (&mine, secret, format!("mount={secret}&from=none/app")),
        (&mine, secret, format!("mount={secret}&from=acme/app")),
        (&mine, secret, format!("mount={secret}")),
        (&mine, secret, format!("mount={secret}&from=")),
        (&mine, secret, format!("mount={secret}&from=GLOBEX/app")),
        (&mine, secret, format!("mount={secret}&from=acme/../globex/app")),
        (&narrow, own, format!("mount={own}&from=acme/app")),
        (&narrow, secret, format!("mount={secret}&from=globex/app")),
    ];
    for (who, digest, query) in &denied {
        became_an_upload(&scene, who, "acme/lib", digest, mount(&scene, who, "acme/lib", query));
    }
    // What is there and what is not look the same, whoever has it.
    let shape = |query: &str| {
        let answer = mount(&scene, &mine, "acme/lib", query);
        let location = answer.header("location");
        let upload = answer.header("docker-upload-uuid");
        answer.appearance().replace(&location, "").replace(&upload, "")
    };
    let there = shape(&format!("mount={secret}&from=globex/app"));
    assert_eq!(shape(&format!("mount={}&from=globex/app", sha256(b"nothing"))), there);
    assert_eq!(shape(&format!("mount={secret}&from=nobody/app")), there);
    // Two parsers could read these differently.
    for query in
        [format!("mount={own}&from=acme/app&from=globex/app"), format!("mount={own}&mount={secret}&from=acme/app")]
    {
        mount(&scene, &mine, "acme/lib", &query).expect(400);
    }
    // Who may not push is challenged for the target and for the source.
    let answer = mount(&scene, &scene.acme.pull.credentials(), "acme/lib", &format!("mount={own}&from=acme/app"));
    let challenge = answer.refused(401, "UNAUTHORIZED").header("www-authenticate");
    assert!(challenge.contains("scope=\"repository:acme/lib:pull,push repository:acme/app:pull\""), "{challenge}");
}

#[test]
fn a_mount_across_projects_wants_a_grant_and_the_other_projects_consent() {
    let scene = Scene::open();
    let base = Manifest::image(1, 300);
    let digest = &base.blobs[1].digest;
    scene.gateway.repository("globex/base", &scene.globex.push.credentials()).push("1", &base);
    scene.gateway.repository("globex/other", &scene.globex.push.credentials()).push("1", &base);
    let grants = ["--grant", "acme/**=pull,push", "--grant", "globex/base=pull"];
    let who = scene.gateway.robot("acme", "builder", &grants).credentials();
    let try_mount = |from: &str| mount(&scene, &who, "acme/app", &format!("mount={digest}&from={from}"));
    became_an_upload(&scene, &who, "acme/app", digest, try_mount("globex/base"));

    let grant = scene.gateway.foreign_grant("globex");
    scene.gateway.cli(&["grant", "accept", &grant]);
    within(EFFECT, || Some(scene.gateway.repository("globex/base", &who).manifest("1")).filter(|a| a.status == 200));
    became_an_upload(&scene, &who, "acme/app", digest, try_mount("globex/other"));
    try_mount("globex/base").expect(201);
    scene.gateway.repository("acme/app", &who).blob(digest).expect(200);

    scene.gateway.cli(&["grant", "refuse", &grant]);
    let refused = || scene.gateway.repository("globex/base", &who).manifest("1");
    within(EFFECT, || Some(refused()).filter(|answer| answer.status == 401));
    let answer = mount(&scene, &who, "acme/later", &format!("mount={digest}&from=globex/base"));
    became_an_upload(&scene, &who, "acme/later", digest, answer);
}
