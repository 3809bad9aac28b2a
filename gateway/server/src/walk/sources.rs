//! Which repositories are walked: those of the upstream's catalog, those that somebody names, those on record.

use crate::upstream_admin::UpstreamAdmin;
use portcullis_oci::RepositoryName;
use portcullis_tenancy::{Project, Store};
use std::collections::BTreeSet;

/// Rows that are read at once.
const PAGE: u32 = 1000;

/// Where names of repositories come from besides the record. Read once for all projects.
pub struct Sources {
    catalog: Option<Vec<String>>,
    /// Public names or the upstream's.
    named: Vec<String>,
}

impl Sources {
    /// Asks the upstream for its catalog. `named` are public names or the upstream's.
    pub async fn read(upstream: &UpstreamAdmin, named: Vec<String>) -> anyhow::Result<Self> {
        Ok(Self { catalog: upstream.catalog().await?, named })
    }

    /// Whether the upstream has a catalog.
    pub fn has_catalog(&self) -> bool {
        self.catalog.is_some()
    }

    /// Whether anybody has named repositories.
    pub fn has_names(&self) -> bool {
        !self.named.is_empty()
    }

    /// A project's repositories, in the order of their names' bytes.
    pub(super) async fn of(&self, project: &Project, store: &dyn Store) -> anyhow::Result<BTreeSet<RepositoryName>> {
        let mut all = on_record(project, store).await?;
        all.extend(self.catalog.iter().flatten().filter_map(|name| project.public_name(name)));
        all.extend(self.named.iter().flat_map(|name| meant(project, name)));
        Ok(all)
    }
}

/// The project's repositories that a name may mean: as the public's, as the upstream's, or as both.
pub fn meant(project: &Project, name: &str) -> impl Iterator<Item = RepositoryName> {
    let public = RepositoryName::parse(name).ok().filter(|public| public.project() == project.name.as_str());
    public.into_iter().chain(project.public_name(name))
}

/// Those that hold a manifest or a blob.
async fn on_record(project: &Project, store: &dyn Store) -> anyhow::Result<BTreeSet<RepositoryName>> {
    let mut all = BTreeSet::new();
    let mut after: Option<String> = None;
    loop {
        let page = store.repositories(&project.id, after.as_deref(), PAGE).await?;
        let Some(last) = page.last() else { break };
        after = Some(last.as_str().to_owned());
        all.extend(page);
    }
    let mut last = None;
    loop {
        let page = store.links(&project.id, last.as_ref(), PAGE).await?;
        let Some(end) = page.last() else { return Ok(all) };
        last = Some(end.clone());
        all.extend(page.into_iter().map(|(repository, _)| repository));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use portcullis_tenancy::{ProjectId, ProjectName, Timestamp};

    fn project(name: &str, prefix: &str) -> Project {
        Project {
            id: ProjectId(name.into()),
            name: ProjectName::parse(name).unwrap(),
            upstream_prefix: prefix.into(),
            public: false,
            limits: portcullis_tenancy::limit::Overrides::default(),
            created_at: Timestamp::UNIX_EPOCH,
            deleted_at: None,
        }
    }

    #[test]
    fn a_name_is_the_publics_or_the_upstreams() {
        let (acme, tenants) = (project("acme", "tenants/acme"), project("tenants", "others"));
        let all =
            |project: &Project, name: &str| meant(project, name).map(|found| found.to_string()).collect::<Vec<_>>();
        assert_eq!(all(&acme, "acme/app"), ["acme/app"]);
        assert_eq!(all(&acme, "tenants/acme/app"), ["acme/app"]);
        assert_eq!(all(&tenants, "tenants/acme/app"), ["tenants/acme/app"]);
        assert!(all(&acme, "globex/app").is_empty());
        assert!(all(&acme, "acme/App").is_empty());
        assert!(all(&acme, "acme").is_empty());
    }
}
