use super::*;
use crate::ErrorCode;
use proptest::prelude::*;

pub const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

pub fn get(target: &str) -> Result<Operation, ProtocolError> {
    at(&Method::GET, target)
}

pub fn at(method: &Method, target: &str) -> Result<Operation, ProtocolError> {
    match target.split_once('?') {
        Some((path, query)) => route(method, path, Some(query)),
        None => route(method, target, None),
    }
}

pub fn name(text: &str) -> RepositoryName {
    RepositoryName::parse(text).unwrap()
}

pub fn sha256() -> Digest {
    Digest::parse(&format!("sha256:{HEX}")).unwrap()
}

#[track_caller]
pub fn refused(result: Result<Operation, ProtocolError>, status: u16, code: ErrorCode) -> String {
    let error = result.unwrap_err();
    assert_eq!((error.status.as_u16(), error.code), (status, code), "{}", error.message);
    assert!(!error.message.contains(char::is_control) && error.message.len() < 1024);
    error.message
}

#[test]
fn every_endpoint_of_the_specification_is_one_operation() {
    let digest = format!("sha256:{HEX}");
    let all = [
        ("GET", "/v2/".to_owned(), "ping"),
        ("HEAD", "/v2/".to_owned(), "ping"),
        ("GET", "/v2/_catalog?n=10&last=acme/a".to_owned(), "catalog"),
        ("GET", "/v2/acme/app/tags/list".to_owned(), "tags-list"),
        ("GET", format!("/v2/acme/app/referrers/{digest}?artifactType=application/x"), "referrers"),
        ("GET", "/v2/acme/app/manifests/1.0".to_owned(), "manifest-pull"),
        ("HEAD", format!("/v2/acme/app/manifests/{digest}"), "manifest-head"),
        ("PUT", "/v2/acme/app/manifests/1.0".to_owned(), "manifest-push"),
        ("DELETE", format!("/v2/acme/app/manifests/{digest}"), "manifest-delete"),
        ("DELETE", "/v2/acme/app/manifests/1.0".to_owned(), "tag-delete"),
        ("GET", format!("/v2/acme/app/blobs/{digest}"), "blob-pull"),
        ("HEAD", format!("/v2/acme/app/blobs/{digest}"), "blob-head"),
        ("DELETE", format!("/v2/acme/app/blobs/{digest}"), "blob-delete"),
        ("POST", "/v2/acme/app/blobs/uploads/".to_owned(), "upload-start"),
        ("POST", format!("/v2/acme/app/blobs/uploads/?digest={digest}"), "upload-start"),
        ("POST", format!("/v2/acme/app/blobs/uploads/?mount={digest}&from=acme/b"), "mount"),
        ("PATCH", "/v2/acme/app/blobs/uploads/abc_-".to_owned(), "upload-chunk"),
        ("PUT", format!("/v2/acme/app/blobs/uploads/abc?digest={digest}"), "upload-finish"),
        ("GET", "/v2/acme/app/blobs/uploads/abc".to_owned(), "upload-status"),
        ("DELETE", "/v2/acme/app/blobs/uploads/abc".to_owned(), "upload-cancel"),
    ];
    for (method, target, operation) in all {
        let routed = at(&method.parse().unwrap(), &target).unwrap();
        assert_eq!(routed.name(), operation);
        assert!(Operation::NAMES.contains(&operation), "{operation} is not listed");
        assert_eq!(routed.path_and_query("acme/app"), target);
        assert_eq!(routed.repository().is_none(), matches!(operation, "ping" | "catalog"));
    }
}

#[test]
fn a_name_may_hold_the_words_of_the_endpoints() {
    let upload = Operation::UploadStart { repository: name("acme/blobs/uploads"), start: UploadStart::Session };
    assert_eq!(at(&Method::POST, "/v2/acme/blobs/uploads/blobs/uploads/"), Ok(upload));
    for (target, repository, operation) in [
        ("/v2/acme/blobs/uploads/x/manifests/1", "acme/blobs/uploads/x", "manifest-pull"),
        ("/v2/acme/manifests/manifests/manifests", "acme/manifests", "manifest-pull"),
        ("/v2/acme/manifests/tags/list", "acme/manifests", "tags-list"),
        ("/v2/acme/tags/list/tags/list", "acme/tags/list", "tags-list"),
        ("/v2/acme/tags/list/manifests/list", "acme/tags/list", "manifest-pull"),
        ("/v2/acme/manifests/blobs/uploads/tags", "acme/manifests", "upload-status"),
        ("/v2/acme/uploads/manifests/uploads", "acme/uploads", "manifest-pull"),
        ("/v2/v2/v2/tags/list", "v2/v2", "tags-list"),
    ] {
        let routed = get(target).unwrap();
        assert_eq!((routed.repository().unwrap().as_str(), routed.name()), (repository, operation), "{target}");
    }
}

