//! What policies leave of a token: each project's chain is asked about the scopes that are about that project.

use super::Request;
use crate::pipeline::Visit;
use crate::pipeline::identify::project_name;
use crate::pipeline::respond::Refusal;
use crate::pipeline::screen::{TokenAsk, ask_about_token};
use crate::telemetry::RequestId;
use portcullis_oci::Scope;
use portcullis_policy::question::{GrantType, Hook};
use portcullis_tenancy::{Project, Robot};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// A token that is about to be issued.
pub(super) struct Draft<'a> {
    pub visit: &'a Visit,
    pub request: &'a Request,
    pub robot: Option<&'a Robot>,
    /// The living projects that its scopes name.
    pub projects: &'a HashMap<Box<str>, Arc<Project>>,
    pub request_id: &'a RequestId,
}

/// What is left of it.
pub(super) struct Narrowed {
    pub scopes: Vec<Scope>,
    pub life: Duration,
    pub warnings: Vec<String>,
}

impl Draft<'_> {
    /// Asks every project that wants to be asked. Where one refuses, the token goes without its scopes; where nothing is left
    /// of what was granted, the refusal is told.
    pub async fn narrow(&self, asked: &[Scope], granted: Vec<Scope>) -> Result<Narrowed, Refusal> {
        let life = self.visit.settings.config.tokens.life;
        let mut left = Narrowed { scopes: granted, life, warnings: Vec::new() };
        let mut denied = None;
        for project in self.concerned(asked).await? {
            let is_its = |scope: &Scope| self.project_of(scope) == Some(project.name.as_str());
            let (its, others): (Vec<_>, Vec<_>) = left.scopes.drain(..).partition(is_its);
            left.scopes = others;
            // Whom nothing is granted is not told that there is a project; only a login has nothing to be granted.
            let is_login = self.robot.is_some_and(|robot| robot.project_name == project.name);
            if its.is_empty() && !is_login {
                continue;
            }
            let requested: Vec<Scope> = asked.iter().filter(|scope| is_its(scope)).cloned().collect();
            match ask_about_token(self.visit, self.robot, &project, self.request_id, self.part(&requested, its)).await {
                Ok(answer) => {
                    left.scopes.extend(answer.scopes);
                    left.life = left.life.min(Duration::from_secs(answer.ttl_s.into()));
                    left.warnings.extend(answer.warnings);
                }
                Err(refusal @ Refusal::Policy { .. }) => denied = denied.or(Some(refusal)),
                Err(other) => return Err(other),
            }
        }
        match denied {
            Some(refusal) if left.scopes.is_empty() => Err(refusal),
            _ => Ok(left),
        }
    }

    /// The project that a scope is about. The catalogue, which is of no one project, is the robot's own project's business.
    fn project_of<'s>(&'s self, scope: &'s Scope) -> Option<&'s str> {
        match scope {
            Scope::Catalog => self.robot.map(|robot| robot.project_name.as_str()),
            Scope::Repository { .. } => project_name(scope),
        }
    }

    /// The projects with policies on tokens, by name. A login, which asks for nothing or for a refresh token, and the catalogue
    /// are the robot's own project's business, too.
    async fn concerned(&self, asked: &[Scope]) -> Result<Vec<Arc<Project>>, Refusal> {
        let asks = |project: &Arc<Project>| self.visit.policies.asks(&project.id.0, Hook::Token);
        let mut concerned: Vec<_> = self.projects.values().filter(|project| asks(project)).cloned().collect();
        concerned.sort_by(|one, other| one.name.cmp(&other.name));
        let is_own = asked.is_empty() || asked.contains(&Scope::Catalog) || self.request.wants_refresh;
        if let (true, Some(robot)) = (is_own, self.robot) {
            let own = self.visit.worker.app.store.project(robot.project_name.as_str()).await?;
            let is_there = |own: &Arc<Project>| concerned.iter().any(|project| project.id == own.id);
            concerned.extend(own.filter(|own| asks(own) && !is_there(own)).into_iter().collect::<Vec<_>>());
        }
        Ok(concerned)
    }

    fn part<'a>(&self, requested: &'a [Scope], granted: Vec<Scope>) -> TokenAsk<'a> {
        let grant_type = match (self.request.is_post, self.request.grant_type.as_deref()) {
            (true, Some("refresh_token")) => GrantType::Refresh,
            (true, _) => GrantType::Password,
            (false, _) => GrantType::Basic,
        };
        let life = self.visit.settings.config.tokens.life.as_secs();
        let offline = self.request.wants_refresh;
        TokenAsk { grant_type, offline, requested, granted, ttl_s: u32::try_from(life).unwrap_or(u32::MAX) }
    }
}
