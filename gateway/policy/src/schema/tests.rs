use super::Schema;
use crate::LoadError;
use crate::limits::SettingsLimits;
use serde_json::json;
use std::fmt::Write as _;

fn parse(text: &str) -> Result<Option<Schema>, LoadError> {
    Schema::parse(text, &SettingsLimits::default())
}

fn refusal(text: &str) -> String {
    parse(text).map(|_| ()).unwrap_err().to_string()
}

#[test]
fn no_schema_takes_everything() {
    assert!(parse("").unwrap().is_none());
}

#[test]
fn settings_are_checked_and_each_error_tells_its_place() {
    let schema = r##"{"$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object",
        "properties": {"max": {"$ref": "#/$defs/size"}, "names": {"type": "array", "items": {"pattern": "^[a-z]+$"}}},
        "additionalProperties": false, "$defs": {"size": {"type": "integer", "minimum": 1}}}"##;
    let schema = parse(schema).unwrap().unwrap();
    assert!(schema.check(&json!({"max": 3, "names": ["a"]}), 9).is_ok());
    let told = schema.check(&json!({"max": 0, "names": ["A"], "odd": 1}), 9).unwrap_err();
    assert!(told.iter().any(|text| text.starts_with("/max: ")), "{told:?}");
    assert!(told.iter().any(|text| text.starts_with("/names/0: ")), "{told:?}");
    assert_eq!(schema.check(&json!({"max": 0, "names": ["A"], "odd": 1}), 1).unwrap_err().len(), 1);
}

#[test]
fn a_reference_that_leaves_the_schema_is_refused() {
    for reference in ["https://schemas.test/a.json", "file:///etc/passwd", "other.json#/a", "#anchor", "#"] {
        let told = refusal(&format!(r#"{{"$ref": "{reference}"}}"#));
        assert!(told.contains("is no reference to a part of the schema itself"), "{reference}: {told}");
    }
    assert!(refusal(r#"{"$schema": "https://schemas.test/meta.json"}"#).contains("not acceptable"));
    assert!(refusal(r#"{"properties": {"a": {"$id": "https://schemas.test/b"}}}"#).contains("at the root alone"));
}

#[test]
fn a_schema_that_refers_to_itself_is_refused() {
    let told = refusal(r##"{"$defs": {"a": {"allOf": [{"$ref": "#/$defs/a"}]}}, "$ref": "#/$defs/a"}"##);
    assert!(told.contains("refers to itself"), "{told}");
    let told = refusal(r##"{"$dynamicRef": "#a"}"##);
    assert!(told.contains("is not supported"), "{told}");
}

#[test]
fn a_schema_that_grows_with_its_references_is_refused() {
    let mut text = String::from(r##"{"$ref": "#/$defs/p0", "$defs": {"##);
    for level in 0..20 {
        let next = level + 1;
        write!(text, r##""p{level}": {{"allOf": [{{"$ref": "#/$defs/p{next}"}}, {{"$ref": "#/$defs/p{next}"}}]}}, "##)
            .unwrap();
    }
    text.push_str(r#""p20": true}}"#);
    assert!(refusal(&text).contains("subschemas once its references are followed"));
}

#[test]
fn patterns_take_linear_time_and_are_small_once_compiled() {
    // A backtracking engine needs 2^n steps for this one.
    let schema = parse(r#"{"pattern": "^(a+)+$"}"#).unwrap().unwrap();
    let text = format!("{}!", "a".repeat(60_000));
    assert_eq!(schema.check(&json!(text), 9).unwrap_err().len(), 1);
    assert!(refusal(r#"{"pattern": "(?=a)b"}"#).contains("not acceptable"));
    assert!(refusal(r#"{"pattern": "(a{1000}){1000}"}"#).contains("not acceptable"));
    assert!(refusal(r#"{"pattern": "^x?.{0,404600}$"}"#).contains("not acceptable"));
}

#[test]
fn a_schema_nested_too_deep_or_too_long_is_refused() {
    let deep = format!("{}true{}", r#"{"not": "#.repeat(5_000), "}".repeat(5_000));
    assert!(refusal(&deep).contains("no JSON"));
    assert!(refusal(&format!(r#"{{"title": "{}"}}"#, "a".repeat(70_000))).contains("more than the limit"));
}
