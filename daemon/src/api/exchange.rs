//! `model.export`, `model.import`, `model.document`, `model.put_document`.

use super::model::{answer, shown};
use super::registration::Caller;
use crate::api::app::App;
use crate::transfer::{edit, export, import};
use llamactl_protocol::exchange::{
    Document, ExportPage, Imported, ModelDocument, ModelExport, ModelImport, ModelPutDocument,
};
use llamactl_protocol::model::Changed;
use llamactl_protocol::{Failure, Kind};

pub(super) async fn export(
    app: &App,
    _: Caller,
    export: ModelExport,
) -> Result<ExportPage, Failure> {
    export::run(&app.registry, export).await
}

pub(super) async fn import(
    app: &App,
    caller: Caller,
    import: ModelImport,
) -> Result<Imported, Failure> {
    import::run(&app.models, &app.registry, import, caller.actor).await
}

pub(super) async fn document(
    app: &App,
    _: Caller,
    document: ModelDocument,
) -> Result<Document, Failure> {
    let model = shown(app.registry.model(&document.model).await?);
    let text = edit::write_document(&model);
    Ok(Document { name: model.name, text, revision: model.revision })
}

pub(super) async fn put_document(
    app: &App,
    caller: Caller,
    put: ModelPutDocument,
) -> Result<Changed, Failure> {
    let model = app.registry.model(&put.model).await?;
    let revision = put.if_revision.unwrap_or(model.revision);
    if revision != model.revision {
        return Err(Failure::new(
            Kind::RevisionConflict,
            format!("{} is at revision {}, not {revision}", model.name, model.revision),
        )
        .hint("somebody else changed it first: look at it again and retry"));
    }
    let edited = edit::read_document(&put.text, &model, revision)?;
    let what = Some("edited".to_owned());
    let changed = app.models.change(&model.name, &edited.change, what, caller.actor).await;
    answer(app, changed.map_err(|failure| edited.placed(failure))?).await
}
