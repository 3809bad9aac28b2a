//! `portcullis doctor`, on either store.

use portcullis_tests::gateway::{Builder, Gateway};
use portcullis_tests::postgres::Postgres;
use portcullis_tests::registry::Registry;
use serde_json::Value;

fn finding(doctor: &Value, about: &str) -> Value {
    let findings = doctor["findings"].as_array().expect("a list");
    findings.iter().find(|finding| finding["about"] == about).unwrap_or_else(|| panic!("{about}: {doctor:#}")).clone()
}

#[track_caller]
fn everything_is_found_in_order(configure: impl FnOnce(Builder) -> Builder) {
    let registry = Registry::start();
    let gateway = configure(Gateway::before(&registry.url())).start();
    let doctor = gateway.cli(&["doctor", "--json"]).json();
    assert_eq!(doctor["ok"], true, "{doctor:#}");
    for about in ["configuration", "data_dir", "master key", "store", "keys", "audit", "upstream", "isolation", "clock"]
    {
        assert_eq!(finding(&doctor, about)["level"], "ok", "{doctor:#}");
    }
    let is_postgres = gateway.store_url().starts_with("postgres");
    let store = finding(&doctor, "store")["found"].as_str().expect("a text").to_owned();
    assert!(store.starts_with(if is_postgres { "PostgreSQL " } else { "SQLite " }), "{store}");
    assert!(!doctor.to_string().contains("store.url"), "a socket of this machine needs no TLS: {doctor:#}");
    assert_eq!(doctor.to_string().contains("PostgreSQL's"), is_postgres, "clocks are compared: {doctor:#}");
    let checkpoints = finding(&doctor, "checkpoints");
    let is_lost_with_the_store = checkpoints["found"].as_str().expect("a text").contains("on the store's disk");
    assert_eq!(is_lost_with_the_store, !is_postgres, "{doctor:#}");
    assert_eq!(checkpoints["level"], if is_postgres { "ok" } else { "warning" }, "{doctor:#}");
}

#[test]
fn a_gateway_that_serves_is_found_in_order() {
    everything_is_found_in_order(|builder| builder);
}

#[test]
fn a_gateway_on_postgresql_is_found_in_order() {
    everything_is_found_in_order(|builder| builder.postgres(&Postgres::shared()));
}

#[test]
fn a_postgresql_that_cannot_be_written_or_reached_is_an_error() {
    let registry = Registry::start();
    let mut gateway = Gateway::before(&registry.url()).postgres(&Postgres::shared()).start();
    let url = gateway.store_url();
    gateway.stop();
    for (store, reason) in [
        (format!("{url}&options=-c%20default_transaction_read_only%3Don"), "read-only transaction"),
        (url.replace("/test_", "/not_there_"), "does not exist"),
    ] {
        gateway.set("store.url", store);
        let output = gateway.command(&["doctor", "--json"]).fails();
        let store = finding(&output.json(), "store");
        assert_eq!(store["level"], "error", "{output}");
        assert!(store["found"].as_str().is_some_and(|found| found.contains(reason)), "{output}");
        assert_ne!(store["advice"], "", "{output}");
    }
}

#[test]
fn a_postgresql_elsewhere_without_verified_tls_is_warned_of() {
    let registry = Registry::start();
    let mut gateway = Gateway::before(&registry.url()).start();
    gateway.stop();
    gateway.set("store.url", "postgres://portcullis@db.invalid/portcullis?sslmode=require");
    let output = gateway.command(&["doctor", "--json"]).fails();
    assert_eq!(finding(&output.json(), "store.url")["level"], "warning", "{output}");
    assert_eq!(finding(&output.json(), "store")["level"], "error", "{output}");
}
