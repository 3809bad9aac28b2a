mod reference;

use super::*;
use std::sync::LazyLock;
use std::time::Duration;

const SHORTEST: &str = r#"data_dir = "data"
[server]
public_url = "https://registry.example.com"
listen = "0.0.0.0:8443"
[upstream]
url = "http://127.0.0.1:5000"
"#;

static PAIR: LazyLock<(String, String)> = LazyLock::new(|| {
    let made = rcgen::generate_simple_self_signed(["registry.example.com".to_owned()]).unwrap();
    (made.cert.pem(), made.signing_key.serialize_pem())
});

/// Stands for the disk: certificates, keys and secrets by the endings of their names.
fn disk(path: &Path) -> io::Result<Vec<u8>> {
    let name = path.file_name().unwrap().to_str().unwrap();
    match name {
        "fullchain.pem" | "upstream-ca.pem" | "redis-ca.pem" | "collector-ca.pem" => Ok(PAIR.0.clone().into()),
        "key.pem" => Ok(PAIR.1.clone().into()),
        "other-key.pem" => Ok(rcgen::KeyPair::generate().unwrap().serialize_pem().into()),
        "upstream-password" | "store-password" | "redis-password" => Ok(b"s3cret pass\r\n".to_vec()),
        "collector-headers" => Ok(b"x-key: s3cret pass\n".to_vec()),
        "two-lines" => Ok(b"one\ntwo\n".to_vec()),
        "empty" => Ok(b"\n".to_vec()),
        _ => Err(io::ErrorKind::NotFound.into()),
    }
}

fn check(text: &str) -> Result<Config, Vec<ConfigError>> {
    parse(text, Path::new("portcullis.toml"), Path::new("/etc/portcullis"), &disk)
}

fn errors(text: &str) -> Vec<String> {
    check(text).expect_err("it should be refused").iter().map(ToString::to_string).collect()
}

/// The shortest configuration with more lines at its end.
fn with(more: &str) -> String {
    format!("{SHORTEST}{more}")
}

#[track_caller]
fn assert_refused(text: &str, start: &str, told: &str) {
    let errors = errors(text);
    assert!(
        errors.iter().any(|error| error.starts_with(start) && error.contains(told)),
        "{start} … {told}: {errors:#?}"
    );
    assert_eq!(errors.len(), 1, "{errors:#?}");
}

#[test]
fn the_shortest_configuration_works() {
    let config = check(SHORTEST).unwrap();
    assert_eq!(config.data_dir, Path::new("/etc/portcullis/data"));
    assert_eq!(config.server.public_url.to_string(), "https://registry.example.com");
    assert_eq!(config.server.listen, ["0.0.0.0:8443".parse().unwrap()]);
    assert_eq!(config.server.tls, Tls::SelfSigned);
    assert_eq!(config.upstream.url.to_string(), "http://127.0.0.1:5000");
    assert_eq!(*config.store.url, "sqlite:///etc/portcullis/data/portcullis.db");
    assert_eq!(config.management.listen, ManagementListen::Tcp("127.0.0.1:9090".parse().unwrap()));
}

#[test]
fn an_http_gateway_has_no_tls_by_default() {
    let config = check(&SHORTEST.replace("https://", "http://")).unwrap();
    assert_eq!(config.server.tls, Tls::Off);
}

#[test]
fn tls_may_end_before_the_gateway() {
    let config = check(&SHORTEST.replace("[upstream]", "tls = \"off\"\n[upstream]")).unwrap();
    assert!(config.server.public_url.https);
    assert_eq!(config.server.tls, Tls::Off);
}

