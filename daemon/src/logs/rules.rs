//! The lines by which llama-server says why it ends: one row per cause, most telling first.
//!
//! Measured on llama.cpp b10434 with 55 ways to fail, some read in the source of b11434. The first
//! row that matches any line of the tail wins, so a row stands before those that merely follow from
//! it: "no permission to read X" before "error loading model". Patterns are not anchored, because
//! lines without a prefix may be glued to others. `{1}`, `{2}` are the pattern's groups.

use super::classify::Class::{self, Config, Crash, Memory, Model, Network, Spawn};
use super::classify::Retry::{self, Limited, No, OtherPort, Yes};
use super::cures::{Cure, run, to};
use llamactl_protocol::cause::CauseCode;

/// One cause and how to recognise it.
#[derive(Debug)]
pub struct Rule {
    /// The cause's word.
    pub code: CauseCode,
    /// What kind of cause it is.
    pub class: Class,
    /// Whether starting again can help.
    pub retry: Retry,
    /// The regular expression that finds the line.
    pub pattern: &'static str,
    /// What failed, with places for the pattern's groups.
    pub message: &'static str,
    /// What to do about it, with the same places and those of a [`Cure`]; empty: nothing is known.
    pub cures: &'static [Cure],
}

const fn rule(
    code: CauseCode,
    (class, retry): (Class, Retry),
    pattern: &'static str,
    message: &'static str,
    cures: &'static [Cure],
) -> Rule {
    Rule { code, class, retry, pattern, message, cures }
}

const ADD_BUILD: &[&str] = &["llamactl", "runtime", "add", "FILE"];
const SET_PATH: &[&str] = &["llamactl", "model", "set", "NAME", "path=FILE"];
const LORA: &[&str] = &["lora", "lora-scaled"];
const WHERE_NAMED: Cure =
    run("say where {1} is", &["llamactl", "runtime", "set", "RUNTIME", "env.LD_LIBRARY_PATH=DIR"])
        .of_named();
const WHERE_FOUND: Cure = run(
    "add the build with the place of {1}",
    &["llamactl", "runtime", "add", "FILE", "env.LD_LIBRARY_PATH=DIR"],
)
.of_found();
const OTHER_BUILD: Cure =
    run("or use another build", &["llamactl", "model", "set", "NAME", "runtime=OTHER"]);
const FOR_PROCESSOR: Cure = run("add one for this machine's processor", ADD_BUILD);
const NEWER_BUILD: Cure = run("add a newer llama.cpp build", ADD_BUILD);
const NEW_BUILD: Cure = run("then use it", &["llamactl", "model", "set", "NAME", "runtime=NEW"]);
const RESET: Cure = run("reset it", &["llamactl", "model", "unset", "NAME", "KEY"]);
const ARGS: Cure = run("see the command line of a start", &["llamactl", "model", "args", "NAME"]);
const WITHOUT: Cure = run("or do without it", &["llamactl", "model", "unset", "NAME", "KEY"]);
const ELSEWHERE: Cure = run("say where a good one is", SET_PATH);
const LESS_CONTEXT: Cure =
    run("use a smaller context", &["llamactl", "model", "set", "NAME", "ctx-size=HALF"]);
const OTHERS: Cure = run("or stop another: see which run", &["llamactl", "ps"]);
const KERNEL_LOG: Cure = run("look for errors of the GPU", &["sudo", "dmesg"]);
const CHANGED: Cure =
    run("see what was changed since it last ran", &["llamactl", "model", "diff", "NAME"]);

