//! Limits of projects and robots.

use super::{Nodes, acme, at, project};
use portcullis_tenancy::StoreError;
use portcullis_tenancy::limit::{Change, LimitOwner, Measure, Overrides, Rate, Setting};

fn pulls(text: &str) -> Change {
    let rate = Rate::parse(Measure::Times, text).unwrap();
    Change { pulls: Some(Setting::At(rate)), ..Change::default() }
}

pub async fn limits_come_back_as_they_were_set_for_projects_and_robots(nodes: Nodes) {
    let (acme, ci) = acme(&*nodes.one).await;
    let (of_project, of_robot) = (LimitOwner::Project(&acme.id), LimitOwner::Robot(&ci.id));
    assert_eq!(nodes.other.project("acme").await.unwrap().unwrap().limits, Overrides::default());

    let bytes = Rate::parse(Measure::Bytes, "3GiB/d").unwrap();
    let all = Change { bytes: Some(Setting::At(bytes)), uploads: Some(Setting::At(4)), ..pulls("100/6h") };
    let line = nodes.one.change_limits(of_project, &all).await.unwrap();
    assert_eq!(line.to_string(), "pulls=100/6h bytes=3GiB/d uploads=4");
    nodes.one.change_limits(of_robot, &pulls("7/min")).await.unwrap();
    let some = Change { bytes: Some(Setting::Off), pulls: Some(Setting::Default), ..Change::default() };
    nodes.other.change_limits(of_project, &some).await.unwrap();

    let robot = nodes.other.robot(&ci.id).await.unwrap().unwrap();
    assert_eq!(robot.limits.to_string(), "pulls=7/min", "each has its own");
    assert_eq!(nodes.other.robot_named("acme", "ci").await.unwrap().unwrap().limits, robot.limits);
    assert_eq!(nodes.other.robots(&acme.id).await.unwrap()[0].limits, robot.limits);
    assert_eq!(nodes.one.project("acme").await.unwrap().unwrap().limits.to_string(), "bytes=off uploads=4");
    assert_eq!(nodes.one.projects().await.unwrap()[0].limits.to_string(), "bytes=off uploads=4");

    // What is not there, or no longer, has none.
    let nobody = project("nobody");
    let refused = nodes.one.change_limits(LimitOwner::Project(&nobody.id), &some).await;
    assert!(matches!(refused, Err(StoreError::Missing)), "{refused:?}");
    nodes.one.delete_project(&acme.id, at(5)).await.unwrap();
    for owner in [of_project, of_robot] {
        let refused = nodes.one.change_limits(owner, &some).await;
        assert!(matches!(refused, Err(StoreError::Missing)), "{refused:?}");
    }
}

pub async fn of_two_changes_of_different_limits_at_once_both_stay(nodes: Nodes) {
    let (acme, _) = acme(&*nodes.one).await;
    let owner = LimitOwner::Project(&acme.id);
    for round in 1..10 {
        let uploads = Change { uploads: Some(Setting::At(round)), ..Change::default() };
        let pulls = pulls(&format!("{round}/h"));
        let (one, other) =
            tokio::join!(nodes.one.change_limits(owner, &pulls), nodes.other.change_limits(owner, &uploads));
        one.unwrap();
        other.unwrap();
        let kept = nodes.one.project("acme").await.unwrap().unwrap().limits;
        assert_eq!(kept.to_string(), format!("pulls={round}/h uploads={round}"));
    }
}

pub async fn nodes_are_counted_until_they_have_not_been_seen_for_long(nodes: Nodes) {
    let (one, other) = (&nodes.one, &nodes.other);
    assert_eq!(one.show_node("one", at(100), at(0)).await.unwrap(), 1);
    assert_eq!(other.show_node("other", at(150), at(50)).await.unwrap(), 2);
    assert_eq!(one.show_node("one", at(200), at(100)).await.unwrap(), 2, "the same one once more");
    assert_eq!(other.show_node("third", at(220), at(120)).await.unwrap(), 3);
    assert_eq!(one.show_node("one", at(250), at(150)).await.unwrap(), 2, "the other was not seen after that");
}
