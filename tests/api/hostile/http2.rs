//! HTTP/2's floods: what h2 does not bound by itself is bounded by what a connection may send.

use portcullis_tests::frames::{CALM, END_HEADERS, GREETING, WHOLE, frame, head, kind};
use portcullis_tests::gateway::metric;
use portcullis_tests::raw::{Approach, Raw};
use portcullis_tests::scene::{Scene, within};
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

/// Who has not been given up by now never will be: [`Raw`] itself waits for 30 s.
const GIVEN_UP: Duration = Duration::from_secs(25);

fn greeted(scene: &Scene) -> Raw {
    let mut raw = Raw::connect_h2(&scene.gateway.http());
    raw.send(GREETING);
    raw
}

/// A request, and that it is not wanted any more.
fn reset(scene: &Scene, number: u32) -> Vec<u8> {
    let stream = number * 2 + 1;
    let block = head("GET", scene.gateway.authority(), "/v2/", &[]);
    [frame(kind::HEADERS, WHOLE, stream, &block), frame(kind::RST_STREAM, 0, stream, &[0, 0, 0, 8])].concat()
}

/// Reads until the gateway has closed.
#[track_caller]
fn ends(what: &str, mut raw: Raw) {
    let begun = Instant::now();
    while raw.frame().is_some() {}
    assert!(begun.elapsed() < GIVEN_UP, "the connection stays open after {what}");
}

fn cut(scene: &Scene, reason: &str) -> f64 {
    metric(&scene.gateway.metrics(), "portcullis_connections_cut_total", reason)
}

/// So many resets are borne, one more is not.
#[track_caller]
fn told_to_calm_down_after(borne: u32, scene: &Scene) {
    let mut raw = greeted(scene);
    resets(&mut raw, borne, scene);
    // It is still served: who gives up a pull or two is no attacker.
    let block = head("GET", scene.gateway.authority(), "/v2/", &[]);
    raw.send(frame(kind::HEADERS, WHOLE, 1001, &block));
    let answer = std::iter::from_fn(|| raw.frame()).find(|frame| frame.kind == kind::HEADERS && frame.stream == 1001);
    assert!(answer.is_some(), "the request behind the resets is answered");
    raw.send([frame(kind::HEADERS, WHOLE, 1003, &block), frame(kind::RST_STREAM, 0, 1003, &[0; 4])].concat());
    assert_eq!(raw.last_word(), Some(CALM));
    assert!(raw.frame().is_none(), "and the connection ends");
    within(Duration::from_secs(20), || (cut(scene, "resets") == 1.0).then_some(()));
}

/// Resets so many streams, and sees that each is borne.
#[track_caller]
fn resets(raw: &mut Raw, count: u32, scene: &Scene) {
    for number in 0..count {
        // One by one: of those that come together h2 itself bears a few alone.
        raw.send([reset(scene, number), frame(kind::PING, 0, 0, &[1; 8])].concat());
        let pong = std::iter::from_fn(|| raw.frame()).find(|frame| frame.kind == kind::PING);
        assert!(pong.is_some(), "reset {number} is borne");
    }
}

#[test]
fn a_client_that_resets_stream_after_stream_is_told_to_calm_down() {
    let scene = Scene::with(|builder| builder.set("limits.resets_per_connection", 50));
    told_to_calm_down_after(50, &scene);
}

/// Behind a balancer that ends TLS: what a client may send is the same, and what a proxy hands on is not one client's.
#[test]
fn without_tls_floods_end_the_connection_all_the_same() {
    let scene = Scene::with(|builder| {
        let plain = builder.set("server.tls", "off").set("limits.resets_per_connection", 20);
        plain.set("server.forwarded", "x-forwarded-for").set("server.trusted_proxies", "127.9.0.0/16")
    });
    told_to_calm_down_after(20, &scene);
    control_frames_end_the_connection(&scene);
    what_h2_counts_ends_the_connection(&scene);

    let proxy = Approach { h2: true, ..Approach::from(Ipv4Addr::new(127, 9, 0, 1)) };
    let mut raw = Raw::approach(&scene.gateway.http(), &proxy);
    raw.send(GREETING);
    resets(&mut raw, 60, &scene);
    raw.send(frame(kind::PING, 0, 0, &[0; 8]).repeat(4000));
    ends("a proxy's own PINGs", raw);
    within(Duration::from_secs(20), || (cut(&scene, "control-frames") == 5.0).then_some(()));
    assert_eq!(cut(&scene, "resets"), 1.0, "a proxy's clients reset what they like");
}