/// All rules, in the order in which they are tried.
pub static RULES: &[Rule] = &[
    rule(
        CauseCode::MissingLibrary,
        (Spawn, No),
        r"error while loading shared libraries: ([^\s:]+)",
        "llama-server cannot load the shared library {1}.",
        &[WHERE_NAMED, WHERE_FOUND, OTHER_BUILD],
    ),
    rule(
        CauseCode::MissingLibrary,
        (Spawn, No),
        r"symbol lookup error: (\S+): (undefined symbol: .*)",
        "llama-server and its library {1} are not of one build: {2}.",
        &[
            run(
                "see where else it looks for libraries",
                &["llamactl", "runtime", "show", "RUNTIME"],
            ),
            OTHER_BUILD,
        ],
    ),
    // A runtime may be a script that runs the real program; these are its shell's words.
    rule(
        CauseCode::ExecutableNotFound,
        (Spawn, No),
        r"(?:exec|line \d+): (?:exec: )?(/.+?): (?:cannot execute: )?(?:not found|No such file or directory)",
        "The runtime's script cannot find the program {1}.",
        &[OTHER_BUILD, to("or correct the script")],
    ),
    rule(
        CauseCode::ExecutableNotAllowed,
        (Spawn, No),
        r"(?:exec|line \d+): (?:exec: )?(/.+?): (?:cannot execute: )?Permission denied",
        "The runtime's script may not execute the program {1}.",
        &[run("let it be executed", &["chmod", "+x", "{1}"])],
    ),
    rule(
        CauseCode::ExecutableWrongFormat,
        (Spawn, No),
        r"(?:exec|line \d+): (?:exec: )?(/.+?): (?:cannot execute binary file|Exec format error)",
        "{1}, run by the runtime's script, is not a program for this machine.",
        &[FOR_PROCESSOR],
    ),
    // ld.so, the CUDA and HIP runtimes, rocBLAS, ggml: no restart and no setting helps.
    rule(
        CauseCode::BuildUnfit,
        (Crash, No),
        r"(version `GLIBC[\w.]*' not found|(?:CUDA|ROCm|HIP|MUSA) error: (?:no kernel image is available|the provided PTX was compiled with an unsupported toolchain|invalid device function|CUDA driver version is insufficient|system has unsupported display driver|forward compatibility was attempted).*|rocBLAS error: Cannot read \S*TensileLibrary.*|hipErrorNoBinaryForGpu.*|no backends are loaded.*)",
        "This llama.cpp build is made for another system or GPU: {1}.",
        &[run("add a build made for this one", ADD_BUILD), NEW_BUILD],
    ),
    rule(
        CauseCode::FlagRemoved,
        (Config, No),
        r#"error while handling argument "([^"]+)": the argument has been removed\.? ?(.*)"#,
        "This llama.cpp build no longer has the option {1}.",
        &[RESET, ARGS],
    ),
    rule(
        CauseCode::BadDevice,
        (Config, No),
        r#"error while handling argument "([^"]+)": invalid device: (\S+)"#,
        "The device {2}, asked for with {1}, does not exist on this machine.",
        &[run("see which there are", &["llamactl", "runtime", "show", "RUNTIME"]), RESET],
    ),
    rule(
        CauseCode::BadValue,
        (Config, No),
        r#"error while handling argument "([^"]+)": (.*)"#,
        "The value of {1} is not valid: {2}.",
        &[run("see what it takes", &["llamactl", "help", "settings", "KEY"]), RESET, ARGS],
    ),
    rule(
        CauseCode::BadEnv,
        (Config, No),
        r#"error while handling environment variable "([^"]+)": (.*)"#,
        "The environment variable {1} has a value that is not valid: {2}.",
        &[RESET, to("or correct the variable")],
    ),
    rule(
        CauseCode::BadFlag,
        (Config, No),
        r"error: invalid argument: (.+)",
        "This llama.cpp build does not know the option {1}.",
        &[RESET, OTHER_BUILD],
    ),
    rule(
        CauseCode::BadChatTemplate,
        (Config, No),
        r"error: the supplied chat template is not supported",
        "The chat template cannot be parsed.",
        &[RESET.of(&["chat-template", "chat-template-file"]), ARGS],
    ),
    rule(
        CauseCode::NoSsl,
        (Config, No),
        r"the server is built without SSL support",
        "This llama.cpp build has no SSL support.",
        &[RESET.of(&["extra-args"]), ARGS],
    ),
    rule(
        CauseCode::RouterInit,
        (Config, No),
        r"failed to initialize router models: (.*)",
        "llama-server could not start as a router: {1}.",
        &[RESET.of(&["extra-args"]), ARGS],
    ),
    rule(
        CauseCode::BindFailed,
        (Network, OtherPort),
        r"couldn't bind HTTP server socket, hostname: (.+), port: (\d+)",
        "llama-server cannot listen on {1}, port {2}.",
        &[
            run("take any free port", &["llamactl", "model", "set", "NAME", "port=auto"]),
            RESET.of(&["host"]),
        ],
    ),
    rule(
        CauseCode::LoraNotFound,
        (Model, No),
        r"failed to load lora adapter file from (.+)",
        "The LoRA file {1} cannot be read.",
        &[to("check that the file is there and readable"), WITHOUT.of(LORA)],
    ),
    rule(
        CauseCode::LoraWrongBase,
        (Model, No),
        r"failed to apply lora adapter: .*(incorrect shape|does not exist in base model)",
        "The LoRA adapter does not fit this model.",
        &[to("use an adapter that was made for this base model"), WITHOUT.of(LORA)],
    ),
    rule(
        CauseCode::LoraNotAdapter,
        (Model, No),
        r"(?:failed to apply lora adapter: )?(expect general\.type to be 'adapter'.*)",
        "The file given as LoRA adapter is not one: {1}.",
        &[to("give a LoRA adapter in GGUF format"), WITHOUT.of(LORA)],
    ),
    rule(
        CauseCode::LoraFailed,
        (Model, No),
        r"failed to load lora adapter '(.+)'|failed to apply lora adapter",
        "A LoRA adapter could not be loaded.",
        &[to("check the file, and that it was made for this base model"), WITHOUT.of(LORA)],
    ),
    rule(
        CauseCode::MmprojFailed,
        (Model, No),
        r"(?:failed to load multimodal model, '|Failed to load CLIP model from )([^']+)",
        "The multimodal projector {1} could not be loaded.",
        &[
            to("check that the file is there and is a projector (CLIP) for this model"),
            WITHOUT.of(&["mmproj"]),
        ],
    ),
    rule(
        CauseCode::DraftFailed,
        (Model, No),
        r"(?:failed to load draft model, |the draft model )'(.+)'",
        "The draft model {1} cannot be used.",
        &[
            to(
                "check that the file is there, is a complete GGUF model, and has the vocabulary of the model",
            ),
            WITHOUT.of(&["spec-draft-model"]),
        ],
    ),
    rule(
        CauseCode::NoDraftLayers,
        (Config, No),
        r"(context type MTP requested but model doesn't contain MTP layers)",
        "spec-type asks for layers that draft tokens, and the model has none: {1}.",
        &[WITHOUT.of(&["spec-type"]), ELSEWHERE],
    ),
    rule(
        CauseCode::FilePermission,
        (Model, No),
        r"failed to open GGUF file '(.+)' \(Permission denied\)",
        "llama-server may not read the file {1}.",
        &[to("let the user that runs the daemon read the file and enter its directories")],
    ),
    rule(
        CauseCode::ModelNotFound,
        (Model, No),
        r"failed to open GGUF file '(.+)' \(No such file or directory\)",
        "The file {1} does not exist.",
        &[ELSEWHERE, to("or put the file back")],
    ),
    rule(
        CauseCode::NotGguf,
        (Model, No),
        r"invalid magic characters: '(.*)', expected 'GGUF'",
        "The file is not a GGUF file: it begins with '{1}'.",
        &[run("give a model file in GGUF format", SET_PATH)],
    ),
    rule(
        CauseCode::GgufVersion,
        (Model, No),
        r"this GGUF file is version (\d+) but this software only supports",
        "The file has GGUF version {1}, which this llama.cpp build cannot read.",
        &[NEWER_BUILD, NEW_BUILD],
    ),
    // Each of these is followed by "failed to read …", which alone means a file that was cut.
    rule(
        CauseCode::UnsupportedQuant,
        (Model, No),
        r"has invalid ggml type (\d+)|(TYPE_\w+)[^A-Z]* REMOVED",
        "This llama.cpp build does not know number type {1}{2} of the model file.",
        &[NEWER_BUILD, to("or get the model in another quantization")],
    ),
    rule(
        CauseCode::ModelDamaged,
        (Model, No),
        r"(duplicate (?:key|tensor name) .*|key \d+ is empty.*|key '[^']*' has invalid GGUF type .*|tensor name \d+ is too long.*|tensor '[^']*' (?:has invalid number of dimensions|has offset \d+, expected|of type .* not a multiple of block size|dimension \d+ has invalid).*|alignment \d+ is not a power of 2.*)",
        "The model file was made wrong: {1}.",
        &[run(
            "the download is whole and getting it again does not help: take another file",
            SET_PATH,
        )],
    ),
    // Lengths that no writer makes: something was written over the file.
    rule(
        CauseCode::ModelDamaged,
        (Model, No),
        r"(string length \d+ exceeds maximum \d+|encountered (?:length_error|bad_alloc error) while reading .*|number of (?:tensors|key value pairs) is -?\d+ but must be .*)",
        "The model file is damaged: {1}.",
        &[to("get the file again"), ELSEWHERE],
    ),
    rule(
        CauseCode::ModelTruncated,
        (Model, No),
        r"data is not within the file bounds, model is corrupted or incomplete|gguf_init_from_\w+: failed to read (?:key-value pairs|tensor info|header)",
        "The model file is incomplete.",
        &[to("finish or repeat the download"), ELSEWHERE],
    ),
    rule(
        CauseCode::ModelEmpty,
        (Model, No),
        r"gguf_init_from_\w+: failed to read magic",
        "The model file is empty, or a directory.",
        &[run("give a GGUF file", SET_PATH)],
    ),
    rule(
        CauseCode::UnsupportedArch,
        (Model, No),
        r"unknown model architecture: '([^']+)'",
        "This llama.cpp build does not support the model architecture {1}.",
        &[NEWER_BUILD, NEW_BUILD],
    ),
    rule(
        CauseCode::UnsupportedTokenizer,
        (Model, No),
        r"unknown (?:pre-tokenizer type|tokenizer): '([^']+)'",
        "This llama.cpp build does not support the model's tokenizer {1}.",
        &[NEWER_BUILD, NEW_BUILD],
    ),
    rule(
        CauseCode::ModelInvalid,
        (Model, No),
        r"(check_tensor_dims: .*|tensor '[^']*' (?:not found|has invalid data)|key not found in model.*|missing tensor.*|wrong number of tensors.*|invalid split.*|corrupted model.*)",
        "The GGUF file is not a complete model: {1}.",
        &[run(
            "give the model itself, not an adapter or a vocabulary, and all its parts",
            SET_PATH,
        )],
    ),
    rule(
        CauseCode::OomVram,
        (Memory, No),
        r"cudaMalloc failed: out of memory|(?:CUDA|ROCm|MUSA|HIP) error: out of memory|ggml_vulkan: Device memory allocation of size \d+ failed|ErrorOutOfDeviceMemory|UR_RESULT_ERROR_OUT_OF_(?:DEVICE_MEMORY|RESOURCES)|unable to allocate (?:CUDA|ROCm|Vulkan|SYCL|MUSA|CANN)\S* buffer|kIOGPUCommandBufferCallbackErrorOutOfMemory",
        "There is not enough GPU memory.",
        &[LESS_CONTEXT, OTHERS],
    ),
    rule(
        CauseCode::OomKvCache,
        (Memory, No),
        r"failed to allocate buffer for kv cache|failed to initialize the context: std::bad_alloc",
        "There is not enough memory for the KV cache.",
        &[
            LESS_CONTEXT,
            run(
                "or have one slot and a smaller cache",
                &["llamactl", "model", "set", "NAME", "parallel=1", "cache-type-k=q8_0"],
            ),
        ],
    ),
    rule(
        CauseCode::OomRam,
        (Memory, No),
        r"ggml_aligned_malloc: insufficient memory|mmap failed: Cannot allocate memory|failed to allocate \S+ buffer of size \d+|std::bad_alloc",
        "There is not enough memory.",
        &[LESS_CONTEXT, OTHERS],
    ),
    rule(
        CauseCode::KvQuantNeedsFa,
        (Config, No),
        r"quantized V cache requires flash_attn|V cache quantization requires flash_attn",
        "A quantized V cache needs flash attention.",
        &[
            run("let it have that", &["llamactl", "model", "set", "NAME", "flash-attn=on"]),
            RESET.of(&["cache-type-v"]),
        ],
    ),
    rule(
        CauseCode::TooManySlots,
        (Config, No),
        r"n_seq_max must be <= (\d+)",
        "There are too many slots: at most {1} are possible.",
        &[run("ask for fewer", &["llamactl", "model", "set", "NAME", "parallel={1}"])],
    ),
    rule(
        CauseCode::Grammar,
        (Config, No),
        r"failed to parse grammar",
        "The grammar or JSON schema cannot be parsed.",
        &[RESET.of(&["grammar", "grammar-file", "json-schema", "json-schema-file"]), ARGS],
    ),
    rule(
        CauseCode::ContextInit,
        (Model, No),
        r"failed to initialize the context: (.*)",
        "The context for the model could not be created: {1}.",
        &[LESS_CONTEXT, ARGS],
    ),
    rule(
        CauseCode::ContextInit,
        (Model, No),
        r"failed to create.context with model '(.+)'",
        "The context for the model could not be created.",
        &[LESS_CONTEXT, ARGS],
    ),
    rule(
        CauseCode::DownloadFailed,
        (Network, Yes),
        r"failed to (download model|fetch model metadata):? ?(.*)",
        "llama-server failed to {1}: {2}.",
        &[run("download it yourself", SET_PATH)],
    ),
    rule(
        CauseCode::GpuLost,
        (Crash, Limited),
        r"DeviceLostError|ErrorDeviceLost|(?:CUDA|ROCm|MUSA) error: (?:unspecified launch failure|an illegal memory access was encountered|.*ECC.*)",
        "The GPU or its driver failed.",
        &[KERNEL_LOG, to("if it happens again, restart the machine")],
    ),
    rule(
        CauseCode::GpuError,
        (Crash, Limited),
        r"(?:CUDA|ROCm|MUSA) error: (.*)",
        "The GPU reported an error: {1}.",
        &[KERNEL_LOG],
    ),
    rule(
        CauseCode::WakeFailed,
        (Model, No),
        r"failed to reload model after sleeping",
        "The model could not be loaded again after it had slept.",
        &[run("check the model's files", &["llamactl", "model", "verify", "NAME"])],
    ),
    rule(
        CauseCode::Assert,
        (Crash, Limited),
        r"(\S+:\d+): GGML_ASSERT\((.*)\) failed",
        "llama-server stopped at a failed check: {2} ({1}).",
        &[CHANGED, OTHER_BUILD],
    ),
    rule(
        CauseCode::CppException,
        (Crash, Limited),
        r"what\(\):\s+(.+)",
        "llama-server ended with an uncaught C++ exception: {1}.",
        &[CHANGED, OTHER_BUILD],
    ),
    rule(
        CauseCode::CppException,
        (Crash, Limited),
        r"terminate called after throwing an instance of '(.+)'",
        "llama-server ended with an uncaught C++ exception of type {1}.",
        &[CHANGED, OTHER_BUILD],
    ),
    rule(
        CauseCode::ModelLoadOther,
        (Model, No),
        r"error loading model: (.*)",
        "The model could not be loaded: {1}.",
        &[],
    ),
    rule(
        CauseCode::ModelLoadFailed,
        (Model, No),
        r"exiting due to model loading error",
        "The model could not be loaded.",
        &[],
    ),
    rule(
        CauseCode::HttpStart,
        (Network, Limited),
        r"exiting due to HTTP server error",
        "llama-server could not start its HTTP server.",
        &[],
    ),
];

