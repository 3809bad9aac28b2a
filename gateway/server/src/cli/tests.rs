use super::*;
use crate::config::{self, Config};
use clap::CommandFactory;
use serde_json::{Value, json};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;

const URL: &str = "https://registry.example.com:8443";

fn config(dir: &Path) -> Config {
    // Nothing listens on the upstream's port: what asks it finds it out of reach.
    let text = format!(
        "data_dir = \"data\"\n[server]\npublic_url = \"{URL}\"\nlisten = \"127.0.0.1:8443\"\n[upstream]\nurl = \"http://127.0.0.1:1\"\n[store]\nstale_max_s = 2\n"
    );
    config::parse(&text, Path::new("portcullis.toml"), dir, &|path| std::fs::read(path)).unwrap()
}

/// One command line after the other on one deployment.
struct Shell {
    dir: tempfile::TempDir,
}

impl Shell {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn run(&self, line: &str) -> Result<Answer, Failure> {
        let arguments = std::iter::once("portcullis").chain(line.split(' '));
        let cli = Cli::try_parse_from(arguments).unwrap_or_else(|error| panic!("{line}: {error}"));
        let session = Session::open(config(self.dir.path()));
        block_on(async {
            let session = session.await?;
            match cli.command {
                Command::Project(command) => project::run(command, &session).await,
                Command::Robot(command) => robot::run(command, &session).await,
                Command::Grant(command) => grant::run(command, &session).await,
                Command::Key(command) => key::run(command, &session).await,
                Command::Quota(command) => quota::run(command, &session).await,
                Command::Maintenance(command) => maintenance::run(command, &session).await,
                Command::Backup { file } => backup::back_up(&file, &session).await,
                Command::Doctor => doctor::run(Path::new("portcullis.toml"), &session.config).await,
                Command::Policy(policy::Command::Operate(command)) => policy::operate(command, &session).await,
                _ => unreachable!(),
            }
        })
    }

    fn json(&self, line: &str) -> Value {
        self.run(line).unwrap_or_else(|failure| panic!("{line}: {failure}")).json
    }

    fn text(&self, line: &str) -> String {
        self.run(line).unwrap_or_else(|failure| panic!("{line}: {failure}")).text
    }

    fn refusal(&self, line: &str) -> String {
        match self.run(line) {
            Err(Failure::Refused(message)) => message,
            other => panic!("{line}: {other:?}"),
        }
    }
}

fn parse(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(line.split(' '))
}

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

#[test]
fn the_definitions_hold_together() {
    Cli::command().debug_assert();
}

#[test]
fn config_and_json_stand_before_or_after_the_command() {
    for line in [
        "portcullis --json --config x.toml project list",
        "portcullis project --json list --config x.toml",
        "portcullis project list --config=x.toml --json",
        "portcullis --json --config x.toml policy test",
        "portcullis policy test --json --config x.toml",
    ] {
        let cli = parse(line).unwrap();
        assert!(cli.json && cli.config.as_deref() == Some(Path::new("x.toml")), "{line}");
    }
}

#[test]
fn every_command_of_the_manual_is_understood() {
    for line in [
        "serve",
        "check-config",
        "doctor",
        "project create acme",
        "project create acme --public --upstream-prefix tenants/acme --adopt",
        "project list",
        "project show acme",
        "project delete acme",
        "project delete acme --purge --yes",
        "robot create acme ci --role pull",
        "robot create acme ci --role push --expires 90d --from 10.0.0.0/8 --from ::1,192.0.2.0/24",
        "robot create acme ci --grant acme/**=pull --grant globex/base=pull,push --harbor",
        "robot create acme ci --grant acme/app=*",
        "robot list",
        "robot list acme",
        "robot rotate acme ci",
        "robot rotate acme ci --grace 24h --harbor",
        "robot disable acme ci",
        "robot enable acme ci",
        "robot delete acme ci",
        "grant list",
        "grant list acme",
        "grant accept id",
        "grant refuse id",
        "key rotate",
        "audit tail",
        "audit tail --follow -n 50",
        "audit search --project acme --robot acme+ci --kind push --address 192.0.2.1 --since 12h --until 2026-11-27",
        "audit verify",
        "audit verify --checkpoint a --checkpoint b --file c --file d",
        "audit verify --public-key key --file c",
        "audit checkpoint",
        "audit export --since 2026-11-27T08:00:00Z",
    ] {
        parse(&format!("portcullis {line}")).unwrap_or_else(|error| panic!("{line}: {error}"));
    }
}