#[test]
fn all_errors_come_at_once_each_with_its_line() {
    let errors = errors(
        r#"data_dir = 5
colour = "blue"

[server]
public_url = "registry.example.com"
listen = ["0.0.0.0:8443",
          "localhost:8443"]
tls = "on"

[management]
listen = "0.0.0.0:9090"

[upstream]
auth = { kind = "basic", username = "u", password = "hunter2" }

[tokens]
life = 300
upload_grace_s = "2h"

[limits]
manifest_bytes = 1024
"#,
    );
    let starts = [
        "portcullis.toml:1: data_dir: must be a string, not 5",
        "portcullis.toml:2: colour: is not a known key",
        "portcullis.toml:5: server.public_url: ",
        "portcullis.toml:7: server.listen: \"localhost:8443\"",
        "portcullis.toml:8: server.tls: ",
        "portcullis.toml:11: management.listen: 0.0.0.0:9090 can be reached from other machines",
        "portcullis.toml:13: upstream.url: is missing",
        "portcullis.toml:14: upstream.auth.password_file: is missing",
        "portcullis.toml:14: upstream.auth.password: must not stand in the configuration",
        "portcullis.toml:17: tokens.life: is not a known key: units stand in the key's name; write life_s",
        "portcullis.toml:18: tokens.upload_grace_s: must be a whole number of seconds",
        "portcullis.toml:21: limits.manifest_bytes: must be a whole number of bytes from 4194304",
    ];
    assert_eq!(errors.len(), starts.len(), "{errors:#?}");
    for (error, start) in errors.iter().zip(starts) {
        assert!(error.starts_with(start), "{error}\n  should start with\n{start}");
    }
    assert!(errors[10].ends_with("write upload_grace_s = 7200"), "{}", errors[10]);
    assert!(!errors.concat().contains("hunter2"));
}

#[test]
fn an_empty_file_is_told_all_four_keys_that_it_needs() {
    let errors = errors("");
    assert_eq!(errors.len(), 4, "{errors:#?}");
    for key in ["data_dir", "server.public_url", "server.listen", "upstream.url"] {
        assert!(
            errors.iter().any(|error| error.starts_with(&format!("portcullis.toml:1: {key}: is missing"))),
            "{key}"
        );
    }
}

#[test]
fn a_text_that_is_no_toml_is_refused_with_its_line() {
    assert_refused("data_dir = \"x\"\n[server\n", "portcullis.toml:2: is no TOML: ", "");
    assert_refused(&with("url = \"http://127.0.0.1:5001\"\n"), "portcullis.toml:7: is no TOML: ", "duplicate key");
}

#[test]
fn a_section_that_is_no_section_is_refused() {
    let text = format!("tokens = 3\n{SHORTEST}");
    assert_refused(&text, "portcullis.toml:1: tokens: must be a section, not 3", "write [tokens]");
}

#[test]
fn numbers_of_the_wrong_kind_or_size_are_refused() {
    for (line, told) in [
        ("life_s = 59", "from 60 to 3600, not 59 (clients take a shorter one for a mistake"),
        ("life_s = 3601", "not 3601"),
        ("life_s = -1", "not -1"),
        ("life_s = 300.5", "not 300.5"),
        ("life_s = true", "not true"),
        ("life_s = [300]", "not an array"),
        ("life_s = \"5m\"", "not the string \"5m\""),
        ("life_s = 9223372036854775807", "not 9223372036854775807"),
    ] {
        assert_refused(&with(&format!("[tokens]\n{line}\n")), "portcullis.toml:8: tokens.life_s: ", told);
    }
}

