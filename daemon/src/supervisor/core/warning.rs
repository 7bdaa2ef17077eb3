//! What is said of a server that runs and is not as it should be: pure.

use super::driver::Silence;
use llamactl_protocol::warning::{Warning, WarningCode};

/// It does not answer.
pub(in crate::supervisor) fn not_answering(name: &str, silence: Silence) -> Warning {
    let warning = Warning::new(WarningCode::NotAnswering, "it does not answer /health")
        .command(["llamactl", "restart", name])
        .command(["llamactl", "logs", name, "-n", "20"]);
    Warning { since_ms: Some(silence.since_ms), until_ms: silence.until_ms, ..warning }
}

/// It was to use a GPU and does not: where it runs, and why.
pub(in crate::supervisor) fn on_cpu(name: &str, message: &str) -> Warning {
    let show = ["llamactl", "runtime", "list"];
    Warning::new(WarningCode::OnCpu, message).command(show).command([
        "llamactl",
        "model",
        "set",
        name,
        "gpu-layers=0",
        "--restart",
    ])
}

/// It was to keep its port, and another program had taken it.
pub(in crate::supervisor) fn other_port(name: &str, before: u16, now: u16) -> Warning {
    let message = format!("another program has port {before}; it has {now} now");
    Warning::new(WarningCode::OtherPort, message).command(["llamactl", "restart", name])
}

/// It has a port and asks for no key.
pub(in crate::supervisor) fn no_api_key(name: &str) -> Warning {
    Warning::new(
        WarningCode::NoApiKey,
        "no API key: every program on this machine can use the port",
    )
    .command(["llamactl", "model", "set", name, "api-key=generate", "--restart"])
}