#[test]
fn wrong_usage_is_refused_with_exit_code_2() {
    for line in [
        "",
        "start",
        "project",
        "project create",
        "robot create acme ci",
        "robot create acme ci --role owner",
        "robot create acme ci --role pull --grant acme/**=pull",
        "robot create acme ci --grant acme/**",
        "robot create acme ci --grant acme/**=fetch",
        "robot create acme ci --grant acme/**=",
        "robot create acme ci --grant */app=pull",
        "robot create acme ci --role pull --expires 90",
        "audit",
        "audit search --kind pusch",
        "audit search --since yesterday",
        "audit verify --public-key key",
        "robot create acme ci --role pull --from 10.0.0.1/8",
        "robot rotate acme ci --grace 1x",
        "grant accept",
    ] {
        let error = parse(&format!("portcullis {line}")).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{line}: {error}");
    }
}

#[test]
fn the_first_usual_place_that_is_there_is_taken_unless_one_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let (near, far) = (dir.path().join("near.toml"), dir.path().join("far.toml"));
    let usual = [near.as_path(), far.as_path()];
    assert!(matches!(find_config(None, &usual), Err(Failure::Usage(message)) if message.contains("--config")));
    std::fs::write(&far, "").unwrap();
    assert_eq!(find_config(None, &usual).unwrap(), far);
    std::fs::write(&near, "").unwrap();
    assert_eq!(find_config(None, &usual).unwrap(), near);
    assert_eq!(find_config(Some("named.toml".into()), &usual).unwrap(), Path::new("named.toml"));
}

#[test]
fn a_robot_is_created_with_lines_to_paste_and_listed_without_its_secret() {
    let shell = Shell::new();
    shell.run("project create acme --adopt").unwrap();
    let made = shell.json("robot create acme ci --role push");
    assert_eq!(keys(&made), ["project", "registry", "token", "username"]);
    assert_eq!(made["username"], "acme+ci");
    assert_eq!(made["registry"], "registry.example.com:8443");
    assert_eq!(made["project"], "acme");
    let token = made["token"].as_str().unwrap();
    assert!(token.starts_with("pcr_"));

    let text = shell.text("robot create acme reader --role pull --harbor");
    let line = text.lines().find(|line| line.contains("docker login")).unwrap();
    assert!(line.trim().starts_with("echo 'pcr_"), "{line}");
    assert!(
        line.ends_with("| docker login registry.example.com:8443 --username 'robot$acme+reader' --password-stdin"),
        "{line}"
    );

    let listed = shell.run("robot list acme").unwrap();
    assert!(!listed.text.contains("pcr_") && !listed.json.to_string().contains("pcr_"));
    let robot = &listed.json[0];
    assert_eq!(
        keys(robot),
        [
            "created_at",
            "disabled_at",
            "expires_at",
            "grants",
            "name",
            "project",
            "role",
            "secrets",
            "source_networks",
            "state",
            "username"
        ]
    );
    assert_eq!(
        (&robot["username"], &robot["role"], &robot["state"]),
        (&json!("acme+ci"), &json!("push"), &json!("active"))
    );
    assert_eq!(robot["grants"][0]["pattern"], "acme/**");
    assert_eq!(robot["grants"][0]["actions"], json!(["pull", "push"]));
}

#[test]
fn a_rotation_leaves_the_old_secret_its_grace() {
    let shell = Shell::new();
    shell.run("project create acme --adopt").unwrap();
    let first = shell.json("robot create acme ci --role push");
    let second = shell.json("robot rotate acme ci --grace 1h");
    assert_eq!(keys(&second), ["previous_until", "project", "registry", "token", "username"]);
    assert_ne!(first["token"], second["token"]);
    let robot = &shell.json("robot list acme")[0];
    assert_eq!(robot["secrets"].as_array().unwrap().len(), 2);
    assert_eq!(robot["secrets"][0]["expires_at"], Value::Null);
    assert_eq!(robot["secrets"][1]["expires_at"], second["previous_until"]);
}

#[test]
fn a_robot_is_disabled_enabled_and_deleted() {
    let shell = Shell::new();
    shell.run("project create acme --adopt").unwrap();
    shell.run("robot create acme ci --role push").unwrap();
    let disabled = shell.json("robot disable acme ci");
    assert_eq!(disabled["state"], "disabled");
    assert_eq!(shell.json("robot disable acme ci")["disabled_at"], disabled["disabled_at"]);
    assert_eq!(shell.json("robot enable acme ci")["state"], "active");
    shell.run("robot delete acme ci").unwrap();
    assert_eq!(shell.json("robot list"), json!([]));
    assert!(shell.refusal("robot disable acme ci").contains("portcullis robot list acme"));
}

