use super::*;
use portcullis_tenancy::audit::{AuditKeys, Kind, Note};
use portcullis_tenancy::key::MasterKey;
use portcullis_tenancy::ledger::{Charge, StoredBlob};
use portcullis_tenancy::limit::Overrides;
use portcullis_tenancy::robot::RobotSecret;
use portcullis_tenancy::{ProjectName, Timestamp};
use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use tempfile::TempDir;

const FRESH: Duration = Duration::from_secs(600);

/// A cache over a SQLite store, with the control runtime being that of the test.
struct House {
    cached: Arc<CachedStore>,
    store: Arc<crate::SqlStore>,
    _directory: TempDir,
}

impl House {
    async fn new(stale_max: Duration) -> Self {
        Self::controlled_by(Handle::current(), stale_max).await
    }

    async fn controlled_by(control: Handle, stale_max: Duration) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}/portcullis.db", directory.path().display());
        let store = Arc::new(crate::open(&url, 2).await.unwrap());
        store.add_project(&project("acme")).await.unwrap();
        store.add_robot(&robot("acme", "ci")).await.unwrap();
        Self { cached: CachedStore::new(store.clone(), control, stale_max), store, _directory: directory }
    }

    /// Changes the rules without a bump, so that only what was asked for anew shows it.
    async fn behind_its_back(&self, sql: &'static str) {
        self.store.execute(sqlx::query(sql)).await.unwrap();
    }

    async fn hold(&self, project: &ProjectId, repository: &RepositoryName, digest: &Digest) {
        let (project, repository, digest) = (project.clone(), repository.clone(), digest.clone());
        let blob = StoredBlob { project, repository, digest, size: 1, at: Timestamp::UNIX_EPOCH };
        self.store.add_blob(&blob, Charge::Anyway).await.unwrap();
    }

    /// A robot by name, of which anything that is remembered suffices.
    async fn named(&self, project: &str, name: &str) -> Result<Option<Arc<Robot>>> {
        self.cached.robot_named(project, name, |robot| robot.is_some()).await
    }

    async fn public(&self) -> bool {
        self.cached.project("acme").await.unwrap().unwrap().public
    }
}

const MAKE_PUBLIC: &str = "UPDATE project SET public = 1";

fn project(name: &str) -> Project {
    Project {
        id: ProjectId(name.into()),
        name: ProjectName::parse(name).unwrap(),
        upstream_prefix: name.into(),
        public: false,
        limits: Overrides::default(),
        created_at: Timestamp::UNIX_EPOCH,
        deleted_at: None,
    }
}

fn robot(project: &str, name: &str) -> Robot {
    Robot {
        id: RobotId(format!("{project}-{name}").into()),
        project: ProjectId(project.into()),
        project_name: ProjectName::parse(project).unwrap(),
        name: name.into(),
        role: None,
        source_networks: Vec::new(),
        limits: Overrides::default(),
        created_at: Timestamp::UNIX_EPOCH,
        expires_at: None,
        disabled_at: None,
        secrets: Vec::<RobotSecret>::new(),
        grants: Vec::new(),
    }
}

fn names() -> (ProjectId, RepositoryName, Digest) {
    (ProjectId("acme".into()), RepositoryName::parse("acme/app").unwrap(), Digest::sha256(b"blob"))
}

#[tokio::test]
async fn it_is_stale_until_the_first_poll() {
    let house = House::new(FRESH).await;
    assert!(house.cached.is_stale());
    let generation = house.cached.refresh().await.unwrap();
    assert!(!house.cached.is_stale());
    assert_eq!(house.cached.generation(), generation);
    assert_eq!(generation, house.store.generation().await.unwrap());
}

#[tokio::test]
async fn what_was_read_is_remembered_for_its_generation_only() {
    let house = House::new(FRESH).await;
    house.cached.refresh().await.unwrap();
    assert!(!house.public().await);
    house.behind_its_back(MAKE_PUBLIC).await;
    assert!(!house.public().await, "it was remembered");
    house.store.add_project(&project("globex")).await.unwrap();
    house.cached.refresh().await.unwrap();
    assert!(house.public().await, "it was asked for anew");
}

#[tokio::test]
async fn nothing_that_is_remembered_counts_while_the_generation_is_stale() {
    let house = House::new(Duration::ZERO).await;
    let (project, repository, digest) = names();
    house.hold(&project, &repository, &digest).await;
    house.cached.refresh().await.unwrap();
    assert!(!house.public().await);
    assert!(house.cached.has_link(&project, &repository, &digest).await.unwrap());
    house.behind_its_back(MAKE_PUBLIC).await;
    assert!(house.cached.is_stale());
    assert!(house.public().await);
    house.store.close().await;
    house.cached.project("acme").await.unwrap_err();
    house.cached.robot(&RobotId("acme-ci".into())).await.err().unwrap();
    house.named("acme", "ci").await.err().unwrap();
    house.cached.keys().await.err().unwrap();
    house.cached.has_link(&project, &repository, &digest).await.unwrap_err();
    house.cached.refresh().await.unwrap_err();
}

