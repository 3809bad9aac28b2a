//! Policies come, change, break and go while clients pull and push: every request has an answer, and each answer is of one
//! moment: of what was in force at some time while the request was under way.

use crate::attached::{LONGEST, told};
use crate::traffic::among_others;
use http::Method;
use portcullis_tests::gateway::Gateway;
use portcullis_tests::guest;
use portcullis_tests::http::{Credentials, Response};
use portcullis_tests::image::{Blob, Manifest};
use portcullis_tests::process::resident_kib;
use portcullis_tests::repository::{Repository, with_digest};
use portcullis_tests::scene::{Scene, within};
use serde_json::json;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// Half of them for each tenant.
const CLIENTS: usize = 64;
/// What the gateway's memory may grow by after the first third. Beside 64 clients the allocator gives pages back late, by ten
/// MiB more or less from run to run. A thousand changes of which each leaves 50 KiB behind, less than a loaded guest takes, are
/// seen; what is smaller is for the policy crate's own test of memory, where nothing else runs.
const TOLERANCE_KIB: u64 = 32 * 1024;

/// What an answer shows of the policy: the number in its settings, and what it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shown {
    Nothing,
    Warns(u32),
    Refuses(u32),
}

/// The changes, numbered from 1; before the first nothing is attached.
const fn shown(change: u32) -> Shown {
    match change % 5 {
        1 | 2 => Shown::Warns(change),
        // What the gateway cannot load: the one before goes on.
        3 => Shown::Warns(change - 1),
        4 => Shown::Refuses(change),
        _ => Shown::Nothing,
    }
}

/// One tenant under change.
struct Tenant<'a> {
    gateway: &'a Gateway,
    project: &'a str,
    stable: Manifest,
    /// The last change that was begun, and the last that was seen to be in force.
    begun: AtomicU32,
    seen: AtomicU32,
    /// Answers that showed nothing, a warning, a refusal.
    counted: [AtomicU32; 3],
}

/// The guests, as files: one that warns, one that the gateway finds too large, one that refuses.
struct Guests {
    warns: PathBuf,
    large: PathBuf,
    refuses: PathBuf,
}

impl Guests {
    fn make() -> Guests {
        // The settings are `{"generation":N}`: the number is all but 14 bytes before it and one after.
        let remember = ";; hooks: request manifest-push pull
            (global $text (mut i32) (i32.const 0))
            (global $length (mut i32) (i32.const 0))
            (func $configure (param $at i32) (param $length i32) (result i32)
              (global.set $text (i32.add (local.get $at) (i32.const 14)))
              (global.set $length (i32.sub (local.get $length) (i32.const 15)))
              (i32.const 512))";
        let at_each_hook = |says: &str| {
            let hooks = ["on-request", "on-manifest-push", "on-pull"];
            let functions =
                hooks.map(|hook| format!("(func ${hook} (param i32) (result i32) {says} (i32.const 640))\n"));
            format!("{remember}\n{}", functions.concat())
        };
        let warns = at_each_hook(
            "(i32.store (i32.const 700) (global.get $text))
             (i32.store (i32.const 704) (global.get $length))
             (i32.store8 (i32.const 640) (i32.const 1))
             (i32.store (i32.const 644) (i32.const 700))
             (i32.store (i32.const 648) (i32.const 1))",
        );
        let refuses = at_each_hook(
            "(i32.store8 (i32.const 640) (i32.const 2))
             (i32.store (i32.const 644) (global.get $text))
             (i32.store (i32.const 648) (global.get $length))",
        );
        let large = format!("{warns}\n(data \"{}\")", "x".repeat(70_000));
        Guests {
            warns: guest::made("warns", &warns),
            large: guest::made("large", &large),
            refuses: guest::made("refuses", &refuses),
        }
    }
}

