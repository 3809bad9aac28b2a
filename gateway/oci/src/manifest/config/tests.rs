use super::*;
use crate::ErrorCode;
use proptest::prelude::*;
use serde_json::{Value, json};

fn config() -> Value {
    json!({
        "created": "2026-07-01T00:00:00Z",
        "architecture": "arm64",
        "os": "linux",
        "variant": "v8",
        "config": { "User": "app", "Env": ["USER=root"], "Labels": { "b": "2", "User": "x", "a": "1" } },
        "container_config": { "user": "other", "labels": null },
        "rootfs": { "type": "layers", "diff_ids": [] },
        "history": [{ "created": "2026-07-01T00:00:00Z", "Created": "later" }],
        "Size": 7,
    })
}

fn parse(text: &str) -> Result<ImageConfig, ProtocolError> {
    ImageConfig::parse(text.as_bytes())
}

/// The config's text with `insert` behind the brace that opens what stands under `key`, or the whole.
fn with(key: &str, insert: &str) -> String {
    let opening = if key.is_empty() { "{".to_owned() } else { format!("\"{key}\":{{") };
    config().to_string().replacen(&opening, &format!("{opening}{insert},"), 1)
}

#[track_caller]
fn refused(text: &str, because: &str) {
    let error = parse(text).expect_err(because);
    assert_eq!(error.code, ErrorCode::ManifestInvalid);
    assert!(error.message.contains(because), "{:?} does not say {because:?}", error.message);
    assert!(error.message.len() < 1024 && !error.message.contains(char::is_control), "{:?}", error.message);
}

#[test]
fn a_config_is_read() {
    let config = parse(&config().to_string()).unwrap();
    let platform = Platform { os: "linux".into(), architecture: "arm64".into(), variant: Some("v8".into()) };
    assert_eq!((config.platform, config.user.as_deref()), (platform, Some("app")));
    assert_eq!(config.created.as_deref(), Some("2026-07-01T00:00:00Z"));
    let mut labels: Vec<_> = config.labels.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    labels.sort_unstable();
    assert_eq!(labels, [("User", "x"), ("a", "1"), ("b", "2")]);
}

/// Docker writes `null` for what is not set.
#[test]
fn null_is_missing() {
    let nothing = ImageConfig {
        platform: Platform { os: String::new(), architecture: String::new(), variant: None },
        created: None,
        user: None,
        labels: Vec::new(),
    };
    for text in [
        "{}",
        r#"{"config":null}"#,
        r#"{"os":null,"architecture":null,"variant":null,"created":null,"config":{"User":null,"Labels":null}}"#,
        r#"{"config":{"User":""},"variant":""}"#,
    ] {
        assert_eq!(parse(text).unwrap(), nothing, "{text}");
    }
}

#[test]
fn duplicate_keys_are_refused_wherever_they_stand() {
    refused(&with("", r#""architecture":"amd64""#), "stands twice");
    refused(&with("", r#""\u006fs":"windows""#), "stands twice");
    refused(&with("config", r#""User":"root""#), "stands twice");
    refused(&with("Labels", r#""a":"3""#), "stands twice");
    refused(&with("", r#""unknown":[{"a":1,"a":1}]"#), "stands twice");
}

#[test]
fn keys_that_only_their_case_tells_from_one_that_is_read_are_refused() {
    for key in ["OS", "o\u{17f}", "Architecture", "VARIANT", "Created", "Config"] {
        refused(&with("", &format!("\"{key}\":null")), "by its case alone");
    }
    for key in ["user", "USER", "U\u{17f}er", "labels", "Label\u{17f}"] {
        refused(&with("config", &format!("\"{key}\":null")), "by its case alone");
    }
    // What nobody reads has its own keys.
    parse(&with("", r#""User":1,"Labels":[{"OS":1}]"#)).unwrap();
    parse(&with("config", r#""OS":1,"Volumes":{"user":{}}"#)).unwrap();
    parse(&with("Labels", r#""os":"1","USER":"2","labels":"3""#)).unwrap();
}

#[test]
fn other_types_are_refused() {
    for (key, value, wanted) in [
        ("os", "[\"linux\"]", "os must be a string"),
        ("architecture", "1", "architecture must be a string"),
        ("variant", "{}", "variant must be a string"),
        ("created", "1", "created must be a string"),
        ("config", "[]", "config must be an object"),
        ("config", "{\"User\":0}", "config.User must be a string"),
        ("config", "{\"Labels\":[]}", "config.Labels must be an object"),
        ("config", "{\"Labels\":{\"a\":null}}", "config.Labels has something else than a string under \"a\""),
    ] {
        refused(&format!("{{\"{key}\":{value}}}"), wanted);
    }
    for text in ["", "[]", "\"a\"", "null", "{} {}", "{\"os\":\"\\ud800\"}", "\u{feff}{}"] {
        assert!(parse(text).is_err(), "{text:?}");
    }
    assert!(ImageConfig::parse(b"{\"os\":\"\xff\"}").is_err());
}

/// A reader as Go has it: the case of keys is folded, and the last one wins.
fn as_go_reads(entries: &[(String, String)], key: &str) -> Option<String> {
    entries.iter().rev().find(|(name, _)| name.eq_ignore_ascii_case(key)).map(|(_, value)| value.clone())
}

proptest! {
    #[test]
    fn what_is_read_is_what_go_reads(
        entries in prop::collection::vec(("(os|OS|Os|variant|Variant|created|other|Other)", "[a-c]"), 0..6),
    ) {
        let text: Vec<String> = entries.iter().map(|(key, value)| format!("\"{key}\":\"{value}\"")).collect();
        if let Ok(config) = parse(&format!("{{{}}}", text.join(","))) {
            prop_assert_eq!(config.platform.os, as_go_reads(&entries, "os").unwrap_or_default());
            prop_assert_eq!(config.platform.variant, as_go_reads(&entries, "variant"));
            prop_assert_eq!(config.created, as_go_reads(&entries, "created"));
        }
    }

    #[test]
    fn no_bytes_are_too_odd(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        let _ = ImageConfig::parse(&bytes);
    }
}
