//! Requests, pulls and pushes of robots and projects.

use super::limited;
use http::Method;
use portcullis_tests::gateway::metric;
use portcullis_tests::http::{Credentials, Response};
use portcullis_tests::image::Manifest;
use portcullis_tests::repository::Repository;
use portcullis_tests::scene::{EFFECT, Scene, within};

#[track_caller]
fn left(answer: Response, limit: &str, remaining: &str) -> Response {
    assert_eq!(answer.header("ratelimit-limit"), limit, "{answer}");
    assert_eq!(answer.header("ratelimit-remaining"), remaining, "{answer}");
    answer
}

#[test]
fn a_pull_is_a_get_of_a_manifest_and_shows_what_is_left() {
    let scene = Scene::with(|builder| builder.set("limits.pulls_per_project", "3/6h"));
    let (repository, image) = (scene.acme("app"), Manifest::image(1, 100));
    repository.push("1.0", &image);
    let head = || repository.request(Method::HEAD, "manifests/1.0").send();
    left(head().expect(200), "3;w=21600", "3;w=21600");
    left(repository.manifest("1.0").expect(200), "3;w=21600", "2;w=21600");
    left(repository.manifest(image.digest()).expect(200), "3;w=21600", "1;w=21600");
    for _ in 0..5 {
        left(head().expect(200), "3;w=21600", "1;w=21600");
        left(repository.blob(&image.blobs[0].digest).expect(200), "", "");
    }
    assert_eq!(repository.tags(), ["1.0"]);
    left(repository.manifest("1.0").expect(200), "3;w=21600", "0;w=21600");
    let refused = limited(left(repository.manifest("1.0"), "3;w=21600", "0;w=21600"), "pulls-per-project");
    assert_eq!(refused.header("ratelimit-policy"), "\"pulls-per-project\";q=3;w=21600");
    assert!(refused.json().to_string().contains("project acme has had its 3 pulls per 6h; try again in"), "{refused}");
    // All robots of the project share it, and no other project does.
    let puller = scene.gateway.repository("acme/app", &scene.acme.pull.credentials());
    limited(puller.manifest("1.0"), "pulls-per-project");
    left(head().expect(200), "3;w=21600", "0;w=21600");
    repository.put_manifest("2.0", &image).expect(201);
    scene.globex("app").push("1.0", &image);
    left(scene.globex("app").manifest("1.0").expect(200), "3;w=21600", "2;w=21600");
    let metrics = scene.gateway.metrics();
    assert!((metric(&metrics, "portcullis_limited_total", "pulls-per-project") - 2.0).abs() < 0.1, "{metrics}");
    let log = scene.gateway.log();
    assert!(log.lines().any(|line| line.contains("manifest-pull") && line.contains("\"decision\":\"limit\"")), "{log}");
}

#[test]
fn a_robot_has_its_own_and_one_that_is_refused_takes_nothing_of_its_projects() {
    let scene =
        Scene::with(|builder| builder.set("limits.pulls_per_robot", "2/d").set("limits.pulls_per_project", "4/d"));
    let (repository, image) = (scene.acme("app"), Manifest::image(1, 100));
    repository.push("1.0", &image);
    let puller = scene.gateway.repository("acme/app", &scene.acme.pull.credentials());
    // Of two limits the nearer one is shown.
    left(puller.manifest("1.0").expect(200), "2;w=86400", "1;w=86400");
    left(puller.manifest("1.0").expect(200), "2;w=86400", "0;w=86400");
    for _ in 0..5 {
        let refused = limited(puller.manifest("1.0"), "pulls-per-robot");
        assert!(refused.json().to_string().contains("robot acme+puller has had its 2 pulls per d"), "{refused}");
    }
    left(repository.manifest("1.0").expect(200), "2;w=86400", "1;w=86400");
    left(repository.manifest("1.0").expect(200), "2;w=86400", "0;w=86400");
    let pusher = scene.gateway.repository("acme/app", &scene.acme.push.credentials());
    // The project's are used up; what it refuses has taken nothing of the robot's either.
    limited(pusher.manifest("1.0"), "pulls-per-project");
    let head = pusher.request(Method::HEAD, "manifests/1.0").send().expect(200);
    assert_eq!(head.header("ratelimit-remaining"), "0;w=86400", "the project's is the nearer one: {head}");
    scene.gateway.cli(&["limit", "set", "acme", "--pulls", "off"]);
    within(EFFECT, || {
        let head = pusher.request(Method::HEAD, "manifests/1.0").send().expect(200);
        (head.header("ratelimit-remaining") == "2;w=86400").then_some(())
    });
}

