//! The token endpoint: who gets a token, what it carries, and what everybody else is told (Docker token specification,
//! OAuth 2.0). Every allow stands beside its deny.

mod anonymous;
mod lookups;
mod refresh;

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use portcullis_tests::http::{Credentials, Request, Response, encode};
use portcullis_tests::mint::{self, access, parts};
use portcullis_tests::persona::Robot;
use portcullis_tests::raw::Raw;
use portcullis_tests::scene::Scene;
use serde_json::json;

const SERVICE: &str = "portcullis";

/// GET, with `query` after the service.
fn get(scene: &Scene, who: &Credentials, query: &str) -> Response {
    let http = scene.gateway.http();
    http.get(&format!("/token?service={SERVICE}{query}")).with(who).send()
}

/// POST, with these pairs after the service.
fn post(scene: &Scene, pairs: &[(&str, &str)]) -> Response {
    let mut form = vec![("service", SERVICE), ("client_id", "test")];
    form.extend(pairs);
    scene.gateway.http().post("/token").form(&form).send()
}

fn post_password(scene: &Scene, robot: &Robot, more: &[(&str, &str)]) -> Response {
    let mut form = vec![("grant_type", "password"), ("username", &robot.username), ("password", &robot.token)];
    form.extend(more);
    post(scene, &form)
}

fn bearer(answer: &Response) -> Credentials {
    Credentials::Bearer(answer.json()["token"].as_str().expect("a token").to_owned())
}

fn refused_login(answer: Response) -> Response {
    let answer = answer.refused(401, "UNAUTHORIZED");
    assert!(answer.header("www-authenticate").starts_with("Basic realm="), "{answer}");
    answer
}

#[test]
fn docker_login_asks_for_no_scope_and_gets_a_token_with_empty_access() {
    let scene = Scene::shared();
    let who = scene.acme.push.credentials();
    let answer = get(&scene, &who, "&account=acme%2Bpusher&client_id=docker&offline_token=true").expect(200);
    let body = answer.json();
    assert_eq!(body["token"], body["access_token"], "{answer}");
    assert_eq!(access(&answer), Vec::<String>::new());
    assert!(body["expires_in"].as_u64().is_some_and(|seconds| seconds >= 60), "{answer}");
    let issued: portcullis_tenancy::Timestamp = body["issued_at"].as_str().expect("a text").parse().expect("RFC 3339");
    assert!((issued.as_second() - mint::now()).abs() <= 5, "{answer}");
    assert!(body["refresh_token"].is_string(), "{answer}");
    assert_eq!(answer.header("cache-control"), "no-store");

    let http = scene.gateway.http();
    http.get("/v2/").with(&bearer(&answer)).send().expect(200);
    let tags = http.get("/v2/acme/app/tags/list").with(&bearer(&answer)).send().refused(401, "UNAUTHORIZED");
    assert!(tags.header("www-authenticate").contains("error=\"insufficient_scope\""), "{tags}");
}

#[test]
fn missing_credentials_are_challenged_where_no_scope_is_asked_for() {
    let scene = Scene::shared();
    refused_login(get(&scene, &Credentials::None, ""));
    refused_login(get(&scene, &Credentials::None, "&account=acme%2Bpusher&client_id=docker&offline_token=true"));
    refused_login(post(&scene, &[("grant_type", "password"), ("scope", "repository:acme/app:pull")]));
    refused_login(post(&scene, &[("grant_type", "refresh_token"), ("scope", "repository:acme/app:pull")]));
}

#[test]
fn wrong_credentials_are_refused_by_every_door_and_all_look_the_same() {
    let scene = Scene::shared();
    let robot = &scene.acme.push;
    let mut flipped = robot.token.clone().into_bytes();
    flipped[10] = if flipped[10] == b'x' { b'y' } else { b'x' };
    let flipped = String::from_utf8(flipped).expect("ASCII");
    let wrong = [
        (robot.username.as_str(), flipped.as_str()),
        (&robot.username, &scene.globex.push.token),
        (&robot.username, &scene.acme.pull.token),
        (&robot.username, "pcr_short"),
        (&robot.username, "with:colons:inside"),
        (&robot.username, ""),
        ("acme+nobody", &robot.token),
        ("nothing+pusher", &robot.token),
        ("globex+pusher", &robot.token),
        ("acme", &robot.token),
        ("", &robot.token),
        ("ACME+pusher", &robot.token),
        ("acme+pusher/../owner", &robot.token),
        ("acme+pu%", &robot.token),
        ("' OR 1=1 --+x", &robot.token),
    ];
    let mut seen = Vec::new();
    for (user, secret) in wrong {
        let who = Credentials::Basic(user.to_owned(), secret.to_owned());
        seen.push(refused_login(get(&scene, &who, "&scope=repository:acme/app:pull")).appearance());
        let form = [("grant_type", "password"), ("username", user), ("password", secret)];
        seen.push(refused_login(post(&scene, &form)).appearance());
        let answer = scene.gateway.http().get("/v2/").with(&who).send().refused(401, "UNAUTHORIZED");
        assert!(answer.header("www-authenticate").starts_with("Bearer realm="), "{answer}");
    }
    seen.dedup();
    assert_eq!(seen.len(), 1, "wrong credentials can be told apart: {seen:#?}");
    get(&scene, &robot.credentials(), "").expect(200);
}

