//! The store as somebody sees it who gets hold of it: with the database's own client, behind the gateway's back.

use crate::command::{Output, Run};
use crate::gateway::Gateway;

impl Gateway {
    /// Runs statements on its store, whatever they do; returns what they print.
    #[track_caller]
    pub fn sql(&self, statements: &str) -> String {
        let run = match self.server() {
            Some(server) => server.tool("psql").args(["-qtA", "-v", "ON_ERROR_STOP=1", "-d"]).arg(self.store_url()),
            None => {
                let url = self.store_url();
                let file = url.strip_prefix("sqlite://").expect("a store is SQLite or PostgreSQL");
                Run::new("sqlite3").args(["-bail", "-cmd", ".timeout 10000"]).arg(file)
            }
        };
        let Output { stdout, .. } = run.stdin(statements).succeeds();
        stdout
    }
}
