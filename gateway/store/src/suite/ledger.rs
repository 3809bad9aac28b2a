//! Links, manifests, tags, repositories.

use super::*;

pub async fn a_link_belongs_to_one_repository_of_one_project(nodes: Nodes) {
    let (acme, _) = acme(&*nodes.one).await;
    let globex = project("globex");
    nodes.one.add_project(&globex).await.unwrap();
    hold(&*nodes.one, &acme.id, &repo("acme/a_b"), &digest("b"), 7, None, at(1)).await.unwrap();
    hold(&*nodes.one, &acme.id, &repo("acme/a_b"), &digest("b"), 7, Some("no such upload"), at(2)).await.unwrap();
    let held = async |project: &Project, repository: &str| {
        nodes.other.has_link(&project.id, &repo(repository), &digest("b")).await.unwrap()
    };
    assert!(held(&acme, "acme/a_b").await);
    assert!(!held(&acme, "acme/axb").await, "`_` is no wildcard");
    assert!(!held(&globex, "acme/a_b").await);

    hold(&*nodes.one, &acme.id, &repo("acme/axb"), &digest("b"), 7, None, at(3)).await.unwrap();
    nodes.one.remove_link(&acme.id, &repo("acme/a_b"), &digest("b")).await.unwrap();
    nodes.one.remove_link(&acme.id, &repo("acme/a_b"), &digest("b")).await.unwrap();
    assert!(!held(&acme, "acme/a_b").await);
    assert!(held(&acme, "acme/axb").await, "a sibling's link stays");
    nodes.one.remove_link(&acme.id, &repo("acme/axb"), &digest("b")).await.unwrap();
    assert!(!held(&acme, "acme/axb").await);
}

