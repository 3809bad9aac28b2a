//! What a gateway tells of itself holds no secret, whatever clients do. All worlds are looked at when their tests end; here it is
//! seen that there is something to look at, and that a secret would be found.

use crate::world::{World, refused};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use portcullis_tests::http::Credentials;
use portcullis_tests::image::Manifest;
use portcullis_tests::machine::alone;
use portcullis_tests::scene::within;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(30);

/// Logs in by form, and once more with the refresh token; returns both tokens.
#[track_caller]
fn log_in(world: &World) -> [String; 2] {
    let http = world.gateway.http();
    let who = &world.acme.push;
    let scope = "repository:acme/app:pull,push";
    let form = [
        ("grant_type", "password"),
        ("username", &who.username),
        ("password", &who.token),
        ("service", "portcullis"),
        ("access_type", "offline"),
        ("scope", scope),
    ];
    let login = http.post("/token").form(&form).send().expect(200).json();
    let refresh = login["refresh_token"].as_str().expect("it was asked for").to_owned();
    let form =
        [("grant_type", "refresh_token"), ("refresh_token", &refresh), ("service", "portcullis"), ("scope", scope)];
    let token = http.post("/token").form(&form).http2().send().expect(200).json();
    [refresh, token["token"].as_str().expect("a token").to_owned()]
}

#[test]
fn a_clients_whole_session_leaves_no_secret_behind_and_one_that_is_planted_is_found() {
    alone(|| {
        let mut world = World::new();
        let image = Manifest::image(2, 100_000);
        image.write_layout(&world.path("up"), "latest");
        world.skopeo_push(&world.acme.push, "up:latest", "acme/app:1.0").succeeds();
        refused(&world.skopeo_push(&world.acme.pull, "up:latest", "acme/app:2.0").fails());
        let [refresh, token] = log_in(&world);
        let bearer = Credentials::Bearer(token.clone());
        world.gateway.repository("acme/app", &bearer).manifest("1.0").expect(200);
        let forged = Credentials::Bearer(format!("{token}x"));
        let answer = world.gateway.repository("acme/app", &forged).manifest("1.0").expect(401);
        world.gateway.cli(&["robot", "rotate", "acme", "pusher"]);

        // There is something to look at, in everything that is told.
        let root = within(SOON, || {
            let id = answer.header("x-request-id");
            world.collector.spans().into_iter().find(|span| span.text("portcullis.request_id") == id)
        });
        assert_eq!(root.text("portcullis.decision"), "challenge");
        let log = world.gateway.log();
        for sign in ["manifest-push", "\"TRACE\"", "h2::", "rustls::", "sqlx::", "\"operation\":\"token\""] {
            assert!(log.contains(sign), "{sign} is not in the log");
        }
        let told = world.told();
        let names: Vec<&str> = told.iter().map(|(what, _)| *what).collect();
        assert_eq!(names, ["the log", "the metrics", "the audit records", "the traces"]);
        assert!(told.iter().all(|(_, text)| text.len() > 1000), "{names:?}");
        assert_eq!(world.secrets(), Vec::<String>::new());

        // And whatever of this came to stand there would be found.
        let master = std::fs::read(world.gateway.data_dir().join("master.key")).expect("the gateway's own file");
        let hex = master.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"));
        let basic = Credentials::Basic(world.acme.push.username.clone(), world.acme.push.token.clone());
        let basic = basic.header().expect("credentials");
        let planted = [world.acme.push.token.clone(), refresh, token, basic, hex, STANDARD.encode(&master)];
        world.gateway.may_tell_secrets();
        let mut before = 0;
        for secret in planted {
            let ping = world.gateway.http().get("/v2/").header("user-agent", &secret);
            ping.send().expect(401);
            let of_log = |found: &&String| found.starts_with("the log");
            before = within(SOON, || {
                let found = world.secrets().iter().filter(of_log).count();
                (found > before).then_some(found)
            });
        }
        within(SOON, || world.secrets().iter().any(|found| found.starts_with("the traces")).then_some(()));
    });
}
