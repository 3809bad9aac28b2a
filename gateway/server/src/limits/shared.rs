//! Where nodes count together: the same rule as a script in Redis or Valkey, one call for all limits of a decision, by the
//! store's own clock. What does not answer in time is done without, until it answers again.
//!
//! One connection is kept on the control runtime, and requests of all data threads are written to it one after another without
//! waiting for each other. A node shows every second that it is alive, so that each knows its share where it counts alone.

mod client;
mod logins;

#[cfg(test)]
mod tests;

use super::{Line, Lines, Name, Of, Over};
use crate::app::random;
use crate::config::SharedLimits;
use arc_swap::ArcSwapOption;
use portcullis_tenancy::limit::{Ask, Rate, client_address};
use portcullis_tenancy::random_id;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, RedisError, Script};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::{Notify, Semaphore};
use tokio::time::{sleep, timeout};

/// How often a node shows that it is alive.
const BEAT: Duration = Duration::from_secs(1);
/// How long it counts as alive after that, in microseconds.
const ALIVE_US: u64 = 10_000_000;
/// How long to wait after a failure.
const PAUSE: Duration = Duration::from_millis(250);
/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(2);
/// Most charges under way at once.
const CHARGES: usize = 1024;
/// Most that one charge raises a level by, in microseconds: what Lua counts exactly, and 35 years.
const MOST: u64 = 1 << 50;

/// The shared store, whether or not it answers now.
pub struct Shared {
    client: Client,
    ask: Script,
    failed: Script,
    beat: Script,
    prefix: String,
    node: Box<str>,
    timeout: Duration,
    link: ArcSwapOption<Link>,
    lost: Notify,
    /// How many nodes there were when it last answered; zero where it never did.
    heard: AtomicU64,
    /// How many the store of rules has seen.
    seen: AtomicU64,
    charges: Arc<Semaphore>,
    control: Handle,
}

/// One connection.
struct Link {
    connection: MultiplexedConnection,
}

/// It does not do what it is there for.
#[derive(Debug, thiserror::Error)]
pub enum SharedError {
    /// It says so itself, or cannot be reached.
    #[error(transparent)]
    Redis(#[from] RedisError),
    /// It does not answer.
    #[error("no answer within {} ms", .0.as_millis())]
    Late(Duration),
    /// It answers something else.
    #[error("it answered what no script of ours does")]
    Odd,
}

impl Shared {
    /// Begins to use it, and keeps trying where it is not there. It belongs on the control runtime.
    pub fn start(config: &SharedLimits, issuer: &str) -> Result<Arc<Self>, SharedError> {
        let shared = Arc::new(Self::new(config, issuer)?);
        tokio::spawn(Arc::clone(&shared).keep_up());
        Ok(shared)
    }

    fn new(config: &SharedLimits, issuer: &str) -> Result<Self, SharedError> {
        Ok(Self {
            client: client::client(config)?,
            ask: Script::new(include_str!("shared/ask.lua")),
            failed: Script::new(include_str!("shared/logins.lua")),
            beat: Script::new(include_str!("shared/beat.lua")),
            // In braces: all of them in one place, where the store has several.
            prefix: format!("portcullis:{{{issuer}}}:"),
            node: random_id(&random),
            timeout: config.timeout,
            link: ArcSwapOption::empty(),
            lost: Notify::new(),
            heard: AtomicU64::new(0),
            seen: AtomicU64::new(1),
            charges: Arc::new(Semaphore::new(CHARGES)),
            control: Handle::current(),
        })
    }

    /// How many nodes there were when it last answered; while it does not, or never did, no fewer than have been seen otherwise:
    /// more may have been started since.
    pub fn nodes(&self) -> u64 {
        let heard = self.heard.load(Ordering::Relaxed);
        if heard > 0 && self.is_up() { heard } else { heard.max(self.seen.load(Ordering::Relaxed)).max(1) }
    }

    /// So many nodes there are by what the store of rules has seen.
    pub(super) fn saw(&self, nodes: u64) {
        self.seen.store(nodes, Ordering::Relaxed);
    }

    /// Whether it answers.
    pub fn is_up(&self) -> bool {
        self.link.load().is_some()
    }

