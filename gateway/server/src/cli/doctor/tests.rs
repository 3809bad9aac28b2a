use super::*;
use crate::app::random;
use crate::cli::doctor::{certificate, house, trail, upstream};
use crate::config;
use crate::upstream_admin::Probe;
use portcullis_tenancy::audit::{AuditKeys, Checkpoint, Head, Kind, Link, Note};
use portcullis_tenancy::key::{self, Algorithm, MasterKey, Purpose, StoredKey};
use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use rustls::pki_types::CertificateDer;

const SHORTEST: &str =
    "data_dir = \"/nonexistent\"\n[server]\npublic_url = \"https://registry.example.com\"\nlisten = \"0.0.0.0:8443\"\n";

fn config(upstream: &str, more: &str) -> Config {
    let text = format!("{SHORTEST}[upstream]\nurl = \"{upstream}\"\n{more}");
    let read = |_: &Path| Ok(b"password".to_vec());
    config::parse(&text, Path::new("portcullis.toml"), Path::new("/"), &read)
        .unwrap_or_else(|errors| panic!("{errors:?}"))
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn worst(findings: &[Finding]) -> Level {
    findings.iter().map(|finding| finding.level).max().unwrap_or(Level::Ok)
}

#[track_caller]
fn assert_found(findings: &[Finding], level: Level, told: &str) {
    assert!(
        findings.iter().any(|finding| finding.level == level && finding.found.contains(told)),
        "{level:?} {told}: {findings:#?}"
    );
}

#[test]
fn any_error_fails_and_a_warning_does_not() {
    let warning = Finding::warning("keys", "old", "rotate");
    assert!(!answer(&[Finding::ok("store", "fine"), warning.clone()]).failed);
    let answer = answer(&[warning, Finding::error("store", "gone", "start it")]);
    assert!(answer.failed);
    assert_eq!(answer.text, "warning  keys: old\n         → rotate\nerror    store: gone\n         → start it\n");
    assert_eq!(
        answer.json["findings"][1],
        json!({ "about": "store", "level": "error", "found": "gone", "advice": "start it" })
    );
}

#[test]
fn secrets_in_clear_are_warned_of() {
    let findings = house::examine_transport(&config("http://127.0.0.1:5000", ""));
    assert_eq!(findings, []);
    let more = "auth = { kind = \"basic\", username = \"u\", password_file = \"p\" }\n[store]\nurl = \"postgres://db.example.com/p\"\n";
    let mut config = config("http://registry.internal:5000", more);
    config.server.public_url.https = false;
    let findings = house::examine_transport(&config);
    for about in ["server.public_url", "upstream.auth", "store.url"] {
        assert!(
            findings.iter().any(|finding| finding.about == about && finding.level == Level::Warning),
            "{about}: {findings:#?}"
        );
    }
}

#[test]
fn tls_that_ends_elsewhere_is_warned_of_where_others_reach_the_gateway() {
    let mut config = config("http://127.0.0.1:5000", "");
    config.server.tls = config::Tls::Off;
    assert_eq!(worst(&house::examine_transport(&config)), Level::Warning);
    config.server.listen = vec!["127.0.0.1:8080".parse().unwrap()];
    assert_eq!(worst(&house::examine_transport(&config)), Level::Ok);
}

#[test]
fn isolation_is_judged_by_what_was_tried() {
    let now = at("2027-01-15T08:00:00Z");
    let judge = |isolation: &str, keeps_repositories_apart| {
        let config = config("http://127.0.0.1:5000", &format!("isolation = \"{isolation}\"\n"));
        worst(&upstream::judge(&config.upstream, &Probe { keeps_repositories_apart, ..Probe::default() }, now))
    };
    assert_eq!(judge("ledger", Some(false)), Level::Ok);
    assert_eq!(judge("ledger", None), Level::Ok);
    assert_eq!(judge("repository", Some(true)), Level::Ok);
    assert_eq!(judge("repository", None), Level::Warning);
    assert_eq!(judge("repository", Some(false)), Level::Error);
}

#[test]
fn an_upstream_that_takes_anybodys_uploads_is_an_error_unless_only_this_machine_reaches_it() {
    let now = at("2027-01-15T08:00:00Z");
    let probe = Probe { takes_anonymous_writes: true, ..Probe::default() };
    assert_eq!(worst(&upstream::judge(&config("http://127.0.0.1:5000", "").upstream, &probe, now)), Level::Ok);
    assert_eq!(worst(&upstream::judge(&config("http://10.0.0.1:5000", "").upstream, &probe, now)), Level::Error);
}

#[test]
fn clocks_that_are_apart_are_noticed() {
    let config = config("http://127.0.0.1:5000", "");
    for (now, level) in [
        ("2027-01-15T08:00:05Z", Level::Ok),
        ("2027-01-15T07:59:30Z", Level::Warning),
        ("2027-01-15T08:02:00Z", Level::Error),
        ("2027-01-15T07:58:00Z", Level::Error),
    ] {
        let probe = Probe { date: Some("Fri, 15 Jan 2027 08:00:00 GMT".into()), ..Probe::default() };
        assert_eq!(worst(&upstream::judge(&config.upstream, &probe, at(now))), level, "{now}");
    }
}

fn certificate() -> CertificateDer<'static> {
    let mut params = CertificateParams::new([
        "registry.example.com".to_owned(),
        "*.internal.example.com".into(),
        "192.0.2.1".into(),
    ])
    .unwrap();
    params.not_before = date_time_ymd(2027, 1, 1);
    params.not_after = date_time_ymd(2027, 4, 1);
    params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
}

