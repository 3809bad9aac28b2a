use super::*;
use http::StatusCode;
use proptest::prelude::*;
use serde_json::{Value, json};

const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

fn digest_of(text: &str) -> String {
    Digest::sha256(text.as_bytes()).to_string()
}

fn layer(text: &str) -> Value {
    json!({ "mediaType": LAYER, "digest": digest_of(text), "size": text.len() })
}

fn image() -> Value {
    json!({
        "schemaVersion": 2,
        "mediaType": media_type::OCI_MANIFEST,
        "config": { "mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest_of("config"), "size": 6 },
        "layers": [layer("one"), layer("two")],
        "annotations": { "org.opencontainers.image.title": "a\nb", "Layers": "free" },
    })
}

fn index() -> Value {
    json!({
        "schemaVersion": 2,
        "mediaType": media_type::OCI_INDEX,
        "manifests": [{
            "mediaType": media_type::OCI_MANIFEST,
            "digest": digest_of("child"),
            "size": 5,
            "artifactType": "application/x",
            "platform": { "os": "windows", "architecture": "amd64", "variant": "v2", "os.version": "10", "os.features": ["win32k"] },
            "annotations": { "a": "b" },
        }],
    })
}

fn parse_value(value: &Value) -> Result<Manifest, ProtocolError> {
    let media_type = value.get("mediaType").and_then(Value::as_str).unwrap_or(media_type::OCI_MANIFEST);
    parse(Some(media_type), value.to_string().as_bytes())
}

fn parse_text(text: &str) -> Result<Manifest, ProtocolError> {
    parse(Some(media_type::OCI_MANIFEST), text.as_bytes())
}

/// The image's text with `insert` behind its opening brace.
fn image_with(insert: &str) -> String {
    image().to_string().replacen('{', &format!("{{{insert},"), 1)
}

/// The image with the value at `pointer` replaced, or removed.
fn altered(mut document: Value, pointer: &str, value: Option<Value>) -> Value {
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    let parent = document.pointer_mut(parent).unwrap().as_object_mut().unwrap();
    match value {
        Some(value) => parent.insert(key.to_owned(), value),
        None => parent.remove(key),
    };
    document
}

#[track_caller]
fn refused(result: Result<Manifest, ProtocolError>, because: &str) {
    let error = result.expect_err(because);
    assert_eq!(error.code, ErrorCode::ManifestInvalid);
    assert_eq!(error.status, StatusCode::BAD_REQUEST);
    assert!(error.message.contains(because), "{:?} does not say {because:?}", error.message);
    assert!(error.message.len() < 1024 && !error.message.contains(char::is_control), "{:?}", error.message);
}

#[test]
fn an_image_is_read() {
    let text = image().to_string();
    let manifest = parse_text(&text).unwrap();
    assert_eq!(manifest.media_type, media_type::OCI_MANIFEST);
    assert_eq!(manifest.artifact_type.as_deref(), Some("application/vnd.oci.image.config.v1+json"));
    assert_eq!(manifest.digest, Digest::sha256(text.as_bytes()));
    assert_eq!(manifest.size, text.len() as u64);
    assert_eq!(manifest.config.unwrap().digest.as_str(), digest_of("config"));
    assert_eq!(manifest.layers.iter().map(|layer| layer.size).collect::<Vec<_>>(), [3, 3]);
    assert!(manifest.children.is_empty() && manifest.subject.is_none());
    assert_eq!(manifest.annotations.len(), 2);
}

#[test]
fn annotations_keep_the_document_s_order() {
    let manifest = parse_text(&image_with(
        r#""subject":{"mediaType":"a/b","size":1,"digest":"other:x","annotations":{"z":"1","a":"2","M":"3"}}"#,
    ));
    let subject = manifest.unwrap().subject.unwrap();
    let keys: Vec<&str> = subject.annotations.iter().map(|(key, _)| key.as_str()).collect();
    assert_eq!(keys, ["z", "a", "M"]);
}

#[test]
fn an_index_is_read() {
    let manifest = parse_value(&index()).unwrap();
    assert!(manifest.config.is_none() && manifest.layers.is_empty() && manifest.artifact_type.is_none());
    let [child] = manifest.children.try_into().unwrap();
    let platform = Platform { os: "windows".into(), architecture: "amd64".into(), variant: Some("v2".into()) };
    assert_eq!(child.platform, Some(platform));
    assert_eq!(child.artifact_type.as_deref(), Some("application/x"));
}

#[test]
fn an_artifact_type_outranks_the_config_s_and_an_empty_one_does_not() {
    let typed = altered(image(), "/artifactType", Some(json!("application/x")));
    assert_eq!(parse_value(&typed).unwrap().artifact_type.as_deref(), Some("application/x"));
    let empty = altered(image(), "/artifactType", Some(json!("")));
    assert_eq!(parse_value(&empty).unwrap().artifact_type.as_deref(), Some("application/vnd.oci.image.config.v1+json"));
}

#[test]
fn foreign_layers_are_told_by_their_media_type_alone() {
    let foreign = |media_type: &str, urls: &[&str]| {
        let layer = json!({ "mediaType": media_type, "digest": digest_of(""), "size": 1, "urls": urls });
        parse_value(&altered(image(), "/layers", Some(json!([layer])))).unwrap().layers[0].is_foreign()
    };
    assert!(foreign("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", &["https://localhost/l"]));
    assert!(foreign("application/vnd.oci.image.layer.nondistributable.v1.tar+zstd", &[]));
    assert!(!foreign(LAYER, &["https://localhost/l"]));
    assert!(!foreign("application/vnd.docker.image.rootfs.foreign.diff.tar", &["https://localhost/l"]));
}

#[test]
fn all_four_media_types_are_taken_with_parameters() {
    for (media_type, document) in [
        (media_type::OCI_MANIFEST, image()),
        (media_type::DOCKER_MANIFEST, image()),
        (media_type::OCI_INDEX, index()),
        (media_type::DOCKER_LIST, index()),
    ] {
        let document = altered(document, "/mediaType", Some(json!(media_type)));
        let header = format!("{media_type} ; charset=utf-8");
        assert_eq!(parse(Some(&header), document.to_string().as_bytes()).unwrap().media_type, media_type);
        let without = altered(document, "/mediaType", None).to_string();
        let is_docker = media_type.contains("docker");
        assert_eq!(parse(Some(media_type), without.as_bytes()).is_err(), is_docker);
    }
}

#[test]
fn other_content_types_are_refused() {
    let text = image().to_string();
    refused(parse(None, text.as_bytes()), "needs a Content-Type");
    for header in [
        "",
        "application/json",
        "application/vnd.docker.distribution.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.v1+prettyjws",
        "application/vnd.oci.image.manifest.v1+JSON",
        "application/vnd.oci.image.manifest.v1+json, application/json",
        "\u{1b}[31m",
    ] {
        refused(parse(Some(header), text.as_bytes()), "is none of");
    }
    for header in [media_type::OCI_INDEX, media_type::DOCKER_MANIFEST, media_type::DOCKER_LIST] {
        refused(parse(Some(header), text.as_bytes()), "send the same");
    }
    refused(parse_value(&altered(image(), "/mediaType", Some(json!("")))), "is none of");
    refused(parse_text(&altered(image(), "/mediaType", Some(json!(""))).to_string()), "send the same");
}

#[test]
fn schema_1_is_refused() {
    refused(parse_value(&altered(image(), "/schemaVersion", Some(json!(1)))), "schema 1");
    refused(parse_value(&altered(image(), "/schemaVersion", Some(json!(3)))), "must be 2");
    refused(parse_value(&altered(image(), "/schemaVersion", None)), "must be 2");
    refused(parse_text(&image_with(r#""fsLayers":[{"blobSum":"sha256:x"}]"#)), "`fsLayers`");
    refused(parse_text(&image_with(r#""history":[]"#)), "`history`");
    refused(parse_text(&image_with(r#""signatures":null"#)), "`signatures`");
}

#[test]
fn one_document_is_one_kind() {
    refused(parse_value(&altered(image(), "/manifests", Some(json!([])))), "`manifests`");
    refused(parse_value(&altered(index(), "/layers", Some(json!([])))), "`layers`");
    refused(parse_value(&altered(index(), "/config", Some(json!(null)))), "`config`");
}

#[test]
fn duplicate_keys_are_refused_wherever_they_stand() {
    refused(parse_text(&image_with(r#""layers":[]"#)), "stands twice");
    refused(parse_text(&image_with(r#""\u006cayers":[]"#)), "stands twice");
    refused(parse_text(&image_with(r#""unknown":{"a":[{"b":1,"b":1}]}"#)), "stands twice");
    refused(parse_text(&image_with(r#""subject":{"annotations":{"a":"1","a":"1"}}"#)), "stands twice");
    refused(parse_text(&image_with("\"a\\u001b\":1,\"a\\u001b\":1")), "stands twice");
}

#[test]
fn keys_that_only_their_case_tells_from_a_known_one_are_refused() {
    for key in [
        "LAYERS",
        "Layers",
        "layer\u{17f}",
        "layer\\u017f",
        "\\u004cayers",
        "ſubject",
        "MANIFESTS",
        "mediatype",
        "FSLayers",
    ] {
        refused(parse_text(&image_with(&format!(r#""{key}":[]"#))), "by its case alone");
    }
    for known in ["Digest", "Size", "URLs", "\u{17f}ize", "Platform", "OS", "os.Version", "OS.features"] {
        refused(parse_text(&image_with(&format!(r#""subject":{{"{known}":1}}"#))), "by its case alone");
        refused(parse_text(&image_with(&format!(r#""unknown":[[{{"x":{{"{known}":1}}}}]]"#))), "by its case alone");
        refused(
            parse_text(&image_with(&format!(r#""unknown":{{"annotations":{{"x":{{"{known}":1}}}}}}"#))),
            "by its case alone",
        );
    }
    assert!(parse_text(&image_with(r#""unknown":{"layer":1,"size2":1,"stze":1,"ßize":1,"org":"x"}"#)).is_ok());
}

#[test]
fn null_and_other_types_are_refused_where_a_key_is_known() {
    let pointers = "/schemaVersion /mediaType /artifactType /config /layers /subject /annotations \
        /config/mediaType /config/digest /config/size /config/urls /config/annotations /config/data /config/platform /config/artifactType";
    for pointer in pointers.split(' ') {
        for value in [json!(null), json!(true), json!(1.5), json!(-1), json!({ "x": [] }), json!([1])] {
            let document = altered(image(), pointer, Some(value));
            let result = parse(Some(media_type::OCI_MANIFEST), document.to_string().as_bytes());
            assert!(result.is_err(), "{pointer} {document}");
        }
    }
    for key in ["os", "architecture", "variant", "os.version", "os.features", "features"] {
        let mut document = index();
        document["manifests"][0]["platform"][key] = json!(null);
        refused(parse_value(&document), &format!("manifests[0].platform.{key} must be"));
    }
}

#[test]
fn errors_say_where() {
    let mut document = image();
    document["layers"][1]["digest"] = json!("sha256:\u{202e}abc");
    refused(parse_value(&document), r#"layers[1].digest is "sha256:\u{202e}abc""#);
    document = image();
    document["layers"][1]["annotations"] = json!({ "\u{1b}": 1 });
    refused(parse_value(&document), "layers[1].annotations has something else");
    refused(parse_value(&altered(image(), "/config/size", None)), "config.size is missing");
    refused(parse_text("[]"), "the manifest must be an object");
    refused(parse_text("{"), "line 1 column 1");
}

#[test]
fn sizes_are_what_go_reads() {
    let size = |text: &str| {
        parse_text(&image_with(&format!(r#""subject":{{"mediaType":"a/b","digest":"other:x","size":{text}}}"#)))
    };
    assert_eq!(size("9223372036854775807").unwrap().subject.unwrap().size, i64::MAX as u64);
    for text in
        ["9223372036854775808", "18446744073709551616", "-1", "-0", "1.0", "1e3", "\"1\"", "1e999", "01", "+1", "NaN"]
    {
        assert!(size(text).is_err(), "{text}");
    }
}

#[test]
fn bytes_that_parsers_read_differently_are_refused() {
    let text = image().to_string();
    let manifest = |bytes: &[u8]| parse(Some(media_type::OCI_MANIFEST), bytes);
    assert!(manifest(format!(" \t\r\n{text}\n").as_bytes()).is_ok());
    refused(manifest(b""), "no unambiguous JSON");
    refused(manifest(format!("\u{feff}{text}").as_bytes()), "no unambiguous JSON");
    for trailing in ["{}", "x", "\0", ",", "\u{a0}", "//"] {
        refused(manifest(format!("{text}{trailing}").as_bytes()), "no unambiguous JSON");
    }
    for inside in
        [&b"\"\xff\":1"[..], b"\"x\":\"\xc3\x28\"", b"\"x\":\"\xed\xa0\x80\"", b"\"x\":\"\x01\"", b"\"x\":\"a\nb\""]
    {
        let bytes = [b"{", inside, b",", &text.as_bytes()[1..]].concat();
        refused(manifest(&bytes), "no unambiguous JSON");
    }
    for inside in [
        r#""x":"\ud800""#,
        r#""x":"\udc00\ud800""#,
        r#""\ud800":1"#,
        r#""x":"\u0000""#,
        r#""\u0000":1"#,
        r#""x":"\x41""#,
        "x:1",
        "'x':1",
        "/**/",
    ] {
        refused(manifest(image_with(inside).as_bytes()), "no unambiguous JSON");
    }
    let escaped = r#""x":"\ud83d\ude00 \u2028 \/""#;
    assert!(manifest(image_with(escaped).as_bytes()).is_ok());
}

#[test]
fn everything_is_bounded() {
    let nested = |depth: usize| image_with(&format!(r#""x":{}{}"#, "[".repeat(depth), "]".repeat(depth)));
    assert!(parse_text(&nested(31)).is_ok());
    refused(parse_text(&nested(32)), "levels deep");
    refused(parse_text(&nested(1_000_000)), "levels deep");
    refused(parse_text(&image_with(&format!(r#""x":[{}0]"#, "0,".repeat(1 << 16)))), "values");
    let layers = |count: usize| parse_value(&altered(image(), "/layers", Some(vec![layer("x"); count].into())));
    assert!(layers(4096).is_ok());
    refused(layers(4097), "layers has more than 4096 entries");
    let annotations = |count: usize| {
        let entries: serde_json::Map<_, _> = (0..count).map(|number| (number.to_string(), json!(""))).collect();
        parse_value(&altered(image(), "/annotations", Some(entries.into())))
    };
    assert!(annotations(1024).is_ok());
    refused(annotations(1025), "annotations has more than 1024 entries");
}

/// A known key with the case of some letters changed, long s and the Kelvin sign among the cases.
fn case_folded() -> impl Strategy<Value = (String, String)> {
    let keys: Vec<&str> = "schemaVersion mediaType artifactType config layers manifests subject annotations fsLayers history signatures name \
        tag architecture digest size urls data platform os variant os.version os.features features"
        .split(' ')
        .collect();
    (prop::sample::select(keys), prop::collection::vec(0_u8..4, 16)).prop_filter_map(
        "the key itself",
        |(key, choices)| {
            let cased: String = key
                .chars()
                .zip(choices)
                .map(|(letter, choice)| match (choice, letter.to_ascii_lowercase()) {
                    (0, _) => letter,
                    (1, _) => letter.to_ascii_uppercase(),
                    (2, 's') => '\u{17f}',
                    (2, 'k') => '\u{212a}',
                    (_, lower) => lower,
                })
                .collect();
            (cased != key).then(|| (key.to_owned(), cased))
        },
    )
}

proptest! {
    #[test]
    fn no_case_of_a_known_key_gets_through((key, cased) in case_folded(), depth in 0_usize..4) {
        let hidden = format!("{}{{\"{cased}\":[]}}{}", "{\"x\":".repeat(depth), "}".repeat(depth));
        refused(parse_text(&image_with(&format!("\"unknown\":{hidden}"))), &key);
        refused(parse_text(&image_with(&format!("\"{cased}\":[]"))), &key);
        let mut document = index();
        document["manifests"][0][&cased] = json!("x");
        refused(parse_value(&document), &key);
        let mut document = index();
        document["manifests"][0]["platform"][&cased] = json!("x");
        refused(parse_value(&document), &key);
        let mut document = image();
        document["annotations"][&cased] = json!("free text");
        prop_assert!(parse_value(&document).is_ok());
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes: Vec<u8>, cut in any::<prop::sample::Index>(), byte: u8) {
        let _ = parse(Some(media_type::OCI_MANIFEST), &bytes);
        let mut text = index().to_string().into_bytes();
        let position = cut.index(text.len());
        text[position] = byte;
        let _ = parse(Some(media_type::OCI_INDEX), &text);
        text.truncate(position);
        prop_assert!(parse(Some(media_type::OCI_INDEX), &text).is_err());
    }
}