    /// Asks all of these limits at once; none where it does not answer.
    pub(super) async fn ask<'a>(&self, lines: &mut Lines<'a>) -> Option<Result<(), Over<'a>>> {
        let link = self.link.load_full()?;
        match self.call(&link, lines.iter()).await {
            Ok(answer) => {
                let (refuses, wait) = (answer.refuses, answer.wait);
                for (line, level) in lines.iter_mut().zip(answer.levels) {
                    line.level = level;
                }
                let over = refuses.and_then(|number| lines.iter().nth(number)).map(|line| Over { line: *line, wait });
                Some(over.map_or(Ok(()), Err))
            }
            Err(error) => {
                self.lose(&link, &error);
                None
            }
        }
    }

    /// Charges what has flowed, in the background. Where it cannot, now or then, `here` does.
    pub(super) fn charge(
        self: &Arc<Self>,
        (name, of, rate): (Name, Of<'_>, Rate),
        amount: u64,
        here: impl FnOnce(u64) + Send + 'static,
    ) {
        let Some(link) = self.link.load_full() else { return here(self.nodes()) };
        let Ok(place) = Arc::clone(&self.charges).try_acquire_owned() else { return here(self.nodes()) };
        let (key, shared) = (self.key(name, of, &rate), Arc::clone(self));
        self.control.spawn(async move {
            let _place = place;
            let mut call = shared.ask.prepare_invoke();
            call.key(key).arg(0).arg(rate.cost(amount).min(MOST)).arg(rate.capacity().min(MOST)).arg(highest(&rate));
            let mut connection = link.connection.clone();
            let charged = timeout(shared.timeout, call.invoke_async::<Vec<u64>>(&mut connection)).await;
            let charged = charged.map_err(|_| SharedError::Late(shared.timeout)).and_then(|answer| Ok(answer?));
            if let Err(error) = charged {
                shared.lose(&link, &error);
                here(shared.nodes());
            }
        });
    }

    async fn call<'l, 'a: 'l>(
        &self,
        link: &Link,
        lines: impl Iterator<Item = &'l Line<'a>>,
    ) -> Result<Answer, SharedError> {
        let mut call = self.ask.prepare_invoke();
        let mut count: usize = 0;
        for Line { name, of, rate, ask: Ask { need, take }, .. } in lines {
            call.key(self.key(*name, *of, rate));
            call.arg(rate.cost(*need).min(MOST)).arg(rate.cost(*take).min(MOST));
            call.arg(rate.capacity().min(MOST)).arg(highest(rate));
            count = count.saturating_add(1);
        }
        let mut connection = link.connection.clone();
        let answer = timeout(self.timeout, call.invoke_async::<Vec<u64>>(&mut connection)).await;
        let answer = answer.map_err(|_| SharedError::Late(self.timeout))??;
        match answer.split_first_chunk() {
            Some(([refuses, wait], levels)) if levels.len() == count => {
                let refuses = usize::try_from(*refuses).ok().and_then(|number| number.checked_sub(1));
                Ok(Answer { refuses, wait: *wait, levels: levels.to_vec() })
            }
            _ => Err(SharedError::Odd),
        }
    }

    fn key(&self, name: Name, of: Of<'_>, rate: &Rate) -> String {
        let (prefix, name) = (&self.prefix, name.as_str());
        match of {
            Of::Address(address) => format!("{prefix}{name}:{rate}:{}", client_address(address)),
            Of::Robot(robot) => format!("{prefix}{name}:{rate}:{}", robot.id.0),
            Of::Project(project) => format!("{prefix}{name}:{rate}:{}", project.id.0),
            Of::Guest(project, address) => {
                format!("{prefix}{name}:{rate}:{}:{}", project.id.0, client_address(address))
            }
        }
    }

    /// Goes on without it, until there is a new connection. It is told once for each that is lost.
    fn lose(&self, link: &Arc<Link>, error: &SharedError) {
        let before = self.link.compare_and_swap(link, None);
        if before.as_ref().is_some_and(|before| Arc::ptr_eq(before, link)) {
            tracing::warn!(
                %error,
                nodes = self.nodes(),
                "the store of shared limits does not answer; until it does this node counts alone, with its share"
            );
            self.lost.notify_one();
        }
    }

    /// Keeps a connection, and shows that this node is alive.
    async fn keep_up(self: Arc<Self>) {
        let mut has_told = false;
        loop {
            match self.connect().await {
                Ok(link) => {
                    tracing::info!(nodes = self.nodes(), "limits are shared");
                    self.link.store(Some(Arc::clone(&link)));
                    self.until_lost(&link).await;
                    // Whoever lost it has told so.
                    has_told = true;
                }
                Err(error) if !has_told => {
                    let nodes = self.nodes();
                    tracing::warn!(%error, nodes, "the store of shared limits does not answer; this node counts alone, with its share");
                    has_told = true;
                }
                Err(_) => {}
            }
            sleep(PAUSE).await;
        }
    }

    async fn connect(&self) -> Result<Arc<Link>, SharedError> {
        let config =
            AsyncConnectionConfig::new().set_connection_timeout(Some(CONNECT)).set_response_timeout(Some(CONNECT));
        let connecting = self.client.get_multiplexed_async_connection_with_config(&config);
        let connection = timeout(CONNECT, connecting).await.map_err(|_| SharedError::Late(CONNECT))??;
        let link = Arc::new(Link { connection });
        self.show_life(&link).await?;
        Ok(link)
    }

    async fn until_lost(&self, link: &Arc<Link>) {
        loop {
            tokio::select! {
                () = self.lost.notified() => return,
                () = sleep(BEAT) => {
                    if let Err(error) = self.show_life(link).await {
                        self.lose(link, &error);
                    }
                }
            }
        }
    }

    async fn show_life(&self, link: &Link) -> Result<(), SharedError> {
        let mut call = self.beat.prepare_invoke();
        call.key(format!("{}nodes", self.prefix)).arg(&*self.node).arg(ALIVE_US);
        let mut connection = link.connection.clone();
        let alive = timeout(self.timeout, call.invoke_async::<u64>(&mut connection)).await;
        self.heard.store(alive.map_err(|_| SharedError::Late(self.timeout))??, Ordering::Relaxed);
        Ok(())
    }
}

struct Answer {
    /// Which limit, counted from zero.
    refuses: Option<usize>,
    wait: u64,
    levels: Vec<u64>,
}

/// Whether a shared store does what it is there for, for `doctor`. It takes nothing of any limit.
pub async fn probe(config: &SharedLimits) -> Result<(), SharedError> {
    let shared = Shared::new(config, "doctor")?;
    let link = shared.connect().await?;
    shared.call(&link, std::iter::empty()).await.map(drop)
}

/// The highest level that there can be: what is counted fits or is refused, bytes may leave a debt.
fn highest(rate: &Rate) -> u64 {
    if rate.has_debt() { MOST } else { rate.capacity().min(MOST) }
}
