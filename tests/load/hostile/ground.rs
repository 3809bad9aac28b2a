//! Where attacks are made: the gateway, who behaves, who does not, and what is measured.

use super::attacks::Attack;
use crate::traffic::{p99, paced};
use portcullis_tests::gateway::metric;
use portcullis_tests::http::{Credentials, Http, block_on};
use portcullis_tests::image::Manifest;
use portcullis_tests::process::resident_kib;
use portcullis_tests::raw::Approach;
use portcullis_tests::scene::{Scene, within};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What the client that behaves asks in a second, each time over a connection of its own.
const PER_S: f64 = 80.0;
/// Who attacks.
const ATTACKER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// The gateway, and what is on both sides of it.
pub(super) struct Ground {
    scene: Scene,
    pub(super) target: Arc<Target>,
    peak_mib: AtomicU64,
}

/// What attackers know.
pub(super) struct Target {
    /// Where it is.
    pub(super) http: Http,
    /// From where they come.
    pub(super) attacker: Approach,
    /// A token for pulls and pushes of `acme/app`: an attacker may be a client.
    pub(super) token: String,
    /// A robot's name, without its secret.
    pub(super) robot: String,
    /// A blob of some megabytes.
    pub(super) blob: String,
    /// An attack is to end.
    pub(super) until: std::sync::Mutex<tokio::time::Instant>,
}

/// What became of the requests of whoever behaves, each with its time from when it was due; and how often was attacked.
pub(super) struct Answers {
    all: Vec<(Result<u16, String>, Duration)>,
    /// How often the attack was made.
    pub(super) attacked: u64,
}

impl Ground {
    pub(super) fn open() -> Ground {
        let scene = Scene::with(|builder| {
            // Limits as a house on the internet has them, and deadlines that pass within the test.
            let builder = builder.set("limits.head_timeout_s", 2).set("limits.connections_per_address", 100);
            let builder = builder.set("limits.handshakes_per_address", 50).set("upstream.idle_timeout_s", 3);
            let builder = builder.set("limits.requests_under_way_per_address", 64);
            // As they are by default.
            let builder = builder.set("limits.requests_per_address", "6000/10s");
            let builder = builder.set("limits.login_failures_per_address", "100/10min");
            let builder = builder.set("limits.login_failures_per_account", "10/10min");
            let builder = builder.set("server.proxy_protocol", true).set("server.trusted_proxies", "127.9.0.0/16");
            builder.set("tokens.life_s", 3600).set("log.level", "error").set("upstream.unread_timeout_s", 3)
        });
        let (repository, image) = (scene.acme("app"), Manifest::image(1, 100));
        repository.push("1.0", &image);
        let large = Manifest::image(1, 20_000_000);
        repository.push("large", &large);
        let who = scene.acme.push.credentials();
        let Credentials::Bearer(token) = scene.gateway.token(&who, &["repository:acme/app:pull,push"]) else {
            panic!("a token")
        };
        let target = Target {
            http: scene.gateway.http(),
            attacker: Approach::from(ATTACKER),
            token,
            robot: scene.acme.pull.username.clone(),
            blob: large.blobs[1].digest.clone(),
            until: std::sync::Mutex::new(tokio::time::Instant::now()),
        };
        Ground { scene, target: Arc::new(target), peak_mib: AtomicU64::new(0) }
    }

    /// Who behaves, by itself.
    pub(super) fn alone(&self, time: Duration) -> Answers {
        block_on(self.behave(time))
    }

    /// Who behaves, beside an attack that has begun before and goes on.
    pub(super) fn beside(&self, attack: &Attack, time: Duration) -> Answers {
        const RUN_UP: Duration = Duration::from_millis(500);
        // Threads of its own: whoever behaves does not wait for an attacker's turn.
        let attackers = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let attackers = attackers.expect("a runtime can be built");
        *self.target.until.lock().expect("nobody panics with it") = tokio::time::Instant::now() + time + RUN_UP;
        let attacking = attackers.spawn((attack.make)(Arc::clone(&self.target)));
        std::thread::sleep(RUN_UP);
        let mut answers = block_on(self.behave(time));
        answers.attacked = block_on(attacking).expect("attackers do not panic");
        attackers.shutdown_background();
        answers
    }

    async fn behave(&self, time: Duration) -> Answers {
        let ask = || {
            self.peak_mib.fetch_max(self.rss_mib(), Ordering::Relaxed);
            let who = Credentials::Bearer(self.target.token.clone());
            let request = self.target.http.get("/v2/acme/app/manifests/1.0").with(&who).limit(Duration::from_secs(10));
            async move { request.answer().await.map(|answer| answer.status) }
        };
        Answers { all: paced(PER_S, time, ask).await, attacked: 0 }
    }

    /// What the gateway has in memory now.
    pub(super) fn rss_mib(&self) -> u64 {
        resident_kib(self.scene.gateway.id()) / 1024
    }

    /// What it had at its most.
    pub(super) fn peak_mib(&self) -> u64 {
        self.peak_mib.load(Ordering::Relaxed)
    }

    /// Nothing of any attack is left: no request under way, no connection.
    pub(super) fn is_as_before(&self) {
        within(Duration::from_secs(60), || {
            let metrics = self.scene.gateway.metrics();
            let left = |name| metric(&metrics, name, "");
            (left("portcullis_requests_in_flight") == 0.0 && left("portcullis_connections") == 0.0).then_some(())
        });
        self.scene.gateway.management().get("/healthz").send().expect(200);
    }
}

impl Answers {
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// The share that was answered as it should be.
    pub(super) fn success(&self) -> f64 {
        let good = self.all.iter().filter(|(answer, _)| *answer == Ok(200)).count();
        good as f64 / self.all.len() as f64
    }

    pub(super) fn failures(&self) -> Vec<&Result<u16, String>> {
        self.all.iter().map(|(answer, _)| answer).filter(|answer| **answer != Ok(200)).take(5).collect()
    }

    /// The time within which 99 of 100 had their answer.
    pub(super) fn p99(&self) -> Duration {
        p99(&self.all)
    }
}

impl Target {
    /// Whether the attack goes on.
    pub(super) fn goes_on(&self) -> bool {
        tokio::time::Instant::now() < *self.until.lock().expect("nobody panics with it")
    }

    /// When it ends.
    pub(super) fn end(&self) -> tokio::time::Instant {
        *self.until.lock().expect("nobody panics with it")
    }

    /// A request's head up to its last line's end.
    pub(super) fn head(&self, line: &str, headers: &str) -> String {
        let authority = self.http.authority();
        format!("{line} HTTP/1.1\r\nhost: {authority}\r\nauthorization: Bearer {}\r\n{headers}", self.token)
    }
}
