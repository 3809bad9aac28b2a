//! A Redis of the test's own: on a Unix socket alone, with nothing on disk.

use crate::process::{Process, free_port, need_program, owned};
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;

/// A server, which may be killed and started again.
pub struct Redis {
    process: Process,
    password: Option<String>,
    tls: Option<Tls>,
    directory: TempDir,
}

/// A port of localhost at which it speaks TLS.
struct Tls {
    port: u16,
    certificate: PathBuf,
    key: PathBuf,
}

impl Redis {
    /// A server that takes everybody.
    #[track_caller]
    pub fn start() -> Redis {
        Redis::serving(None, None)
    }

    /// A server that wants a password.
    #[track_caller]
    pub fn with_password(password: &str) -> Redis {
        Redis::serving(Some(password.to_owned()), None)
    }

    /// A server that speaks TLS, with a certificate for localhost.
    #[track_caller]
    pub fn with_tls(certificate: &Path, key: &Path) -> Redis {
        let tls = Tls { port: free_port(), certificate: certificate.to_owned(), key: key.to_owned() };
        Redis::serving(None, Some(tls))
    }

    #[track_caller]
    fn serving(password: Option<String>, tls: Option<Tls>) -> Redis {
        let directory = tempfile::tempdir().expect("the directory for temporary files is writable");
        let process = serve(&directory, password.as_deref(), tls.as_ref());
        Redis { process, password, tls, directory }
    }

    /// What `limits.shared` is set to.
    pub fn url(&self) -> String {
        match &self.tls {
            Some(tls) => format!("rediss://localhost:{}", tls.port),
            None => format!("unix:{}", self.socket().display()),
        }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.path().join("redis.sock")
    }

    /// Ends it at once, and with it all that it knew.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again after [`Redis::kill`]; it knows nothing.
    #[track_caller]
    pub fn revive(&mut self) {
        let _ = std::fs::remove_file(self.socket());
        self.process = serve(&self.directory, self.password.as_deref(), self.tls.as_ref());
    }

    /// What it answers to an inline command, such as `DBSIZE`.
    #[track_caller]
    pub fn says(&self, command: &str) -> String {
        let login = self.password.as_ref().map(|password| format!("AUTH {password}\r\n")).unwrap_or_default();
        ask(&self.socket(), &format!("{login}{command}\r\nQUIT\r\n")).expect("it answers")
    }
}

#[track_caller]
fn serve(directory: &TempDir, password: Option<&str>, tls: Option<&Tls>) -> Process {
    let socket = directory.path().join("redis.sock");
    let mut command = owned(need_program(&["redis-server", "valkey-server"]));
    command.current_dir(directory.path()).args(["--port", "0", "--save", "", "--appendonly", "no", "--unixsocket"]);
    command.arg(&socket);
    if let Some(password) = password {
        command.args(["--requirepass", password]);
    }
    if let Some(Tls { port, certificate, key }) = tls {
        command.args(["--tls-port", &port.to_string(), "--tls-auth-clients", "no", "--tls-cert-file"]);
        command.arg(certificate).arg("--tls-key-file").arg(key);
    }
    let mut process = Process::start("Redis", command, &directory.path().join("log"));
    process.wait_ready(|_| ask(&socket, "PING\r\nQUIT\r\n").ok().filter(|answer| !answer.is_empty()));
    process
}

fn ask(socket: &Path, commands: &str) -> std::io::Result<String> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(commands.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
