//! Every limit on policies, with its default; and the meter that holds a call to its limits. Nothing here may be switched off.

mod meter;

pub use meter::Stop;
pub(crate) use meter::{Meter, TICK};

use std::time::Duration;

/// A class of slots: what a guest's toolchain makes of a small program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// Rust, C, and what is compiled alike.
    Small,
    /// A JavaScript engine with its program.
    Javascript,
    /// A Python interpreter with its program.
    Python,
}

impl Class {
    /// Every class, from the smallest.
    pub const ALL: [Self; 3] = [Self::Small, Self::Javascript, Self::Python];

    /// Its name in configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Small => "small",
            Self::Javascript => "javascript",
            Self::Python => "python",
        }
    }
}

/// All limits.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// Most bytes of a component, or of a core module to be wrapped.
    pub component_bytes: usize,
    /// What is counted in a component before it is compiled.
    pub structure: StructureLimits,
    /// What is read of `describe` and of settings.
    pub settings: SettingsLimits,
    /// Slots and limits of calls, for each class.
    pub classes: PerClass<ClassLimits>,
    /// What the chain allows itself.
    pub chain: ChainLimits,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            component_bytes: 32 << 20,
            structure: StructureLimits::default(),
            settings: SettingsLimits::default(),
            classes: PerClass {
                small: ClassLimits::small(),
                javascript: ClassLimits::javascript(),
                python: ClassLimits::python(),
            },
            chain: ChainLimits::default(),
        }
    }
}

/// One value for each class.
#[derive(Clone, Debug, PartialEq)]
pub struct PerClass<T> {
    /// For [`Class::Small`].
    pub small: T,
    /// For [`Class::Javascript`].
    pub javascript: T,
    /// For [`Class::Python`].
    pub python: T,
}

impl<T> PerClass<T> {
    /// The value for a class.
    pub const fn of(&self, class: Class) -> &T {
        match class {
            Class::Small => &self.small,
            Class::Javascript => &self.javascript,
            Class::Python => &self.python,
        }
    }
}

/// Counted before compiling, so that no component is a bomb for the compiler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StructureLimits {
    /// Most functions over all modules.
    pub functions: u32,
    /// Most types over all modules and components.
    pub types: u32,
    /// Most bytes of one function's body.
    pub body_bytes: u32,
    /// Most locals of one function.
    pub locals: u32,
    /// Deepest nesting of blocks in a function.
    pub blocks: u32,
    /// Deepest nesting of modules and components.
    pub depth: u32,
    /// Most modules and components.
    pub modules: u32,
    /// Most globals, segments, imports, exports, instances and aliases together.
    pub items: u32,
}

impl Default for StructureLimits {
    fn default() -> Self {
        Self {
            functions: 100_000,
            types: 20_000,
            body_bytes: 512 << 10,
            locals: 20_000,
            blocks: 1_000,
            depth: 8,
            modules: 200,
            items: 200_000,
        }
    }
}

/// What is read of `describe`, of a schema and of settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingsLimits {
    /// Most bytes of an exported schema.
    pub schema_bytes: usize,
    /// Most subschemas once every reference is followed.
    pub schema_weight: u32,
    /// Most bytes of one compiled pattern.
    pub pattern_bytes: usize,
    /// Most bytes of settings.
    pub settings_bytes: usize,
    /// Most metrics that a policy may declare.
    pub metrics: usize,
    /// Most errors told of one refused settings document.
    pub errors: usize,
}

impl Default for SettingsLimits {
    fn default() -> Self {
        Self {
            schema_bytes: 64 << 10,
            schema_weight: 2_000,
            pattern_bytes: 128 << 10,
            settings_bytes: 64 << 10,
            metrics: 16,
            errors: 16,
        }
    }
}

/// The slots of a class, and what a call in one of them may use.
#[derive(Clone, Debug, PartialEq)]
pub struct ClassLimits {
    /// Instances alive at once in the whole process, idle ones that wait for reuse included.
    pub slots: u32,
    /// Core instances of one component.
    pub core_instances: u32,
    /// Bytes of runtime structures of one core instance.
    pub core_instance_bytes: usize,
    /// Memories of one component.
    pub memories: u32,
    /// Tables of one component.
    pub tables: u32,
    /// Elements of one table.
    pub table_elements: usize,
    /// Bytes of each slot's memory that are zeroed by hand and stay resident; what is beyond goes back to the kernel.
    pub resident_bytes: usize,
    /// What a call may use.
    pub call: CallLimits,
}

