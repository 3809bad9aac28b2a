//! `policy inspect`: what a component is, and what it says of itself.

use super::directory::Place;
use super::{guest, size, width};
use crate::cli::output::{Answer, Failure};
use crate::cli::table::{self, Column};
use portcullis_policy::question::{Fact, Hook};
use portcullis_policy::{Program, plain};
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};

/// What `inspect` is told.
#[derive(Clone, Debug, clap::Args)]
pub(in crate::cli) struct Arguments {
    /// A component, or a policy's directory
    #[arg(value_name = "FILE|DIR", default_value = ".")]
    what: PathBuf,
}

/// The settings, as people look at them.
const SETTINGS: [Column; 4] =
    [Column::Whole("SETTING"), Column::Wraps("TYPE"), Column::Whole("REQUIRED"), Column::Wraps("WHAT")];

pub(super) fn run(arguments: &Arguments) -> Result<Answer, Failure> {
    let place = if arguments.what.is_dir() {
        Place::of(&arguments.what)
    } else {
        Place { component: Some(arguments.what.clone()), ..Place::of(Path::new(".")) }
    };
    let component = place.component()?;
    let (_, program) = guest::load_from(&place)?;
    let schema = schema(&program);
    Ok(Answer::new(text(&component, &program, &schema), as_json(&component, &program, &schema)))
}

fn text(component: &Path, program: &Program, schema: &Value) -> String {
    let info = program.info();
    let list = |names: Vec<String>| if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    let rows = [
        ("component", component.display().to_string()),
        ("digest", program.digest().as_str().to_owned()),
        ("size", size(program.size())),
        ("class", program.class().name().to_owned()),
        ("name", plain(&info.name, 64)),
        ("version", plain(&info.version, 64)),
        ("hooks", list(hooks(program))),
        ("wants", list(wants(program))),
        ("metrics", list(plain_list(&info.metrics))),
        ("imports", list(plain_list(&program.imports()))),
        ("exports", list(plain_list(&program.exports()))),
    ];
    let lines: String = rows.iter().map(|(name, value)| format!("{name:<10} {value}\n")).collect();
    let settings = settings_rows(schema);
    if settings.is_empty() {
        let none = if schema.is_null() { "it has no schema" } else { "none are named" };
        return format!("{lines}{:<10} {none}\n", "settings");
    }
    format!("{lines}\n{}", table::render(&SETTINGS, &settings, width()))
}

fn as_json(component: &Path, program: &Program, schema: &Value) -> Value {
    let info = program.info();
    json!({
        "component": component.display().to_string(),
        "digest": program.digest().as_str(),
        "size": program.size(),
        "class": program.class().name(),
        "name": plain(&info.name, 64),
        "version": plain(&info.version, 64),
        "hooks": hooks(program),
        "wants": wants(program),
        "metrics": plain_list(&info.metrics),
        "imports": plain_list(&program.imports()),
        "exports": plain_list(&program.exports()),
        "settings_schema": schema,
    })
}

/// The hooks that it names.
pub(super) fn hooks(program: &Program) -> Vec<String> {
    Hook::ALL.into_iter().filter(|hook| program.is_asked_at(*hook)).map(|hook| hook.name().to_owned()).collect()
}

/// The facts that it wants.
pub(super) fn wants(program: &Program) -> Vec<String> {
    Fact::ALL.into_iter().filter(|fact| program.wants_fact(*fact)).map(|fact| fact.name().to_owned()).collect()
}

/// The names in a component, made fit to be shown.
pub(super) fn plain_list(names: &[String]) -> Vec<String> {
    names.iter().map(|name| plain(name, 128)).collect()
}

/// The settings' schema; null where it has none. Its texts are the guest's.
fn schema(program: &Program) -> Value {
    serde_json::from_str(&program.info().settings_schema).map_or(Value::Null, plain_value)
}

/// The same document with every text in it made fit to be shown.
fn plain_value(value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(plain(&text, 4096)),
        Value::Array(items) => items.into_iter().map(plain_value).collect(),
        Value::Object(fields) => {
            let fields = fields.into_iter().map(|(name, value)| (plain(&name, 256), plain_value(value)));
            Value::Object(fields.collect::<Map<_, _>>())
        }
        other => other,
    }
}

/// A row for each setting that the schema names.
fn settings_rows(schema: &Value) -> Vec<Vec<String>> {
    let properties = schema.get("properties").and_then(Value::as_object);
    let required = schema.get("required").and_then(Value::as_array);
    let rows = properties.into_iter().flatten().map(|(name, property)| {
        let is_required = required.is_some_and(|names| names.iter().any(|required| required == name));
        let about = property.get("description").or_else(|| property.get("title")).and_then(Value::as_str);
        let default = property.get("default").map(|default| format!("default: {default}"));
        let what = [about.map(str::to_owned), default].into_iter().flatten().collect::<Vec<_>>().join("; ");
        vec![
            plain(name, 64),
            plain(&kind(property), 64),
            if is_required { "yes" } else { "no" }.to_owned(),
            plain(&what.replace('\n', " "), 256),
        ]
    });
    rows.collect()
}

/// What a setting is, in a word.
fn kind(property: &Value) -> String {
    let word = |value: &Value| value.as_str().map(str::to_owned);
    match property.get("type") {
        Some(Value::String(kind)) if kind == "array" => {
            property.get("items").map_or_else(|| "list".to_owned(), |items| format!("list of {}", kind_of_many(items)))
        }
        Some(Value::String(kind)) => kind.clone(),
        Some(Value::Array(kinds)) => {
            let kinds = kinds.iter().filter_map(word).filter(|kind| kind != "null");
            kinds.collect::<Vec<_>>().join(" or ")
        }
        _ if property.get("enum").is_some() => "one of several".to_owned(),
        _ => "any".to_owned(),
    }
}

fn kind_of_many(items: &Value) -> String {
    items.get("type").and_then(Value::as_str).unwrap_or("any").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_is_told_a_setting_a_row() {
        let schema = json!({
            "type": "object",
            "required": ["max-layers"],
            "properties": {
                "max-layers": { "type": "integer", "description": "most layers\nof an image" },
                "tags": { "type": ["array", "null"], "default": [] },
                "names": { "type": "array", "items": { "type": "string" } },
            },
        });
        let rows = settings_rows(&schema);
        let row = |cells: [&str; 4]| cells.map(str::to_owned).to_vec();
        assert_eq!(
            rows,
            [
                row(["max-layers", "integer", "yes", "most layers of an image"]),
                row(["names", "list of string", "no", ""]),
                row(["tags", "array", "no", "default: []"]),
            ]
        );
        assert!(settings_rows(&Value::Null).is_empty());
    }

    #[test]
    fn no_text_of_a_schema_steers_a_terminal() {
        let schema = plain_value(json!({ "a\u{1b}": ["\u{202e}"], "n": 1 }));
        assert_eq!(schema, json!({ "a\u{fffd}": ["\u{fffd}"], "n": 1 }));
    }
}
