//! What findings are made of.

use llamactl_protocol::Failure;
use llamactl_protocol::model::FileState;
use llamactl_protocol::runtime::RuntimeEntry;
use std::path::PathBuf;

/// A state directory.
#[derive(Clone, Debug, Default)]
pub struct StateFacts {
    /// Where it is.
    pub dir: PathBuf,
    /// What in it others than its owner may read or change.
    pub exposed: Vec<PathBuf>,
    /// What in it belongs to another user than who looks.
    pub foreign: Vec<PathBuf>,
    /// Its file system.
    pub disk: Option<Disk>,
    /// The registry.
    pub registry: RegistryIs,
    /// When the registry was written last.
    pub registry_changed_at_ms: Option<i64>,
    /// The newest copy of it.
    pub copy: Option<CopyFacts>,
}

/// How much room a file system has.
#[derive(Clone, Copy, Debug)]
pub struct Disk {
    /// Bytes that may still be written.
    pub free_bytes: u64,
    /// How many files it can have; 0 where it does not count them.
    pub inodes: u64,
    /// How many further files it has room for.
    pub inodes_free: u64,
}

/// How a registry is.
#[derive(Clone, Debug, Default)]
pub enum RegistryIs {
    /// It was looked through.
    #[default]
    Whole,
    /// What is wrong with it.
    Damaged(Failure),
    /// It could not be looked through, and why.
    Unknown(String),
}

/// A copy of a registry.
#[derive(Clone, Debug)]
pub struct CopyFacts {
    /// Where it is.
    pub path: PathBuf,
    /// When it was made.
    pub made_at_ms: i64,
    /// What is wrong with it.
    pub problem: Option<String>,
}

/// What only a daemon knows.
#[derive(Clone, Debug, Default)]
pub struct Machine {
    /// Now.
    pub now_ms: i64,
    /// When the newest record was written.
    pub recorded_at_ms: Option<i64>,
    /// The daemon's program, where its file is not the one that runs.
    pub replaced_program: Option<PathBuf>,
    /// The memory there is, or that the daemon's control group may take.
    pub memory_bytes: Option<u64>,
    /// How many GPUs the drivers tell; `None` where nobody tells.
    pub gpus: Option<usize>,
    /// How many NVIDIA cards are on the bus.
    pub nvidia_cards: usize,
    /// How many of these the driver tells.
    pub nvidia_told: usize,
    /// How many files the daemon may open; `None` without a limit.
    pub descriptors: Option<u64>,
    /// How much memory a server may hold; `None` without a limit.
    pub locked_bytes: Option<u64>,
    /// The runtimes, each asked just now.
    pub runtimes: Vec<RuntimeEntry>,
    /// The models.
    pub models: Vec<ModelFacts>,
    /// llama-servers that are not looked after.
    pub strangers: Vec<Stranger>,
}

/// A model.
#[derive(Clone, Debug, Default)]
pub struct ModelFacts {
    /// Its name.
    pub name: String,
    /// The size of its files.
    pub size_bytes: u64,
    /// How its file is.
    pub state: Option<FileState>,
    /// What would keep a start from opening its files.
    pub problem: Option<Failure>,
    /// Whether it runs, or starts with the machine.
    pub is_wanted: bool,
    /// The most that its server keeps prompts in; `None` without a limit.
    pub cache_bytes: Option<u64>,
    /// Whether it is to be held in memory.
    pub is_locked: bool,
}

/// A llama-server that no record tells of.
#[derive(Clone, Debug)]
pub struct Stranger {
    /// Its process.
    pub pid: i32,
    /// The file that it runs.
    pub program: PathBuf,
    /// It bears the mark of this registry.
    pub is_ours: bool,
}