#[test]
fn what_is_no_endpoint_is_not_found() {
    for target in [
        "",
        "/",
        "/v2",
        "/V2/",
        "/v2/acme",
        "/v2/acme/app",
        "/v2/acme/app/",
        "/v2/_catalog/",
        "/v2/acme/app/tags",
        "/v2/acme/app/tags/",
        "/v2/acme/app/tags/1",
        "/v2/acme/app/tags/list/",
        "/v2/acme/app/manifests",
        "/v2/acme/app/manifests/",
        "/v2/acme/app/blobs/",
        "/v2/acme/app/blobs/uploads",
        "/v2/acme/app/uploads/",
        "/v2/acme/app/uploads/x",
        "/v2/acme/app/Manifests/1",
        "v2/",
        "/v1/acme/app/manifests/1",
        "/v2/manifests/1",
        "/token",
        "*",
        "/v2/acme/app/referrers/",
        "http://localhost/v2/",
    ] {
        let status = if target.contains("//") { 400 } else { 404 };
        refused(get(target), status, ErrorCode::Unsupported);
    }
}

#[test]
fn paths_that_others_would_clean_are_refused() {
    for target in [
        "//v2/",
        "/v2//",
        "/./v2/",
        "/v2/../v2/",
        "/v2/%5fcatalog",
        "/v2/acme\\app",
        "/v2/\0",
        "/v2/é",
        "/v2/acme/app/tags/..",
        "/v2/acme/app/tags/%6cist",
    ] {
        refused(get(target), 400, ErrorCode::Unsupported);
    }
    for target in [
        "/v2/acme/../globex/app/manifests/1",
        "/v2/acme/./app/manifests/1",
        "/v2/acme//app/manifests/1",
        "/v2//acme/app/manifests/1",
        "/v2/acme/app//manifests/1",
        "/v2/acme%2Fapp/manifests/1",
        "/v2/acme/app%2e/manifests/1",
        "/v2/acme/app\\/manifests/1",
        "/v2/acme/app\0/manifests/1",
        "/v2/acme/%2e%2e/globex/manifests/1",
        "/v2/Acme/app/manifests/1",
        "/v2/acme/app;x/manifests/1",
        "/v2/acme/é/tags/list",
        "/v2/app/manifests/1",
        "/v2/acme/blobs/uploads/x",
        "/v2/host:5000/app/manifests/1",
    ] {
        refused(get(target), 400, ErrorCode::NameInvalid);
    }
    refused(at(&Method::PUT, "/v2/acme/app/manifests/%31"), 400, ErrorCode::TagInvalid);
    refused(at(&Method::DELETE, "/v2/acme/app/manifests/.."), 400, ErrorCode::TagInvalid);
}

#[test]
fn a_manifest_under_what_is_no_tag_is_unknown_to_readers_and_refused_to_writers() {
    let target = "/v2/acme/app/manifests/.INVALID";
    refused(get(target), 404, ErrorCode::ManifestUnknown);
    refused(at(&Method::HEAD, target), 404, ErrorCode::ManifestUnknown);
    refused(at(&Method::PUT, target), 400, ErrorCode::TagInvalid);
    refused(at(&Method::DELETE, target), 400, ErrorCode::TagInvalid);
}

#[test]
fn what_an_upstream_takes_for_a_tag_is_no_digest_of_a_manifest() {
    for reference in [
        "sha256:abc",
        &format!("sha256:{}", HEX.to_uppercase()),
        &format!("blake3:{HEX}"),
        &format!("md5:{}", &HEX[..32]),
    ] {
        for method in [Method::GET, Method::HEAD, Method::PUT, Method::DELETE] {
            refused(at(&method, &format!("/v2/acme/app/manifests/{reference}")), 400, ErrorCode::DigestInvalid);
        }
    }
    assert!(get(&format!("/v2/acme/app/blobs/blake3:{HEX}")).is_ok());
}

