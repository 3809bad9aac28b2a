//! Projects: the tenants. A project is the first path component of its repositories.

use crate::limit::Overrides;
use crate::{Random, Store, StoreError, TenancyError, Timestamp, random_id};
use portcullis_oci::RepositoryName;
use portcullis_oci::name::is_path;
use std::fmt;

/// Longest project name, in bytes.
pub const MAX_NAME_BYTES: usize = 64;
/// Longest upstream prefix, in bytes: what is left of the 255 of a whole name is for the repository.
pub const MAX_PREFIX_BYTES: usize = 128;

/// A project's random identity, which survives nothing: a deleted and re-created name is another project.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProjectId(pub Box<str>);

/// A project's name: one component of the repository grammar, at most 64 bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProjectName(Box<str>);

impl ProjectName {
    /// Parses a name.
    pub fn parse(text: &str) -> Result<Self, TenancyError> {
        if text.len() > MAX_NAME_BYTES || text.contains('/') || !is_path(text) {
            return Err(TenancyError::Invalid(format!(
                "a project's name is 1 to {MAX_NAME_BYTES} lower-case letters and digits, with `.`, `_`, `__` or `-` inside"
            )));
        }
        Ok(Self(text.into()))
    }

    /// The name's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ProjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A project.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Project {
    /// Its identity.
    pub id: ProjectId,
    /// Its public name.
    pub name: ProjectName,
    /// What stands upstream in the place of its name: one or more path components.
    pub upstream_prefix: Box<str>,
    /// Whether anybody may pull.
    pub public: bool,
    /// Its limits, as far as they are not the configuration's.
    pub limits: Overrides,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was deleted; its name and prefix stay reserved until it is purged.
    pub deleted_at: Option<Timestamp>,
}

impl Project {
    /// The upstream's name of a repository of this project: `acme/app` → `tenants/acme/app`.
    pub fn upstream_name(&self, repository: &RepositoryName) -> String {
        format!("{}/{}", self.upstream_prefix, repository.within_project())
    }

    /// The public name of an upstream repository, if it lies under this project's prefix.
    pub fn public_name(&self, upstream: &str) -> Option<RepositoryName> {
        let within = upstream.strip_prefix(&*self.upstream_prefix)?.strip_prefix('/')?;
        RepositoryName::parse(&format!("{}/{within}", self.name)).ok()
    }
}

/// What `project create` is asked for.
#[derive(Clone, Debug)]
pub struct NewProject {
    /// The name.
    pub name: ProjectName,
    /// The prefix upstream; the name itself where none is given.
    pub upstream_prefix: Option<String>,
    /// Whether anybody may pull.
    pub public: bool,
}

/// Creates a project. The prefix must be prefix-free by components among all projects, deleted ones included.
///
/// Whether the upstream already holds something under the prefix is for the caller to ask beforehand (`--adopt`).
pub async fn create(
    store: &dyn Store,
    new: NewProject,
    now: Timestamp,
    random: Random<'_>,
) -> Result<Project, TenancyError> {
    let upstream_prefix: Box<str> = match new.upstream_prefix {
        Some(prefix) => prefix.into(),
        None => new.name.as_str().into(),
    };
    if upstream_prefix.len() > MAX_PREFIX_BYTES || !is_path(&upstream_prefix) {
        return Err(TenancyError::Invalid(format!(
            "an upstream prefix is path components as a repository's name has them, joined by `/`, at most {MAX_PREFIX_BYTES} bytes"
        )));
    }
    let project = Project {
        id: ProjectId(random_id(random)),
        name: new.name,
        upstream_prefix,
        public: new.public,
        limits: Overrides::default(),
        created_at: now,
        deleted_at: None,
    };
    match store.add_project(&project).await {
        Ok(()) => Ok(project),
        Err(StoreError::Taken(_)) => Err(what_is_in_the_way(store, &project).await?),
        Err(error) => Err(error.into()),
    }
}

/// Finds a living project by name, or says how to see which there are.
pub async fn find(store: &dyn Store, name: &str) -> Result<Project, TenancyError> {
    let name = ProjectName::parse(name)?;
    let project = store.project(name.as_str()).await?;
    project.filter(|project| project.deleted_at.is_none()).ok_or_else(|| unknown(&name))
}

/// Deletes a project: its robots die with it, its name and prefix stay reserved.
pub async fn delete(store: &dyn Store, name: &str, now: Timestamp) -> Result<Project, TenancyError> {
    let mut project = find(store, name).await?;
    match store.delete_project(&project.id, now).await {
        Ok(()) => {
            project.deleted_at = Some(now);
            Ok(project)
        }
        Err(StoreError::Missing) => Err(unknown(&project.name)),
        Err(error) => Err(error.into()),
    }
}

/// Forgets a deleted project with all its records, so that its name and prefix are free again. A living one is refused.
pub async fn purge(store: &dyn Store, name: &str) -> Result<Project, TenancyError> {
    let name = ProjectName::parse(name)?;
    let project = store.project(name.as_str()).await?.ok_or_else(|| unknown(&name))?;
    if project.deleted_at.is_none() {
        return Err(TenancyError::Conflict(format!("the project `{name}` is alive: delete it before it is purged")));
    }
    match store.purge_project(&project.id).await {
        Ok(()) => Ok(project),
        Err(StoreError::Missing) => Err(unknown(&name)),
        Err(error) => Err(error.into()),
    }
}

/// Whether one upstream prefix equals the other or lies under it, by whole components: `a/b` lies under `a`, `ab` does not.
pub fn prefixes_overlap(one: &str, other: &str) -> bool {
    let mut one = one.split('/');
    let mut other = other.split('/');
    loop {
        match (one.next(), other.next()) {
            (Some(a), Some(b)) if a == b => {}
            (Some(_), Some(_)) => return false,
            _ => return true,
        }
    }
}

fn unknown(name: &ProjectName) -> TenancyError {
    TenancyError::NotFound(format!("there is no project `{name}`: `portcullis project list` shows those there are"))
}

async fn what_is_in_the_way(store: &dyn Store, wanted: &Project) -> Result<TenancyError, TenancyError> {
    let others = store.projects().await?;
    let by_name = others.iter().find(|other| other.name == wanted.name);
    let by_prefix = || others.iter().find(|other| prefixes_overlap(&other.upstream_prefix, &wanted.upstream_prefix));
    let (Some(other), what) = (match by_name {
        Some(other) => (Some(other), format!("the name `{}`", other.name)),
        None => (by_prefix(), format!("the upstream prefix `{}`", wanted.upstream_prefix)),
    }) else {
        return Ok(TenancyError::Conflict("another project was in the way, and is gone: try again".into()));
    };
    let Project { name, upstream_prefix, .. } = other;
    Ok(TenancyError::Conflict(match other.deleted_at {
        Some(_) => format!(
            "{what} is reserved by the deleted project `{name}` (upstream prefix `{upstream_prefix}`): purge it first, or choose another"
        ),
        None => {
            format!("{what} is taken by the project `{name}` (upstream prefix `{upstream_prefix}`): choose another")
        }
    }))
}

#[cfg(test)]
mod tests;
