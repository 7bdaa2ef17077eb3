//! An export, a page at a time.

use super::document::{self, ExportedRuntime};
use super::preset;
use crate::models;
use crate::store::registry::Registry;
use llamactl_protocol::Failure;
use llamactl_protocol::exchange::{ExportFormat, ExportPage, ModelExport};
use llamactl_protocol::model::Model;
use llamactl_protocol::options::{Build, secret};
use std::collections::BTreeMap;

/// A page ends when it is this long, so that an answer stays well below the longest message.
const PAGE_BYTES: usize = 256 << 10;

/// Writes a page.
///
/// # Errors
/// What the registry reports; a model that is not there.
pub async fn run(registry: &Registry, export: ModelExport) -> Result<ExportPage, Failure> {
    let everything = registry.everything().await?;
    let defaults = secret::masked(&everything.defaults.settings);
    let models: BTreeMap<String, Model> = if export.models.is_empty() {
        everything.models.into_iter().map(|model| (model.name.clone(), model)).collect()
    } else {
        let mut named = BTreeMap::new();
        for reference in export.models.iter() {
            let model = registry.model(reference).await?;
            named.insert(model.name.clone(), model);
        }
        named
    };
    // A preset names options as a build does; without one, as llama-server does today.
    let build = match export.format {
        ExportFormat::Preset => {
            let runtimes = registry.named_runtimes().await?;
            models::build_of(registry, &runtimes, &everything.defaults.settings).await.ok()
        }
        ExportFormat::Toml => None,
    };
    let build = build.and_then(|(build, _)| build);
    let mut page = ExportPage { text: String::new(), next: None, notes: vec![] };
    if export.after.is_none() {
        match export.format {
            ExportFormat::Toml => {
                let runtimes: Vec<ExportedRuntime> = everything
                    .runtimes
                    .into_iter()
                    .map(|runtime| ExportedRuntime {
                        name: runtime.name,
                        path: runtime.path,
                        environment: secret::masked(&runtime.environment),
                        is_default: runtime.is_default,
                    })
                    .collect();
                let common = (&defaults, runtimes.as_slice());
                let common = Some(common).filter(|_| export.models.is_empty());
                page.text = document::write_head(common);
            }
            // What holds for all models holds for each that is named too.
            ExportFormat::Preset => {
                let head = preset::write_defaults(&defaults, build.as_ref());
                page.text = head.text;
                page.notes = head.notes;
            }
        }
    }
    let mut last: Option<String> = None;
    for (name, model) in models {
        if export.after.as_deref().is_some_and(|after| *name <= *after) {
            continue;
        }
        if page.text.len() >= PAGE_BYTES && last.is_some() {
            page.next = last;
            break;
        }
        write(&mut page, model, export.format, build.as_ref());
        last = Some(name);
    }
    Ok(page)
}

fn write(page: &mut ExportPage, model: Model, format: ExportFormat, build: Option<&Build>) {
    let model = Model { settings: secret::masked(&model.settings), ..model };
    match format {
        ExportFormat::Toml => page.text.push_str(&document::write_model(&model)),
        ExportFormat::Preset => {
            let written = preset::write_model(&model, build);
            page.text.push_str(&written.text);
            page.notes.extend(written.notes);
        }
    }
}
