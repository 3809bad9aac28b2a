use crate::route::tests::{HEX, at, get, name, refused, sha256};
use crate::route::{Operation, UploadStart};
use crate::{ErrorCode, Tag};
use http::Method;

#[test]
fn pages_are_numbers_and_positions() {
    let page = |query: &str| match get(&format!("/v2/acme/app/tags/list?{query}")) {
        Ok(Operation::TagsList { page, .. }) => Ok((page.n, page.last)),
        Ok(other) => panic!("{other:?}"),
        Err(error) => Err((error.status.as_u16(), error.code)),
    };
    assert_eq!(page(""), Ok((None, None)));
    assert_eq!(page("n=0&last="), Ok((Some(0), None)));
    assert_eq!(page("&n=007&&last=a%2Fb+c&x=%20"), Ok((Some(7), Some("a/b c".into()))));
    assert_eq!(page("n=4294967295"), Ok((Some(u32::MAX), None)));
    for n in ["", "-1", "%2b1", "+1", "1.5", "x", "4294967296", "99999999999999999999", "%D9%A1", "1%00"] {
        assert_eq!(page(&format!("n={n}")), Err((400, ErrorCode::PaginationNumberInvalid)), "{n}");
    }
    assert_eq!(page("n"), Err((400, ErrorCode::PaginationNumberInvalid)));
    assert_eq!(page("last=a%0a"), Err((400, ErrorCode::Unsupported)));
    assert_eq!(page(&format!("last={}", "a".repeat(513))), Err((400, ErrorCode::Unsupported)));
}

#[test]
fn queries_that_parsers_read_differently_are_refused() {
    for query in [
        "n=1&n=1",
        "n=1&n=2",
        "n=1&%6e=2",
        "last=a&last=b",
        "a;b",
        "n=1;last=a",
        "a=%",
        "a=%4",
        "a=%zz",
        "%zz=a",
        "last=%ff",
        "a b",
        "é",
        "a=\0",
    ] {
        refused(get(&format!("/v2/acme/app/tags/list?{query}")), 400, ErrorCode::Unsupported);
    }
    refused(get("/v2/acme/app/manifests/1?a;b"), 400, ErrorCode::Unsupported);
    refused(get("/v2/?a=%zz"), 400, ErrorCode::Unsupported);
    refused(get(&format!("/v2/?{}", "a".repeat(8193))), 414, ErrorCode::Unsupported);
}

#[test]
fn unknown_parameters_are_dropped() {
    let routed = get("/v2/acme/app/manifests/1?ns=docker.io&ns=x&tag=a&digest=b").unwrap();
    assert_eq!(routed.path_and_query("tenants/acme/app"), "/v2/tenants/acme/app/manifests/1");
    let chunk = at(&Method::PATCH, "/v2/acme/app/blobs/uploads/x?_state=y&from=globex/a&mount=z").unwrap();
    assert_eq!(chunk.path_and_query("acme/app"), "/v2/acme/app/blobs/uploads/x");
    let start = at(&Method::POST, "/v2/acme/app/blobs/uploads/?digest-algorithm=sha512&from=globex/a").unwrap();
    assert_eq!(start, Operation::UploadStart { repository: name("acme/app"), start: UploadStart::Session });
}

#[test]
fn an_upload_starts_in_one_way() {
    let start = |query: &str| at(&Method::POST, &format!("/v2/acme/app/blobs/uploads/?{query}"));
    let mount = |from: Option<&str>| {
        let start = UploadStart::Mount { digest: sha256(), from: from.map(name) };
        Ok(Operation::UploadStart { repository: name("acme/app"), start })
    };
    let digest = format!("sha256%3A{HEX}");
    assert_eq!(start(&format!("mount={digest}&from=acme%2Fb")), mount(Some("acme/b")));
    assert_eq!(start(&format!("from=acme/b&mount={digest}")), mount(Some("acme/b")));
    assert_eq!(start(&format!("mount={digest}")), mount(None));
    for from in ["", "app", "../x", "ACME/b", "acme/b%00", "acme//b"] {
        assert_eq!(start(&format!("mount={digest}&from={from}")), mount(None));
    }
    refused(start(&format!("mount={digest}&digest={digest}")), 400, ErrorCode::Unsupported);
    refused(start(&format!("mount={digest}&from=acme/b&from=acme/c")), 400, ErrorCode::Unsupported);
    refused(start(&format!("mount={digest}&mount={digest}")), 400, ErrorCode::Unsupported);
    for query in ["mount=", "mount", "digest=", "digest=sha256:x", "mount=x&from=acme/b"] {
        refused(start(query), 400, ErrorCode::DigestInvalid);
    }
}

#[test]
fn an_upload_ends_with_one_digest() {
    let end = |query: &str| at(&Method::PUT, &format!("/v2/acme/app/blobs/uploads/x{query}"));
    refused(end(""), 400, ErrorCode::DigestInvalid);
    refused(end("?digest=x"), 400, ErrorCode::DigestInvalid);
    refused(end(&format!("?digest=sha256:{HEX}&digest=sha256:{HEX}")), 400, ErrorCode::Unsupported);
    assert!(end(&format!("?x=y&digest=sha256:{HEX}")).is_ok());
}

#[test]
fn a_push_by_digest_may_set_several_tags() {
    let push =
        |reference: &str, query: &str| match at(&Method::PUT, &format!("/v2/acme/app/manifests/{reference}{query}")) {
            Ok(Operation::ManifestPush { tags, .. }) => Ok(tags.iter().map(Tag::to_string).collect::<Vec<_>>()),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err((error.status.as_u16(), error.code)),
        };
    let digest = format!("sha256:{HEX}");
    assert_eq!(push("1", ""), Ok(vec!["1".into()]));
    assert_eq!(push(&digest, ""), Ok(vec![]));
    assert_eq!(push(&digest, "?tag=b&x=y&tag=a"), Ok(vec!["b".into(), "a".into()]));
    assert_eq!(push(&digest, "?tag=a&tag=a"), Err((400, ErrorCode::Unsupported)));
    assert_eq!(push(&digest, "?tag="), Err((400, ErrorCode::TagInvalid)));
    assert_eq!(push(&digest, "?tag=a%2Fb"), Err((400, ErrorCode::TagInvalid)));
    assert_eq!(push("1", "?tag=2"), Err((400, ErrorCode::Unsupported)));
    let many: Vec<String> = (0..=64).map(|number| format!("tag=t{number}")).collect();
    assert_eq!(push(&digest, &format!("?{}", many[1..].join("&"))).map(|tags| tags.len()), Ok(64));
    assert_eq!(push(&digest, &format!("?{}", many.join("&"))), Err((414, ErrorCode::Unsupported)));
}
