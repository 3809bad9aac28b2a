//! podman and buildah: the same library with two command lines, so the same story for both.

use crate::world::{World, read, refused};
use portcullis_tests::command::Run;
use portcullis_tests::machine::alone;
use portcullis_tests::persona::Robot;

/// Which of the two.
#[derive(Clone, Copy)]
pub struct Tool {
    program: &'static str,
    build: &'static str,
}

pub const PODMAN: Tool = Tool { program: "podman", build: "build" };
const BUILDAH: Tool = Tool { program: "buildah", build: "bud" };

impl Tool {
    /// The tool with `who`'s login, made on the first use.
    #[track_caller]
    fn run(self, world: &World, who: &Robot) -> Run {
        if !world.path(&format!("{}.json", who.username)).exists() {
            world
                .containers(self.program, &who.username)
                .args(["login", "--password-stdin", "--username", &who.username, "--cert-dir"])
                .arg(world.certificates())
                .arg(world.registry())
                .stdin(who.token.clone())
                .succeeds()
                .says(&["login succeeded"]);
        }
        world.containers(self.program, &who.username)
    }

    #[track_caller]
    pub fn build(self, world: &World, image: &str) {
        world
            .containers(self.program, "builder")
            .args([self.build, "--layers", "--tag", image])
            .arg(world.build_context())
            .succeeds();
    }

    #[track_caller]
    pub fn push(self, world: &World, who: &Robot, local: &str, target: &str) -> Run {
        self.run(world, who)
            .args(["push", "--cert-dir"])
            .arg(world.certificates())
            .arg("--digestfile")
            .arg(world.path("digest"))
            .arg(local)
            .arg(format!("docker://{}", world.image(target)))
    }

    #[track_caller]
    fn pull(self, world: &World, who: &Robot, source: &str) -> Run {
        self.run(world, who).args(["pull", "--cert-dir"]).arg(world.certificates()).arg(world.image(source))
    }

    fn remove_all(self, world: &World) {
        world.containers(self.program, "builder").args(["rmi", "--all", "--force"]).succeeds();
    }

    fn life_of_an_image(self) {
        let world = World::new();
        let (push, pull, admin) = (&world.acme.push, &world.acme.pull, &world.acme.admin);
        self.build(&world, "localhost/built");
        self.push(&world, push, "localhost/built", "acme/app:1.0").succeeds();
        let digest = read(&world.path("digest"));
        self.push(&world, push, "localhost/built", "acme/app:1.0.1").succeeds();
        assert_eq!(read(&world.path("digest")), digest, "the same image has the same digest");
        let repository = world.repository("acme/app", admin);
        assert_eq!(repository.tags(), ["1.0", "1.0.1"]);

        self.remove_all(&world);
        self.pull(&world, pull, "acme/app:1.0").succeeds();
        self.remove_all(&world);
        self.pull(&world, pull, &format!("acme/app@{digest}")).succeeds();

        repository.delete("1.0").expect(202);
        self.remove_all(&world);
        self.pull(&world, pull, "acme/app:1.0").fails().says(&["manifest unknown", "not found"]);
        self.pull(&world, pull, "acme/app:1.0.1").succeeds();
        assert_eq!(repository.tags(), ["1.0.1"]);
    }

    fn refusals_across_projects(self) {
        let world = World::new();
        self.build(&world, "localhost/built");
        self.push(&world, &world.globex.push, "localhost/built", "globex/secret:1").succeeds();
        for robot in [&world.acme.pull, &world.acme.push, &world.acme.admin] {
            refused(&self.pull(&world, robot, "globex/secret:1").fails());
            refused(&self.push(&world, robot, "localhost/built", "globex/secret:2").fails());
        }
        refused(&self.push(&world, &world.acme.pull, "localhost/built", "acme/app:1").fails());
        assert_eq!(world.repository("globex/secret", &world.globex.pull).tags(), ["1"]);
    }

    fn anonymous_pull(self) {
        let world = World::new();
        let robot = world.public_project("library");
        self.build(&world, "localhost/built");
        self.push(&world, &robot, "localhost/built", "library/base:1").succeeds();
        self.remove_all(&world);
        let pull = |name: &str| {
            let run = world.containers(self.program, "anonymous").args(["pull", "--cert-dir"]);
            run.arg(world.certificates()).arg(world.image(name))
        };
        pull("library/base:1").succeeds();
        refused(&pull("acme/app:1").fails());
    }
}

#[test]
fn podman_takes_an_image_through_its_life() {
    alone(|| PODMAN.life_of_an_image());
}

#[test]
fn buildah_takes_an_image_through_its_life() {
    alone(|| BUILDAH.life_of_an_image());
}

#[test]
fn podman_is_refused_across_projects() {
    alone(|| PODMAN.refusals_across_projects());
}

#[test]
fn buildah_is_refused_across_projects() {
    alone(|| BUILDAH.refusals_across_projects());
}

#[test]
fn podman_pulls_from_a_public_project_without_a_login() {
    alone(|| PODMAN.anonymous_pull());
}

#[test]
fn buildah_pulls_from_a_public_project_without_a_login() {
    alone(|| BUILDAH.anonymous_pull());
}

#[test]
fn podman_lists_the_tags_of_its_own_project_alone() {
    alone(|| {
        let world = World::new();
        PODMAN.build(&world, "localhost/built");
        for tag in ["acme/app:1", "acme/app:2"] {
            PODMAN.push(&world, &world.acme.push, "localhost/built", tag).succeeds();
        }
        // This verb knows no --cert-dir: it reads what the machine trusts.
        let list = |who: &Robot| PODMAN.run(&world, who).args(["search", "--list-tags"]).arg(world.image("acme/app"));
        let shown = list(&world.acme.pull).succeeds().stdout;
        let mut tags: Vec<_> = shown.lines().skip(1).filter_map(|line| line.split_whitespace().nth(1)).collect();
        tags.sort_unstable();
        assert_eq!(tags, ["1", "2"], "{shown}");
        refused(&list(&world.globex.pull).fails());
    });
}
