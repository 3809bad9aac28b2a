use super::*;
use crate::audit::read_checkpoint;
use portcullis_tenancy::audit::{Kind, Line, Note, forget};
use portcullis_tenancy::key::MasterKey;
use std::fs;
use std::io::Write;
use tokio::runtime::Handle;

const CONFIG: &str = "data_dir = \"/nonexistent\"\n[server]\npublic_url = \"https://registry.example.com\"\nlisten = \"0.0.0.0:8443\"\n[upstream]\nurl = \"http://127.0.0.1:5000\"\n";

/// Comes first among the nodes, and its chain is none of ours.
const BAD: &str = "a-bad";
const GOOD: &str = "b-good";

/// A node without its gateway, on a store of its own.
pub(super) struct Scene {
    dir: tempfile::TempDir,
    config: config::Config,
    pub(super) sql: Arc<dyn Store>,
    store: Arc<CachedStore>,
    audit: Arc<Audit>,
}

fn open(config: &config::Config) -> Arc<Audit> {
    Audit::new(config, &MasterKey::new([1; 32])).unwrap()
}

async fn opened(dir: &Path) -> portcullis_store::SqlStore {
    let url = format!("sqlite://{}", dir.join("portcullis.db").display());
    portcullis_store::open(&url, 2).await.unwrap()
}

fn note() -> Note {
    Note::new(Kind::Push, "acme+ci")
}

impl Scene {
    pub(super) async fn new(configure: impl FnOnce(&Path, &mut config::Audit)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config =
            config::parse(CONFIG, Path::new("portcullis.toml"), Path::new("/"), &|_: &Path| Ok(Vec::new())).unwrap();
        config.data_dir = dir.path().to_owned();
        configure(dir.path(), &mut config.audit);
        let sql: Arc<dyn Store> = Arc::new(opened(dir.path()).await);
        let store = CachedStore::new(Arc::clone(&sql), Handle::current(), Duration::from_secs(60));
        let audit = open(&config);
        Self { dir, config, sql, store, audit }
    }

    pub(super) fn room(&self) -> Room<'_> {
        Room { audit: &self.audit, store: &self.store, config: &self.config.audit }
    }

    async fn step(&self) -> Result<(), KeepError> {
        self.audit.keeper.lock().await.step(self.room(), false).await
    }

    /// A change at this node.
    async fn change(&self) {
        self.sql.add_records(&[self.audit.seal(note())]).await.unwrap();
    }

    /// Another process with the same `data_dir` gives what waits its places.
    async fn chain_elsewhere(&self) -> Head {
        advance(&*self.sql, &self.audit.keys, &self.audit.node, None).await.unwrap().head.unwrap()
    }

    /// Records of long ago that wait at a node that is gone.
    pub(super) async fn old_record(&self, node: &str) {
        let entry = self.audit.keys.seal(note(), node, Timestamp::UNIX_EPOCH, &crate::app::random);
        self.sql.add_records(&[entry]).await.unwrap();
    }

    /// A chain by somebody who has the store and not the key.
    async fn forged_chain(&self, node: &str) {
        let strange = AuditKeys::new(&MasterKey::new([9; 32]));
        let entry = strange.seal(note(), node, Timestamp::UNIX_EPOCH, &crate::app::random);
        let (chained, head) = strange.chain(node, None, vec![entry.clone()]);
        self.sql.add_records(&[entry]).await.unwrap();
        self.sql.chain_records(None, &head, &chained).await.unwrap();
    }

    /// The same store, gone away.
    pub(super) async fn away(&self) -> Arc<CachedStore> {
        let sql = opened(self.dir.path()).await;
        sql.close().await;
        CachedStore::new(Arc::new(sql), Handle::current(), Duration::from_secs(60))
    }

    pub(super) async fn waiting(&self, node: &str) -> usize {
        self.sql.waiting_records(Some(node), 10).await.unwrap().len()
    }

    fn signed(&self) -> Option<u64> {
        read_checkpoint(self.dir.path()).map(|checkpoint| checkpoint.count)
    }

    /// The export's lines: a record's place, or how far was signed.
    fn exported(&self) -> Vec<String> {
        let text = fs::read_to_string(self.config.audit.export_file.as_ref().unwrap()).unwrap();
        let lines =
            text.lines().map(|line| match Line::parse(line).unwrap_or_else(|error| panic!("{line}: {error}")) {
                Line::Entry(entry) => entry.sequence.unwrap().to_string(),
                Line::Checkpoint(checkpoint) => format!("signed {}", checkpoint.count),
            });
        lines.collect()
    }
}

fn with_export(dir: &Path, config: &mut config::Audit) {
    config.export_file = Some(dir.join("audit.jsonl"));
}

#[tokio::test]
async fn a_line_that_a_crash_cut_off_spoils_none_of_those_that_follow() {
    let mut scene = Scene::new(with_export).await;
    scene.change().await;
    scene.step().await.unwrap();
    let file = scene.config.audit.export_file.clone().unwrap();
    fs::OpenOptions::new().append(true).open(&file).unwrap().write_all(b"{\"type\":\"rec").unwrap();
    scene.audit = open(&scene.config);
    scene.change().await;
    scene.step().await.unwrap();
    assert_eq!(scene.exported(), ["1", "signed 1", "2", "signed 2"]);
}

