//! `portcullis limit`: what it says, and that what is said is in force.

use super::limited;
use portcullis_tests::image::Manifest;
use portcullis_tests::scene::{EFFECT, Scene, within};
use serde_json::json;

#[test]
fn a_limit_set_by_command_takes_effect_and_can_be_taken_back() {
    let scene = Scene::with(|builder| builder.set("limits.pulls_per_project", "100/6h"));
    let (repository, image) = (scene.acme("app"), Manifest::image(1, 100));
    repository.push("1.0", &image);
    assert_eq!(repository.manifest("1.0").expect(200).header("ratelimit-limit"), "100;w=21600");

    let set = scene.gateway.cli(&["limit", "set", "acme", "--pulls", "2/d", "--json"]).json();
    assert_eq!(set["limits"]["pulls"], json!({"in_force": "2/d", "from": "limit set"}));
    assert_eq!(set["limits"]["pushes"], json!({"in_force": "off", "from": "configuration"}));
    within(EFFECT, || (repository.manifest("1.0").header("ratelimit-limit") == "2;w=86400").then_some(()));
    let refused = within(EFFECT, || Some(repository.manifest("1.0")).filter(|answer| answer.status != 200));
    limited(refused, "pulls-per-project");

    scene.gateway.cli(&["limit", "set", "acme", "--pulls", "off"]);
    within(EFFECT, || (repository.manifest("1.0").status == 200).then_some(()));
    assert_eq!(repository.manifest("1.0").expect(200).header("ratelimit-limit"), "");
    scene.gateway.cli(&["limit", "set", "acme", "--pulls", "default"]);
    // What was taken of the other limit does not count.
    within(EFFECT, || {
        (repository.manifest("1.0").expect(200).header("ratelimit-limit") == "100;w=21600").then_some(())
    });
}

#[test]
fn a_robots_limit_is_its_own() {
    let scene = Scene::open();
    let (repository, image) = (scene.acme("app"), Manifest::image(1, 100));
    repository.push("1.0", &image);
    scene.gateway.cli(&["limit", "set", "acme+puller", "--pulls", "1/d", "--bytes", "1GiB/d"]);
    let puller = scene.gateway.repository("acme/app", &scene.acme.pull.credentials());
    let refused = within(EFFECT, || Some(puller.manifest("1.0")).filter(|answer| answer.status != 200));
    limited(refused, "pulls-per-robot");
    assert_eq!(repository.manifest("1.0").expect(200).header("ratelimit-limit"), "");
    // It holds for tokens as well, and wherever the robot pulls.
    let token = scene.gateway.token(&scene.acme.pull.credentials(), &["repository:acme/app:pull"]);
    limited(scene.gateway.repository("acme/app", &token).manifest("1.0"), "pulls-per-robot");
}

#[test]
fn show_tells_what_is_in_force_and_where_it_comes_from() {
    let scene = Scene::with(|builder| builder.set("limits.bytes_per_project", "1GiB/h"));
    let gateway = &scene.gateway;
    gateway.cli(&["limit", "set", "acme", "--pulls", "1000/6h", "--under-way", "8", "--uploads", "4"]);
    gateway.cli(&["limit", "set", "acme+pusher", "--requests", "off"]);
    let shown = gateway.cli(&["limit", "show", "acme", "--json"]).json();
    assert_eq!(shown["owner"], "acme");
    assert_eq!(shown["limits"]["bytes"], json!({"in_force": "1GiB/h", "from": "configuration"}));
    assert_eq!(shown["limits"]["under_way"], json!({"in_force": "8", "from": "limit set"}));
    assert_eq!(shown["limits"]["uploads"], json!({"in_force": "4", "from": "limit set"}));
    let text = gateway.cli(&["limit", "show", "acme+pusher"]).stdout;
    assert!(text.lines().any(|line| line.starts_with("requests") && line.ends_with("limit set")), "{text}");
    let all = gateway.cli(&["limit", "show", "--json"]).json();
    assert_eq!(all["configuration"]["bytes_per_project"], "1GiB/h");
    let owners: Vec<&str> =
        all["owners"].as_array().expect("a list").iter().filter_map(|one| one["owner"].as_str()).collect();
    assert_eq!(owners, ["acme", "acme+pusher"]);
    assert!(gateway.cli(&["limit", "show"]).stdout.contains("pulls=1000/6h under_way=8 uploads=4"));
    for (args, code) in [
        (&["limit", "set", "acme"][..], 2),
        (&["limit", "set", "acme", "--pulls", "many"], 2),
        (&["limit", "set", "acme", "--pulls", "1GiB/h"], 2),
        (&["limit", "set", "acme+pusher", "--uploads", "4"], 2),
        (&["limit", "set", "nobody", "--pulls", "1/h"], 1),
        (&["limit", "set", "acme+nobody", "--pulls", "1/h"], 1),
        (&["limit", "show", "nobody"], 1),
    ] {
        let output = gateway.command(args).fails();
        assert_eq!(output.code, Some(code), "{output}");
    }
}