#[test]
fn words_and_lists_of_the_wrong_kind_are_refused() {
    for (section, line, told) in [
        ("tokens", "algorithm = \"rs256\"", "write \"ed25519\" or \"es256\""),
        ("tokens", "service = \"a\\\"b\"", "cannot stand in a challenge"),
        ("log", "level = \"loud\"", "write \"info\" or"),
        ("log", "trusted_networks = [\"10.0.0.1/8\"]", "write 10.0.0.0/8"),
        ("log", "trusted_networks = [10]", "must hold strings only, not 10"),
        ("log", "trusted_networks = 10", "must be an array of strings, not 10"),
        ("traces", "endpoint = \"collector:4318\"", "no scheme"),
        ("traces", "sample_ratio = 1.5", "must be a part from 0 (none) to 1 (all), not"),
        ("traces", "sample_ratio = \"all\"", "must be a part from 0 (none) to 1 (all), not"),
        ("traces", "sample_ratio = -0.1", "must be a part from 0 (none) to 1 (all), not"),
        ("traces", "headers_file = \"two-lines\"", "must hold headers"),
        ("traces", "headers_file = \"missing\"", "cannot read"),
        ("traces", "ca_file = \"empty\"", "holds no certificate"),
        ("traces", "service_name = \"\"", "must be a word"),
        ("management", "listen = \"unix:\"", "must be a path"),
        ("management", "listen = \"unix:/x\\u0000\"", "must be a path"),
        ("management", "listen = \"unix:/x\\ty\"", "must be a path"),
        ("traces", "ca_file = \"/x\\u202ey\"", "must be a path"),
        ("management", "listen = \"9090\"", "no address with a port"),
        ("store", "url = \"mysql://db/p\"", "\"mysql\" is no store that is known"),
        ("store", "url = \"postgres://p:pw@db/p\"", "write password_file"),
        ("store", "password_file = \"store-password\"", "contradicts store.url"),
    ] {
        let key = line.split(' ').next().unwrap();
        assert_refused(
            &with(&format!("[{section}]\n{line}\n")),
            &format!("portcullis.toml:8: {section}.{key}: "),
            told,
        );
    }
}

#[test]
fn who_is_believed_about_clients_must_be_said_and_must_not_be_everybody() {
    let with = |lines: &str| SHORTEST.replace("[upstream]", &format!("{lines}\n[upstream]"));
    let networks = "trusted_proxies = [\"10.0.0.0/8\", \"fd00::1\"]";
    let config = check(&with(&format!("{networks}\nproxy_protocol = true\nforwarded = \"forwarded\""))).unwrap();
    let balancer = config.server.balancer;
    assert!(balancer.announces("10.1.2.3".parse().unwrap()) && balancer.forwards("::ffff:10.1.2.3".parse().unwrap()));
    assert!(!balancer.speaks("11.1.2.3".parse().unwrap()) && !balancer.speaks("fd00::2".parse().unwrap()));
    let balancer = check(&with(networks)).unwrap().server.balancer;
    assert!(!balancer.speaks("10.1.2.3".parse().unwrap()), "nobody is asked");
    for (line, told) in [
        ("proxy_protocol = true", "is of no use without server.trusted_proxies"),
        ("forwarded = \"x-forwarded-for\"", "is of no use without server.trusted_proxies"),
        ("forwarded = \"x-real-ip\"", "write \"off\" or \"x-forwarded-for\" or \"forwarded\""),
        ("proxy_protocol = \"v2\"", "must be true or false"),
        ("trusted_proxies = \"0.0.0.0/0\"", "is everybody"),
        ("trusted_proxies = \"::/0\"", "is everybody"),
        ("trusted_proxies = \"10.0.0.1/8\"", "write 10.0.0.0/8"),
    ] {
        let key = line.split(' ').next().unwrap();
        assert_refused(&with(line), &format!("portcullis.toml:5: server.{key}: "), told);
    }
}

