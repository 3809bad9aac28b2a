//! Catalog, tags and referrers: only what grants cover, page by page to the end.

use portcullis_tests::http::{Credentials, Http, Response};
use portcullis_tests::image::{Blob, Manifest};
use portcullis_tests::scene::Scene;

/// The names in one page, and where the next one is.
fn page(answer: &Response) -> (Vec<String>, Option<String>) {
    let body = answer.json();
    let names = body.get("repositories").or_else(|| body.get("tags")).and_then(|names| names.as_array());
    let names = names.unwrap_or_else(|| panic!("no list\n{answer}"));
    let names = names.iter().map(|name| name.as_str().expect("a text").to_owned()).collect();
    let link = answer.header("link");
    let next =
        link.strip_prefix('<').and_then(|link| link.split_once(">; rel=\"next\"")).map(|(next, _)| next.to_owned());
    assert_eq!(next.is_some(), !link.is_empty(), "{answer}");
    (names, next)
}

/// Follows the pages to the end; none may be longer than `most`.
fn follow(http: &Http, who: &Credentials, path: &str, most: usize) -> Vec<String> {
    let mut all = Vec::new();
    let mut next = Some(path.to_owned());
    let mut pages = 0;
    while let Some(path) = next {
        let (names, link) = page(&http.get(&path).with(who).send().expect(200));
        assert!(names.len() <= most, "{path}: {names:?}");
        all.extend(names);
        next = link;
        pages += 1;
        assert!(pages < 50, "the pages have no end");
    }
    all
}

#[test]
fn the_catalog_shows_what_the_callers_grants_cover_and_no_more() {
    let scene = Scene::with(|builder| builder.set("limits.page_entries", 3));
    let (acme, globex) = (scene.acme.push.credentials(), scene.globex.push.credentials());
    let image = Manifest::image(1, 50);
    let ours = ["acme/api", "acme/app", "acme/deep/app", "acme/web-a", "acme/web-b", "acme/web_c", "acme/zoo"];
    for name in ours {
        scene.gateway.repository(name, &acme).push("1", &image);
    }
    for name in ["globex/app", "globex/bar"] {
        scene.gateway.repository(name, &globex).push("1", &image);
    }
    // An upload alone makes no repository.
    scene.gateway.repository("acme/empty", &acme).open_upload();

    let http = scene.gateway.http();
    let catalog = |who: &Credentials, query: &str| follow(&http, who, &format!("/v2/_catalog{query}"), 3);
    let admin = scene.acme.admin.credentials();
    assert_eq!(catalog(&admin, ""), ours);
    assert_eq!(catalog(&admin, "?n=1000"), ours);
    assert_eq!(catalog(&admin, "?n=1"), ours);
    assert_eq!(catalog(&admin, "?n=2&last=acme/app"), ours[2..]);
    assert_eq!(catalog(&globex, ""), ["globex/app", "globex/bar"]);
    assert_eq!(catalog(&admin, "?n=0"), Vec::<String>::new());
    // A name from elsewhere is a position and nothing else.
    assert_eq!(catalog(&admin, "?last=globex/app"), Vec::<String>::new());
    assert_eq!(catalog(&admin, "?last=acme/b"), ours[2..]);
    assert_eq!(catalog(&globex, "?last=acme/zoo"), ["globex/app", "globex/bar"]);
    assert_eq!(catalog(&globex, "?last=%25"), ["globex/app", "globex/bar"]);
    for bad in ["?n=-1", "?n=x", "?n=1&n=2", "?last=a%00b"] {
        http.get(&format!("/v2/_catalog{bad}")).with(&admin).send().expect(400);
    }

    let web = scene.gateway.robot("acme", "web", &["--grant", "acme/web-*=pull"]).credentials();
    assert_eq!(catalog(&web, ""), ["acme/web-a", "acme/web-b"]);
    let writer = scene.gateway.robot("acme", "writer", &["--grant", "acme/app=push", "--grant", "acme/zoo=pull"]);
    assert_eq!(catalog(&writer.credentials(), ""), ["acme/zoo"]);
    // A foreign grant shows nothing before the consent.
    let guest = scene.gateway.robot("globex", "guest", &["--grant", "acme/app=pull", "--grant", "globex/bar=pull"]);
    assert_eq!(catalog(&guest.credentials(), ""), ["globex/bar"]);
    // Neither does a token that was not asked for it.
    let token = scene.gateway.token(&admin, &["repository:acme/app:pull"]);
    http.get("/v2/_catalog").with(&token).send().refused(401, "UNAUTHORIZED");
    let token = scene.gateway.token(&web, &["registry:catalog:*"]);
    assert_eq!(catalog(&token, ""), ["acme/web-a", "acme/web-b"]);
}