#[test]
fn basic_credentials_that_cannot_be_read_are_refused_and_not_a_failure() {
    let scene = Scene::shared();
    let http = scene.gateway.http();
    let raw = |value: &[u8]| http.get(&format!("/token?service={SERVICE}")).header("authorization", value).send();
    refused_login(raw(format!("Basic {}", STANDARD.encode(b"acme+pusher:\xff\xfe")).as_bytes()));
    refused_login(raw(format!("Basic {}", STANDARD.encode(b"\xc3\x28:secret")).as_bytes()));
    refused_login(raw(format!("Basic {}", STANDARD.encode(b"no colon")).as_bytes()));
    refused_login(raw(format!("Basic {}", STANDARD.encode(b"acme+pusher:a\0b")).as_bytes()));
    refused_login(raw(b"Basic %%%"));
    refused_login(raw(b"Basic"));
    refused_login(raw(b"Basic \xff"));
    refused_login(raw(b"Negotiate abc"));
    let token = scene.gateway.token(&scene.acme.push.credentials(), &[]);
    refused_login(raw(format!("Bearer {}", mint::text(&token)).as_bytes()));
    let two =
        http.get("/token?service=portcullis").with(&scene.acme.push.credentials()).header("authorization", "Basic x");
    two.send().expect(400);
}

#[test]
fn a_token_carries_what_was_asked_for_and_granted_and_no_more() {
    let scene = Scene::shared();
    let ask = |who: &Robot, scopes: &str| {
        access(&get(&scene, &who.credentials(), &format!("&scope={}", encode(scopes))).expect(200))
    };
    let nothing = Vec::<String>::new();
    assert_eq!(ask(&scene.acme.pull, "repository:acme/app:pull,push,delete"), ["repository:acme/app:pull"]);
    assert_eq!(ask(&scene.acme.push, "repository:acme/app:pull,push,delete"), ["repository:acme/app:pull,push"]);
    assert_eq!(ask(&scene.acme.admin, "repository:acme/app:*"), ["repository:acme/app:pull,push,delete"]);
    assert_eq!(ask(&scene.acme.push, "repository:acme/app:*"), ["repository:acme/app:pull,push"]);
    assert_eq!(ask(&scene.acme.push, "repository:acme/app:push"), ["repository:acme/app:push"]);
    assert_eq!(ask(&scene.acme.pull, "repository:acme/app:push"), nothing);
    assert_eq!(ask(&scene.acme.admin, "repository:globex/app:pull"), nothing);
    assert_eq!(ask(&scene.acme.admin, "repository:acme-corp/app:pull"), nothing);
    assert_eq!(ask(&scene.acme.admin, "repository:acme:pull"), nothing);
    assert_eq!(ask(&scene.acme.pull, "registry:catalog:*"), ["registry:catalog:*"]);
    assert_eq!(ask(&scene.acme.pull, "repository:acme/**:pull,push"), ["repository:acme/**:pull"]);
    assert_eq!(ask(&scene.acme.admin, "repository:**:pull repository:*/app:pull repository:acm*/app:pull"), nothing);
}

#[test]
fn scopes_come_repeated_joined_twice_over_and_in_odd_forms() {
    let scene = Scene::shared();
    let who = scene.acme.push.credentials();
    let ask = |query: &str| access(&get(&scene, &who, query).expect(200));
    assert_eq!(
        ask("&scope=repository:acme/a:pull&scope=repository:acme/b:pull,push&scope=repository:globex/c:pull"),
        ["repository:acme/a:pull", "repository:acme/b:pull,push"]
    );
    assert_eq!(
        ask("&scope=repository:acme/a:pull%20repository:acme/a:push+repository:acme/a:pull"),
        ["repository:acme/a:pull,push"]
    );
    assert_eq!(ask("&scope=repository(plugin):acme/a:pull"), ["repository:acme/a:pull"]);
    let nothing = Vec::<String>::new();
    // A name that holds a port is read whole, and is nobody's.
    assert_eq!(ask("&scope=repository:localhost:5000/acme/a:pull"), nothing);
    for odd in ["", "repository", "repository:acme/a", "repository::pull", "repository:acme/a:", "artifact:acme/a:pull"]
    {
        assert_eq!(ask(&format!("&scope={odd}")), nothing, "{odd}");
    }
    assert_eq!(ask("&scope=repository:acme/a:fly,pull"), ["repository:acme/a:pull"]);
    assert_eq!(ask("&scope=repository:acme/../globex/a:pull"), nothing);
    assert_eq!(ask("&scope=repository:ACME/a:pull"), nothing);
    assert_eq!(ask("&scope=registry:catalog:pull"), nothing);
}

