//! Tag lists, page by page. The registry behind knows neither `n` nor `last`; another one has pages of its own.

use super::VERSIONS;
use http::Method;
use portcullis_tests::faults::{Answer, Faults};
use portcullis_tests::gateway::Gateway;
use portcullis_tests::http::Response;
use portcullis_tests::image::Manifest;
use portcullis_tests::repository::Repository;
use portcullis_tests::scene::{House, Scene};

const TAGS: [&str; 6] = ["1.0", "1.1", "2.0", "A", "_z", "latest"];

fn tagged(scene: &Scene, repository: &str) -> Repository {
    let (repository, image) = (scene.acme(repository), Manifest::image(1, 100));
    for tag in TAGS {
        repository.push(tag, &image);
    }
    repository
}

fn tags(answer: &Response) -> Vec<String> {
    let list = answer.json()["tags"].as_array().cloned();
    let list = list.unwrap_or_else(|| panic!("no list\n{answer}"));
    list.iter().map(|tag| tag.as_str().expect("tags are strings").to_owned()).collect()
}

/// The target of `Link: <…>; rel="next"`.
fn next(answer: &Response) -> Option<String> {
    let link = answer.header("link");
    let target = link.strip_prefix('<')?.split_once(">; rel=\"next\"")?.0;
    Some(target.to_owned())
}

#[test]
fn pages_follow_their_links_to_the_end_and_nothing_is_lost_or_told_twice() {
    let scene = Scene::shared();
    let repository = tagged(&scene, "pages");
    for version in VERSIONS {
        for n in 1..=7 {
            let mut page = version(repository.request(Method::GET, &format!("tags/list?n={n}"))).send().expect(200);
            let mut all = tags(&page);
            while let Some(target) = next(&page) {
                assert!(target.starts_with("/v2/acme/pages/tags/list?"), "{page}");
                assert_eq!(tags(&page).len(), n, "{page}");
                page = version(repository.at(Method::GET, &target)).send().expect(200);
                all.extend(tags(&page));
            }
            assert_eq!(all, TAGS, "in pages of {n}");
        }
    }
}

#[test]
fn a_list_without_n_is_whole_and_has_the_public_name() {
    let scene = Scene::shared();
    let repository = tagged(&scene, "whole");
    let answer = repository.request(Method::GET, "tags/list").send().expect(200);
    assert_eq!((tags(&answer), next(&answer)), (TAGS.map(str::to_owned).to_vec(), None));
    assert_eq!(answer.json()["name"], "acme/whole");
}

#[test]
fn n_0_is_an_empty_list_without_a_next_page() {
    let scene = Scene::shared();
    let answer = tagged(&scene, "zero").request(Method::GET, "tags/list?n=0").send().expect(200);
    assert_eq!((tags(&answer), next(&answer)), (Vec::new(), None), "{answer}");
}

#[test]
fn last_is_a_position_whether_or_not_such_a_tag_exists() {
    let scene = Scene::shared();
    let repository = tagged(&scene, "position");
    for (query, expected) in [
        ("last=1.0", &TAGS[1..]),
        ("last=1.05", &TAGS[1..]),
        ("n=2&last=2.0", &TAGS[3..5]),
        ("last=latest", &[]),
        ("last=zzz", &[]),
    ] {
        let answer = repository.request(Method::GET, &format!("tags/list?{query}")).send().expect(200);
        assert_eq!(tags(&answer), expected, "{query}");
    }
}

#[test]
fn n_must_be_a_number() {
    let scene = Scene::shared();
    let repository = tagged(&scene, "numbers");
    for n in ["-1", "x", "1.5", "0x2", "99999999999999999999", "%20"] {
        let answer = repository.request(Method::GET, &format!("tags/list?n={n}")).send();
        answer.refused(400, "PAGINATION_NUMBER_INVALID");
    }
}

#[test]
fn a_repository_that_is_not_there_has_no_list() {
    let scene = Scene::shared();
    scene.acme("nowhere").request(Method::GET, "tags/list").send().refused(404, "NAME_UNKNOWN");
}

#[test]
fn an_upstreams_own_pages_are_joined_and_its_links_are_never_shown() {
    let upstream = Faults::scripted(|seen| {
        if seen.path() != "/v2/acme/app/tags/list" {
            return Answer::status(200);
        }
        let parameter = |name: &str| {
            let query = seen.target.split_once('?').map_or("", |(_, query)| query);
            query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('=').map(str::to_owned))
        };
        let from = parameter("last").map_or(0, |last| TAGS.iter().filter(|tag| ***tag <= *last).count());
        // Whatever is asked, it gives at most two.
        let n = parameter("n").and_then(|n| n.parse().ok()).unwrap_or(2).min(2);
        let page: Vec<&str> = TAGS.iter().skip(from).take(n).copied().collect();
        let list = serde_json::json!({"name": "acme/app", "tags": page});
        let answer = Answer::status(200).body(list.to_string());
        match page.last() {
            Some(last) if *last != TAGS[5] => answer.header(
                "link",
                &format!("<http://upstream.internal/v2/acme/app/tags/list?last={last}&n={n}>; rel=\"next\""),
            ),
            _ => answer,
        }
    });
    let house = House::open(Gateway::before(&upstream.url()));
    let repository = house.acme("app");
    assert_eq!(repository.tags(), TAGS);
    let page = repository.request(Method::GET, "tags/list?n=3").send().expect(200);
    assert_eq!(
        (tags(&page), next(&page)),
        (
            TAGS[..3].iter().map(|tag| (*tag).to_owned()).collect(),
            Some("/v2/acme/app/tags/list?n=3&last=2.0".to_owned())
        )
    );
    let page = repository.at(Method::GET, "/v2/acme/app/tags/list?n=3&last=2.0").send().expect(200);
    assert_eq!((tags(&page), next(&page)), (TAGS[3..].iter().map(|tag| (*tag).to_owned()).collect(), None));
}
