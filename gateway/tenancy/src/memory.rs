//! A store in memory for the tests of the rules: what they ask of it, and nothing of the record of what passes.

mod calls;

use crate::grant::{Consent, ForeignGrant};
use crate::key::StoredKey;
use crate::project::{NewProject, prefixes_overlap};
use crate::store::Result;
use crate::{Project, ProjectId, ProjectName, Robot, RobotId, StoreError, Timestamp, project};
use std::pin::pin;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, Waker};

/// A moment of the tests' day, in seconds from its beginning.
pub(crate) fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000_i64.saturating_add(second)).unwrap()
}

/// Runs what never waits, as nothing on this store does.
pub(crate) fn ready<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("nothing here waits"),
    }
}

/// Bytes that repeat from run to run and differ from call to call.
pub(crate) fn counting() -> impl Fn(&mut [u8]) + Send + Sync {
    let calls = AtomicU8::new(1);
    move |bytes| bytes.fill(calls.fetch_add(1, Ordering::Relaxed))
}

/// A living project in the store.
pub(crate) fn living(store: &MemoryStore, name: &str) -> Project {
    let new = NewProject { name: ProjectName::parse(name).unwrap(), upstream_prefix: None, public: false };
    let random = counting();
    let id = format!("id-of-{name}-{}", store.projects.lock().unwrap().len());
    let mut project = ready(project::create(&MemoryStore::default(), new, at(0), &random)).unwrap();
    project.id = ProjectId(id.into());
    ready(store.add_project(&project)).unwrap();
    project
}

#[derive(Default)]
pub(crate) struct MemoryStore {
    projects: Mutex<Vec<Project>>,
    robots: Mutex<Vec<Robot>>,
    keys: Mutex<Vec<StoredKey>>,
}

impl MemoryStore {
    fn robot_where(&self, matches: impl Fn(&Robot) -> bool) -> Option<Robot> {
        self.robots.lock().unwrap().iter().find(|robot| matches(robot)).cloned()
    }

    async fn add_project(&self, project: &Project) -> Result<()> {
        let mut projects = self.projects.lock().unwrap();
        if projects.iter().any(|other| other.name == project.name) {
            return Err(StoreError::Taken("project name"));
        }
        if projects.iter().any(|other| prefixes_overlap(&other.upstream_prefix, &project.upstream_prefix)) {
            return Err(StoreError::Taken("upstream prefix"));
        }
        projects.push(project.clone());
        Ok(())
    }

    async fn project(&self, name: &str) -> Result<Option<Project>> {
        Ok(self.projects.lock().unwrap().iter().find(|project| project.name.as_str() == name).cloned())
    }

    async fn projects(&self) -> Result<Vec<Project>> {
        Ok(self.projects.lock().unwrap().clone())
    }

    async fn delete_project(&self, id: &ProjectId, now: Timestamp) -> Result<()> {
        let mut projects = self.projects.lock().unwrap();
        let project = projects.iter_mut().find(|project| project.id == *id).ok_or(StoreError::Missing)?;
        project.deleted_at = Some(now);
        self.robots.lock().unwrap().retain(|robot| robot.project != *id);
        Ok(())
    }

    async fn purge_project(&self, id: &ProjectId) -> Result<()> {
        self.projects.lock().unwrap().retain(|project| project.id != *id);
        Ok(())
    }

    async fn add_robot(&self, robot: &Robot) -> Result<()> {
        let mut robots = self.robots.lock().unwrap();
        if robots.iter().any(|other| other.username() == robot.username()) {
            return Err(StoreError::Taken("robot name"));
        }
        robots.push(robot.clone());
        Ok(())
    }

    async fn robot_named(&self, project: &str, name: &str) -> Result<Option<Robot>> {
        Ok(self.robot_where(|robot| robot.project_name.as_str() == project && &*robot.name == name))
    }

    async fn replace_secrets(&self, robot: &Robot, newest: &str) -> Result<()> {
        let mut robots = self.robots.lock().unwrap();
        let kept = robots.iter_mut().find(|kept| kept.id == robot.id).ok_or(StoreError::Missing)?;
        if kept.secrets.first().is_none_or(|first| &*first.id != newest) {
            return Err(StoreError::Taken("newest secret"));
        }
        kept.secrets.clone_from(&robot.secrets);
        Ok(())
    }

    async fn set_consent(&self, grant_id: &str, consent: Consent, _: Timestamp) -> Result<ForeignGrant> {
        let mut robots = self.robots.lock().unwrap();
        let mut grants = robots.iter_mut().flat_map(|robot| {
            let (username, home) = (robot.username(), robot.project.clone());
            let foreign = robot.grants.iter_mut().filter(move |grant| grant.project != home);
            foreign.map(move |grant| (username.clone(), grant))
        });
        let (robot, grant) = grants.find(|(_, grant)| &*grant.id == grant_id).ok_or(StoreError::Missing)?;
        grant.consent = consent;
        Ok(ForeignGrant { grant: grant.clone(), robot, project_name: grant.pattern.project().to_owned() })
    }

    async fn set_disabled(&self, id: &RobotId, disabled_at: Option<Timestamp>) -> Result<()> {
        let mut robots = self.robots.lock().unwrap();
        robots.iter_mut().find(|robot| robot.id == *id).ok_or(StoreError::Missing)?.disabled_at = disabled_at;
        Ok(())
    }

    async fn delete_robot(&self, id: &RobotId) -> Result<()> {
        let mut robots = self.robots.lock().unwrap();
        let place = robots.iter().position(|robot| robot.id == *id).ok_or(StoreError::Missing)?;
        robots.remove(place);
        Ok(())
    }

    async fn keys(&self) -> Result<Vec<StoredKey>> {
        Ok(self.keys.lock().unwrap().clone())
    }

    async fn add_key(&self, key: &StoredKey, older_verify_until: Timestamp, now: Timestamp) -> Result<()> {
        let mut keys = self.keys.lock().unwrap();
        keys.retain(|older| older.verifies_until.is_none_or(|end| end > now));
        for older in keys.iter_mut() {
            older.verifies_until.get_or_insert(older_verify_until);
        }
        keys.insert(0, key.clone());
        Ok(())
    }
}