#[test]
fn ctr_posts_its_password_with_duplicate_scopes() {
    let scene = Scene::shared();
    let scope = "repository:acme/app:pull repository:acme/app:pull repository:globex/app:pull";
    let answer = post_password(&scene, &scene.acme.pull, &[("scope", scope)]).expect(200);
    assert_eq!(access(&answer), ["repository:acme/app:pull"]);
    let body = answer.json();
    assert_eq!(body["scope"], "repository:acme/app:pull", "{answer}");
    assert_eq!(body["token"], body["access_token"], "{answer}");
    assert!(body.get("refresh_token").is_none(), "it was not asked for\n{answer}");
    scene.gateway.http().get("/v2/").with(&bearer(&answer)).send().expect(200);
    let wrong = [("grant_type", "password"), ("username", "acme+puller"), ("password", "wrong"), ("scope", scope)];
    // 401 lets containerd and BuildKit fall back to GET; 403 breaks them.
    refused_login(post(&scene, &wrong));
}

#[test]
fn another_service_is_refused() {
    let scene = Scene::shared();
    let http = scene.gateway.http();
    let who = scene.acme.pull.credentials();
    http.get("/token?service=registry.example.com&scope=repository:acme/app:pull").with(&who).send().expect(400);
    http.get("/token?scope=repository:acme/app:pull").with(&who).send().expect(200);
    let form = [("grant_type", "password"), ("service", "other"), ("username", &scene.acme.pull.username)];
    http.post("/token").form(&form).send().expect(400);
}

#[test]
fn scopes_of_100_kilobytes_are_refused_and_nothing_is_lost() {
    let scene = Scene::shared();
    let who = scene.acme.pull.credentials();
    let long = "repository:acme/app:pull ".repeat(4_000);
    let too_large = [413, 414, 400, 431];
    // Shorter than a request line may be, and still too many.
    let many = "repository:acme/app:pull%20".repeat(1_001);
    let asked =
        [post_password(&scene, &scene.acme.pull, &[("scope", &long)]), get(&scene, &who, &format!("&scope={many}"))];
    for answer in asked {
        assert!(too_large.contains(&answer.status), "{answer}");
        assert_eq!(answer.error_code(), "UNSUPPORTED", "{answer}");
    }
    let http = scene.gateway.http();
    let head = format!("GET /token?scope={} HTTP/1.1\r\nhost: {}\r\n\r\n", encode(&long), http.authority());
    let answer = Raw::connect(&http).send(head).answer().expect("an answer");
    assert!(too_large.contains(&answer.status), "{answer:?}");
    get(&scene, &who, "&scope=repository:acme/app:pull").expect(200);
}

#[test]
fn other_methods_and_media_types_are_told_what_is_taken() {
    let scene = Scene::shared();
    let http = scene.gateway.http();
    let who = scene.acme.pull.credentials();
    let json = json!({"grant_type": "password", "username": "acme+puller"}).to_string();
    for media_type in ["application/json", "multipart/form-data; boundary=x", "text/plain"] {
        let answer = http.post("/token").header("content-type", media_type).body(json.clone()).send();
        answer.refused(415, "UNSUPPORTED");
    }
    http.post("/token").body("grant_type=password").send().refused(415, "UNSUPPORTED");
    let form: fn(Request) -> Request =
        |request| request.header("content-type", "application/x-www-form-urlencoded; charset=UTF-8");
    form(http.post("/token")).body("grant_type=password").send().refused(401, "UNAUTHORIZED");
    for grant_type in ["", "client_credentials", "authorization_code"] {
        post(&scene, &[("grant_type", grant_type)]).refused(400, "UNSUPPORTED");
    }
    for request in [http.put("/token"), http.delete("/token"), http.patch("/token")] {
        request.with(&who).send().refused(405, "UNSUPPORTED");
    }
}

#[test]
fn the_public_keys_verify_a_token_and_hold_no_secret() {
    let scene = Scene::shared();
    let http = scene.gateway.http();
    let set = http.get("/.well-known/jwks.json").send().expect(200).json();
    let token = scene.gateway.token(&scene.acme.pull.credentials(), &["repository:acme/app:pull"]);
    let token = mint::text(&token);
    let header = parts(token).header;
    let keys = set["keys"].as_array().expect("a list");
    let key = keys.iter().find(|key| key["kid"] == header["kid"]).expect("the key that signed");
    assert_eq!(key["alg"], header["alg"]);
    let x = URL_SAFE_NO_PAD.decode(key["x"].as_str().expect("a text")).expect("base64url");
    let (message, signature) = token.rsplit_once('.').expect("a token");
    let signature = URL_SAFE_NO_PAD.decode(signature).expect("base64url");
    UnparsedPublicKey::new(&ED25519, x).verify(message.as_bytes(), &signature).expect("its signature");
    for key in keys {
        for private in ["d", "p", "q", "k"] {
            assert!(key.get(private).is_none(), "{set}");
        }
    }
    http.post("/.well-known/jwks.json").send().refused(405, "UNSUPPORTED");
}

