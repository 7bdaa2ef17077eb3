//! The lines by which llama-server says why it ends: one row per cause, most telling first.
//!
//! Measured on llama.cpp b10434 with 55 ways to fail, some read in the source of b11434. The first
//! row that matches any line of the tail wins, so a row stands before those that merely follow from
//! it: "no permission to read X" before "error loading model". Patterns are not anchored, because
//! lines without a prefix may be glued to others. `{1}`, `{2}` are the pattern's groups.

use super::classify::Class::{self, Config, Crash, Memory, Model, Network, Spawn};
use super::classify::Retry::{self, Limited, No, OtherPort, Yes};
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
    /// What to do about it, with the same places; empty: nothing is known to do.
    pub hint: &'static str,
}

const fn rule(
    code: CauseCode,
    (class, retry): (Class, Retry),
    pattern: &'static str,
    message: &'static str,
    hint: &'static str,
) -> Rule {
    Rule { code, class, retry, pattern, message, hint }
}

/// All rules, in the order in which they are tried.
pub static RULES: &[Rule] = &[
    rule(
        CauseCode::MissingLibrary,
        (Spawn, No),
        r"error while loading shared libraries: ([^\s:]+)",
        "llama-server cannot load the shared library {1}.",
        "Reinstall this llama.cpp build, or say where {1} is: llamactl runtime set RUNTIME \
         env.LD_LIBRARY_PATH=DIR (of the llama-server that was found by itself: llamactl runtime add PATH \
         env.LD_LIBRARY_PATH=DIR).",
    ),
    rule(
        CauseCode::MissingLibrary,
        (Spawn, No),
        r"symbol lookup error: (\S+): (undefined symbol: .*)",
        "llama-server and its library {1} are not of one build: {2}.",
        "Reinstall this llama.cpp build; llamactl runtime show RUNTIME says where else it looks for libraries.",
    ),
    // A runtime may be a script that runs the real program; these are its shell's words.
    rule(
        CauseCode::ExecutableNotFound,
        (Spawn, No),
        r"(?:exec|line \d+): (?:exec: )?(/.+?): (?:cannot execute: )?(?:not found|No such file or directory)",
        "The runtime's script cannot find the program {1}.",
        "Correct the script, or choose another runtime.",
    ),
    rule(
        CauseCode::ExecutableNotAllowed,
        (Spawn, No),
        r"(?:exec|line \d+): (?:exec: )?(/.+?): (?:cannot execute: )?Permission denied",
        "The runtime's script may not execute the program {1}.",
        "Make it executable, and check the permissions of its directories.",
    ),
    rule(
        CauseCode::ExecutableWrongFormat,
        (Spawn, No),
        r"(?:exec|line \d+): (?:exec: )?(/.+?): (?:cannot execute binary file|Exec format error)",
        "{1}, run by the runtime's script, is not a program for this machine.",
        "Use a build for this machine's processor.",
    ),
    // ld.so, the CUDA and HIP runtimes, rocBLAS, ggml: no restart and no setting helps.
    rule(
        CauseCode::BuildUnfit,
        (Crash, No),
        r"(version `GLIBC[\w.]*' not found|(?:CUDA|ROCm|HIP|MUSA) error: (?:no kernel image is available|the provided PTX was compiled with an unsupported toolchain|invalid device function|CUDA driver version is insufficient|system has unsupported display driver|forward compatibility was attempted).*|rocBLAS error: Cannot read \S*TensileLibrary.*|no backends are loaded.*)",
        "This llama.cpp build is made for another system or GPU: {1}.",
        "Use a build made for this one: llamactl runtime add PATH, then llamactl model set NAME \
         runtime=RUNTIME.",
    ),
    rule(
        CauseCode::FlagRemoved,
        (Config, No),
        r#"error while handling argument "([^"]+)": the argument has been removed\.? ?(.*)"#,
        "This llama.cpp build no longer has the option {1}.",
        "Unset the option. llama-server says: {2}",
    ),
    rule(
        CauseCode::BadDevice,
        (Config, No),
        r#"error while handling argument "([^"]+)": invalid device: (\S+)"#,
        "The device {2}, asked for with {1}, does not exist on this machine.",
        "llamactl runtime show lists the devices; set device to one of them.",
    ),
    rule(
        CauseCode::BadValue,
        (Config, No),
        r#"error while handling argument "([^"]+)": (.*)"#,
        "The value of {1} is not valid: {2}.",
        "Correct the setting; llamactl help settings KEY says what it takes.",
    ),
    rule(
        CauseCode::BadEnv,
        (Config, No),
        r#"error while handling environment variable "([^"]+)": (.*)"#,
        "The environment variable {1} has a value that is not valid: {2}.",
        "Correct or unset the variable.",
    ),
    rule(
        CauseCode::BadFlag,
        (Config, No),
        r"error: invalid argument: (.+)",
        "This llama.cpp build does not know the option {1}.",
        "Unset the option, or use a build that has it. A value that stands where an option should \
         be means that the option before it swallowed one.",
    ),
    rule(
        CauseCode::BadChatTemplate,
        (Config, No),
        r"error: the supplied chat template is not supported",
        "The chat template cannot be parsed.",
        "Correct or unset the chat template.",
    ),
    rule(
        CauseCode::NoSsl,
        (Config, No),
        r"the server is built without SSL support",
        "This llama.cpp build has no SSL support.",
        "Unset the ssl options, or use a build with SSL.",
    ),
    rule(
        CauseCode::RouterInit,
        (Config, No),
        r"failed to initialize router models: (.*)",
        "llama-server could not start as a router: {1}.",
        "Correct the models directory or preset file, or set a model file.",
    ),
    rule(
        CauseCode::BindFailed,
        (Network, OtherPort),
        r"couldn't bind HTTP server socket, hostname: (.+), port: (\d+)",
        "llama-server cannot listen on {1}, port {2}.",
        "The address may be in use, not allowed, or not of this machine, or the socket file of an \
         earlier server may still be there: llama-server does not say which.",
    ),
    rule(
        CauseCode::LoraNotFound,
        (Model, No),
        r"failed to load lora adapter file from (.+)",
        "The LoRA file {1} cannot be read.",
        "Check that the file is there and readable.",
    ),
    rule(
        CauseCode::LoraWrongBase,
        (Model, No),
        r"failed to apply lora adapter: .*(incorrect shape|does not exist in base model)",
        "The LoRA adapter does not fit this model.",
        "Use an adapter that was made for this base model.",
    ),
    rule(
        CauseCode::LoraNotAdapter,
        (Model, No),
        r"(?:failed to apply lora adapter: )?(expect general\.type to be 'adapter'.*)",
        "The file given as LoRA adapter is not one: {1}.",
        "Give a LoRA adapter in GGUF format.",
    ),
    rule(
        CauseCode::LoraFailed,
        (Model, No),
        r"failed to load lora adapter '(.+)'|failed to apply lora adapter",
        "A LoRA adapter could not be loaded.",
        "Check the file, and that it was made for this base model.",
    ),
    rule(
        CauseCode::MmprojFailed,
        (Model, No),
        r"failed to load multimodal model, '(.+)'",
        "The multimodal projector {1} could not be loaded.",
        "Check that the file is there and is an mmproj (CLIP) GGUF file for this model.",
    ),
    rule(
        CauseCode::DraftFailed,
        (Model, No),
        r"(?:failed to load draft model, |the draft model )'(.+)'",
        "The draft model {1} cannot be used.",
        "Check that the file is there, is a complete GGUF model, and has the vocabulary of the model.",
    ),
    rule(
        CauseCode::NoDraftLayers,
        (Config, No),
        r"(context type MTP requested but model doesn't contain MTP layers)",
        "spec-type asks for layers that draft tokens, and the model has none: {1}.",
        "Unset spec-type (llamactl model unset NAME spec-type), or use a file that has the layers.",
    ),
    rule(
        CauseCode::FilePermission,
        (Model, No),
        r"failed to open GGUF file '(.+)' \(Permission denied\)",
        "llama-server may not read the file {1}.",
        "Let the user that runs the daemon read the file and enter its directories.",
    ),
    rule(
        CauseCode::ModelNotFound,
        (Model, No),
        r"failed to open GGUF file '(.+)' \(No such file or directory\)",
        "The file {1} does not exist.",
        "Put the file back, or say where it is now: llamactl model set NAME path=FILE.",
    ),
    rule(
        CauseCode::NotGguf,
        (Model, No),
        r"invalid magic characters: '(.*)', expected 'GGUF'",
        "The file is not a GGUF file: it begins with '{1}'.",
        "Give a model in GGUF format.",
    ),
    rule(
        CauseCode::GgufVersion,
        (Model, No),
        r"this GGUF file is version (\d+) but this software only supports",
        "The file has GGUF version {1}, which this llama.cpp build cannot read.",
        "Use a newer llama.cpp build: llamactl runtime add PATH, then llamactl model set NAME \
         runtime=RUNTIME.",
    ),
    // Each of these is followed by "failed to read …", which alone means a file that was cut.
    rule(
        CauseCode::UnsupportedQuant,
        (Model, No),
        r"has invalid ggml type (\d+)|(TYPE_\w+)[^A-Z]* REMOVED",
        "This llama.cpp build does not know number type {1}{2} of the model file.",
        "Use a newer llama.cpp build, or the model in another quantization.",
    ),
    rule(
        CauseCode::ModelDamaged,
        (Model, No),
        r"(duplicate (?:key|tensor name) .*|key \d+ is empty.*|key '[^']*' has invalid GGUF type .*|tensor name \d+ is too long.*|tensor '[^']*' (?:has invalid number of dimensions|has offset \d+, expected|of type .* not a multiple of block size|dimension \d+ has invalid).*|alignment \d+ is not a power of 2.*)",
        "The model file was made wrong: {1}.",
        "The download is whole and getting it again does not help: take the model from somebody else, \
         or convert it again.",
    ),
    rule(
        CauseCode::ModelTruncated,
        (Model, No),
        r"data is not within the file bounds, model is corrupted or incomplete|gguf_init_from_\w+: failed to read (?:key-value pairs|tensor info|header)",
        "The model file is incomplete.",
        "Finish or repeat the download.",
    ),
    rule(
        CauseCode::ModelEmpty,
        (Model, No),
        r"gguf_init_from_\w+: failed to read magic",
        "The model file is empty, or a directory.",
        "Set the model's path to a GGUF file.",
    ),
    rule(
        CauseCode::UnsupportedArch,
        (Model, No),
        r"unknown model architecture: '([^']+)'",
        "This llama.cpp build does not support the model architecture {1}.",
        "Use a newer llama.cpp build: llamactl runtime add PATH, then llamactl model set NAME \
         runtime=RUNTIME.",
    ),
    rule(
        CauseCode::UnsupportedTokenizer,
        (Model, No),
        r"unknown (?:pre-tokenizer type|tokenizer): '([^']+)'",
        "This llama.cpp build does not support the model's tokenizer {1}.",
        "Use a newer llama.cpp build: llamactl runtime add PATH, then llamactl model set NAME \
         runtime=RUNTIME.",
    ),
    rule(
        CauseCode::ModelInvalid,
        (Model, No),
        r"(check_tensor_dims: .*|tensor '[^']*' (?:not found|has invalid data)|key not found in model.*|missing tensor.*|wrong number of tensors.*|invalid split.*|corrupted model.*)",
        "The GGUF file is not a complete model: {1}.",
        "Give the model itself, not an adapter or a vocabulary, and all its parts.",
    ),
    rule(
        CauseCode::OomVram,
        (Memory, No),
        r"cudaMalloc failed: out of memory|(?:CUDA|ROCm|MUSA|HIP) error: out of memory|ggml_vulkan: Device memory allocation of size \d+ failed|ErrorOutOfDeviceMemory|UR_RESULT_ERROR_OUT_OF_(?:DEVICE_MEMORY|RESOURCES)|unable to allocate (?:CUDA|ROCm|Vulkan|SYCL|MUSA|CANN)\S* buffer|kIOGPUCommandBufferCallbackErrorOutOfMemory",
        "There is not enough GPU memory.",
        "Lower gpu-layers or ctx-size, quantize the KV cache, or stop another model.",
    ),
    rule(
        CauseCode::OomKvCache,
        (Memory, No),
        r"failed to allocate buffer for kv cache|failed to initialize the context: std::bad_alloc",
        "There is not enough memory for the KV cache.",
        "Lower ctx-size, or set parallel=1, or cache-type-k=q8_0 and cache-type-v=q8_0.",
    ),
    rule(
        CauseCode::OomRam,
        (Memory, No),
        r"ggml_aligned_malloc: insufficient memory|mmap failed: Cannot allocate memory|failed to allocate \S+ buffer of size \d+|std::bad_alloc",
        "There is not enough memory.",
        "Use a smaller model or ctx-size, or stop another model.",
    ),
    rule(
        CauseCode::KvQuantNeedsFa,
        (Config, No),
        r"quantized V cache requires flash_attn|V cache quantization requires flash_attn",
        "A quantized V cache needs flash attention.",
        "Set flash-attn to on or auto, or unset cache-type-v.",
    ),
    rule(
        CauseCode::TooManySlots,
        (Config, No),
        r"n_seq_max must be <= (\d+)",
        "There are too many slots: at most {1} are possible.",
        "Set parallel to {1} or less.",
    ),
    rule(
        CauseCode::Grammar,
        (Config, No),
        r"failed to parse grammar",
        "The grammar or JSON schema cannot be parsed.",
        "Correct or unset the grammar.",
    ),
    rule(
        CauseCode::ContextInit,
        (Model, No),
        r"failed to initialize the context: (.*)",
        "The context for the model could not be created: {1}.",
        "Correct the setting that it speaks of, or try a smaller ctx-size.",
    ),
    rule(
        CauseCode::ContextInit,
        (Model, No),
        r"failed to create.context with model '(.+)'",
        "The context for the model could not be created.",
        "The lines before say more; try a smaller ctx-size.",
    ),
    rule(
        CauseCode::DownloadFailed,
        (Network, Yes),
        r"failed to (download model|fetch model metadata):? ?(.*)",
        "llama-server failed to {1}: {2}.",
        "Check the network and the model's address, or download the file yourself.",
    ),
    rule(
        CauseCode::GpuLost,
        (Crash, Limited),
        r"DeviceLostError|ErrorDeviceLost|(?:CUDA|ROCm|MUSA) error: (?:unspecified launch failure|an illegal memory access was encountered|.*ECC.*)",
        "The GPU or its driver failed.",
        "Look for GPU errors in the kernel log. If it happens again, restart the machine.",
    ),
    rule(
        CauseCode::GpuError,
        (Crash, Limited),
        r"(?:CUDA|ROCm|MUSA) error: (.*)",
        "The GPU reported an error: {1}.",
        "",
    ),
    rule(
        CauseCode::WakeFailed,
        (Model, No),
        r"failed to reload model after sleeping",
        "The model could not be loaded again after it had slept.",
        "Check that the model file is still there.",
    ),
    rule(
        CauseCode::Assert,
        (Crash, Limited),
        r"(\S+:\d+): GGML_ASSERT\((.*)\) failed",
        "llama-server stopped at a failed check: {2} ({1}).",
        "A setting may be impossible, or llama.cpp has a defect: look at the settings changed last, \
         then try another build.",
    ),
    rule(
        CauseCode::CppException,
        (Crash, Limited),
        r"what\(\):\s+(.+)",
        "llama-server ended with an uncaught C++ exception: {1}.",
        "Look at the settings changed last, then try another build.",
    ),
    rule(
        CauseCode::CppException,
        (Crash, Limited),
        r"terminate called after throwing an instance of '(.+)'",
        "llama-server ended with an uncaught C++ exception of type {1}.",
        "",
    ),
    rule(
        CauseCode::ModelLoadOther,
        (Model, No),
        r"error loading model: (.*)",
        "The model could not be loaded: {1}.",
        "",
    ),
    rule(
        CauseCode::ModelLoadFailed,
        (Model, No),
        r"exiting due to model loading error",
        "The model could not be loaded.",
        "The lines before say more.",
    ),
    rule(
        CauseCode::HttpStart,
        (Network, Limited),
        r"exiting due to HTTP server error",
        "llama-server could not start its HTTP server.",
        "The lines before say more.",
    ),
];
