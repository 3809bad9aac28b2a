//! The written configurations: the reference with every key and its default, and the examples.

use super::*;
use std::collections::BTreeSet;

const REFERENCE: &str = include_str!("../../../../../config/reference.toml");

#[test]
fn the_reference_equals_the_defaults() {
    let reference = check(REFERENCE).unwrap();
    let defaults = SHORTEST.replace("\"data\"", "\"/var/lib/portcullis\"");
    assert_eq!(reference, check(&defaults).unwrap());
    assert_eq!(reference.tokens.life, Duration::from_secs(300));
}

/// The reference as it stands, and once for each commented key with that key in force.
fn reference_variants() -> Vec<String> {
    let lines: Vec<&str> = REFERENCE.lines().collect();
    let commented = |line: &str| line.starts_with('#') && line[1..].starts_with(|c: char| c.is_ascii_lowercase());
    let key = |line: &str| line.trim_start_matches('#').split(' ').next().unwrap_or_default().to_owned();
    let variant = |chosen: usize| {
        let mut section = 0;
        let mut text = String::new();
        let header = lines[..chosen].iter().rposition(|line| line.starts_with('['));
        for (number, line) in lines.iter().enumerate() {
            if line.starts_with('[') {
                section = number;
            }
            let replaced = Some(section) == header && number != chosen && key(line) == key(lines[chosen]);
            let written = if number == chosen {
                &line[1..]
            } else if replaced {
                ""
            } else {
                line
            };
            text.push_str(written);
            text.push('\n');
        }
        text
    };
    let chosen = (0..lines.len()).filter(|number| commented(lines[*number]));
    std::iter::once(REFERENCE.to_owned()).chain(chosen.map(variant)).collect()
}

#[test]
fn the_reference_names_every_key() {
    let mut asked = BTreeSet::new();
    let mut written = BTreeSet::new();
    for text in reference_variants() {
        // An https upstream and a PostgreSQL store, so that the keys that only these have contradict nothing.
        let text = text.replace("http://127.0.0.1:5000", "https://upstream.example.com").replace("#url =", "url =");
        let document = Document::parse(text.as_str()).unwrap();
        let reader =
            Reader::new(&text, document.as_table(), Path::new("reference.toml"), Path::new("/etc/portcullis"), &disk);
        read_all(&reader);
        asked.extend(reader.known());
        collect_keys("", document.as_table(), &mut written);
        let errors = reader.into_errors();
        assert_eq!(errors, [], "{text}");
    }
    assert_eq!(asked, written);
}

fn collect_keys(section: &str, table: &dyn toml_edit::TableLike, into: &mut BTreeSet<String>) {
    for (key, item) in table.iter() {
        let path = if section.is_empty() { key.to_owned() } else { format!("{section}.{key}") };
        if let Some(table) = item.as_table_like() {
            collect_keys(&path, table, into);
        }
        into.insert(path);
    }
}

#[test]
fn the_examples_are_right() {
    for text in [include_str!("../../../../../config/dev.toml"), include_str!("../../../../../config/production.toml")]
    {
        check(text).unwrap_or_else(|errors| panic!("{errors:#?}"));
    }
}
