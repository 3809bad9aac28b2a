//! The store as somebody sees it who gets hold of it: with the database's own client, behind the gateway's back.

use crate::command::{Output, Run};
use crate::gateway::Gateway;

impl Gateway {
    /// Runs statements on its store, whatever they do; returns what they print.
    #[track_caller]
    pub fn sql(&self, statements: &str) -> String {
        let run = self.client().expect("a store is SQLite or PostgreSQL");
        let Output { stdout, .. } = run.stdin(statements).succeeds();
        stdout
    }

    /// What stands in its audit trail, but for what is random; none where there is none to be read.
    pub fn audit_records(&self) -> Option<String> {
        const RECORDS: &str = "SELECT kind, actor, address, project, repository, reference, digest, outcome, reason, request_id FROM audit;";
        let output = self.client()?.env("PGCONNECT_TIMEOUT", "5").stdin(RECORDS).run();
        (output.code == Some(0)).then_some(output.stdout)
    }

    /// The client of its store, where that can be there.
    fn client(&self) -> Option<Run> {
        let url = self.store_url();
        if let Some(server) = self.server() {
            return Some(server.tool("psql").args(["-qtA", "-v", "ON_ERROR_STOP=1", "-d"]).arg(url));
        }
        let file = url.strip_prefix("sqlite://").filter(|file| std::path::Path::new(file).exists())?;
        Some(Run::new("sqlite3").args(["-bail", "-cmd", ".timeout 10000"]).arg(file))
    }
}
