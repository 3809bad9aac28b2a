use super::*;
use proptest::prelude::*;

fn scope(text: &str) -> Scope {
    Scope::parse(text).unwrap()
}

fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Option<UpstreamChallenge> {
    Some(UpstreamChallenge::Bearer {
        realm: realm.into(),
        service: service.map(Into::into),
        scope: scope.map(Into::into),
    })
}

#[test]
fn a_challenge_is_written_as_clients_read_it() {
    let scopes = [scope("repository:acme/a:pull,push"), scope("repository:acme/b:pull")];
    let value = bearer_challenge(
        "https://localhost:8443/token",
        "portcullis",
        &scopes,
        Some(ChallengeError::InsufficientScope),
    );
    assert_eq!(
        value,
        r#"Bearer realm="https://localhost:8443/token",service="portcullis",scope="repository:acme/a:pull,push repository:acme/b:pull",error="insufficient_scope""#
    );
    let value = bearer_challenge("https://localhost/token", "portcullis", &[], None);
    assert_eq!(value, r#"Bearer realm="https://localhost/token",service="portcullis""#);
}

#[test]
fn nothing_breaks_out_of_a_quoted_string() {
    let value = bearer_challenge("a\",realm=\"b\\\r\nx: y", "é\0", &[], Some(ChallengeError::InvalidToken));
    assert_eq!(value, r#"Bearer realm="a\",realm=\"b\\x: y",service="",error="invalid_token""#);
}

#[test]
fn challenges_of_upstreams_are_read() {
    assert_eq!(parse_challenge("Basic realm=\"x\""), Some(UpstreamChallenge::Basic));
    assert_eq!(parse_challenge("basic"), Some(UpstreamChallenge::Basic));
    assert_eq!(
        parse_challenge(
            r#"Bearer realm="https://a/t",service="s",scope="repository:a/b:pull,push",error="invalid_token""#
        ),
        bearer("https://a/t", Some("s"), Some("repository:a/b:pull,push"))
    );
    assert_eq!(parse_challenge("BEARER  Service = s , , REALM=\"r\"  "), bearer("r", Some("s"), None));
    assert_eq!(parse_challenge(r#"Bearer realm="a \"b\\ c,d""#), bearer("a \"b\\ c,d", None, None));
}

#[test]
fn the_first_challenge_that_is_known_counts() {
    assert_eq!(parse_challenge(r#"Negotiate, Bearer realm="r""#), bearer("r", None, None));
    assert_eq!(
        parse_challenge(r#"Digest realm="x", nonce="y", Bearer realm="r",service="s""#),
        bearer("r", Some("s"), None)
    );
    assert_eq!(parse_challenge(r#"Basic realm="x", Bearer realm="r""#), Some(UpstreamChallenge::Basic));
}

#[test]
fn malformed_challenges_are_none() {
    let malformed = [
        "",
        ",",
        "Negotiate",
        "Bearer",
        "Bearer realm",
        "Bearer realm=",
        "Bearer realm=\"\"",
        "Bearer realm=\"r",
        "Bearer realm=\"r\\",
        "Bearer realm=\"r\nx\"",
        "Bearer service=\"s\"",
        "Bearer realm=\"r\",realm=\"q\"",
        "Bearer realm=\"r\" service=\"s\"",
        "Bearer realm=\"r\"service=\"s\"",
        "Bearer realm=r/s",
        "Bearer\u{a0}realm=\"r\"",
        "Bearer=realm",
        "\"Bearer\" realm=\"r\"",
    ];
    for text in malformed {
        assert_eq!(parse_challenge(text), None, "{text:?}");
    }
    assert_eq!(parse_challenge(&format!("Bearer realm=\"{}\"", "r".repeat(MAX_CHALLENGE_BYTES))), None);
}

fn authorization(text: &[u8]) -> Result<(String, String), String> {
    let value = HeaderValue::from_bytes(text).unwrap();
    match parse_authorization(&value) {
        Ok(Authorization::Basic { username, password }) => Ok((username, password)),
        Ok(Authorization::Bearer(token)) => Ok(("bearer".into(), token.into())),
        Err(error) => Err(format!("{error:?}")),
    }
}

fn basic_header(credentials: &[u8]) -> Vec<u8> {
    format!("Basic {}", STANDARD.encode(credentials)).into_bytes()
}

#[test]
fn basic_credentials_fall_apart_at_the_first_colon() {
    assert_eq!(authorization(&basic_header(b"acme+ci:se:cr:et")), Ok(("acme+ci".into(), "se:cr:et".into())));
    assert_eq!(authorization(b"bAsIc  dTpw "), Ok(("u".into(), "p".into())));
    assert_eq!(authorization(&basic_header("ü:ö".as_bytes())), Ok(("ü".into(), "ö".into())));
    assert_eq!(authorization(&basic_header(b":")), Ok((String::new(), String::new())));
}

#[test]
fn malformed_basic_credentials_are_refused() {
    for header in [
        b"Basic".to_vec(),
        b"Basic ".to_vec(),
        b"Basic !!!".to_vec(),
        b"Basic dTpw=".to_vec(),
        b"Basic dTp".to_vec(),
        b"Basic dTpw dTpw".to_vec(),
        basic_header(b"nocolon"),
        basic_header(b"u:\xff"),
        basic_header(b"u\n:p"),
        basic_header(b"u:p\0"),
        basic_header("u:\u{85}".as_bytes()),
    ] {
        assert_eq!(authorization(&header), Err("MalformedBasic".into()), "{}", String::from_utf8_lossy(&header));
    }
}

#[test]
fn a_bearer_token_is_one_token() {
    assert_eq!(authorization(b"bearer abc.d-e_f~+/=="), Ok(("bearer".into(), "abc.d-e_f~+/==".into())));
    for header in ["Bearer", "Bearer ", "Bearer a b", "Bearer a,b", "Bearer =", "Bearer a=b", "Bearer \"a\""] {
        assert_eq!(authorization(header.as_bytes()), Err("MalformedBearer".into()), "{header:?}");
    }
}

#[test]
fn other_schemes_are_refused() {
    for header in [&b""[..], b" ", b"Digest a=b", b"BasicdTpw", b"Bearer\ta", b"Bearer \xff", b"\xff"] {
        assert_eq!(authorization(header), Err("UnknownScheme".into()));
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(realm in "[ -~]{1,40}", service in "[ -~]{0,40}", names in prop::collection::vec("[a-z]{1,3}/[a-z]{1,3}", 0..4), error in 0..3_usize) {
        let scopes: Vec<Scope> = names.iter().map(|name| scope(&format!("repository:{name}:pull"))).collect();
        let error = [None, Some(ChallengeError::InvalidToken), Some(ChallengeError::InsufficientScope)][error];
        let value = bearer_challenge(&realm, &service, &scopes, error);
        let text = scopes.iter().map(Scope::to_string).collect::<Vec<_>>().join(" ");
        let expected = bearer(&realm, Some(&service), (!scopes.is_empty()).then_some(text.as_str()));
        prop_assert_eq!(parse_challenge(value.to_str().unwrap()), expected);
    }

    #[test]
    fn any_challenge_is_read_or_refused(text in any::<String>(), near in "(Basic|Bearer|Digest|realm|service|scope|=|,| |\"|\\\\|a){0,20}") {
        let _ = parse_challenge(&text);
        let _ = parse_challenge(&near);
    }

    #[test]
    fn any_basic_credentials_are_read_back_or_refused(username in "[^:\\pC]{0,20}", password in "[^\\pC]{0,20}", bytes: Vec<u8>) {
        let header = basic_header(format!("{username}:{password}").as_bytes());
        prop_assert_eq!(authorization(&header), Ok((username, password)));
        let _ = authorization(&basic_header(&bytes));
    }
}