#[test]
fn claims_are_those_of_the_token_specification() {
    let scene = Scene::shared();
    let token = scene.gateway.token(&scene.acme.pull.credentials(), &["repository:acme/app:pull"]);
    let claims = parts(mint::text(&token)).claims;
    assert_eq!(claims["sub"], "acme+puller");
    assert_eq!(claims["aud"], SERVICE);
    assert!(claims["iss"].as_str().is_some_and(|issuer| issuer.len() >= 20), "{claims}");
    let time = |name: &str| claims[name].as_i64().expect("a number");
    assert!(time("nbf") <= time("iat") && time("iat") + 60 <= time("exp"), "{claims}");
    let again = scene.gateway.token(&scene.acme.pull.credentials(), &["repository:acme/app:pull"]);
    assert_ne!(parts(mint::text(&again)).claims["jti"], claims["jti"]);
    let entry = json!([{"type": "repository", "name": "acme/app", "actions": ["pull"]}]);
    assert_eq!(claims["access"], entry);
}

#[test]
fn harbors_form_of_a_robots_name_is_taken() {
    let scene = Scene::shared();
    let harbor = |robot: &Robot| Credentials::Basic(format!("robot${}", robot.username), robot.token.clone());
    let answer = get(&scene, &harbor(&scene.acme.pull), "&scope=repository:acme/app:pull").expect(200);
    assert_eq!(access(&answer), ["repository:acme/app:pull"]);
    scene.gateway.http().get("/v2/").with(&harbor(&scene.acme.pull)).send().expect(200);
    let crossed = Credentials::Basic("robot$globex+puller".to_owned(), scene.acme.pull.token.clone());
    refused_login(get(&scene, &crossed, ""));
    let twice = Credentials::Basic("robot$robot$acme+puller".to_owned(), scene.acme.pull.token.clone());
    refused_login(get(&scene, &twice, ""));
}

#[test]
fn an_anonymous_token_pulls_from_public_projects_and_nowhere_else() {
    let scene = Scene::shared();
    scene.gateway.cli(&["project", "create", "commons", "--public"]);
    let scope =
        "&scope=repository:commons/app:pull,push,delete&scope=repository:acme/app:pull&scope=registry:catalog:*";
    let answer = get(&scene, &Credentials::None, scope).expect(200);
    assert_eq!(access(&answer), ["repository:commons/app:pull"]);
    assert_eq!(parts(mint::text(&bearer(&answer))).claims["sub"], "");
    let http = scene.gateway.http();
    let tags = |name: &str| http.get(&format!("/v2/{name}/tags/list")).with(&bearer(&answer)).send();
    tags("commons/app").refused(404, "NAME_UNKNOWN");
    tags("acme/app").refused(401, "UNAUTHORIZED");
    let upload = http.post("/v2/commons/app/blobs/uploads/").with(&bearer(&answer)).send();
    upload.refused(401, "UNAUTHORIZED");
    // Another tenant's robot is as good as anybody there, and no better.
    let theirs = get(&scene, &scene.globex.admin.credentials(), scope).expect(200);
    assert_eq!(access(&theirs), ["repository:commons/app:pull", "registry:catalog:*"]);
}

#[test]
fn the_token_endpoint_does_not_tell_whether_a_name_is_known() {
    let scene = Scene::shared();
    let image = portcullis_tests::image::Manifest::image(1, 100);
    scene.gateway.repository("globex/secret", &scene.globex.push.credentials()).push("1", &image);
    let shape = |who: &Credentials, name: &str| {
        let answer = get(&scene, who, &format!("&scope=repository:{name}:pull,push")).expect(200);
        let mut body = answer.json();
        for field in ["token", "access_token", "issued_at"] {
            body[field] = json!(null);
        }
        let mut claims = parts(mint::text(&bearer(&answer))).claims;
        for claim in ["jti", "iat", "nbf", "exp"] {
            claims[claim] = json!(null);
        }
        format!("{body} {claims}")
    };
    for who in [scene.acme.admin.credentials(), Credentials::None] {
        let known = shape(&who, "globex/secret");
        assert_eq!(shape(&who, "globex/nothing"), known);
        assert_eq!(shape(&who, "nothing/secret"), known);
    }
}