#[test]
fn what_was_read_before_a_change_and_put_away_after_it_is_never_seen() {
    let control = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (held, hold) = std::sync::mpsc::channel::<()>();
    let data = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    data.block_on(async {
        let house = House::controlled_by(control.handle().clone(), FRESH).await;
        house.cached.refresh().await.unwrap();
        // The control runtime's only worker is held, so that the question is asked, but not yet answered …
        control.spawn(async move { hold.recv() });
        let mut asking = pin!(house.cached.project("acme"));
        poll_fn(|context| Poll::Ready(asking.as_mut().poll(context).is_pending())).await.then_some(()).unwrap();
        // … when the next generation is heard of.
        house.cached.generation.fetch_add(1, Ordering::AcqRel);
        held.send(()).unwrap();
        assert!(!asking.await.unwrap().unwrap().public);
        house.behind_its_back(MAKE_PUBLIC).await;
        assert!(house.public().await);
    });
}

#[tokio::test]
async fn a_no_is_remembered_until_the_generation_changes() {
    let house = House::new(FRESH).await;
    house.cached.refresh().await.unwrap();
    assert!(house.cached.project("globex").await.unwrap().is_none());
    assert!(house.named("globex", "ci").await.unwrap().is_none());
    assert!(house.cached.robot(&RobotId("globex-ci".into())).await.unwrap().is_none());
    house.store.add_project(&project("globex")).await.unwrap();
    house.store.add_robot(&robot("globex", "ci")).await.unwrap();
    assert!(house.cached.project("globex").await.unwrap().is_none());
    house.cached.refresh().await.unwrap();
    assert!(house.cached.project("globex").await.unwrap().is_some());
    assert!(house.named("globex", "ci").await.unwrap().is_some());
    assert!(house.cached.robot(&RobotId("globex-ci".into())).await.unwrap().is_some());
}

#[tokio::test]
async fn a_deleted_project_and_its_robots_are_gone_with_the_next_generation() {
    let house = House::new(FRESH).await;
    house.cached.refresh().await.unwrap();
    let id = RobotId("acme-ci".into());
    assert!(house.named("acme", "ci").await.unwrap().is_some());
    assert!(house.cached.robot(&id).await.unwrap().is_some());
    house.store.delete_project(&ProjectId("acme".into()), Timestamp::UNIX_EPOCH).await.unwrap();
    house.cached.refresh().await.unwrap();
    assert!(house.cached.project("acme").await.unwrap().is_none());
    assert!(house.named("acme", "ci").await.unwrap().is_none());
    assert!(house.cached.robot(&id).await.unwrap().is_none());
}

#[tokio::test]
async fn a_robot_found_by_name_is_found_by_id_without_the_store() {
    let house = House::new(FRESH).await;
    house.cached.refresh().await.unwrap();
    let by_name = house.named("acme", "ci").await.unwrap().unwrap();
    house.store.close().await;
    let by_id = house.cached.robot(&by_name.id).await.unwrap().unwrap();
    assert!(Arc::ptr_eq(&by_name, &by_id));
    assert!(Arc::ptr_eq(&by_name, &house.named("acme", "ci").await.unwrap().unwrap()));
}

#[tokio::test]
async fn whoever_is_refused_has_been_looked_up_in_the_store_once_whatever_the_name() {
    let house = House::new(FRESH).await;
    house.cached.refresh().await.unwrap();
    let calls = Arc::new(AtomicU64::new(0));
    let counting = Arc::clone(&calls);
    house.cached.observe(Box::new(move || {
        let calls = Arc::clone(&counting);
        Box::new(move |_| {
            calls.fetch_add(1, Ordering::Relaxed);
        })
    }));
    // What suffices is what a login's secret says of the robot: asked once of what is remembered, be that nothing.
    for (project, name, right, expected) in [
        ("acme", "ci", false, [1, 1, 1]),
        ("acme", "nobody", false, [1, 1, 1]),
        ("nowhere", "ci", false, [1, 1, 1]),
        // Only the right secret is answered from memory.
        ("acme", "ci", true, [0, 0, 0]),
    ] {
        for (round, expected) in expected.into_iter().enumerate() {
            let (before, looks) = (calls.load(Ordering::Relaxed), AtomicU64::new(0));
            let suffices = |robot: Option<&Robot>| {
                looks.fetch_add(1, Ordering::Relaxed);
                right && robot.is_some()
            };
            house.cached.robot_named(project, name, suffices).await.unwrap();
            let asked = calls.load(Ordering::Relaxed) - before;
            assert_eq!((asked, looks.into_inner()), (expected, 1), "{project}+{name}, round {round}");
        }
    }
}