impl<'a> Tenant<'a> {
    fn new(gateway: &'a Gateway, project: &'a str, stable: &Manifest) -> Tenant<'a> {
        let (begun, seen, counted) = (AtomicU32::new(0), AtomicU32::new(0), Default::default());
        Tenant { gateway, project, stable: stable.clone(), begun, seen, counted }
    }

    /// Makes a change, by an operator whose own limits are wider than the gateway's, and waits until it is in force.
    fn change(&self, office: &Gateway, guests: &Guests, number: u32, probe: &Repository) {
        self.begun.store(number, Ordering::SeqCst);
        let attach = |component| {
            office.attach(self.project, component, json!({"generation": number}), &["--name", "gate"]);
        };
        match number % 5 {
            1 | 2 => attach(&guests.warns),
            3 => attach(&guests.large),
            4 => attach(&guests.refuses),
            _ => drop(office.cli(&["policy", "detach", self.project, "gate"])),
        }
        within(LONGEST, || {
            if number % 5 == 3 {
                return told(self.gateway, self.project, "gate").filter(|gate| !gate["problem"].is_null()).map(drop);
            }
            (read(&probe.manifest("stable"), 2) == Ok(shown(number))).then_some(())
        });
        self.seen.store(number, Ordering::SeqCst);
    }

    /// One request, and whether its answer is of a moment while it was under way.
    fn ask(&self, hooks: usize, send: impl FnOnce() -> Result<Response, String>) -> Result<Response, String> {
        let first = self.seen.load(Ordering::SeqCst);
        let answer = send()?;
        let last = self.begun.load(Ordering::SeqCst);
        let found = read(&answer, hooks)?;
        if !(first..=last).any(|change| shown(change) == found) {
            return Err(format!("{found:?} was in force at no time from change {first} to {last}\n{answer}"));
        }
        let counter = match found {
            Shown::Nothing => 0,
            Shown::Warns(_) => 1,
            Shown::Refuses(_) => 2,
        };
        self.counted[counter].fetch_add(1, Ordering::Relaxed);
        Ok(answer)
    }

    /// One pull, and one push under a tag of the client's own; a refusal ends either.
    fn round(&self, repository: &Repository, client: usize, number: usize) -> Result<(), String> {
        let pulled = self.ask(2, || repository.request(Method::GET, "manifests/stable").attempt())?;
        if pulled.status == 200 && pulled.body != self.stable.blob.bytes {
            return Err(format!("another manifest\n{pulled}"));
        }
        let layer = &self.stable.blobs[1];
        let path = format!("blobs/{}", layer.digest);
        let pulled = self.ask(2, || repository.request(Method::GET, &path).attempt())?;
        if pulled.status == 200 && pulled.body != layer.bytes {
            return Err("another blob".to_owned());
        }
        if !number.is_multiple_of(4) {
            return Ok(());
        }
        let opened = self.ask(1, || repository.request(Method::POST, "blobs/uploads/").attempt())?;
        if opened.status == 202 {
            let blob = Blob::random(100);
            let location = with_digest(&opened.header("location"), &blob.digest);
            self.ask(1, || repository.at(Method::PUT, &location).body(blob.bytes).attempt())?;
        }
        // Its own manifest: the registry stumbles over the reading of one that is written at that moment.
        let manifest =
            self.stable.clone().changed(|value| value["annotations"] = json!({"client": client.to_string()})).blob;
        let put = repository.request(Method::PUT, &format!("manifests/client-{client}"));
        let put = put.header("content-type", &manifest.media_type).body(manifest.bytes);
        self.ask(2, || put.attempt()).map(drop)
    }
}

/// What an answer shows, where it is a right one: a success with the same warning of each hook, or with none; or a refusal
/// by the policy.
fn read(answer: &Response, hooks: usize) -> Result<Shown, String> {
    let wrong = |what: &str| Err(format!("{what}\n{answer}"));
    if answer.status == 403 {
        let told = answer.json()["errors"][0]["message"].as_str().unwrap_or_default().to_owned();
        let number = told.rsplit_once("policy gate of ").and_then(|(_, rest)| rest.split_once(": ")?.1.parse().ok());
        return number.map_or_else(|| wrong("a refusal by nobody"), |number| Ok(Shown::Refuses(number)));
    }
    if !matches!(answer.status, 200..=202) {
        return wrong("neither an answer nor a refusal");
    }
    let warnings: Vec<&str> = answer.headers.get_all("warning").iter().filter_map(|one| one.to_str().ok()).collect();
    let Some(first) = warnings.first() else { return Ok(Shown::Nothing) };
    if warnings.len() != hooks || warnings.iter().any(|one| one != first) {
        return wrong("a mixture");
    }
    let number = first.strip_prefix("299 - \"").and_then(|rest| rest.strip_suffix('"')?.parse().ok());
    number.map_or_else(|| wrong("a warning by nobody"), |number| Ok(Shown::Warns(number)))
}

