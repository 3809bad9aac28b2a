//! The engine: one pool of slots for each class of guests, one ticker for all, compiling, and the cache of what was compiled.
//! It never runs a guest by itself.

mod cache;
mod native;
mod structure;
mod ticker;
mod turns;

pub use cache::{CacheError, CompileCache};

use crate::contract::{self, Guest};
use crate::error::LoadError;
use crate::limits::{Class, ClassLimits, Limits, PerClass};
use crate::policy::IdleBudget;
use portcullis_oci::Digest;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
pub(crate) use ticker::AtWork;
use ticker::Ticker;
use turns::Turns;
use wasmtime::component::{Component, Linker};
use wasmtime::{Config, Enabled, InstanceAllocationStrategy, PoolingAllocationConfig};

/// Compiles somewhere else: takes a component, gives what [`precompile`] gives.
///
/// What it returns is executed as native code. It must come from a child process that runs this very program.
pub type Compiler = Box<dyn Fn(&[u8]) -> Result<Vec<u8>, String> + Send + Sync>;

/// How an engine is made, beside its limits.
#[derive(Default)]
pub struct Options {
    /// Where compiled code is kept.
    pub cache: Option<CompileCache>,
    /// Who compiles; without one it happens here.
    pub compiler: Option<Compiler>,
    /// Count fuel. For measuring alone, since it makes guests slower; compiled code of the two kinds is not interchangeable.
    pub fuel: bool,
}

/// Everything that runs guests. Cheap to clone; the ticker's thread ends with the last clone.
#[derive(Clone)]
pub struct Engine(Arc<Shared>);

struct Shared {
    limits: Limits,
    options: Options,
    slots: Vec<Slots>,
    compiling: Turns,
    idle: PerClass<IdleBudget>,
    ticker: Ticker,
}

/// A component as native code.
pub(crate) struct Loaded {
    pub(crate) class: Class,
    pub(crate) component: Component,
    /// How many bytes it had before.
    pub(crate) bytes: usize,
}

/// One class's pool.
pub(crate) struct Slots {
    pub(crate) class: Class,
    pub(crate) engine: wasmtime::Engine,
    pub(crate) linker: Linker<Guest>,
    pub(crate) fuel: bool,
}

impl Engine {
    /// Reserves the pools (address space, not memory) and starts the ticker.
    pub fn new(limits: Limits, options: Options) -> Result<Self, LoadError> {
        let slots = Class::ALL
            .into_iter()
            .map(|class| Slots::new(class, limits.classes.of(class), options.fuel))
            .collect::<wasmtime::Result<Vec<_>>>()
            .map_err(|error| LoadError::Internal(format!("the pools cannot be made: {error:#}")))?;
        let engines = slots.iter().map(|slots| slots.engine.clone()).collect();
        let ticker = Ticker::start(engines)
            .map_err(|error| LoadError::Internal(format!("the ticker cannot be started: {error}")))?;
        // What waits for reuse leaves most slots to everybody else.
        let idle = |class: &ClassLimits| {
            let share = usize::try_from(class.slots / 4).unwrap_or(usize::MAX);
            IdleBudget::new(limits.chain.idle_instances_total.min(share))
        };
        let classes = &limits.classes;
        let idle = PerClass {
            small: idle(&classes.small),
            javascript: idle(&classes.javascript),
            python: idle(&classes.python),
        };
        Ok(Self(Arc::new(Shared { limits, options, slots, compiling: Turns::new(), idle, ticker })))
    }

    /// The limits it was made with.
    pub fn limits(&self) -> &Limits {
        &self.0.limits
    }

