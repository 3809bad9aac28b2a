//! A newcomer's way: from nothing to a policy in force, with a real client at its end.

use crate::authoring::Desk;
use portcullis_tests::command::{Output, Run};
use portcullis_tests::gateway::Gateway;
use portcullis_tests::image::Manifest;
use portcullis_tests::persona::{Persona, Robot};
use portcullis_tests::registry::Registry;
use portcullis_tests::scene::{EFFECT, within};
use serde_json::Value;
use std::path::Path;

/// What a registry's owner has set up for the newcomer.
struct Place {
    gateway: Gateway,
    acme: Persona,
    _registry: Registry,
}

impl Place {
    fn new() -> Place {
        let registry = Registry::start();
        let mut gateway = Gateway::before(&registry.url()).stopped();
        let acme = gateway.persona("acme");
        gateway.serve();
        Place { gateway, acme, _registry: registry }
    }

    /// skopeo, with a login of its own that the policy commands find, too.
    fn skopeo(&self, desk: &Desk, args: &[&str]) -> Run {
        let run = Run::new("skopeo").arg("--tmpdir").arg(desk.path("")).args(args);
        run.env("REGISTRY_AUTH_FILE", desk.path("auth.json")).env("HOME", desk.path(""))
    }

    fn login(&self, desk: &Desk, robot: &Robot) {
        let login = ["login", "--password-stdin", "--username", &robot.username, "--cert-dir"];
        let login = self.skopeo(desk, &login).arg(self.certificates()).arg(self.gateway.authority());
        login.stdin(robot.token.clone()).succeeds();
    }

    fn copy(&self, desk: &Desk, layout: &str, tag: &str) -> Run {
        let copy = self.skopeo(desk, &["copy", "--preserve-digests", "--dest-cert-dir"]).arg(self.certificates());
        copy.arg(format!("oci:{}:latest", desk.path(layout).display()))
            .arg(format!("docker://{}/acme/app:{tag}", self.gateway.authority()))
    }

    fn certificates(&self) -> std::path::PathBuf {
        self.gateway.data_dir().join("tls")
    }

    fn attach(&self, settings: &Path, mode: &str) -> Output {
        let reference = format!("{}/acme/policies/few-layers:1", self.gateway.authority());
        let attach = self.gateway.command(&["policy", "attach", "acme", &reference, "--mode", mode]);
        attach.arg("--settings").arg(settings).succeeds()
    }

    fn verdicts(&self) -> Value {
        let status = self.gateway.cli(&["policy", "status", "acme", "--json"]).json();
        status["policies"][0]["running"]["verdicts"].clone()
    }
}

#[test]
fn from_nothing_to_a_policy_in_force() {
    let (desk, place) = (Desk::with_built("few-layers"), Place::new());
    // Edit: the template's limit becomes this author's, and so does a case.
    let source = desk.read("few-layers/src/lib.rs").replace("image has", "this image has");
    desk.write("few-layers/src/lib.rs", &source);
    let cases = desk.read("few-layers/cases/layers.yaml").replace("image has", "this image has");
    desk.write("few-layers/cases/layers.yaml", &cases);
    desk.write("few-layers/settings.yaml", "max-layers: 2\n");
    desk.build("few-layers");
    desk.policy("few-layers", &["test"]).succeeds().says(&["3 passed, 0 failed"]);

    place.login(&desk, &place.acme.push);
    let reference = format!("{}/acme/policies/few-layers:1", place.gateway.authority());
    let push = desk.policy("few-layers", &["push", &reference, "--ca"]).arg(place.gateway.ca());
    push.env("REGISTRY_AUTH_FILE", desk.path("auth.json")).env("HOME", desk.path("")).succeeds().says(&["sha256:"]);

    let settings = desk.path("few-layers/settings.yaml");
    place.attach(&settings, "monitor").says(&["refuses nothing"]);
    Manifest::image(2, 20_000).write_layout(&desk.path("small"), "latest");
    Manifest::image(3, 20_000).write_layout(&desk.path("large"), "latest");
    within(EFFECT, || place.verdicts().is_object().then_some(()));
    place.copy(&desk, "large", "monitored").succeeds();
    assert_eq!(place.verdicts()["would_deny"], 1);

    place.attach(&settings, "enforce").says(&["it refuses"]);
    within(EFFECT, || {
        let status = place.gateway.cli(&["policy", "status", "--json"]).json();
        (status["policies"][0]["running"]["mode"] == "enforce").then_some(())
    });
    let refused = place.copy(&desk, "large", "enforced").fails();
    refused.says(&["denied: policy few-layers of acme: this image has 3 layers, limit 2"]);
    place.copy(&desk, "small", "enforced").succeeds();

    place.gateway.cli(&["policy", "detach", "acme", "few-layers"]);
    within(EFFECT, || (place.copy(&desk, "large", "detached").run().code == Some(0)).then_some(()));
}