#[test]
fn a_grant_on_a_foreign_project_waits_for_its_consent() {
    let shell = Shell::new();
    shell.run("project create acme --adopt").unwrap();
    shell.run("project create globex --adopt --public").unwrap();
    let text = shell.text("robot create acme ci --grant globex/base=pull --grant acme/**=pull,push");
    let asked = shell.json("grant list globex");
    assert_eq!(keys(&asked[0]), ["actions", "consent", "id", "pattern", "project", "robot"]);
    let id = asked[0]["id"].as_str().unwrap();
    assert!(text.contains(&format!("portcullis grant accept {id}")), "{text}");
    assert_eq!(asked[0]["consent"], "pending");
    assert_eq!(shell.json(&format!("grant accept {id}"))["consent"], "accepted");
    assert_eq!(shell.json(&format!("grant refuse {id}"))["consent"], "refused");
    assert_eq!(shell.json("grant list acme"), json!([]));
    assert_eq!(shell.json("project show globex")["foreign_grants"][0]["id"], id);
}

#[test]
fn a_project_is_not_created_over_what_nobody_could_look_at() {
    let shell = Shell::new();
    let message = shell.refusal("project create acme");
    assert!(message.contains("could not be asked") && message.contains("--adopt"), "{message}");
    let made = shell.json("project create acme --adopt --public --upstream-prefix tenants/acme");
    assert_eq!(keys(&made), ["created_at", "deleted_at", "id", "name", "public", "upstream_prefix"]);
    assert_eq!((&made["upstream_prefix"], &made["public"]), (&json!("tenants/acme"), &json!(true)));
    assert_eq!(shell.json("project list")[0], made);
    // Taken, whatever the upstream would say.
    assert!(shell.refusal("project create acme").contains("taken by the project"));
}

#[test]
fn a_deleted_project_stays_reserved_until_it_is_purged() {
    let shell = Shell::new();
    shell.run("project create acme --adopt").unwrap();
    assert!(matches!(shell.run("project delete acme"), Err(Failure::Usage(message)) if message.contains("--yes")));
    assert!(shell.json("project delete acme --yes")["deleted_at"].is_string());
    assert!(shell.refusal("project delete acme --yes").contains("--purge"));
    assert!(shell.refusal("project create acme --adopt").contains("reserved"));
    assert!(shell.text("project list").contains("name reserved"));
    let purged = shell.json("project delete acme --purge --yes");
    assert_eq!((&purged["purged"], &purged["deleted_manifests"]), (&json!(true), &json!(0)));
    assert_eq!(shell.json("project list"), json!([]));
    shell.run("project create acme --adopt").unwrap();
}

#[test]
fn a_key_is_not_rotated_with_a_foreign_master_key() {
    let shell = Shell::new();
    let rotated = shell.json("key rotate");
    assert_eq!(keys(&rotated), ["algorithm", "kid", "signs_from"]);
    shell.run("key rotate").unwrap();
    let file = shell.dir.path().join("data/master.key");
    std::fs::remove_file(&file).unwrap();
    assert!(shell.refusal("key rotate").contains("is missing"));
    assert!(!file.exists());
    std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&file)
        .unwrap()
        .write_all(&[7; 32])
        .unwrap();
    assert!(shell.refusal("key rotate").contains("not sealed with this master key"));
}

#[test]
fn the_doctor_names_what_is_wrong_and_fails() {
    let shell = Shell::new();
    shell.run("key rotate").unwrap();
    let answer = shell.run("doctor").unwrap();
    assert!(answer.failed);
    assert_eq!(answer.json["ok"], false);
    let level = |about: &str| {
        let findings = answer.json["findings"].as_array().unwrap();
        findings.iter().find(|finding| finding["about"] == about).map(|finding| finding["level"].clone())
    };
    for (about, expected) in [
        ("configuration", "ok"),
        ("data_dir", "ok"),
        ("master key", "ok"),
        ("store", "ok"),
        ("keys", "ok"),
        ("certificate", "warning"),
        ("upstream", "error"),
    ] {
        assert_eq!(level(about), Some(json!(expected)), "{about}: {}", answer.text);
    }
    for finding in answer.json["findings"].as_array().unwrap() {
        assert_eq!(finding["level"] == "ok", finding["advice"] == "", "{finding}");
    }
}
