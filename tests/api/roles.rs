//! Roles × actions, over the wire: one cell, one answer.

use http::Method;
use portcullis_tests::http::{Credentials, Response};
use portcullis_tests::image::{Blob, Manifest};
use portcullis_tests::scene::Scene;
use serde_json::json;

/// Does something with the repository of this name.
type Act = fn(&Scene, &Credentials, &str) -> Response;

/// What can be done with a repository, each on something of its own so that one cell leaves the next one alone.
const ACTIONS: [(&str, Act); 9] = [
    ("pull a manifest", |scene, who, name| scene.gateway.repository(name, who).manifest("1")),
    ("pull a blob", |scene, who, name| {
        let image = scene.gateway.repository(name, &owner(scene, name)).manifest("1").expect(200).json();
        let digest = image["config"]["digest"].as_str().expect("a digest");
        scene.gateway.repository(name, who).blob(digest)
    }),
    ("list tags", |scene, who, name| scene.gateway.repository(name, who).request(Method::GET, "tags/list").send()),
    ("push a blob", |scene, who, name| scene.gateway.repository(name, who).put_blob(&Blob::random(20))),
    ("push a manifest", |scene, who, name| {
        let image = fresh(scene, name);
        scene.gateway.repository(name, who).put_manifest("new", &image)
    }),
    ("give an upload up", |scene, who, name| {
        let opened = scene.gateway.repository(name, who).request(Method::POST, "blobs/uploads/").send();
        if opened.status != 202 {
            return opened;
        }
        scene.gateway.repository(name, who).at(Method::DELETE, &opened.header("location")).send()
    }),
    ("delete a tag", |scene, who, name| {
        scene.gateway.repository(name, &owner(scene, name)).push("old", &Manifest::image(1, 20));
        scene.gateway.repository(name, who).delete("old")
    }),
    ("delete a manifest", |scene, who, name| {
        let image = fresh(scene, name);
        scene.gateway.repository(name, &owner(scene, name)).push("gone", &image);
        scene.gateway.repository(name, who).delete(image.digest())
    }),
    ("delete a blob", |scene, who, name| {
        let blob = Blob::random(20);
        scene.gateway.repository(name, &owner(scene, name)).put_blob(&blob).expect(201);
        scene.gateway.repository(name, who).request(Method::DELETE, &format!("blobs/{}", blob.digest)).send()
    }),
];

fn owner(scene: &Scene, name: &str) -> Credentials {
    let project = if name.starts_with("acme") { &scene.acme } else { &scene.globex };
    project.admin.credentials()
}

/// An image whose blobs are there already.
fn fresh(scene: &Scene, name: &str) -> Manifest {
    let image = Manifest::image(1, 20);
    for blob in &image.blobs {
        scene.gateway.repository(name, &owner(scene, name)).put_blob(blob).expect(201);
    }
    image
}

#[test]
fn each_role_may_do_its_actions_and_no_other() {
    let scene = Scene::open();
    for name in ["acme/app", "globex/app"] {
        scene.gateway.repository(name, &owner(&scene, name)).push("1", &Manifest::image(1, 20));
    }
    let [pull, push, all] = [3, 6, 9];
    // Everything up to here is allowed; 0 is nothing.
    let cells = [
        ("puller", scene.acme.pull.credentials(), pull),
        ("pusher", scene.acme.push.credentials(), push),
        ("owner", scene.acme.admin.credentials(), all),
        ("foreign puller", scene.globex.pull.credentials(), 0),
        ("foreign pusher", scene.globex.push.credentials(), 0),
        ("foreign owner", scene.globex.admin.credentials(), 0),
        ("nobody", Credentials::None, 0),
    ];
    for (role, basic, allowed) in cells {
        // By Basic and by a token that was asked for everything.
        let token = scene.gateway.token(&basic, &["repository:acme/app:pull,push,delete"]);
        for who in [&basic, &token] {
            for (index, (action, act)) in ACTIONS.iter().enumerate() {
                let answer = act(&scene, who, "acme/app");
                let success = (200..300).contains(&answer.status);
                assert_eq!(success, index < allowed, "{role}: {action}\n{answer}");
                if !success {
                    answer.refused(401, "UNAUTHORIZED");
                }
            }
        }
    }
}

