//! Policies that observe what became of a request: they are shown it when it has ended, and nobody waits for them.

use super::chain::write_down;
use crate::policies::Policies;
use portcullis_policy::Generation;
use portcullis_policy::question::{Ask, Context, Hook, Outcome, Question, Request};
use portcullis_tenancy::Project;
use std::sync::Arc;

/// A request whose end is waited for.
pub struct Observer {
    generation: Arc<Generation>,
    project: Arc<Project>,
    context: Context,
    request: Request,
}

impl Observer {
    /// For a project's request, under the policies that it began with.
    pub fn new(generation: &Arc<Generation>, project: &Arc<Project>, context: Context, request: Request) -> Self {
        Self { generation: Arc::clone(generation), project: Arc::clone(project), context, request }
    }

    /// It has ended.
    pub fn ended(self, policies: &Arc<Policies>, outcome: Outcome) {
        let ask = Ask::Response { request: self.request, outcome };
        let question = Question { context: self.context, ask, facts: Default::default(), raw_manifest: None };
        let (id, project) = (self.project.id.clone(), self.project);
        let request_id = question.context.request_id.clone();
        policies.observe(self.generation, id, question, move |answer| {
            write_down(&project, Hook::Response, &request_id, answer);
        });
    }
}
