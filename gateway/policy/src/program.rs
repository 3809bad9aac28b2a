//! A program is a component that was loaded: compiled, known to be a policy, and asked who it is. It has no settings yet.

mod call;

pub use call::Spent;
pub(crate) use call::{Parts, Running};

use crate::contract::{self, Exports, Guest};
use crate::engine::{Engine, Loaded};
use crate::error::{Failure, LoadError};
use crate::limits::{CallLimits, Class, Limits, SettingsLimits};
use crate::question::{Fact, FactSet, Hook, HookSet};
use crate::schema::Schema;
use crate::verdict::Info;
use portcullis_oci::Digest;
use std::sync::Arc;
use wasmtime::component::InstancePre;

/// A loaded component. Shared by all that attach it, with whatever settings.
pub struct Program {
    engine: Engine,
    digest: Digest,
    bytes: usize,
    class: Class,
    pre: InstancePre<Guest>,
    exports: Exports,
    info: Info,
    hooks: HookSet,
    wants: FactSet,
    metrics: Arc<[String]>,
    schema: Option<Schema>,
}

impl Program {
    /// Loads a component, or a core module: size, structure, compilation, world, `describe`.
    pub fn load(engine: &Engine, bytes: &[u8]) -> Result<Self, LoadError> {
        let digest = Digest::sha256(bytes);
        match Self::cached(engine, &digest) {
            Some(program) => program,
            None => Self::compiled(engine, bytes, &digest),
        }
    }

    /// Loads what was compiled before, without its bytes; none where the engine has kept nothing of that digest.
    pub fn cached(engine: &Engine, digest: &Digest) -> Option<Result<Self, LoadError>> {
        engine.cached(digest).map(|loaded| Self::of(engine, loaded, digest))
    }

    /// Compiles and loads what is known to have this digest.
    pub(crate) fn compiled(engine: &Engine, bytes: &[u8], digest: &Digest) -> Result<Self, LoadError> {
        Self::of(engine, engine.compiled(bytes, digest)?, digest)
    }

    fn of(engine: &Engine, loaded: Loaded, digest: &Digest) -> Result<Self, LoadError> {
        let Loaded { class, component, bytes } = loaded;
        let slots = engine.slots(class).ok_or_else(|| LoadError::Internal("a class without slots".to_owned()))?;
        let (pre, exports) = contract::check_world(&slots.linker, &component)?;
        component
            .initialize_copy_on_write_image()
            .map_err(|error| LoadError::Internal(format!("the memory's image cannot be made: {error:#}")))?;
        let mut program = Self {
            engine: engine.clone(),
            digest: digest.clone(),
            bytes,
            class,
            pre,
            exports,
            info: Info {
                name: String::new(),
                version: String::new(),
                hooks: Vec::new(),
                wants: Vec::new(),
                metrics: Vec::new(),
                settings_schema: String::new(),
            },
            hooks: HookSet::default(),
            wants: FactSet::default(),
            metrics: Arc::new([]),
            schema: None,
        };
        let info = program.describe()?;
        check_info(&info, &engine.limits().settings)?;
        program.hooks = info.hooks.iter().copied().fold(HookSet::default(), HookSet::with);
        program.wants = info.wants.iter().copied().fold(FactSet::default(), FactSet::with);
        program.metrics = info.metrics.clone().into();
        program.schema = Schema::parse(&info.settings_schema, &engine.limits().settings)?;
        program.info = info;
        Ok(program)
    }

    fn describe(&self) -> Result<Info, LoadError> {
        // A description carries a schema: it may be longer than an answer.
        let limits = self.call_limits();
        let limits = CallLimits {
            output_bytes: self.engine.limits().settings.schema_bytes.saturating_mul(2).max(limits.output_bytes),
            ..limits.clone()
        };
        let described = self.start(&limits, limits.configure_cpu).and_then(|mut running| running.describe());
        described.map_err(|failure| LoadError::of_call(failure, |failure| LoadError::Describe(failure.to_string())))
    }

    /// The digest of the bytes that were loaded.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// How many bytes were loaded.
    pub fn size(&self) -> usize {
        self.bytes
    }

    /// The class of slots that it needs.
    pub fn class(&self) -> Class {
        self.class
    }

    /// What it says of itself.
    pub fn info(&self) -> &Info {
        &self.info
    }

    /// The hooks at which it wants to be asked.
    pub fn hooks(&self) -> HookSet {
        self.hooks
    }

