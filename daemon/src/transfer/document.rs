//! llamactl's own export: everything but the secrets, as TOML. Pure.
//!
//! ```toml
//! # llamactl export 1
//! [defaults]
//! ctx-size = 8192
//! [runtimes.vulkan]
//! path = "/opt/llama/llama-server"
//! default = true
//! env = { X = "1" }
//! [models."qwen3:8b"]
//! path = "/models/x.gguf"
//! aliases = ["q"]
//! [models."qwen3:8b".settings]
//! temp = 0.7
//! api-key = { secret = "kept" }
//! "env.CUDA_VISIBLE_DEVICES" = "1"
//! ```
//!
//! What the file says of a model is exact: a setting that is not in `settings` is unset. What it
//! does not mention, a table or a whole model, stays as it is.

use super::position::{At, Lines, unreadable};
use super::spec::{Given, ImportSpec, ModelSpec, RuntimeSpec, SettingsSpec};
use super::toml_value::{self, key, write};
use llamactl_protocol::model::Model;
use llamactl_protocol::options::{Settings, VARIABLE_PREFIX, nearest};
use llamactl_protocol::{Failure, WirePath};
use serde_json::{Value, json};
use std::path::Path;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// The first line of an export.
pub const HEADER: &str = "# llamactl export 1";

/// How the first line of an export of any version begins.
pub const HEADER_START: &str = "# llamactl export ";

/// A runtime as it is written down.
#[derive(Clone, Debug, PartialEq)]
pub struct ExportedRuntime {
    /// The name by which models choose the runtime.
    pub name: String,
    /// The path of the llama-server, absolute.
    pub path: WirePath,
    /// Variables for its servers, secrets shown.
    pub environment: Settings,
    /// Whether models use it that name no other.
    pub is_default: bool,
}

/// The beginning of an export, with the defaults and runtimes unless single models are exported.
#[must_use]
pub fn write_head(common: Option<(&Settings, &[ExportedRuntime])>) -> String {
    let mut text = format!("{HEADER}\n");
    let Some((defaults, runtimes)) = common else { return text };
    text.push_str("\n[defaults]\n");
    text.push_str(&settings(defaults));
    for runtime in runtimes {
        text.push_str(&format!("\n[runtimes.{}]\n", key(&runtime.name)));
        text.push_str(&format!("path = {}\n", write(&json!(runtime.path))));
        text.push_str(&format!("default = {}\n", runtime.is_default));
        text.push_str(&format!("env = {}\n", write(&json!(runtime.environment))));
    }
    text
}

/// A model, its secrets shown.
#[must_use]
pub fn write_model(model: &Model) -> String {
    let name = key(&model.name);
    format!(
        "\n[models.{name}]\npath = {}\naliases = {}\n[models.{name}.settings]\n{}",
        write(&json!(model.path)),
        write(&json!(model.aliases)),
        settings(&model.settings)
    )
}

fn settings(settings: &Settings) -> String {
    settings.iter().map(|(name, value)| format!("{} = {}\n", key(name), write(value))).collect()
}

/// Reads an export. Relative paths of models are taken from `base`.
///
/// # Errors
/// `Kind::Unreadable` with the line and column of the first thing that is not as it should be.
pub fn read(text: &str, base: &Path) -> Result<ImportSpec, Failure> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if let Some(version) = text.lines().next().and_then(|line| line.strip_prefix(HEADER_START))
        && version.trim() != "1"
    {
        return Err(unreadable(
            format!("this is an export of version {}, and this daemon reads 1", version.trim()),
            Some(At { line: 1, column: 1 }),
        )
        .hint("import it with the version of llamactl that wrote it, or a newer one"));
    }
    let document = parse(text)?;
    let reader = Reader { text, lines: Lines::of(text), base };
    let mut spec = ImportSpec { strict: true, ..ImportSpec::default() };
    for (name, value) in in_order(document.get_ref()) {
        let table = reader.table(name.get_ref(), value)?;
        match name.get_ref().as_ref() {
            "defaults" => {
                let given = reader.settings(table)?;
                spec.defaults = Some(SettingsSpec { given, exact: true });
            }
            "runtimes" => {
                for (name, value) in in_order(table) {
                    spec.runtimes.push(reader.runtime(name, value)?);
                }
            }
            "models" => {
                for (name, value) in in_order(table) {
                    spec.models.push(reader.model(name, value)?);
                }
            }
            _ => return Err(reader.unknown(name, &["defaults", "runtimes", "models"], "")),
        }
    }
    Ok(spec)
}

/// The table of a TOML text.
pub(super) fn parse(text: &str) -> Result<Spanned<DeTable<'_>>, Failure> {
    DeTable::parse(text).map_err(|error| {
        let at = error.span().map(|span| At::of_byte(text, span.start));
        let message = error.message().trim().replace('\n', ", ");
        unreadable(format!("this is not TOML: {message}"), at)
            .hint("texts stand in quotes, and each setting on a line of its own: key = value")
    })
}

