//! skopeo: copies, lists, inspects and deletes.

use crate::world::{World, refused};
use portcullis_tests::command::Run;
use portcullis_tests::image::{Blob, Manifest};
use portcullis_tests::machine::alone;
use portcullis_tests::persona::Robot;

impl World {
    /// skopeo with `who`'s login, made on the first use.
    #[track_caller]
    fn skopeo(&self, who: &Robot) -> Run {
        let certificates = self.certificates();
        if !self.path(&format!("{}.json", who.username)).exists() {
            self.containers("skopeo", &who.username)
                .args(["login", "--password-stdin", "--username", &who.username, "--cert-dir"])
                .arg(certificates)
                .arg(self.registry())
                .stdin(who.token.clone())
                .succeeds()
                .says(&["login succeeded"]);
        }
        self.containers("skopeo", &who.username).arg("--tmpdir").arg(self.path("tmp"))
    }

    #[track_caller]
    pub fn skopeo_push(&self, who: &Robot, layout: &str, target: &str) -> Run {
        self.skopeo(who)
            .args(["copy", "--all", "--preserve-digests", "--dest-cert-dir"])
            .arg(self.certificates())
            .arg(format!("oci:{}", self.path(layout).display()))
            .arg(format!("docker://{}", self.image(target)))
    }

    #[track_caller]
    fn skopeo_pull(&self, who: &Robot, source: &str, layout: &str) -> Run {
        self.skopeo(who)
            .args(["copy", "--all", "--preserve-digests", "--src-cert-dir"])
            .arg(self.certificates())
            .arg(format!("docker://{}", self.image(source)))
            .arg(format!("oci:{}:latest", self.path(layout).display()))
    }

    #[track_caller]
    fn skopeo_on(&self, who: &Robot, verb: &str, name: &str) -> Run {
        self.skopeo(who)
            .args([verb, "--cert-dir"])
            .arg(self.certificates())
            .arg(format!("docker://{}", self.image(name)))
    }
}

#[test]
fn an_image_goes_up_under_two_tags_and_comes_back_by_tag_and_by_digest() {
    alone(|| {
        let world = World::new();
        let (push, pull) = (&world.acme.push, &world.acme.pull);
        let image = Manifest::image(3, 200_000);
        image.write_layout(&world.path("up"), "latest");
        world.skopeo_push(push, "up:latest", "acme/app:1.0").succeeds();
        world.skopeo_push(push, "up:latest", "acme/app:1.0.1").succeeds();
        let by_digest = format!("acme/app@{}", image.digest());
        for (source, layout) in [("acme/app:1.0", "by-tag"), (by_digest.as_str(), "by-digest")] {
            world.skopeo_pull(pull, source, layout).succeeds();
            for blob in image.blobs.iter().chain([&image.blob]) {
                let name = blob.digest.replace(':', "/");
                let pulled = std::fs::read(world.path(layout).join("blobs").join(name));
                assert!(pulled.expect("it was pulled") == blob.bytes, "{} differs", blob.digest);
            }
        }
        let tags = world.skopeo_on(pull, "list-tags", "acme/app").succeeds().json();
        assert_eq!(tags["Repository"], world.image("acme/app"));
        let mut tags: Vec<_> = tags["Tags"].as_array().expect("a list").iter().collect();
        tags.sort_by_key(|tag| tag.to_string());
        assert_eq!(tags, ["1.0", "1.0.1"]);
        let shown = world.skopeo_on(pull, "inspect", "acme/app:1.0").succeeds().json();
        assert_eq!(shown["Digest"], image.digest());
    });
}

#[test]
fn deleting_one_tag_leaves_its_sibling_and_deleting_the_digest_takes_all() {
    alone(|| {
        let world = World::new();
        let (push, pull, admin) = (&world.acme.push, &world.acme.pull, &world.acme.admin);
        let image = Manifest::image(2, 100_000);
        image.write_layout(&world.path("up"), "latest");
        for tag in ["acme/app:old", "acme/app:new"] {
            world.skopeo_push(push, "up:latest", tag).succeeds();
        }
        refused(&world.skopeo_on(push, "delete", "acme/app:old").fails());
        world.repository("acme/app", admin).delete("old").expect(202);
        world.skopeo_pull(pull, "acme/app:new", "new").succeeds();
        world.skopeo_pull(pull, "acme/app:old", "old").fails().says(&["manifest unknown", "not found"]);
        // skopeo asks which digest a tag has and deletes that.
        world.skopeo_on(admin, "delete", "acme/app:new").succeeds();
        world.skopeo_pull(pull, "acme/app:new", "gone").fails().says(&["manifest unknown", "not found"]);
    });
}