#[test]
fn methods_that_an_endpoint_lacks_are_refused_with_those_that_it_has() {
    let digest = format!("sha256:{HEX}");
    for (method, target) in [
        ("POST", "/v2/".to_owned()),
        ("HEAD", "/v2/_catalog".to_owned()),
        ("HEAD", "/v2/acme/app/tags/list".to_owned()),
        ("POST", "/v2/acme/app/manifests/1".to_owned()),
        ("PUT", format!("/v2/acme/app/blobs/{digest}")),
        ("GET", "/v2/acme/app/blobs/uploads/".to_owned()),
        ("PUT", "/v2/acme/app/blobs/uploads/".to_owned()),
        ("POST", "/v2/acme/app/blobs/uploads/x".to_owned()),
        ("HEAD", "/v2/acme/app/blobs/uploads/x".to_owned()),
        ("DELETE", format!("/v2/acme/app/referrers/{digest}")),
        ("CONNECT", "/v2/".to_owned()),
        ("get", "/v2/".to_owned()),
        ("PROPFIND", "/v2/acme/app/manifests/1".to_owned()),
    ] {
        refused(at(&method.parse().unwrap(), &target), 405, ErrorCode::Unsupported);
    }
    let error = at(&Method::PUT, "/v2/").unwrap_err();
    assert_eq!(error.detail, Some(serde_json::json!({ "allow": ["GET", "HEAD"] })));
}

#[test]
fn a_session_is_a_token_of_ours() {
    let session = |text: &str| get(&format!("/v2/acme/app/blobs/uploads/{text}"));
    assert!(session(&"a".repeat(4096)).is_ok());
    for text in [&"a".repeat(4097), "a.b", "a=", "a%20", "..", "a+b", "é"] {
        refused(session(text), 404, ErrorCode::BlobUploadUnknown);
    }
}

#[test]
fn messages_hold_untrusted_text_only_bounded() {
    let long = "A".repeat(100_000);
    for target in [
        format!("/{long}"),
        format!("/v2/acme/{long}/manifests/1"),
        format!("/v2/acme/app/manifests/{long}"),
        format!("/v2/acme/app/blobs/{long}"),
    ] {
        assert!(get(&target).unwrap_err().message.len() < 512);
    }
    let message = refused(get("/v2/acme/\u{1b}[31m\u{202e}/manifests/1"), 400, ErrorCode::NameInvalid);
    assert!(message.is_ascii(), "{message}");
}

fn word() -> impl Strategy<Value = String> {
    const WORDS: &[&str] = &[
        "acme",
        "app",
        "blobs",
        "manifests",
        "uploads",
        "tags",
        "list",
        "referrers",
        "_catalog",
        "v2",
        "",
        ".",
        "..",
        "1.0",
        "a%2fb",
        "A",
        "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "sha256:x",
        "sha256",
        "é",
        "\0",
        "a;b",
        "\\",
    ];
    prop_oneof![8 => prop::sample::select(&WORDS[..10]).prop_map(str::to_owned), 2 => prop::sample::select(WORDS).prop_map(str::to_owned), 1 => any::<String>()]
}

fn paths() -> impl Strategy<Value = String> {
    prop::collection::vec(word(), 0..9).prop_map(|words| format!("/v2/{}", words.join("/")))
}

fn methods() -> impl Strategy<Value = Method> {
    let known = [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS];
    prop::sample::select(known.to_vec())
}

fn queries() -> impl Strategy<Value = String> {
    let names = ["n", "last", "digest", "mount", "from", "tag", "artifactType", "x", "%6e", ""];
    let values = [
        "",
        "1",
        "acme/app",
        "acme%2Fapp",
        "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "a+b",
        "%",
        ";",
        "%00",
        "%C3%A9",
    ];
    let pair = (prop::sample::select(names.to_vec()), prop::sample::select(values.to_vec()))
        .prop_map(|(name, value)| format!("{name}={value}"));
    prop_oneof![8 => prop::collection::vec(pair, 0..4).prop_map(|pairs| pairs.join("&")), 1 => any::<String>()]
}

