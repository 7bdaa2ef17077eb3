//! Which format a text is in. Pure.

use super::{dashboard, document, pasted};
use llamactl_protocol::exchange::ImportFormat;
use llamactl_protocol::{Failure, Kind};

/// Tells a text's format by what it holds.
///
/// # Errors
/// `Kind::Unreadable` when it is none of them.
pub fn of(text: &str) -> Result<ImportFormat, Failure> {
    let text = text.trim_start_matches('\u{feff}');
    if text.starts_with(document::HEADER_START) {
        return Ok(ImportFormat::Toml);
    }
    if text.trim_start().starts_with('{') && dashboard::is_file(text) {
        return Ok(ImportFormat::Dashboard);
    }
    // A unit has sections too, and a Modelfile may have a text with anything in it.
    if pasted::is_modelfile(text)
        || pasted::is_kcpps(text)
        || pasted::is_unit(text)
        || pasted::is_yaml(text)
    {
        return Ok(ImportFormat::Command);
    }
    let lines = || text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';']));
    let mut sections = lines().filter_map(|line| line.strip_prefix('[')).peekable();
    if sections.peek().is_some() {
        let is_ours = |section: &str| {
            let name = section.split([']', '.']).next().unwrap_or_default().trim();
            ["defaults", "models", "runtimes"].contains(&name)
        };
        let mut all = sections.all(is_ours);
        // A preset may have a model of the name `defaults`.
        all = all && toml::de::DeTable::parse(text).is_ok();
        let toml_name = text.contains("[models.") || text.contains("[runtimes.");
        return Ok(if all || toml_name { ImportFormat::Toml } else { ImportFormat::Preset });
    }
    let names_server = text.contains("llama-server") || text.contains("server ");
    let names_server = names_server || text.contains("LLAMA_ARG_");
    let has_flags = text.split_whitespace().any(|word| word.starts_with('-') && word.len() > 1);
    if names_server || has_flags {
        return Ok(ImportFormat::Command);
    }
    let failure = Failure::new(Kind::Unreadable, "it cannot be told what this is");
    Err(failure.hint("say it with --format: toml, preset, command or dashboard"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_told_apart() {
        for (text, format) in [
            ("# llamactl export 1\n", ImportFormat::Toml),
            ("[defaults]\nctx-size = 1\n", ImportFormat::Toml),
            ("[models.\"a:b\"]\npath = '/x'\n", ImportFormat::Toml),
            ("[*]\nctx-size = 1\n[a]\nmodel = /x\n", ImportFormat::Preset),
            ("; c\n[defaults]\nmodel = /x\n", ImportFormat::Preset),
            ("llama-server -m /x.gguf", ImportFormat::Command),
            ("-m /x.gguf -c 5", ImportFormat::Command),
            ("[Unit]\n[Service]\nExecStart=/x/llama-server -m /x.gguf\n", ImportFormat::Command),
            ("FROM ./x.gguf\nPARAMETER num_ctx 4096\n", ImportFormat::Command),
            ("FROM llama3.2\nSYSTEM \"\"\"[defaults]\n[x]\n\"\"\"\n", ImportFormat::Command),
            ("{\"model_param\": \"/x.gguf\", \"contextsize\": 1}", ImportFormat::Command),
            ("{\"model_templates\": {}}", ImportFormat::Dashboard),
            ("{\"basePath\": \"/models\"}", ImportFormat::Dashboard),
        ] {
            assert_eq!(of(text).unwrap(), format, "{text}");
        }
        for text in ["", "hello", "{}", "{\"a\": 1}"] {
            assert!(of(text).is_err(), "{text}");
        }
    }
}
