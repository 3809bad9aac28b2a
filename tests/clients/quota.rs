//! A refusal for want of room as people see it: the client says why, stops at once, and leaves nothing behind.

use crate::containers::PODMAN;
use crate::docker::Docker;
use crate::world::World;
use portcullis_tests::command::Run;
use portcullis_tests::image::Manifest;
use portcullis_tests::ledger::Account;
use portcullis_tests::machine::alone;
use portcullis_tests::persona::Robot;
use portcullis_tests::scene::{EFFECT, within};

/// Less than any of the images' layers.
const TOO_LITTLE: u64 = 100_000;
/// Of each image: a configuration and two layers.
const BLOBS: usize = 3;

/// How many uploads acme has begun, by the gateway's own log.
fn begun(world: &World) -> usize {
    let begins = ["\"operation\":\"upload-start\"", "\"operation\":\"mount\""];
    let of_acme = |line: &&str| line.contains("\"project\":\"acme\"");
    let log = world.gateway.log();
    log.lines().filter(of_acme).filter(|line| begins.iter().any(|begin| line.contains(begin))).count()
}

/// A push that has to fail for want of room, and says so in one piece.
#[track_caller]
fn refused_for_want_of_room(world: &World, push: Run, what: &str) {
    let before = begun(world);
    let output = push.fails();
    output.says(&["denied"]);
    let (text, needs) = (output.text(), format!(" used, this {what} needs "));
    let told = text.lines().find_map(|line| line.split_once("project acme: ")?.1.split_once(&needs));
    assert!(told.is_some_and(|(_, more)| more.contains(" more")), "it does not say what is missing\n{output}");
    assert!(!text.to_lowercase().contains("retry"), "it tries again\n{output}");
    let uploads = begun(world) - before;
    assert!(uploads <= BLOBS, "{uploads} uploads were begun\n{output}\n{}", world.gateway.log());
    within(EFFECT, || (world.gateway.account("acme").reserved == 0).then_some(()));
}

/// What the client does is the same for all of them; `push` is how.
fn story(world: &World, push: &dyn Fn(&Robot, &str) -> Run) {
    push(&world.globex.push, "globex/app:1").succeeds();
    let exact = world.gateway.account("globex").used;
    let acme = |tag: &str| push(&world.acme.push, &format!("acme/app:{tag}"));
    world.gateway.set_quota("acme", TOO_LITTLE);
    refused_for_want_of_room(world, acme("1"), "upload");
    // All of it but for one byte: the blobs get in, and the manifest does not.
    world.gateway.set_quota("acme", exact - 1);
    refused_for_want_of_room(world, acme("1"), "manifest");
    assert_eq!(world.repository("acme/app", &world.acme.pull).manifest("1").status, 404);
    world.gateway.set_quota("acme", exact);
    acme("1").succeeds();
    assert_eq!(world.gateway.account("acme"), Account { used: exact, reserved: 0 });
    // What is there already costs nothing.
    acme("2").succeeds();
    assert_eq!(world.repository("acme/app", &world.acme.pull).tags(), ["1", "2"]);
}

#[test]
fn docker_says_what_is_missing_and_stops() {
    alone(|| {
        let world = World::new();
        let docker = Docker::start(&world);
        docker.build("built");
        story(&world, &|who, target| docker.push(who, target));
    });
}

#[test]
fn podman_says_what_is_missing_and_stops() {
    alone(|| {
        let world = World::new();
        PODMAN.build(&world, "localhost/built");
        story(&world, &|who, target| PODMAN.push(&world, who, "localhost/built", target));
    });
}

#[test]
fn skopeo_says_what_is_missing_and_stops() {
    alone(|| {
        let world = World::new();
        Manifest::image(2, 300_000).write_layout(&world.path("up"), "latest");
        story(&world, &|who, target| world.skopeo_push(who, "up:latest", target));
    });
}
