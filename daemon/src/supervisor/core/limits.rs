//! The settings that say how a server is looked after, as values.

use super::restart::Mode;
use llamactl_protocol::options::Settings;
use serde_json::Value;
use std::time::Duration;

/// How a server is looked after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Whether it is started again when it ends unasked: `restart`.
    pub restart: Mode,
    /// Failures in a row until it is given up: `restart-limit`.
    pub restart_limit: u32,
    /// How long a load may show no sign of progress: `load-stall-timeout`.
    pub stall: Duration,
    /// How long it may not answer, or its requests not move: `hang-timeout`; `None`: for ever.
    pub hang: Option<Duration>,
    /// How long a stop waits for requests at work: `drain-timeout`.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits::of(&Settings::new())
    }
}

impl Limits {
    /// Reads them out of a model's effective settings; what is absent has its default.
    #[must_use]
    pub fn of(settings: &Settings) -> Limits {
        let seconds = |key: &str, default: u64| {
            Duration::from_secs(settings.get(key).and_then(Value::as_u64).unwrap_or(default))
        };
        let restart = match settings.get("restart").and_then(Value::as_str) {
            Some("always") => Mode::Always,
            Some("never") => Mode::Never,
            _ => Mode::OnFailure,
        };
        let limit = settings.get("restart-limit").and_then(Value::as_u64).unwrap_or(5);
        let hang = seconds("hang-timeout", 120);
        Limits {
            restart,
            restart_limit: u32::try_from(limit).unwrap_or(u32::MAX),
            stall: seconds("load-stall-timeout", 600),
            hang: (!hang.is_zero()).then_some(hang),
            drain: seconds("drain-timeout", 5),
        }
    }
}

/// Whether the model is started when the daemon starts after a boot: `autostart`.
#[must_use]
pub fn autostart(settings: &Settings) -> bool {
    settings.get("autostart").and_then(Value::as_bool).unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use llamactl_protocol::options::catalogue;
    use serde_json::json;

    #[test]
    fn what_is_absent_has_the_default_the_catalogue_promises() {
        let limits = Limits::default();
        let promised =
            |key: &str| catalogue().find(|setting| setting.key == key).unwrap().default.to_owned();
        assert_eq!(promised("restart"), "on-failure");
        assert_eq!(limits.restart, Mode::OnFailure);
        assert_eq!(promised("restart-limit"), limits.restart_limit.to_string());
        assert_eq!(promised("load-stall-timeout"), limits.stall.as_secs().to_string());
        assert_eq!(promised("hang-timeout"), limits.hang.unwrap().as_secs().to_string());
        assert_eq!(promised("drain-timeout"), limits.drain.as_secs().to_string());
        assert!(!autostart(&Settings::new()));
    }

    #[test]
    fn what_is_set_holds() {
        let settings: Settings = [
            ("restart".to_owned(), json!("always")),
            ("restart-limit".to_owned(), json!(2)),
            ("hang-timeout".to_owned(), json!(0)),
            ("drain-timeout".to_owned(), json!(30)),
            ("autostart".to_owned(), json!(true)),
        ]
        .into();
        let limits = Limits::of(&settings);
        assert_eq!((limits.restart, limits.restart_limit), (Mode::Always, 2));
        assert_eq!((limits.hang, limits.drain), (None, Duration::from_secs(30)));
        assert!(autostart(&settings));
    }
}
