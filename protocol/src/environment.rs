//! Environment variables that go from a user's shell to the daemon, and from the daemon to
//! llama-server.
//!
//! ```text
//!   shell ── is_inherited ─▶ llamactld ── DEVICE_VARIABLES ─▶ llama-server, --list-devices
//!                                     ├── SERVER_VARIABLES ─▶
//!              env.NAME=value, but none that loads_code ────▶
//! ```
//!
//! The list of device variables is one for both steps: a variable that only the second passed on
//! would never have come through the first, and the server would run on another card than the
//! programs in the user's shell.

/// Variables that decide which devices a llama-server finds and in which order. Sources: the CUDA,
/// ROCm, Vulkan loader and oneAPI documentation, and ggml's own.
pub const DEVICE_VARIABLES: &[&str] = &[
    "CUDA_VISIBLE_DEVICES",
    "CUDA_DEVICE_ORDER",
    "NVIDIA_VISIBLE_DEVICES",
    "HIP_VISIBLE_DEVICES",
    "ROCR_VISIBLE_DEVICES",
    "HSA_OVERRIDE_GFX_VERSION",
    "GGML_VK_VISIBLE_DEVICES",
    "VK_ICD_FILENAMES",
    "VK_DRIVER_FILES",
    "ONEAPI_DEVICE_SELECTOR",
];

/// Variables of the daemon that a server inherits beside [`DEVICE_VARIABLES`]: what programs need
/// everywhere. Everything else stays out, above all `LLAMA_ARG_*`, which would change settings.
pub const SERVER_VARIABLES: &[&str] = &[
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "TZ",
    "TMPDIR",
    "XDG_CACHE_HOME",
];

/// Other variables that a daemon takes from the client that starts it.
const INHERITED: &[&str] = &[
    "HOME",
    "PATH",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "TZ",
    "TMPDIR",
    "XDG_STATE_HOME",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
    "XDG_CACHE_HOME",
    "LD_LIBRARY_PATH",
    // Where other programs keep models.
    "HF_HOME",
    "HF_HUB_CACHE",
    "HUGGINGFACE_HUB_CACHE",
    "LLAMA_CACHE",
    "OLLAMA_MODELS",
];

/// Variables that a daemon takes from the client by the beginning of their names.
const INHERITED_PREFIXES: &[&str] = &["LC_", "LLAMACTL_"];

