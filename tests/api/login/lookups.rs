//! What is no secret by its form is refused before anybody is looked up.

use portcullis_tenancy::credential::Secret;
use portcullis_tests::gateway::Gateway;
use portcullis_tests::http::{Credentials, Response};
use portcullis_tests::postgres::Postgres;
use portcullis_tests::registry::Registry;
use portcullis_tests::scene::House;
use std::sync::Arc;

#[test]
fn a_secret_of_the_wrong_form_is_refused_without_a_look_at_the_store() {
    let database = Arc::new(Postgres::start());
    let registry = Registry::start();
    let house = House::open(Gateway::before(&registry.url()).postgres(&database).set("store.stale_max_s", 300));
    let http = house.gateway.http();
    let ask = |path: &str, name: &str, secret: &str| -> Response {
        http.get(path).with(&Credentials::Basic(name.to_owned(), secret.to_owned())).send()
    };
    let sound = Secret::generate(&|bytes: &mut [u8]| bytes.fill(7)).expose().to_owned();
    let right = &house.acme.pull;
    ask("/v2/", &right.username, &right.token).expect(200);
    database.kill();
    let (start, end) = sound.split_at(sound.len() - 1);
    let other_end = if end == "0" { "1" } else { "0" };
    let wrong =
        [String::new(), "password".to_owned(), start.to_owned(), format!("{start}{other_end}"), format!("{sound}0")];
    for (door, path) in ["/token?service=portcullis", "/v2/"].into_iter().enumerate() {
        for (number, secret) in wrong.iter().enumerate() {
            // A name of its own each time: nothing of it is remembered.
            ask(path, &format!("acme+wrong-{door}-{number}"), secret).refused(401, "UNAUTHORIZED");
        }
        // What could be somebody's has to be looked up, and there is nowhere to look.
        ask(path, &format!("acme+sound-{door}"), &sound).refused(503, "UNAVAILABLE");
        // Nor is a name known by being refused from memory.
        ask(path, &right.username, &sound).refused(503, "UNAVAILABLE");
    }
}