impl ClassLimits {
    /// For guests from Rust, C and the like.
    pub fn small() -> Self {
        Self {
            slots: 128,
            core_instances: 8,
            core_instance_bytes: 1 << 20,
            memories: 2,
            tables: 8,
            table_elements: 20_000,
            resident_bytes: 256 << 10,
            call: CallLimits::default(),
        }
    }

    /// For guests with a JavaScript engine inside.
    pub fn javascript() -> Self {
        Self {
            slots: 32,
            core_instances: 16,
            core_instance_bytes: 2 << 20,
            memories: 4,
            tables: 16,
            table_elements: 50_000,
            resident_bytes: 1 << 20,
            call: CallLimits { memory_bytes: 64 << 20, cpu: Duration::from_millis(10), ..CallLimits::default() },
        }
    }

    /// For guests with a Python interpreter inside.
    pub fn python() -> Self {
        Self {
            slots: 16,
            core_instances: 64,
            core_instance_bytes: 4 << 20,
            memories: 4,
            tables: 64,
            table_elements: 100_000,
            resident_bytes: 1 << 20,
            call: CallLimits {
                memory_bytes: 128 << 20,
                cpu: Duration::from_millis(20),
                configure_cpu: Duration::from_secs(1),
                ..CallLimits::default()
            },
        }
    }
}

/// What one call may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallLimits {
    /// Bytes of all memories together.
    pub memory_bytes: usize,
    /// CPU time of a call, with the making of its instance and `configure` where it is fresh.
    pub cpu: Duration,
    /// CPU time of everything at load, and of making an instance that is kept for reuse.
    pub configure_cpu: Duration,
    /// Wall time on top of the CPU time, after which even a guest that was only preempted is stopped.
    pub hard_stop: Duration,
    /// Bytes that may cross from the guest to the host in one go: an answer, or one argument list of a host function.
    pub output_bytes: usize,
    /// Most warnings, and most audit fields, in an answer.
    pub effects: usize,
    /// Most bytes of one text in an answer.
    pub text_bytes: usize,
    /// Log lines kept of one call; more are counted and dropped.
    pub log_lines: usize,
    /// Bytes kept of one log line.
    pub log_line_bytes: usize,
    /// Most calls of host functions in one call.
    pub host_calls: u32,
}

impl Default for CallLimits {
    fn default() -> Self {
        Self {
            memory_bytes: 16 << 20,
            cpu: Duration::from_millis(5),
            configure_cpu: Duration::from_millis(200),
            hard_stop: Duration::from_millis(100),
            output_bytes: 64 << 10,
            effects: 32,
            text_bytes: 1 << 10,
            log_lines: 16,
            log_line_bytes: 1 << 10,
            host_calls: 10_000,
        }
    }
}

/// What the chain of policies allows itself.
#[derive(Clone, Debug, PartialEq)]
pub struct ChainLimits {
    /// Most policies attached to one project, and to the platform.
    pub attachments: usize,
    /// Calls under way at once for one project: below every pool's size, so that no tenant starves another.
    pub project_calls: u32,
    /// CPU time for a project's own policies, in milliseconds a second; a project over it is sent to a policy thread.
    pub project_cpu_ms_per_s: u32,
    /// Log lines a second of one owner's policies; more are counted and dropped.
    pub project_log_lines_per_s: u32,
    /// Timeouts in a row after which a policy rests.
    pub breaker_timeouts: u32,
    /// The first rest.
    pub breaker_rest: Duration,
    /// The longest rest; each is twice the one before.
    pub breaker_rest_max: Duration,
    /// Shortest life of a narrowed token.
    pub min_token_ttl_s: u32,
    /// Most verdicts remembered.
    pub verdicts: usize,
    /// Longest life of a remembered verdict.
    pub verdict_life: Duration,
    /// Most idle instances that one attachment keeps for reuse.
    pub idle_instances: usize,
    /// Most idle instances of a class in the whole process; never more than a quarter of its slots.
    pub idle_instances_total: usize,
}

impl Default for ChainLimits {
    fn default() -> Self {
        Self {
            attachments: 32,
            project_calls: 12,
            project_cpu_ms_per_s: 100,
            project_log_lines_per_s: 100,
            breaker_timeouts: 3,
            breaker_rest: Duration::from_secs(1),
            breaker_rest_max: Duration::from_secs(60),
            min_token_ttl_s: 60,
            verdicts: 8_192,
            verdict_life: Duration::from_secs(300),
            idle_instances: 2,
            idle_instances_total: 32,
        }
    }
}
