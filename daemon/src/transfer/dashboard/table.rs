//! What the old dashboard's fields are called now, and what their values mean.
//!
//! Many of its columns had defaults that switch off what llama-server does by itself: the file
//! would not be mapped, the KV cache would leave the GPU, answers would never end. A value that is
//! the schema's default is therefore nobody's choice, and is not carried over.

use Becomes::{Gone, Own, Refused, Setting as To};
use Reading::{Inverted, MinusOneIsUnset, OnIs, Plain};
use llamactl_protocol::options::{self, Setting, Values, find, look_up, secret};
use llamactl_protocol::{Failure, WirePath};
use serde_json::{Value, json};

/// A column of one of the dashboard's tables.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// The name of the column.
    pub name: &'static str,
    /// What a later version of the dashboard called it; empty where it kept the name.
    pub later: &'static str,
    /// The schema's default as JSON; empty where it had none.
    pub default: &'static str,
    /// What it is now.
    pub becomes: Becomes,
    /// How its values are read.
    pub reading: Reading,
}

/// What a field is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Becomes {
    /// The setting of this key.
    Setting(&'static str),
    /// What llamactl keeps beside a model's settings: `name` or `path`.
    Own(&'static str),
    /// The option of this key, which cannot be set: the catalogue says what to do instead.
    Refused(&'static str),
    /// Nothing any more: why, and what to do instead.
    Gone(&'static str),
}

/// How a field's values are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// As the setting reads them.
    Plain,
    /// On is off.
    Inverted,
    /// -1 stood for unset.
    MinusOneIsUnset,
    /// On is this value of the setting, and off is unset.
    OnIs(&'static str),
}

/// What a field's value is now.
#[derive(Clone, Debug, PartialEq)]
pub enum Translation {
    /// A setting of the catalogue that takes this value.
    Setting {
        /// The setting's key.
        key: &'static str,
        /// Its value as it is stored; a secret as it is given.
        value: Value,
    },
    /// The model's file.
    Path(WirePath),
    /// The model's name.
    Name(String),
    /// Nobody chose it.
    Default,
    /// Nothing any more.
    Gone {
        /// Why, and what to do instead.
        reason: &'static str,
    },
    /// A setting that does not take this value.
    Refused(Failure),
    /// No field of the dashboard.
    Unknown,
}

const fn field(name: &'static str, default: &'static str, becomes: Becomes) -> Field {
    Field { name, later: "", default, becomes, reading: Plain }
}

impl Field {
    const fn later(self, later: &'static str) -> Field {
        Field { later, ..self }
    }
    const fn read(self, reading: Reading) -> Field {
        Field { reading, ..self }
    }
}

const NO_ADDRESS: Becomes = Gone(
    "each model listens on a socket of its own; port=auto gives it a TCP port, host an address",
);

const MODELS: &[Field] = &[
    field("name", "", Own("name")),
    field("type", "", Gone("the model's file says of what kind it is")),
    field("status", "", Gone("llamactl status tells what runs now")),
    field("model_path", "", Own("path")),
    field("model_url", "", Refused("model-url")),
    field("docker_repo", "", Refused("docker-repo")),
    field("hf_repo", "", Refused("hf-repo")),
    field("hf_file", "", Refused("hf-file")),
    field("hf_repo_draft", "", Refused("spec-draft-hf")),
    field("hf_file_v", "", Gone("llama-server has no vocoder")),
    field("hf_token", "", To("hf-token")),
    field("ctx_size", "0", To("ctx-size")),
    field("predict", "-1", To("predict")),
    field("batch_size", "2048", To("batch-size")),
    field("ubatch_size", "512", To("ubatch-size")),
    field("n_parallel", "-1", To("parallel")),
    field("cont_batching", "0", To("cont-batching")),
    field("threads", "-1", To("threads")),
    field("threads_batch", "", To("threads-batch")),
    field("cpu_mask", "", To("cpu-mask")),
    field("cpu_range", "", To("cpu-range")),
    field("cpu_strict", "0", To("cpu-strict")),
    field("cpu_mask_batch", "", To("cpu-mask-batch")),
    field("cpu_range_batch", "", To("cpu-range-batch")),
    field("cpu_strict_batch", "0", To("cpu-strict-batch")),
    field("priority", "0", To("prio")),
    field("priority_batch", "", To("prio-batch")),
];

const SAMPLING: &[Field] = &[
    field("temperature", "0.8", To("temp")),
    field("top_k", "40", To("top-k")),
    field("top_p", "0.9", To("top-p")),
    field("min_p", "0.1", To("min-p")),
    field("top_nsigma", "-1", To("top-nsigma")),
    field("xtc_probability", "0", To("xtc-probability")),
    field("xtc_threshold", "0.1", To("xtc-threshold")),
    field("typical_p", "1", To("typical")),
    field("repeat_last_n", "64", To("repeat-last-n")),
    field("repeat_penalty", "1", To("repeat-penalty")),
    field("presence_penalty", "0", To("presence-penalty")),
    field("frequency_penalty", "0", To("frequency-penalty")),
    field("dry_multiplier", "0", To("dry-multiplier")),
    field("dry_base", "1.75", To("dry-base")),
    field("dry_allowed_length", "2", To("dry-allowed-length")),
    field("dry_penalty_last_n", "-1", To("dry-penalty-last-n")),
    field("dry_sequence_breaker", "", To("dry-sequence-breaker")),
    field("dynatemp_range", "0", To("dynatemp-range")),
    field("dynatemp_exp", "1", To("dynatemp-exp")).later("dynatemp_exponent"),
    field("mirostat", "0", To("mirostat")),
    field("mirostat_lr", "0.1", To("mirostat-lr")).later("mirostat_eta"),
    field("mirostat_ent", "5", To("mirostat-ent")).later("mirostat_tau"),
    field("samplers", "", To("samplers")),
    field("sampler_seq", "\"edskypmxt\"", To("sampler-seq")),
    field("seed", "-1", To("seed")),
    field("grammar", "", To("grammar")),
    field("grammar_file", "", To("grammar-file")),
    field("json_schema", "", To("json-schema")),
    field("json_schema_file", "", To("json-schema-file")),
    field("ignore_eos", "1", To("ignore-eos")),
    field("escape", "1", To("escape")),
    field("rope_scaling_type", "", To("rope-scaling")),
    field("rope_scale", "", To("rope-scale")),
    field("rope_freq_base", "", To("rope-freq-base")),
    field("rope_freq_scale", "", To("rope-freq-scale")),
    field("yarn_orig_ctx", "0", To("yarn-orig-ctx")),
    field("yarn_ext_factor", "-1", To("yarn-ext-factor")),
    field("yarn_attn_factor", "-1", To("yarn-attn-factor")),
    field("yarn_beta_slow", "-1", To("yarn-beta-slow")),
    field("yarn_beta_fast", "-1", To("yarn-beta-fast")),
    field("flash_attn", "\"auto\"", To("flash-attn")),
    field("logit_bias", "", To("logit-bias")),
];

const MEMORY: &[Field] = &[
    field("cache_ram", "-1", To("cache-ram")),
    field("cache_type_k", "", To("cache-type-k")),
    field("cache_type_v", "", To("cache-type-v")),
    // Off was the schema's default, and on is what llama-server does by itself.
    field(
        "mmap",
        "0",
        Gone("llama-server maps the file by itself; load-mode=none switches it off"),
    ),
    field("mlock", "0", To("load-mode")).read(OnIs("mlock")),
    field("numa", "", To("numa")),
    field("defrag_thold", "", Gone("llama-server no longer needs it")),
];

const GPU: &[Field] = &[
    field("device", "", To("device")),
    field("list_devices", "0", Refused("list-devices")),
    field("gpu_layers", "-1", To("gpu-layers")).read(MinusOneIsUnset),
    field("split_mode", "", To("split-mode")),
    field("tensor_split", "", To("tensor-split")),
    field("main_gpu", "", To("main-gpu")),
    field("kv_offload", "0", To("kv-offload")),
    field("repack", "0", To("repack")),
    field("no_host", "0", To("no-host")),
];

const ADVANCED: &[Field] = &[
    field("swa_full", "0", To("swa-full")),
    field("override_tensor", "", To("override-tensor")),
    field("cpu_moe", "0", To("cpu-moe")),
    field("n_cpu_moe", "0", To("n-cpu-moe")),
    field("kv_unified", "0", To("kv-unified")),
    field("pooling", "", To("pooling")),
    field("context_shift", "0", To("context-shift")),
    field("rpc", "", To("rpc")),
    field("offline", "0", To("offline")),
    field("override_kv", "", To("override-kv")),
    field("op_offload", "0", To("op-offload")),
    field("fit", "", To("fit")),
    field("fit_target", "1024", To("fit-target")),
    field("fit_ctx", "4096", To("fit-ctx")),
    field("check_tensors", "0", To("check-tensors")),
    field("sleep_idle_seconds", "-1", To("sleep-idle-seconds")),
    field("polling", "", To("poll")),
    field("polling_batch", "", To("poll-batch")),
    field("reasoning_format", "", To("reasoning-format")),
    field("reasoning_budget", "-1", To("reasoning-budget")),
    field("custom_params", "", To("extra-args")),
];

const LORA: &[Field] = &[
    field("lora", "", To("lora")),
    field("lora_scaled", "", To("lora-scaled")),
    field("control_vector", "", To("control-vector")),
    field("control_vector_scaled", "", To("control-vector-scaled")),
    field("control_vector_layer_range", "", To("control-vector-layer-range")),
    field("model_draft", "", To("spec-draft-model")),
    field("model_url_draft", "", Refused("spec-draft-hf")),
    field("ctx_size_draft", "", Gone("the draft model has the context of the model it drafts for")),
    field("threads_draft", "", To("spec-draft-threads")),
    field("threads_batch_draft", "", To("spec-draft-threads-batch")),
    field("draft_max", "16", To("spec-draft-n-max")),
    field("draft_min", "0", To("spec-draft-n-min")),
    field("draft_p_min", "0.8", To("spec-draft-p-min")),
    field("cache_type_k_draft", "", To("spec-draft-type-k")),
    field("cache_type_v_draft", "", To("spec-draft-type-v")),
    field("cpu_moe_draft", "0", To("spec-draft-cpu-moe")),
    field("n_cpu_moe_draft", "0", To("spec-draft-n-cpu-moe")),
    field("n_gpu_layers_draft", "", To("spec-draft-ngl")).read(MinusOneIsUnset),
    field("device_draft", "", To("spec-draft-device")),
    field("spec_replace", "", Gone("the draft model must share the vocabulary of the model")),
];

const MULTIMODAL: &[Field] = &[
    field("mmproj", "", To("mmproj")),
    field("mmproj_url", "", Refused("mmproj-url")),
    field("mmproj_auto", "0", To("mmproj-auto")),
    field("mmproj_offload", "0", To("mmproj-offload")),
    field("image_min_tokens", "", To("image-min-tokens")),
    field("image_max_tokens", "", To("image-max-tokens")),
];

const SERVER: &[Field] = &[
    field("host", "\"127.0.0.1\"", NO_ADDRESS),
    field("port", "8080", NO_ADDRESS),
    field("api_prefix", "", Refused("api-prefix")),
    field("path", "", To("static-path")),
    field("webui", "", To("ui-config")),
    field("webui_config_file", "", To("ui-config-file")),
    field("no_webui", "0", To("ui")).read(Inverted),
    field("embeddings", "0", To("embedding")),
    field("reranking", "0", To("rerank")),
    field("api_key", "", To("api-key")),
    field("api_key_file", "", To("api-key-file")),
    field("ssl_key_file", "", Refused("ssl-key-file")),
    field("ssl_cert_file", "", Refused("ssl-cert-file")),
    field("timeout", "600", To("timeout")),
    field("threads_http", "", To("threads-http")),
    field("cache_reuse", "", To("cache-reuse")),
    field("metrics_enabled", "1", Refused("metrics")),
    field("props_enabled", "0", To("props")),
    field("slots_enabled", "0", To("slots")),
    field("slot_save_path", "", To("slot-save-path")),
    field("media_path", "", To("media-path")),
    field("models_dir", "", Refused("models-dir")),
    field("models_preset", "", Refused("models-preset")),
    field("models_max", "4", Refused("models-max")),
    field("models_autoload", "0", Refused("models-autoload")),
    field("jinja", "0", To("jinja")),
    field("chat_template", "", To("chat-template")),
    field("chat_template_file", "", To("chat-template-file")),
    field("chat_template_kwargs", "", To("chat-template-kwargs")),
    field("prefill_assistant", "0", To("prefill-assistant")),
    field("ctx_checkpoints", "8", To("ctx-checkpoints")),
    field("verbose_prompt", "0", Gone("log-prompts-dir keeps prompts")),
    field("warmup", "0", To("warmup")),
    field("spm_infill", "0", To("spm-infill")),
    field("log_disable", "", Refused("log-disable")),
    field("log_file", "", Refused("log-file")),
    field("log_colors", "", Refused("log-colors")),
    field("log_verbose", "0", To("verbose")),
    field("log_prefix", "0", To("log-prefix")),
    field("log_timestamps", "0", To("log-timestamps")),
];

/// The dashboard's tables by group, and their fields in the schema's order.
pub const TABLES: &[(&str, &[Field])] = &[
    ("models", MODELS),
    ("sampling", SAMPLING),
    ("memory", MEMORY),
    ("gpu", GPU),
    ("advanced", ADVANCED),
    ("lora", LORA),
    ("multimodal", MULTIMODAL),
    ("server", SERVER),
];

/// The group of a table, which is a table's name or between `model_` and `_config` in it.
fn group_of(table: &str) -> &str {
    let inner = table.strip_prefix("model_").and_then(|rest| rest.strip_suffix("_config"));
    inner.unwrap_or(table)
}

/// What a field of the dashboard's database, with its value, is now.
#[must_use]
pub fn translate(table: &str, field: &str, value: &Value) -> Translation {
    let group = group_of(table);
    let fields = TABLES.iter().find(|(name, _)| *name == group).map_or(&[][..], |(_, it)| it);
    let named = |it: &&Field| it.name == field || (!it.later.is_empty() && it.later == field);
    let Some(field) = fields.iter().find(named) else { return Translation::Unknown };
    if field.is_default(value) {
        return Translation::Default;
    }
    match field.becomes {
        Becomes::Gone(reason) => Translation::Gone { reason },
        Becomes::Refused(key) => Translation::Gone {
            reason: look_up(key, None).map_or("it cannot be set", |setting| setting.refused),
        },
        Becomes::Own("path") => match serde_json::from_value(value.clone()) {
            Ok(path) => Translation::Path(path),
            Err(_) => Translation::Unknown,
        },
        Becomes::Own(_) => match value.as_str() {
            Some(name) => Translation::Name(name.to_owned()),
            None => Translation::Unknown,
        },
        Becomes::Setting(key) => match find(key, None) {
            Ok(setting) => field.setting(key, &setting, value),
            Err(failure) => Translation::Refused(failure),
        },
    }
}

impl Field {
    /// Whether nobody chose this value: none, an empty text, or the schema's default.
    fn is_default(&self, value: &Value) -> bool {
        let number = |value: &Value| match value {
            Value::Bool(on) => Some(f64::from(u8::from(*on))),
            other => other.as_f64(),
        };
        let default: Value = serde_json::from_str(self.default).unwrap_or(Value::Null);
        match value {
            Value::Null => true,
            Value::String(text) if text.trim().is_empty() => true,
            Value::Number(_) | Value::Bool(_) => {
                number(value).is_some() && number(value) == number(&default)
            }
            other => *other == default,
        }
    }

    fn setting(&self, key: &'static str, setting: &Setting<'_>, value: &Value) -> Translation {
        let on = value.as_bool().or_else(|| value.as_f64().map(|number| number != 0.0));
        let value = match (self.reading, on) {
            (Reading::MinusOneIsUnset, _) if value.as_f64() == Some(-1.0) => {
                return Translation::Default;
            }
            (Reading::OnIs(_), Some(false)) => return Translation::Default,
            (Reading::OnIs(word), _) => json!(word),
            (Reading::Inverted, Some(on)) => json!(!on),
            // Booleans were stored as numbers, and any but 0 was on.
            (_, Some(on)) if matches!(setting.values, Values::Switch) => json!(on),
            _ => match (&setting.values, value) {
                (Values::Secret, Value::String(text)) => secret::given(text),
                (Values::Arguments, Value::String(text)) => arguments(text),
                _ => value.clone(),
            },
        };
        match setting.check(&value) {
            Ok(value) => Translation::Setting { key, value },
            Err(failure) => Translation::Refused(failure),
        }
    }
}

/// The dashboard kept further arguments as JSON: a list of them, or flags with their values.
fn arguments(text: &str) -> Value {
    match serde_json::from_str(text) {
        Ok(Value::Array(list)) => list.iter().map(|it| json!(options::text(it))).collect(),
        Ok(Value::Object(flags)) => {
            let mut list = Vec::new();
            for (flag, value) in &flags {
                let dashes = if flag.starts_with('-') { "" } else { "--" };
                match value {
                    Value::Bool(false) | Value::Null => continue,
                    Value::Bool(true) => list.push(format!("{dashes}{flag}")),
                    value => list.extend([format!("{dashes}{flag}"), options::text(value)]),
                }
            }
            json!(list)
        }
        _ => json!(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn all() -> impl Iterator<Item = (&'static str, &'static Field)> {
        TABLES.iter().flat_map(|(table, fields)| fields.iter().map(move |it| (*table, it)))
    }

    #[test]
    fn every_field_is_there_once() {
        let counts: Vec<usize> = TABLES.iter().map(|(_, fields)| fields.len()).collect();
        assert_eq!(counts, [27, 42, 7, 9, 21, 20, 6, 40]);
        let mut seen = HashSet::new();
        for (table, field) in all() {
            assert!(seen.insert((table, field.name)), "{table}.{}", field.name);
            assert!(field.later.is_empty() || seen.insert((table, field.later)));
        }
    }

    #[test]
    fn every_field_leads_somewhere() {
        for (table, field) in all() {
            let name = field.name;
            match field.becomes {
                Becomes::Setting(key) => assert_eq!(find(key, None).unwrap().key, key, "{name}"),
                Becomes::Refused(key) => {
                    assert!(!look_up(key, None).unwrap().refused.is_empty(), "{table}.{name}");
                }
                Becomes::Own(own) => assert!(["name", "path"].contains(&own)),
                Becomes::Gone(reason) => assert!(!reason.is_empty()),
            }
        }
    }

    #[test]
    fn no_default_of_the_schema_is_carried_over() {
        for (table, field) in all() {
            assert_eq!(translate(table, field.name, &Value::Null), Translation::Default);
            assert_eq!(translate(table, field.name, &json!("")), Translation::Default);
            if !field.default.is_empty() {
                let default: Value = serde_json::from_str(field.default).unwrap();
                assert_eq!(translate(table, field.name, &default), Translation::Default);
                if let Some(number) = default.as_f64() {
                    // SQLite gives the default of a column of reals as a real.
                    assert_eq!(translate(table, field.name, &json!(number)), Translation::Default);
                }
            }
        }
    }

    #[test]
    fn what_somebody_chose_is_carried_over() {
        let setting = |table: &str, field: &str, value: Value| match translate(table, field, &value)
        {
            Translation::Setting { key, value } => (key, value),
            other => panic!("{field}: {other:?}"),
        };
        assert_eq!(setting("models", "ctx_size", json!(8192)), ("ctx-size", json!(8192)));
        assert_eq!(setting("sampling", "temperature", json!(0.2)), ("temp", json!(0.2)));
        assert_eq!(
            setting("model_sampling_config", "dynatemp_exponent", json!(2.0)),
            ("dynatemp-exp", json!(2.0))
        );
        assert_eq!(setting("sampling", "ignore_eos", json!(0)), ("ignore-eos", json!(false)));
        assert_eq!(setting("gpu", "kv_offload", json!(1)), ("kv-offload", json!(true)));
        assert_eq!(setting("gpu", "gpu_layers", json!(99)), ("gpu-layers", json!(99)));
        assert_eq!(setting("memory", "mlock", json!(1)), ("load-mode", json!("mlock")));
        assert_eq!(setting("models", "cpu_strict", json!(1)), ("cpu-strict", json!("1")));
        assert_eq!(setting("advanced", "polling", json!("30")), ("poll", json!(30)));
        assert_eq!(setting("server", "no_webui", json!(1)), ("ui", json!(false)));
        assert_eq!(setting("server", "log_verbose", json!(2)), ("verbose", json!(true)));
        assert_eq!(setting("lora", "draft_max", json!(8)), ("spec-draft-n-max", json!(8)));
        assert_eq!(
            setting("lora", "control_vector_layer_range", json!("3 9")),
            ("control-vector-layer-range", json!([3, 9]))
        );
        assert_eq!(setting("server", "api_key", json!("k")), ("api-key", secret::given("k")));
        for written in ["[\"--threads-http\",\"2\"]", "{\"threads-http\":2}", "--threads-http 2"] {
            assert_eq!(
                setting("advanced", "custom_params", json!(written)),
                ("extra-args", json!(["--threads-http", "2"]))
            );
        }
    }

    #[test]
    fn what_cannot_be_carried_over_says_why() {
        assert_eq!(
            translate("models", "model_path", &json!("/m/x.gguf")),
            Translation::Path(WirePath::from("/m/x.gguf"))
        );
        assert_eq!(translate("models", "name", &json!("x")), Translation::Name("x".to_owned()));
        let gone = translate("models", "hf_repo", &json!("a/b"));
        assert!(matches!(gone, Translation::Gone { reason } if reason.contains("model add")));
        assert!(matches!(translate("memory", "mmap", &json!(1)), Translation::Gone { .. }));
        assert_eq!(translate("lora", "n_gpu_layers_draft", &json!(-1)), Translation::Default);
        let refused = translate("sampling", "top_p", &json!(7));
        assert!(
            matches!(refused, Translation::Refused(failure) if failure.message.contains("top-p"))
        );
        assert_eq!(translate("models", "favourite", &json!(1)), Translation::Unknown);
        assert_eq!(translate("metadata", "value", &json!(1)), Translation::Unknown);
    }
}
