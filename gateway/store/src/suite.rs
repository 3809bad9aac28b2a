//! The behaviour that every store must show, each a function that panics where the store does not.
//!
//! [`every_behaviour!`](crate::every_behaviour) hands their names to a macro that makes tests of them.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::arithmetic_side_effects)] // these are tests
#![allow(missing_docs)] // the names say it

pub mod audit;
pub mod charging;
pub mod contention;
pub mod ledger;
pub mod limits;
pub mod model;
pub mod policies;
pub mod quota;
pub mod rules;
pub mod sessions;
pub mod under_way;
pub mod waiting;

use portcullis_oci::manifest::{Descriptor, Manifest, media_type};
use portcullis_oci::scope::{Actions, RepositoryPattern};
use portcullis_oci::{Digest, RepositoryName, Tag};
use portcullis_tenancy::credential::SecretHash;
use portcullis_tenancy::grant::{Consent, Grant, Role};
use portcullis_tenancy::ledger::{Charge, HeldBlob, PushedManifest, StoredBlob, Upload};
use portcullis_tenancy::limit::Overrides;
use portcullis_tenancy::quota::Admission;
use portcullis_tenancy::robot::RobotSecret;
use portcullis_tenancy::store::Result;
use portcullis_tenancy::{Project, ProjectId, ProjectName, Robot, RobotId, Store, Timestamp};
use std::sync::Arc;

/// Two stores on one database that was empty before, as two nodes hold them.
#[derive(Clone)]
pub struct Nodes {
    pub one: Arc<dyn Store>,
    pub other: Arc<dyn Store>,
}

/// Calls a macro with the path of every behaviour below this module.
#[macro_export]
macro_rules! every_behaviour {
    ($test:ident) => {
        $test! {
            rules::a_project_is_found_by_name_and_listed_in_the_order_of_bytes
            rules::a_deleted_project_keeps_its_name_and_prefix_until_it_is_purged
            rules::upstream_prefixes_do_not_overlap_by_whole_components
            rules::a_deleted_project_takes_its_robots_and_uploads_along
            rules::a_purged_project_leaves_no_record
            rules::a_robot_comes_back_as_it_was_put
            rules::replaced_secrets_keep_their_last_use
            rules::a_robot_is_disabled_enabled_and_deleted
            rules::a_foreign_grant_waits_for_the_other_projects_consent
            rules::keys_overlap_and_end
            rules::the_deployments_id_is_made_once
            rules::every_change_of_a_rule_bumps_the_generation_and_nothing_else_does
            limits::limits_come_back_as_they_were_set_for_projects_and_robots
            limits::of_two_changes_of_different_limits_at_once_both_stay
            limits::nodes_are_counted_until_they_have_not_been_seen_for_long
            policies::an_attached_policy_comes_back_as_it_was_put_with_its_component
            policies::a_policy_of_the_same_name_takes_the_place_of_its_owners_and_no_other
            policies::of_two_changes_of_what_both_have_read_the_later_one_is_told
            policies::a_projects_policies_end_with_it
            sessions::an_upload_is_open_until_it_is_closed
            sessions::a_link_closes_the_upload_that_brought_it
            sessions::a_scope_set_lives_as_long_as_its_latest_use
            sessions::a_sweep_takes_what_has_ended_and_nothing_else
            sessions::what_a_deleted_robot_or_project_left_under_way_is_given_up
            sessions::the_journal_gives_back_what_was_not_struck_out
            ledger::a_link_belongs_to_one_repository_of_one_project
            ledger::what_is_missing_is_told_however_many_are_asked_for
            ledger::a_manifest_comes_back_with_its_facts
            ledger::the_same_manifest_under_a_second_tag_is_one_manifest
            ledger::a_removed_manifest_takes_its_tags_and_a_removed_tag_takes_nothing
            ledger::referrers_are_those_of_the_subject_in_the_repository
            ledger::repositories_come_page_by_page_in_the_order_of_bytes
            ledger::what_a_repository_holds_comes_with_sizes_and_whether_it_is_charged
            quota::an_account_counts_each_digest_once_and_gives_it_back
            quota::a_reservation_grows_to_what_there_is_room_for_and_no_further
            quota::of_many_claims_at_once_exactly_those_that_fit_are_granted
            quota::the_cap_over_all_projects_counts_all_of_them
            quota::the_ends_of_what_can_be_counted_are_no_failures
            charging::a_manifest_of_very_many_layers_is_admitted_where_it_just_fits
            charging::what_is_not_charged_is_not_held_until_it_is_named_again
            charging::what_a_pushed_manifest_names_is_in_its_repository
            charging::a_manifest_counts_once_at_the_largest_size_on_record
            charging::what_a_manifest_under_way_names_stays_charged
            charging::an_orphan_waits_for_its_grace_and_a_look_at_it_renews_it
            charging::what_is_taken_away_upstream_cannot_be_charged_meanwhile
            under_way::a_sweep_releases_what_nobody_renews_and_nobody_journalled
            under_way::an_upload_is_one_nodes_at_a_time
            under_way::what_is_found_after_a_crash_counts_once_and_whatever_room_there_is
            under_way::a_push_and_a_deletion_side_by_side_both_stay_in_the_journal
            under_way::a_push_locks_its_tags_with_its_reservation_and_gives_them_back_with_its_record
            quota::many_writes_at_once_are_all_there_and_one_that_is_given_up_takes_none_along
            charging::what_may_not_stay_is_on_record_and_not_served
            quota::a_request_is_decided_once
            quota::maintenance_is_a_rule
            model::any_interleaving_leaves_the_counters_at_the_sums
            waiting::what_was_deleted_takes_up_room_until_it_is_taken_away
            waiting::projects_take_turns_with_what_is_taken_away
            audit::a_record_goes_with_its_change
            audit::what_changes_nothing_leaves_no_record
            audit::records_outlive_the_project_that_they_name
            audit::records_wait_until_anybody_chains_them
            audit::of_all_who_chain_at_once_each_record_gets_one_place
            audit::a_chain_that_was_turned_back_does_not_go_on
            audit::records_are_found_by_what_is_known_of_them
            audit::old_records_are_forgotten_and_the_rest_still_verifies
            contention::of_overlapping_prefixes_at_once_exactly_one_wins
            contention::of_one_name_at_once_exactly_one_wins
            contention::generations_grow_one_by_one_and_a_change_is_seen_with_its_own
            contention::a_tag_is_locked_by_one_owner_at_a_time
            contention::records_of_one_repository_at_once_all_arrive
            contention::manifests_that_come_and_go_leave_no_tag_behind
            contention::uses_and_rotations_at_once_do_not_stop_each_other
            contention::a_deletion_and_the_ends_of_what_it_gives_up_do_not_stop_each_other
            contention::a_sweep_and_pushes_that_take_what_it_sweeps_do_not_stop_each_other
        }
    };
}
pub use every_behaviour;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

