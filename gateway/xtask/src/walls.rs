//! The walls between the rooms: which crate of ours may know which other, and who may know what from outside.

use crate::processes::ask;
use crate::workspace;
use serde_json::Value;
use std::process::Command;

/// Each room with the rooms that it may depend on.
const ROOMS: &[(&str, &[&str])] = &[
    ("portcullis-oci", &[]),
    ("portcullis-policy", &["portcullis-oci"]),
    ("portcullis-tenancy", &["portcullis-oci"]),
    ("portcullis-store", &["portcullis-oci", "portcullis-tenancy"]),
    ("portcullis", &["portcullis-oci", "portcullis-policy", "portcullis-tenancy", "portcullis-store"]),
    // The gateway's own readers are in a program, and stand there a second time, with what they know.
    ("portcullis-fuzz", &["portcullis-oci", "portcullis-policy", "portcullis-tenancy"]),
    // To mint what no gateway would issue, the tests read a gateway's keys from its store.
    ("portcullis-tests", &["portcullis-store", "portcullis-tenancy"]),
    ("xtask", &[]),
];

/// What comes from outside and is let into these rooms alone.
const GUESTS: &[(&str, &[&str])] = &[
    ("sqlx", &["portcullis-store"]),
    ("wasmtime", &["portcullis-policy"]),
    ("hyper", &["portcullis", "portcullis-tests"]),
    ("axum", &["portcullis"]),
    ("tokio", &["portcullis", "portcullis-store", "portcullis-tests"]),
    ("anyhow", &["portcullis", "xtask"]),
];

#[test]
fn no_room_depends_on_a_room_above_it() {
    for (name, dependencies) in packages() {
        let allowed = ROOMS.iter().find(|(room, _)| *room == name);
        let (_, allowed) = allowed.unwrap_or_else(|| panic!("{name} is not in the plan of the house"));
        for dependency in dependencies {
            let ours = ROOMS.iter().any(|(room, _)| *room == dependency);
            assert!(!ours || allowed.contains(&dependency.as_str()), "{name} must not know {dependency}");
        }
    }
}

#[test]
fn guests_stay_in_their_rooms() {
    for (name, dependencies) in packages() {
        for dependency in dependencies {
            let rooms = GUESTS.iter().find(|(guest, _)| *guest == dependency).map(|(_, rooms)| *rooms);
            let let_in = rooms.is_none_or(|rooms| rooms.contains(&name.as_str()));
            assert!(let_in, "{name} must not know {dependency}");
        }
    }
}

/// The workspace's packages, each with what it depends on outside of its own tests.
fn packages() -> Vec<(String, Vec<String>)> {
    let mut cargo = Command::new("cargo");
    cargo.args(["metadata", "--no-deps", "--format-version", "1"]).current_dir(workspace().unwrap());
    let metadata: Value = serde_json::from_str(&ask(&mut cargo).unwrap()).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let normal = |d: &&Value| d["kind"].is_null();
    let package = |package: &Value| {
        let dependencies = package["dependencies"].as_array().unwrap();
        (text(&package["name"]), dependencies.iter().filter(normal).map(|d| text(&d["name"])).collect())
    };
    metadata["packages"].as_array().unwrap().iter().map(package).collect()
}