pub async fn what_is_missing_is_told_however_many_are_asked_for(nodes: Nodes) {
    let (acme, _) = acme(&*nodes.one).await;
    let app = repo("acme/app");
    let asked: Vec<Digest> = (0..1201).map(|number| digest(&number.to_string())).collect();
    for held in [&asked[3], &asked[700], &asked[1200]] {
        hold(&*nodes.one, &acme.id, &app, held, 1, None, at(1)).await.unwrap();
    }
    let mut pushed = pushed(&acme, "acme/app", "unused", &[]);
    pushed.manifest.digest = asked[5].clone();
    nodes.one.add_manifest(&pushed, &[], Charge::Anyway).await.unwrap();

    let expected = |held: &[usize]| {
        asked
            .iter()
            .enumerate()
            .filter(|(index, _)| !held.contains(index))
            .map(|(_, digest)| digest.clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(nodes.other.missing_links(&acme.id, &app, &asked).await.unwrap(), expected(&[3, 700, 1200]));
    assert_eq!(nodes.other.missing_manifests(&acme.id, &app, &asked).await.unwrap(), expected(&[5]));
    assert_eq!(nodes.other.missing_links(&acme.id, &repo("acme/other"), &asked).await.unwrap(), asked);
    assert!(nodes.other.missing_links(&acme.id, &app, &[]).await.unwrap().is_empty());
}

pub async fn a_manifest_comes_back_with_its_facts(nodes: Nodes) {
    let (acme, _) = acme(&*nodes.one).await;
    let app = repo("acme/app");
    let mut push = pushed(&acme, "acme/app", "m", &["1.0", "latest"]);
    push.manifest.artifact_type = Some("application/vnd.example+type".into());
    push.manifest.annotations =
        vec![("z".into(), "first".into()), ("a".into(), "\u{0}\u{1F980}\"\\".into()), ("".into(), "".into())];
    // More references than one statement takes, one of them twice.
    push.manifest.layers = (0..257).map(|number| descriptor(&(number / 2).to_string())).collect();
    push.manifest.layers[0].urls = vec!["https://example.org/layer".into()];
    push.manifest.layers[0].media_type = "application/vnd.oci.image.layer.nondistributable.v1.tar".into();
    nodes.one.add_manifest(&push, &[], Charge::Anyway).await.unwrap();

    let kept = nodes.other.manifest(&acme.id, &app, &digest("m")).await.unwrap().unwrap();
    assert_eq!(kept.digest, digest("m"));
    assert_eq!(kept.media_type, push.manifest.media_type);
    assert_eq!(kept.artifact_type, push.manifest.artifact_type);
    assert_eq!(kept.size, 500);
    assert_eq!(kept.annotations, push.manifest.annotations);
    assert_eq!(nodes.other.manifests(&acme.id, &app).await.unwrap(), [(digest("m"), 500)]);
    assert_eq!(nodes.other.manifest(&acme.id, &repo("acme/a_p"), &digest("m")).await.unwrap(), None);
    assert_eq!(nodes.other.manifest(&ProjectId("globex".into()), &app, &digest("m")).await.unwrap(), None);
}

pub async fn the_same_manifest_under_a_second_tag_is_one_manifest(nodes: Nodes) {
    let (acme, _) = acme(&*nodes.one).await;
    let app = repo("acme/app");
    nodes.one.add_manifest(&pushed(&acme, "acme/app", "m", &["b"]), &[], Charge::Anyway).await.unwrap();
    nodes.one.add_manifest(&pushed(&acme, "acme/app", "m", &["A", "_"]), &[], Charge::Anyway).await.unwrap();
    nodes.one.add_manifest(&pushed(&acme, "acme/app", "m", &[]), &[], Charge::Anyway).await.unwrap();
    assert_eq!(nodes.other.manifests(&acme.id, &app).await.unwrap().len(), 1);
    let on_m = |name: &str| (tag(name), digest("m"));
    assert_eq!(
        nodes.other.tags(&acme.id, &app).await.unwrap(),
        [on_m("A"), on_m("_"), on_m("b")],
        "in the order of bytes"
    );
    // A tag moves.
    nodes.one.add_manifest(&pushed(&acme, "acme/app", "n", &["_"]), &[], Charge::Anyway).await.unwrap();
    assert_eq!(nodes.other.tags(&acme.id, &app).await.unwrap(), [on_m("A"), (tag("_"), digest("n")), on_m("b")]);
}

pub async fn a_removed_manifest_takes_its_tags_and_a_removed_tag_takes_nothing(nodes: Nodes) {
    let (acme, _) = acme(&*nodes.one).await;
    let app = repo("acme/app");
    nodes.one.add_manifest(&pushed(&acme, "acme/app", "m", &["2", "1", "3"]), &[], Charge::Anyway).await.unwrap();
    nodes.one.add_manifest(&pushed(&acme, "acme/app", "n", &["n"]), &[], Charge::Anyway).await.unwrap();
    nodes.one.add_manifest(&pushed(&acme, "acme/copy", "m", &["1"]), &[], Charge::Anyway).await.unwrap();

    assert_eq!(nodes.one.remove_tag(&acme.id, &app, &tag("3")).await.unwrap(), Some(digest("m")));
    assert_eq!(nodes.one.remove_tag(&acme.id, &app, &tag("3")).await.unwrap(), None);
    assert!(nodes.other.manifest(&acme.id, &app, &digest("m")).await.unwrap().is_some());
    assert_eq!(
        nodes.one.remove_manifest(&acme.id, &app, &digest("m"), at(20)).await.unwrap().tags,
        [tag("1"), tag("2")]
    );
    assert_eq!(nodes.one.remove_manifest(&acme.id, &app, &digest("m"), at(20)).await.unwrap(), Default::default());
    assert_eq!(nodes.other.manifest(&acme.id, &app, &digest("m")).await.unwrap(), None);
    assert_eq!(nodes.other.tags(&acme.id, &app).await.unwrap(), [(tag("n"), digest("n"))]);
    assert_eq!(nodes.other.tags(&acme.id, &repo("acme/copy")).await.unwrap(), [(tag("1"), digest("m"))]);
}

pub async fn referrers_are_those_of_the_subject_in_the_repository(nodes: Nodes) {
    let (acme, _) = acme(&*nodes.one).await;
    let referrer = |repository: &str, of: &str, subject: &str| {
        let mut push = pushed(&acme, repository, of, &[]);
        push.manifest.subject = Some(descriptor(subject));
        push.manifest.annotations = vec![("of".into(), of.into())];
        push
    };
    for push in [
        referrer("acme/app", "sig", "m"),
        referrer("acme/app", "sbom", "m"),
        referrer("acme/app", "else", "n"),
        referrer("acme/other", "far", "m"),
    ] {
        nodes.one.add_manifest(&push, &[], Charge::Anyway).await.unwrap();
    }
    let mut expected = [digest("sig"), digest("sbom")];
    expected.sort();
    let list = async |subject: &str, after: Option<&Digest>, limit: u32| {
        nodes.other.referrers(&acme.id, &repo("acme/app"), &digest(subject), after, limit).await.unwrap()
    };
    let found = list("m", None, 100).await;
    assert_eq!(found.iter().map(|manifest| manifest.digest.clone()).collect::<Vec<_>>(), expected);
    assert!(found.iter().all(|manifest| manifest.annotations.len() == 1));
    assert!(list("sig", None, 100).await.is_empty());
    assert_eq!(list("m", None, 1).await, found[..1]);
    assert_eq!(list("m", Some(&found[0].digest), 100).await, found[1..]);
    assert!(list("m", Some(&found[1].digest), 100).await.is_empty());
}

pub async fn repositories_come_page_by_page_in_the_order_of_bytes(nodes: Nodes) {
    let (acme, _) = acme(&*nodes.one).await;
    let globex = project("globex");
    nodes.one.add_project(&globex).await.unwrap();
    let ordered = ["acme/a", "acme/a-b", "acme/a.b", "acme/a/b", "acme/a0", "acme/a_b", "acme/ab"];
    for name in ordered.iter().rev() {
        for of in ["m", "n"] {
            nodes.one.add_manifest(&pushed(&acme, name, of, &[]), &[], Charge::Anyway).await.unwrap();
        }
    }
    nodes.one.add_manifest(&pushed(&globex, "globex/app", "m", &[]), &[], Charge::Anyway).await.unwrap();
    hold(&*nodes.one, &acme.id, &repo("acme/blobs-only"), &digest("b"), 1, None, at(1)).await.unwrap();

    let page = async |after: Option<&'static str>, limit| {
        let page = nodes.other.repositories(&acme.id, after, limit).await.unwrap();
        page.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(page(None, 100).await, ordered);
    assert_eq!(page(None, 2).await, ordered[..2]);
    assert_eq!(page(Some("acme/a-b"), 3).await, ordered[2..5]);
    assert_eq!(page(Some("acme/a.a"), 1).await, ordered[2..3], "a position need not exist");
    assert!(page(Some("zzz"), 100).await.is_empty());
    assert!(page(None, 0).await.is_empty());
    nodes.one.remove_manifest(&acme.id, &repo("acme/a"), &digest("m"), at(20)).await.unwrap();
    nodes.one.remove_manifest(&acme.id, &repo("acme/a"), &digest("n"), at(20)).await.unwrap();
    assert_eq!(page(None, 1).await, ordered[1..2], "an empty one is none");
}

pub async fn what_a_repository_holds_comes_with_sizes_and_whether_it_is_charged(nodes: Nodes) {
    let (acme, _) = acme(&*nodes.one).await;
    let (app, other) = (repo("acme/app"), repo("acme/app-b"));
    let mut expected = Vec::new();
    for (of, size) in [("a", 1), ("b", 2), ("c", 3)] {
        hold(&*nodes.one, &acme.id, &app, &digest(of), size, None, at(1)).await.unwrap();
        expected.push(HeldBlob { digest: digest(of), size, is_charged: true });
    }
    hold(&*nodes.one, &acme.id, &other, &digest("d"), 4, None, at(9)).await.unwrap();
    expected.sort_by(|one, other| one.digest.cmp(&other.digest));
    let page =
        async |after: Option<&Digest>, limit| nodes.other.held_blobs(&acme.id, &app, after, limit).await.unwrap();
    assert_eq!(page(None, 100).await, expected);
    assert_eq!(page(None, 2).await, expected[..2]);
    assert_eq!(page(Some(&expected[1].digest), 100).await, expected[2..]);
    assert_eq!(nodes.one.expire_orphans(at(5), at(10), 100).await.unwrap().len(), 3);
    assert!(page(None, 100).await.iter().all(|blob| !blob.is_charged));
}
