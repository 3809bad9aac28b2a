//! What is shipped for operators, the dashboard and the alerts, speaks of metrics that there are.

use portcullis_tests::command::Run;
use portcullis_tests::gateway::Builder;
use portcullis_tests::guest::shipped;
use portcullis_tests::http::Credentials;
use portcullis_tests::image::{Blob, Manifest};
use portcullis_tests::process::find_program;
use portcullis_tests::scene::{Scene, within};
use serde_json::Value;
use std::collections::BTreeSet;
use std::time::Duration;

const DASHBOARD: &str = include_str!("../../../config/deploy/grafana/portcullis.json");
const ALERTS: &str = include_str!("../../../config/deploy/prometheus/alerts.yml");

/// What is there only where limits are shared by nodes.
const ONLY_WHERE_SHARED: [&str; 1] = ["portcullis_limits_shared_up"];

/// The names of all metrics of ours in a text: words that begin like one.
fn names(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let ours = |word: &&str| word.starts_with("portcullis_") || word.starts_with("process_");
    words.filter(ours).collect()
}

/// All expressions in the dashboard.
fn expressions<'v>(value: &'v Value, into: &mut Vec<&'v str>) {
    match value {
        Value::Object(fields) => fields.iter().for_each(|(key, value)| match value.as_str() {
            Some(text) if key == "expr" => into.push(text),
            _ => expressions(value, into),
        }),
        Value::Array(values) => values.iter().for_each(|value| expressions(value, into)),
        _ => {}
    }
}

/// The names of all samples that a gateway shows.
fn shown(metrics: &str) -> BTreeSet<&str> {
    metrics.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split(['{', ' ']).next()).collect()
}

/// The alerts' expressions, and what is said beside them, where a histogram goes by its name alone.
fn alerts() -> (Vec<&'static str>, Vec<&'static str>) {
    let split = |alert: &'static str| {
        let (expression, told) = alert.split_once("labels: {").expect("an alert has labels");
        (expression, told)
    };
    ALERTS.split("- alert: ").skip(1).map(split).unzip()
}

#[test]
fn every_metric_of_dashboard_and_alerts_is_there() {
    let few = |builder: Builder| builder.set("quota.reconcile_every_s", 1).set("limits.pulls_per_robot", "1/h");
    let scene = Scene::with(few);
    let (image, repository) = (Manifest::image(1, 1000), scene.acme("shown"));
    repository.push("1.0", &image);
    repository.pull("1.0", &image);
    scene.gateway.attach("acme", &shipped("image-limits"), serde_json::json!({"max-layers": 9}), &[]);
    // Some are there only after what they count has happened.
    scene.gateway.set_quota("globex", 1);
    repository.manifest("1.0").refused(429, "TOOMANYREQUESTS");
    let wrong = Credentials::Basic("acme+nobody".to_owned(), "wrong".to_owned());
    scene.gateway.ask_token(&wrong, &[]).expect(401);
    scene.globex("full").put_blob(&Blob::layer(1000)).refused(403, "DENIED");
    let dashboard: Value = serde_json::from_str(DASHBOARD).expect("the dashboard is JSON");
    let mut asked = Vec::new();
    expressions(&dashboard, &mut asked);
    assert!(asked.len() > 50, "{asked:?}");
    let (expressions, told) = alerts();
    let wanted: BTreeSet<&str> = asked.iter().chain(&expressions).flat_map(|text| names(text)).collect();
    let told: BTreeSet<&str> = told.iter().flat_map(|text| names(text)).collect();
    assert!(wanted.len() > 40 && !told.is_empty(), "{wanted:?} {told:?}");
    let mut missing = BTreeSet::new();
    let complete = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        within(Duration::from_secs(30), || {
            let metrics = scene.gateway.metrics();
            let shown = shown(&metrics);
            let is_told = |name: &str| shown.contains(name) || shown.contains(format!("{name}_bucket").as_str());
            let wanted = wanted.iter().filter(|name| !ONLY_WHERE_SHARED.contains(name));
            let of_told = told.iter().filter(|name| !is_told(name));
            missing = wanted.filter(|name| !shown.contains(*name)).chain(of_told).copied().collect();
            missing.is_empty().then_some(())
        });
    }));
    assert!(complete.is_ok(), "no gateway shows {missing:?}");
}

#[test]
fn every_alert_says_what_it_means_and_what_to_do() {
    let alerts: Vec<&str> = ALERTS.split("- alert: ").skip(1).collect();
    assert!(alerts.len() > 15, "{}", alerts.len());
    let mut seen = BTreeSet::new();
    for alert in alerts {
        let name = alert.lines().next().unwrap_or_default();
        assert!(name.starts_with("Portcullis") && seen.insert(name), "{name}");
        for part in ["expr: ", "severity: ", "summary: ", "description: ", "action: "] {
            assert_eq!(alert.matches(part).count(), 1, "{name} has no {part}");
        }
    }
    // Where it happens to be installed, Prometheus' own tool has a look.
    if let Some(promtool) = find_program(&["promtool"], &[]) {
        let rules = tempfile::NamedTempFile::new().expect("the directory for temporary files is writable");
        std::fs::write(rules.path(), ALERTS).expect("the test's own file");
        Run::new(promtool).args(["check", "rules"]).arg(rules.path()).succeeds();
    }
}

#[test]
fn the_dashboards_panels_have_titles_ids_and_queries() {
    let dashboard: Value = serde_json::from_str(DASHBOARD).expect("the dashboard is JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let mut ids = BTreeSet::new();
    for panel in panels {
        assert!(ids.insert(panel["id"].as_u64().expect("an id")), "{panel}");
        assert!(panel["title"].as_str().is_some_and(|title| !title.is_empty()), "{panel}");
        if panel["type"] == "row" {
            continue;
        }
        let targets = panel["targets"].as_array().expect("queries");
        assert!(!targets.is_empty() && targets.iter().all(|target| target["expr"].is_string()), "{panel}");
        let place = |field: &str| panel["gridPos"][field].as_u64().expect("a number");
        assert!(place("x") + place("w") <= 24, "{panel}");
    }
}
