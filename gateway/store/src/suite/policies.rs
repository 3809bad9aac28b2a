//! Attached policies and their components.

use super::{Nodes, at, project};
use portcullis_oci::Digest;
use portcullis_tenancy::policy::{Attachment, Mode, OnError, PolicyName, Reuse};
use portcullis_tenancy::{Project, StoreError};

fn name(name: &str) -> PolicyName {
    PolicyName::parse(name).unwrap()
}

pub(super) fn attachment(of: Option<&Project>, called: &str, component: &[u8]) -> Attachment {
    let owner = of.map_or("platform", |project| project.name.as_str());
    Attachment {
        id: format!("{owner}-{called}").into(),
        project: of.map(|project| project.id.clone()),
        name: name(called),
        digest: Digest::sha256(component),
        source: "naming.wasm".into(),
        settings: "{\"a\":1}".into(),
        mode: Mode::Monitor,
        on_error: OnError::Allow,
        order: -3,
        reuse: None,
        attached_at: at(1),
        attached_by: "operator".into(),
    }
}

pub async fn an_attached_policy_comes_back_as_it_was_put_with_its_component(nodes: Nodes) {
    let acme = project("acme");
    nodes.one.add_project(&acme).await.unwrap();
    let own = attachment(Some(&acme), "naming", &[0, 255, 1]);
    nodes.one.put_attachment(&own, None, &[0, 255, 1]).await.unwrap();
    assert_eq!(nodes.other.attachments().await.unwrap(), std::slice::from_ref(&own));
    assert_eq!(nodes.other.component(&own.digest).await.unwrap().as_deref(), Some(&[0, 255, 1][..]));
    assert_eq!(nodes.other.component(&Digest::sha256(b"none")).await.unwrap(), None);

    let stray = attachment(Some(&project("nobody")), "naming", b"x");
    assert!(matches!(nodes.one.put_attachment(&stray, None, b"x").await, Err(StoreError::Missing)));
    assert_eq!(nodes.other.component(&stray.digest).await.unwrap(), None, "a refused attachment leaves nothing");
}

pub async fn a_policy_of_the_same_name_takes_the_place_of_its_owners_and_no_other(nodes: Nodes) {
    let (acme, globex) = (project("acme"), project("globex"));
    nodes.one.add_project(&acme).await.unwrap();
    nodes.one.add_project(&globex).await.unwrap();
    let (first, second) = (attachment(Some(&acme), "naming", b"1"), attachment(Some(&acme), "limits", b"2"));
    let (foreign, platform) = (attachment(Some(&globex), "naming", b"1"), attachment(None, "naming", b"1"));
    for (attachment, component) in [(&first, b"1"), (&second, b"2"), (&foreign, b"1"), (&platform, b"1")] {
        nodes.one.put_attachment(attachment, None, component).await.unwrap();
    }
    let changed = Attachment {
        digest: Digest::sha256(b"3"),
        settings: "{}".into(),
        mode: Mode::Enforce,
        on_error: OnError::Deny,
        order: 9,
        reuse: Some(Reuse { calls: 1000, seconds: 60 }),
        attached_at: at(5),
        ..first.clone()
    };
    nodes.other.put_attachment(&changed, Some(first.attached_at), b"3").await.unwrap();
    let all = nodes.one.attachments().await.unwrap();
    assert_eq!(all, [platform.clone(), second.clone(), changed.clone(), foreign.clone()], "platform, then by order");

    nodes.one.remove_attachment(Some(&acme.id), &changed.name).await.unwrap();
    assert!(matches!(nodes.one.remove_attachment(Some(&acme.id), &changed.name).await, Err(StoreError::Missing)));
    assert_eq!(nodes.other.component(&changed.digest).await.unwrap(), None, "nothing names it any more");
    nodes.one.remove_attachment(None, &platform.name).await.unwrap();
    assert_eq!(nodes.other.attachments().await.unwrap(), [second.clone(), foreign.clone()]);
    assert!(nodes.other.component(&foreign.digest).await.unwrap().is_some(), "globex still names it");
}

pub async fn of_two_changes_of_what_both_have_read_the_later_one_is_told(nodes: Nodes) {
    let changed = |result| assert!(matches!(result, Err(StoreError::Changed)), "{result:?}");
    let first = attachment(None, "naming", b"1");
    nodes.one.put_attachment(&first, None, b"1").await.unwrap();
    changed(nodes.other.put_attachment(&Attachment { id: "another".into(), ..first.clone() }, None, b"2").await);
    let one = Attachment { mode: Mode::Enforce, attached_at: at(2), ..first.clone() };
    let other = Attachment { order: 7, digest: Digest::sha256(b"3"), attached_at: at(3), ..first.clone() };
    let read = Some(first.attached_at);
    let (one_put, other_put) =
        tokio::join!(nodes.one.put_attachment(&one, read, b"1"), nodes.other.put_attachment(&other, read, b"3"));
    let (kept, lost) = if one_put.is_ok() { (&one, other_put) } else { (&other, one_put) };
    changed(lost);
    assert_eq!(nodes.one.attachments().await.unwrap(), std::slice::from_ref(kept));
    let component = nodes.one.component(&Digest::sha256(b"3")).await.unwrap();
    assert_eq!(component.is_some(), kept.order == 7, "what was not attached is not kept");
    nodes.one.remove_attachment(None, &first.name).await.unwrap();
    changed(nodes.other.put_attachment(&other, Some(kept.attached_at), b"3").await);
    assert!(nodes.one.attachments().await.unwrap().is_empty());
}

pub async fn a_projects_policies_end_with_it(nodes: Nodes) {
    let acme = project("acme");
    nodes.one.add_project(&acme).await.unwrap();
    let own = attachment(Some(&acme), "naming", b"1");
    nodes.one.put_attachment(&own, None, b"1").await.unwrap();
    nodes.one.delete_project(&acme.id, at(3)).await.unwrap();
    assert!(nodes.other.attachments().await.unwrap().is_empty());
    nodes.one.purge_project(&acme.id).await.unwrap();
    assert_eq!(nodes.other.component(&own.digest).await.unwrap(), None);
}