#[test]
fn guests_of_a_public_project_spend_neither_its_robots_pulls_nor_each_others() {
    let scene = Scene::with(|builder| builder.set("limits.pulls_per_project", "2/d"));
    scene.gateway.cli(&["project", "create", "commons", "--public"]);
    let own = scene.gateway.robot("commons", "owner", &["--role", "admin"]).credentials();
    let owner = scene.gateway.repository("commons/app", &own);
    owner.push("1.0", &Manifest::image(1, 100));
    let nobody = scene.gateway.token(&Credentials::None, &["repository:commons/app:pull"]);
    let at = |number: u8, who: &Credentials| {
        Repository::new(&scene.gateway.http().from([127, 0, 1, number]), "commons/app", who).manifest("1.0")
    };
    left(at(1, &nobody).expect(200), "2;w=86400", "1;w=86400");
    left(at(1, &nobody).expect(200), "2;w=86400", "0;w=86400");
    let refused = limited(left(at(1, &nobody), "2;w=86400", "0;w=86400"), "guest-pulls-per-address");
    assert_eq!(refused.header("ratelimit-policy"), "\"guest-pulls-per-address\";q=2;w=86400");
    let told = "your address 127.0.1.1, as a guest of project commons, has had its 2 pulls per d; log in";
    assert!(refused.json().to_string().contains(told), "{refused}");
    // Another tenant's robot is a guest as well, and its address has what is left of two.
    let theirs = scene.globex.pull.credentials();
    at(2, &nobody).expect(200);
    at(2, &theirs).expect(200);
    limited(at(2, &theirs), "guest-pulls-per-address");
    // All guests together have ten times as much, and then there is none left for an address that has had nothing.
    for number in 3..=10 {
        (0..2).for_each(|_| drop(at(number, &nobody).expect(200)));
    }
    let refused = limited(at(11, &nobody), "guest-pulls-per-project");
    assert_eq!(refused.header("ratelimit-policy"), "\"guest-pulls-per-project\";q=20;w=86400");
    // The project's own robots have had none of that, from whatever address they come.
    left(at(1, &own).expect(200), "2;w=86400", "1;w=86400");
    left(owner.manifest("1.0").expect(200), "2;w=86400", "0;w=86400");
    limited(owner.manifest("1.0"), "pulls-per-project");
}

#[test]
fn pushes_and_requests_have_limits_of_their_own() {
    let scene =
        Scene::with(|builder| builder.set("limits.pushes_per_robot", "2/d").set("limits.requests_per_project", "40/d"));
    let (repository, image) = (scene.acme("app"), Manifest::image(1, 100));
    repository.push("1.0", &image);
    repository.put_manifest("2.0", &image).expect(201);
    limited(repository.put_manifest("3.0", &image), "pushes-per-robot");
    repository.manifest("3.0").expect(404);
    scene.gateway.repository("acme/app", &scene.acme.push.credentials()).put_manifest("3.0", &image).expect(201);
    // Requests of any kind, until there are no more.
    let refused =
        (0..41).map(|_| repository.request(Method::GET, "tags/list").send()).find(|answer| answer.status != 200);
    limited(refused.expect("more than 40 passed"), "requests-per-project");
    let head = repository.request(Method::HEAD, "manifests/1.0").send().expect(429);
    assert_eq!(head.header("ratelimit-policy"), "\"requests-per-project\";q=40;w=86400", "{head}");
    scene.globex("app").push("1.0", &image);
}

#[test]
fn without_limits_nothing_is_shown_and_nothing_refused() {
    let scene = Scene::shared();
    let (repository, image) = (scene.acme("unlimited"), Manifest::image(1, 100));
    repository.push("1.0", &image);
    for _ in 0..20 {
        let answer = left(repository.manifest("1.0").expect(200), "", "");
        assert_eq!(answer.header("ratelimit") + &answer.header("ratelimit-policy"), "");
    }
}
