//! What stands in no case file is what the author's guide says it is.

use super::*;
use serde::de::DeserializeOwned;

fn read<T: DeserializeOwned>(yaml: &str) -> T {
    yaml_serde::from_str(yaml).unwrap_or_else(|error| panic!("{yaml}: {error}"))
}

fn manifest(yaml: &str) -> Manifest {
    read::<Document>(yaml).into()
}

#[test]
fn a_case_is_asked_by_the_robot_ci_of_acme() {
    let context = Context::from(Asker::default());
    assert_eq!(
        context,
        Context {
            request_id: "case".to_owned(),
            project: "acme".to_owned(),
            now_ms: 1_767_268_800_000,
            client_ip: "192.0.2.1".to_owned(),
            user_agent: "case/1".to_owned(),
            subject: Subject {
                kind: SubjectKind::Robot,
                id: "acme+ci".to_owned(),
                project: Some("acme".to_owned()),
                issuer: None,
                claims_json: "{}".to_owned(),
            },
        }
    );
}

#[test]
fn another_kind_of_subject_is_nobody_in_particular() {
    let context: Context = read::<Asker>("subject: { kind: federated, claims-json: { ref: main } }").into();
    let subject = context.subject;
    assert_eq!((subject.id.as_str(), subject.project), ("", None));
    assert_eq!(subject.claims_json, r#"{"ref":"main"}"#);
    let context: Context = read::<Asker>("subject: { kind: robot, claims-json: '{}' }").into();
    assert_eq!((context.subject.id.as_str(), context.subject.project.as_deref()), ("acme+ci", Some("acme")));
}

#[test]
fn a_target_has_a_tag_or_a_digest() {
    let target = |yaml: &str| Target::from(read::<What>(yaml));
    assert_eq!((target("{}").repository.as_str(), target("{}").tags), ("acme/app", vec!["latest".to_owned()]));
    assert!(target("digest: sha256:00").tags.is_empty());
    assert_eq!(target("{ digest: sha256:00, tags: [v1] }").tags, ["v1"]);
}

#[test]
fn a_request_has_its_operations_method_and_a_target() {
    let request = |yaml: &str| Request::from(read::<Ask>(yaml));
    let usual = request("{}");
    assert_eq!((usual.operation, usual.method.as_str()), (Operation::ManifestPull, "GET"));
    assert_eq!((usual.target.map(|target| target.repository), usual.length), (Some("acme/app".to_owned()), None));
    assert!(usual.headers.is_empty());
    assert_eq!(request("operation: ping").target, None);
    for (operation, method) in [
        ("catalog", "GET"),
        ("blob-head", "HEAD"),
        ("manifest-head", "HEAD"),
        ("upload-start", "POST"),
        ("mount", "POST"),
        ("upload-chunk", "PATCH"),
        ("upload-finish", "PUT"),
        ("manifest-push", "PUT"),
        ("manifest-delete", "DELETE"),
        ("tag-delete", "DELETE"),
        ("blob-delete", "DELETE"),
    ] {
        assert_eq!(request(&format!("operation: {operation}")).method, method, "{operation}");
    }
    assert_eq!(request("headers: [[a, '1'], [a, '2']]").headers.len(), 2);
    assert_eq!(request("headers: { a: '1' }").headers, [("a".to_owned(), "1".to_owned())]);
}

#[test]
fn a_manifest_is_an_image_without_layers() {
    let image = manifest("{}");
    assert_eq!((image.media_type.as_str(), image.size, image.layers.len()), (IMAGE, 1024, 0));
    assert_eq!(image.digest, format!("sha256:{}", "1".repeat(64)));
    let config = image.config.unwrap();
    assert_eq!((config.media_type.as_str(), config.size), (CONFIG, 1024));
    assert_eq!(config.digest, format!("sha256:{}", "0".repeat(64)));
    let layers = manifest("layers: [{}, { size: 5000 }]").layers;
    let sizes: Vec<u64> = layers.iter().map(|layer| layer.size).collect();
    assert_eq!((layers[0].media_type.as_str(), sizes), (LAYER, vec![1024, 5000]));
}

#[test]
fn what_has_children_is_an_index() {
    let index = manifest("children: [{ platform: {} }]");
    assert_eq!((index.media_type.as_str(), index.config), (INDEX, None));
    let platform = index.children[0].platform.clone().unwrap();
    assert_eq!((platform.os.as_str(), platform.architecture.as_str()), ("linux", "amd64"));
    assert_eq!(index.children[0].media_type, IMAGE);
    assert_eq!(manifest(&format!("media-type: {INDEX}")).config, None);
}

#[test]
fn a_token_is_granted_what_is_requested() {
    let token = TokenRequest::from(read::<Token>("requested: ['repository:acme/app:pull,push']"));
    let scope =
        Scope { kind: "repository".into(), name: "acme/app".into(), actions: vec!["pull".into(), "push".into()] };
    assert_eq!((token.requested, token.granted), (vec![scope.clone()], vec![scope]));
    assert_eq!((token.service.as_str(), token.grant_type, token.offline), ("registry", GrantType::Basic, false));
    assert_eq!((token.default_ttl_s, token.max_ttl_s), (300, 3600));
    let written_out = read::<Token>("granted: [{ kind: registry, name: catalog, actions: ['*'] }]");
    assert_eq!(TokenRequest::from(written_out).granted[0].name, "catalog");
    assert!(yaml_serde::from_str::<Token>("requested: [acme/app]").is_err());
}

#[test]
fn every_fact_is_at_hand() {
    let facts = Facts::from(Known::default());
    assert_eq!(facts.usage, Some(Usage { used_bytes: 0, quota_bytes: None }));
    assert_eq!(facts.image_config, None);
    assert!(facts.tag_digest.is_some_and(|tags| tags.is_empty()));
    assert!(facts.referrers.is_some_and(|referrers| referrers.is_empty()));
    assert!(facts.verified_signers.is_some_and(|signers| signers.is_empty()));
    assert!(facts.pushed_at.is_some_and(|times| times.is_empty()));
}

#[test]
fn the_tags_of_a_digest_are_those_that_point_to_it_unless_it_is_named() {
    let facts: Facts = read::<Known>("{ tag-digest: { a: d1, b: d1, c: d2 }, tags-of-digest: { d2: [x] } }").into();
    let tags = facts.tags_of_digest.unwrap();
    assert_eq!((tags["d1"].join(" "), tags["d2"].join(" ")), ("a b".to_owned(), "x".to_owned()));
}

#[test]
fn an_outcome_is_a_success_of_no_bytes() {
    assert_eq!(Outcome::from(Came::default()), Outcome { status: 200, bytes_out: 0, duration_us: 0 });
}

#[test]
fn a_field_that_there_is_not_is_an_error() {
    assert!(yaml_serde::from_str::<Document>("layer: []").is_err());
    assert!(yaml_serde::from_str::<Known>("pushed-at: {}").is_err());
    assert!(yaml_serde::from_str::<Asker>("subject: { kind: nobody }").is_err());
}
