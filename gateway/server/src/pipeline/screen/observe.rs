//! Policies that observe what became of a request: they are shown it when it has ended, and nobody waits for them.

use crate::policies::Policies;
use portcullis_policy::Generation;
use portcullis_policy::question::{Ask, Context, Outcome, Question, Request};
use portcullis_tenancy::{Project, ProjectId};
use std::sync::Arc;

/// A request whose end is waited for.
pub struct Observer {
    generation: Arc<Generation>,
    project: ProjectId,
    context: Context,
    request: Request,
}

impl Observer {
    /// For a project's request, under the policies that it began with.
    pub fn new(generation: &Arc<Generation>, project: &Project, context: Context, request: Request) -> Self {
        Self { generation: Arc::clone(generation), project: project.id.clone(), context, request }
    }

    /// It has ended.
    pub fn ended(self, policies: &Arc<Policies>, outcome: Outcome) {
        let ask = Ask::Response { request: self.request, outcome };
        let question = Question { context: self.context, ask, facts: Default::default(), raw_manifest: None };
        policies.observe(self.generation, self.project, question);
    }
}
