//! The access log: what happened, by whom, how it was decided. Never a secret, at any level.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Method;
use portcullis_tests::http::Credentials;
use portcullis_tests::image::Manifest;
use portcullis_tests::repository::with_digest;
use portcullis_tests::scene::{House, Scene, within};
use serde_json::Value;
use std::time::Duration;

fn lines(house: &House) -> Vec<Value> {
    let log = house.gateway.log();
    let whole = log.rsplit_once('\n').map_or("", |(whole, _)| whole).to_owned();
    let json = whole.lines().filter(|line| !line.starts_with("portcullis ready "));
    json.map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
}

/// The access line of the last request of this kind, once there is one.
fn access(house: &House, operation: &str, status: u16) -> Value {
    within(Duration::from_secs(20), || {
        let of_that =
            |line: &Value| line["target"] == "access" && line["operation"] == operation && line["status"] == status;
        lines(house).into_iter().rev().find(of_that)
    })
}

#[test]
fn every_request_leaves_one_line_with_all_that_it_was() {
    let scene = Scene::with(|builder| builder.set("log.format", "json"));
    let (repository, image) = (scene.acme("logged"), Manifest::image(1, 1000));
    repository.push("1.0", &image);
    let line = access(&scene, "manifest-push", 201);
    let owner = scene.acme.admin.username.as_str();
    for (field, expected) in [
        ("project", Value::from("acme")),
        ("repository", "acme/logged".into()),
        ("robot", owner.into()),
        ("decision", "allow".into()),
        ("bytes.received", image.blob.bytes.len().into()),
        ("bytes.sent", 0.into()),
        ("client.address", "127.0.0.1".into()),
        ("http.version", "1.1".into()),
        ("trace.id", Value::Null),
        ("level", "INFO".into()),
    ] {
        assert_eq!(line[field], expected, "{field}\n{line}");
    }
    assert!(line["duration.ms"].as_f64().is_some_and(|ms| ms > 0.0) && line["timestamp"].is_string(), "{line}");

    repository.blob(&image.blobs[1].digest).expect(200);
    assert_eq!(access(&scene, "blob-pull", 200)["bytes.sent"], image.blobs[1].bytes.len());

    let challenge = scene.gateway.http().get("/v2/acme/logged/tags/list").send().expect(401);
    let line = access(&scene, "tags-list", 401);
    assert_eq!((&line["decision"], &line["robot"]), (&"challenge".into(), &Value::Null));
    assert_eq!(line["request.id"], challenge.header("x-request-id"), "the id that the client was told");
    repository.manifest("none").expect(404);
    assert_eq!(access(&scene, "manifest-pull", 404)["decision"], "refuse");
    scene.gateway.ask_token(&scene.acme.pull.credentials(), &["repository:acme/logged:pull"]).expect(200);
    assert_eq!(access(&scene, "token", 200)["robot"], scene.acme.pull.username.as_str());

    let access_lines = lines(&scene).into_iter().filter(|line| line["target"] == "access");
    let mut ids: Vec<_> = access_lines.map(|line| line["request.id"].to_string()).collect();
    let all = ids.len();
    ids.sort();
    ids.dedup();
    assert_eq!((ids.len(), ids.contains(&"\"\"".to_owned())), (all, false), "one line a request");
}

#[test]
fn a_user_agent_is_written_down_bounded_and_in_plain_characters() {
    let scene = Scene::with(|builder| builder.set("log.format", "json"));
    let ask = |agent: &[u8], http2: bool| {
        let ping = scene.gateway.http().get("/v2/").header("user-agent", agent);
        let answer = if http2 { ping.http2() } else { ping }.send().expect(401);
        let id = answer.header("x-request-id");
        within(Duration::from_secs(20), || lines(&scene).into_iter().find(|line| line["request.id"] == id.as_str()))
    };
    let line = ask(b"docker/28.0 go/1.22", true);
    assert_eq!((&line["user.agent"], &line["http.version"]), (&"docker/28.0 go/1.22".into(), &"2".into()));
    let line = ask("a\u{202e}b\tc".as_bytes(), false);
    assert_eq!((&line["user.agent"], &line["http.version"]), (&"a???b?c".into(), &"1.1".into()));
    assert_eq!(ask(&[b'x'; 5000], false)["user.agent"], "x".repeat(200));
}

