//! `llamactl model list`

use crate::args::more;
use crate::connection::{Autostart, Reach};
use crate::exit::Outcome;
use crate::output::Output;
use crate::output::styled::RED;
use crate::output::table::{Align, Cell, Column, Table, known};
use crate::output::units;
use crate::pages;
use crate::view::{file_amiss, state_cell, state_text};
use clap::Args;
use llamactl_protocol::model::{FileState, Model};
use llamactl_protocol::server::Server;

/// List models
#[derive(Args, Debug)]
#[command(after_help = more!(
    "llamactl model list",
    "llamactl model list -q",
    "llamactl model list --json | jq -r .path";
    "0 done  6 daemon unreachable"
))]
pub(crate) struct List {}

/// Prints the models, for people with the states of their servers.
pub(crate) async fn run(output: &mut Output, reach: &Reach) -> Outcome {
    let daemon = reach.daemon(Autostart::UnlessStopped).await?;
    if !output.for_people() {
        let models = pages::models(&daemon).await?;
        return if output.json {
            output.json_lines(&models)
        } else {
            output.names(models.iter().map(|model| &model.name))
        };
    }
    let (models, servers) = tokio::join!(pages::models(&daemon), pages::servers(&daemon, true));
    output.table(&table(&models?, &servers.unwrap_or_default()))
}

fn table(models: &[Model], servers: &[Server]) -> Table {
    let mut table = Table::new([
        Column("NAME", Align::Left),
        Column("ARCH", Align::Left),
        Column("PARAMS", Align::Right),
        Column("QUANT", Align::Left),
        Column("CTX", Align::Right),
        Column("SIZE", Align::Right),
        Column("STATE", Align::Left),
        Column("PATH", Align::Left),
    ]);
    for model in models {
        let server = servers.iter().find(|server| server.model_id == model.id);
        let file = &model.file;
        table.row([
            Cell::from(&model.name),
            known(file.architecture.as_ref()),
            known(file.parameters.map(units::count)),
            known(file.quantization.as_ref()),
            known(file.context_length.map(|tokens| tokens.to_string())),
            Cell::from(units::bytes(file.size_bytes)),
            state(server, model.file_state),
            Cell::from(model.path.to_string()),
        ]);
    }
    table
}

/// The server's state, and what is amiss with the file.
fn state(server: Option<&Server>, file: Option<FileState>) -> Cell {
    let Some(amiss) = file.and_then(file_amiss) else {
        return server.map_or_else(|| known(None::<&str>), state_cell);
    };
    let state = server.map(|server| format!("{}, ", state_text(server))).unwrap_or_default();
    Cell::styled(RED, format!("{state}{amiss}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::scene;
    use crate::output::screen::assert_screen;
    use llamactl_protocol::model::ModelFile;
    use llamactl_protocol::server::State;

    #[test]
    fn models_with_a_server_or_without_and_with_a_file_that_is_gone() {
        let (mut gone, mut bare) = (scene::model("gone"), scene::model("never-read"));
        (gone.id, gone.file_state) = (2, Some(FileState::Missing));
        (bare.id, bare.file) = (3, ModelFile::default());
        let models = [scene::model("qwen3-8b"), gone, bare];
        let mut stopped = scene::server("gone", State::Stopped);
        stopped.model_id = 2;
        let servers = [scene::server("qwen3-8b", State::Ready), stopped];
        assert_screen("model-list", |output| output.table(&table(&models, &servers)));
    }
}