#[test]
fn a_grant_gives_its_actions_where_its_pattern_matches() {
    let scene = Scene::open();
    for name in ["acme/app", "acme/app-1", "acme/app/deep", "acme/lib", "globex/app"] {
        scene.gateway.repository(name, &owner(&scene, name)).push("1", &Manifest::image(1, 20));
    }
    let scope_of = |who: &Credentials, name: &str| {
        let answer = scene.gateway.ask_token(who, &[&format!("repository:{name}:pull,push,delete")]).expect(200);
        portcullis_tests::mint::access(&answer).concat().rsplit_once(':').map(|(_, actions)| actions.to_owned())
    };
    let table = [
        ("acme/app=pull", json!({"acme/app": "pull"})),
        ("acme/app-*=pull,push", json!({"acme/app-1": "pull,push"})),
        ("acme/*=delete", json!({"acme/app": "delete", "acme/app-1": "delete", "acme/lib": "delete"})),
        ("acme/app/**=*", json!({"acme/app/deep": "pull,push,delete"})),
        (
            "acme/**=pull",
            json!({"acme/app": "pull", "acme/app-1": "pull", "acme/app/deep": "pull", "acme/lib": "pull"}),
        ),
    ];
    for (index, (grant, given)) in table.into_iter().enumerate() {
        let robot = scene.gateway.robot("acme", &format!("robot-{index}"), &["--grant", grant]).credentials();
        for name in ["acme/app", "acme/app-1", "acme/app/deep", "acme/lib", "globex/app"] {
            let expected = given.get(name).and_then(|actions| actions.as_str()).map(str::to_owned);
            assert_eq!(scope_of(&robot, name), expected, "{grant} on {name}");
            let status = scene.gateway.repository(name, &robot).manifest("1").status;
            let pulls = expected.is_some_and(|actions| actions.contains("pull"));
            assert_eq!(status, if pulls { 200 } else { 401 }, "{grant} on {name}");
        }
    }
    // Push needs pull as well.
    let blind = scene.gateway.robot("acme", "blind", &["--grant", "acme/app=push"]).credentials();
    let upload = scene.gateway.repository("acme/app", &blind).request(Method::POST, "blobs/uploads/").send();
    upload.refused(401, "UNAUTHORIZED");
}

#[test]
fn everybody_may_pull_from_a_public_project_and_nobody_else_may_write() {
    let scene = Scene::open();
    scene.gateway.cli(&["project", "create", "commons", "--public"]);
    let owner = scene.gateway.robot("commons", "owner", &["--role", "admin"]).credentials();
    let image = Manifest::image(1, 20);
    scene.gateway.repository("commons/app", &owner).push("1", &image);
    let scope = ["repository:commons/app:pull,push,delete"];
    for basic in [Credentials::None, scene.acme.admin.credentials(), scene.globex.pull.credentials()] {
        let token = scene.gateway.token(&basic, &scope);
        let repository = scene.gateway.repository("commons/app", &token);
        repository.pull("1", &image);
        assert_eq!(repository.tags(), ["1"]);
        for who in [&basic, &token] {
            let repository = scene.gateway.repository("commons/app", who);
            repository.put_blob(&Blob::random(20)).refused(401, "UNAUTHORIZED");
            repository.put_manifest("2", &image).refused(401, "UNAUTHORIZED");
            repository.delete("1").refused(401, "UNAUTHORIZED");
            repository
                .request(Method::DELETE, &format!("blobs/{}", image.blobs[0].digest))
                .send()
                .refused(401, "UNAUTHORIZED");
        }
    }
    // Without any token the client is told where to get one, as everywhere.
    scene.gateway.repository("commons/app", &Credentials::None).manifest("1").refused(401, "UNAUTHORIZED");
    scene.gateway.repository("commons/app", &scene.acme.pull.credentials()).pull("1", &image);
}