#[test]
fn every_error_carries_the_requests_id() {
    let scene = Scene::shared();
    let http = scene.gateway.http();
    let who = scene.acme.pull.credentials();
    let wrong = Credentials::Basic("acme+nobody".to_owned(), "wrong".to_owned());
    for answer in [
        http.get("/v2/").send(),
        http.get("/nothing").send(),
        http.get("/v2/acme/a/manifests/none").with(&who).send(),
        http.get("/v2/globex/a/tags/list").with(&who).send(),
        http.get("/v2/acme/a/tags/list?n=x").with(&who).send(),
        http.get("/token?service=portcullis").with(&wrong).send(),
        http.get("/token?service=another").with(&who).send(),
        http.post("/token").body("x").send(),
        http.post("/token").form(&[("grant_type", "refresh_token"), ("refresh_token", "x")]).send(),
        http.put("/token").send(),
        http.post("/.well-known/jwks.json").send(),
        http.get("/v2/").header("host", "another.example").send(),
    ] {
        let id = answer.header("x-request-id");
        assert!(answer.status >= 400 && !id.is_empty(), "{answer}");
        assert_eq!(answer.json()["errors"][0]["detail"]["request_id"], id, "{answer}");
    }
}

#[test]
fn a_download_that_breaks_off_says_so() {
    let scene = Scene::with(|builder| builder.set("log.format", "json"));
    let image = Manifest::image(1, 200_000);
    let repository = scene.acme("broken");
    repository.push("1.0", &image);
    let layer = &image.blobs[1].digest;
    let hex = layer.trim_start_matches("sha256:");
    let data =
        scene.registry.repositories().parent().map(|v2| v2.join("blobs/sha256").join(&hex[..2]).join(hex).join("data"));
    let data = data.expect("repositories stand beside blobs");
    let mut bytes = std::fs::read(&data).expect("the registry's own file");
    bytes[500] ^= 1;
    std::fs::write(&data, bytes).expect("the registry's own file");
    repository.request(Method::GET, &format!("blobs/{layer}")).attempt().expect_err("rotten bytes ended well");
    within(Duration::from_secs(20), || {
        lines(&scene).into_iter().find(|line| line["target"] == "access" && line["failure"].is_string())
    });
}

#[test]
fn a_request_id_from_outside_is_taken_from_listed_networks_alone() {
    let scene = Scene::shared();
    let ours = scene.gateway.http().get("/v2/").header("x-request-id", "from-outside").send().expect(401);
    assert_ne!(ours.header("x-request-id"), "from-outside");
    let networks: toml_edit::Array = ["127.0.0.0/8"].into_iter().collect();
    let trusting = Scene::with(|builder| builder.set("log.trusted_networks", networks));
    let ask = |id: &str| {
        trusting.gateway.http().get("/v2/").header("x-request-id", id).send().expect(401).header("x-request-id")
    };
    assert_eq!(ask("from-outside"), "from-outside");
    for odd in ["a b", "a\"b", &"a".repeat(65), "", "a=b", "\u{1f600}"] {
        assert_ne!(ask(odd), odd);
    }
}

#[test]
fn hostile_text_reaches_no_log_as_it_is() {
    let scene = Scene::with(|builder| builder.set("log.level", "trace").set("log.format", "text"));
    let http = scene.gateway.http();
    let host = scene.gateway.authority();
    for line in [
        "GET /v2/acme/a%1b%5b31m/tags/list",
        "GET /v2/acme/\u{202e}/tags/list",
        "GET /v2/acme/x/tags/list?n=%1b\u{202e}",
    ] {
        let agent = "\u{202e}evil\u{9b}31m";
        let mut raw = portcullis_tests::raw::Raw::connect(&http);
        raw.send(format!("{line} HTTP/1.1\r\nhost: {host}\r\nuser-agent: {agent}\r\nx-request-id: {agent}\r\n\r\n"));
        assert_eq!(raw.answer().expect("an answer").status, 400, "{line}");
    }
    let wrong = Credentials::Basic("acme+\u{202e}\u{1b}[31m".to_owned(), "x".to_owned());
    http.get("/token?service=portcullis").with(&wrong).send().expect(401);
    let log = within(Duration::from_secs(20), || {
        let log = scene.gateway.log();
        log.contains("status=401").then_some(log)
    });
    assert!(log.contains("user.agent=\"???evil"), "what it said stands there, made harmless\n{log}");
    assert!(!log.contains(['\u{202e}', '\u{1b}', '\u{9b}']), "{log:?}");
}

