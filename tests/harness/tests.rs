//! The floor holds: each part does what the tests that stand on it take for granted.

use crate::command::Run;
use crate::faults::{Answer, Faults};
use crate::gateway::Gateway;
use crate::http::{Credentials, Http};
use crate::image::{Blob, Manifest, sha256};
use crate::postgres::Postgres;
use crate::process::{Process, Signal, owned};
use crate::raw::Raw;
use crate::registry::Registry;
use crate::repository::Repository;
use std::time::{Duration, Instant};

#[test]
fn a_registry_takes_an_index_and_gives_it_back() {
    let registry = Registry::start();
    let repository = Repository::new(&registry.http(), "a/b", &Credentials::None);
    let index = Manifest::index(vec![("amd64", Manifest::image(2, 1000)), ("arm64", Manifest::image(1, 1))]);
    repository.push("1", &index);
    repository.pull("1", &index);
    assert_eq!(repository.tags(), ["1"]);
    assert!(registry.repositories().join("a/b/_manifests").is_dir());
}

#[test]
fn a_registry_keeps_what_it_had_when_it_is_killed_and_revived() {
    let mut registry = Registry::start();
    let repository = Repository::new(&registry.http(), "a", &Credentials::None);
    let image = Manifest::image(1, 1000);
    repository.push("1", &image);
    registry.kill();
    assert!(registry.http().get("/v2/").attempt().is_err());
    registry.revive();
    repository.pull("1", &image);
}

#[test]
fn a_registry_with_a_login_wants_it() {
    let registry = Registry::with_login();
    registry.http().get("/v2/").send().expect(401);
    registry.http().get("/v2/").with(&registry.credentials()).send().expect(200);
}

#[test]
fn skopeo_takes_the_images_that_tests_make() {
    // As root it keeps a cache in a directory of the whole machine.
    crate::machine::alone(|| {
        let registry = Registry::start();
        let directory = tempfile::tempdir().unwrap();
        let image = Manifest::image(2, 1000);
        image.write_layout(directory.path(), "x");
        Run::new("skopeo")
            .args(["copy", "--preserve-digests", "--dest-tls-verify=false"])
            .arg(format!("oci:{}:x", directory.path().display()))
            .arg(registry.url().replace("http:", "docker:") + "/a:1")
            .succeeds();
        Repository::new(&registry.http(), "a", &Credentials::None).pull("1", &image);
    });
}

#[test]
fn the_digest_of_nothing_is_the_known_one() {
    let known = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    assert_eq!(sha256(b""), known);
}

#[test]
fn a_layer_is_an_archive_that_tar_reads() {
    let directory = tempfile::tempdir().unwrap();
    let archive = directory.path().join("layer.tar");
    std::fs::write(&archive, Blob::layer(1234).bytes).unwrap();
    let listed = Run::new("tar").arg("-tvf").arg(&archive).succeeds();
    assert!(listed.stdout.contains(" 1234 ") && listed.stdout.contains("file-"), "{listed}");
}

#[test]
fn postgres_serves_a_database_on_a_socket_and_survives_its_own_death() {
    let server = Postgres::start();
    let first = server.database();
    assert!(first.starts_with("postgres://postgres@localhost/test_"), "{first}");
    server.kill();
    server.revive();
    assert_ne!(server.database(), first);
}

#[test]
fn a_program_that_outlives_its_limit_is_killed_with_its_children() {
    let before = Instant::now();
    let run = Run::new("sh").args(["-c", "sleep 300 & sleep 300"]).limit(Duration::from_millis(200));
    let died = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run.run()));
    assert!(died.is_err() && before.elapsed() < Duration::from_secs(60));
}

#[test]
fn a_program_reads_its_input_and_says_how_it_ended() {
    let output = Run::new("sh").args(["-c", "cat; echo no >&2; exit 3"]).stdin("yes").fails();
    assert_eq!((output.code, output.stdout.as_str(), output.stderr.as_str()), (Some(3), "yes", "no\n"));
}

#[test]
fn a_child_is_gone_when_its_owner_lets_go_of_it() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = owned("sh");
    command.args(["-c", "trap 'echo bye; exit 7' TERM; echo up; while :; do sleep 0.01; done"]);
    let mut child = Process::start("a shell", command, &directory.path().join("log"));
    child.wait_ready(|child| child.log().contains("up").then_some(()));
    child.signal(Signal::Term);
    assert_eq!(child.wait(Duration::from_secs(10)).code(), Some(7));
    assert_eq!(child.log(), "up\nbye\n");
    let mut command = owned("sleep");
    command.arg("300");
    let child = Process::start("a sleeper", command, &directory.path().join("log"));
    let process = std::path::PathBuf::from(format!("/proc/{}", child.id()));
    assert!(process.exists());
    drop(child);
    assert!(!process.exists());
}

#[test]
fn a_scripted_upstream_cuts_stalls_lies_and_hangs_up() {
    let faults = Faults::scripted(|seen| match seen.path() {
        "/cut" => Answer::status(200).body("0123456789").cut_after(4),
        "/stall" => Answer::status(200).body("0123456789").stall_after(4),
        "/lie" => Answer::status(200).body("0123456789").claiming(20),
        "/silent" => Answer::silence(),
        "/hang-up" => Answer::hang_up(),
        _ => Answer::status(418).header("x-body", &String::from_utf8_lossy(&seen.body)),
    });
    let http = Http::new(&faults.url(), None);
    let short = Duration::from_millis(300);
    assert!(http.get("/cut").attempt().is_err());
    assert!(http.get("/stall").limit(short).attempt().is_err());
    assert!(http.get("/lie").limit(short).attempt().is_err());
    assert!(http.get("/silent").limit(short).attempt().is_err());
    assert!(http.get("/hang-up").attempt().is_err());
    let answer = http.post("/else?x=1").body("hello").send().expect(418);
    assert_eq!(answer.header("x-body"), "hello");
    let seen = faults.wait_for(|seen| seen.target == "/else?x=1");
    assert!(seen.whole && seen.method == "POST");
}