    /// Time passes for guests while what this returns is kept.
    pub(crate) fn at_work(&self) -> AtWork<'_> {
        self.0.ticker.at_work()
    }

    /// Slots in use now, of a class: instances alive, idle ones included.
    pub fn slots_in_use(&self, class: Class) -> u64 {
        let metrics = self.slots(class).and_then(|slots| slots.engine.pooling_allocator_metrics());
        metrics.map_or(0, |metrics| metrics.component_instances())
    }

    /// A component that was compiled before, in the smallest class that holds it, and how many bytes it had. Whoever kept it had
    /// its bytes: they are not needed any more.
    pub(crate) fn cached(&self, digest: &Digest) -> Option<Loaded> {
        let cache = self.0.options.cache.as_ref()?;
        let (mut native, bytes) = cache.load(digest, self.compatibility().ok()?)?;
        if bytes > self.0.limits.component_bytes {
            return None;
        }
        // What an older engine left may be of no use: then it is compiled anew.
        let component = self.component_of_native(&native);
        let component =
            component.or_else(|error| if native.unmap() { self.component_of_native(&native) } else { Err(error) });
        let (class, component) = component.ok()?;
        Some(Loaded { class, component, bytes })
    }

    /// A component, compiled, in the smallest class that holds it. The digest is that of the bytes.
    pub(crate) fn compiled(&self, bytes: &[u8], digest: &Digest) -> Result<Loaded, LoadError> {
        let limits = &self.0.limits;
        if bytes.len() > limits.component_bytes {
            return Err(LoadError::TooLarge { bytes: bytes.len(), limit: limits.component_bytes });
        }
        let native = {
            let _turn = self.0.compiling.take();
            match &self.0.options.compiler {
                Some(compile) => compile(bytes).map_err(LoadError::Compile)?,
                None => self.precompile(bytes)?,
            }
        };
        let native = match &self.0.options.cache {
            Some(cache) => cache.store(digest, bytes.len(), self.compatibility()?, native),
            None => native::Trusted::from_compiler(native),
        };
        let (class, component) = self.component_of_native(&native)?;
        Ok(Loaded { class, component, bytes: bytes.len() })
    }

    fn component_of_native(&self, native: &native::Trusted) -> Result<(Class, Component), LoadError> {
        let mut why = String::new();
        for slots in &self.0.slots {
            match native.component(&slots.engine) {
                Ok(component) => return Ok((slots.class, component)),
                Err(error) => why = format!("{error:#}"),
            }
        }
        Err(LoadError::Slots(crate::text::plain(&why, 512)))
    }

    pub(crate) fn idle_budget(&self, class: Class) -> &IdleBudget {
        self.0.idle.of(class)
    }

    pub(crate) fn slots(&self, class: Class) -> Option<&Slots> {
        self.0.slots.iter().find(|slots| slots.class == class)
    }

    fn precompile(&self, bytes: &[u8]) -> Result<Vec<u8>, LoadError> {
        let slots = self.0.slots.first().ok_or_else(|| LoadError::Internal("there are no slots".to_owned()))?;
        precompile_for(&slots.engine, bytes, &self.0.limits)
    }

    /// What compiled code must agree in to be loaded here.
    fn compatibility(&self) -> Result<u64, LoadError> {
        let slots = self.0.slots.first().ok_or_else(|| LoadError::Internal("there are no slots".to_owned()))?;
        let mut hasher = DefaultHasher::new();
        slots.engine.precompile_compatibility_hash().hash(&mut hasher);
        Ok(hasher.finish())
    }
}

/// Compiles a component, or a core module, to native code: what a child process with limits on memory and time does for an
/// [`Engine`] without `fuel`. Caps on size and structure are checked first.
pub fn precompile(bytes: &[u8], limits: &Limits) -> Result<Vec<u8>, LoadError> {
    if bytes.len() > limits.component_bytes {
        return Err(LoadError::TooLarge { bytes: bytes.len(), limit: limits.component_bytes });
    }
    let engine = wasmtime::Engine::new(&config(false)).map_err(|error| LoadError::Internal(format!("{error:#}")))?;
    precompile_for(&engine, bytes, limits)
}

fn precompile_for(engine: &wasmtime::Engine, bytes: &[u8], limits: &Limits) -> Result<Vec<u8>, LoadError> {
    structure::check(bytes, &limits.structure)?;
    let wrapped;
    let component = if wasmparser::Parser::is_core_wasm(bytes) {
        wrapped = contract::wrap_core_module(bytes)?;
        structure::check(&wrapped, &limits.structure)?;
        &wrapped
    } else {
        bytes
    };
    engine
        .precompile_component(component)
        .map_err(|error| LoadError::Malformed(crate::text::plain(&format!("{error:#}"), 512)))
}

impl Slots {
    fn new(class: Class, limits: &ClassLimits, fuel: bool) -> wasmtime::Result<Self> {
        let mut config = config(fuel);
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool(limits)));
        let engine = wasmtime::Engine::new(&config)?;
        let mut linker = Linker::new(&engine);
        contract::give_host_functions(&mut linker)?;
        Ok(Self { class, engine, linker, fuel })
    }
}

/// What all classes share, so that code compiled once fits each of them. Whatever would make two runs differ is off.
fn config(fuel: bool) -> Config {
    let mut config = Config::new();
    config
        .epoch_interruption(true)
        .consume_fuel(fuel)
        .concurrency_support(false)
        .cranelift_nan_canonicalization(true)
        .wasm_relaxed_simd(false)
        // What joins two modules of a component sees the memories of both. A guest's own module may have one.
        .wasm_multi_memory(true)
        .wasm_memory64(false)
        .native_unwind_info(false)
        // A trap is told by the policy's name and the hook's; where in the guest it was is an eighth of the compiled code.
        .generate_address_map(false)
        .memory_init_cow(true);
    config
}

fn pool(limits: &ClassLimits) -> PoolingAllocationConfig {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(limits.slots)
        .total_core_instances(limits.slots.saturating_mul(limits.core_instances))
        .total_memories(limits.slots.saturating_mul(limits.memories))
        .total_tables(limits.slots.saturating_mul(limits.tables))
        .max_core_instances_per_component(limits.core_instances)
        .max_memories_per_component(limits.memories)
        .max_tables_per_component(limits.tables)
        .max_core_instance_size(limits.core_instance_bytes)
        .max_component_instance_size(limits.core_instance_bytes.saturating_mul(2))
        .table_elements(limits.table_elements)
        .max_memory_size(limits.call.memory_bytes)
        .linear_memory_keep_resident(limits.resident_bytes)
        .table_keep_resident(16 << 10)
        .pagemap_scan(Enabled::Auto);
    pool
}
