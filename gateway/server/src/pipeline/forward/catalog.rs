//! `_catalog`: from the record, and only what the caller's grants cover.

use super::tags::next_link;
use crate::body::Body;
use crate::pipeline::Visit;
use crate::pipeline::identify::Caller;
use crate::pipeline::respond::{self, Refusal};
use http::Response;
use portcullis_oci::RepositoryName;
use portcullis_oci::route::Page;
use portcullis_oci::scope::Actions;
use portcullis_tenancy::grant::Consent;
use portcullis_tenancy::{Grant, Project, Robot};
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;

#[derive(Serialize)]
struct List<'a> {
    repositories: Vec<&'a str>,
}

/// GET.
pub async fn catalog(visit: &Visit, caller: &Caller, page: &Page) -> Result<Response<Body>, Refusal> {
    let limit = visit.settings.config.limits.page_entries;
    let n = page.n.unwrap_or(limit).min(limit) as usize;
    let mut found: Vec<RepositoryName> = Vec::new();
    if let Some(robot) = caller.robot() {
        // One more than is shown tells whether there are more.
        let wanted = n.saturating_add(1);
        for (project, grants) in projects(visit, robot).await?.into_values() {
            found.extend(visible(visit, &project, &grants, page.last.as_deref(), wanted).await?);
        }
        found.sort();
    }
    let more = found.len() > n;
    found.truncate(n);
    let link = found.last().filter(|_| more).map(|last| next_link("/v2/_catalog", n, last.as_str()));
    let repositories = found.iter().map(RepositoryName::as_str).collect();
    let body = serde_json::to_vec(&List { repositories }).map_err(|error| Refusal::Internal(error.to_string()))?;
    Ok(respond::json_list(body, link))
}

/// The living projects in which a robot may pull something, by name, with the grants that say so.
async fn projects<'a>(
    visit: &Visit,
    robot: &'a Robot,
) -> Result<BTreeMap<String, (Arc<Project>, Vec<&'a Grant>)>, Refusal> {
    let mut projects: BTreeMap<String, (Arc<Project>, Vec<&Grant>)> = BTreeMap::new();
    for grant in &robot.grants {
        if grant.consent != Consent::Accepted || !grant.actions.contains(Actions::PULL) {
            continue;
        }
        let name = grant.pattern.project();
        if let Some((_, grants)) = projects.get_mut(name) {
            grants.push(grant);
        } else if let Some(project) =
            visit.worker.app.store.project(name).await?.filter(|project| project.id == grant.project)
        {
            projects.insert(name.to_owned(), (project, vec![grant]));
        }
    }
    Ok(projects)
}

/// A project's recorded repositories after a position that the grants cover, at most `wanted`.
async fn visible(
    visit: &Visit,
    project: &Project,
    grants: &[&Grant],
    last: Option<&str>,
    wanted: usize,
) -> Result<Vec<RepositoryName>, Refusal> {
    const BATCH: u32 = 1000;
    let mut found = Vec::new();
    let mut after = last.map(str::to_owned);
    while found.len() < wanted {
        let (id, position) = (project.id.clone(), after.clone());
        let store = &visit.worker.app.store;
        let batch = store.run(|store| async move { store.repositories(&id, position.as_deref(), BATCH).await }).await?;
        let Some(reached) = batch.last() else { break };
        after = Some(reached.as_str().to_owned());
        let is_end = batch.len() < BATCH as usize;
        found.extend(batch.into_iter().filter(|name| grants.iter().any(|grant| grant.pattern.matches(name))));
        if is_end {
            break;
        }
    }
    found.truncate(wanted);
    Ok(found)
}
