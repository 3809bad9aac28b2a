//! Behind a balancer: who a client is is what listed networks say, and nobody else.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use portcullis_tests::gateway::{Builder, metric};
use portcullis_tests::http::Credentials;
use portcullis_tests::persona::Robot;
use portcullis_tests::raw::{Approach, Raw, RawResponse};
use portcullis_tests::scene::{Scene, within};
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

/// The balancer's address, and one that is not listed.
const BALANCER: Ipv4Addr = Ipv4Addr::new(127, 9, 0, 1);
const STRANGER: Ipv4Addr = Ipv4Addr::new(127, 8, 0, 1);
/// A client as it is told of, and the network that the robot's secret may be used from.
const CLIENT: &str = "203.0.113.7";
const OFFICE: &str = "203.0.113.0/24";

/// A gateway that believes the balancer in this way, and a robot that may come from the office alone.
fn behind(configure: impl FnOnce(Builder) -> Builder) -> (Scene, Robot) {
    let scene = Scene::with(|builder| {
        configure(builder.set("log.format", "json").set("server.trusted_proxies", "127.9.0.0/16"))
    });
    let robot = scene.gateway.robot("acme", "office", &["--role", "pull", "--from", OFFICE]);
    (scene, robot)
}

fn speaking_proxy() -> (Scene, Robot) {
    behind(|builder| builder.set("server.proxy_protocol", true).set("limits.head_timeout_s", 2))
}

fn forwarding(header: &str) -> (Scene, Robot) {
    behind(|builder| builder.set("server.forwarded", header))
}

/// The robot's request, with these headers.
fn asked(scene: &Scene, robot: &Robot, headers: &str) -> String {
    let Credentials::Basic(user, secret) = robot.credentials() else { panic!("robots have secrets") };
    let who = STANDARD.encode(format!("{user}:{secret}"));
    let host = scene.gateway.authority();
    format!("GET /v2/acme/app/tags/list HTTP/1.1\r\nhost: {host}\r\nauthorization: Basic {who}\r\n{headers}\r\n")
}

/// What the robot is told that comes in this way; none where the connection is ended.
fn comes(scene: &Scene, robot: &Robot, approach: &Approach, headers: &str) -> Option<RawResponse> {
    Raw::approach(&scene.gateway.http(), approach).send(asked(scene, robot, headers)).answer()
}

/// There is no such repository; but whoever hears that was let in.
#[track_caller]
fn is_let_in(answer: Option<RawResponse>, what: &str) {
    assert_eq!(answer.expect(what).status, 404, "{what}");
}

#[track_caller]
fn is_kept_out(answer: Option<RawResponse>, what: &str) {
    assert_eq!(answer.expect(what).status, 401, "{what}");
}

/// Whether the access log has a request from this address.
fn is_logged(scene: &Scene, address: &str) -> bool {
    let field = format!("\"client.address\":\"{address}\"");
    within(Duration::from_secs(20), || scene.gateway.log().contains(&field).then_some(true))
}

fn v2(address: [u8; 4]) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
    header.extend(address);
    header.extend([127, 0, 0, 1, 0x30, 0x39, 0x01, 0xbb]);
    header
}

