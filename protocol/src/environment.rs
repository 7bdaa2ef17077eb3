//! Environment variables that go from a user's shell to the daemon, and from the daemon to
//! llama-server.
//!
//! ```text
//!   shell ── is_inherited ─▶ llamactld ── DEVICE_VARIABLES ─▶ llama-server, --list-devices
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

#[cfg(test)]
mod tests {
    use super::*;

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
