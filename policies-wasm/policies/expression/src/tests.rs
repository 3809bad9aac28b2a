use super::*;
use portcullis_policy_sdk::testing;

#[test]
fn its_cases_hold() {
    testing::check_cases::<Expression>("cases");
}

/// What the language has, piece by piece, and what it does not have.
const RULES: &[&str] = &[
    "true",
    "null",
    "-1 - -2 + 3 * 4 / 5 % 6",
    "1u + 0x1Fu == 0xa",
    "-9223372036854775808 < 9223372036854775807",
    "1.5e3 + .25 - 6.02E-23",
    "a && b || !c && !!d",
    "a && b && c && d && e || f || g || h",
    "a ? b : c ? d : e",
    "(a ? b : c) ? (d) : ((e))",
    "a < b == c >= d != (e in f)",
    "1 + 2 < 3 && 4 * 5 > 6 - 7",
    "a.b.c[0]['x'].d(1, 'two', [3], {4: 5})",
    "-a.b + -(c) - - d",
    "!a.b(c)[d]",
    "[]",
    "[1, 2, 3,]",
    "{}",
    "{'a': 1, \"b\": [true], 3: {'c': null},}",
    "'it''s'",
    "'a\\n\\t\\\\\\'\\\"\\x41\\u00e9\\U0001F600\\101' + \"'\"",
    "r'\\n' + R\"\\d+\"",
    "'''two\nlines''' + \"\"\"\"quoted\" \"\"\"",
    "b'bytes\\xff' == b\"\\377\"",
    "'\u{e9}\u{1f600}'",
    "has(a.b) && !has(a.b.c)",
    "has(a)",
    "a.all(x, x > 0) && a.exists(x, x == 1) && a.exists_one(x, x in b)",
    "a.map(x, x * 2).filter(y, y > 2) == a.map(x, x > 1, x * 2)",
    "a.all(x, x.all(y, y.exists(z, z == x)))",
    "a.all(x.y, true)",
    "a.all(1, true)",
    "all(a, b, c)",
    "size(a) + a.size() + int('1') + int(uint(2))",
    "type(a) == string || type(a) == null_type",
    "a.startsWith('b') && a.endsWith('c') && a.contains('d') && a.matches('e')",
    "a // to the line's end\n && b",
    "  \t\r\n a  ",
    ".a.b",
    "a.b{c: 1, d: 'e'}",
    "a.?b",
    "a[?b]",
    "[?a]",
    "a.`b-c`",
    "",
    " ",
    "1 +",
    "+ 1",
    "a b",
    "a..b",
    "(a",
    "a)",
    "[1",
    "{1}",
    "{1: }",
    "a ? b",
    "a ? : b",
    "a = b",
    "a & b",
    "a | b",
    "a === b",
    "1 = 1; 2",
    "'open",
    "\"open'",
    "'\\q'",
    "'\\x4'",
    "'\\ud800'",
    "1a",
    "0x",
    "1.",
    "1e",
    "9223372036854775808",
    "18446744073709551616u",
    "1e999",
    "if",
    "a.if",
    "for in while",
    "in",
    "a in in",
    "a.in",
    "true.false",
    "f(,)",
    "f(a,)",
    "a.f(",
    "#",
    "a \u{e9}",
    "$a",
    "a@b",
];

/// The parser by hand is the younger one: the generated one says what it has to make of a rule.
#[test]
fn a_rule_is_read_as_the_grammar_says() {
    let cases = std::fs::read_to_string("cases/expressions.yaml").unwrap();
    let readme = std::fs::read_to_string("README.md").unwrap();
    let written = cases.lines().chain(readme.lines());
    let written = written.filter_map(|line| line.split_once("expression: \"")?.1.split_once('"').map(|(rule, _)| rule));
    let mut rules: Vec<String> = RULES.iter().copied().chain(written).map(str::to_owned).collect();
    assert!(rules.len() > RULES.len() + 10, "the cases' rules are among them");
    rules.extend([vec!["a"; 300].join(" + "), vec!["a"; 300].join(" || "), format!("a{}", ".b".repeat(300))]);
    // Too deep is too deep for both.
    for (open, close) in [("[", "]"), ("f(", ")"), ("a[", "]"), ("{1: ", "}"), ("-(", ")"), ("b ? c : (", ")")] {
        rules.extend([10, 1_000].map(|levels| format!("{}a{}", open.repeat(levels), close.repeat(levels))));
    }
    let different = with_stack(move || rules.iter().filter_map(|rule| difference(rule)).collect::<Vec<_>>());
    assert!(different.is_empty(), "{}", different.join("\n\n"));
}

/// Where the one by hand takes more than the grammar has, and means the only thing that can be meant.
#[test]
fn a_line_break_in_a_text_and_any_number_of_parentheses_are_fine() {
    let same = |rule: String, as_if: &'static str| {
        let means = |rule: &str| PrattParser::new().parse(rule).map(|rule| shown(&rule)).map_err(|e| e.to_string());
        let (rule, as_if) = with_stack(move || (means(&rule), means(as_if)));
        assert_eq!(rule, as_if);
    };
    same("'a\nb'".to_owned(), r"'a\nb'");
    same(format!("{}a{}", "(".repeat(4_000), ")".repeat(4_000)), "a");
}

/// Nested rules need a stack that a test's thread does not have; a guest has one of its own.
fn with_stack<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    std::thread::Builder::new().stack_size(256 << 20).spawn(work).unwrap().join().unwrap()
}

fn difference(rule: &str) -> Option<String> {
    let ours = PrattParser::new().parse(rule).map(|rule| shown(&rule));
    let theirs = cel::Program::compile(rule).map(|program| shown(program.expression()));
    match (ours, theirs) {
        (Err(_), Err(_)) => None,
        (Ok(ours), Ok(theirs)) if ours == theirs => None,
        (ours, theirs) => {
            let told = |one: Result<String, _>| one.unwrap_or_else(|_| "no rule".to_owned());
            Some(format!("{rule:.200?}\n  is {:.500}\n  and not {:.500}", told(ours), told(theirs)))
        }
    }
}

/// A rule without the numbers of its nodes, which say nothing of what it means.
fn shown(rule: &IdedExpr) -> String {
    let text = format!("{rule:?}");
    let mut parts = text.split("id: ");
    let first = parts.next().unwrap_or_default().to_owned();
    first + &parts.map(|part| part.trim_start_matches(|c: char| c.is_ascii_digit())).collect::<Vec<_>>().join("id: ")
}