#[test]
fn a_certificate_is_judged_by_its_time() {
    let judge = |now: &str| {
        certificate::examine_certificate(&certificate(), ["registry.example.com"].into_iter(), "renew it", at(now))
    };
    assert_found(&judge("2026-12-31T00:00:00Z"), Level::Error, "begins on 2027-01-01");
    assert_found(&judge("2027-02-01T00:00:00Z"), Level::Ok, "good until 2027-04-01");
    assert_found(&judge("2027-03-25T00:00:00Z"), Level::Warning, "in 7 days");
    assert_found(&judge("2027-04-02T00:00:00Z"), Level::Error, "ended on 2027-04-01");
}

#[test]
fn a_certificate_must_cover_every_host() {
    let now = at("2027-02-01T00:00:00Z");
    let judge = |hosts: &[&'static str]| {
        certificate::examine_certificate(&certificate(), hosts.iter().copied(), "renew it", now)
    };
    assert_eq!(worst(&judge(&["registry.example.com", "a.internal.example.com", "192.0.2.1"])), Level::Ok);
    assert_found(
        &judge(&["registry.example.com", "other.example.com", "[::1]"]),
        Level::Error,
        "does not cover other.example.com, [::1]",
    );
}

fn stored(master: &MasterKey, algorithm: Algorithm, now: &str) -> StoredKey {
    key::generate(algorithm, &master.seal_key(Purpose::SigningKeys), at(now), at(now), &random).unwrap()
}

#[test]
fn keys_are_judged_by_master_key_algorithm_and_age() {
    let config = config("http://127.0.0.1:5000", "");
    let (master, other) = (MasterKey::new([1; 32]), MasterKey::new([2; 32]));
    let fresh = stored(&master, Algorithm::EdDsa, "2027-01-01T00:00:00Z");
    let judge = |keys: &[StoredKey], master: Option<&MasterKey>, now: &str| {
        house::examine_keys(&config, "id".into(), keys, master, at(now))
    };
    let keys = std::slice::from_ref(&fresh);
    assert_found(&judge(keys, Some(&master), "2027-01-02T00:00:00Z"), Level::Ok, "1 open with this master key");
    assert_found(&judge(keys, Some(&other), "2027-01-02T00:00:00Z"), Level::Error, "master key");
    assert_found(&judge(keys, None, "2027-01-02T00:00:00Z"), Level::Error, "master.key is missing");
    assert_found(&judge(&[], None, "2027-01-02T00:00:00Z"), Level::Warning, "none to sign with");
    assert_found(&judge(keys, Some(&master), "2028-01-02T00:00:00Z"), Level::Warning, "the newest is from 2027-01-01");
    assert_found(&judge(keys, Some(&master), "2026-12-01T00:00:00Z"), Level::Error, "signs from 2027-01-01");
    let es256 = stored(&master, Algorithm::Es256, "2027-01-01T00:00:00Z");
    assert_found(
        &judge(&[es256], Some(&master), "2027-01-02T00:00:00Z"),
        Level::Warning,
        "signed with es256, and tokens.algorithm is ed25519",
    );
}

