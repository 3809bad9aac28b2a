//! A machine of the test's own: namespaces in which clients may change what they like, where nothing outlives the test.
//!
//! Docker takes 127.0.0.0/8 for networks that need no TLS verification, and reads certificates from `/etc` alone. So
//! clients run where the loopback interface has one more address, with a name, and where the directories that they
//! write to are empty and vanish with them.

use crate::command::Run;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::time::Duration;

/// A name that leads to [`ADDRESS`] on the test's own machine.
pub const HOST: &str = "registry.test";
/// An address that no client takes for loopback.
pub const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 99, 0, 1));

const INSIDE: &str = "PORTCULLIS_TEST_MACHINE";
const SET_UP: &str = r#"
set -eu
ip link set lo up
ip address add "$1/32" dev lo
mkdir -p /etc/docker /etc/containers /var/lib/containers
for directory in /run /dev/shm /etc/docker /var/lib/containers; do
    mount -t tmpfs tmpfs "$directory"
done
printf '127.0.0.1 localhost\n%s %s\n' "$1" "$2" > /run/hosts
mount --bind /run/hosts /etc/hosts
exec "$3" --exact "$4" --nocapture
"#;

/// Runs the rest of a test, which has to be a closure written directly in it, on a machine of its own. Needs root, or `sudo` without a password.
#[track_caller]
pub fn alone<F: FnOnce()>(test: F) {
    if std::env::var_os(INSIDE).is_some() {
        return test();
    }
    let path = std::any::type_name::<F>();
    let name = path.split("::").skip(1).filter(|part| !part.starts_with('{'));
    let name = name.collect::<Vec<_>>().join("::");
    let exe = std::env::current_exe().expect("the test knows itself");
    let root = rustix::process::geteuid().is_root();
    let run = if root { Run::new("unshare") } else { Run::new("sudo").args(["-n", "-E", "unshare"]) };
    let output = run
        .args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--"])
        .args(["sh", "-c", SET_UP, "machine", &ADDRESS.to_string(), HOST])
        .arg(exe)
        .arg(name)
        .env(INSIDE, "1")
        .limit(Duration::from_secs(300))
        .run();
    // Exactly one test has to have run: a name that nothing matches would end well, too.
    let passed = output.code == Some(0) && output.stdout.contains("1 passed");
    assert!(passed, "the test failed on its own machine\n{}", output.text());
}

/// Makes every client on this machine trust `ca` for `registry`, a `host:port`.
#[track_caller]
pub fn trust(registry: &str, ca: &Path) {
    assert!(std::env::var_os(INSIDE).is_some(), "only on a machine of the test's own");
    let directory = Path::new("/etc/docker/certs.d").join(registry);
    std::fs::create_dir_all(&directory).expect("a directory of this machine's own");
    std::fs::copy(ca, directory.join("ca.crt")).unwrap_or_else(|e| panic!("{}: {e}", ca.display()));
}