#[test]
fn contradictions_between_keys_are_refused() {
    let http = SHORTEST.replace("https://", "http://");
    assert_refused(
        &http.replace("[upstream]", "tls = \"self-signed\"\n[upstream]"),
        "portcullis.toml:5: server.tls: contradicts server.public_url",
        "",
    );
    assert_refused(
        &http.replace("[upstream]", "tls = { cert_file = \"fullchain.pem\", key_file = \"key.pem\" }\n[upstream]"),
        "portcullis.toml:5: server.tls: contradicts server.public_url",
        "",
    );
    assert_refused(
        &with("ca_file = \"upstream-ca.pem\"\n"),
        "portcullis.toml:7: upstream.ca_file: contradicts upstream.url",
        "",
    );
    assert_refused(&with("redirects = \"pass\"\n"), "portcullis.toml:7: upstream.redirects: ", "redirect_hosts");
    assert_refused(
        &with(
            "auth = { kind = \"basic\", username = \"u\", password_file = \"upstream-password\", realm_hosts = [\"a\"] }\n",
        ),
        "portcullis.toml:7: upstream.auth.realm_hosts: contradicts",
        "",
    );
    assert_refused(
        &with("[management]\nlisten = \"127.0.0.1:8443\"\n"),
        "portcullis.toml:8: management.listen: 127.0.0.1:8443 is taken",
        "",
    );
    assert_refused(
        &SHORTEST.replace("127.0.0.1:5000", "localhost:8443"),
        "portcullis.toml:6: upstream.url: http://localhost:8443 is the gateway itself",
        "",
    );
    assert_refused(
        &SHORTEST.replace("http://127.0.0.1:5000", "https://registry.example.com"),
        "portcullis.toml:6: upstream.url: ",
        "itself",
    );
    assert_refused(&SHORTEST.replace("\"0.0.0.0:8443\"", "[]"), "portcullis.toml:4: server.listen: is empty", "");
    assert_refused(
        &SHORTEST.replace("\"0.0.0.0:8443\"", "[\"[::]:1\", \"[::]:1\"]"),
        "portcullis.toml:4: server.listen: [::]:1 is listed twice",
        "",
    );
    assert_refused(
        &SHORTEST.replace("registry.example.com", "0.0.0.0"),
        "portcullis.toml:3: server.public_url: ",
        "not one that a client can go to",
    );
}

#[test]
fn several_listeners_on_port_0_are_no_contradiction() {
    let text = SHORTEST.replace("\"0.0.0.0:8443\"", "[\"127.0.0.1:0\", \"127.0.0.1:0\"]")
        + "[management]\nlisten = \"127.0.0.1:0\"\n";
    assert_eq!(check(&text).unwrap().server.listen.len(), 2);
}

#[test]
fn files_that_cannot_be_used_are_refused() {
    let tls = |cert: &str, key: &str| {
        SHORTEST.replace("[upstream]", &format!("tls.cert_file = \"{cert}\"\ntls.key_file = \"{key}\"\n[upstream]"))
    };
    check(&tls("fullchain.pem", "key.pem")).unwrap();
    assert_refused(
        &tls("missing.pem", "key.pem"),
        "portcullis.toml:5: server.tls.cert_file: cannot read /etc/portcullis/missing.pem",
        "",
    );
    assert_refused(&tls("key.pem", "key.pem"), "portcullis.toml:5: server.tls.cert_file: ", "holds no certificate");
    assert_refused(
        &tls("fullchain.pem", "fullchain.pem"),
        "portcullis.toml:6: server.tls.key_file: ",
        "holds no private key",
    );
    assert_refused(&tls("fullchain.pem", "other-key.pem"), "portcullis.toml:6: server.tls.key_file: ", "does not fit");
    let auth = |file: &str| {
        with(&format!("[upstream.auth]\nkind = \"basic\"\nusername = \"u\"\npassword_file = \"{file}\"\n"))
    };
    for (file, told) in [("missing", "cannot read"), ("two-lines", "one line of text"), ("empty", "one line of text")] {
        assert_refused(&auth(file), "portcullis.toml:10: upstream.auth.password_file: ", told);
    }
}

#[test]
fn secrets_come_from_files_without_the_end_of_line_and_are_never_printed() {
    let text = with(
        "auth = { kind = \"bearer\", username = \"u\", password_file = \"upstream-password\" }\n[store]\nurl = \"postgres://p@db/p\"\npassword_file = \"store-password\"\n[traces]\nheaders_file = \"collector-headers\"\n",
    );
    let config = check(&text).unwrap();
    let UpstreamAuth::Bearer { password, realm_hosts, .. } = &config.upstream.auth else { panic!("bearer") };
    assert_eq!(**password, "s3cret pass");
    assert_eq!(realm_hosts, &["127.0.0.1:5000"]);
    assert_eq!(*config.store.url, "postgres://p@db/p?password=s3cret+pass");
    assert_eq!(*config.traces.headers[0].1, *"s3cret pass");
    let printed = format!("{config:?}");
    assert!(!printed.contains("s3cret"), "{printed}");
}

