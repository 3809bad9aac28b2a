//! Policies at the gateway: asked at every hook, in force within two seconds, told in their own words; and the commands around
//! them.

mod artifacts;
mod catalog;
mod hooks;
mod records;
mod rollout;
mod tags;
mod tokens;
mod unjudged;

use portcullis_tests::command::{Output, Run};
use portcullis_tests::gateway::Gateway;
use portcullis_tests::http::Response;
use portcullis_tests::registry::Registry;
use portcullis_tests::scene::{House, Scene};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// A policy that comes with Portcullis, as `cargo xtask policies` has built it.
#[track_caller]
fn shipped(name: &str) -> PathBuf {
    let component =
        Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../policies-wasm/target/components/{name}.wasm"));
    assert!(component.is_file(), "missing: {} (`make policies` builds it)", component.display());
    component
}

/// `policy attach` with settings and options; `owner` is a project, or `--platform`.
fn attaching(gateway: &Gateway, owner: &str, component: &Path, settings: &Value, options: &[&str]) -> Run {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let file = gateway.data_dir().join(format!("settings-{}.json", COUNT.fetch_add(1, Ordering::Relaxed)));
    std::fs::create_dir_all(gateway.data_dir()).expect("the gateway's own directory");
    std::fs::write(&file, settings.to_string()).expect("the gateway's own directory");
    gateway.command(&["policy", "attach", owner]).arg(component).arg("--settings").arg(file).args(options).arg("--json")
}

#[track_caller]
fn attach(gateway: &Gateway, owner: &str, component: &str, settings: &Value, options: &[&str]) -> Output {
    attaching(gateway, owner, &shipped(component), settings, options).succeeds()
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