/// Whether a daemon that a client starts gets this variable of the client's. It outlives the
/// terminal, so it gets nothing that belongs to it, and nobody's credentials.
#[must_use]
pub fn is_inherited(name: &str) -> bool {
    INHERITED.contains(&name)
        || DEVICE_VARIABLES.contains(&name)
        || INHERITED_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// Where the dynamic linker looks for libraries. A runtime alone may have it, and where its directories
/// are ours alone to write: a build for CUDA may need it.
pub const LIBRARY_PATH: &str = "LD_LIBRARY_PATH";

/// Variables that tell a process which code to load or to run, by the program or library that reads
/// them; a `*` at the end stands for any rest. Nobody sets one for a server, whether as a setting, for a
/// runtime, in an import or in a pasted command line: whoever may write a settings file of somebody
/// else's would run code as the daemon's user.
///
/// Each line has its source. Not in it: what only chooses among what is installed (`VK_INSTANCE_LAYERS`,
/// `MESA_LOADER_DRIVER_OVERRIDE`), where kernels for a card are kept (`CUDA_CACHE_PATH`,
/// `ROCBLAS_TENSILE_LIBPATH`: they run on the card), and what a CANN build does not start without
/// (`ASCEND_OPP_PATH`). [`LIBRARY_PATH`] of a runtime has its exception where a runtime's variables are
/// checked, not here.
const LOADS_CODE: &[(&str, &[&str])] = &[
    // ld.so(8), "Environment": LD_PRELOAD, LD_AUDIT, LD_LIBRARY_PATH, and what they may yet add.
    ("the dynamic linker", &["LD_*", "GLIBC_TUNABLES"]),
    // dyld(1).
    ("the dynamic linker of macOS", &["DYLD_*"]),
    // environ(7) and "Secure-execution mode" of ld.so(8): modules for character sets, locales, messages.
    ("the C library", &["GCONV_PATH", "LOCPATH", "NLSPATH"]),
    // ggml/src/ggml-backend-reg.cpp of llama.cpp.
    ("ggml", &["GGML_BACKEND_PATH", "GGML_BACKEND_DIR"]),
    // CUPTI, "Injection"; NVTX, README, "NVTX_INJECTION64_PATH".
    (
        "the CUDA driver",
        &[
            "CUDA_INJECTION32_PATH",
            "CUDA_INJECTION64_PATH",
            "NVTX_INJECTION32_PATH",
            "NVTX_INJECTION64_PATH",
        ],
    ),
    // NCCL, "Environment Variables": plugins by name or path, and a file that sets all others.
    (
        "NCCL",
        &[
            "NCCL_CONF_FILE",
            "NCCL_ENV_PLUGIN",
            "NCCL_GIN_PLUGIN",
            "NCCL_NET_PLUGIN",
            "NCCL_PROFILER_PLUGIN",
            "NCCL_TUNER_PLUGIN",
        ],
    ),
    // Vulkan-Loader, docs/LoaderInterfaceArchitecture.md, "Table of Debug Environment Variables", and
    // docs/LoaderDriverInterface.md, "Driver Discovery on Linux", for the directories of manifests.
    (
        "the Vulkan loader",
        &[
            "VK_ADD_DRIVER_FILES",
            "VK_ADD_IMPLICIT_LAYER_PATH",
            "VK_ADD_LAYER_PATH",
            "VK_DRIVER_FILES",
            "VK_ICD_FILENAMES",
            "VK_IMPLICIT_LAYER_PATH",
            "VK_LAYER_PATH",
            "XDG_CONFIG_DIRS",
            "XDG_CONFIG_HOME",
            "XDG_DATA_DIRS",
            "XDG_DATA_HOME",
            "HOME",
        ],
    ),
    // ROCR-Runtime, core/runtime/runtime.cpp; ROCprofiler-SDK, "Environment variables for custom tools";
    // ROCProfiler, "Library specification".
    ("the ROCm runtime", &["HSA_TOOLS_LIB", "ROCP_TOOL_LIB", "ROCP_TOOL_LIBRARIES"]),
    // Khronos OpenCL-ICD-Loader, README; ocl-icd, libOpenCL(7).
    (
        "the OpenCL loader",
        &["OCL_ICD_FILENAMES", "OCL_ICD_VENDORS", "OPENCL_LAYERS", "OPENCL_VENDOR_PATH"],
    ),
    // Unified Runtime, "Environment Variables"; XPTI, "Environment variables"; the Level Zero loader,
    // README; sycl/doc/EnvironmentVariables.md of intel/llvm; ittapi, "Configure the environment".
    (
        "oneAPI",
        &[
            "INTEL_JIT_PROFILER32",
            "INTEL_JIT_PROFILER64",
            "INTEL_LIBITTNOTIFY32",
            "INTEL_LIBITTNOTIFY64",
            "SYCL_OVERRIDE_PI_*",
            "UR_ADAPTERS_FORCE_LOAD",
            "UR_ADAPTERS_SEARCH_PATH",
            "XPTI_FRAMEWORK_DISPATCHER",
            "XPTI_SUBSCRIBERS",
            "ZE_ENABLE_ALT_DRIVERS",
            "ZEL_LIBRARY_PATH",
        ],
    ),
    // OpenMP 5.0, 6.19 OMP_TOOL_LIBRARIES.
    ("OpenMP", &["OMP_TOOL_LIBRARIES"]),
    // openssl-env(7).
    ("OpenSSL", &["OPENSSL_CONF", "OPENSSL_CONF_INCLUDE", "OPENSSL_ENGINES", "OPENSSL_MODULES"]),
    // A runtime may be a script that runs the server: bash(1), sh(1), and environ(7) for PATH.
    ("a shell", &["PATH", "BASH_ENV", "ENV", "SHELLOPTS", "BASHOPTS", "PS4", "IFS"]),
    // python(1), "Environment variables"; the wheels of llama.cpp start with a script of it.
    ("Python", &["PYTHON*"]),
    // perlrun(1), "Environment".
    ("Perl", &["PERL5*", "PERLLIB"]),
];

/// Who loads or runs code by a variable of this name.
#[must_use]
pub fn loads_code(name: &str) -> Option<&'static str> {
    let is_meant = |pattern: &&str| match pattern.strip_suffix('*') {
        Some(beginning) => name.starts_with(beginning),
        None => name == *pattern,
    };
    LOADS_CODE.iter().find(|(_, names)| names.iter().any(is_meant)).map(|(who, _)| *who)
}

/// Whether the name of a variable says that its value is nobody's business.
#[must_use]
pub fn names_secret(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    ["KEY", "TOKEN", "SECRET", "PASSWORD", "PASSWD", "PASSPHRASE", "PASS", "PW", "CREDENTIALS"]
        .iter()
        .any(|end| name == *end || name.ends_with(&format!("_{end}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_loads_code_is_told_by_whom() {
        for name in ["LD_PRELOAD", "VK_LAYER_PATH", "PATH", "PYTHONPATH", "OPENSSL_CONF", "HOME"] {
            assert!(loads_code(name).is_some(), "{name}");
        }
        for name in ["CUDA_VISIBLE_DEVICES", "GGML_VK_VISIBLE_DEVICES", "PATHS", "LD", "TMPDIR"] {
            assert_eq!(loads_code(name), None, "{name}");
        }
    }

    #[test]
    fn a_secret_is_told_by_the_end_of_its_name() {
        for name in ["OPENAI_API_KEY", "X_TOKEN", "PASSWORD", "aws_secret"] {
            assert!(names_secret(name), "{name}");
        }
        for name in ["TOKENIZERS_PARALLELISM", "MONKEY", "KEYS", "TOKEN_LIMIT"] {
            assert!(!names_secret(name), "{name}");
        }
    }

    #[test]
    fn the_terminals_variables_stay_behind() {
        for name in ["HOME", "LC_ALL", "LLAMACTL_STATE_DIR", "CUDA_DEVICE_ORDER"] {
            assert!(is_inherited(name), "{name}");
        }
        for name in ["SSH_AUTH_SOCK", "DISPLAY", "AWS_SECRET_ACCESS_KEY", "LD_PRELOAD", "HOMES"] {
            assert!(!is_inherited(name), "{name}");
        }
    }
}
