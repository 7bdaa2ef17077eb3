//! `model.history`, `model.diff`, `model.rollback`: what a model was like.

use super::model::answer;
use super::page;
use super::registration::Caller;
use crate::api::app::App;
use llamactl_protocol::Failure;
use llamactl_protocol::model::{
    Changed, Difference, ModelDiff, ModelHistory, ModelRollback, Revision, RevisionDiff,
    RevisionPage,
};
use llamactl_protocol::options::secret;
use serde_json::json;

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
    // Before the first there is none, and nothing differs from it.
    let from = diff.from.unwrap_or_else(|| (to - 1).max(1));
    let before = app.models.revision(&model, from).await?;
    let after = app.models.revision(&model, to).await?;
    Ok(RevisionDiff { model: model.name, from, to, changes: differences(&before, &after) })
}

pub(super) async fn rollback(
    app: &App,
    caller: Caller,
    rollback: ModelRollback,
) -> Result<Changed, Failure> {
    answer(app, app.models.roll_back(rollback, caller.actor).await?).await
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
    let of_settings = Difference::between(&before.settings, &after.settings);
    of_facts.chain(of_settings).collect()
}