/// Every reading that a router with one pattern per endpoint, each with any name in it, could give.
fn readings(path: &str) -> Vec<(&'static str, &str, &str)> {
    let is_name = |text: &str| crate::name::is_path(text);
    let rest = path.strip_prefix("/v2/").unwrap_or_default();
    let mut readings = Vec::new();
    for (position, _) in rest.match_indices('/') {
        let (name, suffix) = rest.split_at(position);
        if !is_name(name) {
            continue;
        }
        let single = |text: &str| !text.is_empty() && !text.contains('/');
        if suffix == "/tags/list" {
            readings.push(("tags", name, ""));
        }
        for (prefix, endpoint) in [
            ("/manifests/", "manifest"),
            ("/blobs/", "blob"),
            ("/referrers/", "referrers"),
            ("/blobs/uploads/", "upload"),
        ] {
            if let Some(last) = suffix.strip_prefix(prefix).filter(|last| single(last)) {
                readings.push((endpoint, name, last));
            }
        }
        if suffix == "/blobs/uploads/" {
            readings.push(("uploads", name, ""));
        }
    }
    readings
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn a_path_and_query_is_one_operation_or_refused(method in methods(), path in paths(), query in prop::option::of(queries())) {
        if let Ok(operation) = route(&method, &path, query.as_deref()) {
            let own = operation.repository().map_or("", RepositoryName::as_str);
            let rebuilt = operation.path_and_query(own);
            prop_assert_eq!(rebuilt.split('?').next(), Some(path.as_str()));
            prop_assert!(rebuilt.bytes().all(|byte| byte.is_ascii_graphic()));
            prop_assert_eq!(at(&operation.method(), &rebuilt), Ok(operation.clone()));
            prop_assert_eq!(operation.method() == method, !(operation == Operation::Ping && method == Method::HEAD));
            prop_assert!(rebuilt.parse::<http::uri::PathAndQuery>().is_ok());
        }
    }

    #[test]
    fn no_path_has_two_readings_and_ours_is_the_one(path in paths()) {
        let readings = readings(&path);
        prop_assert!(readings.len() <= 1, "{:?}", readings);
        let ours = [Method::GET, Method::POST].into_iter().find_map(|method| route(&method, &path, None).ok());
        if let Some(repository) = ours.as_ref().and_then(Operation::repository) {
            let (endpoint, name, _) = readings[0];
            prop_assert_eq!(repository.as_str(), name);
            let expected = match ours.as_ref().unwrap().name() {
                "tags-list" => "tags",
                "manifest-pull" => "manifest",
                "blob-pull" => "blob",
                "upload-start" => "uploads",
                "upload-status" => "upload",
                other => other,
            };
            prop_assert_eq!(endpoint, expected);
        }
    }

    #[test]
    fn an_operation_is_read_back_from_what_it_writes(n in prop::option::of(any::<u32>()), last in prop::option::of("[^\\pC]{1,100}"), artifact_type in prop::option::of("[ -~]{1,100}"), algorithm in "[a-z]([+._-][a-z]){0,2}", tags in prop::collection::btree_set("[a-zA-Z0-9_][a-zA-Z0-9._-]{0,9}", 0..5)) {
        let digest = Digest::parse(&format!("{algorithm}:x=_-")).unwrap();
        let repository = name("acme/blobs/uploads");
        let tags = tags.iter().map(|tag| Tag::parse(tag).unwrap()).collect();
        for operation in [
            Operation::Catalog { page: Page { n, last: last.clone() } },
            Operation::TagsList { repository: repository.clone(), page: Page { n, last } },
            Operation::Referrers { repository: repository.clone(), digest: digest.clone(), artifact_type: artifact_type.clone(), last: None },
            Operation::Referrers { repository: repository.clone(), digest: digest.clone(), artifact_type, last: Some(digest.clone()) },
            Operation::BlobPull { repository: repository.clone(), digest: digest.clone() },
            Operation::ManifestPush { repository: repository.clone(), reference: Reference::Digest(sha256()), tags },
            Operation::UploadFinish { repository: repository.clone(), session: SessionToken("x".into()), digest: digest.clone() },
            Operation::UploadStart { repository: repository.clone(), start: UploadStart::Monolithic(digest.clone()) },
            Operation::UploadStart { repository: repository.clone(), start: UploadStart::Mount { digest, from: Some(repository.clone()) } },
        ] {
            let rebuilt = operation.path_and_query(repository.as_str());
            prop_assert_eq!(at(&operation.method(), &rebuilt), Ok(operation));
        }
    }
}
