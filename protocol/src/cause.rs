//! Why a server is in its state.

use crate::UnixMs;
use crate::failure::Kind;
use crate::hint::Hints;
use crate::prose::clause;
use crate::word::words;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Why a server is in its state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Cause {
    /// The word that programs match.
    pub code: CauseCode,
    /// What happened, for people: lower case, no full stop. It may change.
    pub message: String,
    /// What to do about it.
    #[serde(flatten)]
    pub hints: Hints,
    /// The log lines that say so, the decisive one first.
    pub evidence: Vec<String>,
    /// The exit code, when the process ended by itself with one.
    pub exit_code: Option<i32>,
    /// The signal, when one ended it.
    pub signal: Option<i32>,
    /// When it happened.
    pub at_ms: UnixMs,
}

impl Cause {
    /// A cause that is no more than a code and what happened.
    pub fn new(code: CauseCode, message: impl Into<String>, at_ms: UnixMs) -> Cause {
        Cause {
            code,
            message: clause(&message.into()),
            hints: Hints::default(),
            evidence: vec![],
            exit_code: None,
            signal: None,
            at_ms,
        }
    }

    /// The same of this model, which its hints name.
    #[must_use]
    pub fn of_model(&self, name: &str) -> Cause {
        Cause { hints: self.hints.clone().of_model(name), ..self.clone() }
    }
}

words! {
    /// The word of a cause. It lies in databases and is never renamed. A start that was refused
    /// before there was a process bears the name of the failure's [kind](crate::Kind).
    CauseCode, "CauseCode":
    Requested "requested" "Somebody asked for it",
    Adopted "adopted" "It was found running and taken over",
    Hung "hung" "It did not answer, or its requests did not move",
    Stalled "stalled" "Its load did not move",
    NeverMade "never_made" "The daemon was cut off before its process was made",
    EndedUnwatched "ended_unwatched" "It ended while no daemon was running",
    Rebooted "rebooted" "The machine was started anew",
    Stopped "stopped" "It ended as it was asked to",
    Exited "exited" "It ended by itself, without an error",
    ExitUnknown "exit_unknown" "It ended, and the system does not tell how",
    UnknownError "unknown_error" "It exited with an error that has no code of its own",
    Killed "killed" "It was killed, and not by llamactl",
    KilledBySignal "killed_by_signal" "A signal ended it",
    TerminatedByOther "terminated_by_other" "Somebody else asked it to end",
    OomKilled "oom_killed" "The kernel killed it because memory ran out",
    OomRam "oom_ram" "There was not enough memory",
    OomVram "oom_vram" "There was not enough GPU memory",
    OomKvCache "oom_kv_cache" "There was not enough memory for the KV cache",
    Segfault "segfault" "It crashed at a memory access",
    Abort "abort" "It aborted",
    Assert "assert" "A check of llama-server failed",
    CppException "cpp_exception" "An exception that nobody caught ended it",
    IllegalInstruction "illegal_instruction" "The build uses instructions that this processor lacks",
    GpuLost "gpu_lost" "The GPU or its driver failed",
    GpuError "gpu_error" "The GPU reported an error",
    ExecutableNotFound "executable_not_found" "The llama-server program is not there",
    ExecutableNotAllowed "executable_not_allowed" "The llama-server program may not be executed",
    ExecutableWrongFormat "executable_wrong_format" "The llama-server program is none for this machine",
    BuildUnfit "build_unfit" "The build is made for another system or GPU",
    MissingLibrary "missing_library" "The llama-server program lacks a shared library",
    NoResources "no_resources" "The system had no room for another process",
    SpawnFailed "spawn_failed" "The process could not be made",
    BadFlag "bad_flag" "The build does not know an option",
    FlagRemoved "flag_removed" "The build no longer has an option",
    BadValue "bad_value" "The value of an option is not valid",
    BadEnv "bad_env" "The value of an environment variable is not valid",
    BadDevice "bad_device" "A device that was asked for does not exist",
    BadChatTemplate "bad_chat_template" "The chat template cannot be parsed",
    Grammar "grammar" "The grammar or JSON schema cannot be parsed",
    KvQuantNeedsFa "kv_quant_needs_fa" "A quantized V cache needs flash attention",
    TooManySlots "too_many_slots" "More slots were asked for than are possible",
    NoSsl "no_ssl" "The build has no SSL support",
    RouterInit "router_init" "It could not start as a router",
    BindFailed "bind_failed" "It could not listen at its address",
    HttpStart "http_start" "It could not start its HTTP server",
    DownloadFailed "download_failed" "It could not download the model",
    FilePermission "file_permission" "It may not read a file",
    ModelNotFound "model_not_found" "The model file is not there",
    ModelEmpty "model_empty" "The model file is empty, or a directory",
    ModelTruncated "model_truncated" "The model file is incomplete",
    ModelInvalid "model_invalid" "The GGUF file is not a complete model",
    ModelFileChanged "model_file_changed" "The model file changed, or could not be read, while it was in use",
    NotGguf "not_gguf" "The model file is not a GGUF file",
    GgufVersion "gguf_version" "The build cannot read this version of GGUF",
    UnsupportedQuant "unsupported_quant" "The build does not know a number type of the model file",
    ModelDamaged "model_damaged" "The model file was made wrong",
    UnsupportedArch "unsupported_arch" "The build does not support the model's architecture",
    UnsupportedTokenizer "unsupported_tokenizer" "The build does not support the model's tokenizer",
    LoraNotFound "lora_not_found" "A LoRA file cannot be read",
    LoraNotAdapter "lora_not_adapter" "A file given as LoRA adapter is none",
    LoraWrongBase "lora_wrong_base" "A LoRA adapter does not fit the model",
    LoraFailed "lora_failed" "A LoRA adapter could not be loaded",
    MmprojFailed "mmproj_failed" "The multimodal projector could not be loaded",
    DraftFailed "draft_failed" "The draft model could not be loaded, or does not fit the model",
    NoDraftLayers "no_draft_layers" "The model has no layers that draft tokens",
    ContextInit "context_init" "The context for the model could not be created",
    ModelLoadOther "model_load_other" "The model could not be loaded",
    ModelLoadFailed "model_load_failed" "The model could not be loaded, and nothing says why",
    WakeFailed "wake_failed" "The model could not be loaded again after it had slept",
    FileNotFound "file_not_found" "A file of the model is not there",
    FileUnreadable "file_unreadable" "A file of the model may not be read",
    NotAFile "not_a_file" "Something else lies where a file of the model belongs",
    InvalidValue "invalid_value" "A setting has a value that cannot be",
    OptionRefused "option_refused" "A setting cannot be set by hand",
    UnknownOption "unknown_option" "The build has no such setting",
    RuntimeNotFound "runtime_not_found" "The runtime is not there",
    RuntimeRefused "runtime_refused" "The runtime is no llama-server, or others could replace it",
    TooManyRunning "too_many_running" "As many servers run as the daemon was told to allow",
    DiskFull "disk_full" "The disk is full",
    StoreFailed "store_failed" "The database could not be read or written",
    IoFailed "io_failed" "A file could not be read or written",
    Internal "internal" "A fault inside the daemon",
}

impl CauseCode {
    /// Whether an end for this reason is a failure: nobody asked for it, and it was not the machine
    /// that went down.
    #[must_use]
    pub fn is_failure(&self) -> bool {
        !matches!(self, CauseCode::Requested | CauseCode::Rebooted | CauseCode::Stopped)
    }
}

impl From<Kind> for CauseCode {
    fn from(kind: Kind) -> CauseCode {
        kind.name().into()
    }
}
