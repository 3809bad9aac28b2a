//! P1, P2: every endpoint of the OCI Distribution Specification 1.1 passes unharmed, over HTTP/1.1 and HTTP/2, and
//! nothing of the upstream's names and addresses gets out.

mod headers;
mod lists;
mod manifests;
mod pulls;
mod pushes;
mod referrers;

use portcullis_tests::http::Request;

/// What makes a request go over each of the protocols that clients speak.
const VERSIONS: [fn(Request) -> Request; 2] = [|request| request, Request::http2];
