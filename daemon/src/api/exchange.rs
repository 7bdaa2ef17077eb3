//! `model.export`, `model.import`, `model.document`, `model.put_document`.

use super::asker;
use super::model::shown;
use super::model_settings::change;
use crate::api::app::App;
use crate::rpc::{Peer, Service};
use crate::transfer::{edit, export, import};
use llamactl_protocol::exchange::{
    Document, ExportPage, Imported, ModelDocument, ModelExport, ModelImport, ModelPutDocument,
};
use llamactl_protocol::model::Changed;
use llamactl_protocol::{Failure, Kind};
use std::sync::Arc;

pub(super) fn register(service: Service<App>) -> Service<App> {
    service.on(export).on(import).on(document).on(put_document)
}

async fn export(app: Arc<App>, _: Peer, export: ModelExport) -> Result<ExportPage, Failure> {
    export::run(&app.registry, export).await
}

async fn import(app: Arc<App>, peer: Peer, import: ModelImport) -> Result<Imported, Failure> {
    let by = asker::<ModelImport>(&peer);
    let outcome = import::run(&app.registry, import, by).await?;
    if let Some(defaults) = &outcome.done.defaults {
        app.supervisor.defaults_changed(&defaults.settings).await;
    }
    for model in &outcome.done.models {
        app.supervisor.model_changed(model).await;
    }
    Ok(outcome.imported)
}

async fn document(app: Arc<App>, _: Peer, document: ModelDocument) -> Result<Document, Failure> {
    let model = shown(app.registry.model(&document.model).await?);
    let text = edit::write_document(&model);
    Ok(Document { name: model.name, text, revision: model.revision })
}

async fn put_document(
    app: Arc<App>,
    peer: Peer,
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
    let by = asker::<ModelPutDocument>(&peer);
    change(&app, &model.name, &edited.change, what, by)
        .await
        .map_err(|failure| edited.placed(failure))
}
