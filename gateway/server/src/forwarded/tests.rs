use super::*;
use http::HeaderValue;
use proptest::prelude::*;

const PROXY: &str = "10.0.0.1";

fn trusted() -> Vec<IpNet> {
    ["10.0.0.0/8", "fd00::/8"].map(|network| network.parse().unwrap()).into()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Who it is, where `peer` sends these lines.
fn seen(field: Field, peer: &str, lines: &[&str]) -> String {
    let mut headers = HeaderMap::new();
    for line in lines {
        headers.append(field.name(), HeaderValue::from_bytes(line.as_bytes()).unwrap());
    }
    client(field, &headers, ip(peer), &trusted()).to_string()
}

#[test]
fn the_first_address_from_the_right_that_is_not_listed_is_the_client() {
    let seen = |lines: &[&str]| seen(Field::XForwardedFor, PROXY, lines);
    assert_eq!(seen(&["192.0.2.1"]), "192.0.2.1");
    assert_eq!(seen(&["192.0.2.1, 10.9.9.9"]), "192.0.2.1");
    assert_eq!(seen(&["6.6.6.6, 192.0.2.1,10.9.9.9 ,\t10.8.8.8"]), "192.0.2.1");
    assert_eq!(seen(&["6.6.6.6", "192.0.2.1", "10.9.9.9"]), "192.0.2.1");
    assert_eq!(seen(&["192.0.2.1:4711"]), "192.0.2.1");
    assert_eq!(seen(&["2001:db8::1"]), "2001:db8::1");
    assert_eq!(seen(&["[2001:db8::1]:4711, [fd00::1]"]), "2001:db8::1");
    assert_eq!(seen(&["::ffff:192.0.2.1"]), "192.0.2.1");
    assert_eq!(seen(&["10.3.3.3, 10.2.2.2"]), "10.3.3.3");
    assert_eq!(seen(&[]), PROXY);
}

#[test]
fn what_comes_from_elsewhere_says_nothing() {
    for field in [Field::XForwardedFor, Field::Forwarded] {
        assert_eq!(seen(field, "192.0.2.9", &["6.6.6.6", "for=6.6.6.6"]), "192.0.2.9");
    }
}

#[test]
fn what_cannot_be_read_ends_at_the_proxy_that_sent_it() {
    let x = |lines: &[&str]| seen(Field::XForwardedFor, PROXY, lines);
    for bad in
        ["", " ", "unknown", "6.6.6", "6.6.6.6 7.7.7.7", "6.6.6.6:", "6.6.6.6:99999", "[6.6.6.6]", "a", "é", "06.6.6.6"]
    {
        assert_eq!(x(&[bad]), PROXY, "{bad}");
        assert_eq!(x(&[&format!("6.6.6.6,{bad}")]), PROXY, "{bad}");
        assert_eq!(x(&["6.6.6.6", &format!("{bad}, 10.9.9.9")]), "10.9.9.9", "{bad}");
    }
    let f = |lines: &[&str]| seen(Field::Forwarded, PROXY, lines);
    for bad in [
        "",
        "6.6.6.6",
        "for",
        "for=",
        "for=\"\"",
        "for=\"6.6.6.6",
        "for=6.6.6.6\"",
        "for=6.6.6.6;for=7.7.7.7",
        "for=6.6.6.6;",
        "for=6.6.6.6;x",
        "for =6.6.6.6",
        "for= 6.6.6.6",
        "for=unknown",
        "for=_hidden",
        "for=2001:db8::1",
        "for=\"2001:db8::1\"",
        "for=[2001:db8::1]",
        "for=6.6.6.6:80",
        "by=6.6.6.6",
        "for=\"6.6.6.\\6\"",
    ] {
        assert_eq!(f(&[bad]), PROXY, "{bad}");
        assert_eq!(f(&[&format!("for=6.6.6.6,{bad}")]), PROXY, "{bad}");
    }
}

#[test]
fn elements_of_the_standard_are_read() {
    let seen = |lines: &[&str]| seen(Field::Forwarded, PROXY, lines);
    assert_eq!(seen(&["for=192.0.2.60"]), "192.0.2.60");
    assert_eq!(seen(&["For=\"[2001:db8:cafe::17]:4711\""]), "2001:db8:cafe::17");
    assert_eq!(seen(&["for=192.0.2.60;proto=http;by=203.0.113.43"]), "192.0.2.60");
    assert_eq!(seen(&["proto=https; host=\"registry.example:443\" ;FOR=\"192.0.2.60:80\""]), "192.0.2.60");
    assert_eq!(seen(&["for=6.6.6.6, for=192.0.2.43, for=10.0.0.2"]), "192.0.2.43");
}

/// A client that leaves a quote open, so that what the proxy adds would be a part of its text.
#[test]
fn an_open_quote_swallows_nothing() {
    let seen = |line: &str| seen(Field::Forwarded, PROXY, &[line]);
    assert_eq!(seen("for=6.6.6.6;x=\", for=192.0.2.1"), "192.0.2.1");
    assert_eq!(seen("for=6.6.6.6;x=\", for=\"[2001:db8::1]:80\""), "2001:db8::1");
    assert_eq!(seen("for=6.6.6.6;x=\", for=192.0.2.1;host=\"a\""), "192.0.2.1");
    assert_eq!(seen("for=6.6.6.6;x=\"\\, for=192.0.2.1"), "192.0.2.1");
}

#[test]
fn the_other_header_is_never_read() {
    let mut headers = HeaderMap::new();
    headers.append("x-forwarded-for", HeaderValue::from_static("192.0.2.1"));
    assert_eq!(client(Field::Forwarded, &headers, ip(PROXY), &trusted()), ip(PROXY));
    headers.append("forwarded", HeaderValue::from_static("for=192.0.2.2"));
    assert_eq!(client(Field::Forwarded, &headers, ip(PROXY), &trusted()), ip("192.0.2.2"));
    assert_eq!(client(Field::XForwardedFor, &headers, ip(PROXY), &trusted()), ip("192.0.2.1"));
}

#[test]
fn a_walk_has_an_end() {
    let many = vec!["10.1.1.1"; 1000].join(",");
    assert_eq!(seen(Field::XForwardedFor, PROXY, &[&format!("6.6.6.6,{many}")]), "10.1.1.1");
}

proptest! {
    /// Whatever a client writes: with the address that our proxy adds behind it, it is that address.
    #[test]
    fn whatever_a_client_claims_the_proxys_word_counts(claim in "[ -~\\t]{0,60}", real: [u8; 4]) {
        let real = IpAddr::from(real);
        prop_assume!(!network::is_in(&trusted(), real));
        for (field, added) in [(Field::XForwardedFor, real.to_string()), (Field::Forwarded, format!("for={real}"))] {
            for lines in [vec![format!("{claim}, {added}")], vec![claim.clone(), added.clone()]] {
                let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
                prop_assert_eq!(seen(field, PROXY, &lines), real.to_string());
            }
        }
    }

    /// It never panics, and what it finds is the peer or was written there.
    #[test]
    fn what_is_found_was_said(line in "(for=)?[\"\\[\\]0-9a-f.:,;= ]{0,80}") {
        for field in [Field::XForwardedFor, Field::Forwarded] {
            let found = seen(field, PROXY, &[&line]);
            let named = line.split([',', ';', '=', '"', ' ']).filter_map(read_node).any(|one| one.to_string() == found);
            prop_assert!(found == PROXY || named, "{} in {}", found, line);
        }
    }
}