#[test]
fn an_index_of_two_platforms_goes_through_whole() {
    alone(|| {
        let world = World::new();
        let image = |architecture| Manifest::image_for(architecture, vec![Blob::layer(50_000)]);
        let index = Manifest::index(vec![("amd64", image("amd64")), ("arm64", image("arm64"))]);
        index.write_layout(&world.path("up"), "latest");
        world.skopeo_push(&world.acme.push, "up:latest", "acme/multi:1").succeeds();
        world.skopeo_pull(&world.acme.pull, "acme/multi:1", "down").succeeds();
        world.repository("acme/multi", &world.acme.pull).pull("1", &index);
    });
}

#[test]
fn an_artifact_with_a_subject_is_listed_among_its_referrers() {
    alone(|| {
        let world = World::new();
        let image = Manifest::image(1, 10_000);
        image.write_layout(&world.path("up"), "latest");
        world.skopeo_push(&world.acme.push, "up:latest", "acme/app:signed").succeeds();
        let repository = world.repository("acme/app", &world.acme.push);
        assert_eq!(repository.referrers(image.digest()), [] as [&str; 0]);
        let payload = Blob::random(500);
        let artifact = Manifest::artifact("application/vnd.example.signature", payload, Some(&image));
        let pushed = repository.push(artifact.digest(), &artifact);
        assert_eq!(pushed.header("oci-subject"), image.digest(), "{pushed}");
        let readable = world.repository("acme/app", &world.acme.pull);
        assert_eq!(readable.referrers(image.digest()), [artifact.digest()]);
        let by_digest = format!("acme/app@{}", artifact.digest());
        world.skopeo_pull(&world.acme.pull, &by_digest, "artifact").succeeds();
    });
}

#[test]
fn another_project_is_out_of_reach_for_every_robot() {
    alone(|| {
        let world = World::new();
        let image = Manifest::image(1, 10_000);
        image.write_layout(&world.path("up"), "latest");
        world.skopeo_push(&world.globex.push, "up:latest", "globex/secret:1").succeeds();
        for robot in [&world.acme.pull, &world.acme.push, &world.acme.admin] {
            refused(&world.skopeo_pull(robot, "globex/secret:1", "stolen").fails());
            refused(&world.skopeo_push(robot, "up:latest", "globex/secret:2").fails());
            refused(&world.skopeo_on(robot, "list-tags", "globex/secret").fails());
            refused(&world.skopeo_on(robot, "delete", "globex/secret:1").fails());
        }
        refused(&world.skopeo_push(&world.acme.pull, "up:latest", "acme/app:1").fails());
        assert_eq!(world.repository("globex/secret", &world.globex.pull).tags(), ["1"]);
    });
}

#[test]
fn a_wrong_secret_does_not_log_in() {
    alone(|| {
        let world = World::new();
        world
            .containers("skopeo", "nobody")
            .args(["login", "--password-stdin", "--username", &world.acme.pull.username])
            .arg(world.registry())
            .stdin(world.globex.pull.token.clone())
            .fails()
            .says(&["invalid username/password", "unauthorized"]);
    });
}

#[test]
fn everybody_may_pull_from_a_public_project_and_nobody_may_push() {
    alone(|| {
        let world = World::new();
        let robot = world.public_project("library");
        let image = Manifest::image(2, 50_000);
        image.write_layout(&world.path("up"), "latest");
        world.skopeo_push(&robot, "up:latest", "library/base:1").succeeds();
        let copy = |from: String, to: String| {
            world
                .containers("skopeo", "anonymous")
                .args(["copy", "--src-cert-dir"])
                .arg(world.certificates())
                .arg("--dest-cert-dir")
                .arg(world.certificates())
                .args([from, to])
        };
        let (public, layout) = (format!("docker://{}", world.image("library/base")), world.path("down"));
        let layout = format!("oci:{}:latest", layout.display());
        copy(format!("{public}:1"), layout.clone()).succeeds();
        refused(&copy(layout, format!("{public}:2")).fails());
        assert_eq!(world.anonymous("library/base").tags(), ["1"]);
    });
}
