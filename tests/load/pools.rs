//! Where there is no room for one call more, the answer is a refusal, at once.

use crate::attached::{failures, in_force, spinner, told};
use crate::traffic::among_others;
use portcullis_tests::gateway::Builder;
use portcullis_tests::image::Manifest;
use portcullis_tests::scene::Scene;
use serde_json::json;
use std::sync::atomic::{AtomicU64, Ordering};

/// Many requests at once on four threads, where there is room for one call.
fn crowd(narrow: impl FnOnce(Builder) -> Builder) {
    let _others = among_others();
    let scene = Scene::with(|builder| {
        // All of the project's calls stay on the threads that serve requests: on a thread of their own they would queue.
        let wide = builder.set("server.tls", "off").set("server.worker_threads", 4);
        narrow(wide.set("policies.project_cpu_ms_per_s", 1000).set("policies.small_cpu_ms", 5))
    });
    let repository = scene.acme("app");
    repository.push("1.0", &Manifest::image(1, 100));
    scene.gateway.attach("acme", &spinner(1_000_000), json!({}), &["--name", "slow"]);
    in_force(&scene.gateway, "acme", "slow");
    let (passed, refused) = (AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                for _ in 0..25 {
                    let answer = repository.manifest("1.0");
                    let counter = if answer.status == 200 { &passed } else { &refused };
                    counter.fetch_add(1, Ordering::Relaxed);
                    if answer.status != 200 {
                        let answer = answer.refused(403, "DENIED");
                        assert!(answer.to_string().contains("the policy failed (pool)"), "{answer}");
                    }
                }
            });
        }
    });
    let (passed, refused) = (passed.into_inner(), refused.into_inner());
    println!("load: {passed} passed, {refused} found no room");
    assert!(passed > 0 && refused > 0 && passed + refused == 400, "{passed} passed, {refused} were refused");
    assert_eq!(failures(&scene.gateway, "acme", "slow", "pool"), refused, "{:?}", told(&scene.gateway, "acme", "slow"));
    repository.manifest("1.0").expect(200);
}

#[test]
fn more_calls_of_a_project_than_it_may_have_at_once_are_refused_in_order() {
    crowd(|builder| builder.set("policies.project_calls", 1));
}

#[test]
fn more_calls_than_there_are_slots_are_refused_in_order() {
    crowd(|builder| builder.set("policies.small_slots", 1));
}