type Entry<'t, 'i> = (&'t Spanned<std::borrow::Cow<'i, str>>, &'t Spanned<DeValue<'i>>);

/// The entries as they stood in the text.
fn in_order<'t, 'i>(table: &'t DeTable<'i>) -> Vec<Entry<'t, 'i>> {
    let mut entries: Vec<Entry<'t, 'i>> = table.iter().collect();
    entries.sort_by_key(|(name, _)| name.span().start);
    entries
}

/// Reads the parts of a parsed text.
pub(super) struct Reader<'t> {
    pub(super) text: &'t str,
    pub(super) lines: Lines<'t>,
    pub(super) base: &'t Path,
}

impl<'t> Reader<'t> {
    fn at<T>(&self, spanned: &Spanned<T>) -> Option<At> {
        Some(self.lines.at(spanned.span().start))
    }

    fn table<'v, 'i>(
        &self,
        name: &str,
        value: &'v Spanned<DeValue<'i>>,
    ) -> Result<&'v DeTable<'i>, Failure> {
        let table = value.get_ref().as_table();
        table.ok_or_else(|| unreadable(format!("{name} must be a table"), self.at(value)))
    }

    /// A key that means nothing here.
    fn unknown(
        &self,
        name: &Spanned<std::borrow::Cow<'_, str>>,
        known: &[&str],
        otherwise: &str,
    ) -> Failure {
        let key = name.get_ref().as_ref();
        let failure = unreadable(format!("{key:?} means nothing here"), self.at(name));
        let mut details = failure.details.clone().unwrap_or_else(|| json!({}));
        details["key"] = json!(key);
        let failure = failure.details(details);
        match nearest(key, known) {
            Some(near) => failure.hint(format!("did you mean {near}?")),
            None if !otherwise.is_empty() => failure.hint(otherwise),
            None => failure.hint(format!("here stand: {}", known.join(", "))),
        }
    }

    fn model(
        &self,
        name: &Spanned<std::borrow::Cow<'_, str>>,
        value: &Spanned<DeValue<'_>>,
    ) -> Result<ModelSpec, Failure> {
        let mut model = ModelSpec {
            name: name.get_ref().clone().into_owned(),
            at: self.at(name),
            ..ModelSpec::default()
        };
        for (field, value) in in_order(self.table(&model.name, value)?) {
            match field.get_ref().as_ref() {
                "path" => model.path = Some(self.path(value)?),
                "aliases" => model.aliases = Some(self.aliases(value)?),
                "settings" => {
                    let given = self.settings(self.table("settings", value)?)?;
                    model.settings = Some(SettingsSpec { given, exact: true });
                }
                _ => {
                    let below = format!(
                        "a model's settings stand below [models.{}.settings]",
                        key(&model.name)
                    );
                    return Err(self.unknown(field, &["path", "aliases", "settings"], &below));
                }
            }
        }
        Ok(model)
    }

    fn runtime(
        &self,
        name: &Spanned<std::borrow::Cow<'_, str>>,
        value: &Spanned<DeValue<'_>>,
    ) -> Result<RuntimeSpec, Failure> {
        let mut path = None;
        let (mut environment, mut is_default) = (Settings::new(), false);
        for (field, value) in in_order(self.table(name.get_ref(), value)?) {
            match field.get_ref().as_ref() {
                "path" => path = Some(self.path(value)?),
                "default" => {
                    is_default = value.get_ref().as_bool().ok_or_else(|| {
                        unreadable("default must be true or false", self.at(value))
                    })?;
                }
                "env" => {
                    for (name, value) in in_order(self.table("env", value)?) {
                        let read = toml_value::read(self.text, value)?;
                        environment.insert(name.get_ref().clone().into_owned(), read);
                    }
                }
                _ => return Err(self.unknown(field, &["path", "default", "env"], "")),
            }
        }
        let at = self.at(name);
        let name = name.get_ref().clone().into_owned();
        let path = path.ok_or_else(|| unreadable(format!("the runtime {name} has no path"), at))?;
        Ok(RuntimeSpec { name, at, path, environment, is_default })
    }

    /// The settings of a table. `env.NAME` may be written without quotes, as a table in it.
    pub(super) fn settings(
        &self,
        table: &DeTable<'_>,
    ) -> Result<super::spec::GivenSettings, Failure> {
        let mut given = super::spec::GivenSettings::new();
        for (name, value) in in_order(table) {
            let variables = value.get_ref().as_table().filter(|_| name.get_ref() == "env");
            if let Some(variables) = variables {
                for (name, value) in in_order(variables) {
                    let key = format!("{VARIABLE_PREFIX}{}", name.get_ref());
                    let read = toml_value::read(self.text, value)?;
                    given.insert(key, Given { value: read, at: self.at(name) });
                }
                continue;
            }
            let read = toml_value::read(self.text, value)?;
            let key = name.get_ref().clone().into_owned();
            given.insert(key, Given { value: read, at: self.at(name) });
        }
        Ok(given)
    }

