//! The settings that a running llama-server reports.

use super::client::Client;
use llama_http::StatusCode;
use llamactl_protocol::options::Setting;
use serde::Deserialize;
use serde_json::{Map, Value};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(2);

/// How a seed of -1, a random one for each request, is reported: as 32 bits without a sign.
const RANDOM_SEED: u64 = 0xFFFF_FFFF;

/// What `/props` tells of the settings in force.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ReportedSettings {
    params: Map<String, Value>,
    slots: Option<u64>,
}

#[derive(Deserialize)]
struct Props {
    total_slots: Option<u64>,
    default_generation_settings: Option<Generation>,
}

#[derive(Deserialize)]
struct Generation {
    #[serde(default)]
    params: Map<String, Value>,
}

/// Asks a ready server which settings are in force. Does not wake one that sleeps.
pub async fn reported(client: &Client) -> Option<ReportedSettings> {
    let (status, body) = client.get("/props", LIMIT).await.ok()?;
    (status == StatusCode::OK).then(|| ReportedSettings::read(&body))?
}

impl ReportedSettings {
    /// What the answer to `/props` tells; `None` where it is none.
    #[must_use]
    pub fn read(body: &[u8]) -> Option<ReportedSettings> {
        let props: Props = serde_json::from_slice(body).ok()?;
        let params = props.default_generation_settings.map(|it| it.params).unwrap_or_default();
        Some(ReportedSettings { params, slots: props.total_slots })
    }

    /// The value in force; `None` for what is not reported.
    #[must_use]
    pub fn get(&self, setting: &Setting<'_>) -> Option<Value> {
        if setting.key == "parallel" {
            return self.slots.map(Value::from);
        }
        let value = self.params.get(setting.reported)?;
        if setting.key == "seed" && value.as_u64() == Some(RANDOM_SEED) {
            return Some(Value::from(-1));
        }
        setting.check(&plain(value)).ok().or_else(|| Some(value.clone()))
    }
}

/// llama-server keeps its numbers in 32 bits and prints them in 64: 0.8 comes as
/// 0.800000011920929.
fn plain(value: &Value) -> Value {
    match value.as_f64().filter(|_| !value.is_i64() && !value.is_u64()) {
        Some(number) => {
            format!("{number:.6}").parse::<f64>().map_or_else(|_| value.clone(), Value::from)
        }
        None => value.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use llamactl_protocol::options::find;
    use serde_json::json;

    #[test]
    fn numbers_come_as_they_were_set() {
        let reported = ReportedSettings {
            params: json!({ "temperature": 0.800_000_011_920_929, "top_k": 40 })
                .as_object()
                .unwrap()
                .clone(),
            slots: Some(4),
        };
        let get = |key| reported.get(&find(key, None).unwrap());
        assert_eq!(get("temp"), Some(json!(0.8)));
        assert_eq!(get("top-k"), Some(json!(40)));
        assert_eq!(get("parallel"), Some(json!(4)));
        assert_eq!(get("ctx-size"), None);
    }
}
