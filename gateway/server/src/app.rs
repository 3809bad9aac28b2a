//! The shared state: what every thread of the gateway looks at.

use crate::audit::Audit;
use crate::config::Config;
use crate::crowd::Crowd;
use crate::limits::{Limits, Shared};
use crate::origin::Hosts;
use crate::pipeline::identify::TokenCache;
use crate::policies::{Policies, PolicyMetrics};
use crate::quota::Holds;
use crate::telemetry::{Clock, Rooms, Telemetry};
use crate::throwaway::Throwaways;
use crate::trace::Tracer;
use crate::upload_location::UploadLocations;
use crate::upstream::{Pool, Upstream};
use anyhow::Context as _;
use arc_swap::ArcSwap;
use portcullis_store::CachedStore;
use portcullis_tenancy::key::{MasterKey, Purpose};
use portcullis_tenancy::store::Generation;
use portcullis_tenancy::token::KeyRing;
use portcullis_tenancy::{StoreError, TenancyError};
use std::sync::Arc;
use tokio::sync::Semaphore;

/// The gateway's shared state.
pub struct App {
    /// The configuration in force and what is derived from it.
    pub settings: ArcSwap<Settings>,
    /// The store, behind its caches.
    pub store: Arc<CachedStore>,
    /// The registry behind.
    pub upstream: Upstream,
    /// Seals and opens upload locations.
    pub locations: UploadLocations,
    /// Marks and recognises throw-away manifests.
    pub throwaways: Throwaways,
    /// Tokens that were verified lately.
    pub tokens: TokenCache,
    /// What is attached.
    pub policies: Arc<Policies>,
    /// How often and how much clients may ask.
    pub limits: Limits,
    /// Room for what goes upstream.
    pub holds: Arc<Holds>,
    /// Who is here, and who finds no room.
    pub crowd: Arc<Crowd>,
    /// The audit trail.
    pub audit: Arc<Audit>,
    /// Metrics and the access log.
    pub telemetry: Telemetry,
    /// Decides which requests are traced.
    pub tracer: Arc<Tracer>,
    issuer: String,
    master: MasterKey,
    ring: ArcSwap<(Generation, KeyRing)>,
}

/// The configuration in force and what is derived from it; replaced as a whole by a reload.
pub struct Settings {
    /// The configuration.
    pub config: Config,
    /// The hosts that clients may use.
    pub hosts: Hosts,
}

impl Settings {
    /// Derives what is derived.
    pub fn new(config: Config) -> Self {
        Self { hosts: Hosts::new(&config.server), config }
    }
}

/// One data-path thread's view: the shared state and its own upstream connections.
pub struct Worker {
    /// The shared state.
    pub app: Arc<App>,
    /// This thread's kept connections.
    pub pool: Arc<Pool>,
    /// This thread's times.
    pub clock: Arc<Clock>,
    /// A place for each write under way; whoever has them all knows that none is.
    pub writes: Arc<Semaphore>,
}

/// Most writes under way on one thread.
pub const MAX_WRITES: u32 = 16_384;

impl App {
    /// Builds the shared state over an open store.
    pub async fn new(
        config: Config,
        store: Arc<CachedStore>,
        master: MasterKey,
        issuer: String,
    ) -> anyhow::Result<Arc<Self>> {
        let generation = store.generation();
        let ring = open_ring(&store, &issuer, &config, &master).await?;
        let policies = Arc::new(Policies::new(&config.policies, &config.data_dir, &master)?);
        // Before the first request: what is attached must not be passed by for having just started.
        policies.load_all(&store).await?;
        let audit = Audit::new(&config, &master)?;
        let holds = Holds::new(Arc::clone(&store), config.quota.reservation, audit.node());
        let shared = config
            .limits
            .shared
            .as_ref()
            .map(|shared| Shared::start(shared, &issuer))
            .transpose()
            .context("limits.shared")?;
        if let Some(shared) = &shared {
            // Before the first request: who does not know how many there are would give out a whole limit.
            shared.count_nodes(&store, audit.node()).await?;
        }
        let limits = Limits::new(&config.limits, shared);
        let crowd = Arc::new(Crowd::default());
        let upstream = Upstream::new(&config.upstream)?.for_clients_at(config.limits.body_min_bytes_per_s);
        let telemetry = Telemetry::new(Rooms {
            policies: PolicyMetrics(Arc::clone(&policies)),
            quota: &holds.metrics,
            upstream: &upstream,
            limits: &limits.metrics,
            crowd: &crowd.metrics,
            audit: &audit.metrics,
        });
        let tracer = Tracer::new(&config.traces, telemetry.spans.clone())?;
        store.observe(telemetry.store_observer());
        Ok(Arc::new(Self {
            upstream,
            locations: UploadLocations::new(master.seal_key(Purpose::UploadLocations)),
            throwaways: Throwaways::new(master.mac_key(Purpose::Throwaways)),
            tokens: TokenCache::new(),
            telemetry,
            tracer,
            limits,
            crowd,
            audit,
            holds,
            policies,
            settings: ArcSwap::from_pointee(Settings::new(config)),
            ring: ArcSwap::from_pointee((generation, ring)),
            store,
            issuer,
            master,
        }))
    }

    /// The keys of the generation in force; read anew where a rule has changed since.
    pub async fn key_ring(&self) -> Result<KeyRingNow, TenancyError> {
        let current = self.ring.load();
        let generation = self.store.generation();
        if current.0 == generation {
            return Ok(KeyRingNow(arc_swap::Guard::into_inner(current)));
        }
        let settings = self.settings.load();
        let ring = open_ring(&self.store, &self.issuer, &settings.config, &self.master).await?;
        let fresh = Arc::new((generation, ring));
        self.ring.store(Arc::clone(&fresh));
        Ok(KeyRingNow(fresh))
    }
}

/// The key ring as of one generation.
pub struct KeyRingNow(Arc<(Generation, KeyRing)>);

impl std::ops::Deref for KeyRingNow {
    type Target = KeyRing;

    fn deref(&self) -> &KeyRing {
        &self.0.1
    }
}

async fn open_ring(
    store: &CachedStore,
    issuer: &str,
    config: &Config,
    master: &MasterKey,
) -> Result<KeyRing, TenancyError> {
    let keys = store.keys().await?;
    if keys.is_empty() {
        return Err(StoreError::Unreadable("signing_key: there is none".into()).into());
    }
    KeyRing::open(issuer.to_owned(), config.tokens.service.clone(), &keys, master)
}

/// Random bytes from the operating system's generator, as the rules want them passed in.
pub fn random(bytes: &mut [u8]) {
    aws_lc_rs::rand::fill(bytes).expect("the operating system gives random bytes");
}