    /// The facts that it wants.
    pub fn wants(&self) -> FactSet {
        self.wants
    }

    /// Whether it wants to be asked here.
    pub fn is_asked_at(&self, hook: Hook) -> bool {
        self.hooks.contains(hook)
    }

    /// Whether it wants this fact.
    pub fn wants_fact(&self, fact: Fact) -> bool {
        self.wants.contains(fact)
    }

    /// The class's limits of a call.
    pub fn call_limits(&self) -> &CallLimits {
        &self.engine.limits().classes.of(self.class).call
    }

    /// All limits that it was loaded under.
    pub fn limits(&self) -> &Limits {
        self.engine.limits()
    }

    /// The interfaces that it imports.
    pub fn imports(&self) -> Vec<String> {
        let component = self.pre.component();
        component.component_type().imports(component.engine()).map(|(name, _)| name.to_owned()).collect()
    }

    /// What it exports.
    pub fn exports(&self) -> Vec<String> {
        let component = self.pre.component();
        component.component_type().exports(component.engine()).map(|(name, _)| name.to_owned()).collect()
    }

    /// Asks the guest alone what is wrong with settings, without the schema: `validate-settings`, then `configure`. The faults
    /// are the guest's own words, as yet neither bounded nor plain.
    pub fn ask_settings(&self, settings: &str) -> Result<Result<(), Vec<String>>, Failure> {
        let limits = self.call_limits();
        if let Err(faults) = self.start(limits, limits.configure_cpu)?.validate_settings(settings)? {
            return Ok(Err(faults));
        }
        let configured = self.start(limits, limits.configure_cpu)?.configure(settings)?;
        Ok(configured.map_err(|fault| vec![fault]))
    }

    /// Checks settings against the exported schema, then by `validate-settings`.
    pub fn check_settings(&self, settings: &str) -> Result<(), LoadError> {
        let limits = &self.engine.limits().settings;
        if settings.len() > limits.settings_bytes {
            let problem =
                format!("they have {} bytes, more than the limit of {}", settings.len(), limits.settings_bytes);
            return Err(LoadError::Settings(vec![problem]));
        }
        let document: serde_json::Value = serde_json::from_str(settings)
            .map_err(|error| LoadError::Settings(vec![format!("they are no JSON: {error}")]))?;
        if let Some(schema) = &self.schema {
            schema.check(&document, limits.errors).map_err(LoadError::Settings)?;
        }
        let failed = |failure: Failure| {
            let told = |failure| LoadError::Settings(vec![format!("`validate-settings` failed: {failure}")]);
            LoadError::of_call(failure, told)
        };
        let limits = self.call_limits();
        let mut running = self.start(limits, limits.configure_cpu).map_err(failed)?;
        match running.validate_settings(settings).map_err(failed)? {
            Ok(()) => Ok(()),
            Err(problems) => {
                let shown = problems.iter().take(self.engine.limits().settings.errors);
                Err(LoadError::Settings(shown.map(|text| crate::text::plain(text, 256)).collect()))
            }
        }
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }

    pub(crate) fn metrics(&self) -> &Arc<[String]> {
        &self.metrics
    }
}

/// Names end in metrics, logs and pages.
fn check_info(info: &Info, limits: &SettingsLimits) -> Result<(), LoadError> {
    let refuse = |what: String| Err(LoadError::Describe(what));
    let is_name = |text: &str, also: char| {
        !text.is_empty()
            && text.len() <= 64
            && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == also)
    };
    if !is_name(&info.name, '-') {
        return refuse("the name must be 1 to 64 of a-z, 0-9 and `-`".to_owned());
    }
    let version = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '+');
    if info.version.len() > 64 || !info.version.chars().all(version) {
        return refuse("the version must be at most 64 of a-z, A-Z, 0-9, `.`, `-` and `+`".to_owned());
    }
    if info.metrics.len() > limits.metrics {
        return refuse(format!(
            "{} metrics are declared, more than the limit of {}",
            info.metrics.len(),
            limits.metrics
        ));
    }
    if !info.metrics.iter().all(|name| is_name(name, '_')) {
        return refuse("a metric's name must be 1 to 64 of a-z, 0-9 and `_`".to_owned());
    }
    if info.hooks.len() > Hook::ALL.len() || info.wants.len() > Fact::ALL.len() {
        return refuse("a hook or a fact is named twice".to_owned());
    }
    Ok(())
}
