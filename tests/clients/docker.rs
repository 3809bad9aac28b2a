//! docker: a daemon of the test's own, which verifies the gateway's certificate.

use crate::world::{World, refused};
use portcullis_tests::command::Run;
use portcullis_tests::machine::alone;
use portcullis_tests::persona::Robot;
use portcullis_tests::process::{Process, need_program, owned};

/// A daemon without networks, which needs none to build from scratch, push and pull.
const DAEMON: &str = r#"{"storage-driver": "vfs", "iptables": false, "bridge": "none", "ip-forward": false}"#;

pub struct Docker<'a> {
    world: &'a World,
    daemon: Process,
}

impl<'a> Docker<'a> {
    #[track_caller]
    pub fn start(world: &'a World) -> Docker<'a> {
        let config = world.path("daemon.json");
        std::fs::write(&config, DAEMON).expect("our own directory");
        let mut command = owned(need_program(&["dockerd"]));
        command
            .env("TMPDIR", world.path("tmp"))
            .arg("--config-file")
            .arg(config)
            .arg("--data-root")
            .arg(world.path("docker-data"))
            .arg("--exec-root")
            .arg(world.path("docker-exec"))
            .arg("--pidfile")
            .arg(world.path("docker.pid"))
            .arg("--host")
            .arg(format!("unix://{}", world.path("docker.sock").display()));
        let mut daemon = Process::start("dockerd", command, &world.path("dockerd.log"));
        daemon.wait_ready(|_| std::os::unix::net::UnixStream::connect(world.path("docker.sock")).ok());
        Docker { world, daemon }
    }

    /// docker with the login kept in a directory of its own.
    fn as_is(&self, login: &str) -> Run {
        self.world
            .run("docker")
            .env("DOCKER_HOST", format!("unix://{}", self.world.path("docker.sock").display()))
            .env("DOCKER_CONFIG", self.world.path(&format!("docker-{login}")))
            .env("DOCKER_BUILDKIT", "0")
            .env("DOCKER_CLI_HINTS", "false")
    }

    /// docker with `who`'s login, made on the first use.
    #[track_caller]
    fn run(&self, who: &Robot) -> Run {
        let config = self.world.path(&format!("docker-{}", who.username)).join("config.json");
        if !config.exists() {
            self.as_is(&who.username)
                .args(["login", "--password-stdin", "--username", &who.username, self.world.registry()])
                .stdin(who.token.clone())
                .succeeds()
                .says(&["login succeeded"]);
        }
        self.as_is(&who.username)
    }

    #[track_caller]
    pub fn build(&self, name: &str) {
        let context = self.world.build_context();
        self.as_is("nobody").args(["build", "--quiet", "--tag", name]).arg(context).succeeds();
    }

    #[track_caller]
    pub fn push(&self, who: &Robot, target: &str) -> Run {
        let image = self.world.image(target);
        self.as_is("nobody").args(["tag", "built", &image]).succeeds();
        self.run(who).args(["push", &image])
    }

    #[track_caller]
    fn pull(&self, who: &Robot, source: &str) -> Run {
        self.run(who).args(["pull", &self.world.image(source)])
    }

    /// Forgets every image, so that the next pull has to fetch it.
    #[track_caller]
    fn forget(&self) {
        let images = self.as_is("nobody").args(["images", "--quiet"]).succeeds().stdout;
        let mut ids: Vec<_> = images.lines().collect();
        ids.sort_unstable();
        ids.dedup();
        if !ids.is_empty() {
            self.as_is("nobody").args(["rmi", "--force"]).args(ids).succeeds();
        }
    }
}

impl Drop for Docker<'_> {
    fn drop(&mut self) {
        // It has a containerd of its own, which would go on writing to the test's directory.
        self.daemon.stop();
    }
}

#[test]
fn docker_takes_an_image_through_its_life() {
    alone(|| {
        let world = World::new();
        let docker = Docker::start(&world);
        let (push, pull, admin) = (&world.acme.push, &world.acme.pull, &world.acme.admin);
        docker.build("built");
        let pushed = docker.push(push, "acme/app:1.0").succeeds();
        let digest = pushed.stdout.split_whitespace().find(|word| word.starts_with("sha256:"));
        let digest = digest.unwrap_or_else(|| panic!("no digest\n{pushed}")).to_owned();
        docker.push(push, "acme/app:1.0.1").succeeds().says(&[&digest]);
        let repository = world.repository("acme/app", admin);
        assert_eq!(repository.tags(), ["1.0", "1.0.1"]);

        docker.forget();
        docker.pull(pull, "acme/app:1.0").succeeds().says(&[&digest]);
        docker.forget();
        docker.pull(pull, &format!("acme/app@{digest}")).succeeds();

        repository.delete("1.0").expect(202);
        docker.forget();
        docker.pull(pull, "acme/app:1.0").fails().says(&["manifest unknown", "not found"]);
        docker.pull(pull, "acme/app:1.0.1").succeeds().says(&[&digest]);
        assert_eq!(repository.tags(), ["1.0.1"]);
    });
}

#[test]
fn docker_is_refused_across_projects() {
    alone(|| {
        let world = World::new();
        let docker = Docker::start(&world);
        docker.build("built");
        docker.push(&world.globex.push, "globex/secret:1").succeeds();
        for robot in [&world.acme.pull, &world.acme.push, &world.acme.admin] {
            refused(&docker.pull(robot, "globex/secret:1").fails());
            refused(&docker.push(robot, "globex/secret:2").fails());
        }
        refused(&docker.push(&world.acme.pull, "acme/app:1").fails());
        assert_eq!(world.repository("globex/secret", &world.globex.pull).tags(), ["1"]);
    });
}

#[test]
fn docker_does_not_log_in_with_a_wrong_secret() {
    alone(|| {
        let world = World::new();
        let docker = Docker::start(&world);
        let login = docker.as_is("wrong").args(["login", "--password-stdin", "--username"]);
        let login = login.args([&world.acme.pull.username, world.registry()]);
        refused(&login.stdin(world.globex.pull.token.clone()).fails());
    });
}

#[test]
fn docker_pulls_from_a_public_project_without_a_login() {
    alone(|| {
        let world = World::new();
        let docker = Docker::start(&world);
        let robot = world.public_project("library");
        docker.build("built");
        docker.push(&robot, "library/base:1").succeeds();
        docker.forget();
        let pull = |name: &str| docker.as_is("anonymous").args(["pull", &world.image(name)]);
        pull("library/base:1").succeeds();
        refused(&pull("acme/app:1").fails());
    });
}

#[test]
fn docker_mounts_a_layer_from_another_repository_of_the_project() {
    alone(|| {
        let world = World::new();
        let docker = Docker::start(&world);
        docker.build("built");
        docker.push(&world.acme.push, "acme/app:1").succeeds();
        docker.push(&world.acme.push, "acme/fork:1").succeeds().says(&["mounted from"]);
        // Nothing can be mounted from where the robot may not pull: it is uploaded instead.
        docker.push(&world.globex.push, "globex/fork:1").succeeds();
        world.repository("globex/fork", &world.globex.pull).manifest("1").expect(200);
    });
}