/// A chain of two records, and a checkpoint behind each.
fn trail(keys: &AuditKeys) -> (Head, [Checkpoint; 2]) {
    let now = at("2027-01-15T08:00:00Z");
    let waiting = (0..2).map(|_| keys.seal(Note::new(Kind::Push, "acme+ci"), "node-a", now, &random)).collect();
    let (chained, head) = keys.chain("node-a", None, waiting);
    let first = Link::first("node-a").then(1, &chained[0].record);
    let checkpoints =
        [(1, first), (2, head.link)].map(|(count, link)| keys.checkpoint("node-a", count, link, now, false));
    (head, checkpoints)
}

#[test]
fn the_trail_is_judged_by_its_ends_and_by_the_checkpoint() {
    let keys = AuditKeys::new(&MasterKey::new([1; 32]));
    let strange = AuditKeys::new(&MasterKey::new([2; 32]));
    let (head, [first, second]) = trail(&keys);
    let judge = |heads: &[(Head, u64)], checkpoint: Option<&Checkpoint>| {
        trail::judge_chains(heads, &[], checkpoint, &keys.witness())
    };
    let whole = [(head.clone(), 2)];
    assert_found(&judge(&[], None), Level::Ok, "nothing is written down yet");
    assert_found(&judge(&whole, Some(&first)), Level::Ok, "2 records; each node's chain ends");
    assert_eq!(worst(&judge(&whole, Some(&second))), Level::Ok);
    for highest in [0, 1, 3] {
        assert_found(&judge(&[(head.clone(), highest)], None), Level::Error, "node node-a does not end");
    }
    let forged = Head { count: 1, ..head.clone() };
    assert_found(&judge(&[(forged, 1)], None), Level::Error, "node node-a does not end");
    assert_found(
        &trail::judge_chains(&whole, &["node-b".into()], None, &keys.witness()),
        Level::Error,
        "head of node node-b",
    );
    let turned_back = [(keys.head("node-a", 1, first.link, None), 1)];
    assert_found(&judge(&turned_back, Some(&second)), Level::Error, "signed up to record 2");
    assert_found(&judge(&[], Some(&first)), Level::Error, "signed up to record 1");
    assert_found(&judge(&whole, Some(&trail(&strange).1[0])), Level::Error, "another deployment's");
    // Where all were forgotten, a base stands for them.
    let base = keys.checkpoint("node-a", 2, head.link, at("2027-01-16T08:00:00Z"), true);
    assert_eq!(worst(&judge(&[(Head { base: Some(base), ..head }, 0)], None)), Level::Ok);
}

#[test]
fn an_old_checkpoint_is_warned_of_where_records_came_after_it_and_any_on_the_stores_disk() {
    let config = config("http://127.0.0.1:5000", "");
    let (head, [first, second]) = trail(&AuditKeys::new(&MasterKey::new([1; 32])));
    let heads = [(head, 2)];
    let judge = |checkpoint: Option<&Checkpoint>, is_beside: bool, now: &str| {
        [trail::judge_checkpoint(&config, &heads, checkpoint, is_beside, at(now))]
    };
    let (soon, later) = ("2027-01-15T08:01:00Z", "2027-01-15T09:00:00Z");
    assert_found(&judge(None, false, soon), Level::Ok, "there is none in /nonexistent yet");
    assert_found(&judge(Some(&first), false, soon), Level::Ok, "is 60 s old, at record 1");
    assert_found(
        &judge(Some(&first), false, later),
        Level::Warning,
        "is 60 min old, at record 1, and as many since are not signed: 1",
    );
    assert_found(&judge(Some(&second), false, later), Level::Ok, "is 60 min old, at record 2");
    assert_found(&judge(Some(&second), true, later), Level::Warning, "on the store's disk");
    assert_found(&judge(None, true, later), Level::Warning, "on the store's disk");
}
