//! TLS 1.2 and 1.3, and nothing older.

use portcullis_tests::http::Http;
use portcullis_tests::raw::Raw;
use portcullis_tests::scene::Scene;

/// The first flight of a client that knows this version and no later one: with all that a server of its time would need.
fn hello(version: [u8; 2]) -> Vec<u8> {
    let mut body = version.to_vec();
    body.extend([7; 32]);
    body.push(0);
    // ECDHE with ECDSA and RSA: AES-128-GCM of TLS 1.2, AES-128-CBC of TLS 1.0; and RSA as of old.
    body.extend([0, 10, 0xc0, 0x2b, 0xc0, 0x2f, 0xc0, 0x09, 0xc0, 0x13, 0x00, 0x2f]);
    body.extend([1, 0]);
    let mut extensions = Vec::new();
    // The groups P-256 and X25519, uncompressed points, and ECDSA and RSA-PSS with SHA-256; the extended master secret.
    extensions.extend([0, 10, 0, 6, 0, 4, 0, 23, 0, 29]);
    extensions.extend([0, 11, 0, 2, 1, 0]);
    extensions.extend([0, 13, 0, 8, 0, 6, 4, 3, 8, 4, 4, 1]);
    extensions.extend([0, 23, 0, 0]);
    body.extend(u16::try_from(extensions.len()).expect("short").to_be_bytes());
    body.extend(extensions);
    let length = u32::try_from(body.len()).expect("short").to_be_bytes();
    let message = [&[1], &length[1..], &body].concat();
    let length = u16::try_from(message.len()).expect("short").to_be_bytes();
    [&[22, 3, 1], length.as_slice(), &message].concat()
}

/// The kind of record that answers, and the first byte of its contents behind the head: a message's kind, or an alert's level and code.
fn answer(scene: &Scene, version: [u8; 2]) -> Vec<u8> {
    let plain = Http::new(&format!("http://{}", scene.gateway.authority()), None);
    let mut raw = Raw::connect(&plain);
    raw.send(hello(version));
    raw.record().unwrap_or_else(|| panic!("no answer to a hello of {version:?}"))
}

#[test]
fn versions_before_1_2_are_refused_by_name() {
    const ALERT: u8 = 21;
    const PROTOCOL_VERSION: u8 = 70;
    const HANDSHAKE: u8 = 22;
    const SERVER_HELLO: u8 = 2;
    let scene = Scene::shared();
    // The same hello of 1.2 is taken: what is refused is the version alone.
    let taken = answer(&scene, [3, 3]);
    assert_eq!((taken[0], taken[5]), (HANDSHAKE, SERVER_HELLO), "{taken:?}");
    for version in [[3, 2], [3, 1], [3, 0]] {
        let refused = answer(&scene, version);
        assert_eq!((refused[0], refused[6]), (ALERT, PROTOCOL_VERSION), "{version:?}: {refused:?}");
    }
    // 1.3 is what a client of today agrees on.
    let mut raw = Raw::connect(&scene.gateway.http());
    let ping = format!("GET /v2/ HTTP/1.1\r\nhost: {}\r\n\r\n", scene.gateway.authority());
    assert_eq!(raw.send(ping).answer().expect("an answer").status, 401);
    assert_eq!(raw.tls_version(), Some("TLSv1_3".to_owned()));
}