/// What can be done about ends that no line of a log tells of.
pub static ENDS: &[(CauseCode, &[Cure])] = &[
    (
        CauseCode::Exited,
        &[run(
            "to start it again after that too",
            &["llamactl", "model", "set", "NAME", "restart=always"],
        )],
    ),
    (CauseCode::MissingLibrary, &[OTHER_BUILD, to("or reinstall this one")]),
    (CauseCode::ExecutableNotFound, &[OTHER_BUILD, to("or install it again")]),
    (
        CauseCode::ExecutableNotAllowed,
        &[to("make it executable, and check the permissions of its directories"), OTHER_BUILD],
    ),
    (CauseCode::ExecutableWrongFormat, &[FOR_PROCESSOR]),
    (CauseCode::IllegalInstruction, &[FOR_PROCESSOR]),
    (
        CauseCode::NoResources,
        &[to("check the limits of processes and memory: ulimit -u, pids.max, TasksMax=")],
    ),
    (
        CauseCode::BindFailed,
        &[
            run("take any free port", &["llamactl", "model", "set", "NAME", "port=auto"]),
            run("or see who has this one", &["ss", "-ltnp"]),
        ],
    ),
    (
        CauseCode::UnknownError,
        &[run("make its log tell more", &["llamactl", "model", "set", "NAME", "verbosity=4"])],
    ),
    (
        CauseCode::OomKilled,
        &[LESS_CONTEXT, OTHERS, to("or use a smaller model, or a smaller cache-ram")],
    ),
    (
        CauseCode::Killed,
        &[run("look for an out-of-memory kill in the kernel log", &["sudo", "dmesg"])],
    ),
    (
        CauseCode::ModelFileChanged,
        &[run("check the model file", &["llamactl", "model", "verify", "NAME"])],
    ),
    (CauseCode::Segfault, &[CHANGED, OTHER_BUILD]),
    (CauseCode::Abort, &[CHANGED, OTHER_BUILD]),
];
