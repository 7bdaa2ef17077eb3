//! `model.history`, `model.diff`, `model.rollback`: what a model was like.

use super::model_settings::change;
use super::page;
use super::registration::Caller;
use crate::api::app::App;
use crate::store::registry::Registry;
use llamactl_protocol::model::{
    Changed, Difference, Model, ModelDiff, ModelHistory, ModelRollback, Revision, RevisionDiff,
    RevisionPage, SettingsChange,
};
use llamactl_protocol::options::{layers, secret};
use llamactl_protocol::{Failure, Hint, Kind};
use serde_json::{Value, json};

pub(super) async fn history(
    app: &App,
    _: Caller,
    history: ModelHistory,
) -> Result<RevisionPage, Failure> {
    let model = app.registry.model(&history.model).await?;
    let limit = page::limit(history.limit, 200);
    let revisions = app.registry.revisions(model.id, history.before, limit + 1).await?;
    let (items, more) = page::cut(revisions, limit);
    let next = items.last().filter(|_| more).map(|revision| revision.revision);
    Ok(RevisionPage { items: items.into_iter().map(shown).collect(), next })
}

pub(super) async fn diff(app: &App, _: Caller, diff: ModelDiff) -> Result<RevisionDiff, Failure> {
    let model = app.registry.model(&diff.model).await?;
    let to = diff.to.unwrap_or(model.revision);
    let from = diff.from.unwrap_or(to - 1);
    let (before, after) =
        (revision(&app.registry, &model, from).await?, revision(&app.registry, &model, to).await?);
    Ok(RevisionDiff { model: model.name, from, to, changes: differences(&before, &after) })
}

pub(super) async fn rollback(
    app: &App,
    caller: Caller,
    rollback: ModelRollback,
) -> Result<Changed, Failure> {
    let model = app.registry.model(&rollback.model).await?;
    let to = rollback.to.unwrap_or(model.revision - 1);
    let then = revision(&app.registry, &model, to).await?;
    let mut set = then.settings.clone();
    if then.path != model.path {
        set.insert("path".to_owned(), json!(then.path));
    }
    let gone = model.settings.keys().filter(|key| !then.settings.contains_key(*key));
    let back = SettingsChange {
        unset: gone.cloned().collect(),
        set,
        // What was looked at is what is changed.
        if_revision: Some(rollback.if_revision.unwrap_or(model.revision)),
        ..SettingsChange::default()
    };
    let what = Some(format!("back to revision {to}"));
    change(app, &rollback.model, &back, what, caller.actor).await
}

async fn revision(registry: &Registry, model: &Model, number: i64) -> Result<Revision, Failure> {
    registry.revision(model.id, number).await?.ok_or_else(|| {
        Failure::new(
            Kind::RevisionNotFound,
            format!("{} has no revision {number}; it is at {}", model.name, model.revision),
        )
        .hint(Hint::run("see which there are", ["llamactl", "model", "history", &model.name]))
    })
}

fn shown(revision: Revision) -> Revision {
    Revision { settings: secret::masked(&revision.settings), ..revision }
}

/// What differs between two revisions, `path`, `name` and `aliases` first.
fn differences(before: &Revision, after: &Revision) -> Vec<Difference> {
    let facts = |revision: &Revision| {
        [
            ("path", json!(revision.path)),
            ("name", json!(revision.name)),
            ("aliases", json!(revision.aliases)),
        ]
    };
    let of_facts = facts(before).into_iter().zip(facts(after)).filter(|(a, b)| a != b).map(
        |((key, from), (_, to))| Difference { key: key.to_owned(), from: Some(from), to: Some(to) },
    );
    let masked = |value: Option<&Value>| {
        value.map(|value| if secret::is_secret(value) { secret::shown() } else { value.clone() })
    };
    let of_settings =
        layers::differences(&before.settings, &after.settings).into_iter().map(|key| Difference {
            from: masked(before.settings.get(&key)),
            to: masked(after.settings.get(&key)),
            key,
        });
    of_facts.chain(of_settings).collect()
}