    pub(super) fn path(&self, value: &Spanned<DeValue<'_>>) -> Result<WirePath, Failure> {
        let read = toml_value::read(self.text, value)?;
        let path: Option<WirePath> = serde_json::from_value(read).ok();
        let path = path.filter(|path| !path.as_bytes().is_empty());
        let path = path.ok_or_else(|| unreadable("path must be a text", self.at(value)))?;
        Ok(WirePath(self.base.join(path.as_path())))
    }

    fn aliases(&self, value: &Spanned<DeValue<'_>>) -> Result<Vec<String>, Failure> {
        let read = toml_value::read(self.text, value)?;
        let list = match read {
            Value::Array(items) => {
                items.into_iter().map(|item| item.as_str().map(str::to_owned)).collect()
            }
            _ => None,
        };
        list.ok_or_else(|| unreadable("aliases must be a list of texts", self.at(value)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use llamactl_protocol::model::ModelFile;
    use llamactl_protocol::options::secret;
    use proptest::prelude::*;

    fn model(name: &str, path: WirePath, aliases: Vec<String>, settings: Settings) -> Model {
        Model {
            id: 1,
            name: name.to_owned(),
            aliases,
            path,
            file: ModelFile::default(),
            file_state: None,
            settings,
            revision: 1,
            added_at_ms: 0,
            changed_at_ms: 0,
        }
    }

    fn values(requested: &SettingsSpec) -> Settings {
        requested.given.iter().map(|(key, given)| (key.clone(), given.value.clone())).collect()
    }

    #[test]
    fn an_export_reads_as_it_was_written() {
        let defaults = Settings::from([("ctx-size".to_owned(), json!(8192))]);
        let runtime = ExportedRuntime {
            name: "vulkan".to_owned(),
            path: WirePath::from("/opt/llama/llama-server"),
            environment: Settings::from([("X".to_owned(), json!("1"))]),
            is_default: true,
        };
        let settings = Settings::from([
            ("temp".to_owned(), json!(0.7)),
            ("api-key".to_owned(), secret::shown()),
            ("env.CUDA_VISIBLE_DEVICES".to_owned(), json!("1")),
            ("grammar".to_owned(), json!("root ::= \"a\"\n| 'b'")),
            ("lora".to_owned(), json!(["/a.gguf", { "bytes": "L//+" }])),
        ]);
        let odd = WirePath::from_bytes(b"/m/\xff.gguf".to_vec());
        let qwen = model("qwen3:8b", odd.clone(), vec!["q".to_owned()], settings.clone());
        let text =
            write_head(Some((&defaults, std::slice::from_ref(&runtime)))) + &write_model(&qwen);
        assert!(text.starts_with("# llamactl export 1\n\n[defaults]\nctx-size = 8192\n"), "{text}");
        assert!(text.contains("api-key = { secret = \"kept\" }"), "{text}");
        let spec = read(&text, Path::new("/")).unwrap();
        assert!(spec.strict);
        assert_eq!(values(spec.defaults.as_ref().unwrap()), defaults);
        assert_eq!(spec.runtimes[0].environment, runtime.environment);
        let read = &spec.models[0];
        assert_eq!((&read.name, &read.path), (&"qwen3:8b".to_owned(), &Some(odd)));
        assert_eq!(read.aliases, Some(vec!["q".to_owned()]));
        assert_eq!(values(read.settings.as_ref().unwrap()), settings);
    }

    #[test]
    fn errors_say_where() {
        let place = |text: &str| {
            let failure = read(text, Path::new("/")).unwrap_err();
            let details = failure.details.clone().unwrap();
            (details["line"].as_u64().unwrap(), failure.message)
        };
        assert_eq!(place("[models.a]\npath = /x\n").0, 2);
        let (line, message) = place("[models.a]\n\nctx-size = 1\n");
        assert!(line == 3 && message.contains("ctx-size"), "{message}");
        assert_eq!(place("[model.a]\n").0, 1);
        assert_eq!(place("[defaults]\nx = 1979-05-27\n").0, 2);
        assert_eq!(place("[runtimes.x]\n").0, 1);
        assert!(place("# llamactl export 2\n").1.contains("version 2"));
    }

    #[test]
    fn people_may_leave_out_quotes_and_use_relative_paths() {
        let text = "[models.a]\npath = 'x.gguf'\n[models.a.settings]\nenv.X = '1'\n";
        let spec = read(text, Path::new("/home/me")).unwrap();
        assert_eq!(spec.models[0].path, Some(WirePath::from("/home/me/x.gguf")));
        assert!(spec.models[0].settings.as_ref().unwrap().given.contains_key("env.X"));
        assert_eq!(spec.models[0].aliases, None);
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(text in "\\PC{0,200}") {
            let _ = read(&text, Path::new("/"));
        }

        #[test]
        fn nothing_that_looks_like_it_makes_it_panic(
            text in "(\\[(models|defaults|runtimes)(\\.[a\"é]{1,3}){0,2}\\]|[a-z-]{1,4} = [0-9a\"'\\[\\]{}.]{1,6}|\n){0,12}",
        ) {
            let _ = read(&text, Path::new("/"));
        }
    }
}