fn project(name: &str) -> Project {
    project_at(name, name)
}

fn project_at(name: &str, prefix: &str) -> Project {
    Project {
        id: ProjectId(format!("id-of-{name}").into()),
        name: ProjectName::parse(name).unwrap(),
        upstream_prefix: prefix.into(),
        public: false,
        limits: Overrides::default(),
        created_at: at(0),
        deleted_at: None,
    }
}

/// A robot with one secret and the role `push`.
fn robot(project: &Project, name: &str) -> Robot {
    let id = format!("{}-{name}", project.name);
    Robot {
        id: RobotId(id.as_str().into()),
        project: project.id.clone(),
        project_name: project.name.clone(),
        name: name.into(),
        role: Some(Role::Push),
        source_networks: Vec::new(),
        limits: Overrides::default(),
        created_at: at(1),
        expires_at: None,
        disabled_at: None,
        secrets: vec![secret(&format!("{id}-secret"), 1)],
        grants: vec![grant(&format!("{id}-grant"), project, Consent::Accepted)],
    }
}

fn secret(id: &str, fill: u8) -> RobotSecret {
    RobotSecret {
        id: id.into(),
        hash: SecretHash([fill; 32]),
        created_at: at(fill.into()),
        expires_at: None,
        last_used_at: None,
    }
}

fn grant(id: &str, on: &Project, consent: Consent) -> Grant {
    Grant {
        id: id.into(),
        project: on.id.clone(),
        pattern: RepositoryPattern::whole_project(on.name.as_str()),
        actions: Role::Push.actions(),
        consent,
    }
}

fn upload(id: &str, robot: &Robot, repository: &str) -> Upload {
    Upload {
        id: id.into(),
        project: robot.project.clone(),
        repository: repo(repository),
        robot: robot.id.clone(),
        started_at: at(0),
        expires_at: at(3600),
        upstream: Some("/v2/somewhere".into()),
    }
}

pub(crate) fn repo(name: &str) -> RepositoryName {
    RepositoryName::parse(name).unwrap()
}

fn tag(name: &str) -> Tag {
    Tag::parse(name).unwrap()
}

fn digest(of: &str) -> Digest {
    Digest::sha256(of.as_bytes())
}

fn descriptor(of: &str) -> Descriptor {
    Descriptor {
        media_type: "application/octet-stream".into(),
        digest: digest(of),
        size: of.len().try_into().unwrap(),
        artifact_type: None,
        platform: None,
        urls: Vec::new(),
        annotations: Vec::new(),
    }
}

/// A push of an image manifest of one layer.
fn pushed(project: &Project, repository: &str, of: &str, tags: &[&str]) -> PushedManifest {
    PushedManifest {
        project: project.id.clone(),
        repository: repo(repository),
        manifest: Manifest {
            media_type: media_type::OCI_MANIFEST.into(),
            artifact_type: None,
            digest: digest(of),
            size: 500,
            config: Some(descriptor("config")),
            layers: vec![descriptor("layer")],
            children: Vec::new(),
            subject: None,
            annotations: Vec::new(),
        },
        tags: tags.iter().map(|name| tag(name)).collect(),
        pushed_at: at(10),
        pushed_by: "acme+ci".into(),
    }
}

/// Records that a repository holds a blob, by an upload or anyway.
async fn hold(
    store: &dyn Store,
    project: &ProjectId,
    repository: &RepositoryName,
    digest: &Digest,
    size: u64,
    by: Option<&str>,
    at: Timestamp,
) -> Result<Admission> {
    let (project, repository, digest) = (project.clone(), repository.clone(), digest.clone());
    let blob = StoredBlob { project, repository, digest, size, at };
    store.add_blob(&blob, by.map_or(Charge::Anyway, Charge::By)).await
}

/// A project and a robot of it, in the store.
pub(crate) async fn acme(store: &dyn Store) -> (Project, Robot) {
    let project = project("acme");
    let robot = robot(&project, "ci");
    store.add_project(&project).await.unwrap();
    store.add_robot(&robot).await.unwrap();
    (project, robot)
}
