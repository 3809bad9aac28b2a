//! The table of `gateway/SECURITY.md` is right: each rule has tests, and each of them is there.

use crate::workspace;
use std::fs;
use std::path::Path;

/// How many rules there are.
const RULES: usize = 32;

/// A row of the table: number, the files that keep the rule, the tests that fail without them.
struct Row {
    number: usize,
    files: Vec<String>,
    tests: Vec<(String, String)>,
}

/// The text between backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

fn rows(page: &str) -> Vec<Row> {
    let row = |line: &str| {
        let cells: Vec<&str> = line.strip_prefix("| ")?.split(" | ").collect();
        let [number, _rule, files, tests] = cells.as_slice() else { return None };
        let tests = quoted(tests).filter_map(|test| test.rsplit_once("::"));
        Some(Row {
            number: number.trim().parse().ok()?,
            files: quoted(files).map(str::to_owned).collect(),
            tests: tests.map(|(path, name)| (path.to_owned(), name.to_owned())).collect(),
        })
    };
    page.lines().filter_map(row).collect()
}

/// Whether the file makes a test of a function of this name: itself, or by the list that hands a suite's to every store.
fn has_test(root: &Path, path: &str, name: &str) -> bool {
    let read = |path: &str| fs::read_to_string(root.join(path)).unwrap_or_default();
    let source = read(path);
    let lines: Vec<&str> = source.lines().map(str::trim_start).collect();
    let declared = |line: &str| {
        ["fn ", "async fn ", "pub async fn "].iter().any(|start| {
            line.strip_prefix(start).and_then(|rest| rest.strip_prefix(name)).is_some_and(|rest| rest.starts_with('('))
        })
    };
    let Some(at) = lines.iter().position(|line| declared(line)) else { return false };
    let mut above = lines.iter().take(at).rev().take_while(|line| line.starts_with("#[") || line.starts_with("//"));
    let is_test = above.any(|line| line.starts_with("#[test]") || line.starts_with("#[tokio::test"));
    let suite = path.strip_prefix("gateway/store/src/suite/").and_then(|file| file.strip_suffix(".rs"));
    is_test || suite.is_some_and(|topic| read("gateway/store/src/suite.rs").contains(&format!("{topic}::{name}\n")))
}

#[test]
fn every_rule_has_its_row_and_every_test_in_it_is_there() {
    let root = workspace().unwrap();
    let page = fs::read_to_string(root.join("gateway/SECURITY.md")).unwrap();
    let rows = rows(&page);
    let expected: Vec<usize> = (1..=RULES).collect();
    assert_eq!(rows.iter().map(|row| row.number).collect::<Vec<_>>(), expected);
    for Row { number, files, tests } in rows {
        assert!(!files.is_empty() && !tests.is_empty(), "rule {number} has no file or no test");
        for file in files {
            assert!(root.join(&file).is_file(), "rule {number}: there is no {file}");
        }
        for (path, name) in tests {
            assert!(has_test(&root, &path, &name), "rule {number}: there is no test {path}::{name}");
        }
    }
}

#[test]
fn what_is_no_test_is_not_taken_for_one() {
    let root = workspace().unwrap();
    let own = "gateway/xtask/src/security.rs";
    assert!(has_test(&root, own, "what_is_no_test_is_not_taken_for_one"));
    assert!(has_test(&root, "gateway/store/src/suite/rules.rs", "keys_overlap_and_end"));
    for (path, name) in [(own, "rows"), (own, "nothing"), (own, "what_is_no_test"), ("gateway/nothing.rs", "rows")] {
        assert!(!has_test(&root, path, name), "{path}::{name}");
    }
}