#[tokio::test]
async fn names_that_are_too_long_never_reach_the_store() {
    let house = House::new(FRESH).await;
    house.store.close().await;
    let long = "a".repeat(256);
    assert!(house.cached.project(&long).await.unwrap().is_none());
    assert!(house.named(&long, "ci").await.unwrap().is_none());
    assert!(house.named("acme", &long).await.unwrap().is_none());
}

#[tokio::test]
async fn made_up_names_are_remembered_up_to_a_limit() {
    let house = House::new(FRESH).await;
    house.cached.refresh().await.unwrap();
    let known = house.cached.known();
    for number in 0..3 * PROJECTS {
        remember(&house.cached.projects, format!("made-up-{number}").into(), known, &None);
    }
    assert!(house.cached.projects.len() <= PROJECTS);
}

#[tokio::test]
async fn a_link_is_remembered_until_it_is_forgotten_and_its_lack_is_not() {
    let house = House::new(FRESH).await;
    house.cached.refresh().await.unwrap();
    let (project, repository, digest) = names();
    assert!(!house.cached.has_link(&project, &repository, &digest).await.unwrap());
    house.hold(&project, &repository, &digest).await;
    assert!(house.cached.has_link(&project, &repository, &digest).await.unwrap());
    assert!(house.cached.links.get(&LinkRef { project: &project, repository: &repository, digest: &digest }).is_some());
    let keys = AuditKeys::new(&MasterKey::new([1; 32]));
    let record = keys.seal(Note::new(Kind::BlobDelete, "acme+ci"), "node", Timestamp::UNIX_EPOCH, &|_: &mut [u8]| {});
    house.cached.remove_link(&project, &repository, &digest, record).await.unwrap();
    assert!(!house.cached.has_link(&project, &repository, &digest).await.unwrap());
}

#[tokio::test]
async fn a_link_that_another_node_removed_counts_for_a_second_at_most() {
    let house = House::new(FRESH).await;
    house.cached.refresh().await.unwrap();
    let (project, repository, digest) = names();
    let old = Instant::now().checked_sub(LINK_LIFE).unwrap();
    house.cached.links.insert(
        Link { project: project.clone(), repository: repository.clone(), digest: digest.clone() },
        Remembered { asked: old, forgotten: 0, standing: Standing::Held { orphan_since: None } },
    );
    assert!(!house.cached.has_link(&project, &repository, &digest).await.unwrap());
}

#[test]
fn calls_run_on_the_control_runtime_and_to_their_end() {
    let control = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let data = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    data.block_on(async {
        let house = House::controlled_by(control.handle().clone(), FRESH).await;
        let ran_on = house.cached.run(|_| async { Ok(Handle::current().id()) }).await.unwrap();
        assert_eq!(ran_on, control.handle().id());

        let (begun, beginning) = tokio::sync::oneshot::channel();
        let (go_on, going_on) = tokio::sync::oneshot::channel::<()>();
        let (done, end) = tokio::sync::oneshot::channel();
        let caller = tokio::spawn({
            let cached = Arc::clone(&house.cached);
            async move {
                let call = |_| async move {
                    begun.send(()).unwrap();
                    going_on.await.unwrap();
                    done.send(()).unwrap();
                    Ok(())
                };
                cached.run(call).await
            }
        });
        beginning.await.unwrap();
        caller.abort();
        assert!(caller.await.unwrap_err().is_cancelled());
        go_on.send(()).unwrap();
        end.await.unwrap();
    });
}

#[test]
fn a_call_fails_where_the_control_runtime_is_gone() {
    let control = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let handle = control.handle().clone();
    let data = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    data.block_on(async {
        let house = House::controlled_by(handle, FRESH).await;
        control.shutdown_background();
        house.cached.refresh().await.unwrap_err();
        assert!(house.cached.is_stale());
    });
}

#[tokio::test]
async fn the_poll_hears_of_a_change() {
    let house = House::new(FRESH).await;
    let poll = tokio::spawn(Arc::clone(&house.cached).poll());
    house.store.add_project(&project("globex")).await.unwrap();
    let changed = house.store.generation().await.unwrap();
    let heard = async {
        while house.cached.generation() != changed {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), heard).await.unwrap();
    poll.abort();
}
