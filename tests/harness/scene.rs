//! What most tests open on: a registry, the gateway before it, and two tenants that must never meet.

use crate::gateway::{Builder, Gateway};
use crate::persona::Persona;
use crate::registry::Registry;
use crate::repository::Repository;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

/// How long a test waits for a command's effect on every node before it says that there was none. What is promised is 2 s;
/// many tests at once on few cores are no measure of that.
pub const EFFECT: Duration = Duration::from_secs(10);

/// A gateway, with acme and globex.
pub struct House {
    /// The gateway, serving.
    pub gateway: Gateway,
    /// One tenant.
    pub acme: Persona,
    /// The other.
    pub globex: Persona,
}

/// A gateway before a registry, with acme and globex.
pub struct Scene {
    /// The gateway and its tenants.
    pub house: House,
    /// The registry behind.
    pub registry: Registry,
}

impl House {
    /// A house before any upstream, however odd. The tenants are there before the gateway serves.
    #[track_caller]
    pub fn open(builder: Builder) -> House {
        let mut gateway = builder.stopped();
        let (acme, globex) = (gateway.persona_unasked("acme"), gateway.persona_unasked("globex"));
        gateway.serve();
        House { gateway, acme, globex }
    }

    /// A repository of acme's as its owner sees it.
    pub fn acme(&self, repository: &str) -> Repository {
        self.gateway.repository(&format!("acme/{repository}"), &self.acme.admin.credentials())
    }

    /// A repository of globex's as its owner sees it.
    pub fn globex(&self, repository: &str) -> Repository {
        self.gateway.repository(&format!("globex/{repository}"), &self.globex.admin.credentials())
    }
}

impl Deref for Scene {
    type Target = House;

    fn deref(&self) -> &House {
        &self.house
    }
}

impl DerefMut for Scene {
    fn deref_mut(&mut self) -> &mut House {
        &mut self.house
    }
}

impl Scene {
    /// A scene of the test's own.
    #[track_caller]
    pub fn open() -> Scene {
        Scene::with(|builder| builder)
    }

    /// A scene of the test's own, with the gateway's configuration changed.
    #[track_caller]
    pub fn with(configure: impl FnOnce(Builder) -> Builder) -> Scene {
        let registry = Registry::start();
        let mut gateway = configure(Gateway::before(&registry.url())).stopped();
        let (acme, globex) = (gateway.persona("acme"), gateway.persona("globex"));
        gateway.serve();
        Scene { house: House { gateway, acme, globex }, registry }
    }

    /// The scene that tests share which change no rule that another one looks at; the last one that lets go of it ends it.
    #[track_caller]
    pub fn shared() -> Arc<Scene> {
        static SHARED: Mutex<Weak<Scene>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let scene = Arc::new(Scene::open());
            *shared = Arc::downgrade(&scene);
            scene
        })
    }
}

/// Asks again and again until there is an answer, and fails the test where there is none in time.
#[track_caller]
pub fn within<T>(limit: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "it did not come within {limit:?}");
        crate::process::pause();
    }
}
