//! What a server computes on, as far as it can be known: pure.

use super::driver::RunFacts;
use llamactl_protocol::options::{Settings, layers};
use serde_json::Value;

/// The cpu, in [`llamactl_protocol::server::Server::device`].
pub(super) const CPU: &str = "cpu";
/// A GPU.
pub(super) const GPU: &str = "gpu";

/// What is known of a server's device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// It was asked to use a GPU and holds none of its memory; `None`: not asked, or not known.
    pub on_cpu: Option<bool>,
    /// What it computes on; `None`: not known.
    pub device: Option<&'static str>,
}

/// Whether these settings ask for a GPU. Nothing set is asking where the build has devices:
/// llama-server offloads what fits by itself.
#[must_use]
pub fn asks_for_gpu(settings: &Settings, build_has_devices: Option<bool>) -> bool {
    let layers = settings.get("gpu-layers");
    let none = |value: &Value| value.as_u64() == Some(0) || value.as_str() == Some("none");
    let device = settings.get("device").map(|value| match value {
        Value::Array(devices) => devices.first().unwrap_or(&Value::Null).clone(),
        other => other.clone(),
    });
    if layers.is_some_and(none) || device.as_ref().is_some_and(none) {
        return false;
    }
    let by_number = layers.is_some_and(|value| value.as_str() != Some("auto"));
    by_number || device.is_some() || build_has_devices == Some(true)
}

/// Judges. `gpu_memory_bytes`: what the driver says the process holds; `None`: nobody can say.
#[must_use]
pub fn judge(
    asked: bool,
    build_has_devices: Option<bool>,
    gpu_memory_bytes: Option<u64>,
) -> Verdict {
    let holds = match (gpu_memory_bytes, build_has_devices) {
        (Some(bytes), _) => Some(bytes > 0),
        // A build without devices cannot hold any.
        (None, Some(false)) => Some(false),
        (None, _) => None,
    };
    Verdict {
        on_cpu: holds.filter(|_| asked).map(|holds| !holds),
        device: holds.map(|holds| if holds { GPU } else { CPU }),
    }
}

/// Judges a run by its settings and by what is known of its process.
#[must_use]
pub fn of_run(run: &RunFacts) -> Verdict {
    let settings = layers::over(&run.settings, &run.overrides);
    let asked = asks_for_gpu(&settings, run.build_has_devices);
    judge(asked, run.build_has_devices, run.gpu_memory_bytes)
}

/// What is said of one that computes on the processor though it was to use a GPU: where, and why.
#[must_use]
pub fn on_cpu(run: &RunFacts) -> &'static str {
    match run.build_has_devices {
        Some(false) => "it runs on the CPU although a GPU was asked for: this build finds no GPU",
        _ => "it runs on the CPU although a GPU was asked for: it holds no GPU memory",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn settings(pairs: &[(&str, Value)]) -> Settings {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect()
    }

    #[test]
    fn a_gpu_is_asked_for_by_layers_by_device_or_by_a_build_that_has_one() {
        for (pairs, has, asks) in [
            (&[][..], Some(false), false),
            (&[], Some(true), true),
            (&[], None, false),
            (&[("gpu-layers", json!(99))], Some(false), true),
            (&[("gpu-layers", json!("all"))], None, true),
            (&[("gpu-layers", json!("auto"))], Some(false), false),
            (&[("gpu-layers", json!(0))], Some(true), false),
            (&[("device", json!(["CUDA0"]))], None, true),
            (&[("device", json!(["none"]))], Some(true), false),
            (&[("device", json!("none"))], Some(true), false),
        ] {
            assert_eq!(asks_for_gpu(&settings(pairs), has), asks, "{pairs:?} {has:?}");
        }
    }

    #[test]
    fn the_unknown_stays_unknown() {
        assert_eq!(judge(true, Some(true), None), Verdict::default());
        assert_eq!(judge(true, None, None), Verdict::default());
    }

    #[test]
    fn asked_for_a_gpu_and_holding_none_is_on_the_cpu() {
        let on_cpu = Verdict { on_cpu: Some(true), device: Some(CPU) };
        assert_eq!(judge(true, Some(false), None), on_cpu);
        assert_eq!(judge(true, Some(true), Some(0)), on_cpu);
        assert_eq!(judge(false, Some(false), None), Verdict { on_cpu: None, device: Some(CPU) });
        let on_gpu = Verdict { on_cpu: Some(false), device: Some(GPU) };
        assert_eq!(judge(true, Some(true), Some(5 << 30)), on_gpu);
    }
}