#[test]
fn no_secret_is_logged_at_any_level() {
    let scene = Scene::with(|builder| builder.set("log.format", "json").set("log.level", "trace"));
    let (who, http) = (scene.acme.admin.credentials(), scene.gateway.http());
    let Credentials::Basic(username, secret) = &who else { unreachable!("a robot's") };
    let mut secrets = vec![secret.clone(), STANDARD.encode(format!("{username}:{secret}"))];

    let login =
        http.get("/token?service=portcullis&account=x&offline_token=true&scope=repository:acme/quiet:pull,push");
    let login = login.with(&who).send().expect(200).json();
    for name in ["token", "refresh_token"] {
        let token = login[name].as_str().expect("a token").to_owned();
        secrets.extend(token.split('.').map(str::to_owned));
        secrets.push(token);
    }
    let form = [
        ("grant_type", "password"),
        ("username", username),
        ("password", secret),
        ("service", "portcullis"),
        ("scope", "repository:acme/quiet:pull"),
    ];
    http.post("/token").form(&form).send().expect(200);
    let refresh = login["refresh_token"].as_str().expect("a token");
    let form = [
        ("grant_type", "refresh_token"),
        ("refresh_token", refresh),
        ("service", "portcullis"),
        ("scope", "repository:acme/quiet:pull"),
    ];
    let refreshed = http.post("/token").form(&form).http2().send().expect(200).json();
    let token = Credentials::Bearer(refreshed["token"].as_str().expect("a token").to_owned());
    secrets.push(refreshed["token"].as_str().expect("a token").to_owned());
    http.get("/token?service=portcullis")
        .with(&Credentials::Basic(username.clone(), "a-wrong-secret-of-mine".to_owned()))
        .send()
        .expect(401);
    secrets.push("a-wrong-secret-of-mine".to_owned());

    for who in [&who, &Credentials::Bearer(login["token"].as_str().expect("a token").to_owned())] {
        for http2 in [false, true] {
            let repository = scene.gateway.repository("acme/quiet", who);
            let mut image = Manifest::image(1, 100);
            let marker = format!("a-blob-of-mine-{}", image.digest());
            image.blobs.push(portcullis_tests::image::Blob::new("text/plain", marker.clone()));
            secrets.push(marker);
            for blob in &image.blobs {
                let post = repository.request(Method::POST, "blobs/uploads/");
                let location = if http2 { post.http2() } else { post }.send().expect(202).header("location");
                secrets.push(location.rsplit('/').next().unwrap_or_default().to_owned());
                let put = repository.at(Method::PUT, &with_digest(&location, &blob.digest)).body(blob.bytes.clone());
                if http2 { put.http2() } else { put }.send().expect(201);
                let pull = repository.request(Method::GET, &format!("blobs/{}", blob.digest));
                if http2 { pull.http2() } else { pull }.send().expect(200);
            }
            repository.put_manifest("1.0", &image).expect(201);
            repository.pull("1.0", &Manifest { blobs: Vec::new(), ..image });
        }
    }
    scene.gateway.repository("acme/quiet", &token).manifest("1.0").expect(200);
    scene.gateway.cli(&["robot", "rotate", "acme", "owner"]);

    let log = scene.gateway.log();
    assert!(log.contains("manifest-push"), "the session is in the log");
    for secret in secrets.iter().filter(|secret| secret.len() > 8) {
        if let Some(at) = log.find(secret.as_str()) {
            let line = log[..at].rfind('\n').map_or(0, |start| start + 1);
            panic!("a secret is in the log: {:.300}", &log[line..]);
        }
    }
    let master = std::fs::read(scene.gateway.data_dir().join("master.key")).expect("the gateway's own file");
    let hex = master.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"));
    assert!(!log.contains(&hex) && !log.contains(&STANDARD.encode(&master)));
}
