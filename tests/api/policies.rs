//! Policies at the gateway: asked at every hook, in force within two seconds, told in their own words; and the commands around
//! them.

mod artifacts;
mod catalog;
mod compiler;
mod hooks;
mod records;
mod rollout;
mod tags;
mod tokens;
mod unjudged;

use portcullis_tests::command::Output;
use portcullis_tests::gateway::Gateway;
use portcullis_tests::guest;
use portcullis_tests::http::Response;
use portcullis_tests::registry::Registry;
use portcullis_tests::scene::{House, Scene};
use serde_json::Value;

/// Attaches a policy that comes with Portcullis; `owner` is a project, or `--platform`.
#[track_caller]
fn attach(gateway: &Gateway, owner: &str, policy: &str, settings: &Value, options: &[&str]) -> Output {
    gateway.attach(owner, &guest::shipped(policy), settings.clone(), options)
}

/// A scene in which something is attached before the gateway serves.
#[track_caller]
fn scene(prepare: impl FnOnce(&Gateway)) -> Scene {
    let registry = Registry::start();
    let mut gateway = Gateway::before(&registry.url()).stopped();
    let (acme, globex) = (gateway.persona("acme"), gateway.persona("globex"));
    prepare(&gateway);
    gateway.serve();
    Scene { house: House { gateway, acme, globex }, registry }
}

/// Fails the test unless a policy refused it in these words.
#[track_caller]
fn denied(answer: Response, message: &str) -> Response {
    let answer = answer.refused(403, "DENIED");
    assert_eq!(answer.json()["errors"][0]["message"], message, "{answer}");
    answer
}