#[test]
fn a_name_with_an_underscore_stands_for_itself_alone() {
    let scene = Scene::open();
    let image = Manifest::image(1, 50);
    let robot = |project: &str| {
        scene.gateway.cli(&["project", "create", project]);
        let who = scene.gateway.robot(project, "owner", &["--role", "admin"]).credentials();
        scene.gateway.repository(&format!("{project}/a_b"), &who).push("1", &image);
        scene.gateway.repository(&format!("{project}/axb"), &who).push("1", &image);
        who
    };
    let (underscore, letter) = (robot("a_me"), robot("axme"));
    let http = scene.gateway.http();
    assert_eq!(follow(&http, &underscore, "/v2/_catalog", 9), ["a_me/a_b", "a_me/axb"]);
    assert_eq!(follow(&http, &letter, "/v2/_catalog", 9), ["axme/a_b", "axme/axb"]);
    let one = scene.gateway.robot("a_me", "one", &["--grant", "a_me/a_b=pull"]).credentials();
    assert_eq!(follow(&http, &one, "/v2/_catalog", 9), ["a_me/a_b"]);
    scene.gateway.repository("axme/axb", &underscore).manifest("1").refused(401, "UNAUTHORIZED");
    scene.gateway.repository("a_me/axb", &one).manifest("1").refused(401, "UNAUTHORIZED");
}

#[test]
fn tags_are_listed_page_by_page_under_the_public_name() {
    let scene = Scene::with(|builder| builder.set("limits.page_entries", 3));
    let who = scene.acme.admin.credentials();
    let repository = scene.gateway.repository("acme/app", &who);
    let image = Manifest::image(1, 50);
    let tags = ["1.0", "1.1", "2.0", "A", "latest", "x_y", "z"];
    for tag in tags {
        repository.push(tag, &image);
    }
    scene.gateway.repository("globex/app", &scene.globex.push.credentials()).push("theirs", &image);
    let http = scene.gateway.http();
    let list = |query: &str| follow(&http, &who, &format!("/v2/acme/app/tags/list{query}"), 3);
    assert_eq!(list("?n=2"), tags);
    assert_eq!(list("?n=1000"), tags);
    assert_eq!(list("?n=2&last=latest"), ["x_y", "z"]);
    assert_eq!(list("?n=3&last=theirs"), ["x_y", "z"]);
    assert_eq!(list("?n=0"), Vec::<String>::new());
    assert_eq!(repository.tags(), tags);
    let answer = http.get("/v2/acme/app/tags/list?n=2").with(&who).send().expect(200);
    assert_eq!(answer.json()["name"], "acme/app");
    assert_eq!(answer.header("link"), "</v2/acme/app/tags/list?n=2&last=1.1>; rel=\"next\"");
    let intruder = scene.globex.admin.credentials();
    http.get("/v2/acme/app/tags/list?n=2&last=1.1").with(&intruder).send().refused(401, "UNAUTHORIZED");
}

#[test]
fn referrers_are_shown_to_whom_the_repository_is_and_only_from_there() {
    let scene = Scene::open();
    let who = scene.acme.push.credentials();
    let image = Manifest::image(1, 50);
    let kinds = ["application/vnd.test.signature", "application/vnd.test.sbom"];
    let artifacts = kinds.map(|kind| Manifest::artifact(kind, Blob::random(40), Some(&image)));
    let app = scene.gateway.repository("acme/app", &who);
    app.push("1", &image);
    for artifact in &artifacts {
        let answer = app.push(artifact.digest(), artifact);
        assert_eq!(answer.header("oci-subject"), image.digest(), "{answer}");
    }
    // The same image elsewhere, with another tenant's opinion of it.
    let theirs = scene.gateway.repository("globex/app", &scene.globex.push.credentials());
    theirs.push("1", &image);
    let opinion = Manifest::artifact(kinds[0], Blob::random(40), Some(&image));
    theirs.push(opinion.digest(), &opinion);
    let other = scene.gateway.repository("acme/other", &who);
    other.push("1", &image);

    let mut expected = artifacts.iter().map(|artifact| artifact.digest().to_owned()).collect::<Vec<_>>();
    expected.sort();
    assert_eq!(app.referrers(image.digest()), expected);
    assert_eq!(theirs.referrers(image.digest()), [opinion.digest()]);
    assert_eq!(other.referrers(image.digest()), Vec::<String>::new());
    let kind = portcullis_tests::http::encode(kinds[1]);
    let path = format!("referrers/{}?artifactType={kind}", image.digest());
    let filtered = app.request(http::Method::GET, &path).send().expect(200);
    assert_eq!(filtered.header("oci-filters-applied"), "artifactType");
    assert_eq!(filtered.json()["manifests"].as_array().map(Vec::len), Some(1), "{filtered}");
    assert_eq!(filtered.json()["manifests"][0]["digest"], artifacts[1].digest());

    let intruder = scene.gateway.repository("acme/app", &scene.globex.admin.credentials());
    let path = format!("referrers/{}", image.digest());
    intruder.request(http::Method::GET, &path).send().refused(401, "UNAUTHORIZED");
    let web = scene.gateway.robot("acme", "web", &["--grant", "acme/web-*=pull"]).credentials();
    let denied = scene.gateway.repository("acme/app", &web).request(http::Method::GET, &path).send();
    denied.refused(401, "UNAUTHORIZED");
}