/// It says that it takes no bytes, and never does: what it was answered must not keep a place for ever.
#[test]
fn answers_that_nobody_takes_keep_no_place() {
    let scene = Scene::with(|builder| builder.set("limits.requests_under_way_per_address", 3));
    let mut raw = Raw::connect_h2(&scene.gateway.http());
    raw.send([b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), frame(kind::SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0])].concat());
    let block = head("GET", scene.gateway.authority(), "/v2/", &[]);
    for stream in (1..=15).step_by(2) {
        raw.send(frame(kind::HEADERS, WHOLE, stream, &block));
        let answer = std::iter::from_fn(|| raw.frame()).find(|frame| frame.kind == kind::HEADERS);
        assert_eq!(answer.map(|frame| frame.stream), Some(stream), "it is answered");
    }
    assert_eq!(metric(&scene.gateway.metrics(), "portcullis_shed_total", "reason=\"address\""), 0.0);
    scene.gateway.http().get("/v2/").send().expect(401);
}

/// h2 itself keeps few streams that were reset before it came to them.
#[test]
fn a_burst_of_resets_ends_the_connection_and_leaves_nothing_under_way() {
    let scene = Scene::open();
    let mut raw = greeted(&scene);
    let burst: Vec<u8> = (0..5000).flat_map(|number| reset(&scene, number)).collect();
    raw.send(burst);
    ends("a burst of resets", raw);
    within(Duration::from_secs(20), || {
        (metric(&scene.gateway.metrics(), "portcullis_requests_in_flight", "") == 0.0).then_some(())
    });
    assert!(metric(&scene.gateway.metrics(), "portcullis_requests_total", "") < 1000.0, "most were never begun");
}

#[test]
fn floods_of_settings_pings_and_priorities_end_the_connection() {
    control_frames_end_the_connection(&Scene::shared());
}

#[track_caller]
fn control_frames_end_the_connection(scene: &Scene) {
    let before = cut(scene, "control-frames");
    for (what, one) in [
        ("SETTINGS", frame(kind::SETTINGS, 0, 0, &[])),
        ("PING", frame(kind::PING, 0, 0, &[0; 8])),
        ("PRIORITY", frame(kind::PRIORITY, 0, 1, &[0, 0, 0, 0, 1])),
        ("what nobody knows", frame(0xfa, 0, 0, &[0; 4])),
    ] {
        let mut raw = greeted(scene);
        raw.send(one.repeat(4000));
        ends(what, raw);
    }
    within(Duration::from_secs(20), || (cut(scene, "control-frames") == before + 4.0).then_some(()));
}

/// h2 counts these itself: CONTINUATION without an end, and DATA without bytes.
#[test]
fn a_head_without_an_end_and_a_body_without_bytes_end_the_connection() {
    what_h2_counts_ends_the_connection(&Scene::shared());
}

#[track_caller]
fn what_h2_counts_ends_the_connection(scene: &Scene) {
    let block = head("GET", scene.gateway.authority(), "/v2/", &[]);
    let mut raw = greeted(scene);
    raw.send(frame(kind::HEADERS, 0, 1, &block));
    raw.send(frame(kind::CONTINUATION, 0, 1, &[]).repeat(1000));
    ends("CONTINUATION without an end", raw);

    let mut raw = greeted(scene);
    let block =
        head("POST", scene.gateway.authority(), "/token", &[("content-type", "application/x-www-form-urlencoded")]);
    raw.send(frame(kind::HEADERS, END_HEADERS, 1, &block));
    raw.send(frame(kind::DATA, 0, 1, &[]).repeat(20_000));
    ends("DATA without bytes", raw);
}

#[test]
fn a_bomb_of_headers_is_refused_before_it_is_unpacked() {
    let scene = Scene::shared();
    let value = "x".repeat(3000);
    // One entry of the table is named again and again: a few bytes that mean thousands.
    let mut raw = greeted(&scene);
    let mut bomb = head("GET", scene.gateway.authority(), "/v2/", &[]);
    bomb.extend([0x40, 6]);
    bomb.extend(b"x-bomb");
    bomb.extend([127, 0xb9, 0x16]);
    bomb.extend(value[..127 + 0x39 + 0x16 * 128].bytes());
    bomb.extend([0xbe].repeat(10_000));
    raw.send(frame(kind::HEADERS, WHOLE, 1, &bomb));
    let refused = std::iter::from_fn(|| raw.frame()).find(|frame| match frame.kind {
        kind::HEADERS | kind::RST_STREAM => frame.stream == 1,
        kind::GOAWAY => true,
        _ => false,
    });
    assert!(refused.is_some(), "it is answered, or its stream or connection is ended");
    // What is only somewhat too large is told so.
    let block = head("GET", scene.gateway.authority(), "/v2/", &[("x-bomb", value.as_str()); 6]);
    let (first, rest) = block.split_at(10_000);
    let mut raw = greeted(&scene);
    raw.send([frame(kind::HEADERS, 1, 1, first), frame(kind::CONTINUATION, END_HEADERS, 1, rest)].concat());
    let answer = std::iter::from_fn(|| raw.frame()).find(|frame| frame.stream == 1).expect("an answer");
    assert_eq!(answer.kind, kind::HEADERS, "{answer:?}");
}
