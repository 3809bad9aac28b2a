//! A PostgreSQL of the tests' own: made in a temporary directory, reached by a Unix socket, gone with its last user.

use sqlx::{AssertSqlSafe, Connection, PgConnection, raw_sql};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, Weak};

/// Lives as long as its standard input is open, so that it also ends where the test process is killed.
const SCRIPT: &str = r#"
PATH="$PATH:/usr/lib/postgresql/17/bin:/usr/lib/postgresql/16/bin:/usr/lib/postgresql/15/bin"
command -v initdb >/dev/null && command -v pg_ctl >/dev/null || { echo MISSING; exit 1; }
dir=$(mktemp -d) && cd "$dir" || exit 1
initdb -D data -A trust -U postgres -E UTF8 --locale-provider=icu --icu-locale=en --locale=C.UTF-8 --no-sync >log 2>&1 &&
pg_ctl -D data -w -l log -o "-c listen_addresses='' -c unix_socket_directories=$dir -c fsync=off -c max_connections=200" start >>log 2>&1 ||
{ cat log >&2; rm -rf "$dir"; exit 1; }
echo "$dir"
read -r _
pg_ctl -D data -m immediate stop >/dev/null 2>&1
rm -rf "$dir"
"#;

static RUNNING: Mutex<Weak<Server>> = Mutex::new(Weak::new());
static DATABASES: AtomicU32 = AtomicU32::new(0);

pub(super) struct Server {
    directory: String,
    stdin: Option<ChildStdin>,
    child: Child,
}

impl Server {
    /// The server that runs, or a new one.
    pub(super) fn get() -> Arc<Self> {
        let mut running = RUNNING.lock().unwrap();
        running.upgrade().unwrap_or_else(|| {
            let server = Arc::new(Self::start());
            *running = Arc::downgrade(&server);
            server
        })
    }

    fn start() -> Self {
        // PostgreSQL refuses to run as root.
        let mut command = if std::fs::metadata("/proc/self").unwrap().uid() == 0 {
            let mut command = Command::new("runuser");
            command.args(["-u", "postgres", "--", "sh", "-c", SCRIPT]);
            command
        } else {
            let mut command = Command::new("sh");
            command.args(["-c", SCRIPT]);
            command
        };
        let mut child = command
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("runuser and sh are there");
        let stdin = child.stdin.take();
        let mut directory = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut directory).unwrap();
        match directory.trim() {
            "" => panic!(
                "PostgreSQL did not start; what it said stands above. Where the user postgres is missing, install the package postgresql-15"
            ),
            "MISSING" => {
                panic!("PostgreSQL is missing: install the package postgresql-15 (apt-get install postgresql-15)")
            }
            directory => Self { directory: directory.into(), stdin, child },
        }
    }

    /// The URL of a new, empty database.
    pub(super) async fn database(&self) -> String {
        self.database_with("").await
    }

    /// The same with options of `CREATE DATABASE`.
    pub(super) async fn database_with(&self, options: &str) -> String {
        let name = format!("portcullis_{}", DATABASES.fetch_add(1, Ordering::Relaxed));
        let mut connection = PgConnection::connect(&self.url("postgres")).await.unwrap();
        raw_sql(AssertSqlSafe(format!("CREATE DATABASE {name} {options}"))).execute(&mut connection).await.unwrap();
        self.url(&name)
    }

    fn url(&self, database: &str) -> String {
        format!("postgres://postgres@localhost/{database}?host={}", self.directory)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stdin.take());
        let _ = self.child.wait();
    }
}