#[tokio::test]
async fn an_export_that_fails_keeps_no_checkpoint_from_being_signed_and_misses_nothing() {
    let scene = Scene::new(|dir, config| config.export_file = Some(dir.join("later/audit.jsonl"))).await;
    scene.change().await;
    let failed = scene.step().await.unwrap_err();
    assert!(matches!(&failed, KeepError::File { path, .. } if path.ends_with("later/audit.jsonl")), "{failed}");
    assert_eq!(scene.signed(), Some(1));
    fs::create_dir(scene.dir.path().join("later")).unwrap();
    scene.change().await;
    scene.step().await.unwrap();
    assert_eq!(scene.exported(), ["1", "2", "signed 1"]);
}

#[tokio::test]
async fn a_checkpoint_that_could_not_be_written_is_tried_again() {
    let scene = Scene::new(with_export).await;
    let in_the_way = scene.dir.path().join("audit.checkpoint.new");
    fs::create_dir(&in_the_way).unwrap();
    scene.change().await;
    let failed = scene.step().await.unwrap_err();
    assert!(matches!(&failed, KeepError::File { path, .. } if path.ends_with("audit.checkpoint")), "{failed}");
    assert_eq!((scene.signed(), scene.exported()), (None, vec!["1".to_owned()]));
    fs::remove_dir(&in_the_way).unwrap();
    scene.step().await.unwrap();
    assert_eq!((scene.signed(), scene.exported()), (Some(1), vec!["1".to_owned(), "signed 1".to_owned()]));
}

#[tokio::test]
async fn a_broken_chain_keeps_no_other_nodes_records_from_their_places_and_readiness_tells_of_it() {
    let scene = Scene::new(|_, config| config.keep_days = 0).await;
    scene.forged_chain(BAD).await;
    scene.old_record(BAD).await;
    scene.old_record(GOOD).await;
    step(scene.room(), false).await;
    assert_eq!((scene.waiting(BAD).await, scene.waiting(GOOD).await), (1, 0));
    assert!(!scene.audit.is_whole());
    // It is tried again in a minute; until then nothing has become better.
    step(scene.room(), false).await;
    assert!(!scene.audit.is_whole());
}

#[tokio::test]
async fn a_broken_chain_keeps_no_other_nodes_old_records_from_being_forgotten() {
    let scene = Scene::new(|_, config| config.keep_days = 1).await;
    scene.forged_chain(BAD).await;
    scene.old_record(GOOD).await;
    advance(&*scene.sql, &scene.audit.keys, GOOD, None).await.unwrap();
    let failed = scene.step().await.unwrap_err();
    assert!(failed.to_string().contains(BAD), "{failed}");
    assert_eq!(scene.sql.chained_records(GOOD, 0, 10).await.unwrap(), []);
    assert_eq!(scene.sql.chained_records(BAD, 0, 10).await.unwrap().len(), 1, "it is kept as it is");
}

#[tokio::test]
async fn a_chain_that_others_took_further_is_gone_on_from_and_over_a_gap_it_is_not() {
    let scene = Scene::new(|_, _| {}).await;
    scene.change().await;
    scene.step().await.unwrap();
    for _ in 0..2 {
        scene.change().await;
        scene.chain_elsewhere().await;
    }
    scene.step().await.unwrap();
    scene.change().await;
    let head = scene.chain_elsewhere().await;
    let later = Timestamp::now().checked_add(Duration::from_secs(3600)).unwrap();
    assert_eq!(forget(&*scene.sql, &scene.audit.keys, &head, later, Timestamp::now()).await.unwrap(), 4);
    scene.step().await.expect("a base stands for those that were forgotten");
    for _ in 0..2 {
        scene.change().await;
        scene.chain_elsewhere().await;
    }
    scene.sql.forget_records(&scene.audit.node, 5, 10).await.unwrap();
    scene.change().await;
    let failed = scene.step().await.unwrap_err();
    assert!(matches!(failed, KeepError::Advance(AdvanceError::Broken { known: 6, .. })), "{failed}");
    assert_eq!(scene.waiting(&scene.audit.node).await, 1, "nobody vouches for what came before it");
}

#[tokio::test]
async fn what_could_not_be_written_down_waits_until_it_is() {
    let scene = Scene::new(with_export).await;
    let away = scene.away().await;
    let failing = Room { store: &away, ..scene.room() };
    for reference in ["1.0", "2.0"] {
        scene.audit.tell(note().reference(reference));
        step(failing, false).await;
        assert!(!scene.audit.is_whole());
    }
    assert_eq!(locked(&scene.audit.queue).len(), 2);
    step(scene.room(), false).await;
    assert!(scene.audit.is_whole());
    assert_eq!(locked(&scene.audit.queue).len(), 0);
    let written = scene.sql.chained_records(&scene.audit.node, 0, 10).await.unwrap();
    let mut references: Vec<_> = written.iter().map(|entry| entry.record.reference.as_deref().unwrap()).collect();
    // Of one millisecond any may come first.
    references.sort_unstable();
    assert_eq!(references, ["1.0", "2.0"]);
    assert_eq!(scene.exported(), ["1", "2", "signed 2"]);
}