#[test]
fn how_many_requests_are_traced_is_a_part_of_the_whole() {
    for (written, part) in [("0", 0), ("1", 1_000_000), ("0.0", 0), ("1.0", 1_000_000), ("0.25", 250_000)] {
        let config = check(&with(&format!("[traces]\nsample_ratio = {written}\n"))).unwrap();
        assert_eq!(config.traces.sample_of_million, part, "{written}");
    }
    let contradiction = with("[traces]\nendpoint = \"http://127.0.0.1:4318\"\nca_file = \"collector-ca.pem\"\n");
    assert_refused(
        &contradiction,
        "portcullis.toml:9: traces.ca_file: contradicts traces.endpoint",
        "leave ca_file out",
    );
}

#[test]
fn relative_paths_count_from_the_configurations_directory() {
    let config =
        check(&with("[management]\nlisten = \"unix:run/m.sock\"\n[store]\nurl = \"sqlite://s.db\"\n")).unwrap();
    assert_eq!(config.management.listen, ManagementListen::Unix("/etc/portcullis/run/m.sock".into()));
    assert_eq!(*config.store.url, "sqlite:///etc/portcullis/s.db");
}

#[test]
fn a_reload_takes_over_what_it_can_and_names_what_it_cannot() {
    let old = check(SHORTEST).unwrap();
    assert_eq!(take_over(&old, old.clone()), (old.clone(), vec![]));
    let fresh = check(&with("isolation = \"repository\"\n[tokens]\nlife_s = 600\n")).unwrap();
    assert_eq!(take_over(&old, fresh.clone()), (fresh, vec![]));

    let more = "pool_idle_s = 5\n[management]\nlisten = \"127.0.0.1:9091\"\n[tokens]\nservice = \"x\"\nlife_s = 600\n[log]\nlevel = \"debug\"\n";
    let fresh = check(&with(more).replace(":8443", ":8444")).unwrap();
    let (taken, kept) = take_over(&old, fresh);
    assert_eq!(kept, ["server.listen", "management", "upstream", "tokens.service", "log.level"]);
    assert_eq!(taken.tokens.life, Duration::from_secs(600));
    let Tokens { service, .. } = &taken.tokens;
    assert_eq!((service, &taken.server, &taken.upstream), (&old.tokens.service, &old.server, &old.upstream));

    let off = check(&SHORTEST.replace("[upstream]", "tls = \"off\"\n[upstream]")).unwrap();
    assert_eq!(take_over(&old, off), (old, vec!["server.tls"]));
}

#[test]
fn a_project_has_a_share_of_what_the_node_bears_where_nothing_else_is_written() {
    let share = |more: &str| check(&with(more)).unwrap().under_way_per_project();
    assert_eq!(share(""), Some(96), "the reference says so");
    assert_eq!(share("max_connections = 1024\n"), Some(384));
    assert_eq!(share("max_connections = 1\n"), Some(1));
    assert_eq!(share("[limits]\nrequests_under_way = 80\n"), Some(30));
    assert_eq!(share("[limits]\nrequests_under_way_per_project = 1024\n"), Some(1024));
    assert_eq!(share("[limits]\nrequests_under_way_per_project = 0\n"), None);
    // What a reload cannot change of the upstream is not counted with either.
    let old = check(SHORTEST).unwrap();
    let (taken, _) = take_over(&old, check(&with("max_connections = 1024\n")).unwrap());
    assert_eq!(taken.under_way_per_project(), Some(96));
}

#[test]
fn a_file_that_cannot_be_read_is_one_error() {
    let dir = tempfile::tempdir().unwrap();
    let missing = load(&dir.path().join("portcullis.toml")).unwrap_err();
    assert_eq!(missing.len(), 1);
    assert!(missing[0].message.contains("--config"), "{}", missing[0]);
    let binary = dir.path().join("binary.toml");
    std::fs::write(&binary, [0xff, 0xfe]).unwrap();
    assert!(load(&binary).unwrap_err()[0].message.contains("UTF-8"));
}
