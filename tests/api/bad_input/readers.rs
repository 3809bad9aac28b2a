//! Manifests as nobody writes them, each shown to the gateway and to the bare registry: whatever the gateway takes, the registry
//! reads the same blobs in it. Both are asked while they have none of them, so that each says which it misses.

use http::Method;
use portcullis_tests::dice::{self, Dice};
use portcullis_tests::http::{Credentials, Response};
use portcullis_tests::image::{IMAGE, sha256};
use portcullis_tests::repository::Repository;
use portcullis_tests::scene::Scene;
use std::collections::BTreeSet;

/// How many manifests are shown to both.
const ROUNDS: usize = 300;

/// The names that mean something in a manifest, and some that do not.
const KEYS: &[&str] = &[
    "schemaVersion",
    "mediaType",
    "config",
    "layers",
    "manifests",
    "subject",
    "annotations",
    "digest",
    "size",
    "artifactType",
    "fsLayers",
    "history",
    "name",
    "x",
    "org.example",
    "layer",
    "digests",
];
const TYPES: &[&str] = &[
    "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.oci.image.layer.v1.tar+gzip",
    "application/vnd.oci.image.config.v1+json",
    "application/octet-stream",
];

/// Writes one manifest, the odder the higher the number of the hundred.
struct Writer {
    dice: Dice,
    odd: usize,
}

impl Writer {
    /// The key as it is, or as a folding reader takes it for the same, or as it only looks.
    fn key(&mut self, key: &str) -> String {
        if !self.dice.percent(self.odd) {
            return key.to_owned();
        }
        let at = self.dice.one_of(0..key.len());
        let (before, rest) = key.split_at(at);
        let (letter, behind) = rest.split_at(1);
        let other = match (self.dice.one_of(0..6), letter) {
            (0, _) => return key.to_uppercase(),
            (1, "s") => "\u{17f}".to_owned(),
            (1, "k") => "\u{212a}".to_owned(),
            (1, "i") => "\u{131}".to_owned(),
            (2, _) => format!("\\u{:04x}", u32::from(letter.chars().next().expect("one letter"))),
            (3, _) => format!("{letter}\\u0000"),
            (4, _) => format!(" {letter}"),
            _ => letter.to_uppercase(),
        };
        format!("{before}{other}{behind}")
    }

    fn digest(&mut self) -> String {
        sha256(&self.dice.bytes(16))
    }

    fn descriptor(&mut self) -> String {
        let (digest, media_type, size) = (self.digest(), *self.dice.pick(TYPES), self.dice.one_of(0..1000));
        let fields = vec![
            ("mediaType", format!("\"{media_type}\"")),
            ("digest", format!("\"{digest}\"")),
            ("size", size.to_string()),
        ];
        self.object(fields)
    }

    fn descriptors(&mut self) -> String {
        let count = self.dice.one_of(0..4);
        let all: Vec<String> = (0..count).map(|_| self.descriptor()).collect();
        format!("[{}]", all.join(","))
    }

    /// What stands under keys that mean nothing, or where it should not.
    fn anything(&mut self) -> String {
        match self.dice.one_of(0..8) {
            0 => "null".to_owned(),
            1 => "1.0".to_owned(),
            2 => format!("\"{}\"", self.digest()),
            3 => "{}".to_owned(),
            4 => {
                let (key, value) = (*self.dice.pick(KEYS), self.descriptors());
                self.object(vec![(key, value)])
            }
            5 => self.descriptor(),
            _ => self.descriptors(),
        }
    }

    /// An object of these fields in any order, some of them twice, and some more.
    fn object(&mut self, mut fields: Vec<(&str, String)>) -> String {
        if self.dice.percent(self.odd) {
            let (key, value) = (*self.dice.pick(KEYS), self.anything());
            fields.push((key, value));
        }
        let mut written = Vec::new();
        while !fields.is_empty() {
            let (key, value) = fields.remove(self.dice.one_of(0..fields.len()));
            let key = self.key(key);
            written.push(format!("\"{key}\":{value}"));
        }
        format!("{{{}}}", written.join(","))
    }

    fn manifest(&mut self) -> String {
        let (config, layers) = (self.descriptor(), self.descriptors());
        let mut fields = vec![
            ("schemaVersion", "2".to_owned()),
            ("mediaType", format!("\"{IMAGE}\"")),
            ("config", config),
            ("layers", layers),
        ];
        for (key, value) in [("annotations", r#"{"LAYERS":"free","a":"b"}"#.to_owned()), ("x", self.anything())] {
            if self.dice.percent(30) {
                fields.push((key, value));
            }
        }
        self.object(fields)
    }
}

fn put(repository: &Repository, manifest: &str) -> Response {
    let put = repository.request(Method::PUT, "manifests/odd").header("content-type", IMAGE);
    put.body(manifest.as_bytes().to_vec()).send()
}

/// The digests that an answer names.
fn named(answer: &Response) -> BTreeSet<String> {
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    let after = text.split("\"sha256:").skip(1);
    after.filter_map(|text| text.get(..64)).map(|hex| format!("sha256:{hex}")).collect()
}

#[test]
fn what_the_gateway_takes_the_bare_registry_reads_alike() {
    let scene = Scene::shared();
    let bare = Repository::new(&scene.registry.http(), "acme/reads", &Credentials::None);
    let ours = scene.acme("reads-alike");
    let mut dice = Dice::new(dice::seed());
    let (mut taken, mut refused) = (0, 0);
    for round in 0..ROUNDS {
        let odd = *dice.pick(&[0, 3, 10, 25]);
        let manifest = Writer { dice: dice.other(), odd }.manifest();
        let answer = put(&ours, &manifest);
        if answer.error_code() == "MANIFEST_INVALID" {
            refused += 1;
            continue;
        }
        taken += 1;
        assert_eq!(answer.error_code(), "MANIFEST_BLOB_UNKNOWN", "{manifest}\n{answer}");
        let theirs = put(&bare, &manifest);
        assert!((400..500).contains(&theirs.status), "the bare registry misses nothing\n{manifest}\n{theirs}");
        assert_eq!(named(&answer), named(&theirs), "round {round}: they read different blobs in\n{manifest}\n{theirs}");
    }
    assert!(taken > ROUNDS / 5 && refused > ROUNDS / 5, "{taken} taken, {refused} refused");
}
