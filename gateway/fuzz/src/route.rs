//! Request lines.

use crate::{Outcome, text};
use http::Method;
use portcullis_oci::RepositoryName;
use portcullis_oci::route::{Operation, route as parse};

/// `METHOD TARGET`. A target is one operation or refused; the path that is rebuilt from the operation is the one that came, and
/// is read as the same operation; and with an upstream's name in it, it is still that operation, on that name.
pub fn route(bytes: &[u8]) -> Outcome {
    let Some((method, target)) = text(bytes).and_then(|line| line.split_once(' ')) else { return Outcome::Refused };
    let Ok(method) = Method::from_bytes(method.as_bytes()) else { return Outcome::Refused };
    let operation = match at(&method, target) {
        Ok(operation) => operation,
        Err(error) => {
            assert!(error.status.is_client_error(), "{error:?}");
            assert!(error.message.len() < 1024 && !error.message.contains(char::is_control), "{error:?}");
            return Outcome::Refused;
        }
    };
    let head_of_ping = operation == Operation::Ping && method == Method::HEAD;
    assert_eq!(operation.method() == method, !head_of_ping, "{operation:?}");

    let own = operation.repository().map_or("", RepositoryName::as_str);
    let rebuilt = operation.path_and_query(own);
    assert_eq!(rebuilt.split('?').next(), target.split('?').next(), "the path is the one that came");
    assert_eq!(at(&operation.method(), &rebuilt).as_ref(), Ok(&operation), "{rebuilt}");

    let upstream = operation.path_and_query("tenants/of/another");
    for sent in [&rebuilt, &upstream] {
        assert!(sent.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'\\' | b'#')), "{sent}");
        assert!(sent.parse::<http::uri::PathAndQuery>().is_ok(), "{sent}");
        let path = sent.split('?').next().unwrap_or_default();
        assert!(!path.contains("//") && !path.split('/').any(|part| matches!(part, "." | "..")), "{path}");
    }
    let there = at(&operation.method(), &upstream).unwrap_or_else(|error| panic!("{upstream}: {error:?}"));
    assert_eq!(there.name(), operation.name());
    assert_eq!(there.repository().is_some(), operation.repository().is_some());
    assert_eq!(there.path_and_query(own), rebuilt, "nothing but the name is another");
    Outcome::Taken
}

fn at(method: &Method, target: &str) -> Result<Operation, portcullis_oci::ProtocolError> {
    match target.split_once('?') {
        Some((path, query)) => parse(method, path, Some(query)),
        None => parse(method, target, None),
    }
}
