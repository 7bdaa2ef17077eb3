//! `llamactl model list`

use super::ps::nothing_listed;
use crate::args::more;
use crate::connection::{Autostart, Reach};
use crate::exit::Outcome;
use crate::output::Output;
use crate::output::table::{Cell, Column, Table, known};
use crate::output::time::now_ms;
use crate::output::units;
use crate::pages;
use crate::view::{file_amiss, state_cell};
use clap::Args;
use llamactl_protocol::model::Model;
use llamactl_protocol::server::Server;

/// List models
#[derive(Args, Debug)]
#[command(after_help = more!(
    "llamactl model list",
    "llamactl model list -q",
    "llamactl model list --json | jq -r .path";
    "0 done, 6 daemon unreachable"
))]
pub(crate) struct List {}

/// Prints the models, for people with the states of their servers.
pub(crate) async fn run(output: &mut Output, reach: &Reach, _: List) -> Outcome {
    let daemon = reach.daemon(Autostart::UnlessStopped).await?;
    if !output.for_people() {
        let models = pages::models(&daemon).await?;
        return if output.json {
            output.json_lines(&models)
        } else {
            output.names(models.iter().map(|model| &model.name))
        };
    }
    let (models, list) = tokio::join!(pages::models(&daemon), pages::servers(&daemon, true));
    let (models, servers) = (models?, list.map(|list| list.servers).unwrap_or_default());
    output.table(&table(&models, &servers, now_ms()))?;
    if models.is_empty() && output.at_terminal() {
        output.note(nothing_listed(0, true));
    }
    Ok(())
}

fn table(models: &[Model], servers: &[Server], now_ms: i64) -> Table {
    let mut table = Table::new([
        Column::name("NAME"),
        Column::word("STATE", 0),
        Column::word("ARCH", 4),
        Column::number("PARAMS", 3),
        Column::word("QUANT", 2),
        Column::number("CTX", 5),
        Column::number("SIZE", 1),
        Column::path("PATH", 0),
    ])
    .with_remarks("FILE");
    for model in models {
        let server = servers.iter().find(|server| server.model_id == model.id);
        let file = &model.file;
        let cells = [
            Cell::from(&model.name),
            server.map_or_else(|| known(None::<&str>), |server| state_cell(server, now_ms)),
            known(file.architecture.as_ref()),
            known(file.parameters.map(units::count)),
            known(file.quantization.as_ref()),
            known(file.context_length.map(|tokens| tokens.to_string())),
            known((file.size_bytes > 0).then(|| units::bytes(file.size_bytes))),
            Cell::from(model.path.to_string()),
        ];
        let amiss = model.file_state.and_then(file_amiss);
        let amiss = amiss.map(|amiss| format!("{amiss}: llamactl model verify {}", model.name));
        table.row_with(cells, amiss);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::scene;
    use crate::output::screen::{NOW_MS, assert_screen};
    use llamactl_protocol::model::{FileState, ModelFile};
    use llamactl_protocol::server::State;

    #[test]
    fn models_with_a_server_or_without_and_with_a_file_that_is_gone() {
        assert_screen("model-list", |output| {
            let (mut gone, mut bare) = (scene::model("gone"), scene::model("never-read"));
            (gone.id, gone.file_state) = (2, Some(FileState::Missing));
            (bare.id, bare.file) = (3, ModelFile::default());
            let models = [scene::model("qwen3-8b"), gone, bare];
            let mut stopped = scene::server("gone", State::Stopped);
            stopped.model_id = 2;
            let servers = [scene::server("qwen3-8b", State::Ready), stopped];
            output.table(&table(&models, &servers, NOW_MS))
        });
    }
}
