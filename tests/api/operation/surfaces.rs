//! What each surface gives, and to whom.

use http::Method;
use portcullis_tests::scene::Scene;

/// There is nothing to forge: whatever a page in somebody's browser sends there changes nothing.
#[test]
fn management_is_read_and_never_written() {
    let scene = Scene::shared();
    let management = scene.gateway.management();
    for path in ["/healthz", "/readyz", "/metrics", "/policies", "/policies/questions?project=acme"] {
        for method in [Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
            let sent = management.request(method, path).header("origin", "https://evil.example").body("x=1");
            sent.header("content-type", "application/x-www-form-urlencoded").send().expect(405);
        }
    }
    management.get("/policies").send().expect(200);
}
