//! The policies that come with Portcullis, each with settings as its page shows them.

use std::path::Path;

/// Those that say something of a pushed manifest from the record alone.
pub(crate) const ASKED: [(&str, &str); 6] = [
    ("image-limits", LIMITS),
    ("naming", NAMING),
    ("required-annotations", ANNOTATIONS),
    ("trusted-callers", CALLERS),
    ("expression", EXPRESSION),
    ("rego", REGO),
];

/// All of them.
pub(crate) const ALL: [(&str, &str); 10] = [
    ("image-limits", LIMITS),
    ("naming", NAMING),
    ("required-annotations", ANNOTATIONS),
    ("trusted-callers", CALLERS),
    ("expression", EXPRESSION),
    ("rego", REGO),
    ("platforms", r#"{"allow":["linux/amd64","linux/arm64"]}"#),
    ("token-ttl", r#"{"rules":[{"robots":["ci-*"],"max-ttl-s":120}]}"#),
    ("change-freeze", r#"{"weekly":[{"start":"Fri 16:00","end":"Mon 06:00"}],"utc-offset":"+01:00"}"#),
    ("tag-immutability", r#"{"patterns":["release-*"],"except":["*-dev"]}"#),
];

const LIMITS: &str = r#"{"max-size":"2 GiB","max-layers":40}"#;
const NAMING: &str = r#"{"repositories":["acme/**"],"forbidden-tags":["latest","*-dirty"]}"#;
const ANNOTATIONS: &str =
    r#"{"require":{"org.opencontainers.image.label3":"value*","org.opencontainers.image.label7":"**"}}"#;
const CALLERS: &str = r#"{"robots":["release"],"networks":["10.0.0.0/8"]}"#;
const EXPRESSION: &str =
    r#"{"expression":"manifest.layers.all(l, l.size < 500 * 1024 * 1024)","message":"a layer is larger than 500 MiB"}"#;
const REGO: &str = r#"{"source":"package registry\n\ndeny contains msg if {\n  count(input.manifest.layers) > data.max_layers\n  msg := sprintf(\"image has %d layers, limit %d\", [count(input.manifest.layers), data.max_layers])\n}\n","data":{"max_layers":40}}"#;

/// The component of one of them.
pub(crate) fn component(name: &str) -> Vec<u8> {
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../policies-wasm/target/components");
    let file = built.join(name).with_extension("wasm");
    std::fs::read(&file)
        .unwrap_or_else(|error| panic!("{}: {error} (`cargo xtask policies` builds it)", file.display()))
}