/// So many changes for each of two tenants, under load.
fn roll_out(changes: u32) {
    let _others = among_others();
    let scene = Scene::with(|builder| {
        // However busy the machine is, no guest is refused for having waited.
        let patient = builder.set("policies.small_cpu_ms", 5).set("tokens.life_s", 3600);
        patient.set("server.tls", "off").set("policies.component_bytes", 64 * 1024)
    });
    let mut office = scene.gateway.second_node();
    office.set("policies.component_bytes", 1024 * 1024);
    let (guests, stable) = (Guests::make(), Manifest::image(1, 1_000));
    let repositories = [("acme", &scene.acme), ("globex", &scene.globex)].map(|(project, persona)| {
        let scope = format!("repository:{project}/app:pull,push");
        let who: Credentials = scene.gateway.token(&persona.push.credentials(), &[&scope]);
        let repository = scene.gateway.repository(&format!("{project}/app"), &who);
        repository.push("stable", &stable);
        repository
    });
    let tenants = ["acme", "globex"].map(|project| Tenant::new(&scene.gateway, project, &stable));
    let (over, wrong) = (AtomicBool::new(false), Mutex::new(Vec::new()));
    let memory = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (tenant, repository) = (&tenants[client % 2], &repositories[client % 2]);
            let (over, wrong) = (&over, &wrong);
            scope.spawn(move || {
                let mut rounds = (0..usize::MAX).take_while(|_| !over.load(Ordering::Relaxed));
                if let Err(what) = rounds.try_for_each(|number| tenant.round(repository, client, number)) {
                    wrong.lock().unwrap().push(what);
                    over.store(true, Ordering::Relaxed);
                }
            });
        }
        let changers: Vec<_> = tenants
            .iter()
            .zip(&repositories)
            .map(|(tenant, probe)| {
                let (over, office, guests, memory) = (&over, &office, &guests, &memory);
                let id = scene.gateway.id();
                scope.spawn(move || {
                    let _ending = Ending(over);
                    for number in (1..=changes).take_while(|_| !over.load(Ordering::Relaxed)) {
                        tenant.change(office, guests, number, probe);
                        memory.lock().unwrap().push(resident_kib(id));
                    }
                })
            })
            .collect();
        let ended: Vec<_> = changers.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
        over.store(true, Ordering::Relaxed);
        ended.into_iter().for_each(|one| one.expect("every change comes into force"));
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{} answers were wrong, the first:\n{}", wrong.len(), wrong[0]);
    for tenant in &tenants {
        let counted = tenant.counted.each_ref().map(|one| one.load(Ordering::Relaxed));
        println!("load: {}: {counted:?} answers without, with a warning, refused", tenant.project);
        assert!(counted.iter().all(|count| *count > 0), "{counted:?}: not all of it was seen");
    }
    level(&memory.into_inner().unwrap());
}

/// Ends everything where its thread fails.
struct Ending<'a>(&'a AtomicBool);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.store(true, Ordering::Relaxed);
        }
    }
}

/// Memory at the end is what it was when a third was done; the highest of some readings each, for one alone is chance.
fn level(readings: &[u64]) {
    let highest = |of: &[u64]| of.iter().copied().max().unwrap_or_default();
    let sixths: Vec<u64> = readings.chunks(readings.len().div_ceil(6)).map(highest).collect();
    println!("load: {} changes, KiB resident at most in each sixth: {sixths:?}", readings.len());
    let (warm, end) = (sixths[1], sixths[5]);
    assert!(end <= warm + TOLERANCE_KIB, "memory grew from {warm} to {end} KiB: {readings:?}");
}

#[test]
fn no_request_is_lost_or_answered_by_a_mixture_while_policies_come_and_go() {
    roll_out(15);
}

#[test]
#[ignore = "takes 15 minutes; make test-all"]
fn a_thousand_changes_under_load_lose_no_request_and_leave_no_memory_behind() {
    roll_out(500);
}