#[test]
fn a_robots_networks_are_those_that_the_proxy_protocol_tells_of() {
    let (scene, robot) = speaking_proxy();
    let from = |first: &[u8]| comes(&scene, &robot, &Approach::from(BALANCER).saying(first), "");
    is_let_in(from(format!("PROXY TCP4 {CLIENT} 127.0.0.1 4711 443\r\n").as_bytes()), "version 1");
    is_let_in(from(&v2([203, 0, 113, 7])), "version 2");
    assert!(is_logged(&scene, CLIENT));
    is_kept_out(from(b"PROXY TCP4 203.0.114.7 127.0.0.1 4711 443\r\n"), "version 1 from elsewhere");
    is_kept_out(from(&v2([203, 0, 112, 7])), "version 2 from elsewhere");
    is_kept_out(from(b"PROXY TCP6 2001:db8::7 ::1 4711 443\r\n"), "IPv6 from elsewhere");
    assert!(is_logged(&scene, "2001:db8::7"));
    // The balancer itself, when it looks whether we live.
    is_kept_out(from(b"PROXY UNKNOWN\r\n"), "version 1 for nobody");
    is_kept_out(from(b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"), "version 2 for itself");
    assert!(is_logged(&scene, &BALANCER.to_string()));
}

#[test]
fn a_header_in_pieces_is_one_header() {
    let (scene, robot) = speaking_proxy();
    let http = scene.gateway.http();
    for header in [format!("PROXY TCP4 {CLIENT} 127.0.0.1 4711 443\r\n").into_bytes(), v2([203, 0, 113, 7])] {
        let plain = portcullis_tests::http::Http::new(&format!("http://{}", scene.gateway.authority()), None);
        let mut raw = Raw::approach(&plain, &Approach::from(BALANCER));
        for byte in &header {
            raw.send([*byte]);
        }
        let answer = raw.into_tls(&http).send(asked(&scene, &robot, "")).answer();
        is_let_in(answer, "byte by byte");
    }
}

#[test]
fn a_listed_balancer_without_a_header_is_refused() {
    let (scene, robot) = speaking_proxy();
    for first in ["", "GET / HTTP/1.1\r\n\r\n", "PROXY TCP4 1.2.3.4 5.6.7.8 1\r\n", "PROXY TCP4 1.2.3.4"] {
        let begun = Instant::now();
        let answer = comes(&scene, &robot, &Approach::from(BALANCER).saying(first), "");
        assert!(answer.is_none(), "{first:?}: {answer:?}");
        assert!(begun.elapsed() < Duration::from_secs(20), "{first:?} was waited for");
    }
    let number = |name, label| metric(&scene.gateway.metrics(), name, label);
    let refused = || number("portcullis_connections_refused_total", "proxy-header");
    assert_eq!(refused(), 4.0);
    // One that dies in its middle: it holds nothing any more, and was nobody's request.
    for half in [b"PROXY TCP4 203.0".as_slice(), b"\r\n\r\n\0\r\nQUIT\n\x21\x11"] {
        Raw::approach(&scene.gateway.http(), &Approach::from(BALANCER).saying(half)).drop_dead();
    }
    within(Duration::from_secs(20), || (refused() == 6.0).then_some(()));
    within(Duration::from_secs(20), || (number("portcullis_connections", "") == 0.0).then_some(()));
    let log = scene.gateway.log();
    assert!(!log.contains("\"target\":\"access\"") && !log.contains(&BALANCER.to_string()), "{log}");
}

/// Whoever is not listed is served as who he is, and what he says of himself is no TLS.
#[test]
fn a_stranger_cannot_say_that_he_is_somebody_else() {
    let (scene, robot) = speaking_proxy();
    let header = format!("PROXY TCP4 {CLIENT} 127.0.0.1 4711 443\r\n");
    assert!(comes(&scene, &robot, &Approach::from(STRANGER).saying(header), "").is_none());
    is_kept_out(comes(&scene, &robot, &Approach::from(STRANGER), ""), "a stranger as himself");
    assert!(is_logged(&scene, &STRANGER.to_string()));
    assert!(!scene.gateway.log().contains(CLIENT));
}

#[test]
fn without_the_key_a_header_is_no_header() {
    let (scene, robot) = behind(|builder| builder);
    let header = format!("PROXY TCP4 {CLIENT} 127.0.0.1 4711 443\r\n");
    assert!(comes(&scene, &robot, &Approach::from(BALANCER).saying(header), "").is_none());
    let headers = format!("x-forwarded-for: {CLIENT}\r\nforwarded: for={CLIENT}\r\n");
    is_kept_out(comes(&scene, &robot, &Approach::from(BALANCER), &headers), "headers that nobody asked for");
}

#[test]
fn a_robots_networks_are_those_that_a_listed_proxy_forwards() {
    for (field, other, ours) in [
        ("x-forwarded-for", "forwarded", [CLIENT.to_owned(), format!("6.6.6.6, {CLIENT}, 127.9.3.3")]),
        (
            "forwarded",
            "x-forwarded-for",
            [format!("for={CLIENT}"), format!("for=6.6.6.6, For=\"{CLIENT}:80\", for=127.9.3.3")],
        ),
    ] {
        let (scene, robot) = forwarding(field);
        let from = |address, headers: &str| comes(&scene, &robot, &Approach::from(address), headers);
        for value in &ours {
            is_let_in(from(BALANCER, &format!("{field}: {value}\r\n")), value);
            is_kept_out(from(STRANGER, &format!("{field}: {value}\r\n")), "the same from elsewhere");
            is_kept_out(from(BALANCER, &format!("{other}: {value}\r\n")), "in the other header");
        }
        assert!(is_logged(&scene, CLIENT));
        // What the client has written stands left of what the proxy has seen.
        let spoofed = ours[0].clone();
        let seen = ours[0].replace(CLIENT, "198.51.100.9");
        is_kept_out(from(BALANCER, &format!("{field}: {spoofed}, {seen}\r\n")), "spoofed in one line");
        is_kept_out(from(BALANCER, &format!("{field}: {spoofed}\r\n{field}: {seen}\r\n")), "spoofed in two lines");
        assert!(is_logged(&scene, "198.51.100.9"));
        is_kept_out(from(BALANCER, &format!("{field}: {spoofed}, nonsense\r\n")), "behind nonsense");
    }
}

#[test]
fn limits_by_address_are_for_the_client_and_not_for_its_balancer() {
    let (scene, robot) =
        behind(|builder| builder.set("server.proxy_protocol", true).set("limits.connections_per_address", 2));
    let http = scene.gateway.http();
    let client = |last: u8| Approach::from(BALANCER).saying(v2([203, 0, 113, last]));
    let mut held: Vec<Raw> =
        (1..=5).flat_map(|last| [last, last]).map(|last| Raw::approach(&http, &client(last))).collect();
    for raw in &mut held {
        is_let_in(raw.send(asked(&scene, &robot, "")).answer(), "the first two of each address");
    }
    assert!(comes(&scene, &robot, &client(3), "").is_none(), "the third is turned away");
    let refused = metric(&scene.gateway.metrics(), "portcullis_connections_refused_total", "reason=\"address\"");
    assert_eq!(refused, 1.0);
    held.truncate(4);
    within(Duration::from_secs(20), || comes(&scene, &robot, &client(3), "").filter(|answer| answer.status == 404));
}