#[test]
fn a_fault_in_front_of_a_registry_lets_the_rest_through() {
    let registry = Registry::start();
    let faults = Faults::before(&registry.url(), |seen| {
        (seen.method == "GET" && seen.path().contains("/blobs/sha256:"))
            .then(|| Answer::status(200).body("not what was asked for"))
    });
    let repository = Repository::new(&Http::new(&faults.url(), None), "a", &Credentials::None);
    let image = Manifest::image(1, 100_000);
    repository.push("1", &image);
    assert_eq!(repository.manifest("1").expect(200).body, image.blob.bytes);
    assert_eq!(repository.blob(image.digest()).body, "not what was asked for");
    Repository::new(&registry.http(), "a", &Credentials::None).pull("1", &image);
}

#[test]
fn a_raw_connection_sends_what_no_client_would() {
    let registry = Registry::start();
    let mut raw = Raw::connect(&registry.http());
    raw.send("GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\nGET /v2/%00 NONSENSE\r\n\r\n");
    assert_eq!(raw.answer().unwrap().status, 200);
    assert_eq!(raw.answer().unwrap().status, 400);
    let (_, in_order) = raw.rest();
    assert!(in_order);
}

#[test]
fn a_machine_of_its_own_has_a_name_for_itself_and_nothing_else_on_it() {
    crate::machine::alone(|| {
        let hosts = std::fs::read_to_string("/etc/hosts").unwrap();
        assert!(hosts.contains("10.99.0.1 registry.test"), "{hosts}");
        assert_eq!(std::fs::read_dir("/etc/docker").unwrap().count(), 0);
        assert_eq!(std::process::id(), 1);
        std::net::TcpListener::bind((crate::machine::ADDRESS, 443)).unwrap();
    });
}

#[test]
fn a_gateway_keeps_what_it_had_when_it_is_killed_and_serves_again() {
    let registry = Registry::start();
    let mut gateway = Gateway::before(&registry.url()).start();
    let acme = gateway.persona("acme");
    let image = Manifest::image(2, 1000);
    gateway.repository("acme/app", &acme.push.credentials()).push("1", &image);
    gateway.kill();
    assert!(gateway.http().get("/v2/").attempt().is_err());
    gateway.serve();
    gateway.repository("acme/app", &acme.pull.credentials()).pull("1", &image);
    gateway.stop();
}

#[test]
fn a_gateway_is_reached_over_both_versions_of_http_and_by_raw_bytes() {
    let registry = Registry::start();
    let gateway = Gateway::before(&registry.url()).start();
    let acme = gateway.persona("acme");
    let token = gateway.token(&acme.pull.credentials(), &["repository:acme/app:pull"]);
    gateway.http().get("/v2/").with(&token).send().expect(200);
    gateway.http().get("/v2/").with(&token).http2().send().expect(200);
    let mut raw = Raw::connect(&gateway.http());
    raw.send(format!("GET /v2/ HTTP/1.1\r\nHost: {}\r\n\r\n", gateway.authority()));
    assert_eq!(raw.answer().unwrap().status, 401);
    gateway.management().get("/healthz").send().expect(200);
}

#[test]
fn a_gateway_without_tls_is_reached_without_tls() {
    let registry = Registry::start();
    let gateway = Gateway::before(&registry.url()).set("server.tls", "off").start();
    assert!(gateway.origin().starts_with("http://"));
    gateway.http().get("/v2/").send().expect(401);
}

#[test]
fn two_nodes_on_one_store_know_the_same_robots() {
    let registry = Registry::start();
    let postgres = std::sync::Arc::new(Postgres::start());
    let first = Gateway::before(&registry.url()).postgres(&postgres).start();
    let acme = first.persona("acme");
    let mut second = first.second_node();
    second.serve();
    let token = first.token(&acme.pull.credentials(), &[]);
    second.http().get("/v2/").with(&token).send().expect(200);
}

#[test]
fn a_secret_in_the_audit_trail_or_its_export_is_found_on_either_store() {
    let builders =
        [Gateway::before("http://127.0.0.1:1"), Gateway::before("http://127.0.0.1:1").postgres(&Postgres::shared())];
    for builder in builders {
        let mut gateway = builder.exporting().stopped();
        gateway.may_tell_secrets();
        let secret = gateway.persona_unasked("acme").push.token;
        let found = || -> Vec<&str> {
            let told = gateway.told();
            told.iter()
                .filter(|(what, text)| !gateway.secrets_in(what, text).is_empty())
                .map(|(what, _)| *what)
                .collect()
        };
        assert_eq!(found(), Vec::<&str>::new());
        gateway.sql(&format!("UPDATE audit SET reason = '{secret}' WHERE kind = 'robot-create';"));
        assert_eq!(found(), ["the audit records"]);
        let line = gateway.cli(&["audit", "search", "--kind", "robot-create", "--json"]).json()[0].to_string();
        std::fs::write(gateway.export_file(), line).expect("the test's own directory");
        assert_eq!(found(), ["the audit records", "the audit export"]);
    }
}
